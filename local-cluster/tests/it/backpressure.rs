//! More is offered than can be done: queues stay bounded, nothing fails, and nobody waits for another's receiver.

use std::time::Duration;

use seam::Seam;
use storm::local_cluster::run_paused;
use storm::local_cluster::testing::Feed;
use storm::prelude::*;

use crate::stage::*;

/// Takes its time for each input, on the paused clock.
struct Slow {
    seam: Seam,
    takes: Duration,
}

impl AsyncBolt for Slow {
    type Input = Item;
    type Output = ();

    async fn execute(&self, _: Item, _: &mut Emitter<()>) -> Result {
        self.seam.sleep(self.takes).await;
        Ok(())
    }
}

fn slow(seam: &Seam, takes: Duration) -> impl Fn() -> Slow + Send + Sync + 'static {
    let seam = seam.clone();
    move || Slow { seam: seam.clone(), takes }
}

#[test]
fn a_slow_sink_holds_up_its_source_and_nothing_times_out() {
    for workers in [1, 2, 3] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..4_000));
            let mut topology = Topology::builder("slow-sink");
            topology.config("topology.message.timeout.secs", 2).config("topology.executor.receive.buffer.size", 300);
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).max_pending(3_000).add();
            let twice = |_: &Context, item: Item, out: &mut Emitter<Item>| {
                out.emit(Item { n: item.n });
                out.emit(Item { n: item.n });
                Ok(())
            };
            let twice = topology.bolt("twice", does(twice)).parallelism(2).shuffle(&numbers).add();
            topology.async_bolt("sink", 1, slow(&seam, Duration::from_millis(50))).shuffle(&twice).add();
            let cluster = start(topology, workers, &seam).await;
            while feed.acked().len() < 4_000 {
                seam.sleep(Duration::from_millis(500)).await;
                assert_eq!(told(feed.failed()), []);
                for executor in executors(&cluster) {
                    // Two senders may overshoot by a batch each; over a link each may have its permits under way.
                    let most = if workers == 1 { 300 + 2 * 256 } else { 2 * (4096 + 256) };
                    assert!(executor.inbox.tuples <= most, "{} holds {:?}", executor.component, executor.inbox);
                }
            }
            ended(&cluster, &seam).await;
            assert_eq!(executor(&cluster, "sink").counts.executed, 8_000);
            cluster.stop(Duration::ZERO).await;
        });
    }
}

#[test]
fn a_slow_receiver_does_not_hold_up_its_neighbour_on_the_same_link() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let (to_slow, to_fast) = (Feed::of(items(0..20_000)), Feed::of(items(0..20_000)));
            let mut topology = Topology::builder("neighbours");
            // With two workers: both spouts in one, both bolts in the other.
            let (one, two) = (to_slow.clone(), to_fast.clone());
            let a = topology.spout("a-to-slow", move || one.spout()).add();
            topology.async_bolt("b-slow", 1, slow(&seam, Duration::from_secs(1))).shuffle(&a).add();
            let c = topology.spout("c-to-fast", move || two.spout()).add();
            let fast = |_: &Context, _: Item, _: &mut Emitter<()>| Ok(());
            topology.bolt("d-fast", does(fast)).shuffle(&c).add();
            let began = seam.now();
            let cluster = start(topology, workers, &seam).await;
            until(&seam, "the fast one is through", || to_fast.acked().len() == 20_000).await;
            let took = seam.now() - began;
            assert!(took < Duration::from_secs(5), "{took:?}");
            assert!(to_slow.acked().len() < 10);
            assert_eq!((told(to_fast.failed()), told(to_slow.failed())), (vec![], vec![]));
            cluster.stop(Duration::ZERO).await;
        });
    }
}

#[tuple]
struct Heap {
    n: u64,
    bytes: Bytes,
}

#[test]
fn a_tuple_larger_than_any_window_passes() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let heap = |n: u64| Heap { n, bytes: vec![n as u8; 8 << 20].into() };
            let feed = Feed::of((0..6).map(heap));
            let mut topology = Topology::builder("heaps");
            let source = feed.clone();
            let heaps = topology.spout("heaps", move || source.spout()).add();
            let seen = Log::new();
            let log = seen.clone();
            let measure = move |_: &Context, heap: Heap, _: &mut Emitter<()>| {
                assert!(heap.bytes.iter().all(|byte| *byte == heap.n as u8));
                log.add((heap.n, heap.bytes.len()));
                Ok(())
            };
            topology.bolt("measure", does(measure)).parallelism(2).all(&heaps).add();
            run(topology, workers, &seam).await;
            let expected: Vec<(u64, usize)> = (0..6).flat_map(|n| [(n, 8 << 20); 2]).collect();
            assert_eq!(seen.sorted(), expected);
            assert_eq!((feed.acked().len(), told(feed.failed())), (6, vec![]));
        });
    }
}
