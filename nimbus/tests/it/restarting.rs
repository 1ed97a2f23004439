//! Nimbus ends, and another life of it goes on where it was.

use std::sync::Arc;

use cluster_state::board::Board;
use cluster_state::records::Topology;
use cluster_state::{file, paths, plans};
use nimbus::Nimbus;
use nimbus_api::client::Client;
use nimbus_api::submission::Kill;
use nimbus_api::topology::StatusWord;
use worker_api::ids::PlanVersion;

use crate::fixture::*;

#[tokio::test]
async fn a_restart_on_memory_keeps_everything_and_changes_no_plan() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    let before = plan(&board, &id, 1).await;
    machine.tell().await;
    eventually(|| async {
        let topology = board.read::<Topology>(&paths::topology(&id)).await.unwrap().unwrap();
        topology.record.started.then_some(())
    })
    .await;
    fixture.client.deactivate("t").await.unwrap();
    let own = board.children(&paths::nimbuses()).await.unwrap();

    let fixture = fixture.restart().await;
    let mut machine = Machine::new(&fixture, "m2", &[6700]).await;
    machine.tell().await;
    let summary = fixture.client.topology("t").await.unwrap().summary;
    assert_eq!((summary.status, summary.id, summary.plan), (StatusWord::Inactive, id.clone(), PlanVersion(1)));
    assert_eq!(plans::read(&board, &id).await.unwrap().unwrap(), before);
    assert_eq!(board.children(&paths::nimbuses()).await.unwrap(), own);
    // What it counts goes on too.
    let next = fixture.submit("t2").await.unwrap().id;
    assert!(next.as_str().starts_with("t2-2-"), "{next}");
}

#[tokio::test]
async fn a_restart_on_a_file_keeps_everything_and_changes_no_plan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let start = async || {
        let store = file::open(&path).unwrap();
        let nimbus = Nimbus::start(config(&folder), Arc::clone(&store)).await.unwrap();
        (Client::new(vec![nimbus.address().to_string()]), nimbus, store)
    };
    let (client, nimbus, store) = start().await;
    let executable = upload(&client, EXECUTABLE).await;
    let id = client.submit(&submission("t", executable.clone())).await.unwrap().id;
    let killed = client.submit(&submission("u", executable)).await.unwrap().id;
    client.kill("u", Kill { wait_secs: Some(0) }).await.unwrap();
    eventually(|| async { client.topology("u").await.is_err().then_some(()) }).await;
    let board = Board::new(store, "test".to_owned());
    let before = board.read::<Topology>(&paths::topology(&id)).await.unwrap().unwrap();
    nimbus.stop().await;
    drop(board);

    let (client, nimbus, store) = start().await;
    let summary = client.topology("t").await.unwrap().summary;
    assert_eq!((summary.id, summary.status), (id.clone(), StatusWord::Active));
    let board = Board::new(store, "test".to_owned());
    assert_eq!(board.read::<Topology>(&paths::topology(&id)).await.unwrap().unwrap(), before);
    assert!(board.read::<Topology>(&paths::topology(&killed)).await.unwrap().is_none());
    let blobs = client.blobs().await.unwrap();
    assert_eq!(blobs.iter().map(|blob| blob.used_by.contains_key(&id)).collect::<Vec<_>>(), [true, true]);
    client.kill("t", Kill { wait_secs: Some(0) }).await.unwrap();
    eventually(|| async { client.blobs().await.unwrap().is_empty().then_some(()) }).await;
    nimbus.stop().await;
}

#[tokio::test]
async fn a_kill_goes_on_with_its_deadline_in_another_life() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    plan(&fixture.board(), &id, 1).await;
    machine.tell().await;
    fixture.client.kill("t", Kill { wait_secs: Some(1) }).await.unwrap();
    let fixture = fixture.restart().await;
    // Nothing says that it has drained: the deadline moves it.
    let board = fixture.board();
    eventually(|| async { plans::read(&board, &id).await.unwrap().is_none().then_some(()) }).await;
}

#[tokio::test]
async fn a_folder_and_a_port_are_had_by_one_alone() {
    let fixture = Fixture::start().await;
    let same = Nimbus::start(config(&fixture.folder), fixture.memory.session()).await.err().unwrap();
    let folder = fixture.folder.path().join("nimbus");
    assert_eq!(
        same.to_string(),
        format!("another Nimbus uses {}: end it, or choose another folder by storm.local.dir", folder.display())
    );
    let other = tempfile::tempdir().unwrap();
    let mut config = config(&other);
    config.bind = fixture.nimbus.address();
    let taken = Nimbus::start(config, fixture.memory.session()).await.err().unwrap();
    assert_eq!(
        taken.to_string(),
        format!(
            "Nimbus cannot listen at {}: another process has this port; end it, or choose another by nimbus.api.port",
            fixture.nimbus.address()
        )
    );
}
