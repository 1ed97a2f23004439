//! A task of a sync bolt: the loop that its tuples go through.
//!
//! Not here: async bolts. Invariant: when the loop leaves a batch, by whichever way, each tuple that it took is acked,
//! failed, or owned by a `Tracked`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task;

use super::output::poison;
use super::{
    AnyBolt, AnyOutput, AnyTask, Factory, InFlight, Node, OUTGOING_BATCHES, Pace, Ran, Subscribed, TaskParts, Turn,
    admit, panic_text, wrong_type,
};
use crate::anchor::{Anchor, EdgeIds};
use crate::batch::{Anchors, AnyBatch, Batch};
use crate::bolt::{Accepts, Arrival, Bolt, Emitter, Input, Mode, Source, failed_by};
use crate::context::Context;
use crate::error::{Error, Result, Severity};
use crate::fail::{FailKind, FailReason};
use crate::holds::Holds;
use crate::ids::TaskId;
use crate::output::{Output, Ports, visit};
use crate::tuple::Tuple;

pub(crate) struct BoltNode<B: Bolt> {
    pub(crate) factory: Factory<B>,
    pub(crate) subscriptions: Arc<Vec<Subscribed<BoltTask<B>>>>,
}

impl<B: Bolt> Node for BoltNode<B> {
    fn task(&self, parts: TaskParts<'_>) -> AnyTask {
        let TaskParts { component, mut wires, sources, key, clock } = parts;
        AnyTask::Bolt(Box::new(BoltTask {
            component: component.into(),
            bolt: (self.factory)(),
            factory: self.factory.clone(),
            emitter: Emitter::new(B::Output::open(&mut wires), Some(EdgeIds::from_key(key))),
            holds: Holds::new(component, clock),
            subscriptions: self.subscriptions.clone(),
            sources,
            pace: Pace::new(),
        }))
    }
}

/// One task of a sync bolt.
#[doc(hidden)]
pub struct BoltTask<B: Bolt> {
    component: Box<str>,
    bolt: B,
    factory: Factory<B>,
    emitter: Emitter<B::Output, <B::Input as Input>::Mode>,
    holds: Holds,
    subscriptions: Arc<Vec<Subscribed<BoltTask<B>>>>,
    sources: Vec<Arc<Source>>,
    pace: Pace,
}

