//! The topologies that run to their end: what each is, how it is run, and what must come out.
//!
//! Not here: their components (`topologies`), what they are compared with (`cases`). Invariant: a run in which a root
//! failed, or in which something else came out than must, is no measurement but an error.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use baseline::cases::Text;
use baseline::measure::{Handled, Measurement};
use seam::Seam;
use storm::local_cluster::{LocalCluster, LocalClusterBuilder, Summary};
use storm::prelude::{Grouping, Stream, Topology, TopologyBuilder};
use tokio::runtime::{Builder, Runtime};
use word_count::{Count, Split, Word};
use worker::process::WorkerReport;
use worker::transfer::network::Connector;
use worker::transfer::tcp::Tcp;
use worker_api::ids::WorkerIndex;

use crate::topologies::{
    Cells, CountValues, Identity, Null, NullCell, Number, Numbers, Passes, Payloads, Shared, SplitValues, Sum,
    TotalValues, Totals, Work,
};

/// A topology with an end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Numbers through a row of bolts that pass on, and a last one that takes.
    Hops { hops: usize, tracked: bool, tuples: u64 },
    /// Sixty-four bytes from one worker to another.
    Crossing { tuples: u64 },
    /// Numbers through a row of bolts that work for so many microseconds each.
    Work { microseconds: &'static [u32], tuples: u64 },
    /// Numbers from so many spouts to as many bolts.
    Wide { executors: u64, tuples: u64 },
    /// The words of the text.
    Words(Words),
    /// A kibibyte to each of sixteen tasks.
    All { workers: u16, tuples: u64 },
}

/// A word count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    /// By dynamic values, wired by names.
    pub(crate) dynamic: bool,
    pub(crate) workers: u16,
    /// Splitters, and as many counters.
    pub(crate) parallelism: usize,
    /// How many times as often the text is read as usually.
    pub(crate) times: usize,
    /// A key that is not as it is by default.
    pub(crate) setting: Option<(&'static str, u32)>,
}

impl Words {
    /// The word count of the example, as it is by default.
    pub(crate) const USUAL: Words = Words { dynamic: false, workers: 1, parallelism: 2, times: 1, setting: None };
}

/// How long a run may take that should take seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tasks that get everything.
const ALL_TASKS: usize = 16;

/// A run, from the start of the cluster to the end of its input.
pub(crate) struct Ran {
    pub(crate) measurement: Measurement,
    pub(crate) reports: Vec<WorkerReport>,
    /// Payloads that were not where they were made.
    pub(crate) copied: u64,
}

impl Shape {
    /// Runs it once. `words` is what comes out of the text when it is read as often as it usually is, if that is known.
    ///
    /// # Errors
    /// If it cannot run, a root fails, or something else comes out than must.
    pub(crate) fn run(self, text: Option<Text>, words: Option<Handled>) -> Result<Ran> {
        let (sum, copied) = (Sum::default(), Sum::default());
        let mut topology = Topology::builder("measured");
        self.build(&mut topology, text, &sum, &copied)?;
        let topology = topology.build()?;
        let runtimes = Runtimes::new()?;
        let mut ended = None;
        let measurement = Measurement::of(|| {
            let (summary, reports) = runtimes.run(topology, self.workers())?;
            let tuples = summary.executed.get(self.counted()).copied().unwrap_or(0);
            ended = Some((summary, reports));
            anyhow::Ok(Handled { tuples, checksum: sum.load(Ordering::Relaxed) })
        })?;
        let (summary, reports) = ended.context("nothing ran")?;
        ensure!(summary.failed == 0, "{} roots failed, none should: {:?}", summary.failed, summary.errors);
        if let Some(expected) = self.expected(words) {
            let got = measurement.handled;
            ensure!(got == expected, "{self:?}: {expected:?} should come out, not {got:?}");
        }
        Ok(Ran { measurement, reports, copied: copied.load(Ordering::Relaxed) })
    }

    /// Whether it counts words.
    pub(crate) fn needs_text(self) -> bool {
        matches!(self, Shape::Words(_))
    }

