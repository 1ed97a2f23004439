//! The command line of a topology's executable: the roles, the author's own arguments, and the runtime's.
//!
//! Not here: what a role does. Invariant: the author's arguments stand in each role alike, and none of them can be taken
//! for one of the runtime's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use topology_api::config::Config;
use worker_api::ids::{Port, TopologyId};
use worker_api::launch::LAUNCH_FILE;

use crate::refusal::Refusal;

/// What the executable is asked to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Print the graph.
    Describe,
    /// Run the topology in this process.
    Local(Local),
}

/// What a command line asks for.
pub(crate) enum Asked<A> {
    /// A role that the author's arguments stand beside.
    Role(Arguments<A>),
    /// To be the worker of a slot; the author's arguments are in its launch file.
    Worker(Slot),
}

/// The slot of the role `worker`. Topology and port stand on the command line for those who look at processes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The submission.
    pub(crate) topology: TopologyId,
    /// The slot.
    pub(crate) port: Port,
    /// The launch file.
    pub(crate) launch: PathBuf,
}

/// Options of the role `local`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// How many workers; `None` for as many as the configuration says.
    pub(crate) workers: Option<u16>,
    /// Where to write what the run came to.
    pub(crate) report: Option<PathBuf>,
    /// Whether to keep progress and summary to oneself.
    pub(crate) quiet: bool,
}

/// A command line that was understood.
pub(crate) struct Arguments<A> {
    pub(crate) role: Role,
    /// The author's own.
    pub(crate) own: A,
    /// Files and flags; what is wrong with it is for the topology's `build` to tell.
    pub(crate) config: Config,
    /// Files of `--config` that could not be read.
    pub(crate) unreadable: Vec<Refusal>,
}

// Ids that no field of a Rust struct can have.
const HELP: &str = "storm help";
const CONF: &str = "storm conf";
const CONFIG: &str = "storm config";
const WORKERS: &str = "storm workers";
const REPORT: &str = "storm report";
const QUIET: &str = "storm quiet";
const TOPOLOGY: &str = "storm topology";
const PORT: &str = "storm port";
const LAUNCH: &str = "storm launch";

const DESCRIBE: &str = "describe";
const LOCAL: &str = "local";
const WORKER: &str = "worker";

/// Reads a command line, and the files that it names. `name` is the topology's; the first argument is the executable.
pub(crate) fn read<A: clap::Args>(
    name: &str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Asked<A>, Refusal> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let executable =
        arguments.first().and_then(|path| Path::new(path).file_name()?.to_str()).unwrap_or(name).to_owned();
    let mut command = command::<A>(name, &executable)?;
    let matches = match command.try_get_matches_from_mut(arguments) {
        Ok(matches) => matches,
        Err(error) if error.kind() == clap::error::ErrorKind::MissingSubcommand => {
            return Err(Refusal::NoRole { executable });
        }
        Err(error) => return Err(Refusal::Arguments(error)),
    };
    let (role, matches) = match matches.subcommand() {
        Some((DESCRIBE, matches)) => (Role::Describe, matches),
        Some((LOCAL, matches)) => (Role::Local(local(matches)), matches),
        Some((WORKER, matches)) => return slot(matches, executable).map(Asked::Worker),
        _ => return Err(Refusal::NoRole { executable }),
    };
    let (config, unreadable) = config(matches);
    let own = A::from_arg_matches(matches).map_err(|error| Refusal::Arguments(error.format(&mut command)))?;
    Ok(Asked::Role(Arguments { role, own, config, unreadable }))
}

/// Reads the arguments of the topology's author as they were submitted, the way `describe` did then.
pub(crate) fn read_submitted<A: clap::Args>(name: &str, submitted: &[String]) -> Result<Arguments<A>, Refusal> {
    let role = [name, DESCRIBE].map(OsString::from);
    match read(name, role.into_iter().chain(submitted.iter().map(OsString::from)))? {
        Asked::Role(arguments) => Ok(arguments),
        Asked::Worker(_) => Err(Refusal::NoRole { executable: name.to_owned() }),
    }
}

