//! What an executor counts, and what it is doing now: exact, cumulative for the worker's incarnation.
//!
//! Not here: rates and windows (who reads the reports makes them). Invariant: every tuple is counted once, by the executor
//! that did something with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use topology_api::anchor::Anchor;
use topology_api::batch::Anchors;
use topology_api::component::{SettledInput, StreamCounts, Tally};
use topology_api::ids::TaskId;
use worker_api::report::{Counts, Distribution, Doing, ExecutorReport, Input, Output, ReportedError, Waiting};

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
    /// Its streams, as its ports number them.
    streams: Vec<String>,
    throttle: ErrorThrottle,
    inner: Mutex<Inner>,
    /// Whether `inner` says [`Doing::Executing`]; for the executor, which says so again and again.
    is_executing: AtomicBool,
}

struct Inner {
    doing: Doing,
    doing_since_us: u64,
    /// The batch that a component's code has now.
    in_hand: Option<InHand>,
    counts: Counts,
    /// What the ports of each task have counted.
    outputs: BTreeMap<TaskId, StreamCounts>,
    execute: Times,
    process: Times,
    complete: Times,
    errors: VecDeque<ReportedError>,
    /// Beginning of the interval in which errors are counted, and how many there were.
    interval: (u64, u32),
}

struct InHand {
    since_us: u64,
    anchors: Arc<Anchors>,
}

/// Times as they are counted: a place for each bucket of a [`Distribution`] up to [`Times::LONGEST_US`], so that to count is
/// an addition.
struct Times {
    sum_us: u64,
    buckets: Box<[u64; Times::BUCKETS]>,
}

impl Times {
    /// Longer ones, of over 12 days, count as this in their bucket, and as they are in the sum.
    const LONGEST_US: u64 = (1 << 40) - 1;
    const BUCKETS: usize = Times::place(Times::LONGEST_US) + 1;

    fn new() -> Self {
        Times { sum_us: 0, buckets: Box::new([0; Times::BUCKETS]) }
    }

    /// Buckets are one wide up to 32, then a sixteenth of their octave.
    const fn place(us: u64) -> usize {
        let shift = if us < 32 { 0 } else { us.ilog2() as usize - 4 };
        16 * shift + (us >> shift) as usize
    }

    /// The highest time of a bucket.
    const fn upper(place: usize) -> u64 {
        let shift = if place < 32 { 0 } else { place / 16 - 1 };
        (((place - 16 * shift) as u64 + 1) << shift) - 1
    }

    /// Counts `count` times that are `sum_us` together, each as their mean.
    fn record(&mut self, sum_us: u64, count: u64) {
        let Some(mean_us) = sum_us.checked_div(count) else { return };
        self.sum_us += sum_us;
        self.buckets[Times::place(mean_us.min(Times::LONGEST_US))] += count;
    }

    fn distribution(&self) -> Distribution {
        let counted = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        Distribution {
            sum_us: self.sum_us,
            buckets: counted.map(|(place, count)| (Times::upper(place), *count)).collect(),
        }
    }
}

impl ExecutorStats {
    /// Nothing counted yet. `streams` are the names of those that it emits; `inputs` those that it takes, as component and
    /// stream, in the order of its subscriptions.
    pub fn new(
        component: &str,
        tasks: &[TaskId],
        streams: Vec<String>,
        inputs: impl IntoIterator<Item = (String, String)>,
        throttle: ErrorThrottle,
    ) -> Self {
        let input = |(component, stream)| Input {
            component,
            stream,
            executed: 0,
            acked: 0,
            failed: 0,
            execute_us: 0,
            process_us: 0,
        };
        ExecutorStats {
            component: component.to_owned(),
            tasks: tasks.to_vec(),
            streams,
            throttle,
            inner: Mutex::new(Inner {
                doing: Doing::Starting,
                doing_since_us: 0,
                in_hand: None,
                counts: Counts { inputs: inputs.into_iter().map(input).collect(), ..Counts::default() },
                outputs: BTreeMap::new(),
                execute: Times::new(),
                process: Times::new(),
                complete: Times::new(),
                errors: VecDeque::new(),
                interval: (0, 0),
            }),
            is_executing: AtomicBool::new(false),
        }
    }

