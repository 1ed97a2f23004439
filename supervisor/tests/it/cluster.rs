//! A cluster around one Supervisor: the cluster state in memory, written by the test, and a Nimbus that serves blobs and hears reports.
//!
//! Not here: what is tested. Invariant: its folder goes with it, and with the folder every worker.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use cluster_state::board::Board;
use cluster_state::memory::{Memory, MemorySession};
use cluster_state::paths;
use cluster_state::records::{FileBlob, Placed, PlanHead, PlanPart, Status, Submissions, Topology, TopologySecret};
use nimbus_api::machine::{MachineAnswer, MachineReport, SlotReport, SlotState, SlotWorker};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use supervisor::process::{Process, Signal};
use supervisor::{Supervisor, SupervisorConfig};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use topology_api::ids::TaskId;
use worker_api::answer::{Answer, GoneLife};
use worker_api::describe::Build;
use worker_api::ids::{BlobHash, FileName, NimbusId, PlanVersion, Port, SupervisorId, TopologyId, WorkerIndex};
use worker_api::secret::Secret;

pub(crate) const FIXTURE: &str = env!("CARGO_BIN_EXE_worker-fixture");
/// How long a test waits for what must happen: far above what it takes on a busy machine with a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// What Nimbus has and hears.
#[derive(Default)]
struct Desk {
    blobs: Mutex<BTreeMap<BlobHash, Vec<u8>>>,
    /// Blobs that are cut after so many bytes, once.
    cut: Mutex<Option<usize>>,
    /// Positions at which downloads began.
    offsets: Mutex<Vec<usize>>,
    gone: Mutex<BTreeMap<TopologyId, Vec<GoneLife>>>,
    report: watch::Sender<Option<MachineReport>>,
}

pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    pub(crate) config: SupervisorConfig,
    pub(crate) session: Arc<MemorySession>,
    pub(crate) board: Board,
    desk: Arc<Desk>,
    address: SocketAddr,
    server: Option<JoinHandle<()>>,
    supervisor: Option<Supervisor>,
    pub(crate) me: Option<SupervisorId>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A folder that somebody writes into is not removed, and who lives in it would live on.
        for _ in 0..1000 {
            let slots = (0..self.config.slots.len()).map(|index| self.slot_folder(index));
            for worker in slots.filter_map(|slot| Process::of_keeper_record(&slot).ok().flatten()) {
                let _ = worker.signal(Signal::KILL);
            }
            if fs::remove_dir_all(self.folder.path()).is_ok() {
                break;
            }
            std::thread::yield_now();
        }
    }
}

pub(crate) fn id(name: &str) -> TopologyId {
    TopologyId::new(name).unwrap()
}

