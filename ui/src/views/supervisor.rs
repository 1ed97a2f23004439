//! `/supervisor/summary` and `/supervisor`.
//!
//! Not here: how a worker looks (`topology::worker`). Invariant: a dead machine is not in the list, as in Storm, where its
//! record is gone.

use nimbus_api::cluster::{Cluster, MachineSummary};
use nimbus_api::topology::Topology;
use serde_json::{Value, json};
use worker_api::ids::SupervisorId;

use super::Site;
use super::format::pretty_duration;
use super::topology::worker;

/// Storm's `/supervisor/summary`.
pub(crate) fn summary(cluster: &Cluster, site: &Site) -> Value {
    let machines = cluster.machines.iter().filter(|machine| !machine.dead);
    json!({
        "supervisors": machines.map(|machine| element(machine, site)).collect::<Vec<_>>(),
        "schedulerDisplayResource": site.display_resource,
        "logviewerPort": site.logviewer_port,
        "logviewerScheme": "http",
    })
}

/// Storm's `/supervisor`: these machines, and the workers that they have of these topologies.
pub(crate) fn details(machines: &[&MachineSummary], topologies: &[Topology], sys: bool, site: &Site) -> Value {
    let is_here = |supervisor: &SupervisorId| machines.iter().any(|machine| machine.id == *supervisor);
    let workers = topologies.iter().flat_map(|topology| {
        let here = topology.workers.iter().filter(|worker| worker.supervisor.as_ref().is_some_and(is_here));
        here.filter_map(|one| worker(one, &topology.summary, sys, site)).collect::<Vec<_>>()
    });
    json!({
        "supervisors": machines.iter().map(|machine| element(machine, site)).collect::<Vec<_>>(),
        "workers": workers.collect::<Vec<_>>(),
        "schedulerDisplayResource": site.display_resource,
        "logviewerPort": site.logviewer_port,
        "logviewerScheme": "http",
    })
}

/// A drained machine is what Storm calls blacklisted: there, and without work to come.
fn element(machine: &MachineSummary, site: &Site) -> Value {
    let seconds = machine.uptime_ms / 1000;
    json!({
        "id": machine.id,
        "host": machine.host,
        "version": machine.version,
        "uptime": pretty_duration(seconds),
        "uptimeSeconds": seconds,
        "slotsTotal": machine.slots.len(),
        "slotsUsed": machine.used.len(),
        "slotsFree": machine.slots.len().saturating_sub(machine.used.len()),
        "totalMem": 0.0,
        "totalCpu": 0.0,
        "usedMem": 0.0,
        "usedCpu": 0.0,
        "availMem": 0.0,
        "availCpu": 0.0,
        "totalGenericResources": "",
        "usedGenericResources": "",
        "availGenericResources": "",
        "blacklisted": machine.drained,
        "logLink": site.daemon_log(&machine.host, "supervisor.log"),
    })
}
