//! What the Supervisor does with real processes.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod cluster;
mod host;
mod keeper;
mod slots;
