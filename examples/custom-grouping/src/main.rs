//! `custom-grouping local` sends orders to the warehouses of their regions.
//!
//! Not here: the topology (the library of this package, so that its tests can run it). Invariant: the first argument says
//! which role this executable plays; the topology is the same in each.

use std::process::ExitCode;

fn main() -> ExitCode {
    storm::run("custom-grouping", custom_grouping::topology)
}
