//! A Nimbus on port 0 in a folder of its own, and a Supervisor that the test plays by literal reports.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster_state::board::Board;
use cluster_state::memory::{Memory, MemorySession};
use cluster_state::paths;
use cluster_state::plans::{WholePlan, read};
use cluster_state::records;
use cluster_state::store::Store;
use nimbus::{Nimbus, NimbusConfig};
use nimbus_api::client::{BlobState, Client, ClientError};
use nimbus_api::failure::FailureKind;
use nimbus_api::machine::{MachineAnswer, MachineReport, SlotReport, SlotState, SlotWorker};
use nimbus_api::submission::{Kill, Submission, Submitted};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use topology_api::ids::TaskId;
use topology_api::topology::Graph;
use worker_api::answer::Spouts;
use worker_api::describe::{Build, Described};
use worker_api::ids::{
    BlobHash, Incarnation, Life, PlanVersion, Port, Revision, SupervisorId, TopologyId, TopologyName, WorkerIndex,
};
use worker_api::report::{REPORT_FORMAT, Report, Stage};

/// A Nimbus with its folder, and the memory that its records are in.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) memory: Memory,
    /// The Nimbus's own session.
    pub(crate) session: Arc<MemorySession>,
    pub(crate) nimbus: Nimbus,
    pub(crate) client: Client,
}

impl Fixture {
    /// Starts one on an empty memory.
    pub(crate) async fn start() -> Fixture {
        let (folder, memory) = (tempfile::tempdir().unwrap(), Memory::default());
        Fixture::go_on(folder, memory, |_| {}).await
    }

    /// Starts one on what is there.
    pub(crate) async fn go_on(folder: TempDir, memory: Memory, set: impl FnOnce(&mut NimbusConfig)) -> Fixture {
        let session = memory.session();
        let mut config = config(&folder);
        set(&mut config);
        let store: Arc<dyn Store> = Arc::clone(&session) as _;
        let nimbus = Nimbus::start(config, store).await.unwrap();
        let client = Client::new(vec![nimbus.address().to_string()]);
        Fixture { folder, memory, session, nimbus, client }
    }

    /// Starts another one on the same records, in a folder of its own.
    pub(crate) async fn beside(&self) -> Fixture {
        Fixture::go_on(tempfile::tempdir().unwrap(), self.memory.clone(), |_| {}).await
    }

    /// Stops it and starts another one on the same folder and records.
    pub(crate) async fn restart(self) -> Fixture {
        let Fixture { folder, memory, nimbus, .. } = self;
        nimbus.stop().await;
        Fixture::go_on(folder, memory, |_| {}).await
    }

    /// Reads the records as another daemon does.
    pub(crate) fn board(&self) -> Board {
        Board::new(self.memory.session(), "test".to_owned())
    }

    /// Uploads an executable, and submits it.
    pub(crate) async fn submit(&self, name: &str) -> Result<Submitted, ClientError> {
        let executable = upload(&self.client, EXECUTABLE).await;
        self.client.submit(&submission(name, executable)).await
    }

    /// The names of the files below the blobs' folder, sorted.
    pub(crate) fn blob_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path().join("nimbus/blobs")).unwrap();
        let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// What an executable is made of, here.
pub(crate) const EXECUTABLE: &[u8] = b"\x7fELF, as it were";

pub(crate) fn config(folder: &TempDir) -> NimbusConfig {
    NimbusConfig {
        folder: folder.path().join("nimbus"),
        bind: "127.0.0.1:0".parse().unwrap(),
        host: "localhost".to_owned(),
        configuration: BTreeMap::from([
            ("nimbus.api.port".to_owned(), json!(6628)),
            ("storm.zookeeper.auth.payload".to_owned(), json!("user:hush")),
        ]),
        machine_timeout: Duration::from_secs(30),
        most_workers: Some(8),
        most_executors: Some(100),
        upload_expiration: Duration::from_secs(3600),
    }
}

