//! `cargo xtask bench`: builds the benchmarks for release and hands the arguments on to them.
//!
//! Not here: any measuring (`benchmarks/`, `baseline/`). Invariant: adds no argument of its own.

use anyhow::Result;

use crate::workspace::{Workspace, succeeds};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Handed to the benchmarks as they are, for instance `--case hop-acked --rounds 5`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds and runs the benchmarks.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let executable = workspace.executable("release", "benchmarks", "benchmarks")?;
    succeeds(std::process::Command::new(executable).args(&options.arguments).current_dir(&workspace.root))
}
