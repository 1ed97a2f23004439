//! Keepers and their workers, as processes: how ends are told, who holds the slot, what each kind of bad start gets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, getpgid};
use serde_json::{Value, json};
use supervisor::keeper::{END_FILE, RECORD_FILE};
use supervisor::launcher::{End, LaunchError, Launcher, Start, take_end};
use supervisor::process::{Process, Signal};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use worker_api::ids::{Incarnation, Port, TopologyId};

const FIXTURE: &str = env!("CARGO_BIN_EXE_keeper-fixture");

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);

/// A slot of a machine.
struct Slot {
    folder: TempDir,
}

impl Slot {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("slot")).unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        Slot { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn slot(&self) -> PathBuf {
        self.path("slot")
    }

    fn start(&self, incarnation: u64, play: &str) -> Start {
        Start {
            slot_folder: self.slot(),
            work_folder: self.path("work"),
            executable: FIXTURE.into(),
            topology: TopologyId::new("words-1-1").unwrap(),
            port: Port(6700),
            incarnation: Incarnation(incarnation),
            environment: BTreeMap::from([("PLAY".to_owned(), play.to_owned())]),
            log: self.path("logs/worker.log"),
        }
    }

    /// Starts a worker that plays this.
    async fn play(&self, incarnation: u64, play: &str) {
        Launcher::new(FIXTURE.into()).start(&self.start(incarnation, play)).await.unwrap();
    }

    async fn refused(&self, start: &Start) -> LaunchError {
        let refused = Launcher::new(FIXTURE.into()).start(start).await.unwrap_err();
        if !matches!(refused, LaunchError::SlotHeld { .. }) {
            self.wait_until_free().await;
        }
        refused
    }

    /// How the worker ended, when its keeper has ended.
    async fn end(&self) -> Option<End> {
        if let Some(keeper) = self.keeper() {
            keeper.ended().await;
        }
        take_end(&self.slot()).unwrap()
    }

    /// How a worker that plays this ends.
    async fn end_of(&self, play: &str) -> End {
        self.play(1, play).await;
        self.end().await.unwrap()
    }

    fn worker(&self) -> Option<Process> {
        Process::of_keeper_record(&self.slot()).unwrap()
    }

    fn keeper(&self) -> Option<Process> {
        Process::keeper_of(&self.slot()).unwrap()
    }

    fn is_held(&self) -> bool {
        Launcher::is_held(&self.slot()).unwrap()
    }

    async fn wait_until_free(&self) {
        while self.is_held() {
            tokio::task::yield_now().await;
        }
    }

    fn change_record(&self, change: impl FnOnce(&mut Value)) {
        let path = self.slot().join(RECORD_FILE);
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut record);
        fs::write(path, record.to_string()).unwrap();
    }
}

fn pid(process: &Process) -> Option<Pid> {
    Pid::from_raw(i32::try_from(process.pid()).unwrap())
}

fn executable(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The session that a process is in: the number of the process that leads it, or 0 if that one is outside this container. Read from
/// `/proc`, as `getsid` of rustix takes 0 for a fault of the kernel.
fn session(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Field 6; the second one, the name in brackets, may hold anything.
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(3).unwrap().parse().unwrap()
}

/// What who started the test has every process under it inherit, and not by their will.
fn inherited() -> BTreeSet<PathBuf> {
    let handed_on = |number: &u32| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
        const CLOEXEC: u32 = 0o2_000_000;
        u32::from_str_radix(flags.trim(), 8).is_ok_and(|flags| flags & CLOEXEC == 0)
    };
    let paths = (3..1024).filter(handed_on).filter_map(|number| fs::read_link(format!("/proc/self/fd/{number}")).ok());
    paths.filter(|path| path != Path::new("/dev/null")).collect()
}

