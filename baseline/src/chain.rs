//! A bare chain of tokio tasks at a low rate: how long a tuple takes from a source through three more tasks.
//!
//! Not here: batches, and the way back to the source. Invariant: a tuple's time is read in the last task.

use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::sync::{Notify, mpsc};

use crate::hop::BATCHES_IN_FLIGHT;
use crate::measure::{Latency, now};
use crate::metronome::Offer;

/// Tasks behind the source.
pub const HOPS: usize = 3;

/// Tuples a second.
pub const PER_SECOND: f64 = 1000.0;

/// Longest time that is told from longer ones.
const LONGEST_NS: u64 = 60_000_000_000;

/// Digits of a latency that are exact.
const DIGITS: u8 = 3;

/// How long tuples took.
#[derive(Debug)]
pub struct Times {
    /// Since they were due.
    pub since_due: Histogram<u64>,
    /// Since the source had them.
    pub since_sent: Histogram<u64>,
}

impl Times {
    /// The quantiles of both: since due, and since sent.
    pub fn latencies(&self) -> (Latency, Latency) {
        (Latency::of(&self.since_due), Latency::of(&self.since_sent))
    }
}

/// Nanoseconds up to a minute; a longer time counts as that.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("the bounds rise and the digits are within 0 to 5")
}

type Tuple = (u64, Instant);

/// Sends what is offered; tuples before `first` are not in the times.
pub async fn times(offer: Arc<Offer>, first: u64) -> Times {
    let (sender, receiver) = mpsc::channel::<Tuple>(BATCHES_IN_FLIGHT);
    let (more, source_offer) = (Arc::new(Notify::new()), offer.clone());
    let due = more.clone();
    tokio::spawn(async move {
        for next in 0..source_offer.tuples() {
            while next >= source_offer.due() {
                due.notified().await;
            }
            if sender.send((next, now())).await.is_err() {
                return;
            }
        }
    });
    let mut last = (1..HOPS).fold(receiver, |input, _| passing_on(input));
    let seen = offer.clone();
    let sink = tokio::spawn(async move {
        let mut times = Times { since_due: histogram(), since_sent: histogram() };
        while let Some((tuple, sent)) = last.recv().await {
            if tuple >= first {
                times.since_due.saturating_record(seen.overdue(tuple).as_nanos() as u64);
                times.since_sent.saturating_record(sent.elapsed().as_nanos() as u64);
            }
        }
        times
    });
    offer.begin(move || more.notify_one());
    sink.await.expect("the sink neither panics nor is aborted")
}

fn passing_on(mut input: mpsc::Receiver<Tuple>) -> mpsc::Receiver<Tuple> {
    let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
    tokio::spawn(async move {
        while let Some(tuple) = input.recv().await {
            if sender.send(tuple).await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_tuple_has_its_times() {
        let times = times(Offer::new(10_000.0, 50), 5).await;
        assert_eq!((times.since_due.len(), times.since_sent.len()), (45, 45));
        let (since_due, since_sent) = times.latencies();
        assert!(since_due.p50_us >= since_sent.p50_us, "{since_due:?} {since_sent:?}");
    }

    #[test]
    fn a_long_time_is_told_as_it_is() {
        let mut times = histogram();
        times.saturating_record(5_000_000);
        assert!((5_000_000..5_005_000).contains(&times.value_at_quantile(0.99)), "{}", times.value_at_quantile(0.99));
    }
}
