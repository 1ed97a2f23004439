//! A topology's plan: immutable parts, one for each machine, and a small head that names them.
//!
//! Not here: making it (`nimbus::scheduling`). Invariants: a part never changes, its hash is its name; only the head is
//! compared and set, and its version only counts up; parts are there before the head that names them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use topology_api::ids::TaskId;
use worker_api::ids::{BlobHash, PlanVersion, Port, SupervisorId, WorkerIndex};

use super::Record;

/// The head of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanHead {
    /// The plan's version, from 1.
    pub version: PlanVersion,
    /// How many workers it has; their indexes count from 0.
    pub workers: u16,
    /// The part of each machine.
    pub parts: BTreeMap<SupervisorId, BlobHash>,
    /// The part of workers that wait for a slot.
    pub waiting: Option<BlobHash>,
}

impl Record for PlanHead {
    const WHAT: &'static str = "plan head";
    const FORMAT: u32 = 1;
}

/// What one machine runs of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanPart {
    /// What the machine is called by others; empty for workers that wait for a slot.
    pub host: String,
    /// Its workers, by index.
    pub workers: BTreeMap<WorkerIndex, Placed>,
}

impl Record for PlanPart {
    const WHAT: &'static str = "plan part";
    const FORMAT: u32 = 1;
}

/// One worker of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its slot; `None` if it waits for one.
    pub port: Option<Port>,
    /// The version at which its slot or its tasks last changed.
    pub version: PlanVersion,
    /// Its executors, each with the tasks that it runs.
    pub executors: Vec<Vec<TaskId>>,
}
