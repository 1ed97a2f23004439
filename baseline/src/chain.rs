//! A bare chain of tokio tasks at a low rate: how long a tuple takes from a source through three more tasks.
//!
//! Not here: batches, and the way back to the source. Invariant: a tuple's time begins when it is sent, not when its
//! tick was due, so the timer's own lateness is not in it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc;

use crate::hop::BATCHES_IN_FLIGHT;
use crate::measure::now;

/// Tasks behind the source.
pub const HOPS: usize = 3;

/// Between two tuples: 1,000 a second.
pub const INTERVAL: Duration = Duration::from_millis(1);

/// Longest time that is told from longer ones.
const LONGEST_NS: u64 = 60_000_000_000;

/// Digits of a latency that are exact.
const DIGITS: u8 = 3;

/// Sends `tuples` tuples, one each millisecond; returns their times in nanoseconds, read in the last task.
pub async fn latencies(tuples: u64) -> Histogram<u64> {
    let (sender, first) = mpsc::channel::<Instant>(BATCHES_IN_FLIGHT);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(INTERVAL);
        for _ in 0..tuples {
            ticks.tick().await;
            if sender.send(now()).await.is_err() {
                return;
            }
        }
    });
    let mut last = (1..HOPS).fold(first, |input, _| passing_on(input));
    let sink = tokio::spawn(async move {
        let mut times = histogram();
        while let Some(sent) = last.recv().await {
            times.saturating_record(sent.elapsed().as_nanos() as u64);
        }
        times
    });
    sink.await.expect("the sink neither panics nor is aborted")
}

/// Times up to [`LONGEST_NS`]; a longer one counts as that.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("the bounds rise and the digits are within 0 to 5")
}

fn passing_on(mut input: mpsc::Receiver<Instant>) -> mpsc::Receiver<Instant> {
    let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
    tokio::spawn(async move {
        while let Some(sent) = input.recv().await {
            if sender.send(sent).await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_tuple_has_its_time() {
        let times = latencies(50).await;
        assert_eq!(times.len(), 50);
    }

    #[test]
    fn a_long_time_is_told_as_it_is() {
        let mut times = histogram();
        times.saturating_record(5_000_000);
        assert!((5_000_000..5_005_000).contains(&times.value_at_quantile(0.99)), "{}", times.value_at_quantile(0.99));
    }
}
