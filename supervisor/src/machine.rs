//! The shell around slots and plans: one task that hears everything and does what follows.
//!
//! | task | how many | ends with | waits for |
//! |---|---|---|---|
//! | machine | one | [`Supervisor::stop`](crate::Supervisor::stop) | all below, and time |
//! | follower | one | the machine | the cluster state |
//! | reporting | one | the machine | the newest report, Nimbus |
//! | accept | one; connections as the host likes | the machine | workers |
//! | fetches | see `blobs` | the machine | Nimbus |
//! | launch | one for each slot that starts a worker | the host's word, or [`LAUNCH`] | the disk, the host |
//!
//! Not here: deciding (`slot`, `reconcile`). Invariants: a life is on disk before it is started; nothing that is away or full ends
//! a worker that runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cluster_state::board::Board;
use mutations::Mutation;
use nimbus_api::machine::{MachineAnswer, MachineReport, SlotReport, SlotState, SlotWorker, WorkerEnd};
use seam::Seam;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use worker_api::answer::{ANSWER_FORMAT, Answer, GoneLife, Slot as SlotWord, Spouts};
use worker_api::ids::{BlobHash, Life, PlanVersion, Port, Revision, SupervisorId, TopologyId, WorkerIndex};
use worker_api::report::Report;

use crate::SupervisorConfig;
use crate::blobs::{Blobs, Fetched};
use crate::cluster;
use crate::folder::{Folder, SlotRecord};
use crate::host::{Host, Incoming, Lock, NotLaunched, Peer, Signal};
use crate::reconcile::{Followed, Following, Seen, Wants, follow, wants};
use crate::slot::{Assignment, Effect, Ended, Event, Limits, Phase, Resident, Slot};
use crate::work_folder;

/// How often Nimbus hears of this machine when nothing changes.
const REPORT: Duration = Duration::from_secs(1);
/// The least time between two reports.
const REPORT_GAP: Duration = Duration::from_millis(50);
/// How often a worker's last report is written down while its stage stays.
const KEEP_REPORT: Duration = Duration::from_secs(5);
/// How often old logs are looked for.
const LOGS: Duration = Duration::from_secs(60);
/// How long a start may take before its slot is taken for held.
const LAUNCH: Duration = Duration::from_secs(30);
/// The machine's task looks at its slots at least so often; what it was late beyond [`LATE`] nobody is blamed for.
const LOOK: Duration = Duration::from_secs(1);
/// See [`LOOK`].
const LATE: Duration = Duration::from_secs(1);
/// Events that are taken before slots and answers are looked at.
const EVENTS_AT_ONCE: usize = 64;
/// How long the store may take to hear that this Supervisor leaves.
const LEAVE: Duration = Duration::from_secs(2);

/// What the machine's task hears.
pub(crate) struct Inputs {
    /// Ends it, also by being dropped.
    pub(crate) stop: oneshot::Receiver<()>,
    /// What the cluster state says.
    pub(crate) seen: watch::Receiver<Option<Arc<Seen>>>,
    /// From workers.
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    /// Of blobs.
    pub(crate) fetched: mpsc::Receiver<Fetched>,
    /// From Nimbus.
    pub(crate) answers: mpsc::Receiver<MachineAnswer>,
}

/// A slot with what belongs to it.
struct Place {
    slot: Slot,
    record: SlotRecord,
    /// Who said last that he lives here, and was right.
    peer: Option<Arc<Peer>>,
    /// The last report of who lives here, or lived here last.
    report: Option<Report>,
    /// When it came.
    heard: Option<Duration>,
    /// When one was written down.
    kept: Option<Duration>,
    /// What the peer was told last.
    told: Option<Arc<Answer>>,
    /// Whether who lives here may be one that a Supervisor before this one started.
    inherited: bool,
}

