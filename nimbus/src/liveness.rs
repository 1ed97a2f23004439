//! Who is alive: machines by what is heard of them, and workers that die again and again.
//!
//! Not here: hearing (the API), the ephemeral records (`cluster_state`). Invariants: nobody is declared dead who could not be
//! heard for a full time-out; a worker is moved at most once in an interval that doubles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mutations::Mutation;
use nimbus_api::machine::SlotWorker;
use worker_api::ids::{Life, Port, SupervisorId, TopologyId, WorkerIndex};

/// A machine gets work if its Supervisor was heard within this time.
const RECENT_MS: u64 = 5_000;
/// Ticks that are further apart than this mean that the process slept; half of the time-out, if that is less.
const SLEPT_MS: u64 = 5_000;

/// The machines, as they are heard. Times are milliseconds of one monotonic clock.
#[derive(Clone, Debug)]
pub struct Machines {
    timeout_ms: u64,
    /// Since when every machine could have been heard.
    listening_since_ms: u64,
    /// The last tick: what [`Machines::state`] speaks of.
    now_ms: u64,
    machines: BTreeMap<SupervisorId, Heard>,
}

#[derive(Clone, Debug, Default)]
struct Heard {
    supervisor_ms: Option<u64>,
    any_ms: Option<u64>,
    recorded: bool,
}

/// How a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// It may get work: its record is there, and its Supervisor was heard just now.
    Available,
    /// It may not get work; what it runs stays.
    Unavailable,
    /// Neither its Supervisor nor any of its workers was heard for a full time-out.
    Dead,
}

impl Machines {
    /// Begins to listen. `machine_timeout` is `nimbus.supervisor.timeout.secs`.
    pub fn new(machine_timeout: Duration, now_ms: u64) -> Self {
        let timeout_ms = u64::try_from(machine_timeout.as_millis()).unwrap_or(u64::MAX);
        Machines { timeout_ms, listening_since_ms: now_ms, now_ms, machines: BTreeMap::new() }
    }

    /// Listening begins anew: leading began, or the session or the store was lost, or is back.
    pub fn listen_anew(&mut self, now_ms: u64) {
        if !mutations::on(Mutation::GraceFromProcessStart) {
            self.listening_since_ms = now_ms;
        }
        self.now_ms = now_ms;
    }

    /// Time went on: to be called at least four times in a time-out, and each second. A gap counts as sleep, after which listening begins anew.
    pub fn tick(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.now_ms) > SLEPT_MS.min(self.timeout_ms / 2) {
            self.listening_since_ms = now_ms;
        }
        self.now_ms = now_ms;
    }

    /// A Supervisor reported.
    pub fn heard_supervisor(&mut self, id: &SupervisorId, now_ms: u64) {
        let heard = self.machines.entry(id.clone()).or_default();
        heard.supervisor_ms = Some(now_ms);
        heard.any_ms = Some(now_ms);
    }

    /// A worker of this machine reported by itself.
    pub fn heard_worker(&mut self, id: &SupervisorId, now_ms: u64) {
        self.machines.entry(id.clone()).or_default().any_ms = Some(now_ms);
    }

    /// Which Supervisors have their ephemeral record now, and which machines plans name. A machine that is in neither, and
    /// dead, is forgotten.
    pub fn known(&mut self, recorded: &BTreeSet<SupervisorId>, planned: &BTreeSet<SupervisorId>) {
        for id in recorded.union(planned) {
            self.machines.entry(id.clone()).or_default();
        }
        for (id, heard) in &mut self.machines {
            heard.recorded = recorded.contains(id);
        }
        let dead: BTreeSet<SupervisorId> = self
            .machines
            .keys()
            .filter(|id| !recorded.contains(*id) && !planned.contains(*id) && self.state(id) == MachineState::Dead)
            .cloned()
            .collect();
        self.machines.retain(|id, _| !dead.contains(id));
    }

    /// How a machine was at the last tick; one that is not known is dead.
    pub fn state(&self, id: &SupervisorId) -> MachineState {
        let Some(heard) = self.machines.get(id) else { return MachineState::Dead };
        let silent_ms = |heard_ms: u64| self.now_ms.saturating_sub(heard_ms);
        let silent_since_ms = heard.any_ms.map_or(self.listening_since_ms, |any| any.max(self.listening_since_ms));
        if silent_ms(silent_since_ms) >= self.timeout_ms {
            return MachineState::Dead;
        }
        let recent = heard.supervisor_ms.is_some_and(|heard_ms| silent_ms(heard_ms) < RECENT_MS.min(self.timeout_ms));
        match heard.recorded && recent {
            true => MachineState::Available,
            false => MachineState::Unavailable,
        }
    }

    /// The machines that are known.
    pub fn ids(&self) -> impl Iterator<Item = &SupervisorId> {
        self.machines.keys()
    }

    /// Whether each machine with a record could say by now that it may get work: all were heard since listening began, or
    /// had the time to be.
    pub fn are_settled(&self) -> bool {
        let since = self.listening_since_ms;
        let heard = |heard: &Heard| heard.supervisor_ms.is_some_and(|heard_ms| heard_ms >= since);
        self.now_ms.saturating_sub(since) >= RECENT_MS.min(self.timeout_ms)
            || self.machines.values().filter(|machine| machine.recorded).all(heard)
    }

    /// How long ago anything was heard of a machine; `None` if nothing was yet.
    pub fn heard_ms(&self, id: &SupervisorId, now_ms: u64) -> Option<u64> {
        self.machines.get(id)?.any_ms.map(|heard_ms| now_ms.saturating_sub(heard_ms))
    }
}

