//! The executable of the fault tests' own topology.
//!
//! Not here: the topology (the library, so that a local cluster can run it too). Invariant: what it writes is all that the
//! tests know of it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    storm::run("fault", system_tests::fault_topology::topology)
}
