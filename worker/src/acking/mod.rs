//! How a spout task learns the end of each tuple tree: its ledger, and what it keeps about the roots in it.
//!
//! Each spout task owns a [`Ledger`]: a slab of slots, one for each pending root. A slot holds the XOR of the edges of all
//! tuples of that root which are still under way. The protocol:
//!
//! - **Opening.** The spout task writes the XOR of all edges of an emit into a free slot before anybody sees the first of
//!   them ([`Pending::open`]). An emit that reaches no task is complete at once.
//! - **Dividing.** A bolt that executes a tuple divides the tuple's edge over what it emits: random edges, and one that
//!   makes all of them XOR to the input's. Routing to several targets divides further. So the word needs no update on the
//!   way: only a tuple without children, a leaf, settles its edge, by one XOR in the ledger ([`Ledger::settle`]), or by
//!   a record that travels to the ledger's worker ([`AckRecord`], [`Ledger::settle_remote`]). A tuple of several roots
//!   has an own edge for each.
//! - **Failing.** A fail is a message ([`Ledger::fail`]), never an XOR: its edge stays open. Children that a failing bolt
//!   has already emitted get a wrong share, so no order of their acks can close the balance before the fail is there.
//! - **Crossing.** Who sends a tuple to another worker first marks that worker at the root's slot: directly in the
//!   ledger's own worker ([`Ledger::touch`]), else by the next record to it. When a worker's incarnation is gone for good,
//!   the pending roots that have its mark fail ([`Ledger::lost`]).
//! - **Ending.** All of these only tell the owner. The owner alone ends a root ([`Pending::take`]): the first of
//!   failed, completed, lost and stalled wins (in this order for what comes in one turn) and raises the slot's generation;
//!   what still comes for the old generation is dropped and counted. An ack that compared the generation just before can only make the slot's next root look
//!   unfinished, never finished; [`Pending::audit`] finds such a root.
//!
//! [`Window`] decides how many roots may be pending at once.
//!
//! Not here: where anchors travel (`transfer`), how a bolt's emitter divides edges, message ids (they lie beside the slots,
//! in the spout's executor). Invariant: a root ends exactly once, and as acked only if all its edges were acked.

mod ledger;
#[cfg(all(test, loom))]
mod loom_ledger;
mod pending;
#[cfg(all(test, not(loom)))]
mod trees;
mod window;
mod word;

pub use ledger::{AckRecord, Ledger, Outcomes, StaleCounts, worker_bits};
pub use pending::{Acked, Ended, Failed, Pending, PendingCounts};
pub use window::{Interval, LimitedBy, Window};

/// The atomics of a ledger: those of loom where its model runs, else the standard ones.
mod atomic {
    #[cfg(loom)]
    pub(super) use loom::sync::Mutex;
    #[cfg(loom)]
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
    #[cfg(not(loom))]
    pub(super) use std::sync::Mutex;
    #[cfg(not(loom))]
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
}
