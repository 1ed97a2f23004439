//! Real bugs, to be switched on by the tests that must find them: what proves that the simulation's oracle sees.
//!
//! Where a bug would stand, the code asks [`on`]. Without the feature `switch`, which only tests set, the answer is a
//! constant and the compiler removes the bug.
//!
//! Not here: the table of how soon each is found (`simulation`). Invariant: at most one is on, in one thread.
#![forbid(unsafe_code)]

/// A bug that somebody had, or that this design forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// A completed root is found by its slot alone: its generation is not looked at.
    CompletionByIndexAlone,
    /// A child of two parents carries one edge id for both, which cancels in a diamond.
    OneEdgeForBothParents,
    /// The edges of an emit go into the ledger one by one, while others see the first of them already.
    EdgeByEdge,
    /// Acks for another worker are merged by slot, not by slot and generation.
    MergedBySlotAlone,
    /// A fail is XORed into the word as an ack is.
    FailAsXor,
    /// An ack is XORed twice.
    DoubleXor,
    /// A fail for another worker's ledger is dropped.
    LostFail,
    /// A grant of permits is an increment instead of a total: one that comes twice counts twice, and one that is lost is
    /// lost. On a link nothing is lost but what a later grant replaces while it waits to be written.
    GrantAsIncrement,
    /// Acks wait for credit as data does.
    AckWaitsForCredit,
    /// Frames that were not confirmed are not sent again after a reconnect.
    FramesNotResent,
    /// What comes on a connection that another has replaced is still taken.
    StaleConnectionKept,
    /// A worker counts as alive while its statistics change, not while it is heard.
    LivenessByStatistics,
    /// A machine's grace counts from the start of Nimbus, not from when it began to listen.
    GraceFromProcessStart,
    /// A change that comes while the records are read is not read again.
    WatchMissed,
    /// A plan that is older than the one that is followed is taken.
    OldPlanAccepted,
    /// A leader writes without checking its guard.
    UnguardedLeaderWrite,
    /// A worker is started although its slot is held.
    WorkerStartedTwice,
    /// A blob that a submission has pinned is dropped because no topology uses it yet.
    PinnedBlobDropped,
    /// Spouts are asked before all workers are ready.
    SpoutsActivatedTooEarly,
    /// A rebalance or kill goes on before what is pending has drained.
    DrainCutShort,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 20] = [
        Mutation::CompletionByIndexAlone,
        Mutation::OneEdgeForBothParents,
        Mutation::EdgeByEdge,
        Mutation::MergedBySlotAlone,
        Mutation::FailAsXor,
        Mutation::DoubleXor,
        Mutation::LostFail,
        Mutation::GrantAsIncrement,
        Mutation::AckWaitsForCredit,
        Mutation::FramesNotResent,
        Mutation::StaleConnectionKept,
        Mutation::LivenessByStatistics,
        Mutation::GraceFromProcessStart,
        Mutation::WatchMissed,
        Mutation::OldPlanAccepted,
        Mutation::UnguardedLeaderWrite,
        Mutation::WorkerStartedTwice,
        Mutation::PinnedBlobDropped,
        Mutation::SpoutsActivatedTooEarly,
        Mutation::DrainCutShort,
    ];
}

#[cfg(feature = "switch")]
std::thread_local! {
    static ON: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is on, in this thread.
#[cfg(feature = "switch")]
pub fn on(mutation: Mutation) -> bool {
    ON.get() == Some(mutation)
}

/// Whether this bug is on: never, without the feature `switch`.
#[cfg(not(feature = "switch"))]
#[inline(always)]
pub const fn on(_mutation: Mutation) -> bool {
    false
}

/// Has this bug, or none, on in this thread from now on.
#[cfg(feature = "switch")]
pub fn switch(mutation: Option<Mutation>) {
    ON.set(mutation);
}
