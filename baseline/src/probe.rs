//! What it costs on this machine, now, to hand a cache line from one core to another: it differs by a factor from minute to
//! minute where cores are a host's threads, and with it whatever hands tuples over.
//!
//! Not here: what is done with it. Invariant: a probe ends after some milliseconds, even where the threads share a core.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::measure::now;

const LASTS: Duration = Duration::from_millis(10);

/// Nanoseconds for a line to go to another core and back: the mean over ten milliseconds.
pub fn round_trip_ns() -> f64 {
    let (line, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                let value = line.load(Ordering::Acquire);
                if value != seen && value % 2 == 1 {
                    seen = value + 1;
                    line.store(seen, Ordering::Release);
                }
            }
        });
        let began = now();
        let mut trips = 0_u64;
        while began.elapsed() < LASTS {
            line.store(2 * trips + 1, Ordering::Release);
            // Bounded, as the other thread may not run at all.
            for _ in 0..100_000 {
                if line.load(Ordering::Acquire) == 2 * trips + 2 {
                    trips += 1;
                    break;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        began.elapsed().as_nanos() as f64 / trips.max(1) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trip_takes_its_time() {
        let ns = round_trip_ns();
        assert!(ns > 1.0 && ns.is_finite(), "{ns}");
    }
}
