//! `storm rebalance`: deals a topology's executors anew.
//!
//! Not here: draining and switching (Nimbus, Supervisors, workers). Invariant: it ends with 0 only if Nimbus has taken it on.

use std::collections::BTreeMap;

use nimbus_api::submission;
use topology_api::tuple::KEY_GROUPS;

use crate::arguments::{ConfigFlags, ask, check_wait};
use crate::exit::{Exit, Refusal};
use crate::output::{data, json, say};

const EXAMPLE: &str = "\
Examples:
  storm rebalance word-count
      deals it anew, over machines and slots that have come since
  storm rebalance word-count -n 2 -e split=1 -e count=2
      2 workers, 1 executor of `split`, 2 of `count`; what is not named stays as it is
  storm rebalance word-count -w 5
      what is pending gets 5 s to finish; what is still held then fails, and is replayed

It returns at once: `storm list` shows REBALANCING until the topology is as it was before.
A component has at most as many executors as tasks, and its tasks stay. A worker without an executor
is not started.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Rebalance {
    /// The topology, by name or id
    name: String,
    /// How long what is pending may take to finish, at most 604800 (seven days) [default: the topology's message time-out]
    #[arg(short, long = "wait-time-secs", alias = "wait", value_name = "SECS")]
    wait: Option<u64>,
    /// How many workers it shall have
    #[arg(short, long = "num-workers", value_name = "WORKERS")]
    num_workers: Option<u16>,
    /// How many executors a component shall have
    #[arg(short, long = "executor", value_name = "COMPONENT=N")]
    executors: Vec<String>,
    /// Print the topology as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

impl Rebalance {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let usage = |why: String| Refusal::new(Exit::Usage, why);
        check_wait(self.wait)?;
        if self.num_workers == Some(0) {
            return Err(usage("`-n` takes 1 worker or more, found 0; `storm deactivate` stops the spouts".to_owned()));
        }
        let executors = executors(&self.executors).map_err(usage)?;
        // In Storm these become the topology's; here they would go unheard.
        if let Some(key) = self.config.keys().find(|key| key.starts_with("topology.")) {
            return Err(usage(format!(
                "a rebalance changes workers (`-n`) and executors (`-e`) alone, found `-c {key}`; to change the \
                 configuration, kill the topology and submit it again"
            )));
        }
        let client = self.config.client()?;
        let rebalance = submission::Rebalance { wait_secs: self.wait, workers: self.num_workers, executors };
        let topology = ask(async { Ok(client.rebalance(&self.name, &rebalance).await?) })?;
        for warning in &topology.warnings {
            say(&format!("warning: {warning}"));
        }
        if self.json {
            json(&topology)?
        } else {
            data(&format!("Topology {} is rebalancing\n", topology.name))?
        }
        Ok(Exit::Done)
    }
}

/// Most tasks of a component, as there are so many key groups.
const COMPONENT_TASKS: u32 = KEY_GROUPS as u32;

/// Each `COMPONENT=N`.
fn executors(flags: &[String]) -> Result<BTreeMap<String, u32>, String> {
    let mut executors = BTreeMap::new();
    for flag in flags {
        let shown = flag.escape_default();
        // A component's name may hold `=`; a number does not.
        let (component, number) = flag
            .rsplit_once('=')
            .filter(|(component, _)| !component.is_empty())
            .ok_or_else(|| format!("`-e` takes COMPONENT=N, found `{shown}`"))?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("`-e` takes COMPONENT=N, found `{shown}`"));
        }
        // Nimbus knows how many tasks this component has.
        let number = number.parse().ok().filter(|number| (1..=COMPONENT_TASKS).contains(number)).ok_or_else(|| {
            format!("`-e` takes 1 executor up to one for each task, of which a component has at most {COMPONENT_TASKS}; found `{shown}`")
        })?;
        if executors.insert(component.to_owned(), number).is_some() {
            return Err(format!(
                "`-e` names `{}` twice; say once how many executors it shall have",
                component.escape_default()
            ));
        }
    }
    Ok(executors)
}
