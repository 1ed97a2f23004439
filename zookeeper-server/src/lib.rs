//! A real Apache ZooKeeper for tests: installed on first use, started on loopback, killed, restarted on its data.
//!
//! Not here: what is tested with it, and servers for production. Invariants: a machine without Java or Maven is an error that
//! says so, never a test that is skipped; a test's server does not outlive the test's process.

#![forbid(unsafe_code)]

mod ensemble;
mod install;
mod process;
mod server;

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

pub use ensemble::Ensemble;
pub use install::VERSION;
pub use server::Server;

/// A test's own server with its own data, on a free port of loopback; ended with SIGKILL when it is dropped. Its tick is 100 ms,
/// so sessions may have time-outs from 200 ms up. All calls block.
pub struct ZooKeeper {
    server: Server,
    folder: TempDir,
    running: Option<Running>,
}

struct Running {
    java: Child,
    /// Kills the server and removes its folder when this process ends without a word.
    guard: Child,
}

impl ZooKeeper {
    /// Installs ZooKeeper if it is not there yet, starts it, and waits until it answers.
    ///
    /// # Errors
    /// If Java or Maven is missing, Maven cannot fetch ZooKeeper, or it does not start.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("zookeeper-").context("making a folder for ZooKeeper")?;
        let server = Server::on_free_port(folder.path().to_owned())?;
        let mut zookeeper = ZooKeeper::of(server, folder);
        zookeeper.restart()?;
        Ok(zookeeper)
    }

    fn of(server: Server, folder: TempDir) -> Self {
        ZooKeeper { server, folder, running: None }
    }

    /// `127.0.0.1:PORT`; a restart keeps it.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// Where its data and its log are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Ends it with SIGKILL, if it runs.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(Running { mut java, mut guard }) = self.running.take() {
            java.kill().context("killing ZooKeeper")?;
            java.wait().context("waiting for the end of ZooKeeper")?;
            guard.kill().context("ending ZooKeeper's guard")?;
            guard.wait().context("waiting for the end of ZooKeeper's guard")?;
        }
        Ok(())
    }

    /// Starts it on its data, and waits until it answers. Kills it first if it runs.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_until_it_answers()
    }

    /// What it is now: `leader` or `follower` of an ensemble, or `standalone`.
    ///
    /// # Errors
    /// If it does not answer, or has no part in an ensemble.
    pub fn mode(&self) -> Result<String> {
        self.said("Mode: ")
    }

    /// Counts the changes of its data and of its sessions; an ensemble begins anew with each leader.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn changes(&self) -> Result<u64> {
        let zxid = self.said("Zxid: 0x")?;
        let zxid = u64::from_str_radix(&zxid, 16).with_context(|| format!("`{zxid}` is no transaction id"))?;
        Ok(zxid & u64::from(u32::MAX))
    }

    /// The rest of a line of `srvr`.
    fn said(&self, begin: &str) -> Result<String> {
        let answer = self.server.ask("srvr").context("asking ZooKeeper")?;
        let rest = answer.lines().find_map(|line| line.strip_prefix(begin));
        Ok(rest.with_context(|| format!("ZooKeeper does not say `{begin}`: {answer}"))?.to_owned())
    }

    /// Starts it on its data, without waiting. Kills it first if it runs.
    fn spawn(&mut self) -> Result<()> {
        self.kill()?;
        let java = self.server.spawn()?;
        let guard = Command::new("sh")
            .args(["-c", r#"read _; kill -9 "$1"; rm -rf "$2""#, "guard", &java.id().to_string()])
            .arg(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting ZooKeeper's guard")?;
        self.running = Some(Running { java, guard });
        Ok(())
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let running = self.running.as_mut().context("this ZooKeeper does not run")?;
        let outcome = self.server.wait_until_it_answers(&mut running.java);
        if outcome.is_err() {
            self.kill()?;
        }
        outcome
    }

    /// Stops it with SIGSTOP: connections stay, nothing answers.
    ///
    /// # Errors
    /// If it does not run, or the system refuses.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends [`pause`](Self::pause).
    ///
    /// # Errors
    /// If it does not run, or the system refuses.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let running = self.running.as_ref().context("this ZooKeeper does not run")?;
        process::Process::of(running.java.id())?.signal(signal)
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// Opens the log of a server for appending.
fn append(path: &std::path::Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    ensure!(file.metadata().is_ok_and(|file| file.is_file()), "{} is no file", path.display());
    Ok(file)
}
