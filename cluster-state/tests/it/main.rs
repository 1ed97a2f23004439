//! Tests of the stores and of the board on them, from outside.
//!
//! Not here: what daemons make of it. Invariant: each test has a store, a file or a root of its own.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod conformance;
mod file;
mod homes;
mod proxy;
mod records;
mod zookeeper;
