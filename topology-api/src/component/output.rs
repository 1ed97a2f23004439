//! What a task emits through, without its types: routing, counting, and iterators that are pulled as fast as is delivered.
//!
//! Not here: ports themselves (`crate::output`). Invariant: a failed call's children get wrong shares of its edges.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Ran, Turn, panic_text};
use crate::anchor::{Anchor, EdgeIds};
use crate::fail::{FailKind, FailReason};
use crate::output::{Ports, visit};

/// What ports counted: tuples emitted, and tuples sent to tasks, for each stream in order.
pub type StreamCounts = Vec<(u64, u64)>;

/// The ports of a task.
pub trait AnyOutput {
    /// Takes a batch's worth from iterators given to `emit_all`, and routes it; [`Ran::Paused`] while some are open.
    fn pull(&mut self, turn: &mut Turn<'_>) -> Ran;

    /// Whether iterators given to `emit_all` are open.
    fn pulls(&mut self) -> bool;

    /// Routes what is full, or all that is staged.
    fn route(&mut self, turn: &mut Turn<'_>, flush: bool);

    /// Whether anything waits for a flush.
    fn holds_tuples(&mut self) -> bool;

    /// Writes what the ports counted in the place of what `counts` held.
    fn counts(&mut self, counts: &mut StreamCounts);
}

impl<P: Ports> AnyOutput for P {
    /// A panic of one iterator gives all of them up.
    fn pull(&mut self, turn: &mut Turn<'_>) -> Ran {
        let mut open = false;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut pull = visit::PullAll { outbox: turn.outbox, open: false };
            self.visit(&mut pull);
            open = pull.open;
        }));
        if let Err(panic) = ended {
            let text = panic_text(&*panic);
            let reason = FailReason::new(FailKind::Panicked, turn.component, &text);
            self.visit(&mut visit::DropPulls { outbox: turn.outbox, reason: &reason });
            turn.tally.error(format!("panicked: {text}"));
            return Ran::Panicked(text);
        }
        self.route(turn, false);
        if open { Ran::Paused } else { Ran::Done }
    }

    fn pulls(&mut self) -> bool {
        let mut pulls = visit::Pulls::default();
        self.visit(&mut pulls);
        pulls.0
    }

    fn route(&mut self, turn: &mut Turn<'_>, flush: bool) {
        self.visit(&mut visit::RouteAll { outbox: turn.outbox, rooms: turn.rooms, flush });
    }

    fn holds_tuples(&mut self) -> bool {
        let mut waiting = visit::Waiting::default();
        self.visit(&mut waiting);
        waiting.0
    }

    fn counts(&mut self, counts: &mut StreamCounts) {
        counts.clear();
        self.visit(&mut visit::Count(counts));
    }
}

/// Gives the children of a failed call wrong shares of its edges, so that no ack of theirs can complete its roots.
pub(super) fn poison<P: Ports>(ports: &mut P, anchors: &[Anchor], edges: &mut EdgeIds) {
    let mut children = visit::Children::default();
    ports.visit(&mut children);
    if children.0 == 0 {
        return;
    }
    if anchors.is_empty() {
        ports.visit(&mut visit::Untracked);
    } else {
        let wrong = anchors.iter().map(|anchor| Anchor { edge: edges.draw(), ..*anchor });
        let rest = wrong.collect();
        ports.visit(&mut visit::DivideMany { rest, children: children.0, edges });
    }
}
