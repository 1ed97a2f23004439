//! `/topology/summary` and `/topology/ID`.
//!
//! Not here: one component in depth (`component`). Invariant: counts of a component are sums over its executors; those of the
//! topology are acked and failed roots of spouts, and what spouts and bolts emitted.

use std::collections::BTreeMap;

use nimbus_api::cluster::Cluster;
use nimbus_api::topology::{ComponentError, Executor, Topology, TopologySummary, Window, Worker};
use serde_json::{Map, Value, json};
use topology_api::topology::ComponentGraph;
use worker_api::report::Counts;

use super::Site;
use super::format::{form_encoded, is_system, n3, n3_or_0, pretty_duration};
use super::statistics::{Sum, capacity};
use super::window::{Chosen, name, pretty};

/// Storm's default of `topology.message.timeout.secs`.
const MESSAGE_TIMEOUT_SECS: u64 = 30;
/// Characters of an error in a list.
const ERROR_CHARS: usize = 200;

/// Storm's `/topology/summary`.
pub(crate) fn summary(cluster: &Cluster, site: &Site) -> Value {
    json!({
        "topologies": cluster.topologies.iter().map(element).collect::<Vec<_>>(),
        "schedulerDisplayResource": site.display_resource,
    })
}

/// A topology in a list.
pub(super) fn element(topology: &TopologySummary) -> Value {
    let seconds = topology.uptime_ms / 1000;
    json!({
        "id": topology.id,
        "encodedId": form_encoded(topology.id.as_str()),
        "name": topology.name,
        "owner": topology.owner,
        "status": topology.status,
        "uptime": pretty_duration(seconds),
        "uptimeSeconds": seconds,
        "tasksTotal": topology.tasks,
        "workersTotal": topology.workers,
        "executorsTotal": topology.executors,
        "replicationCount": topology.replication,
        "schedulerInfo": topology.scheduler,
        "requestedMemOnHeap": 0.0,
        "requestedMemOffHeap": 0.0,
        "requestedTotalMem": 0.0,
        "requestedCpu": 0.0,
        "assignedMemOnHeap": 0.0,
        "assignedMemOffHeap": 0.0,
        "assignedTotalMem": 0.0,
        "assignedCpu": 0.0,
        "requestedGenericResources": "",
        "assignedGenericResources": "",
        "topologyVersion": topology.topology_version,
        "stormVersion": topology.runtime_version,
    })
}

/// Storm's `/topology/ID`. `now_secs` is the time of day, in seconds since 1970.
pub(crate) fn details(topology: &Topology, chosen: &Chosen, sys: bool, now_secs: u64, site: &Site) -> Value {
    let reporting = topology.workers.iter().filter(|worker| worker.port.is_some() && worker.uptime_ms.is_some());
    let mut details = element(&topology.summary);
    let more = json!({
        "workersTotal": reporting.count(),
        "requestedRegularOnHeapMem": 0.0,
        "requestedSharedOnHeapMem": 0.0,
        "requestedRegularOffHeapMem": 0.0,
        "requestedSharedOffHeapMem": 0.0,
        "assignedRegularOnHeapMem": 0.0,
        "assignedSharedOnHeapMem": 0.0,
        "assignedRegularOffHeapMem": 0.0,
        "assignedSharedOffHeapMem": 0.0,
        "msgTimeout": message_timeout_secs(&topology.configuration),
        "window": chosen.asked,
        "windowHint": chosen.hint(),
        "user": null,
        "debug": false,
        "samplingPct": 10.0,
        "schedulerDisplayResource": site.display_resource,
        "bugtracker-url": site.bugtracker_url,
        "central-log-url": site.central_log_url,
        "configuration": topology.configuration,
        "visualizationTable": [],
        "topologyStats": topology_stats(topology, sys),
        "workers": workers(topology, sys, site),
        "spouts": components(topology, "spout", chosen, sys, now_secs, site),
        "bolts": components(topology, "bolt", chosen, sys, now_secs, site),
    });
    extend(&mut details, more);
    details
}

/// Adds the members of `more`, in place of those of the same name.
pub(super) fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// Whole seconds, as Storm has them: half a second is one.
fn message_timeout_secs(configuration: &BTreeMap<String, Value>) -> u64 {
    let seconds = configuration.get("topology.message.timeout.secs").and_then(Value::as_f64);
    seconds.map_or(MESSAGE_TIMEOUT_SECS, |seconds| seconds.ceil() as u64)
}

