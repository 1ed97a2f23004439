//! How spouts are asked, told and stopped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storm::context::Wake;
use storm::local_cluster::testing::Feed;
use storm::local_cluster::{LocalCluster, run_paused};
use storm::prelude::*;

use crate::stage::*;

#[derive(Output)]
struct Two {
    left: Port<Item>,
    right: Port<Item>,
}

fn nothing(_: &Context, _: Item, _: &mut Emitter<()>) -> Result {
    Ok(())
}

#[test]
fn an_idle_spout_is_asked_once_a_pause_and_when_it_is_woken() {
    run_paused(async |seam| {
        let asked = Arc::new(AtomicU64::new(0));
        let (count, log) = (asked.clone(), Log::new());
        let next = move |_: &mut Roots<'_, Item, u64>| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(Next::Idle(Duration::from_secs(1)))
        };
        let mut topology = Topology::builder("idle");
        let numbers = topology.spout("numbers", asks(&log, next)).add();
        topology.bolt("sink", does(nothing)).shuffle(&numbers).add();
        let cluster = start(topology, 1, &seam).await;
        seam.sleep(Duration::from_millis(100_500)).await;
        assert_eq!(asked.load(Ordering::Relaxed), 101);
        cluster.stop(Duration::ZERO).await;
        assert_eq!(log.all(), ["open", "activate", "deactivate", "close"]);
    });
}

#[test]
fn a_spout_may_be_idle_for_ever_and_is_woken_by_its_handle() {
    struct Sleeper(Log<Wake>, Arc<AtomicU64>);
    impl Spout for Sleeper {
        type Output = Item;
        type MessageId = u64;
        fn open(&mut self, context: &Context) -> Result {
            self.0.add(context.wake());
            Ok(())
        }
        fn next(&mut self, out: &mut Roots<'_, Item, u64>) -> Result<Next> {
            let n = self.1.fetch_add(1, Ordering::Relaxed);
            if n == 1 {
                out.emit(Item { n }, n);
            }
            Ok(Next::Idle(Duration::MAX))
        }
    }
    run_paused(async |seam| {
        let (wakes, asked) = (Log::new(), Arc::new(AtomicU64::new(0)));
        let (handles, count) = (wakes.clone(), asked.clone());
        let mut topology = Topology::builder("sleeper");
        let numbers = topology.spout("numbers", move || Sleeper(handles.clone(), count.clone())).add();
        topology.bolt("sink", does(nothing)).shuffle(&numbers).add();
        let cluster = start(topology, 1, &seam).await;
        seam.sleep(Duration::from_secs(10_000)).await;
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        wakes.all()[0].wake();
        until(&seam, "the root is acked", || executor(&cluster, "numbers").counts.acked == 1).await;
        // Once for the wake, once as an ack has come.
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        cluster.stop(Duration::ZERO).await;
    });
}

#[test]
fn activate_and_deactivate_are_told_in_order_and_acks_still_come() {
    run_paused(async |seam| {
        let log = Log::new();
        let emitted = Arc::new(AtomicU64::new(0));
        let count = emitted.clone();
        let next = move |out: &mut Roots<'_, Item, u64>| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            out.emit(Item { n }, n);
            Ok(Next::Idle(Duration::from_secs(1)))
        };
        let mut topology = Topology::builder("phases");
        let numbers = topology.spout("numbers", asks(&log, next)).add();
        let hands = seam.clone();
        let slow = move |_: &Context, item: storm::bolt::Tracked<Item>, _: &mut Emitter<(), Manual>| {
            let seam = hands.clone();
            tokio::spawn(async move {
                seam.sleep(Duration::from_millis(1500)).await;
                item.ack();
            });
            Ok(())
        };
        topology.bolt("slow", does(slow)).shuffle(&numbers).add();
        let cluster = start(topology, 1, &seam).await;
        seam.sleep(Duration::from_millis(100)).await;
        cluster.deactivate();
        seam.sleep(Duration::from_secs(10)).await;
        assert_eq!(log.all(), ["open", "activate", "deactivate", "ack 0"]);
        assert_eq!(emitted.load(Ordering::Relaxed), 1);
        cluster.activate();
        seam.sleep(Duration::from_millis(100)).await;
        cluster.stop(Duration::from_secs(10)).await;
        let expected = ["open", "activate", "deactivate", "ack 0", "activate", "deactivate", "ack 1", "close"];
        assert_eq!(log.all(), expected);
    });
}

