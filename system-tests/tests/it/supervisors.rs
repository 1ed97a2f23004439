//! Supervisors die, and their workers do not care.

use anyhow::ensure;
use rustix::process::Signal;
use system_tests::cluster::signal;

use crate::faults::{distributed, start_all};
use crate::{completes, reaches, run};

#[test]
fn a_restarted_supervisor_adopts_all_of_its_workers() {
    run(async || {
        let (mut cluster, _zookeeper) = distributed(&[]).await?;
        let folder = cluster.submit_fault("fault", 4, 8000, 1000)?;
        reaches(&cluster, &folder, 500).await?;
        let pids = cluster.pids("fault").await?;
        for _ in 0..3 {
            cluster.daemon("supervisor-a").kill()?;
            cluster.start("supervisor-a").await?;
        }
        let evidence = completes(&cluster, &folder, 8000).await?;
        ensure!(evidence.problems(8000).is_empty() && evidence.fails.is_empty(), "{:?}", evidence.fails);
        let after = cluster.pids("fault").await?;
        ensure!(after == pids, "{pids:?} {after:?}");
        Ok(())
    });
}

#[test]
fn a_worker_that_dies_while_nimbus_and_zookeeper_are_away_is_restarted_and_goes_on() {
    run(async || {
        let (mut cluster, mut zookeeper) = distributed(&[]).await?;
        let folder = cluster.submit_fault("fault", 4, 8000, 1000)?;
        reaches(&cluster, &folder, 500).await?;
        let pids = cluster.pids("fault").await?;
        cluster.daemon("nimbus").kill()?;
        zookeeper.kill()?;
        signal(pids[&2], Signal::KILL)?;
        // Nobody can be asked: what the topology wrote is all there is.
        let evidence = completes(&cluster, &folder, 8000).await?;
        let problems = evidence.problems(8000);
        ensure!(problems.is_empty(), "{problems:?}");
        zookeeper.restart()?;
        start_all(&mut cluster).await?;
        let after = cluster
            .wait("all workers are known again", async |cluster| {
                cluster.pids("fault").await.ok().filter(|pids| pids.len() == 4)
            })
            .await?;
        for worker in [0, 1, 3] {
            ensure!(after[&worker] == pids[&worker], "worker {worker} was restarted: {pids:?} {after:?}");
        }
        ensure!(after[&2] != pids[&2], "{pids:?} {after:?}");
        Ok(())
    });
}
