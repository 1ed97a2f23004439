//! `/nimbus/summary`.
//!
//! Not here: the rest of the cluster. Invariant: a Nimbus that should be there and is not stands in the list as `Offline`.

use std::net::IpAddr;

use nimbus_api::cluster::Cluster;
use serde_json::{Value, json};

use super::Site;
use super::format::pretty_duration;

/// Storm's `/nimbus/summary`; `port` is that of the HTTP API.
pub(crate) fn summary(cluster: &Cluster, site: &Site) -> Value {
    let mut nimbuses: Vec<Value> = cluster
        .nimbuses
        .iter()
        .map(|nimbus| {
            let seconds = nimbus.uptime_ms / 1000;
            json!({
                "host": nimbus.host,
                "port": nimbus.port,
                "status": if nimbus.leads { "Leader" } else { "Not a Leader" },
                "version": nimbus.version,
                "nimbusUpTime": pretty_duration(seconds),
                "nimbusUpTimeSeconds": seconds,
                "nimbusLogLink": site.daemon_log(&nimbus.host, "nimbus.log"),
            })
        })
        .collect();
    let is_there = |host: &str, port: &str| {
        cluster.nimbuses.iter().any(|nimbus| nimbus.host == host && nimbus.port.to_string() == port)
    };
    for (host, port) in site.nimbuses.iter().filter_map(|seed| seed.rsplit_once(':')) {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address.is_unspecified());
        if !is_loopback && !is_there(host, port) {
            nimbuses.push(json!({
                "host": host,
                "port": port,
                "status": "Offline",
                "version": "Not applicable",
                "nimbusUpTime": "Not applicable",
                "nimbusUpTimeSeconds": "Not applicable",
                "nimbusLogLink": site.daemon_log(host, "nimbus.log"),
            }));
        }
    }
    json!({ "nimbuses": nimbuses })
}
