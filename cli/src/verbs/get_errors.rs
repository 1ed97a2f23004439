//! `storm get-errors`: the newest error of each component, as Storm prints it.
//!
//! Not here: older errors (the UI). Invariant: one line of JSON, also for a topology that does not exist.

use std::collections::BTreeMap;

use nimbus_api::client::ClientError;
use nimbus_api::failure::FailureKind;
use serde::Serialize;

use crate::arguments::{ConfigFlags, ask};
use crate::exit::{Exit, Refusal};
use crate::output::data;

const EXAMPLE: &str = "\
Example:
  storm get-errors word-count
      {\"Topology Name\":\"word-count\",\"Comp-Errors\":{\"split\":\"cannot read …\"}}";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct GetErrors {
    /// The topology, by name or id
    name: String,
    /// Changes nothing: what is printed is JSON in any case
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(Serialize)]
struct Errors<'a> {
    #[serde(rename = "Topology Name")]
    name: &'a str,
    #[serde(rename = "Comp-Errors")]
    newest: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct NotRunning {
    #[serde(rename = "Failure")]
    failure: String,
}

impl GetErrors {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        let answer = ask(async { Ok(client.topology(&self.name).await) })?;
        let topology = match answer {
            Ok(topology) => topology,
            Err(ClientError::Refused(failure)) if failure.kind == FailureKind::NotAlive => {
                let failure = format!("No topologies running with name {}", self.name);
                line(&NotRunning { failure })?;
                return Ok(Exit::Failed);
            }
            Err(error) => return Err(error.into()),
        };
        let newest = topology.errors.iter();
        let newest =
            newest.filter_map(|(component, errors)| Some((component.as_str(), errors.last()?.message.as_str())));
        line(&Errors { name: topology.summary.name.as_str(), newest: newest.collect() })?;
        Ok(Exit::Done)
    }
}

fn line(value: &impl Serialize) -> Result<(), Refusal> {
    let text = serde_json::to_string(value)
        .map_err(|error| Refusal::new(Exit::Failed, format!("cannot print the answer as JSON: {error}")))?;
    data(&(text + "\n"))
}
