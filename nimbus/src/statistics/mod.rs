//! What topologies counted: totals that outlive workers, windows of time, the last errors.
//!
//! A worker counts from the beginning of its life, so what a report adds is its difference to the last one of that life. The
//! last report of a life comes with its end, from the Supervisor, and settles it: later word of that life is dropped.
//! A new Nimbus rebuilds totals from what Supervisors tell: lives that they remember no more are lost to it, and windows
//! shorter than a life that was not followed begin empty.
//!
//! Not here: sums over executors and components. Invariants: totals only grow, nothing is counted twice, whatever is
//! repeated or comes late; memory is bounded for each executor. Times are milliseconds of one monotonic clock, but for
//! `epoch_ms`, which is the wall clock at the same moment.

mod counts;
mod windows;

use std::collections::{BTreeMap, VecDeque};

use cluster_state::records::EpochMs;
use nimbus_api::machine::SlotWorker;
use nimbus_api::topology::{ComponentError, Executor, Window};
use topology_api::ids::TaskId;
use worker_api::ids::{Incarnation, Life, PlanVersion, Port, TopologyId, WorkerIndex};
use worker_api::report::{Counts, Doing, ExecutorReport, Report, Waiting};

use windows::Windows;

/// Errors that are kept of a component.
const KEPT_ERRORS: usize = 10;
/// Lives of one worker that are followed at once: the one that runs, and those whose end was not told yet.
const OPEN_LIVES: usize = 4;
/// Plans of one worker whose settled lives are remembered; what is older counts as settled.
const SETTLED_PLANS: usize = 16;
/// After so long what an executor does is not known any more.
const SILENT_MS: u64 = 30_000;

/// What all topologies counted.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    topologies: BTreeMap<TopologyId, TopologyStatistics>,
}

/// When, and from where, something is heard.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// What the worker's machine is called.
    pub host: &'a str,
    /// The worker's slot.
    pub port: Port,
    /// Now, on the monotonic clock.
    pub now_ms: u64,
    /// Now, on the wall clock.
    pub epoch_ms: EpochMs,
}

#[derive(Clone, Debug, Default)]
struct TopologyStatistics {
    workers: BTreeMap<WorkerIndex, Lives>,
    executors: BTreeMap<TaskId, ExecutorStatistics>,
    errors: BTreeMap<String, VecDeque<ComponentError>>,
}

#[derive(Clone, Debug, Default)]
struct Lives {
    open: BTreeMap<Life, OpenLife>,
    /// Up to which incarnation the lives of a plan are settled.
    settled: BTreeMap<PlanVersion, Incarnation>,
}

/// A life whose last report may still come.
#[derive(Clone, Debug, Default)]
struct OpenLife {
    number: u64,
    executors: BTreeMap<TaskId, Told>,
}

/// What an executor has told in a life.
#[derive(Clone, Debug, Default)]
struct Told {
    counts: Counts,
    /// When the newest error came, in the life's own time.
    error_us: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct ExecutorStatistics {
    total: Counts,
    windows: Windows,
    now: Option<Now>,
}

/// How an executor is, by the last report of its newest life.
#[derive(Clone, Debug)]
struct Now {
    life: Life,
    /// When that was, on the monotonic clock.
    at_ms: u64,
    uptime_ms: u64,
    doing: Doing,
    doing_for_ms: u64,
    inbox: Waiting,
    pending: u64,
    held: u64,
    window: u64,
}

/// A report with when it was made.
struct Telling<'a> {
    report: &'a Report,
    heard: Heard<'a>,
    /// How long ago it was made, in milliseconds.
    age_ms: u64,
    /// Over how long a time what is new in it may be spread, if nothing of its life was told before.
    spread_ms: u64,
}

