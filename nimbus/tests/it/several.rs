//! Several Nimbuses: one leads, the others follow, pass on, and have copies of all blobs.

use std::time::Duration;

use cluster_state::paths;
use cluster_state::records::{Lead, Leader, Nimbus as NimbusRecord};
use nimbus_api::client::{BlobState, Client, ClientError};
use nimbus_api::cluster::Cluster;
use nimbus_api::failure::FailureKind;
use nimbus_api::submission::{Kill, Rebalance, Submission};
use nimbus_api::topology::StatusWord;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use worker_api::ids::{BlobHash, FileName, NimbusId, PlanVersion};

use crate::fixture::*;

/// Waits until a Nimbus sees so many, and gives what it shows.
async fn sees(fixture: &Fixture, nimbuses: usize) -> Cluster {
    eventually(|| async {
        let cluster = fixture.client.cluster().await.ok()?;
        (cluster.nimbuses.len() == nimbuses).then_some(cluster)
    })
    .await
}

/// The files of `word-count`'s executable and graph.
fn files() -> Vec<String> {
    let graph = hash_of(&serde_json::to_vec(&graph()).unwrap());
    let mut files = vec![hash_of(EXECUTABLE).to_string(), graph.to_string()];
    files.sort();
    files
}

/// An address that nobody listens at.
async fn closed() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Another Nimbus leads by the records, at this port.
async fn led_from(memory: &cluster_state::memory::Memory, port: u16) -> cluster_state::board::Board {
    let board = cluster_state::board::Board::new(memory.session(), "other".to_owned());
    let (nimbus, token) = (NimbusId::new("other").unwrap(), hash_of(b"token"));
    let leader = Leader { nimbus: nimbus.clone(), host: "127.0.0.1".to_owned(), port, token: token.clone() };
    let change = board.change().create_ephemeral(paths::leader(), leader);
    board.commit(change.create_ephemeral(paths::lead(&token), Lead { nimbus })).await.unwrap();
    board
}

