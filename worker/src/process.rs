//! A worker: builds its executors from its part of the plan, connects them, runs them, and stops them in order.
//!
//! | task | how many | ends with | waits for |
//! |---|---|---|---|
//! | executor | one for each of the plan's, blocking ones on a thread of their own | a fatal error, or the phase `Stopping` | see `executor` |
//! | watch | one, on the control runtime | the worker | time |
//! | links | see `transfer::connection` | the worker | |
//!
//! Not here: why it was started and what becomes of it (its Supervisor, or the local cluster). Invariant: dropping the
//! worker ends everything that it started; stopping it settles every pending root first.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use topology_api::anchor::{EdgeIds, Generation, LedgerId, Root};
use topology_api::component::{AnyTask, Clock, Tally, TaskParts, panic_text};
use topology_api::context::{Metric, Metrics};
use topology_api::fail::{FailKind, FailReason};
use topology_api::grouping::Grouping;
use topology_api::ids::TaskId;
use topology_api::output::{Outbox, RouteSpec, StreamWires, Target, Wires};
use topology_api::topology::Topology;

use crate::acking::{AckRecord, Interval, Ledger, Outcomes, Pending, Window, worker_bits};
use crate::executor::bolt::{BoltExecutor, BoltSlot};
use crate::executor::spout::{Asking, SpoutExecutor, SpoutSlot, WakeFlag};
use crate::executor::{Core, Env, ExecutorEvent, HoldingClock, Phase, WorkerClock};
use crate::inbox::{Budget, Content, Envelope, Inbox, WireBatch};
use crate::journal::{Event, Journal, Observer};
use crate::outlets::{Outlet, Outlets};
use crate::settling::{Ledgers, Place, Settling};
use crate::stats::{ErrorThrottle, ExecutorStats};
use crate::transfer::connection::{Deliver, LinkHandle, Links, Settings};
use crate::transfer::frame::{Data, End};
use crate::transfer::handshake::{Identity, Refusal};
use crate::transfer::network::Connector;
use crate::transfer::permits::Amount;
use crate::watch;
use seam::{Seam, Task};
use worker_api::ids::{Incarnation, Life, PlanVersion, WorkerIndex};
use worker_api::plan::{Plan, SlotPlan};
use worker_api::report::{Doing, ExecutorReport, Fatal, LinkReport, Waiting};
use worker_api::secret::Secret;

/// What one peer may have under way to one task: so much, or fewer tuples where an inbox is to hold fewer.
const LINK_WINDOW: Amount = Amount { tuples: 4096, bytes: 1 << 20 };
/// How long a stop waits for components that do not return.
pub const STOP_GRACE: Duration = Duration::from_secs(3);
/// Bytes that one inbox holds.
const INBOX_BYTES: usize = 4 << 20;
/// Bytes that all inboxes of a worker hold.
const BUDGET_BYTES: usize = 256 << 20;
/// A root that stands still for so many message time-outs is failed as a fault of the runtime. Many, as its tuples may wait
/// in queues for long without anybody's fault: an inbox of 4096 at one a second is over an hour, 200 times 30 s is 100 minutes.
const STALL_TIMEOUTS: u32 = 200;

/// What a worker is started with.
pub struct WorkerConfig {
    /// The topology, as this executable builds it.
    pub topology: Arc<Topology>,
    /// Id of this submission, 1 ..= 128 bytes.
    pub topology_id: String,
    /// The topology's secret.
    pub secret: Secret,
    /// Which worker runs what.
    pub plan: Plan,
    /// Which of them this is.
    pub worker: WorkerIndex,
    /// Which start of it this is.
    pub incarnation: Incarnation,
    /// How it reaches its peers.
    pub connector: Arc<dyn Connector>,
    /// Where its executors and links run.
    pub seam: Seam,
    /// Where its watch runs: a runtime of its own, so that a busy data path cannot hide a hang.
    pub control: Seam,
    /// Where to write what happens, if a test wants to know.
    pub journal: Option<Journal>,
    /// Who hears what happens on its links, if a test wants to know.
    pub observer: Option<Observer>,
}

/// How far a worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Executors whose tasks are prepared.
    pub ready: usize,
    /// Executors whose input is finished.
    pub ended: usize,
    /// Executors that stopped.
    pub stopped: usize,
    /// The first fatal error.
    pub fatal: Option<Fatal>,
    /// The latest plan of a peer's slot that a peer has proved to run by and that this worker does not know.
    pub newer_plan: Option<PlanVersion>,
}

