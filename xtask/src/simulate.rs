//! `cargo xtask simulate`: whole clusters in one thread each, with virtual time and faults, seed by seed.
//!
//! Not here: what a run is (`simulation`). Invariant: a failing seed is printed with the command that repeats it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::workspace::{Workspace, succeeds};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many seeds, one after another
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long things go wrong in each on the virtual clock, in minutes; then it has up to three minutes more to settle
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// How many Nimbuses
    #[arg(long, default_value_t = 3)]
    nimbuses: u16,
    /// Seeds that run side by side
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Have this bug on: one of `mutations::Mutation`
    #[arg(long, value_name = "NAME")]
    mutation: Option<String>,
    /// Look for each bug within the seeds in which it must be found, and print the table; `--mutation` limits it to one
    #[arg(long)]
    mutations: bool,
    /// Write the log of the last seed here; those of failing seeds go to `target/simulation` otherwise
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Builds the simulation without optimisation across crates, and runs the seeds; whether none failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let build = ["build", "--profile", "demo", "--package", "simulation", "--features", "mutations"];
    if !succeeds(&mut workspace.cargo(&build))? {
        return Ok(false);
    }
    let executable = workspace.target.join("demo/simulation").with_extension(std::env::consts::EXE_EXTENSION);
    let mut command = Command::new(executable);
    let Options { seeds, seed, minutes, nimbuses, threads, mutation, mutations, log } = options;
    for (key, value) in [
        ("--seeds", *seeds),
        ("--seed", *seed),
        ("--minutes", *minutes),
        ("--nimbuses", u64::from(*nimbuses)),
        ("--threads", *threads),
    ] {
        command.args([key, &value.to_string()]);
    }
    if let Some(mutation) = mutation {
        command.args(["--mutation", mutation]);
    }
    if *mutations {
        command.arg("--mutations");
    }
    if let Some(log) = log {
        command.arg("--log").arg(log);
    }
    command.arg("--folder").arg(workspace.target.join("simulation"));
    succeeds(&mut command)
}
