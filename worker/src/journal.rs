//! What happened in a run, line by line: two runs under the same seed give the same bytes.
//!
//! [`Observer`] hears what happens on links, for who judges a run while it goes on.
//!
//! Not here: logs for operators (`tracing`). Invariant: a line holds nothing but what follows from the seed.

use std::sync::{Arc, Mutex, PoisonError};

use worker_api::ids::{Life, WorkerIndex};

use crate::transfer::handshake::Refusal;

/// What happens on a worker's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The link to a peer is with this life of it from now on. Told once for each, not at each connection.
    Accepted {
        /// The peer.
        peer: WorkerIndex,
        /// Its life.
        life: Life,
    },
    /// A life that has proved itself was refused. Told at each attempt to connect.
    Refused {
        /// The peer.
        peer: WorkerIndex,
        /// Its life.
        life: Life,
        /// Why.
        why: Refusal,
    },
}

/// Hears what happens, in its order for each peer; called where it happens, so it must be quick.
pub type Observer = Arc<dyn Fn(Event) + Send + Sync>;

/// Collects lines; a cheap clone. Batches and roots are written, tuples are not.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<String>>);

impl Journal {
    /// An empty one.
    pub fn new() -> Self {
        Journal::default()
    }

    /// Adds a line.
    pub fn line(&self, at_us: u64, text: std::fmt::Arguments<'_>) {
        use std::fmt::Write;
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{at_us} {text}");
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
