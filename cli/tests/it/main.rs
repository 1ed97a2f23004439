//! The `storm` command as a process: what it prints, where, and what it ends with.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod cluster;
mod completions;
mod configuration;
mod help;
mod rebalance;
mod submit;

use std::path::Path;
use std::process::{Command, Stdio};

/// How `storm` ended: number, standard output, standard error.
type Ended = (i32, String, String);

/// `storm`, with a home of its own and nothing else in its environment.
fn storm(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storm"));
    command.env_clear().env("HOME", home).env("USER", "ada").current_dir(home).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs `storm` with these arguments in a home.
fn storm_in(home: &Path, arguments: &[&str]) -> Ended {
    run(storm(home).args(arguments))
}
