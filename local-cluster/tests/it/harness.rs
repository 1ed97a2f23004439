//! A single bolt in a harness: what it emitted, acked and failed, by the test's own clock.

use std::time::Duration;

use storm::fail::FailKind;
use storm::local_cluster::BoltHarness;
use storm::local_cluster::testing::Feed;
use storm::prelude::*;

use crate::stage::Item;

/// Emits even items, fails odd ones, panics at seven, and holds from ten on.
#[derive(Default)]
struct Sorts(Vec<Tracked<Item>>);

#[derive(Output)]
struct Sorted {
    even: Port<Item>,
    held: Port<Item>,
}

impl Bolt for Sorts {
    type Input = Tracked<Item>;
    type Output = Sorted;

    fn execute(&mut self, item: Tracked<Item>, out: &mut Emitter<Sorted, Manual>) -> Result {
        assert_ne!(item.n, 7, "seven");
        if item.n >= 10 {
            self.0.push(item);
        } else if item.n.is_multiple_of(2) {
            out.anchor(&item).even.emit(Item { n: item.n });
            item.ack();
        } else {
            item.fail("odd");
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut Emitter<Sorted, Manual>) -> Result {
        for item in self.0.drain(..) {
            out.anchor(&item).held.emit(Item { n: item.n });
            item.ack();
        }
        Ok(())
    }
}

fn sorts() -> BoltHarness {
    let mut topology = Topology::builder("sorts");
    let feed = Feed::<Item>::open();
    let items = topology.spout("items", move || feed.spout()).add();
    topology.bolt("sorts", Sorts::default).shuffle(&items).add();
    BoltHarness::of(topology.build().unwrap(), "sorts").unwrap()
}

fn numbers(items: Vec<Item>) -> Vec<u64> {
    items.iter().map(|item| item.n).collect()
}

#[test]
fn acks_fails_and_output_are_told_apart() {
    let mut sorts = sorts();
    for n in [2, 3, 4] {
        sorts.push("items", Item { n }).unwrap();
    }
    assert_eq!(numbers(sorts.emitted("even")), [2, 4]);
    assert!(numbers(sorts.emitted("even")).is_empty());
    assert_eq!(sorts.acked(), [0, 2]);
    let failed: Vec<(u64, String)> = sorts.failed().iter().map(|(id, reason)| (*id, reason.to_string())).collect();
    assert_eq!(failed, [(1, "sorts failed it: odd".to_owned())]);
}

#[test]
fn a_tick_lets_go_and_the_time_out_fails_what_is_held() {
    let mut sorts = sorts();
    sorts.push("items", Item { n: 10 }).unwrap();
    assert_eq!((sorts.acked(), sorts.failed()), (vec![], vec![]));
    sorts.tick().unwrap();
    assert_eq!(numbers(sorts.emitted("held")), [10]);
    assert_eq!(sorts.acked(), [0]);
    sorts.push("items", Item { n: 11 }).unwrap();
    sorts.advance(Duration::from_secs(29));
    assert_eq!(sorts.failed(), []);
    sorts.advance(Duration::from_secs(2));
    let failed = sorts.failed();
    assert_eq!((failed[0].0, failed[0].1.kind), (1, FailKind::TimedOut));
}

#[test]
fn a_panic_fails_what_was_held_and_leaves_a_new_instance() {
    let mut sorts = sorts();
    sorts.push("items", Item { n: 10 }).unwrap();
    let error = sorts.push("items", Item { n: 7 }).unwrap_err().to_string();
    assert!(error.starts_with("the bolt panicked: ") && error.contains("seven"), "{error}");
    let failed: Vec<(u64, FailKind)> = sorts.failed().iter().map(|(id, reason)| (*id, reason.kind)).collect();
    assert_eq!(failed, [(1, FailKind::Panicked), (0, FailKind::Panicked)]);
    sorts.push("items", Item { n: 8 }).unwrap();
    assert_eq!(numbers(sorts.emitted("even")), [8]);
}

#[test]
fn what_is_not_there_is_said() {
    let mut topology = Topology::builder("items");
    let feed = Feed::<Item>::open();
    topology.spout("items", move || feed.spout()).add();
    let error = BoltHarness::of(topology.build().unwrap(), "sort").map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "topology `items` has no bolt `sort`");
    let error = sorts().push("item", Item { n: 1 }).unwrap_err();
    assert_eq!(error.to_string(), "the bolt does not subscribe to stream `default` of `item`");
}
