//! What an executor counts, and what it is doing now: exact, cumulative for the worker's incarnation.
//!
//! Not here: rates and windows (who reads the reports makes them). Invariant: every tuple is counted once, by the executor
//! that did something with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;
use topology_api::anchor::Anchor;
use topology_api::batch::Anchors;
use topology_api::component::{StreamCounts, Tally};
use topology_api::fail::FailKind;
use topology_api::ids::TaskId;

/// What an executor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "task")]
pub enum Doing {
    /// Not prepared yet.
    Starting,
    /// Nothing waits for it.
    Idle,
    /// In the component's code.
    Executing,
    /// Waiting until this task has room.
    WaitingForRoom(TaskId),
    /// Waiting for calls in flight.
    WaitingForCalls,
    /// A spout with as many roots pending as it may have.
    WaitingForPending,
    /// A spout of a deactivated topology.
    Inactive,
    /// Pausing after a panic or an error.
    Restarting,
    /// Its input has ended.
    Ended,
    /// Stopped, by a fatal error or with the topology.
    Stopped,
}

/// Errors that are kept of an executor.
const KEPT_ERRORS: usize = 10;

/// How many errors of an executor are reported: `topology.max.error.report.per.interval` in each
/// `topology.error.throttle.interval.secs`.
#[derive(Clone, Copy, Debug)]
pub struct ErrorThrottle {
    /// Length of the interval.
    pub interval_us: u64,
    /// Most errors in one.
    pub most: u32,
}

/// Counts and state of one executor; written by it once a turn, read by reports.
pub struct ExecutorStats {
    /// The component's name.
    pub component: String,
    /// The tasks it runs.
    pub tasks: Vec<TaskId>,
    throttle: ErrorThrottle,
    inner: Mutex<Inner>,
    in_hand: Mutex<Option<InHand>>,
}

struct Inner {
    doing: Doing,
    doing_since_us: u64,
    counts: Counts,
    execute_us: Histogram<u64>,
    complete_us: Histogram<u64>,
    errors: VecDeque<ReportedError>,
    /// Beginning of the interval in which errors are counted, and how many there were.
    interval: (u64, u32),
}

/// Counts since the worker started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tuples given to `execute`.
    pub executed: u64,
    /// Bolts: inputs acked. Spouts: roots acked.
    pub acked: u64,
    /// Bolts: inputs failed. Spouts: roots failed.
    pub failed: u64,
    /// Spouts: roots failed, by kind.
    pub failed_by_kind: BTreeMap<FailKind, u64>,
    /// For each task, for each of its streams: tuples emitted, and tuples sent to tasks.
    pub streams: BTreeMap<TaskId, StreamCounts>,
    /// Spouts: roots pending now, held ones among them.
    pub pending: u64,
    /// Spouts: those of them that a bolt says it holds.
    pub held: u64,
    /// Spouts: most roots that may be pending, not counting held ones.
    pub window: u64,
    /// Times that an instance was replaced after a panic.
    pub restarts: u64,
    /// Batches that could not be read.
    pub malformed: u64,
    /// Errors of user code, those that were not reported among them.
    pub errors: u64,
}

/// An error of user code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportedError {
    /// When, in microseconds since the worker started.
    pub at_us: u64,
    /// What it said.
    pub message: String,
}

struct InHand {
    since_us: u64,
    anchors: Arc<Anchors>,
}

/// A copy of an executor's counts and state.
#[derive(Clone, Debug, Serialize)]
pub struct ExecutorReport {
    /// The component's name.
    pub component: String,
    /// The tasks it runs.
    pub tasks: Vec<TaskId>,
    /// What it is doing.
    pub doing: Doing,
    /// Since when, in microseconds since the worker started.
    pub doing_since_us: u64,
    /// Tuples and bytes in its inbox.
    pub inbox: (usize, usize),
    /// What it counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// Time in `execute`, in microseconds for each tuple; a batch's tuples share its mean.
    #[serde(skip)]
    pub execute_us: Histogram<u64>,
    /// Time from emit to the last ack of a root, in microseconds.
    #[serde(skip)]
    pub complete_us: Histogram<u64>,
    /// Its last errors that were reported, oldest first.
    pub last_errors: Vec<ReportedError>,
}