#[tokio::test]
async fn each_end_has_its_cause() {
    for (play, cause) in [
        ("exit 0", "exited with code 0"),
        ("exit 3", "exited with code 3"),
        (
            "print 1\ncomplain error: no such file: a.txt\ncomplain  it was\nexit 1",
            "exited with code 1: error: no such file: a.txt",
        ),
        ("print one\nprint two\nexit 1", "exited with code 1: two"),
        ("signal 11", "killed by SIGSEGV"),
        ("signal 15", "killed by SIGTERM"),
        ("signal 9", "killed by SIGKILL"),
        ("print fine\nsignal 7", "killed by SIGBUS"),
    ] {
        assert_eq!(Slot::new().end_of(play).await.cause, cause, "{play}");
    }
    for (play, how) in [("panic so it is", "exited with code 101"), ("abort so it is", "killed by SIGABRT")] {
        let cause = Slot::new().end_of(play).await.cause;
        let said = cause.strip_prefix(how).unwrap_or_else(|| panic!("{cause}"));
        assert!(said.starts_with(": thread 'main' "), "{cause}");
        assert!(said.contains(" panicked at ") && said.contains("tests/fixture/keeper.rs:"), "{cause}");
        assert!(said.ends_with(": so it is"), "{cause}");
    }
}

#[tokio::test]
async fn an_end_tells_which_life_when_and_its_last_lines() {
    let slot = Slot::new();
    let end = slot.end_of("print one\ncomplain two\nexit 0").await;
    assert_eq!(end.incarnation, Incarnation(1));
    assert_eq!(end.last_lines, ["one", "two"]);
    // Between the day of these lines and the year 2100; how long it lived is less than the test may take.
    assert!((1_750_000_000_000..4_102_444_800_000).contains(&end.ended_ms), "{end:?}");
    assert!(end.lived_ms < 600_000, "{end:?}");
    assert_eq!(fs::read_to_string(slot.path("logs/worker.log")).unwrap(), "one\ntwo\n");

    // The next life's lines are its own, and with its start the end before is gone.
    slot.play(2, "print three\nstay").await;
    assert_eq!(take_end(&slot.slot()).unwrap(), None);
    slot.worker().unwrap().signal(Signal::KILL).unwrap();
    let end = slot.end().await.unwrap();
    assert_eq!((end.incarnation, end.cause.as_str()), (Incarnation(2), "killed by SIGKILL"));
    assert_eq!(fs::read_to_string(slot.path("logs/worker.log")).unwrap().lines().next(), Some("one"));
    assert!(end.last_lines.is_empty() || end.last_lines == ["three"], "{end:?}");
}

#[tokio::test]
async fn last_lines_are_few_and_of_the_newest_log() {
    let many: String = (0..100).map(|number| format!("print {number}\n")).collect();
    let end = Slot::new().end_of(&many).await;
    assert_eq!(end.last_lines, (80..100).map(|number| number.to_string()).collect::<Vec<_>>());

    let slot = Slot::new();
    let log = slot.path("logs/worker.log");
    let end = slot.end_of(&format!("print before\nrotate {}\nprint after", log.display())).await;
    assert_eq!(end.last_lines, ["after"]);
}

#[tokio::test]
async fn a_worker_finds_its_folder_its_arguments_and_no_more_variables_than_it_needs() {
    let slot = Slot::new();
    let mut start = slot.start(1, "say-all");
    start.environment.insert("MODEL".to_owned(), "large one".to_owned());
    start.environment.insert("HOME".to_owned(), "/elsewhere".to_owned());
    Launcher::new(FIXTURE.into()).start(&start).await.unwrap();
    slot.end().await.unwrap();
    let said = fs::read_to_string(&start.log).unwrap();
    let of = |what: &str| -> Vec<&str> {
        said.lines().filter_map(|line| line.strip_prefix(what)?.strip_prefix(' ')).collect()
    };
    assert_eq!(of("folder"), [fs::canonicalize(slot.path("work")).unwrap().to_str().unwrap()]);
    assert_eq!(of("arguments"), [format!("{FIXTURE} worker words-1-1 6700")]);
    let variables: BTreeMap<_, _> = of("variable").into_iter().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(variables["MODEL"], "large one");
    assert_eq!(variables["HOME"], "/elsewhere");
    assert_eq!(variables["PATH"], std::env::var("PATH").unwrap());
    // Cargo gives the test many more.
    let allowed = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "RUST_BACKTRACE", "RUST_LOG", "MODEL"];
    for name in variables.keys() {
        assert!(allowed.contains(name) || name.starts_with("LC_"), "{name}");
    }
    let lock = slot.slot().join("lock");
    let mut open: BTreeSet<PathBuf> = of("open").into_iter().map(PathBuf::from).collect();
    open.retain(|path| !path.starts_with("/proc") && !inherited().contains(path));
    assert_eq!(open, BTreeSet::from(["/dev/null".into(), start.log, lock]));
}

