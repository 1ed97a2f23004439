//! The clocks of this daemon: the one place that asks them.
//!
//! Not here: what follows from the time (pure code takes it as an argument). Invariant: spans are measured on the clock that
//! does not jump; the other one is for people and records.

use cluster_state::records::EpochMs;
use tokio::time::Instant;

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "records and people are told the time of day")]
pub(crate) fn epoch_ms() -> EpochMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as EpochMs)
}

/// Measures from the start of this daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_ms: EpochMs,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Clock { started: Instant::now(), started_ms: epoch_ms() }
    }

    /// Milliseconds since the start; it never goes back.
    pub(crate) fn uptime_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// When it started.
    pub(crate) fn started_ms(&self) -> EpochMs {
        self.started_ms
    }
}
