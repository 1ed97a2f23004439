//! Under one seed all happens in the same order each time, faults and all.

use std::time::Duration;

use storm::local_cluster::{Journal, LocalCluster, run_seeded};
use storm::prelude::*;

use crate::stage::*;

fn journal(seed: u64) -> String {
    let journal = Journal::new();
    run_seeded(seed, async |seam| {
        let source = Source::new(400, 10, true);
        let mut topology = Topology::builder("seeded");
        topology.config("topology.message.timeout.secs", 5);
        let feed = source.clone();
        let numbers = topology.spout("numbers", move || feed.spout()).add();
        let spread = |_: &Context, item: Item, out: &mut Emitter<Item>| {
            for n in 0..item.n % 4 {
                out.emit(Item { n: item.n + n });
            }
            if item.n % 50 == 49 { Err(Error::retry("not this time")) } else { Ok(()) }
        };
        // Each third time it goes well.
        let mut calls = 0;
        let sometimes = move |context: &Context, item: Item, out: &mut Emitter<Item>| {
            calls += 1;
            if calls % 3 == 0 {
                spread(context, Item { n: item.n - item.n % 50 }, out)
            } else {
                spread(context, item, out)
            }
        };
        let spread = topology.bolt("spread", does(sometimes)).parallelism(3).shuffle(&numbers).add();
        let sink = |_: &Context, item: Item, _: &mut Emitter<()>| {
            assert!(item.n != 222, "not a nice number");
            Ok(())
        };
        let sink = topology.bolt("sink", does(sink)).parallelism(4).partial_key(&spread, Item::N);
        sink.tick_every(Duration::from_millis(7)).add();
        let cluster = LocalCluster::builder(topology.build().unwrap()).workers(3).seam(seam.clone());
        let mut cluster = cluster.journal(journal.clone()).start().await.unwrap();
        for round in 0..6_u16 {
            seam.sleep(Duration::from_millis(5)).await;
            cluster.break_connection(round % 3, (round + 1) % 3);
            if round % 3 == 2 {
                let victim = 1 + round / 3;
                cluster.kill_worker(victim);
                seam.sleep(Duration::from_millis(11)).await;
                cluster.restart_worker(victim).await.unwrap();
            }
        }
        seam.sleep(Duration::from_secs(2)).await;
        cluster.stop(Duration::from_secs(1)).await;
    });
    journal.text()
}

#[test]
fn a_seed_gives_the_same_journal_each_time() {
    for seed in 1..10 {
        let (one, two) = (journal(seed), journal(seed));
        assert!(one.lines().count() > 400, "{} lines", one.lines().count());
        if one != two {
            let at = one.lines().zip(two.lines()).position(|(one, two)| one != two);
            let line = at.unwrap_or_else(|| one.lines().count().min(two.lines().count()));
            let around = |text: &str| text.lines().skip(line.saturating_sub(3)).take(6).collect::<Vec<_>>().join("\n");
            panic!("seed {seed} differs from line {line} on:\n{}\n---\n{}", around(&one), around(&two));
        }
    }
    assert_ne!(journal(1), journal(2));
}
