//! How many roots a spout task may have pending: a limit set by hand, or one that settles between a topology that starves
//! and queues that only wait.
//!
//! Not here: counting what is pending (`pending`), back-pressure (a spout that nobody has room for is not asked at all).
//! Invariant: a limit set by hand never changes; the other stays within [`Window::MIN`] ..= [`Window::MAX`] and moves only
//! while it is what stops the spout.

/// Why the spout was not asked for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedBy {
    /// `topology.max.spout.pending` is set, and so many roots are pending.
    SetByHand,
    /// The same, but only with the roots that bolts hold on purpose: if the bolts wait for more tuples before they let go,
    /// this never ends.
    SetByHandWithHeld,
    /// More in flight would only wait longer.
    Waiting,
    /// The window is as large as it gets.
    Largest,
}

/// What a spout task saw since it last told its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Roots that were acked.
    pub completed: u64,
    /// The sum of their complete latencies, in microseconds.
    pub latency_sum_us: u64,
}

/// The window of one spout task.
#[derive(Clone, Debug)]
pub struct Window {
    limit: u32,
    search: Option<Search>,
    /// Since the last interval.
    stopped: Option<LimitedBy>,
    limited_by: Option<LimitedBy>,
}

impl Window {
    /// The smallest window that adapts.
    pub const MIN: u32 = 64;
    /// Where a window that adapts begins.
    pub const START: u32 = 1024;
    /// The largest window that adapts.
    pub const MAX: u32 = 65_536;
    /// How often a spout task should call [`Window::observe`], in microseconds.
    pub const INTERVAL_US: u64 = 10_000;

    /// A window that adapts.
    pub fn adaptive() -> Self {
        Window { limit: Self::START, search: Some(Search::default()), stopped: None, limited_by: None }
    }

    /// The limit that the user set.
    pub fn set_by_hand(limit: u32) -> Self {
        Window { limit, search: None, stopped: None, limited_by: None }
    }

    /// How many roots may be opened when `pending` are, `held` of them held by bolts on purpose. To be asked only by a spout
    /// task that would emit: an answer of zero counts as standing in its way. Held roots do not count against a window
    /// that adapts, but they do against one set by hand, which bounds what the source has to remember.
    pub fn room(&mut self, pending: usize, held: usize) -> usize {
        let limit = self.limit as usize;
        let free = pending.saturating_sub(held);
        let counted = if self.search.is_some() { free } else { pending };
        if counted >= limit {
            self.stopped = Some(match self.search {
                None if free < limit => LimitedBy::SetByHandWithHeld,
                None => LimitedBy::SetByHand,
                Some(_) if self.limit == Self::MAX => LimitedBy::Largest,
                Some(_) => LimitedBy::Waiting,
            });
        }
        limit.saturating_sub(counted)
    }

    /// Tells what happened since the last call; `now` in microseconds.
    pub fn observe(&mut self, now: u64, interval: Interval) {
        self.limited_by = self.stopped.take();
        if let Some(search) = &mut self.search {
            self.limit = search.observe(now, self.limit, interval, self.limited_by.is_some());
        }
    }

    /// The most roots that may be pending now.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether the window stood in the way in the last interval, and what kind of window.
    pub fn limited_by(&self) -> Option<LimitedBy> {
        self.limited_by
    }
}

/// How the window finds its place. Latency has a part that no window can change, the `base`, and a part that tuples wait,
/// which grows with the window. They are told apart by trying: a smaller window that completes as much has only
/// removed waiting; one that completes less shows the base. So a slow bolt that works on many tuples at once is not mistaken
/// for a full queue.
#[derive(Clone, Debug)]
struct Search {
    measure: Option<Measure>,
    /// Until then what completes was opened under the limit before.
    settled_at: u64,
    base_us: f64,
    /// Where a trial with smaller windows came from.
    trial: Option<Trial>,
    /// From then on a window in which tuples wait somewhat too long is tried smaller …
    doubt_from: u64,
    /// … and from then on any window.
    next_trial: u64,
    /// By how much the window may grow at once: boldly until a trial has found waiting.
    step: f64,
}

#[derive(Clone, Debug)]
struct Measure {
    since: u64,
    completed: u64,
    latency_sum_us: u64,
    intervals: u32,
    full: u32,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    limit: u32,
    /// The most that was completed, a microsecond.
    rate: f64,
    /// The step to the window being tried.
    ratio: f64,
}

