//! How a topology is ended from outside.

use std::time::Duration;

use storm::bolt::Tracked;
use storm::local_cluster::run_paused;
use storm::local_cluster::testing::Feed;
use storm::prelude::*;

use crate::stage::*;

/// A sink that takes a second a tuple, behind a bolt that floods it.
fn flooded(seam: &seam::Seam, endless: bool) -> (TopologyBuilder, Feed<Item>) {
    let feed = Feed::of(items(0..5_000));
    let mut topology = Topology::builder("flood");
    topology.config("topology.executor.receive.buffer.size", 16);
    let source = feed.clone();
    let numbers = topology.spout("numbers", move || source.spout()).add();
    let many = move |_: &Context, item: Item, out: &mut Emitter<Item>| {
        if endless {
            out.emit_all((0..).map(|n| Item { n }))
        } else {
            out.emit(item)
        }
        Ok(())
    };
    let many = topology.bolt("many", does(many)).shuffle(&numbers).add();
    struct Slow(seam::Seam);
    impl AsyncBolt for Slow {
        type Input = Item;
        type Output = ();
        async fn execute(&self, _: Item, _: &mut Emitter<()>) -> Result {
            self.0.sleep(Duration::from_secs(1)).await;
            Ok(())
        }
    }
    let hands = seam.clone();
    topology.async_bolt("slow", 1, move || Slow(hands.clone())).shuffle(&many).add();
    (topology, feed)
}

#[test]
fn a_topology_stops_while_its_executors_wait_for_room() {
    for workers in [1, 2] {
        for endless in [false, true] {
            run_paused(async |seam| {
                let (topology, feed) = flooded(&seam, endless);
                let cluster = start(topology, workers, &seam).await;
                seam.sleep(Duration::from_secs(20)).await;
                let acked = feed.acked().len();
                let began = seam.now();
                cluster.stop(Duration::from_secs(5)).await;
                let took = seam.now() - began;
                assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
                assert!(feed.acked().len() >= acked);
                assert!(!feed.failed().is_empty());
                assert!(feed.failed().iter().all(|(_, reason)| reason.to_string() == "the topology was stopped"));
            });
        }
    }
}

#[test]
fn what_is_pending_gets_time_and_then_fails_before_close() {
    for (wait, acks) in [(10, true), (1, false)] {
        run_paused(async |seam| {
            let log = Log::new();
            let mut n = 0;
            let next = move |out: &mut Roots<'_, Item, u64>| {
                n += 1;
                if n > 2 {
                    return Ok(Next::Idle(Duration::from_secs(1000)));
                }
                out.emit(Item { n }, n);
                Ok(Next::Emitted)
            };
            let mut topology = Topology::builder("stop");
            let numbers = topology.spout("numbers", asks(&log, next)).add();
            let hands = seam.clone();
            let slow = move |_: &Context, item: Tracked<Item>, _: &mut Emitter<(), Manual>| {
                let seam = hands.clone();
                tokio::spawn(async move {
                    seam.sleep(Duration::from_secs(5)).await;
                    item.ack();
                });
                Ok(())
            };
            topology.bolt("slow", does(slow)).shuffle(&numbers).add();
            let cluster = start(topology, 1, &seam).await;
            until(&seam, "both are pending", || cluster.pending() == 2).await;
            let began = seam.now();
            cluster.stop(Duration::from_secs(wait)).await;
            let took = (seam.now() - began).as_millis();
            if acks {
                assert!((4900..5100).contains(&took), "{took} ms");
                assert_eq!(log.all(), ["open", "activate", "deactivate", "ack 1", "ack 2", "close"]);
            } else {
                assert!((1000..1100).contains(&took), "{took} ms");
                let stopped = |n| format!("fail {n}: the topology was stopped");
                let expected = [
                    "open".to_owned(),
                    "activate".to_owned(),
                    "deactivate".to_owned(),
                    stopped(1),
                    stopped(2),
                    "close".to_owned(),
                ];
                assert_eq!(log.all(), expected);
            }
        });
    }
}

#[test]
fn dropping_a_cluster_ends_all_of_it() {
    for workers in [1, 3] {
        run_paused(async |seam| {
            let metrics = tokio::runtime::Handle::current().metrics();
            let before = metrics.num_alive_tasks();
            let (topology, _feed) = flooded(&seam, true);
            let cluster = start(topology, workers, &seam).await;
            seam.sleep(Duration::from_secs(3)).await;
            assert!(metrics.num_alive_tasks() > before);
            drop(cluster);
            until(&seam, format!("no task is left of {workers} workers"), || metrics.num_alive_tasks() == before).await;
            let (topology, _feed) = flooded(&seam, false);
            let cluster = start(topology, workers, &seam).await;
            cluster.stop(Duration::ZERO).await;
            until(&seam, format!("no task is left of {workers} workers"), || metrics.num_alive_tasks() == before).await;
        });
    }
}
