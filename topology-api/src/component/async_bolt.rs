//! A task of an async bolt: its calls in flight.
//!
//! Not here: sync bolts. Invariant: a call's input stays open until the call has returned, was dropped, or panicked; what
//! it emitted is handed on only if it returned.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use futures_util::future::{AbortHandle, Abortable, Aborted, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::output::poison;
use super::{
    AnyBolt, AnyOutput, AnyTask, Clock, Factory, InFlight, Node, Ran, SettledInput, Subscribed, TaskParts, Turn, admit,
    panic_text, wrong_type,
};
use crate::anchor::{Anchor, Root};
use crate::batch::{AnyBatch, Batch};
use crate::bolt::{Accepts, Arrival, AsyncBolt, Emitter, Source, failed_by};
use crate::context::Context;
use crate::error::{Error, Result, Severity};
use crate::fail::{FailKind, FailReason};
use crate::holds::Holds;
use crate::ids::TaskId;
use crate::output::{Output, Ports, Wires, visit};
use crate::tuple::Tuple;

pub(crate) struct AsyncBoltNode<B: AsyncBolt> {
    pub(crate) factory: Factory<B>,
    pub(crate) in_flight_tuples: usize,
    pub(crate) subscriptions: Arc<Vec<Subscribed<AsyncBoltTask<B>>>>,
}

impl<B: AsyncBolt> Node for AsyncBoltNode<B> {
    fn task(&self, parts: TaskParts<'_>) -> AnyTask {
        let TaskParts { component, mut wires, sources, clock, .. } = parts;
        let receivers = wires.receivers();
        AnyTask::Bolt(Box::new(AsyncBoltTask::<B> {
            component: component.into(),
            bolt: Arc::new((self.factory)()),
            factory: self.factory.clone(),
            ports: B::Output::open(&mut wires),
            receivers,
            spare: Vec::new(),
            calls: FuturesUnordered::new(),
            running: Vec::new(),
            subscription: 0,
            in_flight_tuples: self.in_flight_tuples,
            holds: Holds::new(component, clock.clone()),
            clock,
            subscriptions: self.subscriptions.clone(),
            sources,
        }))
    }
}

type Call<O> = Pin<Box<dyn Future<Output = CallEnd<O>> + Send>>;

/// A call that ended: its number, its anchors, and what it returned and emitted; `Err` if it was dropped or panicked.
struct CallEnd<O: Output> {
    serial: u64,
    anchors: Vec<Anchor>,
    end: Result<(Result, Emitter<O>), CallFault>,
}

enum CallFault {
    TimedOut,
    Panicked(String),
}

/// A call in flight, seen from outside.
struct Running {
    serial: u64,
    subscription: usize,
    began_us: u64,
    /// Whether the owners were told that their roots are held for long.
    told: bool,
    abort: AbortHandle,
    roots: Vec<Root>,
}

impl Running {
    fn settled(&self, acked: bool, now_us: u64) -> SettledInput {
        SettledInput { subscription: self.subscription, acked, took_us: now_us.saturating_sub(self.began_us) }
    }
}

/// One task of an async bolt.
#[doc(hidden)]
pub struct AsyncBoltTask<B: AsyncBolt> {
    component: Box<str>,
    bolt: Arc<B>,
    factory: Factory<B>,
    ports: <B::Output as Output>::Ports,
    /// For each stream, the tasks that a direct emit can name.
    receivers: Vec<Vec<TaskId>>,
    spare: Vec<Emitter<B::Output>>,
    calls: FuturesUnordered<Call<B::Output>>,
    /// Calls in flight, oldest first.
    running: Vec<Running>,
    /// The subscription that is read now.
    subscription: usize,
    in_flight_tuples: usize,
    holds: Holds,
    clock: Arc<dyn Clock>,
    subscriptions: Arc<Vec<Subscribed<AsyncBoltTask<B>>>>,
    sources: Vec<Arc<Source>>,
}

