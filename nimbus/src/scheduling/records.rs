//! A plan as records, and back.
//!
//! Not here: writing them. Invariant: the same plan gives the same records, so an unchanged part keeps its hash and is not
//! written again.

use std::collections::BTreeMap;

use cluster_state::board::encode;
use cluster_state::plans::WholePlan;
use cluster_state::records::{Placed, PlanHead, PlanPart, Record, Stored};
use cluster_state::store::RECORD_BYTES;
use sha2::{Digest, Sha256};
use worker_api::ids::{BlobHash, PlanVersion, Port, SupervisorId, WorkerIndex};

use super::{PlannedWorker, TopologyDetails, TopologyPlan, WorkerSlot, deal, executors, wanted};

/// Bytes of a stored record that its writer and its number may take.
const ENVELOPE_BYTES: usize = 1 << 10;

/// A plan as it is stored: parts first, then the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRecords {
    /// The head.
    pub head: PlanHead,
    /// The parts that it names.
    pub parts: BTreeMap<BlobHash, PlanPart>,
}

/// A plan that does not fit its records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plan's {what} would have {bytes} bytes, at most {} are allowed; use fewer tasks, or more workers on more machines",
    RECORD_BYTES - ENVELOPE_BYTES
)]
pub struct RecordTooLong {
    /// Which record.
    pub what: String,
    /// Its length as it would be written.
    pub bytes: usize,
}

/// Records that are no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {version} of the plan is damaged: {why}; kill the topology and submit it again")]
pub struct BrokenPlan {
    /// The version that the head names.
    pub version: u64,
    /// What is wrong with it.
    pub why: String,
}

impl TopologyDetails {
    /// Whether its parts fit their records where each of its workers has a machine to itself: with fewer machines they are longer.
    ///
    /// # Errors
    /// If one is too long for a record.
    pub fn fits_spread(&self) -> Result<(), RecordTooLong> {
        let mut workers = vec![Vec::new(); wanted(self)];
        deal(executors(&self.components), workers.iter_mut());
        for (index, executors) in (0..).zip(workers) {
            let placed = Placed { port: None, version: PlanVersion(1), executors };
            let part = PlanPart { host: String::new(), workers: [(WorkerIndex(index), placed)].into() };
            json(&part, || format!("part for worker {index}, on a machine of its own,"))?;
        }
        Ok(())
    }
}

impl TopologyPlan {
    /// As records.
    ///
    /// # Errors
    /// If a part or the head is too long for a record.
    pub fn records(&self) -> Result<PlanRecords, RecordTooLong> {
        let mut machines: BTreeMap<&SupervisorId, PlanPart> = BTreeMap::new();
        let mut waiting = PlanPart { host: String::new(), workers: BTreeMap::new() };
        for (index, worker) in (0..).zip(&self.workers) {
            let part = match &worker.slot {
                Some(slot) => machines
                    .entry(&slot.supervisor)
                    .or_insert_with(|| PlanPart { host: slot.host.clone(), workers: BTreeMap::new() }),
                None => &mut waiting,
            };
            let port = worker.slot.as_ref().map(|slot| slot.port);
            let placed = Placed { port, version: worker.version, executors: worker.executors.clone() };
            part.workers.insert(WorkerIndex(index), placed);
        }
        let mut parts = BTreeMap::new();
        let mut named = BTreeMap::new();
        for (id, part) in machines {
            let hash = hash(&part, || format!("part for machine {id}"))?;
            named.insert(id.clone(), hash.clone());
            parts.insert(hash, part);
        }
        let mut waits = None;
        if !waiting.workers.is_empty() {
            let hash = hash(&waiting, || "part of workers that wait for a slot".to_owned())?;
            waits = Some(hash.clone());
            parts.insert(hash, waiting);
        }
        let workers = u16::try_from(self.workers.len()).expect("workers are counted in 16 bits");
        let head = PlanHead { version: self.version, workers, parts: named, waiting: waits };
        json(&head, || "head".to_owned())?;
        Ok(PlanRecords { head, parts })
    }
}

impl TryFrom<&WholePlan> for TopologyPlan {
    type Error = BrokenPlan;

    /// Back from what was read.
    fn try_from(whole: &WholePlan) -> Result<Self, BrokenPlan> {
        let broken = |why: String| BrokenPlan { version: whole.head.version.0, why };
        let mut workers: Vec<Option<PlannedWorker>> = vec![None; usize::from(whole.head.workers)];
        let of_machines = whole.parts.iter().map(|(id, part)| (Some(id), part));
        for (id, part) in of_machines.chain(whole.waiting.iter().map(|part| (None, part))) {
            for (index, placed) in &part.workers {
                let place = workers.get_mut(usize::from(index.0));
                let place = place.ok_or_else(|| broken(format!("it has no worker {index}, but a part names it")))?;
                let slot = |(id, port): (&SupervisorId, Port)| WorkerSlot {
                    supervisor: id.clone(),
                    host: part.host.clone(),
                    port,
                };
                let slot = id.zip(placed.port).map(slot);
                let worker = PlannedWorker { slot, version: placed.version, executors: placed.executors.clone() };
                if place.replace(worker).is_some() {
                    return Err(broken(format!("two parts name worker {index}")));
                }
            }
        }
        let missing = workers.iter().position(Option::is_none);
        match missing {
            Some(index) => Err(broken(format!("no part names worker {index}"))),
            None => Ok(TopologyPlan { version: whole.head.version, workers: workers.into_iter().flatten().collect() }),
        }
    }
}

/// The name of a part: SHA-256 of its JSON, whose keys are in a fixed order.
fn hash(part: &PlanPart, what: impl FnOnce() -> String) -> Result<BlobHash, RecordTooLong> {
    Ok(BlobHash::of(Sha256::digest(json(part, what)?).into()))
}

/// Its JSON, if the record that is written for people to read, with a line for each task, is not too long.
fn json<R: Record + Clone>(record: &R, what: impl FnOnce() -> String) -> Result<Vec<u8>, RecordTooLong> {
    let stored = Stored { format: R::FORMAT, writer: String::new(), number: 0, record: record.clone() };
    let bytes = encode(&stored).len();
    match bytes > RECORD_BYTES - ENVELOPE_BYTES {
        true => Err(RecordTooLong { what: what(), bytes }),
        false => Ok(serde_json::to_vec(record).expect("records have string keys and no floats")),
    }
}
