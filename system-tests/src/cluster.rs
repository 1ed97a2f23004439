//! Starts daemons as real processes on ports and in folders of their own, and ends them by pid.
//!
//! Not here: what is done to them (`tests/it`). Invariant: when a [`Cluster`] is dropped no process is left whose working
//! folder lies below the cluster's own, and its folder is gone.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nimbus_api::client::Client;
use nimbus_api::topology::Topology;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long anything may take before a test gives up on it: far above what it should take on a busy machine, and above the minute
/// between two looks for old logs.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Where test ports lie: below those that the kernel gives to connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The executables under test.
pub struct Executables {
    /// The `storm` command.
    pub storm: PathBuf,
    /// The example.
    pub word_count: PathBuf,
    /// [`fault_topology`](crate::fault_topology).
    pub fault: PathBuf,
}

/// Builds the executables, once for each test process, as cargo builds those of this package alone.
///
/// # Errors
/// If cargo fails.
pub fn executables() -> Result<&'static Executables> {
    static BUILT: OnceLock<Result<Executables, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> Result<Executables> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "cli",
        "--package",
        "word-count",
        "--package",
        "system-tests",
        "--bins",
    ]);
    // A test's executable lies in TARGET/PROFILE/deps, the others in TARGET/PROFILE.
    let own = std::env::current_exe().context("looking for the own executable")?;
    let folder = own.parent().context("the own executable lies in no target folder")?;
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let target = profile.parent().context("the own executable lies in no target folder")?;
    cargo.env("CARGO_TARGET_DIR", target).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    ensure!(cargo.status().context("starting cargo")?.success(), "cargo could not build the executables under test");
    let executable = |name: &str| profile.join(name);
    Ok(Executables {
        storm: executable("storm"),
        word_count: executable("word-count"),
        fault: executable("fault-topology"),
    })
}

/// A port that no other test has, for as long as this lives.
pub struct ClaimedPort {
    /// The port.
    pub port: u16,
    _claim: File,
}

/// Claims a free port of loopback.
///
/// # Errors
/// If there is none.
pub fn claim_port() -> Result<ClaimedPort> {
    let folder = std::env::temp_dir().join("storm-test-ports");
    fs::create_dir_all(&folder).context("making a folder for claims of ports")?;
    // Different processes begin at different places, so they seldom meet.
    let span = u32::from(PORTS.end - PORTS.start);
    let begin = std::process::id().wrapping_mul(97) % span;
    for step in 0..span {
        let port = PORTS.start + ((begin + step) % span) as u16;
        let claim = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(port.to_string()))?;
        let is_ours = claim.try_lock().is_ok();
        if is_ours && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(ClaimedPort { port, _claim: claim });
        }
    }
    bail!("no port of {PORTS:?} is free")
}

/// One daemon.
pub struct Daemon {
    /// What it is started with, after `storm`.
    arguments: Vec<String>,
    /// Its `storm.yaml` lies here, and its output.
    pub folder: PathBuf,
    /// Variables that it is started with, beside those of the test.
    pub environment: BTreeMap<&'static str, &'static str>,
    child: Option<Child>,
}

impl Daemon {
    /// Starts it, if it does not run.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let output = OpenOptions::new().create(true).append(true).open(self.folder.join("output.log"))?;
        let child = Command::new(&executables()?.storm)
            .args(&self.arguments)
            .envs(&self.environment)
            .env("STORM_CONF_DIR", &self.folder)
            .env("HOME", &self.folder)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting storm {}", self.arguments.join(" ")))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pid(&self) -> Result<u32> {
        self.child.as_ref().map(Child::id).with_context(|| format!("storm {} does not run", self.arguments.join(" ")))
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("killing a daemon")?;
            child.wait().context("waiting for a daemon")?;
        }
        Ok(())
    }

    /// What it wrote.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.join("output.log")).unwrap_or_default()
    }
}

