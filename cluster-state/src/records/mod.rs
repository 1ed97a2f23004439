//! The records, each with the number of its format.
//!
//! Not here: where they lie (`paths`), reading and writing them (`board`). Invariant: a record that cannot be read takes down
//! nothing but what it speaks of.

mod daemons;
mod plan;
mod topology;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use daemons::{Drained, Lead, Leader, Nimbus, Supervisor};
pub use plan::{Placed, PlanHead, PlanPart};
pub use topology::{
    FileBlob, KillStep, NameTaken, RebalanceStep, Rebalanced, Status, Submissions, Topology, TopologySecret,
};

/// A kind of record.
pub trait Record: Serialize + DeserializeOwned + Send {
    /// What messages call it.
    const WHAT: &'static str;
    /// The number of its format.
    const FORMAT: u32;
}

/// A record as it is stored: `{"format":1,"writer":"…","number":7, …the record's own fields}`. The writer with the number
/// tells who read back after a lost answer whether it was his write that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stored<R> {
    /// [`Record::FORMAT`].
    pub format: u32,
    /// Who wrote it: a daemon's id.
    pub writer: String,
    /// Which of the writer's writes it was.
    pub number: u64,
    /// What it says.
    #[serde(flatten)]
    pub record: R,
}

/// Milliseconds since 1970, on the clock of who wrote it; shown to people, and compared with nothing but that clock.
pub type EpochMs = u64;
