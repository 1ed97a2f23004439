//! One ZooKeeper, one Nimbus, two Supervisors with two slots each, and a fault in mid-stream: nothing missing, nothing foreign,
//! and what must not be touched is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nimbus_api::topology::{StatusWord, Topology};
use rustix::process::Signal;
use serde_json::Value;
use system_tests::cluster::{Cluster, executables, signal};
use system_tests::evidence::Evidence;
use zookeeper_server::ZooKeeper;

use crate::{book, completes, counted, plain_count, reaches, run};

/// Lines of a run, at 2 × [`RATE`] a second.
const LINES: u64 = 8000;
const RATE: u64 = 1000;
const DAEMONS: [&str; 3] = ["nimbus", "supervisor-a", "supervisor-b"];

/// The cluster of these tests, all daemons ready.
pub(crate) async fn distributed(conf: &[(&str, Value)]) -> Result<(Cluster, ZooKeeper)> {
    let zookeeper = ZooKeeper::start()?;
    let mut all: Vec<(&str, Value)> = vec![
        ("storm.zookeeper.servers", ["127.0.0.1"].as_slice().into()),
        ("storm.zookeeper.port", port(&zookeeper)?.into()),
        ("supervisor.worker.timeout.secs", 3.into()),
    ];
    all.extend_from_slice(conf);
    let mut cluster = Cluster::new(&all)?;
    cluster.add("nimbus", &["nimbus"], 0)?;
    cluster.add("supervisor-a", &["supervisor"], 2)?;
    cluster.add("supervisor-b", &["supervisor"], 2)?;
    start_all(&mut cluster).await?;
    Ok((cluster, zookeeper))
}

/// The port that it listens at.
pub(crate) fn port(zookeeper: &ZooKeeper) -> Result<u16> {
    let address = zookeeper.address();
    Ok(address.rsplit_once(':').context("an address has a port")?.1.parse()?)
}

/// Starts what does not run.
pub(crate) async fn start_all(cluster: &mut Cluster) -> Result<()> {
    for daemon in DAEMONS {
        cluster.start(daemon).await?;
    }
    Ok(())
}

/// What a fault is done to.
struct Run {
    cluster: Cluster,
    zookeeper: ZooKeeper,
    folder: std::path::PathBuf,
    before: Topology,
    pids: BTreeMap<u16, u32>,
}

impl Run {
    /// The fault topology with four workers, in mid-stream.
    async fn in_mid_stream(conf: &[(&str, Value)]) -> Result<Run> {
        let (cluster, zookeeper) = distributed(conf).await?;
        let folder = cluster.submit_fault("fault", 4, LINES, RATE)?;
        reaches(&cluster, &folder, 1000).await?;
        let (before, pids) = (cluster.topology("fault").await?, cluster.pids("fault").await?);
        ensure!(pids.len() == 4, "not all workers are known: {pids:?}");
        Ok(Run { cluster, zookeeper, folder, before, pids })
    }

    /// Waits for the end of the stream and judges: nothing missing, nothing foreign, no fail but of roots that touched a dead worker, no
    /// pid changed but of dead workers.
    async fn judge(&self, dead: &[u16]) -> Result<Evidence> {
        let evidence = completes(&self.cluster, &self.folder, LINES).await?;
        let problems = evidence.problems(LINES);
        ensure!(
            problems.is_empty(),
            "{} problems, the first: {:?}",
            problems.len(),
            &problems[..problems.len().min(5)]
        );
        let dead: BTreeSet<u16> = dead.iter().copied().collect();
        let by_task = |task: u32| {
            let runs =
                |executor: &&nimbus_api::topology::Executor| (executor.tasks.0.0..=executor.tasks.1.0).contains(&task);
            self.before.executors.iter().find(runs).map_or(u16::MAX, |executor| executor.worker.0)
        };
        let sources: Vec<u32> = self
            .before
            .executors
            .iter()
            .filter(|executor| executor.component == "lines")
            .flat_map(|executor| executor.tasks.0.0..=executor.tasks.1.0)
            .collect();
        let needless = evidence.needless_fails(&dead, by_task, |source| by_task(sources[source as usize]));
        ensure!(needless.is_empty(), "{} roots failed without need, the first: {:?}", needless.len(), needless.first());
        // The end of the input gets through, whoever died.
        self.cluster
            .wait("the input is finished", async |cluster| {
                let summary = cluster.topology("fault").await.ok()?.summary;
                (summary.reason.as_deref() == Some("input finished")).then_some(())
            })
            .await?;
        Ok(evidence)
    }

