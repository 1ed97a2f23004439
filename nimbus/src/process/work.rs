//! What is done next: the most urgent first, one at a time.
//!
//! Not here: what follows from it (`done`). Invariant: nothing is written but under this Nimbus's own lead, after the records
//! were read under it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster_state::board::Board;
use cluster_state::records::{self, FileBlob, Rebalanced, Status};
use cluster_state::store::StoreError;
use futures_util::future::BoxFuture;
use nimbus_api::cluster::MachineSummary;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::submission::{Kill, Rebalance, Submission, Submitted, check_wait, name_is_taken};
use nimbus_api::topology::TopologySummary;
use seam::Seam;
use topology_api::config::TopologySettings;
use worker_api::ids::{BlobHash, Port, Revision, SupervisorId, TopologyId, TopologyName};
use worker_api::secret::Secret;

use super::{Asker, Command, Done, NotSubmitted, Process, Reply, Request, Role, not_alive};
use crate::blobs::{Blobs, missing};
use crate::knowledge::{KnownGraph, KnownTopology, daemons, load, uses};
use crate::leadership::elect;
use crate::lifecycle::{self, Change, Event};
use crate::liveness::MachineState;
use crate::observed::is_usable;
use crate::publish::{WriteError, Writer};
use crate::rebalance;
use crate::scheduling::{Component, Machine, RecordTooLong, TopologyDetails, schedule};
use crate::submission::{Checked, Limits, check};

