//! A leader that is stopped for a while and goes on: on a paused clock, behind a gate, without sockets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use cluster_state::board::Board;
use cluster_state::memory::{Memory, MemorySession};
use cluster_state::records::{self, Leader, Topology};
use cluster_state::{paths, plans};
use futures_util::future::BoxFuture;
use futures_util::stream;
use nimbus::{Api, Command, Engine, Extent, Parts, Peers};
use nimbus_api::machine::{MachineReport, SlotReport, SlotState};
use nimbus_api::topology::StatusWord;
use seam::disk::LocalDisk;
use seam::{Gate, Seam};
use tempfile::TempDir;
use worker_api::ids::{BlobHash, NimbusId, Port, SupervisorId};

use crate::fixture::{EXECUTABLE, config, hash_of, submission};

/// Stops and continues a process.
#[derive(Default)]
struct Signal {
    is_stopped: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Signal {
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    fn go_on(&self) {
        self.is_stopped.store(false, Ordering::Relaxed);
        self.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}

impl Gate for Signal {
    fn poll_pass(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_stopped.load(Ordering::Relaxed) {
            self.waiting.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// The other Nimbuses in this process.
#[derive(Default)]
struct Near(Mutex<BTreeMap<NimbusId, Api>>);

impl Near {
    fn api(&self, nimbus: &records::Nimbus) -> Result<Api, String> {
        self.0.lock().unwrap().get(&nimbus.id).cloned().ok_or_else(|| "it is not there".to_owned())
    }
}

impl Peers for Near {
    fn piece<'a>(
        &'a self,
        nimbus: &'a records::Nimbus,
        hash: &'a BlobHash,
        from: u64,
    ) -> BoxFuture<'a, Result<(Bytes, u64), String>> {
        Box::pin(async move { self.api(nimbus)?.piece(hash, from).await.map_err(|failure| failure.message) })
    }

    fn held<'a>(
        &'a self,
        nimbus: &'a records::Nimbus,
        hashes: &'a [BlobHash],
    ) -> BoxFuture<'a, Result<Vec<BlobHash>, String>> {
        Box::pin(async move { Ok(self.api(nimbus)?.held(hashes)) })
    }
}

/// A Nimbus with its gate.
struct Gated {
    engine: Engine,
    signal: Arc<Signal>,
    session: Arc<MemorySession>,
    _folder: TempDir,
}

impl Gated {
    async fn start(id: &str, seed: u64, memory: &Memory, near: &Arc<Near>) -> Gated {
        let (folder, signal, session) = (tempfile::tempdir().unwrap(), Arc::new(Signal::default()), memory.session());
        let mut config = config(&folder);
        config.machine_timeout = Duration::from_secs(10);
        let start = tokio::time::Instant::now();
        let wall = move || 1_700_000_000_000 + start.elapsed().as_millis() as u64;
        let id = NimbusId::new(id).unwrap();
        let parts = Parts {
            config,
            id: id.clone(),
            store: Arc::clone(&session) as _,
            seam: Seam::simulated(seed, wall, Arc::clone(&signal) as _),
            disk: Arc::new(LocalDisk),
            peers: Arc::clone(near) as _,
        };
        let engine = Engine::start(parts).await.unwrap();
        near.0.lock().unwrap().insert(id, engine.api());
        Gated { engine, signal, session, _folder: folder }
    }
}

/// A machine whose slots are empty: it is heard each second by whichever Nimbus leads.
struct Heard {
    id: SupervisorId,
    number: u64,
}

impl Heard {
    async fn new(id: &str, memory: &Memory) -> Heard {
        let board = Board::new(memory.session(), id.to_owned());
        let id = SupervisorId::new(id).unwrap();
        let record = records::Supervisor {
            id: id.clone(),
            host: format!("{id}.local"),
            slots: vec![Port(6700), Port(6701)],
            version: "0.1.0".to_owned(),
            platform: worker_api::describe::platform(),
            started_ms: 1,
        };
        board.commit(board.change().create_ephemeral(paths::supervisor(&id), record)).await.unwrap();
        Heard { id, number: 0 }
    }