impl Default for Search {
    fn default() -> Self {
        Search {
            measure: None,
            settled_at: 0,
            base_us: f64::INFINITY,
            trial: None,
            doubt_from: 0,
            next_trial: 0,
            step: 1.25,
        }
    }
}

impl Search {
    /// A measure takes at least so many completions …
    const ENOUGH: u64 = 400;
    /// … or so many microseconds.
    const LONG_US: u64 = 1_000_000;
    /// As long as the window is filling, Little's law and the count differ by more than this factor.
    const STEADY: f64 = 1.5;
    /// The base is looked for anew so often, in microseconds, as it changes with the load and the machine …
    const TRIAL_EVERY_US: f64 = 10_000_000.0;
    /// … but not more often than so many times the latency, as a trial takes some latencies.
    const TRIAL_EVERY_LATENCIES: f64 = 100.0;

    /// The most that tuples should wait, in microseconds: a few milliseconds, or a share of a long base, which cannot be
    /// measured more precisely.
    fn bearable_us(&self) -> f64 {
        (self.base_us / 8.0).max(4_000.0)
    }

    /// The latency to aim at.
    fn aim_us(&self) -> f64 {
        self.base_us + self.bearable_us() * 0.75
    }

    /// The limit from now on.
    fn observe(&mut self, now: u64, limit: u32, interval: Interval, full: bool) -> u32 {
        if now < self.settled_at {
            self.measure = None;
            return limit;
        }
        let Some(measure) = &mut self.measure else {
            self.measure = Some(Measure { since: now, completed: 0, latency_sum_us: 0, intervals: 0, full: 0 });
            return limit;
        };
        measure.completed += interval.completed;
        measure.latency_sum_us += interval.latency_sum_us;
        measure.intervals += 1;
        measure.full += u32::from(full);
        if measure.completed == 0 {
            if !full {
                self.measure = None;
            }
            return limit;
        }
        let elapsed = now.saturating_sub(measure.since);
        let latency = (measure.latency_sum_us / measure.completed).max(1);
        let long = elapsed >= 2 * latency.max(Window::INTERVAL_US) && measure.completed >= Self::ENOUGH;
        if !long && elapsed < Self::LONG_US.max(latency) {
            return limit;
        }
        // Little's law: steadier than the count over so short a time, as completions come in bursts.
        let rate = f64::from(limit) / latency as f64;
        let counted = measure.completed as f64 / elapsed as f64;
        let stopped = measure.full * 2 >= measure.intervals;
        self.measure = None;
        if stopped && rate > counted * Self::STEADY {
            return limit;
        }
        let next = self.decide(now, limit, rate, latency as f64, stopped);
        if next != limit {
            self.settled_at = now + latency;
        }
        next
    }

    fn decide(&mut self, now: u64, limit: u32, rate: f64, latency: f64, stopped: bool) -> u32 {
        if let Some(trial) = self.trial {
            let suffers = rate < trial.rate * (1.0 + trial.ratio) / 2.0;
            if stopped && !suffers && limit > Window::MIN {
                // There is waiting: from now on with care upwards, and fast downwards.
                self.step = 1.125;
                return self.try_smaller(Trial { rate: trial.rate.max(rate), ratio: 0.6, ..trial }, limit, latency);
            }
            // Nothing waits in a window that completes less; in the smallest one something may, but there is no way to know.
            self.base_us = if stopped && suffers { latency } else { self.base_us.min(latency) };
            self.trial = None;
            self.put_off_trial(now, latency);
            return if stopped { bounded(trial.rate * self.aim_us()) } else { trial.limit };
        }
        self.base_us = self.base_us.min(latency);
        if self.next_trial == 0 {
            self.next_trial = now + Self::LONG_US;
        }
        if !stopped {
            return limit;
        }
        let waiting = latency - self.base_us;
        // A little too much is most likely noise if there was a trial of late.
        let due = if waiting > self.bearable_us() { self.doubt_from } else { self.next_trial };
        if limit > Window::MIN && (waiting > 2.0 * self.bearable_us() || now >= due) {
            let ratio = (self.aim_us() / latency).clamp(0.5, 0.75);
            return self.try_smaller(Trial { limit, rate, ratio }, limit, latency);
        }
        if waiting < self.bearable_us() / 2.0 {
            // At least one more, so that rounding never ends the growth.
            return bounded((f64::from(limit) * self.step).max(f64::from(limit) + 1.0));
        }
        limit
    }

