//! `/topology/…` that is read.
//!
//! Not here: the JSON (`views::topology`, `views::component`), what changes one (`actions`). Invariant: one request of Nimbus
//! for one answer.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use nimbus_api::topology::Topology;

use super::Shared;
use super::answer::{Asked, Refusal};
use crate::clock::now_secs;
use crate::views::{component, secrets, topology};

/// `GET /api/v1/topology/summary`.
pub(super) async fn summary(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Response, Refusal> {
    Ok(asked.answer(&topology::summary(&shared.nimbus.cluster().await?, &shared.site)))
}

/// `GET /api/v1/topology/ID`.
pub(super) async fn details(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let Path(id) = path?;
    let window = asked.window()?;
    let one = read(&shared, &id).await?;
    Ok(asked.answer(&topology::details(&one, &window, asked.sys(), now_secs(), &shared.site)))
}

/// `GET /api/v1/topology/ID/component/COMPONENT`.
pub(super) async fn component(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let Path((id, name)) = path?;
    let window = asked.window()?;
    let one = read(&shared, &id).await?;
    let details = component::details(&one, &name, &window, asked.sys(), now_secs(), &shared.site);
    let details = details.ok_or_else(|| {
        let names: Vec<&str> = one.graph.components.iter().map(|component| component.name.as_str()).collect();
        let shown: String = name.chars().take(100).collect();
        let why = format!("topology {id} has no component `{shown}`; it has {}", names.join(", "));
        Refusal::new(StatusCode::NOT_FOUND, why)
    })?;
    Ok(asked.answer(&details))
}

/// A topology as Nimbus has it, secrets hidden.
pub(super) async fn read(shared: &Shared, id: &str) -> Result<Topology, Refusal> {
    let mut topology = shared.nimbus.topology(id).await.map_err(|error| {
        let refusal = Refusal::from(error);
        let shown: String = id.chars().take(200).collect();
        // Storm's words, which old clients look for.
        if refusal.is_not_found() {
            refusal.because(&format!("Unable to fetch topo conf for topo id {shown}"))
        } else {
            refusal
        }
    })?;
    secrets::hide(&mut topology.configuration);
    secrets::hide(&mut topology.graph.config);
    topology.graph.components.iter_mut().for_each(|component| secrets::hide(&mut component.config));
    Ok(topology)
}
