//! The role `worker`: real processes, with the test as their Supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;
use storm::fail::FailKind;
use storm::ids::TaskId;
use worker_api::answer::{ANSWER_FORMAT, Answer, GoneLife, Slot, Spouts};
use worker_api::ids::{
    Incarnation, Life, PlanVersion, Port, Revision, SupervisorId, TopologyId, TopologyName, WorkerIndex,
};
use worker_api::launch::{LAUNCH_FORMAT, Launch};
use worker_api::plan::{Address, Placement, Plan, SlotPlan};
use worker_api::report::{Counts, Fatal, Report, Stage};
use worker_api::secret::Secret;

use crate::TEXT;

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);
const ID: &str = "word-count-1-1700000000";

/// Two workers' worth of a cluster, with the test as Nimbus and Supervisor.
struct Machine {
    folder: tempfile::TempDir,
    placement: Placement,
    supervisor: Supervisor,
    /// Arguments of the topology's author.
    arguments: Vec<String>,
    config: BTreeMap<String, Value>,
    nimbuses: Vec<String>,
    log_bytes: u64,
}

/// Hears reports and answers each, as a Supervisor does.
struct Supervisor {
    path: PathBuf,
    known: Arc<Known>,
}

#[derive(Default)]
struct Known {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reports: BTreeMap<WorkerIndex, Report>,
    answers: BTreeMap<WorkerIndex, Answer>,
    connections: Vec<UnixStream>,
    /// Whether it has gone away.
    away: bool,
}

fn kept(spouts: Spouts) -> Answer {
    Answer { format: ANSWER_FORMAT, slot: Slot::Kept, spouts, revision: Revision(1), placement: None, gone: Vec::new() }
}