    async fn tell(&mut self, api: &Api) {
        self.number += 1;
        let empty = || SlotReport { state: SlotState::Empty, worker: None };
        let report = MachineReport {
            id: self.id.clone(),
            host: format!("{}.local", self.id),
            number: self.number,
            uptime_ms: 1000 * self.number,
            version: "0.1.0".to_owned(),
            slots: [6700, 6701].map(|port| (Port(port), empty())).into(),
            topologies: Vec::new(),
            troubles: BTreeMap::new(),
        };
        // A stopped Nimbus does not answer, and one that follows refuses.
        let _ = tokio::time::timeout(Duration::from_millis(10), api.report_machine(report)).await;
    }
}

/// Lets time pass; each second these machines are heard by these Nimbuses.
async fn pass(secs: u64, machines: &mut [&mut Heard], by: &[&Gated]) {
    for _ in 0..secs {
        for machine in machines.iter_mut() {
            for nimbus in by {
                machine.tell(&nimbus.engine.api()).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn plan_version(board: &Board, id: &worker_api::ids::TopologyId) -> u64 {
    plans::read(board, id).await.unwrap().map_or(0, |plan| plan.head.version.0)
}

async fn submit(nimbus: &Gated) -> worker_api::ids::TopologyId {
    let (api, hash) = (nimbus.engine.api(), hash_of(EXECUTABLE));
    let piece = stream::iter([Ok::<_, Infallible>(Bytes::from_static(EXECUTABLE))]);
    let length = EXECUTABLE.len() as u64;
    assert_eq!(api.append(&hash, 0, length, piece).await.unwrap(), Extent::Complete(length));
    api.submit(submission("t", hash)).await.unwrap().id
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_slept_hears_all_machines_anew_before_it_declares_one_dead() {
    let (memory, near) = (Memory::default(), Arc::default());
    let nimbus = Gated::start("a", 1, &memory, &near).await;
    let (mut one, mut two) = (Heard::new("m1", &memory).await, Heard::new("m2", &memory).await);
    let board = Board::new(memory.session(), "test".to_owned());
    // The machine that is alone gets both workers.
    pass(2, &mut [&mut one], &[&nimbus]).await;
    let id = submit(&nimbus).await;
    pass(2, &mut [&mut one, &mut two], &[&nimbus]).await;
    let version = plan_version(&board, &id).await;

    // For longer than its time-out nobody is heard, as it sleeps; it leads on.
    nimbus.signal.stop();
    tokio::time::sleep(Duration::from_secs(15)).await;
    nimbus.signal.go_on();
    // From now on the first machine is silent: it is dead after ten seconds of listening, and no sooner.
    pass(9, &mut [&mut two], &[&nimbus]).await;
    assert_eq!(plan_version(&board, &id).await, version);
    let cluster = nimbus.engine.api().cluster().await.unwrap();
    assert_eq!(cluster.machines.iter().map(|machine| machine.dead).collect::<Vec<_>>(), [false, false]);
    pass(3, &mut [&mut two], &[&nimbus]).await;
    assert_eq!(plan_version(&board, &id).await, version + 1);
    nimbus.engine.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_slept_through_its_session_writes_nothing_and_follows() {
    let (memory, near) = (Memory::default(), Arc::default());
    let first = Gated::start("a", 1, &memory, &near).await;
    let mut machine = Heard::new("m1", &memory).await;
    pass(2, &mut [&mut machine], &[&first]).await;
    let second = Gated::start("b", 2, &memory, &near).await;
    let id = submit(&first).await;
    pass(2, &mut [&mut machine], &[&first, &second]).await;

    first.signal.stop();
    first.session.lose();
    pass(3, &mut [&mut machine], &[&second]).await;
    let board = Board::new(memory.session(), "test".to_owned());
    let leader = || async { board.read::<Leader>(&paths::leader()).await.unwrap().unwrap().record.nimbus.to_string() };
    assert_eq!(leader().await, "b");
    let summary = second.engine.api().command("t", Command::Deactivate).await.unwrap();
    assert_eq!((summary.id, summary.status), (id.clone(), StatusWord::Inactive));
    let before = board.read::<Topology>(&paths::topology(&id)).await.unwrap().unwrap();
    let head = plan_version(&board, &id).await;
    // What it was asked while it slept it does not do.
    let api = first.engine.api();
    let late = tokio::spawn(async move { api.command("t", Command::Activate).await });
    pass(30, &mut [&mut machine], &[&second]).await;
    first.signal.go_on();
    assert!(late.await.unwrap().is_err());
    pass(12, &mut [&mut machine], &[&first, &second]).await;
    assert_eq!(leader().await, "b");
    assert_eq!(board.read::<Topology>(&paths::topology(&id)).await.unwrap().unwrap(), before);
    assert_eq!(plan_version(&board, &id).await, head);
    assert_eq!(first.engine.api().leader().unwrap().nimbus.as_str(), "b");
    // It follows with copies of all blobs, and leads again when the other one ends.
    second.engine.stop().await;
    pass(2, &mut [&mut machine], &[&first]).await;
    assert_eq!(leader().await, "a");
    assert_eq!(first.engine.api().topology("t").await.unwrap().summary.status, StatusWord::Inactive);
    // A loop ends with its handle.
    let api = first.engine.api();
    drop(first.engine);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api.cluster().await.unwrap_err().message, "this Nimbus is stopping");
}

#[tokio::test(start_paused = true)]
async fn under_a_seed_the_same_happens_again() {
    let run = async || {
        let (memory, near) = (Memory::default(), Arc::default());
        let nimbus = Gated::start("a", 7, &memory, &near).await;
        let id = submit(&nimbus).await;
        let board = Board::new(memory.session(), "test".to_owned());
        let leader = board.read::<Leader>(&paths::leader()).await.unwrap().unwrap().record;
        let secret = board.read::<records::TopologySecret>(&paths::secret(&id)).await.unwrap().unwrap().record.secret;
        nimbus.engine.stop().await;
        (id, leader, secret)
    };
    let (first, second) = (run().await, run().await);
    assert!(first == second);
}
