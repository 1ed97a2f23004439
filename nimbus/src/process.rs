//! The one that decides: a loop that owns all state, hears events one at a time, and has one piece of work with the records
//! under way at a time.
//!
//! | event | from |
//! |---|---|
//! | [`Request`] | the HTTP API, by a bounded channel |
//! | work is done | the future that this loop polls |
//! | the session changed; somebody leads, comes or goes | the cluster state |
//! | a second, or a deadline, has passed | the clock |
//!
//! After each event the most urgent work begins: to lead, to read what is there, what users ask for, what topologies need by
//! themselves, plans. So a submission has its plan some milliseconds later. While the store is away no work begins; reports
//! and views are answered out of memory.
//!
//! Not here: what is decided (`lifecycle`, `liveness`, `scheduling`), how it is written (`publish`). Invariant: memory changes when the
//! write has happened; after a write that found something else there, all records are read again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::board::{Board, ReadError};
use cluster_state::paths;
use cluster_state::records::{self, FileBlob, Leader, Status};
use cluster_state::store::{Session, StoreError};
use futures_util::future::BoxFuture;
use nimbus_api::cluster::Cluster;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::machine::{MachineAnswer, MachineReport};
use nimbus_api::submission::{Kill, Submission, Submitted};
use nimbus_api::topology::{Topology, TopologySummary};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use topology_api::config::TopologySettings;
use worker_api::answer::{ANSWER_FORMAT, Answer, Slot};
use worker_api::ids::{BlobHash, Port, SupervisorId, TopologyId, TopologyName, WorkerIndex};
use worker_api::report::Report;
use worker_api::secret::Secret;

use crate::NimbusConfig;
use crate::blobs::{Blobs, missing};
use crate::clock::{Clock, epoch_ms};
use crate::knowledge::{Daemons, Known, KnownGraph, KnownPlan, KnownTopology, Loaded, daemons, load, uses};
use crate::leadership::{Election, elect, random_bytes, resign};
use crate::lifecycle::{self, Change, Event};
use crate::liveness::{MachineState, Machines};
use crate::observed::{Observed, is_usable};
use crate::publish::{WriteError, Writer};
use crate::scheduling::{Machine, TopologyDetails, TopologyPlan, WorkerSlot, schedule};
use crate::submission::{Limits, check};

/// How often time is looked at when nothing happens; liveness wants four looks in its time-out.
const TICK: Duration = Duration::from_secs(1);
/// How often expired uploads are looked for.
const SWEEP_MS: u64 = 60_000;
/// How long giving the lead back may take; then the session's end does it.
const RESIGN: Duration = Duration::from_secs(2);
/// Requests that wait until the records were read, or until their turn to write comes.
pub(crate) const WAITING_REQUESTS: usize = 1024;

/// Where an answer goes; who asked may be gone.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// What the HTTP API asks.
pub(crate) enum Request {
    /// The cluster at a glance.
    Cluster(Reply<Cluster>),
    /// One topology, by name or id.
    Topology(String, Reply<Box<Topology>>),
    /// A topology shall run.
    Submit(Box<Submission>, Reply<Submitted>),
    /// A topology, by name or id, shall change.
    Command(String, Command, Reply<TopologySummary>),
    /// A Supervisor reports.
    Machine(Box<MachineReport>, Reply<MachineAnswer>),
    /// A worker reports by itself.
    Worker(Box<Report>, Reply<Answer>),
}

/// What a user asks of a topology.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    /// Its spouts shall be asked.
    Activate,
    /// Its spouts shall not be asked.
    Deactivate,
    /// It shall go.
    Kill(Kill),
}

impl Request {
    /// Refuses it.
    fn refuse(self, failure: Failure) {
        // Who asked may be gone.
        match self {
            Request::Cluster(reply) => drop(reply.send(Err(failure))),
            Request::Topology(_, reply) => drop(reply.send(Err(failure))),
            Request::Submit(_, reply) => drop(reply.send(Err(failure))),
            Request::Command(_, _, reply) => drop(reply.send(Err(failure))),
            Request::Machine(_, reply) => drop(reply.send(Err(failure))),
            Request::Worker(_, reply) => drop(reply.send(Err(failure))),
        }
    }

    /// Whether it changes records.
    fn is_write(&self) -> bool {
        matches!(self, Request::Submit(..) | Request::Command(..))
    }
}

/// What this Nimbus is among the others.
enum Role {
    /// An election is due.
    Unknown,
    /// Another one leads.
    Follows(Leader),
    /// It leads; the token names its guard.
    Leads(BlobHash),
}

/// Who waits for the work that is under way.
enum Asker {
    /// Nobody.
    None,
    /// A submission, with the warnings for its user.
    Submit(Vec<String>, Reply<Submitted>),
    /// A command.
    Command(Reply<TopologySummary>),
}

/// Work that was done.
enum Done {
    Elected(Session, Result<Election, ReadError>),
    Loaded(Result<Loaded, StoreError>),
    Cleaned(Result<(), WriteError>),
    Daemons(Result<Daemons, StoreError>),
    Submitted(Result<Box<(records::Topology, KnownGraph)>, NotSubmitted>),
    Stored(Box<records::Topology>, Result<(), WriteError>),
    PlanRemoved(Box<records::Topology>, Result<(), WriteError>),
    Removed(TopologyId, Result<(), WriteError>),
    Planned(TopologyId, TopologyPlan, Result<(), WriteError>),
}

/// Why a submission was not stored.
enum NotSubmitted {
    /// Its user is told.
    Failure(Failure),
    /// A record.
    Write(WriteError),
}

/// What the scheduler was last asked with.
type Inputs = (BTreeMap<SupervisorId, Machine>, BTreeMap<TopologyId, BTreeMap<WorkerIndex, (SupervisorId, Port)>>);