/// So many ends make a series …
const SERIES_ENDS: usize = 5;
/// … if they come within this time: four short lives, with the pauses of half a minute that a Supervisor makes at the most …
const SERIES_MS: u64 = 6 * 60_000;
/// … and none of these lives was longer.
const SHORT_LIFE_MS: u64 = 60_000;
/// The next move of a worker comes no sooner than this after its first one; twice as long after each further one …
const FIRST_INTERVAL_MS: u64 = 10 * 60_000;
/// … up to this.
const LONGEST_INTERVAL_MS: u64 = 6 * 60 * 60_000;
/// A life as long as this has its worker's moves forgotten.
const HEALED_MS: u64 = 10 * 60_000;

/// Workers that die again and again, and are to move to another machine. Times are milliseconds of one monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct FailingWorkers {
    workers: BTreeMap<(TopologyId, WorkerIndex), Failing>,
}

#[derive(Clone, Debug)]
struct Failing {
    /// The newest life that was heard of: word of older ones is ignored.
    life: Life,
    /// The slot that fails it, while it does.
    slot: Option<(SupervisorId, Port)>,
    moves: u32,
    /// Before this time it is not moved again.
    not_before_ms: u64,
}

impl FailingWorkers {
    /// What a Supervisor says of a slot's worker.
    pub fn heard(&mut self, supervisor: &SupervisorId, port: Port, worker: &SlotWorker) {
        // One for each worker of a plan: a slot that it has left may speak of it for long.
        let unknown = || Failing { life: worker.life, slot: None, moves: 0, not_before_ms: 0 };
        let failing = self.workers.entry((worker.topology.clone(), worker.worker)).or_insert_with(unknown);
        if worker.life < failing.life {
            return;
        }
        failing.life = worker.life;
        let reported = worker.report.as_ref().filter(|report| report.life == worker.life);
        let lives_ms = reported.map_or(0, |report| report.uptime_us / 1000);
        let fails = lives_ms < SHORT_LIFE_MS && is_series(worker);
        failing.slot = fails.then(|| (supervisor.clone(), port));
        if lives_ms >= HEALED_MS {
            (failing.moves, failing.not_before_ms) = (0, 0);
        }
    }

    /// The workers of a topology that shall move now, with the slot that fails each.
    pub fn to_move(&self, topology: &TopologyId, now_ms: u64) -> BTreeMap<WorkerIndex, (SupervisorId, Port)> {
        let all = (topology.clone(), WorkerIndex(0))..=(topology.clone(), WorkerIndex(u16::MAX));
        let due = |((_, worker), failing): (&(TopologyId, WorkerIndex), &Failing)| {
            let slot = failing.slot.clone().filter(|_| failing.not_before_ms <= now_ms)?;
            Some((*worker, slot))
        };
        self.workers.range(all).filter_map(due).collect()
    }

