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
    AnyBolt, AnyOutput, AnyTask, Clock, Factory, InFlight, Node, Ran, Subscribed, TaskParts, Turn, admit, panic_text,
    wrong_type,
};
use crate::anchor::{Anchor, Root};
use crate::batch::{AnyBatch, Batch};
use crate::bolt::{Accepts, Arrival, AsyncBolt, Emitter, Source, failed_by};
use crate::context::Context;
use crate::error::{Error, Result, Severity};
use crate::fail::{FailKind, FailReason};
use crate::holds::Holds;
use crate::ids::TaskId;
use crate::output::{Outbox, Output, Ports, Wires, visit};
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
            since: Vec::new(),
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
    /// Calls in flight: number, beginning, and how to drop them.
    since: Vec<(u64, u64, bool, AbortHandle, Vec<Root>)>,
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
                turn.tally.failed += 1;
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
        let serial = self.since.last().map_or(0, |(serial, ..)| serial + 1);
        self.since.push((serial, now_us, false, abort, anchors.iter().map(|anchor| anchor.root).collect()));
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
        self.since.retain(|(serial, ..)| *serial != call.serial);
        let fault = match call.end {
            Ok((result, mut emitter)) => {
                let mut staged = visit::TakeStaged::default();
                emitter.ports.visit(&mut staged);
                self.spare.push(emitter);
                self.ports.visit(&mut visit::PutStaged(staged.0));
                let Err(error) = result else {
                    turn.tally.acked += 1;
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
                turn.tally.failed += 1;
                turn.tally.error(&error);
                turn.outbox.fail_all(&call.anchors, &failed_by(&self.component, &error));
                return (error.severity() == Severity::Fatal).then_some(Ran::Fatal(error));
            }
            Err(fault) => fault,
        };
        turn.tally.failed += 1;
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

    fn restart(&mut self, reason: &FailReason, outbox: &mut Outbox) -> u64 {
        let failed = self.since.len() as u64;
        for (.., roots) in self.since.drain(..) {
            outbox.fails.extend(roots.into_iter().map(|root| (root, reason.clone())));
        }
        let old = std::mem::take(&mut self.calls);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        self.ports.visit(&mut visit::DropPulls { outbox, reason });
        let old = std::mem::replace(&mut self.bolt, Arc::new((self.factory)()));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        failed
    }

    fn admit(&self, subscription: usize, batch: Box<dyn AnyBatch>) -> Box<dyn AnyBatch> {
        admit(&self.subscriptions, subscription, batch)
    }

    fn execute(&mut self, subscription: usize, from: TaskId, batch: &mut dyn AnyBatch, turn: &mut Turn<'_>) -> Ran {
        let read = self.subscriptions[subscription].read;
        let source = self.sources[subscription].clone();
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
        for (_, since, told, abort, roots) in &mut self.since {
            let held_for = now.saturating_sub(*since);
            if timeout_us.is_some_and(|timeout| held_for > timeout) {
                abort.abort();
            } else if held_for > tell_after_us && !*told {
                *told = true;
                turn.outbox.held.extend(roots.iter());
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
