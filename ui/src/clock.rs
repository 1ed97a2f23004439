//! The time of day, which ages of errors are counted from.
//!
//! Not here: anything that waits. Invariant: the only place of this crate that reads a clock.

use std::time::UNIX_EPOCH;

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "ages of errors are told from the time of day")]
pub(crate) fn now_secs() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
