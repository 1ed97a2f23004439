//! Connections break, and workers die.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seam::Seam;
use storm::bolt::Tracked;
use storm::local_cluster::run_seeded;
use storm::prelude::*;

use crate::stage::*;

/// (item, component, task, worker) of each `execute`.
type Seen = Log<(u64, &'static str, u32, u16)>;

/// What the last bolt does with its inputs.
#[derive(Clone)]
struct Hands(Arc<Mutex<Option<Vec<Tracked<Item>>>>>);

impl Hands {
    fn holding() -> Self {
        Hands(Arc::new(Mutex::new(Some(Vec::new()))))
    }

    fn open() -> Self {
        Hands(Arc::default())
    }

    fn let_go(&self) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.into_iter().flatten().for_each(Tracked::ack);
    }

    fn take(&self, item: Tracked<Item>) {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(held) => held.push(item),
            None => item.ack(),
        }
    }
}

/// Passes each item on after some milliseconds, several at once, so that there is always something under way.
struct Passes {
    seam: Seam,
    seen: Seen,
    place: (u32, u16),
}

impl AsyncBolt for Passes {
    type Input = Item;
    type Output = Item;

    fn prepare(&mut self, context: &Context) -> Result {
        self.place = (context.task().0, context.worker());
        Ok(())
    }

    async fn execute(&self, item: Item, out: &mut Emitter<Item>) -> Result {
        let (task, worker) = self.place;
        self.seen.add((item.n, "middle", task, worker));
        self.seam.sleep(Duration::from_millis(item.n * 7 % 13)).await;
        out.emit(item);
        Ok(())
    }
}

/// A spout in worker 0; two bolts with a task in each of three workers. Which tasks an item goes to depends on its number
/// alone, and all nine ways through the workers are taken.
fn three_workers(seam: &Seam, source: &Source, seen: &Seen, hands: &Hands) -> TopologyBuilder {
    let mut topology = Topology::builder("three-workers");
    topology.config("topology.message.timeout.secs", 60);
    let (source, hands) = (source.clone(), hands.clone());
    let numbers = topology.spout("a-source", move || source.spout()).add();
    let (hand, log) = (seam.clone(), seen.clone());
    let middle = move || Passes { seam: hand.clone(), seen: log.clone(), place: (0, 0) };
    let middle = topology.async_bolt("b-middle", 20, middle).parallelism(3).fields(&numbers, Item::N).add();
    let log = seen.clone();
    let sink = move |context: &Context, item: Tracked<Item>, _: &mut Emitter<(), Manual>| {
        log.add((item.n, "sink", context.task().0, context.worker()));
        hands.take(item);
        Ok(())
    };
    topology.bolt("c-sink", does(sink)).parallelism(3).fields_with(&middle, |item| item.n / 7).add();
    topology
}

fn by_component(seen: &Seen, component: &str) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        seen.all().into_iter().filter(|(_, of, ..)| *of == component).map(|(n, ..)| n).collect();
    numbers.sort_unstable();
    numbers
}

/// The workers that each item's tuples went to.
fn touched(seen: &Seen) -> BTreeMap<u64, BTreeSet<u16>> {
    let mut touched: BTreeMap<u64, BTreeSet<u16>> = BTreeMap::new();
    for (n, _, _, worker) in seen.all() {
        touched.entry(n).or_default().insert(worker);
    }
    touched
}

#[test]
fn broken_connections_lose_and_double_nothing() {
    for seed in 0..12 {
        run_seeded(seed, async |seam| {
            let (source, seen) = (Source::new(3000, 30, false), Log::new());
            let cluster = start(three_workers(&seam, &source, &seen, &Hands::open()), 3, &seam).await;
            let mut breaks = 0;
            while source.acks() < 2900 {
                seam.sleep(Duration::from_micros(seam.random() % 3000)).await;
                let (one, other) = [(0, 1), (1, 2), (0, 2)][seam.random() as usize % 3];
                cluster.break_connection(one, other);
                breaks += 1;
                assert!(breaks < 100_000, "it does not get on: {:#?}", states(&cluster));
            }
            assert!(breaks > 30, "{breaks}");
            ended(&cluster, &seam).await;
            assert_eq!(source.failed(), []);
            let expected: Vec<u64> = (0..3000).collect();
            assert_eq!(source.acked(), expected, "seed {seed}");
            assert_eq!(by_component(&seen, "middle"), expected, "seed {seed}");
            assert_eq!(by_component(&seen, "sink"), expected, "seed {seed}");
            drained(&cluster, &seam).await;
            cluster.stop(Duration::ZERO).await;
        });
    }
}