fn slot(matches: &ArgMatches, executable: String) -> Result<Slot, Refusal> {
    let topology = matches.get_one::<TopologyId>(TOPOLOGY).cloned();
    let (port, launch) = (matches.get_one::<u16>(PORT), matches.get_one::<PathBuf>(LAUNCH).cloned());
    // The first two are required, and the third has a default.
    let (Some(topology), Some(port), Some(launch)) = (topology, port, launch) else {
        return Err(Refusal::NoRole { executable });
    };
    Ok(Slot { topology, port: Port(*port), launch })
}

fn local(matches: &ArgMatches) -> Local {
    Local {
        workers: matches.get_one::<u16>(WORKERS).copied(),
        report: matches.get_one::<PathBuf>(REPORT).cloned(),
        quiet: matches.get_flag(QUIET),
    }
}

fn config(matches: &ArgMatches) -> (Config, Vec<Refusal>) {
    let mut config = Config::new();
    let mut unreadable = Vec::new();
    for path in matches.get_many::<PathBuf>(CONFIG).into_iter().flatten() {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                config.add_yaml(&path.display().to_string(), &text);
            }
            Err(error) => unreadable.push(Refusal::ConfigFile { path: path.clone(), error }),
        }
    }
    for assignment in matches.get_many::<String>(CONF).into_iter().flatten() {
        config.add_flag(assignment);
    }
    (config, unreadable)
}

fn command<A: clap::Args>(name: &str, executable: &str) -> Result<Command, Refusal> {
    let mut own = A::augment_args(Command::new(name.to_owned()).disable_help_flag(true));
    own.build();
    refuse_clashes(&own)?;
    let about = match own.get_about() {
        Some(about) => format!("{about}\n\nThe topology `{name}`. One executable, several roles:"),
        None => format!("The topology `{name}`. One executable, several roles:"),
    };
    let required: String = own
        .get_arguments()
        .filter(|argument| argument.is_required_set())
        .map(|argument| format!(" {argument}"))
        .collect();
    let examples = format!(
        "Examples:\n  \
         {executable} {LOCAL}{required}\n      \
         runs it in this process, until its input ends or Ctrl-C is pressed\n  \
         {executable} {LOCAL}{required} -c topology.workers=2 --report report.json\n      \
         the same with two workers; what it came to is written to a file\n  \
         {executable} {DESCRIBE}{required}\n      \
         prints its components, streams and groupings\n\n\
         Arguments of a role: {executable} {LOCAL} --help"
    );
    let role = |role: &'static str, about: &'static str| {
        let role = Command::new(role).disable_help_flag(true).next_help_heading(format!("Arguments of {name}"));
        let role = A::augment_args(role).about(about).long_about(None).next_help_heading("Options of the runtime");
        role.arg(
            option(CONF, "KEY=VALUE")
                .short('c')
                .action(ArgAction::Append)
                .help("Set a configuration key; wins over files and code. The value is JSON, or else text"),
        )
        .arg(
            option(CONFIG, "FILE")
                .long("config")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help("Read configuration from a YAML file; of several, the last wins"),
        )
    };
    let local = role(LOCAL, "Run the topology in this process, on all cores")
        .arg(
            option(WORKERS, "N")
                .long("workers")
                .value_parser(value_parser!(u16).range(1..))
                .help("Run so many workers, connected in memory [default: topology.workers]"),
        )
        .arg(
            option(REPORT, "FILE")
                .long("report")
                .value_parser(value_parser!(PathBuf))
                .help("When it has ended, write what the run came to as JSON"),
        )
        .arg(flag(QUIET).long("quiet").help("Say nothing of progress, and no summary at the end"));
    let worker = Command::new(WORKER)
        .about("Run one worker of a cluster; its Supervisor starts it")
        .override_usage(format!("{executable} {WORKER} TOPOLOGY-ID PORT [--launch FILE]"))
        .disable_help_flag(true)
        .arg(
            option(TOPOLOGY, "TOPOLOGY-ID")
                .required(true)
                .value_parser(value_parser!(TopologyId))
                .help("The submission"),
        )
        .arg(option(PORT, "PORT").required(true).value_parser(value_parser!(u16).range(1..)).help("The slot"))
        .arg(
            option(LAUNCH, "FILE")
                .long("launch")
                .default_value(LAUNCH_FILE)
                .value_parser(value_parser!(PathBuf))
                .help("The launch file, which says all the rest"),
        );
    Ok(Command::new(name.to_owned())
        .bin_name(executable)
        .about(about)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .override_usage(format!("{executable} <ROLE> [ARGUMENTS]"))
        .subcommand_help_heading("Roles")
        .arg(help())
        .subcommand(local.arg(help()))
        .subcommand(role(DESCRIBE, "Print the topology's graph as JSON, and run nothing").arg(help()))
        .subcommand(worker.arg(help()))
        .after_help(examples))
}

