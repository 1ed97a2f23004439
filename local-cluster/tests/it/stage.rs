//! What the tests of this folder share: a tuple, bolts and spouts out of closures, and waiting for a condition.
//!
//! Not here: feeds and captures, which users have as well (`local_cluster::testing`). Invariant: nothing here waits for a
//! time to pass; a condition that never comes true ends the test by its name.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seam::Seam;
use storm::local_cluster::LocalCluster;
use storm::prelude::*;
use tokio::time::Instant;
use worker_api::report::{Doing, ExecutorReport, Waiting};

#[tuple]
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item {
    pub(crate) n: u64,
}

pub(crate) fn items(numbers: impl IntoIterator<Item = u64>) -> Vec<Item> {
    numbers.into_iter().map(|n| Item { n }).collect()
}

/// What happened, in order; a cheap clone.
pub(crate) struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Log(self.0.clone())
    }
}

impl<T: Clone> Log<T> {
    pub(crate) fn new() -> Self {
        Log(Arc::default())
    }

    pub(crate) fn add(&self, entry: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<T: Clone + Ord> Log<T> {
    pub(crate) fn sorted(&self) -> Vec<T> {
        let mut all = self.all();
        all.sort();
        all
    }
}

/// A bolt that does what a closure says.
pub(crate) struct Does<I, O, F> {
    execute: F,
    context: Option<Context>,
    types: PhantomData<fn(I) -> O>,
}

/// A factory of bolts that do what a clone of this closure says.
pub(crate) fn does<I, O, F>(execute: F) -> impl Fn() -> Does<I, O, F> + Send + Sync + 'static
where
    I: Input,
    O: Output,
    F: FnMut(&Context, I, &mut Emitter<O, I::Mode>) -> Result + Clone + Send + Sync + 'static,
{
    move || Does { execute: execute.clone(), context: None, types: PhantomData }
}

impl<I, O, F> Bolt for Does<I, O, F>
where
    I: Input,
    O: Output,
    F: FnMut(&Context, I, &mut Emitter<O, I::Mode>) -> Result + Send + 'static,
{
    type Input = I;
    type Output = O;

    fn prepare(&mut self, context: &Context) -> Result {
        self.context = Some(context.clone());
        Ok(())
    }

    fn execute(&mut self, input: I, out: &mut Emitter<O, I::Mode>) -> Result {
        let context = self.context.as_ref().expect("a bolt is prepared before its first tuple");
        (self.execute)(context, input, out)
    }
}

/// A spout that asks a closure, and logs each call of the runtime.
pub(crate) struct Asks<O, F> {
    next: F,
    log: Log<String>,
    types: PhantomData<fn() -> O>,
}

/// A factory of spouts that ask a clone of this closure; `log` gets each call but `next`.
pub(crate) fn asks<O, F>(log: &Log<String>, next: F) -> impl Fn() -> Asks<O, F> + Send + Sync + 'static
where
    O: Output,
    F: FnMut(&mut Roots<'_, O, u64>) -> Result<Next> + Clone + Send + Sync + 'static,
{
    let log = log.clone();
    move || Asks { next: next.clone(), log: log.clone(), types: PhantomData }
}

impl<O, F> Spout for Asks<O, F>
where
    O: Output,
    F: FnMut(&mut Roots<'_, O, u64>) -> Result<Next> + Send + 'static,
{
    type Output = O;
    type MessageId = u64;

    fn open(&mut self, _: &Context) -> Result {
        self.log.add("open".to_owned());
        Ok(())
    }

    fn next(&mut self, out: &mut Roots<'_, O, u64>) -> Result<Next> {
        (self.next)(out)
    }

    fn ack(&mut self, id: u64) {
        self.log.add(format!("ack {id}"));
    }

    fn fail(&mut self, id: u64, reason: &FailReason) {
        self.log.add(format!("fail {id}: {reason}"));
    }

    fn activate(&mut self) {
        self.log.add("activate".to_owned());
    }

    fn deactivate(&mut self) {
        self.log.add("deactivate".to_owned());
    }

    fn close(&mut self) {
        self.log.add("close".to_owned());
    }
}

/// Starts what was written, in so many workers.
pub(crate) async fn start(topology: TopologyBuilder, workers: u16, seam: &Seam) -> LocalCluster {
    let topology = topology.build().unwrap_or_else(|error| panic!("{error}"));
    let cluster = LocalCluster::builder(topology).workers(workers).seam(seam.clone());
    cluster.start().await.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs what was written to its end, in so many workers.
pub(crate) async fn run(topology: TopologyBuilder, workers: u16, seam: &Seam) {
    let cluster = start(topology, workers, seam).await;
    ended(&cluster, seam).await;
    cluster.stop(Duration::ZERO).await;
}

/// Waits until the input of all components is finished.
pub(crate) async fn ended(cluster: &LocalCluster, seam: &Seam) {
    tokio::select! {
        biased;
        ended = cluster.ended() => ended.unwrap_or_else(|error| panic!("{error}")),
        () = seam.sleep(LONG) => panic!("the run did not end: {:#?}", states(cluster)),
    }
}

/// Longer than anything that shall happen, on a paused clock.
const LONG: Duration = Duration::from_secs(20_000);

/// Waits on a paused clock until something is so.
pub(crate) async fn until(seam: &Seam, what: impl fmt::Display, mut is_so: impl FnMut() -> bool) {
    let deadline = seam.now() + LONG;
    let mut step = Duration::from_millis(1);
    while !is_so() {
        assert!(seam.now() < deadline, "it never came true that {what}");
        seam.sleep(step).await;
        step = (step * 2).min(Duration::from_millis(50));
    }
}

/// What each executor of a cluster is doing, for a failed test to print.
pub(crate) fn states(cluster: &LocalCluster) -> Vec<String> {
    let state = |executor: &ExecutorReport| {
        let ExecutorReport { component, tasks, doing, doing_since_us, inbox, counts, .. } = executor;
        format!("{component} {tasks:?}: {doing:?} since {doing_since_us} µs, inbox {inbox:?}, {counts:?}")
    };
    executors(cluster).iter().map(state).collect()
}

pub(crate) fn executors(cluster: &LocalCluster) -> Vec<ExecutorReport> {
    cluster.reports().into_iter().flat_map(|report| report.executors).collect()
}

pub(crate) fn executor(cluster: &LocalCluster, component: &str) -> ExecutorReport {
    let mut all = executors(cluster).into_iter().filter(|executor| executor.component == component);
    all.next().unwrap_or_else(|| panic!("no executor of {component}"))
}

/// Reasons as text, by message id.
pub(crate) fn told(failed: Vec<(u64, FailReason)>) -> Vec<(u64, String)> {
    failed.into_iter().map(|(id, reason)| (id, reason.to_string())).collect()
}

/// Items 0 .. `total`, a few each millisecond, each again until it is acked: also those that a lost instance had emitted.
#[derive(Clone)]
pub(crate) struct Source(Arc<Mutex<Emitting>>);

struct Emitting {
    total: u64,
    each_ms: usize,
    next: u64,
    again: VecDeque<u64>,
    replays: bool,
    not_before: Option<Instant>,
    open: BTreeSet<u64>,
    acked: Vec<u64>,
    failed: Vec<(u64, FailReason)>,
    /// Where the last bolt notes what it has done.
    effects: Option<Log<u64>>,
    acked_without_effect: Vec<u64>,
}

impl Source {
    pub(crate) fn new(total: u64, each_ms: usize, replays: bool) -> Self {
        Source(Arc::new(Mutex::new(Emitting {
            total,
            each_ms,
            next: 0,
            again: VecDeque::new(),
            replays,
            not_before: None,
            open: BTreeSet::new(),
            acked: Vec::new(),
            failed: Vec::new(),
            effects: None,
            acked_without_effect: Vec::new(),
        })))
    }

    /// Has each ack compared with what the last bolt noted until then.
    pub(crate) fn with_effects(self, effects: &Log<u64>) -> Self {
        self.lock().effects = Some(effects.clone());
        self
    }

    /// Acked before its effect was there: must be none.
    pub(crate) fn acked_without_effect(&self) -> Vec<u64> {
        self.lock().acked_without_effect.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Emitting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Emitted, and neither acked nor failed.
    pub(crate) fn open(&self) -> BTreeSet<u64> {
        self.lock().open.clone()
    }

    /// Acked, in order; one that was acked after its replay as well is there twice.
    pub(crate) fn acked(&self) -> Vec<u64> {
        let mut acked = self.lock().acked.clone();
        acked.sort_unstable();
        acked
    }

    /// Failed, by number.
    pub(crate) fn failed(&self) -> Vec<(u64, String)> {
        let mut failed = told(self.lock().failed.clone());
        failed.sort();
        failed
    }

    pub(crate) fn fails(&self) -> usize {
        self.lock().failed.len()
    }

    pub(crate) fn acks(&self) -> usize {
        self.lock().acked.len()
    }
}

pub(crate) struct SourceSpout(Source);

impl Source {
    pub(crate) fn spout(&self) -> SourceSpout {
        SourceSpout(self.clone())
    }
}

impl Spout for SourceSpout {
    type Output = Item;
    type MessageId = u64;

    fn open(&mut self, _: &Context) -> Result {
        let mut it = self.0.lock();
        let lost = std::mem::take(&mut it.open);
        it.again.extend(lost);
        Ok(())
    }

    fn next(&mut self, out: &mut Roots<'_, Item, u64>) -> Result<Next> {
        let mut it = self.0.lock();
        // An ack has it asked again before its pause is over.
        let now = Instant::now();
        if let Some(wait) = it.not_before.map(|then| then.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
        {
            return Ok(Next::Idle(wait));
        }
        it.not_before = Some(now + Duration::from_millis(1));
        for _ in 0..it.each_ms {
            let n = match it.again.pop_front() {
                Some(n) => n,
                None if it.next == it.total => return Ok(Next::Done),
                None => {
                    it.next += 1;
                    it.next - 1
                }
            };
            it.open.insert(n);
            out.emit(Item { n }, n);
        }
        Ok(Next::Idle(Duration::from_millis(1)))
    }

    fn ack(&mut self, id: u64) {
        let mut it = self.0.lock();
        it.open.remove(&id);
        if it.effects.as_ref().is_some_and(|effects| !effects.all().contains(&id)) {
            it.acked_without_effect.push(id);
        }
        it.acked.push(id);
    }

    fn fail(&mut self, id: u64, reason: &FailReason) {
        let mut it = self.0.lock();
        it.open.remove(&id);
        it.failed.push((id, reason.clone()));
        if it.replays {
            it.again.push_back(id);
        }
    }
}

/// Waits until nothing is pending and nothing waits anywhere.
pub(crate) async fn drained(cluster: &LocalCluster, seam: &Seam) {
    until(seam, "nothing is pending", || cluster.pending() == 0).await;
    until(seam, "all queues are empty", || {
        let idle = |executor: &ExecutorReport| {
            executor.inbox == Waiting::default()
                && !matches!(executor.doing, Doing::WaitingForRoom(_) | Doing::Executing)
        };
        cluster.reports().iter().all(|report| report.inbox_bytes == 0 && report.executors.iter().all(idle))
    })
    .await;
}
