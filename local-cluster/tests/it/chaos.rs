//! All faults at once, by seed: every item is acked in the end, and none before its effect is there.

use std::time::Duration;

use seam::Seam;
use storm::bolt::Tracked;
use storm::local_cluster::run_seeded;
use storm::prelude::*;

use crate::stage::*;

/// Does as chance will: emits and acks, fails, drops, panics, holds for some ticks.
struct Erratic {
    seam: Seam,
    held: Vec<(u64, Tracked<Item>)>,
}

impl Bolt for Erratic {
    type Input = Tracked<Item>;
    type Output = Item;

    fn execute(&mut self, item: Tracked<Item>, out: &mut Emitter<Item, Manual>) -> Result {
        match self.seam.random() % 60 {
            0 => item.fail("bad luck"),
            1 => drop(item),
            2 => return Err(Error::retry("worse luck")),
            3 => {
                out.anchor(&item).emit(Item { n: item.n });
                panic!("worst luck");
            }
            4..12 => self.held.push((self.seam.random() % 5, item)),
            _ => {
                out.anchor(&item).emit(Item { n: item.n });
                item.ack();
            }
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut Emitter<Item, Manual>) -> Result {
        for (ticks, item) in std::mem::take(&mut self.held) {
            match ticks {
                0 => {
                    out.anchor([&item, &item]).emit(Item { n: item.n });
                    item.ack();
                }
                ticks => self.held.push((ticks - 1, item)),
            }
        }
        Ok(())
    }
}

/// Sometimes takes longer than the time-out, or ends badly.
struct Unsteady(Seam);

impl AsyncBolt for Unsteady {
    type Input = Item;
    type Output = Item;

    async fn execute(&self, item: Item, out: &mut Emitter<Item>) -> Result {
        let chance = self.0.random() % 100;
        self.0.sleep(Duration::from_millis(chance % 7)).await;
        match chance {
            0 => self.0.sleep(Duration::from_secs(100)).await,
            1 => panic!("in flight"),
            2 => return Err(Error::retry("in flight")),
            3..20 => out.emit_all((0..chance).map({
                let n = item.n;
                move |_| Item { n }
            })),
            _ => {}
        }
        out.emit(item);
        Ok(())
    }
}

fn erratic(seam: &Seam, source: &Source, effects: &Log<u64>) -> TopologyBuilder {
    let mut topology = Topology::builder("chaos");
    topology.config("topology.message.timeout.secs", 1).config("topology.executor.receive.buffer.size", 64);
    let source = source.clone();
    let numbers = topology.spout("a-source", move || source.spout()).add();
    let hand = seam.clone();
    let erratic = topology.bolt("erratic", move || Erratic { seam: hand.clone(), held: Vec::new() }).parallelism(3);
    let erratic = erratic.tick_every(Duration::from_millis(5)).shuffle(&numbers).add();
    let hand = seam.clone();
    let unsteady = topology.async_bolt("unsteady", 5, move || Unsteady(hand.clone())).parallelism(4);
    let unsteady = unsteady.partial_key(&erratic, Item::N).add();
    let (hand, log) = (seam.clone(), effects.clone());
    let sink = move |context: &Context, item: Item, _: &mut Emitter<()>| {
        if hand.random() % 200 == 0 {
            return Err(Error::retry("at the very end"));
        }
        if context.task_index() == 0 {
            log.add(item.n);
        }
        Ok(())
    };
    topology.bolt("sink", does(sink)).parallelism(2).tasks(3).all(&unsteady).add();
    topology
}

async fn all_faults(seam: Seam, what: String) {
    let effects = Log::new();
    let source = Source::new(300, 3, true).with_effects(&effects);
    let mut cluster = start(erratic(&seam, &source, &effects), 3, &seam).await;
    for _ in 0..10 {
        seam.sleep(Duration::from_micros(seam.random() % 30_000)).await;
        let (one, other) = [(0, 1), (1, 2), (0, 2)][seam.random() as usize % 3];
        cluster.separate(one, other);
        if seam.random().is_multiple_of(3) {
            // Others may go on meanwhile, without a word to the one that they have lost.
            seam.sleep(Duration::from_micros(seam.random() % 10_000)).await;
            let victim = (seam.random() % 3) as u16;
            cluster.kill_worker(victim);
            seam.sleep(Duration::from_micros(seam.random() % 50_000)).await;
            cluster.rejoin(one, other);
            cluster.restart_worker(victim).await.unwrap_or_else(|error| panic!("{error}"));
        }
        cluster.rejoin(one, other);
    }
    until(&seam, format!("{what}: all are acked"), || source.acks() >= 300 && source.open().is_empty()).await;
    let mut acked = source.acked();
    acked.dedup();
    assert_eq!(acked, (0..300).collect::<Vec<_>>(), "{what}");
    assert_eq!(source.acked_without_effect(), [0_u64; 0], "{what}");
    let stalled = source.failed().into_iter().filter(|(_, reason)| reason.contains("stood still"));
    assert_eq!(stalled.collect::<Vec<_>>(), [], "{what}");
    ended(&cluster, &seam).await;
    drained(&cluster, &seam).await;
    cluster.stop(Duration::ZERO).await;
}

#[test]
fn every_item_is_acked_in_the_end_and_none_before_its_effect() {
    for seed in 0..8 {
        run_seeded(seed, async |seam| all_faults(seam, format!("seed {seed}")).await);
    }
}

/// The same with real races, a few clusters at once.
#[test]
fn it_is_so_on_several_threads_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    runtime.block_on(async {
        let all: Vec<_> =
            (0..4).map(|number| tokio::spawn(all_faults(Seam::system(), format!("cluster {number}")))).collect();
        for one in all {
            // Two seconds are usual: what does not end shall not hang for ever.
            tokio::time::timeout(Duration::from_secs(100), one).await.unwrap().unwrap();
        }
    });
}
