//! Whatever goes wrong, each number is counted at the end.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use guaranteed_count::{Args, count};
use storm::fail::FailKind;
use storm::local_cluster::testing::Capture;
use storm::local_cluster::{LocalCluster, run_seeded};
use storm::prelude::*;

const COUNT: u64 = 500;

/// Runs it; gives how often each number was counted, and how often roots failed, by kind.
fn counted(fail_rate: f64, seed: u64, workers: u16) -> (BTreeMap<u64, u64>, BTreeMap<FailKind, u64>) {
    run_seeded(seed, async |seam| {
        let mut topology = Topology::builder("guaranteed-count");
        let counted = count(Args { count: COUNT, fail_rate, seed }, &mut topology).unwrap();
        let captured = Capture::of(&mut topology, &counted);
        let cluster = LocalCluster::builder(topology.build().unwrap()).workers(workers).seam(seam);
        let cluster = cluster.start().await.unwrap();
        cluster.ended().await.unwrap();
        assert_eq!(cluster.summary().acked, COUNT);
        let counted = captured.tuples().iter().map(|counted| (counted.n, counted.times)).collect();
        let mut failed = BTreeMap::new();
        for executor in cluster.reports().into_iter().flat_map(|report| report.executors) {
            for (kind, roots) in executor.counts.failed_by_kind {
                *failed.entry(kind).or_default() += roots;
            }
        }
        (counted, failed)
    })
}

#[test]
fn each_number_is_counted_whatever_went_wrong() {
    for (seed, workers) in [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2), (6, 3), (7, 4)] {
        let (counted, failed) = counted(0.3, seed, workers);
        assert!(counted.keys().copied().eq(0..COUNT), "seed {seed}, {workers} workers");
        // Some had gone on before they failed.
        assert!(counted.values().sum::<u64>() > COUNT, "seed {seed}, {workers} workers");
        let kinds: Vec<FailKind> = failed.into_keys().collect();
        assert_eq!(kinds, [FailKind::Failed, FailKind::Panicked, FailKind::Dropped], "seed {seed}, {workers} workers");
    }
}

#[test]
fn without_mishaps_each_number_is_counted_once() {
    let (counted, failed) = counted(0.0, 1, 2);
    assert_eq!(counted, (0..COUNT).map(|n| (n, 1)).collect());
    assert_eq!(failed, BTreeMap::new());
}

#[test]
fn a_rate_that_never_ends_is_refused() {
    for fail_rate in [1.0, -0.1, f64::NAN] {
        let refused = count(Args { count: 1, fail_rate, seed: 1 }, &mut Topology::builder("guaranteed-count"));
        let told = refused.err().unwrap().to_string();
        assert_eq!(told, format!("--fail-rate is {fail_rate}; give a number from 0 to below 1"));
    }
}
