//! Tuples as bytes: the same results, and what cannot be read fails its root.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use storm::local_cluster::run_paused;
use storm::local_cluster::testing::{Capture, Feed};
use storm::prelude::*;

use crate::stage::*;

#[test]
fn always_serializing_changes_nothing() {
    let results = |always: bool, workers: u16| {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..700));
            let mut topology = Topology::builder("serialized");
            topology.config("topology.testing.always.try.serialize", always);
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let spread = |_: &Context, item: Item, out: &mut Emitter<Item>| {
                (0..item.n % 3).for_each(|n| out.emit(Item { n: item.n * 10 + n }));
                if item.n == 100 { Err(Error::retry("a hundred")) } else { Ok(()) }
            };
            let spread = topology.bolt("spread", does(spread)).parallelism(2).fields(&numbers, Item::N).add();
            let all = |_: &Context, item: Item, out: &mut Emitter<Item>| {
                out.emit(item);
                Ok(())
            };
            let all = topology.bolt("all", does(all)).parallelism(2).all(&spread).add();
            let seen = Capture::of(&mut topology, &all);
            run(topology, workers, &seam).await;
            let mut seen = seen.tuples();
            seen.sort();
            (seen, feed.acked().len(), told(feed.failed()))
        })
    };
    let plain = results(false, 1);
    assert_eq!((plain.0.len(), plain.1), (699 * 2, 699));
    assert_eq!(plain.2, [(100, "spread failed it: a hundred".to_owned())]);
    assert_eq!(results(true, 1), plain);
    assert_eq!(results(true, 2), plain);
    assert_eq!(results(false, 3), plain);
}

/// Can be written, but not always read.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Moody(u64);

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            13 => Err(serde::de::Error::custom("thirteen again")),
            n => Ok(Moody(n)),
        }
    }
}

#[tuple]
struct Mood {
    #[tuple(serde)]
    of: Moody,
}

#[test]
fn what_cannot_be_read_fails_its_roots_and_the_worker_lives() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let feed = Feed::open();
            let mut topology = Topology::builder("moods");
            topology.config("topology.testing.always.try.serialize", true);
            let source = feed.clone();
            let moods = topology.spout("moods", move || source.spout()).add();
            let seen = Log::new();
            let log = seen.clone();
            let take = move |_: &Context, mood: Mood, _: &mut Emitter<()>| {
                log.add(mood.of.0);
                Ok(())
            };
            topology.bolt("taker", does(take)).parallelism(2).all(&moods).add();
            let cluster = start(topology, workers, &seam).await;
            let mut ids = Vec::new();
            for n in [1, 13, 2] {
                ids.push(feed.push(Mood { of: Moody(n) }));
                until(&seam, "it has ended", || feed.acked().len() + feed.failed().len() == ids.len()).await;
            }
            feed.close();
            ended(&cluster, &seam).await;
            assert_eq!(feed.acked(), [0, 2]);
            let failed = told(feed.failed());
            assert_eq!(failed.len(), 1);
            assert!(failed[0].1.starts_with("taker could not read it: a batch of stream `default`: "), "{failed:?}");
            assert!(failed[0].1.contains("thirteen") || failed[0].1.contains("of"), "{failed:?}");
            assert_eq!(seen.sorted(), [1, 1, 2, 2]);
            let malformed: u64 = executors(&cluster).iter().map(|executor| executor.counts.malformed).sum();
            assert_eq!(malformed, 2);
            drained(&cluster, &seam).await;
            cluster.stop(Duration::ZERO).await;
        });
    }
}

/// What panics outside of the component's calls ends the run with its word, as nobody can go on without that executor.
#[test]
fn a_tuple_that_panics_while_it_is_cloned_ends_the_run() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Only(u64);
    impl Clone for Only {
        fn clone(&self) -> Self {
            assert!(self.0 != 7, "there is only one");
            Only(self.0)
        }
    }
    #[tuple]
    struct Single {
        #[tuple(serde)]
        of: Only,
    }
    run_paused(async |seam| {
        let mut topology = Topology::builder("clones");
        let mut next = 0;
        let log = Log::new();
        let singles = topology.spout(
            "singles",
            asks(&log, move |out: &mut Roots<'_, Single, u64>| {
                next += 1;
                out.emit(Single { of: Only(next) }, next);
                Ok(if next < 7 { Next::Emitted } else { Next::Done })
            }),
        );
        let singles = singles.add();
        let take = |_: &Context, _: Single, _: &mut Emitter<()>| Ok(());
        topology.bolt("taker", does(take)).parallelism(2).all(&singles).add();
        let cluster = start(topology, 1, &seam).await;
        let error = cluster.ended().await.unwrap_err();
        assert_eq!(error.to_string(), "component `singles` stopped: its executor panicked: there is only one");
        cluster.stop(Duration::ZERO).await;
    });
}
