//! The oracle and the workload, proved on a local cluster: without daemons, so that what they find is between workers.
//!
//! Not here: the whole cluster (`simulation::run`). Invariant: nothing waits for a time to pass but on a paused clock.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod local;
mod world;
