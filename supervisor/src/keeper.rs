//! The keeper of one worker (`storm keeper`): holds its slot's lock, starts it, waits for it, and writes how it ended.
//!
//! It leads a session of its own and has nothing of the Supervisor's, so that neither the Supervisor's end nor a Ctrl-C at its
//! terminal reaches keeper or worker. The worker has the lock as its standard input: the same open file, so the slot is held
//! until both have ended, even if the keeper is killed. A killed keeper's worker goes on, and nobody writes how it ends.
//!
//! What user code started in the worker ends with it: what is left of the worker's process group is killed. Who left the group, by
//! `setsid` or `setpgid`, is his own affair, and so are the children of a worker whose keeper was killed before it.
//!
//! In the slot's folder: [`LOCK_FILE`], [`RECORD_FILE`] (who runs), [`END_FILE`] (how the last one ended).
//!
//! Not here: what is started and when (`launcher`, `slot`), rotating the log (the worker). Invariants: when the lock is free, the
//! end is written or never will be; nothing is started before the lock is held; the keeper ends soon after its worker, even if
//! the disk is full. No tokio, no threads: there is one for each worker, and it shall weigh nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use worker_api::ids::{Incarnation, Port, TopologyId};

use crate::process::{Seen, boot_id};

/// Locked by keeper and worker as long as one of them lives.
pub const LOCK_FILE: &str = "lock";
/// Who runs in the slot, or ran last.
pub const RECORD_FILE: &str = "keeper.json";
/// How the slot's last worker ended; gone with the next start.
pub const END_FILE: &str = "end.json";
/// The number of the format of both. Another one is refused.
pub const KEEPER_FORMAT: u32 = 1;

/// Last lines of a log that are kept.
pub const LAST_LINES: usize = 20;
/// Bytes of them.
pub const LAST_LINES_BYTES: usize = 8 << 10;
/// Bytes at the end of a log that are looked through for a panic.
const TAIL_BYTES: u64 = 64 << 10;
/// Bytes of a panic's text, or of the log's last line, in a cause.
const CAUSE_BYTES: usize = 500;

/// How often the lock is tried: who looks whether it is held has it for an instant.
const LOCK_TRIES: u32 = 10;
/// How often an executable is tried that is open for writing. It is complete, but while another thread of who wrote it starts
/// a process, that one has it open for an instant.
const BUSY_TRIES: u32 = 10;
/// How often the end is written before it is given up.
const END_TRIES: u32 = 10;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Which start of the slot's worker it was.
    pub incarnation: Incarnation,
    /// When, in milliseconds since 1970 on the machine's clock.
    pub ended_ms: u64,
    /// How long it had lived, in milliseconds.
    pub lived_ms: u64,
    /// Why, in a sentence.
    pub cause: String,
    /// The last lines of its log that it wrote itself: at most [`LAST_LINES`] of [`LAST_LINES_BYTES`] together.
    pub last_lines: Vec<String>,
}

impl End {
    pub(crate) fn read(path: &Path) -> io::Result<Option<End>> {
        read(path)
    }
}

/// What the keeper writes when its worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) topology: TopologyId,
    pub(crate) port: Port,
    pub(crate) incarnation: Incarnation,
    /// The start of the machine that it holds for.
    pub(crate) boot: String,
    pub(crate) keeper: Seen,
    pub(crate) worker: Seen,
}

impl Record {
    pub(crate) fn read(slot_folder: &Path) -> io::Result<Option<Record>> {
        read(&slot_folder.join(RECORD_FILE))
    }
}

/// What a keeper tells who started it, as JSON on its standard output; then it closes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// The worker runs.
    Started,
    /// Another one has the slot: this one, if it says.
    Held { pid: Option<u32> },
    /// The system refused to run the executable.
    CannotRun { errno: i32 },
    /// Something else failed; nothing runs.
    Failed { attempted: String, errno: Option<i32>, found: String },
}

/// What is in a file of the slot's folder.
#[derive(Serialize, Deserialize)]
struct Filed<T> {
    format: u32,
    #[serde(flatten)]
    content: T,
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bad = |found: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {found}", path.display()));
    let Format { format } = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    worker_api::check_format("keeper's file", KEEPER_FORMAT, format).map_err(|error| bad(error.to_string()))?;
    let filed: Filed<T> = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    Ok(Some(filed.content))
}

