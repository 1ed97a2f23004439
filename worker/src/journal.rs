//! What happened in a run, line by line: two runs under the same seed give the same bytes.
//!
//! Not here: logs for operators (`tracing`). Invariant: a line holds nothing but what follows from the seed.

use std::sync::{Arc, Mutex, PoisonError};

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
