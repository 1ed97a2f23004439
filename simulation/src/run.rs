//! A run: builds the cluster, lets users and faults at it, brings everything back, and sees what is left.
//!
//! Not here: which faults (`faults`), what must hold (`oracle`). Invariants: a run is of one thread, and depends on its configuration alone; it
//! ends, whatever happens in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::paths;
use cluster_state::records::{PlanHead, Status, Topology};
use nimbus::{Engine, NimbusConfig, Parts};
use supervisor::{Supervisor, SupervisorConfig};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use worker_api::ids::{Port, TopologyId, TopologyName};

use crate::checks::{Check, Checks};
use crate::faults::{Faults, Tally};
use crate::log::{self, Log, Words};
use crate::machine::{Machine, folder};
use crate::network::MachineId;
use crate::nimbuses::PORT;
use crate::oracle::{Observation, Running, Settled, Violation, invariants};
use crate::users::Users;
use crate::workload::{Shape, SubmittedTopology, Workload};
use crate::world::{Counts, World};

/// How long the cluster state keeps a session that it does not hear from.
pub const SESSION: Duration = Duration::from_secs(6);
/// `nimbus.supervisor.timeout.secs` of a run.
pub const MACHINE_TIMEOUT: Duration = Duration::from_secs(10);
/// `supervisor.worker.timeout.secs` of a run.
pub const WORKER_TIMEOUT: Duration = Duration::from_secs(10);
/// Until a daemon that has ended is started again.
const DAEMON_RESTART: Duration = Duration::from_secs(1);
/// How long the cluster may take to settle after all faults have stopped: machines are believed dead after 10 s, messages
/// are held for 20 s at most, a worker that died again and again rests for half a minute. A topology with too few workers
/// grows a minute after a machine of it died, or after it was last rebalanced by itself, and drains before that.
pub const SETTLE: Duration = Duration::from_secs(180);
/// After so long of it sources give nothing new.
const SOURCES_CLOSE: Duration = Duration::from_secs(30);
/// For so long of it users may be refused.
const USERS_SETTLE: Duration = Duration::from_secs(60);
/// A cluster that was settled for so many seconds is judged: blobs that nobody needs are then gone too.
const QUIET_SECONDS: u32 = 45;
/// Users' machine.
pub const USER: MachineId = MachineId(1000);

/// What a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it depends on.
    pub seed: u64,
    /// How long things go wrong on the virtual clock; then it has [`SETTLE`] to settle.
    pub length: Duration,
    /// How many Nimbuses.
    pub nimbuses: u16,
    /// How many machines with a Supervisor.
    pub machines: u16,
    /// Slots of each machine.
    pub slots: u16,
    /// Whether anything goes wrong.
    pub faults: bool,
    /// Most polls of all processes; beyond them the run is one that goes round in circles.
    pub most_polls: u64,
}