fn histogram() -> Histogram<u64> {
    // One microsecond to about an hour, at two significant digits.
    Histogram::new_with_bounds(1, 1 << 32, 2).expect("the bounds are constants that it accepts")
}

impl ExecutorStats {
    /// Nothing counted yet.
    pub fn new(component: &str, tasks: &[TaskId], throttle: ErrorThrottle) -> Self {
        ExecutorStats {
            component: component.to_owned(),
            tasks: tasks.to_vec(),
            throttle,
            inner: Mutex::new(Inner {
                doing: Doing::Starting,
                doing_since_us: 0,
                counts: Counts::default(),
                execute_us: histogram(),
                complete_us: histogram(),
                errors: VecDeque::new(),
                interval: (0, 0),
            }),
            in_hand: Mutex::new(None),
        }
    }

    /// It does this from now on.
    pub fn doing(&self, doing: Doing, now_us: u64) {
        let mut inner = self.lock();
        if inner.doing != doing {
            inner.doing = doing;
            inner.doing_since_us = now_us;
        }
    }

    /// What it is doing.
    pub fn is_doing(&self) -> Doing {
        self.lock().doing
    }

    /// Counts a turn, and empties the tally.
    pub fn turn(&self, tally: &mut Tally, took_us: u64, now_us: u64) {
        let mut inner = self.lock();
        inner.counts.executed += tally.executed;
        inner.counts.acked += tally.acked;
        inner.counts.failed += tally.failed;
        if let Some(each_us) = took_us.checked_div(tally.executed) {
            inner.execute_us.saturating_record_n(each_us.max(1), tally.executed);
        }
        for message in tally.errors.drain(..) {
            inner.error(message, now_us, self.throttle);
        }
        *tally = Tally { errors: std::mem::take(&mut tally.errors), ..Tally::default() };
    }

    /// Counts something else.
    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.lock().counts);
    }

    /// Counts completed roots: runs of equal complete latencies in microseconds.
    pub fn completed(&self, latencies_us: impl Iterator<Item = (u64, u64)>) {
        let mut inner = self.lock();
        for (latency, roots) in latencies_us {
            inner.counts.acked += roots;
            inner.complete_us.saturating_record_n(latency.max(1), roots);
        }
    }

    /// Keeps an error of user code.
    pub fn error(&self, message: String, now_us: u64) {
        self.lock().error(message, now_us, self.throttle);
    }

    /// It executes a batch with these anchors from now on: so that one who hangs can have its roots failed by others.
    pub fn executes(&self, anchors: &Arc<Anchors>, now_us: u64) {
        self.doing(Doing::Executing, now_us);
        let in_hand = InHand { since_us: now_us, anchors: anchors.clone() };
        *self.in_hand.lock().unwrap_or_else(PoisonError::into_inner) = Some(in_hand);
    }

    /// It has left the component's code.
    pub fn lets_go(&self) {
        *self.in_hand.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// If it is in one call for longer than `timeout_us`: for how long, and the anchors of its batch, once.
    pub fn hangs(&self, now_us: u64, timeout_us: u64) -> Option<(u64, Vec<Anchor>)> {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let hung_us = now_us.saturating_sub(in_hand.as_ref()?.since_us);
        if hung_us <= timeout_us {
            return None;
        }
        let mut anchors = Vec::new();
        in_hand.take()?.anchors.for_each(|anchor| anchors.push(anchor));
        Some((hung_us, anchors))
    }

    /// A copy, for a report.
    pub fn report(&self, inbox: (usize, usize)) -> ExecutorReport {
        let inner = self.lock();
        ExecutorReport {
            component: self.component.clone(),
            tasks: self.tasks.clone(),
            doing: inner.doing,
            doing_since_us: inner.doing_since_us,
            inbox,
            counts: inner.counts.clone(),
            execute_us: inner.execute_us.clone(),
            complete_us: inner.complete_us.clone(),
            last_errors: inner.errors.iter().cloned().collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn error(&mut self, message: String, now_us: u64, throttle: ErrorThrottle) {
        self.counts.errors += 1;
        if now_us >= self.interval.0 + throttle.interval_us {
            self.interval = (now_us, 0);
        }
        self.interval.1 += 1;
        if self.interval.1 > throttle.most {
            return;
        }
        if self.errors.len() == KEPT_ERRORS {
            self.errors.pop_front();
        }
        self.errors.push_back(ReportedError { at_us: now_us, message });
    }
}
