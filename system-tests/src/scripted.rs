//! Machines that are only played: each has its record, and says once a second that all which plans give it runs.
//!
//! Not here: processes. Invariant: to Nimbus and ZooKeeper they are what so many Supervisors would be: a record each, a report each
//! second; they share a session, as a session costs ZooKeeper no write while it lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use cluster_state::board::Board;
use cluster_state::plans::{self, WholePlan};
use cluster_state::store::Store;
use cluster_state::{paths, records};
use nimbus_api::client::Client;
use nimbus_api::machine::{MachineReport, SlotReport, SlotState, SlotWorker};
use nimbus_api::submission::Submission;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use worker_api::answer::Spouts;
use worker_api::describe::{Build, Described, platform};
use worker_api::ids::{
    BlobHash, Incarnation, Life, Port, Revision, SupervisorId, TopologyId, TopologyName, WorkerIndex,
};
use worker_api::report::{REPORT_FORMAT, Report, Stage};

/// What an executable is here: nobody starts it.
const EXECUTABLE: &[u8] = b"nobody starts it";
/// The first port of each machine.
const FIRST_PORT: u16 = 6700;

/// A fleet of machines; dropping it ends their reports.
pub struct Machines {
    board: Arc<Board>,
    client: Client,
    known: Arc<Mutex<Known>>,
    reports: JoinHandle<Result<()>>,
}

/// What the machines say.
struct Known {
    slots: Vec<Port>,
    /// What runs in the slots of each.
    work: BTreeMap<SupervisorId, BTreeMap<Port, SlotWorker>>,
    topologies: Vec<TopologyId>,
}

impl Machines {
    /// Makes the records of so many machines with so many slots each, and has them report from then on. The store is theirs: its
    /// end is theirs.
    ///
    /// # Errors
    /// If ZooKeeper does not answer.
    pub async fn start(store: Arc<dyn Store>, client: Client, machines: usize, slots: u16) -> Result<Machines> {
        while !store.session().connected {
            store.session_changed(store.session()).await;
        }
        let board = Arc::new(Board::new(store, "scripted machines".to_owned()));
        let slots: Vec<Port> = (FIRST_PORT..FIRST_PORT + slots).map(Port).collect();
        let mut work = BTreeMap::new();
        for machine in 0..machines {
            let id = SupervisorId::new(format!("machine-{machine:03}"))?;
            let record = records::Supervisor {
                id: id.clone(),
                host: format!("{id}.local"),
                slots: slots.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                platform: platform(),
                started_ms: 1,
            };
            board.commit(board.change().create_ephemeral(paths::supervisor(&id), record)).await?;
            work.insert(id, BTreeMap::new());
        }
        let known = Arc::new(Mutex::new(Known { slots, work, topologies: Vec::new() }));
        let reports = tokio::spawn(report_on(client.clone(), Arc::clone(&known)));
        Ok(Machines { board, client, known, reports })
    }