    /// It does this from now on.
    pub fn doing(&self, doing: Doing, now_us: u64) {
        if doing != Doing::Executing || !self.is_executing.load(Ordering::Relaxed) {
            self.does(&mut self.lock(), doing, now_us);
        }
    }

    fn does(&self, inner: &mut Inner, doing: Doing, now_us: u64) {
        self.is_executing.store(doing == Doing::Executing, Ordering::Relaxed);
        if inner.doing != doing {
            inner.doing = doing;
            inner.doing_since_us = now_us;
        }
    }

    /// What it is doing.
    pub fn is_doing(&self) -> Doing {
        self.lock().doing
    }

    /// Counts a turn that took `took_us`, and empties the tally: the component's code is left. `subscription` is the one whose batch was executed.
    pub fn turn(&self, tally: &mut Tally, subscription: Option<usize>, took_us: u64, now_us: u64) {
        let mut inner = self.lock();
        let Inner { counts, execute, process, in_hand, .. } = &mut *inner;
        *in_hand = None;
        counts.executed += tally.executed;
        counts.acked += tally.acked;
        counts.failed += tally.failed;
        if tally.executed > 0 {
            // What is acked by the return of `execute` is so when its time is over.
            let returned = tally.acked + tally.failed;
            execute.record(took_us, tally.executed);
            process.record(took_us, returned);
            if let Some(input) = subscription.and_then(|subscription| counts.inputs.get_mut(subscription)) {
                input.executed += tally.executed;
                input.acked += tally.acked;
                input.failed += tally.failed;
                input.execute_us += took_us;
                input.process_us += if returned > 0 { took_us } else { 0 };
            }
        }
        for SettledInput { subscription, acked, took_us } in tally.settled.drain(..) {
            let (acked, failed) = (u64::from(acked), u64::from(!acked));
            counts.acked += acked;
            counts.failed += failed;
            process.record(took_us, 1);
            if let Some(input) = counts.inputs.get_mut(subscription) {
                input.acked += acked;
                input.failed += failed;
                input.process_us += took_us;
            }
        }
        for message in tally.errors.drain(..) {
            inner.error(message, now_us, self.throttle);
        }
        (tally.executed, tally.acked, tally.failed) = (0, 0, 0);
    }

    /// Whether its ports count anything.
    pub fn emits(&self) -> bool {
        !self.streams.is_empty()
    }

    /// What the ports of a task have counted so far, and other counts with it.
    pub fn asked(&self, task: TaskId, count: impl FnOnce(&mut StreamCounts, &mut Counts)) {
        let mut inner = self.lock();
        let Inner { outputs, counts, .. } = &mut *inner;
        count(outputs.entry(task).or_default(), counts);
    }

    /// What the ports of a task have counted so far.
    pub fn outputs(&self, task: TaskId, count: impl FnOnce(&mut StreamCounts)) {
        count(self.lock().outputs.entry(task).or_default());
    }

