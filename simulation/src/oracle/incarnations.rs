//! A worker accepts at most one life of a peer at a time, and never an older one after a newer.
//!
//! Exact, from what links tell: a life is older if its plan's version is lower, or its incarnation within that.
//!
//! Not here: which lives run (`slots`). Invariant: each life of the accepting worker begins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use worker_api::ids::{Life, TopologyId, WorkerIndex};

use super::{Invariant, Observation, Settled, Violation};

/// See the module.
#[derive(Default)]
pub struct Incarnations {
    /// By who accepts, and whom: the latest life.
    accepted: BTreeMap<(TopologyId, (WorkerIndex, Life), WorkerIndex), Life>,
}

impl Invariant for Incarnations {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        let Observation::Accepted { topology, by, peer: (peer, life) } = observation else { return Ok(()) };
        let latest = self.accepted.entry((topology.clone(), *by, *peer)).or_insert(*life);
        if life >= latest {
            *latest = *life;
            return Ok(());
        }
        let (worker, own) = by;
        let what = format!("{topology}: worker {worker} ({own}) accepts {life} of worker {peer} after {latest}");
        Err(Violation::new("incarnations", what))
    }

    fn finish(&mut self, _: &Settled) -> Result<(), Violation> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    fn accepts(by: Life, peer: Life) -> Observation {
        Observation::Accepted { topology: topology(), by: (WorkerIndex(0), by), peer: (WorkerIndex(1), peer) }
    }

    #[test]
    fn an_older_life_after_a_newer_one_is_seen() {
        let good = [
            accepts(life(1, 1), life(1, 1)),
            accepts(life(1, 1), life(1, 1)),
            accepts(life(1, 1), life(1, 2)),
            accepts(life(1, 1), life(2, 1)),
            accepts(life(1, 2), life(1, 1)),
        ];
        assert_eq!(heard(&mut Incarnations::default(), &good, &running()), [] as [String; 0]);
        let bad = [accepts(life(1, 1), life(2, 1)), accepts(life(1, 1), life(1, 9))];
        let what = "words-1-1: worker 0 (incarnation 1 of plan 1) accepts incarnation 9 of plan 1 of worker 1 after incarnation 1 of plan 2";
        assert_eq!(heard(&mut Incarnations::default(), &bad, &running()), [what]);
    }
}
