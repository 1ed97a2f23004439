//! What an executor counted in the last minutes, hours and day.
//!
//! Not here: totals. Invariant: of each window there are at most [`BUCKETS`] buckets; those that are full are packed, and
//! an executor that counts nothing has none.

use std::collections::VecDeque;

use nimbus_api::topology::Window;
use worker_api::report::Counts;

use super::counts;

/// Buckets of a window: its edge is told to a thirtieth of its length.
pub(super) const BUCKETS: u64 = 30;

/// The windows of one executor.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    ten_minutes: Buckets,
    three_hours: Buckets,
    day: Buckets,
}

/// One window.
#[derive(Clone, Debug, Default)]
struct Buckets {
    /// The bucket that counts now, by its number since the clock began.
    current: Option<(u64, Counts)>,
    /// Full ones, oldest first.
    full: VecDeque<(u64, Box<[u8]>)>,
}

impl Windows {
    /// Counts what came in the last `age_ms` milliseconds: windows that are shorter do not know how much of it is theirs,
    /// and leave it out.
    pub(super) fn count(&mut self, more: &Counts, age_ms: u64, now_ms: u64) {
        for (buckets, window_ms) in self.each() {
            if age_ms <= window_ms {
                buckets.count(more, now_ms / (window_ms / BUCKETS));
            }
        }
    }

    /// What was counted in a window that ends now; `None` for all time.
    pub(super) fn of(&self, window: Window, now_ms: u64) -> Option<Counts> {
        let bucket_ms = window.secs()? * 1000 / BUCKETS;
        let buckets = match window {
            Window::TenMinutes => &self.ten_minutes,
            Window::ThreeHours => &self.three_hours,
            Window::Day => &self.day,
            Window::AllTime => return None,
        };
        Some(buckets.sum(now_ms / bucket_ms))
    }

    fn each(&mut self) -> [(&mut Buckets, u64); 3] {
        let ms = |window: Window| window.secs().unwrap_or(0) * 1000;
        [
            (&mut self.ten_minutes, ms(Window::TenMinutes)),
            (&mut self.three_hours, ms(Window::ThreeHours)),
            (&mut self.day, ms(Window::Day)),
        ]
    }
}

impl Buckets {
    fn count(&mut self, more: &Counts, number: u64) {
        match &mut self.current {
            Some((current, sum)) if *current == number => counts::add(sum, more),
            _ => {
                if let Some((before, full)) = self.current.replace((number, more.clone())) {
                    self.full.push_back((before, pack(&full)));
                }
                self.full.retain(|(before, _)| before + BUCKETS > number);
            }
        }
    }

    fn sum(&self, number: u64) -> Counts {
        let mut sum = Counts::default();
        let within = |before: u64| before + BUCKETS > number;
        for (_, full) in self.full.iter().filter(|(before, _)| within(*before)) {
            counts::add(&mut sum, &unpack(full));
        }
        if let Some((_, current)) = self.current.as_ref().filter(|(current, _)| within(*current)) {
            counts::add(&mut sum, current);
        }
        sum
    }
}

fn pack(counts: &Counts) -> Box<[u8]> {
    postcard::to_stdvec(&counts::coarse(counts)).expect("counts are numbers and names").into()
}

fn unpack(packed: &[u8]) -> Counts {
    postcard::from_bytes(packed).expect("it was packed here")
}
