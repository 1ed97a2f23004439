//! The end of bounded input: what a bolt's `finish` leaves undone is never a good end.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use storm::local_cluster::testing::{Capture, Feed};
use storm::local_cluster::{LocalCluster, LocalError, run_paused};
use storm::prelude::*;

use crate::stage::{Item, items};

/// Ends its input in the given way.
#[derive(Clone)]
struct Finishes(fn(&mut Emitter<Item>) -> Result);

impl Bolt for Finishes {
    type Input = Item;
    type Output = Item;

    fn execute(&mut self, _: Item, _: &mut Emitter<Item>) -> Result {
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<Item>) -> Result {
        (self.0)(out)
    }
}

/// How a run ends, and what `finish` emitted.
fn ended(finish: fn(&mut Emitter<Item>) -> Result) -> (Result<(), LocalError>, Vec<u64>) {
    run_paused(async |seam| {
        let feed = Feed::of(items(0..3));
        let mut topology = Topology::builder("finish");
        let fed = topology.spout("feed", move || feed.spout()).add();
        let finished = topology.bolt("finishes", move || Finishes(finish)).shuffle(&fed).add();
        let seen = Capture::of(&mut topology, &finished);
        let cluster = LocalCluster::builder(topology.build().unwrap()).seam(seam).start().await.unwrap();
        let ended = cluster.ended().await;
        cluster.stop(Duration::ZERO).await;
        (ended, seen.tuples().iter().map(|item| item.n).collect())
    })
}

#[test]
fn what_finish_emits_arrives_before_the_run_ends() {
    let (ended, seen) = ended(|out| {
        out.emit(Item { n: 0 });
        out.emit_all((1..1000).map(|n| Item { n }));
        Ok(())
    });
    assert_eq!(ended, Ok(()));
    assert!(seen.into_iter().eq(0..1000));
}

#[test]
fn an_error_or_a_panic_in_finish_is_the_error_of_the_run() {
    let fatal = |finish| match ended(finish).0 {
        Err(LocalError::Fatal { component, error }) => format!("{component}: {error}"),
        ended => format!("{ended:?}"),
    };
    assert_eq!(fatal(|_| Err(Error::retry("the disk is full"))), "finishes: the disk is full");
    assert_eq!(fatal(|_| panic!("a mistake")), "finishes: panicked in `finish`: a mistake");
    let in_iterator = fatal(|out| {
        out.emit_all((0..1000).map(|n| if n < 500 { Item { n } } else { panic!("a mistake") }));
        Ok(())
    });
    assert_eq!(in_iterator, "finishes: panicked in `finish`: a mistake");
}
