//! The launch file: all that a worker is told at its start.
//!
//! Not here: what it is told later (`answer`). Invariant: it lies in the worker's folder with mode 0600, as it holds the
//! topology's secret; nothing of it is repeated in arguments or environment but what `ps` shall show.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Spouts;
use crate::ids::{Incarnation, Port, Revision, SupervisorId, TopologyId, TopologyName, WorkerIndex};
use crate::plan::Placement;
use crate::secret::Secret;

/// The number of this format. Another one is refused.
pub const LAUNCH_FORMAT: u32 = 1;

/// What a Supervisor writes before it starts `EXECUTABLE worker TOPOLOGY-ID PORT` in the worker's folder, as
/// [`LAUNCH_FILE`] there. Who starts it by hand may name another file with `--launch FILE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// [`LAUNCH_FORMAT`].
    pub format: u32,
    /// The submission.
    pub topology: TopologyId,
    /// What its user calls it.
    pub name: TopologyName,
    /// Which of the plan's workers this is.
    pub worker: WorkerIndex,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// The machine's Supervisor.
    pub supervisor: SupervisorId,
    /// What the machine is called by others.
    pub host: String,
    /// The slot: the port to listen at for links.
    pub port: Port,
    /// The IP address to listen at.
    pub bind: String,
    /// What all workers of the topology know.
    pub secret: Secret,
    /// The arguments of the topology's author, as submitted.
    pub arguments: Vec<String>,
    /// The topology's configuration as it was submitted, over the machine's `storm.yaml`: final values.
    pub config: BTreeMap<String, Value>,
    /// The graph as it was submitted, as JSON in a file: a worker that builds another one refuses to run.
    pub graph: PathBuf,
    /// Who runs what where.
    pub placement: Placement,
    /// What the spouts shall do, as far as is known.
    pub spouts: Spouts,
    /// The topology's record that says so.
    #[serde(default)]
    pub revision: Revision,
    /// The Supervisor's Unix socket.
    pub supervisor_socket: PathBuf,
    /// `host:port` of each Nimbus, for when the Supervisor is silent.
    pub nimbuses: Vec<String>,
    /// The worker's log, which standard output and error already go to; the worker rotates it.
    pub log: PathBuf,
    /// Size in bytes at which the log is rotated.
    pub log_bytes: u64,
    /// How many rotated logs are kept.
    pub log_files: u32,
}

/// Name of the launch file in a worker's folder.
pub const LAUNCH_FILE: &str = "launch.json";
