//! What a worker hears: the answer to each report, and to a Supervisor's push whenever one of these changed.
//!
//! Not here: how it travels. Invariant: an answer states what shall be, never a step, so losing or repeating one does no
//! harm; silence changes nothing.

use serde::{Deserialize, Serialize};

use crate::ids::{Life, Revision, WorkerIndex};
use crate::plan::Placement;

/// The number of this format. Another one is ignored, with a line in the log.
pub const ANSWER_FORMAT: u32 = 1;

/// What shall be. From a Supervisor's socket (one JSON text a line), or from Nimbus (the body of a reply).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`ANSWER_FORMAT`].
    pub format: u32,
    /// Whether the worker has its slot.
    pub slot: Slot,
    /// What its spouts shall do.
    pub spouts: Spouts,
    /// The topology's record that says so.
    #[serde(default)]
    pub revision: Revision,
    /// Who runs what where, if the report named an older version.
    pub placement: Option<Placement>,
    /// Lives of peers that are known to be gone for good.
    pub gone: Vec<GoneLife>,
}

/// Whether a worker has its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// It goes on.
    Kept,
    /// The slot is another's: it drains and ends.
    Gone,
}

/// What spouts shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spouts {
    /// Be asked, once the peers are connected.
    Active,
    /// Not be asked; what is pending goes on.
    Inactive,
}

/// A life of a peer that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GoneLife {
    /// Which worker of the plan.
    pub worker: WorkerIndex,
    /// Which life of it, and every earlier one.
    #[serde(flatten)]
    pub life: Life,
}
