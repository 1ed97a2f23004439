//! A whole cluster in one thread, with virtual time and faults by a seed: Nimbuses, Supervisors and workers as they are, on
//! machines, disks, a network and a cluster state that this crate makes.
//!
//! Not here: real processes (`system-tests`). Invariant: a run depends on its seed alone, to the last byte of its log.
#![forbid(unsafe_code)]

// The macros write paths that begin with `::storm`, the crate that users depend on.
extern crate topology_api as storm;

pub mod checks;
pub mod disk;
pub mod faults;
pub mod log;
pub mod machine;
pub mod network;
pub mod nimbuses;
pub mod oracle;
pub mod own;
pub mod process;
pub mod proof;
pub mod run;
pub mod store;
pub mod users;
pub mod workload;
pub mod world;
