//! What holds is followed: nobody goes back to an older plan or record, and soon after a write everybody goes by it.
//!
//! Exact: what a worker reports in one life never becomes older, and on one machine it is never started by an older plan than
//! before. A bound: a worker that keeps its place has heard of the last write to its topology's plan and record ten seconds after
//! it; or ten seconds after it was started, or something was last done to its machine or to the cluster state.
//!
//! Not here: whether those that a plan adds are started (`liveness`). Invariant: what a worker was told counts, not who told it.

use std::collections::BTreeMap;
use std::time::Duration;

use worker_api::ids::{Life, PlanVersion, Port, Revision, SupervisorId, TopologyId, WorkerIndex};

use super::noticeboard::{Noticeboard, topology_at};
use super::{Invariant, Observation, Settled, Violation};

/// How soon.
const SOON: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default)]
pub struct Followed {
    noticeboard: Noticeboard,
    /// What holds of each topology, since when.
    holds: BTreeMap<TopologyId, (PlanVersion, Revision, Duration)>,
    living: BTreeMap<(TopologyId, WorkerIndex, Life), Living>,
    /// By which plan a worker was last started on a machine.
    started: BTreeMap<(SupervisorId, TopologyId, WorkerIndex), PlanVersion>,
    /// Until when machines are not as they should be, by name.
    disturbed: BTreeMap<String, Duration>,
}

/// A worker that lives.
struct Living {
    machine: SupervisorId,
    port: Port,
    since: Duration,
    /// What it has reported.
    heard_of: (PlanVersion, Revision),
}

fn bad<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new("followed", what))
}

impl Followed {
    /// A plan or a record was written, or removed.
    fn written(&mut self, at: Duration, id: TopologyId) {
        let plan = self.noticeboard.head(&id).map(|head| head.version);
        let record = self.noticeboard.topology(&id).map(|topology| topology.revision);
        match (plan, record) {
            (Some(plan), Some(record)) => drop(self.holds.insert(id, (plan, record, at))),
            _ => drop(self.holds.remove(&id)),
        }
    }

    /// Since when it is known to be as it should on a machine.
    fn well_since(&self, machine: &SupervisorId) -> Duration {
        // A machine's id is its name and the number of its disk.
        let name = machine.as_str().rsplit_once('-').map_or(machine.as_str(), |(name, _)| name);
        self.disturbed.get(name).copied().unwrap_or_default()
    }

    fn reported(
        &mut self,
        at: Duration,
        of: (TopologyId, WorkerIndex, Life),
        (plan, record): (PlanVersion, Revision),
    ) -> Result<(), Violation> {
        let Some(living) = self.living.get_mut(&of) else { return Ok(()) };
        let (plan_before, record_before) = std::mem::replace(&mut living.heard_of, (plan, record));
        let (id, worker, life) = &of;
        let machine = living.machine.clone();
        let who = format!("worker {worker} of {id} on {machine} ({life})");
        if plan < plan_before {
            return bad(format!("{who} goes by plan {plan} after plan {plan_before}"));
        }
        if record < record_before {
            return bad(format!("{who} obeys record {record} after record {record_before}"));
        }
        let Some((last_plan, last_record, written)) = self.holds.get(id).copied() else { return Ok(()) };
        let (port, since) = (living.port, living.since);
        let since = since.max(written).max(self.well_since(&machine));
        if (plan >= last_plan && record >= last_record) || at <= since + SOON {
            return Ok(());
        }
        let place = self.noticeboard.placed(id).remove(worker);
        if place
            .is_none_or(|(on, placed)| on != Some(machine) || placed.port != Some(port) || placed.version != life.plan)
        {
            // It is to end.
            return Ok(());
        }
        let secs = (at - written).as_secs();
        bad(format!(
            "{who} goes by plan {plan} and record {record}; {secs} s ago plan {last_plan} and record {last_record} held"
        ))
    }
}

