//! A Supervisor on a host in memory, with the clock paused: what the seam promises to whoever makes another host.
//!
//! Not here: what the machine's own host does (`slots`, `keeper`). Invariant: no process, no socket, no second thread.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nimbus_api::machine::{MachineAnswer, MachineReport};
use seam::Seam;
use seam::disk::{Disk, LocalDisk};
use supervisor::Supervisor;
use supervisor::host::{Connection, Connections, Host, Lock, NotLaunched, Signal, WorkerProcess, WorkerStart};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use worker_api::answer::{Slot, Spouts};
use worker_api::ids::{BlobHash, Incarnation, Life, NimbusId, PlanVersion, Port, SupervisorId};
use worker_api::report::{REPORT_FORMAT, Report, Stage};

use crate::cluster::{Cluster, id};

/// On the paused clock: as soon as nothing else can happen.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Default)]
struct Machine {
    blobs: Mutex<BTreeMap<BlobHash, Vec<u8>>>,
    /// Who runs, by slot.
    running: Mutex<BTreeMap<Port, WorkerStart>>,
    /// What Nimbus lacks, as far as it has it.
    lacks: Mutex<BTreeMap<BlobHash, Vec<u8>>>,
    /// What it was given last.
    given: watch::Sender<Option<Vec<u8>>>,
    last: Mutex<BTreeMap<Port, Incarnation>>,
    starts: watch::Sender<Option<WorkerStart>>,
    report: watch::Sender<Option<Arc<MachineReport>>>,
    workers: watch::Sender<Option<Connections>>,
    signals: Arc<watch::Sender<Option<Signal>>>,
    /// The task that takes connections breaks off.
    breaks: Notify,
}

/// The host that it is.
struct InMemory(Arc<Machine>);

impl Host for InMemory {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(LocalDisk)
    }

    fn socket(&self) -> PathBuf {
        "nowhere".into()
    }

    fn serve(&self, workers: Connections) -> BoxFuture<'static, ()> {
        let machine = self.0.clone();
        Box::pin(async move {
            machine.workers.send_replace(Some(workers));
            machine.breaks.notified().await;
        })
    }

    fn port_is_free(&self, _port: Port) -> Result<(), String> {
        Ok(())
    }

    fn launch(&self, start: WorkerStart) -> BoxFuture<'static, Result<(), NotLaunched>> {
        let machine = self.0.clone();
        Box::pin(async move {
            machine.last.lock().unwrap().insert(start.port, start.life.incarnation);
            machine.running.lock().unwrap().insert(start.port, start.clone());
            machine.starts.send_replace(Some(start));
            Ok(())
        })
    }

    fn look(&self, port: Port) -> io::Result<Lock> {
        let held = self.0.running.lock().unwrap().contains_key(&port);
        Ok(if held { Lock::Held } else { Lock::Free(None) })
    }

    fn last_started(&self, port: Port) -> Option<Incarnation> {
        self.0.last.lock().unwrap().get(&port).copied()
    }

    fn is_kept(&self, _port: Port) -> bool {
        true
    }

    fn signal(&self, _port: Port, signal: Signal) -> io::Result<()> {
        self.0.signals.send_replace(Some(signal));
        Ok(())
    }

    fn fetch(&self, hash: BlobHash, from: u64, to: DuplexStream) -> BoxFuture<'static, Result<(), String>> {
        let found = self.0.blobs.lock().unwrap().get(&hash).cloned();
        Box::pin(async move {
            let (mut to, blob) = (to, found.ok_or("there is no such blob")?);
            to.write_all(&blob[from as usize..]).await.map_err(|error| error.to_string())
        })
    }

    fn offer(
        &self,
        hash: BlobHash,
        length: u64,
        offset: u64,
        piece: Bytes,
    ) -> BoxFuture<'static, Result<Option<u64>, String>> {
        let mut lacks = self.0.lacks.lock().unwrap();
        let had = lacks.get_mut(&hash).unwrap();
        if !piece.is_empty() {
            assert_eq!(had.len() as u64, offset);
            // It takes three bytes of a piece at a time.
            had.extend_from_slice(&piece[..piece.len().min(3)]);
        }
        let next = Some(had.len() as u64).filter(|has| *has < length);
        if next.is_none() {
            self.0.given.send_replace(lacks.remove(&hash));
        }
        Box::pin(async move { Ok(next) })
    }

    fn report(&self, report: Arc<MachineReport>) -> BoxFuture<'static, Result<MachineAnswer, String>> {
        self.0.report.send_replace(Some(report));
        let nimbus = NimbusId::new("nimbus-1").unwrap();
        let wanted = self.0.lacks.lock().unwrap().keys().cloned().collect();
        Box::pin(async { Ok(MachineAnswer { nimbus, gone: BTreeMap::new(), plans: BTreeMap::new(), wanted }) })
    }
}

/// A worker in memory, which hears its signals.
struct Process(Arc<watch::Sender<Option<Signal>>>);

impl WorkerProcess for Process {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.0.send_replace(Some(signal));
        Ok(())
    }
}

async fn until<T: Clone>(watched: &watch::Sender<Option<T>>, is_so: impl Fn(&T) -> bool) -> T {
    let mut watched = watched.subscribe();
    let found = timeout(PATIENCE, watched.wait_for(|now| now.as_ref().is_some_and(&is_so))).await;
    found.unwrap().unwrap().clone().unwrap()
}

/// One slot of a Supervisor runs a worker that has said hello.
struct Running {
    cluster: Cluster,
    machine: Arc<Machine>,
    supervisor: Supervisor,
    start: WorkerStart,
    connection: Connection,
}

