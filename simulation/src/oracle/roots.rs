//! Which attempts are pending, and in which life of which worker.
//!
//! Not here: judging it. Invariant: an attempt is pending from its emit to its outcome, or to the end of its worker.

use std::collections::BTreeMap;

use worker_api::ids::{Life, TopologyId, WorkerIndex};

use super::{Observation, SourceTuple};

/// A tuple of a source, and which attempt at it.
pub(super) type Attempt = (SourceTuple, u32);

/// Pending attempts.
pub(super) struct Roots<T>(BTreeMap<TopologyId, BTreeMap<Attempt, Pending<T>>>);

/// A pending attempt, with what its listener notes of it.
pub(super) struct Pending<T> {
    pub(super) by: (WorkerIndex, Life),
    pub(super) note: T,
}

impl<T> Default for Roots<T> {
    fn default() -> Self {
        Roots(BTreeMap::new())
    }
}

impl<T: Default> Roots<T> {
    /// Hears of a beginning or an end; gives what an outcome has ended.
    pub(super) fn observe(&mut self, observation: &Observation) -> Option<Pending<T>> {
        match observation {
            Observation::Emitted { topology, tuple, attempt, by } => {
                let pending = Pending { by: *by, note: T::default() };
                self.of(topology).insert((*tuple, *attempt), pending)
            }
            Observation::Acked { topology, tuple, attempt } | Observation::Failed { topology, tuple, attempt, .. } => {
                self.of(topology).remove(&(*tuple, *attempt))
            }
            Observation::WorkerEnded { topology, worker, life, .. } => {
                self.of(topology).retain(|_, pending| pending.by != (*worker, *life));
                None
            }
            _ => None,
        }
    }

    /// Those of a topology.
    pub(super) fn of(&mut self, topology: &TopologyId) -> &mut BTreeMap<Attempt, Pending<T>> {
        if !self.0.contains_key(topology) {
            self.0.insert(topology.clone(), BTreeMap::new());
        }
        self.0.get_mut(topology).expect("it is there, or was just put there")
    }
}
