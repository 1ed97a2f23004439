//! Who keeps one machine in step with the plans: fetches, starts, watches and ends workers.
//!
//! Not here: deciding what runs (`nimbus`), running tuples (`worker`).
#![forbid(unsafe_code)]

mod blobs;
mod clock;
mod cluster;
mod folder;
pub mod keeper;
pub mod launcher;
mod machine;
pub mod process;
mod reconcile;
mod reporting;
mod slot;
mod socket;
mod work_folder;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::board::Board;
use cluster_state::store::Store;
use nimbus_api::client::Client;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use worker_api::ids::{Port, SupervisorId};

use crate::blobs::Blobs;
use crate::cluster::Follower;
use crate::folder::{Folder, make_folder};
use crate::machine::{Inputs, Machine, Parts};

/// Reports and closed connections that wait for the machine's task.
const INCOMING_REPORTS: usize = 256;
/// Words about blobs that wait for it.
const FETCHED_BLOBS: usize = 64;
/// Nimbus's answers that wait for it.
const NIMBUS_ANSWERS: usize = 4;

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
pub struct Supervisor {
    id: SupervisorId,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Supervisor {
    /// Starts it: workers that run already are adopted as they say hello.
    ///
    /// # Errors
    /// If its folders cannot be used, or another Supervisor uses them.
    pub async fn start(config: SupervisorConfig, store: Arc<dyn Store>) -> Result<Supervisor, SupervisorError> {
        let started = tokio::task::spawn_blocking(move || prepare(config, store)).await;
        let prepared = started.map_err(|error| SupervisorError(error.to_string()))?.map_err(SupervisorError)?;
        prepared.run().map_err(SupervisorError)
    }

    /// Who it is: made at its first start, kept in its folder.
    pub fn id(&self) -> &SupervisorId {
        &self.id
    }

    /// Ends; its workers keep running. Returns when its folder may be used by another.
    pub async fn stop(self) {
        let Supervisor { stop, running, .. } = self;
        drop(stop);
        if let Err(error) = running.await {
            tracing::error!("the Supervisor broke off: {error}");
        }
    }
}

/// What was found on disk.
struct Prepared {
    config: Arc<SupervisorConfig>,
    folder: Arc<Folder>,
    id: SupervisorId,
    socket: PathBuf,
    store: Arc<dyn Store>,
}

fn prepare(config: SupervisorConfig, store: Arc<dyn Store>) -> Result<Prepared, String> {
    let mut config = config;
    for folder in [&mut config.folder, &mut config.workers_folder, &mut config.logs_folder] {
        *folder = std::path::absolute(&folder).map_err(|error| format!("cannot find {}: {error}", folder.display()))?;
    }
    let folder = Folder::open(&config.folder)?;
    make_folder(&config.workers_folder)?;
    make_folder(&config.logs_folder)?;
    let id = folder.id(&config.host)?;
    let socket = socket::place(&folder)?;
    Ok(Prepared { config: Arc::new(config), folder: Arc::new(folder), id, socket, store })
}

impl Prepared {
    fn run(self) -> Result<Supervisor, String> {
        let Prepared { config, folder, id, socket, store } = self;
        let started_ms = clock::epoch_ms();
        let board = Arc::new(Board::new(store, format!("{id} since {started_ms}")));
        let client = Client::new(config.nimbuses.clone());
        let (seen_sender, seen) = watch::channel(None);
        let (incoming_sender, incoming) = mpsc::channel(INCOMING_REPORTS);
        let (fetched_sender, fetched) = mpsc::channel(FETCHED_BLOBS);
        let (answers_sender, answers) = mpsc::channel(NIMBUS_ANSWERS);
        let (reports, reports_made) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let look = Arc::new(Notify::new());
        let record = cluster_state::records::Supervisor {
            id: id.clone(),
            host: config.host.clone(),
            slots: config.slots.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: worker_api::describe::platform(),
            started_ms,
        };
        let machine = Machine::new(Parts {
            blobs: Blobs::new(folder.blobs(), client.clone(), fetched_sender),
            config,
            me: id.clone(),
            folder,
            socket: socket.clone(),
            board: board.clone(),
            reports,
            look: look.clone(),
        })?;
        let listener = socket::listen(&socket)?;
        let follower = Follower { board, record, seen: seen_sender, look };
        let running = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            tasks.spawn(follower.run());
            tasks.spawn(socket::serve(listener, incoming_sender));
            tasks.spawn(reporting::run(client, reports_made, answers_sender));
            machine.run(Inputs { stop: stopped, seen, incoming, fetched, answers }).await;
            tasks.shutdown().await;
        });
        Ok(Supervisor { id, stop, running })
    }
}
