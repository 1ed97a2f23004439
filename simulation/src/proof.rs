//! That the oracle sees: within how many seeds of whole clusters each bug that can be switched on is found.
//!
//! Not here: the bugs (`mutations`). Invariant: the bounds hold for seeds from 1 on, each of [`LENGTH`].

use std::time::Duration;

use mutations::Mutation;

#[cfg(feature = "mutations")]
use crate::oracle::Violation;

/// How long things go wrong in each seed on the virtual clock, before it has its time to settle.
pub const LENGTH: Duration = Duration::from_secs(120);

/// Within how many seeds each bug is found: three times as many as were needed when this was measured. `None`: it was not found.
pub const WITHIN: [(Mutation, Option<u64>); 20] = [
    (Mutation::CompletionByIndexAlone, Some(12)),
    (Mutation::OneEdgeForBothParents, Some(12)),
    (Mutation::EdgeByEdge, Some(48)),
    (Mutation::MergedBySlotAlone, Some(12)),
    (Mutation::FailAsXor, Some(3)),
    (Mutation::DoubleXor, Some(3)),
    (Mutation::LostFail, Some(3)),
    (Mutation::GrantAsIncrement, Some(3)),
    (Mutation::AckWaitsForCredit, Some(3)),
    (Mutation::FramesNotResent, Some(48)),
    (Mutation::StaleConnectionKept, Some(84)),
    (Mutation::LivenessByStatistics, Some(3)),
    (Mutation::GraceFromProcessStart, Some(3)),
    (Mutation::WatchMissed, Some(72)),
    (Mutation::OldPlanAccepted, Some(90)),
    (Mutation::UnguardedLeaderWrite, Some(3)),
    (Mutation::WorkerStartedTwice, Some(3)),
    (Mutation::PinnedBlobDropped, Some(24)),
    (Mutation::SpoutsActivatedTooEarly, Some(9)),
    (Mutation::DrainCutShort, Some(24)),
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
