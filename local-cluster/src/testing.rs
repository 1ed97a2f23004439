//! What a topology's tests are written with: spouts that emit given tuples, and bolts that keep what they get.
//!
//! Not here: the cluster itself. Invariant: what a [`Feed`] or [`Capture`] saw can be read while the topology runs and after.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use topology_api::bolt::{Accepts, Bolt, Emitter};
use topology_api::context::{Context, Wake};
use topology_api::error::Result;
use topology_api::fail::FailReason;
use topology_api::output::{Output, Port};
use topology_api::spout::{Next, Roots, Spout};
use topology_api::topology::{Stream, TopologyBuilder};
use topology_api::tuple::Tuple;

/// Tuples for a spout to emit, and what became of them; a cheap clone. Each tuple's message id is its number, from 0.
pub struct Feed<T>(Arc<Mutex<Fed<T>>>);

struct Fed<T> {
    tuples: Vec<T>,
    waiting: VecDeque<u64>,
    replays: bool,
    closed: bool,
    acked: Vec<u64>,
    failed: Vec<(u64, FailReason)>,
    wake: Option<Wake>,
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Feed(self.0.clone())
    }
}

impl<T: Tuple> Feed<T> {
    /// A feed of these tuples, which then ends. What fails is not emitted again.
    pub fn of(tuples: impl IntoIterator<Item = T>) -> Self {
        let feed = Feed::open();
        for tuple in tuples {
            feed.push(tuple);
        }
        feed.close();
        feed
    }

    /// A feed that is fed while the topology runs, until it is closed.
    pub fn open() -> Self {
        Feed(Arc::new(Mutex::new(Fed {
            tuples: Vec::new(),
            waiting: VecDeque::new(),
            replays: false,
            closed: false,
            acked: Vec::new(),
            failed: Vec::new(),
            wake: None,
        })))
    }

    /// Has what fails emitted again.
    pub fn replaying(self) -> Self {
        self.lock().replays = true;
        self
    }

    /// Adds a tuple; gives its message id.
    pub fn push(&self, tuple: T) -> u64 {
        let mut fed = self.lock();
        let id = fed.tuples.len() as u64;
        fed.tuples.push(tuple);
        fed.waiting.push_back(id);
        if let Some(wake) = &fed.wake {
            wake.wake();
        }
        id
    }

    /// Says that nothing more is added.
    pub fn close(&self) {
        let mut fed = self.lock();
        fed.closed = true;
        if let Some(wake) = &fed.wake {
            wake.wake();
        }
    }

    /// Ids that were acked, in the order of their acks.
    pub fn acked(&self) -> Vec<u64> {
        self.lock().acked.clone()
    }

    /// Ids that failed, and why, in the order of their fails.
    pub fn failed(&self) -> Vec<(u64, FailReason)> {
        self.lock().failed.clone()
    }

    /// The spout that emits it. One task should: several share the tuples.
    pub fn spout(&self) -> FeedSpout<T> {
        FeedSpout(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Fed<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Emits a [`Feed`].
pub struct FeedSpout<T>(Feed<T>);

impl<T: Tuple + Output<Ports = Port<T>>> Spout for FeedSpout<T> {
    type Output = T;
    type MessageId = u64;

    fn open(&mut self, context: &Context) -> Result {
        self.0.lock().wake = Some(context.wake());
        Ok(())
    }

    fn next(&mut self, out: &mut Roots<'_, T, u64>) -> Result<Next> {
        let mut fed = self.0.lock();
        match fed.waiting.pop_front() {
            Some(id) => {
                out.emit(fed.tuples[id as usize].clone(), id);
                Ok(Next::Emitted)
            }
            None if fed.closed => Ok(Next::Done),
            None => Ok(Next::Idle(Duration::from_secs(3600))),
        }
    }

    fn ack(&mut self, id: u64) {
        self.0.lock().acked.push(id);
    }

    fn fail(&mut self, id: u64, reason: &FailReason) {
        let mut fed = self.0.lock();
        fed.failed.push((id, reason.clone()));
        if fed.replays {
            fed.waiting.push_back(id);
        }
    }
}

/// Keeps the tuples of a stream; a cheap clone.
pub struct Capture<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Capture<T> {
    fn clone(&self) -> Self {
        Capture(self.0.clone())
    }
}

impl<T: Tuple> Capture<T> {
    /// Adds a bolt to the topology that keeps all of this stream.
    pub fn of(topology: &mut TopologyBuilder, stream: &Stream<T>) -> Self
    where
        T: Accepts<T>,
    {
        let capture = Capture(Arc::default());
        let kept = capture.clone();
        let name = format!("capture-{}-{}", stream.component(), stream.name());
        topology.bolt(&name, move || CaptureBolt(kept.clone())).global(stream).add();
        capture
    }

    /// What was emitted so far, in the order of arrival.
    pub fn tuples(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps what it gets.
struct CaptureBolt<T>(Capture<T>);

impl<T: Tuple + Accepts<T>> Bolt for CaptureBolt<T> {
    type Input = T;
    type Output = ();

    fn execute(&mut self, tuple: T, _: &mut Emitter<(), T::Mode>) -> Result {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(tuple);
        Ok(())
    }
}
