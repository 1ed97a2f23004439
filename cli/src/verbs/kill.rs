//! `storm kill`: ends topologies for good.
//!
//! Not here: draining and cleaning up (Nimbus, Supervisors, workers). Invariant: it ends with 0 only if all were killed.

use nimbus_api::submission;

use crate::arguments::{ConfigFlags, ask, check_wait};
use crate::exit::{Exit, Refusal};
use crate::output::{data, json, say};

const EXAMPLE: &str = "\
Examples:
  storm kill word-count
      its spouts stop; what is pending gets `topology.message.timeout.secs` to finish
  storm kill word-count exclamation -w 0
      both, at once";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Kill {
    /// The topologies, by name or id
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// How long what is pending may take to finish, at most 604800 (seven days) [default: the topology's message time-out]
    #[arg(short, long = "wait-time-secs", alias = "wait", value_name = "SECS")]
    wait: Option<u64>,
    /// Go on with the next one after a failure
    #[arg(short, long)]
    ignore_errors: bool,
    /// Print the topologies as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

impl Kill {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        check_wait(self.wait)?;
        let client = self.config.client()?;
        let kill = submission::Kill { wait_secs: self.wait };
        let mut killed = Vec::new();
        let mut failed = None;
        for name in &self.names {
            match ask(async { Ok(client.kill(name, kill).await?) }) {
                Ok(topology) => {
                    if !self.json {
                        data(&format!("Killed topology: {}\n", topology.name))?;
                    }
                    killed.push(topology);
                }
                Err(refusal) if self.ignore_errors => {
                    say(&format!("error: {refusal}"));
                    failed = Some(refusal.exit);
                }
                Err(refusal) => {
                    if self.json {
                        json(&killed)?;
                    }
                    return Err(refusal);
                }
            }
        }
        if self.json {
            json(&killed)?;
        }
        Ok(failed.unwrap_or(Exit::Done))
    }
}