#[tokio::test]
async fn a_follower_passes_on_what_the_leader_answers_and_has_copies_of_all_blobs() {
    let leader = Fixture::start().await;
    sees(&leader, 1).await;
    let follower = leader.beside().await;
    // What the follower is asked the leader answers.
    let nimbuses = sees(&follower, 2).await.nimbuses;
    assert_eq!(nimbuses.iter().map(|nimbus| nimbus.leads).collect::<Vec<_>>(), [true, false]);
    assert_eq!(nimbuses[0].port, leader.nimbus.address().port());
    let mut machine = Machine::new(&follower, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let hash = upload(&follower.client, EXECUTABLE).await;
    assert_eq!(leader.blob_files(), [hash.to_string()]);
    assert_eq!(follower.blob_files(), Vec::<String>::new());
    let submitted = follower.client.submit(&submission("word-count", hash.clone())).await.unwrap();
    assert_eq!(submitted.warnings, Vec::<String>::new());
    let board = leader.board();
    plan(&board, &submitted.id, 1).await;
    machine.tell().await;
    // Failures come as they are.
    assert_eq!(refusal(follower.client.topology("other").await).0, FailureKind::NotAlive);
    let (kind, said) = refusal(follower.client.submit(&submission("word-count", hash.clone())).await);
    assert_eq!((kind, said.starts_with("the name `word-count` is taken")), (FailureKind::AlreadyAlive, true), "{said}");
    let long = Submission { arguments: vec!["x".repeat(17 << 20)], ..submission("long", hash.clone()) };
    assert!(follower.client.submit(&long).await.is_err());
    assert_eq!(follower.client.deactivate("word-count").await.unwrap().status, StatusWord::Inactive);

    eventually(|| async { (follower.blob_files() == files()).then_some(()) }).await;
    let copies = || async { follower.client.topology("word-count").await.unwrap().summary.replication };
    eventually(|| async { (copies().await == 2).then_some(()) }).await;
    // It serves them itself, and who asks it for what it lacks gets that from the leader.
    let uploaded = leader.client.clone();
    uploaded.upload(&hash_of(b"new"), 0, 3, bytes::Bytes::from_static(b"new")).await.unwrap();
    for (hash, expected) in [(hash, EXECUTABLE), (hash_of(b"new"), b"new")] {
        let mut came = Vec::new();
        follower.client.download(&hash, 0, &mut came).await.unwrap();
        assert_eq!(came, expected);
    }
    assert_eq!(follower.client.configuration().await.unwrap()["nimbus.api.port"], json!(6628));

    // It keeps none that no topology names.
    machine.drained = true;
    kill_and_wait(&follower, &mut [&mut machine], "word-count").await;
    eventually(|| async { follower.blob_files().is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn another_leads_when_the_leader_ends_and_changes_nothing() {
    let first = Fixture::start().await;
    let mut machine = Machine::new(&first, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = first.submit("t").await.unwrap().id;
    let board = first.board();
    let before = plan(&board, &id, 1).await;
    machine.tell().await;
    let second = first.beside().await;
    let third = first.beside().await;
    for fixture in [&second, &third] {
        eventually(|| async { (fixture.blob_files() == files()).then_some(()) }).await;
    }
    first.nimbus.stop().await;
    let summary = eventually(|| async { Some(third.client.topology("t").await.ok()?.summary) }).await;
    assert_eq!((summary.id, summary.status, summary.plan), (id.clone(), StatusWord::Active, PlanVersion(1)));
    assert_eq!(cluster_state::plans::read(&board, &id).await.unwrap().unwrap(), before);
    assert_eq!(board.children(&paths::leads()).await.unwrap().len(), 1);
    let leading = |cluster: Cluster| cluster.nimbuses.into_iter().filter(|nimbus| nimbus.leads).count();
    eventually(|| async { (leading(second.client.cluster().await.ok()?) == 1).then_some(()) }).await;
    assert_eq!(sees(&third, 2).await.nimbuses.len(), 2);
}

#[tokio::test]
async fn a_leader_without_blobs_keeps_the_lead_and_fetches_them() {
    let first = Fixture::start().await;
    first.submit("t").await.unwrap();
    let second = first.beside().await;
    eventually(|| async { (second.blob_files() == files()).then_some(()) }).await;
    let Fixture { folder: copies, nimbus, .. } = second;
    nimbus.stop().await;
    let Fixture { folder, memory, nimbus, .. } = first;
    nimbus.stop().await;
    std::fs::remove_dir_all(folder.path().join("nimbus/blobs")).unwrap();

    let first = Fixture::go_on(folder, memory.clone(), |_| {}).await;
    let waits = first.client.topology("t").await.unwrap().summary;
    assert_eq!((waits.status, waits.replication, waits.tasks), (StatusWord::Active, 0, 0));
    let said = waiting("graph", &serde_json::to_vec(&graph()).unwrap());
    let none = format!("{said}; none that may have it is there: start one");
    assert!(waits.reason.as_ref().unwrap().starts_with(&none), "{waits:?}");
    let (kind, refused) = refusal(first.client.rebalance("t", &Rebalance::default()).await);
    assert_eq!(
        (kind, refused),
        (FailureKind::WrongState, format!("cannot rebalance `t` now: it is {none}; try again when it is here"))
    );
    // It goes on by itself when somebody has them.
    let second = Fixture::go_on(copies, memory, |_| {}).await;
    let healed = eventually(|| async {
        let summary = first.client.topology("t").await.unwrap().summary;
        (summary.status == StatusWord::Active && summary.tasks == 4).then_some(summary)
    })
    .await;
    assert!(healed.replication >= 1);
    // The executable may come after the graph.
    eventually(|| async { (first.blob_files() == files()).then_some(()) }).await;
    assert!(first.client.cluster().await.unwrap().nimbuses[0].leads);
    drop(second);
}

#[tokio::test]
async fn a_leader_without_blobs_gets_them_from_one_machine_that_runs_what_uses_them() {
    let first = Fixture::start().await;
    let mut machine = Machine::new(&first, "m1", &[6700]).await;
    let mut other = Machine::new(&first, "m2", &[6700]).await;
    let mut idle = Machine::new(&first, "m3", &[6700]).await;
    for machine in [&mut machine, &mut other] {
        machine.tell().await;
    }
    let id = first.submit("t").await.unwrap().id;
    plan(&first.board(), &id, 1).await;
    assert_eq!(machine.tell().await.wanted, []);
    let Fixture { folder, memory, nimbus, .. } = first;
    nimbus.stop().await;
    std::fs::remove_dir_all(folder.path().join("nimbus/blobs")).unwrap();

    let first = Fixture::go_on(folder, memory, |_| {}).await;
    for machine in [&mut machine, &mut other, &mut idle] {
        machine.nimbus_is(&first);
    }
    assert_eq!(idle.tell().await.wanted, []);
    let json = serde_json::to_vec(&graph()).unwrap();
    let wanted: Vec<String> = machine.tell().await.wanted.iter().map(ToString::to_string).collect();
    assert_eq!(wanted, files());
    assert_eq!(other.tell().await.wanted, [], "one is enough");
    let shown = first.client.topology("t").await.unwrap().summary;
    assert_eq!((shown.status, shown.workers, shown.workers_wanted), (StatusWord::Active, 2, 2));
    assert!(shown.reason.unwrap().starts_with(&waiting("graph", &json)));

    first.client.upload(&hash_of(&json), 0, json.len() as u64, json.into()).await.unwrap();
    assert_eq!(machine.tell().await.wanted, [hash_of(EXECUTABLE)]);
    upload(&first.client, EXECUTABLE).await;
    assert_eq!(machine.tell().await.wanted, []);
    let healed = eventually(|| async {
        let summary = first.client.topology("t").await.unwrap().summary;
        (summary.tasks == 4).then_some(summary)
    })
    .await;
    assert_eq!((healed.id, healed.replication), (id.clone(), 1));
    // So its workers may go where they were not.
    first.client.drain("m1").await.unwrap();
    (machine.drained, other.drained) = (true, true);
    let board = first.board();
    loop {
        for machine in [&mut machine, &mut other, &mut idle] {
            machine.tell().await;
        }
        let plan = cluster_state::plans::read(&board, &id).await.unwrap().unwrap();
        if plan.parts.keys().map(ToString::to_string).collect::<Vec<_>>() == ["m2", "m3"] {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_cannot_be_fetched_yet_is_told() {
    let fixture = Fixture::start().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    let port = closed().await.port();
    let nimbus = NimbusRecord {
        id: NimbusId::new("gone").unwrap(),
        host: "127.0.0.1".to_owned(),
        port,
        version: "0.1.0".to_owned(),
        started_ms: 1,
    };
    board.commit(board.change().create_ephemeral(paths::nimbus(&nimbus.id), nimbus)).await.unwrap();
    let Fixture { folder, memory, nimbus, .. } = fixture;
    nimbus.stop().await;
    std::fs::remove_file(folder.path().join(format!("nimbus/blobs/{}", hash_of(EXECUTABLE)))).unwrap();
    let fixture = Fixture::go_on(folder, memory, |_| {}).await;
    let said = eventually(|| async {
        let reason = fixture.client.topology(id.as_str()).await.unwrap().summary.reason?;
        reason.contains("; last: ").then_some(reason)
    })
    .await;
    let fetched = format!("{}; last: Nimbus gone at 127.0.0.1:{port}: ", waiting("executable", EXECUTABLE));
    assert!(said.starts_with(&fetched), "{said}");
    // An upload heals it as well.
    upload(&fixture.client, EXECUTABLE).await;
    eventually(|| async {
        let summary = fixture.client.topology(id.as_str()).await.unwrap().summary;
        (!summary.reason.is_some_and(|reason| reason.starts_with("waiting for its "))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_submission_waits_for_the_copies_that_it_wants() {
    let memory = cluster_state::memory::Memory::default();
    let twice = |config: &mut nimbus::NimbusConfig| {
        config.configuration.insert("topology.min.replication.count".to_owned(), json!(2));
    };
    let first = Fixture::go_on(tempfile::tempdir().unwrap(), memory.clone(), twice).await;
    sees(&first, 1).await;
    let few = "topology.min.replication.count is 2, and 1 Nimbuses are there: each of them has its blobs";
    let warnings = first.submit("alone").await.unwrap().warnings;
    assert_eq!(warnings, ["no Supervisor is there: it waits until one is", few]);

    let second = Fixture::go_on(tempfile::tempdir().unwrap(), memory, twice).await;
    sees(&first, 2).await;
    let model: &[u8] = &[7; 600_000];
    let mut with_model = submission("both", upload(&first.client, EXECUTABLE).await);
    let hash = upload(&first.client, model).await;
    with_model.files.insert(FileName::new("model.bin").unwrap(), hash.clone());
    let warnings = first.client.submit(&with_model).await.unwrap().warnings;
    assert_eq!(warnings, ["no Supervisor is there: it waits until one is"]);
    // They are there when the answer is.
    let mut all = files();
    all.push(hash.to_string());
    all.sort();
    assert_eq!(second.blob_files(), all);
    assert_eq!(std::fs::read(second.folder.path().join(format!("nimbus/blobs/{hash}"))).unwrap(), model);
    assert_eq!(first.client.topology("both").await.unwrap().summary.replication, 2);

    // The topology's own word goes first; a Nimbus that does not answer is not waited for for ever.
    let board = first.board();
    let port = closed().await.port();
    let id = NimbusId::new("silent").unwrap();
    let (host, version) = ("127.0.0.1".to_owned(), String::new());
    let silent = NimbusRecord { id: id.clone(), host, port, version, started_ms: 1 };
    board.commit(board.change().create_ephemeral(paths::nimbus(&id), silent)).await.unwrap();
    sees(&first, 3).await;
    let mut thrice = submission("thrice", hash_of(EXECUTABLE));
    let config = &mut thrice.described.graph.config;
    config.insert("topology.min.replication.count".to_owned(), json!(3));
    config.insert("topology.max.replication.wait.time.sec".to_owned(), json!(0.5));
    let warnings = first.client.submit(&thrice).await.unwrap().warnings;
    assert_eq!(
        warnings[1],
        "topology.min.replication.count is 3, and 2 of 3 Nimbuses have its blobs after 0.5 s \
         (topology.max.replication.wait.time.sec): it runs, and the others go on fetching them"
    );
    assert_eq!(first.client.topology("thrice").await.unwrap().summary.status, StatusWord::Active);
}

#[tokio::test]
async fn a_follower_whose_leader_is_silent_shows_the_records_and_refuses_the_rest() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    plan(&fixture.board(), &id, 1).await;
    let Fixture { folder, memory, nimbus, .. } = fixture;
    nimbus.stop().await;
    let port = closed().await.port();
    let _other = led_from(&memory, port).await;
    let fixture = Fixture::go_on(folder, memory, |_| {}).await;
    let client = &fixture.client;
    let cluster = eventually(|| async { client.cluster().await.ok() }).await;
    let why = cluster.cluster_state.unwrap();
    let silent = format!("Nimbus other at 127.0.0.1:{port} leads, and does not answer this one: ");
    assert!(why.starts_with(&silent), "{why}");
    assert!(why.ends_with("; shown is what the records say, without what machines report"), "{why}");
    assert_eq!((cluster.topologies.len(), cluster.topologies[0].plan), (1, PlanVersion(1)));
    assert_eq!(cluster.machines.iter().map(|one| (one.available, one.dead)).collect::<Vec<_>>(), [(true, false)]);
    let shown = client.topology("t").await.unwrap();
    assert_eq!((shown.summary.id, shown.graph.components.len(), shown.workers.len()), (id, 2, 2));
    assert_eq!(refusal(client.topology("u").await).0, FailureKind::NotAlive);
    let (kind, said) = refusal(client.kill("t", Kill::default()).await);
    assert_eq!(kind, FailureKind::NotLeader);
    // The client asks the leader itself as well.
    assert!(said.contains(&silent) && said.contains(&format!(", 127.0.0.1:{port} (")), "{said}");
}

#[tokio::test]
async fn a_submission_that_may_have_been_taken_is_not_sent_again() {
    let (memory, folder) = (cluster_state::memory::Memory::default(), tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Takes a request, and ends.
    let taking = tokio::spawn(async move {
        let mut taken = 0;
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut first = [0; 5];
            if connection.read_exact(&mut first).await.is_ok() && first == *b"POST " {
                taken += 1;
                if taken == 2 {
                    return taken;
                }
            }
        }
        taken
    });
    let _other = led_from(&memory, address.port()).await;
    let fixture = Fixture::go_on(folder, memory, |_| {}).await;
    let submission = submission("t", hash_of(EXECUTABLE));
    // By a follower that passed it on.
    let (kind, said) = loop {
        let (kind, said) = refusal(fixture.client.submit(&submission).await);
        if kind != FailureKind::NoClusterState && kind != FailureKind::NotFound {
            break (kind, said);
        }
    };
    assert_eq!(kind, FailureKind::Unanswered);
    assert!(said.ends_with("; whether the submission was stored is shown by `storm list`"), "{said}");
    // By the client.
    let client = Client::new(vec![address.to_string(), fixture.nimbus.address().to_string()]);
    let (kind, said) = refusal(client.submit(&submission).await);
    assert_eq!(kind, FailureKind::Unanswered);
    assert!(said.starts_with(&format!("Nimbus at {address} was sent the submission and did not answer (")), "{said}");
    assert_eq!(taking.await.unwrap(), 2);
}

#[tokio::test]
async fn seeds_are_asked_in_turn_and_all_of_them_are_told() {
    let leader = Fixture::start().await;
    sees(&leader, 1).await;
    let follower = leader.beside().await;
    let (dead, other) = (closed().await.to_string(), closed().await.to_string());
    let client = Client::new(vec![dead.clone(), follower.nimbus.address().to_string()]);
    assert!(client.cluster().await.unwrap().nimbuses[0].leads);
    match Client::new(vec![dead.clone(), other.clone()]).cluster().await {
        Err(ClientError::Unreachable(tried)) => {
            assert_eq!(tried.into_iter().map(|(address, _)| address).collect::<Vec<_>>(), [dead, other]);
        }
        other => panic!("{other:?}"),
    }
    // A blob is asked for where it is.
    let hash: BlobHash = upload(&leader.client, EXECUTABLE).await;
    let both = Client::new(vec![follower.nimbus.address().to_string(), leader.nimbus.address().to_string()]);
    let mut came = Vec::new();
    both.download(&hash, 0, &mut came).await.unwrap();
    assert_eq!(came, EXECUTABLE);
    assert_eq!(both.blob_state(&hash).await.unwrap(), Some(BlobState::Complete(EXECUTABLE.len() as u64)));
    tokio::time::timeout(Duration::from_secs(60), leader.nimbus.stop()).await.unwrap();
}
