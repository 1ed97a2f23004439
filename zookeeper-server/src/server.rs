//! One server: its folder, its port, its process.
//!
//! Not here: who ends it (a test's [`ZooKeeper`](crate::ZooKeeper), or `cargo xtask zookeeper stop`). Invariant: it answers only
//! once it is this one that answers, and not another on its port.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::process::Process;
use crate::{append, install};

/// Below those that the system gives to clients: one who tries to connect to a dead server there may connect to itself.
const FREE_PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(50);
/// Looks until a server must answer, or be gone: a minute.
const LOOKS: u32 = 1200;

/// A server by its folder; what runs there is found again by the pid that it notes.
#[derive(Clone, Debug)]
pub struct Server {
    folder: PathBuf,
    port: u16,
    /// Its place in an ensemble, if it belongs to one.
    seat: Option<Seat>,
}

/// A server's place in an ensemble.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// Counts from 1.
    pub(crate) id: usize,
    /// Of all servers, in the order of their ids: the port that the leader's followers connect to, and that of elections.
    pub(crate) ports: Vec<[u16; 2]>,
}

impl Server {
    /// A server with its data in `folder`, on this port of loopback. It is not started.
    pub fn new(folder: PathBuf, port: u16) -> Self {
        Server { folder, port, seat: None }
    }

    /// The server that was last started in `folder`, if there was one.
    pub fn in_folder(folder: PathBuf) -> Option<Self> {
        let configuration = fs::read_to_string(folder.join("zoo.cfg")).ok()?;
        let port = configuration.lines().find_map(|line| line.strip_prefix("clientPort="))?.parse().ok()?;
        Some(Server { folder, port, seat: None })
    }

    /// On a port that nobody listens on now.
    pub(crate) fn on_free_port(folder: PathBuf) -> Result<Self> {
        Ok(Server { folder, port: free_port()?, seat: None })
    }

