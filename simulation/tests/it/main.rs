//! The oracle and the workload, proved on a local cluster without daemons, so that what they find is between workers; and whole clusters by a
//! few seeds.
//!
//! Not here: many seeds (`cargo xtask simulate`). Invariant: nothing waits for a time to pass but on a paused clock.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

// The macros write paths that begin with `::storm`, the crate that users depend on.
extern crate topology_api as storm;

mod local;
mod own;
#[cfg(feature = "mutations")]
mod proof;
mod whole;