/// Starts a call for each tuple, as many as may be in flight.
pub(super) fn start<B: AsyncBolt, T: Tuple>(
    task: &mut AsyncBoltTask<B>,
    source: &Arc<Source>,
    from: TaskId,
    batch: &mut dyn AnyBatch,
    turn: &mut Turn<'_>,
) -> Ran
where
    B::Input: Accepts<T>,
{
    let Some(batch) = batch.as_any_mut().downcast_mut::<Batch<T>>() else {
        return Ran::Fatal(wrong_type::<T>());
    };
    let anchors = batch.anchors.clone();
    let now = task.clock.now_us();
    while task.calls.len() < task.in_flight_tuples {
        let Some(tuple) = batch.tuples.next() else { return Ran::Done };
        let at = batch.taken;
        batch.taken += 1;
        turn.tally.executed += 1;
        let mut arrival = Arrival { source, task: from, holds: &task.holds, anchors: anchors.of(at) };
        match B::Input::accept(tuple, &mut arrival) {
            Ok(input) => task.call(input, anchors.of(at), now),
            Err(error) => {
                let reason = FailReason::new(FailKind::Malformed, &task.component, error.to_string());
                turn.tally.settled.push(SettledInput { subscription: task.subscription, acked: false, took_us: 0 });
                turn.tally.error(&reason.message);
                turn.outbox.fail_all(anchors.of(at), &reason);
            }
        }
    }
    if batch.tuples.len() == 0 { Ran::Done } else { Ran::Full }
}

impl<B: AsyncBolt> AsyncBoltTask<B> {
    fn call(&mut self, input: B::Input, anchors: &[Anchor], now_us: u64) {
        let mut emitter = self
            .spare
            .pop()
            .unwrap_or_else(|| Emitter::new(B::Output::open(&mut Wires::detached(&self.receivers)), None));
        let bolt = self.bolt.clone();
        let (abort, registration) = AbortHandle::new_pair();
        let serial = self.running.last().map_or(0, |call| call.serial + 1);
        self.running.push(Running {
            serial,
            subscription: self.subscription,
            began_us: now_us,
            told: false,
            abort,
            roots: anchors.iter().map(|anchor| anchor.root).collect(),
        });
        let anchors = anchors.to_vec();
        let work = async move {
            let result = bolt.execute(input, &mut emitter).await;
            (result, emitter)
        };
        let work = Abortable::new(AssertUnwindSafe(work).catch_unwind(), registration);
        self.calls.push(Box::pin(async move {
            let end = match work.await {
                Ok(Ok(returned)) => Ok(returned),
                Ok(Err(panic)) => Err(CallFault::Panicked(panic_text(&*panic))),
                Err(Aborted) => Err(CallFault::TimedOut),
            };
            CallEnd { serial, anchors, end }
        }));
    }

    /// Takes over what an ended call emitted; a panic or fatal error ends the bolt.
    fn settle(&mut self, call: CallEnd<B::Output>, turn: &mut Turn<'_>) -> Option<Ran> {
        // Calls are numbered as they begin.
        if let Ok(place) = self.running.binary_search_by_key(&call.serial, |running| running.serial) {
            let acked = matches!(call.end, Ok((Ok(()), _)));
            turn.tally.settled.push(self.running.remove(place).settled(acked, self.clock.now_us()));
        }
        let fault = match call.end {
            Ok((result, mut emitter)) => {
                let mut staged = visit::TakeStaged::default();
                emitter.ports.visit(&mut staged);
                self.spare.push(emitter);
                self.ports.visit(&mut visit::PutStaged(staged.0));
                let Err(error) = result else {
                    let mut children = visit::Children::default();
                    self.ports.visit(&mut children);
                    if children.0 == 0 {
                        turn.outbox.acks.extend(&call.anchors);
                    } else if call.anchors.is_empty() {
                        self.ports.visit(&mut visit::Untracked);
                    } else {
                        let edges = &mut turn.outbox.edges;
                        self.ports.visit(&mut visit::DivideMany { rest: call.anchors, children: children.0, edges });
                    }
                    return None;
                };
                poison(&mut self.ports, &call.anchors, &mut turn.outbox.edges);
                turn.tally.error(&error);
                turn.outbox.fail_all(&call.anchors, &failed_by(&self.component, &error));
                return (error.severity() == Severity::Fatal).then_some(Ran::Fatal(error));
            }
            Err(fault) => fault,
        };
        let (kind, text) = match &fault {
            CallFault::TimedOut => (FailKind::TimedOut, ""),
            CallFault::Panicked(text) => (FailKind::Panicked, text.as_str()),
        };
        turn.outbox.fail_all(&call.anchors, &FailReason::new(kind, &self.component, text));
        match fault {
            CallFault::TimedOut => None,
            CallFault::Panicked(text) => {
                turn.tally.error(format!("panicked: {text}"));
                Some(Ran::Panicked(text))
            }
        }
    }
}

