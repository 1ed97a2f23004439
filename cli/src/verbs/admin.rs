//! `storm admin`: the machines of the cluster, and emptying one for maintenance.
//!
//! Not here: moving work (Nimbus, Supervisors). Invariant: `drain` ends with 0 only when the machine has no work left, or with
//! `--no-wait` when Nimbus has taken it on.

use std::collections::BTreeSet;
use std::time::Duration;

use nimbus_api::client::Client;
use nimbus_api::cluster::{Cluster, MachineSummary};
use tokio::time::sleep;
use worker_api::ids::SupervisorId;

use crate::arguments::{ConfigFlags, ask};
use crate::exit::{Exit, Refusal};
use crate::output::{data, json, say};

const MACHINES_EXAMPLE: &str = "\
Examples:
  storm admin machines
  storm admin machines --json | jq -r '.[] | select(.drained) | .host'";

const DRAIN_EXAMPLE: &str = "\
Examples:
  storm admin drain node7
      gives its work to other machines, and returns when it has none left: then it may be turned off
  storm admin drain node7 --no-wait

Ctrl-C ends the waiting alone: the machine is emptied all the same, and gets no work until `storm admin undrain`.";

const UNDRAIN_EXAMPLE: &str = "\
Example:
  storm admin undrain node7";

/// Between two looks at a machine that is being emptied.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks in a row that do not find it drained are believed: a Nimbus that has just taken the lead has not read yet which
/// machines are.
const ODD_LOOKS: u32 = 20;

/// Most topologies that are told to keep a machine from being emptied.
const TOLD_WAITS: usize = 3;

#[derive(clap::Args)]
pub(crate) struct Admin {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the machines: host, state, slots, Supervisor
    #[command(after_help = MACHINES_EXAMPLE)]
    Machines(Machines),
    /// Empty a machine for maintenance: its work goes elsewhere, and it gets none until `undrain`
    #[command(after_help = DRAIN_EXAMPLE)]
    Drain(Drain),
    /// Let a drained machine have work again
    #[command(after_help = UNDRAIN_EXAMPLE)]
    Undrain(Undrain),
}

#[derive(clap::Args)]
struct Machines {
    /// Print all that is known of each as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(clap::Args)]
struct Drain {
    /// The machine, by host name or by its Supervisor's id
    host: String,
    /// Return at once
    #[arg(long)]
    no_wait: bool,
    /// Print the machines as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(clap::Args)]
struct Undrain {
    /// The machine, by host name or by its Supervisor's id
    host: String,
    /// Print the machines as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

impl Admin {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        match self.verb {
            Verb::Machines(verb) => verb.run(),
            Verb::Drain(verb) => verb.run(),
            Verb::Undrain(verb) => verb.run(),
        }
    }
}

impl Machines {
    fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        let Cluster { machines, cluster_state, .. } = ask(async { Ok(client.cluster().await?) })?;
        if let Some(away) = cluster_state {
            say(&format!("warning: this may be out of date: {away}"));
        }
        if self.json {
            json(&machines)?
        } else {
            data(&table(&machines))?
        }
        Ok(Exit::Done)
    }
}

fn table(machines: &[MachineSummary]) -> String {
    if machines.is_empty() {
        return "No machines.\n".to_owned();
    }
    let mut table = row(["Host", "State", "Slots", "Used", "Uptime_secs", "Supervisor_Id"]);
    table += &"-".repeat(88);
    table.push('\n');
    for machine in machines {
        table += &row([
            &machine.host,
            state(machine),
            &machine.slots.len().to_string(),
            &machine.used.len().to_string(),
            &(machine.uptime_ms / 1000).to_string(),
            machine.id.as_str(),
        ]);
    }
    table
}

/// A machine's state in a word. A dead one is dead whether it was drained or not.
fn state(machine: &MachineSummary) -> &'static str {
    match machine {
        MachineSummary { dead: true, .. } => "DEAD",
        MachineSummary { drained: true, used, .. } if used.is_empty() => "DRAINED",
        MachineSummary { drained: true, .. } => "DRAINING",
        MachineSummary { available: true, .. } => "ALIVE",
        MachineSummary { .. } => "AWAY",
    }
}

fn row([host, state, slots, used, uptime, id]: [&str; 6]) -> String {
    format!("{host:<20} {state:<10} {slots:<6} {used:<6} {uptime:<12} {id}\n")
}