    /// Whether each machine's reports were taken so far.
    ///
    /// # Errors
    /// With the first one that was not.
    pub async fn check(&mut self) -> Result<()> {
        if self.reports.is_finished() {
            (&mut self.reports).await??;
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits a topology of so many workers and executors; gives how long the answer took.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn submit(&self, name: &str, workers: u16, executors: u32) -> Result<(TopologyId, Duration)> {
        let hash = BlobHash::of(Sha256::digest(EXECUTABLE).into());
        let begin = Instant::now();
        if self.client.blob_state(&hash).await?.is_none() {
            self.client.upload(&hash, 0, EXECUTABLE.len() as u64, Bytes::from_static(EXECUTABLE)).await?;
        }
        let submission = Submission {
            name: TopologyName::new(name)?,
            owner: None,
            described: Described {
                build: Build::own(),
                graph: serde_json::from_value(graph(name, workers, executors))?,
            },
            executable: hash,
            files: BTreeMap::new(),
            arguments: Vec::new(),
        };
        let id = self.client.submit(&submission).await?.id;
        let took = begin.elapsed();
        self.known().topologies.push(id.clone());
        Ok((id, took))
    }

    /// Takes up what the plan of a topology gives to the machines, once there is one.
    ///
    /// # Errors
    /// If ZooKeeper does not answer.
    pub async fn follow(&self, id: &TopologyId) -> Result<WholePlan> {
        let plan = loop {
            if let Some(plan) = plans::read(&self.board, id).await? {
                break plan;
            }
            sleep(Duration::from_millis(5)).await;
        };
        let mut known = self.known();
        for (machine, part) in &plan.parts {
            let work = known.work.get_mut(machine).with_context(|| format!("{machine} is none of these machines"))?;
            for (worker, placed) in &part.workers {
                let port = placed.port.context("a worker of a machine has a port")?;
                let life = Life { plan: placed.version, incarnation: Incarnation(1) };
                work.insert(port, running(id, *worker, port, life, &plan));
            }
        }
        drop(known);
        Ok(plan)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        self.reports.abort();
    }
}

/// One report of each machine a second, spread over it.
async fn report_on(client: Client, known: Arc<Mutex<Known>>) -> Result<()> {
    for number in 1.. {
        let begin = Instant::now();
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        let machines: Vec<SupervisorId> = lock().work.keys().cloned().collect();
        let pause = Duration::from_secs(1) / u32::try_from(machines.len().max(1))?;
        for (place, id) in (0u32..).zip(&machines) {
            sleep_until(begin + pause * place).await;
            let report = lock().report(id, number);
            client.report_machine(id, &report).await.with_context(|| format!("the report of {id}"))?;
        }
    }
    Ok(())
}

impl Known {
    fn report(&self, id: &SupervisorId, number: u64) -> MachineReport {
        let empty = SlotReport { state: SlotState::Empty, worker: None };
        let mut slots: BTreeMap<Port, SlotReport> = self.slots.iter().map(|port| (*port, empty.clone())).collect();
        for (port, worker) in self.work.get(id).into_iter().flatten() {
            let mut worker = worker.clone();
            if let Some(report) = &mut worker.report {
                report.number = number;
            }
            slots.insert(*port, SlotReport { state: SlotState::Running, worker: Some(worker) });
        }
        MachineReport {
            id: id.clone(),
            host: format!("{id}.local"),
            number,
            uptime_ms: 1000 * number,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots,
            topologies: self.topologies.clone(),
            troubles: BTreeMap::new(),
        }
    }
}

fn running(topology: &TopologyId, worker: WorkerIndex, port: Port, life: Life, plan: &WholePlan) -> SlotWorker {
    let report = Report {
        format: REPORT_FORMAT,
        topology: topology.clone(),
        worker,
        port,
        life,
        number: 1,
        pid: 4711,
        placement: plan.head.version,
        stage: Stage::Ready,
        spouts: Spouts::Active,
        drained: false,
        revision: Revision(u64::MAX),
        fatal: None,
        uptime_us: 1_000_000,
        cpu_us: 1000,
        memory_bytes: 8 << 20,
        inbox_bytes: 0,
        executors: Vec::new(),
        links: BTreeMap::new(),
        metrics: BTreeMap::new(),
    };
    SlotWorker {
        revision: Revision(u64::MAX),
        topology: topology.clone(),
        worker,
        life,
        placement: plan.head.version,
        report_age_ms: Some(1),
        report: Some(report),
        ends: Vec::new(),
        restarts: 0,
    }
}

/// A spout of one task, and a bolt that has the other executors.
fn graph(name: &str, workers: u16, executors: u32) -> Value {
    let bolts = executors.saturating_sub(1).max(1);
    let input = json!([{"component": "lines", "stream": "default", "grouping": {"type": "shuffle"}}]);
    let output = json!([{"name": "default", "fields": ["text"], "direct": false, "tuple": "Line"}]);
    json!({
        "format": topology_api::topology::GRAPH_FORMAT,
        "name": name,
        "config": {"topology.workers": workers},
        "components": [
            {"name": "count", "kind": "bolt", "executors": bolts, "first_task": 1, "tasks": bolts, "streams": [],
             "inputs": input, "config": {}},
            {"name": "lines", "kind": "spout", "executors": 1, "first_task": bolts + 1, "tasks": 1, "streams": output,
             "inputs": [], "config": {}},
        ],
    })
}
