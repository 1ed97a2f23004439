//! One run's figures, and what several rounds of it come to.
//!
//! Not here: what is run (`cases`). Invariant: the only module of this crate that reads a clock outside a measured loop.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// What a run handled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handled {
    /// Tuples: words, for the word counts.
    pub tuples: u64,
    /// Of what came out, in any order: so that the same work can be told from less. The sum of the numbers, or that of a
    /// word count.
    pub checksum: u64,
}

/// One run of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// What was handled.
    pub handled: Handled,
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
    /// 99.9 % of the tuples took at most this.
    pub p999_us: f64,
}

impl Latency {
    /// The quantiles of `nanoseconds`.
    pub fn of(nanoseconds: &Histogram<u64>) -> Self {
        let quantile = |at| nanoseconds.value_at_quantile(at) as f64 / 1000.0;
        Latency { p50_us: quantile(0.5), p99_us: quantile(0.99), p999_us: quantile(0.999) }
    }
}

impl Measurement {
    /// Runs `work`, which tells what it handled.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn of<E>(work: impl FnOnce() -> Result<Handled, E>) -> Result<Self, E> {
        let (wall, cpu) = (now(), cpu_time());
        let handled = work()?;
        Ok(Measurement { handled, wall: wall.elapsed(), cpu: cpu_time() - cpu, latency: None })
    }

    /// Tuples a second of wall time.
    pub fn per_second(&self) -> f64 {
        self.handled.tuples as f64 / self.wall.as_secs_f64()
    }
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "measuring is what this crate is for")]
pub fn now() -> Instant {
    Instant::now()
}

/// The CPU time of this process since it began.
pub fn cpu_time() -> Duration {
    cpu_clock(rustix::time::ClockId::ProcessCPUTime)
}

/// The CPU time of the calling thread since it began.
pub fn thread_cpu_time() -> Duration {
    cpu_clock(rustix::time::ClockId::ThreadCPUTime)
}

fn cpu_clock(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
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
            tuples: median.handled.tuples,
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
        let handled = Handled { tuples, checksum: 0 };
        let cpu = Duration::from_millis(3 * milliseconds);
        Measurement { handled, wall: Duration::from_millis(milliseconds), cpu, latency: None }
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
        let handled = Handled { tuples: 7, checksum: 9 };
        assert_eq!(Measurement::of(|| Ok::<_, ()>(handled)).unwrap().handled, handled);
        assert_eq!(Measurement::of(|| Err("broken")), Err("broken"));
    }

    #[test]
    fn work_takes_cpu_time() {
        let work = || (0..20_000).map(crate::microsecond::work).fold(0, |a, b| a ^ b);
        let busy = Measurement::of(|| Ok::<_, ()>(Handled { tuples: 20_000, checksum: work() }));
        assert!(busy.unwrap().cpu > Duration::ZERO);
    }
}
