//! `/cluster/summary`.
//!
//! Not here: machines and topologies one by one. Invariant: a dead machine's slots do not count.

use nimbus_api::cluster::Cluster;
use serde_json::{Value, json};

use super::Site;

/// Storm's `/cluster/summary`. Memory and CPU are 0: no machine states a capacity, and nothing is reserved.
pub(crate) fn summary(cluster: &Cluster, site: &Site) -> Value {
    let machines = || cluster.machines.iter().filter(|machine| !machine.dead);
    let slots: usize = machines().map(|machine| machine.slots.len()).sum();
    let used: usize = machines().map(|machine| machine.used.len()).sum();
    let topologies = &cluster.topologies;
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "stormVersion": version,
        "stormVersionInfo": {
            "version": version,
            "revision": "Unknown",
            "branch": "Unknown",
            "date": "Unknown",
            "srcChecksum": "Unknown",
        },
        "user": null,
        "supervisors": machines().count(),
        "topologies": topologies.len(),
        "slotsTotal": slots,
        "slotsUsed": used,
        "slotsFree": slots.saturating_sub(used),
        "executorsTotal": topologies.iter().map(|topology| u64::from(topology.executors)).sum::<u64>(),
        "tasksTotal": topologies.iter().map(|topology| u64::from(topology.tasks)).sum::<u64>(),
        "totalMem": 0.0,
        "totalCpu": 0.0,
        "availMem": 0.0,
        "availCpu": 0.0,
        "fragmentedMem": 0.0,
        "fragmentedCpu": 0.0,
        "memAssignedPercentUtil": "0.0",
        "cpuAssignedPercentUtil": "0.0",
        "totalGenerics": "",
        "availGenerics": "",
        "schedulerDisplayResource": site.display_resource,
        "bugtracker-url": site.bugtracker_url,
        "central-log-url": site.central_log_url,
    })
}