fn option(id: &'static str, value: &'static str) -> Arg {
    Arg::new(id).value_name(value)
}

fn flag(id: &'static str) -> Arg {
    Arg::new(id).action(ArgAction::SetTrue)
}

fn help() -> Arg {
    Arg::new(HELP).short('h').long("help").action(ArgAction::Help).help("Print this")
}

/// The author's arguments must leave the runtime's alone, in each role.
fn refuse_clashes(own: &Command) -> Result<(), Refusal> {
    const LONGS: [&str; 5] = ["config", "workers", "report", "quiet", "help"];
    const SHORTS: [char; 2] = ['c', 'h'];
    let clash = |argument: &Arg| {
        let long = argument.get_long_and_visible_aliases().unwrap_or_default().into_iter();
        let long = long.filter(|long| LONGS.contains(long)).map(|long| format!("--{long}")).next();
        let short = argument.get_short_and_visible_aliases().unwrap_or_default().into_iter();
        let short = short.filter(|short| SHORTS.contains(short)).map(|short| format!("-{short}")).next();
        long.or(short)
    };
    let clashes: Vec<String> = own.get_arguments().filter_map(clash).map(|clash| format!("`{clash}`")).collect();
    if clashes.is_empty() { Ok(()) } else { Err(Refusal::Clash { arguments: clashes.join(", ") }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn read_role<A: clap::Args>(text: &str) -> Arguments<A> {
        match read::<A>("count", arguments(text)) {
            Ok(Asked::Role(arguments)) => arguments,
            Ok(Asked::Worker(slot)) => panic!("{slot:?}"),
            Err(refusal) => panic!("{refusal}"),
        }
    }

    #[test]
    fn a_worker_has_a_slot() {
        for (text, launch) in [("count worker a-1-2 6700", "launch.json"), ("count worker a-1-2 6700 --launch l", "l")]
        {
            let Ok(Asked::Worker(slot)) = read::<()>("count", arguments(text)) else { panic!("{text}") };
            let topology = TopologyId::new("a-1-2").unwrap();
            assert_eq!(slot, Slot { topology, port: Port(6700), launch: launch.into() });
        }
    }

    #[test]
    fn a_topology_without_arguments_has_the_runtimes() {
        let read = read_role::<()>("bin/count local --workers 2 --report r.json -c a=1 --quiet");
        let local = Local { workers: Some(2), report: Some("r.json".into()), quiet: true };
        assert_eq!(read.role, Role::Local(local));
        assert_eq!(read.config.get("a"), Some(&1.into()));
    }

    #[test]
    fn workers_are_at_least_one() {
        let refusal = read::<()>("count", arguments("count local --workers 0")).err().unwrap().to_string();
        assert!(refusal.starts_with("error: invalid value '0' for '--workers <N>'"), "{refusal}");
    }

    /// Each of these is an option of `local`.
    #[derive(clap::Args)]
    struct Clashing {
        #[arg(long)]
        workers: u32,
        #[arg(short, long)]
        colour: Option<String>,
        #[arg(short)]
        quick: bool,
    }

    #[test]
    fn the_runtimes_names_are_refused_to_the_topology() {
        for role in ["local", "describe"] {
            let refusal = read::<Clashing>("count", arguments(&format!("count {role}"))).err().unwrap().to_string();
            assert_eq!(
                refusal,
                "the topology's own arguments have `--workers`, `-c`, which the runtime needs for itself; give them other names"
            );
        }
    }

    #[derive(clap::Args)]
    struct Same {
        /// A field named as the runtime's, with another flag.
        #[arg(long = "settings")]
        config: Option<String>,
        help: Option<String>,
    }

    #[test]
    fn fields_may_be_named_as_the_runtimes() {
        let read = read_role::<Same>("count describe --settings x y");
        assert_eq!((read.own.config.as_deref(), read.own.help.as_deref()), (Some("x"), Some("y")));
    }
}
