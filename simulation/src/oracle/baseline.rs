//! What is left at the end is what living topologies and daemons need: of killed ones there is no record, blob, folder or process.
//!
//! Exact at the end. Blobs of uploads that led to no submission are not judged: they may stay for an hour.
//!
//! Not here: whether killed topologies drained (`draining`). Invariant: a topology is killed once its kill was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_state::records::{Lead, Leader, Topology};
use worker_api::ids::TopologyId;

use super::noticeboard::{Noticeboard, read, topology_at};
use super::{Invariant, Observation, Settled, Violation};

/// See the module.
#[derive(Default)]
pub struct Baseline {
    noticeboard: Noticeboard,
    killed: BTreeSet<TopologyId>,
    /// The blobs that each topology named, also when its record is gone.
    blobs: BTreeMap<TopologyId, BTreeSet<String>>,
    nimbuses: BTreeSet<String>,
}

fn bad<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new("baseline", what))
}

impl Baseline {
    /// Nothing is left of a killed topology.
    fn is_gone(&self, id: &TopologyId, settled: &Settled) -> Result<(), Violation> {
        let names_it = |text: &str| text.split('/').any(|part| part == id.as_str());
        if let Some(path) = settled.records.iter().find(|path| names_it(path)) {
            return bad(format!("{id} was killed, and {path} is left"));
        }
        for (machine, folders) in &settled.folders {
            if let Some(folder) = folders.iter().find(|folder| names_it(folder)) {
                return bad(format!("{id} was killed, and {folder} is left on {machine}"));
            }
        }
        for (machine, processes) in &settled.processes {
            if let Some((_, worker, life)) = processes.iter().find(|(topology, ..)| topology == id) {
                return bad(format!("{id} was killed, and worker {worker} ({life}) runs on {machine}"));
            }
        }
        let others = self.blobs.iter().filter(|(other, _)| !self.killed.contains(other)).flat_map(|(_, blobs)| blobs);
        let needed: BTreeSet<&String> = others.collect();
        let own = self.blobs.get(id).into_iter().flatten();
        for blob in own.filter(|blob| !needed.contains(blob)) {
            if let Some((who, _)) = settled.blobs.iter().find(|(_, blobs)| blobs.contains(blob)) {
                return bad(format!("{id} was killed, and its blob {blob} is left on {who}"));
            }
        }
        Ok(())
    }

    /// What a living topology needs is there.
    fn has_blobs(&self, id: &TopologyId, settled: &Settled) -> Result<(), Violation> {
        for blob in self.blobs.get(id).into_iter().flatten() {
            let has = |(who, blobs): (&String, &BTreeSet<String>)| self.nimbuses.contains(who) && blobs.contains(blob);
            if !settled.blobs.iter().any(has) {
                return bad(format!("no Nimbus has blob {blob} of {id}"));
            }
        }
        Ok(())
    }

    /// Each ephemeral record is that of somebody who lives.
    fn leases(&self, settled: &Settled) -> Result<(), Violation> {
        for (path, value) in self.noticeboard.all().filter(|(path, _)| settled.records.contains(*path)) {
            let owner = match path.split_once('/') {
                None if path == "leader" => read::<Leader>(value).map(|leader| leader.nimbus.to_string()),
                Some(("leads", _)) => read::<Lead>(value).map(|lead| lead.nimbus.to_string()),
                Some(("nimbuses" | "supervisors", id)) => Some(id.to_owned()),
                _ => None,
            };
            if let Some(owner) = owner.filter(|owner| !settled.daemons.contains(owner)) {
                return bad(format!("{path} is left, and {owner} does not live"));
            }
        }
        Ok(())
    }
}