#[test]
fn what_a_spout_has_emitted_leaves_although_it_is_asked_no_more() {
    /// Its second call fills a batch of one stream, so that it is left, while a tuple of the other waits for more; and has it
    /// asked no more.
    struct Stopped(Arc<Mutex<Option<LocalCluster>>>, u64);
    impl Spout for Stopped {
        type Output = Two;
        type MessageId = u64;
        fn next(&mut self, out: &mut Roots<'_, Two, u64>) -> Result<Next> {
            let cluster = self.0.lock().unwrap();
            let Some(cluster) = &*cluster else { return Ok(Next::Idle(Duration::from_millis(1))) };
            self.1 += 1;
            match self.1 {
                1 => out.root(1).left.emit(Item { n: 1 }),
                2 => {
                    let mut root = out.root(2);
                    (0..256).for_each(|n| root.right.emit(Item { n }));
                    cluster.deactivate();
                }
                _ => return Ok(Next::Idle(Duration::from_secs(1))),
            }
            Ok(Next::Emitted)
        }
    }
    run_paused(async |seam| {
        let shared = Arc::new(Mutex::new(None));
        let cluster = shared.clone();
        let mut topology = Topology::builder("stopped");
        let two = topology.spout("two", move || Stopped(cluster.clone(), 0)).add();
        topology.bolt("sink", does(nothing)).shuffle(&two.left).shuffle(&two.right).add();
        *shared.lock().unwrap() = Some(start(topology, 1, &seam).await);
        until(&seam, "both roots are acked", || {
            let cluster = shared.lock().unwrap();
            cluster.as_ref().is_some_and(|cluster| executor(cluster, "two").counts.acked == 2)
        })
        .await;
        let cluster = shared.lock().unwrap().take();
        cluster.unwrap().stop(Duration::ZERO).await;
    });
}

#[test]
fn an_error_in_next_is_reported_and_retried_after_a_pause_that_grows_with_failures_in_a_row() {
    run_paused(async |seam| {
        let (log, at) = (Log::new(), Log::new());
        let (times, clock, began) = (at.clone(), seam.clone(), seam.now());
        let mut calls = 0;
        let next = move |out: &mut Roots<'_, Item, u64>| {
            calls += 1;
            times.add((clock.now() - began).as_millis() as u64);
            match calls {
                1..=3 | 5 | 6 => Err(Error::retry(format!("call {calls}"))),
                4 => {
                    out.emit(Item { n: 4 }, 4);
                    Ok(Next::Emitted)
                }
                _ => Ok(Next::Done),
            }
        };
        let mut topology = Topology::builder("errs");
        let numbers = topology.spout("numbers", asks(&log, next)).add();
        topology.bolt("sink", does(nothing)).shuffle(&numbers).add();
        let cluster = start(topology, 1, &seam).await;
        ended(&cluster, &seam).await;
        let at = at.all();
        let pauses: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [10, 20, 40, 0, 10, 20]);
        let errors: Vec<String> =
            executor(&cluster, "numbers").errors.iter().map(|error| error.message.clone()).collect();
        assert_eq!(errors, ["call 1", "call 2", "call 3", "call 5", "call 6"]);
        cluster.stop(Duration::ZERO).await;
    });
}

#[test]
fn a_fatal_error_in_open_ends_the_run() {
    struct Broken;
    impl Spout for Broken {
        type Output = Item;
        type MessageId = u64;
        fn open(&mut self, _: &Context) -> Result {
            Err(Error::fatal("no such file: words.txt"))
        }
        fn next(&mut self, _: &mut Roots<'_, Item, u64>) -> Result<Next> {
            panic!("it was never opened");
        }
    }
    run_paused(async |_| {
        let mut topology = Topology::builder("broken");
        let numbers = topology.spout("numbers", || Broken).add();
        topology.bolt("sink", does(nothing)).shuffle(&numbers).add();
        let error = LocalCluster::run(topology.build().unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), "component `numbers` stopped: no such file: words.txt");
    });
}

