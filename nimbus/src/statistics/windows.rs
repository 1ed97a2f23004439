//! What an executor counted in the last minutes, hours and day.
//!
//! Not here: totals. Invariants: of each window there are at most [`BUCKETS`] buckets, and the sum is that of its buckets;
//! those that are full are packed (some 20 KiB for a busy executor), and an executor that counts nothing has none.

use std::collections::VecDeque;

use nimbus_api::topology::Window;
use worker_api::report::Counts;

use super::counts;

/// Buckets of a window: its edge is told to a thirtieth of its length.
const BUCKETS: u64 = 30;

/// The windows of one executor.
#[derive(Clone, Debug)]
pub(super) struct Windows([Buckets; 3]);

/// One window.
#[derive(Clone, Debug)]
struct Buckets {
    window: Window,
    length_ms: u64,
    /// Of all buckets, those among them that are too old by now.
    sum: Counts,
    /// The bucket that counts now, by its number since the clock began.
    current: Option<(u64, Counts)>,
    /// Full ones that counted something, oldest first.
    full: VecDeque<(u64, Box<[u8]>)>,
}

impl Default for Windows {
    fn default() -> Self {
        let buckets = |window: Window, secs: u64| Buckets {
            window,
            length_ms: secs * 1000,
            sum: Counts::default(),
            current: None,
            full: VecDeque::new(),
        };
        Windows([buckets(Window::TenMinutes, 600), buckets(Window::ThreeHours, 10_800), buckets(Window::Day, 86_400)])
    }
}

impl Windows {
    /// Counts what came in the last `spread_ms` milliseconds: windows that are shorter do not know how much of it is theirs,
    /// and leave it out.
    pub(super) fn count(&mut self, more: &Counts, spread_ms: u64, now_ms: u64) {
        let more = counts::coarse(more);
        for buckets in self.0.iter_mut().filter(|buckets| spread_ms <= buckets.length_ms) {
            buckets.count(&more, buckets.number(now_ms));
        }
    }

    /// What was counted in a window that ends now; `None` for all time.
    pub(super) fn of(&self, window: Window, now_ms: u64) -> Option<Counts> {
        let buckets = self.0.iter().find(|buckets| buckets.window == window)?;
        Some(buckets.sum(buckets.number(now_ms)))
    }

    #[cfg(test)]
    pub(super) fn full_buckets(&self) -> [usize; 3] {
        self.0.each_ref().map(|buckets| buckets.full.len())
    }
}

impl Buckets {
    fn number(&self, now_ms: u64) -> u64 {
        now_ms / (self.length_ms / BUCKETS)
    }

    fn count(&mut self, more: &Counts, number: u64) {
        counts::add(&mut self.sum, more);
        match &mut self.current {
            Some((current, sum)) if *current == number => counts::add(sum, more),
            current => {
                if let Some((before, full)) = current.replace((number, more.clone())) {
                    self.full.push_back((before, pack(&full)));
                }
                while let Some((_, old)) = self.full.pop_front_if(|(before, _)| *before + BUCKETS <= number) {
                    self.sum = counts::since(&self.sum, &unpack(&old));
                }
            }
        }
    }

    fn sum(&self, number: u64) -> Counts {
        let old = |before: u64| before + BUCKETS <= number;
        if self.current.as_ref().is_none_or(|(current, _)| old(*current)) {
            return Counts::default();
        }
        let old = self.full.iter().take_while(|(before, _)| old(*before));
        old.fold(self.sum.clone(), |sum, (_, old)| counts::since(&sum, &unpack(old)))
    }
}

fn pack(counts: &Counts) -> Box<[u8]> {
    postcard::to_stdvec(counts).expect("counts are numbers and names").into()
}

fn unpack(packed: &[u8]) -> Counts {
    postcard::from_bytes(packed).expect("it was packed here")
}