/// What is known of this machine.
pub(crate) struct Machine {
    config: Arc<SupervisorConfig>,
    me: SupervisorId,
    folder: Arc<Folder>,
    host: Arc<dyn Host>,
    seam: Seam,
    board: Arc<Board>,
    blobs: Blobs,
    began: Instant,
    places: BTreeMap<Port, Place>,
    following: Following,
    /// Whether the cluster state was read since this Supervisor started.
    has_seen: bool,
    /// Topologies whose records cannot be read, here or there.
    unreadable: BTreeMap<TopologyId, String>,
    /// Topologies that have a plan and nothing here.
    elsewhere: BTreeSet<TopologyId>,
    /// Topologies that are followed, and not yet written down as they are.
    unwritten: BTreeSet<TopologyId>,
    /// Why a topology is not written down, or not cleaned up.
    disk: BTreeMap<TopologyId, String>,
    missing: BTreeMap<BlobHash, String>,
    unwanted: BTreeMap<TopologyId, String>,
    /// Topologies of which anything may be left here.
    left: BTreeSet<TopologyId>,
    /// Lives that are over, the last of each worker.
    gone: BTreeMap<TopologyId, BTreeMap<WorkerIndex, Life>>,
    launches: JoinSet<(Port, Resident, Result<(), NotLaunched>)>,
    reports: watch::Sender<Option<Arc<MachineReport>>>,
    number: u64,
    /// Somebody should know at once.
    urgent: bool,
    look: Arc<Notify>,
}

/// What a [`Machine`] is made of.
pub(crate) struct Parts {
    pub(crate) config: Arc<SupervisorConfig>,
    pub(crate) me: SupervisorId,
    pub(crate) folder: Arc<Folder>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) seam: Seam,
    pub(crate) board: Arc<Board>,
    pub(crate) blobs: Blobs,
    pub(crate) reports: watch::Sender<Option<Arc<MachineReport>>>,
    pub(crate) look: Arc<Notify>,
}

