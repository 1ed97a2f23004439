//! What tools are shown: the cluster, a topology.
//!
//! Not here: HTTP (`server`). Invariant: no secret leaves in a configuration.

use std::collections::{BTreeMap, BTreeSet};

use cluster_state::records::{self, EpochMs, KillStep, RebalanceStep, Rebalanced, Status};
use nimbus_api::cluster::{Cluster, MachineSummary, NimbusSummary};
use nimbus_api::machine::{SlotState, SlotWorker};
use nimbus_api::topology::{Executor, StatusWord, Topology, TopologySummary, Worker};
use serde_json::Value;
use topology_api::topology::{GRAPH_FORMAT, Graph};
use worker_api::ids::{PlanVersion, Port, SupervisorId, TopologyId, WorkerIndex};
use worker_api::report::{Report, Stage};

use crate::knowledge::{KnownTopology, Unreadable};
use crate::lifecycle;
use crate::liveness::MachineState;
use crate::observed::Seen;
use crate::process::Process;
use crate::submission;

/// What stands for a value that is not to be shown.
const HIDDEN: &str = "*****";
/// A key with one of these in it holds a secret.
const SECRET_WORDS: [&str; 7] = ["password", "secret", "payload", "token", "credential", "blowfish", "passwd"];
/// So many ends of a worker within [`LATELY_MS`] are told until it has lived that long.
const FEW_ENDS: usize = 3;
/// Ten minutes: longer than the longest pause between two starts.
const LATELY_MS: u64 = 10 * 60_000;

/// A configuration as it may be shown.
pub(crate) fn hidden(configuration: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    configuration.iter().map(|(key, value)| (key.clone(), hide(key, value))).collect()
}

fn hide(key: &str, value: &Value) -> Value {
    let lower = key.to_ascii_lowercase();
    match value {
        Value::Null => Value::Null,
        _ if SECRET_WORDS.iter().any(|word| lower.contains(word)) => HIDDEN.into(),
        Value::Object(inner) => inner.iter().map(|(key, value)| (key.clone(), hide(key, value))).collect(),
        Value::Array(items) => items.iter().map(|item| hide("", item)).collect(),
        other => other.clone(),
    }
}

impl Process {
    /// `GET /v1/cluster`.
    pub(crate) fn cluster(&self) -> Cluster {
        let mut unreadable = Vec::new();
        let mut topologies = Vec::new();
        if let Some(known) = &self.known {
            unreadable.extend(known.oddities.iter().chain(&known.daemons.unreadable).cloned());
            unreadable.extend(known.unreadable.values().map(|topology| topology.why.clone()));
            unreadable.extend(known.topologies.values().filter_map(|topology| topology.plan_unreadable.clone()));
            topologies.extend(known.topologies.iter().map(|(id, topology)| self.summary(id, topology)));
            topologies.extend(known.unreadable.iter().map(|(id, topology)| unreadable_summary(id, topology)));
        }
        topologies.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Cluster {
            version: self.me.version.clone(),
            nimbuses: self.nimbuses(),
            machines: self.all_machines().into_iter().map(|id| self.machine(id)).collect(),
            topologies,
            unreadable,
            cluster_state: self.why_away(),
            records_read: self.known.is_some(),
        }
    }

    fn nimbuses(&self) -> Vec<NimbusSummary> {
        let now = self.clock.epoch_ms();
        let others =
            self.known.iter().flat_map(|known| &known.daemons.nimbuses).filter(|nimbus| nimbus.id != self.me.id);
        let nimbus = |nimbus: &records::Nimbus, leads, uptime_ms| NimbusSummary {
            id: nimbus.id.clone(),
            host: nimbus.host.clone(),
            port: nimbus.port,
            leads,
            version: nimbus.version.clone(),
            uptime_ms,
        };
        let me = nimbus(&self.me, self.token().is_some(), self.clock.uptime_ms());
        let leads = |other: &records::Nimbus| self.leader().is_some_and(|leader| leader.nimbus == other.id);
        let others = others.map(|other| nimbus(other, leads(other), now.saturating_sub(other.started_ms)));
        std::iter::once(me).chain(others).collect()
    }

