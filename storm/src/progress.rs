//! How a run gets on, from one look at the workers' reports to the next: a line of counts, and who waits for whom if
//! nothing moves.
//!
//! Not here: when to look, and where the lines go (`local`). Invariant: the same looks at the same times give the same lines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use topology_api::ids::TaskId;
use topology_api::topology::Topology;
use worker::process::WorkerReport;
use worker_api::report::{Doing, ExecutorReport};

use crate::report::{grouped, roots, span};

/// So long nothing moves before it is told.
const STUCK: Duration = Duration::from_secs(5);

/// What was seen of a run so far.
pub(crate) struct Progress {
    /// The component of each task.
    components: BTreeMap<TaskId, String>,
    spouts: BTreeSet<String>,
    last: Totals,
    last_at: Duration,
    moved_at: Duration,
    /// How long nothing must have moved until it is told again.
    patience: Duration,
}

/// What one look shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Counts, in one line.
    pub(crate) line: String,
    /// Who waits for whom, if nothing has moved for long and that was not said yet.
    pub(crate) stuck: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    acked: u64,
    failed: u64,
    executed: u64,
    emitted: u64,
}

impl Progress {
    /// Nothing seen yet of this topology.
    pub(crate) fn new(topology: &Topology) -> Self {
        let mut progress = Progress {
            components: BTreeMap::new(),
            spouts: BTreeSet::new(),
            last: Totals::default(),
            last_at: Duration::ZERO,
            moved_at: Duration::ZERO,
            patience: STUCK,
        };
        for component in topology.components() {
            progress.components.extend(component.tasks().iter().map(|task| (*task, component.name().to_owned())));
            if component.is_spout() {
                progress.spouts.insert(component.name().to_owned());
            }
        }
        progress
    }

    /// Looks at the reports of all workers, `at` since the run began.
    pub(crate) fn look(&mut self, at: Duration, reports: &[WorkerReport]) -> Look {
        let (mut totals, mut pending) = (Totals::default(), 0);
        for executor in reports.iter().flat_map(|report| &report.executors) {
            let counts = &executor.counts;
            totals.executed += counts.executed;
            totals.emitted += counts.outputs.values().map(|output| output.emitted).sum::<u64>();
            if self.spouts.contains(&executor.component) {
                totals.acked += counts.acked;
                totals.failed += counts.failed;
                pending += counts.pending;
            }
        }
        let since = at.saturating_sub(self.last_at).as_secs_f64();
        let rate = if since > 0.0 { totals.acked.saturating_sub(self.last.acked) as f64 / since } else { 0.0 };
        let line = format!(
            "{:.0} s: {} acked, {} a second, {} pending, {} failed",
            at.as_secs_f64(),
            grouped(totals.acked),
            grouped(rate as u64),
            grouped(pending),
            grouped(totals.failed)
        );
        if totals != self.last || pending == 0 {
            (self.moved_at, self.patience) = (at, STUCK);
        }
        (self.last, self.last_at) = (totals, at);
        let still = at.saturating_sub(self.moved_at);
        let stuck = (still >= self.patience).then(|| {
            self.patience = still * 2;
            let roots = roots(pending);
            format!("stuck? nothing has moved for {} with {roots} pending: {}", span(still), self.waits(reports))
        });
        Look { line, stuck }
    }

    /// Who waits for whom, those first at which a chain of waiting ends.
    fn waits(&self, reports: &[WorkerReport]) -> String {
        let mut said = BTreeSet::new();
        for report in reports {
            for executor in &report.executors {
                said.extend(self.wait(executor, report.uptime_us));
            }
        }
        let mut said: Vec<String> = said.into_iter().map(|(_, words)| words).collect();
        let held: u64 = reports.iter().flat_map(|report| &report.executors).map(|executor| executor.counts.held).sum();
        if held > 0 {
            said.push(format!("bolts hold {} of them without ack or fail", grouped(held)));
        }
        if said.is_empty() {
            "no executor does anything, which is a fault of the runtime".to_owned()
        } else {
            said.join("; ")
        }
    }