/// All roots are held at their last bolt while a worker dies: which of them had touched it is known to the item.
#[test]
fn a_lost_worker_fails_the_roots_that_touched_it_and_no_others() {
    for (seed, victim) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
        run_seeded(seed, async |seam| {
            let (source, seen, hands) = (Source::new(300, 300, false), Log::new(), Hands::holding());
            let mut cluster = start(three_workers(&seam, &source, &seen, &hands), 3, &seam).await;
            until(&seam, "all are held", || by_component(&seen, "sink").len() == 300).await;
            // What was sent last may wait for its frame: marks come before what they speak of.
            let touched = touched(&seen);
            let lost: BTreeSet<u64> =
                touched.iter().filter(|(_, workers)| workers.contains(&victim)).map(|(n, _)| *n).collect();
            assert!(lost.len() > 100 && lost.len() < 250, "{}", lost.len());
            let through_others = touched.values().filter(|workers| workers.len() == 1).count();
            assert!(through_others > 10, "some stay in one worker: {through_others}");
            let began = seam.now();
            cluster.kill_worker(victim);
            until(&seam, "as many have failed", || source.fails() >= lost.len()).await;
            let took = seam.now() - began;
            assert!(took <= Duration::from_secs(1), "{took:?}");
            // Whatever else were to fail has time for it.
            seam.sleep(Duration::from_secs(20)).await;
            let reason = format!("worker {victim} is gone");
            let expected: Vec<(u64, String)> = lost.iter().map(|n| (*n, reason.clone())).collect();
            assert_eq!(source.failed(), expected);
            assert_eq!(source.acked(), [0_u64; 0]);
            hands.let_go();
            until(&seam, "the others are acked", || source.acks() == 300 - lost.len()).await;
            let others: Vec<u64> = (0..300).filter(|n| !lost.contains(n)).collect();
            assert_eq!(source.acked(), others);
            cluster.restart_worker(victim).await.unwrap();
            ended(&cluster, &seam).await;
            drained(&cluster, &seam).await;
            cluster.stop(Duration::ZERO).await;
        });
    }
}

/// The ledger's worker learns of the death first, and only then that tuples had gone there by way of a third worker, whose
/// connection was broken meanwhile.
#[test]
fn a_late_mark_of_a_lost_worker_fails_its_root_all_the_same() {
    for (seed, victim) in [(1, 1), (2, 2)] {
        run_seeded(seed, async |seam| {
            let ways = {
                let (source, seen) = (Source::new(300, 300, false), Log::new());
                run(three_workers(&seam, &source, &seen, &Hands::open()), 3, &seam).await;
                touched(&seen)
            };
            let (source, seen, hands) = (Source::new(300, 300, false), Log::new(), Hands::holding());
            let mut cluster = start(three_workers(&seam, &source, &seen, &hands), 3, &seam).await;
            let third = 3 - victim;
            // Those that wait for a call in flight are still on their way to the victim, and no ack tells of them.
            until(&seam, "the third has some in hand", || {
                seen.all().iter().any(|(_, component, _, worker)| *component == "middle" && *worker == third)
            })
            .await;
            cluster.separate(0, third);
            seam.sleep(Duration::from_millis(100)).await;
            cluster.kill_worker(victim);
            seam.sleep(Duration::from_millis(100)).await;
            cluster.rejoin(0, third);
            hands.let_go();
            let lost: Vec<u64> =
                ways.iter().filter(|(_, workers)| workers.contains(&victim)).map(|(n, _)| *n).collect();
            until(&seam, format!("all of {} have ended", ways.len()), || source.open().is_empty()).await;
            let reason = format!("worker {victim} is gone");
            let failed = source.failed();
            assert!(failed.iter().all(|(n, said)| *said == reason && lost.contains(n)), "{failed:?}");
            cluster.stop(Duration::ZERO).await;
        });
    }
}

