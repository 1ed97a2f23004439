//! `cargo demo`: a standalone cluster in a temporary folder, word count over a whole book on it, and what came out.
//!
//! Not here: the topology (`examples/word-count`), the cluster (`storm standalone`). Invariant: whatever it ends by but SIGKILL, no
//! process of it is left running, and its folder is gone.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nimbus_api::client::Client;
use nimbus_api::submission::Kill;
use nimbus_api::topology::{StatusWord, Topology, Window};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::workspace::Workspace;

const BOOK: &str = "examples/word-count/opticks.txt";
const COUNTS: &str = "counts.tsv";
const NAME: &str = "word-count";
const WORDS_SHOWN: usize = 10;
/// Where the UI is if nobody else is there.
const UI_PORT: u16 = 8080;
const WORKERS: usize = 2;
/// How long the cluster may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the topology, and how many of them a line of progress comes after.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS_A_LINE: u32 = 50;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// End after the result, and clean up, instead of staying until Ctrl-C
    #[arg(long)]
    once: bool,
}

/// Starts the cluster, counts the words of the book on it, shows the result, and without `--once` stays until Ctrl-C.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let storm = workspace.executable("demo", "cli", "storm")?;
    let word_count = workspace.executable("demo", "word-count", "word-count")?;
    let book = workspace.root.join(BOOK);
    let folder = tempfile::Builder::new().prefix("storm-demo-").tempdir().context("making a temporary folder")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
        let mut terminated = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut cluster = Cluster::start(&storm, folder.path())?;
        let shown = tokio::select! {
            biased;
            _ = interrupted.recv() => Ok(false),
            _ = terminated.recv() => Ok(false),
            shown = show(&mut cluster, &word_count, &book) => shown.map(|()| true),
        };
        if matches!(shown, Ok(true)) && !options.once {
            println!("\nAll counts are in {}", folder.path().join(COUNTS).display());
            println!("The topology stays at {} until Ctrl-C.", cluster.ui);
            tokio::select! {
                biased;
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
        }
        println!("Ending the topology and the cluster.");
        let ended = cluster.end().await;
        let shown = shown?;
        ended.map(|()| shown || !options.once)
    })
}

/// A `storm standalone` of its own.
struct Cluster<'a> {
    storm: &'a Path,
    folder: &'a Path,
    child: Child,
    /// Where Nimbus and UI are, once it is ready.
    nimbus: String,
    ui: String,
}

impl<'a> Cluster<'a> {
    fn start(storm: &'a Path, folder: &'a Path) -> Result<Self> {
        // Held together, so that no two are the same; free again when the cluster starts.
        let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port");
        let held = (0..WORKERS).map(|_| any()).collect::<Result<Vec<_>>>()?;
        let slots: Vec<u16> = held.iter().map(|held| Ok(held.local_addr()?.port())).collect::<Result<_>>()?;
        let ui_port = if TcpListener::bind((Ipv4Addr::LOCALHOST, UI_PORT)).is_ok() { UI_PORT } else { 0 };
        drop(held);
        let settings = serde_json::json!({
            "storm.local.dir": folder.join("local"),
            "storm.log.dir": folder.join("logs"),
            "nimbus.api.port": 0,
            "ui.port": ui_port,
            "supervisor.slots.ports": slots,
        });
        let file = folder.join("storm.yaml");
        // JSON is YAML.
        fs::write(&file, settings.to_string()).with_context(|| format!("writing {}", file.display()))?;
        let log = fs::File::create(folder.join("standalone.log")).context("making a log")?;
        let mut command = Command::new(storm);
        command.arg("standalone").arg("--config").arg(&file).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        // Ctrl-C is for this process, which ends the cluster in order.
        let child =
            tokio::process::Command::from(command).process_group(0).spawn().context("starting storm standalone")?;
        Ok(Cluster { storm, folder, child, nimbus: String::new(), ui: String::new() })
    }

    /// Waits until it says that it is ready, and where.
    async fn ready(&mut self) -> Result<()> {
        let stdout = self.child.stdout.take().context("standard output of storm standalone is gone")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.context("waiting for storm standalone")??;
        let Some((nimbus, ui)) = line.as_deref().and_then(addresses) else {
            let log = fs::read_to_string(self.folder.join("standalone.log")).unwrap_or_default();
            bail!("storm standalone did not become ready: {}\n{log}", line.unwrap_or_default());
        };
        (self.nimbus, self.ui) = (nimbus, ui);
        Ok(())
    }

    fn client(&self) -> Client {
        Client::new(vec![self.nimbus.clone()])
    }

    /// Kills the topology, waits until nothing of it is left, and ends the cluster.
    async fn end(mut self) -> Result<()> {
        if !self.nimbus.is_empty() {
            let client = self.client();
            let gone = async {
                // It may not have been submitted.
                let _ = client.kill(NAME, Kill { wait_secs: Some(0) }).await;
                while client.cluster().await.is_ok_and(|cluster| !cluster.topologies.is_empty()) {
                    sleep(LOOK).await;
                }
            };
            timeout(PATIENCE, gone).await.context("waiting until the topology is gone")?;
        }
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            kill_process(pid, Signal::TERM).context("ending storm standalone")?;
        }
        let status = timeout(PATIENCE, self.child.wait()).await.context("waiting until storm standalone ends")??;
        ensure!(status.success(), "storm standalone ended with {status}");
        Ok(())
    }
}

