//! When faults have stopped, and the cluster had its time: every topology has its workers, nothing is pending, nothing waits.
//!
//! How many workers it shall have is what its user asked for, at submission or by the last rebalance, and not what Nimbus made
//! of that: its plan has to have as many.
//!
//! Exact at the end; how long the cluster has until then is the world's to say.
//!
//! Not here: whether each tuple was acked (`at_least_once`). Invariant: a topology that was submitted, and not killed, shall run.

use std::collections::BTreeSet;
use std::time::Duration;

use worker_api::ids::TopologyId;

use super::{Invariant, Observation, Settled, Violation};

/// See the module.
#[derive(Default)]
pub struct Liveness {
    submitted: BTreeSet<TopologyId>,
}

impl Invariant for Liveness {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        match observation {
            Observation::Submitted { topology, .. } => {
                self.submitted.insert(topology.clone());
            }
            Observation::Killed { topology } => {
                self.submitted.remove(topology);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, settled: &Settled) -> Result<(), Violation> {
        let bad = |what| Err(Violation::new("liveness", what));
        if let Some(topology) = self.submitted.iter().find(|topology| !settled.running.contains_key(*topology)) {
            return bad(format!("{topology} was submitted, and does not run"));
        }
        for (topology, running) in &settled.running {
            let (planned, wanted) = (running.workers_planned, running.workers_wanted);
            if planned != wanted {
                return bad(format!(
                    "{topology} has {planned} workers by plan {}, and shall have {wanted}",
                    running.plan
                ));
            }
            let has = running.workers.len();
            if has != wanted {
                let ready: Vec<String> = running.workers.keys().map(ToString::to_string).collect();
                return bad(format!(
                    "{topology} has {has} ready workers of {wanted} by plan {}: {}",
                    running.plan,
                    ready.join(", ")
                ));
            }
            if running.pending > 0 {
                return bad(format!("{topology} has {} roots pending", running.pending));
            }
            if running.queued > 0 {
                return bad(format!("{topology} has {} tuples waiting", running.queued));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    #[test]
    fn what_was_submitted_runs_with_all_workers_and_nothing_waits() {
        let seen = |settled: &Settled| heard(&mut Liveness::default(), &[submitted()], settled);
        assert_eq!(seen(&running()), [] as [String; 0]);
        assert_eq!(seen(&Settled::default()), ["words-1-1 was submitted, and does not run"]);
        let with = |change: fn(&mut super::super::Running)| {
            let mut settled = running();
            settled.running.values_mut().for_each(change);
            seen(&settled)
        };
        let two = |it: &mut super::super::Running| (it.workers_planned, it.workers_wanted) = (2, 2);
        assert_eq!(with(two), ["words-1-1 has 1 ready workers of 2 by plan 1: 0"]);
        let fewer = ["words-1-1 has 1 workers by plan 1, and shall have 2"];
        assert_eq!(with(|it| it.workers_wanted = 2), fewer, "it has not grown");
        let more = ["words-1-1 has 2 workers by plan 1, and shall have 1"];
        assert_eq!(with(|it| it.workers_planned = 2), more, "a rebalance was not followed");
        assert_eq!(with(|it| it.pending = 3), ["words-1-1 has 3 roots pending"]);
        assert_eq!(with(|it| it.queued = 4), ["words-1-1 has 4 tuples waiting"]);
        let killed = [submitted(), Observation::Killed { topology: topology() }];
        assert_eq!(heard(&mut Liveness::default(), &killed, &Settled::default()), [] as [String; 0]);
    }
}
