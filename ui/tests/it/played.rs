//! A server on Nimbus's routes that says literal JSON, and notes what changes something.
//!
//! Not here: a Nimbus; nothing is decided. Invariant: what it says is read by `nimbus_api`'s own client, so a wrong fixture fails.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use ui::{Ui, UiConfig};

pub(crate) const CLUSTER: &str = include_str!("nimbus/cluster.json");
pub(crate) const TOPOLOGY: &str = include_str!("nimbus/topology.json");
const CONFIGURATION: &str = include_str!("nimbus/configuration.json");

/// The topology that it has; `a.b-2-1700000100` is killed already.
pub(crate) const ID: &str = "word-count-1-1700000000";

/// A UI, and what its Nimbus was told to do.
pub(crate) struct Played {
    pub(crate) ui: Ui,
    told: Arc<Mutex<Vec<String>>>,
}

impl Played {
    pub(crate) fn at(&self) -> SocketAddr {
        self.ui.address()
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

/// Both, with this topology at [`ID`].
pub(crate) async fn play(topology: Value) -> Played {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nimbus = listener.local_addr().unwrap();
    let notes = Arc::clone(&told);
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let (cluster, configuration) = (json(CLUSTER), json(CONFIGURATION));
    let summary = topology["summary"].clone();
    let one = move |Path(id): Path<String>| {
        let known = id == ID || id == "word-count";
        let topology = topology.clone();
        async move { if known { axum::Json(topology).into_response() } else { not_alive(&id) } }
    };
    let change = move |State(notes): State<Arc<Mutex<Vec<String>>>>, Path(id): Path<String>, uri: Uri, body: String| {
        let summary = summary.clone();
        async move {
            notes.lock().unwrap().push(format!("{} {body}", uri.path()));
            match id.as_str() {
                ID => axum::Json(summary).into_response(),
                "a.b-2-1700000100" => failure(409, "wrong-state", "topology a.b is killed already"),
                _ => not_alive(&id),
            }
        }
    };
    let router = Router::new()
        .route("/v1/cluster", get(async move || axum::Json(cluster)))
        .route("/v1/configuration", get(async move || axum::Json(configuration)))
        .route("/v1/topologies/{id}", get(one))
        .route("/v1/topologies/{id}/activate", post(change.clone()))
        .route("/v1/topologies/{id}/deactivate", post(change.clone()))
        .route("/v1/topologies/{id}/rebalance", post(change.clone()))
        .route("/v1/topologies/{id}/kill", post(change))
        .with_state(notes);
    tokio::spawn(async { axum::serve(listener, router).await });
    Played { ui: ui_of(vec![nimbus.to_string(), "away.example:6628".into()]).await, told }
}

/// Both, with the topology of the fixture.
pub(crate) async fn play_fixture() -> Played {
    play(serde_json::from_str(TOPOLOGY).unwrap()).await
}

/// A UI on loopback, for Nimbuses at these addresses.
pub(crate) async fn ui_of(nimbuses: Vec<String>) -> Ui {
    let bind = "127.0.0.1:0".parse().unwrap();
    Ui::start(UiConfig { bind, nimbuses, configuration: Default::default() }).await.unwrap()
}

fn not_alive(id: &str) -> Response {
    failure(404, "not-alive", &format!("there is no topology `{id}`; `storm list` shows those that are"))
}

fn failure(status: u16, kind: &str, message: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), axum::Json(json!({ "kind": kind, "message": message }))).into_response()
}
