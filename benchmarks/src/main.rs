//! Measures the runtime.
mod topologies;

use std::sync::Arc;
use std::time::Instant;

use storm::local_cluster::LocalCluster;
use storm::prelude::*;
use topologies::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn hop(tuples: u64, tracked: bool, hops: usize) -> Topology {
    let mut topology = Topology::builder("hop");
    let mut numbers = topology.spout("numbers", move || Numbers { next: 0, end: tuples, tracked }).add();
    for hop in 1..hops {
        numbers = topology.bolt(&format!("id-{hop}"), || Identity).shuffle(&numbers).add();
    }
    topology.bolt("null", || Null).shuffle(&numbers).add();
    topology.build().unwrap()
}

fn wordcount(text: Arc<String>) -> Topology {
    let mut topology = Topology::builder("wordcount");
    let lines = topology.spout("lines", move || Lines::new(text.clone(), 5)).add();
    let words = topology.bolt("split", || Split).parallelism(2).shuffle(&lines).add();
    topology.bolt("count", Count::default).parallelism(2).fields(&words, Word::WORD).add();
    topology.build().unwrap()
}

fn main() {
    let case = std::env::args().nth(1).unwrap();
    let workers: u16 = std::env::args().nth(2).map_or(1, |w| w.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let topology = match case.as_str() {
        "hop" => hop(200_000_000, false, 1),
        "hop-acked" => hop(50_000_000, true, 1),
        "three" => hop(30_000_000, true, 3),
        "deep" => hop(3_000_000, true, 50),
        "words" => wordcount(Arc::new(std::fs::read_to_string("/work/text50.txt").unwrap())),
        _ => panic!(),
    };
    let began = Instant::now();
    let summary = runtime.block_on(async {
        let cluster = LocalCluster::builder(topology).workers(workers).start().await.unwrap();
        cluster.ended().await.unwrap();
        let summary = cluster.summary();
        if std::env::args().nth(3).is_some() {
            println!("{}", serde_json::to_string_pretty(&cluster.reports()).unwrap());
        }
        cluster.stop(std::time::Duration::ZERO).await;
        summary
    });
    let seconds = began.elapsed().as_secs_f64();
    for (component, executed) in &summary.executed {
        println!("{case} {component} {executed} {:.2} M/s", *executed as f64 / seconds / 1e6);
    }
    println!(
        "acked {} failed {} p50 {} p99 {}  {seconds:.2}s",
        summary.acked,
        summary.failed,
        summary.complete_us.value_at_quantile(0.5),
        summary.complete_us.value_at_quantile(0.99)
    );
}
