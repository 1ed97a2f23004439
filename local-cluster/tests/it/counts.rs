//! What executors count, by stream: inputs and how long they took, outputs, roots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seam::Seam;
use storm::bolt::Tracked;
use storm::context::Wake;
use storm::local_cluster::testing::Feed;
use storm::local_cluster::{LocalCluster, run_paused};
use storm::prelude::*;
use worker_api::report::{Counts, Distribution, Input as InputCounts, Output as OutputCounts};

use crate::stage::*;

/// Two spouts, `evens` of 0, 2, 4, 6 and `threes` of 0, 3, 6.
fn two_feeds(topology: &mut TopologyBuilder) -> [storm::topology::Stream<Item>; 2] {
    [("evens", 2, 4), ("threes", 3, 3)].map(|(name, step, count)| {
        let feed = Feed::of(items((0..count).map(|at| at * step)));
        topology.spout(name, move || feed.spout()).add()
    })
}

/// Executed, acked, failed, execute and process time of each input.
fn inputs(counts: &Counts) -> BTreeMap<&str, [u64; 5]> {
    let input =
        |input: &'_ InputCounts| [input.executed, input.acked, input.failed, input.execute_us, input.process_us];
    counts.inputs.iter().map(|counted| (counted.component.as_str(), input(counted))).collect()
}

#[test]
fn inputs_of_a_sync_bolt_are_counted_by_stream() {
    run_paused(async |seam| {
        let mut topology = Topology::builder("counts");
        let [evens, threes] = two_feeds(&mut topology);
        let zero = |_: &Context, item: Item, _: &mut Emitter<()>| {
            if item.n == 0 { Err(Error::retry("zero")) } else { Ok(()) }
        };
        topology.bolt("sink", does(zero)).shuffle(&evens).shuffle(&threes).add();
        let cluster = start(topology, 1, &seam).await;
        ended(&cluster, &seam).await;
        let counts = executor(&cluster, "sink").counts;
        // On a paused clock a call takes no time.
        assert_eq!(inputs(&counts), BTreeMap::from([("evens", [4, 3, 1, 0, 0]), ("threes", [3, 2, 1, 0, 0])]));
        assert_eq!((counts.executed, counts.acked, counts.failed), (7, 5, 2));
        let times = Distribution { sum_us: 0, buckets: vec![(0, 7)] };
        assert_eq!((counts.execute, counts.process), (times.clone(), times));
        let evens = executor(&cluster, "evens").counts;
        assert_eq!(
            evens.outputs,
            BTreeMap::from([("default".to_owned(), OutputCounts { emitted: 4, transferred: 4 })])
        );
        cluster.stop(Duration::ZERO).await;
    });
}

#[test]
fn what_tracked_inputs_took_is_counted_from_their_call_to_their_ack_or_fail() {
    run_paused(async |seam| {
        let held = Arc::new(Mutex::new(Vec::new()));
        let keep = held.clone();
        let mut topology = Topology::builder("counts");
        let [evens, threes] = two_feeds(&mut topology);
        let hold = move |_: &Context, item: Tracked<Item>, _: &mut Emitter<(), Manual>| {
            keep.lock().unwrap().push(item);
            Ok(())
        };
        topology.bolt("holder", does(hold)).shuffle(&evens).shuffle(&threes).add();
        let cluster = start(topology, 1, &seam).await;
        until(&seam, "all are held", || held.lock().unwrap().len() == 7).await;
        let before = executor(&cluster, "holder").counts;
        assert_eq!((before.executed, before.acked, before.process.count()), (7, 0, 0));
        seam.sleep(Duration::from_millis(40)).await;
        for item in held.lock().unwrap().drain(..) {
            if item.n == 6 { item.fail("no six") } else { item.ack() }
        }
        ended(&cluster, &seam).await;
        let counts = executor(&cluster, "holder").counts;
        let all = inputs(&counts);
        assert_eq!((all["evens"][..4].to_vec(), all["threes"][..4].to_vec()), (vec![4, 3, 1, 0], vec![3, 2, 1, 0]));
        // All came within the first few milliseconds, and went after 40 more.
        for (input, count) in [("evens", 4), ("threes", 3)] {
            assert!((40_000 * count..50_000 * count).contains(&all[input][4]), "{all:?}");
        }
        assert_eq!((counts.process.count(), counts.process.sum_us), (7, all["evens"][4] + all["threes"][4]));
        cluster.stop(Duration::ZERO).await;
    });
}

struct Sleeps(Seam);

impl AsyncBolt for Sleeps {
    type Input = Item;
    type Output = Item;

    async fn execute(&self, item: Item, out: &mut Emitter<Item>) -> Result {
        self.0.sleep(Duration::from_millis(10 * item.n)).await;
        if item.n == 3 {
            return Err(Error::retry("three"));
        }
        out.emit(item);
        Ok(())
    }
}

