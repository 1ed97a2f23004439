//! A topology's workers in one process, without ports and without ZooKeeper: the same executors, ledgers, frames and links
//! as on a cluster, over in-memory pipes.
//!
//! Not here: Nimbus and Supervisors; what they decide is decided here by who calls. Invariant: two clusters in one process
//! share nothing.

mod cluster;
mod harness;
mod placement;
mod runtime;
pub mod testing;

pub use cluster::{LocalCluster, LocalClusterBuilder, LocalError, Summary};
pub use harness::BoltHarness;
pub use placement::spread_evenly;
pub use runtime::{run_paused, run_seeded};
pub use worker::journal::Journal;
