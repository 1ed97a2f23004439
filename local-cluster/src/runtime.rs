//! Runtimes for tests: one thread, a clock that jumps to the next timer when there is nothing to do, randomness by a seed.
//!
//! Not here: the runtime of a local run for its own sake (the `storm` crate makes it). Invariant: what happens in
//! [`run_seeded`] depends on the seed and the work alone.

use std::future::Future;

use seam::Seam;

/// Runs `work` on one thread with a paused clock, and randomness from the operating system. A cluster is to be given the
/// seam: without it, components declared `blocking` get threads of their own, and the clock runs ahead of them.
///
/// # Panics
/// If the runtime cannot be made, or `work` panics.
pub fn run_paused<T>(work: impl AsyncFnOnce(Seam) -> T) -> T {
    on_one_thread(async { work(Seam::on_one_thread()).await })
}

/// Runs `work` on one thread with a paused clock, and all randomness from `seed`: the same each time.
///
/// # Panics
/// If the runtime cannot be made, or `work` panics.
pub fn run_seeded<T>(seed: u64, work: impl AsyncFnOnce(Seam) -> T) -> T {
    on_one_thread(async { work(Seam::seeded(seed)).await })
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread needs nothing that could be missing").block_on(work)
}