/// A running worker.
pub struct Worker {
    seam: Seam,
    clock: Arc<WorkerClock>,
    phase: watch::Sender<Phase>,
    progress: watch::Receiver<Progress>,
    executors: Vec<RunningExecutor>,
    links: Arc<Links>,
    peers: Vec<Option<LinkHandle>>,
    /// The links hold it weakly.
    _reception: Arc<Reception>,
    budget: Arc<Budget>,
    _watch: Task<()>,
}

struct RunningExecutor {
    stats: Arc<ExecutorStats>,
    inbox: Option<Inbox>,
    metrics: BTreeMap<TaskId, Metrics>,
    _task: Task<()>,
}

/// What a worker counted and is doing: its part of a [`Report`](worker_api::report::Report).
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// Microseconds since it started.
    pub uptime_us: u64,
    /// Bytes that wait in its inboxes.
    pub inbox_bytes: u64,
    /// Its executors.
    pub executors: Vec<ExecutorReport>,
    /// Its links, by peer.
    pub links: BTreeMap<WorkerIndex, LinkReport>,
    /// Counters and gauges that user code registered, by task and name.
    pub metrics: BTreeMap<TaskId, BTreeMap<String, i64>>,
}

impl Worker {
    /// Starts executors and links. Spouts are not asked before [`Worker::activate`].
    pub fn start(config: WorkerConfig) -> Worker {
        let WorkerConfig { topology, plan, worker, incarnation, seam, control, journal, .. } = &config;
        let clock = Arc::new(WorkerClock::new(seam.clone()));
        let (phase, phases) = watch::channel(Phase::Inactive);
        let (progress, progresses) = watch::channel(Progress::default());
        let budget = Arc::new(Budget::new(BUDGET_BYTES));
        let slot = plan.slot(*worker);
        let plan_version = slot.map_or(PlanVersion(0), |slot| slot.version);
        let executors = slot.map_or(&[][..], |slot| &slot.executors);
        let inboxes = inboxes(topology, executors, &budget);
        let (places, ledgers) = places(topology, plan, *worker, seam);

        let progress = Arc::new(progress);
        let reception = Arc::new(Reception {
            inboxes,
            ledgers,
            links: OnceLock::new(),
            progress: progress.clone(),
            observer: config.observer.clone(),
        });
        let settings = Settings {
            identity: Identity {
                topology: config.topology_id.clone(),
                secret: config.secret.clone(),
                worker: *worker,
                life: Life { plan: plan_version, incarnation: *incarnation },
            },
            tasks: executors.iter().flatten().copied().collect(),
            window: Amount { tuples: LINK_WINDOW.tuples.min(topology.settings().inbox_tuples.into()), ..LINK_WINDOW },
        };
        let reception_dyn: Arc<dyn Deliver> = reception.clone();
        let links =
            Arc::new(Links::start(seam.clone(), settings, config.connector.clone(), Arc::downgrade(&reception_dyn)));
        let _ = reception.links.set(Arc::downgrade(&links));
        let peer = |(index, slot): (usize, &SlotPlan)| {
            let peer = WorkerIndex(index as u16);
            (peer != *worker).then(|| links.peer(peer, slot.version))
        };
        let peers: Vec<Option<LinkHandle>> = plan.workers.iter().enumerate().map(peer).collect();
        let ledgers = Arc::new(Ledgers { places, links: peers.clone() });

        let env = Arc::new(Env {
            topology: topology.clone(),
            tasks: Arc::new(topology.tasks()),
            worker: *worker,
            plan_version,
            incarnation: *incarnation,
            seam: seam.clone(),
            clock: clock.clone(),
            events: Box::new(move |event| note(&progress, event)),
            journal: journal.clone(),
        });
        let mut building = Building {
            env: &env,
            plan,
            budget: &budget,
            reception: &reception,
            ledgers: &ledgers,
            peers: &peers,
            phases: &phases,
        };
        let executors: Vec<RunningExecutor> = executors.iter().filter_map(|tasks| building.executor(tasks)).collect();
        let watched = executors.iter().map(|executor| executor.stats.clone()).collect();
        let timeout = topology.settings().message_timeout;
        let watch = control.spawn(watch_for_hangs(watched, ledgers, clock.clone(), control.clone(), timeout));
        Worker {
            seam: seam.clone(),
            clock,
            phase,
            progress: progresses,
            executors,
            links,
            peers,
            _reception: reception,
            budget,
            _watch: watch,
        }
    }