/// All that a Nimbus knows.
pub(crate) struct Process {
    pub(crate) config: NimbusConfig,
    pub(crate) me: records::Nimbus,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) clock: Clock,
    board: Arc<Board>,
    session: Session,
    /// Since when the store is away, on `clock`.
    away_since_ms: Option<u64>,
    role: Role,
    /// The lead under which `known` was read.
    read_under: Option<BlobHash>,
    /// What the records say; `None` until they were read.
    pub(crate) known: Option<Known>,
    pub(crate) observed: Observed,
    /// What the scheduler has to say of each topology.
    pub(crate) sentences: BTreeMap<TopologyId, String>,
    /// When the plan of a topology that goes was removed, on `clock`.
    plan_gone_ms: BTreeMap<TopologyId, u64>,
    /// At most [`WAITING_REQUESTS`] wait until the records were read.
    early: VecDeque<Request>,
    /// At most [`WAITING_REQUESTS`] wait for their turn to write.
    writes: VecDeque<Request>,
    asker: Asker,
    /// What is due.
    election_is_due: bool,
    load_is_due: bool,
    daemons_are_due: bool,
    scheduling_is_due: bool,
    /// Topologies that something may have happened to.
    touched: BTreeSet<TopologyId>,
    /// What a record's loss left.
    orphans: BTreeSet<TopologyId>,
    orphaned_names: Vec<TopologyName>,
    /// Plans that were made, and are not published yet.
    plans: BTreeMap<TopologyId, TopologyPlan>,
    scheduled_with: Option<Inputs>,
    /// After a store that is there did not do its work: until the next tick.
    is_pausing: bool,
    /// Why the last election was none.
    election_trouble: Option<String>,
    /// When expired uploads were last looked for, on `clock`.
    swept_ms: u64,
    /// Graphs that topologies have, and this Nimbus has not.
    lacking: Vec<BlobHash>,
}

impl Process {
    /// Knows nothing yet.
    pub(crate) fn new(
        config: NimbusConfig,
        me: records::Nimbus,
        board: Arc<Board>,
        blobs: Arc<Blobs>,
        clock: Clock,
    ) -> Self {
        let machines = Machines::new(config.machine_timeout, clock.uptime_ms());
        Process {
            config,
            me,
            blobs,
            clock,
            session: Session::default(),
            board,
            away_since_ms: Some(clock.uptime_ms()),
            role: Role::Unknown,
            read_under: None,
            known: None,
            observed: Observed::new(machines),
            sentences: BTreeMap::new(),
            plan_gone_ms: BTreeMap::new(),
            early: VecDeque::new(),
            writes: VecDeque::new(),
            asker: Asker::None,
            election_is_due: true,
            load_is_due: true,
            daemons_are_due: false,
            scheduling_is_due: false,
            touched: BTreeSet::new(),
            orphans: BTreeSet::new(),
            orphaned_names: Vec::new(),
            plans: BTreeMap::new(),
            scheduled_with: None,
            is_pausing: false,
            election_trouble: None,
            swept_ms: 0,
            lacking: Vec::new(),
        }
    }

