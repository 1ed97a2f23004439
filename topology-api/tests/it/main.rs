//! Tests of what a topology's author writes with, from the outside.

// The name that the macros write.
extern crate topology_api as storm;

mod compile_fail;
mod keys;
mod tuples;
mod wiring;
