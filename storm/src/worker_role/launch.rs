//! Reads the launch file, and compares the topology that is built by it with the one that was submitted.
//!
//! Not here: the file's format (`worker_api::launch`). Invariant: a worker that passes runs the graph that Nimbus planned for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use topology_api::topology::{ComponentGraph, GRAPH_FORMAT, Graph};
use worker_api::launch::{LAUNCH_FORMAT, Launch};
use worker_api::read_json;

use crate::arguments::Slot;
use crate::refusal::Refusal;

/// Reads the launch file of a slot.
pub(super) fn read(slot: &Slot) -> Result<Launch, Refusal> {
    let Slot { topology, port, launch: path } = slot;
    let json = std::fs::read(path).map_err(|error| Refusal::LaunchFile { path: path.clone(), error })?;
    let launch: Launch = read_json("launch file", LAUNCH_FORMAT, &json)
        .map_err(|error| Refusal::Launch { path: path.clone(), why: error.to_string() })?;
    let refused = |why: String| Err(Refusal::Launch { path: path.clone(), why });
    if (&launch.topology, launch.port) != (topology, *port) {
        return refused(format!(
            "it is for port {} of `{}`, and the command line says port {port} of `{topology}`",
            launch.port, launch.topology
        ));
    }
    if launch.placement.plan.slot(launch.worker).is_none() {
        return refused(format!(
            "its plan has {} workers, and this is worker {}, counted from 0",
            launch.placement.plan.workers.len(),
            launch.worker
        ));
    }
    Ok(launch)
}

/// Where the worker listens for links.
pub(super) fn listen_at(launch: &Launch) -> Result<SocketAddr, Refusal> {
    let bind: Result<IpAddr, _> = launch.bind.parse();
    bind.map(|bind| SocketAddr::new(bind, launch.port.0)).map_err(|_| Refusal::Bind { found: launch.bind.clone() })
}

/// Checks that `built` is what was submitted. Keys that the launch file sets are its own affair.
pub(super) fn check_graph(launch: &Launch, built: &Graph) -> Result<(), Refusal> {
    let path = &launch.graph;
    let json = std::fs::read(path).map_err(|error| Refusal::GraphFile { path: path.clone(), error })?;
    let submitted: Graph = read_json("graph", GRAPH_FORMAT, &json)
        .map_err(|error| Refusal::Launch { path: path.clone(), why: error.to_string() })?;
    match difference(&submitted, built, &launch.config) {
        None => Ok(()),
        Some(difference) => Err(Refusal::OtherGraph { topology: launch.topology.to_string(), difference }),
    }
}

/// The first thing in which two graphs differ, in words.
fn difference(submitted: &Graph, built: &Graph, set: &BTreeMap<String, Value>) -> Option<String> {
    if submitted.name != built.name {
        return Some(format!("it is called `{}`, submitted was `{}`", built.name, submitted.name));
    }
    let components = |graph: &Graph| -> BTreeMap<String, ComponentGraph> {
        graph.components.iter().map(|component| (component.name.clone(), component.clone())).collect()
    };
    let (was, is) = (components(submitted), components(built));
    for name in was.keys().chain(is.keys()).collect::<BTreeSet<_>>() {
        match (was.get(name), is.get(name)) {
            (Some(_), None) => return Some(format!("it has no component `{name}`")),
            (None, Some(_)) => return Some(format!("it has a component `{name}` that was not submitted")),
            (Some(was), Some(is)) => {
                if let Some(difference) = first_key(&entries(was), &entries(is), |_| true) {
                    return Some(format!("component `{name}` has {difference}"));
                }
            }
            (None, None) => {}
        }
    }
    let own = |key: &str| !set.contains_key(key);
    first_key(&submitted.config, &built.config, own).map(|difference| format!("its configuration has {difference}"))
}

fn entries(of: &impl Serialize) -> BTreeMap<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(entries)) => entries.into_iter().collect(),
        // Graphs are maps of what JSON has.
        _ => BTreeMap::new(),
    }
}

fn first_key(
    was: &BTreeMap<String, Value>,
    is: &BTreeMap<String, Value>,
    counts: impl Fn(&str) -> bool,
) -> Option<String> {
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).filter(|key| counts(key)).collect();
    let value =
        |of: &BTreeMap<String, Value>, key: &String| of.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
    keys.into_iter()
        .find(|key| was.get(*key) != is.get(*key))
        .map(|key| format!("{} for `{key}`, submitted was {}", value(is, key), value(was, key)))
}

/// The path as it is told to people: whole, so that it is found from any folder.
pub(crate) fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph() -> Graph {
        let component = |name: &str, tasks| ComponentGraph {
            name: name.to_owned(),
            kind: "bolt".to_owned(),
            executors: 1,
            first_task: 1,
            tasks,
            streams: Vec::new(),
            inputs: Vec::new(),
            config: BTreeMap::new(),
        };
        Graph {
            format: GRAPH_FORMAT,
            name: "words".to_owned(),
            config: BTreeMap::from([("a".to_owned(), json!(1))]),
            components: vec![component("count", 2), component("split", 4)],
        }
    }

    #[test]
    fn the_first_difference_is_named() {
        let set = BTreeMap::from([("set".to_owned(), json!("x"))]);
        let told = |change: &dyn Fn(&mut Graph)| {
            let mut built = graph();
            change(&mut built);
            difference(&graph(), &built, &set)
        };
        assert_eq!(told(&|_| {}), None);
        assert_eq!(told(&|graph| drop(graph.config.insert("set".to_owned(), json!("x")))), None);
        type Change<'a> = &'a dyn Fn(&mut Graph);
        let cases: [(Change<'_>, &str); 6] = [
            (&|graph| graph.name = "other".to_owned(), "it is called `other`, submitted was `words`"),
            (&|graph| graph.components[1].tasks = 3, "component `split` has 3 for `tasks`, submitted was 4"),
            (&|graph| drop(graph.components.pop()), "it has no component `split`"),
            (&|graph| graph.components[0].name = "add".to_owned(), "it has a component `add` that was not submitted"),
            (&|graph| graph.config.clear(), "its configuration has nothing for `a`, submitted was 1"),
            (
                &|graph| drop(graph.config.insert("b".to_owned(), json!([2]))),
                "its configuration has [2] for `b`, submitted was nothing",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(told(change).as_deref(), Some(expected));
        }
    }
}
