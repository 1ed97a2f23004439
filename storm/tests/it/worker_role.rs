//! The role `worker`: real processes, with the test as their Supervisor.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;
use storm::ids::TaskId;
use worker_api::answer::{ANSWER_FORMAT, Answer, GoneLife, Slot, Spouts};
use worker_api::ids::{Incarnation, Life, PlanVersion, Port, SupervisorId, TopologyId, TopologyName, WorkerIndex};
use worker_api::launch::{LAUNCH_FORMAT, Launch};
use worker_api::plan::{Address, Placement, Plan, SlotPlan};
use worker_api::report::{Counts, Report, Stage};
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
    Answer { format: ANSWER_FORMAT, slot: Slot::Kept, spouts, placement: None, gone: Vec::new() }
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
            "INFO storm::worker_role: the worker starts topology={ID} worker={index} port={port} incarnation=1 pid="
        );
        assert!(said[0].starts_with(&first), "{log}");
        assert_eq!(said.last().unwrap(), "INFO storm::worker_role: the worker ends", "{log}");
        assert!(said.contains(&"INFO storm::worker_role: it was told to stop: drains, and ends".to_owned()), "{log}");
    }
}