/// A cluster on this machine: daemons, each with a folder of its own.
pub struct Cluster {
    /// Everything lies below it.
    pub folder: PathBuf,
    _temporary: TempDir,
    /// Nimbus and Supervisors by name, or `standalone`.
    pub daemons: BTreeMap<String, Daemon>,
    /// Asks the Nimbuses.
    pub client: Client,
    /// The port of the first Nimbus's API.
    pub api_port: u16,
    /// The ports of all of them: `nimbus` or `standalone` has the first, `nimbus-2` the second, and so on.
    pub api_ports: Vec<u16>,
    /// The port of the UI, if there is one.
    pub ui_port: u16,
    conf: BTreeMap<String, serde_json::Value>,
    claims: Vec<ClaimedPort>,
}

impl Cluster {
    /// A cluster without daemons, for one Nimbus; `conf` stands in every `storm.yaml`.
    ///
    /// # Errors
    /// If no folder or port is to be had.
    pub fn new(conf: &[(&str, serde_json::Value)]) -> Result<Cluster> {
        Cluster::of(1, conf)
    }

    /// A cluster without daemons, for so many Nimbuses; all of them stand in `nimbus.seeds`.
    ///
    /// # Errors
    /// If no folder or port is to be had.
    pub fn of(nimbuses: usize, conf: &[(&str, serde_json::Value)]) -> Result<Cluster> {
        let temporary = tempfile::Builder::new().prefix("storm-").tempdir().context("making a folder")?;
        let ui = claim_port()?;
        let ui_port = ui.port;
        let mut claims = (0..nimbuses).map(|_| claim_port()).collect::<Result<Vec<_>>>()?;
        let api_ports: Vec<u16> = claims.iter().map(|claim| claim.port).collect();
        claims.push(ui);
        let seeds: Vec<String> = api_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let api_port = *api_ports.first().context("a cluster has a Nimbus")?;
        let mut all: BTreeMap<String, serde_json::Value> =
            conf.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        all.insert("nimbus.seeds".to_owned(), seeds.clone().into());
        all.insert("nimbus.api.port".to_owned(), api_port.into());
        all.insert("ui.port".to_owned(), ui_port.into());
        Ok(Cluster {
            folder: temporary.path().to_owned(),
            _temporary: temporary,
            daemons: BTreeMap::new(),
            client: Client::new(seeds),
            api_port,
            api_ports,
            ui_port,
            conf: all,
            claims,
        })
    }

