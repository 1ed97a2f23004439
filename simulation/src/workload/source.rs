//! Sources: partitions that outlive workers, as a log of messages would, and the spout that reads them.
//!
//! Not here: which topologies read them. Invariants: an offset that was not acked is given again by each life of its spout; no
//! two spouts give the same attempt of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use tokio::time::Instant;
use topology_api::prelude::*;
use worker_api::ids::{Incarnation, Life, PlanVersion, WorkerIndex};

use super::bolts::Item;
use super::evidence::{Place, life_of, panic_as_meant};
use crate::oracle::{Observation, SourceTuple};

/// Most tuples of one call.
const TUPLES: usize = 16;

/// A spout that finds nothing looks again after this at the latest.
const LONGEST_IDLE: Duration = Duration::from_secs(5);

/// How fast a partition grows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Tuples at once.
    pub(super) burst: u64,
    /// Between two bursts.
    pub(super) every: Duration,
    /// Bytes that each carries.
    pub(super) load_bytes: usize,
}

/// What one spout task reads.
pub(super) struct Partition {
    born: Instant,
    /// All before it are acked.
    frontier: u64,
    /// Acked ones behind it.
    acked: BTreeSet<u64>,
    /// Of offsets that are not acked: how often they were given.
    attempts: BTreeMap<u64, u32>,
    /// How fast it grows, once somebody reads it.
    pace: Option<Pace>,
}

impl Partition {
    pub(super) fn new(born: Instant) -> Self {
        Partition { born, frontier: 0, acked: BTreeSet::new(), attempts: BTreeMap::new(), pace: None }
    }

    fn is_acked(&self, offset: u64) -> bool {
        offset < self.frontier || self.acked.contains(&offset)
    }

    /// How many there are at this time.
    fn length(&self, pace: Pace, now: Instant) -> u64 {
        let age = now.saturating_duration_since(self.born);
        (age.as_micros() / pace.every.as_micros().max(1)) as u64 * pace.burst
    }

    /// How many are not acked yet of those that there are at this time.
    pub(super) fn open(&self, now: Instant) -> u64 {
        let length = self.pace.map_or(0, |pace| self.length(pace, now));
        length.saturating_sub(self.frontier + self.acked.len() as u64)
    }

    /// The number of the attempt that begins.
    fn attempt(&mut self, offset: u64) -> u32 {
        let attempt = self.attempts.entry(offset).or_default();
        *attempt += 1;
        *attempt
    }

    /// Commits it.
    fn ack(&mut self, offset: u64) {
        if self.is_acked(offset) {
            return;
        }
        self.acked.insert(offset);
        while self.acked.remove(&self.frontier) {
            self.attempts.remove(&self.frontier);
            self.frontier += 1;
        }
    }
}

/// Reads a partition: from where it is committed on, and again what fails.
pub(super) struct Reader {
    place: Place,
    pace: Pace,
    /// Tuples of each root.
    parts: u32,
    random: ChaCha8Rng,
    load: Bytes,
    task: TaskId,
    by: (WorkerIndex, Life),
    next: u64,
    /// Failed ones.
    again: VecDeque<u64>,
}

/// An offset, and which attempt at it.
type Attempt = (u64, u32);

impl Reader {
    pub(super) fn of(place: &Place, pace: Pace, parts: u32) -> Self {
        let random = place.random();
        let load = Bytes::from(vec![7; pace.load_bytes]);
        let by = (WorkerIndex(0), Life { plan: PlanVersion(0), incarnation: Incarnation(0) });
        let (place, again) = (place.clone(), VecDeque::new());
        Reader { place, pace, parts, random, load, task: TaskId(0), by, next: 0, again }
    }

    fn tuple(&self, offset: u64) -> SourceTuple {
        SourceTuple { source: self.task.0, offset }
    }

    /// The next offset to give, if there is one now, and which attempt it is.
    fn take(&mut self) -> Option<Attempt> {
        let Reader { place, pace, task, next, again, .. } = self;
        place.partition(*task, |partition, now| {
            partition.pace = Some(*pace);
            let failed = std::iter::from_fn(|| again.pop_front()).find(|offset| !partition.is_acked(*offset));
            let offset = failed.or_else(|| {
                while partition.is_acked(*next) {
                    *next += 1;
                }
                (*next < partition.length(*pace, now)).then(|| {
                    *next += 1;
                    *next - 1
                })
            })?;
            Some((offset, partition.attempt(offset)))
        })
    }
}

impl Spout for Reader {
    type Output = Item;
    type MessageId = Attempt;

    fn open(&mut self, context: &Context) -> Result {
        (self.task, self.by) = (context.task(), life_of(context));
        self.next = self.place.partition(self.task, |partition, _| partition.frontier);
        Ok(())
    }

    fn next(&mut self, out: &mut Roots<'_, Item, Attempt>) -> Result<Next> {
        if self.place.faults() {
            match self.random.random_range(0..4000) {
                0 => return Err(Error::retry("the source is busy, as the seed will")),
                1 => panic_as_meant(),
                _ => {}
            }
        }
        for _ in 0..TUPLES {
            let Some((offset, attempt)) = self.take() else { return Ok(Next::Idle(self.pace.every.min(LONGEST_IDLE))) };
            let (topology, tuple) = (self.place.topology.clone(), self.tuple(offset));
            self.place.tell(Observation::Emitted { topology, tuple, attempt, by: self.by });
            let item = |part| Item { source: tuple.source, offset, attempt, part, copy: 0, load: self.load.clone() };
            match self.parts {
                1 => out.emit(item(0), (offset, attempt)),
                parts => {
                    let mut root = out.root((offset, attempt));
                    (0..parts).for_each(|part| root.emit(item(part)));
                }
            }
        }
        Ok(Next::Emitted)
    }

    fn ack(&mut self, (offset, attempt): Attempt) {
        let (topology, tuple) = (self.place.topology.clone(), self.tuple(offset));
        self.place.tell(Observation::Acked { topology, tuple, attempt });
        self.place.partition(self.task, |partition, _| partition.ack(offset));
    }

    fn fail(&mut self, (offset, attempt): Attempt, reason: &FailReason) {
        let (topology, tuple) = (self.place.topology.clone(), self.tuple(offset));
        self.place.tell(Observation::Failed { topology, tuple, attempt, reason: reason.to_string() });
        self.again.push_back(offset);
    }
}