pub(crate) fn hash_of(bytes: &[u8]) -> BlobHash {
    BlobHash::of(Sha256::digest(bytes).into())
}

/// How the reason of a topology begins that waits for this.
pub(crate) fn waiting(what: &str, bytes: &[u8]) -> String {
    let short = &hash_of(bytes).to_string()[..12];
    format!("waiting for its {what} ({short}…), which is fetched from the other Nimbuses and machines")
}

pub(crate) async fn upload(client: &Client, bytes: &'static [u8]) -> BlobHash {
    let hash = hash_of(bytes);
    if client.blob_state(&hash).await.unwrap() != Some(BlobState::Complete(bytes.len() as u64)) {
        client.upload(&hash, 0, bytes.len() as u64, Bytes::from_static(bytes)).await.unwrap();
    }
    hash
}

/// A spout of one task and a bolt of three, in two workers.
pub(crate) fn graph() -> Graph {
    serde_json::from_value(json!({
        "format": 1, "name": "word-count", "config": {"topology.workers": 2, "my.password": "hush"},
        "components": [
            {"name": "count", "kind": "bolt", "executors": 3, "first_task": 1, "tasks": 3, "streams": [],
             "inputs": [{"component": "lines", "stream": "default", "grouping": {"type": "shuffle"}}], "config": {}},
            {"name": "lines", "kind": "spout", "executors": 1, "first_task": 4, "tasks": 1,
             "streams": [{"name": "default", "fields": ["text"], "direct": false, "tuple": "Line"}],
             "inputs": [], "config": {}},
        ],
    }))
    .unwrap()
}

pub(crate) fn submission(name: &str, executable: BlobHash) -> Submission {
    Submission {
        name: TopologyName::new(name).unwrap(),
        owner: Some("ada".to_owned()),
        described: Described { build: Build::own(), graph: graph() },
        executable,
        files: BTreeMap::new(),
        arguments: vec!["--input".to_owned(), "text".to_owned()],
    }
}

/// What a refusal says; panics if it is none.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (FailureKind, String) {
    match result {
        Err(ClientError::Refused(failure)) => (failure.kind, failure.message),
        other => panic!("not refused: {other:?}"),
    }
}

/// Asks again until it is so; a test that waits for ever is ended from outside.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The plan of a topology, once it has this version.
pub(crate) async fn plan(board: &Board, id: &TopologyId, version: u64) -> WholePlan {
    eventually(|| async {
        let plan = read(board, id).await.unwrap();
        plan.filter(|plan| plan.head.version == PlanVersion(version))
    })
    .await
}

/// A Supervisor that does what it is told at once: it reads plans and says that their workers run.
pub(crate) struct Machine {
    pub(crate) id: SupervisorId,
    client: Client,
    board: Board,
    slots: Vec<Port>,
    number: u64,
    /// How far its workers say to be.
    pub(crate) stage: Stage,
    /// Whether they say to be drained.
    pub(crate) drained: bool,
    /// The last record that they have heard of.
    pub(crate) revision: Revision,
    /// What it says to have of topologies beside its workers.
    pub(crate) keeps: Vec<TopologyId>,
}

impl Machine {
    /// Makes its record, on a session of its own.
    pub(crate) async fn new(fixture: &Fixture, id: &str, slots: &[u16]) -> Machine {
        let id = SupervisorId::new(id).unwrap();
        let board = Board::new(fixture.memory.session(), id.to_string());
        let slots: Vec<Port> = slots.iter().map(|port| Port(*port)).collect();
        let record = records::Supervisor {
            id: id.clone(),
            host: format!("{id}.local"),
            slots: slots.clone(),
            version: "0.1.0".to_owned(),
            platform: worker_api::describe::platform(),
            started_ms: 1,
        };
        board.commit(board.change().create_ephemeral(paths::supervisor(&id), record)).await.unwrap();
        let client = fixture.client.clone();
        let revision = Revision(u64::MAX);
        Machine {
            id,
            client,
            board,
            slots,
            number: 0,
            stage: Stage::Ready,
            drained: false,
            revision,
            keeps: Vec::new(),
        }
    }

