//! The long forms of what a cluster has to endure, as figures: masters that die, sleep or come with an empty disk, a ZooKeeper that is
//! lost, rebalance again and again, and how much is written for how many workers, machines and topologies.
//!
//! `cargo run --package system-tests --bin endurance -- --case leader-killed --minutes 10`, for each case of `--help`; needs what
//! `zookeeper-server` needs (Java, Maven). Ends with 1 if a root was lost, wrongly failed or replayed, or a worker restarted that must not.
//!
//! Not here: the short forms, which run with all tests (`tests/it`). Invariant: everything is measured from outside, on real processes;
//! a broken promise is an error, a slow answer is a figure.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use nimbus_api::topology::{StatusWord, Topology, Window};
use serde_json::Value;
use system_tests::cluster::Cluster;
use system_tests::evidence::Evidence;
use system_tests::fault_topology::SOURCES;
use system_tests::scripted::Machines;
use system_tests::several::{
    Records, TakeOver, awake, gets_blobs, kill_leader, lead_without_disk, several, stop_leader, takes_changes,
    writer_of_leader, wrote_nothing,
};
use tokio::time::{Instant, sleep, sleep_until};
use worker_api::report::Stage;
use zookeeper_server::{Ensemble, ZooKeeper};

#[derive(Parser)]
struct Options {
    /// What is tried
    #[arg(long)]
    case: Case,
    /// How long, for the cases that go on: leader-killed, rebalance
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Lines that each of two spout tasks emits in a second
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// `storm.zookeeper.session.timeout` in milliseconds, in place of the default
    #[arg(long)]
    session: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Case {
    /// Three Nimbuses, the one that leads killed every 20 s
    LeaderKilled,
    /// The Nimbus that leads stopped for 70 s, then continued
    LeaderStopped,
    /// A Nimbus without anything on its disk takes the lead
    EmptyFolder,
    /// One of three ZooKeeper servers lost, then all of them for a minute
    ZookeeperLost,
    /// Rebalance every 10 s
    Rebalance,
    /// Writes to ZooKeeper with 1, 10 and 100 workers that do nothing but live
    Writes,
    /// 300 topologies on 200 played machines
    Many,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let tried = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")
        .and_then(|runtime| runtime.block_on(try_out(&options)));
    match tried {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn try_out(options: &Options) -> Result<()> {
    let kind = if cfg!(debug_assertions) { "without" } else { "with" };
    figure("case", format!("{:?}, {kind} optimisation", options.case));
    match options.case {
        Case::LeaderKilled => leader_killed(options).await,
        Case::LeaderStopped => leader_stopped(options).await,
        Case::EmptyFolder => empty_folder(options).await,
        Case::ZookeeperLost => zookeeper_lost(options).await,
        Case::Rebalance => rebalance(options).await,
        Case::Writes => writes(options).await,
        Case::Many => many(options).await,
    }
}

fn figure(name: &str, value: impl Display) {
    println!("{name:<52}{value}");
}

/// Median and most.
fn spread(mut values: Vec<Duration>) -> String {
    values.sort();
    match (values.get(values.len() / 2), values.last()) {
        (Some(median), Some(most)) => {
            format!("p50 {:.2} s, max {:.2} s", median.as_secs_f64(), most.as_secs_f64())
        }
        _ => "none".to_owned(),
    }
}

impl Options {
    fn conf(&self) -> Vec<(&'static str, Value)> {
        self.session.map(|session| ("storm.zookeeper.session.timeout", session.into())).into_iter().collect()
    }
}

/// Lines that are acked: each spout task says below which offset its own ones are.
fn acked(folder: &Path) -> u64 {
    Evidence::progress(folder) / SOURCES as u64
}

/// A topology that runs while something is done to its masters.
struct Load {
    folder: PathBuf,
    pids: BTreeMap<u16, u32>,
}

impl Load {
    async fn begin(cluster: &Cluster, options: &Options) -> Result<Load> {
        let rate = options.rate.to_string();
        let folder = cluster.submit_fault_with("load", 4, &["--lines", "1000000000", "--rate", &rate])?;
        let pids = cluster
            .wait("four workers are known, and acks come", async |cluster| {
                let pids = cluster.pids("load").await.ok()?;
                (pids.len() == 4 && Evidence::progress(&folder) > 2 * options.rate).then_some(pids)
            })
            .await?;
        Ok(Load { folder, pids })
    }

    /// Lets what is pending finish, and judges all that was written. `may_restart` says that workers were told to.
    async fn end(&self, cluster: &Cluster, may_restart: bool) -> Result<()> {
        cluster.storm(&["deactivate", "load"])?;
        cluster
            .wait("nothing is pending", async |cluster| {
                let topology = cluster.topology("load").await.ok()?;
                let all = topology.executors.iter().filter_map(|one| one.windows.get(&Window::AllTime));
                let is_idle = topology.summary.status == StatusWord::Inactive && !topology.executors.is_empty();
                (is_idle && all.map(|counts| counts.pending).sum::<u64>() == 0).then_some(())
            })
            .await?;
        let topology = cluster.topology("load").await?;
        let pids = cluster.pids("load").await?;
        let evidence = Evidence::read(&self.folder)?;
        let problems = evidence.problems_so_far();
        figure("lines acked below the lower frontier", evidence.settled());
        figure("words missing, wrong or foreign", problems.len());
        figure("failed roots", evidence.fails.len());
        figure("words written twice", evidence.doubles());
        figure("worker restarts", topology.summary.restarts);
        ensure!(problems.is_empty(), "the first problem: {:?}", problems.first());
        ensure!(evidence.fails.is_empty(), "the first fail: {:?}", evidence.fails.first());
        ensure!(evidence.doubles() == 0, "{} words were written twice, and no root has failed", evidence.doubles());
        ensure!(topology.summary.restarts == 0, "{} restarts", topology.summary.restarts);
        ensure!(may_restart || pids == self.pids, "workers were restarted: {:?} {pids:?}", self.pids);
        Ok(())
    }
}

async fn leader_killed(options: &Options) -> Result<()> {
    let zookeeper = ZooKeeper::start()?;
    let mut cluster = several(3, &[zookeeper.address()], 3, &options.conf()).await?;
    let load = Load::begin(&cluster, options).await?;
    let end = Instant::now() + Duration::from_secs(60 * options.minutes);
    let (mut took, mut submitted) = (Vec::new(), Vec::new());
    while Instant::now() < end {
        let next = Instant::now() + Duration::from_secs(20);
        let took_over = kill_leader(&mut cluster).await?;
        took.push(took_over.took);
        let (name, begin) = (format!("side-{}", took.len()), Instant::now());
        cluster.submit_fault(&name, 1, 1_000_000, 1)?;
        submitted.push(begin.elapsed());
        cluster.storm(&["kill", &name, "-w", "0"])?;
        cluster.start(&took_over.from).await?;
        sleep_until(next).await;
    }
    figure("leading Nimbuses killed", took.len());
    figure("SIGKILL -> another one leads", spread(took));
    figure("submissions just after it, none refused", spread(submitted));
    load.end(&cluster, false).await
}

async fn leader_stopped(options: &Options) -> Result<()> {
    let zookeeper = ZooKeeper::start()?;
    let servers = [zookeeper.address()];
    let mut cluster = several(3, &servers, 3, &options.conf()).await?;
    let load = Load::begin(&cluster, options).await?;
    let records = Records::open(&servers)?;
    let old = writer_of_leader(&records.all().await?)?;
    let begin = Instant::now();
    let slept = stop_leader(&mut cluster).await?;
    figure("SIGSTOP -> another one leads", format!("{:.2} s", slept.took.as_secs_f64()));
    sleep_until(begin + Duration::from_secs(70)).await;
    let before = records.all().await?;
    let begin = Instant::now();
    awake(&mut cluster, &slept).await?;
    figure("SIGCONT -> it follows", format!("{:.2} s", begin.elapsed().as_secs_f64()));
    sleep(Duration::from_secs(20)).await;
    let after = records.all().await?;
    wrote_nothing(&old, &before, &after)?;
    let changed = after.iter().filter(|(path, written)| before.get(*path) != Some(written)).count();
    figure("records that it wrote", 0);
    figure("records that anybody wrote since", changed);
    load.end(&cluster, false).await
}

async fn empty_folder(options: &Options) -> Result<()> {
    let zookeeper = ZooKeeper::start()?;
    let mut cluster = several(2, &[zookeeper.address()], 3, &options.conf()).await?;
    let load = Load::begin(&cluster, options).await?;
    let TakeOver { from: leads, to: empty, took } = lead_without_disk(&mut cluster).await?;
    figure("it starts -> it leads", format!("{:.2} s", took.as_secs_f64()));
    let begin = Instant::now();
    gets_blobs(&cluster, &empty).await?;
    figure("it leads -> all blobs are there, from Supervisors", format!("{:.2} s", begin.elapsed().as_secs_f64()));
    cluster.start(&leads).await?;
    sleep(Duration::from_secs(20)).await;
    ensure!(cluster.leader().await.as_ref() == Some(&empty), "the lead has moved to {:?}", cluster.leader().await);
    figure("it still leads", true);
    load.end(&cluster, false).await
}

async fn zookeeper_lost(options: &Options) -> Result<()> {
    let mut ensemble = Ensemble::start()?;
    let cluster = several(3, &ensemble.addresses(), 3, &options.conf()).await?;
    let load = Load::begin(&cluster, options).await?;
    let leader = ensemble.leader()?;
    ensemble.servers()[leader].kill()?;
    let (begin, so_far) = (Instant::now(), acked(&load.folder));
    takes_changes(&cluster, "load").await?;
    figure("its leading server lost -> changes possible", format!("{:.2} s", begin.elapsed().as_secs_f64()));
    sleep(Duration::from_secs(20)).await;
    figure("acked while two servers are left, lines", acked(&load.folder) - so_far);

    ensemble.kill_all()?;
    let so_far = acked(&load.folder);
    sleep(Duration::from_secs(60)).await;
    figure("acked in a minute without any server, lines", acked(&load.folder) - so_far);
    ensemble.restart_all()?;
    let begin = Instant::now();
    takes_changes(&cluster, "load").await?;
    figure("all servers are back -> changes possible", format!("{:.2} s", begin.elapsed().as_secs_f64()));
    sleep(Duration::from_secs(20)).await;
    load.end(&cluster, false).await
}

/// It is over: its state is that of `before`, and its workers are ready.
fn is_over(before: &Topology, now: &Topology) -> bool {
    let are_ready = now.workers.iter().all(|worker| worker.stage == Some(Stage::Ready));
    now.summary.status == before.summary.status && are_ready
}

async fn rebalance(options: &Options) -> Result<()> {
    let zookeeper = ZooKeeper::start()?;
    let cluster = several(1, &[zookeeper.address()], 4, &options.conf()).await?;
    let load = Load::begin(&cluster, options).await?;
    let changes: [&[&str]; 5] = [
        &["-n", "2"],
        &["-e", "write=2"],
        &["-n", "6", "-e", "write=4"],
        &["-n", "1", "-e", "split=1"],
        &["-n", "4", "-e", "split=2"],
    ];
    let end = Instant::now() + Duration::from_secs(60 * options.minutes);
    let mut took = Vec::new();
    for flags in changes.iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        let (begin, before) = (Instant::now(), cluster.topology("load").await?);
        cluster.storm(&[&["rebalance", "load"], *flags].concat())?;
        cluster
            .wait(&format!("rebalance {flags:?} is over"), async |cluster| {
                let now = cluster.topology("load").await.ok()?;
                is_over(&before, &now).then_some(())
            })
            .await?;
        took.push(begin.elapsed());
        sleep_until(begin + Duration::from_secs(10)).await;
    }
    figure("rebalances", took.len());
    figure("storm rebalance -> all new workers are ready", spread(took));
    load.end(&cluster, true).await
}

async fn writes(options: &Options) -> Result<()> {
    let zookeeper = ZooKeeper::start()?;
    let cluster = several(1, &[zookeeper.address()], 50, &options.conf()).await?;
    for workers in [1u16, 10, 100] {
        let name = format!("of-{workers}");
        let arguments = ["--lines", "1000000000", "--rate", "10", "--writers", &workers.to_string()];
        cluster.submit_fault_with(&name, workers, &arguments)?;
        let ready = cluster
            .wait(&format!("{workers} workers are ready"), async |cluster| {
                let topology = cluster.topology(&name).await.ok()?;
                let ready = topology.workers.iter().filter(|worker| worker.stage == Some(Stage::Ready)).count();
                (ready == usize::from(workers)).then_some(ready)
            })
            .await?;
        sleep(Duration::from_secs(10)).await;
        let (before, begin) = (zookeeper.changes()?, Instant::now());
        sleep(Duration::from_secs(60)).await;
        let written = zookeeper.changes()? - before;
        let each = written as f64 / begin.elapsed().as_secs_f64();
        figure(&format!("ZooKeeper writes, {ready} workers"), format!("{written} in 60 s: {each:.2} a second"));
        cluster.storm(&["kill", &name, "-w", "0"])?;
        cluster
            .wait("it is gone", async |cluster| {
                cluster.client.cluster().await.ok()?.topologies.is_empty().then_some(())
            })
            .await?;
    }
    Ok(())
}

async fn many(options: &Options) -> Result<()> {
    const TOPOLOGIES: usize = 300;
    let zookeeper = ZooKeeper::start()?;
    let servers = [zookeeper.address()];
    let mut all: Vec<(&str, Value)> = vec![("storm.zookeeper.servers", servers.as_slice().into())];
    all.extend(options.conf());
    let mut cluster = Cluster::of(1, &all)?;
    cluster.add("nimbus", &["nimbus"], 0)?;
    cluster.start("nimbus").await?;
    let records = Records::open(&servers)?;
    let mut machines = Machines::start(records.store(), cluster.client.clone(), 200, 10).await?;
    cluster
        .wait("all machines are there", async |cluster| {
            let found = cluster.client.cluster().await.ok()?.machines;
            (found.iter().filter(|machine| machine.available).count() == 200).then_some(())
        })
        .await?;
    let (mut submitted, mut planned) = (Vec::new(), Vec::new());
    for number in 0..TOPOLOGIES {
        let begin = Instant::now();
        let (id, took) = machines.submit(&format!("topology-{number:03}"), 4, 24).await?;
        submitted.push(took);
        machines.follow(&id).await?;
        planned.push(begin.elapsed());
        machines.check().await?;
    }
    figure("topologies of 4 workers, 24 executors", TOPOLOGIES);
    figure("a submission is answered", spread(submitted));
    figure("the plan of a submission is written", spread(planned));
    let started = cluster
        .wait("all are started", async |cluster| {
            // To ask a busy Nimbus without a pause would keep it from its work.
            sleep(Duration::from_secs(1)).await;
            let all = cluster.client.cluster().await.ok()?.topologies;
            all.iter().all(|one| one.reason.is_none() && one.workers == 4).then_some(())
        })
        .await;
    if let Err(error) = started {
        let all = cluster.client.cluster().await?.topologies;
        let waits = all.iter().find(|one| one.reason.is_some()).map(|one| format!("{} {:?}", one.name, one.reason));
        return Err(error.context(waits.unwrap_or_else(|| "all have four workers now".to_owned())));
    }
    let (begin, before) = (Instant::now(), zookeeper.changes()?);
    sleep(Duration::from_secs(60)).await;
    let written = zookeeper.changes()? - before;
    let each = written as f64 / begin.elapsed().as_secs_f64();
    figure("ZooKeeper writes, 1,200 workers", format!("{written} in 60 s: {each:.2} a second"));
    // One that is spread over all machines: the longest records that there can be.
    let (id, took) = machines.submit("wide", 600, 6000).await?;
    let plan = machines.follow(&id).await?;
    figure("submission of 600 workers, 6,000 executors", format!("{:.2} s", took.as_secs_f64()));
    figure("machines in its plan", plan.parts.len());
    machines.check().await?;
    let found = records.all().await?;
    let longest = found.iter().max_by_key(|(_, written)| written.bytes).context("there are records")?;
    figure("records", found.len());
    figure("the longest of them", format!("{} bytes, {}", longest.1.bytes, longest.0));
    ensure!(longest.1.bytes < 256 << 10, "a record of {} bytes", longest.1.bytes);
    let pid = cluster.daemon("nimbus").pid()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("unknown").trim();
    figure("memory of Nimbus", memory);
    Ok(())
}