impl Machine {
    /// As it was left on disk.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn new(parts: Parts) -> Result<Self, String> {
        let Parts { config, me, folder, host, seam, board, blobs, reports, look } = parts;
        let (following, unreadable) = folder.following()?;
        let mut left = work_folder::topologies(&folder, &config.workers_folder)?;
        left.extend(following.keys().cloned());
        let mut machine = Machine {
            began: seam.now(),
            me,
            folder,
            host,
            seam,
            board,
            blobs,
            places: BTreeMap::new(),
            following,
            has_seen: false,
            unreadable: unreadable.into_iter().collect(),
            elsewhere: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            disk: BTreeMap::new(),
            missing: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            left,
            gone: BTreeMap::new(),
            launches: JoinSet::new(),
            reports,
            number: 0,
            urgent: true,
            look,
            config,
        };
        machine.left.extend(machine.unreadable.keys().cloned());
        let limits = Limits {
            start: machine.config.start_timeout,
            silence: machine.config.worker_timeout,
            grace: machine.config.shutdown_grace,
        };
        let ports: BTreeSet<Port> = machine.config.slots.iter().copied().chain(machine.folder.slots()?).collect();
        for port in ports {
            let record = machine.folder.slot_record(port, machine.seam.epoch_ms())?;
            machine.left.extend(record.of.iter().map(|of| of.topology.clone()));
            let slot = Slot::new(limits, record.incarnation, record.resident.clone(), Duration::ZERO);
            let report = record.resident.as_ref().and_then(|_| machine.folder.report(port));
            let inherited = record.resident.is_some();
            let place = Place { slot, record, peer: None, report, heard: None, kept: None, told: None, inherited };
            machine.places.insert(port, place);
        }
        Ok(machine)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns when it is told to stop.
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        let (mut reported, mut logs, mut last) = (None, Duration::ZERO, self.now());
        self.settle().await;
        loop {
            let wake = self.places.values().filter_map(|place| place.slot.wakes()).min();
            let report = reported.map_or(Duration::ZERO, |at| at + if self.urgent { REPORT_GAP } else { REPORT });
            let wake = wake.into_iter().chain([report, last + LOOK]).min().unwrap_or_default();
            tokio::select! {
                biased;
                _ = &mut inputs.stop => break,
                Some(incoming) = inputs.incoming.recv() => {
                    self.incoming(incoming).await;
                    for _ in 1..EVENTS_AT_ONCE {
                        let Ok(incoming) = inputs.incoming.try_recv() else { break };
                        self.incoming(incoming).await;
                    }
                }
                Some(launched) = self.launches.join_next() => match launched {
                    Ok((port, resident, result)) => self.launched(port, &resident, result).await,
                    // What came of its start nobody knows but the slot's lock, which the next Supervisor looks at.
                    Err(error) => broken(error),
                },
                Some(ended) = self.blobs.next_ended() => ended.unwrap_or_else(broken),
                Some(fetched) = inputs.fetched.recv() => self.fetched(fetched).await,
                Ok(()) = inputs.seen.changed() => {
                    let seen = inputs.seen.borrow_and_update().clone();
                    if let Some(seen) = seen {
                        self.follow(&seen).await;
                    }
                }
                Some(answer) = inputs.answers.recv() => self.heard_nimbus(answer),
                () = sleep_until(self.began + wake) => {}
            }
            let now = self.now();
            let late = now.saturating_sub(last + LOOK);
            last = now;
            if late > LATE {
                tracing::warn!("this Supervisor stood still for {:.1} s", late.as_secs_f64());
                self.places.values_mut().for_each(|place| place.slot.excuse(late));
            }
            let due = |place: &Place| place.slot.wakes().is_some_and(|wakes| wakes <= now);
            let ports: Vec<Port> = self.places.iter().filter(|(_, place)| due(place)).map(|(port, _)| *port).collect();
            for port in ports {
                self.step(port, Event::Tick).await;
            }
            self.settle().await;
            if self.has_seen && now >= logs {
                logs = now + LOGS;
                self.remove_old_logs().await;
            }
            let now = self.now();
            let gap = if self.urgent { REPORT_GAP } else { REPORT };
            if reported.is_none_or(|at| now >= at + gap) {
                reported = Some(now);
                self.write_down().await;
                self.urgent = false;
                let report = self.report();
                self.reports.send_replace(Some(Arc::new(report)));
            }
        }
        // They have the host, and with it the folder.
        self.launches.shutdown().await;
        self.blobs.stop().await;
        let last = |(port, place): (&Port, &Place)| Some((*port, place.report.clone()?));
        let last: Vec<_> = self.places.iter().filter_map(last).collect();
        let folder = self.folder.clone();
        let keep = move || {
            for why in last.into_iter().filter_map(|(port, report)| folder.write_report(port, &report).err()) {
                tracing::warn!("{why}");
            }
        };
        self.seam.on_disk(keep).await;
        // Who may not get work any more; without it the session's end says so.
        if let Ok(Err(error)) = timeout(LEAVE, cluster::leave(&self.board, &self.me)).await {
            tracing::debug!("{error}");
        }
    }

    async fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Report(peer, report) => self.heard(peer, *report).await,
            Incoming::Closed(id) => {
                let of = |place: &Place| place.peer.as_ref().is_some_and(|peer| peer.id == id);
                let port = self.places.iter().find(|(_, place)| of(place)).map(|(port, _)| *port);
                if let Some(port) = port {
                    self.step(port, Event::Disconnected).await;
                }
            }
        }
    }

    async fn heard(&mut self, peer: Arc<Peer>, report: Report) {
        let (port, now) = (report.port, self.now());
        let of = Assignment { topology: report.topology.clone(), worker: report.worker, plan: report.life.plan };
        let from = Resident { of, incarnation: report.life.incarnation };
        let Some(place) = self.places.get_mut(&port).filter(|place| place.slot.knows(&from)) else {
            tracing::warn!(
                "worker {} of {}, {}, reports from slot {port} and has it no more: it is told to end",
                report.worker,
                report.topology,
                report.life
            );
            return peer.tell(Arc::new(gone()));
        };
        let before = place.report.as_ref().filter(|before| before.life == report.life);
        if before.is_some_and(|before| before.number > report.number) {
            // A connection that was given up has delivered late.
            return;
        }
        let notable =
            |report: &Report| (report.stage, report.spouts, report.drained, report.placement, report.fatal.clone());
        let changed = before.map(notable) != Some(notable(&report));
        if changed || place.kept.is_none_or(|kept| now >= kept + KEEP_REPORT) {
            place.kept = Some(now);
            let (folder, report) = (self.folder.clone(), report.clone());
            if let Err(why) = self.seam.on_disk(move || folder.write_report(port, &report)).await {
                tracing::warn!("{why}");
            }
        }
        if self.places.get_mut(&port).is_some_and(|place| std::mem::take(&mut place.inherited)) {
            tracing::info!("{}: it runs as process {} and is adopted", called(port, &from), report.pid);
            let host = self.host.clone();
            if !self.seam.on_disk(move || host.is_kept(port)).await {
                tracing::warn!("{}: its keeper was killed; nobody will see how it ends", called(port, &from));
            }
        }
        if let Some(place) = self.places.get_mut(&port) {
            self.urgent |= changed;
            place.heard = Some(now);
            place.report = Some(report);
            place.peer = Some(peer);
            // Each report has an answer, also one that says nothing new.
            place.told = None;
        }
        self.step(port, Event::Heard(from)).await;
    }

    async fn launched(&mut self, port: Port, resident: &Resident, result: Result<(), NotLaunched>) {
        if !self.places.get(&port).is_some_and(|place| place.slot.knows(resident)) {
            return;
        }
        self.urgent = true;
        match result {
            Ok(()) => {
                tracing::info!("{}: it is started", called(port, resident));
                self.step(port, Event::Launched).await
            }
            Err(why) => self.step(port, Event::NotLaunched(why)).await,
        }
    }

    async fn fetched(&mut self, Fetched { hash, result }: Fetched) {
        if let Err(why) = result {
            if self.missing.insert(hash, why.clone()).is_none() {
                tracing::warn!("{why}");
                self.urgent = true;
            }
            return;
        }
        self.missing.remove(&hash);
        self.blobs.arrived(&hash);
        self.start_fetched().await;
    }

    /// Starts what has all its files here, and fetches what is missing.
    async fn start_fetched(&mut self) {
        let fetching = |(port, place): (&Port, &Place)| match place.slot.phase() {
            Phase::Fetching(of) => Some((*port, of.topology.clone())),
            _ => None,
        };
        let ports: Vec<_> = self.places.iter().filter_map(fetching).collect();
        for (port, topology) in ports {
            if let Some(followed) = self.following.get(&topology)
                && !followed.rests()
                && self.blobs.want(&followed.blobs()).await
            {
                self.step(port, Event::FilesReady).await;
            }
        }
    }

    fn heard_nimbus(&mut self, answer: MachineAnswer) {
        for (topology, lives) in answer.gone {
            if self.following.contains_key(&topology) {
                for GoneLife { worker, life } in lives {
                    self.is_gone(&topology, worker, life);
                }
            }
        }
        let newer = |(id, version): (&TopologyId, &PlanVersion)| {
            self.following.get(id).is_none_or(|followed| followed.placement.version < *version)
        };
        if answer.plans.iter().any(newer) {
            self.look.notify_one();
        }
        self.blobs.offer(answer.wanted);
    }

    fn is_gone(&mut self, topology: &TopologyId, worker: WorkerIndex, life: Life) {
        let last = self.gone.entry(topology.clone()).or_default().entry(worker).or_insert(life);
        *last = life.max(*last);
    }

    /// Takes over what the cluster state says.
    async fn follow(&mut self, seen: &Seen) {
        self.has_seen = true;
        if seen.blank && !self.following.is_empty() {
            tracing::warn!(
                "the cluster state knows of no topology and of no submission: it was emptied, or is another one than before; \
                 workers go on as they are, until a topology is submitted"
            );
        }
        self.unreadable.clone_from(&seen.unreadable);
        self.elsewhere.clone_from(&seen.elsewhere);
        let after = follow(&self.following, seen);
        let changed = after.iter().filter(|(id, followed)| self.following.get(*id) != Some(*followed));
        self.unwritten.extend(changed.map(|(id, _)| id.clone()));
        self.left.extend(after.keys().cloned());
        self.following = after;
        self.write_down().await;
        let needed = self.following.values().flat_map(|followed| followed.blobs().into_keys()).collect();
        self.blobs.keep(&needed).await;
        self.missing.retain(|hash, _| needed.contains(hash));
        self.urgent = true;
        // What it was fetched for may not have been known until now.
        self.start_fetched().await;
    }

    /// Writes down what is followed; what cannot be written now is tried again.
    async fn write_down(&mut self) {
        for id in std::mem::take(&mut self.unwritten) {
            let Some(followed) = self.following.get(&id).cloned() else { continue };
            let folder = self.folder.clone();
            match self.seam.on_disk(move || folder.write_followed(&followed)).await {
                Ok(()) => drop(self.disk.remove(&id)),
                Err(why) => {
                    if self.disk.insert(id.clone(), why.clone()).as_ref() != Some(&why) {
                        tracing::error!("{why}");
                        self.urgent = true;
                    }
                    self.unwritten.insert(id);
                }
            }
        }
    }

    /// Brings slots, leftovers and answers in step with what is known.
    async fn settle(&mut self) {
        let configured = self.config.slots.iter().copied().collect();
        let inside = |(port, place): (&Port, &Place)| {
            let of = place.slot.resident().map(|resident| &resident.of).or_else(|| place.slot.wanted());
            of.map(|of| (*port, of.clone()))
        };
        let inside: BTreeMap<Port, Assignment> = self.places.iter().filter_map(inside).collect();
        let Wants { slots, troubles } = wants(&self.following, &configured, &inside);
        self.unwanted = troubles;
        let ports: Vec<Port> = self.places.keys().copied().collect();
        for port in ports {
            // Of a topology whose records cannot be read nothing is changed; nor of any other before they were.
            let unknown = inside.get(&port).is_some_and(|of| {
                let id = &of.topology;
                !self.following.contains_key(id) && (self.unreadable.contains_key(id) || !self.has_seen)
            });
            let wanted = slots.get(&port);
            if !unknown && self.places.get(&port).is_some_and(|place| place.slot.wanted() != wanted) {
                self.urgent = true;
                self.step(port, Event::Wanted(wanted.cloned())).await;
            }
        }
        if self.has_seen {
            self.clean_up().await;
        }
        self.tell();
    }

    /// Removes what is left of topologies that are gone.
    async fn clean_up(&mut self) {
        if let Err(why) = self.forget_ends().await {
            // What is known of it is forgotten; the file says so with the next record.
            tracing::warn!("{why}");
        }
        let stays = |id: &TopologyId| self.following.contains_key(id) || self.unreadable.contains_key(id);
        let used = |id: &TopologyId| self.places.values().any(|place| place.slot.has_of(id));
        let over: Vec<TopologyId> = self.left.iter().filter(|id| !stays(id) && !used(id)).cloned().collect();
        for id in over {
            match self.forget(&id).await {
                Ok(()) => {
                    tracing::info!("{id} is gone; nothing of it is left here but its logs");
                    self.left.remove(&id);
                    self.disk.remove(&id);
                    self.gone.remove(&id);
                }
                Err(why) if self.disk.get(&id) == Some(&why) => continue,
                Err(why) => {
                    tracing::error!("{why}");
                    self.disk.insert(id, why);
                }
            }
            self.urgent = true;
        }
    }

    async fn forget(&mut self, id: &TopologyId) -> Result<(), String> {
        let (folder, id, work) = (self.folder.clone(), id.clone(), self.config.workers_folder.join(id.as_str()));
        self.seam
            .on_disk(move || {
                folder.remove_folder(&work)?;
                folder.remove_followed(&id)
            })
            .await
    }

    /// How a topology's workers ended is kept until it has no plan any more, here or elsewhere.
    async fn forget_ends(&mut self) -> Result<(), String> {
        let mut records = Vec::new();
        for (port, place) in &mut self.places {
            let Some(id) = place.record.of.as_ref().map(|of| &of.topology) else { continue };
            let stays =
                self.following.contains_key(id) || self.unreadable.contains_key(id) || self.elsewhere.contains(id);
            if !stays && !place.slot.has_of(id) {
                place.record.forget();
                (place.report, place.heard) = (None, None);
                records.push((*port, place.record.clone()));
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        self.urgent = true;
        let folder = self.folder.clone();
        self.seam
            .on_disk(move || {
                for (port, record) in records {
                    folder.remove_report(port);
                    folder.write_slot_record(port, &record)?;
                }
                Ok(())
            })
            .await
    }

    /// Tells workers what they do not know yet.
    fn tell(&mut self) {
        for place in self.places.values_mut() {
            let (Some(peer), Some(report), Some(resident)) = (&place.peer, &place.report, place.slot.resident()) else {
                continue;
            };
            let id = &resident.of.topology;
            let followed = self.following.get(id).filter(|_| place.slot.keeps());
            let newer = |followed: &&Arc<Followed>| {
                let version = followed.placement.version;
                version > report.placement || (mutations::on(Mutation::OldPlanAccepted) && version < report.placement)
            };
            let gone = self.gone.get(id).into_iter().flatten().filter(|(worker, _)| **worker != resident.of.worker);
            let answer = Answer {
                format: ANSWER_FORMAT,
                slot: if place.slot.keeps() { SlotWord::Kept } else { SlotWord::Gone },
                // Who knows nothing says what is.
                spouts: match followed {
                    Some(followed) => followed.spouts(),
                    None if place.slot.keeps() => report.spouts,
                    None => Spouts::Inactive,
                },
                revision: followed.map_or(report.revision, |followed| followed.topology.revision),
                placement: followed.filter(newer).map(|followed| followed.placement.clone()),
                gone: gone.map(|(worker, life)| GoneLife { worker: *worker, life: *life }).collect(),
            };
            if place.told.as_deref() != Some(&answer) {
                let answer = Arc::new(answer);
                place.told = Some(answer.clone());
                peer.tell(answer);
            }
        }
    }

    async fn step(&mut self, port: Port, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.now();
            let Some(place) = self.places.get_mut(&port) else { return };
            let random = (self.seam.random() >> 32) as u32;
            let trouble = place.slot.trouble().map(str::to_owned);
            let effects = place.slot.step(event, now, random);
            if let Some(why) = place.slot.trouble().filter(|why| trouble.as_deref() != Some(why)) {
                tracing::warn!("slot {port}: {why}");
                self.urgent = true;
            }
            for effect in effects {
                events.extend(self.perform(port, effect).await);
            }
        }
    }

    async fn perform(&mut self, port: Port, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Fetch(of) => {
                let followed = self.following.get(&of.topology)?;
                let ready = !followed.rests() && self.blobs.want(&followed.blobs()).await;
                ready.then_some(Event::FilesReady)
            }
            Effect::Launch(resident) => self.launch(port, resident),
            Effect::Look => Some(self.look_at(port).await),
            Effect::Terminate(why) => {
                tracing::info!("slot {port}: its worker is told to end: {why}");
                self.urgent = true;
                self.tell();
                self.signal(port, Signal::Term).await;
                None
            }
            Effect::Kill(why) => {
                tracing::warn!("slot {port}: its worker is killed: {why}");
                self.urgent = true;
                self.signal(port, Signal::Kill).await;
                None
            }
            Effect::Ended(ended) => {
                self.ended(port, ended).await;
                None
            }
            Effect::Vacate(of) => {
                let (folder, work) = (self.folder.clone(), work_folder::folder(&self.config, &of.topology, port));
                if let Err(why) = self.seam.on_disk(move || folder.remove_folder(&work)).await {
                    // It is tried again when the topology goes.
                    tracing::warn!("{why}");
                }
                None
            }
        }
    }

    fn launch(&mut self, port: Port, resident: Resident) -> Option<Event> {
        let Some(followed) = self.following.get(&resident.of.topology).cloned() else {
            let why = "nothing is known of its topology any more".to_owned();
            return Some(Event::NotLaunched(NotLaunched::Failed(why)));
        };
        let place = self.places.get_mut(&port)?;
        place.record.begin(resident.clone());
        (place.report, place.heard, place.kept, place.told, place.peer) = (None, None, None, None, None);
        place.inherited = false;
        let (record, folder, config, me) =
            (place.record.clone(), self.folder.clone(), self.config.clone(), self.me.clone());
        let (host, seam) = (self.host.clone(), self.seam.clone());
        self.launches.spawn(self.seam.gated(async move {
            let (from, there) = (resident.clone(), host.clone());
            let prepare = seam.on_disk(move || {
                // Who was started before listens there.
                if !mutations::on(Mutation::WorkerStartedTwice) {
                    there.port_is_free(port).map_err(NotLaunched::PortTaken)?;
                }
                let prepare = || {
                    folder.write_slot_record(port, &record)?;
                    folder.remove_report(port);
                    work_folder::start(&config, &me, there.socket(), &followed, &from, port, &folder)
                };
                prepare().map_err(NotLaunched::Failed)
            });
            let result = match prepare.await {
                Ok(start) => match timeout(LAUNCH, host.launch(start)).await {
                    Ok(result) => result,
                    Err(_) => Err(NotLaunched::Held(format!(
                        "the keeper of slot {port} did not answer within {} s; the disk may stand still",
                        LAUNCH.as_secs()
                    ))),
                },
                Err(why) => Err(why),
            };
            (port, resident, result)
        }));
        None
    }

    async fn look_at(&self, port: Port) -> Event {
        let host = self.host.clone();
        match self.seam.on_disk(move || host.look(port)).await {
            Ok(Lock::Held) => Event::Held,
            Ok(Lock::Free(end)) => Event::Free(end),
            Err(error) => {
                // Nothing is started into what cannot be looked at.
                tracing::warn!("whether slot {port} is held is not known: {error}");
                Event::Held
            }
        }
    }

    async fn signal(&self, port: Port, signal: Signal) {
        let peer = self.places.get(&port).and_then(|place| place.peer.clone());
        let host = self.host.clone();
        let send = move || match peer {
            Some(peer) => peer.process.signal(signal),
            None => host.signal(port, signal),
        };
        if let Err(error) = self.seam.on_disk(send).await {
            tracing::error!("the worker of slot {port} cannot be sent a signal: {error}");
        }
    }

    async fn ended(&mut self, port: Port, Ended { resident, verdict, planned, end, lived }: Ended) {
        self.urgent = true;
        let Some(place) = self.places.get_mut(&port) else { return };
        place.peer = None;
        place.told = None;
        let last_report = place.report.take().filter(|report| report.life == resident.life());
        let (ended_ms, said, last_lines) = match end {
            Some(end) => (end.ended_ms, Some(end.cause), end.last_lines),
            None => (self.seam.epoch_ms(), None, Vec::new()),
        };
        let cause = match verdict.or(said) {
            Some(cause) => cause,
            None => self.unseen_end(port, &resident).await,
        };
        let Some(place) = self.places.get_mut(&port) else { return };
        let what = called(port, &resident);
        match planned {
            true => tracing::info!("{what}, has ended as planned: {cause}"),
            false => tracing::warn!("{what}, has ended: {cause}"),
        }
        let lived_ms = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX);
        let incarnation = resident.incarnation;
        place.record.end(WorkerEnd { incarnation, ended_ms, lived_ms, cause, planned, last_lines, last_report });
        let (folder, record) = (self.folder.clone(), place.record.clone());
        self.is_gone(&resident.of.topology, resident.of.worker, resident.life());
        if let Err(why) = self.seam.on_disk(move || folder.write_slot_record(port, &record)).await {
            // The next look at the lock finds the same end.
            tracing::warn!("{why}");
        }
    }

    /// Why nobody wrote how it ended.
    async fn unseen_end(&self, port: Port, resident: &Resident) -> String {
        let host = self.host.clone();
        match self.seam.on_disk(move || host.last_started(port)).await {
            Some(last) if last == resident.incarnation => {
                "how it ended is not known: its keeper could not write it (is the disk full?), was killed too, or the machine fell"
            }
            _ => "it was not started: its Supervisor ended just before",
        }
        .to_owned()
    }

    async fn remove_old_logs(&mut self) {
        let stay = self.left.clone();
        let (config, folder, now_ms) = (self.config.clone(), self.folder.clone(), self.seam.epoch_ms());
        let remove =
            move || work_folder::remove_old_logs(&folder, &config.logs_folder, &stay, config.logs_kept, now_ms);
        self.seam.on_disk(remove).await;
    }

    fn report(&mut self) -> MachineReport {
        self.number += 1;
        let now = self.now();
        let mut slots = BTreeMap::new();
        for (port, place) in &self.places {
            let report = slot_report(place, &self.following, now);
            if self.config.slots.contains(port) || report.state != SlotState::Empty {
                slots.insert(*port, report);
            }
        }
        let topologies = self.left.iter().chain(self.following.keys()).collect::<BTreeSet<_>>();
        MachineReport {
            id: self.me.clone(),
            host: self.config.host.clone(),
            number: self.number,
            uptime_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots,
            topologies: topologies.into_iter().cloned().collect(),
            troubles: self.troubles(),
        }
    }

    fn troubles(&self) -> BTreeMap<TopologyId, String> {
        let mut troubles = self.unwanted.clone();
        for place in self.places.values() {
            if let (Some(of), Some(why)) = (place.slot.wanted(), place.slot.trouble()) {
                troubles.insert(of.topology.clone(), why.to_owned());
            }
        }
        for (id, followed) in &self.following {
            let missing = followed.blobs().into_keys().find_map(|hash| self.missing.get(&hash));
            troubles.extend(missing.map(|why| (id.clone(), why.clone())));
        }
        troubles.extend(self.disk.clone());
        troubles.extend(self.unreadable.clone());
        troubles
    }
}

