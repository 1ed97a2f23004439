//! What must hold in every run, one file for each invariant.
//!
//! The world tells what it sees, as [`Observation`]s in the order of their happening, and at the end what is left
//! ([`Settled`]). How exact each is stands at the head of its file; in short:
//!
//! | file | exact | a bound |
//! |---|---|---|
//! | `at_least_once` | effects before the ack, none twice, nothing forgotten | |
//! | `one_outcome` | one end for each attempt | |
//! | `incarnations` | no older life of a peer after a newer one | |
//! | `conservation` | edges, if no worker ended; a living worker's own counts | edges, if workers ended |
//! | `permits` | what was granted over a link has been received, at the end | |
//! | `plans` | versions, parts that heads name | |
//! | `leads` | a lead for each write, one at a time | |
//! | `slots` | one worker at a time, incarnations | how long two topologies may have one slot in their plans |
//! | `followed` | no older plan or record after a newer one | how soon a worker has heard of what holds |
//! | `activation` | who was prepared before spouts are asked | |
//! | `draining` | what was pending when it went on, but on machines that may be dead | the time, if a clock was set |
//! | `liveness` | what is left at the end; as many workers as were asked for, if there are slots for all | when that is: the world's patience |
//! | `moves` | who is moved off a machine that the leader has heard | for how long after a silence |
//! | `baseline` | records, leases, folders, processes, blobs at the end | |
//!
//! Not here: making things happen. Invariant: the oracle only listens, so that a run is the same without it.

mod activation;
mod at_least_once;
mod baseline;
mod conservation;
mod draining;
mod followed;
mod hearing;
mod incarnations;
mod leads;
mod liveness;
mod moves;
mod noticeboard;
mod one_outcome;
mod permits;
mod plans;
mod roots;
mod slots;
#[cfg(test)]
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use topology_api::ids::TaskId;
use worker::process::WorkerReport;
use worker_api::ids::{Life, PlanVersion, Port, Revision, SupervisorId, TopologyId, TopologyName, WorkerIndex};

use crate::workload::Shape;