impl Drain {
    fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        let machines = ask(async {
            let machines = client.drain(&self.host).await?;
            if self.no_wait { Ok(machines) } else { emptied(&client, &self.host, machines).await }
        })?;
        if self.json {
            json(&machines)?
        } else if self.no_wait {
            data(&format!("Draining machine: {}, {}\n", self.host, left(&machines)))?
        } else {
            data(&format!("Drained machine: {}\n", self.host))?
        }
        Ok(Exit::Done)
    }
}

/// Waits until these machines have no work, and says so whenever fewer workers are left. A Nimbus that is away for a while, or is
/// another one meanwhile, ends nothing: what was asked for lies in the cluster state.
///
/// # Errors
/// If somebody lets them have work again.
async fn emptied(client: &Client, host: &str, begun: Vec<MachineSummary>) -> Result<Vec<MachineSummary>, Refusal> {
    let ids: BTreeSet<SupervisorId> = begun.iter().map(|machine| machine.id.clone()).collect();
    let (mut said, mut odd_looks) = (left(&begun), 0);
    say(&format!("{host}: {said}"));
    while odd_looks < ODD_LOOKS {
        let news = match client.cluster().await {
            Ok(Cluster { cluster_state: None, machines, .. }) => {
                let (drained, others): (Vec<MachineSummary>, Vec<MachineSummary>) = machines
                    .into_iter()
                    .filter(|machine| ids.contains(&machine.id))
                    .partition(|machine| machine.drained);
                if others.is_empty() && drained.len() == ids.len() {
                    odd_looks = 0;
                    if drained.iter().all(|machine| machine.used.is_empty()) {
                        return Ok(drained);
                    }
                    left(&drained)
                } else {
                    odd_looks += 1;
                    said.clone()
                }
            }
            Ok(Cluster { cluster_state, .. }) => cluster_state.unwrap_or_default(),
            Err(error) => format!("{error}; this goes on waiting"),
        };
        if news != said {
            say(&format!("{host}: {news}"));
            said = news;
        }
        sleep(LOOK).await;
    }
    let why = format!("{host} is no longer being emptied: it was undrained meanwhile; `storm admin machines` shows it");
    Err(Refusal::new(Exit::Failed, why))
}

/// `3 workers left`, and why, if they cannot leave now.
fn left(machines: &[MachineSummary]) -> String {
    let workers = match machines.iter().map(|machine| machine.used.len()).sum::<usize>() {
        1 => "1 worker left".to_owned(),
        workers => format!("{workers} workers left"),
    };
    let waits: BTreeSet<&str> = machines.iter().flat_map(|machine| &machine.waits).map(String::as_str).collect();
    let told = waits.iter().take(TOLD_WAITS).fold(workers, |told, wait| format!("{told}; {wait}"));
    match waits.len().saturating_sub(TOLD_WAITS) {
        0 => told,
        more => format!("{told}; and {more} more topologies wait"),
    }
}

impl Undrain {
    fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        let machines = ask(async { Ok(client.undrain(&self.host).await?) })?;
        if self.json {
            json(&machines)?
        } else {
            data(&format!("Undrained machine: {}\n", self.host))?
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use worker_api::ids::Port;

    use super::*;

    fn machine(used: u16, waits: &[&str]) -> MachineSummary {
        MachineSummary {
            id: SupervisorId::new("m1").unwrap(),
            host: "node7".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_ms: 0,
            slots: Vec::new(),
            used: (0..used).map(Port).collect(),
            heard_ms: Some(0),
            available: false,
            dead: false,
            drained: true,
            waits: waits.iter().map(|wait| (*wait).to_owned()).collect(),
        }
    }

    #[test]
    fn what_keeps_workers_on_a_machine_is_told_once_and_not_at_any_length() {
        assert_eq!(left(&[machine(1, &[])]), "1 worker left");
        assert_eq!(left(&[machine(2, &["a waits"]), machine(1, &["a waits"])]), "3 workers left; a waits");
        let many = left(&[machine(5, &["a waits", "b waits", "c waits", "d waits", "e waits"])]);
        assert_eq!(many, "5 workers left; a waits; b waits; c waits; and 2 more topologies wait");
    }
}
