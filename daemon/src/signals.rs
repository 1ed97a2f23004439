//! Signals that end a process: SIGTERM and SIGINT.
//!
//! Not here: what is done in order at the end. Invariant: the first asks for an end in order, the next for one at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a process was told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// SIGINT: Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

/// Listens for them; from then on they no longer end the process by themselves.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next. Cancel-safe.
    pub async fn next(&mut self) -> Told {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Told::Terminated,
            _ = self.interrupt.recv() => Told::Interrupted,
        }
    }
}
