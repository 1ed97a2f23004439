//! What must hold in every run, one file for each invariant.
//!
//! The world tells what it sees, as [`Observation`]s in the order of their happening, and at the end what is left
//! ([`Settled`]). Not here: making things happen. Invariant: the oracle only listens, so that a run is the same without it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use worker::process::WorkerReport;
use worker_api::ids::{Life, PlanVersion, Port, SupervisorId, TopologyId, WorkerIndex};

/// A tuple that a source has given, across its replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceTuple {
    /// Which source: the spout's task.
    pub source: u32,
    /// Its place in it, from 0.
    pub offset: u64,
}

/// What happens in a run, and an invariant may speak of.
#[derive(Clone, Debug)]
pub enum Observation {
    /// A spout has emitted a root; `attempt` counts from 1.
    Emitted { topology: TopologyId, tuple: SourceTuple, attempt: u32 },
    /// Its effect, one of as many as it should have, has reached a sink.
    Effect { topology: TopologyId, tuple: SourceTuple, index: u32 },
    /// The spout has heard that it is acked.
    Acked { topology: TopologyId, tuple: SourceTuple, attempt: u32 },
    /// The spout has heard that it failed.
    Failed { topology: TopologyId, tuple: SourceTuple, attempt: u32, reason: String },
    /// A value of the cluster state was written (`None`: removed), by a writer whose session had this number.
    Recorded { writer: String, path: String, value: Option<Vec<u8>> },
    /// A worker's process has begun.
    WorkerStarted { topology: TopologyId, worker: WorkerIndex, life: Life, machine: SupervisorId, port: Port },
    /// It has ended; `report` is what it had counted at its last breath.
    WorkerEnded { topology: TopologyId, worker: WorkerIndex, life: Life, in_order: bool, report: Box<WorkerReport> },
    /// A worker's link has accepted this life of a peer.
    Accepted { topology: TopologyId, by: (WorkerIndex, Life), peer: (WorkerIndex, Life) },
    /// A topology was submitted, and the submitter was told so; its sources, with how many effects a tuple has.
    Submitted { topology: TopologyId, effects: u32 },
    /// A kill of it was answered.
    Killed { topology: TopologyId },
    /// From now on nothing is disturbed any more.
    FaultsStop,
}

/// What is left when faults have stopped, and the cluster had its time to settle.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Topologies that shall run, with what they come to.
    pub running: BTreeMap<TopologyId, Running>,
    /// All paths of the cluster state that are left.
    pub records: BTreeSet<String>,
    /// Blobs on the disks of Nimbuses and machines, by who has them.
    pub blobs: BTreeMap<String, BTreeSet<String>>,
    /// Folders and files of workers on machines.
    pub folders: BTreeMap<SupervisorId, BTreeSet<String>>,
    /// Worker processes that live, by machine.
    pub processes: BTreeMap<SupervisorId, BTreeSet<(TopologyId, WorkerIndex, Life)>>,
}

/// A topology at the end.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// Its plan.
    pub plan: PlanVersion,
    /// How many workers it should have.
    pub workers_wanted: usize,
    /// Those of its plan that run and are ready, with what they counted.
    pub workers: BTreeMap<WorkerIndex, (Life, Option<Box<WorkerReport>>)>,
    /// Roots that are pending.
    pub pending: u64,
    /// Tuples that wait in inboxes and on links.
    pub queued: u64,
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// Which invariant: the name of its file.
    pub invariant: &'static str,
    /// What was seen, in a sentence.
    pub what: String,
}

/// Something that must hold.
pub trait Invariant {
    /// Hears what happens, `at` on the virtual clock.
    ///
    /// # Errors
    /// If it does not hold any more.
    fn observe(&mut self, at: Duration, observation: &Observation) -> Result<(), Violation>;

    /// Hears what is left at the end.
    ///
    /// # Errors
    /// If it does not hold.
    fn finish(&mut self, settled: &Settled) -> Result<(), Violation>;
}