    /// Runs until `stop` is told or dropped; then the lead is given back.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut stop: oneshot::Receiver<()>) {
        let board = Arc::clone(&self.board);
        let mut leader = board.watch(&paths::leader());
        let mut supervisors = board.watch(&paths::supervisors());
        let mut nimbuses = board.watch(&paths::nimbuses());
        let mut tick = interval(TICK.min(self.config.machine_timeout / 4).max(Duration::from_millis(10)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work: Option<BoxFuture<'static, Done>> = None;
        self.session_is(board.session());
        loop {
            if work.is_none() {
                work = self.next_work();
            }
            let deadline = self.deadline();
            tokio::select! {
                biased;
                _ = &mut stop => break,
                done = async { match &mut work { Some(work) => work.await, None => pending().await } } => {
                    work = None;
                    self.done(done);
                }
                session = board.session_changed(self.session) => self.session_is(session),
                () = leader.changed() => self.election_is_due = true,
                () = supervisors.changed() => self.daemons_are_due = true,
                () = nimbuses.changed() => self.daemons_are_due = true,
                _ = tick.tick() => self.tick(),
                () = async { match deadline { Some(at) => sleep_until(at).await, None => pending().await } } => self.touch_all(),
                request = requests.recv() => match request {
                    Some(request) => self.request(request),
                    None => break,
                },
            }
        }
        drop(work);
        if let (Role::Leads(token), true) = (&self.role, self.session.connected) {
            // Else the session ends by itself.
            let _ = timeout(RESIGN, resign(&board, &self.me, token)).await;
        }
    }

    // --- What holds.

    /// The lead, if this Nimbus has it and the store answers.
    pub(crate) fn token(&self) -> Option<&BlobHash> {
        match &self.role {
            Role::Leads(token) if self.session.connected => Some(token),
            _ => None,
        }
    }

    /// In a sentence, if the store is away.
    pub(crate) fn why_away(&self) -> Option<String> {
        if let Some(since) = self.away_since_ms {
            let secs = self.clock.uptime_ms().saturating_sub(since) / 1000;
            return Some(format!(
                "the cluster state has not answered for {secs} s; topologies go on running, and changes are possible again once it is back"
            ));
        }
        self.election_trouble.clone()
    }

    fn no_cluster_state(&self) -> Failure {
        FailureKind::NoClusterState
            .with(self.why_away().unwrap_or_else(|| "the cluster state did not answer".to_owned()))
    }

    /// Slots that plans give to workers.
    pub(crate) fn planned_slots(&self) -> impl Iterator<Item = &WorkerSlot> {
        let topologies = self.known.iter().flat_map(|known| known.topologies.values());
        topologies.flat_map(|topology| topology.planned()).filter_map(|(_, planned)| planned.slot.as_ref())
    }

    fn writer(&self, token: &BlobHash) -> Writer {
        Writer { board: Arc::clone(&self.board), token: token.clone() }
    }

    /// When time alone moves something before the next tick.
    fn deadline(&self) -> Option<Instant> {
        self.token()?;
        let topologies = self.known.iter().flat_map(|known| known.topologies.values());
        let deadline = topologies.filter_map(|topology| lifecycle::deadline(&topology.record.status)).min()?;
        let ms = deadline.saturating_sub(epoch_ms());
        // What is due already waits for work, not for time.
        (ms > 0).then(|| Instant::now() + Duration::from_millis(ms).min(LONGEST_WAIT))
    }

    // --- Events.

    fn session_is(&mut self, session: Session) {
        let now = self.clock.uptime_ms();
        self.observed.machines.listen_anew(now);
        if session.epoch != self.session.epoch && matches!(self.role, Role::Leads(_)) {
            tracing::warn!("the session with the cluster state was lost, and the lead with it");
            self.role = Role::Unknown;
        }
        self.session = session;
        self.is_pausing = false;
        if session.connected {
            self.away_since_ms = None;
            self.election_is_due = true;
            self.daemons_are_due = true;
            self.load_is_due = true;
            return;
        }
        if self.away_since_ms.is_none() {
            tracing::warn!("the cluster state does not answer; topologies go on running");
            self.away_since_ms = Some(now);
        }
        let failure = self.no_cluster_state();
        let waiting = self.early.drain(..).chain(self.writes.drain(..)).collect::<Vec<_>>();
        for request in waiting {
            match request.is_write() {
                true => request.refuse(failure.clone()),
                // Answered out of memory, if there is any.
                false => self.request(request),
            }
        }
        let unsure = FailureKind::NoClusterState.with(
            "the cluster state went away while this was being stored: whether it was will be seen when it is back, by `storm list`",
        );
        match std::mem::replace(&mut self.asker, Asker::None) {
            Asker::None => {}
            Asker::Submit(_, reply) => drop(reply.send(Err(unsure))),
            Asker::Command(reply) => drop(reply.send(Err(unsure))),
        }
    }

    fn tick(&mut self) {
        let now = self.clock.uptime_ms();
        self.is_pausing = false;
        self.observed.machines.tick(now);
        self.know_machines();
        self.touch_all();
        // A graph that was not there, and was uploaded again.
        self.load_is_due |= self.lacking.iter().any(|hash| self.blobs.complete(hash).is_some());
        if now.saturating_sub(self.swept_ms) >= SWEEP_MS {
            self.sweep();
        }
    }

    /// Has expired uploads deleted.
    fn sweep(&mut self) {
        self.swept_ms = self.clock.uptime_ms();
        let blobs = Arc::clone(&self.blobs);
        // Ends by itself, after a look at the folder.
        tokio::spawn(async move { blobs.sweep().await });
    }

    /// Tells the liveness of machines which there should be.
    fn know_machines(&mut self) {
        let Some(known) = &self.known else { return };
        let recorded = known.daemons.supervisors.keys().cloned().collect();
        let plans = known.topologies.values().filter_map(|topology| topology.plan.as_ref());
        let planned = plans.flat_map(|plan| plan.machines.iter().cloned()).collect();
        self.observed.machines.known(&recorded, &planned);
    }

    fn touch_all(&mut self) {
        if let Some(known) = &self.known {
            self.touched.extend(known.topologies.keys().cloned());
        }
    }

    /// Answers, or puts it where it waits.
    fn request(&mut self, request: Request) {
        if let Role::Follows(leader) = &self.role {
            return request.refuse(FailureKind::NotLeader.with(format!(
                "Nimbus {} at {}:{} leads, not this one: ask it",
                leader.nimbus, leader.host, leader.port
            )));
        }
        if request.is_write() {
            if !self.session.connected {
                return request.refuse(self.no_cluster_state());
            }
            return match self.writes.len() < WAITING_REQUESTS {
                true => self.writes.push_back(request),
                false => request.refuse(busy()),
            };
        }
        let reading = self.session.connected && self.known.is_none() && self.election_trouble.is_none();
        match request {
            request if reading => match self.early.len() < WAITING_REQUESTS {
                true => self.early.push_back(request),
                false => request.refuse(busy()),
            },
            Request::Cluster(reply) => drop(reply.send(Ok(self.cluster()))),
            request if self.known.is_none() => request.refuse(self.no_cluster_state()),
            Request::Topology(name, reply) => drop(reply.send(self.find(&name))),
            Request::Machine(report, reply) => drop(reply.send(Ok(self.machine_reports(*report)))),
            Request::Worker(report, reply) => drop(reply.send(Ok(self.worker_reports(*report)))),
            Request::Submit(..) | Request::Command(..) => {}
        }
    }

    fn find(&self, name: &str) -> Result<Box<Topology>, Failure> {
        let id = self.id_of(name)?;
        let known = self.known.as_ref().ok_or_else(|| not_alive(name))?;
        if let Some(topology) = known.topologies.get(&id) {
            return Ok(Box::new(self.topology(&id, topology)));
        }
        let unreadable = known.unreadable.get(&id).ok_or_else(|| not_alive(name))?;
        Ok(Box::new(self.unreadable(&id, unreadable)))
    }

    /// The topology of this id or name; an id goes first.
    fn id_of(&self, name: &str) -> Result<TopologyId, Failure> {
        let known = self.known.as_ref().ok_or_else(|| self.no_cluster_state())?;
        let readable = known.topologies.iter().map(|(id, topology)| (id, &topology.record.name));
        let unreadable = known.unreadable.iter().map(|(id, topology)| (id, &topology.name));
        let all: Vec<(&TopologyId, &TopologyName)> = readable.chain(unreadable).collect();
        let by_id = all.iter().find(|(id, _)| id.as_str() == name);
        let mut by_name = all.iter().filter(|(_, named)| named.as_str() == name);
        let found = by_id.or_else(|| by_name.next()).map(|(id, _)| (*id).clone());
        if by_id.is_none() && by_name.next().is_some() {
            return Err(FailureKind::BadRequest.with(format!("several topologies have the name `{name}`: give the id")));
        }
        found.ok_or_else(|| not_alive(name))
    }

    fn machine_reports(&mut self, report: MachineReport) -> MachineAnswer {
        let now = self.clock.uptime_ms();
        let id = report.id.clone();
        let was = self.observed.machines.state(&id);
        let usable = |report: &MachineReport| {
            report.slots.iter().map(|(port, slot)| (*port, is_usable(slot, |_| false))).collect::<Vec<_>>()
        };
        let before = self.observed.report(&id).map(|reported| usable(&reported.report));
        let after = usable(&report);
        let topologies = self.known.as_ref().map(|known| &known.topologies);
        let has_record = |id: &TopologyId| topologies.is_some_and(|topologies| topologies.contains_key(id));
        let touched = self.observed.heard_machine(report, has_record, now, epoch_ms());
        self.touched.extend(touched);
        // Those that go wait for a word of each machine that does not name them.
        self.touched.extend(self.plan_gone_ms.keys().cloned());
        self.observed.machines.tick(now);
        if was != self.observed.machines.state(&id) || before.is_none_or(|before| before != after) {
            self.know_machines();
            self.scheduling_is_due = true;
        }
        let mut answer = MachineAnswer { nimbus: self.me.id.clone(), gone: BTreeMap::new(), plans: BTreeMap::new() };
        for (topology, known) in topologies_of(&self.known) {
            if let Some(plan) = known.plan.as_ref().filter(|plan| plan.machines.contains(&id)) {
                answer.plans.insert(topology.clone(), plan.plan.version);
                let gone = self.observed.gone(topology);
                if !gone.is_empty() {
                    answer.gone.insert(topology.clone(), gone);
                }
            }
        }
        answer
    }

    fn worker_reports(&mut self, report: Report) -> Answer {
        let now = self.clock.uptime_ms();
        let leads = self.token().is_some() && self.token() == self.read_under.as_ref();
        let known = self.known.as_ref();
        let topology = known.and_then(|known| known.topologies.get(&report.topology));
        let is_unreadable = known.is_some_and(|known| known.unreadable.contains_key(&report.topology));
        let planned = topology.and_then(|topology| {
            let plan = topology.plan.as_ref()?;
            plan.plan.workers.get(usize::from(report.worker.0))
        });
        let is_gone = match topology {
            None => !is_unreadable,
            Some(topology) if topology.is_removing() => true,
            Some(topology) if topology.plan_unreadable.is_some() => false,
            Some(_) => planned.is_none_or(|planned| {
                planned.version > report.life.plan
                    || planned.version == report.life.plan
                        && planned.slot.as_ref().is_none_or(|slot| slot.port != report.port)
            }),
        };
        let newer = topology.and_then(|topology| topology.plan.as_ref());
        let newer = newer.filter(|plan| plan.plan.version > report.placement);
        let answer = Answer {
            format: ANSWER_FORMAT,
            slot: if leads && is_gone { Slot::Gone } else { Slot::Kept },
            spouts: topology.map_or(report.spouts, |topology| lifecycle::spouts(&topology.record)),
            placement: newer.map(|plan| plan.placement.clone()),
            gone: self.observed.gone(&report.topology),
        };
        if !is_gone {
            let slot = planned.and_then(|planned| planned.slot.clone());
            let machine = slot.as_ref().map(|slot| (&slot.supervisor, slot.host.as_str()));
            self.touched.insert(report.topology.clone());
            self.observed.heard_worker(report, machine, now, epoch_ms());
        }
        answer
    }

    // --- Work.

    /// The most urgent work, if the store answers and there is any.
    fn next_work(&mut self) -> Option<BoxFuture<'static, Done>> {
        if !self.session.connected || self.is_pausing {
            return None;
        }
        if self.election_is_due {
            self.election_is_due = false;
            let (board, me, session) = (Arc::clone(&self.board), self.me.clone(), self.session);
            let held = self.token().cloned();
            return Some(Box::pin(async move { Done::Elected(session, elect(&board, &me, held.as_ref()).await) }));
        }
        let token = self.token()?.clone();
        let board = Arc::clone(&self.board);
        if self.load_is_due {
            self.load_is_due = false;
            let blobs = Arc::clone(&self.blobs);
            return Some(Box::pin(async move { Done::Loaded(load(&board, &blobs).await) }));
        }
        if self.daemons_are_due {
            self.daemons_are_due = false;
            return Some(Box::pin(async move { Done::Daemons(daemons(&board).await) }));
        }
        let writer = self.writer(&token);
        while let Some(request) = self.writes.pop_front() {
            let work = match request {
                Request::Submit(submission, reply) => self.submit(*submission, reply, &writer),
                Request::Command(name, command, reply) => self.command(&name, command, reply, &writer),
                other => {
                    self.request(other);
                    None
                }
            };
            if work.is_some() {
                return work;
            }
        }
        while let Some(id) = self.touched.pop_first() {
            if let Some(work) = self.moves_by_itself(&id, &writer) {
                return Some(work);
            }
        }
        if let Some(id) = self.orphans.pop_first() {
            tracing::warn!("{id} has no record any more: what is left of it is removed");
            return Some(Box::pin(async move { Done::Cleaned(writer.remove(&id, None).await) }));
        }
        if let Some(name) = self.orphaned_names.pop() {
            tracing::warn!("the name {name} is taken by nobody: it is given free");
            return Some(Box::pin(async move { Done::Cleaned(writer.free_name(&name).await) }));
        }
        self.schedule();
        while let Some((id, plan)) = self.plans.pop_first() {
            match plan.records() {
                Ok(records) => {
                    return Some(Box::pin(async move {
                        let written = writer.plan(&id, records).await;
                        Done::Planned(id, plan, written)
                    }));
                }
                Err(too_long) => {
                    tracing::error!("{id}: {too_long}");
                    self.sentences.insert(id, too_long.to_string());
                }
            }
        }
        None
    }

