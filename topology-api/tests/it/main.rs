//! Tests of what a topology's author writes with, from the outside.

// The name that the macros write.
extern crate topology_api as storm;

mod batches;
mod compile_fail;
mod graph;
mod keys;
mod routing;
mod tuples;
mod wiring;
