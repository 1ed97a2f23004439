//! Bolts that await.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use seam::Seam;
use storm::local_cluster::testing::{Capture, Feed};
use storm::local_cluster::{LocalCluster, run_paused};
use storm::prelude::*;

use crate::stage::*;

/// Waits for `takes(n)` of milliseconds, then does as the item says.
struct Service {
    seam: Seam,
    takes: fn(u64) -> u64,
    prepared: bool,
    running: Arc<AtomicUsize>,
    log: Log<String>,
}

struct Running(Arc<AtomicUsize>, Log<String>, u64);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        self.1.add(format!("left {}", self.2));
    }
}

impl AsyncBolt for Service {
    type Input = Item;
    type Output = Item;

    fn prepare(&mut self, _: &Context) -> Result {
        self.prepared = true;
        self.log.add("prepared".to_owned());
        Ok(())
    }

    async fn execute(&self, item: Item, out: &mut Emitter<Item>) -> Result {
        assert!(self.prepared, "each instance is prepared");
        let now = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        let _running = Running(self.running.clone(), self.log.clone(), item.n);
        self.log.add(format!("{now} in flight"));
        self.seam.sleep(Duration::from_millis((self.takes)(item.n))).await;
        match item.n {
            100 => Err(Error::retry("a hundred is too much")),
            200 => panic!("two hundred"),
            300 => Err(Error::fatal("three hundred")),
            400 => {
                out.emit_all((0..1000).map(|n| Item { n }));
                Ok(())
            }
            n => {
                out.emit(Item { n: n * 2 });
                out.emit(Item { n: n * 2 + 1 });
                Ok(())
            }
        }
    }

    fn cleanup(&mut self) {
        self.log.add("cleaned up".to_owned());
    }
}

struct Run {
    feed: Feed<Item>,
    seen: Capture<Item>,
    log: Log<String>,
    cluster: LocalCluster,
}

async fn serve(seam: &Seam, workers: u16, numbers: Vec<u64>, in_flight: usize, takes: fn(u64) -> u64) -> Run {
    let feed = Feed::of(items(numbers));
    let log = Log::new();
    let mut topology = Topology::builder("service");
    topology.config("topology.message.timeout.secs", 2);
    let source = feed.clone();
    let numbers = topology.spout("numbers", move || source.spout()).add();
    let (hands, said, running) = (seam.clone(), log.clone(), Arc::new(AtomicUsize::new(0)));
    let make =
        move || Service { seam: hands.clone(), takes, prepared: false, running: running.clone(), log: said.clone() };
    let served = topology.async_bolt("service", in_flight, make).shuffle(&numbers).add();
    let seen = Capture::of(&mut topology, &served);
    let cluster = start(topology, workers, seam).await;
    Run { feed, seen, log, cluster }
}

fn most_in_flight(log: &Log<String>) -> u64 {
    let counts = log.all().into_iter().filter_map(|line| line.strip_suffix(" in flight")?.parse().ok());
    counts.max().unwrap_or(0)
}

#[test]
fn calls_in_flight_are_bounded_and_what_they_emit_is_anchored() {
    for workers in [1, 3] {
        run_paused(async |seam| {
            let began = seam.now();
            let run = serve(&seam, workers, (0..20).collect(), 4, |n| if n % 4 == 0 { 400 } else { 100 }).await;
            ended(&run.cluster, &seam).await;
            assert_eq!(most_in_flight(&run.log), 4);
            // 5 × 400 ms and 15 × 100 ms of work in four lanes.
            let took = (seam.now() - began).as_millis();
            assert!((875..=1500).contains(&took), "{took} ms");
            let mut acked = run.feed.acked();
            acked.sort_unstable();
            assert_eq!(acked, (0..20).collect::<Vec<_>>());
            let mut seen = run.seen.tuples();
            seen.sort();
            assert_eq!(seen, items(0..40));
            run.cluster.stop(Duration::ZERO).await;
            assert_eq!(run.log.all().last().unwrap(), "cleaned up");
        });
    }
}

