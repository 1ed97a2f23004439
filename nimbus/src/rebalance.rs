//! Rebalancing: what is checked of a command before anything of it is stored, and what is done without being asked for.
//!
//! Not here: whether the topology's state allows it (`lifecycle`), dealing executors (`scheduling`). Invariant: what was
//! stored can be dealt: each component has at least one executor and at most as many as it has tasks.

use std::collections::BTreeMap;

use cluster_state::records::Rebalanced;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::submission::Rebalance;
use topology_api::topology::Graph;
use worker_api::ids::{NAME_BYTES, TopologyId, TopologyName};

use crate::scheduling::Wish;
use crate::submission::Limits;

/// Checks what is wanted of a topology. `before` is what earlier rebalances have changed.
///
/// # Errors
/// The first thing that cannot be had, in a sentence.
pub(crate) fn check(
    name: &TopologyName,
    rebalance: &Rebalance,
    graph: &Graph,
    before: &Rebalanced,
    limits: &Limits,
) -> Result<Rebalanced, Failure> {
    let refused = |kind: FailureKind, why: String| kind.with(format!("cannot rebalance `{name}`: {why}"));
    let bad = |why: String| refused(FailureKind::BadRequest, why);
    for (component, executors) in &rebalance.executors {
        let Some(found) = graph.components.iter().find(|found| found.name == *component) else {
            let shown: String = component.chars().take(NAME_BYTES).flat_map(char::escape_default).collect();
            let there: Vec<&str> = graph.components.iter().map(|found| found.name.as_str()).collect();
            let why = format!("it has no component `{shown}`; there are {}", there.join(", "));
            return Err(refused(FailureKind::NotFound, why));
        };
        if *executors == 0 || *executors as usize > found.tasks {
            return Err(bad(format!(
                "component `{component}` cannot have {executors} executors: it has {} tasks, and each executor runs one \
                 at least; 1 to {} are possible",
                found.tasks, found.tasks
            )));
        }
    }
    if rebalance.workers == Some(0) {
        return Err(bad(
            "it cannot have 0 workers; 1 at least, or `storm deactivate`, if nothing shall be done".to_owned()
        ));
    }
    if let (Some(workers), Some(most)) = (rebalance.workers, limits.most_workers)
        && u32::from(workers) > most
    {
        return Err(bad(format!("{workers} workers are more than nimbus.slots.perTopology allows, which is {most}")));
    }
    let to = Rebalanced { workers: rebalance.workers, executors: rebalance.executors.clone() };
    if let Some(most) = limits.most_executors.filter(|_| !to.executors.is_empty()) {
        let executors = |name: &str| to.executors.get(name).or_else(|| before.executors.get(name)).copied();
        let all = graph.components.iter().map(|component| match executors(&component.name) {
            Some(executors) => u64::from(executors),
            None => component.executors as u64,
        });
        let all: u64 = all.sum();
        if all > u64::from(most) {
            return Err(bad(format!(
                "{all} executors are more than nimbus.executors.perTopology allows, which is {most}"
            )));
        }
    }
    Ok(to)
}

/// How long slots must have been free before a topology that has too few workers is dealt anew for them.
const FREE_MS: u64 = 10_000;
/// How long a topology is left alone after it was rebalanced without being asked for, or a machine of it died.
const REST_MS: u64 = 60_000;

/// What is to be rebalanced without being asked for, and when. Times are milliseconds of one monotonic clock. Kept in the
/// leader's memory alone: a new one begins anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// Since when what is wished for could be had.
    since: BTreeMap<TopologyId, (Wish, u64)>,
    /// When a wish was last followed.
    followed: BTreeMap<TopologyId, u64>,
    /// When a machine died that had workers of it.
    died: BTreeMap<TopologyId, u64>,
}

impl Wishes {
    /// These are the wishes now.
    pub(crate) fn are(&mut self, wishes: BTreeMap<TopologyId, Wish>, now_ms: u64) {
        let before = std::mem::take(&mut self.since);
        let since = |(id, wish): (TopologyId, Wish)| {
            let since_ms =
                before.get(&id).filter(|(before, _)| *before == wish).map_or(now_ms, |(_, since_ms)| *since_ms);
            (id, (wish, since_ms))
        };
        self.since = wishes.into_iter().map(since).collect();
    }

    /// Why a topology is to be rebalanced now, if it is.
    pub(crate) fn due(&self, id: &TopologyId, now_ms: u64) -> Option<String> {
        let (wish, since_ms) = self.since.get(id)?;
        let rests = |times: &BTreeMap<TopologyId, u64>| times.get(id).is_some_and(|at| now_ms < at + REST_MS);
        match wish {
            _ if rests(&self.followed) => None,
            Wish::MoreWorkers => {
                let is_due = now_ms >= since_ms + FREE_MS && !rests(&self.died);
                is_due.then(|| "slots have come free".to_owned())
            }
            Wish::Leave { host } => Some(format!("{host} is being drained")),
        }
    }

    /// A topology rebalances without being asked for.
    pub(crate) fn followed(&mut self, id: &TopologyId, now_ms: u64) {
        self.followed.insert(id.clone(), now_ms);
    }

    /// A machine died that had workers of a topology.
    pub(crate) fn machine_died(&mut self, id: &TopologyId, now_ms: u64) {
        self.died.insert(id.clone(), now_ms);
    }

    /// A topology is gone.
    pub(crate) fn forget(&mut self, id: &TopologyId) {
        self.since.remove(id);
        self.followed.remove(id);
        self.died.remove(id);
    }
}
