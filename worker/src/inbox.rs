//! Where batches wait for an executor: bounded in tuples and bytes, and with all inboxes of the worker by one budget.
//!
//! Not here: waiting for another worker's inbox (`transfer`: permits). Invariant: an empty inbox always has room, whatever
//! the budget says; so the executor furthest down that has anything to do can always go on, and nobody waits in a ring.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use topology_api::batch::AnyBatch;
use topology_api::ids::TaskId;

use worker_api::ids::WorkerIndex;
use worker_api::report::Waiting;

/// What an inbox holds: something from one task's stream for one task of the executor.
pub struct Envelope {
    /// The receiving task.
    pub to: TaskId,
    /// The emitting task.
    pub source: TaskId,
    /// The stream's number in the emitting component.
    pub stream: u16,
    /// What came.
    pub content: Content,
}

/// What came from a stream.
pub enum Content {
    /// A batch from the same worker.
    Batch(Box<dyn AnyBatch>),
    /// A batch from another worker, still as bytes: the executor decodes it, not the connection's reader.
    Wire(WireBatch),
    /// The emitting task has ended; nothing follows.
    End,
}

/// A batch as it came over a link.
pub struct WireBatch {
    /// The sending worker, which is granted permits for what is taken; `None` if it came from this worker.
    pub from: Option<WorkerIndex>,
    /// The batch's bytes, as `topology_api::batch` lays them out.
    pub payload: Bytes,
    /// The task's place among the receivers that the bytes are for.
    pub receiver: usize,
    /// Tuples in it.
    pub tuples: u32,
}

impl Envelope {
    fn size(&self) -> (usize, usize) {
        match &self.content {
            Content::Batch(batch) => (batch.len(), batch.bytes()),
            Content::Wire(wire) => (wire.tuples as usize, wire.payload.len()),
            Content::End => (0, 0),
        }
    }
}

/// Bytes that all inboxes of a worker hold together.
#[derive(Debug)]
pub struct Budget {
    bytes: AtomicUsize,
    limit_bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit_bytes: usize) -> Self {
        Budget { bytes: AtomicUsize::new(0), limit_bytes }
    }

    /// Bytes that are waiting now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether more may wait.
    pub fn has_room(&self) -> bool {
        self.bytes() < self.limit_bytes
    }
}

/// An executor's inbox; a cheap clone. One executor receives, any may send.
#[derive(Clone)]
pub struct Inbox(Arc<Shared>);

struct Shared {
    budget: Arc<Budget>,
    capacity_tuples: usize,
    capacity_bytes: usize,
    /// What waits: written under the lock, read without it by those who may be a moment late.
    envelopes: AtomicUsize,
    tuples: AtomicUsize,
    bytes: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What came over an edge that closes a cycle; goes before new tuples.
    returning: VecDeque<Envelope>,
    queue: VecDeque<Envelope>,
    receiver: Option<Waker>,
    /// Who waits for room, in the order of waiting.
    senders: VecDeque<Waker>,
}

impl Inbox {
    /// An empty inbox.
    pub fn new(capacity_tuples: usize, capacity_bytes: usize, budget: Arc<Budget>) -> Self {
        Inbox(Arc::new(Shared {
            budget,
            capacity_tuples,
            capacity_bytes,
            envelopes: AtomicUsize::new(0),
            tuples: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            state: Mutex::default(),
        }))
    }

    /// Whether a batch can be put without waiting.
    pub fn has_room(&self) -> bool {
        self.tuples() == 0
            || (self.tuples() < self.0.capacity_tuples
                && self.bytes() < self.0.capacity_bytes
                && self.0.budget.has_room())
    }

    /// Waits until a batch can be put. Cancel-safe.
    pub async fn room(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if self.has_room() {
                return Poll::Ready(());
            }
            if !state.senders.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.senders.push_back(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Puts something; never waits. Who keeps the bound asks for room before.
    pub fn put(&self, envelope: Envelope) {
        self.put_in(envelope, |state| &mut state.queue);
    }

    /// Puts something that came around a cycle: taken before all that was put otherwise.
    pub fn put_returning(&self, envelope: Envelope) {
        self.put_in(envelope, |state| &mut state.returning);
    }

    fn put_in(&self, envelope: Envelope, queue: impl FnOnce(&mut State) -> &mut VecDeque<Envelope>) {
        let (tuples, bytes) = envelope.size();
        self.0.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut state = self.lock();
        queue(&mut state).push_back(envelope);
        self.waits(&state, self.tuples() + tuples, self.bytes() + bytes);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Takes the next envelope; wakes the caller's task when one comes.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Envelope> {
        let mut state = self.lock();
        let Some(envelope) = take(&mut state) else {
            match &mut state.receiver {
                Some(known) => known.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        self.taken(state, &envelope);
        Poll::Ready(envelope)
    }

    /// The same without waiting, and without a lock while there is nothing.
    pub fn take(&self) -> Option<Envelope> {
        if self.is_empty() {
            return None;
        }
        let mut state = self.lock();
        let envelope = take(&mut state)?;
        self.taken(state, &envelope);
        Some(envelope)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.envelopes.load(Ordering::Relaxed) == 0
    }

    /// Tuples and bytes that wait.
    pub fn waiting(&self) -> Waiting {
        Waiting { tuples: self.tuples() as u64, bytes: self.bytes() as u64 }
    }

    fn tuples(&self) -> usize {
        self.0.tuples.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// So much waits now.
    fn waits(&self, state: &State, tuples: usize, bytes: usize) {
        self.0.envelopes.store(state.queue.len() + state.returning.len(), Ordering::Relaxed);
        self.0.tuples.store(tuples, Ordering::Relaxed);
        self.0.bytes.store(bytes, Ordering::Relaxed);
    }

    fn taken(&self, mut state: MutexGuard<'_, State>, envelope: &Envelope) {
        let (tuples, bytes) = envelope.size();
        self.waits(&state, self.tuples() - tuples, self.bytes() - bytes);
        self.0.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if state.senders.is_empty() {
            return;
        }
        // Woken when half of it is free, so that they come in a row and not one by one; all of them when it is empty, so
        // that a waiter that is gone cannot take the last waking with it.
        let wake = if self.tuples() == 0 {
            state.senders.len()
        } else if self.tuples() * 2 <= self.0.capacity_tuples && self.has_room() {
            state.senders.len().min(MOST_WOKEN)
        } else {
            0
        };
        let woken: Vec<Waker> = state.senders.drain(..wake).collect();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Senders that are woken when half of an inbox is free: about as many as have room then.
const MOST_WOKEN: usize = 8;

fn take(state: &mut State) -> Option<Envelope> {
    state.returning.pop_front().or_else(|| state.queue.pop_front())
}

/// What is left is given back to the budget.
impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}