    /// The bolts that a tuple passes.
    pub(crate) fn hops(self) -> u64 {
        match self {
            Shape::Hops { hops, .. } => hops as u64,
            Shape::Work { microseconds, .. } => microseconds.len() as u64 + 1,
            Shape::Words(_) => 2,
            _ => 1,
        }
    }

    /// What must come out, where it is known beforehand.
    fn expected(self, words: Option<Handled>) -> Option<Handled> {
        let numbers = |spouts: u64, end: u64| {
            let sum = (u128::from(end) * u128::from(end.saturating_sub(1)) / 2) as u64;
            Some(Handled { tuples: spouts * end, checksum: spouts.wrapping_mul(sum) })
        };
        match self {
            Shape::Hops { tuples, .. } | Shape::Crossing { tuples } => numbers(1, tuples),
            Shape::Wide { executors, tuples } => numbers(executors, tuples / executors),
            Shape::Words(Words { times, .. }) => words.map(|Handled { tuples, checksum }| {
                let times = times as u64;
                Handled { tuples: times * tuples, checksum: checksum.wrapping_mul(times) }
            }),
            Shape::All { tuples, .. } => {
                let tasks = ALL_TASKS as u64;
                let sum: u64 = (0..tuples).map(|left| u64::from(left as u8)).sum();
                Some(Handled { tuples: tasks * tuples, checksum: tasks * sum })
            }
            Shape::Work { .. } => None,
        }
    }

    fn workers(self) -> u16 {
        match self {
            Shape::Crossing { .. } => 2,
            Shape::Words(Words { workers, .. }) | Shape::All { workers, .. } => workers,
            _ => 1,
        }
    }

    /// The component whose executed tuples are counted.
    fn counted(self) -> &'static str {
        if self.needs_text() { "count" } else { "null" }
    }

    fn build(self, topology: &mut TopologyBuilder, text: Option<Text>, sum: &Sum, copied: &Sum) -> Result<()> {
        let (all, all_copied) = (sum.clone(), copied.clone());
        match self {
            Shape::Hops { hops, tracked, tuples } => {
                let mut numbers = topology.spout("numbers", move || Numbers { next: 0, end: tuples, tracked }).add();
                for hop in 1..hops {
                    numbers = topology.bolt(&format!("id-{hop}"), || Identity).shuffle(&numbers).add();
                }
                topology.bolt("null", move || Null::new(&all)).shuffle(&numbers).add();
            }
            Shape::Crossing { tuples } => {
                let cells = topology.spout("cells", move || Cells { next: 0, end: tuples }).add();
                topology.bolt("null", move || NullCell { sum: 0, all: all.clone() }).shuffle(&cells).add();
            }
            Shape::Work { microseconds, tuples } => {
                let mut numbers = numbers(topology, tuples, 1);
                for (at, microseconds) in microseconds.iter().enumerate() {
                    let make = || Work { microseconds: *microseconds };
                    numbers = topology.bolt(&format!("work-{at}"), make).shuffle(&numbers).add();
                }
                topology.bolt("null", move || Null::new(&all)).shuffle(&numbers).add();
            }
            Shape::Wide { executors, tuples } => {
                let numbers = numbers(topology, tuples / executors, executors as usize);
                let bolt = topology.bolt("null", move || Null::new(&all));
                bolt.parallelism(executors as usize).shuffle(&numbers).add();
            }
            Shape::Words(words) => words.build(topology, text.context("no text")?, sum),
            Shape::All { tuples, .. } => {
                let payloads = topology.spout("payloads", move || Payloads { left: tuples }).add();
                let bolt = topology.bolt("null", move || Shared::new(&all, &all_copied));
                bolt.parallelism(ALL_TASKS).all(&payloads).add();
            }
        }
        Ok(())
    }
}

fn numbers(topology: &mut TopologyBuilder, end: u64, spouts: usize) -> Stream<Number> {
    topology.spout("numbers", move || Numbers { next: 0, end, tracked: true }).parallelism(spouts).add()
}

