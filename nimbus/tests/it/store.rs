//! The cluster state goes away, loses sessions and answers, and holds things that cannot be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster_state::board::Board;
use cluster_state::memory::{Memory, MemorySession};
use cluster_state::records::{Leader, Topology};
use cluster_state::store::{Op, Path, Session, Store, StoreError, Versioned, Watch};
use cluster_state::{paths, plans};
use futures_util::future::{BoxFuture, pending};
use nimbus_api::failure::FailureKind;
use nimbus_api::machine::SlotState;
use nimbus_api::submission::Kill;
use nimbus_api::topology::StatusWord;
use tokio::sync::Notify;
use worker_api::answer::Slot;
use worker_api::ids::{Incarnation, Life, PlanVersion, Port, TopologyId, TopologyName, WorkerIndex};

use crate::fixture::*;

#[tokio::test]
async fn while_the_store_is_away_data_goes_on_and_changes_are_refused_at_once() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    plan(&board, &id, 1).await;
    machine.tell().await;

    fixture.session.go_away();
    let sentence = eventually(|| async { fixture.client.cluster().await.unwrap().cluster_state }).await;
    assert!(sentence.starts_with("the cluster state has not answered for "), "{sentence}");
    for refused in [
        refusal(fixture.client.submit(&submission("u", hash_of(EXECUTABLE))).await),
        refusal(fixture.client.kill("t", Kill::default()).await),
    ] {
        assert_eq!(refused.0, FailureKind::NoClusterState);
        assert!(refused.1.starts_with("the cluster state has not answered for "), "{}", refused.1);
    }
    // What is known is still told; no worker is told to go, not even a strange one.
    assert_eq!(machine.tell().await.plans, [(id.clone(), PlanVersion(1))].into());
    assert_eq!(fixture.client.topology("t").await.unwrap().summary.workers, 2);
    let stranger = report(
        &TopologyId::new("no-1-1").unwrap(),
        WorkerIndex(0),
        Port(6700),
        Life { plan: PlanVersion(1), incarnation: Incarnation(1) },
    );
    assert_eq!(fixture.client.report_worker(&stranger).await.unwrap().slot, Slot::Kept);

    fixture.session.come_back();
    eventually(|| async { fixture.client.cluster().await.unwrap().cluster_state.is_none().then_some(()) }).await;
    fixture.submit("u").await.unwrap();
    assert_eq!(plans::read(&board, &id).await.unwrap().unwrap().head.version, PlanVersion(1));
}

/// A session whose commits have no answer once it is told.
struct Unanswering {
    session: Arc<MemorySession>,
    is_silent: AtomicBool,
    asked: Notify,
}

impl Store for Unanswering {
    fn read(&self, path: &Path) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        self.session.read(path)
    }

    fn children(&self, path: &Path) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.session.children(path)
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.is_silent.load(Ordering::Relaxed) {
            self.asked.notify_one();
            return Box::pin(pending());
        }
        self.session.commit(ops)
    }

    fn watch(&self, path: &Path) -> Box<dyn Watch> {
        self.session.watch(path)
    }

    fn session(&self) -> Session {
        self.session.session()
    }

    fn session_changed(&self, seen: Session) -> BoxFuture<'_, Session> {
        self.session.session_changed(seen)
    }
}

#[tokio::test]
async fn who_asked_hears_that_it_is_not_known_whether_it_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let session = Memory::default().session();
    let store = Arc::new(Unanswering { session, is_silent: AtomicBool::new(false), asked: Notify::new() });
    let nimbus = nimbus::Nimbus::start(config(&folder), Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    let client = nimbus_api::client::Client::new(vec![nimbus.address().to_string()]);
    let executable = upload(&client, EXECUTABLE).await;
    eventually(|| async { client.cluster().await.unwrap().nimbuses[0].leads.then_some(()) }).await;
    store.is_silent.store(true, Ordering::Relaxed);
    let asking = tokio::spawn(async move { refusal(client.submit(&submission("t", executable)).await) });
    store.asked.notified().await;
    store.session.go_away();
    // A kind that no client asks another Nimbus after.
    let said = "the cluster state went away while this was being stored: whether it was is not known; `storm list` shows it \
                when the cluster state is back: look before doing it again";
    assert_eq!(asking.await.unwrap(), (FailureKind::Unanswered, said.to_owned()));
}