    /// Waits until all workers are known again, and compares their pids.
    async fn judge_pids(&self, dead: &[u16]) -> Result<()> {
        let after = self
            .cluster
            .wait("all workers are known, the dead ones anew", async |cluster| {
                let pids = cluster.pids("fault").await.ok()?;
                let anew = dead.iter().all(|worker| pids.get(worker).is_some_and(|pid| *pid != self.pids[worker]));
                (pids.len() == 4 && anew).then_some(pids)
            })
            .await?;
        for (worker, pid) in &self.pids {
            ensure!(
                dead.contains(worker) || after[worker] == *pid,
                "worker {worker} was restarted: {:?} {after:?}",
                self.pids
            );
        }
        Ok(())
    }

    /// The cause of the last end of a worker.
    async fn cause(&self, worker: u16) -> Result<String> {
        let topology = self.cluster.topology("fault").await?;
        let ends = &topology.workers[usize::from(worker)].ends;
        Ok(ends.last().context("no end is known")?.cause.clone())
    }
}

#[test]
fn word_count_over_four_workers_of_two_machines_is_exact() {
    run(async || {
        let (cluster, _zookeeper) = distributed(&[]).await?;
        let (input, result) = (book(), cluster.folder.join("counts.tsv"));
        let executable = executables()?.word_count.display().to_string();
        let (input_text, result_text) = (input.display().to_string(), result.display().to_string());
        let arguments = ["submit", &executable, "--name", "counting", "-c", "topology.workers=4", "--"];
        cluster.storm(&[arguments.as_slice(), &["--input", &input_text, "--output", &result_text]].concat())?;
        cluster
            .wait("the input is finished", async |cluster| {
                let summary = cluster.topology("counting").await.ok()?.summary;
                (summary.status == StatusWord::Inactive).then_some(())
            })
            .await?;
        let topology = cluster.topology("counting").await?;
        let machines: BTreeSet<_> = topology.workers.iter().filter_map(|worker| worker.supervisor.clone()).collect();
        ensure!(topology.workers.len() == 4 && machines.len() == 2, "{:?}", topology.workers);
        ensure!(counted(&result) == Some(plain_count(&fs::read_to_string(&input)?)), "the counts are wrong");
        Ok(())
    });
}

#[test]
fn kill_9_of_a_worker() {
    run(async || {
        let run = Run::in_mid_stream(&[]).await?;
        signal(run.pids[&2], Signal::KILL)?;
        run.judge(&[2]).await?;
        run.judge_pids(&[2]).await?;
        let cause = run.cause(2).await?;
        ensure!(cause.starts_with("killed by SIGKILL"), "{cause}");
        Ok(())
    });
}

#[test]
fn kill_9_of_both_workers_of_a_machine() {
    run(async || {
        let run = Run::in_mid_stream(&[]).await?;
        let machine = run.before.workers[0].supervisor.clone();
        let both: Vec<u16> = run
            .before
            .workers
            .iter()
            .filter(|worker| worker.supervisor == machine)
            .map(|worker| worker.worker.0)
            .collect();
        ensure!(both.len() == 2, "{both:?}");
        both.iter().try_for_each(|worker| signal(run.pids[worker], Signal::KILL))?;
        run.judge(&both).await?;
        run.judge_pids(&both).await
    });
}

#[test]
fn kill_9_of_the_nimbus() {
    run(async || {
        let mut run = Run::in_mid_stream(&[]).await?;
        run.cluster.daemon("nimbus").kill()?;
        let so_far = Evidence::progress(&run.folder);
        reaches(&run.cluster, &run.folder, so_far + 1000).await?;
        run.cluster.start("nimbus").await?;
        let evidence = run.judge(&[]).await?;
        ensure!(evidence.fails.is_empty(), "{:?}", evidence.fails.first());
        run.judge_pids(&[]).await
    });
}

