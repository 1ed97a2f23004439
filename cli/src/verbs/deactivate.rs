//! `storm deactivate`: a topology's spouts are no longer asked for tuples; what is under way goes on.
//!
//! Not here: what follows from it (Nimbus and the workers).

use crate::arguments::{ConfigFlags, ask};
use crate::exit::{Exit, Refusal};
use crate::output::{data, json};

const EXAMPLE: &str = "\
Example:
  storm deactivate word-count";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Deactivate {
    /// The topology, by name or id
    name: String,
    /// Print the topology as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

impl Deactivate {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        let topology = ask(async { Ok(client.deactivate(&self.name).await?) })?;
        if self.json {
            json(&topology)?
        } else {
            data(&format!("Deactivated topology: {}\n", topology.name))?
        }
        Ok(Exit::Done)
    }
}
