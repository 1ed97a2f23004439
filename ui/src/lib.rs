//! Port 8080: Storm's REST paths, and the pages on top of them.
//!
//! Not here: any truth of its own; it asks Nimbus. Invariant: it holds no state but the pages.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

/// What a UI is started with.
#[derive(Clone, Debug)]
pub struct UiConfig {
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// `host:port` of each Nimbus.
    pub nimbuses: Vec<String>,
    /// The machine's configuration: `ui.title` and its like, `storm.thrift` ports that answers name, `nimbus.seeds`.
    pub configuration: BTreeMap<String, Value>,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UiError(String);

/// A running UI; dropping it ends it.
pub struct Ui {
    address: SocketAddr,
}

impl Ui {
    /// Starts it: it answers when this returns.
    ///
    /// # Errors
    /// If its port is taken.
    pub async fn start(config: UiConfig) -> Result<Ui, UiError> {
        Ok(Ui { address: config.bind })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends.
    pub async fn stop(self) {}
}