    /// The machines that are known, and those that are being emptied, by id; to who does not lead, those that have a record.
    pub(crate) fn all_machines(&self) -> BTreeSet<&SupervisorId> {
        let drained = self.known.iter().flat_map(|known| known.drained.keys());
        let recorded = self.known.iter().filter(|_| self.leader().is_some());
        let recorded = recorded.flat_map(|known| known.daemons.supervisors.keys());
        let heard = self.observed.machines.ids().filter(|_| self.leader().is_none());
        heard.chain(recorded).chain(drained).collect()
    }

    /// A machine as it is shown.
    pub(crate) fn machine(&self, id: &SupervisorId) -> MachineSummary {
        let now = self.clock.uptime_ms();
        let record = self.known.as_ref().and_then(|known| known.daemons.supervisors.get(id));
        let drained = self.known.as_ref().and_then(|known| known.drained.get(id));
        let reported = self.observed.report(id);
        let state = self.observed.machines.state(id);
        let mut used = BTreeSet::new();
        let mut planned_host = None;
        for slot in self.planned_slots().filter(|slot| slot.supervisor == *id) {
            used.insert(slot.port);
            planned_host = Some(slot.host.clone());
        }
        if let Some(reported) = reported.filter(|_| state != MachineState::Dead) {
            // What no plan gives it any more may be ending yet.
            let slots = reported.report.slots.iter().filter(|(_, slot)| slot.state != SlotState::Empty);
            used.extend(slots.map(|(port, _)| *port));
        }
        let slots: Vec<Port> = match (record, reported) {
            (_, Some(reported)) => reported.report.slots.keys().copied().collect(),
            (Some(record), None) => record.slots.clone(),
            (None, None) => used.iter().copied().collect(),
        };
        let host =
            reported.map(|reported| reported.report.host.clone()).or_else(|| record.map(|record| record.host.clone()));
        let version = reported
            .map(|reported| reported.report.version.clone())
            .or_else(|| record.map(|record| record.version.clone()));
        MachineSummary {
            id: id.clone(),
            host: host.or(planned_host).or_else(|| drained.map(|drained| drained.host.clone())).unwrap_or_default(),
            version: version.unwrap_or_default(),
            uptime_ms: reported.map_or(0, |reported| reported.report.uptime_ms + now.saturating_sub(reported.at_ms)),
            slots,
            used: used.into_iter().collect(),
            heard_ms: self.observed.machines.heard_ms(id, now),
            // Who does not lead hears of no machine.
            available: drained.is_none()
                && if self.leader().is_some() { record.is_some() } else { state == MachineState::Available },
            dead: self.leader().is_none() && state == MachineState::Dead,
            drained: drained.is_some(),
            waits: if drained.is_some() { self.waits(id) } else { Vec::new() },
        }
    }

    /// Why a drained machine cannot be emptied now.
    fn waits(&self, machine: &SupervisorId) -> Vec<String> {
        let is_there =
            |topology: &KnownTopology| topology.plan.as_ref().is_some_and(|it| it.machines.contains(machine));
        let wait = |(id, why): (&TopologyId, &String)| {
            let topology = self.known.as_ref()?.topologies.get(id).filter(|topology| is_there(topology))?;
            Some(format!("{} {why}", topology.record.name))
        };
        self.stays.iter().filter_map(wait).collect()
    }