    /// Roots that are pending, of a spout.
    pub fn pending(&self) -> u64 {
        self.lock().counts.pending
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
            inner.complete.record(latency * roots, roots);
        }
    }

    /// Keeps an error of user code.
    pub fn error(&self, message: String, now_us: u64) {
        self.lock().error(message, now_us, self.throttle);
    }

    /// It executes a batch with these anchors from now on: so that one who hangs can have its roots failed by others.
    pub fn executes(&self, anchors: &Arc<Anchors>, now_us: u64) {
        let mut inner = self.lock();
        self.does(&mut inner, Doing::Executing, now_us);
        inner.in_hand = Some(InHand { since_us: now_us, anchors: anchors.clone() });
    }

    /// If it is in one call for longer than `timeout_us`: for how long, and the anchors of its batch, once.
    pub fn hangs(&self, now_us: u64, timeout_us: u64) -> Option<(u64, Vec<Anchor>)> {
        let in_hand = &mut self.lock().in_hand;
        let hung_us = now_us.saturating_sub(in_hand.as_ref()?.since_us);
        if hung_us <= timeout_us {
            return None;
        }
        let mut anchors = Vec::new();
        in_hand.take()?.anchors.for_each(|anchor| anchors.push(anchor));
        Some((hung_us, anchors))
    }

    /// A copy, for a report.
    pub fn report(&self, inbox: Waiting) -> ExecutorReport {
        let inner = self.lock();
        let mut counts = Counts {
            execute: inner.execute.distribution(),
            process: inner.process.distribution(),
            complete: inner.complete.distribution(),
            ..inner.counts.clone()
        };
        counts.outputs = self.streams.iter().map(|stream| (stream.clone(), Output::default())).collect();
        for outputs in inner.outputs.values() {
            for (stream, (emitted, transferred)) in self.streams.iter().zip(outputs) {
                let output = counts.outputs.entry(stream.clone()).or_default();
                output.emitted += emitted;
                output.transferred += transferred;
            }
        }
        ExecutorReport {
            component: self.component.clone(),
            tasks: self.tasks.clone(),
            doing: inner.doing,
            doing_since_us: inner.doing_since_us,
            inbox,
            counts,
            errors: inner.errors.iter().cloned().collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn error(&mut self, message: String, now_us: u64, throttle: ErrorThrottle) {
        self.counts.error_count += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_buckets_of_a_distribution() {
        for us in (0..5000).chain([1 << 20, u64::from(u32::MAX), Times::LONGEST_US]) {
            assert_eq!(Times::upper(Times::place(us)), Distribution::bucket(us), "{us}");
        }
        let (mut times, mut same) = (Times::new(), Distribution::default());
        for us in [0, 7, 7, 40, 100_000] {
            times.record(3 * us, 3);
            same.record(us, 3);
        }
        assert_eq!(times.distribution(), same);
        times.record(u64::MAX / 2, 1);
        assert_eq!(times.distribution().buckets.last(), Some(&(Times::LONGEST_US, 1)));
    }

    #[test]
    fn a_turn_counts_for_the_stream_whose_batch_it_was() {
        let inputs = ["a", "b"].map(|component| (component.to_owned(), "default".to_owned()));
        let throttle = ErrorThrottle { interval_us: 1, most: 1 };
        let stats = ExecutorStats::new("bolt", &[TaskId(1)], vec!["out".to_owned()], inputs, throttle);
        // 4 of `a`, one of them failed; one of `b` that is settled later, after 70 µs.
        let mut tally = Tally { executed: 4, acked: 3, failed: 1, ..Tally::default() };
        stats.turn(&mut tally, Some(0), 10, 10);
        let mut tally = Tally { executed: 1, ..Tally::default() };
        stats.turn(&mut tally, Some(1), 5, 20);
        let settled = SettledInput { subscription: 1, acked: true, took_us: 70 };
        tally.settled.push(settled);
        stats.turn(&mut tally, None, 1, 90);
        assert_eq!((tally.executed, tally.settled.len()), (0, 0));
        stats.outputs(TaskId(1), |outputs| *outputs = vec![(6, 12)]);

        let counts = stats.report(Waiting::default()).counts;
        assert_eq!((counts.executed, counts.acked, counts.failed), (5, 4, 1));
        let input = |component: &str, [executed, acked, failed, execute_us, process_us]: [u64; 5]| Input {
            component: component.to_owned(),
            stream: "default".to_owned(),
            executed,
            acked,
            failed,
            execute_us,
            process_us,
        };
        assert_eq!(counts.inputs, [input("a", [4, 3, 1, 10, 10]), input("b", [1, 1, 0, 5, 70])]);
        assert_eq!(counts.execute, Distribution { sum_us: 15, buckets: vec![(2, 4), (5, 1)] });
        assert_eq!(counts.process, Distribution { sum_us: 80, buckets: vec![(2, 4), (71, 1)] });
        let output = Output { emitted: 6, transferred: 12 };
        assert_eq!(counts.outputs, BTreeMap::from([("out".to_owned(), output)]));
    }
}