/// Puts it there whole or not at all.
fn write<T: Serialize>(path: &Path, content: T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(&Filed { format: KEEPER_FORMAT, content })?;
    bytes.push(b'\n');
    let new = path.with_extension("json.new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&new, path)).inspect_err(|_| {
        // Half a file would only take room on a full disk.
        let _ = fs::remove_file(&new);
    })
}

/// The role `keeper`. `arguments` are those behind that word:
/// `SLOT-FOLDER WORK-FOLDER EXECUTABLE LOG TOPOLOGY-ID PORT INCARNATION`; the worker gets the keeper's environment.
///
/// Says on standard output whether the worker runs, lets go of it, and returns when the worker has ended and how is written.
/// The code is not 0 if nothing was started, or the end could not be written.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(orders) = Orders::parse(&arguments.collect::<Vec<_>>()) else {
        let usage = "storm keeper: a Supervisor starts it, with SLOT-FOLDER WORK-FOLDER EXECUTABLE LOG TOPOLOGY-ID PORT INCARNATION; \
             the Supervisor and this executable may be of different versions: restart the Supervisor";
        let _ = writeln!(io::stderr(), "{usage}");
        return ExitCode::from(2);
    };
    let kept = match orders.start() {
        Ok(kept) => kept,
        Err(answer) => {
            tell(&answer);
            return ExitCode::FAILURE;
        }
    };
    tell(&Answer::Started);
    detach();
    match kept.wait() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn tell(answer: &Answer) {
    if let Ok(answer) = serde_json::to_vec(answer) {
        // Who asked may be gone; the worker goes on.
        let _ = io::stdout().write_all(&answer).and_then(|()| io::stdout().flush());
    }
}

/// Closes the way to who started it, which is how that one knows that the answer is whole.
fn detach() {
    if let Ok(nothing) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&nothing);
        let _ = rustix::stdio::dup2_stderr(&nothing);
    }
}

struct Orders {
    slot_folder: PathBuf,
    work_folder: PathBuf,
    executable: PathBuf,
    log: PathBuf,
    topology: TopologyId,
    port: Port,
    incarnation: Incarnation,
}

/// Makes the answer out of an error: what was attempted, what was found.
fn failed<E: Into<io::Error>>(attempted: impl Into<String>) -> impl FnOnce(E) -> Answer {
    let attempted = attempted.into();
    |error| {
        let error = error.into();
        Answer::Failed { attempted, errno: error.raw_os_error(), found: error.to_string() }
    }
}

impl Orders {
    fn parse(arguments: &[OsString]) -> Option<Orders> {
        let [slot_folder, work_folder, executable, log, topology, port, incarnation] = arguments else {
            return None;
        };
        Some(Orders {
            slot_folder: slot_folder.into(),
            work_folder: work_folder.into(),
            executable: executable.into(),
            log: log.into(),
            topology: topology.to_str()?.parse().ok()?,
            port: Port(port.to_str()?.parse().ok()?),
            incarnation: Incarnation(incarnation.to_str()?.parse().ok()?),
        })
    }

