//! What a worker takes when it does little or much, in a process of its own: what other cases leave behind is not in it.
//!
//! Not here: a worker under a Supervisor (`start`). Invariant: the process that measures itself runs one topology, and ends.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use baseline::cases::Text;
use baseline::measure::{cpu_time, now};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use storm::prelude::Topology;

use crate::cases::Bench;
use crate::outcome::{Bound, Check, Outcome, figures, median};
use crate::shape::{Runtimes, Shape, Words};
use crate::topologies::{Identity, Nothing};

/// What a process of its own does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Alone {
    /// A hundred executors that have nothing to do.
    Idle,
    /// Four of them.
    Small,
    /// The word count as fast as it goes.
    WordCount,
}

/// What it says of itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct Taken {
    core_percent: f64,
    resident_mib: f64,
    most_resident_mib: f64,
}

/// Memory that this process has now, in MiB.
pub(crate) fn resident_mib() -> Result<f64> {
    status_mib("self", "VmRSS:")
}

/// A line of a process's status, in MiB.
pub(crate) fn status_mib(process: &str, line: &str) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kib =
        status.lines().find_map(|found| found.strip_prefix(line)?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} has no line {line}"))? / 1024.0)
}

impl Alone {
    /// Does it in this process, for about so long.
    pub(crate) fn measure(self, seconds: f64, text: Option<Text>) -> Result<Taken> {
        let core_percent = match self {
            Alone::Idle => idle(10, 90, Duration::from_secs_f64(seconds))?,
            Alone::Small => idle(1, 3, Duration::from_secs_f64(seconds))?,
            Alone::WordCount => {
                let ran = Shape::Words(Words::USUAL).run(text, None)?.measurement;
                100.0 * ran.cpu.as_secs_f64() / ran.wall.as_secs_f64()
            }
        };
        Ok(Taken { core_percent, resident_mib: resident_mib()?, most_resident_mib: status_mib("self", "VmHWM:")? })
    }

    /// Does it in a process of its own.
    fn run(self, seconds: f64, text: Option<Text>) -> Result<Taken> {
        let mut command = Command::new(std::env::current_exe().context("finding this executable")?);
        let name = self.to_possible_value().context("a value without a name")?;
        command.arg("--alone").arg(name.get_name()).arg("--seconds").arg(seconds.to_string());
        if let Some(text) = text.filter(|_| self == Alone::WordCount) {
            command.arg("--text").arg(text.file);
        }
        let output =
            command.stderr(std::process::Stdio::inherit()).output().context("starting a process of its own")?;
        ensure!(output.status.success(), "the process that measures itself ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("reading what a process said of itself")
    }
}

/// The part of a core that an idle topology takes, in percent.
fn idle(spouts: usize, bolts: usize, lasts: Duration) -> Result<f64> {
    let mut topology = Topology::builder("idle");
    let numbers = topology.spout("nothing", || Nothing).parallelism(spouts).add();
    topology.bolt("id", || Identity).parallelism(bolts).shuffle(&numbers).add();
    Runtimes::new()?.with(topology.build()?, 1, async |_| {
        // The start is over when it has been idle for a while.
        tokio::time::sleep(lasts / 5).await;
        let (began, cpu) = (now(), cpu_time());
        tokio::time::sleep(lasts).await;
        Ok(100.0 * (cpu_time() - cpu).as_secs_f64() / began.elapsed().as_secs_f64())
    })
}

/// A hundred executors that have nothing to do.
pub(crate) fn idle_case(bench: &Bench, case: &str, rounds: u32) -> Result<Outcome> {
    let rounds = rounds.min(3);
    let taken = (0..rounds).map(|_| Alone::Idle.run(bench.seconds(5.0), None)).collect::<Result<Vec<_>>>()?;
    let core = median(taken.iter().map(|it| it.core_percent));
    let checks = vec![Check::new("% of a core", core, Bound::AtMost, 0.5)];
    let resident = median(taken.iter().map(|it| it.resident_mib));
    Ok(Outcome::new(case, rounds, checks, figures([("resident_mib", resident)])))
}

/// A small worker that is idle, and the word count as fast as it goes.
pub(crate) fn memory_case(bench: &Bench, case: &str, rounds: u32) -> Result<Outcome> {
    let rounds = rounds.min(3);
    let small = (0..rounds).map(|_| Alone::Small.run(bench.seconds(2.0), None)).collect::<Result<Vec<_>>>()?;
    let taken = (0..rounds).map(|_| Alone::WordCount.run(0.0, bench.text)).collect::<Result<Vec<_>>>()?;
    let most = median(taken.iter().map(|it| it.most_resident_mib));
    let idle = median(small.iter().map(|it| it.resident_mib));
    let checks = vec![
        Check::new("idle worker of 4 executors, resident MiB", idle, Bound::AtMost, 15.0),
        Check::new("word count, most resident MiB", most, Bound::AtMost, 100.0),
    ];
    Ok(Outcome::new(case, rounds, checks, figures([("cores_percent", median(taken.iter().map(|it| it.core_percent)))])))
}
