//! Three Nimbuses, and the lead goes from one to another: nobody but Nimbuses notices.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nimbus_api::topology::{StatusWord, Window};
use rustix::process::Signal;
use serde_json::Value;
use system_tests::cluster::{Cluster, executables, signal};
use system_tests::evidence::Evidence;
use system_tests::several::{
    Records, TakeOver, awake, gets_blobs, kill_leader, lead_without_disk, several, stop_leader, takes_changes, without,
    writer_of_leader, wrote_nothing,
};
use zookeeper_server::{Ensemble, ZooKeeper};

use crate::{completes, counted, plain_count, reaches, run};

/// So that a lead without its Nimbus ends soon.
fn short_sessions() -> [(&'static str, Value); 1] {
    [("storm.zookeeper.session.timeout", 4000.into())]
}

/// The fault topology with four workers in mid-stream, its folder, and its pids.
async fn in_mid_stream(cluster: &Cluster, lines: u64) -> Result<(PathBuf, BTreeMap<u16, u32>)> {
    let folder = cluster.submit_fault("fault", 4, lines, 1000)?;
    reaches(cluster, &folder, 1000).await?;
    let pids = cluster
        .wait("all workers are known", async |cluster| cluster.pids("fault").await.ok().filter(|pids| pids.len() == 4))
        .await?;
    Ok((folder, pids))
}

/// Waits for the end of the stream: nothing missing, nothing foreign, nothing failed, nothing restarted.
async fn judge(cluster: &Cluster, folder: &std::path::Path, lines: u64, pids: &BTreeMap<u16, u32>) -> Result<()> {
    let evidence = completes(cluster, folder, lines).await?;
    evidence.check_exact(lines)?;
    ensure!(evidence.starts.values().all(|starts| *starts == 1), "spouts were started again: {:?}", evidence.starts);
    let after = cluster
        .wait("all workers are known", async |cluster| cluster.pids("fault").await.ok().filter(|pids| pids.len() == 4))
        .await?;
    ensure!(after == *pids, "workers were restarted: {pids:?} {after:?}");
    Ok(())
}

/// Counts words by a topology of its own, to its end, and kills it.
async fn count_words(cluster: &Cluster, name: &str) -> Result<()> {
    let input = cluster.folder.join(format!("{name}.txt"));
    let text = "the quick brown fox jumps over the lazy dog\n".repeat(100);
    fs::write(&input, &text)?;
    let result = cluster.folder.join(format!("{name}.tsv"));
    let executable = executables()?.word_count.display().to_string();
    let (input, output) = (input.display().to_string(), result.display().to_string());
    cluster.storm(&["submit", &executable, "--name", name, "--", "--input", &input, "--output", &output])?;
    cluster
        .wait(&format!("{name} has finished"), async |cluster| {
            let summary = cluster.topology(name).await.ok()?.summary;
            (summary.status == StatusWord::Inactive).then_some(())
        })
        .await?;
    ensure!(counted(&result) == Some(plain_count(&text)), "{name}: the counts are wrong");
    cluster.storm(&["kill", name, "-w", "0"])?;
    Ok(())
}

#[test]
fn a_leader_is_killed_again_and_again_and_no_worker_notices() {
    const LINES: u64 = 50_000;
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let mut cluster = several(3, &[zookeeper.address()], 3, &short_sessions()).await?;
        let (folder, pids) = in_mid_stream(&cluster, LINES).await?;
        for round in 1..=3 {
            let took_over = kill_leader(&mut cluster).await?;
            ensure!(took_over.from != took_over.to, "{took_over:?}");
            count_words(&cluster, &format!("counting-{round}")).await?;
            cluster.start(&took_over.from).await?;
        }
        judge(&cluster, &folder, LINES, &pids).await
    });
}

#[test]
fn a_leader_that_slept_writes_nothing_moves_nothing_and_follows() {
    const LINES: u64 = 60_000;
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let servers = [zookeeper.address()];
        let mut cluster = several(3, &servers, 3, &short_sessions()).await?;
        let (folder, pids) = in_mid_stream(&cluster, LINES).await?;
        let records = Records::open(&servers)?;
        // Two things that it would go on with: a drain that ends while it sleeps, and one that cannot end by itself, for its lines
        // are held.
        cluster.submit_fault("short", 1, 1_000_000, 1)?;
        cluster.submit_fault_with("long", 1, &["--lines", "1000000", "--rate", "10", "--hold"])?;
        cluster
            .wait("lines of `long` are pending", async |cluster| {
                let topology = cluster.topology("long").await.ok()?;
                let all = topology.executors.iter().filter_map(|one| one.windows.get(&Window::AllTime));
                (all.map(|counts| counts.pending).sum::<u64>() > 0).then_some(())
            })
            .await?;
        for (name, wait) in [("short", "1"), ("long", "3600")] {
            cluster.storm(&["kill", name, "-w", wait])?;
        }
        let old = writer_of_leader(&records.all().await?)?;
        let slept = stop_leader(&mut cluster).await?;
        let others = without(&cluster, &slept.from);
        cluster
            .wait("the next leader has gone on with what it found", async |_| {
                let names = others.cluster().await.ok()?.topologies.into_iter().map(|one| one.name.to_string());
                (names.collect::<Vec<_>>() == ["fault", "long"]).then_some(())
            })
            .await?;
        others.deactivate("fault").await?;
        others.activate("fault").await?;
        let before = records.all().await?;
        let writer = writer_of_leader(&before)?;
        ensure!(writer != old, "the lead is still that of {old}");

        let awake = awake(&mut cluster, &slept).await?;
        // It passes on what it is asked.
        awake.kill("long", nimbus_api::submission::Kill { wait_secs: Some(0) }).await?;
        cluster
            .wait("what was asked through it has happened", async |_| {
                (others.cluster().await.ok()?.topologies.len() == 1).then_some(())
            })
            .await?;
        let after = records.all().await?;
        wrote_nothing(&old, &before, &after)?;
        ensure!(writer_of_leader(&after)? == writer, "the lead has moved: {after:?}");
        judge(&cluster, &folder, LINES, &pids).await?;
        wrote_nothing(&old, &before, &records.all().await?)
    });
}