#[test]
fn what_calls_of_an_async_bolt_took_is_counted_by_stream() {
    run_paused(async |seam| {
        let mut topology = Topology::builder("counts");
        let [evens, threes] = two_feeds(&mut topology);
        let own = seam.clone();
        let sleeps = topology.async_bolt("sleeps", 16, move || Sleeps(own.clone()));
        let slept = sleeps.shuffle(&evens).shuffle(&threes).add();
        topology.bolt("sink", does(|_: &Context, _: Item, _: &mut Emitter<()>| Ok(()))).shuffle(&slept).add();
        let cluster = start(topology, 1, &seam).await;
        ended(&cluster, &seam).await;
        let counts = executor(&cluster, "sleeps").counts;
        let all = inputs(&counts);
        assert_eq!((all["evens"][..3].to_vec(), all["threes"][..3].to_vec()), (vec![4, 4, 0], vec![3, 2, 1]));
        // 0 + 20 + 40 + 60 ms, and 0 + 30 + 60; a timer may be a millisecond late.
        assert!((120_000..=124_000).contains(&all["evens"][4]), "{all:?}");
        assert!((90_000..=93_000).contains(&all["threes"][4]), "{all:?}");
        assert_eq!(counts.outputs["default"], OutputCounts { emitted: 6, transferred: 6 });
        cluster.stop(Duration::ZERO).await;
    });
}

/// Batches that are always full leave nothing to be flushed.
#[test]
fn outputs_are_counted_also_where_every_batch_is_full() {
    run_paused(async |seam| {
        let mut topology = Topology::builder("full");
        let feed = Feed::of(items(0..3));
        let numbers = topology.spout("numbers", move || feed.spout()).add();
        let many = |_: &Context, item: Item, out: &mut Emitter<Item>| {
            (0..256).for_each(|_| out.emit(item.clone()));
            Ok(())
        };
        let many = topology.bolt("many", does(many)).shuffle(&numbers).add();
        topology.bolt("sink", does(|_: &Context, _: Item, _: &mut Emitter<()>| Ok(()))).shuffle(&many).add();
        let cluster = start(topology, 1, &seam).await;
        ended(&cluster, &seam).await;
        let counts = executor(&cluster, "many").counts;
        assert_eq!(counts.outputs["default"], OutputCounts { emitted: 768, transferred: 768 });
        cluster.stop(Duration::ZERO).await;
    });
}

#[test]
fn roots_are_counted_without_tracking_too() {
    run_paused(async |seam| {
        let feed = Feed::of(items(0..500));
        let mut topology = Topology::builder("untracked");
        topology.config("topology.acker.executors", 0);
        let numbers = topology.spout("numbers", move || feed.spout()).add();
        topology.bolt("sink", does(|_: &Context, _: Item, _: &mut Emitter<()>| Ok(()))).shuffle(&numbers).add();
        let cluster = start(topology, 1, &seam).await;
        ended(&cluster, &seam).await;
        let counts = executor(&cluster, "numbers").counts;
        assert_eq!((counts.acked, counts.failed, counts.pending, counts.complete.count()), (500, 0, 0, 0));
        assert_eq!(cluster.summary().acked, 500);
        cluster.stop(Duration::ZERO).await;
    });
}

/// One task has always something, the other nothing: both belong to one executor.
struct BusyOrAsleep {
    wakes: Log<Wake>,
    asked: Arc<AtomicU64>,
    sleeps: bool,
}

impl Spout for BusyOrAsleep {
    type Output = Item;
    type MessageId = ();

    fn open(&mut self, context: &Context) -> Result {
        self.sleeps = context.task_index() == 1;
        if self.sleeps {
            self.wakes.add(context.wake());
        }
        Ok(())
    }

    fn next(&mut self, out: &mut Roots<'_, Item, ()>) -> Result<Next> {
        if self.sleeps {
            self.asked.fetch_add(1, Ordering::Relaxed);
            return Ok(Next::Idle(Duration::MAX));
        }
        out.emit(Item { n: 0 }, ());
        Ok(Next::Emitted)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_is_heard_while_another_task_of_the_executor_is_busy() {
    let seam = Seam::system();
    let (wakes, asked) = (Log::new(), Arc::new(AtomicU64::new(0)));
    let (handles, count) = (wakes.clone(), asked.clone());
    let mut topology = Topology::builder("busy");
    // Without tracking nothing ever stops the busy one, and no ack asks the other.
    topology.config("topology.acker.executors", 0);
    let made = move || BusyOrAsleep { wakes: handles.clone(), asked: count.clone(), sleeps: false };
    let numbers = topology.spout("numbers", made).parallelism(1).tasks(2).add();
    topology.bolt("sink", does(|_: &Context, _: Item, _: &mut Emitter<()>| Ok(()))).shuffle(&numbers).add();
    let cluster = LocalCluster::builder(topology.build().unwrap()).workers(1).start().await.unwrap();
    for times in 1..=5 {
        let again = until(&seam, "the idle task was asked", || asked.load(Ordering::Relaxed) == times);
        tokio::time::timeout(Duration::from_secs(60), again).await.expect("a wake is heard");
        let emitted = executor(&cluster, "numbers").counts.acked;
        until(&seam, "the busy task goes on", || executor(&cluster, "numbers").counts.acked > emitted).await;
        assert_eq!(asked.load(Ordering::Relaxed), times);
        wakes.all()[0].wake();
    }
    cluster.stop(Duration::ZERO).await;
}