/// Emits after a while, and then says that it went wrong.
struct FailsLate(Seam);

impl AsyncBolt for FailsLate {
    type Input = Item;
    type Output = Item;

    async fn execute(&self, item: Item, out: &mut Emitter<Item>) -> Result {
        self.0.sleep(Duration::from_millis(5)).await;
        let n = item.n;
        out.emit(item);
        if n == 0 { Err(Error::retry("too late")) } else { Ok(()) }
    }
}

/// A bolt emits and fails; its child is acked by way of another worker while the word of the fail cannot get through.
#[test]
fn an_ack_that_overtakes_a_fail_completes_nothing() {
    run_seeded(1, async |seam| {
        let (source, seen): (_, Log<u64>) = (Source::new(4, 4, false), Log::new());
        let mut topology = Topology::builder("overtaken");
        let feed = source.clone();
        // In turn: worker 0, 1, 2, 0, 1.
        let numbers = topology.spout("a-source", move || feed.spout()).add();
        let hand = seam.clone();
        let late = topology.async_bolt("b-late", 10, move || FailsLate(hand.clone())).shuffle(&numbers).add();
        let fails = topology.stream::<Item>("e-fails", "default");
        let log = seen.clone();
        let sink = move |_: &Context, item: Item, _: &mut Emitter<()>| {
            log.add(item.n);
            Ok(())
        };
        topology.bolt("c-sink", does(sink)).shuffle(&fails).add();
        topology.bolt("d-none", does(|_: &Context, _: Item, _: &mut Emitter<()>| Ok(()))).shuffle(&numbers).add();
        let fails = |_: &Context, item: Item, out: &mut Emitter<Item>| {
            let n = item.n;
            out.emit(item);
            assert!(n != 1, "not one");
            if n == 2 { Err(Error::retry("not two")) } else { Ok(()) }
        };
        topology.bolt("e-fails", does(fails)).shuffle(&late).add();
        let cluster = start(topology, 3, &seam).await;
        seam.sleep(Duration::from_millis(2)).await;
        cluster.separate(0, 1);
        until(&seam, "all children are acked", || seen.len() == 4).await;
        seam.sleep(Duration::from_millis(100)).await;
        assert_eq!(source.acked(), [3]);
        assert_eq!(source.failed(), []);
        cluster.rejoin(0, 1);
        ended(&cluster, &seam).await;
        let expected = [
            (0, "b-late failed it: too late".to_owned()),
            (1, "e-fails panicked: not one".to_owned()),
            (2, "e-fails failed it: not two".to_owned()),
        ];
        assert_eq!((source.acked(), source.failed()), (vec![3], expected.to_vec()));
        cluster.stop(Duration::ZERO).await;
    });
}

