//! What is heard of machines and workers: their last reports, and what follows from them.
//!
//! Not here: what the records say (`knowledge`), counting (`statistics`). Invariants: nothing of it is stored, one report
//! from each machine restores it; it is forgotten with its topology or its machine.

use std::collections::{BTreeMap, BTreeSet};

use mutations::Mutation;
use nimbus_api::machine::{MachineReport, SlotReport, SlotState, SlotWorker};
use worker_api::answer::GoneLife;
use worker_api::ids::{Life, Port, SupervisorId, TopologyId, WorkerIndex};
use worker_api::report::{Counts, Report, Stage};

use crate::knowledge::KnownTopology;
use crate::lifecycle::Event;
use crate::liveness::{FailingWorkers, MachineState, Machines};
use crate::scheduling::PlannedWorker;
use crate::statistics::{Heard, Statistics};

/// How long a slot whose port another process has is not offered again. Its Supervisor looks at the port only while a worker
/// is wanted there.
const BLOCKED_MS: u64 = 60_000;
/// How long a worker stays where its port is taken before it moves, so that plans do not chase each other.
const BLOCKED_STAY_MS: u64 = 1000;

/// What was heard.
pub(crate) struct Observed {
    /// Who is alive.
    pub(crate) machines: Machines,
    /// Which workers die again and again.
    pub(crate) failing: FailingWorkers,
    /// What was counted.
    pub(crate) statistics: Statistics,
    reports: BTreeMap<SupervisorId, Reported>,
    /// Of workers that reported by themselves: the last report of the newest life, with when it came.
    direct: BTreeMap<TopologyId, BTreeMap<WorkerIndex, (Report, u64)>>,
    /// The newest life of each worker that has ended.
    gone: BTreeMap<TopologyId, BTreeMap<WorkerIndex, Life>>,
    /// Slots whose port another process had.
    blocked: BTreeMap<(SupervisorId, Port), Blocked>,
}

/// When a slot was heard to be blocked.
struct Blocked {
    first_ms: u64,
    last_ms: u64,
}

/// The last report of a machine.
pub(crate) struct Reported {
    pub(crate) report: MachineReport,
    /// When it came.
    pub(crate) at_ms: u64,
}

/// What is heard of a worker of the plan that holds.
#[derive(Default)]
pub(crate) struct Seen<'a> {
    /// What its slot is doing.
    pub(crate) slot: Option<SlotState>,
    /// What its Supervisor says of it.
    pub(crate) worker: Option<&'a SlotWorker>,
    /// Its last report, from whichever way, with its age in milliseconds.
    pub(crate) report: Option<(&'a Report, u64)>,
}

impl Observed {
    /// Nothing yet.
    pub(crate) fn new(machines: Machines) -> Self {
        Observed {
            machines,
            failing: FailingWorkers::default(),
            statistics: Statistics::default(),
            reports: BTreeMap::new(),
            direct: BTreeMap::new(),
            gone: BTreeMap::new(),
            blocked: BTreeMap::new(),
        }
    }

    /// A Supervisor reports. `has_record` says which topologies there are. Gives the topologies that it may matter to.
    pub(crate) fn heard_machine(
        &mut self,
        report: MachineReport,
        has_record: impl Fn(&TopologyId) -> bool,
        now_ms: u64,
        epoch_ms: u64,
    ) -> BTreeSet<TopologyId> {
        let idles = |before: &Reported| {
            let counts = counted(&report);
            !counts.is_empty() && counts == counted(&before.report)
        };
        if !(mutations::on(Mutation::LivenessByStatistics) && self.reports.get(&report.id).is_some_and(idles)) {
            self.machines.heard_supervisor(&report.id, now_ms);
        }
        self.heard_blocked(&report, now_ms);
        for (port, slot) in &report.slots {
            let Some(worker) = slot.worker.as_ref().filter(|worker| has_record(&worker.topology)) else { continue };
            self.failing.heard(&report.id, *port, worker);
            self.statistics.heard_slot(worker, Heard { host: &report.host, port: *port, now_ms, epoch_ms });
            if let Some(end) = worker.ends.last() {
                let gone = Life { plan: worker.life.plan, incarnation: end.incarnation };
                self.ended(&worker.topology, worker.worker, gone);
            }
        }
        let mut matters = named(&report);
        let before = self.reports.insert(report.id.clone(), Reported { report, at_ms: now_ms });
        matters.extend(before.iter().flat_map(|before| named(&before.report)));
        matters
    }

