//! What a component emits through: ports, one for each of its streams, and the structs that hold several.
//!
//! Not here: which task a staged tuple goes to (`route`), and how it gets there (the runtime). Invariant: what `emit`
//! stages is anchored when the call that emitted it returns, and not routed before.

mod route;

use std::any::Any;
use std::collections::VecDeque;
use std::mem::{size_of, take};

use mutations::Mutation;

use crate::anchor::{Anchor, Edge, EdgeIds, Root};
use crate::batch::{Anchors, AnyBatch, DecodeBatch, decode_batch_of};
use crate::error::{Error, Result};
use crate::fail::FailReason;
use crate::ids::TaskId;
use crate::topology::{DirectStream, Stream};
use crate::tuple::{Tuple, Values};

use route::Route;
pub use route::{RouteSpec, Target};

/// Tuples in a full batch.
pub const BATCH_TUPLES: usize = 256;
/// Bytes after which a batch counts as full.
pub const BATCH_BYTES: usize = 256 * 1024;

/// What a component emits: a `#[tuple]` type for one stream named `default`, `()` for none, or a struct of ports with
/// `#[derive(Output)]` for several.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a component emits",
    label = "neither a tuple nor a struct of ports",
    note = "one stream: a struct with #[tuple]; several: a struct of `Port<…>` and `Direct<…>` with #[derive(Output)]; none: ()"
)]
pub trait Output: 'static {
    /// What the component emits through.
    type Ports: Ports;
    /// The handles of its streams, for subscribers.
    type Streams;

    /// Opens the ports. Called by the runtime for each task.
    fn open(wires: &mut Wires<'_>) -> Self::Ports;

    /// Declares the streams. Called by the builder.
    fn declare(declare: &mut Declare<'_>) -> Self::Streams;
}

/// All ports of a component, in the order of its streams.
pub trait Ports: Send + 'static {
    /// Shows each port to the visitor.
    fn visit<V: PortVisitor>(&mut self, visitor: &mut V);
}

/// Something done to every port.
pub trait PortVisitor {
    /// Done to this one.
    fn port<T: Tuple>(&mut self, port: &mut Port<T>);
}

/// A field of a struct of ports: [`Port`] or [`Direct`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a port",
    note = "the fields of a #[derive(Output)] struct are `Port<T>` or `Direct<T>` of #[tuple] types"
)]
pub trait PortField: Sized {
    /// The stream's handle.
    type Stream;

    /// Opens the port of the stream of this name.
    fn open(wires: &mut Wires<'_>, name: &str) -> Self;

    /// Declares the stream.
    fn declare(declare: &mut Declare<'_>, name: &str) -> Self::Stream;

    /// Shows the port.
    fn visit<V: PortVisitor>(&mut self, visitor: &mut V);
}

/// The routes of a task's streams, in the order in which its ports open. Made by the runtime.
#[derive(Default)]
pub struct Wires<'a> {
    streams: VecDeque<StreamWires<'a>>,
    opened: u16,
}

/// The routes of one stream.
pub struct StreamWires<'a> {
    /// Names of the stream's fields.
    pub fields: &'a [String],
    /// One for each subscription to it.
    pub routes: Vec<RouteSpec<'a>>,
    /// On a direct stream, the tasks that an emitter may name, ascending.
    pub receivers: Vec<TaskId>,
}

impl<'a> Wires<'a> {
    /// Wires for these streams, in order.
    pub fn new(streams: impl IntoIterator<Item = StreamWires<'a>>) -> Self {
        Wires { streams: streams.into_iter().collect(), opened: 0 }
    }

    /// Wires that lead nowhere, for ports that only stage: what a direct emit may name is known all the same.
    pub(crate) fn detached(receivers: &[Vec<TaskId>]) -> Self {
        let stream =
            |receivers: &Vec<TaskId>| StreamWires { fields: &[], routes: Vec::new(), receivers: receivers.clone() };
        Wires::new(receivers.iter().map(stream))
    }

    /// For each stream, the tasks that a direct emit may name.
    pub(crate) fn receivers(&self) -> Vec<Vec<TaskId>> {
        self.streams.iter().map(|stream| stream.receivers.clone()).collect()
    }

