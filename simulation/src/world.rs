//! What all of a run share: its log, its network, its cluster state, its randomness, and who judges it.
//!
//! Not here: what happens in it (`run`, `faults`). Invariant: everything random in a run is drawn from its seed, in an order that the
//! seed determines.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cluster_state::paths;
use cluster_state::records::NameTaken;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use worker_api::ids::{TopologyId, TopologyName};

use crate::log::Log;
use crate::network::{MachineId, Network};
use crate::nimbuses::Nimbuses;
use crate::oracle::{Invariant, Observation, Settled, Violation};
use crate::process::{Polls, Process};
use crate::store::ClusterState;
use crate::workload::SubmittedTopology;

/// What all of a run share; a cheap clone.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    log: Log,
    network: Network,
    cluster_state: OnceLock<ClusterState>,
    nimbuses: Nimbuses,
    polls: Arc<Polls>,
    random: Mutex<ChaCha8Rng>,
    processes: AtomicU64,
    machines: Mutex<BTreeMap<String, MachineId>>,
    executables: Mutex<BTreeMap<String, SubmittedTopology>>,
    judges: Mutex<Judges>,
}

#[derive(Default)]
struct Judges {
    invariants: Vec<Box<dyn Invariant + Send>>,
    violations: Vec<(Duration, Violation)>,
    counts: Counts,
}

/// What was seen of the topologies of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Roots that spouts have emitted, replays among them.
    pub emitted: u64,
    /// Of these, those that were given before.
    pub replayed: u64,
    /// Roots that were acked.
    pub acked: u64,
    /// Roots that failed.
    pub failed: u64,
    /// Effects at sinks.
    pub effects: u64,
    /// Workers that were started.
    pub workers_started: u64,
    /// Writes to the cluster state.
    pub records_written: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Counts) {
        self.emitted += other.emitted;
        self.replayed += other.replayed;
        self.acked += other.acked;
        self.failed += other.failed;
        self.effects += other.effects;
        self.workers_started += other.workers_started;
        self.records_written += other.records_written;
    }
}

impl World {
    /// A new world by this seed, which lasts for at most so many polls of its processes. To be made in the runtime of the run.
    pub fn new(seed: u64, most_polls: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (network_seed, state_seed) = (random.random(), random.random());
        let network = Network::new(network_seed);
        let world = World(Arc::new(Inner {
            log: Log::new(),
            nimbuses: Nimbuses::new(&network),
            network,
            cluster_state: OnceLock::new(),
            polls: Polls::at_most(most_polls),
            random: Mutex::new(random),
            processes: AtomicU64::new(0),
            machines: Mutex::default(),
            executables: Mutex::default(),
            judges: Mutex::default(),
        }));
        let state = ClusterState::new(state_seed, world.ear());
        let _ = world.0.cluster_state.set(state);
        world
    }