/// The loop that every tuple of a sync bolt goes through.
pub(super) fn run<B: Bolt, T: Tuple>(
    task: &mut BoltTask<B>,
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
    let by_return = <B::Input as Input>::Mode::ACKS_BY_RETURN;
    let divides = by_return && !anchors.is_empty();
    let (first, mut failed) = (batch.taken, 0);
    // Tuples from here on were leaves: acked as one slice when something else comes.
    let mut leaves_from = first;
    // Whether the call in progress got its input: then a bolt that acks by itself has it, or has done with it.
    let mut given = false;
    task.pace.begin(turn.began_us);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        for tuple in batch.tuples.by_ref() {
            let at = batch.taken;
            batch.taken += 1;
            given = false;
            let mut arrival = Arrival { source, task: from, holds: &task.holds, anchors: anchors.of(at) };
            let result = match B::Input::accept(tuple, &mut arrival) {
                Ok(input) => {
                    given = true;
                    task.bolt.execute(input, &mut task.emitter).map_err(Refused::ByBolt)
                }
                Err(error) => Err(Refused::Unreadable(error.to_string())),
            };
            let ports = &mut task.emitter.ports;
            match result {
                Ok(()) if divides => {
                    let mut children = visit::Children::default();
                    ports.visit(&mut children);
                    if children.0 > 0 {
                        ack_leaves(&anchors, leaves_from, at, &mut turn.outbox.acks);
                        leaves_from = at + 1;
                        divide(ports, anchors.each[at], &anchors, children.0, &mut turn.outbox.edges);
                    }
                }
                Ok(()) => ports.visit(&mut visit::Untracked),
                Err(refused) => {
                    failed += 1;
                    if by_return {
                        ack_leaves(&anchors, leaves_from, at, &mut turn.outbox.acks);
                        leaves_from = at + 1;
                    }
                    let fatal = task.refuse(&refused, anchors.of(at), turn);
                    if let Some(error) = fatal {
                        return Ran::Fatal(error);
                    }
                }
            }
            let mut full = visit::Full::default();
            task.emitter.ports.visit(&mut full);
            if full.0 {
                task.emitter.ports.route(turn, false);
                if turn.outbox.outgoing.len() >= OUTGOING_BATCHES {
                    return Ran::Paused;
                }
            }
            if task.emitter.ports.pulls() || task.pace.is_up(turn) {
                return Ran::Paused;
            }
        }
        Ran::Done
    }));
    let ran = match ended {
        Ok(Ran::Paused) if batch.tuples.len() == 0 => Ran::Done,
        Ok(ran) => ran,
        Err(panic) => {
            failed += 1;
            let at = batch.taken - 1;
            let text = panic_text(&*panic);
            if by_return {
                ack_leaves(&anchors, leaves_from, at, &mut turn.outbox.acks);
                leaves_from = at + 1;
                task.poison(anchors.of(at), turn);
            }
            let reason = FailReason::new(FailKind::Panicked, &task.component, &text);
            if by_return || !given {
                turn.outbox.fail_all(anchors.of(at), &reason);
            } else {
                // What it dropped on its way out fails for the panic's reason; what it acked before is acked.
                task.holds.blame(&reason);
            }
            turn.tally.error(format!("panicked: {text}"));
            Ran::Panicked(text)
        }
    };
    let executed = (batch.taken - first) as u64;
    turn.tally.executed += executed;
    if by_return {
        ack_leaves(&anchors, leaves_from, batch.taken, &mut turn.outbox.acks);
        turn.tally.acked += executed - failed;
        turn.tally.failed += failed;
    }
    ran
}

/// Why a tuple was not executed well.
enum Refused {
    ByBolt(Error),
    Unreadable(String),
}

/// Acks the tuples `from .. to` of a batch.
#[inline]
fn ack_leaves(anchors: &Anchors, from: usize, to: usize, acks: &mut Vec<Anchor>) {
    if from >= to || anchors.is_empty() {
        return;
    }
    if anchors.many.is_empty() {
        acks.extend_from_slice(&anchors.each[from..to]);
    } else {
        (from..to).for_each(|index| acks.extend(anchors.of(index)));
    }
}

/// Divides an input's edge (or each of its edges) over the children of the call that took it.
#[inline]
fn divide<P: Ports>(ports: &mut P, anchor: Anchor, anchors: &Anchors, children: usize, edges: &mut EdgeIds) {
    if anchor.is_none() {
        ports.visit(&mut visit::Untracked);
    } else if let Some(side) = anchor.as_many() {
        ports.visit(&mut visit::DivideMany { rest: anchors.many[side as usize].to_vec(), children, edges });
    } else {
        ports.visit(&mut visit::Divide { root: anchor.root, rest: anchor.edge.0, children, edges });
    }
}

impl<B: Bolt> BoltTask<B> {
    /// Fails a tuple that the bolt refused; returns the error if it is fatal.
    #[cold]
    fn refuse(&mut self, refused: &Refused, anchors: &[Anchor], turn: &mut Turn<'_>) -> Option<Error> {
        let (reason, fatal) = match refused {
            Refused::ByBolt(error) => {
                let reason = failed_by(&self.component, error);
                (reason, (error.severity() == Severity::Fatal).then(|| Error::fatal(error)))
            }
            Refused::Unreadable(said) => (FailReason::new(FailKind::Malformed, &self.component, said), None),
        };
        turn.tally.error(&reason.message);
        if <B::Input as Input>::Mode::ACKS_BY_RETURN {
            self.poison(anchors, turn);
            turn.outbox.fail_all(anchors, &reason);
        } else {
            // The bolt owns its inputs; those it dropped on its way out fail for the error's reason.
            self.emitter.ports.visit(&mut visit::Untracked);
            if matches!(refused, Refused::Unreadable(_)) {
                turn.outbox.fail_all(anchors, &reason);
            }
            self.holds.blame(&reason);
        }
        fatal
    }