impl Supervisor {
    fn listen(path: PathBuf) -> Self {
        let known = Arc::new(Known::default());
        let listener = UnixListener::bind(&path).unwrap();
        let all = known.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut state = all.state.lock().unwrap();
                if state.away {
                    return;
                }
                state.connections.push(stream.try_clone().unwrap());
                let known = all.clone();
                std::thread::spawn(move || known.hear(stream));
            }
        });
        Supervisor { path, known }
    }

    /// Waits until a worker has reported such a thing.
    fn until(&self, worker: u16, what: &str, mut is_so: impl FnMut(&Report) -> bool) -> Report {
        let state = self.known.state.lock().unwrap();
        let worker = WorkerIndex(worker);
        let (state, waited) = self
            .known
            .changed
            .wait_timeout_while(state, LONG, |state| !state.reports.get(&worker).is_some_and(&mut is_so))
            .unwrap();
        assert!(!waited.timed_out(), "worker {worker}: {what}: {:#?}", state.reports.get(&worker));
        state.reports[&worker].clone()
    }

    /// From now on a worker hears this.
    fn answer(&self, worker: u16, answer: Answer) {
        self.known.state.lock().unwrap().answers.insert(WorkerIndex(worker), answer);
    }

    /// Closes all connections and takes no more, as one that was killed.
    fn vanish(&self) {
        let mut state = self.known.state.lock().unwrap();
        state.away = true;
        std::fs::remove_file(&self.path).unwrap();
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Known {
    fn hear(&self, stream: UnixStream) {
        let mut answers = stream.try_clone().unwrap();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let report: Report = serde_json::from_str(&line).unwrap();
            let mut state = self.state.lock().unwrap();
            let answer = state.answers.get(&report.worker).cloned().unwrap_or_else(|| kept(Spouts::Inactive));
            state.reports.insert(report.worker, report);
            drop(state);
            self.changed.notify_all();
            let mut answer = serde_json::to_vec(&answer).unwrap();
            answer.push(b'\n');
            // A worker that has ended does not hear it.
            let _ = answers.write_all(&answer);
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn tasks(executors: &[&[u32]]) -> Vec<Vec<TaskId>> {
    executors.iter().map(|tasks| tasks.iter().copied().map(TaskId).collect()).collect()
}

impl Machine {
    /// With these executors in each worker, and these arguments beside `--input text`.
    fn new(executors: &[&[&[u32]]], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text"), TEXT).unwrap();
        let slot = |executors: &&[&[u32]]| SlotPlan { version: PlanVersion(1), executors: tasks(executors) };
        let address = |_| Some(Address { host: "127.0.0.1".to_owned(), port: free_port() });
        let placement = Placement {
            version: PlanVersion(1),
            plan: Plan { workers: executors.iter().map(slot).collect() },
            addresses: executors.iter().map(address).collect(),
        };
        let arguments = ["--input", "text"].iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        let machine = Machine {
            supervisor: Supervisor::listen(folder.path().join("supervisor.sock")),
            folder,
            placement,
            arguments,
            config: BTreeMap::new(),
            nimbuses: Vec::new(),
            log_bytes: 1 << 20,
        };
        let described = machine.command(&["describe"]).args(&machine.arguments).output().unwrap();
        std::fs::write(machine.path("graph.json"), described.stdout).unwrap();
        machine
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entry-fixture"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
        command
    }

    fn launch(&self, worker: u16, incarnation: u64, spouts: Spouts) -> Launch {
        let port = self.placement.addresses[usize::from(worker)].as_ref().unwrap().port;
        Launch {
            format: LAUNCH_FORMAT,
            topology: TopologyId::new(ID).unwrap(),
            name: TopologyName::new("word-count").unwrap(),
            worker: WorkerIndex(worker),
            incarnation: Incarnation(incarnation),
            supervisor: SupervisorId::new("machine").unwrap(),
            host: "127.0.0.1".to_owned(),
            port: Port(port),
            bind: "127.0.0.1".to_owned(),
            secret: Secret::new([7; 32]),
            arguments: self.arguments.clone(),
            config: self.config.clone(),
            graph: self.path("graph.json"),
            placement: self.placement.clone(),
            spouts,
            revision: Revision(1),
            supervisor_socket: self.supervisor.path.clone(),
            nimbuses: self.nimbuses.clone(),
            log: self.path(format!("worker-{worker}.log")),
            log_bytes: self.log_bytes,
            log_files: 2,
        }
    }

    /// Starts a worker as a Supervisor does: with its slot's lock as standard input, and its log as output.
    fn start(&self, worker: u16, incarnation: u64, spouts: Spouts) -> Process {
        self.start_by(&self.launch(worker, incarnation, spouts))
    }

    fn start_by(&self, launch: &Launch) -> Process {
        let mut state = self.supervisor.known.state.lock().unwrap();
        state.answers.entry(launch.worker).or_insert_with(|| kept(launch.spouts));
        drop(state);
        let file = format!("launch-{}.json", launch.worker);
        std::fs::write(self.path(&file), serde_json::to_vec(launch).unwrap()).unwrap();
        let lock = File::create(self.path(format!("lock-{}", launch.worker))).unwrap();
        lock.try_lock().unwrap();
        let log = OpenOptions::new().create(true).append(true).open(&launch.log).unwrap();
        let mut command = self.command(&["worker", ID, &launch.port.to_string(), "--launch", &file]);
        command.stdin(lock).stdout(log.try_clone().unwrap()).stderr(log);
        Process { child: command.spawn().unwrap(), log: launch.log.clone() }
    }

    /// Whether a slot's lock is held by somebody.
    fn is_held(&self, worker: u16) -> bool {
        File::open(self.path(format!("lock-{worker}"))).unwrap().try_lock().is_err()
    }
}

/// A worker's process.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// How it ended, and its log.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.log())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For each descriptor of a process that is this file: whether its children do not get it.
fn closed_for_children(pid: u32, file: &Path) -> Vec<bool> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().path());
    let of_file = descriptors.filter(|path| std::fs::read_link(path).is_ok_and(|link| link == file));
    let closed = of_file.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let about = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{name}")).unwrap();
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        // O_CLOEXEC
        u32::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000 != 0
    });
    closed.collect()
}

/// What the executors of a component counted in a worker.
fn counts(report: &Report, component: &str) -> Counts {
    let mut all = report.executors.iter().filter(|executor| executor.component == component);
    all.next().unwrap_or_else(|| panic!("no executor of `{component}` in {report:#?}")).counts.clone()
}

/// Log lines of the runtime, without their times.
fn said(log: &str) -> Vec<String> {
    let words = |line: &str| {
        let (time, rest) = line.split_once(' ')?;
        (time.ends_with('Z') && time.starts_with("20")).then(|| rest.trim_start().to_owned())
    };
    log.lines().filter_map(words).collect()
}

