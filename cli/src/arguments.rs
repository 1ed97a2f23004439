//! The command line: its words, and the flags that several of them have.
//!
//! Not here: what each word does (`verbs`). Invariant: each word has an example in its help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use daemon::configuration::{Configuration, Flags, Surroundings};
use daemon::settings::{Settings, host_name};
use nimbus_api::client::Client;
use nimbus_api::submission;

use crate::exit::{Exit, Refusal, TABLE};
use crate::output::say;
use crate::verbs;

/// Runs topologies on a cluster: submits and kills them, looks at them, and is the cluster's daemons.
#[derive(Parser)]
#[command(name = "storm", bin_name = "storm", version, disable_help_subcommand = true, after_help = TABLE)]
#[command(after_long_help = TABLE, subcommand_value_name = "COMMAND", subcommand_help_heading = "Commands")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Submit a topology: its executable, what it needs, and its arguments
    #[command(visible_alias = "jar")]
    Submit(verbs::submit::Submit),
    /// Run a topology in one process of this machine, without a cluster
    Local(verbs::local::Local),
    /// List the topologies that run
    List(verbs::list::List),
    /// Kill topologies: their spouts stop, what is pending may finish, then all of them goes
    Kill(verbs::kill::Kill),
    /// Deal a topology's executors anew: other workers, other parallelism, machines that have come since
    Rebalance(verbs::rebalance::Rebalance),
    /// Have a topology's spouts asked for tuples again
    Activate(verbs::activate::Activate),
    /// Have a topology's spouts no longer asked for tuples
    Deactivate(verbs::deactivate::Deactivate),
    /// Print the newest error of each component of a topology, as JSON
    GetErrors(verbs::get_errors::GetErrors),
    /// Run Nimbus, which decides what runs where
    Nimbus(verbs::nimbus::NimbusVerb),
    /// Run this machine's Supervisor, which starts workers and keeps them running
    Supervisor(verbs::supervisor::SupervisorVerb),
    /// Run the UI: pages, and Storm's REST paths
    Ui(verbs::ui::UiVerb),
    /// Run a whole cluster on this machine: Nimbus, a Supervisor and the UI in one process, without ZooKeeper
    Standalone(verbs::standalone::Standalone),
    /// Look after machines: list them, empty one for maintenance
    Admin(verbs::admin::Admin),
    /// Look at what Nimbus keeps of topologies: executables and files
    Blobstore(verbs::blobstore::Blobstore),
    /// Print the value that a configuration key has on this machine
    Localconfvalue(verbs::confvalue::LocalConfValue),
    /// Print the value that a configuration key has for Nimbus
    Remoteconfvalue(verbs::confvalue::RemoteConfValue),
    /// Print the version
    Version(verbs::version::Version),
    /// Print a script that completes the words of this command line in a shell
    Completions(verbs::completions::Completions),
}

/// The command line as clap knows it.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Does what a command line says.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let verb = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.verb,
        Err(error) => {
            // Help that was asked for goes to standard output; both in colour where wanted.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Done } else { Exit::Usage }.into();
        }
    };
    let done = match verb {
        Verb::Submit(verb) => verb.run(),
        Verb::Local(verb) => verb.run(),
        Verb::List(verb) => verb.run(),
        Verb::Kill(verb) => verb.run(),
        Verb::Rebalance(verb) => verb.run(),
        Verb::Activate(verb) => verb.run(),
        Verb::Deactivate(verb) => verb.run(),
        Verb::GetErrors(verb) => verb.run(),
        Verb::Nimbus(verb) => verb.run(),
        Verb::Supervisor(verb) => verb.run(),
        Verb::Ui(verb) => verb.run(),
        Verb::Standalone(verb) => verb.run(),
        Verb::Admin(verb) => verb.run(),
        Verb::Blobstore(verb) => verb.run(),
        Verb::Localconfvalue(verb) => verb.run(),
        Verb::Remoteconfvalue(verb) => verb.run(),
        Verb::Version(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
    };
    let exit = done.unwrap_or_else(|refusal| {
        say(&format!("error: {refusal}"));
        refusal.exit
    });
    exit.into()
}

/// Where configuration comes from, for all words but those that have a topology's.
#[derive(clap::Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct ConfigFlags {
    /// Set a configuration key; wins over files and environment. The value is JSON, or else text
    #[arg(short = 'c', value_name = "KEY=VALUE", alias = "storm_config_opts")]
    assignments: Vec<String>,
    /// Read this file in place of `storm.yaml`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFlags {
    /// Reads all of it.
    ///
    /// # Errors
    /// If something in it is wrong.
    pub(crate) fn read(&self) -> Result<Configuration, Refusal> {
        read(&Flags { file: self.config.clone(), over: Vec::new(), assignments: self.assignments.clone() })
    }

    /// The keys that `-c` sets.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.assignments.iter().map(|assignment| assignment.split('=').next().unwrap_or_default().trim())
    }

    /// Who is asked: the Nimbuses of the configuration.
    ///
    /// # Errors
    /// If something in it is wrong.
    pub(crate) fn client(&self) -> Result<Client, Refusal> {
        client(&self.read()?)
    }
}

/// The configuration by these flags.
///
/// # Errors
/// If something in it is wrong.
pub(crate) fn read(flags: &Flags) -> Result<Configuration, Refusal> {
    let surroundings = Surroundings::of_process()
        .map_err(|error| Refusal::new(Exit::Failed, format!("cannot find out where this process runs: {error}")))?;
    Ok(Configuration::read(&surroundings, flags)?)
}

/// Who is asked by this configuration.
///
/// # Errors
/// If it makes no sense.
pub(crate) fn client(configuration: &Configuration) -> Result<Client, Refusal> {
    Ok(Client::new(Settings::of(configuration, &host_name())?.nimbuses))
}

/// Checks the wait of a kill or a rebalance before anybody is asked.
///
/// # Errors
/// If it is longer than Nimbus takes.
pub(crate) fn check_wait(wait_secs: Option<u64>) -> Result<(), Refusal> {
    submission::check_wait(wait_secs).map_err(|why| Refusal::new(Exit::Usage, format!("`-w`: {why}")))
}

/// Runs a question or two on a runtime of their own.
///
/// # Errors
/// Those of the questions.
pub(crate) fn ask<T>(questions: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Refusal::new(Exit::Failed, format!("cannot start a runtime: {error}")))?;
    let answer = runtime.block_on(questions);
    // A name that does not resolve would keep it for seconds.
    runtime.shutdown_background();
    answer
}