#[tokio::test]
async fn keeper_and_worker_are_out_of_reach_of_the_supervisors_terminal() {
    let slot = Slot::new();
    slot.play(1, "stay").await;
    let (keeper, worker) = (slot.keeper().unwrap(), slot.worker().unwrap());
    assert_eq!(session(keeper.pid()), keeper.pid());
    assert_ne!(session(std::process::id()), keeper.pid());
    assert_eq!(session(worker.pid()), keeper.pid());
    assert_eq!(Some(getpgid(pid(&worker)).unwrap()), pid(&worker));
    let mut open: BTreeSet<PathBuf> = fs::read_dir(format!("/proc/{}/fd", keeper.pid()))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap())
        .collect();
    open.retain(|path| !inherited().contains(path));
    assert_eq!(open, BTreeSet::from(["/dev/null".into(), slot.slot().join("lock")]));

    // Had one of these ended the keeper, nobody would write the worker's end.
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        keeper.signal(signal).unwrap();
    }
    worker.signal(Signal::KILL).unwrap();
    assert_eq!(slot.end().await.unwrap().cause, "killed by SIGKILL");
    assert!(!slot.is_held());
}

#[tokio::test]
async fn a_keeper_has_one_thread_and_little_memory_of_its_own() {
    let slot = Slot::new();
    slot.play(1, "stay").await;
    let status = fs::read_to_string(format!("/proc/{}/status", slot.keeper().unwrap().pid())).unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    assert_eq!(of("Threads"), 1);
    // The rest of what it has resident are pages of the executable and of the C library, which all keepers share.
    assert!(of("RssAnon") < 512, "{status}");
}

#[tokio::test]
async fn a_slot_is_held_as_long_as_keeper_or_worker_lives() {
    let slot = Slot::new();
    assert!(!slot.is_held());
    slot.play(1, "stay").await;
    assert!(slot.is_held());
    let worker = slot.worker().unwrap();
    let held = format!(
        "the slot {} is held by process {}, so nothing was started in it; it is free when that worker and its keeper have ended",
        slot.slot().display(),
        worker.pid()
    );
    assert_eq!(slot.refused(&slot.start(2, "print foreign")).await.to_string(), held);

    let keeper = slot.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    keeper.ended().await;
    assert!(slot.is_held());
    assert_eq!(slot.refused(&slot.start(3, "print foreign")).await.to_string(), held);
    assert_eq!(slot.worker().unwrap().pid(), worker.pid());

    worker.signal(Signal::KILL).unwrap();
    worker.ended().await;
    assert!(!slot.is_held());
    // Who would have written it was killed.
    assert_eq!(take_end(&slot.slot()).unwrap(), None);
    assert!(slot.worker().is_none());
    assert_eq!(fs::read_to_string(slot.path("logs/worker.log")).unwrap(), "");

    slot.play(4, "exit 0").await;
    assert_eq!(slot.end().await.unwrap().incarnation, Incarnation(4));
}

#[tokio::test]
async fn of_two_starts_at_once_one_is_refused() {
    let slot = Slot::new();
    let launcher = Launcher::new(FIXTURE.into());
    let (first, second) = (slot.start(1, "stay"), slot.start(2, "stay"));
    let (first, second) = tokio::join!(launcher.start(&first), launcher.start(&second));
    let refused = match (first, second) {
        (Ok(()), Err(refused)) | (Err(refused), Ok(())) => refused,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused, LaunchError::SlotHeld { .. }), "{refused:?}");
}

#[tokio::test]
async fn what_a_worker_leaves_behind_does_not_hold_its_slot() {
    let slot = Slot::new();
    assert_eq!(slot.end_of("child\nexit 0").await.cause, "exited with code 0");
    assert!(!slot.is_held());
    slot.play(2, "exit 0").await;
}