    fn heard_blocked(&mut self, report: &MachineReport, now_ms: u64) {
        self.blocked.retain(|(machine, _), blocked| *machine != report.id || now_ms < blocked.last_ms + BLOCKED_MS);
        for (port, slot) in &report.slots {
            let place = (report.id.clone(), *port);
            match slot.state {
                SlotState::Blocked => {
                    let new = Blocked { first_ms: now_ms, last_ms: now_ms };
                    self.blocked.entry(place).or_insert(new).last_ms = now_ms;
                }
                // A worker of ours has the port.
                SlotState::Starting | SlotState::Running => drop(self.blocked.remove(&place)),
                SlotState::Empty | SlotState::Fetching | SlotState::BackingOff | SlotState::Stopping => {}
            }
        }
    }

    /// Whether a slot cannot be given to workers because another process has its port, or had it lately. `is_planned` says
    /// whether a worker has it already: that one stays for a moment.
    pub(crate) fn is_blocked(&self, machine: &SupervisorId, port: Port, is_planned: bool, now_ms: u64) -> bool {
        self.blocked.get(&(machine.clone(), port)).is_some_and(|blocked| {
            now_ms < blocked.last_ms + BLOCKED_MS && !(is_planned && now_ms < blocked.first_ms + BLOCKED_STAY_MS)
        })
    }

    /// The ports that other processes have, or had lately, as `host:port`.
    pub(crate) fn blocked(&self, now_ms: u64) -> Vec<String> {
        let lately = self.blocked.iter().filter(|(_, blocked)| now_ms < blocked.last_ms + BLOCKED_MS);
        let named = lately.filter_map(|((machine, port), _)| Some((&self.reports.get(machine)?.report.host, port)));
        named.map(|(host, port)| format!("{host}:{port}")).collect()
    }

    /// A worker of this machine reports by itself.
    pub(crate) fn heard_worker(
        &mut self,
        report: Report,
        machine: Option<(&SupervisorId, &str)>,
        now_ms: u64,
        epoch_ms: u64,
    ) {
        if let Some((machine, host)) = machine {
            self.machines.heard_worker(machine, now_ms);
            self.statistics.heard_worker(&report, Heard { host, port: report.port, now_ms, epoch_ms });
        }
        let workers = self.direct.entry(report.topology.clone()).or_default();
        let order = |report: &Report| (report.life, report.number);
        if workers.get(&report.worker).is_none_or(|(last, _)| order(last) <= order(&report)) {
            workers.insert(report.worker, (report, now_ms));
        }
    }

    fn ended(&mut self, topology: &TopologyId, worker: WorkerIndex, life: Life) {
        let gone = self.gone.entry(topology.clone()).or_default().entry(worker).or_insert(life);
        *gone = life.max(*gone);
    }

    /// Lives of a topology's workers that have ended, the newest of each.
    pub(crate) fn gone(&self, topology: &TopologyId) -> Vec<GoneLife> {
        let gone = self.gone.get(topology).into_iter().flatten();
        gone.map(|(worker, life)| GoneLife { worker: *worker, life: *life }).collect()
    }