#[tokio::test]
async fn a_nimbus_that_starts_while_the_store_is_away_leads_when_it_is_back() {
    let (folder, memory) = (tempfile::tempdir().unwrap(), Memory::default());
    let session = memory.session();
    session.go_away();
    let nimbus = nimbus::Nimbus::start(config(&folder), Arc::clone(&session) as Arc<dyn Store>).await.unwrap();
    let client = nimbus_api::client::Client::new(vec![nimbus.address().to_string()]);
    assert!(client.cluster().await.unwrap().cluster_state.is_some());
    assert_eq!(refusal(client.topology("t").await).0, FailureKind::NoClusterState);
    assert_eq!(refusal(client.kill("t", Kill::default()).await).0, FailureKind::NoClusterState);
    session.come_back();
    let executable = upload(&client, EXECUTABLE).await;
    eventually(|| async { client.cluster().await.unwrap().nimbuses[0].leads.then_some(()) }).await;
    client.submit(&submission("t", executable)).await.unwrap();
    nimbus.stop().await;
}

#[tokio::test]
async fn a_lost_session_is_followed_by_another_lead_that_changes_no_plan() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    let before = plan(&board, &id, 1).await;
    let token = async || board.read::<Leader>(&paths::leader()).await.unwrap().map(|found| found.record.token);
    let first = token().await;
    fixture.session.lose();
    fixture.session.come_back();
    eventually(|| async { token().await.filter(|token| Some(token) != first.as_ref()) }).await;
    eventually(|| async { fixture.client.cluster().await.unwrap().nimbuses[0].leads.then_some(()) }).await;
    machine.tell().await;
    fixture.client.deactivate("t").await.unwrap();
    assert_eq!(plans::read(&board, &id).await.unwrap().unwrap(), before);
    assert_eq!(board.children(&paths::leads()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_leader_whose_guard_is_gone_writes_nothing() {
    let fixture = Fixture::start().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    let leader = async || board.read::<Leader>(&paths::leader()).await.unwrap().map(|found| found.record.token);
    let before = board.read::<Topology>(&paths::topology(&id)).await.unwrap().unwrap();
    let token = leader().await.unwrap();
    // As if its session had ended without its noticing.
    board.commit(board.change().delete(paths::lead(&token))).await.unwrap();
    let (kind, said) = refusal(fixture.client.deactivate("t").await);
    assert_eq!(kind, FailureKind::NotLeader);
    assert!(said.starts_with("this Nimbus does not lead any more: "), "{said}");
    assert_eq!(board.read::<Topology>(&paths::topology(&id)).await.unwrap().unwrap(), before);
    // It leads again under another guard, and then it writes.
    eventually(|| async { leader().await.filter(|next| *next != token) }).await;
    eventually(|| async { fixture.client.cluster().await.unwrap().nimbuses[0].leads.then_some(()) }).await;
    assert_eq!(fixture.client.deactivate("t").await.unwrap().status, StatusWord::Inactive);
    // A leader's record that is gone is made again, too.
    let token = leader().await.unwrap();
    board.commit(board.change().delete(paths::leader())).await.unwrap();
    eventually(|| async { leader().await.filter(|next| *next != token) }).await;
}

#[tokio::test]
async fn a_lost_answer_is_settled() {
    let fixture = Fixture::start().await;
    let executable = upload(&fixture.client, EXECUTABLE).await;
    eventually(|| async { fixture.client.cluster().await.unwrap().nimbuses[0].leads.then_some(()) }).await;
    for (name, happens) in [("a", true), ("b", false)] {
        fixture.session.lose_next_answer(happens);
        fixture.session.come_back();
        fixture.client.submit(&submission(name, executable.clone())).await.ok();
        let shown = eventually(|| async { fixture.client.topology(name).await.ok() }).await;
        assert_eq!(shown.summary.status, StatusWord::Active);
    }
    let count = fixture.client.cluster().await.unwrap().topologies.len();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn an_unreadable_record_takes_down_its_own_topology_alone() {
    let fixture = Fixture::start().await;
    let good = fixture.submit("good").await.unwrap().id;
    let bad = fixture.submit("bad").await.unwrap().id;
    let store = fixture.memory.session();
    let path = paths::topology(&bad);
    let version = store.read(&path).await.unwrap().unwrap().version;
    let value = br#"{"format":9,"writer":"later","number":1}"#.to_vec();
    store.commit(vec![Op::Set(path, value, version)]).await.unwrap();
    let fixture = fixture.restart().await;
    let shown = eventually(|| async { fixture.client.topology("bad").await.ok() }).await;
    assert_eq!((shown.summary.status, shown.summary.id), (StatusWord::Broken, bad.clone()));
    let why = format!(
        "the topology record at `topologies/{bad}` cannot be read: the topology record has format 9, and this is built for format 1; build the topology and the daemons with the same version; remove it, or run the version that wrote it"
    );
    assert_eq!(shown.summary.reason.as_deref(), Some(why.as_str()));
    let cluster = fixture.client.cluster().await.unwrap();
    let words: Vec<_> =
        cluster.topologies.iter().map(|topology| (topology.name.to_string(), topology.status)).collect();
    assert_eq!(words, [("bad".to_owned(), StatusWord::Broken), ("good".to_owned(), StatusWord::Active)]);
    assert_eq!(cluster.unreadable, [why]);
    assert_eq!(refusal(fixture.submit("bad").await).0, FailureKind::AlreadyAlive);
    assert_eq!(refusal(fixture.client.activate("bad").await).0, FailureKind::WrongState);
    // While it cannot be read nobody knows which blobs it uses: they stay.
    kill_and_wait(&fixture, &mut [], "good").await;
    assert_eq!(fixture.blob_files().len(), 2);
    let board = fixture.board();
    assert!(board.read::<Topology>(&paths::topology(&good)).await.unwrap().is_none());
    // It can be killed.
    fixture.client.kill("bad", Kill::default()).await.unwrap();
    assert_eq!(refusal(fixture.client.topology("bad").await).0, FailureKind::NotAlive);
    for folder in [paths::topologies(), paths::names(), paths::secrets(), paths::plans()] {
        assert_eq!(board.children(&folder).await.unwrap(), Vec::<String>::new(), "{folder}");
    }
}

#[tokio::test]
async fn what_a_removed_record_leaves_is_cleaned_up() {
    let fixture = Fixture::start().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    board.commit(board.change().delete(paths::topology(&id))).await.unwrap();
    let fixture = fixture.restart().await;
    eventually(|| async {
        let name = board.children(&paths::names()).await.unwrap();
        let secrets = board.children(&paths::secrets()).await.unwrap();
        (name.is_empty() && secrets.is_empty()).then_some(())
    })
    .await;
    let next = fixture.submit("t").await.unwrap();
    assert_ne!(next.id, id);
    let name = TopologyName::new("t").unwrap();
    assert!(board.read::<cluster_state::records::NameTaken>(&paths::name(&name)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_thousand_submissions_and_kills_leave_no_record_and_no_blob() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.drained = true;
    let board: Board = fixture.board();
    for round in 0..100 {
        let names: Vec<String> = (0..10).map(|one| format!("t-{round}-{one}")).collect();
        for name in &names {
            fixture.submit(name).await.unwrap();
        }
        machine.tell().await;
        for name in &names {
            fixture.client.kill(name, Kill { wait_secs: Some(0) }).await.unwrap();
        }
        while !fixture.client.cluster().await.unwrap().topologies.is_empty() {
            machine.tell().await;
        }
    }
    for folder in [paths::topologies(), paths::names(), paths::secrets(), paths::plans()] {
        assert_eq!(board.children(&folder).await.unwrap(), Vec::<String>::new(), "{folder}");
    }
    assert_eq!(fixture.blob_files(), Vec::<String>::new());
    let count = board.read::<cluster_state::records::Submissions>(&paths::submissions()).await.unwrap().unwrap();
    assert_eq!(count.record.count, 1000);
}

#[tokio::test]
async fn an_unreadable_plan_keeps_its_slots_and_can_be_killed() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701, 6702]).await;
    machine.tell().await;
    let id = fixture.submit("bad").await.unwrap().id;
    let board = fixture.board();
    plan(&board, &id, 1).await;
    machine.tell().await;
    let with_workers = machine.report().await;
    let store = fixture.memory.session();
    let path = paths::plan_head(&id);
    let version = store.read(&path).await.unwrap().unwrap().version;
    store.commit(vec![Op::Set(path, b"{}".to_vec(), version)]).await.unwrap();

    let fixture = fixture.restart().await;
    // The machine that the test plays has another client by now.
    let mut other = Machine::new(&fixture, "m2", &[]).await;
    fixture.client.report_machine(&with_workers.id, &with_workers).await.unwrap();
    let shown = eventually(|| async { fixture.client.topology("bad").await.ok() }).await;
    assert_eq!(shown.summary.status, StatusWord::Broken);
    assert!(shown.summary.reason.unwrap().starts_with(&format!("the plan head at `plans/{id}/head` cannot be read: ")));
    let next = fixture.submit("next").await.unwrap().id;
    let planned = plan(&board, &next, 1).await.placement();
    let ports: Vec<u16> = planned.addresses.iter().map(|address| address.as_ref().unwrap().port).collect();
    assert_eq!(ports, [6702]);
    // Its worker hears nothing that would end it.
    let life = Life { plan: PlanVersion(1), incarnation: Incarnation(1) };
    let answer = fixture.client.report_worker(&report(&id, WorkerIndex(0), Port(6700), life)).await.unwrap();
    assert_eq!(answer.slot, Slot::Kept);

    fixture.client.kill("bad", Kill { wait_secs: Some(0) }).await.unwrap();
    eventually(|| async { board.children(&paths::plan(&id)).await.unwrap().is_empty().then_some(()) }).await;
    let mut empty = with_workers.clone();
    empty.topologies.clear();
    empty.slots.values_mut().for_each(|slot| (slot.state, slot.worker) = (SlotState::Empty, None));
    while fixture.client.topology("bad").await.is_ok() {
        fixture.client.report_machine(&empty.id, &empty).await.unwrap();
        other.tell().await;
    }
}

#[tokio::test]
async fn an_unreadable_leader_is_told() {
    let (folder, memory) = (tempfile::tempdir().unwrap(), Memory::default());
    let store = memory.session();
    store.commit(vec![Op::Create(paths::leader(), b"?".to_vec())]).await.unwrap();
    let fixture = Fixture::go_on(folder, memory, |_| {}).await;
    let sentence = eventually(|| async { fixture.client.cluster().await.unwrap().cluster_state }).await;
    assert!(sentence.starts_with("no Nimbus can lead: the leader record at `leader` cannot be read: "), "{sentence}");
    let refused = refusal(fixture.client.kill("t", Kill::default()).await);
    assert_eq!(refused, (FailureKind::NoClusterState, sentence));
    // An operator removes it, as it says.
    store.commit(vec![Op::Delete(paths::leader(), None)]).await.unwrap();
    eventually(|| async { fixture.client.cluster().await.unwrap().nimbuses[0].leads.then_some(()) }).await;
}