impl Config {
    /// As `xtask simulate` runs a seed.
    pub fn of(seed: u64, length: Duration) -> Self {
        let seconds = length.as_secs() + SETTLE.as_secs();
        Config { seed, length, nimbuses: 3, machines: 4, slots: 3, faults: true, most_polls: 100_000 * seconds }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened, line by line.
    pub log: String,
    /// What does not hold, and when it was seen.
    pub violations: Vec<(Duration, Violation)>,
    /// What was counted.
    pub counts: Counts,
    /// Polls of all processes.
    pub polls: u64,
    /// Faults that were done, by kind.
    pub faults: Tally,
    /// How long it lasted on the virtual clock.
    pub lasted: Duration,
}

/// Runs a seed in this thread.
///
/// # Panics
/// If there is a runtime in this thread already.
pub fn run(config: &Config) -> Outcome {
    run_watched(config, |_| {})
}

/// As [`run`]; `watch` is given the log as it begins, to be read from another thread while the run goes on.
///
/// # Panics
/// As [`run`].
pub fn run_watched(config: &Config, watch: impl FnOnce(Log)) -> Outcome {
    run_with(config, |world| {
        watch(world.log().clone());
        (Workload::of(world.random(), world.ear()), Checks::default())
    })
}

/// Runs a user's own topology, in place of those that the seed draws, with checks of the user's own.
///
/// # Panics
/// If there is a runtime in this thread already.
pub fn run_own(config: &Config, topology: SubmittedTopology, checks: Vec<Check>) -> Outcome {
    let checks = Checks::of(checks, &topology.shape());
    run_with(config, |world| (Workload::of_own(topology, world.ear()), checks))
}

fn run_with(config: &Config, workload: impl FnOnce(&World) -> (Workload, Checks)) -> Outcome {
    log::note_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread needs nothing that could be missing");
    let outcome = runtime.block_on(async {
        let world = World::new(config.seed, config.most_polls);
        let words = Words { log: world.log().clone(), most: tracing::Level::INFO };
        let words = tracing::Dispatch::new(words);
        let _words = tracing::dispatcher::set_default(&words);
        let (workload, checks) = workload(&world);
        Cluster::new(world, config.clone(), workload, checks).run().await
    });
    drop(runtime);
    log::panics_end();
    outcome
}

/// All that runs.
pub(crate) struct Cluster {
    world: World,
    config: Config,
    nimbuses: Vec<Machine>,
    machines: Vec<Machine>,
    workload: Workload,
    /// What its topologies ask for.
    shapes: BTreeMap<TopologyName, Shape>,
    checks: Checks,
}

impl Cluster {
    fn new(world: World, config: Config, workload: Workload, checks: Checks) -> Self {
        let named = |id: u16, host: String, slots: Vec<Port>| {
            world.call_machine(&host, MachineId(id));
            Machine::new(&world, MachineId(id), host, slots)
        };
        let nimbuses = (1..=config.nimbuses).map(|number| named(number, format!("nimbus-{number}"), Vec::new()));
        let nimbuses = nimbuses.collect();
        let slots: Vec<Port> = (0..config.slots).map(|slot| Port(6700 + slot)).collect();
        let machines =
            (1..=config.machines).map(|number| named(100 + number, format!("machine-{number}"), slots.clone()));
        let machines = machines.collect();
        for topology in workload.topologies() {
            world.install(topology.clone());
        }
        let shapes = workload.shapes();
        let mut judges = invariants(&shapes);
        judges.push(checks.listener());
        world.judged_by(judges);
        Cluster { world, config, nimbuses, machines, workload, shapes, checks }
    }

    async fn run(self) -> Outcome {
        for nimbus in &self.nimbuses {
            let (world, machine) = (self.world.clone(), nimbus.clone());
            let hosts = self.nimbuses.iter().map(|nimbus| (nimbus.host().to_owned(), nimbus.id())).collect();
            tokio::spawn(keep_nimbus(world, machine, hosts));
        }
        let nimbuses: Vec<String> = self.nimbuses.iter().map(|nimbus| format!("{}:{PORT}", nimbus.host())).collect();
        for machine in &self.machines {
            tokio::spawn(keep_supervisor(self.world.clone(), machine.clone(), nimbuses.clone()));
        }
        let users = Users::new(&self.world, self.nimbuses.iter().map(Machine::id).collect());
        let mut submitting = JoinSet::new();
        for topology in self.workload.topologies() {
            let (users, topology) = (users.clone(), topology.clone());
            submitting.spawn(async move { users.submit(topology).await });
        }
        let faults = Faults::new(&self.world, &self.nimbuses, &self.machines, users.clone());
        let stop = self.world.log().began() + self.config.length;
        if self.config.faults {
            let mut faulting = JoinSet::new();
            faulting.spawn(faults.clone().run(self.world.random()));
            self.watch_until(stop).await;
            faulting.shutdown().await;
            faults.heal();
        } else {
            self.watch_until(stop).await;
        }
        self.world.hear(Observation::FaultsStop);
        self.workload.faults_on(false);
        let mut settling = JoinSet::new();
        let wishes = faults.clone();
        settling.spawn(async move { wishes.users_settle(USERS_SETTLE).await });
        self.watch_until(stop + SOURCES_CLOSE).await;
        self.workload.close_sources();
        self.world.note(format_args!("sources are closed"));
        let end = stop + SETTLE;
        let mut settled_for = 0;
        while Instant::now() < end && settled_for < QUIET_SECONDS && !self.world.is_violated() {
            self.watch_until(Instant::now() + Duration::from_secs(1)).await;
            while submitting.try_join_next().is_some() {}
            while settling.try_join_next().is_some() {}
            let is_settled = submitting.is_empty() && settling.is_empty() && self.is_settled(&users);
            settled_for = if is_settled { settled_for + 1 } else { 0 };
        }
        let settled = self.settled(&users);
        self.world.note(format_args!("at the end: {}", in_short(&settled)));
        if !self.world.is_violated() {
            if !submitting.is_empty() {
                self.world.violated("users", "a submission was not taken in all the time".to_owned());
            }
            self.world.finish(&settled);
            self.sources_are_read(&users);
            self.check(true);
        }
        let lasted = self.world.log().at();
        self.end();
        Outcome {
            log: self.world.log().text(),
            violations: self.world.violations(),
            counts: self.world.counts(),
            polls: self.world.polls().so_far(),
            faults: faults.tally(),
            lasted,
        }
    }