    fn put_off_trial(&mut self, now: u64, latency: f64) {
        let pause = Self::TRIAL_EVERY_US.max(Self::TRIAL_EVERY_LATENCIES * latency) as u64;
        self.doubt_from = now + pause / 2;
        self.next_trial = now + pause;
    }

    fn try_smaller(&mut self, trial: Trial, limit: u32, latency: f64) -> u32 {
        self.base_us = self.base_us.min(latency);
        self.trial = Some(trial);
        bounded(f64::from(limit) * trial.ratio)
    }
}

fn bounded(limit: f64) -> u32 {
    limit.clamp(f64::from(Window::MIN), f64::from(Window::MAX)) as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use rand::rngs::ChaCha8Rng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// A closed loop: a spout that always has more, `servers` that each work `service_us` on a tuple in the order of
    /// arrival, and a way of `way_us` to them.
    struct Queue {
        servers: usize,
        service_us: u64,
        way_us: u64,
        /// Service times vary between nothing and twice the mean.
        varied: bool,
    }

    #[derive(Debug)]
    struct Run {
        limit: u32,
        lowest: u32,
        highest: u32,
        /// Completed in the last third, as a share of what the servers can do.
        used: f64,
        /// Mean latency above the base in the last third, in microseconds.
        waiting_us: f64,
    }

    impl Queue {
        fn base_us(&self) -> u64 {
            self.way_us + self.service_us
        }

        fn run(&self, window: &mut Window, seconds: u64, seed: u64) -> Run {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let end = seconds * 1_000_000;
            let mut idle: BinaryHeap<Reverse<u64>> = (0..self.servers).map(|_| Reverse(0)).collect();
            let mut ends: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
            let (mut now, mut tick) = (0, Window::INTERVAL_US);
            let mut interval = Interval::default();
            let mut last = Interval::default();
            let (mut lowest, mut highest) = (window.limit(), window.limit());
            while now < end {
                for _ in 0..window.room(ends.len(), 0) {
                    let start = idle.pop().expect("there is a server").0.max(now + self.way_us);
                    let share = if self.varied { random.next_u64() % 2001 } else { 1000 };
                    let done = start + self.service_us * share / 1000;
                    idle.push(Reverse(done));
                    ends.push(Reverse((done, now)));
                }
                window.room(ends.len(), 0);
                let (done, opened) = ends.pop().expect("the smallest window opens some").0;
                now = done;
                while tick <= now {
                    window.observe(tick, std::mem::take(&mut interval));
                    (lowest, highest) = (lowest.min(window.limit()), highest.max(window.limit()));
                    window.room(ends.len() + 1, 0);
                    tick += Window::INTERVAL_US;
                }
                interval.completed += 1;
                interval.latency_sum_us += done - opened;
                if now > end / 3 * 2 {
                    last.completed += 1;
                    last.latency_sum_us += done - opened;
                }
            }
            let possible = (end / 3) as f64 * self.servers as f64 / self.service_us as f64;
            let waiting_us = last.latency_sum_us as f64 / last.completed as f64 - self.base_us() as f64;
            Run { limit: window.limit(), lowest, highest, used: last.completed as f64 / possible, waiting_us }
        }
    }

    /// Runs a new window and demands bounds, at least the share `used` of what the servers can do, and short waiting.
    fn adapts(queue: Queue, seconds: u64, seed: u64, used: f64) -> Run {
        let mut window = Window::adaptive();
        let run = queue.run(&mut window, seconds, seed);
        assert!(run.lowest >= Window::MIN && run.highest <= Window::MAX, "{run:?}");
        assert!(run.used >= used, "{run:?}");
        let bearable = (queue.base_us() as f64 / 4.0).max(8_000.0);
        assert!(run.waiting_us <= bearable || run.limit == Window::MIN, "{run:?}");
        run
    }

    #[test]
    fn a_slow_bolt_that_works_on_many_at_once_gets_all_it_can_take() {
        // 100 ms each, 3000 at once: 30,000 a second need 3000 in flight.
        let run = adapts(Queue { servers: 3000, service_us: 100_000, way_us: 50, varied: true }, 24, 1, 0.95);
        assert!((3000..4500).contains(&run.limit), "{run:?}");
    }

    #[test]
    fn one_busy_bolt_is_not_buried() {
        // 20 µs each: the window that begins with 20 ms of waiting comes down to some 4 ms.
        let run = adapts(Queue { servers: 1, service_us: 20, way_us: 100, varied: true }, 12, 2, 0.95);
        assert!((64..400).contains(&run.limit), "{run:?}");
    }

    #[test]
    fn a_very_slow_bolt_gets_about_the_smallest_window() {
        // Already the smallest window waits 320 ms.
        let queue = Queue { servers: 1, service_us: 5_000, way_us: 10, varied: false };
        let run = queue.run(&mut Window::adaptive(), 120, 3);
        assert!((Window::MIN..80).contains(&run.limit) && run.used >= 0.95, "{run:?}");
    }

    #[test]
    fn a_bolt_that_becomes_slower_keeps_its_throughput() {
        let mut window = Window::adaptive();
        Queue { servers: 300, service_us: 10_000, way_us: 100, varied: true }.run(&mut window, 12, 4);
        let before = window.limit();
        let mut later = window.clone();
        // The clock begins anew in each run; what the window remembers must not be ahead of it.
        later.search = window.search.take().map(|search| Search {
            measure: None,
            settled_at: 0,
            doubt_from: 0,
            next_trial: 1,
            ..search
        });
        let run = Queue { servers: 3000, service_us: 100_000, way_us: 100, varied: true }.run(&mut later, 24, 5);
        assert!(run.used >= 0.95 && run.limit > before * 2, "{before}: {run:?}");
    }

    proptest! {
        // The shares that are demanded are statistical ones, so the cases of this block are drawn once and for all.
        #![proptest_config(ProptestConfig { cases: 8, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]
        #[test]
        fn throughput_is_nearly_full_and_waiting_is_short(
            servers in 1..400_usize,
            busy in 1..20_u64,
            way_us in 10..40_000_u64,
            varied: bool,
            seed: u64,
        ) {
            // Between 2,000 and 40,000 a second.
            let service_us = (servers as u64 * 1000 / (busy * 2)).max(25);
            // Of 150 runs most used 0.98 or more, one 0.946: where a trial of a slow queue falls into the last third.
            adapts(Queue { servers, service_us, way_us, varied }, 30, seed, 0.9);
        }

        #[test]
        fn the_limit_never_leaves_its_bounds(
            intervals in prop::collection::vec((0..100_000_u64, 0..10_000_000_u64, 1..2_000_000_u64, any::<bool>()), 1..300),
        ) {
            let mut window = Window::adaptive();
            let mut now = 0;
            for (completed, latency, pause, full) in intervals {
                now += pause;
                if full {
                    prop_assert_eq!(window.room(window.limit() as usize, 0), 0);
                }
                window.observe(now, Interval { completed, latency_sum_us: latency * completed });
                prop_assert!((Window::MIN..=Window::MAX).contains(&window.limit()));
            }
        }
    }

    #[test]
    fn an_idle_spout_leaves_the_window_as_it_is() {
        let mut window = Window::adaptive();
        for tick in 0..3000 {
            let completed = tick % 7;
            window.room(completed as usize, 0);
            window.observe(tick * 10_000, Interval { completed, latency_sum_us: completed * 900_000 });
            assert_eq!((window.limit(), window.limited_by()), (1024, None));
        }
    }

    #[test]
    fn a_limit_set_by_hand_stands_and_says_so() {
        let mut window = Window::set_by_hand(10);
        assert_eq!(window.room(4, 0), 6);
        window.observe(0, Interval::default());
        assert_eq!(window.limited_by(), None);
        assert_eq!(window.room(10, 0), 0);
        for tick in 1..1000 {
            window.room(12, 0);
            window.observe(tick * 10_000, Interval { completed: 10_000, latency_sum_us: 10 });
            assert_eq!((window.limit(), window.limited_by()), (10, Some(LimitedBy::SetByHand)));
        }
        assert_eq!(window.room(10, 3), 0);
        window.observe(10_000_000, Interval::default());
        assert_eq!(window.limited_by(), Some(LimitedBy::SetByHandWithHeld));
    }

    #[test]
    fn held_roots_do_not_count_against_a_window_that_adapts() {
        let mut window = Window::adaptive();
        assert_eq!(window.room(1500, 1000), 524);
        assert_eq!(window.room(2024, 1000), 0);
        window.observe(0, Interval::default());
        assert_eq!(window.limited_by(), Some(LimitedBy::Waiting));
    }
}