impl Cluster {
    /// With a Supervisor of two slots that is not started yet.
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let free: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let ports: Vec<u16> = free.iter().map(|free| free.local_addr().unwrap().port()).collect();
        let address = free[2].local_addr().unwrap();
        drop(free);
        let config = SupervisorConfig {
            folder: folder.path().join("local/supervisor"),
            workers_folder: folder.path().join("local/workers"),
            logs_folder: folder.path().join("logs"),
            host: "machine-1.example".to_owned(),
            bind: Ipv4Addr::LOCALHOST.into(),
            slots: vec![Port(ports[0]), Port(ports[1])],
            nimbuses: vec![address.to_string()],
            configuration: BTreeMap::from([
                ("topology.debug".to_owned(), json!(false)),
                ("topology.message.timeout.secs".to_owned(), json!(30)),
                ("nimbus.api.port".to_owned(), json!(1)),
            ]),
            keeper: FIXTURE.into(),
            start_timeout: Duration::from_secs(60),
            worker_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(60),
            logs_kept: Duration::from_secs(3600),
            log_bytes: 1 << 20,
            log_files: 2,
        };
        let memory = Memory::default();
        let board = Board::new(memory.session(), "nimbus".to_owned());
        let mut cluster = Cluster {
            folder,
            config,
            session: memory.session(),
            board,
            desk: Arc::default(),
            address,
            server: None,
            supervisor: None,
            me: None,
        };
        cluster.nimbus_comes().await;
        cluster
    }

    pub(crate) async fn start(&mut self) {
        let supervisor = Supervisor::start(self.config.clone(), self.session.clone()).await.unwrap();
        self.me = Some(supervisor.id().clone());
        self.supervisor = Some(supervisor);
    }

    pub(crate) async fn stop(&mut self) {
        self.supervisor.take().unwrap().stop().await;
        // What the next one says is waited for.
        self.desk.report.send_replace(None);
    }

    /// With a Supervisor that runs.
    pub(crate) async fn started() -> Self {
        let mut cluster = Cluster::new().await;
        cluster.start().await;
        cluster
    }

    pub(crate) async fn nimbus_comes(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        let routes = Router::new()
            .route("/v1/blobs/{hash}", get(blob))
            .route("/v1/supervisors/{id}/report", post(report))
            .with_state(self.desk.clone());
        self.server = Some(tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }));
    }

    pub(crate) async fn nimbus_goes(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        let _ = server.await;
    }

    /// Nimbus and the cluster state go.
    pub(crate) async fn everybody_goes(&mut self) {
        self.session.go_away();
        self.nimbus_goes().await;
    }

    pub(crate) fn slot(&self, index: usize) -> Port {
        self.config.slots[index]
    }

    pub(crate) fn slot_folder(&self, index: usize) -> PathBuf {
        self.config.folder.join("slots").join(self.slot(index).to_string())
    }

    pub(crate) fn work_folder(&self, topology: &str, index: usize) -> PathBuf {
        self.config.workers_folder.join(topology).join(self.slot(index).to_string())
    }

    pub(crate) fn log(&self, topology: &str, index: usize) -> String {
        let folder = self.config.logs_folder.join(topology).join(self.slot(index).to_string());
        fs::read_to_string(folder.join("worker.log")).unwrap()
    }

    /// What its worker heard, oldest first.
    pub(crate) fn heard(&self, topology: &str, index: usize) -> Vec<Answer> {
        let folder = self.config.logs_folder.join(topology).join(self.slot(index).to_string());
        let heard = fs::read_to_string(folder.join("heard")).unwrap_or_default();
        // The last line may be half there.
        heard.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(crate) fn keep(&self, bytes: &[u8]) -> FileBlob {
        let hash = BlobHash::of(Sha256::digest(bytes).into());
        self.desk.blobs.lock().unwrap().insert(hash.clone(), bytes.to_vec());
        FileBlob { hash, bytes: bytes.len() as u64 }
    }

    /// What was kept.
    pub(crate) fn blob(&self, hash: &BlobHash) -> Vec<u8> {
        self.desk.blobs.lock().unwrap()[hash].clone()
    }

    /// The next download breaks off behind so many bytes.
    pub(crate) fn cut_next(&self, bytes: usize) {
        *self.desk.cut.lock().unwrap() = Some(bytes);
    }

    pub(crate) fn offsets(&self) -> Vec<usize> {
        self.desk.offsets.lock().unwrap().clone()
    }

    pub(crate) fn lose_blobs(&self) {
        self.desk.blobs.lock().unwrap().clear();
    }

    pub(crate) fn tell_gone(&self, topology: &str, gone: GoneLife) {
        self.desk.gone.lock().unwrap().insert(id(topology), vec![gone]);
    }

    /// The record of a topology that does as these arguments say.
    pub(crate) fn topology(&self, name: &str, arguments: &[&str]) -> Topology {
        // A script, as it is quicker fetched than the fixture itself; the process is the same.
        let executable = self.keep(format!("#!/bin/sh\nexec {FIXTURE} \"$@\"\n").as_bytes());
        let config = json!({"topology.debug": true, "topology.environment": {"GREETING": "hello"}, "own.key": [1, 2]});
        let graph =
            self.keep(json!({"format": 1, "name": name, "config": config, "components": []}).to_string().as_bytes());
        let file = self.keep(b"some words\n");
        Topology {
            id: id(name),
            name: name.parse().unwrap(),
            owner: None,
            submitted_ms: 1_700_000_000_000,
            build: Build::own(),
            executable,
            graph,
            files: BTreeMap::from([(FileName::new("words.txt").unwrap(), file)]),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            started: true,
            rebalanced: Default::default(),
            revision: Default::default(),
            status: Status::Active,
        }
    }

    /// Stores a topology whose workers, by index, are in these slots of the machine.
    pub(crate) async fn submit(&self, topology: Topology, workers: &[usize]) {
        let placed = workers.iter().map(|slot| (*slot, 1)).collect::<Vec<_>>();
        let (head, part, hash) = self.plan(1, &placed);
        let id = topology.id.clone();
        let mut change = self.board.change();
        if self.board.read::<Submissions>(&paths::submissions()).await.unwrap().is_none() {
            change = change.create(paths::submissions(), Submissions { count: 1 });
        }
        let change = change
            .create(paths::secret(&id), TopologySecret { secret: Secret::new([7; 32]) })
            .create(paths::plan_part(&id, &hash), part)
            .create(paths::plan_head(&id), head)
            .create(paths::topology(&id), topology);
        self.board.commit(change).await.unwrap();
    }

    /// Changes the plan: each worker's slot, and the version at which it last changed.
    pub(crate) async fn replan(&self, topology: &str, version: u64, workers: &[(usize, u64)]) {
        let id = id(topology);
        let (head, part, hash) = self.plan(version, workers);
        let before = self.board.read::<PlanHead>(&paths::plan_head(&id)).await.unwrap().unwrap();
        let change = self.board.change().create(paths::plan_part(&id, &hash), part).set(
            paths::plan_head(&id),
            head,
            before.version,
        );
        self.board.commit(change).await.unwrap();
    }

    fn plan(&self, version: u64, workers: &[(usize, u64)]) -> (PlanHead, PlanPart, BlobHash) {
        let placed = |(index, (slot, version)): (usize, &(usize, u64))| {
            let executors = vec![vec![TaskId(index as u32 + 1)]];
            let placed = Placed { port: Some(self.slot(*slot)), version: PlanVersion(*version), executors };
            (WorkerIndex(index as u16), placed)
        };
        let host = self.config.host.clone();
        let part = PlanPart { host, workers: workers.iter().enumerate().map(placed).collect() };
        let hash = BlobHash::of(Sha256::digest(serde_json::to_vec(&(version, &part)).unwrap()).into());
        // A plan without workers here has no part for this machine.
        let here = if workers.is_empty() { SupervisorId::new("elsewhere").unwrap() } else { self.me.clone().unwrap() };
        let parts = BTreeMap::from([(here, hash.clone())]);
        let head = PlanHead { version: PlanVersion(version), workers: workers.len() as u16, parts, waiting: None };
        (head, part, hash)
    }

    /// Changes a topology's record.
    pub(crate) async fn set(&self, topology: &str, change: impl FnOnce(&mut Topology)) {
        let path = paths::topology(&id(topology));
        let mut found = self.board.read::<Topology>(&path).await.unwrap().unwrap();
        change(&mut found.record);
        self.board.commit(self.board.change().set(path, found.record, found.version)).await.unwrap();
    }

    /// Removes a topology's records.
    pub(crate) async fn remove(&self, topology: &str) {
        let id = id(topology);
        let mut change = self.board.change().delete(paths::plan_head(&id));
        for part in self.board.children(&paths::plan_parts(&id)).await.unwrap() {
            change = change.delete(paths::plan_part(&id, &part.parse().unwrap()));
        }
        let change = change.delete(paths::topology(&id)).delete(paths::secret(&id));
        self.board.commit(change).await.unwrap();
    }

    /// The next report of the machine that is like that.
    pub(crate) async fn until(&self, is_so: impl Fn(&MachineReport) -> bool) -> MachineReport {
        let mut reports = self.desk.report.subscribe();
        let found = timeout(PATIENCE, async {
            loop {
                if let Some(report) = reports.borrow_and_update().as_ref().filter(|report| is_so(report)) {
                    return report.clone();
                }
                reports.changed().await.unwrap();
            }
        });
        match found.await {
            Ok(report) => report,
            Err(_) => panic!("never reported; last: {:#?}", self.desk.report.borrow().as_ref()),
        }
    }

    /// The worker of a slot, when it runs and reported.
    pub(crate) async fn running(&self, index: usize) -> SlotWorker {
        let port = self.slot(index);
        let report = self.until(|report| is_running(&report.slots[&port])).await;
        report.slots[&port].worker.clone().unwrap()
    }

    /// The worker of a slot, when it runs in a later life than that.
    pub(crate) async fn running_after(&self, index: usize, before: &SlotWorker) -> SlotWorker {
        let port = self.slot(index);
        let later = |slot: &SlotReport| {
            is_running(slot) && slot.worker.as_ref().is_some_and(|worker| worker.life > before.life)
        };
        let report = self.until(|report| later(&report.slots[&port])).await;
        report.slots[&port].worker.clone().unwrap()
    }
}

