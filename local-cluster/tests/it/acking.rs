//! How a root ends: by the return of `execute`, by a `Tracked` input, by a panic, by time.

use std::time::Duration;

use storm::bolt::Tracked;
use storm::local_cluster::run_paused;
use storm::local_cluster::testing::{Capture, Feed};
use storm::prelude::*;

use crate::stage::*;

/// Runs items through one bolt and says what became of each.
fn outcomes<I, O, F>(count: u64, workers: u16, execute: F) -> (Vec<u64>, Vec<(u64, String)>)
where
    I: Input + storm::bolt::Accepts<Item>,
    O: Output,
    F: FnMut(&Context, I, &mut Emitter<O, I::Mode>) -> Result + Clone + Send + Sync + 'static,
{
    run_paused(async |seam| {
        let feed = Feed::of(items(0..count));
        let mut topology = Topology::builder("outcomes");
        topology.config("topology.message.timeout.secs", 2);
        let source = feed.clone();
        let numbers = topology.spout("numbers", move || source.spout()).add();
        topology.bolt("taker", does(execute)).shuffle(&numbers).add();
        run(topology, workers, &seam).await;
        let mut acked = feed.acked();
        acked.sort_unstable();
        let mut failed = told(feed.failed());
        failed.sort();
        (acked, failed)
    })
}

#[test]
fn the_return_of_execute_acks_or_fails() {
    for workers in [1, 2] {
        let (acked, failed) = outcomes(6, workers, |_: &Context, item: Item, _: &mut Emitter<()>| match item.n {
            1 => Err(Error::retry("one is odd")),
            3 => panic!("three is a crowd"),
            _ => Ok(()),
        });
        assert_eq!(acked, [0, 2, 4, 5]);
        let expected =
            [(1, "taker failed it: one is odd".to_owned()), (3, "taker panicked: three is a crowd".to_owned())];
        assert_eq!(failed, expected);
    }
}

#[test]
fn a_fatal_error_ends_the_run_and_names_the_component() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..3));
            let mut topology = Topology::builder("fatal");
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let execute = |_: &Context, _: Item, _: &mut Emitter<()>| Err(Error::fatal("the disk is on fire"));
            topology.bolt("burner", does(execute)).shuffle(&numbers).add();
            let cluster = start(topology, workers, &seam).await;
            let error = cluster.ended().await.unwrap_err();
            assert_eq!(error.to_string(), "component `burner` stopped: the disk is on fire");
            assert_eq!(cluster.check(), Err(error));
            until(&seam, "the first root fails", || !feed.failed().is_empty()).await;
            assert_eq!(told(feed.failed())[0], (0, "burner failed it: the disk is on fire".to_owned()));
            cluster.stop(Duration::ZERO).await;
            assert_eq!(feed.failed().len(), 3);
        });
    }
}

#[test]
fn a_tracked_input_is_acked_failed_or_dropped() {
    for workers in [1, 2] {
        let taken = |_: &Context, item: Tracked<Item>, _: &mut Emitter<(), Manual>| {
            match item.n {
                0 => item.ack(),
                1 => item.fail("no ones"),
                2 => drop(item),
                3 => assert_eq!(item.into_inner(), Item { n: 3 }),
                4 => return Err(Error::retry("four is even")),
                5 => panic!("five alive"),
                _ => {
                    item.ack();
                    panic!("after the ack");
                }
            }
            Ok(())
        };
        let (acked, failed) = outcomes(7, workers, taken);
        assert_eq!(acked, [0, 3, 6]);
        let expected = [
            (1, "taker failed it: no ones".to_owned()),
            (2, "taker dropped it without ack or fail".to_owned()),
            (4, "taker failed it: four is even".to_owned()),
            (5, "taker panicked: five alive".to_owned()),
        ];
        assert_eq!(failed, expected);
    }
}

