//! A kill or a rebalance goes on when nothing is pending any more, or when its time is up.
//!
//! Exact for what is pending: the attempts of workers that the plan means; one that another plan has replaced is not waited for, nor
//! is one on a machine that the leader may believe dead: its roots fail, whoever waits. The time is the record's
//! deadline, on walls that agree; once any wall clock was set, it is not judged.
//!
//! Not here: whether it goes on at all (`liveness`, `baseline`). Invariant: going on is a record that says the next step.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_state::records::{EpochMs, KillStep, RebalanceStep, Status};
use worker_api::ids::{SupervisorId, TopologyId};

use super::hearing::Hearing;
use super::noticeboard::{Noticeboard, topology_at};
use super::roots::Roots;
use super::{Invariant, Observation, Settled, Violation};
use crate::machine::BEGIN_MS;

/// See the module.
#[derive(Default)]
pub struct Draining {
    noticeboard: Noticeboard,
    hearing: Hearing,
    roots: Roots<()>,
    /// Those that drain: when that ends at the latest, on the wall, and what for.
    draining: BTreeMap<TopologyId, (EpochMs, For)>,
    clock_was_set: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Kill,
    Rebalance,
}

/// What a status says of draining.
enum Step {
    Drains(EpochMs, For),
    HasGoneOn(For),
    Other,
}

fn step(status: &Status) -> Step {
    match status {
        Status::Killed { step: KillStep::Draining, deadline_ms, .. } => Step::Drains(*deadline_ms, For::Kill),
        Status::Killed { step: KillStep::Removing, .. } => Step::HasGoneOn(For::Kill),
        Status::Rebalancing { step: RebalanceStep::Draining, deadline_ms, .. } => {
            Step::Drains(*deadline_ms, For::Rebalance)
        }
        Status::Rebalancing { step: RebalanceStep::Switching, .. } => Step::HasGoneOn(For::Rebalance),
        Status::Active | Status::Inactive { .. } => Step::Other,
    }
}

impl Draining {
    fn recorded(&mut self, at: Duration, id: &TopologyId) -> Result<(), Violation> {
        let step = self.noticeboard.topology(id).map_or(Step::Other, |record| step(&record.status));
        let before = self.draining.remove(id);
        let (deadline_ms, purpose) = match (step, before) {
            (Step::Drains(deadline_ms, purpose), _) => {
                self.draining.insert(id.clone(), (deadline_ms, purpose));
                return Ok(());
            }
            (Step::HasGoneOn(purpose), Some((deadline_ms, before))) if purpose == before => (deadline_ms, purpose),
            _ => return Ok(()),
        };
        let early_ms = deadline_ms.saturating_sub(BEGIN_MS + at.as_millis() as u64);
        if self.clock_was_set || early_ms == 0 {
            return Ok(());
        }
        let placed = self.noticeboard.placed(id);
        let is_dead = |machine: &Option<SupervisorId>| {
            machine.as_ref().is_some_and(|machine| self.hearing.may_be_dead(at, machine))
        };
        let is_meant = |(worker, plan)| {
            let placed = placed.get(&worker).filter(|(machine, _)| !is_dead(machine));
            placed.is_some_and(|(_, placed)| placed.version == plan)
        };
        let all = self.roots.of(id).iter();
        let mut pending = all.filter(|(_, root)| is_meant((root.by.0, root.by.1.plan)));
        let Some(((tuple, attempt), root)) = pending.next() else { return Ok(()) };
        let (count, (worker, life)) = (1 + pending.count(), root.by);
        let what = format!(
            "the {} of {id} goes on {early_ms} ms before its time, while {count} roots are pending: attempt {attempt} at {tuple:?} in worker {worker} ({life})",
            if purpose == For::Kill { "kill" } else { "rebalance" },
        );
        Err(Violation::new("draining", what))
    }
}

impl Invariant for Draining {
    fn observe(&mut self, at: Duration, observation: &Observation) -> Result<(), Violation> {
        self.roots.observe(observation);
        self.hearing.observe(at, observation);
        match observation {
            Observation::ClockJumped { .. } => self.clock_was_set = true,
            Observation::Recorded { path, .. } => {
                // A kill's plan goes in the same transaction: what it meant is asked before that.
                let topology = topology_at(path, "topologies");
                self.noticeboard.observe(observation);
                if let Some((id, "")) = topology {
                    return self.recorded(at, &id);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _: &Settled) -> Result<(), Violation> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    fn after(seconds: u64, last: &[Observation], status: (&str, &str)) -> Vec<String> {
        let begun = [
            record(true, ACTIVE),
            plan_part('a', 6700, 1),
            plan_head(1, &['a']),
            emitted(0, 1),
            record(true, status.0),
        ];
        let mut draining = Draining::default();
        let seen = heard(&mut draining, &[&begun[..], last].concat(), &running());
        assert_eq!(seen, [] as [String; 0]);
        let seen = draining.observe(Duration::from_secs(seconds), &record(true, status.1));
        seen.err().into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_kill_or_rebalance_goes_on_when_it_is_drained_or_due() {
        for (status, name) in [((KILLED, REMOVING), "kill"), ((REBALANCING, SWITCHING), "rebalance")] {
            assert_eq!(after(2, &[acked(0, 1)], status), [] as [String; 0]);
            assert_eq!(after(2, &[ended(Vec::new())], status), [] as [String; 0]);
            assert_eq!(after(30, &[], status), [] as [String; 0]);
            let what = format!(
                "the {name} of words-1-1 goes on 28000 ms before its time, while 1 roots are pending: attempt 1 at SourceTuple \
                 {{ source: 1, offset: 0 }} in worker 0 (incarnation 1 of plan 1)"
            );
            assert_eq!(after(2, &[], status), [what]);
        }
    }

    #[test]
    fn a_worker_that_another_plan_has_replaced_is_not_waited_for() {
        let moved = [plan_part('b', 6701, 2), plan_head(2, &['b'])];
        assert_eq!(after(2, &moved, (KILLED, REMOVING)), [] as [String; 0]);
    }

    #[test]
    fn a_worker_on_a_machine_that_may_be_dead_is_not_waited_for() {
        let status = (REBALANCING, SWITCHING);
        assert_eq!(after(10, &[leads("n1")], status), [] as [String; 0]);
        assert_eq!(after(9, &[leads("n1")], status).len(), 1);
    }
}