impl Invariant for Baseline {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        self.noticeboard.observe(observation);
        match observation {
            Observation::Killed { topology } => {
                self.killed.insert(topology.clone());
            }
            Observation::Recorded { path, value: Some(value), .. } => {
                if let Some(nimbus) = path.strip_prefix("nimbuses/") {
                    self.nimbuses.insert(nimbus.to_owned());
                }
                let topology = topology_at(path, "topologies").and_then(|(id, _)| Some((id, read::<Topology>(value)?)));
                if let Some((id, record)) = topology {
                    let Topology { executable, graph, files, .. } = record;
                    let all = [executable, graph].into_iter().chain(files.into_values());
                    self.blobs.insert(id, all.map(|blob| blob.hash.to_string()).collect());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, settled: &Settled) -> Result<(), Violation> {
        self.killed.iter().try_for_each(|id| self.is_gone(id, settled))?;
        settled.running.keys().try_for_each(|id| self.has_blobs(id, settled))?;
        self.leases(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    fn killed() -> [Observation; 2] {
        [record(true, ACTIVE), Observation::Killed { topology: topology() }]
    }

    #[test]
    fn nothing_of_a_killed_topology_is_left() {
        let seen = |settled: &Settled| heard(&mut Baseline::default(), &killed(), settled);
        assert_eq!(seen(&Settled::default()), [] as [String; 0]);
        let records = BTreeSet::from(["topologies/words-1-10".to_owned(), "secrets/words-1-1".to_owned()]);
        let left = Settled { records, ..Settled::default() };
        assert_eq!(seen(&left), ["words-1-1 was killed, and secrets/words-1-1 is left"]);
        let folders = BTreeMap::from([(machine(), BTreeSet::from(["workers/words-1-1/6700".to_owned()]))]);
        let left = Settled { folders, ..Settled::default() };
        assert_eq!(seen(&left), ["words-1-1 was killed, and workers/words-1-1/6700 is left on m1"]);
        let processes =
            BTreeMap::from([(machine(), BTreeSet::from([(topology(), worker_api::ids::WorkerIndex(0), life(1, 1))]))]);
        let left = Settled { processes, ..Settled::default() };
        assert_eq!(seen(&left), ["words-1-1 was killed, and worker 0 (incarnation 1 of plan 1) runs on m1"]);
        let blobs = BTreeMap::from([("n1".to_owned(), BTreeSet::from([hash('e').to_string()]))]);
        let left = Settled { blobs, ..Settled::default() };
        assert_eq!(seen(&left), [format!("words-1-1 was killed, and its blob {} is left on n1", hash('e'))]);
    }

    #[test]
    fn blobs_of_living_topologies_are_on_a_nimbus() {
        let seen = [record(true, ACTIVE), recorded("nimbuses/n1", "{}")];
        let with = |who: &str| {
            let blobs = BTreeSet::from(['e', 'f'].map(|letter| hash(letter).to_string()));
            let blobs = [(who.to_owned(), blobs)].into();
            let settled = Settled { blobs, daemons: ["n1".to_owned()].into(), ..running() };
            heard(&mut Baseline::default(), &seen, &settled)
        };
        assert_eq!(with("n1"), [] as [String; 0]);
        assert_eq!(with("m1"), [format!("no Nimbus has blob {} of words-1-1", hash('e'))]);
    }

    #[test]
    fn leases_belong_to_who_lives() {
        let seen = [recorded("supervisors/m1", "{}"), recorded("leads/x", r#"{"nimbus":"n1"}"#)];
        let records: BTreeSet<String> = ["supervisors/m1", "leads/x"].map(str::to_owned).into();
        let with = |daemons: &[&str]| {
            let daemons = daemons.iter().map(|id| (*id).to_owned()).collect();
            heard(&mut Baseline::default(), &seen, &Settled { daemons, records: records.clone(), ..Settled::default() })
        };
        assert_eq!(with(&["n1", "m1"]), [] as [String; 0]);
        assert_eq!(with(&["n1"]), ["supervisors/m1 is left, and m1 does not live"]);
        assert_eq!(with(&["m1"]), ["leads/x is left, and n1 does not live"]);
    }
}
