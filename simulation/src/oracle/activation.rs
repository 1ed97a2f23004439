//! Spouts are asked only once all workers of the first plan, or of the plan after a rebalance, were ready.
//!
//! Exact as far as components can tell: before the record says that a topology has started, each bolt's task was prepared in the
//! life that the plan means; before it says so no spout emits. Whether links were connected is not seen here. A worker
//! of an earlier plan, which may not have heard of the rebalance yet, is not judged.
//!
//! Not here: whether they are asked at all (`liveness`). Invariant: a worker that was ready once may die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use topology_api::ids::TaskId;
use worker_api::ids::{Life, PlanVersion, TopologyId, TopologyName, WorkerIndex};

use super::noticeboard::{Noticeboard, topology_at};
use super::{Invariant, Observation, Settled, Violation, name_of};
use crate::workload::Shape;

/// See the module.
pub struct Activation {
    /// Tasks of bolts, by the topology's name.
    bolts: BTreeMap<String, BTreeSet<TaskId>>,
    noticeboard: Noticeboard,
    prepared: BTreeSet<(TopologyId, TaskId, (WorkerIndex, PlanVersion))>,
    topologies: BTreeMap<TopologyId, Started>,
}

/// Whether a topology has started.
#[derive(Default)]
struct Started {
    started: bool,
    /// The plan that held when that was last taken back.
    after: PlanVersion,
}

fn bad<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new("activation", what))
}

impl Activation {
    /// For topologies of these shapes.
    pub fn new(shapes: &BTreeMap<TopologyName, Shape>) -> Self {
        let tasks = |shape: &Shape| {
            let bolts = shape.graph.components.iter().filter(|component| component.kind == "bolt");
            bolts.flat_map(|bolt| (bolt.first_task..).take(bolt.tasks).map(TaskId)).collect()
        };
        Activation {
            // Components that tell nothing are not heard to be prepared.
            bolts: shapes
                .iter()
                .filter(|(_, shape)| shape.effects.is_some())
                .map(|(name, shape)| (name.to_string(), tasks(shape)))
                .collect(),
            noticeboard: Noticeboard::default(),
            prepared: BTreeSet::new(),
            topologies: BTreeMap::new(),
        }
    }

    fn recorded(&mut self, id: &TopologyId) -> Result<(), Violation> {
        let Some(record) = self.noticeboard.topology(id) else { return Ok(()) };
        let holds = self.noticeboard.head(id).map_or(PlanVersion(0), |head| head.version);
        let known = self.topologies.entry(id.clone()).or_default();
        let before = std::mem::replace(&mut known.started, record.started);
        if !record.started {
            if before {
                known.after = holds;
            }
            return Ok(());
        }
        let Some(bolts) = self.bolts.get(name_of(id)).filter(|_| !before) else { return Ok(()) };
        for (worker, (_, placed)) in self.noticeboard.placed(id) {
            let tasks = placed.executors.iter().flatten().filter(|task| bolts.contains(task));
            for task in tasks {
                if !self.prepared.contains(&(id.clone(), *task, (worker, placed.version))) {
                    let version = placed.version;
                    return bad(format!(
                        "{id} is said to have started, but task {task} of worker {worker} was never prepared since plan {version}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn emitted(&mut self, id: &TopologyId, (worker, life): (WorkerIndex, Life)) -> Result<(), Violation> {
        let known = self.topologies.entry(id.clone()).or_default();
        if known.started || life.plan <= known.after {
            return Ok(());
        }
        bad(format!("a spout of {id} emits in worker {worker} ({life}) before all workers were ready"))
    }
}

impl Invariant for Activation {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        self.noticeboard.observe(observation);
        match observation {
            Observation::Prepared { topology, task, by: (worker, life) } => {
                self.prepared.insert((topology.clone(), *task, (*worker, life.plan)));
                Ok(())
            }
            Observation::Recorded { path, value: Some(_), .. } => match topology_at(path, "topologies") {
                Some((id, "")) => self.recorded(&id),
                _ => Ok(()),
            },
            Observation::Emitted { topology, by, .. } => self.emitted(topology, *by),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, _: &Settled) -> Result<(), Violation> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    fn prepared(task: u32, life: Life) -> Observation {
        Observation::Prepared { topology: topology(), task: TaskId(task), by: (WorkerIndex(0), life) }
    }

    fn activation() -> Activation {
        // Task 2 is the bolt's.
        Activation::new(&shapes())
    }

    #[test]
    fn spouts_emit_when_all_are_ready() {
        let planned = [record(false, ACTIVE), plan_part('a', 6700, 1), plan_head(1, &['a'])];
        let good = [&planned[..], &[prepared(2, life(1, 1)), record(true, ACTIVE), emitted(0, 1)]].concat();
        assert_eq!(heard(&mut activation(), &good, &running()), [] as [String; 0]);

        let early = [&planned[..], &[prepared(2, life(1, 1)), emitted(0, 1)]].concat();
        let what = "a spout of words-1-1 emits in worker 0 (incarnation 1 of plan 1) before all workers were ready";
        assert_eq!(heard(&mut activation(), &early, &running()), [what]);

        let unready = [&planned[..], &[record(true, ACTIVE)]].concat();
        let what = "words-1-1 is said to have started, but task 2 of worker 0 was never prepared since plan 1";
        assert_eq!(heard(&mut activation(), &unready, &running()), [what]);
    }

    #[test]
    fn after_a_rebalance_the_new_plan_is_waited_for() {
        let before = [
            record(false, ACTIVE),
            plan_part('a', 6700, 1),
            plan_head(1, &['a']),
            prepared(2, life(1, 1)),
            record(true, ACTIVE),
        ];
        let switch = [record(false, SWITCHING), plan_part('b', 6701, 2), plan_head(2, &['b'])];
        let begun = [&before[..], &switch].concat();
        let new = |seen: &[Observation]| heard(&mut activation(), &[&begun[..], seen].concat(), &running());
        // One of the old plan has not heard of it.
        assert_eq!(new(&[emitted(0, 1)]), [] as [String; 0]);
        let what = "words-1-1 is said to have started, but task 2 of worker 0 was never prepared since plan 2";
        assert_eq!(new(&[record(true, ACTIVE)]), [what]);
        assert_eq!(
            new(&[prepared(2, life(2, 1)), record(true, ACTIVE), emitted_by(0, 1, life(2, 1))]),
            [] as [String; 0]
        );
        let what = "a spout of words-1-1 emits in worker 0 (incarnation 1 of plan 2) before all workers were ready";
        assert_eq!(new(&[emitted_by(0, 1, life(2, 1))]), [what]);
    }
}