    fn open<T: Tuple>(&mut self) -> (Port<T>, Vec<TaskId>) {
        let stream = self.opened;
        self.opened += 1;
        let Some(wires) = self.streams.pop_front() else { return (Port::new(stream, Vec::new()), Vec::new()) };
        let routes = wires.routes.into_iter().map(|spec| Route::new(spec, wires.fields)).collect();
        (Port::new(stream, routes), wires.receivers)
    }
}

/// Where a component's streams are declared. Made by the builder.
pub struct Declare<'a> {
    pub(crate) component: &'a str,
    pub(crate) streams: Vec<DeclaredStream>,
}

/// A stream as it was declared.
#[derive(Clone)]
pub(crate) struct DeclaredStream {
    pub(crate) name: String,
    pub(crate) fields: Vec<String>,
    pub(crate) direct: bool,
    pub(crate) tuple: &'static str,
    pub(crate) tuple_type: std::any::TypeId,
    /// Fields that have no key.
    pub(crate) opaque: &'static [&'static str],
    pub(crate) decode: DecodeBatch,
}

impl Declare<'_> {
    fn stream<T: Tuple>(&mut self, name: &str, direct: bool) {
        self.streams.push(DeclaredStream {
            name: name.to_owned(),
            fields: T::FIELDS.iter().map(|field| (*field).to_owned()).collect(),
            direct,
            tuple: T::NAME,
            tuple_type: std::any::TypeId::of::<T>(),
            opaque: T::OPAQUE_FIELDS,
            decode: decode_batch_of::<T>(),
        });
    }
}

/// Emits into one stream. Tuples are staged here while the component runs, then anchored and routed in batches.
pub struct Port<T: Tuple> {
    stream: u16,
    staged: Vec<T>,
    anchors: Anchors,
    /// The receiver of each staged tuple, on a direct stream.
    receivers: Vec<TaskId>,
    pulls: VecDeque<Pull<T>>,
    /// Staged tuples whose anchors are settled.
    marked: usize,
    marked_pulls: usize,
    heap_bytes: usize,
    routes: Vec<Route<T>>,
    emitted: u64,
}

/// Tuples that are produced while there is room for them.
struct Pull<T> {
    tuples: Box<dyn Iterator<Item = T> + Send>,
    anchors: Vec<Anchor>,
}

impl<T: Tuple> Port<T> {
    /// Fewer than [`BATCH_TUPLES`] if a tuple's own size is large.
    const FULL_TUPLES: usize = {
        let size = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
        let by_size = BATCH_BYTES / size;
        if by_size == 0 {
            1
        } else if by_size < BATCH_TUPLES {
            by_size
        } else {
            BATCH_TUPLES
        }
    };

    fn new(stream: u16, routes: Vec<Route<T>>) -> Self {
        Port {
            stream,
            staged: Vec::new(),
            anchors: Anchors::default(),
            receivers: Vec::new(),
            pulls: VecDeque::new(),
            marked: 0,
            marked_pulls: 0,
            heap_bytes: 0,
            routes,
            emitted: 0,
        }
    }

    /// Emits a tuple. It is on its way when the component's call returns.
    #[inline]
    pub fn emit(&mut self, tuple: T) {
        if T::HAS_HEAP {
            self.heap_bytes += tuple.heap_size();
        }
        self.staged.push(tuple);
    }

