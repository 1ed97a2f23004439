//! The noticeboard: what Nimbus and the Supervisors agree on. Who writes what, and who watches it:
//!
//! | record | path below the root | written by | watched by |
//! |---|---|---|---|
//! | [`Topology`](records::Topology) | `topologies/ID` | the leading Nimbus | Supervisors |
//! | [`PlanHead`](records::PlanHead) | `plans/ID/head` | the leading Nimbus | Supervisors |
//! | [`PlanPart`](records::PlanPart) | `plans/ID/parts/HASH` | the leading Nimbus | – (named by the head) |
//! | [`TopologySecret`](records::TopologySecret) | `secrets/ID` | the leading Nimbus | – |
//! | [`NameTaken`](records::NameTaken) | `names/NAME` | the leading Nimbus | – |
//! | [`Submissions`](records::Submissions) | `submissions` | the leading Nimbus | – |
//! | [`Nimbus`](records::Nimbus), ephemeral | `nimbuses/ID` | each Nimbus | – |
//! | [`Leader`](records::Leader), ephemeral | `leader` | the leading Nimbus | all Nimbuses, Supervisors |
//! | [`Lead`](records::Lead), ephemeral | `leads/TOKEN` | the leading Nimbus | – (the guard of its writes) |
//! | [`Drained`](records::Drained) | `drained/ID` | the leading Nimbus | the Nimbus that leads next reads it |
//! | [`Supervisor`](records::Supervisor), ephemeral | `supervisors/ID` | each Supervisor | the leading Nimbus |
//!
//! Not here: what any of it means. Invariants: nobody else spells a path or knows ZooKeeper; each record is JSON of at most
//! [`RECORD_BYTES`](store::RECORD_BYTES) that names its format, its writer and a number.

#![forbid(unsafe_code)]

pub mod board;
pub mod file;
pub mod memory;
pub mod paths;
pub mod plans;
pub mod records;
pub mod store;
mod transaction;
mod waiting;
pub mod zookeeper;
