//! What follows from work that was done: memory learns it, and who asked is answered.
//!
//! Not here: choosing the work (`work`). Invariant: what did not happen changes nothing here but what is due next.

use std::sync::Arc;

use cluster_state::board::ReadError;
use cluster_state::records::{self, RebalanceStep, Status};
use cluster_state::store::{Session, StoreError};
use mutations::Mutation;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::topology::TopologySummary;
use worker_api::ids::{SupervisorId, TopologyId};

use super::{Asker, Done, NotSubmitted, Process, Request, Role, not_alive};
use crate::knowledge::{KnownGraph, KnownPlan, KnownTopology, Loaded};
use crate::leadership::Election;
use crate::liveness::MachineState;
use crate::publish::WriteError;
use crate::rebalance::Wishes;
use crate::scheduling::{PlannedWorker, TopologyPlan};
use crate::views::unreadable_summary;

/// The least time between two readings of all records by a Nimbus that does not lead.
const SHORTEST_PAUSE_MS: u64 = 100;

impl Process {
    /// Takes it in.
    pub(super) fn done(&mut self, done: Done) {
        if mutations::on(Mutation::WatchMissed) {
            match &done {
                Done::Elected(..) => self.election_is_due = false,
                Done::Loaded(_) => self.load_is_due = false,
                Done::Daemons(_) => self.daemons_are_due = false,
                _ => {}
            }
        }
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
                    if known.daemons.nimbuses != daemons.nimbuses {
                        self.fetching.others_changed();
                    }
                    known.daemons = daemons;
                }
                self.fetch();
                self.ask_others(false);
                self.answer_replicated();
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
                    if record.status != topology.record.status {
                        tracing::info!("{id}: {}", told(&record.status));
                    }
                    if record.started && !topology.record.started {
                        tracing::info!("{id}: all of its workers are ready");
                    }
                    let by_itself = matches!(&record.status, Status::Rebalancing { by_itself: Some(_), .. });
                    topology.record = *record;
                    self.scheduling_is_due = true;
                    if by_itself {
                        self.wishes.followed(&id, self.clock.uptime_ms());
                    }
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
            Done::Refused => {}
            Done::Planned(id, plan, result) => self.planned(id, plan, result),
            Done::Drained(records, result) => {
                if let (Ok(()), Some(known)) = (&result, &mut self.known) {
                    for record in records {
                        tracing::info!(
                            "machine {} is drained: it gets no work, and what it has goes elsewhere",
                            record.host
                        );
                        known.drained.insert(record.id.clone(), record);
                    }
                }
                self.drained(result);
            }
            Done::Undrained(ids, result) => {
                if let (Ok(()), Some(known)) = (&result, &mut self.known) {
                    for id in ids {
                        let machine = known.drained.remove(&id).map_or_else(String::new, |record| record.host);
                        tracing::info!("machine {machine} is drained no more: it may get work");
                    }
                }
                self.drained(result);
            }
        }
    }

    /// Answers who asked for a drain, or its end.
    fn drained(&mut self, result: Result<(), WriteError>) {
        self.scheduling_is_due = true;
        let failure = result.err().map(|error| self.write_failed(error));
        if let Asker::Drain(machines, reply) = std::mem::replace(&mut self.asker, Asker::None) {
            let answer = match failure {
                Some(failure) => Err(failure),
                None => Ok(machines.iter().map(|id| self.machine(id)).collect()),
            };
            let _ = reply.send(answer);
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
                self.won = Some((session.epoch, token.clone()));
                if self.token() != Some(&token) {
                    tracing::info!("this Nimbus leads");
                    self.wishes = Wishes::default();
                    self.load_is_due = true;
                    self.observed.machines.listen_anew(self.clock.uptime_ms());
                }
                if matches!(self.role, Role::Follows(_)) {
                    // It was read under another's lead.
                    self.known = None;
                }
                self.role_is(Role::Leads(token));
            }
            Ok(Election::Lost(leader)) => {
                self.election_trouble = None;
                if matches!(&self.role, Role::Follows(before) if *before == leader) {
                    return;
                }
                tracing::info!("Nimbus {} at {}:{} leads", leader.nimbus, leader.host, leader.port);
                self.known = None;
                self.load_is_due = true;
                self.load_not_before_ms = 0;
                self.role_is(Role::Follows(leader));
                let waiting = self.early.drain(..).chain(self.writes.drain(..)).collect::<Vec<_>>();
                waiting.into_iter().for_each(|request| self.request(request));
            }
            Err(error) => {
                self.election_is_due = true;
                if let ReadError::Unreadable { .. } = &error {
                    let said = format!("no Nimbus can lead: {error}");
                    tracing::error!("{said}");
                    self.role_is(Role::Unknown);
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
        match (&self.role, self.token()) {
            (Role::Follows(_), _) => {
                let now = self.clock.uptime_ms();
                let pause_ms = (10 * now.saturating_sub(self.load_began_ms)).max(SHORTEST_PAUSE_MS);
                self.load_not_before_ms = now + pause_ms;
                self.read_under = None;
            }
            (_, Some(token)) => self.read_under = Some(token.clone()),
            (_, None) => return,
        }
        let Loaded { known, orphans, orphaned_names } = loaded;
        let now = self.clock.uptime_ms();
        let all: Vec<_> = known.topologies.iter().map(|(id, topology)| (id.clone(), topology.uses())).collect();
        // With blobs here, a cluster state that counts no submission was emptied, or is another one: they may be needed yet.
        let emptied = known.submissions == 0 && self.blobs.has_complete();
        self.blobs.set_uses(&all, known.unreadable.is_empty() && !emptied);
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
        self.unmoved.clear();
        self.scheduling_is_due = true;
        self.know_machines();
        self.touch_all();
        self.fetch();
        self.ask_others(false);
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
            match answer {
                Ok(id) => self.replicate(id, warnings, reply),
                Err(failure) => drop(reply.send(Err(failure))),
            }
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
            let slot =
                |workers: &[PlannedWorker]| workers.get(usize::from(index.0)).and_then(|worker| worker.slot.clone());
            let before = topology.plan.as_ref().and_then(|before| slot(&before.plan.workers));
            if before != slot(&plan.workers) {
                self.observed.failing.moved(&id, index, now);
            }
        }
        let is_dead = |machine: &SupervisorId| self.observed.machines.state(machine) == MachineState::Dead;
        if topology.plan.as_ref().is_some_and(|before| before.machines.iter().any(is_dead)) {
            self.wishes.machine_died(&id, now);
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
            self.stays.remove(&id);
            self.short_of_slots.remove(&id);
            self.plans.remove(&id);
            self.observed.forget(&id);
            self.wishes.forget(&id);
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

    /// A topology in a list.
    pub(super) fn summary_of(&self, id: &TopologyId) -> Result<TopologySummary, Failure> {
        let known = self.known.as_ref().ok_or_else(|| not_alive(id.as_str()))?;
        if let Some(topology) = known.topologies.get(id) {
            return Ok(self.summary(id, topology));
        }
        let unreadable = known.unreadable.get(id).ok_or_else(|| not_alive(id.as_str()))?;
        Ok(unreadable_summary(id, unreadable))
    }

    /// What follows from a write that did not happen, and what its asker hears.
    fn write_failed(&mut self, error: WriteError) -> Failure {
        match &error {
            WriteError::NotLeading => {
                tracing::warn!("a write was refused: {error}");
                self.role_is(Role::Unknown);
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
                match store {
                    StoreError::Away(_) => FailureKind::NoClusterState.with(format!("nothing was changed: {error}")),
                    _ => FailureKind::Unanswered
                        .with(format!("whether it was done is not known: {error}; `storm list` will show it")),
                }
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
        // All that waits for this is looked at again with the next tick, by what the records say then: the work that failed is
        // not kept, and it may have happened.
        self.is_pausing = true;
        self.load_is_due = true;
        self.scheduling_is_due = true;
    }
}

/// For the log.
fn told(status: &Status) -> String {
    match status {
        Status::Active => "active".to_owned(),
        Status::Inactive { reason } => format!("inactive: {reason}"),
        Status::Rebalancing { step: RebalanceStep::Draining, wait_ms, by_itself, .. } => {
            let why = by_itself.as_ref().map_or_else(String::new, |why| format!(", as {why}"));
            format!("rebalancing{why}: it may drain for {wait_ms} ms")
        }
        Status::Rebalancing { step: RebalanceStep::Switching, .. } => "rebalancing: it is dealt anew".to_owned(),
        Status::Killed { wait_ms, .. } => format!("killed, it may drain for {wait_ms} ms"),
    }
}
