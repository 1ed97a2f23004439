//! Checks of a user's own: what they are given of a run, and when they are judged.
//!
//! Not here: what the runtime promises of every topology (`oracle`). Invariant: checks only look, so that a run is the same without them.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use worker::process::WorkerReport;

use crate::oracle::{Invariant, Observation, Settled, Violation};
use crate::workload::Shape;

/// What a run has come to, as a check of one's own sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Since when it runs, on the virtual clock.
    pub at: Duration,
    /// Roots that spouts have emitted, replays among them.
    pub emitted: u64,
    /// Of these, those that were acked.
    pub acked: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that are pending in workers that live. The others were so when their worker was killed.
    pub pending: u64,
    /// Workers that are ready.
    pub workers: usize,
}

/// When a check is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Each second of the virtual clock, and at the end.
    EachSecond,
    /// When the run is over and all has settled.
    AtTheEnd,
}

/// Says what does not hold.
type Judge = Arc<dyn Fn(&Seen) -> Result<(), String> + Send + Sync>;

/// A check of one's own; a cheap clone.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    when: When,
    judge: Judge,
}

impl Check {
    /// A check of this name.
    pub fn new(
        name: &'static str,
        when: When,
        judge: impl Fn(&Seen) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Check { name, when, judge: Arc::new(judge) }
    }

    fn judge(&self, seen: &Seen) -> Result<(), Violation> {
        // An assertion says what does not hold as well.
        let judged = catch_unwind(AssertUnwindSafe(|| (self.judge)(seen)));
        let judged = judged.unwrap_or_else(|panic| Err(format!("it panicked: {}", told(&*panic))));
        judged.map_err(|what| Violation { invariant: self.name, what })
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.when)
    }
}

fn told(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text")
}

/// The checks of a run.
#[derive(Default)]
pub(crate) struct Checks {
    all: Vec<Check>,
    spouts: BTreeSet<String>,
    /// What the spouts of workers that have ended had counted.
    ended: Arc<Mutex<Seen>>,
}

impl Checks {
    /// These, of a topology of this shape.
    pub(crate) fn of(all: Vec<Check>, shape: &Shape) -> Self {
        let spouts = shape.graph.components.iter().filter(|component| component.kind == "spout");
        Checks { all, spouts: spouts.map(|spout| spout.name.clone()).collect(), ended: Arc::default() }
    }

    /// Who hears of workers that end.
    pub(crate) fn listener(&self) -> Box<dyn Invariant + Send> {
        Box::new(Ended { spouts: self.spouts.clone(), counted: self.ended.clone() })
    }

    /// What does not hold, of what is judged now; `living` are the reports of workers that are ready.
    pub(crate) fn judge(
        &self,
        is_over: bool,
        at: Duration,
        living: impl FnOnce() -> Vec<WorkerReport>,
    ) -> Vec<Violation> {
        let due: Vec<&Check> = self.all.iter().filter(|check| is_over || check.when == When::EachSecond).collect();
        if due.is_empty() {
            return Vec::new();
        }
        let mut seen = Seen { at, ..*self.ended.lock().unwrap_or_else(PoisonError::into_inner) };
        for report in living() {
            seen.workers += 1;
            let pending = seen.add(&self.spouts, &report);
            seen.pending += pending;
        }
        due.into_iter().filter_map(|check| check.judge(&seen).err()).collect()
    }
}

impl Seen {
    /// Adds what a life of a worker has counted; gives what is pending in it.
    fn add(&mut self, spouts: &BTreeSet<String>, report: &WorkerReport) -> u64 {
        let mut pending = 0;
        for executor in report.executors.iter().filter(|executor| spouts.contains(&executor.component)) {
            let counts = &executor.counts;
            self.acked += counts.acked;
            self.failed += counts.failed;
            self.emitted += counts.acked + counts.failed + counts.pending;
            pending += counts.pending;
        }
        pending
    }
}

/// Counts what spouts of workers that have ended had counted.
struct Ended {
    spouts: BTreeSet<String>,
    counted: Arc<Mutex<Seen>>,
}

impl Invariant for Ended {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        if let Observation::WorkerEnded { report, .. } = observation {
            self.counted.lock().unwrap_or_else(PoisonError::into_inner).add(&self.spouts, report);
        }
        Ok(())
    }

    fn finish(&mut self, _: &Settled) -> Result<(), Violation> {
        Ok(())
    }
}
