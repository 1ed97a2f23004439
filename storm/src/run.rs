//! The entry point of a topology's executable: reads the command line, builds the topology, and plays the role asked for.
//!
//! Not here: the words of the command line (`arguments`), a local run (`local`). Invariant: whatever goes wrong ends in one
//! message on standard error and the number that the process ends with.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use topology_api::component::panic_text;
use topology_api::config::{Config, Origin};
use topology_api::error::Result;
use topology_api::topology::{Topology, TopologyBuilder};
use tracing_subscriber::filter::LevelFilter;
use worker_api::describe::{Build, Described};

use crate::arguments::{self, Arguments, Asked, Role, Slot};
use crate::console::Console;
use crate::local;
use crate::refusal::{Exit, Refusal};
use crate::worker_role::{self, SlotLock};

/// The `main` of a topology's executable: the one file that `cargo build` makes plays several roles, by its first argument.
///
/// | role | what it does |
/// |---|---|
/// | `local` | runs the topology in this process, on all cores, until its input ends or it is told to stop |
/// | `describe` | prints the topology's [graph](crate::topology::Topology::graph), and how the executable was built, as JSON on standard output |
/// | `worker` | runs one worker of a cluster, by the launch file that its Supervisor has written; prints into its log |
///
/// `name` is the topology's, unless its configuration has another. `build` gets the author's own arguments (`()` for none),
/// which stand in each role, and adds components; the runtime's arguments must be left to it: `-c`, `--config`,
/// `--workers`, `--report`, `--quiet`, `-h`, `--help`.
///
/// The process ends with 0 if all went well, 1 if the run failed, 64 for a mistake in arguments, configuration or graph, 66
/// if an input is missing (an [`std::io::Error`] of `build` that says so, or a file of `--config`), 130 after Ctrl-C and
/// 143 after SIGTERM: then spouts stop, what is pending gets the message time-out to finish, and components are closed.
///
/// A worker takes the author's arguments and the configuration from its launch file, and refuses to run another graph than
/// the one that was submitted. It is told by its Supervisor what its spouts shall do. It ends with 0 when it was told to
/// stop, or that its slot is another's: then spouts stop, what is pending gets 2 s to finish, and components are closed.
/// After a fatal error of a component its spouts are asked no more, and it stays: a restart would only meet the error again.
/// The topology becomes inactive for that reason. A worker whose input has ended stays as well, until it is told to stop.
///
/// ```no_run
/// use std::path::PathBuf;
/// use std::process::ExitCode;
/// use storm::prelude::*;
///
/// #[derive(clap::Args)] // the prelude's `clap`: no dependency of one's own
/// struct Args {
///     /// The file to read
///     #[arg(long)]
///     input: PathBuf,
/// }
///
/// fn topology(args: Args, topology: &mut TopologyBuilder) -> Result {
///     std::fs::metadata(&args.input).attempt(|| format!("cannot read `{}`", args.input.display()))?;
///     // … topology.spout(…), topology.bolt(…)
///     # let _ = topology;
///     Ok(())
/// }
///
/// fn main() -> ExitCode {
///     storm::run("word-count", topology)
/// }
/// ```
pub fn run<A: clap::Args>(name: &str, build: impl Fn(A, &mut TopologyBuilder) -> Result) -> ExitCode {
    let console = Console::new();
    let played = play(name, build, &console);
    let exit = played.unwrap_or_else(|refusals| {
        refusals.iter().for_each(|refusal| tell(refusal, &console));
        // Any mistake outweighs a missing input: to find the file would not be enough.
        let exits = refusals.iter().map(Refusal::exit);
        exits.reduce(|one, other| if one == Exit::NoInput { other } else { one }).unwrap_or(Exit::Failed)
    });
    exit.into()
}

fn tell(refusal: &Refusal, console: &Console) {
    match refusal {
        // Help goes to standard output; both in colour where wanted.
        Refusal::Arguments(error) => {
            let _ = error.print();
        }
        refusal => console.say(&format!("error: {refusal}")),
    }
}

fn play<A: clap::Args>(
    name: &str,
    build: impl Fn(A, &mut TopologyBuilder) -> Result,
    console: &Console,
) -> Result<Exit, Vec<Refusal>> {
    let Arguments { role, own, config, unreadable } =
        match arguments::read(name, std::env::args_os()).map_err(|refusal| vec![refusal])? {
            Asked::Role(arguments) => arguments,
            Asked::Worker(slot) => return be_worker(name, &slot, build, console),
        };
    console.take_logs(LevelFilter::WARN);
    let topology = topology(name, own, config, unreadable, build)?;
    for notice in topology.config().notices() {
        console.say(&format!("warning: {notice}"));
    }
    match role {
        Role::Describe => describe(&topology).map(|()| Exit::Done),
        Role::Local(options) => local::run(topology, &options, console),
    }
    .map_err(|refusal| vec![refusal])
}

/// Plays the role `worker`. What has no effect on the topology was told when it was submitted.
fn be_worker<A: clap::Args>(
    name: &str,
    slot: &Slot,
    build: impl Fn(A, &mut TopologyBuilder) -> Result,
    console: &Console,
) -> Result<Exit, Vec<Refusal>> {
    let one = |refusal| vec![refusal];
    // Before any code of the author's, which may start processes.
    let lock = SlotLock::take().map_err(one)?;
    console.take_logs(LevelFilter::INFO);
    let launch = worker_role::read(slot).map_err(one)?;
    let Arguments { own, mut config, unreadable, .. } =
        arguments::read_submitted(name, &launch.arguments).map_err(one)?;
    for (key, value) in &launch.config {
        config.put(Origin::Flag, key, value.clone());
    }
    let topology = topology(name, own, config, unreadable, build)?;
    let exit = worker_role::run(topology, launch).map_err(one);
    drop(lock);
    exit
}

/// Builds the topology, or tells everything that is wrong.
fn topology<A>(
    name: &str,
    own: A,
    config: Config,
    mut refusals: Vec<Refusal>,
    build: impl Fn(A, &mut TopologyBuilder) -> Result,
) -> Result<Topology, Vec<Refusal>> {
    let mut builder = Topology::builder(name);
    builder.configured_by(config.clone());
    let topology = name.to_owned();
    let built = catch_unwind(AssertUnwindSafe(|| build(own, &mut builder)));
    let unfinished = match built {
        Ok(Ok(())) => match builder.build() {
            Ok(topology) if refusals.is_empty() => return Ok(topology),
            Ok(_) => return Err(refusals),
            Err(error) => {
                refusals.push(Refusal::Graph(error));
                return Err(refusals);
            }
        },
        Ok(Err(error)) => Refusal::Code { topology, error },
        Err(panic) => Refusal::Panicked { topology, text: panic_text(&*panic) },
    };
    // The graph is not all there, so its mistakes would mislead; those of the configuration stand for themselves.
    refusals.push(unfinished);
    refusals.extend(config.check().err().map(Refusal::Config));
    Err(refusals)
}

fn describe(topology: &Topology) -> Result<(), Refusal> {
    let described = Described { build: Build::own(), graph: topology.graph() };
    let mut json = serde_json::to_string_pretty(&described).map_err(|error| Refusal::Print(error.into()))?;
    json.push('\n');
    io::stdout().lock().write_all(json.as_bytes()).map_err(Refusal::Print)
}