    /// Checks a submission, and begins to store it.
    fn submit(
        &mut self,
        submission: Submission,
        reply: Reply<Submitted>,
        writer: &Writer,
    ) -> Option<BoxFuture<'static, Done>> {
        match self.checked(submission) {
            Err(failure) => {
                let _ = reply.send(Err(failure));
                None
            }
            Ok((submission, checked, count)) => {
                self.asker = Asker::Submit(checked.warnings, reply);
                let (blobs, writer) = (Arc::clone(&self.blobs), writer.clone());
                let settings = checked.settings;
                Some(Box::pin(
                    async move { Done::Submitted(store(&blobs, &writer, submission, settings, count).await) },
                ))
            }
        }
    }

    fn checked(&self, submission: Submission) -> Result<(Submission, crate::submission::Checked, u64), Failure> {
        let known = self.known.as_ref().ok_or_else(|| self.no_cluster_state())?;
        let taken = |name: &TopologyName| *name == submission.name;
        let readable = known.topologies.values().find(|topology| taken(&topology.record.name));
        let unreadable = known.unreadable.iter().find(|(_, topology)| taken(&topology.name));
        if let Some(id) = readable.map(|topology| &topology.record.id).or(unreadable.map(|(id, _)| id)) {
            let is_killed = readable.is_some_and(KnownTopology::is_killed);
            let state = if is_killed { "is still being killed" } else { "runs" };
            return Err(FailureKind::AlreadyAlive.with(format!(
                "the name `{}` is taken: {id} {state}; kill it first, wait until it is gone, or choose another name",
                submission.name
            )));
        }
        let limits = Limits { most_workers: self.config.most_workers, most_executors: self.config.most_executors };
        let mut checked = check(&submission, &limits, known.daemons.supervisors.values())?;
        let blobs = std::iter::once(("executable".to_owned(), &submission.executable));
        let files = submission.files.iter().map(|(name, hash)| (format!("file {name}"), hash));
        for (what, hash) in blobs.chain(files) {
            if self.blobs.complete(hash).is_none() {
                let failure = missing(hash);
                return Err(Failure { message: format!("{what}: {failure}; upload it, and submit again"), ..failure });
            }
        }
        checked.warnings.extend(self.few_slots(checked.settings.workers));
        let count = known.submissions + 1;
        Ok((submission, checked, count))
    }

    /// A warning, if fewer slots are free than a topology wants.
    fn few_slots(&self, workers: u16) -> Option<String> {
        let machines = self.machines();
        let all = machines.iter().filter_map(|(id, machine)| match machine {
            Machine::Available { slots, .. } => Some(slots.iter().map(move |port| (id, *port))),
            Machine::Unavailable => None,
        });
        let used: BTreeSet<(&SupervisorId, Port)> =
            self.planned_slots().map(|slot| (&slot.supervisor, slot.port)).collect();
        let free = all.flatten().filter(|slot| !used.contains(slot)).count();
        (free < usize::from(workers) && !machines.is_empty()).then(|| match free {
            0 => format!("it wants {workers} workers, and no slot is free: it waits until one is"),
            _ => format!("it wants {workers} workers, and {free} slots are free: it runs with fewer"),
        })
    }

    /// What a user asked of a topology.
    fn command(
        &mut self,
        name: &str,
        command: Command,
        reply: Reply<TopologySummary>,
        writer: &Writer,
    ) -> Option<BoxFuture<'static, Done>> {
        let change = self.id_of(name).and_then(|id| {
            let known = self.known.as_ref().ok_or_else(|| not_alive(name))?;
            let Some(topology) = known.topologies.get(&id) else {
                let unreadable = known.unreadable.get(&id).ok_or_else(|| not_alive(name))?;
                return match command {
                    Command::Kill(_) => Ok((id, Change::RemoveRecords)),
                    _ => Err(FailureKind::WrongState
                        .with(format!("{id} is broken: {}; it can only be killed", unreadable.why))),
                };
            };
            let event = match command {
                Command::Activate => Event::Activate,
                Command::Deactivate => Event::Deactivate,
                Command::Kill(Kill { wait_secs }) => Event::Kill { wait_ms: wait_ms(wait_secs, topology) },
            };
            Ok((id, lifecycle::next(&topology.record, &event, epoch_ms())?))
        });
        match change {
            Err(failure) => {
                let _ = reply.send(Err(failure));
                None
            }
            Ok((id, Change::Nothing)) => {
                let _ = reply.send(self.summary_of(&id));
                None
            }
            Ok((id, change)) => {
                self.asker = Asker::Command(reply);
                self.change(id, change, writer)
            }
        }
    }

    /// What a topology needs without being asked.
    fn moves_by_itself(&mut self, id: &TopologyId, writer: &Writer) -> Option<BoxFuture<'static, Done>> {
        let now = self.clock.uptime_ms();
        let topology = self.known.as_ref()?.topologies.get(id)?;
        let plan_gone_ms = self.plan_gone_ms.get(id).copied().unwrap_or(now);
        for event in self.observed.events(id, topology, plan_gone_ms, now) {
            match lifecycle::next(&topology.record, &event, epoch_ms()) {
                Ok(Change::Nothing) => {}
                Ok(change) => return self.change(id.clone(), change, writer),
                Err(refused) => tracing::error!("{id}: {refused}"),
            }
        }
        None
    }

    fn change(&mut self, id: TopologyId, change: Change, writer: &Writer) -> Option<BoxFuture<'static, Done>> {
        let known = self.known.as_ref()?;
        let before = known.topologies.get(&id).map(|topology| topology.record.clone());
        let writer = writer.clone();
        match (change, before) {
            (Change::Store(after), Some(before)) => Some(Box::pin(async move {
                let written = writer.set(&before, after.clone()).await;
                Done::Stored(Box::new(after), written)
            })),
            (Change::RemovePlan(after), Some(before)) => Some(Box::pin(async move {
                let written = writer.remove_plan(&before, after.clone()).await;
                Done::PlanRemoved(Box::new(after), written)
            })),
            (Change::RemoveRecords, before) => {
                let unreadable = known.unreadable.get(&id).map(|topology| topology.name.clone());
                let name = before.map(|before| before.name).or(unreadable);
                Some(Box::pin(async move {
                    let written = writer.remove(&id, name.as_ref()).await;
                    Done::Removed(id, written)
                }))
            }
            (Change::Nothing | Change::Store(_) | Change::RemovePlan(_), _) => None,
        }
    }

    /// The machines that are not dead, as the scheduler sees them.
    fn machines(&self) -> BTreeMap<SupervisorId, Machine> {
        let Some(known) = &self.known else { return BTreeMap::new() };
        let foreign = |id: &TopologyId| {
            let topology = known.topologies.get(id);
            known.unreadable.contains_key(id) || topology.is_some_and(|topology| topology.plan_unreadable.is_some())
        };
        let machine = |id: &SupervisorId| {
            let (record, reported) = (known.daemons.supervisors.get(id), self.observed.report(id));
            match (self.observed.machines.state(id), record, reported) {
                (MachineState::Dead, ..) => None,
                (MachineState::Available, Some(record), Some(reported)) => {
                    let usable = reported.report.slots.iter().filter(|(_, slot)| is_usable(slot, foreign));
                    let slots = usable.map(|(port, _)| *port).collect();
                    Some(Machine::Available { host: record.host.clone(), platform: record.platform.clone(), slots })
                }
                _ => Some(Machine::Unavailable),
            }
        };
        self.observed.machines.ids().filter_map(|id| Some((id.clone(), machine(id)?))).collect()
    }

    /// Plans anew, if anything changed that plans depend on.
    fn schedule(&mut self) {
        let machines = self.machines();
        let now = self.clock.uptime_ms();
        let Some(known) = &self.known else { return };
        let failing = known.topologies.keys().map(|id| (id.clone(), self.observed.failing.to_move(id, now)));
        let inputs = (machines, failing.filter(|(_, failing)| !failing.is_empty()).collect::<BTreeMap<_, _>>());
        if !self.scheduling_is_due && self.scheduled_with.as_ref() == Some(&inputs) {
            return;
        }
        self.scheduling_is_due = false;
        let details = known.topologies.iter().filter(|(_, topology)| !topology.is_removing());
        let details: Vec<TopologyDetails> = details
            .map(|(id, topology)| {
                let graph = topology.graph.as_ref().ok();
                TopologyDetails {
                    id: id.clone(),
                    submitted_ms: topology.record.submitted_ms,
                    platform: topology.record.build.platform.clone(),
                    workers: graph.map_or(1, |graph| graph.settings.workers),
                    components: graph.map(|graph| graph.components.clone()).unwrap_or_default(),
                    // What is broken keeps what it has.
                    leaving: topology.is_killed() || graph.is_none() || topology.plan_unreadable.is_some(),
                    plan: topology.plan.as_ref().map(|plan| plan.plan.clone()),
                    failing: inputs.1.get(id).cloned().unwrap_or_default(),
                }
            })
            .collect();
        let round = schedule(&inputs.0, &details);
        self.sentences = round.sentences;
        self.plans = round.plans;
        self.scheduled_with = Some(inputs);
    }

    // --- What was done.

    fn done(&mut self, done: Done) {
        match done {
            Done::Elected(session, result) => self.elected(session, result),
            Done::Loaded(Ok(loaded)) => self.loaded(loaded),
            Done::Loaded(Err(error)) => {
                self.load_is_due = true;
                self.store_failed(&error);
            }
            Done::Cleaned(result) => drop(result.map_err(|error| self.write_failed(error))),
            Done::Daemons(Ok(daemons)) => {
                if let Some(known) = &mut self.known {
                    known.daemons = daemons;
                }
                self.know_machines();
                self.scheduling_is_due = true;
                self.touch_all();
            }
            Done::Daemons(Err(error)) => {
                self.daemons_are_due = true;
                self.store_failed(&error);
            }
            Done::Submitted(result) => self.submitted(result.map(|made| *made)),
            Done::Stored(record, result) => {
                let id = record.id.clone();
                if result.is_ok()
                    && let Some(topology) = self.topology_mut(&id)
                {
                    tracing::info!("{id}: {}", told(&record.status));
                    topology.record = *record;
                    self.scheduling_is_due = true;
                }
                self.changed(id, result);
            }
            Done::PlanRemoved(record, result) => {
                let id = record.id.clone();
                let now = self.clock.uptime_ms();
                if result.is_ok()
                    && let Some(topology) = self.topology_mut(&id)
                {
                    tracing::info!("{id}: its workers stop");
                    topology.record = *record;
                    topology.plan = None;
                    self.plan_gone_ms.insert(id.clone(), now);
                    self.plans.remove(&id);
                    self.scheduling_is_due = true;
                }
                self.changed(id, result);
            }
            Done::Removed(id, result) => self.removed(id, result),
            Done::Planned(id, plan, result) => self.planned(id, plan, result),
        }
    }

    fn topology_mut(&mut self, id: &TopologyId) -> Option<&mut KnownTopology> {
        self.known.as_mut()?.topologies.get_mut(id)
    }

    fn elected(&mut self, session: Session, result: Result<Election, ReadError>) {
        if session.epoch != self.session.epoch {
            self.election_is_due = true;
            return;
        }
        match result {
            Ok(Election::Won(token)) => {
                self.election_trouble = None;
                if self.token() != Some(&token) {
                    tracing::info!("this Nimbus leads");
                    self.load_is_due = true;
                    self.observed.machines.listen_anew(self.clock.uptime_ms());
                }
                self.role = Role::Leads(token);
            }
            Ok(Election::Lost(leader)) => {
                self.election_trouble = None;
                tracing::info!("Nimbus {} at {}:{} leads", leader.nimbus, leader.host, leader.port);
                self.role = Role::Follows(leader);
                self.known = None;
                let waiting = self.early.drain(..).chain(self.writes.drain(..)).collect::<Vec<_>>();
                waiting.into_iter().for_each(|request| self.request(request));
            }
            Err(error) => {
                self.election_is_due = true;
                if let ReadError::Unreadable { .. } = &error {
                    let said = format!("no Nimbus can lead: {error}");
                    tracing::error!("{said}");
                    self.role = Role::Unknown;
                    self.election_trouble = Some(said);
                    let failure = self.no_cluster_state();
                    self.writes.drain(..).for_each(|request| request.refuse(failure.clone()));
                    let early: Vec<Request> = self.early.drain(..).collect();
                    early.into_iter().for_each(|request| self.request(request));
                }
                self.is_pausing = true;
            }
        }
    }

    fn loaded(&mut self, loaded: Loaded) {
        let Some(token) = self.token().cloned() else { return };
        self.read_under = Some(token);
        let Loaded { known, orphans, orphaned_names } = loaded;
        let now = self.clock.uptime_ms();
        let all: Vec<_> = known.topologies.iter().map(|(id, topology)| (id.clone(), topology.uses())).collect();
        self.blobs.set_uses(&all, known.unreadable.is_empty());
        self.sweep();
        let graphs = known.topologies.values().map(|topology| &topology.record.graph.hash);
        self.lacking = graphs.filter(|hash| self.blobs.complete(hash).is_none()).cloned().collect();
        self.plan_gone_ms.clear();
        for (id, topology) in &known.topologies {
            if topology.is_removing() {
                self.plan_gone_ms.insert(id.clone(), now);
            }
        }
        for why in known.unreadable.values().map(|unreadable| &unreadable.why).chain(&known.oddities) {
            tracing::error!("{why}");
        }
        self.observed.retain(&known.topologies.keys().collect());
        self.known = Some(known);
        self.orphans = orphans;
        self.orphaned_names = orphaned_names;
        self.plans.clear();
        self.scheduling_is_due = true;
        self.know_machines();
        self.touch_all();
        let early: Vec<Request> = self.early.drain(..).collect();
        early.into_iter().for_each(|request| self.request(request));
    }

    fn submitted(&mut self, result: Result<(records::Topology, KnownGraph), NotSubmitted>) {
        let asker = std::mem::replace(&mut self.asker, Asker::None);
        let answer = match result {
            Ok((record, graph)) => {
                let id = record.id.clone();
                tracing::info!("{id} was submitted");
                if let Some(known) = &mut self.known {
                    known.submissions += 1;
                    known.topologies.insert(id.clone(), KnownTopology::new(record, Ok(Arc::new(graph))));
                }
                self.scheduling_is_due = true;
                Ok(id)
            }
            Err(NotSubmitted::Failure(failure)) => Err(failure),
            Err(NotSubmitted::Write(error)) => Err(self.write_failed(error)),
        };
        if let Asker::Submit(warnings, reply) = asker {
            let _ = reply.send(answer.map(|id| Submitted { id, warnings }));
        }
    }

    fn planned(&mut self, id: TopologyId, plan: TopologyPlan, result: Result<(), WriteError>) {
        if let Err(error) = result {
            self.scheduling_is_due = true;
            self.write_failed(error);
            return;
        }
        tracing::info!("{id}: plan {} holds", plan.version);
        let now = self.clock.uptime_ms();
        let Some(topology) = self.known.as_mut().and_then(|known| known.topologies.get_mut(&id)) else { return };
        let due = self.observed.failing.to_move(&id, now);
        for (index, _) in due {
            let slot = |workers: &[crate::scheduling::PlannedWorker]| {
                workers.get(usize::from(index.0)).and_then(|worker| worker.slot.clone())
            };
            let before = topology.plan.as_ref().and_then(|before| slot(&before.plan.workers));
            if before != slot(&plan.workers) {
                self.observed.failing.moved(&id, index, now);
            }
        }
        topology.plan = Some(KnownPlan::new(plan));
        self.touched.insert(id);
        self.know_machines();
    }

    fn removed(&mut self, id: TopologyId, result: Result<(), WriteError>) {
        if result.is_ok() {
            tracing::info!("{id} is gone");
            let summary = self.summary_of(&id);
            if let Some(known) = &mut self.known {
                known.topologies.remove(&id);
                known.unreadable.remove(&id);
            }
            self.plan_gone_ms.remove(&id);
            self.sentences.remove(&id);
            self.plans.remove(&id);
            self.observed.forget(&id);
            self.blobs.release(&id);
            self.scheduling_is_due = true;
            if let Asker::Command(reply) = std::mem::replace(&mut self.asker, Asker::None) {
                let _ = reply.send(summary);
            }
        } else {
            self.changed(id, result);
        }
    }

    /// Answers who asked for a change of a topology.
    fn changed(&mut self, id: TopologyId, result: Result<(), WriteError>) {
        let answer = match result {
            Ok(()) => {
                self.touched.insert(id.clone());
                self.summary_of(&id)
            }
            Err(error) => Err(self.write_failed(error)),
        };
        if let Asker::Command(reply) = std::mem::replace(&mut self.asker, Asker::None) {
            let _ = reply.send(answer);
        }
    }

    fn summary_of(&self, id: &TopologyId) -> Result<TopologySummary, Failure> {
        let known = self.known.as_ref().ok_or_else(|| not_alive(id.as_str()))?;
        if let Some(topology) = known.topologies.get(id) {
            return Ok(self.summary(id, topology));
        }
        let unreadable = known.unreadable.get(id).ok_or_else(|| not_alive(id.as_str()))?;
        Ok(crate::views::unreadable_summary(id, unreadable))
    }

    /// What follows from a write that did not happen, and what its asker hears.
    fn write_failed(&mut self, error: WriteError) -> Failure {
        match &error {
            WriteError::NotLeading => {
                tracing::warn!("a write was refused: {error}");
                self.role = Role::Unknown;
                self.election_is_due = true;
                FailureKind::NotLeader.with(format!("this Nimbus does not lead any more: {error}; try again"))
            }
            WriteError::Changed(_) => {
                tracing::warn!("a record is not as expected, all are read again: {error}");
                self.load_is_due = true;
                self.is_pausing = true;
                FailureKind::WrongState.with(format!("the records changed meanwhile: {error}; try again"))
            }
            WriteError::Store(StoreError::TooLong { bytes, .. }) => FailureKind::TooLarge.with(format!(
                "its record would have {bytes} bytes, at most {} are allowed; give it fewer or shorter arguments and files",
                cluster_state::store::RECORD_BYTES
            )),
            WriteError::Store(store) => {
                self.store_failed(store);
                FailureKind::NoClusterState.with(format!("nothing was changed: {error}"))
            }
            WriteError::Unreadable(why) => {
                tracing::error!("{why}");
                self.load_is_due = true;
                self.is_pausing = true;
                FailureKind::WrongState.with(format!("nothing was changed: {why}"))
            }
        }
    }

    fn store_failed(&mut self, error: &StoreError) {
        tracing::warn!("the cluster state did not do it: {error}");
        // All that waits for this is looked at again with the next tick.
        self.is_pausing = true;
    }
}

