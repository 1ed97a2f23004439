//! Nimbus as others meet it: over its HTTP API, by the client that they use, on stores in memory and in a file.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod blobs;
mod fixture;
mod machines;
mod rebalancing;
mod restarting;
mod routes;
mod several;
mod sleeping;
mod store;
mod submitting;
