//! How the runtime runs a component without knowing its types: batch by batch, behind one virtual call each.
//!
//! Not here: when it is run and where its output goes (the runtime). Invariant: whatever way a call ends (return, error,
//! panic), each tuple taken from its batch is acked, failed, or held by someone who will; a failed one's children get a
//! wrong share of its edge, so that no ack of theirs can complete the root.

mod async_bolt;
mod bolt;
mod output;
mod spout;

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task;
use std::time::Duration;

use crate::anchor::Slot;
use crate::batch::AnyBatch;
use crate::bolt::{Accepts, AsyncBolt, Bolt, Input, Source};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::fail::FailReason;
use crate::holds::Holds;
use crate::ids::TaskId;
use crate::output::{Outbox, Output, Rooms, Wires};
use crate::spout::OpenRoots;
use crate::tuple::Tuple;

pub(crate) use async_bolt::AsyncBoltNode;
pub(crate) use bolt::BoltNode;
pub use output::{AnyOutput, StreamCounts};
pub(crate) use spout::SpoutNode;

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
    /// When it began: about now, without asking the clock.
    pub began_us: u64,
    /// When to leave the rest of a batch for later.
    pub until_us: u64,
    /// What was counted.
    pub tally: &'a mut Tally,
    /// The component's name.
    pub component: &'a str,
}

/// Exact counts of one turn, and the errors of user code in it.
#[derive(Default, Debug)]
pub struct Tally {
    /// Tuples given to `execute`.
    pub executed: u64,
    /// Inputs acked by the return of `execute`.
    pub acked: u64,
    /// Inputs failed by it.
    pub failed: u64,
    /// Inputs acked or failed otherwise.
    pub settled: Vec<SettledInput>,
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

/// An input that was acked or failed not by the return of a sync `execute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledInput {
    /// The subscription that it came by.
    pub subscription: usize,
    /// Acked, or failed.
    pub acked: bool,
    /// Time since its call began, in microseconds, without what the executor waited for room.
    pub took_us: u64,
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

/// One task of a bolt.
pub trait AnyBolt: Send {
    /// Calls `prepare`.
    ///
    /// # Errors
    /// The bolt's; a panic is one too.
    fn prepare(&mut self, context: &Context) -> Result;

    /// A new instance by the factory; what the old one holds fails for this reason.
    fn restart(&mut self, reason: &FailReason, turn: &mut Turn<'_>);

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

    /// What it emits through.
    fn output(&mut self) -> &mut dyn AnyOutput;

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

    /// Tells the spout that these roots are acked, and takes them off the list; after a panic the rest is still there.
    fn ack(&mut self, slots: &mut VecDeque<Slot>) -> Result<(), Panicked>;

    /// Tells the spout that this root failed.
    fn fail(&mut self, slot: Slot, reason: &FailReason) -> Result<(), Panicked>;

    /// Calls `activate` or `deactivate`.
    fn set_active(&mut self, active: bool) -> Result<(), Panicked>;

    /// Calls `close`.
    fn close(&mut self);

    /// What it emits through.
    fn output(&mut self) -> &mut dyn AnyOutput;
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
/// The clock is read at least every so many tuples: once a batch, when calls are short.
const MOST_TUPLES_UNTIMED: u32 = 256;

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
            // At once as short as the calls have become long.
            self.stride = (u64::from(self.stride) * 20 / took).max(1) as u32;
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

fn caught(call: impl FnOnce()) -> Result<(), Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| Panicked(panic_text(&*panic)))
}

pub(crate) type Factory<B> = Arc<dyn Fn() -> B + Send + Sync>;

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
    type Task = bolt::BoltTask<B>;

    #[allow(private_interfaces, reason = "sealed: only the two kinds of this module exist")]
    fn reader<T: Tuple>() -> Reader<bolt::BoltTask<B>>
    where
        B::Input: Accepts<T>,
    {
        bolt::run::<B, T>
    }
}

impl<B: AsyncBolt> BoltKind for OfAsyncBolt<B> {
    type Input = B::Input;
    type Output = B::Output;
    type Task = async_bolt::AsyncBoltTask<B>;

    #[allow(private_interfaces, reason = "sealed: only the two kinds of this module exist")]
    fn reader<T: Tuple>() -> Reader<async_bolt::AsyncBoltTask<B>>
    where
        B::Input: Accepts<T>,
    {
        async_bolt::start::<B, T>
    }
}

/// Makes a batch what a subscription reads.
fn admit<N>(subscriptions: &[Subscribed<N>], subscription: usize, batch: Box<dyn AnyBatch>) -> Box<dyn AnyBatch> {
    if subscriptions[subscription].as_values { batch.into_values() } else { batch }
}

fn wrong_type<T: Tuple>() -> Error {
    Error::fatal(format!("a batch of something else than `{}` arrived on its stream", T::NAME))
}
