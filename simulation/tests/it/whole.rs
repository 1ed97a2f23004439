//! Whole clusters under a seed: that they hold what is promised, and that a seed alone says what happens.
//!
//! Not here: which bugs are found (`proof`), workload and oracle alone (`local`). Invariant: a run that fails names its seed.

use std::time::Duration;

use simulation::run::{Config, Outcome, run};

const MINUTE: Duration = Duration::from_secs(60);

#[track_caller]
fn nothing_is_violated(seed: u64, outcome: &Outcome) {
    let violations: Vec<String> =
        outcome.violations.iter().map(|(at, violation)| format!("at {:.3} s {violation}", at.as_secs_f64())).collect();
    assert_eq!(
        violations,
        [] as [String; 0],
        "seed {seed}; `cargo xtask simulate --seed {seed} --minutes 1 --log FILE`"
    );
}

/// The short form of `cargo xtask simulate`: a few seeds of a minute each.
#[test]
fn a_whole_cluster_holds_its_promises_under_faults() {
    let threads = 2_u64;
    let outcomes = std::thread::scope(|scope| {
        let of = |thread: u64| {
            scope.spawn(move || {
                let seeds = (1..=SEEDS).filter(|seed| seed % threads == thread);
                seeds.map(|seed| (seed, run(&Config::of(seed, MINUTE)))).collect::<Vec<_>>()
            })
        };
        let running: Vec<_> = (0..threads).map(of).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for (seed, outcome) in &outcomes {
        nothing_is_violated(*seed, outcome);
    }
    let total = |count: fn(&Outcome) -> u64| outcomes.iter().map(|(_, outcome)| count(outcome)).sum::<u64>();
    assert!(total(|outcome| outcome.counts.acked) > 20 * SEEDS, "little was done");
    assert!(total(|outcome| outcome.counts.replayed) > 0, "nothing went wrong");
    assert!(total(|outcome| outcome.faults.values().sum()) > SEEDS, "no faults");
}

/// How many seeds the short form has (`cargo verify` says so, `xtask/src/verify.rs`): some twenty seconds of one core without optimisation.
const SEEDS: u64 = 16;

#[test]
fn the_same_seed_writes_the_same_bytes_in_any_thread() {
    for seed in [3, 4] {
        let here = run(&Config::of(seed, MINUTE)).log;
        // Another one runs at the same time, and one ran before in the same thread.
        let elsewhere = std::thread::spawn(move || {
            let _ = run(&Config::of(seed + 1, MINUTE));
            run(&Config::of(seed, MINUTE)).log
        });
        let there = elsewhere.join().unwrap();
        if here != there {
            let differ = here.lines().zip(there.lines()).enumerate().find(|(_, (one, other))| one != other);
            panic!("seed {seed}: {} and {} bytes, first at {differ:?}", here.len(), there.len());
        }
        assert!(here.contains(" acked, attempt 1"), "nothing was done");
    }
}

#[test]
fn without_faults_nothing_is_replayed_because_of_the_cluster() {
    for seed in [0, 1, 7] {
        let outcome = run(&Config { faults: false, ..Config::of(seed, 2 * MINUTE) });
        nothing_is_violated(seed, &outcome);
        assert!(outcome.counts.acked > 100, "seed {seed}: {:?}", outcome.counts);
        assert!(outcome.faults.is_empty());
        assert!(!outcome.log.contains("FAULT"), "there were faults");
    }
}