    fn start(self) -> Result<Kept, Answer> {
        rustix::process::setsid().map_err(failed("give the keeper a session of its own"))?;
        // A handler, not "ignore": an ignored signal would be ignored by the worker too.
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
                .map_err(failed("keep signals from ending the keeper"))?;
        }
        let lock = self.lock()?;
        if !self.work_folder.is_dir() {
            let found = "it is not there".to_owned();
            let attempted = format!("start the worker in its folder {}", self.work_folder.display());
            return Err(Answer::Failed { attempted, errno: None, found });
        }
        let (log, before) = self.log()?;
        let kills = out_of_memory_kills();
        let began = Clock::now();
        let mut worker = self.spawn(&lock, log)?;
        if let Err(answer) = self.record(&worker) {
            // Nobody could find it again by its record: nothing half-done stays.
            let _ = worker.kill();
            let _ = worker.wait();
            return Err(answer);
        }
        // The worker shall be what the kernel takes when memory ends, not who tells of it. Refused to most users.
        let _ = fs::write("/proc/self/oom_score_adj", "-1000");
        Ok(Kept { orders: self, worker, before, kills, began, _lock: lock })
    }

    fn lock(&self) -> Result<File, Answer> {
        let path = self.slot_folder.join(LOCK_FILE);
        let attempted = || format!("lock the slot's file {}", path.display());
        let lock = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path);
        let lock = lock.map_err(failed(attempted()))?;
        for _ in 0..LOCK_TRIES {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock),
                Err(Errno::WOULDBLOCK) => pause(),
                Err(error) => return Err(failed(attempted())(error)),
            }
        }
        Err(Answer::Held { pid: Record::read(&self.slot_folder).ok().flatten().map(|record| record.worker.pid) })
    }

    fn log(&self) -> Result<(File, Place), Answer> {
        let attempted = || format!("open the worker's log {}", self.log.display());
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder).map_err(failed(attempted()))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed(attempted()))?;
        let place = Place::of(&log).map_err(failed(attempted()))?;
        Ok((log, place))
    }

    fn spawn(&self, lock: &File, log: File) -> Result<Child, Answer> {
        let attempted = "hand the worker its lock and its log";
        let mut command = Command::new(&self.executable);
        command.args(["worker", self.topology.as_str(), &self.port.to_string()]);
        command.current_dir(&self.work_folder).process_group(0);
        command.stdin(lock.try_clone().map_err(failed(attempted))?);
        command.stdout(log.try_clone().map_err(failed(attempted))?).stderr(Stdio::from(log));
        let mut spawned = command.spawn();
        for _ in 1..BUSY_TRIES {
            match &spawned {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => pause(),
                _ => break,
            }
            spawned = command.spawn();
        }
        spawned.map_err(|error| match error.raw_os_error() {
            Some(errno) => Answer::CannotRun { errno },
            None => failed(format!("run the executable {}", self.executable.display()))(error),
        })
    }

    fn record(&self, worker: &Child) -> Result<(), Answer> {
        let seen = |pid: u32| -> io::Result<Seen> {
            Seen::at(pid)?.ok_or_else(|| io::Error::other(format!("process {pid} is not in /proc")))
        };
        let record = || -> io::Result<()> {
            match fs::remove_file(self.slot_folder.join(END_FILE)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let record = Record {
                topology: self.topology.clone(),
                port: self.port,
                incarnation: self.incarnation,
                boot: boot_id()?,
                keeper: seen(std::process::id())?,
                worker: seen(worker.id())?,
            };
            write(&self.slot_folder.join(RECORD_FILE), record)
        };
        record().map_err(failed(format!("record in {} what was started", self.slot_folder.display())))
    }
}

/// A worker that runs.
struct Kept {
    orders: Orders,
    worker: Child,
    before: Place,
    kills: OutOfMemoryKills,
    began: Clock,
    /// Free when the process ends: after the end is written.
    _lock: File,
}