impl Statistics {
    /// A Supervisor tells of a slot's worker: its last report, and how lives before it ended. Reports that are not of the
    /// worker and the topology that the slot names are dropped. The caller passes topologies that have records, and no others.
    pub fn heard_slot(&mut self, worker: &SlotWorker, heard: Heard<'_>) {
        let topology = self.topologies.entry(worker.topology.clone()).or_default();
        let followed = topology.workers.contains_key(&worker.worker);
        let of_it = |report: &&Report| (&report.topology, report.worker) == (&worker.topology, worker.worker);
        for end in &worker.ends {
            let Some(report) = end.last_report.as_ref().filter(of_it) else { continue };
            // Its end is told on the machine's clock, which may be ahead.
            let age_ms = heard.epoch_ms.saturating_sub(end.ended_ms);
            let spread_ms = if followed { 0 } else { u64::MAX };
            topology.apply(Telling { report, heard, age_ms, spread_ms });
            topology.settle(report.worker, report.life);
        }
        if let Some(report) = worker.report.as_ref().filter(of_it) {
            let age_ms = worker.report_age_ms.unwrap_or(0);
            topology.apply(Telling {
                report,
                heard,
                age_ms,
                spread_ms: (report.uptime_us / 1000).saturating_add(age_ms),
            });
        }
    }

    /// A worker reports by itself.
    pub fn heard_worker(&mut self, report: &Report, heard: Heard<'_>) {
        let topology = self.topologies.entry(report.topology.clone()).or_default();
        topology.apply(Telling { report, heard, age_ms: 0, spread_ms: report.uptime_us / 1000 });
    }

    /// An executor of the plan that holds: the component's name, its tasks (one at least, ascending), and who runs it. `doing`
    /// says for how many milliseconds it has been doing that. After a rebalance it has the counts of all earlier executors
    /// whose first task it runs, so that none is lost and sums over a component only grow.
    pub fn executor(
        &self,
        topology: &TopologyId,
        component: &str,
        tasks: &[TaskId],
        worker: WorkerIndex,
        now_ms: u64,
    ) -> Executor {
        let first = tasks.first().copied().unwrap_or(TaskId(0));
        let last = tasks.last().copied().unwrap_or(first);
        let counted = self.topologies.get(topology).map(|topology| &topology.executors);
        let now = counted.and_then(|counted| counted.get(&first)?.now.as_ref());
        let now = now.filter(|now| now_ms.saturating_sub(now.at_ms) < SILENT_MS);
        let later_ms = |ms: u64, now: &Now| ms.saturating_add(now_ms.saturating_sub(now.at_ms));
        let window = |window: Window| {
            let mut sum = Counts::default();
            for (_, counted) in counted.iter().flat_map(|counted| counted.range(first..=last)) {
                match counted.windows.of(window, now_ms) {
                    Some(counted) => counts::add(&mut sum, &counted),
                    None => counts::add(&mut sum, &counted.total),
                }
            }
            let (pending, held, roots) = now.map_or((0, 0, 0), |now| (now.pending, now.held, now.window));
            (window, Counts { pending, held, window: roots, ..sum })
        };
        Executor {
            component: component.to_owned(),
            tasks: (first, last),
            worker,
            uptime_ms: now.map(|now| later_ms(now.uptime_ms, now)),
            doing: now.map(|now| (now.doing, later_ms(now.doing_for_ms, now))),
            inbox: now.map_or_else(Waiting::default, |now| now.inbox),
            windows: Window::ALL.into_iter().map(window).collect(),
        }
    }

    /// The last errors of user code of each component, oldest first, at most ten for each.
    pub fn errors(&self, topology: &TopologyId) -> BTreeMap<String, Vec<ComponentError>> {
        let errors = self.topologies.get(topology).into_iter().flat_map(|topology| &topology.errors);
        errors.map(|(component, errors)| (component.clone(), errors.iter().cloned().collect())).collect()
    }

    /// A topology is gone.
    pub fn forget(&mut self, topology: &TopologyId) {
        self.topologies.remove(topology);
    }
}