/// Holds each input until another thread's timer lets go of it.
#[test]
fn a_held_input_times_out_unless_it_is_kept_alive() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..3));
            let mut topology = Topology::builder("held");
            topology.config("topology.message.timeout.secs", 2);
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let executed = Log::new();
            let (log, hands) = (executed.clone(), seam.clone());
            let execute = move |_: &Context, item: Tracked<Item>, _: &mut Emitter<(), Manual>| {
                log.add(item.n);
                let seam = hands.clone();
                // The task ends by itself.
                tokio::spawn(async move {
                    for _ in 0..10 {
                        seam.sleep(Duration::from_secs(1)).await;
                        if item.n == 1 {
                            item.keep_alive();
                        }
                    }
                    item.ack();
                });
                Ok(())
            };
            topology.bolt("holder", does(execute)).shuffle(&numbers).add();
            let began = seam.now();
            let cluster = start(topology, workers, &seam).await;
            until(&seam, "two are failed", || feed.failed().len() == 2).await;
            let took = seam.now() - began;
            assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(3), "{took:?}");
            let reason = "holder held it longer than the message time-out".to_owned();
            let mut failed = told(feed.failed());
            failed.sort();
            assert_eq!(failed, [(0, reason.clone()), (2, reason)]);
            assert!(feed.acked().is_empty());
            ended(&cluster, &seam).await;
            assert_eq!(feed.acked(), [1]);
            assert_eq!(executed.sorted(), [0, 1, 2]);
            cluster.stop(Duration::ZERO).await;
            assert_eq!(feed.failed().len(), 2, "a late ack of a root that timed out changes nothing");
        });
    }
}

/// Joins pairs: what it emits for a pair is anchored to both.
struct Pairs {
    waiting: Option<Tracked<Item>>,
}

impl Bolt for Pairs {
    type Input = Tracked<Item>;
    type Output = Item;

    fn execute(&mut self, item: Tracked<Item>, out: &mut Emitter<Item, Manual>) -> Result {
        let Some(first) = self.waiting.take() else {
            self.waiting = Some(item);
            return Ok(());
        };
        // The same anchor twice counts once.
        out.anchor([&first, &item, &first]).emit(Item { n: first.n * 100 + item.n });
        first.ack();
        item.ack();
        Ok(())
    }
}

#[test]
fn a_joined_tuple_belongs_to_both_roots() {
    for workers in [1, 3] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..6));
            let mut topology = Topology::builder("pairs");
            topology.config("topology.message.timeout.secs", 2);
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let pairs = topology.bolt("pairs", || Pairs { waiting: None }).shuffle(&numbers).add();
            let seen = Log::new();
            let log = seen.clone();
            let execute = move |_: &Context, item: Item, _: &mut Emitter<()>| {
                log.add(item.n);
                if item.n == 203 { Err(Error::retry("not 203")) } else { Ok(()) }
            };
            topology.bolt("sink", does(execute)).shuffle(&pairs).add();
            run(topology, workers, &seam).await;
            assert_eq!(seen.all(), [1, 203, 405]);
            let mut acked = feed.acked();
            acked.sort_unstable();
            assert_eq!(acked, [0, 1, 4, 5], "{workers} workers");
            let mut failed = told(feed.failed());
            failed.sort();
            let reason = "sink failed it: not 203".to_owned();
            assert_eq!(failed, [(2, reason.clone()), (3, reason)]);
        });
    }
}

#[test]
fn a_root_waits_for_children_that_outlive_the_ack_of_their_parent() {
    for workers in [1, 3] {
        run_paused(async |seam| {
            let feed = Feed::of(items([7]));
            let mut topology = Topology::builder("children");
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let spread = |_: &Context, item: Tracked<Item>, out: &mut Emitter<Item, Manual>| {
                for n in 0..3 {
                    out.anchor(&item).emit(Item { n });
                }
                out.unanchored().emit(Item { n: 3 });
                item.ack();
                Ok(())
            };
            let spread = topology.bolt("spread", does(spread)).shuffle(&numbers).add();
            let held: Log<u64> = Log::new();
            let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
            let (log, keep) = (held.clone(), kept.clone());
            let execute = move |_: &Context, item: Tracked<Item>, _: &mut Emitter<(), Manual>| {
                log.add(item.n);
                keep.lock().unwrap().push(item);
                Ok(())
            };
            topology.bolt("keeper", does(execute)).shuffle(&spread).add();
            let cluster = start(topology, workers, &seam).await;
            until(&seam, "all children are held", || held.len() == 4).await;
            assert_eq!(held.sorted(), [0, 1, 2, 3]);
            let mut kept = std::mem::take(&mut *kept.lock().unwrap());
            kept.sort_by_key(|item| item.n);
            for (count, item) in kept.into_iter().enumerate() {
                seam.sleep(Duration::from_secs(1)).await;
                assert_eq!(feed.acked().len(), usize::from(count == 3), "after {count} acks");
                item.ack();
            }
            ended(&cluster, &seam).await;
            assert_eq!((feed.acked(), feed.failed()), (vec![0], vec![]));
            cluster.stop(Duration::ZERO).await;
        });
    }
}

