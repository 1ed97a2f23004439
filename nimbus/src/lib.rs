//! Who decides: takes submissions, turns topologies and machines into plans, and follows topologies to their end.
//!
//! Not here: what tools ask (`nimbus_api`), records (`cluster_state`).
#![forbid(unsafe_code)]

pub mod lifecycle;
pub mod liveness;
pub mod scheduling;
pub mod statistics;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::store::Store;
use serde_json::Value;

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

/// A running Nimbus; dropping it ends it.
pub struct Nimbus {
    address: SocketAddr,
}

impl Nimbus {
    /// Starts it: its HTTP API answers when this returns, and it leads as soon as the cluster state lets it.
    ///
    /// # Errors
    /// If its folder cannot be used, or its port is taken.
    pub async fn start(config: NimbusConfig, store: Arc<dyn Store>) -> Result<Nimbus, NimbusError> {
        drop(store);
        Ok(Nimbus { address: config.bind })
    }

    /// Where its HTTP API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the lead back, and ends.
    pub async fn stop(self) {}
}
