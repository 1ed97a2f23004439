//! `guaranteed-count local` counts numbers, whatever goes wrong.
//!
//! Not here: the topology (the library of this package, so that its tests can run it). Invariant: the first argument says
//! which role this executable plays; the topology is the same in each.

use std::process::ExitCode;

fn main() -> ExitCode {
    storm::run("guaranteed-count", guaranteed_count::topology)
}