/// `count` has task 1, `lines` task 2, `split` tasks 3 and 4.
const TWO: [&[&[u32]]; 2] = [&[&[1], &[3]], &[&[2], &[4]]];

#[test]
fn two_workers_start_connect_and_run_a_topology_to_its_end() {
    let machine = Machine::new(&TWO, &[]);
    let workers = [0, 1].map(|worker| machine.start(worker, 1, Spouts::Inactive));
    let supervisor = &machine.supervisor;
    for (index, process) in (0..).zip(&workers) {
        let report = supervisor.until(index, "is ready", |report| report.stage == Stage::Ready);
        assert_eq!((report.topology.as_str(), report.worker, report.pid), (ID, WorkerIndex(index), process.child.id()));
        assert_eq!(report.life, Life { plan: PlanVersion(1), incarnation: Incarnation(1) });
        assert_eq!((report.spouts, report.drained, report.placement), (Spouts::Inactive, true, PlanVersion(1)));
        assert!(report.memory_bytes > 1 << 20 && report.cpu_us > 0, "{report:?}");
        assert!(report.links[&WorkerIndex(1 - index)].connected);
        // Children of user code must not hold the slot.
        let stdin = std::fs::read_link(format!("/proc/{}/fd/0", report.pid)).unwrap();
        assert_eq!(stdin, Path::new("/dev/null"));
        let lock = machine.path(format!("lock-{index}"));
        assert_eq!(closed_for_children(report.pid, &lock), [true]);
        assert!(machine.is_held(index));
    }
    // Spouts stay quiet until they are told.
    assert_eq!(counts(&supervisor.until(1, "reports", |_| true), "lines").acked, 0);

    supervisor.answer(0, kept(Spouts::Active));
    supervisor.answer(1, kept(Spouts::Active));
    let lines = supervisor.until(1, "its input has ended", |report| report.stage == Stage::Ended);
    assert_eq!((counts(&lines, "lines").acked, counts(&lines, "lines").failed), (2, 0));
    let counted = supervisor.until(0, "its input has ended", |report| report.stage == Stage::Ended);
    let count = counts(&counted, "count");
    assert_eq!((count.executed, count.acked), (6, 6));
    let input = &count.inputs[0];
    assert_eq!((&*input.component, &*input.stream, input.executed, input.acked), ("split", "default", 6, 6));
    let split: u64 = [&lines, &counted].iter().map(|report| counts(report, "split").outputs["default"].emitted).sum();
    assert_eq!(split, 6);

    for (index, process) in (0..).zip(workers) {
        process.signal("TERM");
        let (code, log) = process.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(!machine.is_held(index));
        let said = said(&log);
        let port = machine.placement.addresses[usize::from(index)].as_ref().unwrap().port;
        let first = format!(
            "INFO worker_role::role: the worker starts topology={ID} worker={index} port={port} incarnation=1 pid="
        );
        assert!(said[0].starts_with(&first), "{log}");
        assert_eq!(said.last().unwrap(), "INFO worker_role::role: the worker ends", "{log}");
        assert!(said.contains(&"INFO worker_role::role: it was told to stop: drains, and ends".to_owned()), "{log}");
    }
}

/// `count` has tasks 1 and 2, `lines` task 3, `split` tasks 4 and 5: worker 1 has nothing but a `count`.
const COUNT_APART: [&[&[u32]]; 2] = [&[&[1], &[3], &[4], &[5]], &[&[2]]];
const SLOW: [&str; 4] = ["--mistake", "slow", "--counts", "2"];

/// A topology that goes on and on, a word a line.
fn endless() -> Machine {
    let mut machine = Machine::new(&COUNT_APART, &SLOW);
    std::fs::write(machine.path("text"), "to\nbe\nor\nnot\nthat\nis\nthe\nquestion\n").unwrap();
    machine.config.insert("topology.max.spout.pending".to_owned(), 64.into());
    machine
}

/// The words that a log says of itself.
fn told<'a>(log: &'a str, begin: &str) -> BTreeSet<&'a str> {
    log.lines().filter_map(|line| line.strip_prefix(begin)?.split('`').next()).collect()
}