    /// A topology in a list.
    pub(crate) fn summary(&self, id: &TopologyId, topology: &KnownTopology) -> TopologySummary {
        let now = self.clock.uptime_ms();
        let record = &topology.record;
        let (mut executors, mut workers, mut restarts) = (0, 0, 0);
        for (index, planned) in topology.planned() {
            if planned.slot.is_some() {
                executors += planned.executors.len() as u32;
                workers += 1;
            }
            restarts += self.observed.seen(id, index, planned, now).worker.map_or(0, |worker| worker.restarts);
        }
        let graph = topology.graph.as_ref().ok();
        let tasks = graph.map_or(0, |graph| graph.components.iter().map(|component| component.tasks).sum());
        let version =
            graph.and_then(|graph| graph.graph.config.get("topology.version")).filter(|value| !value.is_null());
        let is_kept = !topology.is_killed();
        let broken = self.why_broken(topology).filter(|_| is_kept);
        let waits = self.waits_for(topology).filter(|_| is_kept);
        let reasons: Vec<String> = waits.into_iter().chain(self.reason(id, topology)).collect();
        TopologySummary {
            id: id.clone(),
            name: record.name.clone(),
            owner: record.owner.clone(),
            status: if broken.is_some() { StatusWord::Broken } else { lifecycle::word(&record.status) },
            reason: broken.or_else(|| (!reasons.is_empty()).then(|| reasons.join("; "))),
            uptime_ms: self.clock.epoch_ms().saturating_sub(record.submitted_ms),
            tasks,
            executors,
            workers,
            workers_wanted: u32::from(topology.workers_wanted(&record.rebalanced)),
            restarts,
            scheduler: self.sentences.get(id).cloned().unwrap_or_default(),
            warnings: idle_workers(topology).into_iter().collect(),
            replication: self.copies_of(topology),
            topology_version: version.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
            runtime_version: record.build.version.clone(),
            plan: topology.plan_version(),
        }
    }

    /// What more there is to say of a state.
    fn reason(&self, id: &TopologyId, topology: &KnownTopology) -> Option<String> {
        let now = self.clock.uptime_ms();
        let reports =
            || topology.planned().filter_map(|(index, planned)| self.observed.seen(id, index, planned, now).report);
        let draining = |deadline_ms: EpochMs| {
            let executors = reports().flat_map(|(report, _)| &report.executors);
            let pending: u64 = executors.map(|executor| executor.counts.pending).sum();
            let secs = deadline_ms.saturating_sub(self.clock.epoch_ms()).div_ceil(1000);
            format!("draining, {pending} roots pending, at most {secs} s more")
        };
        match &topology.record.status {
            Status::Active => {
                // Without a plan, as many as it wants.
                let wanted = usize::from(topology.workers_wanted(&topology.record.rebalanced));
                let all = Some(topology.planned().count()).filter(|planned| *planned > 0).unwrap_or(wanted);
                let ready = reports().filter(|(report, _)| matches!(report.stage, Stage::Ready | Stage::Ended)).count();
                let starting =
                    (!topology.record.started).then(|| format!("starting, {ready} of {all} workers are ready"));
                let waits = self.sentences.get(id).filter(|_| self.short_of_slots.contains(id)).cloned();
                let all: Vec<String> = starting.into_iter().chain(waits).chain(self.trouble(id, topology)).collect();
                (!all.is_empty()).then(|| all.join("; "))
            }
            Status::Inactive { reason } => Some(reason.clone()),
            Status::Rebalancing { step, deadline_ms, by_itself, .. } => {
                let why = by_itself.as_ref().map_or_else(String::new, |why| format!(", as {why}"));
                let how = match step {
                    RebalanceStep::Draining => draining(*deadline_ms),
                    RebalanceStep::Switching => "its workers are placed anew".to_owned(),
                };
                Some(format!("rebalancing{why}: {how}"))
            }
            Status::Killed { step: KillStep::Draining, deadline_ms, .. } => Some(draining(*deadline_ms)),
            Status::Killed { step: KillStep::Removing, .. } => {
                Some("removing: its workers stop, and its machines clean up".to_owned())
            }
        }
    }

