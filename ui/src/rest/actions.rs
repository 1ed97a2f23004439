//! What changes a topology: activate, deactivate, kill.
//!
//! Not here: who may (`guard`). Invariant: POST alone; an answer means that Nimbus has taken it on, not that it is over.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use nimbus_api::submission::Kill;
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
    let Ok(wait_secs) = wait.parse::<u32>() else {
        let shown: String = wait.chars().take(40).flat_map(char::escape_debug).collect();
        let why = format!("the wait `{shown}` is no number of seconds, such as 30; nothing was killed");
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why));
    };
    shared.nimbus.kill(&id, Kill { wait_secs: Some(wait_secs.into()) }).await?;
    Ok(success(&asked, "kill", &id))
}

fn success(asked: &Asked, operation: &str, id: &str) -> Response {
    asked.answer(&json!({ "topologyOperation": operation, "topologyId": id, "status": "success" }))
}
