//! Machines that leave for maintenance, return, and join.

use std::collections::BTreeMap;
use std::fs::{self, File};

use anyhow::{Result, ensure};
use system_tests::cluster::Cluster;
use system_tests::evidence::Evidence;
use system_tests::several::{add_machine, several};
use worker_api::ids::PlanVersion;
use zookeeper_server::ZooKeeper;

use crate::{completes, reaches, run};

const LINES: u64 = 40_000;

/// Workers of the topology by host.
async fn by_host(cluster: &Cluster) -> Result<BTreeMap<String, usize>> {
    let mut hosts = BTreeMap::new();
    for worker in cluster.topology("fault").await?.workers {
        *hosts.entry(worker.host.unwrap_or_else(|| "none".to_owned())).or_default() += 1;
    }
    Ok(hosts)
}

async fn plan(cluster: &Cluster) -> Result<PlanVersion> {
    Ok(cluster.topology("fault").await?.summary.plan)
}

/// The state column of `storm admin machines`, by host.
fn states(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let table = cluster.storm(&["admin", "machines"])?;
    let rows = table.lines().skip(2).map(|line| line.split_whitespace().map(str::to_owned));
    Ok(rows.filter_map(|mut words| Some((words.next()?, words.next()?))).collect())
}

#[test]
fn a_machine_is_emptied_under_load_returns_and_another_joins_without_thrash() {
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let mut cluster = several(1, &[zookeeper.address()], 4, &[]).await?;
        let folder = cluster.submit_fault("fault", 4, LINES, 1000)?;
        reaches(&cluster, &folder, 1000).await?;
        let both: BTreeMap<String, usize> = [("127.0.0.2".to_owned(), 2), ("127.0.0.3".to_owned(), 2)].into();
        ensure!(by_host(&cluster).await? == both, "{:?}", by_host(&cluster).await?);

        let (code, out, said) = cluster.storm_output(&["admin", "drain", "127.0.0.2"])?;
        ensure!(code == 0 && out == "Drained machine: 127.0.0.2\n", "{code} {out} {said}");
        ensure!(said.starts_with("127.0.0.2: 2 workers left\n"), "{said}");
        // When it says so, all that ran there is gone: the machine may be turned off.
        let machine = cluster.daemon("supervisor-a").folder.clone();
        let own = cluster.daemon("supervisor-a").pid()?;
        let left: Vec<u32> = cluster
            .processes()
            .into_iter()
            .filter(|pid| {
                *pid != own && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&machine))
            })
            .collect();
        ensure!(left.is_empty(), "processes {left:?} still run there");
        ensure!(by_host(&cluster).await? == [("127.0.0.3".to_owned(), 4)].into(), "{:?}", by_host(&cluster).await?);
        ensure!(states(&cluster)?["127.0.0.2"] == "DRAINED", "{:?}", states(&cluster)?);
        reaches(&cluster, &folder, Evidence::progress(&folder) + 1000).await?;
        // It may go away and come back without getting any work.
        let drained = plan(&cluster).await?;
        cluster.daemon("supervisor-a").kill()?;
        cluster.start("supervisor-a").await?;
        ensure!(states(&cluster)?["127.0.0.2"] == "DRAINED", "{:?}", states(&cluster)?);

        ensure!(cluster.storm(&["admin", "undrain", "127.0.0.2"])? == "Undrained machine: 127.0.0.2\n");
        add_machine(&mut cluster, "supervisor-c", 4, 4)?;
        cluster.start("supervisor-c").await?;
        ensure!(states(&cluster)?["127.0.0.2"] == "ALIVE", "{:?}", states(&cluster)?);
        completes(&cluster, &folder, LINES).await?.check_exact(LINES)?;
        // What is well placed stays where it is, or moves once: two machines came, so at most two plans.
        let moved = plan(&cluster).await?.0 - drained.0;
        ensure!(moved <= 2, "{moved} plans after two machines came");
        Ok(())
    });
}

#[test]
fn a_machine_that_cannot_be_emptied_says_so_and_one_that_nobody_knows_is_refused() {
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let cluster = several(1, &[zookeeper.address()], 1, &[]).await?;
        let (code, out, said) = cluster.storm_output(&["admin", "drain", "nowhere"])?;
        ensure!(code == 1 && out.is_empty() && said.lines().count() == 1, "{code} {out} {said}");
        ensure!(said.contains("`nowhere`"), "{said}");
        let (code, _, said) = cluster.storm_output(&["admin", "undrain", "no/where"])?;
        ensure!(code == 1 && said.starts_with("error: there is no machine `no/where`"), "{code} {said}");

        let folder = cluster.submit_fault("fault", 2, LINES, 1000)?;
        reaches(&cluster, &folder, 500).await?;
        // The other machine is full, but it can have all: fewer workers are better than none.
        cluster.storm(&["admin", "drain", "127.0.0.2", "--no-wait"])?;
        let json: serde_json::Value = serde_json::from_str(&cluster.storm(&["admin", "machines", "--json"])?)?;
        let drained = json.as_array().into_iter().flatten().filter(|machine| machine["drained"] == true);
        ensure!(drained.count() == 1, "{json}");
        cluster
            .wait("it is emptied, or a sentence says why it is not", async |cluster| {
                let states = states(cluster).ok()?;
                let summary = cluster.topology("fault").await.ok()?.summary;
                let is_said = summary.reason.is_some_and(|reason| reason.contains("127.0.0.2"))
                    || summary.scheduler.contains("127.0.0.2");
                (states["127.0.0.2"] == "DRAINED" || is_said).then_some(())
            })
            .await?;
        cluster.storm(&["admin", "undrain", "127.0.0.2"])?;
        let evidence = completes(&cluster, &folder, LINES).await?;
        let problems = evidence.problems(LINES);
        ensure!(problems.is_empty(), "{} problems, the first: {:?}", problems.len(), problems.first());
        Ok(())
    });
}

#[test]
fn the_last_machine_cannot_be_emptied_and_the_waiting_command_says_why() {
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let cluster = several(1, &[zookeeper.address()], 2, &[]).await?;
        cluster.submit_fault("fault", 2, LINES, 1000)?;
        cluster.storm(&["admin", "drain", "127.0.0.3"])?;
        let said = cluster.folder.join("said");
        let mut draining =
            cluster.storm_command(&["admin", "drain", "127.0.0.2"])?.stderr(File::create(&said)?).spawn()?;
        let why = "127.0.0.2: 2 workers left; fault waits for slots to leave 127.0.0.2: no machine is available that is not \
                   drained; start one by `storm supervisor`, or give one work again by `storm admin undrain`";
        let is_said = async |_: &Cluster| fs::read_to_string(&said).ok()?.lines().any(|line| line == why).then_some(());
        cluster.wait("the reason is said", is_said).await?;
        cluster.storm(&["admin", "undrain", "127.0.0.2"])?;
        let code = draining.wait()?.code();
        let said = fs::read_to_string(&said)?;
        ensure!(code == Some(1) && said.contains("is no longer being emptied"), "{code:?} {said}");
        cluster.storm(&["kill", "fault", "-w", "0"])?;
        Ok(())
    });
}
