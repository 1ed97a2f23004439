//! The UI over HTTP, in front of a Nimbus that says literal things.
//!
//! Not here: statistics over time and scheduling, which are Nimbus's. Invariant: each test has servers and ports of its own.

mod http;
mod pages;
mod played;
mod safety;
mod storm_rest;
mod troubles;
