//! The entry point, from outside: a topology's executable is started as a process, and what it says is read.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

mod roles;
mod signals;
mod worker_role;

use std::process::{Command, Output, Stdio};

/// The text that runs count: two lines, six words.
const TEXT: &str = "to be or\nnot to be\n";

/// The executable of `fixture.rs` with these arguments, in a folder that holds `text` with [`TEXT`].
fn command(folder: &tempfile::TempDir, arguments: &[&str]) -> Command {
    std::fs::write(folder.path().join("text"), TEXT).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_entry-fixture"));
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
    command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE").env_remove("COLUMNS");
    command
}

/// How a process ended, and what it said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs it to its end.
fn run(folder: &tempfile::TempDir, arguments: &[&str]) -> Said {
    command(folder, arguments).output().unwrap().into()
}