    /// The plan names another slot, or none, for a worker that was to move.
    pub fn moved(&mut self, topology: &TopologyId, worker: WorkerIndex, now_ms: u64) {
        if let Some(failing) = self.workers.get_mut(&(topology.clone(), worker)) {
            let interval_ms = FIRST_INTERVAL_MS.saturating_mul(1 << failing.moves.min(16)).min(LONGEST_INTERVAL_MS);
            failing.slot = None;
            failing.moves += 1;
            failing.not_before_ms = now_ms + interval_ms;
        }
    }

    /// A topology is gone.
    pub fn forget(&mut self, topology: &TopologyId) {
        self.workers.retain(|(id, _), _| id != topology);
    }
}

/// Whether the last ends of a slot's worker make a series. Their times are all of the machine's clock.
fn is_series(worker: &SlotWorker) -> bool {
    let ends = worker.failures();
    let Some(first) = ends.len().checked_sub(SERIES_ENDS) else { return false };
    let last = &ends[first..];
    let (Some(first), Some(newest)) = (last.first(), last.last()) else { return false };
    last.iter().all(|end| end.lived_ms < SHORT_LIFE_MS) && newest.ended_ms.saturating_sub(first.ended_ms) <= SERIES_MS
}

#[cfg(test)]
mod tests {
    use nimbus_api::machine::WorkerEnd;
    use worker_api::ids::{Incarnation, PlanVersion};

    use super::MachineState::{Available, Dead, Unavailable};
    use super::*;

    fn id(name: &str) -> SupervisorId {
        SupervisorId::new(name).unwrap()
    }

    fn ids(names: &[&str]) -> BTreeSet<SupervisorId> {
        names.iter().map(|name| id(name)).collect()
    }

    /// Listens with a time-out of 30 s from second 100 on; `a` and `b` have records, plans name `b` and `c`.
    fn listening() -> Machines {
        let mut machines = Machines::new(Duration::from_secs(30), 100_000);
        machines.known(&ids(&["a", "b"]), &ids(&["b", "c"]));
        machines
    }

    /// Ticks each second up to this one.
    fn until(machines: &mut Machines, second: u64) {
        while machines.now_ms < second * 1000 {
            machines.tick(machines.now_ms + 1000);
        }
    }

    fn states(machines: &Machines) -> [MachineState; 3] {
        ["a", "b", "c"].map(|name| machines.state(&id(name)))
    }

    #[test]
    fn nobody_is_dead_before_a_full_time_out_of_listening() {
        let mut machines = listening();
        until(&mut machines, 129);
        assert_eq!(states(&machines), [Unavailable; 3]);
        until(&mut machines, 130);
        assert_eq!(states(&machines), [Dead; 3]);
        assert_eq!(machines.state(&id("never-known")), Dead);
    }

    #[test]
    fn a_machine_gets_work_if_its_record_is_there_and_its_supervisor_was_heard_just_now() {
        let mut machines = listening();
        until(&mut machines, 101);
        machines.heard_supervisor(&id("a"), 101_000);
        machines.heard_worker(&id("b"), 101_000);
        machines.heard_supervisor(&id("c"), 101_000);
        assert_eq!(states(&machines), [Available, Unavailable, Unavailable]);
        until(&mut machines, 105);
        assert_eq!(states(&machines), [Available, Unavailable, Unavailable]);
        until(&mut machines, 106);
        assert_eq!(states(&machines), [Unavailable; 3]);
        assert_eq!(machines.heard_ms(&id("a"), 107_500), Some(6_500));
        assert_eq!(Machines::new(Duration::from_secs(1), 0).heard_ms(&id("a"), 7), None);
    }

    #[test]
    fn a_machine_whose_workers_are_heard_is_not_dead() {
        let mut machines = listening();
        machines.heard_supervisor(&id("a"), 100_000);
        machines.heard_supervisor(&id("b"), 100_000);
        for second in 101..200 {
            machines.heard_worker(&id("b"), second * 1000);
            until(&mut machines, second);
        }
        assert_eq!(states(&machines), [Dead, Unavailable, Dead]);
        machines.heard_supervisor(&id("a"), 199_500);
        assert_eq!(machines.state(&id("a")), Available, "it is back");
    }

