//! Topologies in a local cluster: what the data path promises, and what it does under faults.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod acking;
mod finish;
mod flow;
mod groupings;
mod spouts;
mod stage;
