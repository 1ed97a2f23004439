//! How long things take to start, and how large they are: real executables and processes, measured from outside.
//!
//! Not here: what tuples take. Invariant: whatever a case ends by, the cluster that it started is told to end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use baseline::measure::now;
use rustix::process::{Pid, Signal, kill_process};

use crate::cases::Bench;
use crate::memory::status_mib;
use crate::outcome::{Bound, Check, Outcome, figures, median};
use crate::shape::Shape;

/// The executables that are started.
#[derive(Clone, Debug)]
pub(crate) struct Executables {
    pub(crate) storm: PathBuf,
    /// The example.
    pub(crate) word_count: PathBuf,
}

/// How long something may take that should take a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// Bytes of the executable that is submitted.
const SUBMITTED_BYTES: u64 = 20_000_000;
const NAME: &str = "start";

/// From nothing to the end of a topology of one tuple, in this process.
pub(crate) fn local(case: &str, rounds: u32) -> Result<Outcome> {
    let one = Shape::Hops { hops: 1, tracked: true, tuples: 1 };
    let ms = (0..rounds)
        .map(|_| Ok(one.run(None, None)?.measurement.wall.as_secs_f64() * 1e3))
        .collect::<Result<Vec<_>>>()?;
    let checks = vec![Check::new("local cluster to its only ack and end, ms", median(ms), Bound::AtMost, 100.0)];
    Ok(Outcome::new(case, rounds, checks, figures([])))
}

/// The size of the `storm` executable, without what debuggers need.
pub(crate) fn size(bench: &Bench, case: &str) -> Result<Outcome> {
    let storm = &executables(bench)?.storm;
    let stripped = tempfile::NamedTempFile::new().context("making a temporary file")?;
    let status =
        Command::new("strip").arg("-o").arg(stripped.path()).arg(storm).status().context("starting `strip`")?;
    ensure!(status.success(), "`strip` ended with {status}");
    let mb = |path: &Path| -> Result<f64> { Ok(fs::metadata(path)?.len() as f64 / 1e6) };
    let checks = vec![Check::new("stripped, MB", mb(stripped.path())?, Bound::AtMost, 25.0)];
    Ok(Outcome::new(case, 1, checks, figures([("as_built_mb", mb(storm)?)])))
}

/// A standalone cluster and a topology that is submitted to it.
pub(crate) fn standalone(bench: &Bench, case: &str, rounds: u32) -> Result<Outcome> {
    let executables = executables(bench)?;
    let (mut ready, mut idle, mut acked, mut worker) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let folder = tempfile::Builder::new().prefix("storm-bench-").tempdir().context("making a temporary folder")?;
        let began = now();
        let cluster = Cluster::start(&executables.storm, folder.path())?;
        ready.push(millis(began));
        wait(Duration::from_secs_f64(bench.seconds(2.0)));
        idle.push(status_mib(&cluster.child.id().to_string(), "VmRSS:")?);
        acked.push(cluster.submit(&executables.word_count)?);
        wait(Duration::from_secs_f64(bench.seconds(2.0)));
        worker.push(cluster.worker_mib()?);
        cluster.end()?;
    }
    let checks = vec![
        Check::new("standalone ready, ms", median(ready), Bound::AtMost, 300.0),
        Check::new("submit of 20 MB to all acked, ms", median(acked), Bound::AtMost, 2_000.0),
        Check::new("standalone idle, resident MiB", median(idle), Bound::AtMost, 64.0),
        Check::new("its worker after the input, resident MiB", median(worker), Bound::AtMost, 15.0),
    ];
    Ok(Outcome::new(case, rounds, checks, figures([])))
}

fn executables(bench: &Bench) -> Result<&Executables> {
    bench.executables.as_ref().context(
        "this case starts `storm` and `word-count`, which were not named; run it by `cargo xtask bench`, or give \
         `--storm FILE --word-count FILE`",
    )
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

#[expect(clippy::disallowed_methods, reason = "processes of others are looked at from outside, where nobody wakes")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = now();
    while !is_so()? {
        ensure!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        wait(LOOK);
    }
    Ok(())
}

/// A `storm standalone` of its own.
struct Cluster<'a> {
    storm: &'a Path,
    folder: &'a Path,
    child: Child,
    nimbus: String,
    ended: bool,
}

