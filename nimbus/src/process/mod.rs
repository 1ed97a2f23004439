//! The one that decides: a loop that owns all state, hears events one at a time, and has one piece of work with the records
//! under way at a time.
//!
//! | event | from |
//! |---|---|
//! | [`Request`] | the API, by a bounded channel |
//! | work is done | the future that this loop polls |
//! | the session changed; somebody leads, comes or goes | the cluster state |
//! | topologies or plans changed: read by who does not lead | the cluster state |
//! | a blob was fetched; another Nimbus said what it has | the other Nimbuses |
//! | a second, or a deadline, has passed | the clock |
//!
//! After each event the most urgent work begins: to lead, to read what is there, what users ask for, what topologies need by
//! themselves, plans. So a submission has its plan some milliseconds later. While the store is away no work begins; reports
//! and views are answered out of memory.
//!
//! Not here: what is decided (`lifecycle`, `liveness`, `scheduling`), how it is written (`publish`). Invariant: memory changes when the
//! write has happened; after a write that found something else there, all records are read again.

mod copies;
mod done;
mod requests;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::board::{Board, ReadError};
use cluster_state::paths;
use cluster_state::records::{self, Leader};
use cluster_state::store::{Session, StoreError};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use nimbus_api::cluster::{Cluster, MachineSummary};
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::machine::{MachineAnswer, MachineReport};
use nimbus_api::submission::{Kill, MOST_WAIT_SECS, Rebalance, Submission, Submitted};
use nimbus_api::topology::{Topology, TopologySummary};
use seam::{Seam, Task};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use worker_api::answer::Answer;
use worker_api::ids::{BlobHash, NimbusId, Port, SupervisorId, TopologyId, TopologyName, WorkerIndex};
use worker_api::report::Report;

use self::copies::Replicating;
use crate::NimbusConfig;
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::knowledge::{Daemons, Known, KnownGraph, Loaded};
use crate::leadership::{Election, resign};
use crate::lifecycle;
use crate::liveness::Machines;
use crate::observed::Observed;
use crate::peers::Peers;
use crate::publish::{WriteError, Writer};
use crate::rebalance::Wishes;
use crate::replication::{Copies, Fetching};
use crate::scheduling::{Machine, TopologyPlan, WorkerSlot};

/// How often time is looked at when nothing happens; liveness wants four looks in its time-out.
const TICK: Duration = Duration::from_secs(1);
/// How long giving the lead back may take; then the session's end does it.
const RESIGN: Duration = Duration::from_secs(2);
/// Longest sleep of the loop.
const LONGEST_SLEEP: Duration = Duration::from_secs(MOST_WAIT_SECS);
/// Requests that wait until the records were read, or until their turn to write comes.
pub(crate) const WAITING_REQUESTS: usize = 1024;

/// Where an answer goes; who asked may be gone.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// What the API asks.
pub(crate) enum Request {
    /// The cluster at a glance.
    Cluster(Reply<Cluster>),
    /// One topology, by name or id.
    Topology(String, Reply<Box<Topology>>),
    /// The cluster by the records alone, with the reason for that.
    ClusterByRecords(String, Reply<Cluster>),
    /// One topology by the records alone.
    TopologyByRecords(String, Reply<Box<Topology>>),
    /// A topology shall run.
    Submit(Box<Submission>, Reply<Submitted>),
    /// A topology, by name or id, shall change.
    Command(String, Command, Reply<TopologySummary>),
    /// The machines of this host name, or with this id, shall have no work, or may have it again.
    Drain(String, bool, Reply<Vec<MachineSummary>>),
    /// A Supervisor reports.
    Machine(Box<MachineReport>, Reply<MachineAnswer>),
    /// A worker reports by itself.
    Worker(Box<Report>, Reply<Answer>),
}