#[test]
fn a_spout_that_panics_is_replaced_and_hears_what_becomes_of_its_roots() {
    run_paused(async |seam| {
        let log = Log::new();
        let calls = Arc::new(AtomicU64::new(0));
        let next = move |out: &mut Roots<'_, Item, u64>| {
            let n = calls.fetch_add(1, Ordering::Relaxed);
            match n {
                0 | 2 => {
                    out.emit(Item { n }, n);
                    if n == 2 { panic!("two") } else { Ok(Next::Emitted) }
                }
                1 => panic!("one"),
                _ => Ok(Next::Done),
            }
        };
        let mut topology = Topology::builder("panics");
        let numbers = topology.spout("numbers", asks(&log, next)).add();
        topology.bolt("sink", does(nothing)).shuffle(&numbers).add();
        run(topology, 1, &seam).await;
        assert_eq!(
            log.all(),
            ["open", "activate", "open", "activate", "open", "activate", "ack 0", "ack 2", "deactivate", "close"]
        );
    });
}

#[test]
fn a_panic_in_ack_keeps_no_other_ack_from_being_heard() {
    /// Emits twenty numbers and panics over the ack of the sixth.
    struct Panics(u64, Arc<Mutex<Vec<u64>>>);
    impl Spout for Panics {
        type Output = Item;
        type MessageId = u64;
        fn next(&mut self, out: &mut Roots<'_, Item, u64>) -> Result<Next> {
            if self.0 > 0 || !self.1.lock().unwrap().is_empty() {
                return Ok(Next::Done);
            }
            (0..20).for_each(|n| out.emit(Item { n }, n));
            self.0 = 20;
            Ok(Next::Emitted)
        }
        fn ack(&mut self, n: u64) {
            self.1.lock().unwrap().push(n);
            assert_ne!(n, 5, "five");
        }
    }
    run_paused(async |seam| {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        let mut topology = Topology::builder("panics");
        let numbers = topology.spout("numbers", move || Panics(0, all.clone())).add();
        topology.bolt("sink", does(nothing)).shuffle(&numbers).add();
        run(topology, 1, &seam).await;
        let mut heard = heard.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |heard| heard.clone());
        heard.sort_unstable();
        assert_eq!(heard, (0..20).collect::<Vec<u64>>());
    });
}

#[test]
fn a_fail_after_done_has_it_asked_again() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..5)).replaying();
            let mut topology = Topology::builder("again");
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let mut seen = Vec::new();
            let twice = move |_: &Context, item: Item, _: &mut Emitter<()>| {
                seen.push(item.n);
                if seen.iter().filter(|n| **n == item.n).count() < 3 { Err(Error::retry("not yet")) } else { Ok(()) }
            };
            topology.bolt("sink", does(twice)).shuffle(&numbers).add();
            run(topology, workers, &seam).await;
            let mut acked = feed.acked();
            acked.sort_unstable();
            assert_eq!(acked, [0, 1, 2, 3, 4]);
            assert_eq!(feed.failed().len(), 10);
        });
    }
}

/// One root over two streams with several tuples; tuples of no tree; a root that reaches nobody.
#[test]
fn a_root_may_begin_with_several_tuples_or_none() {
    for workers in [1, 3] {
        run_paused(async |seam| {
            let log = Log::new();
            let mut round = 0;
            let next = move |out: &mut Roots<'_, Two, u64>| {
                round += 1;
                match round {
                    1 => {
                        let mut root = out.root(1);
                        root.left.emit(Item { n: 10 });
                        root.left.emit(Item { n: 11 });
                        root.right.emit(Item { n: 12 });
                        drop(root);
                        out.root(2).left.emit(Item { n: 20 });
                        out.root(3);
                        out.untracked().right.emit(Item { n: 66 });
                        out.root(4).right.emit_all((40..45).map(|n| Item { n }));
                        assert_eq!(out.emitted(), 4);
                        Ok(Next::Emitted)
                    }
                    _ => Ok(Next::Done),
                }
            };
            let mut topology = Topology::builder("roots");
            let both = topology.spout("both", asks(&log, next)).add();
            let seen = Log::new();
            let saw = seen.clone();
            let sink = move |_: &Context, item: Item, _: &mut Emitter<()>| {
                saw.add(item.n);
                if item.n == 20 || item.n == 66 { Err(Error::retry("unlucky")) } else { Ok(()) }
            };
            topology.bolt("sink", does(sink)).parallelism(2).shuffle(&both.left).all(&both.right).add();
            run(topology, workers, &seam).await;
            let mut told = log.all();
            told.sort();
            assert_eq!(
                told,
                [
                    "ack 1",
                    "ack 3",
                    "ack 4",
                    "activate",
                    "close",
                    "deactivate",
                    "fail 2: sink failed it: unlucky",
                    "open"
                ]
            );
            let expected = [10, 11, 12, 12, 20, 40, 40, 41, 41, 42, 42, 43, 43, 44, 44, 66, 66];
            assert_eq!(seen.sorted(), expected);
        });
    }
}