impl Kept {
    /// Returns when the worker has ended and what is left of its process group is killed. It is still on the process table then, so
    /// that nobody else has its number, which is the group's.
    fn end_group(&self) {
        let Some(worker) = i32::try_from(self.worker.id()).ok().and_then(Pid::from_raw) else { return };
        let ended = || waitid(WaitId::Pid(worker), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        if rustix::io::retry_on_intr(ended).is_ok() {
            // What ended just before is no failure, and of who changed to another user nobody is told here.
            let _ = kill_process_group(worker, Signal::KILL);
        }
    }

    fn wait(mut self) -> io::Result<()> {
        self.end_group();
        let status = self.worker.wait();
        let ended = Clock::now();
        let killed_for_memory = out_of_memory_kills().rose_since(&self.kills);
        let lines = self.before.lines_since(&self.orders.log).unwrap_or_default();
        let end = End {
            incarnation: self.orders.incarnation,
            ended_ms: ended.epoch_ms(),
            lived_ms: ended.ms_since(&self.began),
            cause: match status {
                Ok(status) => cause(status, killed_for_memory, &lines),
                Err(error) => format!("ended, and the system does not say how: {error}"),
            },
            last_lines: last_lines(lines),
        };
        let path = self.orders.slot_folder.join(END_FILE);
        let mut written = write(&path, &end);
        for _ in 1..END_TRIES {
            if written.is_ok() {
                break;
            }
            pause();
            written = write(&path, &end);
        }
        written
    }
}

#[expect(clippy::disallowed_methods, reason = "a process of one thread that has nothing else to do")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// A moment, on both clocks of the machine.
struct Clock {
    running: Instant,
    wall: SystemTime,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "when a real process began and ended; no pure code is told by it")]
    fn now() -> Clock {
        Clock { running: Instant::now(), wall: SystemTime::now() }
    }

    fn epoch_ms(&self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, milliseconds)
    }

    fn ms_since(&self, earlier: &Clock) -> u64 {
        milliseconds(self.running.duration_since(earlier.running))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How far a log was written.
struct Place {
    device: u64,
    inode: u64,
    bytes: u64,
}

impl Place {
    fn of(log: &File) -> io::Result<Place> {
        let found = log.metadata()?;
        Ok(Place { device: found.dev(), inode: found.ino(), bytes: found.len() })
    }

    /// The last lines that were written behind it, at most [`TAIL_BYTES`]. If the log is another file by now, or was cut, all of it
    /// is newer.
    fn lines_since(&self, log: &Path) -> io::Result<Vec<String>> {
        let mut log = File::open(log)?;
        let now = Place::of(&log)?;
        let same = (now.device, now.inode) == (self.device, self.inode) && now.bytes >= self.bytes;
        let from = if same { self.bytes } else { 0 };
        let cut = now.bytes.saturating_sub(TAIL_BYTES);
        log.seek(SeekFrom::Start(from.max(cut)))?;
        let mut bytes = Vec::new();
        log.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if cut > from
            && let Some((_, whole)) = text.split_once('\n')
            && !whole.is_empty()
        {
            text = whole.to_owned();
        }
        Ok(text.lines().map(printable).collect())
    }
}

/// A line that does nothing to the terminal of who reads it.
fn printable(line: &str) -> String {
    line.chars()
        .map(|character| if character.is_control() && character != '\t' { '\u{fffd}' } else { character })
        .collect()
}

/// The last of them that fit [`LAST_LINES`] and [`LAST_LINES_BYTES`]; of a line that is too long alone, its end.
fn last_lines(mut lines: Vec<String>) -> Vec<String> {
    let mut room = LAST_LINES_BYTES;
    let mut kept = Vec::new();
    while let Some(line) = lines.pop() {
        if kept.len() == LAST_LINES || (line.len() > room && !kept.is_empty()) {
            break;
        }
        let start = line.len().saturating_sub(room);
        let start = (start..=line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len());
        room = room.saturating_sub(line.len());
        kept.push(line[start..].to_owned());
    }
    kept.reverse();
    kept
}

/// The sentence for an end. `lines` are the last ones that the worker wrote.
fn cause(status: ExitStatus, killed_for_memory: bool, lines: &[String]) -> String {
    let core = if status.core_dumped() { " (core dumped)" } else { "" };
    let (how, panicked) = match (status.code(), status.signal()) {
        (Some(0), _) => return "exited with code 0".to_owned(),
        // What Rust's runtime ends with when `main` panics.
        (Some(code), _) => (format!("exited with code {code}"), code == 101),
        (None, Some(signal)) => (format!("killed by {}{core}", signal_name(signal)), signal == SIGABRT),
        (None, None) => return format!("ended with the unknown status {:#x}", status.into_raw()),
    };
    if status.signal() == Some(SIGKILL) && killed_for_memory {
        return format!("{how}, and the kernel's out-of-memory killer struck meanwhile");
    }
    let said = if panicked { panic_text(lines) } else { None };
    let said = said.or_else(|| if status.signal().is_none() { last_words(lines) } else { None });
    match said {
        Some(said) => format!("{how}: {}", beginning(&said)),
        None => how,
    }
}

/// The last panic: `thread 'NAME' panicked at FILE:LINE:COLUMN: MESSAGE`, which Rust prints on two lines.
fn panic_text(lines: &[String]) -> Option<String> {
    let at = lines.iter().rposition(|line| line.contains("panicked at "))?;
    let mut text = lines[at].trim().to_owned();
    if text.ends_with(':')
        && let Some(message) = lines.get(at + 1)
    {
        text = format!("{text} {}", message.trim());
    }
    Some(text)
}

/// What it complained of: the last line that says that it is an error, else the last line, unless that is one of the runtime's log
/// lines that complains of nothing.
fn last_words(lines: &[String]) -> Option<String> {
    let written = || lines.iter().rev().map(|line| line.trim()).filter(|line| !line.is_empty());
    let error = |line: &&str| line.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("error:"));
    written()
        .take(LAST_LINES)
        .find(error)
        .or_else(|| written().next().filter(|line| !is_no_error(line)))
        .map(str::to_owned)
}

/// Whether it is a log line of a level below `ERROR`: `2026-01-02T03:04:05.000006Z  INFO TARGET: TEXT`.
fn is_no_error(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let is_time = words.next().is_some_and(|time| time.contains('T') && time.ends_with('Z'));
    is_time && words.next().is_some_and(|level| ["WARN", "INFO", "DEBUG", "TRACE"].contains(&level))
}

