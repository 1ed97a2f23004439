//! `/owner-resources…`.
//!
//! Not here: the JSON (`views::owner`). Invariant: one request of Nimbus for one answer.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;

use super::Shared;
use super::answer::{Asked, Refusal};
use crate::views::owner;

/// `GET /api/v1/owner-resources`.
pub(super) async fn summary(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Response, Refusal> {
    Ok(asked.answer(&owner::summary(&shared.nimbus.cluster().await?, &shared.site)))
}

/// `GET /api/v1/owner-resources/OWNER`.
pub(super) async fn details(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let Path(owner) = path?;
    Ok(asked.answer(&owner::details(&owner, &shared.nimbus.cluster().await?, &shared.site)))
}