/// What a user asks of a topology.
#[derive(Clone, Debug)]
pub enum Command {
    /// Its spouts shall be asked.
    Activate,
    /// Its spouts shall not be asked.
    Deactivate,
    /// Its executors shall be dealt anew.
    Rebalance(Rebalance),
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
            Request::ClusterByRecords(_, reply) => drop(reply.send(Err(failure))),
            Request::TopologyByRecords(_, reply) => drop(reply.send(Err(failure))),
            Request::Submit(_, reply) => drop(reply.send(Err(failure))),
            Request::Command(_, _, reply) => drop(reply.send(Err(failure))),
            Request::Drain(_, _, reply) => drop(reply.send(Err(failure))),
            Request::Machine(_, reply) => drop(reply.send(Err(failure))),
            Request::Worker(_, reply) => drop(reply.send(Err(failure))),
        }
    }

    /// Whether it changes records.
    fn is_write(&self) -> bool {
        matches!(self, Request::Submit(..) | Request::Command(..) | Request::Drain(..))
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
    /// A drain, or its end, of these machines.
    Drain(Vec<SupervisorId>, Reply<Vec<MachineSummary>>),
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
    /// A submission was refused, and its asker has heard so.
    Refused,
    Planned(TopologyId, TopologyPlan, Result<(), WriteError>),
    Drained(Vec<records::Drained>, Result<(), WriteError>),
    Undrained(Vec<SupervisorId>, Result<(), WriteError>),
}

/// Why a submission was not stored.
enum NotSubmitted {
    /// Its user is told.
    Failure(Failure),
    /// A record.
    Write(WriteError),
}

/// What the scheduler was last asked with: machines, slots that fail their workers, and whether machines are settled.
type Inputs =
    (BTreeMap<SupervisorId, Machine>, BTreeMap<TopologyId, BTreeMap<WorkerIndex, (SupervisorId, Port)>>, bool);

/// What is under way beside the work with records.
type UnderWay<T> = FuturesUnordered<BoxFuture<'static, T>>;

/// The ways out of a Nimbus.
pub(crate) struct Ways {
    pub(crate) seam: Seam,
    pub(crate) peers: Arc<dyn Peers>,
    /// Whom this Nimbus follows is told there.
    pub(crate) followed: watch::Sender<Option<Leader>>,
}

/// All that a Nimbus knows.
pub(crate) struct Process {
    pub(crate) config: NimbusConfig,
    pub(crate) me: records::Nimbus,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) clock: Clock,
    seam: Seam,
    peers: Arc<dyn Peers>,
    followed: watch::Sender<Option<Leader>>,
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
    /// Why topologies stay on machines that are drained, as the scheduler says.
    pub(crate) stays: BTreeMap<TopologyId, String>,
    /// Topologies that have not all of their slots.
    pub(crate) short_of_slots: BTreeSet<TopologyId>,
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
    /// Topologies that were dealt anew, and whose plan stays as it is.
    unmoved: BTreeSet<TopologyId>,
    /// What is to be rebalanced without being asked for.
    wishes: Wishes,
    /// After a store that is there did not do its work: until the next tick.
    is_pausing: bool,
    /// Why the last election was none.
    election_trouble: Option<String>,
    /// The last lead that was won, and the epoch of the session that it was won in.
    won: Option<(u64, BlobHash)>,
    /// Looks for expired uploads, and ends by itself.
    sweeping: Option<Task<()>>,
    /// When expired uploads were last looked for, on `clock`.
    swept_ms: u64,
    /// Graphs that topologies have, and this Nimbus has not.
    lacking: Vec<BlobHash>,
    /// When a Nimbus that does not lead began to read the records, and when it does so again at the earliest, on `clock`.
    load_began_ms: u64,
    load_not_before_ms: u64,
    /// What is fetched from other Nimbuses.
    fetching: Fetching,
    /// What a leader lacks of topologies, as it was last written to the log.
    told_lacks: BTreeMap<TopologyId, String>,
    fetches: UnderWay<(BlobHash, Result<(), String>)>,
    /// Which copies the others have, and who is being asked.
    copies: Copies,
    asking: UnderWay<(NimbusId, Result<Vec<BlobHash>, String>)>,
    asked: BTreeSet<NimbusId>,
    /// Which machine was asked for a blob that is lacking, and until when, on `clock`, no other one is.
    offering: BTreeMap<BlobHash, (SupervisorId, u64)>,
    /// At most [`WAITING_REQUESTS`] submissions wait for copies.
    replicating: Vec<Replicating>,
}

