//! Which worker runs which tasks.
//!
//! Not here: deciding it. Invariant: each task of the topology stands in exactly one executor of one worker.

use serde::{Deserialize, Serialize};
use topology_api::ids::TaskId;

use crate::ids::{PlanVersion, WorkerIndex};

/// A placement of all executors of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// One for each worker, in the order of their indexes.
    pub workers: Vec<SlotPlan>,
}

/// What one worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotPlan {
    /// The version at which these tasks last changed.
    pub version: PlanVersion,
    /// Its executors, each with the tasks that it runs: contiguous, of one component.
    pub executors: Vec<Vec<TaskId>>,
}

impl Plan {
    /// The worker that runs a task.
    pub fn worker_of(&self, task: TaskId) -> Option<WorkerIndex> {
        let runs = |slot: &SlotPlan| slot.executors.iter().any(|executor| executor.contains(&task));
        self.workers.iter().position(runs).map(|worker| WorkerIndex(worker as u16))
    }

    /// The slot of a worker.
    pub fn slot(&self, worker: WorkerIndex) -> Option<&SlotPlan> {
        self.workers.get(usize::from(worker.0))
    }
}
