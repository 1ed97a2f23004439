//! The cluster at a glance.
//!
//! Not here: one topology in depth (`topology`). Invariant: times are as Nimbus sees them, in milliseconds.

use serde::{Deserialize, Serialize};
use worker_api::ids::{NimbusId, Port, SupervisorId};

use crate::topology::TopologySummary;

/// `GET /v1/cluster`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Version of the Nimbus that answers.
    pub version: String,
    /// The Nimbuses that are there.
    pub nimbuses: Vec<NimbusSummary>,
    /// The machines, dead ones among them until their workers are placed elsewhere.
    pub machines: Vec<MachineSummary>,
    /// The topologies, by name.
    pub topologies: Vec<TopologySummary>,
    /// Records that cannot be read, in a sentence each.
    pub unreadable: Vec<String>,
    /// Whether the cluster state answers; if not, since when it does not is the sentence.
    pub cluster_state: Option<String>,
    /// Whether the records have been read: if not, there may be machines and topologies although none are named.
    #[serde(default)]
    pub records_read: bool,
}

/// One Nimbus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NimbusSummary {
    /// Which one.
    pub id: NimbusId,
    /// Its machine.
    pub host: String,
    /// The port of its HTTP API.
    pub port: u16,
    /// Whether it leads.
    pub leads: bool,
    /// Version of the runtime.
    pub version: String,
    /// Since when it runs.
    pub uptime_ms: u64,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineSummary {
    /// Its Supervisor.
    pub id: SupervisorId,
    /// What it is called.
    pub host: String,
    /// Version of the runtime.
    pub version: String,
    /// Since when its Supervisor runs.
    pub uptime_ms: u64,
    /// Its slots.
    pub slots: Vec<Port>,
    /// Those that have work.
    pub used: Vec<Port>,
    /// How long ago anything was heard of it, Supervisor or workers; absent if the Nimbus that answers never heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// Whether it may get work (its record is there).
    pub available: bool,
    /// Whether it counts as dead.
    pub dead: bool,
    /// Whether it is being emptied for maintenance.
    pub drained: bool,
    /// Why it cannot be emptied now, in a sentence for each topology that stays there.
    #[serde(default)]
    pub waits: Vec<String>,
}
