//! Who decides: takes submissions, turns topologies and machines into plans, and follows topologies to their end.
//!
//! Pure: [`scheduling`], [`lifecycle`], [`liveness`], [`statistics`], `submission`, `rebalance`. Around them one loop that owns all state
//! (`process`), with what the records say (`knowledge`, `publish`, `leadership`), what is heard (`observed`), blobs on disk
//! (`blobs`), and the HTTP API (`server`, `views`).
//!
//! Not here: what tools ask (`nimbus_api`), records (`cluster_state`). Invariant: all that must outlive this process is in the
//! records and the blobs; the rest comes back with one report of each machine.
#![forbid(unsafe_code)]

mod blobs;
mod clock;
mod folder;
mod knowledge;
mod leadership;
pub mod lifecycle;
pub mod liveness;
mod observed;
mod process;
mod publish;
mod rebalance;
pub mod scheduling;
mod server;
pub mod statistics;
mod submission;
mod views;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::board::Board;
use cluster_state::records;
use cluster_state::store::Store;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use worker_api::ids::BlobHash;

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::process::{Process, WAITING_REQUESTS};
use crate::server::Api;
use crate::views::hidden;

/// What a Nimbus is started with.
#[derive(Clone, Debug)]
pub struct NimbusConfig {
    /// `storm.local.dir`/nimbus: blobs and the Nimbus's id lie below it.
    pub folder: PathBuf,
    /// Where its HTTP API listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// What the machine is called by others.
    pub host: String,
    /// The cluster's configuration, defaults among it: what `/v1/configuration` shows, and what topologies lie over.
    pub configuration: BTreeMap<String, Value>,
    /// `nimbus.supervisor.timeout.secs`: a machine that is silent for so long is dead.
    pub machine_timeout: Duration,
    /// `nimbus.slots.perTopology`.
    pub most_workers: Option<u32>,
    /// `nimbus.executors.perTopology`.
    pub most_executors: Option<u32>,
    /// `nimbus.inbox.jar.expiration.secs`: an upload that no submission names is dropped after so long.
    pub upload_expiration: Duration,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NimbusError(String);

/// A running Nimbus; dropping it ends it as [`Nimbus::stop`] does, without waiting.
pub struct Nimbus {
    address: SocketAddr,
    /// Dropped, they end what they are for.
    stop_process: oneshot::Sender<()>,
    stop_server: oneshot::Sender<()>,
    process: JoinHandle<()>,
    server: JoinHandle<()>,
    verifying: JoinHandle<()>,
}

/// How long a stop waits for requests that are under way.
const STOP_GRACE: Duration = Duration::from_secs(2);

impl Nimbus {
    /// Starts it: its HTTP API answers when this returns, and it leads as soon as the cluster state lets it.
    ///
    /// # Errors
    /// If its folder cannot be used, or its port is taken.
    pub async fn start(config: NimbusConfig, store: Arc<dyn Store>) -> Result<Nimbus, NimbusError> {
        let (folder, id) = folder::open(&config.folder)?;
        let blobs = Arc::new(Blobs::open(config.folder.join("blobs"), config.upload_expiration).await?);
        let (listener, address) = listen(config.bind).await?;
        let clock = Clock::start();
        // What no other life of this Nimbus has.
        let life = leadership::random_bytes().map_err(NimbusError)?;
        let board = Board::new(store, format!("{id}/{}", &BlobHash::of(life).as_str()[..16]));
        let me = records::Nimbus {
            id,
            host: config.host.clone(),
            port: address.port(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: clock.started_ms(),
        };
        let (requests, received_requests) = mpsc::channel(WAITING_REQUESTS);
        let api = Api { requests, blobs: Arc::clone(&blobs), configuration: Arc::new(hidden(&config.configuration)) };
        let (stop_process, process_stops) = oneshot::channel();
        let (stop_server, server_stops) = oneshot::channel();
        let process = Process::new(config, me, Arc::new(board), Arc::clone(&blobs), clock);
        let process = tokio::spawn(async move {
            process.run(received_requests, process_stops).await;
            // Locked until then, so that no other Nimbus has this folder, and with it the id.
            drop(folder);
        });
        // Damage is found before anybody asks for what is damaged.
        let verifying = tokio::spawn(async move {
            blobs.finish_parts().await;
            for hash in blobs.unverified() {
                let _ = blobs.verify(&hash).await;
            }
        });
        let server = tokio::spawn(async move {
            let serving = axum::serve(listener, server::routes(api)).with_graceful_shutdown(async move {
                let _ = server_stops.await;
            });
            if let Err(error) = serving.await {
                tracing::error!("the HTTP API ended: {error}");
            }
        });
        tracing::info!("Nimbus listens at {address}");
        Ok(Nimbus { address, stop_process, stop_server, process, server, verifying })
    }

    /// Where its HTTP API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has ended without being told to, which is a fault of ours: its process should end too, so that another
    /// Nimbus can lead. Cancel-safe.
    pub async fn failed(&mut self) {
        let _ = (&mut self.process).await;
    }

    /// Gives the lead back, and ends: what is under way may take two seconds.
    pub async fn stop(self) {
        let Nimbus { stop_process, stop_server, process, mut server, verifying, .. } = self;
        drop(stop_server);
        drop(stop_process);
        // A handle that has told of its end must not be asked again.
        if !process.is_finished() {
            let _ = process.await;
        }
        if timeout(STOP_GRACE, &mut server).await.is_err() {
            server.abort();
            let _ = server.await;
        }
        verifying.abort();
        let _ = verifying.await;
    }
}

async fn listen(bind: SocketAddr) -> Result<(TcpListener, SocketAddr), NimbusError> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => NimbusError(format!(
            "Nimbus cannot listen at {bind}: another process has this port; end it, or choose another by nimbus.api.port"
        )),
        _ => NimbusError(format!("Nimbus cannot listen at {bind} (nimbus.api.port): {error}")),
    };
    let listener = TcpListener::bind(bind).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    Ok((listener, address))
}
