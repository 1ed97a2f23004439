//! What a topology's author writes with: spouts, bolts, tuples, groupings and the checked graph.
//!
//! Not here: any runtime, thread, socket or clock. A component compiles and is tested without a cluster.

// The macros write paths that begin with `::storm`, the crate that users depend on.
extern crate self as storm;

pub mod anchor;
pub mod config;
pub mod fail;
pub mod ids;
pub mod tuple;