    /// What an executor does that others may wait for, with its rank; `None` for one that has nothing to do.
    fn wait(&self, executor: &ExecutorReport, uptime_us: u64) -> Option<(u8, String)> {
        let name = &executor.component;
        let since = span(Duration::from_micros(uptime_us.saturating_sub(executor.doing_since_us)));
        Some(match executor.doing {
            Doing::Executing => (0, format!("`{name}` has been executing for {since}")),
            Doing::WaitingForCalls => (1, format!("`{name}` has been waiting for its calls in flight for {since}")),
            Doing::Restarting => (2, format!("`{name}` pauses after an error or a panic")),
            Doing::Starting => (3, format!("`{name}` has been starting for {since}")),
            Doing::WaitingForRoom(task) => {
                let of = self.components.get(&task).map_or("?", String::as_str);
                (4, format!("`{name}` waits for room at task {task} (`{of}`)"))
            }
            Doing::WaitingForPending => (5, format!("`{name}` has as many roots pending as it may")),
            Doing::Idle | Doing::Inactive | Doing::Ended | Doing::Stopped => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use topology_api::prelude::*;
    use worker::stats::{ErrorThrottle, ExecutorStats};
    use worker_api::report::Waiting;

    use super::*;

    struct Nothing;

    impl Spout for Nothing {
        type Output = Values;
        type MessageId = u64;

        fn next(&mut self, _: &mut Roots<Values, u64>) -> Result<Next> {
            Ok(Next::Done)
        }
    }

    impl Bolt for Nothing {
        type Input = Values;
        type Output = Values;

        fn execute(&mut self, _: Values, _: &mut Emitter<Values>) -> Result {
            Ok(())
        }
    }

    /// `count` has task 1, `lines` task 2, `split` tasks 3 and 4.
    fn topology() -> Topology {
        let mut topology = Topology::builder("word-count");
        let lines = topology.spout("lines", || Nothing).add();
        let split = topology.bolt("split", || Nothing).parallelism(2).shuffle(&lines).add();
        topology.bolt("count", || Nothing).shuffle(&split).add();
        topology.build().unwrap()
    }

    fn executor(component: &str, doing: Doing, since_s: u64) -> ExecutorReport {
        let stats =
            ExecutorStats::new(component, &[], Vec::new(), [], ErrorThrottle { interval_us: 10_000_000, most: 5 });
        stats.doing(doing, since_s * 1_000_000);
        stats.report(Waiting::default())
    }

    fn reports(uptime_s: u64, pending: u64, executors: &[(&str, Doing, u64)]) -> Vec<WorkerReport> {
        let mut lines = executor("lines", Doing::Idle, 0);
        (lines.counts.acked, lines.counts.failed, lines.counts.pending) = (12_345, 6, pending);
        let others = executors.iter().map(|(component, doing, since_s)| executor(component, *doing, *since_s));
        vec![WorkerReport {
            uptime_us: uptime_s * 1_000_000,
            inbox_bytes: 0,
            executors: [lines].into_iter().chain(others).collect(),
            links: BTreeMap::new(),
            metrics: BTreeMap::new(),
        }]
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_line_counts_roots_and_their_rate_since_the_last() {
        let mut progress = Progress::new(&topology());
        let look = progress.look(seconds(10), &reports(10, 1000, &[]));
        assert_eq!(look.line, "10 s: 12,345 acked, 1,234 a second, 1,000 pending, 6 failed");
        assert_eq!(look.stuck, None);
        let look = progress.look(seconds(11), &reports(11, 1000, &[]));
        assert_eq!(look.line, "11 s: 12,345 acked, 0 a second, 1,000 pending, 6 failed");
    }

    #[test]
    fn it_tells_who_waits_for_whom_and_again_after_twice_the_time() {
        let executors = [
            ("split", Doing::WaitingForRoom(TaskId(1)), 3),
            ("split", Doing::WaitingForRoom(TaskId(1)), 2),
            ("count", Doing::Executing, 1),
        ];
        let mut progress = Progress::new(&topology());
        let told: Vec<(u64, String)> = (1..=20)
            .filter_map(|at| Some((at, progress.look(seconds(at), &reports(at, 7, &executors)).stuck?)))
            .collect();
        let expected = |still, executing| {
            format!(
                "stuck? nothing has moved for {still} s with 7 roots pending: \
                 `count` has been executing for {executing} s; `split` waits for room at task 1 (`count`)"
            )
        };
        assert_eq!(told, [(6, expected("5.00", "5.00")), (11, expected("10.0", "10.0"))]);
    }

    #[test]
    fn nothing_is_stuck_when_nothing_is_pending() {
        let mut progress = Progress::new(&topology());
        for at in 1..100 {
            assert_eq!(progress.look(seconds(at), &reports(at, 0, &[])).stuck, None);
        }
        assert!(progress.look(seconds(104), &reports(104, 1, &[])).stuck.is_some());
    }

    #[test]
    fn held_roots_are_named() {
        let mut progress = Progress::new(&topology());
        let mut reports = reports(9, 2, &[]);
        reports[0].executors[0].counts.held = 2;
        progress.look(seconds(1), &reports);
        let said = "stuck? nothing has moved for 8.00 s with 2 roots pending: bolts hold 2 of them without ack or fail";
        assert_eq!(progress.look(seconds(9), &reports).stuck.unwrap(), said);
    }
}
