//! How the runtime runs a component without knowing its types: batch by batch, behind one virtual call each.
//!
//! Not here: when it is run and where its output goes (the runtime). Invariant: whatever way a call ends (return, error,
//! panic), each tuple taken from its batch is acked, failed, or held by someone who will; a failed one's children get a
//! wrong share of its edge, so that no ack of theirs can complete the root.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use futures_util::future::{AbortHandle, Abortable, Aborted, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::anchor::{Anchor, EdgeIds, Root, Slot};
use crate::batch::{Anchors, AnyBatch, Batch};
use crate::bolt::{Accepts, Arrival, AsyncBolt, Bolt, Emitter, Input, Mode, Source, failed_by};
use crate::context::Context;
use crate::error::{Error, Result, Severity};
use crate::fail::{FailKind, FailReason};
use crate::holds::Holds;
use crate::ids::TaskId;
use crate::output::{Outbox, Output, Ports, Rooms, Wires, visit};
use crate::spout::{Next, OpenRoots, Pending, Roots, Spout};
use crate::tuple::Tuple;

/// A clock in microseconds from an arbitrary beginning; never goes back.
pub trait Clock: Send + Sync {
    /// Now.
    fn now_us(&self) -> u64;
}

/// What a component's code needs of the runtime while it is run.
pub struct Turn<'a> {
    /// Where what it produces is put.
    pub outbox: &'a mut Outbox,
    /// Which outlets have room.
    pub rooms: &'a dyn Rooms,
    /// The time.
    pub clock: &'a dyn Clock,
    /// When to leave the rest of a batch for later.
    pub until_us: u64,
    /// What was counted.
    pub tally: &'a mut Tally,
}

/// Exact counts of one turn, and the errors of user code in it.
#[derive(Default, Debug)]
pub struct Tally {
    /// Tuples given to `execute`.
    pub executed: u64,
    /// Inputs acked.
    pub acked: u64,
    /// Inputs failed.
    pub failed: u64,
    /// What was returned as an error or panicked with, at most [`Tally::ERRORS`] of one turn.
    pub errors: Vec<String>,
}

impl Tally {
    /// Errors that one turn keeps.
    pub const ERRORS: usize = 8;

    fn error(&mut self, error: impl ToString) {
        if self.errors.len() < Self::ERRORS {
            self.errors.push(error.to_string());
        }
    }
}

/// How running a batch ended.
#[derive(Debug)]
pub enum Ran {
    /// All of it was taken.
    Done,
    /// Some is left, as the time was up or batches wait for delivery.
    Paused,
    /// Some is left, as the bolt has as many calls in flight as it may.
    Full,
    /// The bolt panicked with this message; the rest is for its next instance.
    Panicked(String),
    /// The bolt cannot go on.
    Fatal(Error),
}

/// What a port counted: tuples emitted, and tuples sent to tasks, for each stream in order.
pub type StreamCounts = Vec<(u64, u64)>;

/// One task of a bolt.
pub trait AnyBolt: Send {
    /// Calls `prepare`.
    ///
    /// # Errors
    /// The bolt's; a panic is one too.
    fn prepare(&mut self, context: &Context) -> Result;

    /// A new instance by the factory; what the old one holds fails for this reason. Returns how many calls in flight fail.
    fn restart(&mut self, reason: &FailReason, outbox: &mut Outbox) -> u64;

    /// Makes a batch what this subscription reads: once, before its first `execute`.
    fn admit(&self, subscription: usize, batch: Box<dyn AnyBatch>) -> Box<dyn AnyBatch>;

