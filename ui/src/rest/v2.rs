//! What Nimbus says, as it says it: restarts, causes, reasons and troubles, which Storm has no keys for.
//!
//! Not here: Storm's keys. Invariants: secrets are hidden; what a worker had counted when it ended is left out, as it is long
//! and already in the totals.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::Shared;
use super::answer::{Asked, Refusal};
use super::topology::read;

/// `GET /api/v2/cluster`.
pub(super) async fn cluster(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Response, Refusal> {
    Ok(asked.answer(&json!(shared.nimbus.cluster().await?)))
}

/// `GET /api/v2/topology/ID`; with `?executors=COMPONENT` only that component's executors, none if that is empty: with what they
/// counted they are by far the longest part.
pub(super) async fn topology(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let Path(id) = path?;
    let mut topology = read(&shared, &id).await?;
    for end in topology.workers.iter_mut().flat_map(|worker| &mut worker.ends) {
        end.last_report = None;
    }
    if let Some(component) = asked.get("executors") {
        topology.executors.retain(|executor| executor.component == component);
    }
    Ok(asked.answer(&json!(topology)))
}