#[tokio::test]
async fn what_a_worker_started_ends_with_it_unless_it_has_a_session_of_its_own() {
    let slot = Slot::new();
    let path = slot.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    slot.play(1, &format!("child {0}\nchild-apart {0}\nstay", path.display())).await;
    let worker = slot.worker().unwrap();
    let (mut inside, mut apart) = (None, None);
    for _ in 0..2 {
        let (connection, _) = listener.accept().await.unwrap();
        let child = Process::of_peer(&connection).unwrap();
        let is_inside = getpgid(pid(&child)).unwrap() == pid(&worker).unwrap();
        *(if is_inside { &mut inside } else { &mut apart }) = Some((child, connection));
    }
    let ((inside, _inside), (_, apart)) = (inside.unwrap(), apart.unwrap());

    worker.signal(Signal::KILL).unwrap();
    assert_eq!(slot.end().await.unwrap().cause, "killed by SIGKILL");
    tokio::time::timeout(LONG, inside.ended()).await.expect("a child of the worker lives on");
    // Its connection would be closed.
    assert_eq!(apart.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_killed_supervisor_leaves_keeper_and_worker_at_work() {
    let slot = Slot::new();
    let mut supervisor =
        Command::new(FIXTURE).arg("supervisor").arg(slot.folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(supervisor.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "started\n");
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();

    assert!(slot.is_held());
    let worker = slot.worker().unwrap();
    assert!(matches!(slot.refused(&slot.start(2, "exit 0")).await, LaunchError::SlotHeld { .. }));
    worker.signal(Signal::TERM).unwrap();
    assert_eq!(slot.end().await.unwrap().cause, "killed by SIGTERM");
    assert!(!slot.is_held());
}

#[tokio::test]
async fn an_executable_that_cannot_run_is_refused_with_the_reason() {
    let slot = Slot::new();
    let path = slot.path("app");
    let mut start = slot.start(1, "exit 0");
    start.executable = path.clone();
    let why = async || match slot.refused(&start).await {
        LaunchError::Executable { executable, why } if executable == path => why,
        refused => panic!("{refused:?}"),
    };
    assert_eq!(why().await, "it is not there; the topology's executable has to be fetched again");

    executable(&path, b"words\n");
    assert_eq!(why().await, "it is not an executable of Linux; submit what `cargo build` made");

    // The header of a program for a processor that nobody has: m68k.
    let mut header = [0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x01\x02\x01");
    header[16..20].copy_from_slice(&[0, 2, 0, 4]);
    executable(&path, &header);
    let why_foreign = why().await;
    let here = match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        here => here,
    };
    assert_eq!(
        why_foreign,
        format!(
            "it is built for ELF machine 4 (32 bits, big-endian), and this machine is {here}; build the topology for {here}"
        )
    );

    let mut ours = Vec::new();
    fs::File::open(FIXTURE).unwrap().take(40).read_to_end(&mut ours).unwrap();
    executable(&path, &ours);
    assert_eq!(why().await, "its file is damaged; submit the topology again");

    executable(&path, b"#!/there/is/no/such/loader\n");
    assert_eq!(
        why().await,
        "the program loader that it names is not on this machine; build it for this system's C library, or statically"
    );

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        why().await,
        "permission denied; it must be executable for this user, its folders searchable, its file system not mounted with noexec"
    );

    executable(&path, &fs::read(FIXTURE).unwrap());
    let writing = OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(why().await, "it is still being written");
    drop(writing);
    assert!(slot.worker().is_none());
    assert_eq!(take_end(&slot.slot()).unwrap(), None);
}

#[tokio::test]
async fn what_the_machine_lacks_is_named() {
    let slot = Slot::new();
    let (folder, start) = (slot.folder.path().display(), slot.start(1, "stay"));
    for (start, refused) in [
        (
            Start { slot_folder: slot.path("none"), ..start.clone() },
            format!("cannot lock the slot's file {folder}/none/lock: No such file or directory (os error 2)"),
        ),
        (
            Start { work_folder: slot.path("none"), ..start.clone() },
            format!("cannot start the worker in its folder {folder}/none: it is not there"),
        ),
        (
            Start { log: slot.path("slot/lock/worker.log"), ..start.clone() },
            format!("cannot open the worker's log {folder}/slot/lock/worker.log: File exists (os error 17)"),
        ),
        (
            Start { environment: BTreeMap::from([("A=B".to_owned(), String::new())]), ..start.clone() },
            "cannot give the worker the environment variable `A=B`: its name has a `=`".to_owned(),
        ),
        (
            Start { environment: BTreeMap::from([("A".to_owned(), "x".repeat(1 << 18))]), ..start.clone() },
            format!(
                "cannot start {FIXTURE} as the keeper of the slot {folder}/slot: its arguments and environment are too large \
                 together; make `topology.environment` smaller"
            ),
        ),
    ] {
        assert_eq!(slot.refused(&start).await.to_string(), refused);
    }

    // A worker that nobody could find again does not stay.
    fs::create_dir_all(slot.slot().join(RECORD_FILE).join("full")).unwrap();
    assert_eq!(
        slot.refused(&start).await.to_string(),
        format!("cannot record in {folder}/slot what was started: Is a directory (os error 21)")
    );

    let launcher = Launcher::new(slot.path("storm"));
    assert_eq!(
        launcher.start(&start).await.unwrap_err().to_string(),
        format!(
            "cannot start {folder}/storm as the keeper of the slot {folder}/slot: No such file or directory (os error 2)"
        )
    );
    let launcher = Launcher::new("/bin/true".into());
    assert_eq!(
        launcher.start(&start).await.unwrap_err().to_string(),
        format!(
            "cannot start /bin/true as the keeper of the slot {folder}/slot: it ended without a word (exit status: 0)"
        )
    );
}

#[tokio::test]
async fn a_keeper_that_cannot_write_the_end_ends() {
    let slot = Slot::new();
    slot.play(1, "stay").await;
    let (keeper, worker) = (slot.keeper().unwrap(), slot.worker().unwrap());
    fs::remove_dir_all(slot.slot()).unwrap();
    worker.signal(Signal::KILL).unwrap();
    keeper.ended().await;
    assert_eq!(take_end(&slot.slot()).unwrap(), None);
}

#[tokio::test]
async fn a_process_that_has_the_number_of_a_worker_before_is_not_taken_for_it() {
    let slot = Slot::new();
    slot.play(1, "stay").await;
    let worker = slot.worker().unwrap();
    let path = slot.slot().join(RECORD_FILE);
    let record = fs::read(&path).unwrap();

    slot.change_record(|record| {
        let began = record["worker"]["began_ticks"].as_u64().unwrap();
        record["worker"]["began_ticks"] = json!(began - 1);
    });
    assert!(slot.worker().is_none());
    fs::write(&path, &record).unwrap();
    assert_eq!(slot.worker().unwrap().pid(), worker.pid());
    slot.change_record(|record| record["boot"] = json!("another"));
    assert!(slot.worker().is_none());

    fs::write(&path, &record).unwrap();
    worker.signal(Signal::KILL).unwrap();
    slot.end().await.unwrap();
    assert!(slot.worker().is_none() && slot.keeper().is_none());
    // Nobody is hit by a signal to one that ended.
    worker.signal(Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_worker_is_known_by_its_connection() {
    let slot = Slot::new();
    let path = slot.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    slot.play(1, &format!("connect {}\nstay", path.display())).await;
    let (connection, _) = listener.accept().await.unwrap();
    let worker = Process::of_peer(&connection).unwrap();
    assert_eq!(worker.pid(), slot.worker().unwrap().pid());
    worker.signal(Signal::KILL).unwrap();
    worker.ended().await;
    slot.end().await.unwrap();
    assert!(Process::of_peer(&connection).is_err());

    let (ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(Process::of_peer(&ours).unwrap().pid(), std::process::id());
    drop(theirs);
    let gone = Process::of_peer(&ours).unwrap_err();
    assert_eq!(gone.to_string(), "the process that connected has closed its end");
}

#[tokio::test]
async fn files_of_another_format_are_refused_in_words() {
    let slot = Slot::new();
    slot.end_of("exit 0").await;
    let path = slot.slot().join(END_FILE);
    fs::write(&path, r#"{"format": 2, "how": "unknown"}"#).unwrap();
    assert_eq!(
        take_end(&slot.slot()).unwrap_err().to_string(),
        format!(
            "{}: the keeper's file has format 2, and this is built for format 1; \
             build the topology and the daemons with the same version",
            path.display()
        )
    );
}
