//! How a topology is written down.
//!
//! Not here: finding mistakes (`check`). Invariant: nothing is refused while the author is still writing; `build` tells
//! all of it at once.

use std::any::TypeId;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;

use super::check::BuildError;
use super::{DirectStream, Stream, Topology, check};
use crate::bolt::{Accepts, AsyncBolt, Bolt};
use crate::component::{AsyncBoltNode, BoltKind, BoltNode, Factory, Node, OfAsyncBolt, OfBolt, SpoutNode, Subscribed};
use crate::config::Config;
use crate::grouping::{ByReference, ByTokens, ByValue, CustomGrouping, Grouping, GroupingSpec, TypedGrouping};
use crate::output::{Declare, DeclaredStream, Output};
use crate::spout::Spout;
use crate::tuple::{FieldTokens, Key, Tuple, Values};

/// Collects the components of a topology; [`build`](TopologyBuilder::build) checks all of it.
///
/// ```
/// # extern crate topology_api as storm;
/// use storm::prelude::*;
/// # #[tuple] struct Line { text: Text }
/// # struct Lines;
/// # impl Spout for Lines {
/// #     type Output = Line;
/// #     type MessageId = u64;
/// #     fn next(&mut self, _: &mut Roots<Line, u64>) -> Result<Next> { Ok(Next::Done) }
/// # }
/// # struct Print;
/// # impl Bolt for Print {
/// #     type Input = Line;
/// #     type Output = ();
/// #     fn execute(&mut self, _: Line, _: &mut Emitter<()>) -> Result { Ok(()) }
/// # }
/// let mut topology = Topology::builder("print-lines");
/// let lines = topology.spout("lines", || Lines).add();
/// topology.bolt("print", || Print).parallelism(2).shuffle(&lines).add();
/// let topology = topology.build().unwrap();
/// assert_eq!(topology.components().len(), 2);
/// ```
pub struct TopologyBuilder {
    pub(super) name: String,
    pub(super) components: Vec<Draft>,
    pub(super) config: Config,
    pub(super) problems: Vec<String>,
}

/// A component as it was written.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) spout: bool,
    pub(super) blocking: bool,
    pub(super) parallelism: usize,
    pub(super) tasks: Option<usize>,
    pub(super) tick: Option<Duration>,
    pub(super) conf: Vec<(String, Json)>,
    pub(super) streams: Vec<DeclaredStream>,
    pub(super) inputs: Vec<DraftInput>,
    pub(super) node: Box<dyn Node>,
}

/// A subscription as it was written.
pub(super) struct DraftInput {
    pub(super) component: String,
    pub(super) stream: String,
    /// What the subscriber reads; `None` if it reads any stream, as dynamic values.
    pub(super) tuple: Option<(TypeId, &'static str)>,
    pub(super) grouping: GroupingSpec,
}

impl TopologyBuilder {
    pub(super) fn new(name: &str) -> Self {
        TopologyBuilder {
            name: name.to_owned(),
            components: Vec::new(),
            config: Config::default(),
            problems: Vec::new(),
        }
    }

    /// Adds a spout. `make` is called for each task, in the worker where it runs.
    pub fn spout<S: Spout>(
        &mut self,
        name: &str,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> SpoutDeclarer<'_, S> {
        let draft = ComponentDraft::new(name);
        SpoutDeclarer { builder: self, draft, factory: Arc::new(make), fields: None }
    }

    /// Adds a bolt. `make` is called for each task, in the worker where it runs.
    pub fn bolt<B: Bolt>(
        &mut self,
        name: &str,
        make: impl Fn() -> B + Send + Sync + 'static,
    ) -> BoltDeclarer<'_, OfBolt<B>> {
        let factory: Factory<B> = Arc::new(make);
        let node =
            |subscriptions| -> Box<dyn Node> { Box::new(BoltNode { factory, subscriptions: Arc::new(subscriptions) }) };
        BoltDeclarer::new(self, name, Box::new(node))
    }

