//! Who keeps one machine in step with the plans: fetches, starts, watches and ends workers.
//!
//! [`Supervisor::start`] has it on this machine, [`Supervisor::on_host`] on any [`Host`]: what decides and does is the same.
//!
//! Not here: deciding what runs (`nimbus`), running tuples (`worker`).
#![forbid(unsafe_code)]

mod blobs;
mod cluster;
mod folder;
pub mod host;
pub mod keeper;
pub mod launcher;
pub mod local;
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
use seam::disk::LocalDisk;
use seam::{Seam, Task};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use worker_api::ids::{Port, SupervisorId};

use crate::blobs::Blobs;
use crate::cluster::Follower;
use crate::folder::Folder;
use crate::host::{Connections, Host};
use crate::local::LocalHost;
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

/// A running Supervisor; dropping it ends all its tasks, and leaves its workers running.
pub struct Supervisor {
    id: SupervisorId,
    stop: oneshot::Sender<()>,
    running: Task<()>,
    /// Closed when it has ended.
    ended: watch::Receiver<()>,
}

/// How often, and with which pause, the folder's lock is tried again: a Supervisor that is killed while it starts a keeper
/// leaves the lock to that child until it has become the keeper.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

impl Supervisor {
    /// Starts it on this machine: workers that run already are adopted as they say hello.
    ///
    /// # Errors
    /// If its folders cannot be used, or another Supervisor uses them.
    pub async fn start(config: SupervisorConfig, store: Arc<dyn Store>) -> Result<Supervisor, SupervisorError> {
        let seam = Seam::system();
        let mut config = config;
        for folder in [&mut config.folder, &mut config.workers_folder, &mut config.logs_folder] {
            let found = std::path::absolute(&folder);
            *folder = found.map_err(|error| SupervisorError(format!("cannot find {}: {error}", folder.display())))?;
        }
        let (root, host) = (config.folder.clone(), config.host.clone());
        let random = u128::from(seam.random()) << 64 | u128::from(seam.random());
        let open = move || Folder::open(&root, Arc::new(LocalDisk));
        let mut folder = seam.on_disk(open).await.map_err(SupervisorError)?;
        let mut left = LOCK_TRIES;
        let (folder, lock) = loop {
            let lock = move || (local::lock(&folder), folder);
            match seam.on_disk(lock).await {
                (Ok(lock), folder) => break (folder, lock),
                (Err(why), _) if left == 0 => return Err(SupervisorError(why)),
                (Err(_), again) => folder = again,
            }
            left -= 1;
            seam.sleep(LOCK_PAUSE).await;
        };
        let named = move || (folder.id(&host, random), folder);
        let (id, folder) = seam.on_disk(named).await;
        let id = id.map_err(SupervisorError)?;
        let host = LocalHost::open(&config, folder, lock, seam.clone()).await.map_err(SupervisorError)?;
        Supervisor::on_host(Arc::new(host), config, id, store, seam).await
    }

    /// Starts it on any host. `config` has absolute paths, on the host's disk; its `bind`, `nimbuses` and `keeper` are for the
    /// host. What the Supervisor knew before is in its folder, but who it is: `id` is always the same for a folder, and nobody
    /// else uses that. All its tasks, its time of day and its randomness are the seam's.
    ///
    /// # Errors
    /// If its folders cannot be used.
    pub async fn on_host(
        host: Arc<dyn Host>,
        config: SupervisorConfig,
        id: SupervisorId,
        store: Arc<dyn Store>,
        seam: Seam,
    ) -> Result<Supervisor, SupervisorError> {
        let started_ms = seam.epoch_ms();
        let config = Arc::new(config);
        let board = Arc::new(Board::new(store, format!("{id} since {started_ms}")));
        let (seen_sender, seen) = watch::channel(None);
        let (incoming_sender, incoming) = mpsc::channel(INCOMING_REPORTS + socket::CONNECTIONS);
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
        let make = {
            let (host, seam, me) = (host.clone(), seam.clone(), id.clone());
            let (board, look) = (board.clone(), look.clone());
            move || {
                let folder = Arc::new(Folder::open(&config.folder, host.disk())?);
                folder.make(&config.workers_folder)?;
                folder.make(&config.logs_folder)?;
                let blobs = Blobs::new(folder.clone(), host.clone(), seam.clone(), fetched_sender);
                Machine::new(Parts { config, me, folder, host, seam, board, blobs, reports, look })
            }
        };
        let machine = seam.on_disk(make).await.map_err(SupervisorError)?;
        let follower = Follower { board, record, seen: seen_sender, look };
        let beside = seam.clone();
        let (alive, ended) = watch::channel(());
        let running = seam.spawn(async move {
            // Dropped with this task, however it ends.
            let _alive = alive;
            let mut tasks = JoinSet::new();
            let follower = tasks.spawn(beside.gated(follower.run())).id();
            let accept = tasks.spawn(beside.gated(host.serve(Connections::new(incoming_sender)))).id();
            tasks.spawn(beside.gated(reporting::run(host, reports_made, answers_sender)));
            let broken = tokio::select! {
                biased;
                () = machine.run(Inputs { stop: stopped, seen, incoming, fetched, answers }) => None,
                ended = tasks.join_next_with_id() => ended,
            };
            if let Some(broken) = broken {
                let (id, why) = match broken {
                    Ok((id, ())) => (id, "it returned".to_owned()),
                    Err(error) => (error.id(), error.to_string()),
                };
                let what = match id {
                    id if id == follower => "follows the cluster state",
                    id if id == accept => "takes workers' connections",
                    _ => "reports to Nimbus",
                };
                tracing::error!(
                    "the task that {what} has broken off, so this Supervisor ends; its workers go on: {why}"
                );
            }
            tasks.shutdown().await;
        });
        Ok(Supervisor { id, stop, running, ended })
    }

    /// Who it is: made at its first start, kept in its folder.
    pub fn id(&self) -> &SupervisorId {
        &self.id
    }

    /// Waits until it has ended without being told to, which is a fault of ours that its log names: its process should end too, so
    /// that another Supervisor can follow. Cancel-safe.
    pub async fn failed(&mut self) {
        // Nothing is ever said by it.
        while self.ended.changed().await.is_ok() {}
    }

    /// Ends; its workers keep running. Returns when its folder may be used by another.
    pub async fn stop(self) {
        let Supervisor { stop, running, .. } = self;
        drop(stop);
        if running.join().await.is_none() {
            tracing::error!("the Supervisor broke off");
        }
    }
}
