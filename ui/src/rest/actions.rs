//! What changes a topology: activate, deactivate, rebalance, kill.
//!
//! Not here: who may (`guard`). Invariant: POST alone; an answer means that Nimbus has taken it on, not that it is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use nimbus_api::object::{self, Object};
use nimbus_api::submission::{Kill, Rebalance, check_wait};
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::answer::{Asked, Refusal};

/// `POST /api/v1/topology/ID/activate`.
pub(super) async fn activate(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let Path(id) = path?;
    shared.nimbus.activate(&id).await?;
    Ok(success(&asked, "activate", &id))
}

/// `POST /api/v1/topology/ID/deactivate`.
pub(super) async fn deactivate(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let Path(id) = path?;
    shared.nimbus.deactivate(&id).await?;
    Ok(success(&asked, "deactivate", &id))
}

/// `POST /api/v1/topology/ID/kill/WAIT`, in seconds.
pub(super) async fn kill(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let Path((id, wait)) = path?;
    let wait_secs = seconds(&wait, "nothing was killed")?;
    shared.nimbus.kill(&id, Kill { wait_secs: Some(wait_secs) }).await?;
    Ok(success(&asked, "kill", &id))
}

/// The body of a rebalance, as Storm's documents have it. Storm itself does not read it.
#[derive(Default, Deserialize)]
struct RebalanceBody {
    /// Other keys beside it, such as the documents' `callback`, mean nothing.
    #[serde(rename = "rebalanceOptions", default)]
    options: Object<RebalanceOptions>,
}

/// What is not said stays as it is; what is misspelt is refused, so that it is not taken for that.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RebalanceOptions {
    num_workers: Option<u16>,
    #[serde(deserialize_with = "object::executors")]
    executors: BTreeMap<String, u32>,
}

/// `POST /api/v1/topology/ID/rebalance/WAIT`, in seconds; a body is optional.
pub(super) async fn rebalance(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let Path((id, wait)) = path?;
    let wait_secs = seconds(&wait, "nothing was rebalanced")?;
    let body = body.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let Object(RebalanceBody { options: Object(options) }) = if body.is_empty() {
        Object::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            let why = format!(
                "the body is not like {{\"rebalanceOptions\": {{\"numWorkers\": 2, \"executors\": {{\"split\": 4}}}}}}: {error}; \
                 nothing was rebalanced"
            );
            Refusal::new(StatusCode::BAD_REQUEST, why)
        })?
    };
    let rebalance =
        Rebalance { wait_secs: Some(wait_secs), workers: options.num_workers, executors: options.executors };
    shared.nimbus.rebalance(&id, &rebalance).await?;
    Ok(success(&asked, "rebalance", &id))
}

/// A wait in a path.
fn seconds(wait: &str, otherwise: &str) -> Result<u64, Refusal> {
    let secs = wait.parse().map_err(|_| {
        let shown: String = wait.chars().take(40).flat_map(char::escape_debug).collect();
        format!("the wait `{shown}` is no number of seconds, such as 30")
    });
    let checked = secs.and_then(|secs| check_wait(Some(secs)).map(|()| secs));
    checked.map_err(|why| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}; {otherwise}")))
}

fn success(asked: &Asked, operation: &str, id: &str) -> Response {
    asked.answer(&json!({ "topologyOperation": operation, "topologyId": id, "status": "success" }))
}
