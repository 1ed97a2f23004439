//! No worker is moved off a machine that is well: where it lives, and nobody asked for a move, it stays.
//!
//! A bound: a machine to which something was done is not judged until half a minute after that has passed, a topology that
//! was rebalanced not for a minute, and a worker not before it has lived for half a minute.
//!
//! Not here: that a worker of a dead machine is moved (`liveness`). Invariant: only what a new plan says of workers that were placed by the one
//! before is judged.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_state::records::Status;
use worker_api::ids::{Life, SupervisorId, TopologyId, WorkerIndex};

use super::noticeboard::{Noticeboard, topology_at};
use super::{Invariant, Observation, Settled, Violation};

/// How long after something was done to a machine its workers may be moved.
const AFTER: Duration = Duration::from_secs(30);
/// How long after a rebalance of a topology, or a word on the draining of a machine.
const ASKED: Duration = Duration::from_secs(60);
/// A worker that has lived for so long has not died again and again just now.
const LIVED: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Default)]
pub struct Moves {
    noticeboard: Noticeboard,
    /// Where the workers of each plan are.
    placed: BTreeMap<TopologyId, BTreeMap<WorkerIndex, SupervisorId>>,
    /// Which workers live, where, since when.
    living: BTreeMap<(TopologyId, WorkerIndex, Life), (SupervisorId, Duration)>,
    /// Until when machines are not judged, by name.
    disturbed: BTreeMap<String, Duration>,
    /// Until when topologies are not judged.
    asked: BTreeMap<TopologyId, Duration>,
    /// Until when nothing is, for a machine's draining was begun or ended.
    drained: Duration,
}

impl Moves {
    fn is_disturbed(&self, at: Duration, machine: &SupervisorId) -> bool {
        // A machine's id is its name and the number of its disk.
        let name = machine.as_str().rsplit_once('-').map_or(machine.as_str(), |(name, _)| name);
        self.disturbed.get(name).is_some_and(|until| at < *until)
    }

    fn planned(&mut self, at: Duration, id: &TopologyId) -> Result<(), Violation> {
        let placed = self.noticeboard.placed(id).into_iter();
        let after: BTreeMap<_, _> = placed.map(|(worker, (machine, _))| (worker, machine)).collect();
        let now = after.iter().filter_map(|(worker, machine)| Some((*worker, machine.clone()?))).collect();
        let before = self.placed.insert(id.clone(), now).unwrap_or_default();
        if self.asked.get(id).is_some_and(|until| at < *until) || at < self.drained {
            return Ok(());
        }
        for (worker, machine) in before {
            // With fewer workers than before somebody asked for it.
            let Some(there) = after.get(&worker) else { continue };
            let lives =
                |((topology, of, _), (on, since)): (&(TopologyId, WorkerIndex, Life), &(SupervisorId, Duration))| {
                    topology == id && *of == worker && *on == machine && at >= *since + LIVED
                };
            if there.as_ref() == Some(&machine) || self.is_disturbed(at, &machine) || !self.living.iter().any(lives) {
                continue;
            }
            let to = there.as_ref().map_or("nowhere", |there| there.as_str());
            let what = format!("{id}: worker {worker} lives on {machine}, which is well, and is moved to {to}");
            return Err(Violation::new("moves", what));
        }
        Ok(())
    }
}

impl Invariant for Moves {
    fn observe(&mut self, at: Duration, observation: &Observation) -> Result<(), Violation> {
        self.noticeboard.observe(observation);
        match observation {
            Observation::WorkerStarted { topology, worker, life, machine, .. } => {
                self.living.insert((topology.clone(), *worker, *life), (machine.clone(), at));
            }
            Observation::WorkerEnded { topology, worker, life, .. } => {
                self.living.remove(&(topology.clone(), *worker, *life));
            }
            Observation::Disturbed { machine, span } => {
                let until = self.disturbed.entry(machine.clone()).or_default();
                *until = (*until).max(at + *span + AFTER);
            }
            Observation::Recorded { path, .. } => {
                if path.starts_with("drained") {
                    self.drained = at + ASKED;
                }
                if let Some((id, "")) = topology_at(path, "topologies") {
                    let status = self.noticeboard.topology(&id).map(|topology| topology.status);
                    if !matches!(status, Some(Status::Active | Status::Inactive { .. })) {
                        self.asked.insert(id, at + ASKED);
                    }
                }
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

    fn moved(done: &[Observation], after: Duration) -> Result<(), Violation> {
        let mut moves = Moves::default();
        let begun = [record(true, ACTIVE), plan_part('a', 6700, 1), plan_head(1, &['a']), started(0, life(1, 1), 6700)];
        for observation in begun.iter().chain(done) {
            assert_eq!(moves.observe(Duration::ZERO, observation), Ok(()));
        }
        // Nothing is placed any more: worker 0 waits.
        moves.observe(after, &waiting(2))
    }

    fn waiting(version: u64) -> Observation {
        let Observation::Recorded { writer, path, value } = plan_head(version, &['a']) else { unreachable!() };
        let mut head: serde_json::Value = serde_json::from_slice(&value.unwrap()).unwrap();
        head["parts"] = serde_json::json!({});
        head["waiting"] = serde_json::json!(hash('a').to_string());
        Observation::Recorded { writer, path, value: Some(serde_json::to_vec(&head).unwrap()) }
    }

    #[test]
    fn a_worker_that_lives_on_a_machine_that_is_well_stays() {
        let what = "moves: words-1-1: worker 0 lives on m1, which is well, and is moved to nowhere";
        let minute = Duration::from_secs(60);
        assert_eq!(moved(&[], minute).unwrap_err().to_string(), what);
        assert_eq!(moved(&[], LIVED / 2), Ok(()));
        assert_eq!(moved(&[ended_life(0, life(1, 1))], minute), Ok(()));
        let disturbed = |secs| Observation::Disturbed { machine: "m1".to_owned(), span: Duration::from_secs(secs) };
        assert_eq!(moved(&[disturbed(40)], minute), Ok(()));
        assert_eq!(moved(&[disturbed(1)], minute).unwrap_err().to_string(), what);
        assert_eq!(moved(&[record(true, SWITCHING)], minute / 2), Ok(()));
    }
}
