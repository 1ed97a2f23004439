//! A thread that says how many tuples are due at a steady rate, whatever becomes of them: an open-loop generator.
//!
//! Not here: the tuples. Invariant: tuple n is due n intervals after the first, so who was held up finds all that has come
//! due meanwhile, and each tuple's time counts from when it was due.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::measure::{now, thread_cpu_time};

/// Between two looks at the clock, where tuples come faster than that.
const SHORTEST_SLEEP: Duration = Duration::from_micros(100);

/// What is offered: so many tuples, at a rate.
#[derive(Debug)]
pub struct Offer {
    per_second: f64,
    tuples: u64,
    began: OnceLock<Instant>,
    due: AtomicU64,
    thread: Mutex<Option<JoinHandle<Duration>>>,
}

impl Offer {
    /// `tuples` tuples, `per_second` a second; infinite for all at once.
    pub fn new(per_second: f64, tuples: u64) -> Arc<Self> {
        let (began, due, thread) = Default::default();
        Arc::new(Offer { per_second, tuples, began, due, thread })
    }

    /// Starts the thread; `wake` is called whenever more tuples are due. Only the first call does something.
    pub fn begin(self: &Arc<Self>, wake: impl Fn() + Send + 'static) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let began = *self.began.get_or_init(now);
            let offer = self.clone();
            *thread = Some(std::thread::spawn(move || offer.tick(began, wake)));
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a thread that keeps a rate has nothing else to wait for than the time"
    )]
    fn tick(&self, began: Instant, wake: impl Fn()) -> Duration {
        // The default of 50 µs would be a good part of what is measured. Without it the rate is kept as well.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        loop {
            let elapsed = began.elapsed();
            let due = ((elapsed.as_secs_f64() * self.per_second) as u64).saturating_add(1).min(self.tuples);
            self.due.store(due, Ordering::Release);
            wake();
            if due == self.tuples {
                return thread_cpu_time();
            }
            let next = self.after(due).saturating_sub(elapsed).max(SHORTEST_SLEEP);
            std::thread::sleep(next);
        }
    }

    /// Tuples that are due.
    #[inline]
    pub fn due(&self) -> u64 {
        self.due.load(Ordering::Acquire)
    }

    /// All tuples that will be.
    pub fn tuples(&self) -> u64 {
        self.tuples
    }

    /// For how long a tuple has been due.
    #[inline]
    pub fn overdue(&self, tuple: u64) -> Duration {
        self.began.get().map_or(Duration::ZERO, |began| began.elapsed().saturating_sub(self.after(tuple)))
    }

    fn after(&self, tuple: u64) -> Duration {
        Duration::from_nanos((tuple as f64 * 1e9 / self.per_second) as u64)
    }

    /// Waits until all is due; the CPU time that the thread took.
    pub fn end(&self) -> Duration {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map_or(Duration::ZERO, |thread| thread.join().expect("the metronome does not panic"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn all_tuples_come_due_in_their_time() {
        let offer = Offer::new(10_000.0, 100);
        let (sender, receiver) = sync_channel(1000);
        let (told, began) = (offer.clone(), now());
        offer.begin(move || sender.send(told.due()).unwrap());
        let ticks: Vec<u64> = receiver.iter().collect();
        assert!(began.elapsed() >= Duration::from_micros(9_800), "{:?}", began.elapsed());
        assert!(ticks.is_sorted() && ticks.last() == Some(&100), "{ticks:?}");
        assert!(ticks.len() > 1);
        offer.end();
        assert!(offer.overdue(0) >= offer.overdue(99) + Duration::from_micros(9_800));
    }

    #[test]
    fn all_at_once_is_due_at_once() {
        let offer = Offer::new(f64::INFINITY, 7);
        offer.begin(|| {});
        offer.end();
        assert_eq!(offer.due(), 7);
    }
}