    #[test]
    fn listening_begins_anew_after_a_loss_and_after_sleep() {
        let mut machines = listening();
        until(&mut machines, 125);
        machines.listen_anew(125_000);
        until(&mut machines, 154);
        assert_eq!(states(&machines), [Unavailable; 3]);
        until(&mut machines, 155);
        assert_eq!(states(&machines), [Dead; 3]);

        // Who was heard before is given the same time.
        let mut machines = listening();
        until(&mut machines, 120);
        machines.heard_supervisor(&id("a"), 120_000);
        until(&mut machines, 149);
        machines.listen_anew(149_500);
        machines.tick(150_000);
        assert_eq!(states(&machines), [Unavailable; 3]);
        until(&mut machines, 180);
        assert_eq!(states(&machines), [Dead; 3]);

        let mut machines = listening();
        until(&mut machines, 120);
        machines.tick(125_000);
        until(&mut machines, 129);
        assert_eq!(states(&machines), [Unavailable; 3], "five seconds are no sleep");
        machines.tick(134_001);
        until(&mut machines, 163);
        assert_eq!(states(&machines), [Unavailable; 3], "more than five are");
        machines.tick(164_001);
        assert_eq!(states(&machines), [Dead; 3]);

        // With a short time-out, half of it.
        let mut machines = Machines::new(Duration::from_secs(2), 0);
        machines.known(&ids(&["a"]), &ids(&[]));
        machines.tick(1_000);
        machines.tick(2_001);
        assert_eq!(machines.state(&id("a")), Unavailable);
        machines.tick(3_001);
        machines.tick(4_001);
        assert_eq!(machines.state(&id("a")), Dead);
    }

    #[test]
    fn a_dead_machine_is_forgotten_when_nobody_names_it() {
        let mut machines = listening();
        machines.known(&ids(&["a"]), &ids(&["c"]));
        assert_eq!(machines.ids().cloned().collect::<BTreeSet<_>>(), ids(&["a", "b", "c"]), "it may only be late");
        until(&mut machines, 130);
        machines.known(&ids(&["a"]), &ids(&["c"]));
        assert_eq!(machines.ids().cloned().collect::<BTreeSet<_>>(), ids(&["a", "c"]));
    }

    fn life(plan: u64, incarnation: u64) -> Life {
        Life { plan: PlanVersion(plan), incarnation: Incarnation(incarnation) }
    }

    /// Worker 0 of `t`, after lives that ended at these seconds and were so many seconds long.
    fn worker(life: Life, ends: &[(u64, u64)]) -> SlotWorker {
        let end = |(incarnation, (ended, lived)): (u64, &(u64, u64))| WorkerEnd {
            incarnation: Incarnation(incarnation),
            ended_ms: ended * 1000,
            lived_ms: lived * 1000,
            cause: "exited with code 1".to_owned(),
            planned: false,
            last_lines: Vec::new(),
            last_report: None,
        };
        SlotWorker {
            revision: Default::default(),
            topology: TopologyId::new("t").unwrap(),
            worker: WorkerIndex(0),
            life,
            placement: life.plan,
            report_age_ms: None,
            report: None,
            ends: (1..).zip(ends).map(end).collect(),
            restarts: ends.len() as u64,
        }
    }

    /// The same, alive for so many seconds.
    fn alive(mut worker: SlotWorker, secs: u64) -> SlotWorker {
        let report = worker_api::report::Report {
            format: worker_api::report::REPORT_FORMAT,
            topology: worker.topology.clone(),
            worker: worker.worker,
            port: Port(6700),
            life: worker.life,
            number: 1,
            pid: 1,
            placement: worker.placement,
            stage: worker_api::report::Stage::Ready,
            spouts: worker_api::answer::Spouts::Active,
            drained: false,
            revision: Default::default(),
            fatal: None,
            uptime_us: secs * 1_000_000,
            cpu_us: 0,
            memory_bytes: 0,
            inbox_bytes: 0,
            executors: Vec::new(),
            links: BTreeMap::new(),
            metrics: BTreeMap::new(),
        };
        worker.report = Some(report);
        worker
    }

    const SERIES: [(u64, u64); 5] = [(0, 59), (100, 3), (200, 3), (250, 3), (360, 3)];

    fn failing(worker: &SlotWorker) -> bool {
        let mut failing = FailingWorkers::default();
        failing.heard(&id("a"), Port(6700), worker);
        let to_move = failing.to_move(&worker.topology, 0);
        assert!(to_move.is_empty() || to_move == [(WorkerIndex(0), (id("a"), Port(6700)))].into());
        !to_move.is_empty()
    }