    /// Emits what the iterator gives, which is asked only as fast as the receivers take it: for results too many to hold.
    /// They follow what was emitted before; the input stays open until the iterator has ended.
    pub fn emit_all<I>(&mut self, tuples: I)
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        self.pulls.push_back(Pull { tuples: Box::new(tuples.into_iter()), anchors: Vec::new() });
    }

    /// Whether a batch is complete.
    #[inline]
    fn is_full(&self) -> bool {
        self.staged.len() >= Self::FULL_TUPLES || (T::HAS_HEAP && self.heap_bytes >= BATCH_BYTES)
    }

    #[inline]
    fn unmarked(&self) -> usize {
        self.staged.len() - self.marked + (self.pulls.len() - self.marked_pulls)
    }

    /// Before the first anchored tuple: those staged before it belong to no tree.
    #[inline]
    fn pad_anchors(&mut self) {
        if self.anchors.each.len() < self.marked {
            self.anchors.each.resize(self.marked, Anchor::NONE);
        }
    }

    /// The anchors, complete up to the tuples of the last call: those of its tuples are appended by the caller.
    pub(crate) fn lagging_anchors(&mut self) -> &mut Vec<Anchor> {
        self.pad_anchors();
        &mut self.anchors.each
    }

    /// What was emitted since the last mark belongs to no tree.
    #[inline]
    pub(crate) fn mark_untracked(&mut self) {
        self.marked = self.staged.len();
        self.marked_pulls = self.pulls.len();
        if !self.anchors.is_empty() {
            self.pad_anchors();
        }
    }

    /// Takes up to a batch from the open iterators.
    fn pull(&mut self, edges: &mut EdgeIds, acks: &mut Vec<Anchor>) {
        while let Some(pull) = self.pulls.front_mut() {
            while self.staged.len() < BATCH_TUPLES {
                let Some(tuple) = pull.tuples.next() else { break };
                if T::HAS_HEAP {
                    self.heap_bytes += tuple.heap_size();
                }
                self.staged.push(tuple);
                if !pull.anchors.is_empty() {
                    if self.anchors.each.len() < self.marked {
                        self.anchors.each.resize(self.marked, Anchor::NONE);
                    }
                    let shares = pull.anchors.iter_mut().map(|rest| {
                        let share = edges.draw();
                        rest.edge.0 ^= share.0;
                        Anchor { edge: share, ..*rest }
                    });
                    self.anchors.push(&shares.collect::<Vec<_>>());
                } else if !self.anchors.is_empty() {
                    self.anchors.each.push(Anchor::NONE);
                }
                self.marked += 1;
            }
            if self.staged.len() >= BATCH_TUPLES {
                return;
            }
            acks.extend(pull.anchors.iter());
            self.pulls.pop_front();
            self.marked_pulls = self.marked_pulls.saturating_sub(1);
        }
    }

    fn route(&mut self, outbox: &mut Outbox, rooms: &dyn Rooms, flush: bool) {
        debug_assert_eq!(self.unmarked(), 0, "everything is anchored before it is routed");
        if !self.staged.is_empty() && (flush || self.is_full()) {
            self.route_staged(outbox, rooms);
        }
        if flush {
            for route in &mut self.routes {
                route.flush(self.stream, outbox);
            }
        }
    }

    fn route_staged(&mut self, outbox: &mut Outbox, rooms: &dyn Rooms) {
        let next = Vec::with_capacity(self.staged.len().min(BATCH_TUPLES));
        let tuples = std::mem::replace(&mut self.staged, next);
        let next = Vec::with_capacity(self.anchors.each.len().min(BATCH_TUPLES));
        let mut anchors =
            Anchors { each: std::mem::replace(&mut self.anchors.each, next), many: take(&mut self.anchors.many) };
        let receivers = take(&mut self.receivers);
        self.marked = 0;
        self.heap_bytes = 0;
        self.emitted += tuples.len() as u64;
        let Some((last, others)) = self.routes.split_last_mut() else {
            anchors.for_each(|anchor| outbox.acks.push(anchor));
            return;
        };
        if !receivers.is_empty() {
            // Each tuple of a direct stream has one receiver, which one of the subscriptions has.
            let mut routes: Vec<&mut Route<T>> = others.iter_mut().chain([last]).collect();
            route::direct(&mut routes, self.stream, tuples, anchors, &receivers, outbox);
            return;
        }
        for route in others {
            let share = anchors.split_off(&mut outbox.edges);
            route.take(self.stream, tuples.clone(), share, outbox, rooms);
        }
        last.take(self.stream, tuples, anchors, outbox, rooms);
    }

    /// Whether anything waits here for a flush.
    fn holds_tuples(&self) -> bool {
        !self.staged.is_empty() || !self.pulls.is_empty() || self.routes.iter().any(Route::holds_tuples)
    }
}

