//! Bolts: what takes tuples, does something, and may emit others; and what they take them as.
//!
//! Not here: how a batch is run through a bolt (`component`). Invariant: an input is either acked by the return of
//! `execute`, or owned by a [`Tracked`] that acks, fails, or fails by being dropped.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use mutations::Mutation;

use crate::anchor::{Anchor, EdgeIds, Root};
use crate::context::Context;
use crate::error::Result;
use crate::fail::{FailKind, FailReason};
use crate::holds::{Grip, Holds};
use crate::ids::TaskId;
use crate::output::{Output, Port, Ports, visit};
use crate::tuple::{ConvertError, Text, Tuple, Value, Values};

/// A step of a topology.
///
/// One instance is one task; the runtime makes it by the factory that the builder got, in the worker where it runs. All
/// methods of an instance are called from one task at a time. After a panic a new instance takes its place.
///
/// ```
/// # extern crate topology_api as storm;
/// use storm::prelude::*;
///
/// #[tuple] struct Line { text: Text }
/// #[tuple] struct Word { word: Text }
///
/// struct Split;
/// impl Bolt for Split {
///     type Input = Line;
///     type Output = Word;
///     fn execute(&mut self, line: Line, out: &mut Emitter<Word>) -> Result<()> {
///         for word in line.text.split_whitespace() {
///             out.emit(Word { word: word.into() });
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Bolt: Send + 'static {
    /// What it takes: a `#[tuple]` type, an enum of several with `#[derive(Input)]`, [`Values`], [`DynamicTuple`], or
    /// [`Tracked`] of one of these.
    type Input: Input;
    /// What it emits; `()` for nothing.
    type Output: Output;

    /// Called once before the first tuple.
    ///
    /// # Errors
    /// A retryable error has it called again on a new instance after a pause; a fatal one stops the component.
    fn prepare(&mut self, context: &Context) -> Result {
        let _ = context;
        Ok(())
    }

    /// Called for each tuple. What it emits is anchored to the input; `Ok` acks it, `Err` fails it, so that its spout may
    /// replay it. With a [`Tracked`] input the bolt does all three itself.
    ///
    /// # Errors
    /// A retryable error fails the tuple; a fatal one stops the component too.
    fn execute(&mut self, input: Self::Input, out: &mut Emitter<Self::Output, <Self::Input as Input>::Mode>) -> Result;

    /// Called at the interval that the builder was given with `tick_every` (Storm's tick tuples), between two tuples.
    /// What it emits belongs to no tree unless it is anchored to a held [`Tracked`].
    ///
    /// # Errors
    /// Reported; a fatal error stops the component.
    fn tick(&mut self, out: &mut Emitter<Self::Output, <Self::Input as Input>::Mode>) -> Result {
        let _ = out;
        Ok(())
    }

    /// Called when everything upstream has ended and nothing is pending: the last chance to emit.
    ///
    /// # Errors
    /// Reported; a bounded run then ends with this error.
    fn finish(&mut self, out: &mut Emitter<Self::Output, <Self::Input as Input>::Mode>) -> Result {
        let _ = out;
        Ok(())
    }

    /// Called when the topology stops in an orderly way; not after a kill, a panic or a lost machine.
    fn cleanup(&mut self) {}
}

/// A bolt that awaits: up to a given number of tuples are in flight at once in one task.
///
/// ```
/// # extern crate topology_api as storm;
/// use storm::prelude::*;
///
/// #[tuple] struct Order { id: u64 }
/// struct Lookup;
/// impl AsyncBolt for Lookup {
///     type Input = Order;
///     type Output = Order;
///     async fn execute(&self, order: Order, out: &mut Emitter<Order>) -> Result<()> {
///         std::future::ready(()).await; // ask a service
///         out.emit(order);
///         Ok(())
///     }
/// }
/// ```
pub trait AsyncBolt: Send + Sync + 'static {
    /// As for [`Bolt`]; not [`Tracked`], as the call itself holds its input until it returns.
    type Input: Input<Mode = Auto>;
    /// What it emits; it leaves when the call has returned.
    type Output: Output;

    /// Called once before the first tuple.
    ///
    /// # Errors
    /// As [`Bolt::prepare`].
    fn prepare(&mut self, context: &Context) -> Result {
        let _ = context;
        Ok(())
    }

    /// Called for each tuple. A call that holds its input longer than the message time-out is dropped at its next await.
    ///
    /// # Errors
    /// As [`Bolt::execute`].
    fn execute(&self, input: Self::Input, out: &mut Emitter<Self::Output>) -> impl Future<Output = Result> + Send;

    /// As [`Bolt::cleanup`].
    fn cleanup(&mut self) {}
}

