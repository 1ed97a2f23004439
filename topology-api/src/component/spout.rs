//! A task of a spout: asking it, and telling it what became of its roots.
//!
//! Not here: when it is asked (the runtime). Invariant: a message id is kept from the emit to the outcome, and given back
//! once.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    AnyOutput, AnySpout, AnyTask, Asked, Factory, Node, Pace, Panicked, Said, TaskParts, Turn, caught, panic_text,
};
use crate::anchor::Slot;
use crate::context::Context;
use crate::error::{Error, Result, Severity};
use crate::fail::{FailKind, FailReason};
use crate::output::{Output, Ports, visit};
use crate::spout::{Next, OpenRoots, Pending, Roots, Spout};

pub(crate) struct SpoutNode<S: Spout> {
    pub(crate) factory: Factory<S>,
}

impl<S: Spout> Node for SpoutNode<S> {
    fn task(&self, parts: TaskParts<'_>) -> AnyTask {
        let TaskParts { mut wires, component, .. } = parts;
        AnyTask::Spout(Box::new(SpoutTask {
            component: component.into(),
            spout: (self.factory)(),
            factory: self.factory.clone(),
            ports: S::Output::open(&mut wires),
            by_slot: Vec::new(),
            lagging: Vec::new(),
            untracked: Vec::new(),
            refused: Vec::new(),
            pace: Pace::new(),
        }))
    }
}

struct SpoutTask<S: Spout> {
    component: Box<str>,
    spout: S,
    factory: Factory<S>,
    ports: <S::Output as Output>::Ports,
    /// The message id of each pending root, by its slot.
    by_slot: Vec<Option<S::MessageId>>,
    lagging: Vec<S::MessageId>,
    untracked: Vec<S::MessageId>,
    refused: Vec<S::MessageId>,
    pace: Pace,
}

impl<S: Spout> AnySpout for SpoutTask<S> {
    fn open(&mut self, context: &Context) -> Result {
        catch_unwind(AssertUnwindSafe(|| self.spout.open(context)))
            .unwrap_or_else(|panic| Err(Error::retry(format!("panicked: {}", panic_text(&*panic)))))
    }

    fn restart(&mut self) {
        let old = std::mem::replace(&mut self.spout, (self.factory)());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
    }

    fn next(&mut self, limit: usize, ledger: Option<&mut dyn OpenRoots>, turn: &mut Turn<'_>) -> Asked {
        self.pace.begin(turn.began_us);
        let pending = Pending {
            lagging: &mut self.lagging,
            by_slot: &mut self.by_slot,
            untracked: &mut self.untracked,
            refused: &mut self.refused,
            // Reborrowed, as the object's lifetime inside an option does not shorten by itself.
            ledger: match ledger {
                Some(ledger) => Some(ledger),
                None => None,
            },
            edges: &mut turn.outbox.edges,
            emitted: 0,
        };
        let mut roots = Roots::<S::Output, S::MessageId> { ports: &mut self.ports, pending };
        let spout = &mut self.spout;
        let pace = &mut self.pace;
        let (clock, until_us) = (turn.clock, turn.until_us);
        let said = catch_unwind(AssertUnwindSafe(|| {
            loop {
                match spout.next(&mut roots) {
                    Ok(Next::Emitted) => {}
                    Ok(Next::Idle(pause)) => return Said::Idle(pause),
                    Ok(Next::Done) => return Said::Done,
                    Err(error) if error.severity() == Severity::Fatal => return Said::Fatal(error),
                    Err(error) => return Said::Failed(error),
                }
                let mut full = visit::Full::default();
                roots.ports.visit(&mut full);
                if full.0 || roots.emitted() >= limit || pace.is_past(clock, until_us) {
                    return Said::More;
                }
            }
        }));
        let said = said.unwrap_or_else(|panic| Said::Panicked(panic_text(&*panic)));
        roots.pending.open_lagging(roots.ports);
        roots.ports.visit(&mut visit::Untracked);
        let emitted = roots.pending.emitted;
        self.ports.route(turn, false);
        Asked { roots: emitted, said: self.tell_at_once().err().map_or(said, |panic| Said::Panicked(panic.0)) }
    }

    fn ack(&mut self, slots: &mut VecDeque<Slot>) -> Result<(), Panicked> {
        let SpoutTask { spout, by_slot, .. } = self;
        caught(|| {
            while let Some(slot) = slots.pop_front() {
                if let Some(id) = by_slot.get_mut(slot.0 as usize).and_then(Option::take) {
                    spout.ack(id);
                }
            }
        })
    }

    fn fail(&mut self, slot: Slot, reason: &FailReason) -> Result<(), Panicked> {
        match self.by_slot.get_mut(slot.0 as usize).and_then(Option::take) {
            Some(id) => caught(|| self.spout.fail(id, reason)),
            None => Ok(()),
        }
    }

    fn set_active(&mut self, active: bool) -> Result<(), Panicked> {
        caught(|| if active { self.spout.activate() } else { self.spout.deactivate() })
    }

    fn close(&mut self) {
        let _ = caught(|| self.spout.close());
    }

    fn output(&mut self) -> &mut dyn AnyOutput {
        &mut self.ports
    }
}

impl<S: Spout> SpoutTask<S> {
    /// Acks what is not tracked, and fails what found no slot.
    fn tell_at_once(&mut self) -> Result<(), Panicked> {
        let SpoutTask { spout, untracked, refused, component, .. } = self;
        if untracked.is_empty() && refused.is_empty() {
            return Ok(());
        }
        let said = "one call of `next` emitted more roots than a spout may have pending";
        let reason = FailReason::new(FailKind::Failed, component, said);
        // Each for itself: a panic over one keeps no other from being heard.
        let mut told = Ok(());
        for id in untracked.drain(..) {
            let heard = caught(|| spout.ack(id));
            told = told.and(heard);
        }
        for id in refused.drain(..) {
            let heard = caught(|| spout.fail(id, &reason));
            told = told.and(heard);
        }
        told
    }
}