    /// From now on it reports to this one.
    pub(crate) fn nimbus_is(&mut self, fixture: &Fixture) {
        self.client = fixture.client.clone();
    }

    /// What it has by the plans that are there.
    pub(crate) async fn report(&mut self) -> MachineReport {
        self.number += 1;
        let empty = SlotReport { state: SlotState::Empty, worker: None };
        let mut slots: BTreeMap<Port, SlotReport> = self.slots.iter().map(|port| (*port, empty.clone())).collect();
        let mut topologies = self.keeps.clone();
        for id in self.board.children(&paths::plans()).await.unwrap() {
            let id = TopologyId::new(id).unwrap();
            let Some(plan) = read(&self.board, &id).await.unwrap() else { continue };
            let Some(part) = plan.parts.get(&self.id) else { continue };
            for (index, placed) in &part.workers {
                let (port, life) = (placed.port.unwrap(), Life { plan: placed.version, incarnation: Incarnation(1) });
                let mut report = report(&id, *index, port, life);
                (report.stage, report.drained, report.placement) = (self.stage, self.drained, plan.head.version);
                report.revision = self.revision;
                let worker = SlotWorker {
                    topology: id.clone(),
                    worker: *index,
                    life,
                    placement: plan.head.version,
                    report_age_ms: Some(1),
                    report: Some(report),
                    ends: Vec::new(),
                    restarts: 0,
                };
                slots.insert(port, SlotReport { state: SlotState::Running, worker: Some(worker) });
            }
            topologies.push(id);
        }
        MachineReport {
            id: self.id.clone(),
            host: format!("{}.local", self.id),
            number: self.number,
            uptime_ms: 1000 * self.number,
            version: "0.1.0".to_owned(),
            slots,
            topologies,
            troubles: BTreeMap::new(),
        }
    }

    /// Reports that.
    pub(crate) async fn tell(&mut self) -> MachineAnswer {
        let report = self.report().await;
        self.client.report_machine(&self.id, &report).await.unwrap()
    }
}

/// The report of a worker that is ready, with one executor that has counted.
pub(crate) fn report(topology: &TopologyId, worker: WorkerIndex, port: Port, life: Life) -> Report {
    Report {
        format: REPORT_FORMAT,
        topology: topology.clone(),
        worker,
        port,
        life,
        number: 1,
        pid: 4711,
        placement: life.plan,
        stage: Stage::Ready,
        spouts: Spouts::Inactive,
        drained: false,
        revision: Revision(u64::MAX),
        fatal: None,
        uptime_us: 2_000_000,
        cpu_us: 1000,
        memory_bytes: 1 << 20,
        inbox_bytes: 0,
        executors: Vec::new(),
        links: BTreeMap::new(),
        metrics: BTreeMap::new(),
    }
}

/// Kills it at once, and plays the machines until nothing is left.
pub(crate) async fn kill_and_wait(fixture: &Fixture, machines: &mut [&mut Machine], name: &str) {
    fixture.client.kill(name, Kill { wait_secs: Some(0) }).await.unwrap();
    loop {
        for machine in machines.iter_mut() {
            machine.tell().await;
        }
        match fixture.client.topology(name).await {
            Err(ClientError::Refused(failure)) if failure.kind == FailureKind::NotAlive => return,
            found => drop(found.unwrap()),
        }
    }
}

/// Tasks of each worker of a plan.
pub(crate) fn tasks(plan: &WholePlan) -> Vec<Vec<Vec<TaskId>>> {
    plan.placement().plan.workers.into_iter().map(|worker| worker.executors).collect()
}
