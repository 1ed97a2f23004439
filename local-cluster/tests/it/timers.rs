//! Ticks, and results too many to hold.

use std::time::Duration;

use seam::Seam;
use storm::bolt::Tracked;
use storm::local_cluster::run_paused;
use storm::local_cluster::testing::{Capture, Feed};
use storm::prelude::*;

use crate::stage::*;

/// Says at each tick how many milliseconds after the first tick it is; holds its inputs until the third.
struct Clock {
    seam: Seam,
    began: Option<tokio::time::Instant>,
    ticks: u64,
    held: Vec<Tracked<Item>>,
}

impl Bolt for Clock {
    type Input = Tracked<Item>;
    type Output = Item;

    fn execute(&mut self, item: Tracked<Item>, _: &mut Emitter<Item, Manual>) -> Result {
        self.held.push(item);
        Ok(())
    }

    fn tick(&mut self, out: &mut Emitter<Item, Manual>) -> Result {
        let now = self.seam.now();
        let after = now - *self.began.get_or_insert(now);
        self.ticks += 1;
        out.unanchored().emit(Item { n: after.as_millis() as u64 });
        if self.ticks == 3 {
            out.anchor(&self.held).emit(Item { n: 999 });
            self.held.drain(..).for_each(Tracked::ack);
            return Err(Error::retry("tick three"));
        }
        Ok(())
    }
}

fn ticks(every: Option<Duration>, conf: Option<f64>) -> (Vec<u64>, Feed<Item>, Vec<String>) {
    run_paused(async |seam| {
        let feed = Feed::of(items(0..3));
        let mut topology = Topology::builder("ticks");
        let source = feed.clone();
        let numbers = topology.spout("numbers", move || source.spout()).add();
        let hands = seam.clone();
        let make = move || Clock { seam: hands.clone(), began: None, ticks: 0, held: Vec::new() };
        let mut clock = topology.bolt("clock", make).shuffle(&numbers);
        if let Some(every) = every {
            clock = clock.tick_every(every);
        }
        if let Some(seconds) = conf {
            clock = clock.config("topology.tick.tuple.freq.secs", seconds);
        }
        let ticked = clock.add();
        let seen = Capture::of(&mut topology, &ticked);
        let cluster = start(topology, 1, &seam).await;
        ended(&cluster, &seam).await;
        let errors = executor(&cluster, "clock").errors.into_iter().map(|error| error.message).collect();
        cluster.stop(Duration::ZERO).await;
        (seen.tuples().iter().map(|item| item.n).collect(), feed, errors)
    })
}

#[test]
fn a_tick_comes_to_the_millisecond_and_may_emit() {
    for (every, conf, expected) in [
        (Some(Duration::from_millis(25)), None, [0, 25, 50, 999]),
        (None, Some(0.25), [0, 250, 500, 999]),
        (None, Some(3.0), [0, 3000, 6000, 999]),
    ] {
        let (seen, feed, errors) = ticks(every, conf);
        assert_eq!(seen, expected);
        assert_eq!((feed.acked().len(), feed.failed()), (3, vec![]));
        assert_eq!(errors, ["tick three"]);
    }
}

#[test]
fn a_million_results_of_one_input_stay_bounded() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let feed = Feed::of(items([0, 1]));
            let mut topology = Topology::builder("million");
            topology.config("topology.executor.receive.buffer.size", 1000);
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let million = |_: &Context, item: Item, out: &mut Emitter<Item>| {
                out.emit_all((0..500_000).map(move |n| Item { n: item.n * 500_000 + n }));
                Ok(())
            };
            let many = topology.bolt("many", does(million)).shuffle(&numbers).add();
            let mut next = 0;
            let in_order = move |_: &Context, item: Item, _: &mut Emitter<()>| {
                assert_eq!(item.n, next);
                next += 1;
                Ok(())
            };
            topology.bolt("sink", does(in_order)).shuffle(&many).add();
            let cluster = start(topology, workers, &seam).await;
            // One batch may overshoot; what another worker sends is bounded by its permits.
            let most = if workers == 1 { 1000 + 256 } else { 4096 + 512 };
            let mut over = tokio::spawn({
                let seam = seam.clone();
                async move { seam.sleep(Duration::from_secs(1_000)).await }
            });
            loop {
                let sink = executor(&cluster, "sink");
                assert!(sink.inbox.tuples <= most, "{} tuples wait", sink.inbox.tuples);
                if sink.counts.executed < 500_000 {
                    assert_eq!(feed.acked().len(), 0, "a root ends with the last of its tuples");
                }
                if feed.acked().len() == 2 {
                    break;
                }
                assert!(!over.is_finished(), "the inputs are not acked: {:#?}", states(&cluster));
                tokio::task::yield_now().await;
            }
            over.abort();
            let _ = (&mut over).await;
            ended(&cluster, &seam).await;
            assert_eq!(executor(&cluster, "sink").counts.executed, 1_000_000);
            assert_eq!((feed.acked(), feed.failed()), (vec![0, 1], vec![]));
            cluster.stop(Duration::ZERO).await;
        });
    }
}

#[test]
fn an_iterator_that_panics_fails_the_root() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let feed = Feed::of(items([0, 1, 2]));
            let mut topology = Topology::builder("breaks");
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let breaks = |_: &Context, item: Item, out: &mut Emitter<Item>| {
                let end = item.n;
                out.emit_all((0..600).map(move |n| {
                    assert!(end != 1 || n < 500, "broken at 500");
                    Item { n }
                }));
                Ok(())
            };
            let many = topology.bolt("many", does(breaks)).shuffle(&numbers).add();
            let seen = Capture::of(&mut topology, &many);
            run(topology, workers, &seam).await;
            let mut acked = feed.acked();
            acked.sort_unstable();
            assert_eq!(acked, [0, 2]);
            assert_eq!(told(feed.failed()), [(1, "many panicked: broken at 500".to_owned())]);
            assert_eq!(seen.tuples().len(), 600 + 500 + 600);
        });
    }
}
