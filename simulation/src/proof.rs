//! That the oracle sees: within how many seeds of whole clusters each bug that can be switched on is found.
//!
//! Not here: the bugs (`mutations`). Invariant: the bounds hold for seeds from 1 on, each of [`LENGTH`].

use std::time::Duration;

use mutations::Mutation;

#[cfg(feature = "mutations")]
use crate::oracle::Violation;

/// How long things go wrong in each seed on the virtual clock, before it has its time to settle.
pub const LENGTH: Duration = Duration::from_secs(120);

/// Within how many seeds each bug is found: three times as many as were needed when this was measured.
pub const WITHIN: [(Mutation, u64); 20] = [
    (Mutation::CompletionByIndexAlone, 3),
    (Mutation::OneEdgeForBothParents, 12),
    (Mutation::EdgeByEdge, 9),
    (Mutation::MergedBySlotAlone, 3),
    (Mutation::FailAsXor, 3),
    (Mutation::DoubleXor, 3),
    (Mutation::LostFail, 3),
    (Mutation::GrantAsIncrement, 9),
    (Mutation::AckWaitsForCredit, 3),
    (Mutation::FramesNotResent, 57),
    (Mutation::StaleConnectionKept, 90),
    (Mutation::LivenessByStatistics, 3),
    (Mutation::GraceFromProcessStart, 3),
    (Mutation::WatchMissed, 141),
    (Mutation::OldPlanAccepted, 90),
    (Mutation::UnguardedLeaderWrite, 3),
    (Mutation::WorkerStartedTwice, 3),
    (Mutation::PinnedBlobDropped, 6),
    (Mutation::SpoutsActivatedTooEarly, 24),
    (Mutation::DrainCutShort, 15),
];

/// The first of these seeds that finds a bug, and what it says; `None` if none does.
///
/// # Panics
/// If there is a runtime in this thread already.
#[cfg(feature = "mutations")]
pub fn found(mutation: Mutation, seeds: std::ops::Range<u64>) -> Option<(u64, Violation)> {
    let mut seeds = seeds;
    seeds.find_map(|seed| {
        mutations::switch(Some(mutation));
        let outcome = crate::run::run(&crate::run::Config::of(seed, LENGTH));
        mutations::switch(None);
        let (_, violation) = outcome.violations.into_iter().next()?;
        Some((seed, violation))
    })
}
