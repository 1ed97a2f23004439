//! The graph: components, their streams and subscriptions, checked as a whole.
//!
//! Not here: how it is written down (`builder`), which mistakes are found (`check`), its JSON (`graph`). Invariant: a
//! [`Topology`] that exists has no mistake that can be found without running it.

mod builder;
mod check;
mod graph;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::DecodeBatch;
use crate::bolt::Source;
use crate::component::{AnyTask, Node, TaskParts};
use crate::config::{ComponentSettings, Config, TopologySettings};
use crate::grouping::{Grouping, GroupingSpec};
use crate::ids::TaskId;
use crate::output::{RouteSpec, Target};

pub use builder::{BoltDeclarer, SpoutDeclarer, TopologyBuilder};
pub use check::BuildError;
pub use graph::{ComponentGraph, GRAPH_FORMAT, Graph, InputGraph, StreamGraph};

/// A checked topology.
pub struct Topology {
    name: String,
    /// Sorted by name.
    components: Vec<Component>,
    config: Config,
    settings: TopologySettings,
}

/// A spout or bolt of a topology.
pub struct Component {
    name: String,
    spout: bool,
    blocking: bool,
    streams: Vec<StreamInfo>,
    subscriptions: Vec<Subscription>,
    /// Ids of its tasks, contiguous.
    tasks: Vec<TaskId>,
    executors: usize,
    tick: Option<Duration>,
    /// What was set for it alone.
    own_conf: BTreeMap<String, serde_json::Value>,
    conf: Arc<BTreeMap<String, serde_json::Value>>,
    settings: ComponentSettings,
    node: Box<dyn Node>,
}

/// A stream that a component emits.
pub struct StreamInfo {
    /// Its name in the component.
    pub name: String,
    /// Names of its fields.
    pub fields: Vec<String>,
    /// Whether the emitter names the receiving task.
    pub direct: bool,
    /// The tuple type's name.
    pub tuple: String,
    /// Reads its batches from the wire.
    pub decode: DecodeBatch,
}

/// A bolt's subscription to a stream.
pub struct Subscription {
    /// The emitting component, by its place among the components.
    pub source: usize,
    /// The stream, by its place among that component's streams.
    pub stream: usize,
    /// Whether it leads back to a component upstream: on such an edge nobody waits.
    pub closes_cycle: bool,
    grouping: GroupingSpec,
}

impl Subscription {
    /// How tuples are spread over the subscriber's tasks.
    pub fn grouping(&self) -> &Grouping {
        &self.grouping.shown
    }

    /// The route from one emitting task: `targets` ascending by task; `broadcast` are outlets that reach each task once;
    /// `start` spreads where senders begin.
    pub fn route<'a>(
        &'a self,
        subscriber: &'a str,
        targets: Vec<Target>,
        broadcast: Vec<u32>,
        start: usize,
    ) -> RouteSpec<'a> {
        RouteSpec { subscriber, grouping: &self.grouping, targets, broadcast, start }
    }
}

impl Topology {
    /// Begins a topology of this name.
    pub fn builder(name: &str) -> TopologyBuilder {
        TopologyBuilder::new(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its components, sorted by name.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// The component of this name.
    pub fn component(&self, name: &str) -> Option<&Component> {
        let index = self.components.binary_search_by(|component| component.name.as_str().cmp(name)).ok()?;
        Some(&self.components[index])
    }

    /// Its whole configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What of the configuration the runtime reads.
    pub fn settings(&self) -> &TopologySettings {
        &self.settings
    }

    /// Tasks of each component, by name.
    pub fn tasks(&self) -> BTreeMap<String, Vec<TaskId>> {
        self.components.iter().map(|component| (component.name.clone(), component.tasks.clone())).collect()
    }

    /// All subscriptions to the streams of the component at `source`: (subscriber's place, its subscription's place).
    pub fn subscribers(&self, source: usize) -> Vec<(usize, usize)> {
        let of = |(subscriber, component): (usize, &Component)| {
            let from_source = |(index, subscription): (usize, &Subscription)| {
                (subscription.source == source).then_some((subscriber, index))
            };
            component.subscriptions.iter().enumerate().filter_map(from_source).collect::<Vec<_>>()
        };
        self.components.iter().enumerate().flat_map(of).collect()
    }

    /// Makes one task of the component at `component`.
    pub fn task(&self, component: usize, mut parts: TaskParts<'_>) -> AnyTask {
        let source = |subscription: &Subscription| {
            let source = &self.components[subscription.source];
            let stream = &source.streams[subscription.stream];
            Arc::new(Source {
                component: source.name.clone(),
                stream: stream.name.clone(),
                fields: stream.fields.clone(),
            })
        };
        let component = &self.components[component];
        parts.sources = component.subscriptions.iter().map(source).collect();
        component.node.task(parts)
    }
}

impl Component {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a spout.
    pub fn is_spout(&self) -> bool {
        self.spout
    }

    /// Whether its calls may block, so that its executors get threads of their own.
    pub fn is_blocking(&self) -> bool {
        self.blocking
    }

    /// The streams it emits.
    pub fn streams(&self) -> &[StreamInfo] {
        &self.streams
    }

    /// The streams it takes.
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// Its tasks, ascending.
    pub fn tasks(&self) -> &[TaskId] {
        &self.tasks
    }

    /// Its executors as ranges of tasks: contiguous, larger ones first.
    pub fn executors(&self) -> Vec<&[TaskId]> {
        let (each, more) = (self.tasks.len() / self.executors, self.tasks.len() % self.executors);
        let mut rest = self.tasks.as_slice();
        (0..self.executors)
            .map(|executor| {
                let (tasks, after) = rest.split_at(each + usize::from(executor < more));
                rest = after;
                tasks
            })
            .collect()
    }

    /// How often `tick` is called.
    pub fn tick(&self) -> Option<Duration> {
        self.tick.or(self.settings.tick)
    }

    /// The configuration that its tasks see.
    pub fn conf(&self) -> &Arc<BTreeMap<String, serde_json::Value>> {
        &self.conf
    }

    /// What of its configuration the runtime reads.
    pub fn settings(&self) -> &ComponentSettings {
        &self.settings
    }
}

/// The handle of a stream of `T`: what subscribers are wired with.
pub struct Stream<T> {
    component: String,
    stream: String,
    tuple: PhantomData<fn() -> T>,
}

/// The handle of a direct stream of `T`, whose emitter names the receiving task.
pub struct DirectStream<T>(Stream<T>);

impl<T> Stream<T> {
    pub(crate) fn new(component: &str, stream: &str) -> Self {
        Stream { component: component.to_owned(), stream: stream.to_owned(), tuple: PhantomData }
    }

    /// The emitting component.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// The stream's name in its component.
    pub fn name(&self) -> &str {
        &self.stream
    }
}

impl<T> DirectStream<T> {
    pub(crate) fn new(component: &str, stream: &str) -> Self {
        DirectStream(Stream::new(component, stream))
    }

    /// The emitting component.
    pub fn component(&self) -> &str {
        &self.0.component
    }

    /// The stream's name in its component.
    pub fn name(&self) -> &str {
        &self.0.stream
    }
}

impl<T> Clone for Stream<T> {
    fn clone(&self) -> Self {
        Stream::new(&self.component, &self.stream)
    }
}

impl<T> Clone for DirectStream<T> {
    fn clone(&self) -> Self {
        DirectStream(self.0.clone())
    }
}