/// Stores a submission: graph, uses of blobs, records. Of one that fails nothing stays but what was uploaded.
async fn store(
    blobs: &Blobs,
    writer: &Writer,
    submission: Submission,
    settings: TopologySettings,
    count: u64,
) -> Result<Box<(records::Topology, KnownGraph)>, NotSubmitted> {
    let json = serde_json::to_vec(&submission.described.graph).expect("a graph has string keys");
    let graph =
        FileBlob { bytes: json.len() as u64, hash: blobs.keep(json.into()).await.map_err(NotSubmitted::Failure)? };
    let of = |hash: BlobHash| FileBlob { bytes: blobs.complete(&hash).unwrap_or(0), hash };
    let now_ms = epoch_ms();
    let record = records::Topology {
        id: TopologyId::of(&submission.name, count, now_ms / 1000),
        name: submission.name,
        owner: submission.owner,
        submitted_ms: now_ms,
        build: submission.described.build,
        executable: of(submission.executable),
        graph,
        files: submission.files.into_iter().map(|(name, hash)| (name, of(hash))).collect(),
        arguments: submission.arguments,
        started: false,
        status: Status::Active,
    };
    match store_record(blobs, writer, &record, count).await {
        Ok(()) => {
            blobs.unpin(&uses(&record));
            Ok(Box::new((record, KnownGraph::new(submission.described.graph, settings))))
        }
        Err(failed) => {
            // Its graph was made here, and is of no use to anybody else.
            blobs.unpin(&vec![(record.graph.hash, String::new())]);
            blobs.release(&record.id);
            Err(failed)
        }
    }
}

