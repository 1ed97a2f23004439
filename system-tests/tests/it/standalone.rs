//! One process, nothing installed: submit, count, look, restart, kill.

use std::fs;

use anyhow::ensure;
use nimbus_api::machine::SlotState;
use nimbus_api::topology::StatusWord;
use rustix::process::Signal;
use system_tests::cluster::{Cluster, command_line, executables, lives, signal};

use crate::{book, completes, counted, plain_count, reaches, run};

#[test]
fn word_count_gives_exact_counts_and_the_topology_says_that_its_input_is_finished() {
    run(async || {
        let cluster = Cluster::standalone(2, &[]).await?;
        let (input, result) = (book(), cluster.folder.join("counts.tsv"));
        let executable = executables()?.word_count.display().to_string();
        let (input_text, result_text) = (input.display().to_string(), result.display().to_string());
        let submitted = cluster.storm(&[
            "submit",
            &executable,
            "--name",
            "counting",
            "-c",
            "topology.workers=2",
            "--",
            "--input",
            &input_text,
            "--output",
            &result_text,
        ])?;
        ensure!(submitted.contains("counting-1-"), "{submitted}");
        cluster
            .wait("the input is finished", async |cluster| {
                let summary = cluster.topology("counting").await.ok()?.summary;
                (summary.status == StatusWord::Inactive && summary.reason.as_deref() == Some("input finished"))
                    .then_some(())
            })
            .await?;
        ensure!(counted(&result) == Some(plain_count(&fs::read_to_string(&input)?)), "the counts are wrong");

        let topology = cluster.topology("counting").await?;
        let id = topology.summary.id.to_string();
        for worker in &topology.workers {
            let (pid, port) = (worker.pid.unwrap_or(0), worker.port.map_or(0, |port| port.0));
            ensure!(
                command_line(pid)[1..] == ["worker".to_owned(), id.clone(), port.to_string()],
                "{:?}",
                command_line(pid)
            );
        }
        let list = cluster.storm(&["list"])?;
        ensure!(list.contains("counting") && list.contains("INACTIVE"), "{list}");

        // A worker that dies now would finish once more, on nothing.
        let dead = topology.workers[1].pid.unwrap_or(0);
        signal(dead, Signal::KILL)?;
        cluster
            .wait("its end is known", async |cluster| {
                let topology = cluster.topology("counting").await.ok()?;
                (topology.workers[1].ends.len() == 1 && topology.workers[1].slot == Some(SlotState::Empty))
                    .then_some(())
            })
            .await?;
        ensure!(counted(&result) == Some(plain_count(&fs::read_to_string(&input)?)), "the result was replaced");
        cluster.storm(&["kill", "counting", "-w", "0"])?;
        cluster
            .wait("nothing of it is left", async |cluster| {
                let gone = cluster.client.cluster().await.ok()?.topologies.is_empty();
                (gone && cluster.processes().len() == 1).then_some(())
            })
            .await?;
        ensure!(cluster.storm(&["list"])?.trim() == "No topologies running.");
        Ok(())
    });
}

#[test]
fn topologies_survive_the_restart_of_standalone() {
    run(async || {
        let mut cluster = Cluster::standalone(2, &[]).await?;
        let evidence = cluster.submit_fault("fault", 2, 8000, 1000)?;
        reaches(&cluster, &evidence, 500).await?;
        let pids = cluster.pids("fault").await?;
        cluster.daemon("standalone").kill()?;
        ensure!(pids.values().all(|pid| lives(*pid)), "workers ended with the daemon");
        cluster.start("standalone").await?;
        let adopted = cluster
            .wait("its workers are adopted", async |cluster| {
                cluster.pids("fault").await.ok().filter(|pids| pids.len() == 2)
            })
            .await?;
        ensure!(adopted == pids, "{adopted:?} {pids:?}");
        let evidence = completes(&cluster, &evidence, 8000).await?;
        ensure!(evidence.problems(8000).is_empty() && evidence.fails.is_empty(), "{:?}", evidence.fails);
        Ok(())
    });
}

#[test]
fn deactivated_spouts_are_not_asked_and_activated_ones_go_on() {
    run(async || {
        let cluster = Cluster::standalone(1, &[]).await?;
        let evidence = cluster.submit_fault("fault", 1, 6000, 1000)?;
        reaches(&cluster, &evidence, 400).await?;
        cluster.storm(&["deactivate", "fault"])?;
        let drained = |topology: nimbus_api::topology::Topology| {
            let pending: u64 = topology
                .executors
                .iter()
                .filter_map(|executor| executor.windows.get(&nimbus_api::topology::Window::AllTime))
                .map(|counts| counts.pending)
                .sum();
            (topology.summary.status == StatusWord::Inactive && pending == 0).then_some(())
        };
        cluster.wait("nothing is pending", async |cluster| drained(cluster.topology("fault").await.ok()?)).await?;
        cluster.storm(&["activate", "fault"])?;
        let evidence = completes(&cluster, &evidence, 6000).await?;
        ensure!(evidence.problems(6000).is_empty() && evidence.fails.is_empty(), "{:?}", evidence.fails);
        Ok(())
    });
}

#[test]
fn a_killed_worker_is_restarted_and_loses_nothing() {
    run(async || {
        let cluster = Cluster::standalone(3, &[]).await?;
        let folder = cluster.submit_fault("fault", 3, 6000, 1000)?;
        reaches(&cluster, &folder, 600).await?;
        let pids = cluster.pids("fault").await?;
        signal(pids[&1], Signal::KILL)?;
        let evidence = completes(&cluster, &folder, 6000).await?;
        let problems = evidence.problems(6000);
        ensure!(problems.is_empty(), "{problems:?}");
        let topology = cluster.topology("fault").await?;
        let after = cluster.pids("fault").await?;
        ensure!(after[&0] == pids[&0] && after[&2] == pids[&2] && after[&1] != pids[&1], "{pids:?} {after:?}");
        let end = topology.workers[1].ends.last().map(|end| end.cause.clone());
        ensure!(end.as_deref().is_some_and(|cause| cause.starts_with("killed by SIGKILL")), "{end:?}");
        Ok(())
    });
}

#[test]
fn a_fatal_error_makes_the_topology_inactive_and_restarts_nothing() {
    run(async || {
        let cluster = Cluster::standalone(1, &[]).await?;
        let (executable, output) = (executables()?.word_count.display().to_string(), cluster.folder.join("counts"));
        let output = output.display().to_string();
        cluster.storm(&[
            "submit",
            &executable,
            "--name",
            "fatal",
            "--",
            "--input",
            "/no/such/text",
            "--output",
            &output,
        ])?;
        let reason = cluster
            .wait("it is inactive", async |cluster| {
                let summary = cluster.topology("fatal").await.ok()?.summary;
                summary.reason.filter(|_| summary.status == StatusWord::Inactive)
            })
            .await?;
        ensure!(reason.starts_with("fatal error in `lines`: cannot read `/no/such/text`"), "{reason}");
        let topology = cluster.topology("fatal").await?;
        ensure!(topology.workers[0].ends.is_empty(), "{:?}", topology.workers[0].ends);
        let (code, _, said) = cluster.storm_output(&["activate", "fatal"])?;
        ensure!(code == 1 && said.contains("kill it and submit it again"), "{code} {said}");
        Ok(())
    });
}
