//! A slot runs one worker at a time, with incarnations that only go up; no life is lived twice; plans give a slot to one topology.
//!
//! Exact for processes. Two plans may name one slot for at most ten seconds: they are written one after the other.
//!
//! Not here: whether a worker that should run does (`liveness`). Invariant: a slot is a machine and a port.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use worker_api::ids::{Incarnation, Life, Port, SupervisorId, TopologyId, WorkerIndex};

use super::noticeboard::{Noticeboard, topology_at};
use super::{Invariant, Observation, Settled, Violation};

/// How long two plans may name one slot.
const SHARED: Duration = Duration::from_secs(10);

type Slot = (SupervisorId, Port);
type OneLife = (TopologyId, WorkerIndex, Life);

/// See the module.
#[derive(Default)]
pub struct Slots {
    noticeboard: Noticeboard,
    /// Who lives there.
    living: BTreeMap<Slot, OneLife>,
    /// The last incarnation of each slot.
    incarnations: BTreeMap<Slot, Incarnation>,
    lived: BTreeSet<OneLife>,
    /// The slots that plans name, by topology.
    named: BTreeMap<TopologyId, BTreeSet<Slot>>,
    /// Slots that two of them name, since when.
    shared: BTreeMap<Slot, Duration>,
}

fn bad<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new("slots", what))
}

impl Slots {
    fn starts(&mut self, life: OneLife, slot: Slot) -> Result<(), Violation> {
        let text = |(topology, worker, life): &OneLife| format!("worker {worker} of {topology} ({life})");
        let (machine, port) = &slot;
        let incarnation = life.2.incarnation;
        let last = self.incarnations.insert(slot.clone(), incarnation);
        let before = self.living.insert(slot.clone(), life.clone());
        if let Some(before) = before {
            return bad(format!("{} starts in {machine}:{port}, where {} lives", text(&life), text(&before)));
        }
        if let Some(last) = last.filter(|last| *last >= incarnation) {
            return bad(format!("{} starts in {machine}:{port} after incarnation {last}", text(&life)));
        }
        if !self.lived.insert(life.clone()) {
            return bad(format!("{} starts in {machine}:{port}, and has lived before", text(&life)));
        }
        Ok(())
    }

    fn plan(&mut self, at: Duration, id: TopologyId) {
        let placed = self.noticeboard.placed(&id).into_values();
        let slots: BTreeSet<Slot> = placed.filter_map(|(machine, placed)| Some((machine?, placed.port?))).collect();
        self.named.insert(id, slots);
        let mut seen = BTreeSet::new();
        let all = self.named.values().flatten();
        let shared: BTreeSet<&Slot> = all.filter(|slot| !seen.insert(*slot)).collect();
        let since = |slot: &Slot| self.shared.get(slot).copied().unwrap_or(at);
        self.shared = shared.into_iter().map(|slot| (slot.clone(), since(slot))).collect();
    }
}

impl Invariant for Slots {
    fn observe(&mut self, at: Duration, observation: &Observation) -> Result<(), Violation> {
        self.noticeboard.observe(observation);
        match observation {
            Observation::WorkerStarted { topology, worker, life, machine, port } => {
                self.starts((topology.clone(), *worker, *life), (machine.clone(), *port))?;
            }
            Observation::WorkerEnded { topology, worker, life, .. } => {
                let ended = (topology.clone(), *worker, *life);
                self.living.retain(|_, living| *living != ended);
            }
            Observation::Recorded { path, .. } => {
                if let Some((id, "head")) = topology_at(path, "plans") {
                    self.plan(at, id);
                }
            }
            _ => {}
        }
        let long = self.shared.iter().find(|(_, since)| at - **since > SHARED);
        let Some(slot) = long.map(|(slot, _)| slot.clone()) else { return Ok(()) };
        self.shared.remove(&slot);
        let of: Vec<&str> =
            self.named.iter().filter(|(_, slots)| slots.contains(&slot)).map(|(id, _)| id.as_str()).collect();
        bad(format!(
            "{}:{} is in the plans of {} for longer than {} s",
            slot.0,
            slot.1,
            of.join(" and "),
            SHARED.as_secs()
        ))
    }

    fn finish(&mut self, _: &Settled) -> Result<(), Violation> {
        match self.shared.keys().next() {
            None => Ok(()),
            Some((machine, port)) => bad(format!("{machine}:{port} is in the plans of two topologies at the end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    #[test]
    fn a_slot_runs_one_worker_at_a_time() {
        let good = [started(0, life(1, 1), 6700), ended_life(0, life(1, 1)), started(0, life(1, 2), 6700)];
        assert_eq!(heard(&mut Slots::default(), &good, &running()), [] as [String; 0]);
        let two = [started(0, life(1, 1), 6700), started(1, life(1, 2), 6700)];
        let what = "worker 1 of words-1-1 (incarnation 2 of plan 1) starts in m1:6700, where worker 0 of words-1-1 \
                    (incarnation 1 of plan 1) lives";
        assert_eq!(heard(&mut Slots::default(), &two, &running()), [what]);
    }

    #[test]
    fn incarnations_go_up_and_no_life_is_lived_twice() {
        let down = [started(0, life(1, 2), 6700), ended_life(0, life(1, 2)), started(0, life(2, 1), 6700)];
        let what = "worker 0 of words-1-1 (incarnation 1 of plan 2) starts in m1:6700 after incarnation 2";
        assert_eq!(heard(&mut Slots::default(), &down, &running()), [what]);
        let twice = [started(0, life(1, 2), 6700), started(0, life(1, 2), 6701)];
        let what = "worker 0 of words-1-1 (incarnation 2 of plan 1) starts in m1:6701, and has lived before";
        assert_eq!(heard(&mut Slots::default(), &twice, &running()), [what]);
    }

    #[test]
    fn two_plans_name_one_slot_for_a_moment_only() {
        let other = |observation: Observation| match observation {
            Observation::Recorded { writer, path, value } => {
                Observation::Recorded { writer, path: path.replace("words-1-1", "lines-2-1"), value }
            }
            other => other,
        };
        let both = [
            plan_part('a', 6700, 1),
            plan_head(1, &['a']),
            other(plan_part('a', 6700, 1)),
            other(plan_head(1, &['a'])),
        ];
        let what = "m1:6700 is in the plans of two topologies at the end";
        assert_eq!(heard(&mut Slots::default(), &both, &running()), [what]);
        let moment = [&both[..], &[gone("plans/words-1-1/head")]].concat();
        assert_eq!(heard(&mut Slots::default(), &moment, &running()), [] as [String; 0]);
        let mut slots = Slots::default();
        assert_eq!(heard(&mut slots, &both[..3], &running()), [] as [String; 0]);
        assert_eq!(slots.observe(Duration::from_secs(1), &both[3]), Ok(()));
        let seen = slots.observe(Duration::from_secs(12), &Observation::FaultsStop).unwrap_err();
        assert_eq!(seen.what, "m1:6700 is in the plans of lines-2-1 and words-1-1 for longer than 10 s");
    }
}
