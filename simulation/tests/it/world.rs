//! Whole clusters, by seeds: what the oracle finds, and that it finds bugs which are switched on.
//!
//! Not here: which faults there are (`simulation`). Invariant: a seed's outcome is the same each time.

use std::time::Duration;

use simulation::run::{Config, Outcome, run};

fn outcome(seed: u64, minutes: u64, faults: bool) -> Outcome {
    run(&Config { faults, ..Config::of(seed, Duration::from_secs(60 * minutes)) })
}

#[test]
fn undisturbed_clusters_keep_all_promises() {
    for seed in 0..3 {
        let Outcome { violations, counts, .. } = outcome(seed, 2, false);
        assert_eq!(violations, [], "seed {seed}");
        assert!(counts.acked > 100, "seed {seed}: {counts:?}");
    }
}

#[test]
fn disturbed_clusters_keep_all_promises() {
    for seed in 1..5 {
        let Outcome { violations, counts, .. } = outcome(seed, 1, true);
        assert_eq!(violations, [], "seed {seed}");
        assert!(counts.acked > 20, "seed {seed}: {counts:?}");
    }
}
