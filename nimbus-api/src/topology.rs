//! One topology: how it is, where it is, what it counted.
//!
//! Not here: counting over time (`nimbus::statistics`). Invariants: totals outlive workers, and only grow; a window counts what
//! came in its last seconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology_api::ids::TaskId;
use topology_api::topology::Graph;
use worker_api::ids::{Life, PlanVersion, Port, SupervisorId, TopologyId, TopologyName, WorkerIndex};
use worker_api::report::{Counts, Doing, Stage, Waiting};

use crate::machine::{SlotState, WorkerEnd};

/// A topology in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopologySummary {
    /// The submission.
    pub id: TopologyId,
    /// What its user calls it.
    pub name: TopologyName,
    /// Who submitted it, as far as is known.
    pub owner: Option<String>,
    /// Storm's word for its state.
    pub status: StatusWord,
    /// What more there is to say of the state: "input finished", "draining, 12 roots pending, until 14:03:05".
    pub reason: Option<String>,
    /// Since it was submitted.
    pub uptime_ms: u64,
    /// All of its tasks.
    pub tasks: u32,
    /// Executors that are placed.
    pub executors: u32,
    /// Workers that have a slot.
    pub workers: u32,
    /// Workers that are wanted: `topology.workers`.
    pub workers_wanted: u32,
    /// Times that a worker of it ended and was started again.
    pub restarts: u64,
    /// What the scheduler has to say: "Fully Scheduled", "Waiting for 2 of 4 slots: no slot is free".
    pub scheduler: String,
    /// What its user should know although nothing is wrong: more workers are asked for than it has executors.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Nimbuses that have its blobs.
    pub replication: u32,
    /// `topology.version`, free text.
    pub topology_version: Option<String>,
    /// Version of the runtime in its executable.
    pub runtime_version: String,
    /// The plan that holds.
    pub plan: PlanVersion,
}

/// Storm's words for states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StatusWord {
    /// Spouts are asked, once all workers are ready.
    Active,
    /// Spouts are not asked.
    Inactive,
    /// It drains, and is then dealt anew.
    Rebalancing,
    /// On its way out.
    Killed,
    /// Its record cannot be read, or its blobs are missing.
    Broken,
}

/// `GET /v1/topologies/ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// As in a list.
    pub summary: TopologySummary,
    /// Its graph.
    pub graph: Graph,
    /// The cluster's configuration overlaid with the topology's; secrets hidden.
    pub configuration: BTreeMap<String, Value>,
    /// Its workers, by index.
    pub workers: Vec<Worker>,
    /// Its executors, by first task. Components are sums over these.
    pub executors: Vec<Executor>,
    /// Errors of user code, by component, oldest first, at most ten for each.
    pub errors: BTreeMap<String, Vec<ComponentError>>,
    /// What keeps it from running: machines that cannot follow its plan, and why.
    pub troubles: Vec<String>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its place in the plan.
    pub worker: WorkerIndex,
    /// Its machine; `None` while it waits for a slot.
    pub supervisor: Option<SupervisorId>,
    /// What the machine is called.
    pub host: Option<String>,
    /// Its slot.
    pub port: Option<Port>,
    /// What its slot is doing, as far as is known.
    pub slot: Option<SlotState>,
    /// Which life of it was heard last.
    pub life: Option<Life>,
    /// Its process.
    pub pid: Option<u32>,
    /// How far it is.
    pub stage: Option<Stage>,
    /// Since when this life lives.
    pub uptime_ms: Option<u64>,
    /// How long ago it was heard.
    pub heard_ms: Option<u64>,
    /// Memory that it has.
    pub memory_bytes: Option<u64>,
    /// Its executors.
    pub executors: u32,
    /// Tasks by component.
    pub tasks: BTreeMap<String, u32>,
    /// Lives before this one.
    pub restarts: u64,
    /// How they ended, oldest first.
    pub ends: Vec<WorkerEnd>,
}

/// One executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Executor {
    /// Its component.
    pub component: String,
    /// Its first and its last task.
    pub tasks: (TaskId, TaskId),
    /// The worker that runs it.
    pub worker: WorkerIndex,
    /// Since when it runs there.
    pub uptime_ms: Option<u64>,
    /// What it is doing, and since when; `None` if it is not heard.
    pub doing: Option<(Doing, u64)>,
    /// What waits for it.
    pub inbox: Waiting,
    /// What it counted in each window. `pending`, `held` and `window` are those of now.
    pub windows: BTreeMap<Window, Counts>,
}

/// Storm's windows of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Window {
    /// The last 10 minutes.
    #[serde(rename = "600")]
    TenMinutes,
    /// The last 3 hours.
    #[serde(rename = "10800")]
    ThreeHours,
    /// The last day.
    #[serde(rename = "86400")]
    Day,
    /// Since it was submitted.
    #[serde(rename = ":all-time")]
    AllTime,
}

impl Window {
    /// All of them, shortest first.
    pub const ALL: [Window; 4] = [Window::TenMinutes, Window::ThreeHours, Window::Day, Window::AllTime];

    /// Its length in seconds; `None` for all time.
    pub fn secs(self) -> Option<u64> {
        match self {
            Window::TenMinutes => Some(600),
            Window::ThreeHours => Some(10_800),
            Window::Day => Some(86_400),
            Window::AllTime => None,
        }
    }
}

/// An error of user code, or the end of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentError {
    /// When, in milliseconds since 1970 on Nimbus's clock.
    pub at_ms: u64,
    /// Its machine.
    pub host: String,
    /// Its slot.
    pub port: Port,
    /// What it said.
    pub message: String,
}