    /// What keeps an active topology from doing its work as it should.
    fn trouble(&self, id: &TopologyId, topology: &KnownTopology) -> Option<String> {
        let now = self.clock.uptime_ms();
        let ending = topology.planned().filter_map(|(index, planned)| {
            let (slot, seen) = (planned.slot.as_ref()?, self.observed.seen(id, index, planned, now));
            let last = seen.worker.filter(|worker| keeps_ending(worker, &seen))?;
            let (cause, pauses) = (&last.ends.last()?.cause, seen.slot == Some(SlotState::BackingOff));
            let times = if last.restarts == 1 { "once".to_owned() } else { format!("{} times", last.restarts) };
            let again = if pauses { "it is started again with pauses" } else { "it is started again" };
            let place = format!("{}:{}", slot.host, slot.port);
            Some(format!("worker {index} on {place} has ended {times}, last: {cause}; {again}"))
        });
        let machines = self.observed.machines.ids();
        let alive = machines.filter(|machine| self.observed.machines.state(machine) != MachineState::Dead);
        let unable = alive.filter_map(|machine| {
            let report = &self.observed.report(machine)?.report;
            Some(format!("machine {} cannot run it: {}", report.host, report.troubles.get(id)?))
        });
        let mut troubles = ending.chain(unable);
        let first = troubles.next()?;
        Some(match troubles.count() {
            0 => first,
            more => format!("{first}; and {more} more such"),
        })
    }

    fn why_broken(&self, topology: &KnownTopology) -> Option<String> {
        let graph = topology.graph.as_ref().err().filter(|_| !self.lacks_graph(topology));
        topology.plan_unreadable.as_ref().or(graph).cloned()
    }

    /// `GET /v1/topologies/ID`.
    pub(crate) fn topology(&self, id: &TopologyId, topology: &KnownTopology) -> Topology {
        let now = self.clock.uptime_ms();
        let graph = topology.graph.as_ref().ok();
        let mut configuration = self.config.configuration.clone();
        configuration.extend(graph.iter().flat_map(|graph| graph.graph.config.clone()));
        let mut workers = Vec::new();
        let mut executors: Vec<Executor> = Vec::new();
        for (index, planned) in topology.planned() {
            let mut tasks: BTreeMap<String, u32> = BTreeMap::new();
            for executor in &planned.executors {
                let component = executor.first().and_then(|task| graph?.component_of(*task)).unwrap_or_default();
                *tasks.entry(component.to_owned()).or_default() += executor.len() as u32;
                executors.push(self.observed.statistics.executor(id, component, executor, index, now));
            }
            workers.push(self.worker(id, index, planned, tasks));
        }
        executors.sort_by_key(|executor| executor.tasks);
        let mut troubles = self.observed.troubles(id);
        troubles.extend(self.why_broken(topology));
        troubles.extend(self.waits_for(topology));
        Topology {
            summary: self.summary(id, topology),
            graph: graph.map_or_else(
                || empty_graph(topology.record.name.as_str()),
                |graph| shown_graph(&graph.graph, &topology.record.rebalanced),
            ),
            configuration: hidden(&configuration),
            workers,
            executors,
            errors: self.observed.statistics.errors(id),
            troubles,
        }
    }

    fn worker(
        &self,
        id: &TopologyId,
        index: WorkerIndex,
        planned: &crate::scheduling::PlannedWorker,
        tasks: BTreeMap<String, u32>,
    ) -> Worker {
        let seen = self.observed.seen(id, index, planned, self.clock.uptime_ms());
        let report = seen.report.map(|(report, _)| report);
        let age = seen.report.map(|(_, age)| age);
        Worker {
            worker: index,
            supervisor: planned.slot.as_ref().map(|slot| slot.supervisor.clone()),
            host: planned.slot.as_ref().map(|slot| slot.host.clone()),
            port: planned.slot.as_ref().map(|slot| slot.port),
            slot: seen.slot,
            life: report.map(|report| report.life).or_else(|| seen.worker.map(|worker| worker.life)),
            pid: report.map(|report| report.pid),
            stage: report.map(|report| report.stage),
            uptime_ms: report.map(|report| report.uptime_us / 1000 + age.unwrap_or(0)),
            heard_ms: age,
            memory_bytes: report.map(|report| report.memory_bytes),
            executors: planned.executors.len() as u32,
            tasks,
            restarts: seen.worker.map_or(0, |worker| worker.restarts),
            ends: seen.worker.map(|worker| worker.ends.clone()).unwrap_or_default(),
        }
    }

