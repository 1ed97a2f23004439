//! A submission: what runs, what shall become of it.
//!
//! Not here: its steps (`nimbus::lifecycle`), its graph (a blob). Invariant: all but the status is fixed for its life.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use worker_api::describe::Build;
use worker_api::ids::{BlobHash, FileName, PlanVersion, Revision, TopologyId, TopologyName};
use worker_api::secret::Secret;

use super::{EpochMs, Record};

/// A topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// The submission.
    pub id: TopologyId,
    /// What its user calls it.
    pub name: TopologyName,
    /// Who submitted it, as far as is known.
    pub owner: Option<String>,
    /// When it was submitted.
    pub submitted_ms: EpochMs,
    /// How its executable was built.
    pub build: Build,
    /// The executable.
    pub executable: FileBlob,
    /// The graph, as JSON (`topology_api::topology::Graph`), with the configuration.
    pub graph: FileBlob,
    /// Files that lie in each worker's folder.
    pub files: BTreeMap<FileName, FileBlob>,
    /// The arguments of the topology's author.
    pub arguments: Vec<String>,
    /// Whether all workers of the plan, or of one since the last rebalance, were ready once: spouts may be active.
    pub started: bool,
    /// What a rebalance has changed of the submission.
    #[serde(default, skip_serializing_if = "Rebalanced::is_nothing")]
    pub rebalanced: Rebalanced,
    /// Counts the changes of this record.
    #[serde(default)]
    pub revision: Revision,
    /// What shall become of it.
    pub status: Status,
}

/// What rebalances have changed of a submission: the last word on each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalanced {
    /// Workers, instead of `topology.workers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// Executors by component, instead of its parallelism hint; at most as many as it has tasks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub executors: BTreeMap<String, u32>,
}

impl Rebalanced {
    /// Whether all is as it was submitted.
    pub fn is_nothing(&self) -> bool {
        *self == Rebalanced::default()
    }
}

/// A blob with its length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBlob {
    /// Its name.
    pub hash: BlobHash,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What shall become of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Status {
    /// Spouts are asked.
    Active,
    /// Spouts are not asked.
    Inactive {
        /// Why: "deactivated", "input finished", or a fatal error.
        reason: String,
    },
    /// It drains, then its executors are dealt anew; then it is as it was before.
    Rebalancing {
        /// How far.
        step: RebalanceStep,
        /// How long it may drain.
        wait_ms: u64,
        /// When draining ends at the latest.
        deadline_ms: EpochMs,
        /// The plan that holds while it drains: a later one has switched.
        from: PlanVersion,
        /// What the new plan shall have, beside what earlier rebalances said.
        to: Rebalanced,
        /// Why spouts were not asked before it, and are not after it; `None` if they were.
        inactive: Option<String>,
        /// Why it is done, if nobody has asked for it: "slots have come free", "HOST is being drained".
        by_itself: Option<String>,
    },
    /// It is on its way out.
    Killed {
        /// How far.
        step: KillStep,
        /// How long it may drain.
        wait_ms: u64,
        /// When the step ends at the latest.
        deadline_ms: EpochMs,
    },
}

impl Status {
    /// The reason of a topology whose input has ended, and all of whose bolts have finished.
    pub const INPUT_FINISHED: &'static str = "input finished";

    /// Whether nothing of it shall run again: a worker that ended since, and was started anew, would finish once more, on nothing.
    pub fn is_finished(&self) -> bool {
        matches!(self, Status::Inactive { reason } if reason == Status::INPUT_FINISHED)
    }
}

/// A step of a rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebalanceStep {
    /// Spouts are not asked; it goes on when nothing is pending, or at the deadline.
    Draining,
    /// What is wanted is in the record; it goes on when a plan later than `from` holds.
    Switching,
}

/// A step of the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillStep {
    /// Spouts are not asked; it goes on when nothing is pending, or at the deadline.
    Draining,
    /// The plan is gone: workers stop, folders go; then the records go.
    Removing,
}

impl Record for Topology {
    const WHAT: &'static str = "topology record";
    const FORMAT: u32 = 1;
}

/// What all workers of a topology know: a record of its own, so that who reads the others does not read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopologySecret {
    /// The secret.
    pub secret: Secret,
}

impl Record for TopologySecret {
    const WHAT: &'static str = "secret record";
    const FORMAT: u32 = 1;
}

/// A name is taken for as long as its topology has records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NameTaken {
    /// By which submission.
    pub topology: TopologyId,
}

impl Record for NameTaken {
    const WHAT: &'static str = "name record";
    const FORMAT: u32 = 1;
}

/// Counts the submissions of the cluster, for ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Submissions {
    /// How many there were.
    pub count: u64,
}

impl Record for Submissions {
    const WHAT: &'static str = "count of submissions";
    const FORMAT: u32 = 1;
}
