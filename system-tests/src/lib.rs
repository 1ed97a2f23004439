//! Whole clusters of real processes, with real faults, and what must hold after them.
//!
//! [`fault_topology`] writes down what it did before each ack; [`evidence`] reads that back and says what is missing, foreign,
//! or failed without need; [`cluster`] starts daemons on ports and in folders of their own and ends them by pid; [`several`] knows
//! who leads of several Nimbuses, and who wrote which record; [`scripted`] plays Supervisors by the hundred.
//!
//! Not here: the tests (`tests/it`). Invariant: nothing is judged by a topology's memory, or by what a daemon says of itself.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod evidence;
pub mod fault_topology;
pub mod scripted;
pub mod several;
