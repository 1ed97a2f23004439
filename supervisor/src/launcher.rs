//! Starting a worker: a keeper for each, which starts it, waits for it and writes how it ended.
//!
//! Not here: when to start one (`slot`), the keeper's own work (`keeper`). Invariants: a slot's lock is held as long as its
//! keeper or its worker lives, and into a held slot nothing is started, whoever died between what; no keeper stays behind as
//! a zombie.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use worker_api::ids::{Incarnation, Port, TopologyId};

use crate::keeper::{Answer, END_FILE, LOCK_FILE};

pub use crate::keeper::End;

/// Variables of the Supervisor's own environment that a worker gets; `LC_…` too. All others stay here.
const PASSED_ON: [&str; 8] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "RUST_BACKTRACE", "RUST_LOG"];

/// Bytes of a keeper's answer that are read.
const ANSWER_BYTES: u64 = 16 << 10;

/// What to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// The slot's folder, on a local file system: its lock, the keeper's record and the worker's end lie there.
    pub slot_folder: PathBuf,
    /// The worker's folder: its current one, where its launch file lies.
    pub work_folder: PathBuf,
    /// The topology's executable.
    pub executable: PathBuf,
    /// The submission.
    pub topology: TopologyId,
    /// The slot.
    pub port: Port,
    /// Which start of the slot's worker this is.
    pub incarnation: Incarnation,
    /// Variables beside the few of the machine that every worker gets; these go before those.
    pub environment: BTreeMap<String, String>,
    /// Standard output and error are appended to it; its folder is made if it is not there.
    pub log: PathBuf,
}

/// Starts workers.
#[derive(Clone, Debug)]
pub struct Launcher {
    keeper: PathBuf,
}

impl Launcher {
    /// `keeper` is the executable that is a keeper when its first argument is `keeper`: `storm`.
    pub fn new(keeper: PathBuf) -> Self {
        Launcher { keeper }
    }