#[test]
fn kill_9_of_a_supervisor() {
    run(async || {
        let mut run = Run::in_mid_stream(&[]).await?;
        run.cluster.daemon("supervisor-b").kill()?;
        let so_far = Evidence::progress(&run.folder);
        reaches(&run.cluster, &run.folder, so_far + 1000).await?;
        run.cluster.start("supervisor-b").await?;
        let evidence = run.judge(&[]).await?;
        ensure!(evidence.fails.is_empty(), "{:?}", evidence.fails.first());
        run.judge_pids(&[]).await
    });
}

#[test]
fn kill_9_of_zookeeper() {
    run(async || {
        let mut run = Run::in_mid_stream(&[]).await?;
        run.zookeeper.kill()?;
        let so_far = Evidence::progress(&run.folder);
        reaches(&run.cluster, &run.folder, so_far + 1000).await?;
        // Submitting says so at once.
        let executable = executables()?.word_count.display().to_string();
        let (code, _, said) = run.cluster.storm_output(&[
            "submit",
            &executable,
            "--",
            "--input",
            "/dev/null",
            "--output",
            "/dev/null2",
        ])?;
        ensure!(code != 0 && said.contains("cluster state"), "{code} {said}");
        run.zookeeper.restart()?;
        let evidence = run.judge(&[]).await?;
        ensure!(evidence.fails.is_empty(), "{:?}", evidence.fails.first());
        run.judge_pids(&[]).await?;
        // It goes on when ZooKeeper is back.
        start_all(&mut run.cluster).await?;
        run.cluster.storm(&["kill", "fault", "-w", "0"])?;
        run.cluster
            .wait("the topology is gone", async |cluster| {
                cluster.client.cluster().await.ok()?.topologies.is_empty().then_some(())
            })
            .await
    });
}

#[test]
fn a_stopped_worker_is_killed_and_restarted() {
    run(async || {
        let run = Run::in_mid_stream(&[]).await?;
        signal(run.pids[&1], Signal::STOP)?;
        run.judge(&[1]).await?;
        run.judge_pids(&[1]).await?;
        let cause = run.cause(1).await?;
        ensure!(cause.contains("silent for 3"), "{cause}");
        Ok(())
    });
}

#[test]
fn a_machine_that_dies_has_its_workers_placed_elsewhere() {
    run(async || {
        // Three Supervisors, so that there is room.
        let (mut cluster, _zookeeper) = distributed(&[
            ("nimbus.supervisor.timeout.secs", 3.into()),
            ("storm.zookeeper.session.timeout", 4000.into()),
        ])
        .await?;
        cluster.add("supervisor-c", &["supervisor"], 2)?;
        let folder = cluster.submit_fault("fault", 4, LINES, RATE)?;
        cluster.start("supervisor-c").await?;
        reaches(&cluster, &folder, 1000).await?;
        let (before, pids) = (cluster.topology("fault").await?, cluster.pids("fault").await?);
        // All that the machine of worker 0 has dies at once, keepers and Supervisor among it.
        let host_folder = machine_folder(&cluster, pids[&0])?;
        let name = host_folder.file_name().context("a daemon's folder")?.to_string_lossy().into_owned();
        cluster.daemon(&name).kill()?;
        let machine = before.workers[0].supervisor.clone();
        let dead: Vec<u16> =
            before.workers.iter().filter(|worker| worker.supervisor == machine).map(|worker| worker.worker.0).collect();
        for worker in &dead {
            signal(pids[worker], Signal::KILL)?;
        }
        let evidence = completes(&cluster, &folder, LINES).await?;
        let problems = evidence.problems(LINES);
        ensure!(problems.is_empty(), "{} problems, the first: {:?}", problems.len(), problems.first());
        let after = cluster.topology("fault").await?;
        for worker in 0..4u16 {
            let (was, is) = (&before.workers[usize::from(worker)], &after.workers[usize::from(worker)]);
            ensure!((was.supervisor == is.supervisor) != dead.contains(&worker), "{was:?} {is:?}");
        }
        Ok(())
    });
}

/// The folder of the daemon that a worker's working folder lies below.
fn machine_folder(cluster: &Cluster, pid: u32) -> Result<std::path::PathBuf> {
    let cwd = fs::read_link(format!("/proc/{pid}/cwd"))?;
    let below = cwd.strip_prefix(&cluster.folder).context("a worker of this cluster")?;
    let name = below.components().next().context("a daemon's folder")?;
    Ok(cluster.folder.join(Path::new(&name)))
}
