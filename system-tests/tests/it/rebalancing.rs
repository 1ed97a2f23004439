//! Rebalance under load: more workers, fewer, other executors; nothing is lost, and what it was before it is afterwards.

use anyhow::{Context, Result, ensure};
use nimbus_api::topology::{StatusWord, Topology};
use system_tests::cluster::Cluster;
use system_tests::evidence::Evidence;
use system_tests::several::{kill_leader, several};
use zookeeper_server::ZooKeeper;

use crate::{completes, reaches, run};

const LINES: u64 = 40_000;

/// Executors of a component that are placed.
fn executors(topology: &Topology, component: &str) -> usize {
    topology.executors.iter().filter(|executor| executor.component == component).count()
}

/// Waits until its state is that of `before`, and all of its workers are ready.
async fn switched(cluster: &Cluster, before: &Topology) -> Result<Topology> {
    let waited = cluster
        .wait("it is rebalanced", async |cluster| {
            let topology = cluster.topology("fault").await.ok()?;
            let is_over = topology.summary.status == before.summary.status;
            let are_ready =
                topology.workers.iter().all(|worker| worker.stage == Some(worker_api::report::Stage::Ready));
            (is_over && are_ready).then_some(topology)
        })
        .await;
    match waited {
        Ok(topology) => Ok(topology),
        Err(error) => {
            let now = cluster.topology("fault").await?;
            let stages: Vec<_> = now.workers.iter().map(|worker| (worker.slot, worker.stage)).collect();
            Err(error.context(format!("before {:?}, now {:?}, {stages:?}", before.summary, now.summary)))
        }
    }
}

#[test]
fn more_workers_fewer_and_other_executors_lose_and_replay_nothing() {
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let cluster = several(1, &[zookeeper.address()], 3, &[]).await?;
        let folder = cluster.submit_fault("fault", 2, LINES, 1000)?;
        reaches(&cluster, &folder, 1000).await?;
        let changes: [(&[&str], usize, usize); 4] = [
            (&["-n", "4"], 4, 4),
            (&["-e", "write=2"], 4, 2),
            (&["-n", "1", "-e", "write=1"], 1, 1),
            (&["-n", "6", "-e", "write=4", "-e", "split=1"], 6, 4),
        ];
        for (flags, workers, writers) in changes {
            let before = cluster.topology("fault").await?;
            let said = cluster.storm(&[&["rebalance", "fault"], flags].concat())?;
            ensure!(said == "Topology fault is rebalancing\n", "{said}");
            let after = switched(&cluster, &before).await.with_context(|| format!("{flags:?}"))?;
            // Three kinds of components share at most so many workers as there are executors.
            let wanted = workers.min(after.executors.len());
            ensure!(after.workers.len() == wanted, "{flags:?}: {} workers", after.workers.len());
            ensure!(executors(&after, "write") == writers, "{flags:?}: {:?}", after.executors);
            // What would be dealt as it is already restarts nobody.
            let is_dealt = after.summary.plan > before.summary.plan;
            ensure!(is_dealt != flags.is_empty(), "{flags:?}: {:?} {:?}", before.summary, after.summary);
            reaches(&cluster, &folder, Evidence::progress(&folder) + 1000).await?;
        }
        // What is dealt as it was goes on where it was.
        let (before, pids) = (cluster.topology("fault").await?, cluster.pids("fault").await?);
        cluster.storm(&["rebalance", "fault"])?;
        let after = cluster
            .wait("it is rebalanced", async |cluster| {
                let topology = cluster.topology("fault").await.ok()?;
                (topology.summary.status == before.summary.status).then_some(topology)
            })
            .await?;
        ensure!(after.summary.plan == before.summary.plan, "{:?}", after.summary);
        ensure!(cluster.pids("fault").await? == pids, "a worker was started anew");
        let evidence = completes(&cluster, &folder, LINES).await?;
        let logs = || cluster.daemons.iter().map(|(name, daemon)| format!("{name}:\n{}\n", daemon.output()));
        evidence.check_exact(LINES).with_context(|| logs().collect::<String>())?;
        let topology = cluster.topology("fault").await?;
        ensure!(topology.summary.restarts == 0, "{} restarts", topology.summary.restarts);
        Ok(())
    });
}

#[test]
fn an_inactive_topology_is_inactive_after_it_and_its_switch_survives_the_leader() {
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let conf = [("storm.zookeeper.session.timeout", 4000.into())];
        let mut cluster = several(2, &[zookeeper.address()], 2, &conf).await?;
        let folder = cluster.submit_fault("fault", 2, LINES, 1000)?;
        reaches(&cluster, &folder, 1000).await?;
        cluster.storm_once_led(&["deactivate", "fault"]).await?;
        let before = cluster.topology("fault").await?;
        ensure!(before.summary.status == StatusWord::Inactive, "{:?}", before.summary);
        cluster.storm_once_led(&["rebalance", "fault", "-n", "4"]).await?;
        kill_leader(&mut cluster).await?;
        let after = switched(&cluster, &before).await?;
        ensure!(after.summary.plan > before.summary.plan, "{:?} {:?}", before.summary, after.summary);
        ensure!(after.workers.len() == 4, "{} workers", after.workers.len());
        // Beside that it may still wait for blobs, which only the killed Nimbus had.
        let reason = after.summary.reason.as_deref().unwrap_or_default();
        ensure!(reason.ends_with("deactivated"), "{:?} {:?}", before.summary, after.summary);
        cluster.storm_once_led(&["activate", "fault"]).await?;
        let evidence = completes(&cluster, &folder, LINES).await?;
        let problems = evidence.problems(LINES);
        ensure!(problems.is_empty(), "{} problems, the first: {:?}", problems.len(), problems.first());
        ensure!(evidence.fails.is_empty(), "{} failed, the first: {:?}", evidence.fails.len(), evidence.fails.first());
        Ok(())
    });
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    run(async || {
        let cluster = Cluster::standalone(2, &[]).await?;
        let folder = cluster.submit_fault("fault", 2, LINES, 1000)?;
        reaches(&cluster, &folder, 500).await?;
        let (before, pids) = (cluster.topology("fault").await?, cluster.pids("fault").await?);
        let refused = |flags: &[&str], words: &[&str]| {
            let (code, out, said) = cluster.storm_output(&[&["rebalance", "fault"], flags].concat())?;
            ensure!(code == 1 && out.is_empty() && said.lines().count() == 1, "{flags:?}: {code} {out} {said}");
            ensure!(words.iter().all(|word| said.contains(word)), "{flags:?}: {said}");
            Ok(())
        };
        refused(&["-e", "nobody=1"], &["`nobody`", "lines", "split", "write"])?;
        refused(&["-e", "write=5"], &["`write`", "4", "5"])?;
        let (code, _, said) = cluster.storm_output(&["rebalance", "nothing"])?;
        ensure!(code == 1 && said.contains("`nothing`"), "{code} {said}");
        let after = cluster.topology("fault").await?;
        ensure!(
            after.summary.plan == before.summary.plan && cluster.pids("fault").await? == pids,
            "{:?}",
            after.summary
        );
        ensure!(after.summary.status == StatusWord::Active, "{:?}", after.summary);
        Ok(())
    });
}
