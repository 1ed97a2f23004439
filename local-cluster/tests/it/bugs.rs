//! Bugs of acking that are switched on do harm that can be seen from outside: an ack before its time, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mutations::Mutation;
use seam::Seam;
use storm::bolt::Tracked;
use storm::local_cluster::run_seeded;
use storm::prelude::*;

use crate::stage::*;

/// Roots; each begins with the items 2n and 2n + 1.
const ROOTS: u64 = 20;

/// Takes some milliseconds for each item, and fails every fifth at its first coming.
struct Slow {
    seam: Seam,
    log: Log<String>,
    failed: Arc<Mutex<BTreeSet<u64>>>,
}

impl AsyncBolt for Slow {
    type Input = Item;
    type Output = ();

    async fn execute(&self, item: Item, _: &mut Emitter<()>) -> Result {
        self.seam.sleep(Duration::from_millis(1 + item.n * 7 % 13)).await;
        if item.n % 5 == 4 && self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(item.n) {
            return Err(Error::retry("not yet"));
        }
        self.log.add(format!("effect {}", item.n));
        Ok(())
    }
}

/// Emits the roots, one every 20 ms, and again those that fail.
fn source(topology: &mut TopologyBuilder, log: &Log<String>) -> Stream<Item> {
    let (told, mut next, mut heard) = (log.clone(), 0, 0);
    let emit = move |out: &mut Roots<'_, Item, u64>| {
        let all = told.all();
        let again = all[heard..].iter().filter_map(|line| line.strip_prefix("fail ")?.split(':').next()?.parse().ok());
        let mut roots: Vec<u64> = again.collect();
        heard = all.len();
        if next < ROOTS {
            roots.push(next);
            next += 1;
        }
        for n in roots {
            let mut root = out.root(n);
            root.emit(Item { n: 2 * n });
            root.emit(Item { n: 2 * n + 1 });
        }
        Ok(Next::Idle(Duration::from_millis(20)))
    };
    topology.spout("source", asks(log, emit)).add()
}

fn slow(seam: &Seam, log: &Log<String>) -> impl Fn() -> Slow + Send + Sync + 'static {
    let (seam, log, failed) = (seam.clone(), log.clone(), Arc::<Mutex<BTreeSet<u64>>>::default());
    move || Slow { seam: seam.clone(), log: log.clone(), failed: failed.clone() }
}

/// Each root's items go straight to where they have their effect.
fn pairs(seam: &Seam, log: &Log<String>) -> TopologyBuilder {
    let mut topology = Topology::builder("pairs");
    let source = source(&mut topology, log);
    topology.async_bolt("slow", 4, slow(seam, log)).parallelism(2).fields(&source, Item::N).add();
    topology
}

/// A diamond over two workers, whose join emits what is anchored to both of its inputs.
fn diamond(seam: &Seam, log: &Log<String>) -> TopologyBuilder {
    let mut topology = Topology::builder("diamond");
    let source = source(&mut topology, log);
    let passes = |_: &Context, item: Item, out: &mut Emitter<Item>| {
        out.emit(item);
        Ok(())
    };
    let left = topology.bolt("left", does(passes)).parallelism(2).shuffle(&source).add();
    let right = topology.bolt("right", does(passes)).parallelism(2).shuffle(&source).add();
    let join = move || {
        let mut waiting = BTreeMap::<u64, Tracked<Item>>::new();
        move |item: Tracked<Item>, out: &mut Emitter<Item, Manual>| {
            match waiting.remove(&item.n) {
                None => drop(waiting.insert(item.n, item)),
                Some(other) => {
                    out.anchor([&other, &item]).emit(Item { n: item.n });
                    other.ack();
                    item.ack();
                }
            }
            Ok(())
        }
    };
    let join =
        topology.bolt("join", move || Join(Box::new(join()))).fields(&left, Item::N).fields(&right, Item::N).add();
    topology.async_bolt("slow", 4, slow(seam, log)).parallelism(2).fields(&join, Item::N).add();
    topology
}

type Joins = dyn FnMut(Tracked<Item>, &mut Emitter<Item, Manual>) -> Result + Send;

struct Join(Box<Joins>);

impl Bolt for Join {
    type Input = Tracked<Item>;
    type Output = Item;

    fn execute(&mut self, item: Tracked<Item>, out: &mut Emitter<Item, Manual>) -> Result {
        (self.0)(item, out)
    }
}

type Write = fn(&Seam, &Log<String>) -> TopologyBuilder;

/// What goes wrong under this seed.
fn amiss(mutation: Option<Mutation>, write: Write, seed: u64) -> Option<String> {
    mutations::switch(mutation);
    let log = run_seeded(seed, async |seam| {
        let log = Log::new();
        let cluster = start(write(&seam, &log), 2, &seam).await;
        let all_acked = || (0..ROOTS).all(|root| log.all().contains(&format!("ack {root}")));
        let deadline = seam.now() + Duration::from_secs(20);
        while !all_acked() && seam.now() < deadline {
            seam.sleep(Duration::from_millis(100)).await;
        }
        drop(cluster);
        log.all()
    });
    mutations::switch(None);
    for root in 0..ROOTS {
        let Some(at) = log.iter().position(|line| *line == format!("ack {root}")) else {
            return Some(format!("{root} is not acked"));
        };
        for item in [2 * root, 2 * root + 1] {
            if !log[..at].contains(&format!("effect {item}")) {
                return Some(format!("{root} is acked before {item} has had its effect"));
            }
        }
    }
    None
}

#[test]
fn bugs_of_acking_are_seen_from_outside() {
    for seed in 0..5 {
        assert_eq!(amiss(None, pairs, seed), None);
        assert_eq!(amiss(None, diamond, seed), None);
    }
    let early = |said: &str| said.contains("is acked before");
    let never = |said: &str| said.contains("is not acked");
    type Harm = fn(&str) -> bool;
    let bugs: [(Mutation, Write, Harm); 6] = [
        (Mutation::EdgeByEdge, pairs, early),
        (Mutation::OneEdgeForBothParents, diamond, early),
        (Mutation::FailAsXor, diamond, early),
        (Mutation::DoubleXor, diamond, never),
        (Mutation::LostFail, diamond, never),
        (Mutation::CompletionByIndexAlone, diamond, never),
    ];
    for (mutation, write, harm) in bugs {
        let found = (0..20).filter_map(|seed| amiss(Some(mutation), write, seed)).any(|said| harm(&said));
        assert!(found, "{mutation:?} does not do its harm");
    }
}
