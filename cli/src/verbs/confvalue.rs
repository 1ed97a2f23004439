//! `storm localconfvalue` and `storm remoteconfvalue`: the value of one key, here or at Nimbus.
//!
//! Not here: how values come about (`daemon::configuration`). Invariant: a secret's value is not printed.

use serde_json::Value;
use topology_api::config::{Config, known, nearest};

use crate::arguments::{ConfigFlags, ask};
use crate::exit::{Exit, Refusal};
use crate::output::{data, json};

const LOCAL_EXAMPLE: &str = "\
Example:
  storm localconfvalue supervisor.slots.ports
      supervisor.slots.ports: 6700 6701 6702 6703";

const REMOTE_EXAMPLE: &str = "\
Example:
  storm remoteconfvalue storm.zookeeper.servers
      storm.zookeeper.servers: zk1 zk2 zk3";

#[derive(clap::Args)]
#[command(after_help = LOCAL_EXAMPLE)]
pub(crate) struct LocalConfValue {
    /// The key
    key: String,
    /// Print the value alone, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(clap::Args)]
#[command(after_help = REMOTE_EXAMPLE)]
pub(crate) struct RemoteConfValue {
    /// The key
    key: String,
    /// Print the value alone, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

impl LocalConfValue {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let configuration = self.config.read()?;
        check_key(&self.key)?;
        print(&self.key, configuration.shown(&self.key), "on this machine", self.json)
    }
}

impl RemoteConfValue {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        check_key(&self.key)?;
        let mut values = ask(async { Ok(client.configuration().await?) })?;
        print(&self.key, values.remove(&self.key), "at Nimbus", self.json)
    }
}

/// A key that does not exist is a slip, not one without a value.
fn check_key(key: &str) -> Result<(), Refusal> {
    let mut config = Config::new();
    config.add_flag(&format!("{key}=null"));
    config.check().map_err(|error| Refusal::new(Exit::Usage, error.to_string()))
}

/// A key of Storm's or ours without a value is null; another one is there only if somebody set it.
fn print(key: &str, value: Option<Value>, place: &str, as_json: bool) -> Result<Exit, Refusal> {
    let Some(value) = value.or_else(|| known(key).map(|_| Value::Null)) else {
        let advice = match nearest(key) {
            Some(meant) => format!("did you mean `{}`?", meant.name()),
            None => "check how it is written, or set it".to_owned(),
        };
        let why = format!("the key `{}` is not known, and nobody set it {place}; {advice}", key.escape_default());
        return Err(Refusal::new(Exit::Failed, why));
    };
    if as_json {
        json(&value)?;
    } else {
        data(&format!("{key}: {}\n", words(&value)))?;
    }
    Ok(Exit::Done)
}

/// As Storm prints it: text bare, lists with blanks between.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
