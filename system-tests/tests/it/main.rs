//! Whole clusters under faults: see the modules.
#![forbid(unsafe_code)]
// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod cleanup;
mod draining;
mod faults;
mod masters;
mod rebalancing;
mod single_machine;
mod standalone;
mod supervisors;

use std::collections::BTreeMap;
use std::path::Path;

use system_tests::cluster::Cluster;
use system_tests::evidence::Evidence;
use system_tests::fault_topology::SOURCES;

/// Runs a test on a runtime of its own.
fn run(test: impl AsyncFnOnce() -> anyhow::Result<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Err(error) = runtime.block_on(test()) {
        panic!("{error:#}");
    }
}

/// Waits until the stream is so far; `of` is what [`progress`] has to reach.
async fn reaches(cluster: &Cluster, evidence: &Path, of: u64) -> anyhow::Result<()> {
    cluster
        .wait(&format!("the stream reaches {of}"), async |_| (Evidence::progress(evidence) >= of).then_some(()))
        .await
}

/// Waits until every line is acked, and gives the evidence.
async fn completes(cluster: &Cluster, folder: &Path, lines: u64) -> anyhow::Result<Evidence> {
    let what = format!("all {lines} lines are acked");
    let all = cluster.wait(&what, async |_| {
        if Evidence::progress(folder) < SOURCES as u64 * lines {
            return None;
        }
        Evidence::read(folder).ok().filter(|evidence| evidence.is_complete(lines))
    });
    match all.await {
        Ok(evidence) => Ok(evidence),
        Err(error) => {
            let evidence = Evidence::read(folder)?;
            Err(error.context(format!("frontiers {:?}, starts {:?}", evidence.frontiers, evidence.starts)))
        }
    }
}

/// Word → count, by the simplest program there is.
fn plain_count(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    text.split_whitespace().for_each(|word| *counts.entry(word.to_owned()).or_default() += 1);
    counts
}

/// What word-count wrote.
fn counted(result: &Path) -> Option<BTreeMap<String, u64>> {
    let text = std::fs::read_to_string(result).ok()?;
    text.lines()
        .map(|line| line.split_once('\t').and_then(|(word, count)| Some((word.to_owned(), count.parse().ok()?))))
        .collect()
}

/// The book of the example.
fn book() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/word-count/opticks.txt")
}
