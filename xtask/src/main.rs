//! The one door for chores: `cargo xtask VERB`.
//!
//! Not here: the checks themselves (each verb has a module). Invariant: `verify` writes nothing into the source tree.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command line tool talks through its standard output")]

mod bench;
mod demo;
mod fix;
mod simulate;
mod tidy;
mod verify;
mod workspace;
mod zookeeper;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Chores of the workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run every check and test, and write nothing into the tree
    Verify(verify::Options),
    /// Format, and apply what clippy can repair by itself
    Fix,
    /// Count the words of a book, and show what came out and how fast
    Demo(demo::Options),
    /// Measure the runtime beside the hand-written limits
    Bench(bench::Options),
    /// Run whole clusters under faults, each by a seed, in virtual time
    Simulate(simulate::Options),
    /// Start or stop a throw-away Apache ZooKeeper on loopback
    Zookeeper(zookeeper::Options),
}

fn main() -> ExitCode {
    // `cargo demo -- --once` arrives as `demo -- --once`, where clap would take all that follows for a position.
    let arguments = std::env::args_os().enumerate().filter(|(at, argument)| !(*at == 2 && argument == "--"));
    let arguments = Arguments::parse_from(arguments.map(|(_, argument)| argument));
    let outcome = Workspace::find().and_then(|workspace| match arguments.verb {
        Verb::Verify(options) => verify::run(&workspace, &options),
        Verb::Fix => fix::run(&workspace),
        Verb::Demo(options) => demo::run(&workspace, &options),
        Verb::Bench(options) => bench::run(&workspace, &options),
        Verb::Simulate(options) => simulate::run(&workspace, &options),
        Verb::Zookeeper(options) => zookeeper::run(&workspace, &options),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