fn hello(start: &WorkerStart) -> Report {
    Report {
        format: REPORT_FORMAT,
        topology: start.launch.topology.clone(),
        worker: start.launch.worker,
        port: start.port,
        life: start.life,
        number: 1,
        pid: 0,
        placement: start.launch.placement.version,
        stage: Stage::Ready,
        spouts: Spouts::Active,
        drained: false,
        revision: Default::default(),
        fatal: None,
        uptime_us: 1,
        cpu_us: 0,
        memory_bytes: 0,
        inbox_bytes: 0,
        executors: Vec::new(),
        links: BTreeMap::new(),
        metrics: BTreeMap::new(),
    }
}

async fn running() -> Running {
    let mut cluster = Cluster::new().await;
    let me = SupervisorId::new("machine-1").unwrap();
    cluster.me = Some(me.clone());
    let topology = cluster.topology("words-1-1", &[]);
    let machine = Arc::new(Machine::default());
    for hash in [&topology.executable, &topology.graph, &topology.files.values().next().unwrap().clone()] {
        machine.blobs.lock().unwrap().insert(hash.hash.clone(), cluster.blob(&hash.hash));
    }
    cluster.submit(topology, &[0]).await;
    let (host, config, store) = (Arc::new(InMemory(machine.clone())), cluster.config.clone(), cluster.session.clone());
    let supervisor = Supervisor::on_host(host, config, me, store, Seam::seeded(7)).await.unwrap();
    let start = until(&machine.starts, |_| true).await;
    let workers = until(&machine.workers, |_| true).await;
    let mut connection = workers.connect(Process(machine.signals.clone())).await.unwrap();
    assert!(connection.reports().send(hello(&start)).await);
    let answer = timeout(PATIENCE, connection.answer()).await.unwrap().unwrap();
    assert_eq!((answer.slot, answer.spouts), (Slot::Kept, Spouts::Active));
    Running { cluster, machine, supervisor, start, connection }
}

#[tokio::test(start_paused = true)]
async fn a_host_is_told_all_that_a_worker_needs_and_ends_it_by_a_new_plan() {
    let Running { cluster, machine, supervisor, start, mut connection } = running().await;
    let port = cluster.slot(0);
    assert_eq!((start.port, start.life), (port, Life { plan: PlanVersion(1), incarnation: Incarnation(1) }));
    assert_eq!((&start.launch.topology, start.launch.supervisor.as_str()), (&id("words-1-1"), "machine-1"));
    assert_eq!(start.environment, BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]));
    assert!(fs::read_to_string(&start.executable).unwrap().starts_with("#!/bin/sh"));
    let files: Vec<_> =
        start.files.iter().map(|(name, from)| (name.as_str(), fs::read_to_string(from).unwrap())).collect();
    assert_eq!(files, [("words.txt", "some words\n".to_owned())]);

    cluster.replan("words-1-1", 2, &[(0, 2)]).await;
    let mut answer = timeout(PATIENCE, connection.answer()).await.unwrap().unwrap();
    while answer.slot == Slot::Kept {
        answer = timeout(PATIENCE, connection.answer()).await.unwrap().unwrap();
    }
    assert_eq!(until(&machine.signals, |_| true).await, Signal::Term);
    machine.running.lock().unwrap().clear();
    drop(connection);
    let second = until(&machine.starts, |start| start.life.incarnation > Incarnation(1)).await;
    assert_eq!(second.life, Life { plan: PlanVersion(2), incarnation: Incarnation(2) });
    let report = until(&machine.report, |report| {
        report.slots[&port].worker.as_ref().is_some_and(|worker| worker.life == second.life)
    });
    let worker = report.await.slots[&port].worker.clone().unwrap();
    assert_eq!((worker.ends.len(), worker.restarts, worker.failures()), (1, 0, [].as_slice()));
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nimbus_gets_what_it_lacks_from_the_machine() {
    let Running { cluster: _cluster, machine, supervisor, start, .. } = running().await;
    let executable = fs::read(&start.executable).unwrap();
    let hash: BlobHash = start.executable.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let elsewhere = BlobHash::of([0; 32]);
    // A part of it has come before.
    let lacks = [(elsewhere.clone(), Vec::new()), (hash, executable[..7].to_vec())];
    machine.lacks.lock().unwrap().extend(lacks);
    assert_eq!(until(&machine.given, |_| true).await, executable);
    assert_eq!(machine.lacks.lock().unwrap().keys().collect::<Vec<_>>(), [&elsewhere]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_supervisor_ends_all_that_it_does() {
    let Running { cluster: _cluster, machine, supervisor, mut connection, .. } = running().await;
    drop(supervisor);
    let answer = async { while connection.answer().await.is_some() {} };
    timeout(PATIENCE, answer).await.unwrap();
    assert!(machine.workers.borrow().as_ref().unwrap().connect(Process(machine.signals.clone())).await.is_none());
    // Whoever has the host may use it.
    while Arc::strong_count(&machine) > 1 {
        tokio::task::yield_now().await;
    }
    // What ran goes on.
    assert_eq!(machine.running.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_of_which_a_task_breaks_off_ends_and_says_so() {
    let Running { cluster: _cluster, machine, mut supervisor, mut connection, .. } = running().await;
    assert!(timeout(Duration::from_secs(60), supervisor.failed()).await.is_err());
    machine.breaks.notify_one();
    timeout(PATIENCE, supervisor.failed()).await.unwrap();
    let answer = async { while connection.answer().await.is_some() {} };
    timeout(PATIENCE, answer).await.unwrap();
    supervisor.stop().await;
}
