//! Where tuples flow. A tuple's journey: its spout's executor asks for it (`executor`), its root is opened in the spout's
//! ledger (`acking`), it is routed (in `topology_api::output`), delivered (`outlets`) to an inbox of the same worker
//! (`inbox`) or over a link to another (`transfer`), executed there, and acked or failed back into the ledger (`settling`).
//! A worker is all of this for its part of a plan (`process`).
//!
//! Not here: what components are (`topology_api`), who starts workers. Invariant: nothing in this crate knows of Nimbus,
//! Supervisors or ZooKeeper.

pub mod acking;
mod executor;
pub mod inbox;
pub mod journal;
mod outlets;
pub mod process;
mod settling;
pub mod stats;
pub mod transfer;

pub mod watch;