    /// Adds a bolt that awaits, with up to `in_flight_tuples` calls at once in each task (at least one).
    pub fn async_bolt<B: AsyncBolt>(
        &mut self,
        name: &str,
        in_flight_tuples: usize,
        make: impl Fn() -> B + Send + Sync + 'static,
    ) -> BoltDeclarer<'_, OfAsyncBolt<B>> {
        if in_flight_tuples == 0 {
            self.problems.push(format!("bolt `{name}` may have 0 calls in flight; give at least 1"));
        }
        let factory: Factory<B> = Arc::new(make);
        let node = move |subscriptions| -> Box<dyn Node> {
            Box::new(AsyncBoltNode { factory, in_flight_tuples, subscriptions: Arc::new(subscriptions) })
        };
        BoltDeclarer::new(self, name, Box::new(node))
    }

    /// The stream `stream` of a component that may be added later: what a cycle needs. Checked by `build`.
    pub fn stream<T: Tuple>(&self, component: &str, stream: &str) -> Stream<T> {
        Stream::new(component, stream)
    }

    /// Sets a configuration key in the topology's code. `-c` flags given at the start win over it.
    pub fn config(&mut self, key: &str, value: impl Serialize) -> &mut Self {
        let value = json(key, value, &mut self.problems);
        self.config.set(key, value);
        self
    }

    /// Adds this configuration, of files and flags; flags win over what the code sets, files do not.
    pub fn configured_by(&mut self, config: Config) -> &mut Self {
        self.config.merge(config);
        self
    }

    /// Checks the whole graph.
    ///
    /// # Errors
    /// All mistakes at once, in the author's own names.
    pub fn build(self) -> Result<Topology, BuildError> {
        check::build(self)
    }
}

fn json(key: &str, value: impl Serialize, problems: &mut Vec<String>) -> Json {
    serde_json::to_value(value).unwrap_or_else(|error| {
        problems.push(format!("the value of configuration key `{key}` cannot be written as JSON: {error}"));
        Json::Null
    })
}

struct ComponentDraft {
    name: String,
    blocking: bool,
    parallelism: usize,
    tasks: Option<usize>,
    tick: Option<Duration>,
    conf: Vec<(String, Json)>,
}

impl ComponentDraft {
    fn new(name: &str) -> Self {
        ComponentDraft {
            name: name.to_owned(),
            blocking: false,
            parallelism: 1,
            tasks: None,
            tick: None,
            conf: Vec::new(),
        }
    }

    fn finish<O: Output>(
        self,
        spout: bool,
        fields: Option<Vec<String>>,
        inputs: Vec<DraftInput>,
        node: Box<dyn Node>,
        builder: &mut TopologyBuilder,
    ) -> O::Streams {
        let mut declare = Declare { component: &self.name, streams: Vec::new() };
        let handles = O::declare(&mut declare);
        let mut streams = declare.streams;
        match (fields, streams.as_mut_slice()) {
            (None, _) => {}
            (Some(fields), [stream]) if stream.tuple_type == TypeId::of::<Values>() => stream.fields = fields,
            (Some(_), _) => builder.problems.push(format!(
                "`output_fields` of `{}`: only a component with one stream of dynamic `Values` names its fields; those of a #[tuple] are the struct's",
                self.name
            )),
        }
        builder.components.push(Draft {
            name: self.name,
            spout,
            blocking: self.blocking,
            parallelism: self.parallelism,
            tasks: self.tasks,
            tick: self.tick,
            conf: self.conf,
            streams,
            inputs,
            node,
        });
        handles
    }
}

/// Options common to spouts and bolts.
macro_rules! component_options {
    () => {
        /// How many executors run it at first; 1 if not said.
        pub fn parallelism(mut self, executors: usize) -> Self {
            self.draft.parallelism = executors;
            self
        }

        /// How many tasks it has for the topology's life: as many as executors if not said.
        pub fn tasks(mut self, tasks: usize) -> Self {
            self.draft.tasks = Some(tasks);
            self
        }

        /// Sets a configuration key for this component alone.
        pub fn config(mut self, key: &str, value: impl Serialize) -> Self {
            self.draft.conf.push((key.to_owned(), json(key, value, &mut self.builder.problems)));
            self
        }

        /// Says that its calls may block, so that each executor gets a thread of its own.
        pub fn blocking(mut self) -> Self {
            self.draft.blocking = true;
            self
        }

        /// Names the fields of its stream of dynamic `Values`.
        pub fn output_fields<N: Into<String>>(mut self, fields: impl IntoIterator<Item = N>) -> Self {
            self.fields = Some(fields.into_iter().map(Into::into).collect());
            self
        }
    };
}