/// The executors of spouts, or of bolts.
fn of_kind<'a>(topology: &'a Topology, kind: &'a str) -> impl Iterator<Item = &'a Executor> {
    topology.executors.iter().filter(move |executor| {
        topology.graph.components.iter().any(|one| one.name == executor.component && one.kind == kind)
    })
}

/// The executors of a component.
pub(super) fn of_component<'a>(topology: &'a Topology, component: &'a str) -> impl Iterator<Item = &'a Executor> {
    topology.executors.iter().filter(move |executor| executor.component == component)
}

fn topology_stats(topology: &Topology, sys: bool) -> Vec<Value> {
    let has_emitted = |counts: &Counts| counts.outputs.values().any(|output| output.emitted > 0);
    let all_time = |executor: &Executor| executor.windows.get(&Window::AllTime).is_some_and(has_emitted);
    if !topology.executors.iter().any(all_time) {
        return Vec::new();
    }
    let one = |window: Window| {
        let all = Sum::of(&topology.executors, Some(window), sys);
        let spouts = Sum::of(of_kind(topology, "spout"), Some(window), sys);
        json!({
            "window": name(window),
            "windowPretty": pretty(window),
            "emitted": all.emitted,
            "transferred": all.transferred,
            "completeLatency": n3_or_0(spouts.complete_ms()),
            "acked": spouts.acked,
            "failed": spouts.failed,
        })
    };
    Window::ALL.into_iter().map(one).collect()
}

fn workers(topology: &Topology, sys: bool, site: &Site) -> Vec<Value> {
    topology.workers.iter().filter_map(|one| worker(one, &topology.summary, sys, site)).collect()
}

/// A worker of a topology; `None` while it waits for a slot.
pub(super) fn worker(worker: &Worker, topology: &TopologySummary, sys: bool, site: &Site) -> Option<Value> {
    let (supervisor, host, port) = (worker.supervisor.as_ref()?, worker.host.as_ref()?, worker.port?);
    let seconds = worker.uptime_ms.unwrap_or(0) / 1000;
    let tasks: Map<String, Value> = worker
        .tasks
        .iter()
        .filter(|(component, _)| sys || !is_system(component))
        .map(|(component, count)| (component.clone(), (*count).into()))
        .collect();
    Some(json!({
        "supervisorId": supervisor,
        "host": host,
        "topologyId": topology.id,
        "topologyName": topology.name,
        "owner": topology.owner,
        "port": port,
        "executorsTotal": worker.executors,
        "assignedMemOnHeap": 0.0,
        "assignedMemOffHeap": 0.0,
        "assignedCpu": 0.0,
        "componentNumTasks": tasks,
        "uptime": pretty_duration(seconds),
        "uptimeSeconds": seconds,
        "workerLogLink": site.worker_log(host, topology.id.as_str(), port.0),
    }))
}

fn components(topology: &Topology, kind: &str, chosen: &Chosen, sys: bool, now_secs: u64, site: &Site) -> Vec<Value> {
    let shown = topology.graph.components.iter().filter(|one| one.kind == kind && (sys || !is_system(&one.name)));
    shown.map(|one| component(topology, one, chosen, sys, now_secs, site)).collect()
}

/// How many executors and tasks a component has; what was declared, if it has none yet.
pub(super) fn parallelism(topology: &Topology, component: &ComponentGraph) -> (usize, u64) {
    let executors = of_component(topology, &component.name).count();
    if executors == 0 {
        return (component.executors, component.tasks as u64);
    }
    let tasks = |one: &Executor| u64::from(one.tasks.1.0).saturating_sub(u64::from(one.tasks.0.0)) + 1;
    (executors, of_component(topology, &component.name).map(tasks).sum())
}

