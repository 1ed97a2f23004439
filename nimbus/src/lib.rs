//! Who decides: takes submissions, turns topologies and machines into plans, and follows topologies to their end.
//!
//! Pure: [`scheduling`], [`lifecycle`], [`liveness`], [`statistics`], `submission`, `rebalance`,
//! `replication`. Around them one loop that owns all state
//! (`process`), with what the records say (`knowledge`, `publish`, `leadership`), what is heard (`observed`), blobs on disk
//! (`blobs`), and what is asked and shown (`api`, `views`). All of that is an [`Engine`]; [`Nimbus`] adds the HTTP API
//! (`server`), the lock of its folder (`folder`), and the way to the other Nimbuses (`peers`).
//!
//! Not here: what tools ask (`nimbus_api`), records (`cluster_state`). Invariant: all that must outlive this process is in the
//! records and the blobs; the rest comes back with one report of each machine.
#![forbid(unsafe_code)]

mod api;
mod blobs;
mod clock;
mod engine;
mod folder;
mod knowledge;
mod leadership;
pub mod lifecycle;
pub mod liveness;
mod observed;
mod peers;
mod process;
mod publish;
mod rebalance;
mod replication;
pub mod scheduling;
mod server;
pub mod statistics;
mod submission;
mod views;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::store::Store;
use seam::disk::LocalDisk;
use seam::{Seam, Task};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

pub use crate::api::Api;
pub use crate::blobs::{Extent, Refused};
pub use crate::engine::{Engine, Parts};
pub use crate::peers::{HttpPeers, Peers};
pub use crate::process::Command;

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

/// A running Nimbus with its HTTP API; dropping it ends it at once, as a crash does: its lead goes with its session.
pub struct Nimbus {
    address: SocketAddr,
    /// Dropped, it tells the server to end.
    stop_server: oneshot::Sender<()>,
    server: Task<()>,
    engine: Engine,
    /// Locked until the last, so that no other Nimbus has this folder, and with it the id.
    folder: File,
}

/// How long a stop waits for requests that are under way.
const STOP_GRACE: Duration = Duration::from_secs(2);

impl Nimbus {
    /// Starts it: its HTTP API answers when this returns, and it leads as soon as the cluster state lets it.
    ///
    /// # Errors
    /// If its folder cannot be used, or its port is taken.
    pub async fn start(mut config: NimbusConfig, store: Arc<dyn Store>) -> Result<Nimbus, NimbusError> {
        let seam = Seam::system();
        let (folder, id) = folder::open(&config.folder, seam.random_key())?;
        let (listener, address) = listen(config.bind).await?;
        config.bind = address;
        let (disk, peers) = (Arc::new(LocalDisk), Arc::new(HttpPeers));
        let engine = Engine::start(Parts { config, id, store, seam: seam.clone(), disk, peers }).await?;
        let (stop_server, server_stops) = oneshot::channel();
        let routes = server::routes(engine.api());
        let server = seam.spawn(async move {
            let serving = axum::serve(listener, routes).with_graceful_shutdown(async move {
                let _ = server_stops.await;
            });
            if let Err(error) = serving.await {
                tracing::error!("the HTTP API ended: {error}");
            }
        });
        tracing::info!("Nimbus listens at {address}");
        Ok(Nimbus { address, stop_server, server, engine, folder })
    }

    /// Where its HTTP API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has ended without being told to, which is a fault of ours: its process should end too, so that another
    /// Nimbus can lead. Cancel-safe.
    pub async fn failed(&mut self) {
        self.engine.failed().await;
    }

    /// Gives the lead back, and ends: what is under way may take two seconds.
    pub async fn stop(self) {
        let Nimbus { stop_server, server, engine, folder, .. } = self;
        drop(stop_server);
        engine.stop().await;
        // Dropped after that, it ends anyway.
        let _ = timeout(STOP_GRACE, server.join()).await;
        drop(folder);
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
