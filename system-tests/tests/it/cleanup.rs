//! What a killed topology leaves behind: nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use system_tests::cluster::{Cluster, command_line, executables};

use crate::{book, reaches, run};

/// Every file below a folder, with its length.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => all.push((entry.path(), meta.len())),
                Err(_) => {}
            }
        }
    }
    all.sort();
    all
}

async fn is_gone(cluster: &Cluster, daemons: usize) -> Result<()> {
    cluster
        .wait("processes and records are gone", async |cluster| {
            let gone = cluster.client.cluster().await.ok()?.topologies.is_empty();
            let blobs = cluster.client.blobs().await.ok()?.len();
            (gone && blobs == 0 && cluster.processes().len() == daemons).then_some(())
        })
        .await
}

#[test]
fn a_killed_topology_leaves_no_process_no_record_no_folder_no_blob() {
    run(async || {
        let cluster = Cluster::standalone(2, &[("logviewer.cleanup.age.mins", 0.into())]).await?;
        let evidence = cluster.submit_fault("fault", 2, 1_000_000, 1000)?;
        reaches(&cluster, &evidence, 200).await?;
        let id = cluster.topology("fault").await?.summary.id.to_string();
        cluster.storm(&["kill", "fault", "-w", "1"])?;
        is_gone(&cluster, 1).await?;
        let local = cluster.folder.join("standalone");
        cluster
            .wait("no file names it", async |_| {
                let named = files(&local).into_iter().filter(|(path, _)| path.to_string_lossy().contains(&id));
                let blobs = files(&local).into_iter().filter(|(path, _)| path.to_string_lossy().contains("/blobs/"));
                (named.count() == 0 && blobs.count() == 0).then_some(())
            })
            .await
    });
}

/// Resident memory in KiB, and open descriptors.
fn usage(pid: u32) -> Result<(u64, usize)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    Ok((memory.unwrap_or(0), fs::read_dir(format!("/proc/{pid}/fd"))?.count()))
}

#[test]
fn two_hundred_submissions_and_kills_leave_memory_descriptors_and_disk_as_they_were() {
    run(async || {
        let mut cluster = Cluster::standalone(1, &[("logviewer.cleanup.age.mins", 0.into())]).await?;
        let pid = cluster.daemon("standalone").pid()?;
        ensure!(!command_line(pid).is_empty());
        let executable = executables()?.word_count.display().to_string();
        let (input, output) = (book().display().to_string(), cluster.folder.join("counts").display().to_string());
        let mut warm = (0, 0, 0);
        for cycle in 0..200 {
            cluster.storm(&["submit", &executable, "--name", "cycle", "--", "--input", &input, "--output", &output])?;
            cluster.storm(&["kill", "cycle", "-w", "0"])?;
            is_gone(&cluster, 1).await?;
            // The first ones fill caches and pools.
            if cycle == 40 || cycle == 199 {
                let standalone = cluster.folder.join("standalone");
                let disk: u64 = files(&standalone)
                    .iter()
                    .map(|(path, bytes)| if path.ends_with("output.log") { 0 } else { *bytes })
                    .sum();
                let (memory, descriptors) = usage(pid)?;
                if cycle == 40 {
                    warm = (memory, descriptors, disk);
                    continue;
                }
                ensure!(memory <= warm.0 + warm.0 / 10, "memory grew from {} to {memory} KiB", warm.0);
                ensure!(descriptors <= warm.1 + 4, "descriptors grew from {} to {descriptors}", warm.1);
                ensure!(disk <= warm.2 + warm.2 / 10, "files grew from {} to {disk} bytes", warm.2);
            }
        }
        Ok(())
    });
}
