//! `/owner-resources`.
//!
//! Not here: guarantees; no scheduler here has any. Invariant: a topology counts for exactly one owner.

use std::collections::BTreeMap;

use nimbus_api::cluster::Cluster;
use nimbus_api::topology::TopologySummary;
use serde_json::{Value, json};

use super::Site;
use super::topology::element;

/// Storm's `/owner-resources`.
pub(crate) fn summary(cluster: &Cluster, site: &Site) -> Value {
    let mut owners = BTreeMap::<Option<&str>, Vec<&TopologySummary>>::new();
    for topology in &cluster.topologies {
        owners.entry(topology.owner.as_deref()).or_default().push(topology);
    }
    let owners = owners.iter().map(|(owner, topologies)| totals(*owner, topologies));
    json!({ "owners": owners.collect::<Vec<_>>(), "schedulerDisplayResource": site.display_resource })
}

/// Storm's `/owner-resources/ID`.
pub(crate) fn details(owner: &str, cluster: &Cluster, site: &Site) -> Value {
    let own = cluster.topologies.iter().filter(|topology| topology.owner.as_deref() == Some(owner));
    let own: Vec<&TopologySummary> = own.collect();
    let mut details = totals(Some(owner), &own);
    if !own.is_empty() {
        details["topologies"] = own.iter().map(|topology| element(topology)).collect();
        details["schedulerDisplayResource"] = site.display_resource.into();
    }
    details
}

fn totals(owner: Option<&str>, topologies: &[&TopologySummary]) -> Value {
    let sum = |count: fn(&TopologySummary) -> u32| -> u64 {
        topologies.iter().map(|topology| u64::from(count(topology))).sum()
    };
    json!({
        "owner": owner,
        "totalTopologies": topologies.len(),
        "totalExecutors": sum(|topology| topology.executors),
        "totalWorkers": sum(|topology| topology.workers),
        "totalTasks": sum(|topology| topology.tasks),
        "totalMemoryUsage": 0.0,
        "totalCpuUsage": 0.0,
        "memoryGuarantee": "N/A",
        "cpuGuarantee": "N/A",
        "memoryGuaranteeRemaining": "N/A",
        "cpuGuaranteeRemaining": "N/A",
        "isolatedNodes": -1,
        "totalReqOnHeapMem": 0.0,
        "totalReqOffHeapMem": 0.0,
        "totalReqMem": 0.0,
        "totalReqCpu": 0.0,
        "totalAssignedOnHeapMem": 0.0,
        "totalAssignedOffHeapMem": 0.0,
    })
}
