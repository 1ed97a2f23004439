//! Answering out of memory; what is to be written waits for its turn.
//!
//! Not here: writing it (`work`). Invariant: a worker hears that its slot is gone only from a leader that has read the records
//! under its own lead.

use std::collections::BTreeMap;

use nimbus_api::cluster::Cluster;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::machine::{MachineAnswer, MachineReport, SlotReport, SlotState};
use nimbus_api::topology::Topology;
use worker_api::answer::{ANSWER_FORMAT, Answer, Slot};
use worker_api::ids::{TopologyId, TopologyName};
use worker_api::report::Report;

use super::{Process, Request, Role, WAITING_REQUESTS, not_alive};
use crate::knowledge::{Known, KnownTopology};
use crate::lifecycle;

impl Process {
    /// Answers, or puts it where it waits.
    pub(super) fn request(&mut self, request: Request) {
        let request = match request {
            Request::ClusterByRecords(why, reply) => {
                let known = self.known.as_ref().map(|_| Cluster { cluster_state: Some(why), ..self.cluster() });
                return drop(reply.send(known.ok_or_else(|| self.no_cluster_state())));
            }
            Request::TopologyByRecords(name, reply) => return drop(reply.send(self.find(&name))),
            request => request,
        };
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
            Request::Submit(..)
            | Request::Command(..)
            | Request::Drain(..)
            | Request::ClusterByRecords(..)
            | Request::TopologyByRecords(..) => {}
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
    pub(super) fn id_of(&self, name: &str) -> Result<TopologyId, Failure> {
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
        let slots = |report: &MachineReport| {
            let is_blocked = |slot: &SlotReport| slot.state == SlotState::Blocked;
            report.slots.iter().map(|(port, slot)| (*port, is_blocked(slot))).collect::<Vec<_>>()
        };
        let before = self.observed.report(&id).map(|reported| slots(&reported.report));
        let after = slots(&report);
        let topologies = self.known.as_ref().map(|known| &known.topologies);
        let has_record = |id: &TopologyId| topologies.is_some_and(|topologies| topologies.contains_key(id));
        let touched = self.observed.heard_machine(report, has_record, now, self.clock.epoch_ms());
        self.touched.extend(touched);
        // Those that go wait for a word of each machine that does not name them.
        self.touched.extend(self.plan_gone_ms.keys().cloned());
        self.observed.machines.tick(now);
        if was != self.observed.machines.state(&id) || before.is_none_or(|before| before != after) {
            self.know_machines();
            self.scheduling_is_due = true;
        }
        let wanted = self.wanted_of(&id);
        let nimbus = self.me.id.clone();
        let mut answer = MachineAnswer { nimbus, gone: BTreeMap::new(), plans: BTreeMap::new(), wanted };
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
            revision: topology.map_or(report.revision, |topology| topology.record.revision),
            placement: newer.map(|plan| plan.placement.clone()),
            gone: self.observed.gone(&report.topology),
        };
        if !is_gone {
            let slot = planned.and_then(|planned| planned.slot.clone());
            let machine = slot.as_ref().map(|slot| (&slot.supervisor, slot.host.as_str()));
            self.touched.insert(report.topology.clone());
            self.observed.heard_worker(report, machine, now, self.clock.epoch_ms());
        }
        answer
    }
}

fn topologies_of(known: &Option<Known>) -> impl Iterator<Item = (&TopologyId, &KnownTopology)> {
    known.iter().flat_map(|known| &known.topologies)
}

fn busy() -> Failure {
    FailureKind::NoClusterState
        .with(format!("{WAITING_REQUESTS} requests wait for the cluster state already: try again later"))
}
