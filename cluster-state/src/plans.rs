//! A plan as a whole: its head with the parts that it names.
//!
//! Not here: making plans (`nimbus::scheduling`) and publishing them (`nimbus::publish`). Invariant: head and parts belong
//! together; a head that changes while its parts are read is read again.

use std::collections::BTreeMap;

use worker_api::ids::{PlanVersion, SupervisorId, TopologyId, WorkerIndex};
use worker_api::plan::{Address, Placement, Plan, SlotPlan};

use crate::board::{Board, ReadError};
use crate::paths;
use crate::records::{PlanHead, PlanPart, Record};
use crate::store::Version;

/// A plan that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct WholePlan {
    /// Its head.
    pub head: PlanHead,
    /// The version of the head's record, to set it by.
    pub record: Version,
    /// The parts of machines.
    pub parts: BTreeMap<SupervisorId, PlanPart>,
    /// The workers that wait for a slot.
    pub waiting: Option<PlanPart>,
}

impl WholePlan {
    /// What a worker needs of it.
    pub fn placement(&self) -> Placement {
        let none = || (SlotPlan { version: PlanVersion(0), executors: Vec::new() }, None);
        let mut workers: Vec<(SlotPlan, Option<Address>)> =
            std::iter::repeat_with(none).take(usize::from(self.head.workers)).collect();
        for part in self.parts.values().chain(&self.waiting) {
            for (WorkerIndex(index), placed) in &part.workers {
                if let Some(worker) = workers.get_mut(usize::from(*index)) {
                    let slot = SlotPlan { version: placed.version, executors: placed.executors.clone() };
                    let address = placed.port.map(|port| Address { host: part.host.clone(), port: port.0 });
                    *worker = (slot, address);
                }
            }
        }
        let (workers, addresses) = workers.into_iter().unzip();
        Placement { version: self.head.version, plan: Plan { workers }, addresses }
    }
}

/// Reads a topology's plan, if it has one.
///
/// # Errors
/// If the store does not answer, or a record of the plan is missing or cannot be understood.
pub async fn read(board: &Board, id: &TopologyId) -> Result<Option<WholePlan>, ReadError> {
    let path = paths::plan_head(id);
    let mut head = match board.read::<PlanHead>(&path).await? {
        Some(head) => head,
        None => return Ok(None),
    };
    loop {
        let named = head.record.parts.iter().map(|(id, hash)| (Some(id), hash));
        let named = named.chain(head.record.waiting.iter().map(|hash| (None, hash)));
        let (mut parts, mut waiting, mut missing) = (BTreeMap::new(), None, None);
        for (machine, hash) in named {
            let path = paths::plan_part(id, hash);
            match (board.read::<PlanPart>(&path).await?, machine) {
                (Some(part), Some(machine)) => drop(parts.insert(machine.clone(), part.record)),
                (Some(part), None) => waiting = Some(part.record),
                (None, _) => missing = Some(path),
            }
        }
        let Some(missing) = missing else {
            return Ok(Some(WholePlan { head: head.record, record: head.version, parts, waiting }));
        };
        // Parts go only after a newer head is there.
        let before = head.record.version;
        head = match board.read::<PlanHead>(&path).await? {
            Some(head) => head,
            None => return Ok(None),
        };
        if head.record.version == before {
            let why = format!("version {before} of the plan names it, and it is not there");
            return Err(ReadError::Unreadable { what: PlanPart::WHAT, path: missing, why });
        }
    }
}
