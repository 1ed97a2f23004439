//! `storm activate`: a topology's spouts are asked for tuples again.
//!
//! Not here: what follows from it (Nimbus and the workers).

use crate::arguments::{ConfigFlags, ask};
use crate::exit::{Exit, Refusal};
use crate::output::{data, json};

const EXAMPLE: &str = "\
Example:
  storm activate word-count";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Activate {
    /// The topology, by name or id
    name: String,
    /// Print the topology as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

impl Activate {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        let topology = ask(async { Ok(client.activate(&self.name).await?) })?;
        if self.json {
            json(&topology)?
        } else {
            data(&format!("Activated topology: {}\n", topology.name))?
        }
        Ok(Exit::Done)
    }
}