    /// Starts a keeper and, by it, `EXECUTABLE worker TOPOLOGY-ID PORT`. Returns when that runs and the slot is held, or
    /// why it does not and nothing is left of it. The end of the slot's worker before is then gone.
    ///
    /// It has no limit of time of its own: the keeper answers within a second unless a disk stands still. Dropped meanwhile, the
    /// start goes on, and [`is_held`](Launcher::is_held) tells what came of it.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn start(&self, start: &Start) -> Result<(), LaunchError> {
        let environment = environment(std::env::vars_os(), &start.environment)?;
        let silent =
            |found| LaunchError::Keeper { keeper: self.keeper.clone(), slot_folder: start.slot_folder.clone(), found };
        let keeper = |error: io::Error| {
            let remedy = error.raw_os_error().and_then(remedy);
            silent(remedy.map_or_else(|| error.to_string(), str::to_owned))
        };
        let mut command = tokio::process::Command::new(absolute(&self.keeper).map_err(keeper)?);
        command.arg("keeper");
        for path in [&start.slot_folder, &start.work_folder, &start.executable, &start.log] {
            command.arg(absolute(path).map_err(keeper)?);
        }
        command.args([start.topology.to_string(), start.port.to_string(), start.incarnation.to_string()]);
        // One pipe for both: what the system's loader has to say about a keeper that it cannot load is part of the answer.
        let (answer, writer) = io::pipe().map_err(keeper)?;
        command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(keeper)?).stderr(writer);
        command.env_clear().envs(environment).current_dir("/");
        let mut child = command.spawn().map_err(keeper)?;
        drop(command);
        let mut said = Vec::new();
        let answer = Receiver::from_owned_fd(answer.into()).map_err(keeper)?;
        answer.take(ANSWER_BYTES).read_to_end(&mut said).await.map_err(keeper)?;
        let Ok(answer) = serde_json::from_slice(&said) else {
            let said = String::from_utf8_lossy(&said);
            let how = match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            let found = match said.trim() {
                "" => format!("it ended without a word ({how})"),
                said => format!("it ended ({how}) and said `{said}`"),
            };
            return Err(silent(found));
        };
        // Its end is heard of by its record; this only takes it off the process table.
        tokio::spawn(async move { child.wait().await });
        match answer {
            Answer::Started => Ok(()),
            Answer::Held { pid } => Err(LaunchError::SlotHeld { slot_folder: start.slot_folder.clone(), pid }),
            Answer::CannotRun { errno } => Err(LaunchError::Executable {
                executable: start.executable.clone(),
                why: why_not_run(errno, &start.executable),
            }),
            Answer::Failed { attempted, errno, found } => {
                Err(LaunchError::Machine { attempted, found: errno.and_then(remedy).map_or(found, str::to_owned) })
            }
        }
    }

    /// Whether a keeper or a worker has the slot.
    ///
    /// # Errors
    /// If the lock cannot be looked at. A folder or a lock that is not there is held by nobody.
    pub fn is_held(slot_folder: &Path) -> io::Result<bool> {
        let lock = match File::open(slot_folder.join(LOCK_FILE)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // Shared and for an instant: a keeper that comes just then tries again.
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// How the slot's last worker ended; it stays on disk until the slot's next start.
///
/// A keeper that was killed writes none: a slot that is not held, without an end of the incarnation that it had, says just that.
///
/// # Errors
/// If it cannot be read, or is of another format. That there is none is no error.
pub fn take_end(slot_folder: &Path) -> io::Result<Option<End>> {
    End::read(&slot_folder.join(END_FILE))
}

/// Why a worker was not started. In each case nothing of it runs.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Another keeper or worker has the slot.
    #[error(
        "the slot {} is held{}, so nothing was started in it; it is free when that worker and its keeper have ended",
        .slot_folder.display(), by(.pid)
    )]
    SlotHeld {
        /// The slot.
        slot_folder: PathBuf,
        /// The worker that has it, if its keeper's record says.
        pid: Option<u32>,
    },
    /// The executable does not run on this machine: trying again does not help.
    #[error("cannot run the executable {}: {why}", .executable.display())]
    Executable {
        /// Which.
        executable: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// A variable that no process can be given.
    #[error("cannot give the worker the environment variable `{name}`: {why}")]
    Environment {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The machine lacks something: disk, processes, a permission.
    #[error("cannot {attempted}: {found}")]
    Machine {
        /// What the keeper was about to do.
        attempted: String,
        /// What it met, and what to do.
        found: String,
    },
    /// The keeper itself did not run, or did not answer.
    #[error("cannot start {} as the keeper of the slot {}: {found}", .keeper.display(), .slot_folder.display())]
    Keeper {
        /// Its executable.
        keeper: PathBuf,
        /// The slot.
        slot_folder: PathBuf,
        /// What was seen of it.
        found: String,
    },
}

fn by(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

/// The few variables of this machine, and over them the given ones.
fn environment(
    machine: impl Iterator<Item = (OsString, OsString)>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<OsString, OsString>, LaunchError> {
    let passed_on =
        |name: &OsString| name.to_str().is_some_and(|name| PASSED_ON.contains(&name) || name.starts_with("LC_"));
    let mut variables: BTreeMap<_, _> = machine.filter(|(name, _)| passed_on(name)).collect();
    for (name, value) in given {
        let bad = |why| LaunchError::Environment { name: name.escape_default().to_string(), why };
        match () {
            () if name.is_empty() => return Err(bad("its name is empty")),
            () if name.contains('=') => return Err(bad("its name has a `=`")),
            () if name.contains('\0') || value.contains('\0') => return Err(bad("it has a zero byte")),
            () => variables.insert(name.into(), value.into()),
        };
    }
    Ok(variables)
}

/// What an error of the system means for who runs the machine, where its own text does not say.
fn remedy(errno: i32) -> Option<&'static str> {
    Some(match Errno::from_raw_os_error(errno) {
        Errno::NOSPC => "the disk is full; make room on it",
        Errno::DQUOT => "the disk quota of this user is used up; make room, or raise it",
        Errno::ROFS => "the file system is read-only; look into the kernel's log for why",
        Errno::AGAIN => "there are too many processes; raise `ulimit -u`, or the limit of the service (TasksMax)",
        Errno::NOMEM => "the machine has no memory left for another process",
        Errno::MFILE | Errno::NFILE => "there are too many open files; raise `ulimit -n`",
        Errno::TOOBIG => "its arguments and environment are too large together; make `topology.environment` smaller",
        _ => return None,
    })
}

/// Why the system would not run it.
fn why_not_run(errno: i32, executable: &Path) -> String {
    if let Some(remedy) = remedy(errno) {
        return remedy.to_owned();
    }
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT if executable.exists() => {
            "the program loader that it names is not on this machine; build it for this system's C library, or statically".to_owned()
        }
        Errno::NOENT => "it is not there; the topology's executable has to be fetched again".to_owned(),
        Errno::ACCESS | Errno::PERM => {
            "permission denied; it must be executable for this user, its folders searchable, its file system not mounted with noexec".to_owned()
        }
        Errno::TXTBSY => "it is still being written".to_owned(),
        Errno::NOEXEC => match (Platform::of(executable), Platform::of(Path::new("/proc/self/exe"))) {
            (Ok(Some(found)), Ok(Some(ours))) if found != ours => {
                format!("it is built for {found}, and this machine is {ours}; build the topology for {ours}")
            }
            (Ok(Some(_)), _) => "its file is damaged; submit the topology again".to_owned(),
            (Ok(None), _) => "it is not an executable of Linux; submit what `cargo build` made".to_owned(),
            (Err(error), _) => format!("it is not an executable of Linux, and cannot be read: {error}"),
        },
        error => error.to_string(),
    }
}

/// What an executable is built for, out of its ELF header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Platform {
    bits: u8,
    big_endian: bool,
    machine: u16,
}