impl Process {
    /// Knows nothing yet.
    pub(crate) fn new(
        config: NimbusConfig,
        me: records::Nimbus,
        board: Arc<Board>,
        blobs: Arc<Blobs>,
        clock: Clock,
        ways: Ways,
    ) -> Self {
        let now = clock.uptime_ms();
        let machines = Machines::new(config.machine_timeout, now);
        Process {
            config,
            me,
            blobs,
            clock,
            seam: ways.seam,
            peers: ways.peers,
            followed: ways.followed,
            session: Session::default(),
            board,
            away_since_ms: Some(now),
            role: Role::Unknown,
            read_under: None,
            known: None,
            observed: Observed::new(machines),
            sentences: BTreeMap::new(),
            stays: BTreeMap::new(),
            short_of_slots: BTreeSet::new(),
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
            unmoved: BTreeSet::new(),
            wishes: Wishes::default(),
            is_pausing: false,
            election_trouble: None,
            won: None,
            sweeping: None,
            swept_ms: 0,
            lacking: Vec::new(),
            load_began_ms: 0,
            load_not_before_ms: 0,
            fetching: Fetching::default(),
            told_lacks: BTreeMap::new(),
            fetches: FuturesUnordered::new(),
            copies: Copies::default(),
            asking: FuturesUnordered::new(),
            asked: BTreeSet::new(),
            offering: BTreeMap::new(),
            replicating: Vec::new(),
        }
    }

