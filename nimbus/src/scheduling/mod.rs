//! Which worker of which topology has which slot: Storm's even scheduler, moving as little as possible.
//!
//! A round goes: what may stay stays; workers whose slot failed again and again move; workers that wait get what is free;
//! topologies that rebalance are dealt anew; then new topologies, in the order of their submission. Executors are dealt to
//! workers at the first plan, and at a rebalance: between them a worker only ever changes its slot.
//!
//! Dealing anew takes a topology's own slots for free, spreads its workers evenly over the machines that may get work, keeps
//! slots of its own as far as that allows, and deals its executors to them as a first plan does. When any worker's tasks
//! change, the versions of all rise: each worker knows where its peers' tasks are, so all of them start anew.
//!
//! Not here: who is alive (`liveness`), when to rebalance (`lifecycle`), the records (`records` makes them), writing them
//! (`publish`). Invariants: the same input gives the same plans; a slot has at most one worker; a worker whose slot is good
//! stays, but in a rebalance; a plan that does not change keeps its version; nobody is given a slot of a drained machine.

mod records;
mod slots;

use std::collections::{BTreeMap, BTreeSet};

use cluster_state::records::EpochMs;
use topology_api::ids::TaskId;
use topology_api::topology::ComponentGraph;
use worker_api::ids::{PlanVersion, Port, SupervisorId, TopologyId, WorkerIndex};

pub use records::{BrokenPlan, PlanRecords, RecordTooLong};
use slots::FreeSlots;

/// A machine that is not dead. One that is not named to the scheduler counts as dead: its workers move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// It may get work.
    Available {
        /// What it is called by others.
        host: String,
        /// Processor and operating system that it can start executables of.
        platform: String,
        /// Its slots, used ones among them.
        slots: BTreeSet<Port>,
    },
    /// It may not get work: its record is gone, or it is silent and not dead yet. What it runs stays until it is dealt anew.
    Unavailable,
    /// It shall not get work, as somebody empties it. What it runs stays until it is dealt anew.
    Drained,
}

/// A topology as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyDetails {
    /// The submission.
    pub id: TopologyId,
    /// When it was submitted: who came first is served first.
    pub submitted_ms: EpochMs,
    /// What its executable was built for.
    pub platform: String,
    /// `topology.workers`, or what a rebalance said; 0 counts as 1.
    pub workers: u16,
    /// Its components, in any order.
    pub components: Vec<Component>,
    /// Whether it is being killed: it gets nothing more, its plan stays as it is.
    pub leaving: bool,
    /// Whether it has ended, and is not rebalanced any more.
    pub ended: bool,
    /// Whether a rebalance has come so far that it is dealt anew.
    pub anew: bool,
    /// The plan that holds.
    pub plan: Option<TopologyPlan>,
    /// Slots that failed their workers again and again: a worker that is still there goes elsewhere. Whoever passes one
    /// drops it once the plan names another slot, or none, for its worker.
    pub failing: BTreeMap<WorkerIndex, (SupervisorId, Port)>,
}

/// A component's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// The first; the others follow it.
    pub first_task: TaskId,
    /// How many.
    pub tasks: u32,
    /// How many executors run them; at least 1 and at most as many as tasks.
    pub executors: u32,
}

impl From<&ComponentGraph> for Component {
    fn from(graph: &ComponentGraph) -> Self {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (tasks, executors) = (number(graph.tasks), number(graph.executors));
        Component { first_task: TaskId(graph.first_task), tasks, executors }
    }
}

/// A topology's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyPlan {
    /// Counts its changes, from 1.
    pub version: PlanVersion,
    /// Its workers, by index.
    pub workers: Vec<PlannedWorker>,
}

/// A worker of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedWorker {
    /// Where it runs; `None` while it waits for a slot.
    pub slot: Option<WorkerSlot>,
    /// The version of the plan at which its slot or its tasks last changed.
    pub version: PlanVersion,
    /// Its executors, by first task, each with the tasks that it runs.
    pub executors: Vec<Vec<TaskId>>,
}

/// A slot of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSlot {
    /// The machine.
    pub supervisor: SupervisorId,
    /// What the machine is called by others.
    pub host: String,
    /// The slot.
    pub port: Port,
}

/// What a round comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The next plan of each topology whose plan changes.
    pub plans: BTreeMap<TopologyId, TopologyPlan>,
    /// What there is to say of each topology.
    pub sentences: BTreeMap<TopologyId, String>,
    /// Topologies that should be rebalanced without being asked for, and can be.
    pub wishes: BTreeMap<TopologyId, Wish>,
    /// Why those that have workers on a drained machine, and are not to leave it yet, stay there.
    pub stays: BTreeMap<TopologyId, String>,
}

