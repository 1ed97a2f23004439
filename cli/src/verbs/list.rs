//! `storm list`: the topologies, in Storm's columns.
//!
//! Why a topology is as it is stands below them, on standard error: Storm has no column for it.
//!
//! Not here: one topology in depth (the UI). Invariant: scripts that read Storm's columns read these.

use nimbus_api::topology::{StatusWord, TopologySummary};

use crate::arguments::{ConfigFlags, ask};
use crate::exit::{Exit, Refusal};
use crate::output::{data, json, say};

const EXAMPLE: &str = "\
Examples:
  storm list
  storm list --json | jq -r '.[].name'
  storm list -c nimbus.seeds='[\"nimbus1\"]'";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct List {
    /// Print all that is known of each as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

impl List {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        let cluster = ask(async { Ok(client.cluster().await?) })?;
        let topologies = cluster.topologies;
        match cluster.cluster_state {
            // There may well be some.
            Some(away) if !cluster.records_read => {
                let why = format!("Nimbus cannot say which topologies run: {away}");
                return Err(Refusal::new(Exit::Unavailable, why));
            }
            Some(away) => say(&format!("warning: this may be out of date: {away}")),
            None => {}
        }
        if self.json {
            json(&topologies)?
        } else {
            data(&table(&topologies))?;
            for TopologySummary { name, reason, .. } in &topologies {
                if let Some(reason) = reason {
                    say(&format!("{name}: {reason}"));
                }
            }
        }
        Ok(Exit::Done)
    }
}

/// Storm's own word for a state.
fn word(status: StatusWord) -> &'static str {
    match status {
        StatusWord::Active => "ACTIVE",
        StatusWord::Inactive => "INACTIVE",
        StatusWord::Rebalancing => "REBALANCING",
        StatusWord::Killed => "KILLED",
        StatusWord::Broken => "BROKEN",
    }
}

fn table(topologies: &[TopologySummary]) -> String {
    if topologies.is_empty() {
        return "No topologies running.\n".to_owned();
    }
    let mut table = row(["Topology_name", "Status", "Num_tasks", "Num_workers", "Uptime_secs", "Topology_Id", "Owner"]);
    table += &"-".repeat(88);
    table.push('\n');
    for topology in topologies {
        table += &row([
            topology.name.as_str(),
            word(topology.status),
            &topology.tasks.to_string(),
            &topology.workers.to_string(),
            &(topology.uptime_ms / 1000).to_string(),
            topology.id.as_str(),
            topology.owner.as_deref().unwrap_or_default(),
        ]);
    }
    table
}

fn row([name, status, tasks, workers, uptime, id, owner]: [&str; 7]) -> String {
    format!("{name:<20} {status:<10} {tasks:<10} {workers:<12} {uptime:<12} {id:<20} {owner:<20}\n")
}