#[test]
fn an_error_fails_its_own_call_and_a_panic_those_in_flight() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let takes = |n: u64| match n {
                200 => 300,
                n => 100 * n,
            };
            // In flight when 200 panics after 300 ms: 8, 9 and 4; returned before: 1; behind it in the inbox: 3.
            let run = serve(&seam, workers, vec![1, 8, 9, 200, 4, 3], 4, takes).await;
            ended(&run.cluster, &seam).await;
            let mut failed = told(run.feed.failed());
            failed.sort();
            let expected: Vec<(u64, String)> =
                (1..=4).map(|id| (id, "service panicked: two hundred".to_owned())).collect();
            assert_eq!(failed, expected, "{workers} workers");
            assert_eq!(run.feed.acked(), [0, 5]);
            assert_eq!(run.log.all().iter().filter(|line| *line == "prepared").count(), 2);
            let counts = executor(&run.cluster, "service").counts;
            assert_eq!((counts.restarts, counts.executed, counts.acked, counts.failed), (1, 6, 2, 4));
            run.cluster.stop(Duration::ZERO).await;
        });
    }
    run_paused(async |seam| {
        let run = serve(&seam, 1, vec![1, 100, 2], 5, |_| 10).await;
        ended(&run.cluster, &seam).await;
        assert_eq!(told(run.feed.failed()), [(1, "service failed it: a hundred is too much".to_owned())]);
        assert_eq!(run.feed.acked(), [0, 2]);
        run.cluster.stop(Duration::ZERO).await;
    });
}

#[test]
fn a_fatal_error_of_a_call_ends_the_run() {
    run_paused(async |seam| {
        let run = serve(&seam, 1, vec![1, 300, 2], 5, |_| 10).await;
        let error = run.cluster.ended().await.unwrap_err();
        assert_eq!(error.to_string(), "component `service` stopped: three hundred");
        run.cluster.stop(Duration::ZERO).await;
        assert_eq!(run.feed.acked().len() + run.feed.failed().len(), 3);
    });
}

/// Also when the bolt is full, and others come and go all the time.
#[test]
fn a_call_that_takes_longer_than_the_message_time_out_is_dropped() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let began = seam.now();
            let takes = |n: u64| if n == 5 { 1_000_000 } else { 200 };
            let run = serve(&seam, workers, (0..100).collect(), 2, takes).await;
            until(&seam, "one has failed", || !run.feed.failed().is_empty()).await;
            let took = (seam.now() - began).as_millis();
            assert!((2400..3200).contains(&took), "after {took} ms");
            assert_eq!(told(run.feed.failed()), [(5, "service held it longer than the message time-out".to_owned())]);
            assert!(run.log.all().contains(&"left 5".to_owned()));
            ended(&run.cluster, &seam).await;
            assert_eq!((run.feed.acked().len(), run.feed.failed().len()), (99, 1));
            run.cluster.stop(Duration::ZERO).await;
        });
    }
}

#[test]
fn a_call_may_give_an_iterator() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let run = serve(&seam, workers, vec![400], 2, |_| 10).await;
            ended(&run.cluster, &seam).await;
            assert_eq!(run.seen.tuples(), items(0..1000));
            assert_eq!((run.feed.acked(), run.feed.failed()), (vec![0], vec![]));
            run.cluster.stop(Duration::ZERO).await;
        });
    }
}

/// What a bolt's executor waits for downstream is no holding: its calls have returned, they only wait to be looked at.
#[test]
fn waiting_for_a_slow_receiver_is_not_holding() {
    for workers in [1, 2] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..40));
            let log = Log::new();
            let mut topology = Topology::builder("slow");
            topology.config("topology.message.timeout.secs", 2).config("topology.executor.receive.buffer.size", 1);
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).max_pending(20).add();
            let (hands, running) = (seam.clone(), Arc::new(AtomicUsize::new(0)));
            let make = move || Service {
                seam: hands.clone(),
                takes: |_| 10,
                prepared: false,
                running: running.clone(),
                log: log.clone(),
            };
            let served = topology.async_bolt("service", 4, make).shuffle(&numbers).add();
            let hands = seam.clone();
            let make = move || Service {
                seam: hands.clone(),
                takes: |_| 1500,
                prepared: false,
                running: Arc::default(),
                log: Log::new(),
            };
            topology.async_bolt("slow", 1, make).shuffle(&served).add();
            let cluster = start(topology, workers, &seam).await;
            ended(&cluster, &seam).await;
            assert_eq!((feed.acked().len(), told(feed.failed())), (40, vec![]));
            cluster.stop(Duration::ZERO).await;
        });
    }
}
