//! The `storm` command: one word for each thing that an operator does, and each daemon.
//!
//! Not here: what daemons do (`nimbus`, `supervisor`, `ui`), where configuration comes from (`daemon`). Invariants: what was asked
//! for goes to standard output, all else to standard error; whatever goes wrong ends in one message and a number that scripts
//! can trust.

#![forbid(unsafe_code)]

mod arguments;
mod blob_hash;
mod daemons;
mod exit;
mod output;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // One for each worker, which shall weigh nothing: before the command line is built, and without a runtime.
    if arguments.next().is_some_and(|verb| verb == "keeper") {
        return supervisor::keeper::run(arguments);
    }
    arguments::run(std::env::args_os())
}