/// Why a topology should be rebalanced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It runs with fewer workers than requested, and slots are free.
    MoreWorkers,
    /// It has workers on a machine that is being emptied, and there is a slot elsewhere.
    Leave {
        /// What the machine is called.
        host: String,
    },
}

/// Plans. `machines` are those that are not dead; the order of `topologies` does not matter.
pub fn schedule(machines: &BTreeMap<SupervisorId, Machine>, topologies: &[TopologyDetails]) -> Round {
    let mut order: Vec<&TopologyDetails> = topologies.iter().collect();
    order.sort_by_key(|topology| (topology.submitted_ms, &topology.id));
    let mut free = FreeSlots::new(machines);

    // What stays is taken out of the free slots before anybody is given one.
    let mut next: Vec<Vec<PlannedWorker>> = order.iter().map(|topology| keep(topology, machines, &mut free)).collect();
    move_and_fill(&order, &mut next, &mut free);
    let is_dealt = |topology: &TopologyDetails| topology.anew && !topology.leaving && topology.plan.is_some();
    for (topology, workers) in order.iter().zip(&mut next).filter(|(topology, _)| is_dealt(topology)) {
        deal_anew(topology, workers, machines, &mut free);
    }
    // With what these have left.
    move_and_fill(&order, &mut next, &mut free);
    for (topology, workers) in order.iter().zip(&mut next).filter(|(topology, _)| !topology.leaving) {
        if topology.plan.is_none() {
            *workers = first_plan(topology, &mut free);
        }
    }

    let mut round = Round::default();
    let mut spare = free.counts();
    for (topology, workers) in order.into_iter().zip(next) {
        let mut sentence = sentence(topology, &workers, &free);
        let (wish, remark) = wish(topology, &workers, machines, &free, &mut spare);
        if let Some(remark) = remark {
            sentence = format!("{sentence}; {remark}");
            if wish.is_none() {
                round.stays.insert(topology.id.clone(), remark);
            }
        }
        round.wishes.extend(wish.map(|wish| (topology.id.clone(), wish)));
        round.sentences.insert(topology.id.clone(), sentence);
        if let Some(plan) = changed(topology, workers) {
            round.plans.insert(topology.id.clone(), plan);
        }
    }
    round
}

/// The workers of the plan that holds; those whose slot is gone wait for one.
fn keep<'a>(
    topology: &'a TopologyDetails,
    machines: &BTreeMap<SupervisorId, Machine>,
    free: &mut FreeSlots<'a>,
) -> Vec<PlannedWorker> {
    let Some(plan) = &topology.plan else { return Vec::new() };
    let keep = |worker: &'a PlannedWorker| {
        let slot = worker.slot.as_ref().and_then(|slot| {
            let host = match machines.get(&slot.supervisor) {
                Some(Machine::Available { host, slots, .. }) if slots.contains(&slot.port) => host,
                Some(Machine::Unavailable | Machine::Drained) => &slot.host,
                _ if topology.leaving => &slot.host,
                _ => return None,
            };
            let ours = free.claim(&slot.supervisor, slot.port) || topology.leaving;
            ours.then(|| WorkerSlot { host: host.clone(), ..slot.clone() })
        });
        PlannedWorker { slot, ..worker.clone() }
    };
    plan.workers.iter().map(keep).collect()
}

/// Moves workers whose slot failed again and again: to another machine, else to another slot of theirs. Without any free
/// slot they stay, as waiting for one helps nobody.
fn move_away(topology: &TopologyDetails, workers: &mut [PlannedWorker], free: &mut FreeSlots<'_>) {
    for (WorkerIndex(index), (supervisor, port)) in &topology.failing {
        let Some(slot) = workers.get_mut(usize::from(*index)).and_then(|worker| worker.slot.as_mut()) else { continue };
        if (&slot.supervisor, slot.port) != (supervisor, *port) {
            continue;
        }
        if let Some(better) = free.take_elsewhere(&topology.platform, supervisor) {
            free.give_back(supervisor, *port);
            *slot = better;
        }
    }
}

/// Moves workers that fail where they are, and gives those that wait what is free; who is to be dealt anew gets it then.
fn move_and_fill(order: &[&TopologyDetails], next: &mut [Vec<PlannedWorker>], free: &mut FreeSlots<'_>) {
    let stays = |topology: &TopologyDetails| !topology.leaving && !topology.anew;
    // Movers go before those who wait: each gives its slot back.
    for (topology, workers) in order.iter().zip(&mut *next).filter(|(topology, _)| stays(topology)) {
        move_away(topology, workers, free);
    }
    for (topology, workers) in order.iter().zip(next).filter(|(topology, _)| stays(topology)) {
        let waiting: Vec<&mut PlannedWorker> = workers.iter_mut().filter(|worker| worker.slot.is_none()).collect();
        let slots = free.take(&topology.platform, waiting.len());
        waiting.into_iter().zip(slots).for_each(|(worker, slot)| worker.slot = Some(slot));
    }
}

