//! The cases: a topology, its limit, and what their rounds come to.
//!
//! Not here: what is measured (`topologies`, `baseline`). Invariant: rounds of the two are run in turn, so that a machine
//! that changes its speed changes it for both.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use baseline::cases::{Case as Limit, Load};
use baseline::measure::Measurement;
use baseline::word_count::PASSES;
use seam::Seam;
use serde::Serialize;
use storm::local_cluster::{LocalCluster, Summary};
use storm::prelude::*;
use storm::topology::BuildError;
use worker::transfer::network::Connector;
use worker::transfer::tcp::Tcp;
use worker_api::ids::WorkerIndex;

use crate::scheduling;
use crate::topologies::{Count, Identity, Lines, Null, Numbers, Paced, Split, Word};

/// A measured case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    HopUnacked,
    HopAcked,
    ThreeHopsAcked,
    WordCount,
    WordCountTwoWorkers,
    HopTwoWorkers,
    LowRate,
}

/// What a case came to: rates in tuples a second, words for the word counts; medians of the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) case: String,
    pub(crate) per_second: f64,
    pub(crate) limit_per_second: f64,
    /// Of the two medians; for latencies, how many times the limit's median the runtime's is.
    pub(crate) ratio: f64,
    /// The hand-written program.
    pub(crate) limit: String,
    pub(crate) rounds: u32,
    pub(crate) cpu_seconds: f64,
    pub(crate) limit_cpu_seconds: f64,
    pub(crate) least_per_second: f64,
    pub(crate) most_per_second: f64,
    pub(crate) limit_least_per_second: f64,
    pub(crate) limit_most_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<LatencyOutcome>,
}

/// Latencies in microseconds, medians of the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct LatencyOutcome {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) limit_p50_us: f64,
    pub(crate) limit_p99_us: f64,
    pub(crate) core_percent: f64,
}

/// One round of the runtime.
struct Round {
    tuples: u64,
    wall: Duration,
    cpu: Duration,
    p50_us: f64,
    p99_us: f64,
}

/// Tuples that a round of the low-rate case takes: some seconds.
const LOW_RATE_TUPLES: u64 = 3_000;

impl Case {
    pub(crate) const ALL: [Case; 7] = [
        Case::HopUnacked,
        Case::HopAcked,
        Case::ThreeHopsAcked,
        Case::WordCount,
        Case::WordCountTwoWorkers,
        Case::HopTwoWorkers,
        Case::LowRate,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Case::HopUnacked => "hop-unacked",
            Case::HopAcked => "hop-acked",
            Case::ThreeHopsAcked => "three-hops-acked",
            Case::WordCount => "word-count-acked",
            Case::WordCountTwoWorkers => "word-count-two-workers",
            Case::HopTwoWorkers => "hop-two-workers",
            Case::LowRate => "low-rate-latency",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Case> {
        match Case::ALL.into_iter().find(|case| case.name() == name) {
            Some(case) => Ok(case),
            None => bail!(
                "there is no case `{name}`; the cases are {}, {}",
                Case::ALL.map(Case::name).join(", "),
                scheduling::NAME
            ),
        }
    }

    pub(crate) fn needs_text(self) -> bool {
        self.limit().needs_text()
    }

    /// The hand-written program of the same shape.
    fn limit(self) -> Limit {
        match self {
            Case::HopUnacked => Limit::Hop,
            Case::HopAcked => Limit::HopAcked,
            Case::ThreeHopsAcked => Limit::ThreeHopsAcked,
            Case::WordCount | Case::WordCountTwoWorkers => Limit::Threads,
            Case::HopTwoWorkers => Limit::Tcp,
            Case::LowRate => Limit::Chain,
        }
    }

    fn workers(self) -> u16 {
        match self {
            Case::WordCountTwoWorkers | Case::HopTwoWorkers => 2,
            _ => 1,
        }
    }

    /// Runs the rounds.
    pub(crate) fn run(self, rounds: u32, load: &Load) -> Result<Outcome> {
        let (mut ours, mut limits) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(self.round(load)?);
            let tuples = (self == Case::LowRate).then_some(LOW_RATE_TUPLES);
            limits.push(self.limit().run(&Load { tuples, ..*load })?);
        }
        let rate = |round: &Round| round.tuples as f64 / round.wall.as_secs_f64();
        let (per_second, limit_per_second) =
            (median(ours.iter().map(rate)), median(limits.iter().map(Measurement::per_second)));
        let latency = (self == Case::LowRate).then(|| {
            let limit = |quantile: fn(&baseline::measure::Latency) -> f64| {
                median(limits.iter().filter_map(|limit| limit.latency.as_ref()).map(quantile))
            };
            LatencyOutcome {
                p50_us: median(ours.iter().map(|round| round.p50_us)),
                p99_us: median(ours.iter().map(|round| round.p99_us)),
                limit_p50_us: limit(|latency| latency.p50_us),
                limit_p99_us: limit(|latency| latency.p99_us),
                core_percent: median(
                    ours.iter().map(|round| 100.0 * round.cpu.as_secs_f64() / round.wall.as_secs_f64()),
                ),
            }
        });
        let ratio =
            latency.as_ref().map_or(per_second / limit_per_second, |latency| latency.p50_us / latency.limit_p50_us);
        Ok(Outcome {
            case: self.name().to_owned(),
            per_second,
            limit_per_second,
            ratio,
            limit: self.limit().name().to_owned(),
            rounds,
            cpu_seconds: median(ours.iter().map(|round| round.cpu.as_secs_f64())),
            limit_cpu_seconds: median(limits.iter().map(|limit| limit.cpu.as_secs_f64())),
            least_per_second: ours.iter().map(rate).fold(f64::INFINITY, f64::min),
            most_per_second: ours.iter().map(rate).fold(0.0, f64::max),
            limit_least_per_second: limits.iter().map(Measurement::per_second).fold(f64::INFINITY, f64::min),
            limit_most_per_second: limits.iter().map(Measurement::per_second).fold(0.0, f64::max),
            latency,
        })
    }