    /// Waits until all executors are prepared and all peers connected, or one has ended by a fatal error.
    pub async fn ready(&self) {
        let all = self.executors.len();
        let mut progress = self.progress.clone();
        progress.wait_for(|progress| progress.ready == all || progress.fatal.is_some()).await;
        while self.progress().fatal.is_none() && !self.is_ready() {
            self.seam.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Whether all executors are prepared and all peers connected.
    pub fn is_ready(&self) -> bool {
        self.progress().ready == self.executors.len() && self.peers.iter().flatten().all(LinkHandle::is_connected)
    }

    /// Whether the input of all its executors is finished.
    pub fn is_ended(&self) -> bool {
        self.progress().ended == self.executors.len()
    }

    /// Has the spouts asked.
    pub fn activate(&self) {
        self.phase.set(Phase::Active);
    }

    /// Has the spouts asked no more; what is pending goes on.
    pub fn deactivate(&self) {
        self.phase.set(Phase::Inactive);
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress.get()
    }

    /// The same, for who waits for it to change.
    pub fn watch_progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits until the input of all its executors is finished, or one has ended by a fatal error.
    pub async fn ended(&self) -> Progress {
        let all = self.executors.len();
        let mut progress = self.progress.clone();
        progress.wait_for(|progress| progress.ended == all || progress.fatal.is_some()).await
    }

    /// Roots that its spouts have pending.
    pub fn pending(&self) -> u64 {
        self.executors.iter().map(|executor| executor.stats.pending()).sum()
    }

    /// Whether its spouts have stopped asking, as they were told to, and nothing of theirs is pending.
    pub fn is_drained(&self) -> bool {
        self.executors.iter().filter(|executor| executor.inbox.is_none()).all(|spout| {
            let quiet = matches!(spout.stats.is_doing(), Doing::Inactive | Doing::Ended | Doing::Stopped);
            quiet && spout.stats.pending() == 0
        })
    }

    /// Fails what is still pending, closes spouts and cleans up bolts. Who wants what is under way to be finished first
    /// deactivates it and waits until it [is drained](Worker::is_drained). An executor whose component does not return
    /// within [`STOP_GRACE`] is left behind.
    pub async fn stop(&self) {
        self.phase.set(Phase::Stopping);
        let all = self.executors.len();
        let mut progress = self.progress.clone();
        tokio::select! {
            biased;
            _ = progress.wait_for(|progress| progress.stopped == all) => {}
            () = self.seam.sleep(STOP_GRACE) => {
                for executor in &self.executors {
                    if executor.stats.is_doing() != Doing::Stopped {
                        tracing::error!(component = %executor.stats.component, "did not stop in time and is left behind");
                    }
                }
            }
        }
    }

    /// The control plane knows that this life of a peer, and each before it, is gone for good.
    pub fn peer_is_gone(&self, peer: WorkerIndex, life: Life) {
        if let Some(Some(link)) = self.peers.get(usize::from(peer.0)) {
            link.give_up(life);
        }
    }

    /// A later plan in which each worker has the tasks that it was started with: lives of slots that the plan has changed
    /// are given up, and those that come after them are welcome.
    pub fn placed(&self, plan: &Plan) {
        for peer in self.peers.iter().flatten().map(LinkHandle::peer) {
            if let Some(slot) = plan.slot(peer) {
                self.links.peer(peer, slot.version);
            }
        }
    }

    /// What it counted and is doing.
    pub fn report(&self) -> WorkerReport {
        let executor = |executor: &RunningExecutor| {
            executor.stats.report(executor.inbox.as_ref().map_or_else(Waiting::default, Inbox::waiting))
        };
        let link = |link: &LinkHandle| (link.peer(), link.report());
        let mut metrics: BTreeMap<TaskId, BTreeMap<String, i64>> = BTreeMap::new();
        for (task, registered) in self.executors.iter().flat_map(|executor| &executor.metrics) {
            for (name, metric) in registered.all() {
                let value = match metric {
                    Metric::Counter(counter) => counter.get() as i64,
                    Metric::Gauge(gauge) => gauge.get(),
                    _ => continue,
                };
                metrics.entry(*task).or_default().insert(name, value);
            }
        }
        WorkerReport {
            uptime_us: self.clock.now_us(),
            inbox_bytes: self.budget.bytes() as u64,
            executors: self.executors.iter().map(executor).collect(),
            links: self.peers.iter().flatten().map(link).collect(),
            metrics,
        }
    }
}

fn note(progress: &watch::Sender<Progress>, event: ExecutorEvent) {
    progress.modify(|progress| match event {
        ExecutorEvent::Ready => progress.ready += 1,
        ExecutorEvent::Ended => progress.ended += 1,
        ExecutorEvent::Stopped => progress.stopped += 1,
        ExecutorEvent::Fatal { component, error } => {
            progress.stopped += 1;
            progress.fatal.get_or_insert(Fatal { component, error });
        }
    });
}

/// One inbox for each executor of a bolt, by each of its tasks.
fn inboxes(topology: &Topology, executors: &[Vec<TaskId>], budget: &Arc<Budget>) -> BTreeMap<TaskId, Inbox> {
    let capacity = topology.settings().inbox_tuples as usize;
    let bolts = executors.iter().filter(|tasks| {
        topology.components().iter().any(|component| !component.is_spout() && component.tasks().contains(&tasks[0]))
    });
    bolts
        .flat_map(|tasks| {
            let inbox = Inbox::new(capacity, INBOX_BYTES, budget.clone());
            tasks.iter().map(move |task| (*task, inbox.clone()))
        })
        .collect()
}

/// By ledger number: the spout task and its ledger, `None` for those of other workers.
type OwnLedgers = Vec<Option<(TaskId, Arc<Ledger>)>>;

/// Where the ledger of each spout task is, and those of this worker by task.
fn places(topology: &Topology, plan: &Plan, me: WorkerIndex, seam: &Seam) -> (Vec<Place>, OwnLedgers) {
    let spouts = topology.components().iter().filter(|component| component.is_spout());
    let tasks = spouts.flat_map(|component| component.tasks().iter().copied());
    let place = |(number, task): (usize, TaskId)| {
        let worker = plan.worker_of(task).unwrap_or(me);
        if worker != me {
            return (Place::There(worker), None);
        }
        let first = Generation(seam.random() as u32);
        let ledger = Arc::new(Ledger::new(LedgerId(number as u16), Root::SLOTS, first));
        (Place::Here(ledger.clone()), Some((task, ledger)))
    };
    tasks.enumerate().map(place).unzip()
}

/// Watches over calls that do not return: their roots fail, and the component is named.
async fn watch_for_hangs(
    executors: Vec<Arc<ExecutorStats>>,
    ledgers: Arc<Ledgers>,
    clock: Arc<WorkerClock>,
    seam: Seam,
    timeout: Option<Duration>,
) {
    let Some(timeout) = timeout else { return };
    let every = (timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
    loop {
        seam.sleep(every).await;
        let now_us = clock.now_us();
        for stats in &executors {
            let Some((hung_us, anchors)) = stats.hangs(now_us, timeout.as_micros() as u64) else { continue };
            let seconds = hung_us as f64 / 1e6;
            let said = format!("a call has not returned for {seconds:.1} s");
            tracing::error!(component = %stats.component, seconds, "a call does not return; its roots are failed");
            stats.error(said.clone(), now_us);
            let reason = FailReason::new(FailKind::TimedOut, &stats.component, said);
            anchors.iter().for_each(|anchor| ledgers.fail(anchor.root, &reason));
        }
    }
}

/// Takes what links deliver.
struct Reception {
    inboxes: BTreeMap<TaskId, Inbox>,
    ledgers: OwnLedgers,
    links: OnceLock<std::sync::Weak<Links>>,
    progress: Arc<watch::Sender<Progress>>,
    observer: Option<Observer>,
}

impl Reception {
    fn tell(&self, event: Event) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }

    fn ledger(&self, ledger: LedgerId) -> Option<&Arc<Ledger>> {
        self.ledgers.get(usize::from(ledger.0))?.as_ref().map(|(_, ledger)| ledger)
    }

    fn lost_bits(&self, worker: WorkerIndex, incarnation: Incarnation) {
        let bits = worker_bits(worker, Some(incarnation));
        self.ledgers.iter().flatten().for_each(|(_, ledger)| ledger.lost(bits));
    }
}

impl Deliver for Reception {
    fn data(&self, from: WorkerIndex, data: Data) {
        let Data { source, stream, targets, tuples, payload } = data;
        for (receiver, to) in targets.into_iter().enumerate() {
            if let Some(inbox) = self.inboxes.get(&to) {
                let wire = WireBatch { from: Some(from), payload: payload.clone(), receiver, tuples };
                inbox.put(Envelope { to, source, stream, content: Content::Wire(wire) });
            }
        }
    }

    fn end(&self, _: WorkerIndex, end: End) {
        for to in end.targets {
            if let Some(inbox) = self.inboxes.get(&to) {
                inbox.put(Envelope { to, source: end.source, stream: end.stream, content: Content::End });
            }
        }
    }

    fn acks(&self, _: WorkerIndex, acks: Vec<AckRecord>) {
        for run in acks.chunk_by(|one, next| one.root.ledger() == next.root.ledger()) {
            if let Some(ledger) = self.ledger(run[0].root.ledger()) {
                ledger.settle_remote(run);
            }
        }
    }

    fn fails(&self, _: WorkerIndex, fails: Vec<(Root, FailReason)>) {
        for (root, reason) in fails {
            if let Some(ledger) = self.ledger(root.ledger()) {
                ledger.fail(root, reason);
            }
        }
    }

    fn held(&self, _: WorkerIndex, roots: Vec<Root>) {
        for root in roots {
            if let Some(ledger) = self.ledger(root.ledger()) {
                ledger.held(&[root]);
            }
        }
    }

    fn lost(&self, by: WorkerIndex, worker: WorkerIndex, incarnation: Incarnation) {
        tracing::debug!(%by, %worker, %incarnation, "a peer has lost a worker");
        self.lost_bits(worker, incarnation);
    }

    fn peer_lost(&self, worker: WorkerIndex, incarnation: Incarnation) {
        tracing::warn!(%worker, %incarnation, "a worker is gone; the roots that touched it fail");
        self.lost_bits(worker, incarnation);
        if let Some(links) = self.links.get().and_then(std::sync::Weak::upgrade) {
            links.lost(worker, incarnation);
        }
    }

    fn connected(&self, worker: WorkerIndex, life: Life) {
        let incarnation = life.incarnation;
        tracing::info!(%worker, %incarnation, "connected with a worker");
        self.tell(Event::Accepted { peer: worker, life });
    }

    fn refused(&self, worker: WorkerIndex, life: Life, why: Refusal) {
        self.tell(Event::Refused { peer: worker, life, why });
        if why != Refusal::PeerIsNewer {
            return;
        }
        let version = life.plan;
        // Who is refused comes again and again: the first time counts.
        let mut first = false;
        self.progress.modify_if(|progress| {
            first = progress.newer_plan < Some(version);
            progress.newer_plan = progress.newer_plan.max(Some(version));
            first
        });
        if first {
            tracing::info!(%worker, %version, "a worker runs by a later plan than is known here");
        }
    }
}

/// Builds the executors of one worker.
struct Building<'a> {
    env: &'a Arc<Env>,
    plan: &'a Plan,
    budget: &'a Arc<Budget>,
    reception: &'a Arc<Reception>,
    ledgers: &'a Arc<Ledgers>,
    peers: &'a [Option<LinkHandle>],
    phases: &'a watch::Receiver<Phase>,
}

/// The routes of one stream, with the outlets that they and the stream's end use.
struct StreamRoutes {
    routes: Vec<(usize, usize, Vec<Target>, Vec<u32>)>,
    ends: Vec<u32>,
    receivers: Vec<TaskId>,
}

impl Building<'_> {
    fn executor(&mut self, tasks: &[TaskId]) -> Option<RunningExecutor> {
        let env = self.env;
        let component = env.component_of(*tasks.first()?)?;
        let info = &env.topology.components()[component];
        let settings = env.topology.settings();
        let throttle = ErrorThrottle {
            interval_us: settings.error_interval.as_micros() as u64,
            most: settings.max_errors_per_interval,
        };
        let names = info.streams().iter().map(|stream| stream.name.clone()).collect();
        let inputs = info.subscriptions().iter().map(|subscription| {
            let source = &env.topology.components()[subscription.source];
            (source.name().to_owned(), source.streams()[subscription.stream].name.clone())
        });
        let stats = Arc::new(ExecutorStats::new(info.name(), tasks, names, inputs, throttle));
        let mut outlets = Vec::new();
        let streams = self.routes(component, &mut outlets);
        let seam = &env.seam;
        let edges = || EdgeIds::from_key(seam.random_key());
        let always_serialize = env.topology.settings().always_serialize;
        let holding = Arc::new(HoldingClock::new(env.clock.clone()));
        let core = Core {
            env: env.clone(),
            component,
            debug: info.settings().debug,
            stats: stats.clone(),
            outlets: Outlets::new(outlets, self.budget.clone(), always_serialize, edges()),
            outbox: Outbox::new(edges()),
            tally: Tally::default(),
            settling: Settling::new(self.ledgers.clone()),
            phase: self.phases.clone(),
            turn_us: 0,
            seen_us: 0,
            open_since_us: None,
            holding: holding.clone(),
        };
        let made: Vec<(TaskId, AnyTask)> =
            tasks.iter().map(|task| (*task, self.task(component, &streams, &holding))).collect();
        let metrics: BTreeMap<TaskId, Metrics> = tasks.iter().map(|task| (*task, Metrics::default())).collect();
        let ends: Vec<Vec<u32>> = streams.iter().map(|stream| stream.ends.clone()).collect();
        let inbox = self.reception.inboxes.get(&tasks[0]).cloned();
        let task = match &inbox {
            None => self.run_spout(core, made, &metrics, &ends),
            Some(inbox) => self.run_bolt(core, made, &metrics, &ends, inbox.clone()),
        };
        Some(RunningExecutor { stats, inbox, metrics, _task: task })
    }