/// What a worker is called in log lines.
fn called(port: Port, resident: &Resident) -> String {
    format!("worker {} of {} in slot {port}, {}", resident.of.worker, resident.of.topology, resident.life())
}

fn slot_report(place: &Place, following: &Following, now: Duration) -> SlotReport {
    let Place { slot, record, report, heard, .. } = place;
    let state = match slot.phase() {
        Phase::Empty => SlotState::Empty,
        // Nothing is to be started here any more.
        Phase::Fetching(of) if following.get(&of.topology).is_some_and(|followed| followed.rests()) => SlotState::Empty,
        Phase::Fetching(_) => SlotState::Fetching,
        Phase::Launching(_) | Phase::Starting { .. } => SlotState::Starting,
        Phase::Running { .. } => SlotState::Running,
        Phase::Stopping { .. } => SlotState::Stopping,
        Phase::BackingOff { .. } => SlotState::BackingOff,
        Phase::PortTaken { .. } | Phase::Held { .. } => SlotState::Blocked,
    };
    let of = slot.resident().map(|resident| &resident.of).or_else(|| slot.wanted()).or(record.of.as_ref());
    let worker = of.map(|of| {
        let known = record.is_of(of);
        let incarnation = slot.resident().map_or(record.incarnation, |resident| resident.incarnation);
        SlotWorker {
            topology: of.topology.clone(),
            worker: of.worker,
            life: Life { plan: of.plan, incarnation },
            placement: following.get(&of.topology).map_or(PlanVersion(0), |followed| followed.placement.version),
            revision: following.get(&of.topology).map_or(Revision(0), |followed| followed.topology.revision),
            report_age_ms: heard.map(|at| u64::try_from(now.saturating_sub(at).as_millis()).unwrap_or(u64::MAX)),
            report: report.clone().filter(|_| known),
            ends: if known { record.ends.clone() } else { Vec::new() },
            restarts: if known { record.restarts } else { 0 },
        }
    });
    SlotReport { state, worker }
}

/// A task broke off that others wait for: so does this one, and with it the Supervisor.
fn broken(error: JoinError) {
    if let Ok(panic) = error.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}

/// What one is told that has no slot here.
pub(crate) fn gone() -> Answer {
    Answer {
        format: ANSWER_FORMAT,
        slot: SlotWord::Gone,
        spouts: Spouts::Inactive,
        revision: Revision::default(),
        placement: None,
        gone: Vec::new(),
    }
}