#[test]
fn an_emit_that_reaches_no_task_is_complete_at_once() {
    run_paused(async |seam| {
        let feed = Feed::of(items(0..300));
        let mut topology = Topology::builder("nowhere");
        let source = feed.clone();
        topology.spout("numbers", move || source.spout()).add();
        run(topology, 1, &seam).await;
        assert_eq!((feed.acked().len(), feed.failed()), (300, vec![]));
    });
}

#[test]
fn without_tracking_roots_are_acked_at_once_and_every_tuple_arrives() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..500));
            let mut topology = Topology::builder("untracked");
            topology.config("topology.acker.executors", 0);
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let seen = Log::new();
            let saw = seen.clone();
            let fails = move |_: &Context, item: Item, _: &mut Emitter<()>| {
                saw.add(item.n);
                Err(Error::retry("always"))
            };
            topology.bolt("sink", does(fails)).shuffle(&numbers).add();
            run(topology, workers, &seam).await;
            assert_eq!((feed.acked(), feed.failed()), ((0..500).collect(), vec![]));
            assert_eq!(seen.all(), (0..500).collect::<Vec<_>>());
        });
    }
}

#[test]
fn what_is_pending_is_counted_for_all_tasks_of_an_executor() {
    run_paused(async |seam| {
        let feed = Feed::of(items(0..2));
        let mut topology = Topology::builder("tasks");
        topology.config("topology.max.spout.pending", 1);
        let source = feed.clone();
        let numbers = topology.spout("numbers", move || source.spout()).parallelism(1).tasks(2).add();
        let held = Arc::new(std::sync::Mutex::new(Vec::new()));
        let keep = held.clone();
        let hold = move |_: &Context, item: storm::bolt::Tracked<Item>, _: &mut Emitter<(), Manual>| {
            keep.lock().unwrap().push(item);
            Ok(())
        };
        topology.bolt("holder", does(hold)).shuffle(&numbers).add();
        let cluster = start(topology, 1, &seam).await;
        until(&seam, "each task has one pending", || held.lock().unwrap().len() == 2).await;
        assert_eq!(cluster.pending(), 2);
        for left in [1, 0] {
            held.lock().unwrap().pop().unwrap().ack();
            until(&seam, "it is acked", || feed.acked().len() == 2 - left).await;
            assert_eq!(cluster.pending(), left as u64);
        }
        ended(&cluster, &seam).await;
        cluster.stop(Duration::ZERO).await;
    });
}

#[test]
fn max_spout_pending_is_kept_exactly() {
    for (workers, limit) in [(1, 1), (1, 7), (2, 7)] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..50));
            let mut topology = Topology::builder("pending");
            topology.config("topology.max.spout.pending", limit);
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let held = Arc::new(std::sync::Mutex::new(Vec::new()));
            let keep = held.clone();
            let hold = move |_: &Context, item: storm::bolt::Tracked<Item>, _: &mut Emitter<(), Manual>| {
                keep.lock().unwrap().push(item);
                Ok(())
            };
            topology.bolt("holder", does(hold)).shuffle(&numbers).add();
            let cluster = start(topology, workers, &seam).await;
            let mut acked = 0;
            while acked < 50 {
                let now = limit.min(50 - acked);
                until(&seam, "as many are held as may be", || held.lock().unwrap().len() as u64 >= now).await;
                // Held for less than what counts as held on purpose, in which nothing more comes.
                seam.sleep(Duration::from_millis(50)).await;
                assert_eq!(held.lock().unwrap().len() as u64, now);
                assert_eq!(cluster.pending(), now);
                held.lock().unwrap().drain(..).for_each(storm::bolt::Tracked::ack);
                acked += now;
            }
            ended(&cluster, &seam).await;
            cluster.stop(Duration::ZERO).await;
        });
    }
}