    /// Runs what is left of a batch of this subscription, from this task.
    fn execute(&mut self, subscription: usize, from: TaskId, batch: &mut dyn AnyBatch, turn: &mut Turn<'_>) -> Ran;

    /// Polls calls in flight; returns how many are left. Only async bolts have any. What they emitted is routed next.
    fn poll_in_flight(&mut self, cx: &mut task::Context<'_>, turn: &mut Turn<'_>) -> InFlight;

    /// Fails what this task holds longer than `timeout_us`, tells of what it holds longer than `tell_after_us`.
    fn sweep(&mut self, timeout_us: Option<u64>, tell_after_us: u64, turn: &mut Turn<'_>);

    /// Calls `tick`.
    fn tick(&mut self, turn: &mut Turn<'_>) -> Ran;

    /// Calls `finish`.
    fn finish(&mut self, turn: &mut Turn<'_>) -> Ran;

    /// Calls `cleanup`.
    fn cleanup(&mut self);

    /// Takes a batch's worth from iterators given to `emit_all`; true while some are open.
    fn pull(&mut self, turn: &mut Turn<'_>) -> Ran;

    /// Routes what is full, or all that is staged.
    fn route(&mut self, turn: &mut Turn<'_>, flush: bool);

    /// Whether anything waits in its ports for a flush.
    fn holds_output(&mut self) -> bool;

    /// What its ports counted.
    fn stream_counts(&mut self) -> StreamCounts;

    /// Its `Tracked` inputs, if it takes such.
    fn holds(&self) -> Option<&Holds>;

    /// Calls that have not returned; zero but for async bolts.
    fn in_flight(&self) -> usize;
}

/// What is in flight in an async bolt.
#[derive(Debug)]
pub struct InFlight {
    /// Calls that have not returned.
    pub calls: usize,
    /// Set if a call ended the bolt: a panic or a fatal error.
    pub ended: Option<Ran>,
}

/// One task of a spout.
pub trait AnySpout: Send {
    /// Calls `open`.
    ///
    /// # Errors
    /// The spout's; a panic is one too.
    fn open(&mut self, context: &Context) -> Result;

    /// A new instance by the factory.
    fn restart(&mut self);

    /// Asks for tuples until `limit` roots were emitted, a batch is full, the time is up, or the spout says so.
    fn next(&mut self, limit: usize, ledger: Option<&mut dyn OpenRoots>, turn: &mut Turn<'_>) -> Asked;

    /// Tells the spout that these roots are acked.
    fn ack(&mut self, slots: &[Slot]) -> Result<(), Panicked>;

    /// Tells the spout that this root failed.
    fn fail(&mut self, slot: Slot, reason: &FailReason) -> Result<(), Panicked>;

    /// Calls `activate` or `deactivate`.
    fn set_active(&mut self, active: bool) -> Result<(), Panicked>;

    /// Calls `close`.
    fn close(&mut self);

    /// As [`AnyBolt::pull`].
    fn pull(&mut self, turn: &mut Turn<'_>) -> Ran;

    /// As [`AnyBolt::route`].
    fn route(&mut self, turn: &mut Turn<'_>, flush: bool);

    /// As [`AnyBolt::holds_output`].
    fn holds_output(&mut self) -> bool;

    /// As [`AnyBolt::stream_counts`].
    fn stream_counts(&mut self) -> StreamCounts;
}

/// A spout panicked with this message.
#[derive(Debug)]
pub struct Panicked(pub String);

/// How asking a spout ended.
#[derive(Debug)]
pub struct Asked {
    /// Roots emitted.
    pub roots: usize,
    /// What it said last.
    pub said: Said,
}

/// What a spout said last.
#[derive(Debug)]
pub enum Said {
    /// It has more.
    More,
    /// Nothing for this long.
    Idle(Duration),
    /// Nothing more.
    Done,
    /// An error; to be asked again after a pause.
    Failed(Error),
    /// It cannot go on.
    Fatal(Error),
    /// It panicked.
    Panicked(String),
}

/// A task, as the graph makes it.
pub enum AnyTask {
    /// Of a spout.
    Spout(Box<dyn AnySpout>),
    /// Of a bolt.
    Bolt(Box<dyn AnyBolt>),
}

/// What a task is made with.
pub struct TaskParts<'a> {
    /// The component's name.
    pub component: &'a str,
    /// Routes of its streams.
    pub wires: Wires<'a>,
    /// For each of its subscriptions, the stream it reads.
    pub sources: Vec<Arc<Source>>,
    /// Key of its own edge ids.
    pub key: [u8; 32],
    /// By which holding is measured.
    pub clock: Arc<dyn Clock>,
}

/// Makes the tasks of a component.
pub(crate) trait Node: Send + Sync {
    fn task(&self, parts: TaskParts<'_>) -> AnyTask;
}

/// Outgoing batches after which a turn pauses, so that they are delivered.
const OUTGOING_BATCHES: usize = 4;
/// The clock is read at least every so many tuples.
const MOST_TUPLES_UNTIMED: u32 = 64;

/// Reads the clock rarely when calls are short, after each when they are long.
struct Pace {
    stride: u32,
    left: u32,
    last_us: u64,
}

impl Pace {
    const fn new() -> Self {
        Pace { stride: 1, left: 1, last_us: 0 }
    }

    fn begin(&mut self, now_us: u64) {
        self.left = self.stride;
        self.last_us = now_us;
    }

    /// Whether the time is up after one more call.
    #[inline]
    fn is_up(&mut self, turn: &Turn<'_>) -> bool {
        self.is_past(turn.clock, turn.until_us)
    }

    #[inline]
    fn is_past(&mut self, clock: &dyn Clock, until_us: u64) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        let now = clock.now_us();
        let took = now.saturating_sub(self.last_us);
        if took < 10 {
            self.stride = (self.stride * 2).min(MOST_TUPLES_UNTIMED);
        } else if took > 40 {
            self.stride = (self.stride / 2).max(1);
        }
        self.begin(now);
        now >= until_us
    }
}

/// The text of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

// ---- bolts ----

/// Runs a batch of one tuple type through a bolt.
pub(crate) type Reader<N> = fn(&mut N, &Arc<Source>, TaskId, &mut dyn AnyBatch, &mut Turn<'_>) -> Ran;

/// How one subscription is read.
pub(crate) struct Subscribed<N> {
    pub(crate) read: Reader<N>,
    /// Whether batches are turned into dynamic values first: a subscription by names.
    pub(crate) as_values: bool,
}

/// A kind of bolt that the builder can wire: sync or async.
#[doc(hidden)]
pub trait BoltKind: Send + 'static {
    type Input: Input;
    type Output: Output;
    type Task: 'static;

    #[doc(hidden)]
    #[allow(private_interfaces, reason = "sealed: only the two kinds of this module exist")]
    fn reader<T: Tuple>() -> Reader<Self::Task>
    where
        Self::Input: Accepts<T>;
}

#[doc(hidden)]
pub struct OfBolt<B>(std::marker::PhantomData<B>);

#[doc(hidden)]
pub struct OfAsyncBolt<B>(std::marker::PhantomData<B>);

impl<B: Bolt> BoltKind for OfBolt<B> {
    type Input = B::Input;
    type Output = B::Output;
    type Task = BoltTask<B>;

    #[allow(private_interfaces, reason = "sealed: only the two kinds of this module exist")]
    fn reader<T: Tuple>() -> Reader<BoltTask<B>>
    where
        B::Input: Accepts<T>,
    {
        run::<B, T>
    }
}

impl<B: AsyncBolt> BoltKind for OfAsyncBolt<B> {
    type Input = B::Input;
    type Output = B::Output;
    type Task = AsyncBoltTask<B>;

    #[allow(private_interfaces, reason = "sealed: only the two kinds of this module exist")]
    fn reader<T: Tuple>() -> Reader<AsyncBoltTask<B>>
    where
        B::Input: Accepts<T>,
    {
        start::<B, T>
    }
}

pub(crate) type Factory<B> = Arc<dyn Fn() -> B + Send + Sync>;

pub(crate) struct BoltNode<B: Bolt> {
    pub(crate) factory: Factory<B>,
    pub(crate) subscriptions: Arc<Vec<Subscribed<BoltTask<B>>>>,
}

impl<B: Bolt> Node for BoltNode<B> {
    fn task(&self, parts: TaskParts<'_>) -> AnyTask {
        let TaskParts { component, mut wires, sources, key, clock } = parts;
        AnyTask::Bolt(Box::new(BoltTask {
            component: component.into(),
            bolt: (self.factory)(),
            factory: self.factory.clone(),
            emitter: Emitter::new(B::Output::open(&mut wires), Some(EdgeIds::from_key(key))),
            holds: Holds::new(component, clock),
            subscriptions: self.subscriptions.clone(),
            sources,
            pace: Pace::new(),
        }))
    }
}

/// One task of a sync bolt.
#[doc(hidden)]
pub struct BoltTask<B: Bolt> {
    component: Box<str>,
    bolt: B,
    factory: Factory<B>,
    emitter: Emitter<B::Output, <B::Input as Input>::Mode>,
    holds: Holds,
    subscriptions: Arc<Vec<Subscribed<BoltTask<B>>>>,
    sources: Vec<Arc<Source>>,
    pace: Pace,
}

/// The loop that every tuple of a sync bolt goes through.
fn run<B: Bolt, T: Tuple>(
    task: &mut BoltTask<B>,
    source: &Arc<Source>,
    from: TaskId,
    batch: &mut dyn AnyBatch,
    turn: &mut Turn<'_>,
) -> Ran
where
    B::Input: Accepts<T>,
{
    let Some(batch) = batch.as_any_mut().downcast_mut::<Batch<T>>() else {
        return Ran::Fatal(wrong_type::<T>());
    };
    let anchors = batch.anchors.clone();
    let by_return = <B::Input as Input>::Mode::ACKS_BY_RETURN;
    let divides = by_return && !anchors.is_empty();
    let (first, mut failed) = (batch.taken, 0);
    // Tuples from here on were leaves: acked as one slice when something else comes.
    let mut leaves_from = first;
    // Whether the call in progress got its input: then a bolt that acks by itself has it, or has done with it.
    let mut given = false;
    task.pace.begin(turn.clock.now_us());
    let ended = catch_unwind(AssertUnwindSafe(|| {
        for tuple in batch.tuples.by_ref() {
            let at = batch.taken;
            batch.taken += 1;
            given = false;
            let mut arrival = Arrival { source, task: from, holds: &task.holds, anchors: anchors.of(at) };
            let result = match B::Input::accept(tuple, &mut arrival) {
                Ok(input) => {
                    given = true;
                    task.bolt.execute(input, &mut task.emitter).map_err(Refused::ByBolt)
                }
                Err(error) => Err(Refused::Unreadable(error.to_string())),
            };
            let ports = &mut task.emitter.ports;
            match result {
                Ok(()) if divides => {
                    let mut children = visit::Children::default();
                    ports.visit(&mut children);
                    if children.0 > 0 {
                        ack_leaves(&anchors, leaves_from, at, &mut turn.outbox.acks);
                        leaves_from = at + 1;
                        divide(ports, anchors.each[at], &anchors, children.0, &mut turn.outbox.edges);
                    }
                }
                Ok(()) => ports.visit(&mut visit::Untracked),
                Err(refused) => {
                    failed += 1;
                    if by_return {
                        ack_leaves(&anchors, leaves_from, at, &mut turn.outbox.acks);
                        leaves_from = at + 1;
                    }
                    let fatal = task.refuse(&refused, anchors.of(at), turn);
                    if let Some(error) = fatal {
                        return Ran::Fatal(error);
                    }
                }
            }
            let mut full = visit::Full::default();
            task.emitter.ports.visit(&mut full);
            if full.0 {
                task.route(turn, false);
                if turn.outbox.outgoing.len() >= OUTGOING_BATCHES {
                    return Ran::Paused;
                }
            }
            if task.pulls() || task.pace.is_up(turn) {
                return Ran::Paused;
            }
        }
        Ran::Done
    }));
    let ran = match ended {
        Ok(Ran::Paused) if batch.tuples.len() == 0 => Ran::Done,
        Ok(ran) => ran,
        Err(panic) => {
            failed += 1;
            let at = batch.taken - 1;
            let text = panic_text(&*panic);
            if by_return {
                ack_leaves(&anchors, leaves_from, at, &mut turn.outbox.acks);
                leaves_from = at + 1;
                task.poison(anchors.of(at), turn);
            }
            let reason = FailReason::new(FailKind::Panicked, &task.component, &text);
            if by_return || !given {
                turn.outbox.fail_all(anchors.of(at), &reason);
            } else {
                // What it dropped on its way out fails for the panic's reason; what it acked before is acked.
                task.holds.blame(&reason);
            }
            turn.tally.error(format!("panicked: {text}"));
            Ran::Panicked(text)
        }
    };
    let executed = (batch.taken - first) as u64;
    turn.tally.executed += executed;
    if by_return {
        ack_leaves(&anchors, leaves_from, batch.taken, &mut turn.outbox.acks);
        turn.tally.acked += executed - failed;
        turn.tally.failed += failed;
    }
    ran
}

/// Why a tuple was not executed well.
enum Refused {
    ByBolt(Error),
    Unreadable(String),
}

fn wrong_type<T: Tuple>() -> Error {
    Error::fatal(format!("a batch of something else than `{}` arrived on its stream", T::NAME))
}

/// Acks the tuples `from .. to` of a batch.
#[inline]
fn ack_leaves(anchors: &Anchors, from: usize, to: usize, acks: &mut Vec<Anchor>) {
    if from >= to || anchors.is_empty() {
        return;
    }
    if anchors.many.is_empty() {
        acks.extend_from_slice(&anchors.each[from..to]);
    } else {
        (from..to).for_each(|index| acks.extend(anchors.of(index)));
    }
}

/// Divides an input's edge (or each of its edges) over the children of the call that took it.
#[inline]
fn divide<P: Ports>(ports: &mut P, anchor: Anchor, anchors: &Anchors, children: usize, edges: &mut EdgeIds) {
    if anchor.is_none() {
        ports.visit(&mut visit::Untracked);
    } else if let Some(side) = anchor.as_many() {
        ports.visit(&mut visit::DivideMany { rest: anchors.many[side as usize].to_vec(), children, edges });
    } else {
        ports.visit(&mut visit::Divide { root: anchor.root, rest: anchor.edge.0, children, edges });
    }
}

impl<B: Bolt> BoltTask<B> {
    /// Fails a tuple that the bolt refused; returns the error if it is fatal.
    #[cold]
    fn refuse(&mut self, refused: &Refused, anchors: &[Anchor], turn: &mut Turn<'_>) -> Option<Error> {
        let (reason, fatal) = match refused {
            Refused::ByBolt(error) => {
                let reason = failed_by(&self.component, error);
                (reason, (error.severity() == Severity::Fatal).then(|| Error::fatal(error)))
            }
            Refused::Unreadable(said) => (FailReason::new(FailKind::Malformed, &self.component, said), None),
        };
        turn.tally.error(&reason.message);
        if <B::Input as Input>::Mode::ACKS_BY_RETURN {
            self.poison(anchors, turn);
            turn.outbox.fail_all(anchors, &reason);
        } else {
            // The bolt owns its inputs; those it dropped on its way out fail for the error's reason.
            self.emitter.ports.visit(&mut visit::Untracked);
            if matches!(refused, Refused::Unreadable(_)) {
                turn.outbox.fail_all(anchors, &reason);
            }
            self.holds.blame(&reason);
        }
        fatal
    }

    /// Gives the children of a failed call wrong shares.
    fn poison(&mut self, anchors: &[Anchor], turn: &mut Turn<'_>) {
        poison(&mut self.emitter.ports, anchors, &mut turn.outbox.edges);
    }

    fn pulls(&mut self) -> bool {
        let mut count = visit::Pulls::default();
        self.emitter.ports.visit(&mut count);
        count.0
    }

    /// Runs a call that takes no tuple.
    fn call(
        &mut self,
        turn: &mut Turn<'_>,
        call: impl FnOnce(&mut B, &mut Emitter<B::Output, <B::Input as Input>::Mode>) -> Result,
    ) -> Ran {
        let ended = catch_unwind(AssertUnwindSafe(|| call(&mut self.bolt, &mut self.emitter)));
        self.emitter.ports.visit(&mut visit::Untracked);
        self.route(turn, false);
        match ended {
            Ok(Ok(())) => Ran::Done,
            Ok(Err(error)) => {
                turn.tally.error(&error);
                if error.severity() == Severity::Fatal { Ran::Fatal(error) } else { Ran::Done }
            }
            Err(panic) => {
                let text = panic_text(&*panic);
                turn.tally.error(format!("panicked: {text}"));
                Ran::Panicked(text)
            }
        }
    }
}

fn poison<P: Ports>(ports: &mut P, anchors: &[Anchor], edges: &mut EdgeIds) {
    let mut children = visit::Children::default();
    ports.visit(&mut children);
    if children.0 == 0 {
        return;
    }
    if anchors.is_empty() {
        ports.visit(&mut visit::Untracked);
    } else {
        let wrong = anchors.iter().map(|anchor| Anchor { edge: edges.draw(), ..*anchor });
        let rest = wrong.collect();
        ports.visit(&mut visit::DivideMany { rest, children: children.0, edges });
    }
}

/// Pulls from open iterators; a panic of one gives all of them up.
fn pull_ports<P: Ports>(ports: &mut P, component: &str, turn: &mut Turn<'_>) -> Ran {
    let mut open = false;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let mut pull = visit::PullAll { outbox: turn.outbox, open: false };
        ports.visit(&mut pull);
        open = pull.open;
    }));
    if let Err(panic) = ended {
        let text = panic_text(&*panic);
        let reason = FailReason::new(FailKind::Panicked, component, &text);
        ports.visit(&mut visit::DropPulls { outbox: turn.outbox, reason: &reason });
        turn.tally.error(format!("panicked: {text}"));
        return Ran::Panicked(text);
    }
    ports.visit(&mut visit::RouteAll { outbox: turn.outbox, rooms: turn.rooms, flush: false });
    if open { Ran::Paused } else { Ran::Done }
}

impl<B: Bolt> AnyBolt for BoltTask<B> {
    fn prepare(&mut self, context: &Context) -> Result {
        catch_unwind(AssertUnwindSafe(|| self.bolt.prepare(context)))
            .unwrap_or_else(|panic| Err(Error::retry(format!("panicked: {}", panic_text(&*panic)))))
    }

    fn restart(&mut self, reason: &FailReason, outbox: &mut Outbox) -> u64 {
        self.holds.fail_all(reason);
        self.emitter.ports.visit(&mut visit::DropPulls { outbox, reason });
        // The old instance's drop may panic as well; its inputs have failed already.
        let old = std::mem::replace(&mut self.bolt, (self.factory)());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        0
    }

    fn admit(&self, subscription: usize, batch: Box<dyn AnyBatch>) -> Box<dyn AnyBatch> {
        admit(&self.subscriptions, subscription, batch)
    }

    fn execute(&mut self, subscription: usize, from: TaskId, batch: &mut dyn AnyBatch, turn: &mut Turn<'_>) -> Ran {
        let read = self.subscriptions[subscription].read;
        let source = self.sources[subscription].clone();
        read(self, &source, from, batch, turn)
    }

    fn poll_in_flight(&mut self, _: &mut task::Context<'_>, _: &mut Turn<'_>) -> InFlight {
        InFlight { calls: 0, ended: None }
    }

    fn sweep(&mut self, timeout_us: Option<u64>, tell_after_us: u64, _: &mut Turn<'_>) {
        self.holds.sweep(timeout_us, tell_after_us);
    }

    fn tick(&mut self, turn: &mut Turn<'_>) -> Ran {
        self.call(turn, |bolt, out| bolt.tick(out))
    }

    fn finish(&mut self, turn: &mut Turn<'_>) -> Ran {
        let ran = self.call(turn, |bolt, out| bolt.finish(out));
        // What is left undone by `finish` is not tried again: its error is the run's.
        match ran {
            Ran::Done if !turn.tally.errors.is_empty() => Ran::Fatal(Error::fatal(turn.tally.errors.join("; "))),
            Ran::Panicked(text) => Ran::Fatal(Error::fatal(format!("panicked: {text}"))),
            ran => ran,
        }
    }

    fn cleanup(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.bolt.cleanup()));
    }

    fn pull(&mut self, turn: &mut Turn<'_>) -> Ran {
        pull_ports(&mut self.emitter.ports, &self.component, turn)
    }

    fn route(&mut self, turn: &mut Turn<'_>, flush: bool) {
        let route = &mut visit::RouteAll { outbox: turn.outbox, rooms: turn.rooms, flush };
        self.emitter.ports.visit(route);
    }

    fn holds_output(&mut self) -> bool {
        let mut count = visit::Count::default();
        self.emitter.ports.visit(&mut count);
        count.holds_tuples
    }

    fn stream_counts(&mut self) -> StreamCounts {
        let mut count = visit::Count::default();
        self.emitter.ports.visit(&mut count);
        count.streams
    }

    fn holds(&self) -> Option<&Holds> {
        (!<B::Input as Input>::Mode::ACKS_BY_RETURN).then_some(&self.holds)
    }

    fn in_flight(&self) -> usize {
        0
    }
}

fn admit<N>(subscriptions: &[Subscribed<N>], subscription: usize, batch: Box<dyn AnyBatch>) -> Box<dyn AnyBatch> {
    if subscriptions[subscription].as_values { batch.into_values() } else { batch }
}

// ---- async bolts ----

pub(crate) struct AsyncBoltNode<B: AsyncBolt> {
    pub(crate) factory: Factory<B>,
    pub(crate) in_flight_tuples: usize,
    pub(crate) subscriptions: Arc<Vec<Subscribed<AsyncBoltTask<B>>>>,
}

impl<B: AsyncBolt> Node for AsyncBoltNode<B> {
    fn task(&self, parts: TaskParts<'_>) -> AnyTask {
        let TaskParts { component, mut wires, sources, clock, .. } = parts;
        let receivers = wires.receivers();
        AnyTask::Bolt(Box::new(AsyncBoltTask::<B> {
            component: component.into(),
            bolt: Arc::new((self.factory)()),
            factory: self.factory.clone(),
            ports: B::Output::open(&mut wires),
            receivers,
            spare: Vec::new(),
            calls: FuturesUnordered::new(),
            since: Vec::new(),
            in_flight_tuples: self.in_flight_tuples,
            holds: Holds::new(component, clock.clone()),
            clock,
            subscriptions: self.subscriptions.clone(),
            sources,
        }))
    }
}

type Call<O> = Pin<Box<dyn Future<Output = CallEnd<O>> + Send>>;

/// A call that ended: its number, its anchors, and what it returned and emitted; `Err` if it was dropped or panicked.
struct CallEnd<O: Output> {
    serial: u64,
    anchors: Vec<Anchor>,
    end: Result<(Result, Emitter<O>), CallFault>,
}

enum CallFault {
    TimedOut,
    Panicked(String),
}

/// One task of an async bolt.
#[doc(hidden)]
pub struct AsyncBoltTask<B: AsyncBolt> {
    component: Box<str>,
    bolt: Arc<B>,
    factory: Factory<B>,
    ports: <B::Output as Output>::Ports,
    /// For each stream, the tasks that a direct emit can name.
    receivers: Vec<Vec<TaskId>>,
    spare: Vec<Emitter<B::Output>>,
    calls: FuturesUnordered<Call<B::Output>>,
    /// Calls in flight: number, beginning, and how to drop them.
    since: Vec<(u64, u64, bool, AbortHandle, Vec<Root>)>,
    in_flight_tuples: usize,
    holds: Holds,
    clock: Arc<dyn Clock>,
    subscriptions: Arc<Vec<Subscribed<AsyncBoltTask<B>>>>,
    sources: Vec<Arc<Source>>,
}

/// Starts a call for each tuple, as many as may be in flight.
fn start<B: AsyncBolt, T: Tuple>(
    task: &mut AsyncBoltTask<B>,
    source: &Arc<Source>,
    from: TaskId,
    batch: &mut dyn AnyBatch,
    turn: &mut Turn<'_>,
) -> Ran
where
    B::Input: Accepts<T>,
{
    let Some(batch) = batch.as_any_mut().downcast_mut::<Batch<T>>() else {
        return Ran::Fatal(wrong_type::<T>());
    };
    let anchors = batch.anchors.clone();
    let now = task.clock.now_us();
    while task.calls.len() < task.in_flight_tuples {
        let Some(tuple) = batch.tuples.next() else { return Ran::Done };
        let at = batch.taken;
        batch.taken += 1;
        turn.tally.executed += 1;
        let mut arrival = Arrival { source, task: from, holds: &task.holds, anchors: anchors.of(at) };
        match B::Input::accept(tuple, &mut arrival) {
            Ok(input) => task.call(input, anchors.of(at), now),
            Err(error) => {
                let reason = FailReason::new(FailKind::Malformed, &task.component, error.to_string());
                turn.tally.failed += 1;
                turn.tally.error(&reason.message);
                turn.outbox.fail_all(anchors.of(at), &reason);
            }
        }
    }
    if batch.tuples.len() == 0 { Ran::Done } else { Ran::Full }
}

impl<B: AsyncBolt> AsyncBoltTask<B> {
    fn call(&mut self, input: B::Input, anchors: &[Anchor], now_us: u64) {
        let mut emitter = self
            .spare
            .pop()
            .unwrap_or_else(|| Emitter::new(B::Output::open(&mut Wires::detached(&self.receivers)), None));
        let bolt = self.bolt.clone();
        let (abort, registration) = AbortHandle::new_pair();
        let serial = self.since.last().map_or(0, |(serial, ..)| serial + 1);
        self.since.push((serial, now_us, false, abort, anchors.iter().map(|anchor| anchor.root).collect()));
        let anchors = anchors.to_vec();
        let work = async move {
            let result = bolt.execute(input, &mut emitter).await;
            (result, emitter)
        };
        let work = Abortable::new(AssertUnwindSafe(work).catch_unwind(), registration);
        self.calls.push(Box::pin(async move {
            let end = match work.await {
                Ok(Ok(returned)) => Ok(returned),
                Ok(Err(panic)) => Err(CallFault::Panicked(panic_text(&*panic))),
                Err(Aborted) => Err(CallFault::TimedOut),
            };
            CallEnd { serial, anchors, end }
        }));
    }

    /// Takes over what an ended call emitted; a panic or fatal error ends the bolt.
    fn settle(&mut self, call: CallEnd<B::Output>, turn: &mut Turn<'_>) -> Option<Ran> {
        self.since.retain(|(serial, ..)| *serial != call.serial);
        let fault = match call.end {
            Ok((result, mut emitter)) => {
                let mut staged = visit::TakeStaged::default();
                emitter.ports.visit(&mut staged);
                self.spare.push(emitter);
                self.ports.visit(&mut visit::PutStaged(staged.0));
                let Err(error) = result else {
                    turn.tally.acked += 1;
                    let mut children = visit::Children::default();
                    self.ports.visit(&mut children);
                    if children.0 == 0 {
                        turn.outbox.acks.extend(&call.anchors);
                    } else if call.anchors.is_empty() {
                        self.ports.visit(&mut visit::Untracked);
                    } else {
                        let edges = &mut turn.outbox.edges;
                        self.ports.visit(&mut visit::DivideMany { rest: call.anchors, children: children.0, edges });
                    }
                    return None;
                };
                poison(&mut self.ports, &call.anchors, &mut turn.outbox.edges);
                turn.tally.failed += 1;
                turn.tally.error(&error);
                turn.outbox.fail_all(&call.anchors, &failed_by(&self.component, &error));
                return (error.severity() == Severity::Fatal).then_some(Ran::Fatal(error));
            }
            Err(fault) => fault,
        };
        turn.tally.failed += 1;
        let (kind, text) = match &fault {
            CallFault::TimedOut => (FailKind::TimedOut, ""),
            CallFault::Panicked(text) => (FailKind::Panicked, text.as_str()),
        };
        turn.outbox.fail_all(&call.anchors, &FailReason::new(kind, &self.component, text));
        match fault {
            CallFault::TimedOut => None,
            CallFault::Panicked(text) => {
                turn.tally.error(format!("panicked: {text}"));
                Some(Ran::Panicked(text))
            }
        }
    }
}

impl<B: AsyncBolt> AnyBolt for AsyncBoltTask<B> {
    fn prepare(&mut self, context: &Context) -> Result {
        let Some(bolt) = Arc::get_mut(&mut self.bolt) else {
            return Err(Error::retry("calls of the bolt's last instance are still in flight"));
        };
        catch_unwind(AssertUnwindSafe(|| bolt.prepare(context)))
            .unwrap_or_else(|panic| Err(Error::retry(format!("panicked: {}", panic_text(&*panic)))))
    }

    fn restart(&mut self, reason: &FailReason, outbox: &mut Outbox) -> u64 {
        let failed = self.since.len() as u64;
        for (.., roots) in self.since.drain(..) {
            outbox.fails.extend(roots.into_iter().map(|root| (root, reason.clone())));
        }
        let old = std::mem::take(&mut self.calls);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        self.ports.visit(&mut visit::DropPulls { outbox, reason });
        let old = std::mem::replace(&mut self.bolt, Arc::new((self.factory)()));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        failed
    }

    fn admit(&self, subscription: usize, batch: Box<dyn AnyBatch>) -> Box<dyn AnyBatch> {
        admit(&self.subscriptions, subscription, batch)
    }

    fn execute(&mut self, subscription: usize, from: TaskId, batch: &mut dyn AnyBatch, turn: &mut Turn<'_>) -> Ran {
        let read = self.subscriptions[subscription].read;
        let source = self.sources[subscription].clone();
        read(self, &source, from, batch, turn)
    }

    fn poll_in_flight(&mut self, cx: &mut task::Context<'_>, turn: &mut Turn<'_>) -> InFlight {
        let mut ended = None;
        while ended.is_none() {
            match self.calls.poll_next_unpin(cx) {
                Poll::Ready(Some(call)) => ended = self.settle(call, turn),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        InFlight { calls: self.calls.len(), ended }
    }

    fn sweep(&mut self, timeout_us: Option<u64>, tell_after_us: u64, turn: &mut Turn<'_>) {
        let now = self.clock.now_us();
        for (_, since, told, abort, roots) in &mut self.since {
            let held_for = now.saturating_sub(*since);
            if timeout_us.is_some_and(|timeout| held_for > timeout) {
                abort.abort();
            } else if held_for > tell_after_us && !*told {
                *told = true;
                turn.outbox.held.extend(roots.iter());
            }
        }
    }

    fn tick(&mut self, _: &mut Turn<'_>) -> Ran {
        Ran::Done
    }

    fn finish(&mut self, _: &mut Turn<'_>) -> Ran {
        Ran::Done
    }

    fn cleanup(&mut self) {
        if let Some(bolt) = Arc::get_mut(&mut self.bolt) {
            let _ = catch_unwind(AssertUnwindSafe(|| bolt.cleanup()));
        }
    }

    fn pull(&mut self, turn: &mut Turn<'_>) -> Ran {
        pull_ports(&mut self.ports, &self.component, turn)
    }

    fn route(&mut self, turn: &mut Turn<'_>, flush: bool) {
        let route = &mut visit::RouteAll { outbox: turn.outbox, rooms: turn.rooms, flush };
        self.ports.visit(route);
    }

    fn holds_output(&mut self) -> bool {
        let mut count = visit::Count::default();
        self.ports.visit(&mut count);
        count.holds_tuples
    }

    fn stream_counts(&mut self) -> StreamCounts {
        let mut count = visit::Count::default();
        self.ports.visit(&mut count);
        count.streams
    }

    fn holds(&self) -> Option<&Holds> {
        None
    }

    fn in_flight(&self) -> usize {
        self.calls.len()
    }
}

// ---- spouts ----

pub(crate) struct SpoutNode<S: Spout> {
    pub(crate) factory: Factory<S>,
}

impl<S: Spout> Node for SpoutNode<S> {
    fn task(&self, parts: TaskParts<'_>) -> AnyTask {
        let TaskParts { mut wires, component, .. } = parts;
        AnyTask::Spout(Box::new(SpoutTask {
            component: component.into(),
            spout: (self.factory)(),
            factory: self.factory.clone(),
            ports: S::Output::open(&mut wires),
            by_slot: Vec::new(),
            lagging: Vec::new(),
            untracked: Vec::new(),
            refused: Vec::new(),
            pace: Pace::new(),
        }))
    }
}

struct SpoutTask<S: Spout> {
    component: Box<str>,
    spout: S,
    factory: Factory<S>,
    ports: <S::Output as Output>::Ports,
    /// The message id of each pending root, by its slot.
    by_slot: Vec<Option<S::MessageId>>,
    lagging: Vec<S::MessageId>,
    untracked: Vec<S::MessageId>,
    refused: Vec<S::MessageId>,
    pace: Pace,
}

impl<S: Spout> AnySpout for SpoutTask<S> {
    fn open(&mut self, context: &Context) -> Result {
        catch_unwind(AssertUnwindSafe(|| self.spout.open(context)))
            .unwrap_or_else(|panic| Err(Error::retry(format!("panicked: {}", panic_text(&*panic)))))
    }

    fn restart(&mut self) {
        let old = std::mem::replace(&mut self.spout, (self.factory)());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
    }

    fn next(&mut self, limit: usize, ledger: Option<&mut dyn OpenRoots>, turn: &mut Turn<'_>) -> Asked {
        self.pace.begin(turn.clock.now_us());
        let pending = Pending {
            lagging: &mut self.lagging,
            by_slot: &mut self.by_slot,
            untracked: &mut self.untracked,
            refused: &mut self.refused,
            // Reborrowed, as the object's lifetime inside an option does not shorten by itself.
            ledger: match ledger {
                Some(ledger) => Some(ledger),
                None => None,
            },
            edges: &mut turn.outbox.edges,
            emitted: 0,
        };
        let mut roots = Roots::<S::Output, S::MessageId> { ports: &mut self.ports, pending };
        let spout = &mut self.spout;
        let pace = &mut self.pace;
        let (clock, until_us) = (turn.clock, turn.until_us);
        let said = catch_unwind(AssertUnwindSafe(|| {
            loop {
                match spout.next(&mut roots) {
                    Ok(Next::Emitted) => {}
                    Ok(Next::Idle(pause)) => return Said::Idle(pause),
                    Ok(Next::Done) => return Said::Done,
                    Err(error) if error.severity() == Severity::Fatal => return Said::Fatal(error),
                    Err(error) => return Said::Failed(error),
                }
                let mut full = visit::Full::default();
                roots.ports.visit(&mut full);
                if full.0 || roots.emitted() >= limit || pace.is_past(clock, until_us) {
                    return Said::More;
                }
            }
        }));
        let said = said.unwrap_or_else(|panic| Said::Panicked(panic_text(&*panic)));
        roots.pending.open_lagging(roots.ports);
        roots.ports.visit(&mut visit::Untracked);
        let emitted = roots.pending.emitted;
        self.route(turn, false);
        Asked { roots: emitted, said: self.tell_at_once().err().map_or(said, |panic| Said::Panicked(panic.0)) }
    }

    fn ack(&mut self, slots: &[Slot]) -> Result<(), Panicked> {
        let SpoutTask { spout, by_slot, .. } = self;
        caught(|| {
            for slot in slots {
                if let Some(id) = by_slot.get_mut(slot.0 as usize).and_then(Option::take) {
                    spout.ack(id);
                }
            }
        })
    }

    fn fail(&mut self, slot: Slot, reason: &FailReason) -> Result<(), Panicked> {
        match self.by_slot.get_mut(slot.0 as usize).and_then(Option::take) {
            Some(id) => caught(|| self.spout.fail(id, reason)),
            None => Ok(()),
        }
    }

    fn set_active(&mut self, active: bool) -> Result<(), Panicked> {
        caught(|| if active { self.spout.activate() } else { self.spout.deactivate() })
    }

    fn close(&mut self) {
        let _ = caught(|| self.spout.close());
    }

    fn pull(&mut self, turn: &mut Turn<'_>) -> Ran {
        pull_ports(&mut self.ports, &self.component, turn)
    }

    fn route(&mut self, turn: &mut Turn<'_>, flush: bool) {
        let route = &mut visit::RouteAll { outbox: turn.outbox, rooms: turn.rooms, flush };
        self.ports.visit(route);
    }

    fn holds_output(&mut self) -> bool {
        let mut count = visit::Count::default();
        self.ports.visit(&mut count);
        count.holds_tuples
    }

    fn stream_counts(&mut self) -> StreamCounts {
        let mut count = visit::Count::default();
        self.ports.visit(&mut count);
        count.streams
    }
}

impl<S: Spout> SpoutTask<S> {
    /// Acks what is not tracked, and fails what found no slot.
    fn tell_at_once(&mut self) -> Result<(), Panicked> {
        if self.untracked.is_empty() && self.refused.is_empty() {
            return Ok(());
        }
        let SpoutTask { spout, untracked, refused, component, .. } = self;
        caught(|| {
            untracked.drain(..).for_each(|id| spout.ack(id));
            let reason = FailReason::new(
                FailKind::Failed,
                component,
                "one call of `next` emitted more roots than a spout may have pending",
            );
            refused.drain(..).for_each(|id| spout.fail(id, &reason));
        })
    }
}

fn caught(call: impl FnOnce()) -> Result<(), Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| Panicked(panic_text(&*panic)))
}
