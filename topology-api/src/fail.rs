//! Why a root failed, as its spout hears it and as it crosses the wire.
//!
//! Not here: the error that a component returns (`error`). Invariant: a reason names the component at fault where one is
//! known, so that nobody has to search for it.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// What kind of end a failed root came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[repr(u8)]
pub enum FailKind {
    /// A bolt failed the tuple by its own word, or returned an error.
    Failed = 0,
    /// A component panicked while it held the tuple.
    Panicked = 1,
    /// A `Tracked` input was dropped without ack or fail.
    Dropped = 2,
    /// A component held the tuple longer than `topology.message.timeout.secs`.
    TimedOut = 3,
    /// A worker that the tree had reached is gone.
    WorkerLost = 4,
    /// The budget for the tuples of a cycle is used up.
    CycleOverflow = 5,
    /// A tuple could not be read, or not be turned into what the bolt takes.
    Malformed = 6,
    /// The topology was stopped while the root was pending.
    Stopped = 7,
    /// The root's word stood still for many time-outs: a fault of the runtime itself.
    Stalled = 8,
}

impl FailKind {
    /// The kind with this number on the wire.
    pub fn from_number(number: u8) -> Option<Self> {
        use FailKind::*;
        [Failed, Panicked, Dropped, TimedOut, WorkerLost, CycleOverflow, Malformed, Stopped, Stalled]
            .get(usize::from(number))
            .copied()
    }
}

/// Why a root failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailReason {
    /// The kind of end.
    pub kind: FailKind,
    /// The component (or the worker) at fault; empty where none is known.
    pub by: SmolStr,
    /// What it said; empty where the kind says it all.
    pub message: SmolStr,
}

impl FailReason {
    /// Longest text, in bytes, that a reason keeps of `by` and of `message`; the rest is cut.
    pub const TEXT_BYTES: usize = 1024;

    /// A reason; texts are cut to [`FailReason::TEXT_BYTES`].
    pub fn new(kind: FailKind, by: impl AsRef<str>, message: impl AsRef<str>) -> Self {
        FailReason { kind, by: cut(by.as_ref()), message: cut(message.as_ref()) }
    }
}

fn cut(text: &str) -> SmolStr {
    let end = text.floor_char_boundary(FailReason::TEXT_BYTES.min(text.len()));
    SmolStr::new(&text[..end])
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.by.is_empty() { "a component" } else { self.by.as_str() };
        match self.kind {
            FailKind::Failed => write!(f, "{by} failed it"),
            FailKind::Panicked => write!(f, "{by} panicked"),
            FailKind::Dropped => write!(f, "{by} dropped it without ack or fail"),
            FailKind::TimedOut => write!(f, "{by} held it longer than the message time-out"),
            FailKind::WorkerLost => write!(f, "worker {by} is gone"),
            FailKind::CycleOverflow => write!(f, "the cycle through {by} is full"),
            FailKind::Malformed => write!(f, "{by} could not read it"),
            FailKind::Stopped => f.write_str("the topology was stopped"),
            FailKind::Stalled => f.write_str("the root stood still: a fault of the runtime"),
        }?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}