    /// Waits, and looks each second whether the run goes on as it may.
    async fn watch_until(&self, until: Instant) {
        while Instant::now() < until && !self.world.is_violated() {
            sleep_until(until.min(Instant::now() + Duration::from_secs(1))).await;
            for panic in log::take_panics() {
                self.world.violated("no_panic", panic);
            }
            if self.world.polls().are_too_many() {
                self.world.violated("progress", format!("more than {} polls", self.config.most_polls));
            }
            self.check(false);
        }
    }

    /// What the user has to say.
    fn check(&self, is_over: bool) {
        let holders = || self.machines.iter().flat_map(|machine| machine.workers().into_values());
        let living = || holders().filter(|holder| holder.is_ready()).filter_map(|holder| holder.report()).collect();
        for Violation { invariant, what } in self.checks.judge(is_over, self.world.log().at(), living) {
            self.world.violated(invariant, what);
        }
    }

    /// At the end each topology that shall run has done all that its sources had.
    fn sources_are_read(&self, users: &Users) {
        if !self.workload.is_drawn() {
            return;
        }
        for id in users.topologies() {
            match self.workload.unread(&id) {
                Some(0) => {}
                Some(left) => {
                    self.world.violated("sources", format!("{id} has left {left} tuples of its sources undone"))
                }
                None => self.world.violated("sources", format!("{id} has never read its sources")),
            }
        }
    }

    /// Ends all processes, so that nothing holds on to anything.
    fn end(&self) {
        for machine in self.nimbuses.iter().chain(&self.machines) {
            machine.end();
        }
    }

    fn is_settled(&self, users: &Users) -> bool {
        let settled = self.settled(users);
        let is_quiet = |running: &Running| {
            let Running { workers_planned, workers_wanted, workers, pending, queued, .. } = running;
            (workers_planned, workers.len()) == (workers_wanted, *workers_wanted) && pending + queued == 0
        };
        let plans = settled.records.iter().filter(|path| path.ends_with("/head")).count();
        plans == settled.running.len() && settled.running.values().all(is_quiet)
    }

    /// How many workers a topology shall have by its record: as many as users have asked for, and it has executors for.
    fn wanted(&self, record: &Topology) -> Option<usize> {
        let graph = &self.shapes.get(&record.name)?.graph;
        let before = &record.rebalanced;
        let to = match &record.status {
            Status::Rebalancing { to, .. } => to,
            Status::Active | Status::Inactive { .. } | Status::Killed { .. } => before,
        };
        let submitted = || graph.config.get("topology.workers")?.as_u64();
        let asked = to.workers.or(before.workers).map(u64::from).or_else(submitted).unwrap_or(1);
        let executors = graph.components.iter().map(|component| {
            let changed = to.executors.get(&component.name).or_else(|| before.executors.get(&component.name));
            changed.map_or(component.executors, |executors| *executors as usize)
        });
        Some(executors.sum::<usize>().min(asked as usize))
    }

