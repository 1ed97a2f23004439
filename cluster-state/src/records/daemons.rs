//! Which daemons are there: ephemeral records, gone with their sessions; and which machines shall have no work, which stay.
//!
//! Not here: whether a machine is alive (`nimbus::liveness`): these records only say who may get work.

use serde::{Deserialize, Serialize};
use worker_api::ids::{BlobHash, NimbusId, Port, SupervisorId};

use super::{EpochMs, Record};

/// A Nimbus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nimbus {
    /// Which one.
    pub id: NimbusId,
    /// What its machine is called by others.
    pub host: String,
    /// The port of its HTTP API.
    pub port: u16,
    /// Version of the runtime.
    pub version: String,
    /// When it started.
    pub started_ms: EpochMs,
}

impl Record for Nimbus {
    const WHAT: &'static str = "Nimbus record";
    const FORMAT: u32 = 1;
}

/// Who leads: at most one of these is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// The Nimbus that leads.
    pub nimbus: NimbusId,
    /// What its machine is called by others.
    pub host: String,
    /// The port of its HTTP API.
    pub port: u16,
    /// Names its guard, `leads/TOKEN`: a record with a name of its own, as another leader's record at `leader` might have the
    /// same version.
    pub token: BlobHash,
}

impl Record for Leader {
    const WHAT: &'static str = "leader record";
    const FORMAT: u32 = 1;
}

/// The guard of one lead: made with the leader's record in one transaction, gone with the same session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// The Nimbus that leads.
    pub nimbus: NimbusId,
}

impl Record for Lead {
    const WHAT: &'static str = "guard of the lead";
    const FORMAT: u32 = 1;
}

/// A Supervisor: its machine may get work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// Which one.
    pub id: SupervisorId,
    /// What its machine is called by others.
    pub host: String,
    /// Its slots.
    pub slots: Vec<Port>,
    /// Version of the runtime.
    pub version: String,
    /// Processor and operating system that it can start executables of.
    pub platform: String,
    /// When it started.
    pub started_ms: EpochMs,
}

impl Record for Supervisor {
    const WHAT: &'static str = "Supervisor record";
    const FORMAT: u32 = 1;
}

/// A machine that is being emptied for maintenance, until it is undrained: it gets no work, and what it has goes elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Which one.
    pub id: SupervisorId,
    /// What it was called when this was asked for.
    pub host: String,
    /// Since when.
    pub since_ms: EpochMs,
}

impl Record for Drained {
    const WHAT: &'static str = "record of a drained machine";
    const FORMAT: u32 = 1;
}
