//! Which worker runs which executors, for a local cluster: in turn.
//!
//! Not here: machines, slots and moving as little as possible (Nimbus). Invariant: each worker gets as many executors of a
//! component as any other, give or take one.

use topology_api::topology::Topology;
use worker_api::ids::PlanVersion;
use worker_api::plan::{Plan, SlotPlan};

/// Spreads the executors of all components over so many workers (at least one).
pub fn spread_evenly(topology: &Topology, workers: u16) -> Plan {
    let slot = || SlotPlan { version: PlanVersion(1), executors: Vec::new() };
    let mut plan = Plan { workers: (0..workers.max(1)).map(|_| slot()).collect() };
    let count = plan.workers.len();
    let executors = topology.components().iter().flat_map(|component| component.executors());
    for (turn, tasks) in executors.enumerate() {
        plan.workers[turn % count].executors.push(tasks.to_vec());
    }
    plan
}