    /// Gives the children of a failed call wrong shares.
    fn poison(&mut self, anchors: &[Anchor], turn: &mut Turn<'_>) {
        poison(&mut self.emitter.ports, anchors, &mut turn.outbox.edges);
    }

    /// Runs a call that takes no tuple.
    fn call(
        &mut self,
        turn: &mut Turn<'_>,
        call: impl FnOnce(&mut B, &mut Emitter<B::Output, <B::Input as Input>::Mode>) -> Result,
    ) -> Ran {
        let ended = catch_unwind(AssertUnwindSafe(|| call(&mut self.bolt, &mut self.emitter)));
        self.emitter.ports.visit(&mut visit::Untracked);
        self.emitter.ports.route(turn, false);
        match ended {
            Ok(Ok(())) => Ran::Done,
            Ok(Err(error)) => {
                turn.tally.error(&error);
                if error.severity() == Severity::Fatal { Ran::Fatal(error) } else { Ran::Done }
            }
            Err(panic) => {
                let text = panic_text(&*panic);
                turn.tally.error(format!("panicked: {text}"));
                Ran::Panicked(text)
            }
        }
    }
}

impl<B: Bolt> AnyBolt for BoltTask<B> {
    fn prepare(&mut self, context: &Context) -> Result {
        catch_unwind(AssertUnwindSafe(|| self.bolt.prepare(context)))
            .unwrap_or_else(|panic| Err(Error::retry(format!("panicked: {}", panic_text(&*panic)))))
    }

    fn restart(&mut self, reason: &FailReason, turn: &mut Turn<'_>) {
        self.holds.fail_all(reason);
        self.emitter.ports.visit(&mut visit::DropPulls { outbox: turn.outbox, reason });
        // The old instance's drop may panic as well; its inputs have failed already.
        let old = std::mem::replace(&mut self.bolt, (self.factory)());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
    }

    fn admit(&self, subscription: usize, batch: Box<dyn AnyBatch>) -> Box<dyn AnyBatch> {
        admit(&self.subscriptions, subscription, batch)
    }

    fn execute(&mut self, subscription: usize, from: TaskId, batch: &mut dyn AnyBatch, turn: &mut Turn<'_>) -> Ran {
        let read = self.subscriptions[subscription].read;
        let source = self.sources[subscription].clone();
        if !<B::Input as Input>::Mode::ACKS_BY_RETURN {
            self.holds.take_from(subscription);
        }
        read(self, &source, from, batch, turn)
    }

    fn poll_in_flight(&mut self, _: &mut task::Context<'_>, _: &mut Turn<'_>) -> InFlight {
        InFlight { calls: 0, ended: None }
    }

    fn sweep(&mut self, timeout_us: Option<u64>, tell_after_us: u64, _: &mut Turn<'_>) {
        self.holds.sweep(timeout_us, tell_after_us);
    }

    fn tick(&mut self, turn: &mut Turn<'_>) -> Ran {
        self.call(turn, |bolt, out| bolt.tick(out))
    }

    fn finish(&mut self, turn: &mut Turn<'_>) -> Ran {
        let ran = self.call(turn, |bolt, out| bolt.finish(out));
        // What is left undone by `finish` is not tried again: its error is the run's.
        match ran {
            Ran::Done if !turn.tally.errors.is_empty() => Ran::Fatal(Error::fatal(turn.tally.errors.join("; "))),
            ran => ran,
        }
    }

    fn cleanup(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.bolt.cleanup()));
    }

    fn output(&mut self) -> &mut dyn AnyOutput {
        &mut self.emitter.ports
    }

    fn holds(&self) -> Option<&Holds> {
        (!<B::Input as Input>::Mode::ACKS_BY_RETURN).then_some(&self.holds)
    }

    fn in_flight(&self) -> usize {
        0
    }
}