    /// Everything in one process, with `slots` slots, ready.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn standalone(slots: usize, conf: &[(&str, serde_json::Value)]) -> Result<Cluster> {
        let mut cluster = Cluster::new(conf)?;
        cluster.add("standalone", &["standalone"], slots)?;
        cluster.start("standalone").await?;
        Ok(cluster)
    }

    /// Adds a daemon, without starting it; `slots` is for Supervisors.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub fn add(&mut self, name: &str, arguments: &[&str], slots: usize) -> Result<()> {
        self.add_with(name, arguments, slots, &[])
    }

    /// As [`add`](Self::add); `own` stands in its `storm.yaml` alone.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub fn add_with(
        &mut self,
        name: &str,
        arguments: &[&str],
        slots: usize,
        own: &[(&str, serde_json::Value)],
    ) -> Result<()> {
        let folder = self.folder.join(name);
        fs::create_dir(&folder)?;
        let mut conf = self.conf.clone();
        let mut ports = Vec::new();
        for _ in 0..slots {
            let claim = claim_port()?;
            ports.push(claim.port);
            self.claims.push(claim);
        }
        if slots > 0 {
            conf.insert("supervisor.slots.ports".to_owned(), ports.into());
        }
        if let Some(port) = self.api_port_of(name) {
            conf.insert("nimbus.api.port".to_owned(), port.into());
        }
        conf.extend(own.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        conf.insert("storm.local.dir".to_owned(), folder.join("local").display().to_string().into());
        conf.insert("storm.log.dir".to_owned(), folder.join("logs").display().to_string().into());
        // JSON is YAML.
        let yaml: String = conf.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        fs::write(folder.join("storm.yaml"), yaml)?;
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.daemons.insert(name.to_owned(), Daemon { arguments, folder, environment: BTreeMap::new(), child: None });
        Ok(())
    }

    /// The port of a Nimbus's API by the daemon's name; `None` if it is no Nimbus.
    pub fn api_port_of(&self, name: &str) -> Option<u16> {
        let at = match name {
            "nimbus" | "standalone" => 1,
            name => name.strip_prefix("nimbus-")?.parse::<usize>().ok()?,
        };
        self.api_ports.get(at.checked_sub(1)?).copied()
    }

    /// The name of the Nimbus that leads, if those that answer know one.
    pub async fn leader(&self) -> Option<String> {
        let cluster = self.client.cluster().await.ok()?;
        let port = cluster.nimbuses.iter().find(|nimbus| nimbus.leads)?.port;
        self.daemons.keys().find(|name| self.api_port_of(name) == Some(port)).cloned()
    }

    /// A daemon by its name.
    ///
    /// # Panics
    /// If there is none.
    pub fn daemon(&mut self, name: &str) -> &mut Daemon {
        self.daemons.get_mut(name).expect("the test has added it")
    }

    /// Starts a daemon, and waits until Nimbus counts it.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start(&mut self, name: &str) -> Result<()> {
        self.daemon(name).start()?;
        let own = self.api_port_of(name);
        let asked = own.map_or_else(|| self.client.clone(), |port| Client::new(vec![format!("127.0.0.1:{port}")]));
        let pid = self.daemon(name).pid()?;
        let waited = self
            .wait(&format!("{name} (process {pid}) is ready"), async |cluster| {
                let summary = asked.cluster().await.ok()?;
                let leads = summary.nimbuses.iter().any(|nimbus| nimbus.leads);
                let is_counted = own.is_none_or(|port| summary.nimbuses.iter().any(|nimbus| nimbus.port == port));
                let supervisors = cluster.daemons.iter().filter(|(name, daemon)| {
                    daemon.child.is_some() && (name.starts_with("supervisor") || *name == "standalone")
                });
                let available = summary.machines.iter().filter(|one| (one.available || one.drained) && !one.dead);
                let are_there = name.starts_with("nimbus") || available.count() >= supervisors.count();
                (leads && is_counted && are_there).then_some(())
            })
            .await;
        waited.with_context(|| self.daemons.get(name).map(Daemon::output).unwrap_or_default())
    }

    /// Runs `storm` with these arguments as a user would, and gives what it printed on standard output.
    ///
    /// # Errors
    /// If it ends with another number than 0: with all it printed.
    pub fn storm(&self, arguments: &[&str]) -> Result<String> {
        let (status, stdout, stderr) = self.storm_output(arguments)?;
        ensure!(status == 0, "storm {} ended with {status}:\n{stdout}\n{stderr}", arguments.join(" "));
        Ok(stdout)
    }

    /// As [`Cluster::storm`], once more while it ends with 69: no Nimbus leads, or ZooKeeper was too slow for a busy machine.
    ///
    /// # Errors
    /// As [`Cluster::storm`], and if it goes on for [`PATIENCE`].
    pub async fn storm_once_led(&self, arguments: &[&str]) -> Result<String> {
        let what = format!("a Nimbus leads for storm {}", arguments.join(" "));
        let ended = self.wait(&what, async |cluster| match cluster.storm_output(arguments) {
            Ok((69, ..)) => None,
            ended => Some(ended),
        });
        let (status, stdout, stderr) = ended.await??;
        ensure!(status == 0, "storm {} ended with {status}:\n{stdout}\n{stderr}", arguments.join(" "));
        Ok(stdout)
    }

    /// As [`Cluster::storm`], with exit code, standard output and standard error.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn storm_output(&self, arguments: &[&str]) -> Result<(i32, String, String)> {
        let output = self.storm_command(arguments)?.output().context("starting storm")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr)))
    }

    /// `storm` with these arguments, as [`Cluster::storm`] runs it, for one that goes on.
    ///
    /// # Errors
    /// If the executables cannot be built.
    pub fn storm_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(&executables()?.storm);
        command
            .args(arguments)
            .env("STORM_NIMBUS_SEEDS", self.conf["nimbus.seeds"].to_string())
            .env("HOME", &self.folder)
            .env("STORM_CONF_DIR", &self.folder)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Submits the fault topology; its evidence goes to the folder that is given back.
    ///
    /// # Errors
    /// If it is refused.
    pub fn submit_fault(&self, name: &str, workers: u16, lines: u64, rate: u64) -> Result<PathBuf> {
        self.submit_fault_with(name, workers, &["--lines", &lines.to_string(), "--rate", &rate.to_string()])
    }

    /// As [`submit_fault`](Self::submit_fault), with these [arguments](crate::fault_topology::Args) beside the folder.
    ///
    /// # Errors
    /// If it is refused.
    pub fn submit_fault_with(&self, name: &str, workers: u16, arguments: &[&str]) -> Result<PathBuf> {
        let evidence = self.folder.join(format!("evidence-{name}"));
        fs::create_dir(&evidence)?;
        let executable = executables()?.fault.display().to_string();
        let workers = format!("topology.workers={workers}");
        let folder = evidence.display().to_string();
        let submit = ["submit", &executable, "--name", name, "-c", &workers, "--", "--folder", &folder];
        self.storm(&[&submit, arguments].concat())?;
        Ok(evidence)
    }

    /// A topology as Nimbus sees it.
    ///
    /// # Errors
    /// If Nimbus does not say.
    pub async fn topology(&self, name: &str) -> Result<Topology> {
        Ok(self.client.topology(name).await?)
    }

    /// Pids of a topology's workers, by index, as far as they are known.
    ///
    /// # Errors
    /// If Nimbus does not say.
    pub async fn pids(&self, name: &str) -> Result<BTreeMap<u16, u32>> {
        let workers = self.topology(name).await?.workers;
        Ok(workers.iter().filter_map(|worker| Some((worker.worker.0, worker.pid?))).collect())
    }

    /// Waits until `condition` gives something.
    ///
    /// # Errors
    /// If it does not within [`PATIENCE`].
    pub async fn wait<T>(&self, what: &str, mut condition: impl AsyncFnMut(&Cluster) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = condition(self).await {
                return Ok(value);
            }
            ensure!(Instant::now() < deadline, "gave up after {} s: {what}", PATIENCE.as_secs());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Processes whose working folder lies below the cluster's: workers and keepers among them.
    pub fn processes(&self) -> Vec<u32> {
        processes_below(&self.folder)
    }
}

/// Signals a process that belongs to a cluster.
///
/// # Errors
/// If there is none.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid as i32).context("a pid above zero")?;
    kill_process(pid, signal).with_context(|| format!("signalling process {pid:?}"))
}

/// The command line of a process, as `ps` shows it; empty if there is none.
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Whether a process exists and is no zombie.
pub fn lives(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

fn processes_below(folder: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let below = |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    pids.filter(below).filter(|pid| lives(*pid)).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in self.daemons.values_mut() {
            // The rest is to be ended all the same.
            let _ = daemon.kill();
        }
        // Keepers and workers outlive daemons; a killed keeper's worker shows in the next round.
        for _ in 0..3 {
            for pid in processes_below(&self.folder) {
                let _: Result<(), _> = signal(pid, Signal::KILL).map_err(|_| io::Error::other("gone"));
            }
        }
    }
}

/// `GET http://127.0.0.1:PORT/PATH`, as JSON.
///
/// # Errors
/// If nothing answers, or not with JSON.
pub async fn get_json(port: u16, path: &str) -> Result<serde_json::Value> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    // HTTP/1.0: the reply ends with the connection, and comes in one piece.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).with_context(|| format!("GET {path} was answered with {reply}"))
}