/// Nimbus's and the UI's address in the line that says that all is ready.
fn addresses(line: &str) -> Option<(String, String)> {
    let rest = line.strip_prefix("Standalone ready: Nimbus at ")?;
    let (nimbus, rest) = rest.split_once(", UI at ")?;
    Some((nimbus.to_owned(), rest.split_once(", ")?.0.to_owned()))
}

async fn show(cluster: &mut Cluster<'_>, word_count: &Path, book: &Path) -> Result<()> {
    cluster.ready().await?;
    println!("A cluster runs in {}; its UI is at {}", cluster.folder.display(), cluster.ui);
    println!("Counting the words of Newton's Opticks ({BOOK}) with {WORKERS} workers");
    let counts = cluster.folder.join(COUNTS);
    let begin = Instant::now();
    let mut submit = tokio::process::Command::new(cluster.storm);
    submit.arg("submit").arg(word_count).args(["--name", NAME, "-c", &format!("topology.workers={WORKERS}")]);
    submit.args(["-c", &format!("nimbus.seeds=[\"{}\"]", cluster.nimbus), "--", "--input"]);
    submit.arg(book).arg("--output").arg(&counts).kill_on_drop(true);
    ensure!(submit.status().await.context("starting storm submit")?.success(), "storm submit failed");
    let submitted = begin.elapsed();

    let client = cluster.client();
    let mut looks = 0;
    let topology = loop {
        let topology = client.topology(NAME).await?;
        let summary = &topology.summary;
        if summary.reason.as_deref() == Some("input finished") {
            break topology;
        }
        ensure!(summary.status != StatusWord::Broken, "the topology is broken: {}", topology.troubles.join("; "));
        looks += 1;
        if looks % LOOKS_A_LINE == 0 {
            let reason = summary.reason.as_deref().unwrap_or(&summary.scheduler);
            println!("{:.1} s: {} lines acked; {reason}", begin.elapsed().as_secs_f64(), acked(&topology));
        }
        sleep(LOOK).await;
    };
    let finished = begin.elapsed();
    let text = fs::read_to_string(&counts).with_context(|| format!("reading {}", counts.display()))?;
    println!("\n{}", most_frequent(&text)?);
    println!("{}", summary(&topology, submitted, finished));
    Ok(())
}

/// Roots acked by all spouts.
fn acked(topology: &Topology) -> u64 {
    of_spouts(topology, |counts| counts.acked)
}

fn of_spouts(topology: &Topology, count: impl Fn(&worker_api::report::Counts) -> u64) -> u64 {
    let is_spout = |name: &str| {
        topology.graph.components.iter().any(|component| component.name == name && component.kind == "spout")
    };
    let spouts = topology.executors.iter().filter(|executor| is_spout(&executor.component));
    spouts.filter_map(|executor| executor.windows.get(&Window::AllTime)).map(count).sum()
}

/// A table of the first lines of `counts`, which has `word<TAB>count` a line by falling count.
fn most_frequent(counts: &str) -> Result<String> {
    let mut table = String::from("   count  word\n");
    for line in counts.lines().take(WORDS_SHOWN) {
        let (word, count) = line.split_once('\t').with_context(|| format!("no tab in the result's line {line:?}"))?;
        table += &format!("{count:>8}  {word}\n");
    }
    Ok(table)
}

/// One line with what was done, and how long it took from the submission on.
fn summary(topology: &Topology, submitted: Duration, finished: Duration) -> String {
    let (acked, failed) = (acked(topology), of_spouts(topology, |counts| counts.failed));
    let running = finished.saturating_sub(submitted).as_secs_f64();
    format!(
        "{acked} lines acked, {failed} failed; submitted in {:.2} s, and {running:.2} s later all was counted, the start of the \
         workers among it: {:.0} lines a second",
        submitted.as_secs_f64(),
        acked as f64 / running.max(f64::EPSILON)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_first_ten_words() {
        let counts: String = (0..12).map(|word| format!("w{word}\t{}\n", 100 - word)).collect();
        let table = most_frequent(&counts).unwrap();
        assert_eq!(table.lines().count(), 11);
        assert_eq!(table.lines().nth(1), Some("     100  w0"));
        assert_eq!(table.lines().last(), Some("      91  w9"));
    }

    #[test]
    fn a_result_without_tabs_is_refused() {
        assert_eq!(most_frequent("the 7\n").unwrap_err().to_string(), "no tab in the result's line \"the 7\"");
    }

    #[test]
    fn the_ready_line_says_where_all_is() {
        let line =
            "Standalone ready: Nimbus at 127.0.0.1:6628, UI at http://127.0.0.1:8080, 4 slots, cluster state: /x, y";
        assert_eq!(addresses(line), Some(("127.0.0.1:6628".to_owned(), "http://127.0.0.1:8080".to_owned())));
        assert_eq!(addresses("error: something"), None);
    }
}
