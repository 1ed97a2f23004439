//! What the tests of this folder share: a tuple, bolts and spouts out of closures, and waiting for a condition.
//!
//! Not here: feeds and captures, which users have as well (`local_cluster::testing`). Invariant: nothing here waits for a
//! time to pass; a condition that never comes true ends the test by its name.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use storm::local_cluster::LocalCluster;
use storm::prelude::*;
use worker::seam::Seam;
use worker::stats::ExecutorReport;

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
    executors(cluster).iter().map(|executor| format!("{executor:?}")).collect()
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