    /// One round: from the start of the cluster to the end of its input.
    fn round(self, load: &Load) -> Result<Round> {
        let text = load.text.unwrap_or_default();
        let topology = self.topology(text)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let control = control.block_on(async { Seam::system() });
        let mut summary = None;
        let run = Measurement::of(|| {
            let ended = runtime.block_on(self.run_to_its_end(topology, control))?;
            let counted = ended.executed.get(self.counted()).copied().unwrap_or(0);
            summary = Some(ended);
            anyhow::Ok(counted)
        })?;
        let Some(summary) = summary else { bail!("case {} did not run", self.name()) };
        if summary.failed > 0 {
            bail!("case {}: {} roots failed, none should", self.name(), summary.failed);
        }
        let quantile = |at| summary.complete.quantile_us(at) as f64;
        Ok(Round { tuples: run.tuples, wall: run.wall, cpu: run.cpu, p50_us: quantile(0.5), p99_us: quantile(0.99) })
    }

    async fn run_to_its_end(self, topology: Topology, control: Seam) -> Result<Summary> {
        let mut builder = LocalCluster::builder(topology).workers(self.workers()).control(control);
        if self.workers() > 1 {
            let ends = connected(self.workers()).await?;
            builder = builder.connectors(move |worker| ends[usize::from(worker.0)].clone());
        }
        let cluster = builder.start().await?;
        cluster.ended().await?;
        let summary = cluster.summary();
        cluster.stop(Duration::ZERO).await;
        Ok(summary)
    }

    /// The component whose executed tuples are the case's.
    fn counted(self) -> &'static str {
        match self {
            Case::WordCount | Case::WordCountTwoWorkers => "count",
            _ => "null",
        }
    }

    fn topology(self, text: &'static str) -> Result<Topology, BuildError> {
        let mut topology = Topology::builder(self.name());
        match self {
            Case::HopUnacked => hops(&mut topology, 200_000_000, false, 1),
            Case::HopAcked => hops(&mut topology, 50_000_000, true, 1),
            Case::ThreeHopsAcked => hops(&mut topology, 30_000_000, true, 3),
            Case::HopTwoWorkers => crossing(&mut topology, 20_000_000),
            Case::WordCount | Case::WordCountTwoWorkers => word_count(&mut topology, text),
            Case::LowRate => {
                let numbers = topology.spout("numbers", || Paced::new(Duration::from_millis(1), LOW_RATE_TUPLES)).add();
                chain(&mut topology, numbers, 3);
            }
        }
        topology.build()
    }
}

fn hops(topology: &mut TopologyBuilder, tuples: u64, tracked: bool, hops: usize) {
    let numbers = topology.spout("numbers", move || Numbers { next: 0, end: tuples, tracked }).add();
    chain(topology, numbers, hops);
}

/// So many hops behind the numbers: bolts that pass on, and a last one that takes.
fn chain(topology: &mut TopologyBuilder, mut numbers: Stream<crate::topologies::Number>, hops: usize) {
    for hop in 1..hops {
        numbers = topology.bolt(&format!("id-{hop}"), || Identity).shuffle(&numbers).add();
    }
    topology.bolt("null", || Null).shuffle(&numbers).add();
}

/// One hop from the first worker to the second: executors are placed in turn, by name.
fn crossing(topology: &mut TopologyBuilder, tuples: u64) {
    use crate::topologies::{Cells, NullCell};
    let cells = topology.spout("cells", move || Cells { next: 0, end: tuples }).add();
    topology.bolt("null", || NullCell).shuffle(&cells).add();
}

fn word_count(topology: &mut TopologyBuilder, text: &'static str) {
    let lines = topology.spout("lines", move || Lines::new(text, PASSES)).add();
    let words = topology.bolt("split", || Split).parallelism(2).shuffle(&lines).add();
    topology.bolt("count", Count::default).parallelism(2).fields(&words, Word::WORD).add();
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

/// The middle value; the lower of two.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// For spouts that keep a rate, and for what is timed as a whole.
pub(crate) fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "an open-loop source follows the wall clock, and measuring is what this crate is for"
    )]
    Instant::now()
}