impl<T: Tuple> PortField for Port<T> {
    type Stream = Stream<T>;

    fn open(wires: &mut Wires<'_>, _: &str) -> Self {
        wires.open().0
    }

    fn declare(declare: &mut Declare<'_>, name: &str) -> Stream<T> {
        declare.stream::<T>(name, false);
        Stream::new(declare.component, name)
    }

    fn visit<V: PortVisitor>(&mut self, visitor: &mut V) {
        visitor.port(self);
    }
}

impl<T: Tuple> Ports for Port<T> {
    #[inline]
    fn visit<V: PortVisitor>(&mut self, visitor: &mut V) {
        visitor.port(self);
    }
}

/// Emits into a direct stream: the emitter names the task that gets the tuple.
pub struct Direct<T: Tuple> {
    port: Port<T>,
    receivers: Vec<TaskId>,
}

impl<T: Tuple> Direct<T> {
    /// The tasks that subscribe to this stream, ascending.
    pub fn receivers(&self) -> &[TaskId] {
        &self.receivers
    }

    /// Emits a tuple to one task.
    ///
    /// # Errors
    /// If the task's component does not subscribe to this stream by direct grouping.
    pub fn emit_to(&mut self, task: TaskId, tuple: T) -> Result {
        if self.receivers.binary_search(&task).is_err() {
            return Err(Error::retry(format!(
                "emitted to task {task}, which does not subscribe to this direct stream; its subscribers are {:?}",
                self.receivers.iter().map(|task| task.0).collect::<Vec<_>>()
            )));
        }
        self.port.receivers.push(task);
        self.port.emit(tuple);
        Ok(())
    }
}

impl<T: Tuple> PortField for Direct<T> {
    type Stream = DirectStream<T>;

    fn open(wires: &mut Wires<'_>, _: &str) -> Self {
        let (port, receivers) = wires.open();
        Direct { port, receivers }
    }

    fn declare(declare: &mut Declare<'_>, name: &str) -> DirectStream<T> {
        declare.stream::<T>(name, true);
        DirectStream::new(declare.component, name)
    }

    fn visit<V: PortVisitor>(&mut self, visitor: &mut V) {
        visitor.port(&mut self.port);
    }
}

impl Ports for () {
    fn visit<V: PortVisitor>(&mut self, _: &mut V) {}
}

impl Output for () {
    type Ports = ();
    type Streams = ();

    fn open(_: &mut Wires<'_>) {}

    fn declare(_: &mut Declare<'_>) {}
}

impl Output for Values {
    type Ports = Port<Values>;
    type Streams = Stream<Values>;

    fn open(wires: &mut Wires<'_>) -> Self::Ports {
        wires.open().0
    }

    fn declare(declare: &mut Declare<'_>) -> Self::Streams {
        <Port<Values> as PortField>::declare(declare, "default")
    }
}

/// A batch on its way to one of the executor's outlets.
pub struct Outgoing {
    /// The outlet, as the wires numbered it.
    pub outlet: u32,
    /// The stream's number in its component.
    pub stream: u16,
    /// The tuples.
    pub batch: Box<dyn AnyBatch>,
}

/// What running a component produced: batches to deliver, leaves to ack, roots to fail. Emptied by the runtime.
pub struct Outbox {
    /// Batches to deliver, in order.
    pub outgoing: VecDeque<Outgoing>,
    /// Anchors whose branch ended well here.
    pub acks: Vec<Anchor>,
    /// Roots whose branch failed here.
    pub fails: Vec<(Root, FailReason)>,
    /// Roots that a component says it still works on.
    pub held: Vec<Root>,
    /// Where new edges come from.
    pub edges: EdgeIds,
}

impl Outbox {
    /// An empty one.
    pub fn new(edges: EdgeIds) -> Self {
        Outbox { outgoing: VecDeque::new(), acks: Vec::new(), fails: Vec::new(), held: Vec::new(), edges }
    }

    /// Fails every root among these anchors.
    pub fn fail_all(&mut self, anchors: &[Anchor], reason: &FailReason) {
        if mutations::on(Mutation::FailAsXor) {
            return self.acks.extend(anchors);
        }
        self.fails.extend(anchors.iter().map(|anchor| (anchor.root, reason.clone())));
    }
}

/// Which outlets can take a batch now. Asked while routing; answered by the runtime.
pub trait Rooms {
    /// Whether a batch can go there without waiting.
    fn has_room(&self, outlet: u32) -> bool;
}

/// What is done to all ports of a component between its calls.
pub(crate) mod visit {
    use super::*;

    /// How many children the last call emitted.
    #[derive(Default)]
    pub(crate) struct Children(pub(crate) usize);

    impl PortVisitor for Children {
        #[inline]
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            self.0 += port.unmarked();
        }
    }

    /// Divides one edge over the last call's children: random edges, and to the last child what makes them XOR to it.
    pub(crate) struct Divide<'a> {
        pub(crate) root: Root,
        pub(crate) rest: u64,
        pub(crate) children: usize,
        pub(crate) edges: &'a mut EdgeIds,
    }

