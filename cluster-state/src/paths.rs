//! Every path of the noticeboard.
//!
//! Not here: what lies there (`records`). Invariant: a path is made of names that were checked, so none leaves its folder.

use worker_api::ids::{BlobHash, NimbusId, SupervisorId, TopologyId, TopologyName};

use crate::store::Path;

/// Folder of all topologies.
pub fn topologies() -> Path {
    Path::new("topologies")
}

/// A topology.
pub fn topology(id: &TopologyId) -> Path {
    Path::new(format!("topologies/{id}"))
}

/// Folder of all plans.
pub fn plans() -> Path {
    Path::new("plans")
}

/// Folder of a topology's plan.
pub fn plan(id: &TopologyId) -> Path {
    Path::new(format!("plans/{id}"))
}

/// Head of a topology's plan.
pub fn plan_head(id: &TopologyId) -> Path {
    Path::new(format!("plans/{id}/head"))
}

/// Folder of the parts of a topology's plan.
pub fn plan_parts(id: &TopologyId) -> Path {
    Path::new(format!("plans/{id}/parts"))
}

/// A part of a topology's plan.
pub fn plan_part(id: &TopologyId, hash: &BlobHash) -> Path {
    Path::new(format!("plans/{id}/parts/{hash}"))
}

/// Folder of all secrets.
pub fn secrets() -> Path {
    Path::new("secrets")
}

/// A topology's secret.
pub fn secret(id: &TopologyId) -> Path {
    Path::new(format!("secrets/{id}"))
}

/// Folder of the names that are taken.
pub fn names() -> Path {
    Path::new("names")
}

/// A name that is taken.
pub fn name(name: &TopologyName) -> Path {
    Path::new(format!("names/{name}"))
}

/// How many submissions there were.
pub fn submissions() -> Path {
    Path::new("submissions")
}

/// Folder of the Nimbuses that are there.
pub fn nimbuses() -> Path {
    Path::new("nimbuses")
}

/// A Nimbus that is there.
pub fn nimbus(id: &NimbusId) -> Path {
    Path::new(format!("nimbuses/{id}"))
}

/// Who leads.
pub fn leader() -> Path {
    Path::new("leader")
}

/// Folder of the guards.
pub fn leads() -> Path {
    Path::new("leads")
}

/// The guard of one lead: named by a token that no other lead has.
pub fn lead(token: &BlobHash) -> Path {
    Path::new(format!("leads/{token}"))
}

/// Folder of the machines that are being emptied.
pub fn drained() -> Path {
    Path::new("drained")
}

/// A machine that is being emptied.
pub fn drained_machine(id: &SupervisorId) -> Path {
    Path::new(format!("drained/{id}"))
}

/// Folder of the Supervisors that are there.
pub fn supervisors() -> Path {
    Path::new("supervisors")
}

/// A Supervisor that is there.
pub fn supervisor(id: &SupervisorId) -> Path {
    Path::new(format!("supervisors/{id}"))
}