pub use activation::Activation;
pub use at_least_once::AtLeastOnce;
pub use baseline::Baseline;
pub use conservation::Conservation;
pub use draining::Draining;
pub use followed::Followed;
pub use incarnations::Incarnations;
pub use leads::Leads;
pub use liveness::Liveness;
pub use moves::Moves;
pub use one_outcome::OneOutcome;
pub use permits::Permits;
pub use plans::Plans;
pub use slots::Slots;

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
    /// A bolt's task was prepared.
    Prepared {
        /// Its topology.
        topology: TopologyId,
        /// The task.
        task: TaskId,
        /// The worker that runs it, and which life of it.
        by: (WorkerIndex, Life),
    },
    /// A spout has emitted a root.
    Emitted {
        /// Its topology.
        topology: TopologyId,
        /// What it stands for.
        tuple: SourceTuple,
        /// How often the source has given it, from 1; no two spouts give one attempt.
        attempt: u32,
        /// The worker that runs the spout, and which life of it.
        by: (WorkerIndex, Life),
    },
    /// Its effect, one of as many as it should have, has reached a sink.
    Effect {
        /// Its topology.
        topology: TopologyId,
        /// Of which tuple.
        tuple: SourceTuple,
        /// Of which attempt.
        attempt: u32,
        /// Which of its effects, from 0.
        index: u32,
    },
    /// The spout has heard that it is acked.
    Acked {
        /// Its topology.
        topology: TopologyId,
        /// What it stands for.
        tuple: SourceTuple,
        /// Which attempt.
        attempt: u32,
    },
    /// The spout has heard that it failed.
    Failed {
        /// Its topology.
        topology: TopologyId,
        /// What it stands for.
        tuple: SourceTuple,
        /// Which attempt.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// A value of the cluster state was written or removed: one of these for each step of a transaction, in its order.
    Recorded {
        /// Whose session did it; empty if a session's end did.
        writer: String,
        /// Where.
        path: String,
        /// The record's bytes; `None` if it was removed.
        value: Option<Vec<u8>>,
    },
    /// A worker's process has begun.
    WorkerStarted {
        /// Its topology.
        topology: TopologyId,
        /// Which worker of it.
        worker: WorkerIndex,
        /// Which life.
        life: Life,
        /// On which machine.
        machine: SupervisorId,
        /// In which slot.
        port: Port,
    },
    /// A worker has reported what it has heard of.
    Reported {
        /// Its topology.
        topology: TopologyId,
        /// Which worker of it, and which life.
        by: (WorkerIndex, Life),
        /// The plan that it goes by.
        placement: PlanVersion,
        /// The record of its topology that it obeys.
        revision: Revision,
    },
    /// It has ended.
    WorkerEnded {
        /// Its topology.
        topology: TopologyId,
        /// Which worker of it.
        worker: WorkerIndex,
        /// Which life.
        life: Life,
        /// Whether it ended by itself, and not by a kill or a crash.
        in_order: bool,
        /// What it had counted at its last breath.
        report: Box<WorkerReport>,
    },
    /// A worker's link has accepted this life of a peer.
    Accepted {
        /// Their topology.
        topology: TopologyId,
        /// Who has accepted.
        by: (WorkerIndex, Life),
        /// Whom.
        peer: (WorkerIndex, Life),
    },
    /// A topology was submitted, and the submitter was told so.
    Submitted {
        /// Which.
        topology: TopologyId,
        /// How many effects a tuple of its sources has.
        effects: u32,
    },
    /// A kill of it was answered.
    Killed {
        /// Which.
        topology: TopologyId,
    },
    /// The clock on the wall of a machine or a Nimbus was set.
    ClockJumped {
        /// Its name.
        machine: String,
    },
    /// A Nimbus has answered a report of a machine, or of a worker on it.
    Heard {
        /// The Nimbus's machine.
        nimbus: String,
        /// The machine's name.
        machine: String,
        /// How long ago the report came.
        took: Duration,
    },
    /// A machine is not, or does not work or reach others, as it should, for so long from now on.
    Disturbed {
        /// Its name.
        machine: String,
        /// How long.
        span: Duration,
    },
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
    /// Nimbuses and Supervisors that live, by their ids.
    pub daemons: BTreeSet<String>,
    /// Worker processes that live, by machine.
    pub processes: BTreeMap<SupervisorId, BTreeSet<(TopologyId, WorkerIndex, Life)>>,
}

/// A topology at the end.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// Its plan.
    pub plan: PlanVersion,
    /// How many workers its plan has; when its input has finished, those that are left.
    pub workers_planned: usize,
    /// How many it should have by its record, where there are slots for all; else as its plan has, but one at least.
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

impl Violation {
    fn new(invariant: &'static str, what: String) -> Self {
        Violation { invariant, what }
    }
}

/// All invariants, for topologies of these shapes; of others they know what they are told.
pub fn invariants(shapes: &BTreeMap<TopologyName, Shape>) -> Vec<Box<dyn Invariant + Send>> {
    let mut all = between_workers(shapes);
    let of_daemons: [Box<dyn Invariant + Send>; 8] = [
        Box::new(Plans::default()),
        Box::new(Leads::default()),
        Box::new(Slots::default()),
        Box::new(Followed::default()),
        Box::new(Activation::new(shapes)),
        Box::new(Draining::default()),
        Box::new(Moves::default()),
        Box::new(Baseline::default()),
    ];
    all.extend(of_daemons);
    all
}

/// Those that need no daemons and no records: what follows from tuples, lives and counts.
pub fn between_workers(shapes: &BTreeMap<TopologyName, Shape>) -> Vec<Box<dyn Invariant + Send>> {
    vec![
        Box::new(AtLeastOnce::new(shapes)),
        Box::new(OneOutcome::default()),
        Box::new(Incarnations::default()),
        Box::new(Conservation::new(shapes)),
        Box::new(Liveness::default()),
        Box::new(Permits),
    ]
}

/// The name of a submission's topology: what its id begins with.
fn name_of(id: &TopologyId) -> &str {
    id.as_str().rsplitn(3, '-').last().unwrap_or(id.as_str())
}