#[test]
fn the_roots_of_a_killed_worker_fail_and_no_others_and_its_next_life_goes_on() {
    let machine = endless();
    let supervisor = &machine.supervisor;
    let workers = [0, 1].map(|worker| machine.start(worker, 1, Spouts::Active));
    let [first, mut second] = workers;
    supervisor.until(1, "has counted", |report| counts(report, "count").executed > 50);
    supervisor.until(0, "has acked", |report| counts(report, "lines").acked > 50);

    second.signal("KILL");
    assert_eq!(second.child.wait().unwrap().code(), None);
    let log_of_second = second.log();
    let life = Life { plan: PlanVersion(1), incarnation: Incarnation(1) };
    let gone = vec![GoneLife { worker: WorkerIndex(1), life }];
    supervisor.answer(0, Answer { gone, ..kept(Spouts::Active) });
    let report = supervisor.until(0, "its roots fail", |report| counts(report, "lines").failed > 0);
    assert_eq!(counts(&report, "lines").failed_by_kind.keys().collect::<Vec<_>>(), [&FailKind::WorkerLost]);

    let second = machine.start(1, 2, Spouts::Active);
    let is_next = |report: &Report| report.life.incarnation == Incarnation(2) && counts(report, "count").executed > 50;
    supervisor.until(1, "its next life counts", is_next);
    let acked = counts(&report, "lines").acked;
    supervisor.until(0, "goes on", |report| counts(report, "lines").acked > acked + 50);

    // What is pending finishes before the end.
    first.signal("TERM");
    let (code, log) = first.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(said(&log).last().unwrap(), "INFO worker_role::role: the worker ends", "{log}");
    assert!(log.contains("count has closed"), "{log}");
    let lost = "WARN worker::process: a worker is gone; the roots that touched it fail worker=1 incarnation=1";
    assert_eq!(said(&log).iter().filter(|line| *line == lost).count(), 1, "{log}");
    let (here, there) = (told(&log, "counts `"), told(&log_of_second, "counts `"));
    assert!(!here.is_empty() && here.is_disjoint(&there), "{here:?} {there:?}");
    let failed = told(&log, "failed `");
    assert!(!failed.is_empty() && failed.is_subset(&there), "{failed:?} {there:?}");
    second.signal("TERM");
    assert_eq!(second.end().0, Some(0));
}

#[test]
fn spouts_stop_and_go_on_as_they_are_told() {
    let machine = endless();
    let supervisor = &machine.supervisor;
    let _workers = [0, 1].map(|worker| machine.start(worker, 1, Spouts::Active));
    supervisor.until(0, "has acked", |report| counts(report, "lines").acked > 50);
    supervisor.answer(0, kept(Spouts::Inactive));
    let drained = |report: &Report| report.drained && report.spouts == Spouts::Inactive;
    let quiet = supervisor.until(0, "is drained", drained);
    assert_eq!(counts(&quiet, "lines").pending, 0);
    let again = supervisor.until(0, "reports again", |report| report.number > quiet.number + 1);
    assert_eq!(counts(&again, "lines").acked, counts(&quiet, "lines").acked);
    supervisor.answer(0, kept(Spouts::Active));
    let acked = counts(&quiet, "lines").acked;
    let active = supervisor.until(0, "goes on", |report| counts(report, "lines").acked > acked);
    assert_eq!((active.spouts, active.drained), (Spouts::Active, false));
    assert_eq!(counts(&active, "lines").failed, 0);
}

#[test]
fn a_second_signal_ends_a_worker_at_once() {
    let machine = Machine::new(&[&[&[1], &[2], &[3], &[4]]], &["--mistake", "stuck"]);
    let worker = machine.start(0, 1, Spouts::Active);
    machine.supervisor.until(0, "is stuck", |report| counts(report, "lines").pending > 0);
    worker.signal("TERM");
    machine.supervisor.until(0, "drains", |report| report.stage == Stage::Draining);
    worker.signal("TERM");
    let (code, log) = worker.end();
    assert_eq!(code, Some(143), "{log}");
    assert!(
        said(&log).last().unwrap().starts_with("WARN worker_role::role: told to stop again: ends at once"),
        "{log}"
    );
}