    /// What is heard of a worker of the plan that holds: of its life there, and of no other.
    pub(crate) fn seen(
        &self,
        topology: &TopologyId,
        index: WorkerIndex,
        planned: &PlannedWorker,
        now_ms: u64,
    ) -> Seen<'_> {
        let Some(slot) = &planned.slot else { return Seen::default() };
        let reported = self.reports.get(&slot.supervisor);
        let found = reported.and_then(|reported| reported.report.slots.get(&slot.port));
        let ours = |worker: &&SlotWorker| {
            worker.topology == *topology && worker.worker == index && worker.life.plan == planned.version
        };
        let worker = found.and_then(|slot| slot.worker.as_ref()).filter(ours);
        let told = worker.and_then(|worker| {
            let report = worker.report.as_ref().filter(|report| report.life == worker.life)?;
            let since = reported.map_or(0, |reported| now_ms.saturating_sub(reported.at_ms));
            Some((report, since + worker.report_age_ms.unwrap_or(0)))
        });
        let direct = self.direct.get(topology).and_then(|workers| workers.get(&index));
        let direct = direct.filter(|(report, _)| {
            report.life.plan == planned.version && worker.is_none_or(|worker| worker.life <= report.life)
        });
        let direct = direct.map(|(report, at_ms)| (report, now_ms.saturating_sub(*at_ms)));
        let report = told.into_iter().chain(direct).max_by_key(|(report, _)| (report.life, report.number));
        // A slot that still has another's worker says nothing of this one, nor does word that is older than the worker's own.
        let is_newer = |age_ms: u64| reported.is_none_or(|reported| now_ms.saturating_sub(reported.at_ms) > age_ms);
        let state = match direct {
            Some((_, age_ms)) if is_newer(age_ms) => Some(SlotState::Running),
            _ => found.filter(|slot| worker.is_some() || slot.worker.is_none()).map(|slot| slot.state),
        };
        Seen { slot: state, worker, report }
    }

    /// What has happened to a topology, as far as reports tell. `plan_gone_ms` is when its plan was removed.
    pub(crate) fn events(
        &self,
        id: &TopologyId,
        topology: &KnownTopology,
        plan_gone_ms: u64,
        now_ms: u64,
    ) -> Vec<Event> {
        let mut events = vec![Event::Tick];
        if topology.is_removing() {
            if self.unnamed(id, plan_gone_ms) {
                events.push(Event::Unnamed);
            }
            return events;
        }
        let Some(plan) = &topology.plan else {
            if topology.plan_unreadable.is_none() {
                events.push(Event::Drained);
            }
            return events;
        };
        let (mut ready, mut ended, mut drained) = (true, true, true);
        for (index, planned) in (0..).map(WorkerIndex).zip(&plan.plan.workers) {
            let seen = self.seen(id, index, planned, now_ms);
            let runs = seen
                .slot
                .is_none_or(|slot| matches!(slot, SlotState::Starting | SlotState::Running | SlotState::Stopping));
            let machine = planned.slot.as_ref().map(|slot| self.machines.state(&slot.supervisor));
            let is_there = machine.is_some_and(|machine| machine != MachineState::Dead);
            // Who does not run may have been started since by what an older record said.
            let hears = |revision| revision >= topology.record.revision;
            let is_out = !is_there || !runs && seen.worker.is_some_and(|worker| hears(worker.revision));
            let Some((report, _)) = seen.report.filter(|_| is_there) else {
                (ready, ended) = (false, false);
                drained &= is_out;
                continue;
            };
            if let Some(fatal) = &report.fatal {
                events.push(Event::Fatal(fatal.clone()));
            }
            ready &= matches!(report.stage, Stage::Ready | Stage::Ended) && runs;
            ended &= report.stage == Stage::Ended;
            // Drained before it was told to is not drained: its spouts may have been asked since.
            drained &= report.drained && hears(report.revision) || is_out;
        }
        events.extend(ended.then_some(Event::AllEnded));
        events.extend(ready.then_some(Event::AllReady));
        events.extend(drained.then_some(Event::Drained));
        events
    }

    /// Whether no machine that is not dead has anything of a topology: each has reported since the plan went.
    fn unnamed(&self, id: &TopologyId, plan_gone_ms: u64) -> bool {
        let clear = |machine: &SupervisorId| {
            let reported = self.reports.get(machine).filter(|reported| reported.at_ms > plan_gone_ms);
            reported.is_some_and(|reported| !named(&reported.report).contains(id))
        };
        self.machines.ids().all(|machine| self.machines.state(machine) == MachineState::Dead || clear(machine))
    }

    /// The last report of a machine.
    pub(crate) fn report(&self, machine: &SupervisorId) -> Option<&Reported> {
        self.reports.get(machine)
    }

    /// What machines say that keeps them from running a topology.
    pub(crate) fn troubles(&self, id: &TopologyId) -> Vec<String> {
        let told = self.reports.values().filter_map(|Reported { report, .. }| {
            report.troubles.get(id).map(|trouble| format!("{}: {trouble}", report.host))
        });
        told.collect()
    }

    /// A topology is gone.
    pub(crate) fn forget(&mut self, id: &TopologyId) {
        self.statistics.forget(id);
        self.failing.forget(id);
        self.direct.remove(id);
        self.gone.remove(id);
    }

    /// Only these topologies are there.
    pub(crate) fn retain(&mut self, topologies: &BTreeSet<&TopologyId>) {
        let heard = self.direct.keys().chain(self.gone.keys());
        let gone: Vec<TopologyId> = heard.filter(|id| !topologies.contains(id)).cloned().collect();
        gone.iter().for_each(|id| self.forget(id));
    }

    /// Which Supervisors have their record now, and which machines plans name: of others that are dead nothing is kept.
    pub(crate) fn known_machines(&mut self, recorded: &BTreeSet<SupervisorId>, planned: &BTreeSet<SupervisorId>) {
        self.machines.known(recorded, planned);
        let known: BTreeSet<&SupervisorId> = self.machines.ids().collect();
        self.reports.retain(|id, _| known.contains(id));
        self.blocked.retain(|(id, _), _| known.contains(id));
    }
}