    /// Outlets to all subscribers of a component, and its streams' routes over them.
    fn routes(&self, component: usize, outlets: &mut Vec<Outlet>) -> Vec<StreamRoutes> {
        let topology = &self.env.topology;
        let streams = topology.components()[component].streams();
        let mut all: Vec<StreamRoutes> = streams
            .iter()
            .map(|_| StreamRoutes { routes: Vec::new(), ends: Vec::new(), receivers: Vec::new() })
            .collect();
        for (subscriber, index) in topology.subscribers(component) {
            let info = &topology.components()[subscriber];
            let subscription = &info.subscriptions()[index];
            let closes_cycle = subscription.closes_cycle;
            let mut targets = Vec::new();
            let mut broadcast = Vec::new();
            let mut elsewhere: BTreeMap<WorkerIndex, Vec<TaskId>> = BTreeMap::new();
            for &task in info.tasks() {
                let outlet = outlets.len() as u32;
                let worker = self.plan.worker_of(task).unwrap_or(self.env.worker);
                let local = worker == self.env.worker;
                match (self.reception.inboxes.get(&task), self.peers.get(usize::from(worker.0))) {
                    (Some(inbox), _) if local => {
                        broadcast.push(outlet);
                        outlets.push(Outlet::Local { task, inbox: inbox.clone(), closes_cycle });
                    }
                    (_, Some(Some(link))) => {
                        elsewhere.entry(worker).or_default().push(task);
                        outlets.push(Outlet::Remote { tasks: vec![task], link: link.clone(), closes_cycle });
                    }
                    _ => continue,
                }
                targets.push(Target { task, outlet, local });
            }
            let stream = &mut all[subscription.stream];
            stream.ends.extend(targets.iter().map(|target| target.outlet));
            if *subscription.grouping() == Grouping::All {
                for (worker, tasks) in elsewhere {
                    if let Some(Some(link)) = self.peers.get(usize::from(worker.0)) {
                        broadcast.push(outlets.len() as u32);
                        outlets.push(Outlet::Remote { tasks, link: link.clone(), closes_cycle });
                    }
                }
            }
            if *subscription.grouping() == Grouping::Direct {
                stream.receivers.extend(info.tasks());
                stream.receivers.sort_unstable();
            }
            stream.routes.push((subscriber, index, targets, broadcast));
        }
        all
    }

