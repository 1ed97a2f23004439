//! Topologies in a local cluster: what the data path promises, and what it does under faults.

mod acking;
mod finish;
mod flow;
mod groupings;
mod spouts;
mod stage;