impl Platform {
    /// `None` if it is no ELF file.
    fn of(path: &Path) -> io::Result<Option<Platform>> {
        let mut header = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(File::open(path)?, 20), &mut header)?;
        Ok(Platform::of_header(&header))
    }

    fn of_header(header: &[u8]) -> Option<Platform> {
        let rest = header.strip_prefix(b"\x7fELF")?;
        let machine = [*rest.get(14)?, *rest.get(15)?];
        let big_endian = rest[1] == 2;
        Some(Platform {
            bits: if rest[0] == 1 { 32 } else { 64 },
            big_endian,
            machine: if big_endian { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) },
        })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.machine, self.big_endian) {
            (3, false) => f.write_str("x86"),
            (62, false) => f.write_str("x86-64"),
            (40, false) => f.write_str("arm"),
            (183, false) => f.write_str("aarch64"),
            (243, false) => write!(f, "riscv{}", self.bits),
            (21, false) => f.write_str("ppc64le"),
            (22, true) => f.write_str("s390x"),
            (258, false) => write!(f, "loongarch{}", self.bits),
            (machine, big_endian) => {
                let order = if big_endian { "big" } else { "little" };
                write!(f, "ELF machine {machine} ({} bits, {order}-endian)", self.bits)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_variables_are_passed_on_and_given_ones_go_first() {
        let machine = [("PATH", "/bin"), ("LC_ALL", "C"), ("HOME", "/root"), ("AWS_SECRET", "x"), ("LD_PRELOAD", "y")];
        let machine = || machine.into_iter().map(|(name, value)| (name.into(), value.into()));
        let given = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let variables = environment(machine(), &given("HOME", "/elsewhere")).unwrap();
        let expected = [("HOME", "/elsewhere"), ("LC_ALL", "C"), ("PATH", "/bin")];
        assert_eq!(variables, expected.map(|(name, value)| (name.into(), value.into())).into());
        for (name, value, refused) in [
            ("", "1", "cannot give the worker the environment variable ``: its name is empty"),
            ("A=B", "1", "cannot give the worker the environment variable `A=B`: its name has a `=`"),
            ("A", "\0", "cannot give the worker the environment variable `A`: it has a zero byte"),
            ("A\n\0", "1", "cannot give the worker the environment variable `A\\n\\u{0}`: it has a zero byte"),
        ] {
            assert_eq!(environment(machine(), &given(name, value)).unwrap_err().to_string(), refused);
        }
    }

    #[test]
    fn what_the_machine_lacks_comes_with_what_to_do() {
        let app = Path::new("/there/is/no/app");
        for (errno, why) in [
            (Errno::NOSPC, "the disk is full; make room on it"),
            (Errno::AGAIN, "there are too many processes; raise `ulimit -u`, or the limit of the service (TasksMax)"),
            (Errno::MFILE, "there are too many open files; raise `ulimit -n`"),
            (Errno::NOENT, "it is not there; the topology's executable has to be fetched again"),
            (Errno::LOOP, "Too many levels of symbolic links (os error 40)"),
        ] {
            assert_eq!(why_not_run(errno.raw_os_error(), app), why);
        }
    }

    #[test]
    fn a_header_tells_the_platform() {
        let header = |bits: u8, order: u8, machine: [u8; 2]| {
            let mut header = b"\x7fELF".to_vec();
            header.extend([bits, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
            header.extend(machine);
            Platform::of_header(&header).unwrap().to_string()
        };
        assert_eq!(header(2, 1, [62, 0]), "x86-64");
        assert_eq!(header(2, 1, [183, 0]), "aarch64");
        assert_eq!(header(2, 1, [243, 0]), "riscv64");
        assert_eq!(header(2, 2, [0, 22]), "s390x");
        assert_eq!(header(1, 2, [0, 4]), "ELF machine 4 (32 bits, big-endian)");
        assert_eq!(Platform::of_header(b"\x7fELF\x02\x01"), None);
        assert_eq!(Platform::of_header(b"#!/bin/sh\n"), None);
    }
}
