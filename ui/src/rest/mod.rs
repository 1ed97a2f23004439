//! The routes below `/api`: Storm's under `v1`, Nimbus's own JSON under `v2`.
//!
//! Not here: what the JSON looks like (`views`). Invariants: GET changes nothing; every answer, a refusal too, is JSON.

mod actions;
pub(crate) mod answer;
mod cluster;
mod nimbus;
mod owner;
mod supervisor;
mod topology;
mod v2;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use nimbus_api::client::Client;

use crate::views::Site;
use answer::Refusal;

/// What the routes work with.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) nimbus: Client,
    pub(crate) site: Site,
}

/// All of them.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    let v1 = Router::new()
        .route("/cluster/summary", get(cluster::summary))
        .route("/cluster/configuration", get(cluster::configuration))
        .route("/nimbus/summary", get(nimbus::summary))
        .route("/owner-resources", get(owner::summary))
        .route("/owner-resources/{owner}", get(owner::details))
        .route("/supervisor/summary", get(supervisor::summary))
        .route("/supervisor", get(supervisor::details))
        .route("/topology/summary", get(topology::summary))
        .route("/topology/{id}", get(topology::details))
        .route("/topology/{id}/component/{component}", get(topology::component))
        .route("/topology/{id}/activate", post(actions::activate))
        .route("/topology/{id}/deactivate", post(actions::deactivate))
        .route("/topology/{id}/rebalance/{wait}", post(actions::rebalance))
        .route("/topology/{id}/kill/{wait}", post(actions::kill));
    let v2 = Router::new().route("/cluster", get(v2::cluster)).route("/topology/{id}", get(v2::topology));
    Router::new()
        .nest("/v1", v1)
        .nest("/v2", v2)
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "HTTP 404 Not Found"))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "HTTP 405 Method Not Allowed")
        })
}
