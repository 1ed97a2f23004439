//! Spouts: where tuples come from, and who hears what became of them.
//!
//! Not here: the ledger of pending roots (the runtime's). Invariant: each message id given to `emit` comes back exactly
//! once, by `ack` or by `fail`, as long as the worker lives.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use mutations::Mutation;

use crate::anchor::{Anchor, EdgeIds, Root};
use crate::context::Context;
use crate::error::Result;
use crate::fail::FailReason;
use crate::output::{Output, Port, PortVisitor, Ports, visit};
use crate::tuple::Tuple;

/// A source of a topology.
///
/// One instance is one task; all its methods are called from one task at a time, in turn: none may block for long (a
/// source that must is declared `blocking` and gets a thread of its own).
///
/// ```
/// # extern crate topology_api as storm;
/// use storm::prelude::*;
///
/// #[tuple] struct Number { n: u64 }
///
/// /// Each number until `end`, and again those that fail.
/// struct Numbers { next: u64, end: u64, again: Vec<u64> }
/// impl Spout for Numbers {
///     type Output = Number;
///     type MessageId = u64;
///     fn next(&mut self, out: &mut Roots<Number, u64>) -> Result<Next> {
///         let n = match self.again.pop() {
///             Some(n) => n,
///             None if self.next == self.end => return Ok(Next::Done),
///             None => { self.next += 1; self.next - 1 }
///         };
///         out.emit(Number { n }, n);
///         Ok(Next::Emitted)
///     }
///     fn fail(&mut self, n: u64, _: &FailReason) { self.again.push(n); }
/// }
/// ```
pub trait Spout: Send + 'static {
    /// What it emits.
    type Output: Output;
    /// What it knows a root by. Kept in memory, never sent.
    type MessageId: Send + 'static;

    /// Called once, when the worker is ready and the topology is active for the first time.
    ///
    /// # Errors
    /// A retryable error has it called again on a new instance after a pause; a fatal one stops the component.
    fn open(&mut self, context: &Context) -> Result {
        let _ = context;
        Ok(())
    }

    /// Asked for the next tuples whenever there is room for them. Emits some and says [`Next::Emitted`], or says why not.
    ///
    /// # Errors
    /// A retryable error is reported, and it is asked again after a pause; a fatal one stops the component.
    fn next(&mut self, out: &mut Roots<'_, Self::Output, Self::MessageId>) -> Result<Next>;

    /// Everything that grew from this root is done.
    fn ack(&mut self, id: Self::MessageId) {
        let _ = id;
    }

    /// Something that grew from this root failed, for this reason; whether it is emitted again is for the spout to say.
    fn fail(&mut self, id: Self::MessageId, reason: &FailReason) {
        let _ = (id, reason);
    }

    /// The topology was activated: at first after `open`, and each time that follows a `deactivate`.
    fn activate(&mut self) {}

    /// The topology was deactivated: `next` is not called until it is activated, `ack` and `fail` are.
    fn deactivate(&mut self) {}

    /// Called when the topology stops in an orderly way, after the last `ack` and `fail`.
    fn close(&mut self) {}
}

/// What a spout says of its `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It emitted, and may be asked again at once.
    Emitted,
    /// There is nothing now; to be asked again after this time, or when an ack or fail has come, or when its
    /// [`Wake`](crate::context::Wake) was used.
    Idle(Duration),
    /// There will be nothing more, unless a fail comes: then it is asked again.
    Done,
}

/// What a spout emits through: roots of tuple trees, each with the id by which the spout knows it.
pub struct Roots<'a, O: Output, Id> {
    pub(crate) ports: &'a mut O::Ports,
    pub(crate) pending: Pending<'a, Id>,
}

/// Opens roots; the runtime's ledger, seen from here.
pub trait OpenRoots {
    /// Opens up to `count` roots, each with a fresh edge as its word, and appends their anchors; returns how many. Fewer
    /// than asked only if the ledger has no slot left.
    fn open(&mut self, count: usize, edges: &mut EdgeIds, anchors: &mut Vec<Anchor>) -> usize;

    /// Opens one root whose word follows by [`OpenRoots::set_word`]; `None` if the ledger has no slot left.
    fn open_one(&mut self) -> Option<Root>;

    /// Sets the word of a root opened by [`OpenRoots::open_one`]; zero completes it.
    fn set_word(&mut self, root: Root, word: u64);
}

/// Roots that a call of `next` opens.
pub(crate) struct Pending<'a, Id> {
    /// Ids of staged tuples that have no root yet, in the order of staging.
    pub(crate) lagging: &'a mut Vec<Id>,
    /// Ids by slot.
    pub(crate) by_slot: &'a mut Vec<Option<Id>>,
    /// Ids whose roots need no ledger, as nothing is tracked; and those that found no slot.
    pub(crate) untracked: &'a mut Vec<Id>,
    pub(crate) refused: &'a mut Vec<Id>,
    /// `None` if tracking is off.
    pub(crate) ledger: Option<&'a mut dyn OpenRoots>,
    pub(crate) edges: &'a mut EdgeIds,
    pub(crate) emitted: usize,
}