fn beginning(text: &str) -> &str {
    let end = (0..=CAUSE_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

fn signal_name(signal: i32) -> String {
    match signal_hook::low_level::signal_name(signal) {
        Some(name) => name.to_owned(),
        None => format!("signal {signal}"),
    }
}

/// How often the kernel killed for want of memory: in this cgroup where there is one that counts, else on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OutOfMemoryKills {
    in_cgroup: Option<u64>,
    on_machine: Option<u64>,
}

impl OutOfMemoryKills {
    fn rose_since(&self, before: &OutOfMemoryKills) -> bool {
        match (self.in_cgroup, before.in_cgroup) {
            (Some(now), Some(before)) => now > before,
            _ => matches!((self.on_machine, before.on_machine), (Some(now), Some(before)) if now > before),
        }
    }
}

fn out_of_memory_kills() -> OutOfMemoryKills {
    let counter = |path: &Path| counter(&fs::read_to_string(path).ok()?, "oom_kill");
    let cgroup = || {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        counter(&Path::new("/sys/fs/cgroup").join(own).join("memory.events"))
    };
    OutOfMemoryKills { in_cgroup: cgroup(), on_machine: counter(Path::new("/proc/vmstat")) }
}

/// The number behind a name in a file of `NAME NUMBER` lines.
fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_status_and_a_log_make_a_sentence() {
        let panicked =
            "fine\nthread 'main' (71) panicked at src/main.rs:3:5:\nno more words\nnote: run with `RUST_BACKTRACE=1`\n";
        for (status, killed_for_memory, log, sentence) in [
            (0, true, "done", "exited with code 0"),
            (1 << 8, false, "", "exited with code 1"),
            (1 << 8, false, "Error: no words\n\nCaused by:\n    0: none\n", "exited with code 1: Error: no words"),
            (2 << 8, false, "one\ntwo\n\n", "exited with code 2: two"),
            // What the runtime says on its way is not why it ended; what it complains of may be.
            (7 << 8, false, "two\n2026-01-02T03:04:05.000006Z  INFO storm::worker_role: ready\n", "exited with code 7"),
            (7 << 8, false, "2026-01-02T03:04:05.000006Z  WARN worker: slow\n", "exited with code 7"),
            (
                7 << 8,
                false,
                "2026-01-02T03:04:05.000006Z ERROR worker: lost",
                "exited with code 7: 2026-01-02T03:04:05.000006Z ERROR worker: lost",
            ),
            (7 << 8, false, "20 INFO desks", "exited with code 7: 20 INFO desks"),
            (
                101 << 8,
                false,
                panicked,
                "exited with code 101: thread 'main' (71) panicked at src/main.rs:3:5: no more words",
            ),
            (6, false, panicked, "killed by SIGABRT: thread 'main' (71) panicked at src/main.rs:3:5: no more words"),
            // A panic that was caught long before is not why it exited.
            (3 << 8, false, &format!("{panicked}bye"), "exited with code 3: bye"),
            (6 | 0x80, false, "fine", "killed by SIGABRT (core dumped)"),
            (11 | 0x80, true, "fine", "killed by SIGSEGV (core dumped)"),
            (9, false, "fine", "killed by SIGKILL"),
            (9, true, "fine", "killed by SIGKILL, and the kernel's out-of-memory killer struck meanwhile"),
            (34, false, "", "killed by signal 34"),
        ] {
            assert_eq!(cause(ExitStatus::from_raw(status), killed_for_memory, &lines(log)), sentence);
        }
        let long = cause(ExitStatus::from_raw(1 << 8), false, &["ä".repeat(1000)]);
        assert_eq!(long, format!("exited with code 1: {}", "ä".repeat(250)));
    }

    #[test]
    fn last_lines_keep_to_their_bounds() {
        let of = |many: usize, bytes: usize| last_lines((0..many).map(|at| format!("{at:0bytes$}")).collect());
        assert_eq!(of(0, 1), Vec::<String>::new());
        assert_eq!(of(3, 1), ["0", "1", "2"]);
        assert_eq!(of(30, 2).len(), 20);
        assert_eq!(of(30, 2)[0], "10");
        assert_eq!(of(30, 1024).len(), 8);
        assert_eq!(of(30, 8193), [format!("{:08192}", 29)]);
        assert_eq!(last_lines(vec!["ä".repeat(5000), "b".repeat(8191)]), ["b".repeat(8191)]);
        // Of two bytes for a letter none is cut in the middle.
        assert_eq!(last_lines(vec![format!("{}x", "ä".repeat(5000))]), [format!("{}x", "ä".repeat(4095))]);
    }

    #[test]
    fn a_log_is_read_from_where_the_life_began() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.log");
        let since = |place: &Place| place.lines_since(&path).unwrap();
        fs::write(&path, "before\n").unwrap();
        let place = Place::of(&File::open(&path).unwrap()).unwrap();
        assert_eq!(since(&place), Vec::<String>::new());
        let mut log = OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(b"one\r\n\x1b[31mred\xff\ttab\nlast").unwrap();
        assert_eq!(since(&place), ["one", "\u{fffd}[31mred\u{fffd}\ttab", "last"]);

        log.write_all(format!("{}\nwhole\n", "x".repeat(70_000)).as_bytes()).unwrap();
        assert_eq!(since(&place), ["whole"]);
        log.set_len(0).unwrap();
        fs::write(&path, "cut\n").unwrap();
        assert_eq!(since(&place), ["cut"]);
        fs::rename(&path, folder.path().join("worker.log.1")).unwrap();
        fs::write(&path, "another file, longer than it was\n").unwrap();
        assert_eq!(since(&place), ["another file, longer than it was"]);
        fs::remove_file(&path).unwrap();
        assert!(place.lines_since(&path).is_err());
    }

    #[test]
    fn the_kernels_counters_say_whether_it_killed() {
        let events = "low 0\nhigh 0\nmax 14\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(counter(events, "oom_kill"), Some(2));
        assert_eq!(counter("oom_killer 2\n", "oom_kill"), None);
        let kills = |in_cgroup, on_machine| OutOfMemoryKills { in_cgroup, on_machine };
        assert!(kills(Some(3), Some(9)).rose_since(&kills(Some(2), Some(8))));
        // A kill elsewhere on the machine is not ours.
        assert!(!kills(Some(2), Some(9)).rose_since(&kills(Some(2), Some(8))));
        assert!(kills(None, Some(9)).rose_since(&kills(None, Some(8))));
        assert!(!kills(None, Some(8)).rose_since(&kills(None, Some(8))));
        assert!(!kills(None, None).rose_since(&kills(None, Some(8))));
    }

    #[test]
    fn files_keep_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(END_FILE);
        let end = End {
            incarnation: Incarnation(7),
            ended_ms: 1_760_000_000_123,
            lived_ms: 42,
            cause: "exited with code 1: no \"words\"".to_owned(),
            last_lines: vec!["one".to_owned(), "no \"words\"".to_owned()],
        };
        write(&path, &end).unwrap();
        let golden = r#"{
  "format": 1,
  "incarnation": 7,
  "ended_ms": 1760000000123,
  "lived_ms": 42,
  "cause": "exited with code 1: no \"words\"",
  "last_lines": [
    "one",
    "no \"words\""
  ]
}
"#;
        assert_eq!(fs::read_to_string(&path).unwrap(), golden);
        assert_eq!(End::read(&path).unwrap(), Some(end));

        let record = Record {
            topology: "words-1-1760000000".parse().unwrap(),
            port: Port(6700),
            incarnation: Incarnation(7),
            boot: "4ba66d0a-383d-44cd-b6b0-5cbf1dc076a0".to_owned(),
            keeper: Seen { pid: 3551, began_ticks: 342_200 },
            worker: Seen { pid: 3553, began_ticks: 342_202 },
        };
        write(&folder.path().join(RECORD_FILE), &record).unwrap();
        let golden = r#"{
  "format": 1,
  "topology": "words-1-1760000000",
  "port": 6700,
  "incarnation": 7,
  "boot": "4ba66d0a-383d-44cd-b6b0-5cbf1dc076a0",
  "keeper": {
    "pid": 3551,
    "began_ticks": 342200
  },
  "worker": {
    "pid": 3553,
    "began_ticks": 342202
  }
}
"#;
        assert_eq!(fs::read_to_string(folder.path().join(RECORD_FILE)).unwrap(), golden);
        assert_eq!(Record::read(folder.path()).unwrap(), Some(record));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn answers_keep_their_bytes() {
        for (answer, golden) in [
            (Answer::Started, r#""started""#),
            (Answer::Held { pid: Some(71) }, r#"{"held":{"pid":71}}"#),
            (Answer::CannotRun { errno: 8 }, r#"{"cannot-run":{"errno":8}}"#),
            (
                Answer::Failed { attempted: "open a".to_owned(), errno: None, found: "b".to_owned() },
                r#"{"failed":{"attempted":"open a","errno":null,"found":"b"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), golden);
            assert_eq!(serde_json::from_str::<Answer>(golden).unwrap(), answer);
        }
    }
}
