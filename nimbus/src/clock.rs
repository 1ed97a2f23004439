//! The clocks of this daemon.
//!
//! Not here: what follows from the time (pure code takes it as an argument). Invariant: spans are measured on the clock that
//! does not jump; the other one is for people and records.

use cluster_state::records::EpochMs;
use seam::Seam;
use tokio::time::Instant;

/// Measures from the start of this daemon.
#[derive(Clone)]
pub(crate) struct Clock {
    seam: Seam,
    started: Instant,
    started_ms: EpochMs,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start(seam: Seam) -> Self {
        Clock { started: seam.now(), started_ms: seam.epoch_ms(), seam }
    }

    /// Milliseconds since the start; it never goes back.
    pub(crate) fn uptime_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// When it started.
    pub(crate) fn started_ms(&self) -> EpochMs {
        self.started_ms
    }

    /// Milliseconds since 1970.
    pub(crate) fn epoch_ms(&self) -> EpochMs {
        self.seam.epoch_ms()
    }
}