impl<B: AsyncBolt> AnyBolt for AsyncBoltTask<B> {
    fn prepare(&mut self, context: &Context) -> Result {
        let Some(bolt) = Arc::get_mut(&mut self.bolt) else {
            return Err(Error::retry("calls of the bolt's last instance are still in flight"));
        };
        catch_unwind(AssertUnwindSafe(|| bolt.prepare(context)))
            .unwrap_or_else(|panic| Err(Error::retry(format!("panicked: {}", panic_text(&*panic)))))
    }

    fn restart(&mut self, reason: &FailReason, turn: &mut Turn<'_>) {
        let now_us = self.clock.now_us();
        for call in self.running.drain(..) {
            turn.tally.settled.push(call.settled(false, now_us));
            turn.outbox.fails.extend(call.roots.into_iter().map(|root| (root, reason.clone())));
        }
        let old = std::mem::take(&mut self.calls);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        self.ports.visit(&mut visit::DropPulls { outbox: turn.outbox, reason });
        let old = std::mem::replace(&mut self.bolt, Arc::new((self.factory)()));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
    }

    fn admit(&self, subscription: usize, batch: Box<dyn AnyBatch>) -> Box<dyn AnyBatch> {
        admit(&self.subscriptions, subscription, batch)
    }

    fn execute(&mut self, subscription: usize, from: TaskId, batch: &mut dyn AnyBatch, turn: &mut Turn<'_>) -> Ran {
        let read = self.subscriptions[subscription].read;
        let source = self.sources[subscription].clone();
        self.subscription = subscription;
        read(self, &source, from, batch, turn)
    }

    fn poll_in_flight(&mut self, cx: &mut task::Context<'_>, turn: &mut Turn<'_>) -> InFlight {
        let mut ended = None;
        while ended.is_none() {
            match self.calls.poll_next_unpin(cx) {
                Poll::Ready(Some(call)) => ended = self.settle(call, turn),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        InFlight { calls: self.calls.len(), ended }
    }

    fn sweep(&mut self, timeout_us: Option<u64>, tell_after_us: u64, turn: &mut Turn<'_>) {
        let now = self.clock.now_us();
        for call in &mut self.running {
            let held_for = now.saturating_sub(call.began_us);
            if timeout_us.is_some_and(|timeout| held_for > timeout) {
                call.abort.abort();
            } else if held_for > tell_after_us && !call.told {
                call.told = true;
                turn.outbox.held.extend(call.roots.iter());
            }
        }
    }

    fn tick(&mut self, _: &mut Turn<'_>) -> Ran {
        Ran::Done
    }

    fn finish(&mut self, _: &mut Turn<'_>) -> Ran {
        Ran::Done
    }

    fn cleanup(&mut self) {
        if let Some(bolt) = Arc::get_mut(&mut self.bolt) {
            let _ = catch_unwind(AssertUnwindSafe(|| bolt.cleanup()));
        }
    }

    fn output(&mut self) -> &mut dyn AnyOutput {
        &mut self.ports
    }

    fn holds(&self) -> Option<&Holds> {
        None
    }

    fn in_flight(&self) -> usize {
        self.calls.len()
    }
}
