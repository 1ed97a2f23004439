//! The local cluster: starts workers, tells them of each other, ends with them.
//!
//! Not here: what workers do. Invariant: every worker that was started is stopped or dropped with the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use seam::Seam;
use topology_api::topology::Topology;
use worker::journal::Journal;
use worker::process::{Worker, WorkerConfig, WorkerReport};
use worker::transfer::network::Connector;
use worker::transfer::pipe::Pipes;
use worker_api::ids::{Incarnation, Life, WorkerIndex};
use worker_api::plan::Plan;
use worker_api::report::{Distribution, Fatal};
use worker_api::secret::Secret;

use crate::placement::spread_evenly;

/// Why a local run did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A component cannot go on.
    #[error("component `{component}` stopped: {error}")]
    Fatal {
        /// The component.
        component: String,
        /// What it said.
        error: String,
    },
}

/// Options of a local cluster.
pub struct LocalClusterBuilder {
    topology: Arc<Topology>,
    workers: Option<u16>,
    seam: Option<Seam>,
    control: Option<Seam>,
    connectors: Option<Connectors>,
    journal: Option<Journal>,
}

type Connectors = Box<dyn Fn(WorkerIndex) -> Arc<dyn Connector> + Send + Sync>;

/// A running topology; dropping it ends it at once, [`LocalCluster::stop`] in order.
pub struct LocalCluster {
    topology: Arc<Topology>,
    plan: Plan,
    seam: Seam,
    control: Seam,
    secret: Secret,
    network: Pipes,
    connectors: Option<Connectors>,
    journal: Option<Journal>,
    workers: Vec<Option<Worker>>,
    incarnations: Vec<Incarnation>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Roots that were acked.
    pub acked: u64,
    /// Roots that failed, replayed ones each time.
    pub failed: u64,
    /// Time from emit to the last ack of each root.
    pub complete: Distribution,
    /// Tuples executed by each component.
    pub executed: BTreeMap<String, u64>,
    /// Errors of user code, by component: the last ones.
    pub errors: BTreeMap<String, Vec<String>>,
}

impl LocalCluster {
    /// A local cluster for this topology.
    pub fn builder(topology: Topology) -> LocalClusterBuilder {
        LocalClusterBuilder {
            topology: Arc::new(topology),
            workers: None,
            seam: None,
            control: None,
            connectors: None,
            journal: None,
        }
    }

    /// Runs a topology of bounded spouts to its end, on the current runtime.
    ///
    /// # Errors
    /// If a component stopped by a fatal error.
    pub async fn run(topology: Topology) -> Result<Summary, LocalError> {
        let cluster = LocalCluster::builder(topology).start().await?;
        cluster.ended().await?;
        let summary = cluster.summary();
        cluster.stop(Duration::ZERO).await;
        Ok(summary)
    }

    /// Waits until the input of every component is finished.
    ///
    /// # Errors
    /// If a component stopped by a fatal error.
    pub async fn ended(&self) -> Result<(), LocalError> {
        let workers: Vec<&Worker> = self.workers.iter().flatten().collect();
        let mut waiting: Vec<_> = workers.iter().map(|worker| Box::pin(worker.ended())).collect();
        while !waiting.is_empty() {
            let progress = std::future::poll_fn(|cx| {
                for index in 0..waiting.len() {
                    if let std::task::Poll::Ready(progress) = waiting[index].as_mut().poll(cx) {
                        drop(waiting.swap_remove(index));
                        return std::task::Poll::Ready(progress);
                    }
                }
                std::task::Poll::Pending
            })
            .await;
            if let Some(Fatal { component, error }) = progress.fatal {
                return Err(LocalError::Fatal { component, error });
            }
        }
        Ok(())
    }