#[test]
fn a_fatal_error_is_reported_and_the_worker_stays_without_asking_its_spouts() {
    let machine = Machine::new(&[&[&[1], &[2], &[3], &[4]]], &["--mistake", "fatal"]);
    let worker = machine.start(0, 1, Spouts::Active);
    let report = machine.supervisor.until(0, "fails", |report| report.fatal.is_some());
    let Fatal { component, error } = report.fatal.unwrap();
    assert_eq!(component, "count");
    assert!(error.starts_with("no room for `"), "{error}");
    assert_eq!(report.spouts, Spouts::Inactive);
    worker.signal("TERM");
    let (code, log) = worker.end();
    assert_eq!(code, Some(0), "{log}");
    let line =
        format!("ERROR worker_role::role: component `count` stopped for good: {error}; the topology becomes inactive");
    assert!(said(&log).contains(&line), "{log}");
}

#[test]
fn a_worker_whose_slot_is_anothers_drains_and_ends() {
    let machine = endless();
    let [first, second] = [0, 1].map(|worker| machine.start(worker, 1, Spouts::Active));
    machine.supervisor.until(0, "has acked", |report| counts(report, "lines").acked > 50);
    machine.supervisor.answer(0, Answer { slot: Slot::Gone, ..kept(Spouts::Active) });
    let (code, log) = first.end();
    assert_eq!(code, Some(0), "{log}");
    let said = said(&log);
    assert!(said.contains(&"INFO worker_role::role: its slot is another's: drains, and ends".to_owned()), "{log}");
    assert_eq!(said.last().unwrap(), "INFO worker_role::role: the worker ends", "{log}");
    assert!(told(&log, "failed `").is_empty(), "{log}");
    drop(second);
}

#[test]
fn a_peer_that_was_moved_is_found_again_and_an_own_slot_that_was_changed_is_left() {
    let mut machine = endless();
    let [first, mut second] = [0, 1].map(|worker| machine.start(worker, 1, Spouts::Active));
    machine.supervisor.until(0, "has acked", |report| counts(report, "lines").acked > 50);
    second.signal("KILL");
    second.child.wait().unwrap();

    // Its slot is elsewhere now, in its first incarnation there.
    machine.placement.version = PlanVersion(2);
    machine.placement.plan.workers[1].version = PlanVersion(2);
    machine.placement.addresses[1].as_mut().unwrap().port = free_port();
    machine.supervisor.answer(1, kept(Spouts::Active));
    let moved = machine.start(1, 1, Spouts::Active);
    machine.supervisor.answer(0, Answer { placement: Some(machine.placement.clone()), ..kept(Spouts::Active) });
    let follows = |report: &Report| report.placement == PlanVersion(2) && report.links[&WorkerIndex(1)].connected;
    let before = machine.supervisor.until(0, "follows the plan", follows);
    let acked = counts(&before, "lines").acked;
    machine.supervisor.until(0, "goes on", |report| counts(report, "lines").acked > acked + 50);
    assert_eq!(before.life, Life { plan: PlanVersion(1), incarnation: Incarnation(1) });

    machine.placement.version = PlanVersion(3);
    machine.placement.plan.workers[0].version = PlanVersion(3);
    machine.supervisor.answer(0, Answer { placement: Some(machine.placement.clone()), ..kept(Spouts::Active) });
    let (code, log) = first.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("INFO worker_role::role: a later plan has changed its slot: drains, and ends"), "{log}");
    drop(moved);
}

#[test]
fn an_answer_of_another_format_is_ignored_and_said_once() {
    let machine = Machine::new(&[&[&[1], &[2], &[3], &[4]]], &[]);
    machine.supervisor.answer(0, Answer { format: 99, slot: Slot::Gone, ..kept(Spouts::Active) });
    let worker = machine.start(0, 1, Spouts::Inactive);
    let later = machine.supervisor.until(0, "goes on", |report| report.number > 3);
    assert_eq!((later.stage, later.spouts), (Stage::Ready, Spouts::Inactive));
    let ignored = "WARN storm::worker_role::reporting: ignored what the Supervisor said: the answer has format 99, and this is \
                   built for format 1; build the topology and the daemons with the same version";
    assert_eq!(said(&worker.log()).iter().filter(|line| *line == ignored).count(), 1, "{}", worker.log());
}