/// What a bolt can take.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a bolt's input",
    label = "not something that a bolt takes",
    note = "an input is a struct with #[tuple], an enum of such structs with #[derive(Input)], `Values`, `DynamicTuple`, or `Tracked<…>` of one of these"
)]
pub trait Input: Sized + Send + 'static {
    /// Who acks: the return of `execute` ([`Auto`]) or the bolt itself ([`Manual`]).
    type Mode: Mode;
}

/// An input that a stream of `T` can be turned into: what makes a subscription type-check.
#[diagnostic::on_unimplemented(
    message = "this bolt takes `{Self}`, but the stream carries `{T}`",
    label = "this stream carries `{T}`",
    note = "subscribe to a stream of `{Self}`, or make the bolt's `Input` an enum with a variant for `{T}` and #[derive(Input)]"
)]
pub trait Accepts<T>: Input {
    /// Makes the input.
    ///
    /// # Errors
    /// If a dynamic tuple has not the fields or types that the input needs; its root fails then.
    fn accept(tuple: T, arrival: &mut Arrival<'_>) -> Result<Self, ConvertError>;
}

/// How inputs are acked: [`Auto`] or [`Manual`].
pub trait Mode: sealed::Sealed + Send + 'static {
    /// Whether the return of `execute` acks.
    const ACKS_BY_RETURN: bool;
}

/// The return of `execute` acks or fails the input, and what was emitted is anchored to it.
#[derive(Debug)]
pub struct Auto;

/// The bolt acks, fails and anchors by its [`Tracked`] inputs.
#[derive(Debug)]
pub struct Manual;

impl Mode for Auto {
    const ACKS_BY_RETURN: bool = true;
}

impl Mode for Manual {
    const ACKS_BY_RETURN: bool = false;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Auto {}
    impl Sealed for super::Manual {}
}

/// Emitting without saying what it is anchored to: in [`Auto`] mode only.
#[diagnostic::on_unimplemented(
    message = "a bolt that takes `Tracked` says what it anchors to",
    label = "emit through `out.anchor(&input)`, or `out.unanchored()` for a tuple of no tree"
)]
pub trait AnchorsItself: Mode {}

impl AnchorsItself for Auto {}

/// The arrival of a tuple: where it comes from. Made by the runtime for each.
pub struct Arrival<'a> {
    pub(crate) source: &'a Arc<Source>,
    pub(crate) task: TaskId,
    pub(crate) holds: &'a Holds,
    pub(crate) anchors: &'a [Anchor],
}

/// The stream that a tuple came by.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The emitting component.
    pub component: String,
    /// Its stream.
    pub stream: String,
    /// The stream's fields.
    pub fields: Vec<String>,
}

impl Input for Values {
    type Mode = Auto;
}

impl<T: Tuple> Accepts<T> for Values {
    fn accept(tuple: T, _: &mut Arrival<'_>) -> Result<Self, ConvertError> {
        Ok(tuple.into_values())
    }
}

/// A tuple of any stream, with the names of its fields and where it came from.
#[derive(Clone, Debug)]
pub struct DynamicTuple {
    /// The values, in the order of the stream's fields.
    pub values: Values,
    /// The stream.
    pub source: Arc<Source>,
    /// The emitting task.
    pub task: TaskId,
}

impl DynamicTuple {
    /// The value of a field; `None` if the stream has no such field.
    pub fn get(&self, field: &str) -> Option<&Value> {
        let index = self.source.fields.iter().position(|name| name == field)?;
        self.values.get(index)
    }

