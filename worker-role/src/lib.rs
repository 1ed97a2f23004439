//! The role `worker`: runs one worker of a cluster's topology by what its launch file says, and tells its Supervisor how it gets on.
//!
//! Read in this order: `surroundings` is what it needs of the process that it is, `control` what it decides, `role` what
//! becomes of it.
//!
//! Not here: sockets, signals, logs (the `storm` crate), executors and links (`worker`). Invariant: nobody's silence ends it.
#![forbid(unsafe_code)]

mod control;
mod role;
mod surroundings;

pub use role::{Ended, Role, RoleConfig};
pub use surroundings::{Event, ProcessFacts, Surroundings};
