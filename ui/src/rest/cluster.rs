//! `/cluster/…`.
//!
//! Not here: the JSON (`views::cluster`). Invariant: one request of Nimbus for one answer.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::Shared;
use super::answer::{Asked, Refusal};
use crate::views::{cluster, secrets};

/// `GET /api/v1/cluster/summary`.
pub(super) async fn summary(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Response, Refusal> {
    Ok(asked.answer(&cluster::summary(&shared.nimbus.cluster().await?, &shared.site)))
}

/// `GET /api/v1/cluster/configuration`, secrets hidden.
pub(super) async fn configuration(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Response, Refusal> {
    let mut configuration = shared.nimbus.configuration().await?;
    secrets::hide(&mut configuration);
    Ok(asked.answer(&json!(configuration)))
}
