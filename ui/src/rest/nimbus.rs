//! `/nimbus/…`.
//!
//! Not here: the JSON (`views::nimbus`). Invariant: one request of Nimbus for one answer.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::Shared;
use super::answer::{Asked, Refusal};
use crate::views::nimbus;

/// `GET /api/v1/nimbus/summary`.
pub(super) async fn summary(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Response, Refusal> {
    Ok(asked.answer(&nimbus::summary(&shared.nimbus.cluster().await?, &shared.site)))
}
