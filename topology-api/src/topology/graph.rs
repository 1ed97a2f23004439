//! The graph as JSON: what `describe` prints, and what a worker compares with what it was submitted as.
//!
//! Not here: running it. Invariant: the same code with the same arguments gives the same bytes; the format has a number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Topology;
use crate::config::Origin;
use crate::grouping::Grouping;

/// The number of this format.
pub const GRAPH_FORMAT: u32 = 1;

/// A topology's graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// [`GRAPH_FORMAT`].
    pub format: u32,
    /// The topology's name.
    pub name: String,
    /// Its configuration: what code, files and flags set.
    pub config: BTreeMap<String, Json>,
    /// Its components, sorted by name.
    pub components: Vec<ComponentGraph>,
}

/// One component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentGraph {
    /// Its name.
    pub name: String,
    /// `spout` or `bolt`.
    pub kind: String,
    /// Executors at first.
    pub executors: usize,
    /// Its first task id.
    pub first_task: u32,
    /// Its number of tasks.
    pub tasks: usize,
    /// The streams it emits.
    pub streams: Vec<StreamGraph>,
    /// The streams it takes.
    pub inputs: Vec<InputGraph>,
    /// Its own configuration.
    pub config: BTreeMap<String, Json>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamGraph {
    /// Its name.
    pub name: String,
    /// Names of its fields.
    pub fields: Vec<String>,
    /// Whether it is a direct stream.
    pub direct: bool,
    /// Name of the tuple type.
    pub tuple: String,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputGraph {
    /// The emitting component.
    pub component: String,
    /// Its stream.
    pub stream: String,
    /// How tuples are spread.
    pub grouping: Grouping,
}

impl Topology {
    /// What code, files and flags set; defaults are not the topology's own.
    fn set_config(&self) -> BTreeMap<String, Json> {
        let set = self.config.iter().filter(|(.., origin)| **origin != Origin::Default);
        set.map(|(key, value, _)| (key.to_owned(), value.clone())).collect()
    }

    /// The graph, for `describe`.
    pub fn graph(&self) -> Graph {
        let component = |component: &super::Component| ComponentGraph {
            name: component.name.clone(),
            kind: if component.spout { "spout" } else { "bolt" }.to_owned(),
            executors: component.executors,
            first_task: component.tasks.first().map_or(0, |task| task.0),
            tasks: component.tasks.len(),
            streams: component
                .streams
                .iter()
                .map(|stream| StreamGraph {
                    name: stream.name.clone(),
                    fields: stream.fields.clone(),
                    direct: stream.direct,
                    tuple: stream.tuple.clone(),
                })
                .collect(),
            inputs: component
                .subscriptions
                .iter()
                .map(|input| InputGraph {
                    component: self.components[input.source].name.clone(),
                    stream: self.components[input.source].streams[input.stream].name.clone(),
                    grouping: input.grouping.shown.clone(),
                })
                .collect(),
            config: component.own_conf.clone(),
        };
        Graph {
            format: GRAPH_FORMAT,
            name: self.name.clone(),
            config: self.set_config(),
            components: self.components.iter().map(component).collect(),
        }
    }
}
