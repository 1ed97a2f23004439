//! Measures what an operator waits for and pays: the figures of docs/operations.md.
//!
//! `cargo run --release --package system-tests --bin operations-figures [ROUNDS]` prints a line for each figure: least, median, most.
//! It runs `storm standalone` with loopback alone, so it needs nothing installed.
//!
//! Not here: throughput (`benchmarks`). Invariant: everything is measured from outside, on real processes.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use system_tests::cluster::{Cluster, executables, signal};
use tokio::time::{Instant, sleep};

fn main() -> ExitCode {
    let rounds = std::env::args().nth(1).map_or(Ok(5), |rounds| rounds.parse());
    let measured = rounds.context("the number of rounds").and_then(|rounds: usize| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(measure(rounds.max(1)))
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Figures {
    ready_ms: Vec<f64>,
    submit_ms: Vec<f64>,
    first_ack_ms: Vec<f64>,
    again_ms: Vec<f64>,
    list_ms: Vec<f64>,
    kill_ms: Vec<f64>,
    standalone_idle_mib: Vec<f64>,
    standalone_mib: Vec<f64>,
    keeper_mib: Vec<f64>,
    worker_mib: Vec<f64>,
}

async fn measure(rounds: usize) -> Result<()> {
    ensure!(!cfg!(debug_assertions), "measure with `--release`");
    let storm = executables()?.storm.clone();
    let mut figures = Figures::default();
    for _ in 0..rounds {
        round(&mut figures).await?;
    }
    let show = |name: &str, unit: &str, mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        if let (Some(least), Some(most)) = (values.first(), values.last()) {
            println!("{name:<44}{least:>9.1}{:>9.1}{most:>9.1} {unit}", values[values.len() / 2]);
        }
    };
    println!("{:<44}{:>9}{:>9}{:>9}", "figure", "least", "median", "most");
    show("standalone starts -> Nimbus and Supervisor ready", "ms", figures.ready_ms);
    show("storm submit, from start to end", "ms", figures.submit_ms);
    show("storm submit starts -> first ack", "ms", figures.first_ack_ms);
    show("kill -9 of the spout's worker -> acks again", "ms", figures.again_ms);
    show("storm list, from start to end", "ms", figures.list_ms);
    show("storm kill -w 0 -> workers gone", "ms", figures.kill_ms);
    show("memory of standalone, no topology yet", "MiB", figures.standalone_idle_mib);
    show("memory of standalone, one topology", "MiB", figures.standalone_mib);
    show("memory of a keeper", "MiB", figures.keeper_mib);
    show("memory of a worker, 2,000 lines a second", "MiB", figures.worker_mib);
    println!("{:<44}{:>9}{:>9.1}{:>9} MiB", "size of the storm executable", "", mib(fs::metadata(storm)?.len()), "");
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Resident memory of a process.
fn memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(mib(kib.context("no VmRSS")? * 1024))
}

/// The process that started a process: a worker's keeper.
fn parent(pid: u32) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    parent.context("no PPid")
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !condition() {
        ensure!(begin.elapsed() < Duration::from_secs(60), "gave up: {what}");
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// The command line as a user runs it, without waiting for it.
fn storm(cluster: &Cluster, arguments: &[&str]) -> Result<std::process::Child> {
    let mut command = Command::new(&executables()?.storm);
    command.args(arguments).env("STORM_NIMBUS_API_PORT", cluster.api_port.to_string());
    command.env("HOME", &cluster.folder).env("STORM_CONF_DIR", &cluster.folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("starting storm")
}

async fn round(figures: &mut Figures) -> Result<()> {
    let begin = Instant::now();
    let mut cluster = Cluster::standalone(2, &[]).await?;
    figures.ready_ms.push(millis(begin));
    let standalone = cluster.daemon("standalone").pid()?;
    sleep(Duration::from_secs(2)).await;
    figures.standalone_idle_mib.push(memory(standalone)?);

    let evidence = cluster.folder.join("evidence");
    fs::create_dir(&evidence)?;
    let begin = Instant::now();
    let fault = executables()?.fault.display().to_string();
    let folder = evidence.display().to_string();
    let arguments = ["submit", &fault, "--name", "figures", "-c", "topology.workers=2"];
    let topology = ["--", "--folder", &folder, "--lines", "1000000000", "--rate", "1000"];
    let mut submit = Command::new(&executables()?.storm);
    submit.args(arguments).args(topology).env("STORM_NIMBUS_API_PORT", cluster.api_port.to_string());
    submit.env("HOME", &cluster.folder).env("STORM_CONF_DIR", &cluster.folder);
    let mut submit = submit.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut submitted = None;
    until("the first ack", || {
        if submitted.is_none() && submit.try_wait().ok().flatten().is_some() {
            submitted = Some(millis(begin));
        }
        evidence.join("frontier-0").exists() || evidence.join("frontier-1").exists()
    })
    .await?;
    figures.first_ack_ms.push(millis(begin));
    ensure!(submit.wait()?.success(), "storm submit failed");
    figures.submit_ms.push(submitted.unwrap_or_else(|| millis(begin)));

    for _ in 0..5 {
        let begin = Instant::now();
        let mut list = storm(&cluster, &["list"])?;
        let status = tokio::task::spawn_blocking(move || list.wait()).await??;
        ensure!(status.success(), "storm list failed");
        figures.list_ms.push(millis(begin));
    }
    sleep(Duration::from_secs(2)).await;
    let pids = cluster.pids("figures").await?;
    figures.standalone_mib.push(memory(standalone)?);
    for worker in pids.values() {
        figures.worker_mib.push(memory(*worker)?);
        figures.keeper_mib.push(memory(parent(*worker)?)?);
    }

    let topology = cluster.topology("figures").await?;
    let spout = topology.executors.iter().find(|executor| executor.component == "lines").context("the spout")?;
    let frontier = evidence.join("frontier-0");
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let (starts, begin) = (read(&evidence.join("starts-0")).lines().count(), Instant::now());
    signal(pids[&spout.worker.0], Signal::KILL)?;
    let mut at_death = read(&frontier);
    until("acks again", || {
        if read(&evidence.join("starts-0")).lines().count() == starts {
            at_death = read(&frontier);
            return false;
        }
        read(&frontier) != at_death
    })
    .await?;
    figures.again_ms.push(millis(begin));

    let pids = cluster.pids("figures").await?;
    let begin = Instant::now();
    let mut kill = storm(&cluster, &["kill", "figures", "-w", "0"])?;
    until("the workers are gone", || !pids.values().any(|pid| system_tests::cluster::lives(*pid))).await?;
    figures.kill_ms.push(millis(begin));
    kill.wait()?;
    Ok(())
}
