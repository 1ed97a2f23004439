//! No worker is moved off a machine that the leader has heard: where it lives, and nobody asked for a move, it stays.
//!
//! Exact for when a machine may be believed dead, but for how long what was decided then takes to be written. A worker that has
//! died [`SERIES`] times is not judged: it may fail where it is.
//!
//! Not here: that a worker of a dead machine is moved (`liveness`). Invariant: only what a new plan says of workers that were placed by the one
//! before is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_state::records::Status;
use worker_api::ids::{Life, SupervisorId, TopologyId, WorkerIndex};

use super::hearing::Hearing;
use super::noticeboard::{Noticeboard, topology_at};
use super::{Invariant, Observation, Settled, Violation};

/// So many deaths may have a worker moved.
const SERIES: u32 = 5;

/// See the module.
#[derive(Default)]
pub struct Moves {
    noticeboard: Noticeboard,
    hearing: Hearing,
    /// Where the workers of each plan are.
    placed: BTreeMap<TopologyId, BTreeMap<WorkerIndex, SupervisorId>>,
    /// Which workers live, and where.
    living: BTreeSet<(TopologyId, WorkerIndex, SupervisorId, Life)>,
    /// How often workers have died.
    deaths: BTreeMap<(TopologyId, WorkerIndex), u32>,
}

impl Moves {
    fn planned(&mut self, at: Duration, id: &TopologyId) -> Result<(), Violation> {
        let placed = self.noticeboard.placed(id).into_iter();
        let after: BTreeMap<_, _> = placed.map(|(worker, (machine, _))| (worker, machine)).collect();
        let now = after.iter().filter_map(|(worker, machine)| Some((*worker, machine.clone()?))).collect();
        let before = self.placed.insert(id.clone(), now).unwrap_or_default();
        let status = self.noticeboard.topology(id).map(|topology| topology.status);
        if !matches!(status, Some(Status::Active | Status::Inactive { .. })) {
            return Ok(());
        }
        for (worker, machine) in before {
            let Some(there) = after.get(&worker).filter(|there| there.as_ref() != Some(&machine)) else { continue };
            let lives = self.living.iter().any(|(topology, of, on, _)| (topology, *of, on) == (id, worker, &machine));
            let fails = self.deaths.get(&(id.clone(), worker)).is_some_and(|deaths| *deaths >= SERIES);
            if !lives || fails || self.hearing.may_be_dead(at, &machine) {
                continue;
            }
            let to = there.as_ref().map_or("nowhere", |there| there.as_str());
            let what = format!("{id}: worker {worker} lives on {machine}, which was heard, and is moved to {to}");
            return Err(Violation::new("moves", what));
        }
        Ok(())
    }
}

impl Invariant for Moves {
    fn observe(&mut self, at: Duration, observation: &Observation) -> Result<(), Violation> {
        self.noticeboard.observe(observation);
        self.hearing.observe(at, observation);
        match observation {
            Observation::WorkerStarted { topology, worker, life, machine, .. } => {
                self.living.insert((topology.clone(), *worker, machine.clone(), *life));
            }
            Observation::WorkerEnded { topology, worker, life, .. } => {
                self.living.retain(|(id, of, _, lives)| (id, of, lives) != (topology, worker, life));
                *self.deaths.entry((topology.clone(), *worker)).or_default() += 1;
            }
            Observation::Recorded { path, .. } => {
                if let Some((id, "head")) = topology_at(path, "plans") {
                    return self.planned(at, &id);
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

    fn moved(done: &[Observation], after_secs: u64) -> Result<(), Violation> {
        let mut moves = Moves::default();
        let begun = [leads("n1"), record(true, ACTIVE), plan_part('a', 6700, 1), plan_head(1, &['a'])];
        for observation in begun.iter().chain(&[started(0, life(1, 1), 6700)]).chain(done) {
            assert_eq!(moves.observe(Duration::ZERO, observation), Ok(()));
        }
        // Nothing is placed any more: worker 0 waits.
        moves.observe(Duration::from_secs(after_secs), &waiting(2))
    }

    fn waiting(version: u64) -> Observation {
        let Observation::Recorded { writer, path, value } = plan_head(version, &['a']) else { unreachable!() };
        let mut head: serde_json::Value = serde_json::from_slice(&value.unwrap()).unwrap();
        head["parts"] = serde_json::json!({});
        head["waiting"] = serde_json::json!(hash('a').to_string());
        Observation::Recorded { writer, path, value: Some(serde_json::to_vec(&head).unwrap()) }
    }

    #[test]
    fn a_worker_that_lives_on_a_machine_that_was_heard_stays() {
        let what = "moves: words-1-1: worker 0 lives on m1, which was heard, and is moved to nowhere";
        assert_eq!(moved(&[], 9).unwrap_err().to_string(), what);
        assert_eq!(moved(&[], 10), Ok(()));
        assert_eq!(moved(&[ended_life(0, life(1, 1))], 9), Ok(()));
        assert_eq!(moved(&[record(true, SWITCHING)], 9), Ok(()));
        let lives = (1..=u64::from(SERIES)).flat_map(|number| {
            let next = started(0, life(1, number + 1), 6700);
            [ended_life(0, life(1, number)), next]
        });
        let lives: Vec<Observation> = lives.collect();
        assert_eq!(moved(&lives, 9), Ok(()));
        assert_eq!(moved(&lives[2..], 9).unwrap_err().to_string(), what);
    }
}
