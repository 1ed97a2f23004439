//! Orders go to the warehouses of their regions, in any number of workers.

use std::collections::BTreeMap;

use custom_grouping::{Args, ByRegion, Order, ship};
use storm::local_cluster::testing::Capture;
use storm::local_cluster::{LocalCluster, run_paused};
use storm::prelude::*;

#[test]
fn an_order_goes_to_the_warehouses_of_its_region_and_no_other() {
    for workers in [1, 2, 4] {
        let (shipped, acked) = run_paused(async |seam| {
            let mut topology = Topology::builder("custom-grouping");
            let shipped = ship(Args { orders: 400 }, &mut topology);
            let captured = Capture::of(&mut topology, &shipped);
            let cluster = LocalCluster::builder(topology.build().unwrap()).workers(workers).seam(seam);
            let cluster = cluster.start().await.unwrap();
            cluster.ended().await.unwrap();
            (captured.tuples(), cluster.summary().acked)
        });
        let mut orders: BTreeMap<(&str, u64), u64> = BTreeMap::new();
        for order in &shipped {
            *orders.entry((order.region.as_str(), order.warehouse)).or_default() += 1;
        }
        let expected = [(("north", 0), 100), (("overseas", 1), 100), (("overseas", 2), 100), (("south", 1), 100)];
        assert_eq!(orders.into_iter().collect::<Vec<_>>(), expected, "{workers} workers");
        // Those for nowhere are acked too.
        assert_eq!(acked, 400, "{workers} workers");
    }
}

#[test]
fn the_rule_is_tested_without_a_cluster() {
    let tasks = [TaskId(4), TaskId(5), TaskId(6)];
    let chosen = |region: &str| {
        let mut chosen = Vec::new();
        ByRegion.choose(&Order { id: 1, region: region.into() }, &tasks, &mut chosen);
        chosen
    };
    assert_eq!(chosen("north"), [TaskId(4)]);
    assert_eq!(chosen("south"), [TaskId(5)]);
    assert_eq!(chosen("overseas"), [TaskId(5), TaskId(6)]);
    assert_eq!(chosen("nowhere"), []);
}
