//! Orders and payments meet, and what is made of them gets where it should.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use direct_and_streams::{Args, Paid, join_and_print};
use storm::local_cluster::testing::Capture;
use storm::local_cluster::{LocalCluster, Summary, run_paused};
use storm::prelude::*;

#[test]
fn a_pair_is_paid_once_and_its_receipt_is_printed_for_its_desk() {
    for workers in [1, 2, 3] {
        run_paused(async |seam| {
            let mut topology = Topology::builder("direct-and-streams");
            let (join, printed) = join_and_print(Args { orders: 100 }, &mut topology);
            let paid = Capture::of(&mut topology, &join.paid);
            let unmatched = Capture::of(&mut topology, &join.unmatched);
            let printed = Capture::of(&mut topology, &printed);
            let cluster = LocalCluster::builder(topology.build().unwrap()).workers(workers).seam(seam);
            let cluster = cluster.start().await.unwrap();
            cluster.ended().await.unwrap();

            let mut orders: Vec<(u64, u64)> = paid.tuples().iter().map(|paid| (paid.order, paid.cents)).collect();
            orders.sort();
            let expected: Vec<_> = (0..100).filter(|id| id % 5 != 4).map(|id| (id, 100 + 10 * id)).collect();
            assert_eq!(orders, expected, "{workers} workers");

            let unmatched = unmatched.tuples();
            let mut unpaid: Vec<u64> = unmatched.iter().map(|unmatched| unmatched.order).collect();
            unpaid.sort();
            assert_eq!(unpaid, (0..20).map(|n| 5 * n + 4).collect::<Vec<_>>(), "{workers} workers");
            assert!(unmatched.iter().all(|unmatched| unmatched.missing == "payment"));

            let mut receipts: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            for receipt in printed.tuples() {
                assert_eq!(receipt.desk, receipt.order % 5);
                *receipts.entry((receipt.desk, receipt.printer)).or_default() += 1;
            }
            let expected = [((0, 0), 20), ((1, 1), 20), ((2, 2), 20), ((3, 0), 20)];
            assert_eq!(receipts.into_iter().collect::<Vec<_>>(), expected, "{workers} workers");

            let Summary { acked, failed, .. } = cluster.summary();
            assert_eq!((acked, failed), (180, 0), "{workers} workers");
        });
    }
}

/// Fails the first tuple that it gets.
struct FailFirst(Arc<AtomicBool>);

impl Bolt for FailFirst {
    type Input = Paid;
    type Output = ();

    fn execute(&mut self, _: Paid, _: &mut Emitter<()>) -> Result {
        if self.0.swap(true, Ordering::Relaxed) { Ok(()) } else { Err(Error::retry("not yet")) }
    }
}

#[test]
fn what_fails_behind_the_join_brings_back_both_halves() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let mut topology = Topology::builder("direct-and-streams");
            let (join, _) = join_and_print(Args { orders: 10 }, &mut topology);
            let failed: Arc<AtomicBool> = Arc::default();
            topology.bolt("fail-first", move || FailFirst(failed.clone())).global(&join.paid).add();
            let cluster = LocalCluster::builder(topology.build().unwrap()).workers(workers).seam(seam);
            let cluster = cluster.start().await.unwrap();
            cluster.ended().await.unwrap();
            let mut failed: BTreeMap<String, u64> = BTreeMap::new();
            for executor in cluster.reports().into_iter().flat_map(|report| report.executors) {
                *failed.entry(executor.component).or_default() += executor.counts.failed;
            }
            assert_eq!((failed["orders"], failed["payments"]), (1, 1), "{workers} workers");
            assert_eq!(cluster.summary().acked, 18, "{workers} workers");
        });
    }
}