/// Whether a slot's last worker lets it be given to others: it has no worker of a topology that is `foreign` to the scheduler.
pub(crate) fn is_usable(slot: &SlotReport, foreign: impl Fn(&TopologyId) -> bool) -> bool {
    let has_foreign = slot.worker.as_ref().is_some_and(|worker| foreign(&worker.topology));
    !(has_foreign && slot.state != SlotState::Empty)
}

/// What a machine's workers have counted: by this `Mutation::LivenessByStatistics` takes them for alive.
fn counted(report: &MachineReport) -> Vec<&Counts> {
    let workers = report.slots.values().filter_map(|slot| slot.worker.as_ref());
    let executors = workers.filter_map(|worker| worker.report.as_ref()).flat_map(|report| &report.executors);
    executors.map(|executor| &executor.counts).collect()
}

/// The topologies that a machine has anything of.
fn named(report: &MachineReport) -> BTreeSet<TopologyId> {
    // A slot without work may still tell of the worker that it had last.
    let at_work = report.slots.values().filter(|slot| slot.state != SlotState::Empty);
    let in_slots = at_work.filter_map(|slot| slot.worker.as_ref()).map(|worker| worker.topology.clone());
    in_slots.chain(report.topologies.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::liveness::Machines;

    #[test]
    fn a_blocked_slot_is_remembered_for_a_minute_or_until_a_worker_runs_there() {
        let id = SupervisorId::new("m1").unwrap();
        let report = |state| MachineReport {
            id: id.clone(),
            host: "m1.local".to_owned(),
            number: 1,
            uptime_ms: 1,
            version: String::new(),
            slots: [(Port(6700), SlotReport { state, worker: None })].into(),
            topologies: Vec::new(),
            troubles: BTreeMap::new(),
        };
        let mut observed = Observed::new(Machines::new(Duration::from_secs(30), 0));
        let hear =
            |observed: &mut Observed, state, now_ms| drop(observed.heard_machine(report(state), |_| true, now_ms, 0));
        hear(&mut observed, SlotState::Blocked, 5000);
        assert!(observed.is_blocked(&id, Port(6700), false, 5000));
        // A worker that is there stays for a second.
        assert!(!observed.is_blocked(&id, Port(6700), true, 5999));
        assert!(observed.is_blocked(&id, Port(6700), true, 6000));
        // Nothing is wanted there any more, so that its Supervisor does not look.
        hear(&mut observed, SlotState::Empty, 7000);
        assert!(observed.is_blocked(&id, Port(6700), false, 64_999));
        assert_eq!(observed.blocked(64_999), ["m1.local:6700"]);
        assert!(!observed.is_blocked(&id, Port(6700), false, 65_000));
        assert_eq!(observed.blocked(65_000), Vec::<String>::new());
        // Blocked again, it counts anew.
        hear(&mut observed, SlotState::Blocked, 66_000);
        assert!(!observed.is_blocked(&id, Port(6700), true, 66_999));
        hear(&mut observed, SlotState::Running, 67_000);
        assert!(!observed.is_blocked(&id, Port(6700), false, 67_000));
    }
}
