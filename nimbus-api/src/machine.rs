//! What a Supervisor tells Nimbus each second, and hears.
//!
//! Not here: what its workers say of themselves (`worker_api::report`), which goes along. Invariant: a report states what is;
//! losing one does no harm, and a new leader knows all after one from each machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use worker_api::answer::GoneLife;
use worker_api::ids::{
    BlobHash, Incarnation, Life, NimbusId, PlanVersion, Port, SupervisorId, TopologyId, WorkerIndex,
};
use worker_api::report::Report;

/// `POST /v1/supervisors/ID/report`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineReport {
    /// The Supervisor.
    pub id: SupervisorId,
    /// What its machine is called by others.
    pub host: String,
    /// Counts its reports since it started, from 1.
    pub number: u64,
    /// Since when it runs.
    pub uptime_ms: u64,
    /// Version of the runtime.
    pub version: String,
    /// Its slots, with what is in them; each of `supervisor.slots.ports` is there.
    pub slots: BTreeMap<Port, SlotReport>,
    /// What it still has of topologies: processes, folders, launch files. Nimbus removes a killed topology's records when no
    /// machine names it.
    pub topologies: Vec<TopologyId>,
    /// Topologies whose plan it cannot follow, with the reason: a blob that cannot be had, a record that cannot be read, a full disk.
    pub troubles: BTreeMap<TopologyId, String>,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotReport {
    /// What it is doing.
    pub state: SlotState,
    /// The worker it has, had last, or is about to have.
    pub worker: Option<SlotWorker>,
}

/// What a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// Nothing is wanted here.
    Empty,
    /// Its executable or files are being fetched.
    Fetching,
    /// Its worker was started and has not reported yet.
    Starting,
    /// Its worker reports.
    Running,
    /// Its worker ended again and again: the next start waits.
    BackingOff,
    /// Its worker is being stopped.
    Stopping,
    /// Its port is taken by a process that is not ours.
    Blocked,
}

/// The worker of a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotWorker {
    /// Its topology.
    pub topology: TopologyId,
    /// Which of the plan's workers.
    pub worker: WorkerIndex,
    /// Which life of it.
    pub life: Life,
    /// The plan that the Supervisor follows.
    pub placement: PlanVersion,
    /// How long ago its last report came.
    pub report_age_ms: Option<u64>,
    /// Its last report.
    pub report: Option<Report>,
    /// How its lives before ended, oldest first, at most [`KEPT_ENDS`].
    pub ends: Vec<WorkerEnd>,
    /// How many lives before this one ended, all told but those whose plan wanted that.
    pub restarts: u64,
}

impl SlotWorker {
    /// How its lives ended since the last one whose plan wanted that, oldest first: with a new plan it begins anew.
    pub fn failures(&self) -> &[WorkerEnd] {
        let first = self.ends.iter().rposition(|end| end.planned).map_or(0, |planned| planned + 1);
        &self.ends[first..]
    }
}

/// Ends that are kept of a slot's worker.
pub const KEPT_ENDS: usize = 10;

/// How a life of a worker ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerEnd {
    /// Which life.
    pub incarnation: Incarnation,
    /// When, in milliseconds since 1970 on the machine's clock.
    pub ended_ms: u64,
    /// How long it had lived, in milliseconds.
    pub lived_ms: u64,
    /// Why, in a sentence: "killed by SIGKILL", "exited with code 1: …", "silent for 30 s, killed by its Supervisor".
    pub cause: String,
    /// Whether its plan wanted that: such an end is no failure, and is not counted as one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub planned: bool,
    /// The last lines of its log.
    pub last_lines: Vec<String>,
    /// What it had counted when it last reported, so that totals outlive it.
    pub last_report: Option<Report>,
}

/// The reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineAnswer {
    /// The Nimbus that answers: the leader.
    pub nimbus: NimbusId,
    /// Lives of workers that are known to be gone for good, of topologies that this machine runs.
    pub gone: BTreeMap<TopologyId, Vec<GoneLife>>,
    /// The plan of each topology that has workers here: a Supervisor that knows an older one reads the cluster state again.
    pub plans: BTreeMap<TopologyId, PlanVersion>,
    /// Blobs that the leader lacks, and that topologies of this machine use: a Supervisor uploads those that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<BlobHash>,
}