impl TopologyStatistics {
    /// Counts what is new in a report.
    fn apply(&mut self, told: Telling<'_>) {
        let report = told.report;
        let lives = self.workers.entry(report.worker).or_default();
        if lives.is_settled(report.life) {
            return;
        }
        let first = !lives.open.contains_key(&report.life);
        let open = lives.open.entry(report.life).or_default();
        if open.number >= report.number {
            return;
        }
        open.number = report.number;
        let spread_ms = if first { told.spread_ms } else { 0 };
        for executor in &report.executors {
            let Some(task) = executor.tasks.first() else { continue };
            let before = open.executors.entry(*task).or_default();
            let more = counts::since(&executor.counts, &before.counts);
            let counted = self.executors.entry(*task).or_default();
            if !counts::is_nothing(&more) {
                counts::add(&mut counted.total, &more);
                counted.windows.count(&more, spread_ms, told.heard.now_ms);
            }
            before.counts = executor.counts.clone();
            counted.is_now(executor, &told);
            for error in &executor.errors {
                if before.error_us.is_none_or(|newest| newest < error.at_us) {
                    let ago_ms = told.age_ms.saturating_add(report.uptime_us.saturating_sub(error.at_us) / 1000);
                    let error = ComponentError {
                        at_ms: told.heard.epoch_ms.saturating_sub(ago_ms),
                        host: told.heard.host.to_owned(),
                        port: told.heard.port,
                        message: error.message.clone(),
                    };
                    keep_error(self.errors.entry(executor.component.clone()).or_default(), error);
                }
            }
            before.error_us = before.error_us.max(executor.errors.iter().map(|error| error.at_us).max());
        }
        while lives.open.len() > OPEN_LIVES
            && let Some((oldest, _)) = lives.open.first_key_value()
        {
            let oldest = *oldest;
            lives.settle(oldest);
        }
    }

    /// A life has ended, and its last report is counted.
    fn settle(&mut self, worker: WorkerIndex, life: Life) {
        let Some(lives) = self.workers.get_mut(&worker) else { return };
        for task in lives.open.get(&life).into_iter().flat_map(|open| open.executors.keys()) {
            if let Some(executor) = self.executors.get_mut(task) {
                executor.now.take_if(|now| now.life <= life);
            }
        }
        lives.settle(life);
    }
}

impl Lives {
    fn is_settled(&self, life: Life) -> bool {
        let forgotten =
            self.settled.len() == SETTLED_PLANS && self.settled.keys().next().is_some_and(|plan| life.plan < *plan);
        forgotten || self.settled.get(&life.plan).is_some_and(|settled| life.incarnation <= *settled)
    }

    /// Drops what is known of this life, and of those that came before it in its slot.
    fn settle(&mut self, life: Life) {
        // One of a plan that is forgotten too: who makes room would find it for ever.
        self.open.retain(|open, _| open.plan != life.plan || open.incarnation > life.incarnation);
        if self.is_settled(life) {
            return;
        }
        self.settled.insert(life.plan, life.incarnation);
        if self.settled.len() > SETTLED_PLANS {
            self.settled.pop_first();
        }
    }
}

impl ExecutorStatistics {
    fn is_now(&mut self, executor: &ExecutorReport, told: &Telling<'_>) {
        let (report, counts) = (told.report, &executor.counts);
        if self.now.as_ref().is_some_and(|now| now.life > report.life) {
            return;
        }
        self.now = Some(Now {
            life: report.life,
            at_ms: told.heard.now_ms.saturating_sub(told.age_ms),
            uptime_ms: report.uptime_us / 1000,
            doing: executor.doing,
            doing_for_ms: report.uptime_us.saturating_sub(executor.doing_since_us) / 1000,
            inbox: executor.inbox,
            pending: counts.pending,
            held: counts.held,
            window: counts.window,
        });
    }
}

/// Keeps an error in the order of time, and drops the oldest beyond the bound.
fn keep_error(errors: &mut VecDeque<ComponentError>, error: ComponentError) {
    let place = errors.partition_point(|kept| kept.at_ms <= error.at_ms);
    errors.insert(place, error);
    if errors.len() > KEPT_ERRORS {
        errors.pop_front();
    }
}

#[cfg(test)]
mod tests;
