//! Topologies whose input ends: components finish in the order of the graph, whatever its shape.

use std::time::Duration;

use storm::local_cluster::run_paused;
use storm::local_cluster::testing::{Capture, Feed};
use storm::prelude::*;

use crate::stage::*;

/// Passes items on, and at the end its own number and how many there were.
struct Counts {
    name: &'static str,
    log: Log<String>,
    seen: u64,
}

impl Bolt for Counts {
    type Input = Item;
    type Output = Item;

    fn execute(&mut self, item: Item, out: &mut Emitter<Item>) -> Result {
        self.seen += 1;
        out.emit(item);
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<Item>) -> Result {
        self.log.add(format!("{} saw {}", self.name, self.seen));
        out.emit(Item { n: 1000 });
        Ok(())
    }
}

fn counts(log: &Log<String>, name: &'static str) -> impl Fn() -> Counts + Send + Sync + 'static {
    let log = log.clone();
    move || Counts { name, log: log.clone(), seen: 0 }
}

#[test]
fn bolts_finish_in_the_order_of_the_graph() {
    for workers in [1, 2, 3] {
        run_paused(async |seam| {
            let log = Log::new();
            let (early, late) = (Feed::of(items(0..10)), Feed::open());
            let mut topology = Topology::builder("diamond");
            let (one, two) = (early.clone(), late.clone());
            let early_stream = topology.spout("early", move || one.spout()).add();
            let late_stream = topology.spout("late", move || two.spout()).add();
            let top = topology.bolt("top", counts(&log, "top")).shuffle(&early_stream).add();
            let left = topology.bolt("left", counts(&log, "left")).shuffle(&top).add();
            let right = topology.bolt("right", counts(&log, "right")).shuffle(&top).shuffle(&late_stream).add();
            let bottom = topology.bolt("bottom", counts(&log, "bottom")).shuffle(&left).all(&right).add();
            let seen = Capture::of(&mut topology, &bottom);
            let cluster = start(topology, workers, &seam).await;
            until(&seam, "what hangs on the early spout has finished", || log.len() == 2).await;
            seam.sleep(Duration::from_secs(100)).await;
            assert_eq!(log.all(), ["top saw 10", "left saw 11"]);
            late.push(Item { n: 50 });
            late.close();
            ended(&cluster, &seam).await;
            // 10 + top's own over each side, the late one, and the last words of left and right.
            assert_eq!(log.all(), ["top saw 10", "left saw 11", "right saw 12", "bottom saw 25"]);
            assert_eq!(seen.tuples().len(), 26);
            assert_eq!((early.acked().len(), late.acked().len()), (10, 1));
            cluster.stop(Duration::ZERO).await;
        });
    }
}

#[derive(Output)]
struct Loop {
    again: Port<Item>,
    done: Port<Item>,
}

/// Counts each item down around a cycle of two bolts, and through a bolt that feeds itself.
#[test]
fn a_cycle_ends_and_does_not_block_itself() {
    for workers in [1, 2, 3] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..2000));
            let mut topology = Topology::builder("cycle");
            // Small enough that tuples on their way around would block new ones, were they to wait.
            topology.config("topology.executor.receive.buffer.size", 64);
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).max_pending(200).add();
            let back = topology.stream::<Item>("back", "default");
            let itself = topology.stream::<Item>("itself", "again");
            let around = |_: &Context, item: Item, out: &mut Emitter<Loop>| {
                match item.n % 10 {
                    0 => out.done.emit(item),
                    _ => out.again.emit(Item { n: item.n - 1 }),
                }
                Ok(())
            };
            let front = topology.bolt("front", does(around)).parallelism(2).shuffle(&numbers).shuffle(&back).add();
            let pass = |_: &Context, item: Item, out: &mut Emitter<Item>| {
                out.emit(item);
                Ok(())
            };
            topology.bolt("back", does(pass)).shuffle(&front.again).add();
            let hundreds = |_: &Context, item: Item, out: &mut Emitter<Loop>| {
                match item.n % 100 {
                    0 => out.done.emit(item),
                    _ => out.again.emit(Item { n: item.n - 10 }),
                }
                Ok(())
            };
            let done = topology.bolt("itself", does(hundreds)).shuffle(&front.done).shuffle(&itself).add();
            let seen = Capture::of(&mut topology, &done.done);
            run(topology, workers, &seam).await;
            assert_eq!((feed.acked().len(), told(feed.failed())), (2000, vec![]));
            let mut seen: Vec<u64> = seen.tuples().iter().map(|item| item.n).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..2000).map(|n| n / 100 * 100).collect::<Vec<_>>());
        });
    }
}

/// Each item becomes two of the same around the cycle: without a bound it would fill the memory.
#[test]
fn a_cycle_that_grows_fails_roots_and_ends() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..3));
            let mut topology = Topology::builder("growth");
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).max_pending(1).add();
            let back = topology.stream::<Lump>("back", "default");
            let doubles = |_: &Context, lump: Either, out: &mut Emitter<Lump>| {
                let (n, left) = match lump {
                    Either::Item(item) => (item.n, 12),
                    Either::Lump(lump) => (lump.n, lump.left - 1),
                };
                if left > 0 {
                    for _ in 0..if n == 1 { 2 } else { 1 } {
                        out.emit(Lump { n, left, bytes: vec![0; 1 << 20].into() });
                    }
                }
                Ok(())
            };
            let front = topology.bolt("front", does(doubles)).shuffle(&numbers).shuffle(&back).add();
            let pass = |_: &Context, lump: Lump, out: &mut Emitter<Lump>| {
                out.emit(lump);
                Ok(())
            };
            topology.bolt("back", does(pass)).shuffle(&front).add();
            run(topology, workers, &seam).await;
            assert_eq!(feed.acked(), [0, 2], "{workers} workers");
            let failed = feed.failed();
            assert_eq!(failed.len(), 1);
            assert_eq!((failed[0].0, failed[0].1.kind), (1, storm::fail::FailKind::CycleOverflow));
            assert_eq!(failed[0].1.to_string(), "the cycle through back is full");
        });
    }
}

#[tuple]
struct Lump {
    n: u64,
    left: u64,
    bytes: Bytes,
}

#[derive(Input)]
enum Either {
    Item(Item),
    Lump(Lump),
}
