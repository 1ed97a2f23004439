//! `/topology/ID/component/C`.
//!
//! Not here: the component in the topology's list (`topology`). Invariant: the last ten minutes decide the capacity, whatever
//! window was chosen.

use nimbus_api::topology::{ComponentError, Executor, Topology, Window};
use serde_json::{Value, json};
use topology_api::topology::ComponentGraph;
use worker_api::report::Output;

use super::Site;
use super::format::{form_encoded, n3, pretty_duration};
use super::statistics::{InputSum, Sum, inputs, outputs};
use super::topology::{executor_capacity, extend, first_characters, of_component, parallelism, worker_of};
use super::window::{Chosen, name, pretty};

/// Storm's `/topology/ID/component/C`; `None` if the topology has no such component. `now_secs` is the time of day, in
/// seconds since 1970.
pub(crate) fn details(
    topology: &Topology,
    component: &str,
    chosen: &Chosen,
    sys: bool,
    now_secs: u64,
    site: &Site,
) -> Option<Value> {
    let component = topology.graph.components.iter().find(|one| one.name == component)?;
    let is_spout = component.kind == "spout";
    let (executors, tasks) = parallelism(topology, component);
    let errors = topology.errors.get(&component.name).map_or(&[][..], |errors| errors);
    let mut details = json!({
        "id": component.name,
        "encodedId": form_encoded(&component.name),
        "topologyId": topology.summary.id,
        "encodedTopologyId": form_encoded(topology.summary.id.as_str()),
        "topologyStatus": topology.summary.status,
        "user": null,
        "name": topology.summary.name,
        "componentType": component.kind,
        "executors": executors,
        "tasks": tasks,
        "requestedMemOnHeap": 0.0,
        "requestedMemOffHeap": 0.0,
        "requestedCpu": 0.0,
        "requestedGenericResources": "",
        "window": chosen.asked,
        "windowHint": chosen.hint(),
        "debug": false,
        "samplingPct": 10.0,
        // There is no profiler to switch on.
        "profilingAndDebuggingCapable": false,
        "profileActionEnabled": false,
        "profilerActive": [],
        "schedulerDisplayResource": site.display_resource,
        "componentErrors": errors.iter().map(|one| error(one, topology, now_secs, site)).collect::<Vec<_>>(),
        "executorStats": executor_stats(topology, component, chosen, sys, site),
        "outputStats": output_stats(topology, component, chosen, sys),
    });
    let own = if is_spout {
        json!({ "spoutSummary": spout_summary(topology, component, sys) })
    } else {
        json!({
            "boltStats": bolt_stats(topology, component, sys),
            "inputStats": input_stats(topology, component, chosen),
        })
    };
    extend(&mut details, own);
    Some(details)
}

fn error(error: &ComponentError, topology: &Topology, now_secs: u64, site: &Site) -> Value {
    let seconds = error.at_ms / 1000;
    json!({
        "errorTime": seconds,
        "errorHost": error.host,
        "errorPort": error.port,
        "errorWorkerLogLink": site.worker_log(&error.host, topology.summary.id.as_str(), error.port.0),
        "errorLapsedSecs": now_secs.saturating_sub(seconds),
        "error": error.message,
    })
}

fn executor_stats(
    topology: &Topology,
    component: &ComponentGraph,
    chosen: &Chosen,
    sys: bool,
    site: &Site,
) -> Vec<Value> {
    let one = |executor: &Executor| {
        let id = format!("[{}-{}]", executor.tasks.0, executor.tasks.1);
        let seconds = executor.uptime_ms.unwrap_or(0) / 1000;
        let place = worker_of(topology, executor).and_then(|worker| Some((worker.host.as_deref()?, worker.port?)));
        let log = place.map(|(host, port)| site.worker_log(host, topology.summary.id.as_str(), port.0));
        let sum = Sum::of([executor], chosen.window, sys);
        let mut view = json!({
            "id": id,
            "encodedId": form_encoded(&id),
            "uptime": pretty_duration(seconds),
            "uptimeSeconds": seconds,
            "host": place.map_or("", |(host, _)| host),
            "port": place.map(|(_, port)| port),
            "workerLogLink": log.unwrap_or_default(),
            "emitted": sum.emitted,
            "transferred": sum.transferred,
            "acked": sum.acked,
            "failed": sum.failed,
        });
        let own = if component.kind == "spout" {
            json!({ "completeLatency": n3(sum.complete_ms().unwrap_or(0.0)) })
        } else {
            json!({
                "capacity": n3(executor_capacity(topology, executor)),
                "executeLatency": n3(sum.inputs.execute_ms().unwrap_or(0.0)),
                "executed": sum.executed,
                "processLatency": n3(sum.inputs.process_ms().unwrap_or(0.0)),
            })
        };
        extend(&mut view, own);
        view
    };
    of_component(topology, &component.name).map(one).collect()
}

