//! The clock on the wall, for what people read.
//!
//! Not here: waiting (`tokio::time`). Invariant: nothing is decided by it but how old a log is.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub(crate) fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "shown to people, and compared with the times of files")]
    SystemTime::now()
}

/// Milliseconds since 1970.
pub(crate) fn epoch_ms() -> u64 {
    now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