    fn settled(&self, users: &Users) -> Settled {
        let values = self.world.cluster_state().values();
        let mut settled = Settled { records: values.keys().cloned().collect(), ..Settled::default() };
        let record =
            |id: &TopologyId| serde_json::from_slice::<Topology>(values.get(paths::topology(id).as_str())?).ok();
        for id in users.topologies() {
            let head = values.get(paths::plan_head(&id).as_str());
            let head = head.and_then(|head| serde_json::from_slice::<PlanHead>(head).ok());
            let planned = head.as_ref().map(|head| usize::from(head.workers));
            // What has ended by itself, as users have activated all others, is not dealt anew. Without a plan it is missing
            // all it should have.
            let has_ended = |record: &Topology| matches!(record.status, Status::Inactive { .. });
            let wanted = record(&id).filter(|record| !has_ended(record)).and_then(|record| self.wanted(&record));
            let running = Running {
                plan: head.map(|head| head.version).unwrap_or_default(),
                workers_planned: planned.unwrap_or_default(),
                workers_wanted: wanted.or(planned).unwrap_or(usize::MAX),
                ..Running::default()
            };
            settled.running.insert(id, running);
        }
        let slots: usize = self.machines.iter().map(|machine| machine.slots().len()).sum();
        let wanted = settled.running.values().fold(0_usize, |sum, running| sum.saturating_add(running.workers_wanted));
        if wanted > slots {
            // Who gets how many depends on who came first; nobody goes without any.
            settled.running.values_mut().for_each(|running| running.workers_wanted = running.workers_planned.max(1));
        }
        let is_finished = |id: &&TopologyId| record(id).is_some_and(|record| record.status.is_finished());
        // A worker of these that has ended stays so, and the others are not connected with it.
        let finished: BTreeSet<TopologyId> = settled.running.keys().filter(is_finished).cloned().collect();
        for machine in &self.machines {
            let id = machine.supervisor_id();
            for holder in machine.workers().into_values() {
                let living = settled.processes.entry(id.clone()).or_default();
                living.insert((holder.topology.clone(), holder.worker, holder.life));
                let Some(running) = settled.running.get_mut(&holder.topology) else { continue };
                if let Some(report) =
                    holder.report().filter(|_| holder.is_ready() || finished.contains(&holder.topology))
                {
                    running.pending += holder.pending();
                    running.queued += report.executors.iter().map(|executor| executor.inbox.tuples).sum::<u64>();
                    running.workers.insert(holder.worker, (holder.life, Some(Box::new(report))));
                }
            }
            settled.folders.insert(id.clone(), machine.worker_folders());
            settled.blobs.insert(id.to_string(), machine.blobs("supervisor"));
            settled.daemons.extend(machine.daemon().map(|_| id.to_string()));
        }
        for nimbus in &self.nimbuses {
            let id = nimbus.nimbus_id().to_string();
            settled.blobs.insert(id.clone(), nimbus.blobs("nimbus"));
            settled.daemons.extend(nimbus.daemon().map(|_| id));
        }
        for (_, running) in settled.running.iter_mut().filter(|(id, _)| finished.contains(*id)) {
            (running.workers_planned, running.workers_wanted) = (running.workers.len(), running.workers.len());
        }
        settled
    }
}

/// What is left, for the log.
fn in_short(settled: &Settled) -> String {
    let Settled { running, records, blobs, folders, daemons, processes } = settled;
    let running = running.iter().map(|(id, running)| {
        let Running { plan, workers_planned, workers_wanted, workers, pending, queued } = running;
        let ready: Vec<String> = workers.iter().map(|(worker, (life, _))| format!("{worker} ({life})")).collect();
        format!("{id} plan {plan} of {workers_planned}: {workers_wanted} wanted, ready {ready:?}, {pending} pending, {queued} queued")
    });
    let running: Vec<String> = running.collect();
    format!(
        "{running:#?}\nrecords {records:#?}\nblobs {blobs:#?}\nfolders {folders:#?}\ndaemons {daemons:?}\nprocesses {processes:#?}"
    )
}

/// Keeps a Nimbus running on its machine, as the system's service manager does.
async fn keep_nimbus(world: World, machine: Machine, hosts: BTreeMap<String, MachineId>) {
    loop {
        machine.may_run().await;
        let process = machine.process("nimbus");
        machine.set_daemon(process.clone());
        world.note(format_args!("{process:?} starts as process {}", process.number()));
        let Some(_listener) = world.network().listen((machine.id(), PORT), &process) else {
            world.violated("simulation", format!("the port of {process:?} is taken"));
            return;
        };
        let config = NimbusConfig {
            folder: folder("nimbus"),
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT),
            host: machine.host().to_owned(),
            configuration: BTreeMap::new(),
            machine_timeout: MACHINE_TIMEOUT,
            most_workers: None,
            most_executors: None,
            // Twice this is the longest that a blob nobody needs is kept.
            upload_expiration: Duration::from_secs(20),
        };
        let parts = Parts {
            config,
            id: machine.nimbus_id(),
            store: world.cluster_state().open(&process),
            seam: process.seam().clone(),
            disk: Arc::new(machine.disk().of(&process)),
            peers: world.nimbuses().peers_of(machine.id(), hosts.clone()),
        };
        let (id, number, nimbuses) = (machine.id(), process.number(), world.nimbuses().clone());
        process.run(async move {
            match Engine::start(parts).await {
                Ok(mut engine) => {
                    nimbuses.runs(id, number, engine.api());
                    engine.failed().await;
                    tracing::error!("the Nimbus has ended by itself");
                }
                Err(error) => tracing::error!("the Nimbus does not start: {error}"),
            }
        });
        process.ended().await;
        world.nimbuses().ended(id, number);
        has_ended(&world, number);
        sleep(DAEMON_RESTART).await;
    }
}

