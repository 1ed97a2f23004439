//! Topologies in a local cluster: what the data path promises, and what it does under faults.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod acking;
mod async_bolts;
mod backpressure;
mod bounded;
mod bugs;
mod chaos;
mod counts;
mod finish;
mod flow;
mod groupings;
mod hangs;
mod harness;
mod links;
mod many;
mod seeded;
mod serialized;
mod spouts;
mod stage;
mod stop;
mod timers;