    /// The text of a field; `None` if there is no such field or it holds something else.
    pub fn text(&self, field: &str) -> Option<&Text> {
        match self.get(field)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Input for DynamicTuple {
    type Mode = Auto;
}

impl<T: Tuple> Accepts<T> for DynamicTuple {
    fn accept(tuple: T, arrival: &mut Arrival<'_>) -> Result<Self, ConvertError> {
        Ok(DynamicTuple { values: tuple.into_values(), source: arrival.source.clone(), task: arrival.task })
    }
}

/// An input that the bolt owns until it acks or fails it; dropped without either, it fails at once.
///
/// It may be kept across calls and moved to other threads. Held longer than the message time-out, its root fails, unless
/// [`keep_alive`](Tracked::keep_alive) was called.
pub struct Tracked<I> {
    input: I,
    grip: Grip,
}

impl<I> Tracked<I> {
    /// This branch of the tree is done; what was anchored to it lives on.
    pub fn ack(self) {
        self.into_parts().1.ack();
    }

    /// Fails the root: its spout hears the reason at once.
    pub fn fail(self, reason: impl fmt::Display) {
        self.into_parts().1.fail(FailKind::Failed, reason.to_string());
    }

    /// Starts the message time-out anew (Storm's `resetTimeout`).
    pub fn keep_alive(&self) {
        self.grip.keep_alive();
    }

    /// Acks, and gives the input.
    pub fn into_inner(self) -> I {
        let (input, grip) = self.into_parts();
        grip.ack();
        input
    }

    /// The input, and apart from it what acks, fails and is anchored to: for an input that is taken to pieces and kept.
    ///
    /// ```
    /// # extern crate topology_api as storm;
    /// # use std::collections::BTreeMap;
    /// # use storm::prelude::*;
    /// #[tuple] struct Order { id: u64 }
    /// #[tuple] struct Payment { order: u64 }
    /// #[derive(Input)] enum Event { Order(Order), Payment(Payment) }
    ///
    /// #[derive(Default)] struct Join { orders: BTreeMap<u64, (Order, Tracked<()>)> }
    /// impl Bolt for Join {
    ///     type Input = Tracked<Event>;
    ///     type Output = Order;
    ///     fn execute(&mut self, event: Tracked<Event>, out: &mut Emitter<Order, Manual>) -> Result {
    ///         let (event, hold) = event.split();
    ///         match event {
    ///             Event::Order(order) => { self.orders.insert(order.id, (order, hold)); }
    ///             Event::Payment(payment) => if let Some((order, order_hold)) = self.orders.remove(&payment.order) {
    ///                 out.anchor([&order_hold, &hold]).emit(order);
    ///                 order_hold.ack();
    ///                 hold.ack();
    ///             },
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn split(self) -> (I, Tracked<()>) {
        let (input, grip) = self.into_parts();
        (input, Tracked { input: (), grip })
    }

    fn into_parts(self) -> (I, Grip) {
        (self.input, self.grip)
    }
}

impl<I> Deref for Tracked<I> {
    type Target = I;

    fn deref(&self) -> &I {
        &self.input
    }
}

impl<I> DerefMut for Tracked<I> {
    fn deref_mut(&mut self) -> &mut I {
        &mut self.input
    }
}

impl<I: fmt::Debug> fmt::Debug for Tracked<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracked").field(&self.input).finish()
    }
}

impl<I: Input> Input for Tracked<I> {
    type Mode = Manual;
}

impl<T, I: Accepts<T>> Accepts<T> for Tracked<I> {
    fn accept(tuple: T, arrival: &mut Arrival<'_>) -> Result<Self, ConvertError> {
        let input = I::accept(tuple, arrival)?;
        Ok(Tracked { input, grip: arrival.holds.take(arrival.anchors) })
    }
}

/// What a bolt emits through; derefs to its ports where the return of `execute` acks.
pub struct Emitter<O: Output, M: Mode = Auto> {
    pub(crate) ports: O::Ports,
    /// Where anchored emitting draws edges; in [`Auto`] mode the executor divides the input's edge afterwards.
    pub(crate) edges: Option<EdgeIds>,
    mode: PhantomData<fn() -> M>,
}

impl<O: Output, M: Mode> Emitter<O, M> {
    pub(crate) fn new(ports: O::Ports, edges: Option<EdgeIds>) -> Self {
        Emitter { ports, edges, mode: PhantomData }
    }
}