async fn store_record(
    blobs: &Blobs,
    writer: &Writer,
    record: &records::Topology,
    count: u64,
) -> Result<(), NotSubmitted> {
    let used = uses(record);
    for (hash, what) in &used {
        let verified = blobs.verify(hash).await;
        verified
            .map_err(|failure| NotSubmitted::Failure(Failure { message: format!("{what}: {failure}"), ..failure }))?;
    }
    blobs.reserve(&record.id, &used).map_err(|hash| NotSubmitted::Failure(missing(&hash)))?;
    let secret = random_bytes().map_err(|why| NotSubmitted::Failure(FailureKind::Internal.with(why)))?;
    writer.submit(record.clone(), Secret::new(secret), count).await.map_err(NotSubmitted::Write)
}

/// How long a topology may drain: what its user says, or its message time-out.
fn wait_ms(wait_secs: Option<u64>, topology: &KnownTopology) -> u64 {
    let timeout = topology.graph.as_ref().ok().and_then(|graph| graph.settings.message_timeout);
    match wait_secs {
        Some(secs) => Duration::from_secs(secs).min(LONGEST_WAIT).as_millis() as u64,
        None => timeout.unwrap_or(DEFAULT_WAIT).as_millis() as u64,
    }
}

/// How long a topology may drain at most.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a topology may drain that has no message time-out.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

fn topologies_of(known: &Option<Known>) -> impl Iterator<Item = (&TopologyId, &KnownTopology)> {
    known.iter().flat_map(|known| &known.topologies)
}

fn told(status: &Status) -> String {
    match status {
        Status::Active => "active".to_owned(),
        Status::Inactive { reason } => format!("inactive: {reason}"),
        Status::Killed { wait_ms, .. } => format!("killed, it may drain for {wait_ms} ms"),
    }
}

fn not_alive(name: &str) -> Failure {
    let shown: String = name.chars().take(worker_api::ids::ID_BYTES).flat_map(char::escape_default).collect();
    FailureKind::NotAlive.with(format!("no topology has the name or id `{shown}`; `storm list` shows those that run"))
}

fn busy() -> Failure {
    FailureKind::NoClusterState
        .with(format!("{WAITING_REQUESTS} requests wait for the cluster state already: try again later"))
}
