//! Who is alive: machines by what is heard of them, and workers that die again and again.
//!
//! Not here: hearing (the API), the ephemeral records (`cluster_state`). Invariants: nobody is declared dead who could not be
//! heard for a full time-out; a worker is moved at most once in an interval that doubles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
        self.listening_since_ms = now_ms;
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

    /// How long ago anything was heard of a machine; `None` if nothing was yet.
    pub fn heard_ms(&self, id: &SupervisorId, now_ms: u64) -> Option<u64> {
        self.machines.get(id)?.any_ms.map(|heard_ms| now_ms.saturating_sub(heard_ms))
    }
}

/// So many ends make a series …
const SERIES_ENDS: usize = 5;
/// … if they come within this time …
const SERIES_MS: u64 = 5 * 60_000;
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
        let key = (worker.topology.clone(), worker.worker);
        let failing = self.workers.entry(key.clone()).or_insert_with(|| Failing {
            life: worker.life,
            slot: None,
            moves: 0,
            not_before_ms: 0,
        });
        if worker.life < failing.life {
            return;
        }
        failing.life = worker.life;
        let reported = worker.report.as_ref().filter(|report| report.life == worker.life);
        let lives_ms = reported.map_or(0, |report| report.uptime_us / 1000);
        let fails = lives_ms < SHORT_LIFE_MS && is_series(worker);
        failing.slot = fails.then(|| (supervisor.clone(), port));
        if lives_ms >= HEALED_MS || (failing.moves == 0 && !fails) {
            self.workers.remove(&key);
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

    /// The plan has moved a worker because of that.
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
    let Some(first) = worker.ends.len().checked_sub(SERIES_ENDS) else { return false };
    let last = &worker.ends[first..];
    let (Some(first), Some(newest)) = (last.first(), last.last()) else { return false };
    last.iter().all(|end| end.lived_ms < SHORT_LIFE_MS) && newest.ended_ms.saturating_sub(first.ended_ms) <= SERIES_MS
}