/// A spout on its way into the topology; [`add`](SpoutDeclarer::add) ends it.
#[must_use = "call `.add()` to add it to the topology"]
pub struct SpoutDeclarer<'a, S: Spout> {
    builder: &'a mut TopologyBuilder,
    draft: ComponentDraft,
    factory: Factory<S>,
    fields: Option<Vec<String>>,
}

impl<S: Spout> SpoutDeclarer<'_, S> {
    component_options!();

    /// Bounds the roots that one task has pending (`topology.max.spout.pending`), instead of the window that adapts.
    pub fn max_pending(self, roots: u32) -> Self {
        self.config("topology.max.spout.pending", roots)
    }

    /// Adds it; gives the handles of its streams.
    pub fn add(self) -> <S::Output as Output>::Streams {
        let node = Box::new(SpoutNode { factory: self.factory });
        self.draft.finish::<S::Output>(true, self.fields, Vec::new(), node, self.builder)
    }
}

type MakeNode<K> = Box<dyn FnOnce(Vec<Subscribed<<K as BoltKind>::Task>>) -> Box<dyn Node>>;

/// A bolt on its way into the topology: its subscriptions are chained; [`add`](BoltDeclarer::add) ends it.
#[must_use = "call `.add()` to add it to the topology"]
pub struct BoltDeclarer<'a, K: BoltKind> {
    builder: &'a mut TopologyBuilder,
    draft: ComponentDraft,
    inputs: Vec<DraftInput>,
    readers: Vec<Subscribed<K::Task>>,
    node: MakeNode<K>,
    fields: Option<Vec<String>>,
    kind: PhantomData<fn() -> K>,
}

impl<'a, K: BoltKind> BoltDeclarer<'a, K> {
    fn new(builder: &'a mut TopologyBuilder, name: &str, node: MakeNode<K>) -> Self {
        BoltDeclarer {
            builder,
            draft: ComponentDraft::new(name),
            inputs: Vec::new(),
            readers: Vec::new(),
            node,
            fields: None,
            kind: PhantomData,
        }
    }

    component_options!();

    /// Has `tick` called at this interval, to the millisecond: Storm's tick tuples.
    pub fn tick_every(mut self, interval: Duration) -> Self {
        self.draft.tick = Some(interval);
        self
    }

    /// Takes the stream evenly, in whole batches, by the tasks that have room.
    pub fn shuffle<T: Tuple>(self, stream: &Stream<T>) -> Self
    where
        K::Input: Accepts<T>,
    {
        self.typed(stream, GroupingSpec::plain(Grouping::Shuffle))
    }

    /// As shuffle, by the tasks of the emitter's worker if there are any.
    pub fn local_or_shuffle<T: Tuple>(self, stream: &Stream<T>) -> Self
    where
        K::Input: Accepts<T>,
    {
        self.typed(stream, GroupingSpec::plain(Grouping::LocalOrShuffle))
    }

    /// By fields: `.fields(&words, Word::WORD)`, or a tuple of up to four; the same key always goes to the same task.
    pub fn fields<T: Tuple, F: FieldTokens<T> + Send + Sync + 'static>(self, stream: &Stream<T>, fields: F) -> Self
    where
        K::Input: Accepts<T>,
    {
        let shown = Grouping::fields(fields.names());
        self.typed(stream, GroupingSpec::typed(shown, TypedGrouping::<T>::Key(Arc::new(ByTokens(fields)))))
    }