#[test]
fn a_nimbus_with_an_empty_folder_takes_the_lead_and_keeps_it() {
    const LINES: u64 = 40_000;
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let mut cluster = several(2, &[zookeeper.address()], 2, &short_sessions()).await?;
        let (folder, pids) = in_mid_stream(&cluster, LINES).await?;
        // Only Supervisors have the executable, and give it to the leader that lacks it.
        let TakeOver { from: leads, to: empty, .. } = lead_without_disk(&mut cluster).await?;
        gets_blobs(&cluster, &empty).await?;
        let id = cluster.topology("fault").await?.summary.id;
        let said = cluster
            .wait("the leader says that it has them", async |cluster| {
                let said = cluster.daemons[&empty].output();
                said.contains(&format!("{id}: all of its blobs are here")).then_some(said)
            })
            .await?;
        let lacks =
            said.lines().find(|line| line.contains(&format!("{id}: this Nimbus leads, and lacks of its blobs: ")));
        let lacks = lacks.with_context(|| format!("the leader does not say what it lacks:\n{said}"))?;
        for word in ["executable (", "graph (", "machine 127.0.0.2", "machine 127.0.0.3"] {
            ensure!(lacks.contains(word), "{lacks}");
        }
        ensure!(said.matches("this Nimbus leads\n").count() == 1, "{said}");
        // A worker is restarted out of what its machine has.
        signal(pids[&2], Signal::KILL)?;
        cluster
            .wait("the worker lives again", async |cluster| {
                let now = cluster.pids("fault").await.ok()?;
                (now.len() == 4 && now[&2] != pids[&2]).then_some(())
            })
            .await?;
        // The other one comes back, and follows.
        cluster.start(&leads).await?;
        ensure!(cluster.leader().await.as_ref() == Some(&empty), "{:?}", cluster.leader().await);
        cluster
            .wait("its topology is whole again", async |cluster| {
                let summary = cluster.topology("fault").await.ok()?.summary;
                (summary.status == StatusWord::Active && summary.tasks > 0).then_some(())
            })
            .await?;
        let blobs = fs::read_dir(cluster.daemon(&empty).folder.join("local/nimbus/blobs"))?.count();
        ensure!(blobs >= 2, "{blobs} files are on the disk of the leader");

        let evidence = completes(&cluster, &folder, LINES).await?;
        let problems = evidence.problems(LINES);
        ensure!(problems.is_empty(), "{} problems, the first: {:?}", problems.len(), problems.first());
        let after = cluster.pids("fault").await?;
        for worker in [0, 1, 3] {
            ensure!(after[&worker] == pids[&worker], "worker {worker} was restarted: {pids:?} {after:?}");
        }
        Ok(())
    });
}

#[test]
fn a_server_of_zookeeper_is_lost_then_all_of_them_and_data_flows() {
    const LINES: u64 = 60_000;
    run(async || {
        let mut ensemble = Ensemble::start()?;
        let cluster = several(2, &ensemble.addresses(), 3, &[]).await?;
        let (folder, pids) = in_mid_stream(&cluster, LINES).await?;
        let leader = ensemble.leader()?;
        ensemble.servers()[leader].kill()?;
        reaches(&cluster, &folder, Evidence::progress(&folder) + 4000).await?;
        // Two of three are enough to submit.
        count_words(&cluster, "with-two").await?;

        ensemble.kill_all()?;
        reaches(&cluster, &folder, Evidence::progress(&folder) + 14_000).await?;
        let (code, _, said) = cluster.storm_output(&["deactivate", "fault"])?;
        ensure!(code == 69 && said.contains("cluster state"), "{code} {said}");
        ensemble.restart_all()?;
        takes_changes(&cluster, "fault").await?;
        count_words(&cluster, "with-three").await?;
        judge(&cluster, &folder, LINES, &pids).await
    });
}
