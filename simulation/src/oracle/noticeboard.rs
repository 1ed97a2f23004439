//! The cluster state as its observations tell it.
//!
//! Not here: judging it. Invariant: what cannot be read is as good as not there.

use std::collections::BTreeMap;

use cluster_state::paths;
use cluster_state::records::{Placed, PlanHead, PlanPart, Topology};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use worker_api::ids::{SupervisorId, TopologyId, WorkerIndex};

use super::Observation;

/// Records by path.
#[derive(Default)]
pub(super) struct Noticeboard(BTreeMap<String, Vec<u8>>);

impl Noticeboard {
    /// Hears of a change.
    pub(super) fn observe(&mut self, observation: &Observation) {
        let Observation::Recorded { path, value, .. } = observation else { return };
        match value {
            Some(value) => self.0.insert(path.clone(), value.clone()),
            None => self.0.remove(path),
        };
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Paths and values, ascending.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(path, value)| (path.as_str(), value.as_slice()))
    }

    fn read<R: DeserializeOwned>(&self, path: &cluster_state::store::Path) -> Option<R> {
        read(self.0.get(path.as_str())?)
    }

    pub(super) fn topology(&self, id: &TopologyId) -> Option<Topology> {
        self.read(&paths::topology(id))
    }

    pub(super) fn head(&self, id: &TopologyId) -> Option<PlanHead> {
        self.read(&paths::plan_head(id))
    }

    /// The workers of the plan that holds, with their machines; those that wait for a slot have none.
    pub(super) fn placed(&self, id: &TopologyId) -> BTreeMap<WorkerIndex, (Option<SupervisorId>, Placed)> {
        let Some(head) = self.head(id) else { return BTreeMap::new() };
        let named = head.parts.into_iter().map(|(machine, part)| (Some(machine), part));
        let named = named.chain(head.waiting.map(|part| (None, part)));
        let parts = named.filter_map(|(machine, hash)| {
            let part: PlanPart = self.read(&paths::plan_part(id, &hash))?;
            Some(part.workers.into_iter().map(move |(worker, placed)| (worker, (machine.clone(), placed))))
        });
        parts.flatten().collect()
    }
}

/// What a record says.
pub(super) fn read<R: DeserializeOwned>(value: &[u8]) -> Option<R> {
    serde_json::from_slice(value).ok()
}

/// Who wrote a record, by its own words.
pub(super) fn writer_of(value: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Signed {
        writer: String,
    }
    read::<Signed>(value).map(|signed| signed.writer)
}

/// The topology whose record, head or part lies at this path.
pub(super) fn topology_at<'a>(path: &'a str, folder: &str) -> Option<(TopologyId, &'a str)> {
    let below = path.strip_prefix(folder)?.strip_prefix('/')?;
    let (id, rest) = below.split_once('/').unwrap_or((below, ""));
    Some((TopologyId::new(id).ok()?, rest))
}