impl Invariant for Followed {
    fn observe(&mut self, at: Duration, observation: &Observation) -> Result<(), Violation> {
        self.noticeboard.observe(observation);
        match observation {
            Observation::WorkerStarted { topology, worker, life, machine, port } => {
                let since = Living { machine: machine.clone(), port: *port, since: at, heard_of: Default::default() };
                self.living.insert((topology.clone(), *worker, *life), since);
                let place = (machine.clone(), topology.clone(), *worker);
                let before = self.started.insert(place, life.plan);
                if let Some(before) = before.filter(|before| *before > life.plan) {
                    return bad(format!(
                        "worker {worker} of {topology} is started on {machine} by plan {}, and was by plan {before}",
                        life.plan
                    ));
                }
            }
            Observation::WorkerEnded { topology, worker, life, .. } => {
                self.living.remove(&(topology.clone(), *worker, *life));
            }
            Observation::Reported { topology, by: (worker, life), placement, revision } => {
                return self.reported(at, (topology.clone(), *worker, *life), (*placement, *revision));
            }
            Observation::Disturbed { machine, span } => {
                let until = self.disturbed.entry(machine.clone()).or_default();
                *until = (*until).max(at + *span);
            }
            Observation::Recorded { path, .. } => {
                for (folder, what) in [("topologies", ""), ("plans", "head")] {
                    if let Some((id, _)) = topology_at(path, folder).filter(|(_, rest)| *rest == what) {
                        self.written(at, id);
                    }
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

    fn reports(plan: u64, record: u64) -> Observation {
        let by = (WorkerIndex(0), life(1, 1));
        let (placement, revision) = (PlanVersion(plan), Revision(record));
        Observation::Reported { topology: topology(), by, placement, revision }
    }

    /// What is said of a worker that reports plan 1 and record 0 after so many seconds, when plan 2 was written in the first one.
    fn late(done: &[(u64, Observation)], secs: u64) -> Result<(), Violation> {
        let mut followed = Followed::default();
        let begun = [
            record(true, ACTIVE),
            plan_part('a', 6700, 1),
            plan_head(1, &['a']),
            started(0, life(1, 1), 6700),
            reports(1, 0),
            plan_head(2, &['a']),
        ];
        let begun = begun.into_iter().map(|observation| (0, observation));
        for (at, observation) in begun.chain(done.iter().cloned()) {
            assert_eq!(followed.observe(Duration::from_secs(at), &observation), Ok(()));
        }
        followed.observe(Duration::from_secs(secs), &reports(1, 0))
    }

    #[test]
    fn a_worker_that_keeps_its_place_hears_soon_of_what_was_written() {
        let what = "followed: worker 0 of words-1-1 on m1 (incarnation 1 of plan 1) goes by plan 1 and record 0; 11 s ago \
                    plan 2 and record 0 held";
        assert_eq!(late(&[], 11).unwrap_err().to_string(), what);
        assert_eq!(late(&[], 10), Ok(()));
        let disturbed = |secs| Observation::Disturbed { machine: "m1".to_owned(), span: Duration::from_secs(secs) };
        assert_eq!(late(&[(1, disturbed(5))], 16), Ok(()));
        assert!(late(&[(1, disturbed(5))], 17).is_err());
        let written = |version| plan_head(version, &['a']);
        assert_eq!(late(&[(5, written(3))], 15), Ok(()));
        assert!(late(&[(5, written(3))], 16).is_err());
        // Its slot is another's, or its topology goes.
        let elsewhere = [(1, plan_part('b', 6701, 3)), (1, plan_head(3, &['b']))];
        assert_eq!(late(&elsewhere, 60), Ok(()));
        assert_eq!(late(&[(1, gone("plans/words-1-1/head"))], 60), Ok(()));
    }

    #[test]
    fn nobody_goes_back_to_an_older_plan_or_record() {
        let begun = [started(0, life(1, 1), 6700), reports(2, 5)];
        let then = |last: Observation| heard(&mut Followed::default(), &[&begun[..], &[last]].concat(), &running());
        assert_eq!(then(reports(3, 6)), [] as [String; 0]);
        let who = "worker 0 of words-1-1 on m1 (incarnation 1 of plan 1)";
        assert_eq!(then(reports(1, 5)), [format!("{who} goes by plan 1 after plan 2")]);
        assert_eq!(then(reports(2, 4)), [format!("{who} obeys record 4 after record 5")]);
        let lives = [started(0, life(2, 1), 6700), ended_life(0, life(2, 1)), started(0, life(1, 2), 6700)];
        let what = "worker 0 of words-1-1 is started on m1 by plan 1, and was by plan 2";
        assert_eq!(heard(&mut Followed::default(), &lives, &running()), [what]);
        let lives = [started(0, life(2, 1), 6700), ended_life(0, life(2, 1)), started(0, life(2, 2), 6700)];
        assert_eq!(heard(&mut Followed::default(), &lives, &running()), [] as [String; 0]);
    }
}
