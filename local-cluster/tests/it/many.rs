//! Many clusters in one process: no cross-talk, nothing left behind.

use std::time::{Duration, Instant};

use seam::Seam;
use storm::local_cluster::testing::{Capture, Feed};
use storm::local_cluster::{LocalCluster, run_paused};
use storm::prelude::*;

use crate::stage::*;

/// Passes items of its own through a cluster, and finds those at its end.
async fn one_of_many(seam: Seam, number: u64) {
    let workers = 1 + (number % 3) as u16;
    let feed = Feed::of(items(number * 100..number * 100 + 30));
    // All have the same name.
    let mut topology = Topology::builder("many");
    let source = feed.clone();
    let numbers = topology.spout("numbers", move || source.spout()).add();
    let pass = |_: &Context, item: Item, out: &mut Emitter<Item>| {
        out.emit(item);
        Ok(())
    };
    let passed = topology.bolt("pass", does(pass)).parallelism(2).shuffle(&numbers).add();
    let seen = Capture::of(&mut topology, &passed);
    let cluster = LocalCluster::builder(topology.build().unwrap()).workers(workers).seam(seam);
    let cluster = cluster.start().await.unwrap();
    cluster.ended().await.unwrap();
    cluster.stop(Duration::ZERO).await;
    let mut seen = seen.tuples();
    seen.sort();
    assert_eq!(seen, items(number * 100..number * 100 + 30));
    assert_eq!((feed.acked().len(), feed.failed()), (30, vec![]));
}

#[test]
fn hundreds_one_after_another() {
    run_paused(async |seam| {
        let metrics = tokio::runtime::Handle::current().metrics();
        for number in 0..300 {
            one_of_many(seam.clone(), number).await;
        }
        until(&seam, "no task is left", || metrics.num_alive_tasks() == 0).await;
    });
}

#[test]
fn dozens_side_by_side_on_one_thread() {
    run_paused(async |seam| {
        let mut all: Vec<_> = (0..64).map(|number| Box::pin(one_of_many(seam.clone(), number))).collect();
        std::future::poll_fn(|cx| {
            all.retain_mut(|one| one.as_mut().poll(cx).is_pending());
            if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        let metrics = tokio::runtime::Handle::current().metrics();
        until(&seam, "no task is left", || metrics.num_alive_tasks() == 0).await;
    });
}

#[test]
fn dozens_side_by_side_on_several_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let all: Vec<_> = (0..64).map(|number| tokio::spawn(one_of_many(Seam::system(), number))).collect();
        for one in all {
            one.await.unwrap();
        }
    });
}

/// Prints how long it takes from nothing to the first ack; it is no more than a figure, as a machine may be busy.
#[test]
fn the_first_ack_comes_soon() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        for workers in [1, 3] {
            #[expect(clippy::disallowed_methods, reason = "a figure for a person, which nothing depends on")]
            let began = Instant::now();
            let feed = Feed::of(items([1]));
            let mut topology = Topology::builder("soon");
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let sink = |_: &Context, _: Item, _: &mut Emitter<()>| Ok(());
            topology.bolt("sink", does(sink)).parallelism(3).all(&numbers).add();
            run(topology, workers, &Seam::system()).await;
            println!("{workers} workers: {:?} from nothing to the end of the first root", began.elapsed());
            assert_eq!(feed.acked(), [0]);
        }
    });
}
