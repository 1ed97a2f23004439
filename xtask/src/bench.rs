//! `cargo xtask bench`: builds the benchmarks and what they start, and hands the arguments on to them.
//!
//! Not here: any measuring (`benchmarks/`, `baseline/`). Invariant: adds no argument of its own but where the executables
//! are.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace::{Workspace, succeeds};

/// Cases that start executables.
const STARTING: [&str; 2] = ["start-standalone", "start-size"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How all is built: `release` is what is measured, `demo` builds in a fraction of the time
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,
    /// Handed to the benchmarks: names of cases, `--json FILE`, `--compare FILE`, `--rounds N`, `--short`, `--list`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Builds and runs the benchmarks.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    succeeds(&mut benchmarks(workspace, &options.profile, &options.arguments)?)
}

/// The benchmarks with these arguments, built and not yet started.
pub(crate) fn benchmarks(workspace: &Workspace, profile: &str, arguments: &[String]) -> Result<Command> {
    let executable = |package, name| workspace.executable(profile, package, name);
    let benchmarks = executable("benchmarks", "benchmarks")?;
    let mut list = Command::new(&benchmarks);
    let listed = list.args(arguments).arg("--list").stderr(Stdio::inherit()).output().context("listing the cases")?;
    ensure!(listed.status.success(), "the benchmarks do not take these arguments");
    let mut command = Command::new(benchmarks);
    if String::from_utf8_lossy(&listed.stdout).lines().any(|case| STARTING.contains(&case)) {
        command.arg("--storm").arg(executable("cli", "storm")?);
        command.arg("--word-count").arg(executable("word-count", "word-count")?);
    }
    command.args(arguments).current_dir(&workspace.root);
    Ok(command)
}
