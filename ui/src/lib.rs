//! Port 8080: Storm's REST paths, and the pages on top of them.
//!
//! | path | what |
//! |---|---|
//! | `/`, `/topology.html?id=ID`, `/component.html?id=C&topology_id=ID` | pages |
//! | `GET /api/v1/…` | Storm's REST paths, with its keys, types and units |
//! | `POST /api/v1/topology/ID/{activate, deactivate, kill/WAIT}` | Storm's actions |
//! | `GET /api/v2/cluster`, `GET /api/v2/topology/ID` | `nimbus_api`'s `Cluster` and `Topology` as they are; `?executors=COMPONENT` leaves out the executors of others |
//!
//! Not here: any truth of its own; it asks Nimbus. Invariant: it holds no state but the pages.
#![forbid(unsafe_code)]

mod clock;
mod guard;
mod pages;
mod rest;
mod views;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::{Router, middleware};
use nimbus_api::client::Client;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use guard::Guard;
use rest::Shared;
use views::Site;

/// How long answers under way may take when the UI ends.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What a UI is started with.
#[derive(Clone, Debug)]
pub struct UiConfig {
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// `host:port` of each Nimbus.
    pub nimbuses: Vec<String>,
    /// The machine's configuration: `logviewer.port`, `ui.project.bugtracker.url`, `ui.central.logging.url` and
    /// `scheduler.display.resource` show in answers; by `ui.host` and `storm.local.hostname` browsers may call it.
    pub configuration: BTreeMap<String, Value>,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UiError(String);

/// A running UI; dropping it ends it.
pub struct Ui {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Ui {
    /// Starts it: it answers when this returns.
    ///
    /// # Errors
    /// If its port is taken.
    pub async fn start(config: UiConfig) -> Result<Ui, UiError> {
        let cannot = |error: std::io::Error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AddrInUse => "; set `ui.port` to a free one, or end what listens there",
                _ => "",
            };
            UiError(format!("the UI cannot listen at {}: {error}{hint}", config.bind))
        };
        let listener = TcpListener::bind(config.bind).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let (stop, stopped) = oneshot::channel();
        let router = router(config, address);
        let server = tokio::spawn(async move {
            let until = async move {
                // Told to, or dropped.
                let _ = stopped.await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(until).await {
                tracing::error!(%error, "the UI's server ended");
            }
        });
        Ok(Ui { address, stop, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends, after the answers that are under way, but within two seconds.
    pub async fn stop(mut self) {
        let _ = self.stop.send(());
        if timeout(STOP_GRACE, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

fn router(config: UiConfig, address: SocketAddr) -> Router {
    let name = |key: &str| config.configuration.get(key).and_then(Value::as_str).map(str::to_owned);
    let names = ["ui.host", "storm.local.hostname"].into_iter().filter_map(name).collect();
    let guard = Arc::new(Guard::new(address, names));
    let site = Site::of(&config.configuration, config.nimbuses.clone());
    let shared = Arc::new(Shared { nimbus: Client::new(config.nimbuses), site });
    Router::new()
        .nest("/api", rest::routes())
        .merge(pages::routes())
        .fallback(async || (StatusCode::NOT_FOUND, "There is no such page. The cluster is at /\n"))
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .with_state(shared)
}