    /// As a server of an ensemble, on a port that nobody listens on now.
    pub(crate) fn in_ensemble(folder: PathBuf, seat: Seat) -> Result<Self> {
        Ok(Server { folder, port: free_port()?, seat: Some(seat) })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Whether it runs, started by whomever, and answers.
    pub fn answers(&self) -> bool {
        Process::read(&self.pid_file()).is_some() && self.is_the_one_that_answers()
    }

    /// Starts it to run on by itself, and waits until it answers; nothing if it does already. One that was started in its folder
    /// for another port is ended first.
    ///
    /// # Errors
    /// If Java or Maven is missing, its port is taken, or it does not start.
    pub fn start(&self) -> Result<()> {
        if self.answers() {
            return Ok(());
        }
        self.stop()?;
        let mut java = self.spawn()?;
        Process::of(java.id())?.write(&self.pid_file())?;
        let outcome = self.wait_until_it_answers(&mut java);
        if outcome.is_err() {
            self.stop()?;
        }
        outcome
    }

    /// Ends it with SIGTERM, and waits until it is gone; nothing if it does not run.
    ///
    /// # Errors
    /// If the system refuses, or it does not end.
    pub fn stop(&self) -> Result<()> {
        if let Some(process) = Process::read(&self.pid_file()) {
            process.signal(Signal::TERM)?;
            for look in 0.. {
                if !process.runs() {
                    break;
                }
                ensure!(look < LOOKS, "{process:?} did not end on SIGTERM");
                pause();
            }
        }
        match fs::remove_file(self.pid_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.pid_file().display()))
            }
            _ => Ok(()),
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("zookeeper.log")
    }

    /// Starts the process.
    pub(crate) fn spawn(&self) -> Result<Child> {
        let jars = install::jars()?;
        let data = self.folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            bail!("port {} is taken by another process: choose another", self.port);
        }
        let (configuration, logging) = (self.folder.join("zoo.cfg"), self.folder.join("logback.xml"));
        let mut settings = configuration_of(&data, self.port);
        if let Some(seat) = &self.seat {
            write(&data.join("myid"), &format!("{}\n", seat.id))?;
            settings += &seat.settings();
        }
        write(&configuration, &settings)?;
        write(&logging, LOGGING)?;
        let log = append(&self.log())?;
        let mut command = Command::new("java");
        command
            // Small, and quick to start.
            .args(["-Xmx96m", "-Xms16m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"])
            // What a killed process wrote is with the kernel; only a machine that dies needs fsync. Logs grow by 1 MiB.
            .args(["-Dzookeeper.forceSync=no", "-Dzookeeper.preAllocSize=1024"])
            .arg(format!("-Dlogback.configurationFile={}", logging.display()))
            .arg("-cp")
            .arg(format!("{}/*", jars.display()))
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the log")?)
            .stderr(log)
            // Ctrl-C in the terminal is not for it.
            .process_group(0);
        command.spawn().context("starting java")
    }

    pub(crate) fn wait_until_it_answers(&self, java: &mut Child) -> Result<()> {
        for _ in 0..LOOKS {
            if let Some(status) = java.try_wait().context("looking after ZooKeeper")? {
                bail!("ZooKeeper ended with {status} while starting: {}", self.last_words());
            }
            if self.is_the_one_that_answers() {
                return Ok(());
            }
            pause();
        }
        bail!("ZooKeeper did not answer within {} s: {}", (INTERVAL * LOOKS).as_secs(), self.last_words())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let mut errors = log.lines().filter(|line| line.contains("ERROR") || line.contains("Exception"));
        let last = errors.next_back().unwrap_or("no error is logged");
        format!("{last} ({})", self.log().display())
    }

    /// Whether the server on its port has this server's data.
    fn is_the_one_that_answers(&self) -> bool {
        let data = format!("dataDir={}", self.folder.join("data").display());
        self.ask("conf").is_ok_and(|answer| answer.contains(&data))
            && self.ask("srvr").is_ok_and(|it| it.contains("Mode:"))
    }

    /// What it says to a word of four letters, such as `srvr`.
    pub(crate) fn ask(&self, question: &str) -> std::io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        connection.write_all(question.as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Seat {
    /// What an ensemble's `zoo.cfg` has beside that of a lone server; in ticks, 5 s to join and 2 s to stay.
    fn settings(&self) -> String {
        let mut settings = "initLimit=50\nsyncLimit=20\n".to_owned();
        for (at, [follow, elect]) in self.ports.iter().enumerate() {
            settings += &format!("server.{}={}:{follow}:{elect}\n", at + 1, Ipv4Addr::LOCALHOST);
        }
        settings
    }
}

/// A port that nobody listens on now; another one at each call.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = u32::from(FREE_PORTS.end - FREE_PORTS.start);
    for _ in 0..range {
        let turn = std::process::id().wrapping_mul(131).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FREE_PORTS.start + u16::try_from(turn % range).context("a port of the range")?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {} to {} is free", FREE_PORTS.start, FREE_PORTS.end)
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process's state is looked at, and nothing tells when it changes"
)]
fn pause() {
    std::thread::sleep(INTERVAL);
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

const LOGGING: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %-5p [%t:%c{1}] %m%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"#;

fn configuration_of(data: &Path, port: u16) -> String {
    format!(
        "tickTime=100\nminSessionTimeout=200\nmaxSessionTimeout=60000\ndataDir={}\nclientPort={port}\n\
         clientPortAddress={}\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n",
        data.display(),
        Ipv4Addr::LOCALHOST
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_by_its_folder_starts_once_and_stops() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::on_free_port(folder.path().to_owned()).unwrap();
        assert!(!server.answers());
        server.start().unwrap();
        assert!(server.answers());
        let noted = fs::read_to_string(folder.path().join("pid")).unwrap();
        let found = Server::in_folder(folder.path().to_owned()).unwrap();
        assert_eq!((found.address(), found.answers()), (server.address(), true));
        server.start().unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("pid")).unwrap(), noted);
        assert!(Server::in_folder(folder.path().join("other")).is_none());
        let other = Server::new(folder.path().join("other"), server.port);
        let refused = other.start().unwrap_err().to_string();
        assert_eq!(refused, format!("port {} is taken by another process: choose another", server.port));
        assert!(!other.answers());
        server.stop().unwrap();
        assert!(!server.answers());
        server.stop().unwrap();
    }

    #[test]
    fn a_killed_server_comes_back_on_its_port() {
        let mut zookeeper = crate::ZooKeeper::start().unwrap();
        let address = zookeeper.address();
        zookeeper.kill().unwrap();
        assert!(TcpStream::connect(&address).is_err());
        zookeeper.restart().unwrap();
        assert_eq!(zookeeper.address(), address);
        TcpStream::connect(&address).unwrap();
    }
}
