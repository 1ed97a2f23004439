//! Which worker runs which tasks, and where it is.
//!
//! Not here: deciding it (`nimbus`). Invariant: each task of the topology stands in exactly one executor of one worker.

use std::fmt;

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
    /// The version at which these tasks or their slot last changed.
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

/// Where a worker listens for links: `host:port`, as told to others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Name or IP address of the machine.
    pub host: String,
    /// The slot's port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A plan with where its workers are: what a worker needs to know of its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Version of the plan as a whole; a higher one is newer.
    pub version: PlanVersion,
    /// Who runs what.
    pub plan: Plan,
    /// Where each worker listens, by index; `None` for one that waits for a slot.
    pub addresses: Vec<Option<Address>>,
}