#[test]
fn the_log_is_rotated_and_all_output_goes_on_into_the_new_one() {
    let mut machine = endless();
    machine.log_bytes = 2_000;
    machine.config.insert("topology.debug".to_owned(), true.into());
    let [first, second] = [0, 1].map(|worker| machine.start(worker, 1, Spouts::Active));
    let rotated = |number| machine.path(format!("worker-0.log.{number}"));
    machine.supervisor.until(0, "has rotated twice", |_| rotated(2).exists());
    let number = machine.supervisor.until(0, "reports", |_| true).number;
    machine.supervisor.until(0, "has rotated again", |report| report.number > number + 2);
    first.signal("TERM");
    let (code, log) = first.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("count has closed"), "{log}");
    assert_eq!(said(&log).last().unwrap(), "INFO worker_role::role: the worker ends", "{log}");
    assert!(rotated(1).exists() && rotated(2).exists() && !rotated(3).exists());
    assert!(!log.contains("the worker starts"), "{log}");
    drop(second);
}

/// What a Nimbus of the test hears and says.
#[test]
fn a_worker_whose_log_cannot_be_written_reports_and_ends_in_order() {
    let machine = Machine::new(&[&[&[1], &[2], &[3, 4]]], &["--mistake", "panic"]);
    let mut launch = machine.launch(0, 1, Spouts::Active);
    launch.log = "/dev/full".into();
    let mut process = machine.start_by(&launch);
    // A panic's hook writes there too.
    machine.supervisor.until(0, "its bolt has panicked", |report| counts(report, "count").restarts > 0);
    process.signal("TERM");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
}

#[derive(Clone, Default)]
struct Nimbus(Arc<Known>);

impl Nimbus {
    /// Serves on a free port of a thread of its own; gives the address.
    fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let known = self.0.clone();
        let report = move |axum::Json(report): axum::Json<Report>| {
            let mut state = known.state.lock().unwrap();
            let answer = state.answers.get(&report.worker).cloned().unwrap_or_else(|| kept(Spouts::Inactive));
            state.reports.insert(report.worker, report);
            known.changed.notify_all();
            async { axum::Json(answer) }
        };
        let routes = axum::Router::new().route("/v1/workers/report", axum::routing::post(report));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, routes).await.unwrap();
            });
        });
        address
    }
}