    /// Who hears what happens, for what the world itself holds.
    pub fn ear(&self) -> Arc<dyn Fn(Observation) + Send + Sync> {
        let world = Arc::downgrade(&self.0);
        Arc::new(move |observation| {
            if let Some(world) = world.upgrade() {
                World(world).hear(observation);
            }
        })
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// Writes a line of its own into the log.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.0.log.line("world", what);
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// Its cluster state.
    ///
    /// # Panics
    /// Never: it is set when the world is made.
    pub fn cluster_state(&self) -> &ClusterState {
        self.0.cluster_state.get().expect("it is set when the world is made")
    }

    /// How Nimbuses are asked.
    pub fn nimbuses(&self) -> &Nimbuses {
        &self.0.nimbuses
    }

    /// The machines of these addresses, `host:port`.
    pub fn machines_at(&self, addresses: &[String]) -> Vec<MachineId> {
        let host = |address: &String| self.machine_called(address.rsplit_once(':')?.0);
        addresses.iter().filter_map(host).collect()
    }

    /// Its polls.
    pub fn polls(&self) -> &Polls {
        &self.0.polls
    }

    /// A process with a clock on its wall.
    pub fn process(&self, name: String, wall: impl Fn() -> u64 + Send + Sync + 'static) -> Process {
        let number = self.0.processes.fetch_add(1, Ordering::Relaxed) + 1;
        Process::new(name, number, self.random(), wall, self.0.polls.clone())
    }

    /// A random number, all 64 bits of it.
    pub fn random(&self) -> u64 {
        lock(&self.0.random).random()
    }

    /// So many milliseconds.
    pub fn random_ms(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(lock(&self.0.random).random_range(range))
    }

    /// A machine is called so.
    pub fn call_machine(&self, name: &str, id: MachineId) {
        lock(&self.0.machines).insert(name.to_owned(), id);
    }

    /// Which machine is called so.
    pub fn machine_called(&self, name: &str) -> Option<MachineId> {
        lock(&self.0.machines).get(name).copied()
    }

    /// What a machine is called.
    pub fn name_of(&self, id: MachineId) -> String {
        let machines = lock(&self.0.machines);
        machines.iter().find(|(_, machine)| **machine == id).map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// An executable whose content is [`executable_of`] this topology runs it.
    pub fn install(&self, topology: SubmittedTopology) {
        lock(&self.0.executables).insert(topology.name().to_string(), topology);
    }

    /// The topology that an executable runs, if it is one.
    pub fn executable(&self, content: &[u8]) -> Option<SubmittedTopology> {
        let executables = lock(&self.0.executables);
        executables.values().find(|topology| executable_of(topology) == content).cloned()
    }

    /// Whether this Nimbus leads, by the record.
    pub fn leads(&self, nimbus: &str) -> bool {
        self.leading().is_some_and(|leader| leader == nimbus)
    }

    fn leading(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Leader {
            nimbus: String,
        }
        let values = self.cluster_state().values();
        serde_json::from_slice::<Leader>(values.get("leader")?).ok().map(|leader| leader.nimbus)
    }

    /// The machine of the Nimbus that leads, by the record.
    pub fn leader(&self) -> Option<MachineId> {
        let nimbus = self.leading()?;
        // An id is the machine's name and the number of its disk.
        self.machine_called(nimbus.rsplit_once('-')?.0)
    }

    /// Whether there is a record of this topology.
    pub fn is_recorded(&self, id: &TopologyId) -> bool {
        self.cluster_state().values().contains_key(paths::topology(id).as_str())
    }

    /// Which topology has a name, by the records.
    pub fn topology_called(&self, name: &TopologyName) -> Option<TopologyId> {
        let values = self.cluster_state().values();
        let taken = values.get(paths::name(name).as_str())?;
        let NameTaken { topology, .. } = serde_json::from_slice(taken).ok()?;
        Some(topology)
    }

    /// These judge what happens from now on.
    pub fn judged_by(&self, invariants: Vec<Box<dyn Invariant + Send>>) {
        lock(&self.0.judges).invariants = invariants;
    }

    /// Something has happened.
    pub fn hear(&self, observation: Observation) {
        self.write(&observation);
        let at = self.0.log.at();
        let mut judges = lock(&self.0.judges);
        let Judges { invariants, violations, counts } = &mut *judges;
        match &observation {
            Observation::Emitted { attempt, .. } => {
                counts.emitted += 1;
                counts.replayed += u64::from(*attempt > 1);
            }
            Observation::Acked { .. } => counts.acked += 1,
            Observation::Failed { .. } => counts.failed += 1,
            Observation::Effect { .. } => counts.effects += 1,
            Observation::WorkerStarted { .. } => counts.workers_started += 1,
            Observation::Recorded { .. } => counts.records_written += 1,
            _ => {}
        }
        for invariant in invariants {
            if let Err(violation) = invariant.observe(at, &observation) {
                self.0.log.line("oracle", format_args!("VIOLATION {violation}"));
                violations.push((at, violation));
            }
        }
    }

    /// What does not hold, as something else than an invariant has found.
    pub fn violated(&self, invariant: &'static str, what: String) {
        let violation = Violation { invariant, what };
        self.0.log.line("oracle", format_args!("VIOLATION {violation}"));
        lock(&self.0.judges).violations.push((self.0.log.at(), violation));
    }

    /// Hands over what is left at the end.
    pub fn finish(&self, settled: &Settled) {
        let at = self.0.log.at();
        let mut judges = lock(&self.0.judges);
        let Judges { invariants, violations, .. } = &mut *judges;
        for invariant in invariants {
            if let Err(violation) = invariant.finish(settled) {
                self.0.log.line("oracle", format_args!("VIOLATION {violation}"));
                violations.push((at, violation));
            }
        }
    }

    /// Whether anything does not hold.
    pub fn is_violated(&self) -> bool {
        !lock(&self.0.judges).violations.is_empty()
    }

    /// What does not hold, and when it was seen.
    pub fn violations(&self) -> Vec<(Duration, Violation)> {
        lock(&self.0.judges).violations.clone()
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        lock(&self.0.judges).counts
    }

    /// Into the log: who reads it knows the words of `oracle`.
    fn write(&self, observation: &Observation) {
        let line = |what: fmt::Arguments<'_>| self.0.log.line("saw", what);
        match observation {
            Observation::Prepared { topology, task, by: (worker, life) } => {
                line(format_args!("{topology} task {} prepared by worker {worker}, {life}", task.0));
            }
            Observation::Emitted { topology, tuple, attempt, by: (worker, _) } => {
                let (source, offset) = (tuple.source, tuple.offset);
                line(format_args!("{topology} {source}:{offset} emitted, attempt {attempt}, worker {worker}"));
            }
            Observation::Effect { topology, tuple, attempt, index } => {
                let (source, offset) = (tuple.source, tuple.offset);
                line(format_args!("{topology} {source}:{offset} effect {index}, attempt {attempt}"));
            }
            Observation::Acked { topology, tuple, attempt } => {
                let (source, offset) = (tuple.source, tuple.offset);
                line(format_args!("{topology} {source}:{offset} acked, attempt {attempt}"));
            }
            Observation::Failed { topology, tuple, attempt, reason } => {
                let (source, offset) = (tuple.source, tuple.offset);
                line(format_args!("{topology} {source}:{offset} failed, attempt {attempt}: {reason}"));
            }
            Observation::Recorded { writer, path, value } => match value {
                Some(value) => {
                    let text = String::from_utf8_lossy(value);
                    let words: Vec<&str> = text.split_whitespace().collect();
                    line(format_args!("{writer} wrote {path}: {}", words.join(" ")));
                }
                None => line(format_args!("{writer} removed {path}")),
            },
            Observation::Heard { nimbus, machine, .. } => line(format_args!("{nimbus} heard {machine}")),
            Observation::WorkerEnded { topology, worker, life, in_order, .. } => {
                let how = if *in_order { "in order" } else { "at once" };
                line(format_args!("{topology} worker {worker}, {life} ended {how}"));
            }
            // Each second from each worker: it says itself when that is something new.
            Observation::Reported { .. } => {}
            other => line(format_args!("{other:?}")),
        }
    }
}

/// What the executable of a topology contains: enough of it that it comes in pieces.
pub fn executable_of(topology: &SubmittedTopology) -> Vec<u8> {
    format!("executable of {}\n", topology.name()).repeat(200).into_bytes()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
