//! The same answers out of a real Nimbus: a topology from its submission to its end.
//!
//! Not here: workers; nothing is placed, as there is no machine. Invariant: what the played Nimbus says is what this one says.

use std::time::Duration;

use bytes::Bytes;
use cluster_state::memory::Memory;
use nimbus::{Nimbus, NimbusConfig};
use nimbus_api::client::Client;
use serde_json::{Value, json};
use ui::Ui;
use worker_api::describe::Build;
use worker_api::ids::BlobHash;

use crate::http::{ask, get};
use crate::played::ui_of;

/// What `abc` hashes to.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// Asks until the answer is like that.
async fn until(ui: &Ui, path: &str, fits: impl Fn(u16, &Value) -> bool) -> Value {
    loop {
        let reply = get(ui.address(), path).await;
        let json = reply.json();
        if fits(reply.status, &json) {
            return json;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_topology_comes_stops_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let config = NimbusConfig {
        folder: folder.path().join("nimbus"),
        bind: "127.0.0.1:0".parse().unwrap(),
        host: "localhost".into(),
        configuration: [("storm.zookeeper.auth.payload".to_owned(), "user:word".into())].into(),
        machine_timeout: Duration::from_secs(30),
        most_workers: None,
        most_executors: None,
        upload_expiration: Duration::from_secs(3600),
    };
    let nimbus = Nimbus::start(config, Memory::default().session()).await.unwrap();
    let seeds = vec![nimbus.address().to_string()];
    let ui = ui_of(seeds.clone()).await;
    let nimbuses = until(&ui, "/api/v1/nimbus/summary", |_, json| json["nimbuses"][0]["status"] == "Leader").await;
    assert_eq!(nimbuses["nimbuses"][0]["port"], nimbus.address().port());
    let configuration = get(ui.address(), "/api/v1/cluster/configuration").await.json();
    assert_eq!(configuration["storm.zookeeper.auth.payload"], "*****");

    let client = Client::new(seeds);
    let hash: BlobHash = ABC.parse().unwrap();
    client.upload(&hash, 0, 3, Bytes::from_static(b"abc")).await.unwrap();
    let mut described = json!({ "build": Build::own() });
    let graph = json!({
        "format": 1,
        "name": "lines",
        "config": { "topology.workers": 2 },
        "components": [{
            "name": "lines", "kind": "spout", "executors": 2, "first_task": 1, "tasks": 4, "inputs": [], "config": {},
            "streams": [{ "name": "default", "fields": ["line"], "direct": false, "tuple": "Line" }],
        }],
    });
    described.as_object_mut().unwrap().extend(graph.as_object().unwrap().clone());
    let submission = json!({
        "name": "lines", "owner": "alice", "described": described, "executable": ABC, "files": {}, "arguments": [],
    });
    let id = client.submit(&serde_json::from_value(submission).unwrap()).await.unwrap().id;

    let summary = get(ui.address(), "/api/v1/topology/summary").await.json();
    let shown = &summary["topologies"][0];
    assert_eq!(
        (&shown["name"], &shown["owner"], &shown["status"]),
        (&"lines".into(), &"alice".into(), &"ACTIVE".into())
    );
    assert_eq!(
        (&shown["id"], &shown["tasksTotal"], &shown["workersTotal"]),
        (&id.as_str().into(), &4.into(), &0.into())
    );
    let details = get(ui.address(), &format!("/api/v1/topology/{id}")).await.json();
    assert_eq!(details["configuration"]["topology.workers"], 2);
    assert_eq!((&details["spouts"][0]["spoutId"], &details["spouts"][0]["tasks"]), (&"lines".into(), &4.into()));

    for (operation, status) in [("deactivate", "INACTIVE"), ("activate", "ACTIVE")] {
        let reply = ask(ui.address(), &format!("POST /api/v1/topology/{id}/{operation}"), &[]).await;
        assert_eq!((reply.status, reply.json()["status"].clone()), (200, "success".into()), "{}", reply.body);
        until(&ui, &format!("/api/v1/topology/{id}"), |_, json| json["status"] == status).await;
    }
    let reply = ask(ui.address(), &format!("POST /api/v1/topology/{id}/kill/0"), &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    until(&ui, &format!("/api/v1/topology/{id}"), |status, _| status == 404).await;
    assert_eq!(get(ui.address(), "/api/v1/topology/summary").await.json()["topologies"], json!([]));

    ui.stop().await;
    nimbus.stop().await;
}