#[test]
fn a_worker_whose_supervisor_is_gone_goes_on_and_reports_to_nimbus() {
    let mut machine = Machine::new(&[&[&[1], &[2], &[3], &[4]]], &[]);
    let nimbus = Nimbus::default();
    // The first of them is away.
    machine.nimbuses = vec![format!("127.0.0.1:{}", free_port()), nimbus.serve()];
    let worker = machine.start(0, 1, Spouts::Inactive);
    machine.supervisor.until(0, "is ready", |report| report.stage == Stage::Ready);
    machine.supervisor.vanish();
    let told = Supervisor { path: machine.supervisor.path.clone(), known: nimbus.0.clone() };
    let quiet = told.until(0, "tells Nimbus", |_| true);
    assert_eq!((quiet.stage, quiet.spouts), (Stage::Ready, Spouts::Inactive));
    told.answer(0, kept(Spouts::Active));
    let ended = told.until(0, "does what Nimbus says", |report| report.stage == Stage::Ended);
    assert_eq!(counts(&ended, "lines").acked, 2);
    // Another Supervisor comes and finds it.
    let next = Supervisor::listen(machine.supervisor.path.clone());
    let found = next.until(0, "says hello", |report| report.number > ended.number);
    assert_eq!((found.pid, found.life), (quiet.pid, quiet.life));
    worker.signal("TERM");
    let (code, log) = worker.end();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_worker_that_is_not_ready_says_what_it_waits_for() {
    let machine = endless();
    let worker = machine.start(0, 1, Spouts::Active);
    let begin = "WARN worker_role::role: not ready after ";
    let waits = |line: &String| line.starts_with(begin) && line.ends_with(" s: it waits for worker 1");
    let has_said = |_: &Report| said(&worker.log()).iter().any(waits);
    let report = machine.supervisor.until(0, "says what it waits for", has_said);
    assert_eq!((report.stage, report.spouts), (Stage::Starting, Spouts::Inactive));
    let _peer = machine.start(1, 1, Spouts::Active);
    machine.supervisor.until(0, "has acked", |report| counts(report, "lines").acked > 0);
    let said = said(&worker.log());
    let order = ["not ready after", "connected with a worker", "active: the spouts", "ready: all"];
    let known = |line: &String| order.into_iter().find(|words| line.contains(&format!(": {words}")));
    let found: Vec<&str> = said.iter().filter_map(known).collect();
    assert_eq!(found, order, "{said:#?}");
}

/// What a worker says that does not start.
fn refused(machine: &Machine, launch: &Launch) -> (i32, String) {
    let (code, log) = machine.start_by(launch).end();
    std::fs::remove_file(&launch.log).unwrap();
    (code.unwrap(), log)
}

#[test]
fn another_graph_is_refused() {
    let machine = Machine::new(&TWO, &[]);
    let mut launch = machine.launch(0, 1, Spouts::Active);
    let begin = "error: the executable builds another topology here than was submitted as `word-count-1-1700000000`: ";
    let end = "; submit it again, and put what it reads from the environment into `topology.environment`\n";
    launch.arguments.extend(["--counts".to_owned(), "3".to_owned()]);
    let differs = "component `count` has 3 for `executors`, submitted was 1";
    assert_eq!(refused(&machine, &launch), (64, format!("{begin}{differs}{end}")));
    launch.arguments = machine.arguments.clone();
    launch.config.insert("topology.name".to_owned(), "other".into());
    let differs = "it is called `other`, submitted was `word-count`";
    assert_eq!(refused(&machine, &launch), (64, format!("{begin}{differs}{end}")));
    std::fs::remove_file(&launch.graph).unwrap();
    let err = format!(
        "error: cannot read the submitted graph `{}`: No such file or directory (os error 2); the Supervisor puts it there\n",
        launch.graph.display()
    );
    assert_eq!(refused(&machine, &launch), (66, err));
}

#[test]
fn a_launch_file_that_does_not_fit_is_refused() {
    let machine = Machine::new(&TWO, &[]);
    let file = machine.path("launch.json");
    let shown = file.display();
    let said = || {
        let output = machine.command(&["worker", ID, "6700"]).output().unwrap();
        assert!(output.stdout.is_empty());
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let missing = format!(
        "error: cannot read the launch file `{shown}`: No such file or directory (os error 2); \
         a Supervisor writes it before it starts a worker (to run the topology by hand, say `local`)\n"
    );
    assert_eq!(said(), (66, missing));
    let launch = machine.launch(0, 1, Spouts::Active);
    let mut json = serde_json::to_value(&launch).unwrap();
    let check = |change: &dyn Fn(&mut Value), why: &str| {
        let mut json = json.clone();
        change(&mut json);
        std::fs::write(&file, serde_json::to_vec(&json).unwrap()).unwrap();
        assert_eq!(said(), (64, format!("error: cannot start by `{shown}`: {why}\n")));
    };
    let port = launch.port;
    check(&|_| {}, &format!("it is for port {port} of `{ID}`, and the command line says port 6700 of `{ID}`"));
    check(
        &|json| *json = serde_json::json!({ "format": 2 }),
        "the launch file has format 2, and this is built for format 1; \
         build the topology and the daemons with the same version",
    );
    let set_port = |json: &mut Value| json["port"] = 6700.into();
    check(
        &|json| (set_port(json), json["worker"] = 2.into()).1,
        "its plan has 2 workers, and this is worker 2, counted from 0",
    );
    json.as_object_mut().unwrap().remove("incarnation");
    std::fs::write(&file, serde_json::to_vec(&json).unwrap()).unwrap();
    let (code, err) = said();
    assert_eq!(code, 64);
    let begin =
        format!("error: cannot start by `{shown}`: the launch file cannot be read: missing field `incarnation` at ");
    assert!(err.starts_with(&begin), "{err}");
}

#[test]
fn a_port_is_taken() {
    let machine = Machine::new(&TWO, &[]);
    let launch = machine.launch(0, 1, Spouts::Active);
    let _taken = TcpListener::bind(("127.0.0.1", launch.port.0)).unwrap();
    let port = launch.port;
    let err = format!(
        "error: cannot listen at port {port} of 127.0.0.1 for the other workers: Address already in use (os error 98); \
         end what listens there, or take port {port} out of `supervisor.slots.ports`\n"
    );
    assert_eq!(refused(&machine, &launch), (1, err));
    assert!(!machine.is_held(0));
}