/// Deals a topology anew. Its slots on machines that may get work count as free for it; without any such slot, its own and
/// others', it keeps those that it has, and only its executors are dealt.
fn deal_anew(
    topology: &TopologyDetails,
    workers: &mut Vec<PlannedWorker>,
    machines: &BTreeMap<SupervisorId, Machine>,
    free: &mut FreeSlots<'_>,
) {
    let executors = executors(&topology.components);
    let wanted = requested(topology).min(executors.len());
    let has: Vec<(usize, WorkerSlot)> =
        workers.iter().enumerate().filter_map(|(index, worker)| Some((index, worker.slot.clone()?))).collect();
    let fails = |index: usize, slot: &WorkerSlot| {
        let failing = u16::try_from(index).ok().and_then(|index| topology.failing.get(&WorkerIndex(index)));
        failing.is_some_and(|(supervisor, port)| (supervisor, *port) == (&slot.supervisor, slot.port))
    };
    let may_stay =
        |(_, slot): &&(usize, WorkerSlot)| matches!(machines.get(&slot.supervisor), Some(Machine::Available { .. }));
    let (failing, own): (Vec<_>, Vec<_>) =
        has.iter().filter(may_stay).cloned().partition(|(index, slot)| fails(*index, slot));
    let mut slots = free.spread(&topology.platform, wanted, own.into_iter().map(|(_, slot)| slot).collect());
    // A slot that fails its worker is better than none.
    let lacking = wanted.saturating_sub(slots.len());
    slots.extend(failing.into_iter().map(|(_, slot)| slot).take(lacking));
    if slots.is_empty() {
        slots = has.iter().take(wanted).map(|(_, slot)| slot.clone()).collect();
    }
    if slots.is_empty() {
        return;
    }
    let count = slots.len();
    for (_, slot) in has.iter().filter(|(_, slot)| !slots.contains(slot)) {
        // A machine that may not get work takes nothing back.
        free.give_back(&slot.supervisor, slot.port);
    }
    // Who keeps a slot keeps his index, so that as few workers as can be change.
    let mut places: Vec<Option<WorkerSlot>> = vec![None; count];
    for (index, slot) in has.into_iter().filter(|(index, _)| *index < count) {
        if let Some(at) = slots.iter().position(|taken| *taken == slot) {
            places[index] = Some(slots.remove(at));
        }
    }
    let mut others = slots.into_iter();
    let worker = |(index, slot): (usize, Option<WorkerSlot>)| PlannedWorker {
        slot: slot.or_else(|| others.next()),
        version: workers.get(index).map_or(PlanVersion(0), |before| before.version),
        executors: Vec::new(),
    };
    let mut dealt: Vec<PlannedWorker> = places.into_iter().enumerate().map(worker).collect();
    deal(executors, dealt.iter_mut().map(|worker| &mut worker.executors));
    *workers = dealt;
}

/// Deals executors to workers in turn.
fn deal<'a>(executors: Vec<Vec<TaskId>>, workers: impl ExactSizeIterator<Item = &'a mut Vec<Vec<TaskId>>>) {
    let mut workers: Vec<_> = workers.collect();
    let count = workers.len().max(1);
    for (turn, tasks) in executors.into_iter().enumerate() {
        if let Some(worker) = workers.get_mut(turn % count) {
            worker.push(tasks);
        }
    }
}