    /// What is shown of a topology whose record cannot be read.
    pub(crate) fn unreadable(&self, id: &TopologyId, topology: &Unreadable) -> Topology {
        Topology {
            summary: unreadable_summary(id, topology),
            graph: empty_graph(topology.name.as_str()),
            configuration: hidden(&self.config.configuration),
            workers: Vec::new(),
            executors: Vec::new(),
            errors: BTreeMap::new(),
            troubles: vec![topology.why.clone()],
        }
    }
}

/// Whether a worker ended lately and does not yet run as one that stays. Only times of one machine's clock are compared.
fn keeps_ending(worker: &SlotWorker, seen: &Seen<'_>) -> bool {
    let ends = worker.failures();
    let Some(newest) = ends.last() else { return false };
    let lives =
        |report: &Report| report.life.incarnation > newest.incarnation && seen.slot != Some(SlotState::BackingOff);
    let Some((report, _)) = seen.report.filter(|(report, _)| lives(report)) else { return true };
    let series = ends.len().checked_sub(FEW_ENDS).map(|first| &ends[first]);
    let is_series = series.is_some_and(|first| newest.ended_ms.saturating_sub(first.ended_ms) <= LATELY_MS);
    is_series && report.uptime_us / 1000 < LATELY_MS
}

/// What there is to say of a topology that has fewer executors than workers are asked for.
fn idle_workers(topology: &KnownTopology) -> Option<String> {
    let asked = topology.asked();
    let executors = topology.components(&asked).iter().map(|component| component.executors).sum();
    topology.graph.is_ok().then(|| submission::idle_workers(u32::from(topology.workers_wanted(&asked)), executors))?
}

/// A graph without its secrets, and with the executors that rebalances gave its components.
fn shown_graph(graph: &Graph, rebalanced: &Rebalanced) -> Graph {
    let mut graph = Graph { config: hidden(&graph.config), ..graph.clone() };
    for component in &mut graph.components {
        component.config = hidden(&component.config);
        if let Some(executors) = rebalanced.executors.get(&component.name) {
            component.executors = *executors as usize;
        }
    }
    graph
}

fn empty_graph(name: &str) -> Graph {
    Graph { format: GRAPH_FORMAT, name: name.to_owned(), config: BTreeMap::new(), components: Vec::new() }
}

/// In a list, of a topology whose record cannot be read.
pub(crate) fn unreadable_summary(id: &TopologyId, topology: &Unreadable) -> TopologySummary {
    TopologySummary {
        id: id.clone(),
        name: topology.name.clone(),
        owner: None,
        status: StatusWord::Broken,
        reason: Some(topology.why.clone()),
        uptime_ms: 0,
        tasks: 0,
        executors: 0,
        workers: 0,
        workers_wanted: 0,
        restarts: 0,
        scheduler: String::new(),
        warnings: Vec::new(),
        replication: 0,
        topology_version: None,
        runtime_version: String::new(),
        plan: PlanVersion(0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let shown = |value: Value| hidden(&serde_json::from_value(value).unwrap());
        let found = shown(json!({
            "storm.zookeeper.auth.payload": "user:hush", "my.Password": 7, "api-token": ["hush"], "empty.secret": null,
            "sink": {"url": "http://x", "credentials": {"user": "u"}}, "list": [{"passwd": "hush", "port": 1}], "a.b": "c",
        }));
        assert_eq!(
            serde_json::to_value(found).unwrap(),
            json!({
                "storm.zookeeper.auth.payload": "*****", "my.Password": "*****", "api-token": "*****", "empty.secret": null,
                "sink": {"url": "http://x", "credentials": "*****"}, "list": [{"passwd": "*****", "port": 1}], "a.b": "c",
            })
        );
    }
}
