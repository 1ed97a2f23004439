//! Ctrl-C and SIGTERM.
//!
//! Not here: what follows from them. Invariant: from the moment that this is made, neither ends the process by itself.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::refusal::Exit;

/// Hears the signals that ask for an end.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next of them. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Exit::Terminated,
            _ = self.interrupt.recv() => Exit::Interrupted,
        }
    }
}