    /// The first fatal error of any worker, if there was one.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<(), LocalError> {
        match self.workers.iter().flatten().find_map(|worker| worker.progress().fatal) {
            Some(Fatal { component, error }) => Err(LocalError::Fatal { component, error }),
            None => Ok(()),
        }
    }

    /// Has the spouts asked again.
    pub fn activate(&self) {
        self.workers.iter().flatten().for_each(Worker::activate);
    }

    /// Has the spouts asked no more.
    pub fn deactivate(&self) {
        self.workers.iter().flatten().for_each(Worker::deactivate);
    }

    /// Roots that are pending.
    pub fn pending(&self) -> u64 {
        self.workers.iter().flatten().map(Worker::pending).sum()
    }

    /// Whether all spouts have stopped asking, after [`LocalCluster::deactivate`], and nothing is pending.
    pub fn is_drained(&self) -> bool {
        self.workers.iter().flatten().all(Worker::is_drained)
    }

    /// Deactivates, waits until nothing is pending or `wait` is over, fails what still is, and ends.
    pub async fn stop(mut self, wait: Duration) {
        self.deactivate();
        let deadline = self.seam.now() + wait;
        while !self.is_drained() && self.seam.now() < deadline {
            self.seam.sleep(Duration::from_millis(1)).await;
        }
        for worker in self.workers.iter_mut().filter_map(Option::take) {
            worker.stop().await;
        }
    }

    /// What each worker that runs says of itself.
    pub fn reports(&self) -> Vec<WorkerReport> {
        self.workers.iter().flatten().map(Worker::report).collect()
    }

    /// What the run came to so far.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            acked: 0,
            failed: 0,
            complete: Distribution::default(),
            executed: BTreeMap::new(),
            errors: BTreeMap::new(),
        };
        for executor in self.reports().into_iter().flat_map(|report| report.executors) {
            let spout = self.topology.component(&executor.component).is_some_and(|component| component.is_spout());
            if spout {
                summary.acked += executor.counts.acked;
                summary.failed += executor.counts.failed;
                summary.complete.add(&executor.counts.complete);
            }
            *summary.executed.entry(executor.component.clone()).or_default() += executor.counts.executed;
            let errors = executor.errors.into_iter().map(|error| error.message);
            summary.errors.entry(executor.component).or_default().extend(errors);
        }
        summary
    }

    /// The worker that runs a task.
    pub fn worker_of(&self, task: topology_api::ids::TaskId) -> Option<u16> {
        self.plan.worker_of(task).map(|worker| worker.0)
    }

    /// Breaks the connection between two workers; their link goes on over the next one.
    pub fn break_connection(&self, one: u16, other: u16) {
        self.network.cut(WorkerIndex(one), WorkerIndex(other));
    }

    /// Breaks the connection between two workers and lets none be made, until [`LocalCluster::rejoin`].
    pub fn separate(&self, one: u16, other: u16) {
        self.network.refuse(WorkerIndex(one), WorkerIndex(other), true);
        self.break_connection(one, other);
    }

    /// Lets two workers connect again after [`LocalCluster::separate`].
    pub fn rejoin(&self, one: u16, other: u16) {
        self.network.refuse(WorkerIndex(one), WorkerIndex(other), false);
    }

    /// Ends a worker as a SIGKILL would: nothing of it is closed, its connections break. The others are told that it is
    /// gone for good, as its Supervisor would tell them.
    pub fn kill_worker(&mut self, worker: u16) {
        self.workers[usize::from(worker)] = None;
        self.network.kill(WorkerIndex(worker));
        let incarnation = self.incarnations[usize::from(worker)];
        let life = Life { plan: self.plan.workers[usize::from(worker)].version, incarnation };
        for peer in self.workers.iter().flatten() {
            peer.peer_is_gone(WorkerIndex(worker), life);
        }
    }

    /// Starts the next incarnation of a worker that was killed, and waits until it is ready.
    ///
    /// # Errors
    /// If a component of it cannot start.
    pub async fn restart_worker(&mut self, worker: u16) -> Result<(), LocalError> {
        let index = usize::from(worker);
        self.incarnations[index] = Incarnation(self.incarnations[index].0 + 1);
        self.workers[index] = Some(self.start_worker(WorkerIndex(worker)));
        self.ready().await?;
        self.activate();
        Ok(())
    }

    fn start_worker(&self, worker: WorkerIndex) -> Worker {
        let connector: Arc<dyn Connector> = match &self.connectors {
            Some(connectors) => connectors(worker),
            None => Arc::new(self.network.connector(worker)),
        };
        Worker::start(WorkerConfig {
            topology: self.topology.clone(),
            topology_id: format!("{}-local", self.topology.name()),
            secret: self.secret.clone(),
            plan: self.plan.clone(),
            worker,
            incarnation: self.incarnations[usize::from(worker.0)],
            connector,
            seam: self.seam.clone(),
            control: self.control.clone(),
            journal: self.journal.clone(),
            observer: None,
        })
    }

    async fn ready(&self) -> Result<(), LocalError> {
        for worker in self.workers.iter().flatten() {
            worker.ready().await;
        }
        self.check()
    }
}

impl LocalClusterBuilder {
    /// How many workers; `topology.workers` if not said. Tuples between workers go through frames and links.
    pub fn workers(mut self, workers: u16) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Where tasks, time and randomness come from, as `run_seeded` hands it out; the current runtime if not said.
    pub fn seam(mut self, seam: Seam) -> Self {
        self.seam = Some(seam);
        self
    }

    /// A runtime of its own for what watches over the executors; the same as theirs if not said.
    pub fn control(mut self, control: Seam) -> Self {
        self.control = Some(control);
        self
    }

    /// Connects workers otherwise than by pipes in memory: by TCP, say.
    pub fn connectors(
        mut self,
        connectors: impl Fn(WorkerIndex) -> Arc<dyn Connector> + Send + Sync + 'static,
    ) -> Self {
        self.connectors = Some(Box::new(connectors));
        self
    }

    /// Writes what happens into this journal.
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Starts all workers, waits until they are ready, and activates the topology.
    ///
    /// # Errors
    /// If a component stopped by a fatal error in `prepare`.
    ///
    /// # Panics
    /// Outside a tokio runtime, if no seam was given.
    pub async fn start(self) -> Result<LocalCluster, LocalError> {
        let seam = self.seam.unwrap_or_else(Seam::system);
        let wanted = self.workers.unwrap_or_else(|| self.topology.settings().workers);
        // A worker without an executor would have nothing to do.
        let executors: usize = self.topology.components().iter().map(|component| component.executors().len()).sum();
        let workers = wanted.clamp(1, u16::try_from(executors).unwrap_or(u16::MAX));
        let plan = spread_evenly(&self.topology, workers);
        let mut cluster = LocalCluster {
            secret: Secret::new(seam.random_key()),
            control: self.control.unwrap_or_else(|| seam.clone()),
            seam,
            plan,
            topology: self.topology,
            network: Pipes::new(),
            connectors: self.connectors,
            journal: self.journal,
            workers: Vec::new(),
            incarnations: vec![Incarnation(1); usize::from(workers)],
        };
        for worker in 0..workers {
            let worker = cluster.start_worker(WorkerIndex(worker));
            cluster.workers.push(Some(worker));
        }
        cluster.ready().await?;
        cluster.activate();
        Ok(cluster)
    }
}