    /// By a key inside the tuple: `.fields_by(&words, |word| &word.word)`.
    pub fn fields_by<T: Tuple, Q: Key + ?Sized + 'static>(
        self,
        stream: &Stream<T>,
        key: impl for<'t> Fn(&'t T) -> &'t Q + Send + Sync + 'static,
    ) -> Self
    where
        K::Input: Accepts<T>,
    {
        let key = TypedGrouping::<T>::Key(Arc::new(ByReference(key, PhantomData)));
        self.typed(stream, GroupingSpec::typed(Grouping::Fields(Vec::new()), key))
    }

    /// By a computed key: `.fields_with(&words, |word| word.word.len() as u64)`.
    pub fn fields_with<T: Tuple, Q: Key + 'static>(
        self,
        stream: &Stream<T>,
        key: impl Fn(&T) -> Q + Send + Sync + 'static,
    ) -> Self
    where
        K::Input: Accepts<T>,
    {
        let key = TypedGrouping::<T>::Key(Arc::new(ByValue(key, PhantomData)));
        self.typed(stream, GroupingSpec::typed(Grouping::Fields(Vec::new()), key))
    }

    /// By fields to one of two tasks, the one that had less: for keys of very unequal weight.
    pub fn partial_key<T: Tuple, F: FieldTokens<T> + Send + Sync + 'static>(self, stream: &Stream<T>, fields: F) -> Self
    where
        K::Input: Accepts<T>,
    {
        let shown = Grouping::partial_key(fields.names());
        self.typed(stream, GroupingSpec::typed(shown, TypedGrouping::<T>::Key(Arc::new(ByTokens(fields)))))
    }

    /// Every task gets every tuple.
    pub fn all<T: Tuple>(self, stream: &Stream<T>) -> Self
    where
        K::Input: Accepts<T>,
    {
        self.typed(stream, GroupingSpec::plain(Grouping::All))
    }

    /// The task with the lowest id gets every tuple.
    pub fn global<T: Tuple>(self, stream: &Stream<T>) -> Self
    where
        K::Input: Accepts<T>,
    {
        self.typed(stream, GroupingSpec::plain(Grouping::Global))
    }

    /// It does not matter which task gets a tuple.
    pub fn none<T: Tuple>(self, stream: &Stream<T>) -> Self
    where
        K::Input: Accepts<T>,
    {
        self.typed(stream, GroupingSpec::plain(Grouping::None))
    }

    /// The emitter names the task.
    pub fn direct<T: Tuple>(self, stream: &DirectStream<T>) -> Self
    where
        K::Input: Accepts<T>,
    {
        self.typed(&stream.0, GroupingSpec::plain(Grouping::Direct))
    }

    /// By a rule of one's own, made for each emitting task.
    pub fn custom<T: Tuple, G: CustomGrouping<T>>(
        self,
        stream: &Stream<T>,
        make: impl Fn() -> G + Send + Sync + 'static,
    ) -> Self
    where
        K::Input: Accepts<T>,
    {
        let name = std::any::type_name::<G>();
        let shown = Grouping::Custom(name.rsplit("::").next().unwrap_or(name).to_owned());
        let custom = TypedGrouping::<T>::Custom(Arc::new(move || Box::new(make())));
        self.typed(stream, GroupingSpec::typed(shown, custom))
    }

    /// Subscribes by names to the stream `default`: for topologies that are data. The bolt gets dynamic values.
    pub fn subscribe(self, component: &str, grouping: Grouping) -> Self
    where
        K::Input: Accepts<Values>,
    {
        self.subscribe_stream(component, "default", grouping)
    }

    /// Subscribes by names. The bolt gets dynamic values.
    pub fn subscribe_stream(mut self, component: &str, stream: &str, grouping: Grouping) -> Self
    where
        K::Input: Accepts<Values>,
    {
        if let Grouping::Custom(_) = grouping {
            let name = &self.draft.name;
            self.builder.problems.push(format!(
                "bolt `{name}` subscribes to `{component}` by names with a custom grouping; use `.custom(&stream, …)`"
            ));
        }
        self.inputs.push(DraftInput {
            component: component.to_owned(),
            stream: stream.to_owned(),
            tuple: None,
            grouping: GroupingSpec::plain(grouping),
        });
        self.readers.push(Subscribed { read: K::reader::<Values>(), as_values: true });
        self
    }

    /// Adds it; gives the handles of its streams.
    pub fn add(self) -> <K::Output as Output>::Streams {
        let node = (self.node)(self.readers);
        self.draft.finish::<K::Output>(false, self.fields, self.inputs, node, self.builder)
    }

    fn typed<T: Tuple>(mut self, stream: &Stream<T>, grouping: GroupingSpec) -> Self
    where
        K::Input: Accepts<T>,
    {
        self.inputs.push(DraftInput {
            component: stream.component.clone(),
            stream: stream.stream.clone(),
            tuple: Some((TypeId::of::<T>(), T::NAME)),
            grouping,
        });
        self.readers.push(Subscribed { read: K::reader::<T>(), as_values: false });
        self
    }
}
