//! What the plans want of this machine's slots.
//!
//! Not here: how a slot gets there (`slot`), reading the plans (`cluster`). Invariants: a slot is wanted by one topology at most;
//! what is followed of a topology never becomes older.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster_state::records::{FileBlob, KillStep, Status, Topology};
use mutations::Mutation;
use serde::{Deserialize, Serialize};
use worker_api::answer::Spouts;
use worker_api::ids::{BlobHash, PlanVersion, Port, TopologyId, WorkerIndex};
use worker_api::plan::Placement;
use worker_api::secret::Secret;

use crate::slot::Assignment;

/// All that is needed to run a topology's workers here, with Nimbus and the cluster state away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Followed {
    /// Its record.
    pub(crate) topology: Topology,
    /// Who runs what where.
    pub(crate) placement: Placement,
    /// What this machine runs of it.
    pub(crate) slots: BTreeMap<Port, Placed>,
    /// What its workers know.
    pub(crate) secret: Secret,
}

/// One worker here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    /// Which one.
    pub(crate) worker: WorkerIndex,
    /// The version at which its slot or its tasks last changed.
    pub(crate) version: PlanVersion,
}

/// What is followed, by topology.
pub(crate) type Following = BTreeMap<TopologyId, Arc<Followed>>;

/// What the cluster state says of the topologies. Who is not in it is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Those that can be read.
    pub(crate) here: Following,
    /// Those that cannot, and why: what is followed of them stays.
    pub(crate) unreadable: BTreeMap<TopologyId, String>,
    /// Those that have a plan, and nothing here: how their workers here ended is kept.
    pub(crate) elsewhere: BTreeSet<TopologyId>,
    /// There is no topology, and never was one: what is followed was not killed, but its cluster state was emptied or left.
    pub(crate) blank: bool,
}

impl Followed {
    /// What the spouts shall do.
    pub(crate) fn spouts(&self) -> Spouts {
        match self.topology.status {
            Status::Active if self.topology.started => Spouts::Active,
            Status::Active if mutations::on(Mutation::SpoutsActivatedTooEarly) => Spouts::Active,
            Status::Active | Status::Inactive { .. } | Status::Rebalancing { .. } | Status::Killed { .. } => {
                Spouts::Inactive
            }
        }
    }

    /// Whether a worker of it that ends stays so.
    pub(crate) fn rests(&self) -> bool {
        self.topology.status.is_finished()
    }

    /// The executable, the graph and the files, each once.
    pub(crate) fn blobs(&self) -> BTreeMap<BlobHash, u64> {
        let Topology { executable, graph, files, .. } = &self.topology;
        let blobs = [executable, graph].into_iter().chain(files.values());
        blobs.map(|FileBlob { hash, bytes }| (hash.clone(), *bytes)).collect()
    }

    /// What it wants of this machine's slots.
    fn wants(&self) -> impl Iterator<Item = (Port, Assignment)> + '_ {
        self.slots.iter().map(|(port, placed)| {
            let topology = self.topology.id.clone();
            (*port, Assignment { topology, worker: placed.worker, plan: placed.version })
        })
    }
}

/// What is followed after this was seen: all of it, with a plan that is not older than the one before.
pub(crate) fn follow(before: &Following, seen: &Seen) -> Following {
    if seen.blank {
        return before.clone();
    }
    let mut after = seen.here.clone();
    after.retain(|_, followed| !matches!(followed.topology.status, Status::Killed { step: KillStep::Removing, .. }));
    for (id, older) in before {
        match after.get_mut(id) {
            Some(newer)
                if newer.placement.version < older.placement.version && !mutations::on(Mutation::OldPlanAccepted) =>
            {
                let Followed { placement, slots, .. } = Followed::clone(older);
                *newer = Arc::new(Followed { placement, slots, ..Followed::clone(newer) });
            }
            Some(_) => {}
            None if seen.unreadable.contains_key(id) => drop(after.insert(id.clone(), older.clone())),
            None => {}
        }
    }
    after
}

/// What is wanted, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// By slot.
    pub(crate) slots: BTreeMap<Port, Assignment>,
    /// Why a topology does not get what its plan says.
    pub(crate) troubles: BTreeMap<TopologyId, String>,
}

/// What is wanted of the slots. If two topologies want one, as they may while one leaves and another comes, it is for who is in it.
pub(crate) fn wants(following: &Following, slots: &BTreeSet<Port>, inside: &BTreeMap<Port, Assignment>) -> Wants {
    let mut wants = Wants::default();
    for (id, followed) in following {
        for (port, assignment) in followed.wants() {
            if !slots.contains(&port) {
                let why = format!(
                    "its plan gives it slot {port}, which is not one of this machine's; add it to supervisor.slots.ports"
                );
                wants.troubles.insert(id.clone(), why);
                continue;
            }
            match wants.slots.get(&port) {
                None => drop(wants.slots.insert(port, assignment)),
                Some(other) => {
                    let loser = if inside.get(&port) == Some(&assignment) {
                        let loser = other.topology.clone();
                        wants.slots.insert(port, assignment);
                        loser
                    } else {
                        id.clone()
                    };
                    let winner = &wants.slots[&port].topology;
                    let why = format!("it waits for slot {port}, which {winner} has until its plan is changed");
                    wants.troubles.insert(loser, why);
                }
            }
        }
    }
    wants
}

#[cfg(test)]
mod tests;