/// Keeps a Supervisor running on its machine, as the system's service manager does.
async fn keep_supervisor(world: World, machine: Machine, nimbuses: Vec<String>) {
    loop {
        machine.may_run().await;
        let process = machine.process("supervisor");
        machine.set_daemon(process.clone());
        world.note(format_args!("{process:?} starts as process {}", process.number()));
        let config = SupervisorConfig {
            folder: folder("supervisor"),
            workers_folder: folder("workers"),
            logs_folder: folder("logs"),
            host: machine.host().to_owned(),
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            slots: machine.slots().to_vec(),
            nimbuses: nimbuses.clone(),
            configuration: BTreeMap::new(),
            keeper: PathBuf::from("/storm/bin/storm"),
            start_timeout: Duration::from_secs(20),
            worker_timeout: WORKER_TIMEOUT,
            shutdown_grace: Duration::from_secs(4),
            logs_kept: Duration::from_secs(60),
            log_bytes: 1 << 20,
            log_files: 2,
        };
        let host = machine.host_for(&process, world.machines_at(&nimbuses));
        let store = world.cluster_state().open(&process);
        let (id, seam) = (machine.supervisor_id(), process.seam().clone());
        process.run(async move {
            match Supervisor::on_host(host, config, id, store, seam).await {
                Ok(mut supervisor) => {
                    supervisor.failed().await;
                    tracing::error!("the Supervisor has ended by itself");
                }
                Err(error) => tracing::error!("the Supervisor does not start: {error}"),
            }
        });
        process.ended().await;
        has_ended(&world, process.number());
        sleep(DAEMON_RESTART).await;
    }
}

/// Nobody keeps the session of a daemon that has ended.
fn has_ended(world: &World, process: u64) {
    let world = world.clone();
    tokio::spawn(async move {
        sleep(SESSION).await;
        world.cluster_state().lose(process);
    });
}