impl Words {
    fn build(self, topology: &mut TopologyBuilder, Text { file, passes, .. }: Text, sum: &Sum) {
        let (passes, file, all): (_, &'static Path, _) = (passes * self.times, file, sum.clone());
        let parallelism = self.parallelism;
        if let Some((key, value)) = self.setting {
            topology.config(key, value);
        }
        let lines = topology.spout("lines", move || Passes::new(file.to_owned(), passes)).add();
        if self.dynamic {
            let split = topology.bolt("split", || SplitValues).parallelism(parallelism).output_fields(["word"]);
            split.subscribe("lines", Grouping::Shuffle).add();
            let count = topology.bolt("count", CountValues::default).parallelism(parallelism);
            count.output_fields(["word", "count"]).subscribe("split", Grouping::fields(["word"])).add();
            let totals = topology.bolt("totals", move || TotalValues { all: all.clone() });
            totals.subscribe("count", Grouping::Global).add();
        } else {
            let words = topology.bolt("split", || Split).parallelism(parallelism).shuffle(&lines).add();
            let count = topology.bolt("count", || Count::new(false)).parallelism(parallelism);
            let totals = count.fields(&words, Word::WORD).add();
            topology.bolt("totals", move || Totals { all: all.clone() }).global(&totals).add();
        }
    }
}

/// The two runtimes of a worker: data on all cores, control on a thread of its own.
pub(crate) struct Runtimes {
    data: Runtime,
    control: Runtime,
}

impl Runtimes {
    pub(crate) fn new() -> Result<Self> {
        let data = Builder::new_multi_thread().thread_name("data").enable_all().build()?;
        let control = Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
        Ok(Runtimes { data, control })
    }

    /// Runs a topology to its end.
    pub(crate) fn run(&self, topology: Topology, workers: u16) -> Result<(Summary, Vec<WorkerReport>)> {
        self.data.block_on(async {
            let cluster = self.cluster(topology, workers).await?.start().await?;
            // One that stands still says where, instead of holding up all cases.
            if let Ok(ended) = tokio::time::timeout(PATIENCE, cluster.ended()).await {
                ended?;
            } else {
                let executors = cluster.reports().into_iter().flat_map(|report| report.executors);
                let executors = executors.map(|it| {
                    let (waiting, counts) = (it.inbox, it.counts);
                    format!(
                        "{} {:?}: {:?}, {} tuples wait, {} executed, {} pending, {} held",
                        it.component, it.tasks, it.doing, waiting.tuples, counts.executed, counts.pending, counts.held
                    )
                });
                bail!("it has not ended within {PATIENCE:?}:\n{}", executors.collect::<Vec<_>>().join("\n"));
            }
            let ended = (cluster.summary(), cluster.reports());
            cluster.stop(Duration::ZERO).await;
            Ok(ended)
        })
    }

    /// Runs what a started cluster is needed for, and ends the cluster.
    pub(crate) fn with<T>(
        &self,
        topology: Topology,
        workers: u16,
        then: impl AsyncFnOnce(&LocalCluster) -> Result<T>,
    ) -> Result<T> {
        self.data.block_on(async {
            let cluster = self.cluster(topology, workers).await?.start().await?;
            let done = then(&cluster).await;
            cluster.stop(Duration::ZERO).await;
            done
        })
    }

    /// A cluster that is not started; several workers are connected over loopback.
    async fn cluster(&self, topology: Topology, workers: u16) -> Result<LocalClusterBuilder> {
        let control = {
            let _context = self.control.enter();
            Seam::system()
        };
        let builder = LocalCluster::builder(topology).workers(workers).control(control);
        if workers == 1 {
            return Ok(builder);
        }
        let ends = connected(workers).await?;
        Ok(builder.connectors(move |worker| ends[usize::from(worker.0)].clone()))
    }
}

/// A loopback address for each worker, all of which know the others'.
async fn connected(workers: u16) -> Result<Vec<Arc<dyn Connector>>> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut ends = Vec::new();
    for _ in 0..workers {
        ends.push(Arc::new(Tcp::bind(loopback).await?));
    }
    for end in &ends {
        for (worker, peer) in ends.iter().enumerate() {
            end.set_peer(WorkerIndex(worker as u16), peer.local_addr()?.to_string());
        }
    }
    Ok(ends.into_iter().map(|end| end as Arc<dyn Connector>).collect())
}