    #[test]
    fn five_short_lives_within_six_minutes_make_a_series() {
        let now = life(1, 6);
        assert!(failing(&worker(now, &SERIES)));
        assert!(!failing(&worker(now, &SERIES[1..])), "four");
        assert!(!failing(&worker(now, &[(0, 3), (100, 3), (200, 3), (250, 3), (361, 3)])), "longer than six minutes");
        assert!(!failing(&worker(now, &[(0, 3), (100, 60), (200, 3), (250, 3), (300, 3)])), "one of a minute");
        assert!(failing(&worker(now, &[&[(0, 900)], &SERIES[..]].concat())), "what was before does not count");
        assert!(failing(&alive(worker(now, &SERIES), 59)));
        assert!(!failing(&alive(worker(now, &SERIES), 60)), "it lives");
        let mut planned = worker(now, &SERIES);
        planned.ends[2].planned = true;
        assert!(!failing(&planned), "with a new plan it begins anew");
    }

    #[test]
    fn a_worker_is_moved_once_for_a_series_and_ever_more_rarely() {
        let (topology, mut failing) = (TopologyId::new("t").unwrap(), FailingWorkers::default());
        let other = TopologyId::new("u").unwrap();
        let (a, b) = (id("a"), id("b"));
        let minute = 60_000;
        failing.heard(&a, Port(6700), &worker(life(1, 6), &SERIES));
        let from = |machine: &SupervisorId| [(WorkerIndex(0), (machine.clone(), Port(6700)))].into();
        assert_eq!(failing.to_move(&topology, 0), from(&a));
        assert_eq!(failing.to_move(&other, 0), BTreeMap::new());
        failing.moved(&topology, WorkerIndex(0), 0);
        assert_eq!(failing.to_move(&topology, 0), BTreeMap::new());

        // It fails on b too: not before 10 minutes, and then not before 20 more.
        failing.heard(&b, Port(6700), &worker(life(2, 1), &[]));
        assert_eq!(failing.to_move(&topology, 20 * minute), BTreeMap::new());
        failing.heard(&b, Port(6700), &worker(life(2, 6), &SERIES));
        failing.heard(&a, Port(6700), &worker(life(1, 9), &SERIES));
        assert_eq!(failing.to_move(&topology, 10 * minute - 1), BTreeMap::new());
        assert_eq!(failing.to_move(&topology, 10 * minute), from(&b), "word of the old slot is ignored");
        failing.moved(&topology, WorkerIndex(0), 10 * minute);
        failing.heard(&a, Port(6700), &worker(life(3, 15), &SERIES));
        assert_eq!(failing.to_move(&topology, 30 * minute - 1), BTreeMap::new());
        assert_eq!(failing.to_move(&topology, 30 * minute), from(&a));

        // For ever: at most each six hours.
        let mut now = 30 * minute;
        for _ in 0..10 {
            failing.moved(&topology, WorkerIndex(0), now);
            failing.heard(&a, Port(6700), &worker(life(4, 15), &SERIES));
            now += 6 * 60 * minute;
        }
        assert_eq!(failing.to_move(&topology, now - 1), BTreeMap::new());
        assert_eq!(failing.to_move(&topology, now), from(&a));
    }

    #[test]
    fn a_worker_that_lived_for_long_begins_anew() {
        let (topology, mut failing) = (TopologyId::new("t").unwrap(), FailingWorkers::default());
        let a = id("a");
        failing.heard(&a, Port(6700), &worker(life(1, 6), &SERIES));
        failing.moved(&topology, WorkerIndex(0), 0);
        failing.heard(&a, Port(6701), &alive(worker(life(2, 1), &[]), 599));
        failing.heard(&a, Port(6701), &worker(life(2, 6), &SERIES));
        assert_eq!(failing.to_move(&topology, 1_000), BTreeMap::new());
        failing.heard(&a, Port(6701), &alive(worker(life(2, 7), &SERIES), 600));
        failing.heard(&a, Port(6701), &worker(life(2, 12), &SERIES));
        assert_eq!(failing.to_move(&topology, 1_000).len(), 1);
        failing.heard(&a, Port(6700), &worker(life(1, 6), &SERIES));
        assert_eq!(
            failing.to_move(&topology, 1_000),
            [(WorkerIndex(0), (a, Port(6701)))].into(),
            "the slot that it left still speaks of it"
        );
        failing.forget(&topology);
        assert_eq!(failing.to_move(&topology, 1_000), BTreeMap::new());
    }
}