    impl Divide<'_> {
        #[inline]
        fn share(&mut self) -> Anchor {
            self.children -= 1;
            let mut edge = Edge(self.rest);
            // A rest of zero cannot be an edge; a random one leaves the tree unfinished instead of finishing it early.
            if self.children > 0 || self.rest == 0 {
                edge = self.edges.draw();
                self.rest ^= edge.0;
            }
            Anchor { root: self.root, edge }
        }
    }

    impl PortVisitor for Divide<'_> {
        #[inline]
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            if port.staged.len() > port.marked {
                port.pad_anchors();
                let children = port.staged.len() - port.marked;
                port.anchors.each.extend((0..children).map(|_| self.share()));
                port.marked = port.staged.len();
            }
            while port.marked_pulls < port.pulls.len() {
                let share = self.share();
                port.pulls[port.marked_pulls].anchors.push(share);
                port.marked_pulls += 1;
            }
        }
    }

    /// The same for an input with several roots, whose edges are divided each for itself.
    pub(crate) struct DivideMany<'a> {
        pub(crate) rest: Vec<Anchor>,
        pub(crate) children: usize,
        pub(crate) edges: &'a mut EdgeIds,
    }

    impl DivideMany<'_> {
        fn shares(&mut self) -> Vec<Anchor> {
            self.children -= 1;
            let (last, edges) = (self.children == 0, &mut *self.edges);
            let share = |rest: &mut Anchor| {
                let mut edge = rest.edge;
                if !last || edge.0 == 0 {
                    edge = edges.draw();
                    rest.edge.0 ^= edge.0;
                }
                Anchor { edge, ..*rest }
            };
            self.rest.iter_mut().map(share).collect()
        }
    }

    impl PortVisitor for DivideMany<'_> {
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            port.pad_anchors();
            for _ in port.marked..port.staged.len() {
                let shares = self.shares();
                port.anchors.push(&shares);
            }
            port.marked = port.staged.len();
            while port.marked_pulls < port.pulls.len() {
                let shares = self.shares();
                port.pulls[port.marked_pulls].anchors = shares;
                port.marked_pulls += 1;
            }
        }
    }

    /// The last call's children belong to no tree.
    pub(crate) struct Untracked;

    impl PortVisitor for Untracked {
        #[inline]
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            port.mark_untracked();
        }
    }

    /// Takes a random share of each root for each child; what they XOR to is taken off what stays open: what anchoring to
    /// a `Tracked` and a root with several tuples do.
    pub(crate) struct TakeShares<'a> {
        pub(crate) roots: &'a [Root],
        /// For each root, what the shares XOR to.
        pub(crate) taken: &'a mut [u64],
        pub(crate) edges: &'a mut EdgeIds,
    }

    impl TakeShares<'_> {
        fn shares(&mut self) -> Vec<Anchor> {
            let edges = &mut *self.edges;
            let mut first = None;
            let share = |(root, taken): (&Root, &mut u64)| {
                let edge = match first {
                    Some(first) if mutations::on(Mutation::OneEdgeForBothParents) => first,
                    _ => edges.draw(),
                };
                first = Some(edge);
                *taken ^= edge.0;
                Anchor { root: *root, edge }
            };
            self.roots.iter().zip(self.taken.iter_mut()).map(share).collect()
        }
    }

    impl PortVisitor for TakeShares<'_> {
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            port.pad_anchors();
            for _ in port.marked..port.staged.len() {
                let shares = self.shares();
                port.anchors.push(&shares);
            }
            port.marked = port.staged.len();
            while port.marked_pulls < port.pulls.len() {
                let shares = self.shares();
                port.pulls[port.marked_pulls].anchors = shares;
                port.marked_pulls += 1;
            }
        }
    }

    /// Whether a port has a full batch.
    #[derive(Default)]
    pub(crate) struct Full(pub(crate) bool);

    impl PortVisitor for Full {
        #[inline]
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            self.0 |= port.is_full();
        }
    }

    /// Routes what is full, or all of it.
    pub(crate) struct RouteAll<'a> {
        pub(crate) outbox: &'a mut Outbox,
        pub(crate) rooms: &'a dyn Rooms,
        pub(crate) flush: bool,
    }

    impl PortVisitor for RouteAll<'_> {
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            port.route(self.outbox, self.rooms, self.flush);
        }
    }

    /// Pulls from open iterators; says whether any is still open.
    pub(crate) struct PullAll<'a> {
        pub(crate) outbox: &'a mut Outbox,
        pub(crate) open: bool,
    }

    impl PortVisitor for PullAll<'_> {
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            port.pull(&mut self.outbox.edges, &mut self.outbox.acks);
            self.open |= !port.pulls.is_empty();
        }
    }

    /// Gives up the open iterators; their roots fail.
    pub(crate) struct DropPulls<'a> {
        pub(crate) outbox: &'a mut Outbox,
        pub(crate) reason: &'a FailReason,
    }

    impl PortVisitor for DropPulls<'_> {
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            port.marked_pulls = 0;
            for pull in port.pulls.drain(..) {
                self.outbox.fail_all(&pull.anchors, self.reason);
            }
        }
    }

    /// Whether any iterator is open.
    #[derive(Default)]
    pub(crate) struct Pulls(pub(crate) bool);

    impl PortVisitor for Pulls {
        #[inline]
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            self.0 |= !port.pulls.is_empty();
        }
    }

    /// Whether anything waits for a flush.
    #[derive(Default)]
    pub(crate) struct Waiting(pub(crate) bool);

    impl PortVisitor for Waiting {
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            self.0 |= port.holds_tuples();
        }
    }

    /// For each stream: emitted, transferred.
    pub(crate) struct Count<'a>(pub(crate) &'a mut Vec<(u64, u64)>);

    impl PortVisitor for Count<'_> {
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            self.0.push((port.emitted, port.routes.iter().map(Route::transferred).sum()));
        }
    }

    /// Moves what was staged elsewhere (by an async call) out, in the order of the ports.
    #[derive(Default)]
    pub(crate) struct TakeStaged(pub(crate) VecDeque<Box<dyn Any + Send>>);

    type Staged<T> = (Vec<T>, Vec<TaskId>, VecDeque<Pull<T>>, usize);

    impl PortVisitor for TakeStaged {
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            let staged: Staged<T> =
                (take(&mut port.staged), take(&mut port.receivers), take(&mut port.pulls), take(&mut port.heap_bytes));
            self.0.push_back(Box::new(staged));
        }
    }

    /// … and in here.
    pub(crate) struct PutStaged(pub(crate) VecDeque<Box<dyn Any + Send>>);

    impl PortVisitor for PutStaged {
        fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
            let Some(Ok(staged)) = self.0.pop_front().map(|staged| staged.downcast::<Staged<T>>()) else { return };
            let (tuples, receivers, pulls, heap_bytes) = *staged;
            port.staged.extend(tuples);
            port.receivers.extend(receivers);
            port.pulls.extend(pulls);
            port.heap_bytes += heap_bytes;
        }
    }
}
