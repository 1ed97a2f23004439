//! Adds executors up to components and topologies, by Storm's definitions.
//!
//! Not here: windows of time (Nimbus counts them). Invariants: a mean is weighted by what it is a mean of; no sum wraps.

use std::collections::BTreeMap;

use nimbus_api::topology::{Executor, Window};
use worker_api::report::{Counts, Input, Output};

use super::format::is_system;

/// What executors counted together in one window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) emitted: u64,
    pub(crate) transferred: u64,
    pub(crate) executed: u64,
    pub(crate) acked: u64,
    pub(crate) failed: u64,
    /// What bolts took.
    pub(crate) inputs: InputSum,
    complete_us: u64,
    completed: u64,
}

/// What came in together.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputSum {
    pub(crate) executed: u64,
    pub(crate) acked: u64,
    pub(crate) failed: u64,
    execute_us: u64,
    /// Sum over streams of mean × executed.
    process_us: f64,
}

impl Sum {
    /// Of these executors; streams of the runtime's own count in `emitted` and `transferred` with `sys` only.
    pub(crate) fn of<'a>(executors: impl IntoIterator<Item = &'a Executor>, window: Option<Window>, sys: bool) -> Sum {
        let mut sum = Sum::default();
        for counts in executors.into_iter().filter_map(|executor| counts(executor, window)) {
            for (stream, output) in &counts.outputs {
                if sys || !is_system(stream) {
                    sum.emitted = sum.emitted.saturating_add(output.emitted);
                    sum.transferred = sum.transferred.saturating_add(output.transferred);
                }
            }
            sum.executed = sum.executed.saturating_add(counts.executed);
            sum.acked = sum.acked.saturating_add(counts.acked);
            sum.failed = sum.failed.saturating_add(counts.failed);
            counts.inputs.iter().for_each(|input| sum.inputs.add(input));
            sum.complete_us = sum.complete_us.saturating_add(counts.complete.sum_us);
            sum.completed = sum.completed.saturating_add(counts.complete.count());
        }
        sum
    }

    /// Mean milliseconds from a root's emit to its last ack; `None` if none was acked.
    pub(crate) fn complete_ms(&self) -> Option<f64> {
        mean_ms(self.complete_us as f64, self.completed)
    }
}

impl InputSum {
    fn add(&mut self, input: &Input) {
        self.executed = self.executed.saturating_add(input.executed);
        self.acked = self.acked.saturating_add(input.acked);
        self.failed = self.failed.saturating_add(input.failed);
        self.execute_us = self.execute_us.saturating_add(input.execute_us);
        // As in Storm: weighted by what was executed, not by what was acked.
        let settled = input.acked.saturating_add(input.failed);
        if settled > 0 {
            self.process_us += input.process_us as f64 / settled as f64 * input.executed as f64;
        }
    }

    /// Mean milliseconds in `execute`; `None` if nothing was executed.
    pub(crate) fn execute_ms(&self) -> Option<f64> {
        mean_ms(self.execute_us as f64, self.executed)
    }

    /// Mean milliseconds from the beginning of `execute` to ack or fail; `None` if nothing was executed.
    pub(crate) fn process_ms(&self) -> Option<f64> {
        mean_ms(self.process_us, self.executed)
    }
}

fn mean_ms(sum_us: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum_us / count as f64 / 1000.0)
}

fn counts(executor: &Executor, window: Option<Window>) -> Option<&Counts> {
    executor.windows.get(&window?)
}

/// By stream, what these executors sent.
pub(crate) fn outputs<'a>(
    executors: impl IntoIterator<Item = &'a Executor>,
    window: Option<Window>,
    sys: bool,
) -> BTreeMap<String, Output> {
    let mut outputs = BTreeMap::<String, Output>::new();
    for counts in executors.into_iter().filter_map(|executor| counts(executor, window)) {
        for (stream, output) in counts.outputs.iter().filter(|(stream, _)| sys || !is_system(stream)) {
            let sum = outputs.entry(stream.clone()).or_default();
            sum.emitted = sum.emitted.saturating_add(output.emitted);
            sum.transferred = sum.transferred.saturating_add(output.transferred);
        }
    }
    outputs
}

/// By component and stream, what these executors took.
pub(crate) fn inputs<'a>(
    executors: impl IntoIterator<Item = &'a Executor>,
    window: Option<Window>,
) -> BTreeMap<(String, String), InputSum> {
    let mut inputs = BTreeMap::<_, InputSum>::new();
    for counts in executors.into_iter().filter_map(|executor| counts(executor, window)) {
        for input in &counts.inputs {
            inputs.entry((input.component.clone(), input.stream.clone())).or_default().add(input);
        }
    }
    inputs
}

/// The part of the last ten minutes that an executor spent in `execute`; 1 is as much as one executor can.
///
/// `counted_secs` is for how long its counts are about it: the executor's uptime, or more if earlier lives count too.
pub(crate) fn capacity(executor: &Executor, counted_secs: u64) -> f64 {
    let sum = Sum::of([executor], Some(Window::TenMinutes), true);
    match counted_secs.min(600) {
        0 => 0.0,
        seconds => sum.inputs.execute_us as f64 / (seconds as f64 * 1_000_000.0),
    }
}