impl<'a> Cluster<'a> {
    /// Starts it, and waits until it says that it is ready.
    fn start(storm: &'a Path, folder: &'a Path) -> Result<Self> {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
        let slot = held.local_addr()?.port();
        drop(held);
        let settings = serde_json::json!({
            "storm.local.dir": folder.join("local"),
            "storm.log.dir": folder.join("logs"),
            "nimbus.api.port": 0,
            "ui.port": 0,
            "supervisor.slots.ports": [slot],
        });
        let file = folder.join("storm.yaml");
        // JSON is YAML.
        fs::write(&file, settings.to_string()).with_context(|| format!("writing {}", file.display()))?;
        let log = fs::File::create(folder.join("standalone.log")).context("making a log")?;
        let mut command = Command::new(storm);
        command.arg("standalone").arg("--config").arg(&file).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().context("starting storm standalone")?;
        let stdout = child.stdout.take().context("standard output of storm standalone is gone")?;
        let mut cluster = Cluster { storm, folder, child, nimbus: String::new(), ended: false };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("reading what storm standalone says")?;
        let nimbus = line.strip_prefix("Standalone ready: Nimbus at ").and_then(|rest| rest.split_once(", UI at "));
        let Some((nimbus, _)) = nimbus else {
            let log = fs::read_to_string(folder.join("standalone.log")).unwrap_or_default();
            bail!("storm standalone did not become ready: {line}\n{log}");
        };
        cluster.nimbus = nimbus.to_owned();
        Ok(cluster)
    }

    fn storm(&self) -> Command {
        let mut command = Command::new(self.storm);
        command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir(self.folder);
        command
    }

    fn seeds(&self) -> String {
        format!("nimbus.seeds=[\"{}\"]", self.nimbus)
    }

    /// Submits the example, as large as it is said, with a small text; milliseconds until its counts are there, which is
    /// when all lines are acked.
    fn submit(&self, word_count: &Path) -> Result<f64> {
        let (executable, text) = (self.folder.join("word-count"), self.folder.join("text"));
        let counts = self.folder.join("counts");
        fs::copy(word_count, &executable).context("copying the executable")?;
        let file = fs::OpenOptions::new().write(true).open(&executable).context("opening the executable")?;
        // What is behind the end of an ELF file does not matter to it.
        file.set_len(file.metadata()?.len().max(SUBMITTED_BYTES)).context("making the executable larger")?;
        drop(file);
        fs::write(&text, "the cow jumped\nover the moon\n").context("writing a text")?;
        let began = now();
        let mut submit = self.storm();
        submit.arg("submit").arg(&executable).args(["--name", NAME, "-c", &self.seeds(), "--", "--input"]);
        submit.arg(&text).arg("--output").arg(&counts);
        let status = submit.status().context("starting storm submit")?;
        ensure!(status.success(), "storm submit ended with {status}");
        until("the counts of a submitted topology", || Ok(counts.exists()))?;
        let taken = millis(began);
        ensure!(fs::read_to_string(&counts)?.starts_with("the\t2\n"), "the counts are wrong");
        Ok(taken)
    }

    /// Memory of the topology's worker.
    fn worker_mib(&self) -> Result<f64> {
        for process in fs::read_dir("/proc").context("looking at processes")? {
            let process = process?.file_name();
            let process = process.to_string_lossy();
            // Others may end meanwhile.
            let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let mut words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let executable = words.next().unwrap_or_default();
            if Path::new(&*executable).starts_with(self.folder) && words.next().is_some_and(|word| word == "worker") {
                return status_mib(&process, "VmRSS:");
            }
        }
        bail!("there is no worker of an executable below {}", self.folder.display())
    }

    /// Kills the topology, waits until nothing of it runs, and ends the cluster.
    fn end(mut self) -> Result<()> {
        self.kill()?;
        self.terminate()
    }

    fn kill(&self) -> Result<()> {
        let mut kill = self.storm();
        kill.args(["kill", NAME, "-w", "0", "-c", &self.seeds()]);
        let status = kill.status().context("starting storm kill")?;
        ensure!(status.success(), "storm kill ended with {status}");
        until("the end of the worker", || Ok(self.worker_mib().is_err()))
    }

    fn terminate(&mut self) -> Result<()> {
        self.ended = true;
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            kill_process(pid, Signal::TERM).context("ending storm standalone")?;
        }
        let status = self.child.wait().context("waiting until storm standalone ends")?;
        ensure!(status.success(), "storm standalone ended with {status}");
        Ok(())
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // Why it could not be measured is what is told.
            let _ = self.kill();
            let _ = self.terminate();
        }
    }
}
