//! The UI over HTTP, in front of a Nimbus that says literal things, and once of a real one.
//!
//! Not here: statistics over time and scheduling, which are Nimbus's. Invariant: each test has servers and ports of its own.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod http;
mod pages;
mod played;
mod real_nimbus;
mod safety;
mod storm_rest;
mod troubles;