fn component(
    topology: &Topology,
    component: &ComponentGraph,
    chosen: &Chosen,
    sys: bool,
    now_secs: u64,
    site: &Site,
) -> Value {
    let sum = Sum::of(of_component(topology, &component.name), chosen.window, sys);
    let (executors, tasks) = parallelism(topology, component);
    let mut view = json!({
        "executors": executors,
        "tasks": tasks,
        "emitted": sum.emitted,
        "transferred": sum.transferred,
        "acked": sum.acked,
        "failed": sum.failed,
        "requestedMemOnHeap": 0.0,
        "requestedMemOffHeap": 0.0,
        "requestedCpu": 0.0,
        "requestedGenericResourcesComp": "",
    });
    let last = topology.errors.get(&component.name).and_then(|errors| errors.last());
    extend(&mut view, last_error(last, &topology.summary, now_secs, site));
    let encoded = form_encoded(&component.name);
    let own = if component.kind == "spout" {
        json!({
            "spoutId": component.name,
            "encodedSpoutId": encoded,
            "completeLatency": n3(sum.complete_ms().unwrap_or(0.0)),
        })
    } else {
        let capacities = of_component(topology, &component.name).map(|one| executor_capacity(topology, one));
        json!({
            "boltId": component.name,
            "encodedBoltId": encoded,
            "capacity": n3(capacities.fold(0.0, f64::max)),
            "executeLatency": n3(sum.inputs.execute_ms().unwrap_or(0.0)),
            "executed": sum.executed,
            "processLatency": n3(sum.inputs.process_ms().unwrap_or(0.0)),
        })
    };
    extend(&mut view, own);
    view
}

/// The worker that runs an executor.
pub(super) fn worker_of<'a>(topology: &'a Topology, executor: &Executor) -> Option<&'a Worker> {
    // They stand in the order of their indices.
    let at = topology.workers.binary_search_by_key(&executor.worker, |worker| worker.worker);
    at.ok().map(|at| &topology.workers[at])
}

/// The capacity of an executor.
pub(super) fn executor_capacity(topology: &Topology, executor: &Executor) -> f64 {
    let worker = worker_of(topology, executor);
    // The counts of earlier lives are in the window too: then the share is one of the time since the submission.
    let counted_ms = match worker {
        Some(worker) if worker.restarts > 0 => topology.summary.uptime_ms,
        _ => executor.uptime_ms.unwrap_or(0),
    };
    capacity(executor, counted_ms / 1000)
}

fn last_error(error: Option<&ComponentError>, topology: &TopologySummary, now_secs: u64, site: &Site) -> Value {
    let Some(error) = error else {
        return json!({
            "lastError": "",
            "errorHost": "",
            "errorWorkerLogLink": "",
            "errorPort": null,
            "errorTime": null,
            "errorLapsedSecs": null,
        });
    };
    let seconds = error.at_ms / 1000;
    json!({
        "lastError": first_characters(&error.message),
        "errorHost": error.host,
        "errorWorkerLogLink": site.worker_log(&error.host, topology.id.as_str(), error.port.0),
        "errorPort": error.port,
        "errorTime": seconds,
        "errorLapsedSecs": now_secs.saturating_sub(seconds),
    })
}

/// As much of an error as a list shows.
pub(super) fn first_characters(message: &str) -> String {
    message.chars().take(ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_as_old_as_the_clock_says() {
        let topology: Topology = serde_json::from_str(include_str!("../../tests/it/nimbus/topology.json")).unwrap();
        let site = Site::of(&[("logviewer.port".to_owned(), json!(8001))].into(), Vec::new());
        let error = ComponentError {
            at_ms: 1_700_000_000_999,
            host: "::1".into(),
            port: worker_api::ids::Port(6700),
            message: "no such file".into(),
        };
        assert_eq!(
            last_error(Some(&error), &topology.summary, 1_700_003_600, &site),
            json!({
                "lastError": "no such file",
                "errorHost": "::1",
                "errorWorkerLogLink": "http://[::1]:8001/api/v1/log?file=word-count-1-1700000000%2F6700%2Fworker.log",
                "errorPort": 6700,
                "errorTime": 1_700_000_000,
                "errorLapsedSecs": 3600,
            })
        );
        // The clocks of two machines differ.
        assert_eq!(last_error(Some(&error), &topology.summary, 0, &site)["errorLapsedSecs"], 0);
    }

    #[test]
    fn a_message_timeout_is_whole_seconds() {
        let of = |value| message_timeout_secs(&[("topology.message.timeout.secs".to_owned(), value)].into());
        assert_eq!((of(json!(0.001)), of(json!(30)), of(json!(2147483647)), of(Value::Null)), (1, 30, 2147483647, 30));
    }
}
