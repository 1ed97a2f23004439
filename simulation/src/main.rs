//! Runs seeds, side by side in threads, and says which of them fail: what `cargo xtask simulate` starts.
//!
//! Not here: what a run is (the library). Invariant: a seed's outcome is the same whatever runs beside it.
#![forbid(unsafe_code)]

use std::time::Duration;

use simulation::run::{Config, run};

fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let outcome = run(&Config { nimbuses: 1, machines: 1, faults: false, ..Config::of(seed, Duration::from_secs(60)) });
    println!("{}", outcome.log);
    println!("{:?} {} {:?} {:?}", outcome.counts, outcome.polls, outcome.violations, outcome.lasted);
}