fn output_stats(topology: &Topology, component: &ComponentGraph, chosen: &Chosen, sys: bool) -> Vec<Value> {
    let streams = outputs(of_component(topology, &component.name), chosen.window, sys);
    let sum = Sum::of(of_component(topology, &component.name), chosen.window, sys);
    // Roots are counted for the spout: with several streams, nobody knows how many of them are of which.
    let is_only_stream = streams.len() == 1;
    let one = |(stream, output): (&String, &Output)| {
        let mut view = json!({
            "stream": stream,
            "emitted": output.emitted,
            "transferred": output.transferred,
        });
        if component.kind == "spout" {
            let roots = json!({
                "acked": is_only_stream.then_some(sum.acked),
                "failed": is_only_stream.then_some(sum.failed),
                "completeLatency": if is_only_stream { n3(sum.complete_ms().unwrap_or(0.0)) } else { "0".to_owned() },
            });
            extend(&mut view, roots);
        }
        view
    };
    streams.iter().map(one).collect()
}

fn input_stats(topology: &Topology, component: &ComponentGraph, chosen: &Chosen) -> Vec<Value> {
    let streams = inputs(of_component(topology, &component.name), chosen.window);
    let one = |((source, stream), sum): (&(String, String), &InputSum)| {
        json!({
            "component": source,
            "encodedComponentId": form_encoded(source),
            "stream": stream,
            "executed": sum.executed,
            "acked": sum.acked,
            "failed": sum.failed,
            "executeLatency": n3(sum.execute_ms().unwrap_or(0.0)),
            "processLatency": n3(sum.process_ms().unwrap_or(0.0)),
        })
    };
    streams.iter().map(one).collect()
}

fn spout_summary(topology: &Topology, component: &ComponentGraph, sys: bool) -> Vec<Value> {
    let last = topology.errors.get(&component.name).and_then(|errors| errors.last());
    let last = last.map(|error| first_characters(&error.message)).unwrap_or_default();
    let one = |window: Window| {
        let sum = Sum::of(of_component(topology, &component.name), Some(window), sys);
        json!({
            "window": name(window),
            "windowPretty": pretty(window),
            "emitted": sum.emitted,
            "transferred": sum.transferred,
            "acked": sum.acked,
            "failed": sum.failed,
            "completeLatency": sum.complete_ms().unwrap_or(0.0),
            "lastError": last,
        })
    };
    Window::ALL.into_iter().map(one).collect()
}

fn bolt_stats(topology: &Topology, component: &ComponentGraph, sys: bool) -> Vec<Value> {
    let one = |window: Window| {
        let sum = Sum::of(of_component(topology, &component.name), Some(window), sys);
        json!({
            "window": name(window),
            "windowPretty": pretty(window),
            "emitted": sum.emitted,
            "transferred": sum.transferred,
            "acked": sum.acked,
            "failed": sum.failed,
            "executed": sum.executed,
            "executeLatency": n3(sum.inputs.execute_ms().unwrap_or(0.0)),
            "processLatency": n3(sum.inputs.process_ms().unwrap_or(0.0)),
            // Storm computes it for executors alone.
            "capacity": "0.000",
        })
    };
    Window::ALL.into_iter().map(one).collect()
}
