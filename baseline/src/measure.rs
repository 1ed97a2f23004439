//! One run's figures, and what several rounds of it come to.
//!
//! Not here: what is run (`cases`). Invariant: the only module of this crate that reads a clock outside a measured loop.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// One run of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Tuples handled: words, for the word counts.
    pub tuples: u64,
    /// Time on the wall.
    pub wall: Duration,
    /// Time that all threads of this process computed.
    pub cpu: Duration,
    /// How long single tuples took, for a case at a low rate.
    pub latency: Option<Latency>,
}

/// Quantiles of single tuples' times, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the tuples took at most this.
    pub p50_us: f64,
    /// 99 % of the tuples took at most this.
    pub p99_us: f64,
}

impl Latency {
    /// The quantiles of `nanoseconds`.
    pub fn of(nanoseconds: &Histogram<u64>) -> Self {
        let quantile = |at| nanoseconds.value_at_quantile(at) as f64 / 1000.0;
        Latency { p50_us: quantile(0.5), p99_us: quantile(0.99) }
    }
}

impl Measurement {
    /// Runs `work`, which tells how many tuples it handled.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn of<E>(work: impl FnOnce() -> Result<u64, E>) -> Result<Self, E> {
        let (wall, cpu) = (now(), cpu_time());
        let tuples = work()?;
        Ok(Measurement { tuples, wall: wall.elapsed(), cpu: cpu_time() - cpu, latency: None })
    }

    /// Tuples a second of wall time.
    pub fn per_second(&self) -> f64 {
        self.tuples as f64 / self.wall.as_secs_f64()
    }
}

#[expect(clippy::disallowed_methods, reason = "measuring is what this crate is for")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The CPU time of this process since it began.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// What the rounds of a case come to: the round with the median rate, and how far the others lie from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The case's name.
    pub case: String,
    /// Tuples of the median round.
    pub tuples: u64,
    /// Its wall time.
    pub seconds: f64,
    /// Its rate, rounded.
    pub per_second: f64,
    /// The CPU time that all threads of the process took in it.
    pub cpu_seconds: f64,
    /// The highest rate less the lowest, as a part of the median; 0 for a single round.
    pub spread: f64,
    /// How many rounds there were.
    pub rounds: usize,
    /// The median round's latency, for a case that measures it.
    #[serde(flatten)]
    pub latency: Option<Latency>,
}

impl Summary {
    /// Sums up `rounds`; `None` if there are none. Of an even number the slower middle one counts as the median.
    pub fn of(case: &str, rounds: &[Measurement]) -> Option<Self> {
        let mut by_rate: Vec<&Measurement> = rounds.iter().collect();
        by_rate.sort_by(|one, other| one.per_second().total_cmp(&other.per_second()));
        let (slowest, fastest) = (by_rate.first()?, by_rate.last()?);
        let median = by_rate[(by_rate.len() - 1) / 2];
        Some(Summary {
            case: case.to_owned(),
            tuples: median.tuples,
            seconds: thousandths(median.wall.as_secs_f64()),
            per_second: median.per_second().round(),
            cpu_seconds: thousandths(median.cpu.as_secs_f64()),
            spread: thousandths((fastest.per_second() - slowest.per_second()) / median.per_second()),
            rounds: rounds.len(),
            latency: median.latency,
        })
    }
}

/// `value` as a person reads it.
fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(tuples: u64, milliseconds: u64) -> Measurement {
        let cpu = Duration::from_millis(3 * milliseconds);
        Measurement { tuples, wall: Duration::from_millis(milliseconds), cpu, latency: None }
    }

    #[test]
    fn the_median_round_stands_for_all() {
        let rounds = [round(1000, 1000), round(1000, 500), round(1000, 2000)];
        assert_eq!(
            serde_json::to_string(&Summary::of("hop", &rounds).unwrap()).unwrap(),
            r#"{"case":"hop","tuples":1000,"seconds":1.0,"per_second":1000.0,"cpu_seconds":3.0,"spread":1.5,"rounds":3}"#
        );
    }

    #[test]
    fn a_single_round_has_no_spread() {
        assert_eq!(Summary::of("hop", &[round(10, 100)]).unwrap().spread, 0.0);
        assert_eq!(Summary::of("hop", &[]), None);
    }

    #[test]
    fn a_latency_stands_beside_the_other_figures() {
        let mut nanoseconds = Histogram::new(3).unwrap();
        nanoseconds.record_n(5_000, 99).unwrap();
        nanoseconds.record(90_000).unwrap();
        let latency = Latency::of(&nanoseconds);
        assert!((latency.p50_us - 5.0).abs() < 0.01 && (latency.p99_us - 5.0).abs() < 0.01, "{latency:?}");
        let rounds = [Measurement { latency: Some(latency), ..round(1, 1) }];
        let json = serde_json::to_value(Summary::of("chain", &rounds)).unwrap();
        assert!(json["p50_us"].is_f64() && json["p99_us"].is_f64(), "{json}");
    }

    #[test]
    fn the_tuples_are_those_of_the_work() {
        assert_eq!(Measurement::of(|| Ok::<_, ()>(7)).unwrap().tuples, 7);
        assert_eq!(Measurement::of(|| Err("broken")), Err("broken"));
    }

    #[test]
    fn work_takes_cpu_time() {
        let busy = Measurement::of(|| Ok::<_, ()>((0..20_000).map(crate::microsecond::work).fold(0, |a, b| a ^ b) | 1));
        assert!(busy.unwrap().cpu > Duration::ZERO);
    }
}