impl<T: Tuple + Output<Ports = Port<T>>, M: AnchorsItself> Emitter<T, M> {
    /// Emits a tuple, anchored to the input. It is on its way when `execute` returns.
    #[inline]
    pub fn emit(&mut self, tuple: T) {
        self.ports.emit(tuple);
    }
}

impl<O: Output> Deref for Emitter<O, Auto> {
    type Target = O::Ports;

    fn deref(&self) -> &O::Ports {
        &self.ports
    }
}

impl<O: Output> DerefMut for Emitter<O, Auto> {
    fn deref_mut(&mut self) -> &mut O::Ports {
        &mut self.ports
    }
}

impl<O: Output> Emitter<O, Manual> {
    /// The ports, anchored to these inputs: `out.anchor(&input).emit(x)`, `out.anchor([&a, &b]).paid.emit(x)`.
    pub fn anchor<'a>(&'a mut self, anchors: impl Anchorable + 'a) -> Anchored<'a, O> {
        let mut grips = Vec::new();
        let mut shares = Vec::new();
        anchors.each(&mut |grip| {
            for (index, root) in grip.roots().enumerate() {
                // An anchor given twice would cancel itself; one root of two anchors needs one share from one of them.
                if !shares.contains(&root) || mutations::on(Mutation::OneEdgeForBothParents) {
                    shares.push(root);
                    grips.push((grip.clone_reference(), index));
                }
            }
        });
        Anchored { emitter: self, roots: shares, grips }
    }

    /// The ports, for tuples of no tree.
    pub fn unanchored(&mut self) -> Anchored<'_, O> {
        Anchored { emitter: self, roots: Vec::new(), grips: Vec::new() }
    }
}

/// What a tuple can be anchored to: one [`Tracked`], or a list of them.
pub trait Anchorable {
    /// Shows each.
    #[doc(hidden)]
    fn each(&self, show: &mut dyn FnMut(&Grip));
}

impl<I> Anchorable for &Tracked<I> {
    fn each(&self, show: &mut dyn FnMut(&Grip)) {
        show(&self.grip);
    }
}

impl<I, const N: usize> Anchorable for [&Tracked<I>; N] {
    fn each(&self, show: &mut dyn FnMut(&Grip)) {
        self.iter().for_each(|tracked| show(&tracked.grip));
    }
}

impl<I> Anchorable for &[Tracked<I>] {
    fn each(&self, show: &mut dyn FnMut(&Grip)) {
        self.iter().for_each(|tracked| show(&tracked.grip));
    }
}

impl<I> Anchorable for &Vec<Tracked<I>> {
    fn each(&self, show: &mut dyn FnMut(&Grip)) {
        self.iter().for_each(|tracked| show(&tracked.grip));
    }
}

impl<A, B> Anchorable for (&Tracked<A>, &Tracked<B>) {
    fn each(&self, show: &mut dyn FnMut(&Grip)) {
        show(&self.0.grip);
        show(&self.1.grip);
    }
}

/// Ports anchored to given inputs; what is emitted through it belongs to all of their trees.
pub struct Anchored<'a, O: Output> {
    emitter: &'a mut Emitter<O, Manual>,
    roots: Vec<Root>,
    grips: Vec<(Grip, usize)>,
}

impl<O: Output> Deref for Anchored<'_, O> {
    type Target = O::Ports;

    fn deref(&self) -> &O::Ports {
        &self.emitter.ports
    }
}

impl<O: Output> DerefMut for Anchored<'_, O> {
    fn deref_mut(&mut self) -> &mut O::Ports {
        &mut self.emitter.ports
    }
}

impl<O: Output> Drop for Anchored<'_, O> {
    fn drop(&mut self) {
        if self.roots.is_empty() {
            self.emitter.ports.visit(&mut visit::Untracked);
            return;
        }
        let mut taken = vec![0; self.roots.len()];
        let Some(edges) = &mut self.emitter.edges else { return };
        self.emitter.ports.visit(&mut visit::TakeShares { roots: &self.roots, taken: &mut taken, edges });
        for ((grip, index), taken) in self.grips.iter().zip(taken) {
            grip.take_off(*index, taken);
        }
    }
}

/// The reason of a root that failed by an error of `component`.
pub(crate) fn failed_by(component: &str, error: &crate::error::Error) -> FailReason {
    FailReason::new(FailKind::Failed, component, error.to_string())
}