/// What a topology should be rebalanced for, if it can be; and a remark, if it has workers on a drained machine. `spare` is what is free of each
/// platform, less what those before it wish for.
fn wish(
    topology: &TopologyDetails,
    workers: &[PlannedWorker],
    machines: &BTreeMap<SupervisorId, Machine>,
    free: &FreeSlots<'_>,
    spare: &mut BTreeMap<&str, usize>,
) -> (Option<Wish>, Option<String>) {
    if topology.leaving || topology.anew || workers.is_empty() {
        return (None, None);
    }
    let none = &mut 0;
    let spare = spare.get_mut(topology.platform.as_str()).unwrap_or(none);
    let mut good = 0;
    let mut drained = BTreeSet::new();
    for slot in workers.iter().filter_map(|worker| worker.slot.as_ref()) {
        match machines.get(&slot.supervisor) {
            Some(Machine::Available { .. }) => good += 1,
            Some(Machine::Drained) => drop(drained.insert(slot.host.as_str())),
            Some(Machine::Unavailable) | None => {}
        }
    }
    let wanted = wanted(topology);
    if let Some(host) = drained.first() {
        let hosts = drained.iter().copied().collect::<Vec<_>>().join(", ");
        if topology.ended {
            return (None, Some(format!("has ended, and stays on {hosts} until it is killed")));
        }
        if good + *spare == 0 {
            let why = free.why_none(&topology.platform);
            return (None, Some(format!("waits for slots to leave {hosts}: {why}")));
        }
        *spare -= wanted.saturating_sub(good).min(*spare);
        return (Some(Wish::Leave { host: (*host).to_owned() }), Some(format!("leaves {hosts}")));
    }
    let more = wanted.saturating_sub(workers.len()).min(*spare);
    if more == 0 || topology.ended || workers.iter().any(|worker| worker.slot.is_none()) {
        return (None, None);
    }
    *spare -= more;
    (Some(Wish::MoreWorkers), None)
}

/// Deals the executors to as many workers as are wanted, and there are slots and executors for; none if no slot is free.
fn first_plan(topology: &TopologyDetails, free: &mut FreeSlots<'_>) -> Vec<PlannedWorker> {
    let executors = executors(&topology.components);
    let slots = free.take(&topology.platform, requested(topology).min(executors.len()));
    let worker = |slot| PlannedWorker { slot: Some(slot), version: PlanVersion(1), executors: Vec::new() };
    let mut workers: Vec<PlannedWorker> = slots.into_iter().map(worker).collect();
    deal(executors, workers.iter_mut().map(|worker| &mut worker.executors));
    workers
}

/// The executors of all components by first task, with contiguous tasks; larger ones first within a component.
fn executors(components: &[Component]) -> Vec<Vec<TaskId>> {
    let mut components = components.to_vec();
    components.sort_by_key(|component| component.first_task);
    let mut all = Vec::new();
    for Component { first_task: TaskId(mut first), tasks, executors } in components {
        let executors = executors.max(1).min(tasks);
        for executor in 0..executors {
            let count = tasks / executors + u32::from(executor < tasks % executors);
            let end = first.saturating_add(count);
            all.push((first..end).map(TaskId).collect());
            first = end;
        }
    }
    all
}

/// How many workers it should have.
fn requested(topology: &TopologyDetails) -> usize {
    usize::from(topology.workers.max(1))
}

/// How many workers it can make use of, of those that it should have.
fn wanted(topology: &TopologyDetails) -> usize {
    let executors = |component: &Component| component.executors.max(1).min(component.tasks) as usize;
    requested(topology).min(topology.components.iter().map(executors).sum())
}

/// The plan with these workers, if it is another than the one that holds.
fn changed(topology: &TopologyDetails, mut workers: Vec<PlannedWorker>) -> Option<TopologyPlan> {
    let Some(plan) = &topology.plan else {
        return (!workers.is_empty()).then_some(TopologyPlan { version: PlanVersion(1), workers });
    };
    if plan.workers == workers {
        return None;
    }
    let version = PlanVersion(plan.version.0 + 1);
    let place = |worker: &PlannedWorker| worker.slot.as_ref().map(|slot| (slot.supervisor.clone(), slot.port));
    let tasks = |workers: &[PlannedWorker]| workers.iter().map(|worker| worker.executors.clone()).collect::<Vec<_>>();
    let moves_tasks = tasks(&workers) != tasks(&plan.workers);
    for (index, worker) in workers.iter_mut().enumerate() {
        let before = plan.workers.get(index).and_then(place);
        if moves_tasks || place(worker) != before {
            worker.version = version;
        }
    }
    Some(TopologyPlan { version, workers })
}

/// What there is to say, in Storm's words where it has some.
fn sentence(topology: &TopologyDetails, workers: &[PlannedWorker], free: &FreeSlots<'_>) -> String {
    if topology.leaving {
        return "It is being killed: it gets no slot any more".to_owned();
    }
    let wanted = wanted(topology);
    let waiting = workers.iter().filter(|worker| worker.slot.is_none()).count();
    match (workers.len(), waiting) {
        (0, _) => format!("Waiting for {wanted} of {wanted} slots: {}", free.why_none(&topology.platform)),
        (all, 1..) => format!("Waiting for {waiting} of {all} slots: {}", free.why_none(&topology.platform)),
        (all, 0) if all < wanted => format!("Running with fewer slots than requested ({all}/{wanted})"),
        (_, 0) => "Fully Scheduled".to_owned(),
    }
}

#[cfg(test)]
mod tests;