impl<T: Tuple + Output<Ports = Port<T>>, Id> Roots<'_, T, Id> {
    /// Emits a tuple as the root of a new tree; `id` comes back by `ack` or `fail`.
    #[inline]
    pub fn emit(&mut self, tuple: T, id: Id) {
        self.ports.emit(tuple);
        self.pending.lagging.push(id);
    }

    /// Emits a tuple that nobody tracks.
    #[inline]
    pub fn emit_untracked(&mut self, tuple: T) {
        self.pending.open_lagging(self.ports);
        self.ports.emit(tuple);
        self.ports.mark_untracked();
    }
}

impl<'a, O: Output, Id> Roots<'a, O, Id> {
    /// The ports, for one or more tuples, on one or more streams, that are together the root of one tree.
    pub fn root(&mut self, id: Id) -> RootEmitter<'_, 'a, O, Id> {
        self.pending.open_lagging(self.ports);
        RootEmitter { roots: self, id: Some(id) }
    }

    /// The ports, for tuples that nobody tracks.
    pub fn untracked(&mut self) -> RootEmitter<'_, 'a, O, Id> {
        self.pending.open_lagging(self.ports);
        RootEmitter { roots: self, id: None }
    }

    /// How many roots this call has emitted so far.
    pub fn emitted(&self) -> usize {
        self.pending.emitted + self.pending.lagging.len()
    }
}

/// Ports whose tuples belong to one new root, or to none.
pub struct RootEmitter<'r, 'a, O: Output, Id> {
    roots: &'r mut Roots<'a, O, Id>,
    id: Option<Id>,
}

impl<O: Output, Id> Deref for RootEmitter<'_, '_, O, Id> {
    type Target = O::Ports;

    fn deref(&self) -> &O::Ports {
        self.roots.ports
    }
}

impl<O: Output, Id> DerefMut for RootEmitter<'_, '_, O, Id> {
    fn deref_mut(&mut self) -> &mut O::Ports {
        self.roots.ports
    }
}

impl<O: Output, Id> Drop for RootEmitter<'_, '_, O, Id> {
    fn drop(&mut self) {
        let Roots { ports, pending } = &mut *self.roots;
        let Some(id) = self.id.take() else {
            ports.visit(&mut visit::Untracked);
            return;
        };
        pending.emitted += 1;
        let Some(ledger) = pending.ledger.as_deref_mut() else {
            ports.visit(&mut visit::Untracked);
            pending.untracked.push(id);
            return;
        };
        let Some(root) = ledger.open_one() else {
            ports.visit(&mut visit::Untracked);
            pending.refused.push(id);
            return;
        };
        let mut taken = [0];
        ports.visit(&mut visit::TakeShares { roots: &[root], taken: &mut taken, edges: pending.edges });
        keep(pending.by_slot, root, id);
        let last = pending.edges.last().0;
        if mutations::on(Mutation::EdgeByEdge) && ![0, last].contains(&taken[0]) {
            ledger.set_word(root, last);
            taken[0] ^= last;
        }
        ledger.set_word(root, taken[0]);
    }
}

fn keep<Id>(by_slot: &mut Vec<Option<Id>>, root: Root, id: Id) {
    let slot = root.slot().0 as usize;
    if slot >= by_slot.len() {
        by_slot.resize_with(slot + 1, || None);
    }
    by_slot[slot] = Some(id);
}

impl<Id> Pending<'_, Id> {
    /// Opens roots for the tuples that `emit` staged.
    pub(crate) fn open_lagging<P: Ports>(&mut self, ports: &mut P) {
        if !self.lagging.is_empty() {
            ports.visit(self);
        }
    }
}

impl<Id> PortVisitor for Pending<'_, Id> {
    /// Only a component with a single port has lagging tuples, all of them in that port.
    fn port<T: Tuple>(&mut self, port: &mut Port<T>) {
        self.emitted += self.lagging.len();
        let Some(ledger) = self.ledger.as_deref_mut() else {
            port.visit(&mut visit::Untracked);
            self.untracked.append(self.lagging);
            return;
        };
        let anchors = port.lagging_anchors();
        let first = anchors.len();
        let opened = ledger.open(self.lagging.len(), self.edges, anchors);
        let mut ids = self.lagging.drain(..);
        for anchor in &anchors[first..first + opened] {
            if let Some(id) = ids.next() {
                keep(self.by_slot, anchor.root, id);
            }
        }
        self.refused.extend(ids);
        port.visit(&mut visit::Untracked);
    }
}
