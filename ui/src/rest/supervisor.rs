//! `/supervisor…`.
//!
//! Not here: the JSON (`views::supervisor`). Invariant: a summary takes one request of Nimbus, details of a machine one more
//! for each topology of the cluster.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nimbus_api::cluster::MachineSummary;

use super::Shared;
use super::answer::{Asked, Refusal};
use crate::views::supervisor;

/// `GET /api/v1/supervisor/summary`.
pub(super) async fn summary(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Response, Refusal> {
    Ok(asked.answer(&supervisor::summary(&shared.nimbus.cluster().await?, &shared.site)))
}

/// `GET /api/v1/supervisor?id=ID` or `?host=HOST`.
pub(super) async fn details(State(shared): State<Arc<Shared>>, asked: Asked) -> Result<Response, Refusal> {
    let cluster = shared.nimbus.cluster().await?;
    let (id, host) = (asked.get("id"), asked.get("host"));
    let is_asked = |machine: &&MachineSummary| match id {
        Some(id) => machine.id.as_str() == id,
        None => Some(machine.host.as_str()) == host,
    };
    let machines: Vec<&MachineSummary> = cluster.machines.iter().filter(is_asked).collect();
    if machines.is_empty() {
        let why = match id.or(host) {
            Some(_) => "the cluster has no such Supervisor",
            None => "name a Supervisor: `?id=ID` or `?host=HOST`",
        };
        return Err(Refusal::new(StatusCode::NOT_FOUND, why));
    }
    let mut topologies = Vec::new();
    for topology in &cluster.topologies {
        match shared.nimbus.topology(topology.id.as_str()).await.map_err(Refusal::from) {
            Ok(topology) => topologies.push(topology),
            // It went while the others were asked about.
            Err(refusal) if refusal.is_not_found() => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(asked.answer(&supervisor::details(&machines, &topologies, asked.sys(), &shared.site)))
}
