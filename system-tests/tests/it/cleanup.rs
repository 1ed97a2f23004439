//! What a killed topology leaves behind: nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
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

/// Waits until no file below `folder` is a blob, or has `name` in its path.
async fn leaves_no_file(cluster: &Cluster, folder: &Path, name: &str) -> Result<()> {
    cluster
        .wait("no file of it is left", async |_| {
            let left = files(folder).into_iter().any(|(path, _)| {
                let path = path.to_string_lossy();
                path.contains(name) || path.contains("/blobs/")
            });
            (!left).then_some(())
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
        let standalone = cluster.folder.join("standalone");
        leaves_no_file(&cluster, &standalone, &id).await
    });
}

/// How the daemon's memory is measured: with one arena and no caches of threads, so that what it keeps is what it has not freed.
/// By default glibc gives threads arenas of their own, up to eight for each core, and each keeps its peak: after 600
/// submissions that had not levelled off, and it hides what is leaked.
const MALLOC: &str = "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0:glibc.malloc.trim_threshold=4096:glibc.malloc.mmap_threshold=65536";
/// How often a topology is submitted and killed, after [`WARM_UP`] times that fill caches and pools.
const CYCLES: usize = 300;
const WARM_UP: usize = 40;
/// Cycles of which the least memory counts: what requests that meet take for an instant is no leak.
const SPAN: usize = 40;
/// KiB that the heap may grow from the first such span to the last. It does not, but for one step of 90 when more requests meet than
/// ever did before. A KiB for each submission makes 200 and more: what was free in the heap is filled first.
const HEAP_KIB: u64 = 128;
/// KiB that all memory of its own may grow: pieces of 64 KiB and more lie outside the heap, and so do the stacks of the threads that
/// block on the disk, of which there are as many as it is slow.
const ANONYMOUS_KIB: u64 = 4096;

/// What a daemon has.
#[derive(Debug)]
struct Usage {
    /// Small pieces of memory, resident, in KiB.
    heap: u64,
    /// All memory that is not of a file, resident, in KiB. `VmRSS` would count pages of the executable too, and is a guess: the
    /// kernel adds it up from a counter for each core, now and then.
    anonymous: u64,
    descriptors: u64,
    /// Bytes of files.
    disk: u64,
}

impl Usage {
    fn of(pid: u32, folder: &Path) -> Result<Usage> {
        let (mut heap, mut anonymous, mut is_heap) = (None, 0, false);
        for line in fs::read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
            // `ADDRESS-ADDRESS …` begins a mapping, `NAME: …` says something of it.
            match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                ["Anonymous:", kib, "kB"] => {
                    let kib: u64 = kib.parse()?;
                    anonymous += kib;
                    heap = if is_heap { Some(kib) } else { heap };
                }
                [range, .., name] if range.contains('-') => is_heap = name == "[heap]",
                _ => {}
            }
        }
        let heap = heap.context("the daemon has no heap that the kernel tells of")?;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        Ok(Usage { heap, anonymous, descriptors, disk: files(folder).iter().map(|(_, bytes)| bytes).sum() })
    }

    /// The least of each.
    fn least(usages: &[Usage]) -> Usage {
        let least = |of: fn(&Usage) -> u64| usages.iter().map(of).min().unwrap_or(0);
        Usage {
            heap: least(|usage| usage.heap),
            anonymous: least(|usage| usage.anonymous),
            descriptors: least(|usage| usage.descriptors),
            disk: least(|usage| usage.disk),
        }
    }
}

/// The example without its debug information: a third of the bytes to hash and copy, so more submissions in the time.
fn small_executable(cluster: &Cluster) -> Result<String> {
    let small = cluster.folder.join("word-count");
    let status = Command::new("strip").arg("-o").arg(&small).arg(&executables()?.word_count).status();
    ensure!(status.context("starting `strip`, which comes with the linker")?.success(), "`strip` failed");
    Ok(small.display().to_string())
}

#[test]
fn hundreds_of_submissions_and_kills_leave_memory_descriptors_and_disk_as_they_were() {
    run(async || {
        let mut cluster = Cluster::new(&[("logviewer.cleanup.age.mins", 0.into())])?;
        cluster.add("standalone", &["standalone"], 1)?;
        cluster.daemon("standalone").environment.insert("GLIBC_TUNABLES", MALLOC);
        cluster.start("standalone").await?;
        let pid = cluster.daemon("standalone").pid()?;
        ensure!(!command_line(pid).is_empty());
        let executable = small_executable(&cluster)?;
        let (input, output) = (book().display().to_string(), cluster.folder.join("counts").display().to_string());
        // Without logs: they go once a minute.
        let local = cluster.folder.join("standalone/local");
        let mut usages = Vec::new();
        for cycle in 0..WARM_UP + CYCLES {
            cluster.storm(&["submit", &executable, "--name", "cycle", "--", "--input", &input, "--output", &output])?;
            cluster.storm(&["kill", "cycle", "-w", "0"])?;
            is_gone(&cluster, 1).await?;
            if cycle >= WARM_UP {
                leaves_no_file(&cluster, &local, "cycle-").await?;
                usages.push(Usage::of(pid, &local)?);
            }
        }
        let (first, last) = (Usage::least(&usages[..SPAN]), Usage::least(&usages[CYCLES - SPAN..]));
        let grew = format!("from {first:?} to {last:?}");
        ensure!(last.heap <= first.heap + HEAP_KIB, "the heap grew {grew}");
        ensure!(last.anonymous <= first.anonymous + ANONYMOUS_KIB, "memory grew {grew}");
        ensure!(last.descriptors <= first.descriptors + 16, "descriptors grew {grew}");
        ensure!(last.disk <= first.disk + first.disk / 10, "files grew {grew}");
        Ok(())
    });
}
