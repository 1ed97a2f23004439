//! An attempt ends once: acked or failed, not both, not twice; and only what was emitted ends.
//!
//! Exact: each attempt has a number that no other has.
//!
//! Not here: whether it ends at all (`at_least_once`). Invariant: an attempt that was lost with its worker ends no more.

use std::collections::BTreeMap;
use std::time::Duration;

use worker_api::ids::TopologyId;

use super::roots::{Attempt, Roots};
use super::{Invariant, Observation, Settled, Violation};

/// See the module.
#[derive(Default)]
pub struct OneOutcome {
    roots: Roots<()>,
    ended: BTreeMap<TopologyId, BTreeMap<Attempt, &'static str>>,
}

impl Invariant for OneOutcome {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        let (topology, attempt, outcome) = match observation {
            Observation::Acked { topology, tuple, attempt } => (topology, (*tuple, *attempt), "acked"),
            Observation::Failed { topology, tuple, attempt, .. } => (topology, (*tuple, *attempt), "failed"),
            _ => {
                self.roots.observe(observation);
                return Ok(());
            }
        };
        if !self.ended.contains_key(topology) {
            self.ended.insert(topology.clone(), BTreeMap::new());
        }
        let ended = self.ended.get_mut(topology).expect("it is there, or was just put there");
        if self.roots.observe(observation).is_some() {
            ended.insert(attempt, outcome);
            return Ok(());
        }
        let (tuple, number) = attempt;
        let before = match ended.get(&attempt) {
            Some(before) => format!("that had {before}"),
            None => "that is not pending: never emitted, or lost with its worker".to_owned(),
        };
        let what = format!("{topology}: the spout hears {outcome} for attempt {number} at {tuple:?}, {before}");
        Err(Violation::new("one-outcome", what))
    }

    fn finish(&mut self, _: &Settled) -> Result<(), Violation> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    #[test]
    fn each_attempt_ends_once() {
        let good = [emitted(0, 1), failed(0, 1), emitted(0, 2), acked(0, 2)];
        assert_eq!(heard(&mut OneOutcome::default(), &good, &running()), [] as [String; 0]);
        for (second, outcome) in [(acked(0, 1), "acked"), (failed(0, 1), "failed")] {
            let bad = [emitted(0, 1), acked(0, 1), second];
            let what = format!(
                "words-1-1: the spout hears {outcome} for attempt 1 at SourceTuple {{ source: 1, offset: 0 }}, that had acked"
            );
            assert_eq!(heard(&mut OneOutcome::default(), &bad, &running()), [what]);
        }
    }

    #[test]
    fn what_was_lost_with_its_worker_ends_no_more() {
        let bad = [emitted(0, 1), ended(Vec::new()), acked(0, 1)];
        let what = "words-1-1: the spout hears acked for attempt 1 at SourceTuple { source: 1, offset: 0 }, that is not \
                    pending: never emitted, or lost with its worker";
        assert_eq!(heard(&mut OneOutcome::default(), &bad, &running()), [what]);
    }
}