/// Under load, at any moment: whoever never goes by way of the dead worker is acked at the first attempt.
#[test]
fn workers_die_again_and_again_and_every_item_is_acked_in_the_end() {
    for seed in 0..10 {
        run_seeded(seed, async |seam| {
            // Where each item goes, from a run in which nothing happens.
            let ways = {
                let (source, seen) = (Source::new(700, 50, false), Log::new());
                run(three_workers(&seam, &source, &seen, &Hands::open()), 3, &seam).await;
                touched(&seen)
            };
            let (source, seen) = (Source::new(700, 5, true), Log::new());
            let mut cluster = start(three_workers(&seam, &source, &seen, &Hands::open()), 3, &seam).await;
            let mut killed = BTreeSet::new();
            for _ in 0..3 {
                let victim = 1 + (seam.random() % 2) as u16;
                seam.sleep(Duration::from_micros(seam.random() % 30_000)).await;
                // What the third sends to the victim now, the first learns later than that the victim is dead.
                cluster.separate(0, 3 - victim);
                seam.sleep(Duration::from_micros(seam.random() % 15_000)).await;
                cluster.kill_worker(victim);
                killed.insert(victim);
                seam.sleep(Duration::from_micros(seam.random() % 5_000)).await;
                cluster.rejoin(0, 3 - victim);
                seam.sleep(Duration::from_micros(seam.random() % 100_000)).await;
                cluster.restart_worker(victim).await.unwrap();
            }
            let what = || format!("seed {seed}: all are acked; open are {:?}; {:#?}", source.open(), states(&cluster));
            let deadline = seam.now() + Duration::from_secs(30);
            while source.acks() < 700 {
                assert!(seam.now() < deadline, "{}", what());
                seam.sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(source.acked(), (0..700).collect::<Vec<_>>(), "seed {seed}");
            for (n, reason) in source.failed() {
                assert!(reason.starts_with("worker ") && reason.ends_with(" is gone"), "seed {seed}: {n}: {reason}");
                assert!(!ways[&n].is_disjoint(&killed), "seed {seed}: item {n} never went to {killed:?}");
            }
            assert!(by_component(&seen, "sink").len() >= 700);
            ended(&cluster, &seam).await;
            drained(&cluster, &seam).await;
            cluster.stop(Duration::ZERO).await;
        });
    }
}

/// The spout's own worker dies: its ledger is gone, and its source replays what was not acked.
#[test]
fn a_spout_that_is_started_again_replays_what_was_open() {
    for seed in 0..10 {
        run_seeded(seed, async |seam| {
            let (source, seen) = (Source::new(500, 10, true), Log::new());
            let mut cluster = start(three_workers(&seam, &source, &seen, &Hands::open()), 3, &seam).await;
            for _ in 0..3 {
                seam.sleep(Duration::from_millis(5 + seed)).await;
                cluster.kill_worker(0);
                seam.sleep(Duration::from_millis(3)).await;
                cluster.restart_worker(0).await.unwrap();
            }
            until(&seam, format!("seed {seed}: all are acked"), || source.open().is_empty() && source.acks() >= 500)
                .await;
            let acked: BTreeSet<u64> = source.acked().into_iter().collect();
            assert_eq!(acked, (0..500).collect());
            assert_eq!(source.failed(), []);
            ended(&cluster, &seam).await;
            drained(&cluster, &seam).await;
            cluster.stop(Duration::ZERO).await;
        });
    }
}

/// Some spouts have ended, and their receivers know, when a worker dies: its next life learns it too.
#[test]
fn a_worker_that_comes_late_hears_of_ends_again() {
    run_seeded(1, async |seam| {
        let (source, seen) = (Source::new(20, 20, true), Log::new());
        let late = storm::local_cluster::testing::Feed::open();
        let mut topology = three_workers(&seam, &source, &seen, &Hands::open());
        let feed = late.clone();
        let z = topology.spout("z-late", move || feed.spout()).add();
        let log = seen.clone();
        let last = move |context: &Context, item: Item, _: &mut Emitter<()>| {
            log.add((item.n, "last", context.task().0, context.worker()));
            Ok(())
        };
        let numbers = topology.stream::<Item>("a-source", "default");
        topology.bolt("d-last", does(last)).parallelism(3).all(&numbers).all(&z).add();
        let mut cluster = start(topology, 3, &seam).await;
        until(&seam, "the first has ended", || source.acks() == 20).await;
        seam.sleep(Duration::from_secs(1)).await;
        for victim in [1, 2, 1] {
            cluster.kill_worker(victim);
            seam.sleep(Duration::from_millis(200)).await;
            cluster.restart_worker(victim).await.unwrap();
        }
        late.push(Item { n: 1000 });
        late.close();
        ended(&cluster, &seam).await;
        assert_eq!((late.acked(), late.failed()), (vec![0], vec![]));
        cluster.stop(Duration::ZERO).await;
    });
}