    /// Runs until `stop` is told or dropped; then the lead is given back.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut stop: oneshot::Receiver<()>) {
        let board = Arc::clone(&self.board);
        let mut leader = board.watch(&paths::leader());
        let mut supervisors = board.watch(&paths::supervisors());
        let mut nimbuses = board.watch(&paths::nimbuses());
        let mut topologies = board.watch(&paths::topologies());
        let mut plans = board.watch(&paths::plans());
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
                () = topologies.changed() => self.records_changed(),
                () = plans.changed() => self.records_changed(),
                Some((hash, result)) = self.fetches.next(), if !self.fetches.is_empty() => self.fetched(&hash, result),
                Some((nimbus, held)) = self.asking.next(), if !self.asking.is_empty() => self.heard_held(nimbus, held),
                _ = tick.tick() => self.tick(),
                () = async { match deadline { Some(at) => sleep_until(at).await, None => pending().await } } => self.is_due(),
                request = requests.recv() => match request {
                    Some(request) => self.request(request),
                    None => break,
                },
            }
        }
        drop(work);
        if self.session.connected {
            // Else the session ends by itself.
            let _ = timeout(RESIGN, resign(&board, &self.me, self.token())).await;
        }
    }

    /// The lead, if this Nimbus has it and the store answers.
    pub(crate) fn token(&self) -> Option<&BlobHash> {
        match &self.role {
            Role::Leads(token) if self.session.connected => Some(token),
            _ => None,
        }
    }

    /// Whom this Nimbus follows, if it does.
    pub(crate) fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Follows(leader) => Some(leader),
            Role::Unknown | Role::Leads(_) => None,
        }
    }

    /// In a sentence, if the store is away.
    pub(crate) fn why_away(&self) -> Option<String> {
        if let Some(since) = self.away_since_ms {
            let how_long = match self.clock.uptime_ms().saturating_sub(since) / 1000 {
                0 => "less than a second".to_owned(),
                secs => format!("{secs} s"),
            };
            return Some(format!(
                "the cluster state has not answered for {how_long}; topologies go on running, and changes are possible again once it is back"
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
        let now = self.clock.uptime_ms();
        let known = self.known.iter().filter(|_| self.token().is_some());
        let topologies = known.flat_map(|known| known.topologies.values());
        let deadline = topologies.filter_map(|topology| lifecycle::deadline(&topology.record.status)).min();
        let moves_ms = deadline.map(|deadline| deadline.saturating_sub(self.clock.epoch_ms()));
        let reads_ms = self.load_is_due.then(|| self.load_not_before_ms.saturating_sub(now));
        let fetches_ms = self.fetching.due_ms().map(|due| due.saturating_sub(now));
        // What is due already waits for work, not for time.
        let ms = [moves_ms, reads_ms, fetches_ms].into_iter().flatten().filter(|ms| *ms > 0).min()?;
        Some(self.seam.now() + Duration::from_millis(ms).min(LONGEST_SLEEP))
    }

    /// Time has moved something.
    fn is_due(&mut self) {
        self.touch_all();
        self.fetch();
    }

    /// A Nimbus that does not lead follows what the leader writes; who leads has written it.
    fn records_changed(&mut self) {
        self.load_is_due |= matches!(self.role, Role::Follows(_));
    }

    /// Who leads is known, or is not known any more.
    fn role_is(&mut self, role: Role) {
        self.role = role;
        self.followed.send_replace(self.leader().cloned());
        self.ask_others(false);
        self.answer_replicated();
    }

    fn session_is(&mut self, session: Session) {
        let now = self.clock.uptime_ms();
        self.observed.machines.listen_anew(now);
        if session.epoch != self.session.epoch && matches!(self.role, Role::Leads(_)) {
            tracing::warn!("the session with the cluster state was lost, and the lead with it");
            self.role_is(Role::Unknown);
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
        let unsure = |shown_by: &str| {
            FailureKind::Unanswered.with(format!(
                "the cluster state went away while this was being stored: whether it was is not known; {shown_by} shows it \
                 when the cluster state is back: look before doing it again"
            ))
        };
        match std::mem::replace(&mut self.asker, Asker::None) {
            Asker::None => {}
            Asker::Submit(_, reply) => drop(reply.send(Err(unsure("`storm list`")))),
            Asker::Command(reply) => drop(reply.send(Err(unsure("`storm list`")))),
            Asker::Drain(_, reply) => drop(reply.send(Err(unsure("`storm admin machines`")))),
        }
    }

    fn tick(&mut self) {
        let now = self.clock.uptime_ms();
        self.is_pausing = false;
        self.observed.machines.tick(now);
        self.know_machines();
        self.touch_all();
        self.fetch();
        self.ask_others(false);
        self.answer_replicated();
        // A graph that was not there, and was uploaded again.
        self.load_is_due |= self.lacking.iter().any(|hash| self.blobs.complete(hash).is_some());
        if now.saturating_sub(self.swept_ms) >= self.blobs.sweep_ms() {
            self.sweep();
        }
    }

    /// Has expired uploads deleted.
    fn sweep(&mut self) {
        self.swept_ms = self.clock.uptime_ms();
        if self.sweeping.as_ref().is_none_or(Task::is_finished) {
            let blobs = Arc::clone(&self.blobs);
            self.sweeping = Some(self.seam.spawn(async move { blobs.sweep().await }));
        }
    }

    /// Tells the liveness of machines which there should be.
    fn know_machines(&mut self) {
        // Machines report to the leader.
        let Some(known) = self.known.as_ref().filter(|_| !matches!(self.role, Role::Follows(_))) else { return };
        let recorded = known.daemons.supervisors.keys().cloned().collect();
        let plans = known.topologies.values().filter_map(|topology| topology.plan.as_ref());
        let planned = plans.flat_map(|plan| plan.machines.iter().cloned()).collect();
        self.observed.known_machines(&recorded, &planned);
    }

    fn touch_all(&mut self) {
        if let Some(known) = &self.known {
            self.touched.extend(known.topologies.keys().cloned());
        }
    }
}

/// There is no such topology.
fn not_alive(name: &str) -> Failure {
    let shown: String = name.chars().take(worker_api::ids::ID_BYTES).flat_map(char::escape_default).collect();
    FailureKind::NotAlive.with(format!("no topology has the name or id `{shown}`; `storm list` shows those that run"))
}