impl Process {
    /// The most urgent work, if the store answers and there is any.
    pub(super) fn next_work(&mut self) -> Option<BoxFuture<'static, Done>> {
        if !self.session.connected || self.is_pausing {
            return None;
        }
        if self.election_is_due {
            self.election_is_due = false;
            let (board, me, session, seam) =
                (Arc::clone(&self.board), self.me.clone(), self.session, self.seam.clone());
            let held = self.token().cloned();
            let won = self.won.clone().filter(|(epoch, _)| *epoch == session.epoch).map(|(_, token)| token);
            return Some(Box::pin(async move {
                Done::Elected(session, elect(&board, &me, held.as_ref(), won.as_ref(), &seam).await)
            }));
        }
        let board = Arc::clone(&self.board);
        if let Role::Follows(_) = self.role {
            return self.follow(board);
        }
        let token = self.token()?.clone();
        if self.load_is_due || self.read_under.as_ref() != Some(&token) {
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
                Request::Drain(host, drained, reply) => self.drain(&host, drained, reply, &writer),
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
        // What rebalances and stays where it is goes on before plans of others are published.
        while let Some(id) = self.unmoved.pop_first() {
            if let Some(work) = self.moves_on(&id, &Event::Unmoved, &writer) {
                return Some(work);
            }
        }
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
                    self.sentences.insert(id.clone(), too_long.to_string());
                    // It was checked; but machines may have gone since.
                    if let Some(work) = self.moves_on(&id, &Event::Unmoved, &writer) {
                        return Some(work);
                    }
                }
            }
        }
        None
    }

    /// What a Nimbus reads that does not lead: all records when they changed, within a tenth of its time.
    fn follow(&mut self, board: Arc<Board>) -> Option<BoxFuture<'static, Done>> {
        let now = self.clock.uptime_ms();
        if self.load_is_due && self.load_not_before_ms <= now {
            self.load_is_due = false;
            self.load_began_ms = now;
            let blobs = Arc::clone(&self.blobs);
            return Some(Box::pin(async move { Done::Loaded(load(&board, &blobs).await) }));
        }
        if self.daemons_are_due && self.known.is_some() {
            self.daemons_are_due = false;
            return Some(Box::pin(async move { Done::Daemons(daemons(&board).await) }));
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
        let named = named(&submission);
        match self.checked(submission) {
            Err(failure) => {
                if self.known.is_some() {
                    let blobs = Arc::clone(&self.blobs);
                    return Some(Box::pin(async move {
                        blobs.refused(&named).await;
                        let _ = reply.send(Err(failure));
                        Done::Refused
                    }));
                }
                let _ = reply.send(Err(failure));
                None
            }
            Ok((submission, checked, count)) => {
                self.asker = Asker::Submit(checked.warnings, reply);
                let (blobs, writer, seam) = (Arc::clone(&self.blobs), writer.clone(), self.seam.clone());
                let settings = checked.settings;
                Some(Box::pin(async move {
                    Done::Submitted(store(&blobs, &writer, submission, settings, count, &seam).await)
                }))
            }
        }
    }

    fn checked(&self, submission: Submission) -> Result<(Submission, Checked, u64), Failure> {
        let known = self.known.as_ref().ok_or_else(|| self.no_cluster_state())?;
        let taken = |name: &TopologyName| *name == submission.name;
        let readable = known.topologies.values().find(|topology| taken(&topology.record.name));
        let unreadable = known.unreadable.iter().find(|(_, topology)| taken(&topology.name));
        if let Some(id) = readable.map(|topology| &topology.record.id).or_else(|| unreadable.map(|(id, _)| id)) {
            let is_killed = readable.is_some_and(KnownTopology::is_killed);
            return Err(name_is_taken(&submission.name, id, is_killed));
        }
        let mut checked = check(&submission, &self.limits(), known.daemons.supervisors.values())?;
        let blobs = std::iter::once(("executable".to_owned(), &submission.executable));
        let files = submission.files.iter().map(|(name, hash)| (format!("file {name}"), hash));
        for (what, hash) in blobs.chain(files) {
            if self.blobs.complete(hash).is_none() {
                let failure = missing(hash);
                return Err(Failure { message: format!("{what}: {failure}; upload it, and submit again"), ..failure });
            }
        }
        let submitted_ms = self.clock.epoch_ms();
        self.fits(TopologyDetails {
            id: TopologyId::of(&submission.name, known.submissions + 1, submitted_ms / 1000),
            submitted_ms,
            platform: submission.described.build.platform.clone(),
            workers: checked.settings.workers,
            components: submission.described.graph.components.iter().map(Component::from).collect(),
            leaving: false,
            ended: false,
            anew: false,
            plan: None,
            failing: BTreeMap::new(),
        })
        .map_err(|too_long| {
            FailureKind::InvalidTopology.with(format!("topology `{}` is refused: {too_long}", submission.name))
        })?;
        checked.warnings.extend(self.few_slots(checked.settings.workers));
        let count = known.submissions + 1;
        Ok((submission, checked, count))
    }

    /// A warning, if fewer slots are free than a topology wants.
    fn few_slots(&self, workers: u16) -> Option<String> {
        let machines = self.machines();
        let all = machines.iter().filter_map(|(id, machine)| match machine {
            Machine::Available { slots, .. } => Some(slots.iter().map(move |port| (id, *port))),
            Machine::Unavailable | Machine::Drained => None,
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
            if let Command::Kill(Kill { wait_secs }) = &command {
                let too_long = |why| FailureKind::BadRequest.with(format!("cannot kill `{id}`: {why}"));
                check_wait(*wait_secs).map_err(too_long)?;
            }
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
                Command::Rebalance(rebalance) => self.rebalance(topology, &rebalance)?,
                Command::Kill(Kill { wait_secs }) => Event::Kill { wait_ms: wait_ms(wait_secs, topology) },
            };
            Ok((id, lifecycle::next(&topology.record, topology.plan_version(), &event, self.clock.epoch_ms())?))
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

    /// Checks what is wanted of a topology.
    fn rebalance(&self, topology: &KnownTopology, rebalance: &Rebalance) -> Result<Event, Failure> {
        let record = &topology.record;
        if let Some(waits) = self.waits_for(topology).filter(|_| self.lacks_graph(topology)) {
            let why = format!("cannot rebalance `{}` now: it is {waits}; try again when it is here", record.name);
            return Err(FailureKind::WrongState.with(why));
        }
        let broken = topology.graph.as_ref().err().or(topology.plan_unreadable.as_ref());
        let (Ok(graph), None) = (&topology.graph, broken) else {
            let why = broken.map_or("", String::as_str);
            return Err(FailureKind::WrongState.with(format!("{} is broken: {why}; it can only be killed", record.id)));
        };
        // What an earlier one asked for, and is not in the record yet, counts too.
        let before = topology.asked();
        let to = rebalance::check(&record.name, rebalance, &graph.graph, &before, &self.limits())?;
        let asked = lifecycle::merged(&before, &to);
        self.fits(TopologyDetails {
            workers: topology.workers_wanted(&asked),
            components: topology.components(&asked),
            anew: true,
            ..self.details(topology)
        })
        .map_err(|too_long| FailureKind::BadRequest.with(format!("cannot rebalance `{}`: {too_long}", record.name)))?;
        Ok(Event::Rebalance { wait_ms: wait_ms(rebalance.wait_secs, topology), to, by_itself: None })
    }

    /// Begins to drain machines, or to have them drained no more.
    fn drain(
        &mut self,
        host_or_id: &str,
        drained: bool,
        reply: Reply<Vec<MachineSummary>>,
        writer: &Writer,
    ) -> Option<BoxFuture<'static, Done>> {
        let found = self.machines_called(host_or_id);
        let (Some(known), false) = (&self.known, found.is_empty()) else {
            let _ = reply.send(Err(self.no_machine(host_or_id)));
            return None;
        };
        let changes = found.iter().filter(|id| known.drained.contains_key(*id) != drained);
        let changes: Vec<SupervisorId> = changes.cloned().collect();
        if changes.is_empty() {
            let _ = reply.send(Ok(found.iter().map(|id| self.machine(id)).collect()));
            return None;
        }
        let writer = writer.clone();
        let work: BoxFuture<'static, Done> = if drained {
            let since_ms = self.clock.epoch_ms();
            let record = |id: &SupervisorId| records::Drained { id: id.clone(), host: self.machine(id).host, since_ms };
            let records: Vec<records::Drained> = changes.iter().map(record).collect();
            Box::pin(async move {
                let written = writer.drain(&records).await;
                Done::Drained(records, written)
            })
        } else {
            Box::pin(async move {
                let written = writer.undrain(&changes).await;
                Done::Undrained(changes, written)
            })
        };
        self.asker = Asker::Drain(found, reply);
        Some(work)
    }

    /// The machines of this host name, or with this id.
    fn machines_called(&self, host_or_id: &str) -> Vec<SupervisorId> {
        let is_called = |id: &&SupervisorId| id.as_str() == host_or_id || self.machine(id).host == host_or_id;
        self.all_machines().into_iter().filter(is_called).cloned().collect()
    }

    fn no_machine(&self, host_or_id: &str) -> Failure {
        let shown: String = host_or_id.chars().take(worker_api::ids::ID_BYTES).flat_map(char::escape_default).collect();
        let all: BTreeSet<String> = self.all_machines().into_iter().map(|id| self.machine(id).host).collect();
        let there = match all.is_empty() {
            true => "there is none".to_owned(),
            false => format!("there are {}", all.into_iter().collect::<Vec<_>>().join(", ")),
        };
        FailureKind::NotFound.with(format!("no machine has the host name or the Supervisor's id `{shown}`; {there}"))
    }

    fn limits(&self) -> Limits {
        Limits { most_workers: self.config.most_workers, most_executors: self.config.most_executors }
    }

    /// What a topology needs without being asked.
    fn moves_by_itself(&mut self, id: &TopologyId, writer: &Writer) -> Option<BoxFuture<'static, Done>> {
        let now = self.clock.uptime_ms();
        let topology = self.known.as_ref()?.topologies.get(id)?;
        let plan_gone_ms = self.plan_gone_ms.get(id).copied().unwrap_or(now);
        let mut events = self.observed.events(id, topology, plan_gone_ms, now);
        if let Some(why) = self.wishes.due(id, now).filter(|_| self.observed.machines.are_settled()) {
            match self.fits(TopologyDetails { anew: true, ..self.details(topology) }) {
                Ok(()) => {
                    let (wait_ms, to) = (wait_ms(None, topology), Rebalanced::default());
                    events.push(Event::Rebalance { wait_ms, to, by_itself: Some(why) });
                }
                Err(too_long) => {
                    tracing::warn!("{id} stays as it is, although {why}: {too_long}");
                    self.wishes.refused(id, now);
                }
            }
        }
        events.iter().find_map(|event| self.moves_on(id, event, writer))
    }

    /// What follows from what happens by itself.
    fn moves_on(&mut self, id: &TopologyId, event: &Event, writer: &Writer) -> Option<BoxFuture<'static, Done>> {
        let topology = self.known.as_ref()?.topologies.get(id)?;
        match lifecycle::next(&topology.record, topology.plan_version(), event, self.clock.epoch_ms()) {
            Ok(Change::Nothing) => None,
            Ok(change) => self.change(id.clone(), change, writer),
            Err(refused) => {
                tracing::error!("{id}: {refused}");
                None
            }
        }
    }

    fn change(&mut self, id: TopologyId, change: Change, writer: &Writer) -> Option<BoxFuture<'static, Done>> {
        let known = self.known.as_ref()?;
        let before = known.topologies.get(&id).map(|topology| topology.record.clone());
        let writer = writer.clone();
        match (change, before) {
            (Change::Store(after), Some(before)) => Some(Box::pin(async move {
                let after = records::Topology { revision: Revision(before.revision.0 + 1), ..after };
                let written = writer.set(&before, after.clone()).await;
                Done::Stored(Box::new(after), written)
            })),
            (Change::RemovePlan(after), Some(before)) => Some(Box::pin(async move {
                let after = records::Topology { revision: Revision(before.revision.0 + 1), ..after };
                let written = writer.remove_plan(&before, after.clone()).await;
                Done::PlanRemoved(Box::new(after), written)
            })),
            (Change::RemoveRecords, before) => {
                let unreadable = known.unreadable.get(&id).map(|topology| topology.name.clone());
                let name = before.map(|before| before.name).or(unreadable);
                let blobs = Arc::clone(&self.blobs);
                Some(Box::pin(async move {
                    let written = writer.remove(&id, name.as_ref()).await;
                    if written.is_ok() {
                        blobs.release(&id).await;
                    }
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
        let now = self.clock.uptime_ms();
        let planned: BTreeSet<(&SupervisorId, Port)> =
            self.planned_slots().map(|slot| (&slot.supervisor, slot.port)).collect();
        let machine = |id: &SupervisorId| {
            let is_free = |port: Port| !self.observed.is_blocked(id, port, planned.contains(&(id, port)), now);
            let (record, reported) = (known.daemons.supervisors.get(id), self.observed.report(id));
            match (self.observed.machines.state(id), record, reported) {
                (MachineState::Dead, ..) => None,
                _ if known.drained.contains_key(id) => Some(Machine::Drained),
                (MachineState::Available, Some(record), Some(reported)) => {
                    let usable =
                        reported.report.slots.iter().filter(|(port, slot)| is_usable(slot, foreign) && is_free(**port));
                    let slots = usable.map(|(port, _)| *port).collect();
                    Some(Machine::Available { host: record.host.clone(), platform: record.platform.clone(), slots })
                }
                _ => Some(Machine::Unavailable),
            }
        };
        self.observed.machines.ids().filter_map(|id| Some((id.clone(), machine(id)?))).collect()
    }

    /// A topology as the scheduler sees it.
    fn details(&self, topology: &KnownTopology) -> TopologyDetails {
        let record = &topology.record;
        TopologyDetails {
            id: record.id.clone(),
            submitted_ms: record.submitted_ms,
            platform: record.build.platform.clone(),
            workers: topology.workers_wanted(&record.rebalanced),
            components: topology.components(&record.rebalanced),
            // What is broken, or waits for its graph, keeps what it has.
            leaving: topology.is_killed() || topology.graph.is_err() || topology.plan_unreadable.is_some(),
            ended: lifecycle::has_ended(&record.status),
            // A new leader first hears what there is, and what there is to deal.
            anew: topology.is_switching() && self.observed.machines.are_settled() && !self.lacks_graph(topology),
            plan: topology.plan.as_ref().map(|plan| plan.plan.clone()),
            failing: self.observed.failing.to_move(&record.id, self.clock.uptime_ms()),
        }
    }

    /// Whether a topology's plan fits its records: with a machine for each of its workers, and as it would be dealt on the slots
    /// that are there now.
    ///
    /// # Errors
    /// Which record would be too long.
    fn fits(&self, topology: TopologyDetails) -> Result<(), RecordTooLong> {
        topology.fits_spread()?;
        let others = self.known.iter().flat_map(|known| known.topologies.values());
        let others = others.filter(|other| !other.is_removing() && other.record.id != topology.id);
        let mut all: Vec<TopologyDetails> = others.map(|other| self.details(other)).collect();
        let id = topology.id.clone();
        all.push(topology);
        let plan = schedule(&self.machines(), &all).plans.remove(&id);
        plan.map_or(Ok(()), |plan| plan.records().map(drop))
    }

    /// Plans anew, if anything changed that plans depend on.
    fn schedule(&mut self) {
        let machines = self.machines();
        let now = self.clock.uptime_ms();
        let Some(known) = &self.known else { return };
        let failing = known.topologies.keys().map(|id| (id.clone(), self.observed.failing.to_move(id, now)));
        let failing = failing.filter(|(_, failing)| !failing.is_empty()).collect::<BTreeMap<_, _>>();
        let inputs = (machines, failing, self.observed.machines.are_settled());
        if !self.scheduling_is_due && self.scheduled_with.as_ref() == Some(&inputs) {
            return;
        }
        self.scheduling_is_due = false;
        let staying = known.topologies.values().filter(|topology| !topology.is_removing());
        let details: Vec<TopologyDetails> = staying.map(|topology| self.details(topology)).collect();
        let round = schedule(&inputs.0, &details);
        let waits = |details: &&TopologyDetails| {
            let plan = round.plans.get(&details.id).or(details.plan.as_ref());
            !details.leaving && plan.is_none_or(|plan| plan.workers.iter().any(|worker| worker.slot.is_none()))
        };
        let blocked = self.observed.blocked(now);
        let dealt = details.iter().filter(|details| details.anew && !round.plans.contains_key(&details.id));
        self.unmoved = dealt.map(|details| details.id.clone()).collect();
        self.wishes.are(round.wishes, now);
        self.sentences = round.sentences;
        self.stays = round.stays;
        self.short_of_slots = details.iter().filter(waits).map(|details| details.id.clone()).collect();
        for waiting in details.iter().filter(waits).filter(|_| !blocked.is_empty()) {
            if let Some(sentence) = self.sentences.get_mut(&waiting.id) {
                sentence.push_str(&format!("; ports that other processes have: {}", told_ports(&blocked)));
            }
        }
        self.plans = round.plans;
        self.scheduled_with = Some(inputs);
    }
}

/// Some of them, if there are many.
fn told_ports(ports: &[String]) -> String {
    let first = ports[..ports.len().min(TOLD_PORTS)].join(", ");
    match ports.len().saturating_sub(TOLD_PORTS) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Most ports that a sentence names.
const TOLD_PORTS: usize = 8;

/// Stores a submission: graph, uses of blobs, records. Of one that is refused nothing stays; what was uploaded stays if the
/// cluster state failed.
async fn store(
    blobs: &Arc<Blobs>,
    writer: &Writer,
    submission: Submission,
    settings: TopologySettings,
    count: u64,
    seam: &Seam,
) -> Result<Box<(records::Topology, KnownGraph)>, NotSubmitted> {
    let named = named(&submission);
    let json = serde_json::to_vec(&submission.described.graph).expect("a graph has string keys");
    let bytes = json.len() as u64;
    let hash = match blobs.keep(json.into()).await {
        Ok(hash) => hash,
        Err(failure) => {
            blobs.refused(&named).await;
            return Err(NotSubmitted::Failure(failure));
        }
    };
    let graph = FileBlob { bytes, hash };
    let of = |hash: BlobHash| FileBlob { bytes: blobs.complete(&hash).unwrap_or(0), hash };
    let now_ms = seam.epoch_ms();
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
        rebalanced: Rebalanced::default(),
        revision: Revision::default(),
        status: Status::Active,
    };
    match store_record(blobs, writer, &record, Secret::new(seam.random_key()), count).await {
        Ok(()) => {
            blobs.unpin(&uses(&record));
            Ok(Box::new((record, KnownGraph::new(submission.described.graph, settings))))
        }
        Err(failed) => {
            // Its graph was made here, and is of no use to anybody else.
            blobs.unpin(&vec![(record.graph.hash, String::new())]);
            blobs.release(&record.id).await;
            // What the cluster state did not take may be submitted again as it is.
            if matches!(
                failed,
                NotSubmitted::Failure(_) | NotSubmitted::Write(WriteError::Store(StoreError::TooLong { .. }))
            ) {
                blobs.refused(&named).await;
            }
            Err(failed)
        }
    }
}

/// The blobs that a submission names.
fn named(submission: &Submission) -> Vec<BlobHash> {
    std::iter::once(&submission.executable).chain(submission.files.values()).cloned().collect()
}

async fn store_record(
    blobs: &Arc<Blobs>,
    writer: &Writer,
    record: &records::Topology,
    secret: Secret,
    count: u64,
) -> Result<(), NotSubmitted> {
    let used = uses(record);
    for (hash, what) in &used {
        let verified = blobs.verify(hash).await;
        verified
            .map_err(|failure| NotSubmitted::Failure(Failure { message: format!("{what}: {failure}"), ..failure }))?;
    }
    blobs.reserve(&record.id, &used).map_err(|hash| NotSubmitted::Failure(missing(&hash)))?;
    writer.submit(record.clone(), secret, count).await.map_err(NotSubmitted::Write)
}

/// How long a topology may drain: what its user says, or its message time-out.
fn wait_ms(wait_secs: Option<u64>, topology: &KnownTopology) -> u64 {
    let timeout = topology.graph.as_ref().ok().and_then(|graph| graph.settings.message_timeout);
    match wait_secs {
        // It was checked.
        Some(secs) => secs.saturating_mul(1000),
        None => timeout.unwrap_or(DEFAULT_WAIT).as_millis() as u64,
    }
}

/// How long a topology may drain that has no message time-out.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