    fn task(&self, component: usize, streams: &[StreamRoutes], holding: &Arc<HoldingClock>) -> AnyTask {
        let topology = &self.env.topology;
        let info = &topology.components()[component];
        let mut starts = ChaCha8Rng::from_seed(self.env.seam.random_key());
        let wires = streams.iter().zip(info.streams()).map(|(stream, info)| StreamWires {
            fields: &info.fields,
            routes: stream
                .routes
                .iter()
                .map(|(subscriber, index, targets, broadcast)| -> RouteSpec<'_> {
                    let subscriber = &topology.components()[*subscriber];
                    let start = starts.next_u32() as usize;
                    let (targets, broadcast) = (targets.clone(), broadcast.clone());
                    subscriber.subscriptions()[*index].route(subscriber.name(), targets, broadcast, start)
                })
                .collect(),
            receivers: stream.receivers.clone(),
        });
        let wires = Wires::new(wires.collect::<Vec<_>>());
        topology.task(
            component,
            TaskParts {
                component: info.name(),
                wires,
                sources: Vec::new(),
                key: self.env.seam.random_key(),
                clock: holding.clone(),
            },
        )
    }

    fn run_spout(
        &self,
        core: Core,
        made: Vec<(TaskId, AnyTask)>,
        metrics: &BTreeMap<TaskId, Metrics>,
        ends: &[Vec<u32>],
    ) -> Task<()> {
        let settings = self.env.topology.settings();
        let info = &self.env.topology.components()[core.component];
        let stall_us = settings.message_timeout.map(|timeout| (timeout * STALL_TIMEOUTS).as_micros() as u64);
        let slot = |(task, made): (TaskId, AnyTask)| {
            let AnyTask::Spout(spout) = made else { return None };
            let ledger = self.reception.ledgers.iter().flatten().find(|(owner, _)| *owner == task);
            let pending =
                ledger.filter(|_| settings.tracking).map(|(_, ledger)| Pending::new(ledger.clone(), stall_us));
            let window = info.settings().max_spout_pending.map_or_else(Window::adaptive, Window::set_by_hand);
            Some(SpoutSlot {
                task,
                spout,
                streams: ends.to_vec(),
                metrics: metrics[&task].clone(),
                pending,
                outcomes: Outcomes::default(),
                window,
                state: Asking::Now,
                opened: false,
                active: false,
                failures: 0,
                interval: Interval::default(),
                told_window_us: 0,
            })
        };
        let tasks = made.into_iter().filter_map(slot).collect();
        self.spawn(info, SpoutExecutor { core, tasks, wake: Arc::new(WakeFlag::default()) }.run())
    }

    fn run_bolt(
        &self,
        core: Core,
        made: Vec<(TaskId, AnyTask)>,
        metrics: &BTreeMap<TaskId, Metrics>,
        ends: &[Vec<u32>],
        inbox: Inbox,
    ) -> Task<()> {
        let topology = &self.env.topology;
        let info = &topology.components()[core.component];
        let mut subscriptions = BTreeMap::new();
        let mut awaited_ends = BTreeSet::new();
        for (index, subscription) in info.subscriptions().iter().enumerate() {
            let stream = subscription.stream as u16;
            subscriptions.insert((subscription.source, stream), index);
            if !subscription.closes_cycle {
                let sources = topology.components()[subscription.source].tasks();
                awaited_ends.extend(sources.iter().map(|source| (*source, stream)));
            }
        }
        let slot = |(task, made): (TaskId, AnyTask)| {
            let AnyTask::Bolt(bolt) = made else { return None };
            Some(BoltSlot {
                task,
                bolt,
                streams: ends.to_vec(),
                metrics: metrics[&task].clone(),
                ends: BTreeSet::new(),
                ended: false,
                call_ended: None,
                failures: 0,
            })
        };
        let executor = BoltExecutor {
            core,
            inbox,
            tasks: made.into_iter().filter_map(slot).collect(),
            subscriptions,
            links: self.peers.to_vec(),
            awaited_ends,
            timeout: topology.settings().message_timeout,
            tick: info.tick(),
            sweep_at_us: None,
        };
        self.spawn(info, executor.run())
    }

    fn spawn(
        &self,
        info: &topology_api::topology::Component,
        executor: impl Future<Output = ()> + Send + 'static,
    ) -> Task<()> {
        let (env, component) = (self.env.clone(), info.name().to_owned());
        // Calls of components are caught where they are made. What panics beside them (a tuple's own clone, say) must not
        // end an executor without a word, and the others wait for it for ever.
        let executor = async move {
            if let Err(panic) = AssertUnwindSafe(executor).catch_unwind().await {
                let error = format!("its executor panicked: {}", panic_text(&*panic));
                (env.events)(ExecutorEvent::Fatal { component, error });
            }
        };
        if info.is_blocking() {
            self.env.seam.spawn_blocking(info.name(), executor)
        } else {
            self.env.seam.spawn(executor)
        }
    }
}
