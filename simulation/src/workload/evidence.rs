//! What components have done, told in its order; and what they share: partitions, and whether to do amiss.
//!
//! Not here: judging it (`oracle`). Invariant: nothing is told while a lock is held.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use topology_api::context::Context;
use topology_api::ids::TaskId;
use worker_api::ids::{Incarnation, Life, PlanVersion, TopologyId, WorkerIndex};

use super::Hear;
use super::source::Partition;
use crate::oracle::{Observation, SourceTuple};

/// Shared by all topologies of a run, and by all lives of their workers.
pub(super) struct Evidence {
    hear: Hear,
    faults: AtomicBool,
    seed: u64,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    partitions: BTreeMap<(TopologyId, TaskId), Partition>,
    /// Since when sources give nothing new.
    closed: Option<Instant>,
    /// How many instances of components were made: each has randomness of its own.
    instances: u64,
}

/// Where a component is: its topology, and the evidence.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) evidence: Arc<Evidence>,
    pub(super) topology: TopologyId,
}

/// What a component may do amiss with a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amiss {
    Nothing,
    Fails,
    Panics,
    Forgets,
    /// For so many ticks.
    Holds(u32),
}

impl Evidence {
    pub(super) fn new(seed: u64, hear: Hear) -> Self {
        Evidence { hear, faults: AtomicBool::new(true), seed, shared: Mutex::default() }
    }

    pub(super) fn set_faults(&self, on: bool) {
        self.faults.store(on, Ordering::Relaxed);
    }

    pub(super) fn close_sources(&self) {
        self.lock().closed.get_or_insert_with(Instant::now);
    }

    /// How many tuples of a topology's sources are not acked; `None` if it has never read any.
    pub(super) fn unread(&self, topology: &TopologyId) -> Option<u64> {
        let shared = self.lock();
        let now = shared.closed.unwrap_or_else(Instant::now);
        let of = shared.partitions.iter().filter(|((of, _), _)| of == topology);
        of.map(|(_, partition)| partition.open(now)).reduce(|one, other| one + other)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Tells something.
    pub(super) fn tell(&self, observation: Observation) {
        (self.evidence.hear)(observation);
    }

    /// An effect has reached the sink.
    pub(super) fn effect(&self, tuple: SourceTuple, attempt: u32, index: u32) {
        self.tell(Observation::Effect { topology: self.topology.clone(), tuple, attempt, index });
    }

    /// A bolt's task is prepared.
    pub(super) fn prepared(&self, context: &Context) {
        let (topology, task) = (self.topology.clone(), context.task());
        self.tell(Observation::Prepared { topology, task, by: life_of(context) });
    }

    /// Does something with a spout task's partition, which may give until the second argument.
    pub(super) fn partition<T>(&self, task: TaskId, work: impl FnOnce(&mut Partition, Instant) -> T) -> T {
        let mut shared = self.evidence.lock();
        let now = shared.closed.unwrap_or_else(Instant::now);
        let partition =
            shared.partitions.entry((self.topology.clone(), task)).or_insert_with(|| Partition::new(Instant::now()));
        work(partition, now)
    }

    /// Randomness for a new instance of a component.
    pub(super) fn random(&self) -> ChaCha8Rng {
        let mut shared = self.evidence.lock();
        shared.instances += 1;
        ChaCha8Rng::seed_from_u64(self.evidence.seed ^ shared.instances.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Whether to do amiss at all.
    pub(super) fn faults(&self) -> bool {
        self.evidence.faults.load(Ordering::Relaxed)
    }

    /// What to do amiss with the next tuple.
    pub(super) fn amiss(&self, random: &mut ChaCha8Rng) -> Amiss {
        if !self.faults() {
            return Amiss::Nothing;
        }
        match random.random_range(0..1000) {
            0..5 => Amiss::Fails,
            5..7 => Amiss::Panics,
            7..10 => Amiss::Forgets,
            // Some of them for longer than the message time-out.
            10 => Amiss::Holds(100),
            11..60 => Amiss::Holds(random.random_range(1..8)),
            _ => Amiss::Nothing,
        }
    }
}

/// Panics without a word on standard error: it is meant.
pub(super) fn panic_as_meant() -> ! {
    std::panic::resume_unwind(Box::new("as the seed will"))
}

/// Which life of which worker this is.
pub(super) fn life_of(context: &Context) -> (WorkerIndex, Life) {
    let token = context.fencing_token();
    let life = Life { plan: PlanVersion(token.plan_version), incarnation: Incarnation(token.incarnation) };
    (WorkerIndex(context.worker()), life)
}