fn is_running(slot: &SlotReport) -> bool {
    slot.state == SlotState::Running && slot.worker.as_ref().is_some_and(|worker| worker.report.is_some())
}

/// Looks again and again.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = timeout(PATIENCE, async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

async fn blob(State(desk): State<Arc<Desk>>, Path(hash): Path<String>, headers: HeaderMap) -> (StatusCode, Bytes) {
    let from = headers.get("range").map_or(0, |range| {
        let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        range.strip_suffix('-').unwrap().parse().unwrap()
    });
    desk.offsets.lock().unwrap().push(from);
    let Some(bytes) = desk.blobs.lock().unwrap().get(&hash.parse().unwrap()).cloned() else {
        let failure = json!({"kind": "not-found", "message": format!("there is no blob {hash}")});
        return (StatusCode::NOT_FOUND, failure.to_string().into());
    };
    let to = desk.cut.lock().unwrap().take().unwrap_or(bytes.len()).max(from);
    (StatusCode::OK, Bytes::copy_from_slice(&bytes[from..to]))
}

async fn report(State(desk): State<Arc<Desk>>, Json(report): Json<Value>) -> Json<MachineAnswer> {
    let report: MachineReport = serde_json::from_value(report).unwrap();
    desk.report.send_replace(Some(report));
    Json(MachineAnswer {
        nimbus: NimbusId::new("nimbus-1").unwrap(),
        gone: desk.gone.lock().unwrap().clone(),
        plans: BTreeMap::new(),
        wanted: Vec::new(),
    })
}