/// A panic after emitting: the children are delivered, and their acks do not complete the root.
#[test]
fn children_of_a_failed_call_cannot_complete_the_root() {
    for workers in [1, 2, 3] {
        for panics in [false, true] {
            run_paused(async |seam| {
                let feed = Feed::of(items(0..20));
                let mut topology = Topology::builder("poisoned");
                let source = feed.clone();
                let numbers = topology.spout("numbers", move || source.spout()).add();
                let execute = move |_: &Context, item: Item, out: &mut Emitter<Item>| {
                    out.emit(Item { n: item.n });
                    match item.n % 2 {
                        0 => Ok(()),
                        _ if panics => panic!("odd"),
                        _ => Err(Error::retry("odd")),
                    }
                };
                let middle = topology.bolt("middle", does(execute)).shuffle(&numbers).add();
                let seen = Capture::of(&mut topology, &middle);
                run(topology, workers, &seam).await;
                let mut acked = feed.acked();
                acked.sort_unstable();
                assert_eq!(acked, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
                let mut failed: Vec<u64> = feed.failed().iter().map(|(id, _)| *id).collect();
                failed.sort_unstable();
                assert_eq!(failed, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
                assert!(seen.tuples().len() >= 10);
            });
        }
    }
}

/// Counts what an instance has seen; the count begins anew with each instance.
struct Panics {
    prepared: bool,
    seen: u64,
    log: Log<(u64, u64)>,
}

impl Bolt for Panics {
    type Input = Item;
    type Output = ();

    fn prepare(&mut self, _: &Context) -> Result {
        self.prepared = true;
        Ok(())
    }

    fn execute(&mut self, item: Item, _: &mut Emitter<()>) -> Result {
        assert!(self.prepared, "each instance is prepared");
        self.seen += 1;
        self.log.add((item.n, self.seen));
        if item.n == 3 || item.n == 4 {
            panic!("at {}", item.n);
        }
        Ok(())
    }
}

#[test]
fn after_a_panic_the_next_instance_finds_the_inbox() {
    run_paused(async |seam| {
        let feed = Feed::of(items(0..8));
        let mut topology = Topology::builder("restarts");
        let source = feed.clone();
        let numbers = topology.spout("numbers", move || source.spout()).add();
        let (log, other) = (Log::new(), Log::new());
        let (of_one, of_other) = (log.clone(), other.clone());
        topology
            .bolt("panics", move || Panics { prepared: false, seen: 0, log: of_one.clone() })
            .shuffle(&numbers)
            .add();
        let execute = move |_: &Context, item: Item, _: &mut Emitter<()>| {
            of_other.add(item.n);
            Ok(())
        };
        topology.bolt("calm", does(execute)).shuffle(&numbers).add();
        let cluster = start(topology, 1, &seam).await;
        ended(&cluster, &seam).await;
        assert_eq!(log.all(), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 1), (5, 1), (6, 2), (7, 3)]);
        assert_eq!(other.all(), [0, 1, 2, 3, 4, 5, 6, 7]);
        let panics = executor(&cluster, "panics");
        assert_eq!((panics.counts.restarts, panics.counts.acked, panics.counts.failed), (2, 6, 2));
        let errors: Vec<&str> = panics.errors.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(errors, ["panicked: at 3", "panicked: at 4"]);
        assert_eq!(executor(&cluster, "calm").counts.restarts, 0);
        let mut failed = told(feed.failed());
        failed.sort();
        assert_eq!(failed, [(3, "panics panicked: at 3".to_owned()), (4, "panics panicked: at 4".to_owned())]);
        cluster.stop(Duration::ZERO).await;
    });
}
