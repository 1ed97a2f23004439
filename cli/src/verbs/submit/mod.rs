//! `storm submit`: asks the executable for its graph, uploads what Nimbus lacks, and posts the topology.
//!
//! Not here: the executable (`executable`), blobs (`upload`), the checks of the graph (Nimbus). Invariant: Nimbus stores nothing of a
//! topology before all of its blobs are there.

pub(crate) mod executable;
mod owner;
mod upload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daemon::configuration::Flags;
use nimbus_api::client::{Client, ClientError};
use nimbus_api::failure::FailureKind;
use nimbus_api::submission::{Submission, name_is_taken};
use nimbus_api::topology::StatusWord;
use topology_api::config::known;
use worker_api::ids::{FileName, TopologyName};
use worker_api::launch::LAUNCH_FILE;

use crate::arguments::{ask, client, read};
use crate::exit::{Exit, Refusal};
use crate::output::{data, json, say};

use executable::{Executable, Question};
use upload::Source;

const EXAMPLE: &str = "\
Examples:
  storm submit target/release/word-count -- --input /data/book.txt --output /data/counts.tsv
  storm submit app --name app-2 -c topology.workers=4 --file model.bin=models/v7.bin -- --model model.bin
      `model.bin` lies in the folder of each worker";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Submit {
    /// The topology's executable
    executable: PathBuf,
    /// What the topology is called [default: what its code says]
    #[arg(long)]
    name: Option<String>,
    /// Set a configuration key; wins over files and code. The value is JSON, or else text
    #[arg(short = 'c', value_name = "KEY=VALUE", alias = "storm_config_opts")]
    assignments: Vec<String>,
    /// Read the topology's configuration from a YAML file; of several, the last wins
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Have a copy of the file at PATH lie under NAME in the folder of each worker
    #[arg(long = "file", value_name = "NAME=PATH")]
    files: Vec<String>,
    /// Print the topology's id and the warnings as JSON
    #[arg(long)]
    json: bool,
    /// Arguments of the topology
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

impl Submit {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let assignments = self.assignments.clone();
        let client = client(&read(&Flags { file: None, over: self.config.clone(), assignments })?)?;
        let executable = Executable::check(&self.executable)?;
        let files = files(&self.files)?;
        for warning in stray_paths(&self.arguments, &files) {
            say(&format!("warning: {warning}"));
        }
        ask(async {
            let question = Question {
                assignments: self.own_assignments()?,
                config: self.config.iter().map(std::path::absolute).collect::<Result<_, _>>().map_err(|error| {
                    Refusal::new(Exit::Failed, format!("cannot find out where this process runs: {error}"))
                })?,
                files: &files,
                arguments: &self.arguments,
            };
            let described = executable.describe(&question).await?;
            let name = TopologyName::new(described.graph.name.clone())
                .map_err(|error| Refusal::new(Exit::Usage, error.to_string()))?;
            name_is_free(&client, &name).await?;
            let executable = Source::read("the executable", executable.path()).await?;
            let mut sources = BTreeMap::new();
            for (name, path) in &files {
                sources.insert(name.clone(), Source::read("the file", path).await?);
            }
            upload::upload(&client, std::iter::once(&executable).chain(sources.values())).await?;
            let submission = Submission {
                name: name.clone(),
                owner: owner::owner(),
                described,
                executable: executable.hash.clone(),
                files: sources.into_iter().map(|(name, source)| (name, source.hash)).collect(),
                arguments: self.arguments.clone(),
            };
            let submitted = client.submit(&submission).await?;
            for warning in &submitted.warnings {
                say(&format!("warning: {warning}"));
            }
            if self.json {
                json(&submitted)?
            } else {
                data(&format!("Submitted {name} as {}\n", submitted.id))?
            }
            Ok(Exit::Done)
        })
    }

    /// What the executable is told by `-c`: all but the keys of daemons and tools, which mean nothing to it; and the name.
    fn own_assignments(&self) -> Result<Vec<String>, Refusal> {
        let is_own = |assignment: &&String| {
            let key = assignment.split_once('=').map_or("", |(key, _)| key.trim());
            !known(key).is_some_and(|info| info.is_of_daemons())
        };
        let mut own: Vec<String> = self.assignments.iter().filter(is_own).cloned().collect();
        if let Some(name) = &self.name {
            TopologyName::new(name.as_str()).map_err(|error| Refusal::new(Exit::Usage, error.to_string()))?;
            own.push(format!("topology.name={name}"));
        }
        Ok(own)
    }
}

/// Asks before much is uploaded for nothing; Nimbus asks again when it stores the topology.
async fn name_is_free(client: &Client, name: &TopologyName) -> Result<(), Refusal> {
    let found = match client.topology(name.as_str()).await {
        Ok(topology) => topology.summary,
        Err(ClientError::Refused(failure)) if failure.kind == FailureKind::NotAlive => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // It may also be another one's id.
    if found.name != *name {
        return Ok(());
    }
    let is_killed = found.status == StatusWord::Killed;
    Err(ClientError::Refused(name_is_taken(name, &found.id, is_killed)).into())
}

/// What `--file` says: names in a worker's folder, and where the files are now.
fn files(files: &[String]) -> Result<BTreeMap<FileName, PathBuf>, Refusal> {
    let usage = |message: String| Err(Refusal::new(Exit::Usage, message));
    let mut named = BTreeMap::new();
    for text in files {
        let Some((name, path)) = text.split_once('=').filter(|(name, path)| !name.is_empty() && !path.is_empty())
        else {
            return usage(format!("`--file` takes NAME=PATH, found `{}`", text.escape_default()));
        };
        let name = match FileName::new(name) {
            Ok(name) => name,
            Err(error) => return usage(error.to_string()),
        };
        if name.as_str() == LAUNCH_FILE {
            return usage(format!(
                "`--file` may not name `{LAUNCH_FILE}`: each worker's folder has one of the runtime's; choose another name"
            ));
        }
        let path = match std::fs::canonicalize(path) {
            Ok(path) if path.is_file() => path,
            Ok(_) => return Err(Refusal::new(Exit::NoInput, format!("`{path}` of `--file {name}=…` is not a file"))),
            Err(error) => {
                let message = format!("cannot read `{path}` of `--file {name}=…`: {error}; check the path");
                return Err(Refusal::new(Exit::NoInput, message));
            }
        };
        if named.contains_key(&name) {
            return usage(format!("`--file` names `{name}` twice; give each file a name of its own"));
        }
        named.insert(name, path);
    }
    Ok(named)
}

/// Arguments of the topology that are paths here, but not where its workers run.
fn stray_paths(arguments: &[String], files: &BTreeMap<FileName, PathBuf>) -> Vec<String> {
    let stray = |argument: &String| {
        let value = argument.strip_prefix("--").and_then(|flag| Some(flag.split_once('=')?.1)).unwrap_or(argument);
        let path = Path::new(value);
        let travels = files.keys().any(|name| name.as_str() == value);
        (!value.is_empty() && path.is_relative() && !travels && path.is_file()).then(|| {
            format!(
                "`{}` in the topology's arguments is a file here, but not in the folder of a worker; \
                 give its absolute path, or send it along by `--file NAME={}` and name it NAME",
                value.escape_default(),
                value.escape_default()
            )
        })
    };
    arguments.iter().filter_map(stray).collect()
}
