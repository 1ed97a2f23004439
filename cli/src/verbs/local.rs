//! `storm local`: the executable's own role `local`, in place of this process.
//!
//! Not here: the run (the executable). Invariant: signals, output and exit code are the executable's.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use crate::exit::{Exit, Refusal};
use crate::verbs::submit::executable::Executable;

const EXAMPLE: &str = "\
Example:
  storm local target/release/word-count -c topology.workers=2 -- --input book.txt --output counts.tsv";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Local {
    /// The topology's executable
    executable: PathBuf,
    /// Set a configuration key; wins over files and code. The value is JSON, or else text
    #[arg(short = 'c', value_name = "KEY=VALUE", alias = "storm_config_opts")]
    assignments: Vec<String>,
    /// Read the topology's configuration from a YAML file; of several, the last wins
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Arguments of the topology
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

impl Local {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let executable = Executable::check(&self.executable)?;
        let mut command = executable.command("local");
        for file in &self.config {
            command.arg("--config").arg(file);
        }
        for assignment in &self.assignments {
            command.arg("-c").arg(assignment);
        }
        let error = command.args(&self.arguments).exec();
        Err(executable.not_started(&error))
    }
}
