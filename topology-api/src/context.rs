//! What a task knows of itself and its topology, and where it registers its metrics.
//!
//! Not here: the configuration's rules (`config`). Invariant: all tasks of an executor's life see the same context.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;
use serde_json::Value as Json;

use crate::ids::TaskId;

/// Proves to a source or sink which of two workers that both believe to run a task is the later one: compares by plan
/// version, then incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken {
    /// Version of the plan at which the task came to its worker.
    pub plan_version: u64,
    /// Which start of that worker.
    pub incarnation: u64,
}

/// What a task knows: given to `open` and `prepare`, cheap to clone and to keep.
#[derive(Clone)]
pub struct Context(Arc<ContextParts>);

/// The parts of a [`Context`], filled in by the runtime.
#[doc(hidden)]
pub struct ContextParts {
    pub topology: String,
    pub component: String,
    pub task: TaskId,
    pub tasks: Arc<BTreeMap<String, Vec<TaskId>>>,
    pub conf: Arc<BTreeMap<String, Json>>,
    pub fencing: FencingToken,
    pub worker: u16,
    pub metrics: Metrics,
    pub wake: Wake,
}

impl Context {
    /// Made by the runtime for each start of a task.
    #[doc(hidden)]
    pub fn new(parts: ContextParts) -> Self {
        Context(Arc::new(parts))
    }

    /// The topology's name.
    pub fn topology(&self) -> &str {
        &self.0.topology
    }

    /// The component's name, as it was given to the builder.
    pub fn component(&self) -> &str {
        &self.0.component
    }

    /// This task's id.
    pub fn task(&self) -> TaskId {
        self.0.task
    }

    /// This task's place among the tasks of its component, 0-based.
    pub fn task_index(&self) -> usize {
        self.peers().iter().position(|task| *task == self.0.task).unwrap_or(0)
    }

    /// All tasks of this component, ascending, this one among them.
    pub fn peers(&self) -> &[TaskId] {
        self.tasks_of(&self.0.component)
    }

    /// The tasks of a component, ascending; empty if there is none of that name.
    pub fn tasks_of(&self, component: &str) -> &[TaskId] {
        self.0.tasks.get(component).map_or(&[], Vec::as_slice)
    }

    /// The value of a configuration key, the component's own before the topology's.
    pub fn conf(&self, key: &str) -> Option<&Json> {
        self.0.conf.get(key)
    }

    /// Which life of which placement this is: for sources and sinks that refuse an older one.
    pub fn fencing_token(&self) -> FencingToken {
        self.0.fencing
    }

    /// The worker's place in the plan, 0-based.
    pub fn worker(&self) -> u16 {
        self.0.worker
    }

    /// Where this task registers counters, gauges and histograms.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Ends this spout's idling early: for a source that is told from elsewhere that there is something to read.
    pub fn wake(&self) -> Wake {
        self.0.wake.clone()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} task {})", self.0.component, self.0.task)
    }
}

/// Wakes an idle spout; may be called from any thread.
#[derive(Clone)]
pub struct Wake(Arc<dyn Fn() + Send + Sync>);

impl Wake {
    /// From what the runtime does to wake the executor.
    #[doc(hidden)]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Wake(Arc::new(wake))
    }

    /// Has the spout asked for its next tuple now.
    pub fn wake(&self) {
        (self.0)();
    }
}

/// A task's metrics, by name; a name that is registered twice gives the same metric again.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<String, Metric>>>);

/// One registered metric.
#[derive(Clone)]
#[non_exhaustive]
pub enum Metric {
    /// Only counts up.
    Counter(Counter),
    /// Goes up and down.
    Gauge(Gauge),
    /// A distribution.
    Distribution(Distribution),
}

/// A number that only counts up; a cheap clone.
#[derive(Clone, Default, Debug)]
pub struct Counter(Arc<AtomicU64>);

/// A number that goes up and down; a cheap clone.
#[derive(Clone, Default, Debug)]
pub struct Gauge(Arc<AtomicI64>);

/// A distribution of values 1 ..= 2⁶⁰ at three significant digits; a cheap clone.
#[derive(Clone, Debug)]
pub struct Distribution(Arc<Mutex<Histogram<u64>>>);

impl Metrics {
    /// The counter of this name.
    pub fn counter(&self, name: &str) -> Counter {
        match self.register(name, || Metric::Counter(Counter::default())) {
            Metric::Counter(counter) => counter,
            _ => Counter::default(),
        }
    }

    /// The gauge of this name.
    pub fn gauge(&self, name: &str) -> Gauge {
        match self.register(name, || Metric::Gauge(Gauge::default())) {
            Metric::Gauge(gauge) => gauge,
            _ => Gauge::default(),
        }
    }

    /// The distribution of this name.
    pub fn distribution(&self, name: &str) -> Distribution {
        match self.register(name, || Metric::Distribution(Distribution::default())) {
            Metric::Distribution(distribution) => distribution,
            _ => Distribution::default(),
        }
    }

    /// All of them, by name; read by the worker's reports.
    pub fn all(&self) -> Vec<(String, Metric)> {
        let metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.iter().map(|(name, metric)| (name.clone(), metric.clone())).collect()
    }

    /// A name that is taken by another kind keeps its first metric; the caller gets one that is not shown.
    fn register(&self, name: &str, make: impl FnOnce() -> Metric) -> Metric {
        let mut metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.entry(name.to_owned()).or_insert_with(make).clone()
    }
}

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Distribution {
    fn default() -> Self {
        let histogram = Histogram::new_with_max(1 << 60, 3).expect("the bounds are constants that it accepts");
        Distribution(Arc::new(Mutex::new(histogram)))
    }
}

impl Distribution {
    /// Records one value; what is above the range counts as its end.
    pub fn record(&self, value: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(value);
    }

    /// A copy of what was recorded so far.
    pub fn snapshot(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
