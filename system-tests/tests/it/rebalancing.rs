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

/// Waits until a later plan than that of `before` holds, and all of its workers are ready.
async fn switched(cluster: &Cluster, before: &Topology) -> Result<Topology> {
    cluster
        .wait("it is rebalanced", async |cluster| {
            let topology = cluster.topology("fault").await.ok()?;
            let is_over = topology.summary.status == before.summary.status;
            let is_later = topology.summary.plan > before.summary.plan;
            let are_ready =
                topology.workers.iter().all(|worker| worker.stage == Some(worker_api::report::Stage::Ready));
            (is_over && is_later && are_ready).then_some(topology)
        })
        .await
}

#[test]
fn more_workers_fewer_and_other_executors_lose_and_replay_nothing() {
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let cluster = several(1, &[zookeeper.address()], 3, &[]).await?;
        let folder = cluster.submit_fault("fault", 2, LINES, 1000)?;
        reaches(&cluster, &folder, 1000).await?;
        let changes: [(&[&str], usize, usize); 5] = [
            (&["-n", "4"], 4, 4),
            (&["-e", "write=2"], 4, 2),
            (&["-n", "1", "-e", "write=1"], 1, 1),
            (&["-n", "6", "-e", "write=4", "-e", "split=1"], 6, 4),
            (&[], 6, 4),
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
            reaches(&cluster, &folder, Evidence::progress(&folder) + 1000).await?;
        }
        let evidence = completes(&cluster, &folder, LINES).await?;
        let problems = evidence.problems(LINES);
        ensure!(problems.is_empty(), "{} problems, the first: {:?}", problems.len(), problems.first());
        ensure!(evidence.fails.is_empty(), "{} failed, the first: {:?}", evidence.fails.len(), evidence.fails.first());
        ensure!(evidence.doubles() == 0, "{} words were written twice", evidence.doubles());
        let topology = cluster.topology("fault").await?;
        ensure!(topology.summary.restarts == 0, "{} restarts", topology.summary.restarts);
        Ok(())
    });
}

#[test]
fn an_inactive_topology_is_inactive_after_it_and_its_switch_survives_the_leader() {
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let conf = [("storm.zookeeper.session.timeout", 2000.into())];
        let mut cluster = several(2, &[zookeeper.address()], 2, &conf).await?;
        let folder = cluster.submit_fault("fault", 2, LINES, 1000)?;
        reaches(&cluster, &folder, 1000).await?;
        cluster.storm(&["deactivate", "fault"])?;
        let before = cluster.topology("fault").await?;
        ensure!(before.summary.status == StatusWord::Inactive, "{:?}", before.summary);
        cluster.storm(&["rebalance", "fault", "-n", "4"])?;
        kill_leader(&mut cluster).await?;
        let after = switched(&cluster, &before).await?;
        ensure!(after.workers.len() == 4, "{} workers", after.workers.len());
        ensure!(after.summary.reason == before.summary.reason, "{:?} {:?}", before.summary, after.summary);
        cluster.storm(&["activate", "fault"])?;
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
