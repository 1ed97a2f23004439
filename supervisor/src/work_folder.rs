//! What a worker finds when it starts: what its launch file says, where its folder, its files and its log are.
//!
//! `WORKERS/TOPOLOGY-ID/PORT/` is its current folder; `LOGS/TOPOLOGY-ID/PORT/worker.log` its log.
//!
//! Not here: writing it there and starting it (`host`), when (`slot`). Invariant: what is removed lies in these two folders, below a
//! topology's id.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use seam::disk::Disk;
use serde::Deserialize;
use serde_json::Value;
use worker_api::ids::{BlobHash, Port, SupervisorId, TopologyId};
use worker_api::launch::{LAUNCH_FILE, LAUNCH_FORMAT, Launch};

use crate::SupervisorConfig;
use crate::folder::Folder;
use crate::host::WorkerStart;
use crate::reconcile::Followed;
use crate::slot::Resident;

/// Longest graph that is read for its configuration, in bytes.
const GRAPH_BYTES: u64 = 64 << 20;

/// Where a worker's folder is.
pub(crate) fn folder(config: &SupervisorConfig, topology: &TopologyId, port: Port) -> PathBuf {
    config.workers_folder.join(topology.as_str()).join(port.to_string())
}

/// Where a worker's log is.
pub(crate) fn log(config: &SupervisorConfig, topology: &TopologyId, port: Port) -> PathBuf {
    config.logs_folder.join(topology.as_str()).join(port.to_string()).join("worker.log")
}

/// What a worker is started with.
///
/// # Errors
/// In a sentence.
pub(crate) fn start(
    config: &SupervisorConfig,
    me: &SupervisorId,
    socket: PathBuf,
    followed: &Followed,
    resident: &Resident,
    port: Port,
    local: &Folder,
) -> Result<WorkerStart, String> {
    let topology = &followed.topology;
    let blob = |hash: &BlobHash| local.blobs().join(hash.as_str());
    let graph = blob(&topology.graph.hash);
    let mut merged: BTreeMap<String, Value> = config.configuration.clone();
    merged.retain(|key, _| key.starts_with("topology."));
    merged.extend(graph_config(local.disk().as_ref(), &graph)?);
    let environment = environment(&merged)?;
    if topology.files.keys().any(|name| name.as_str() == LAUNCH_FILE) {
        return Err(format!("the file {LAUNCH_FILE} has a name that the runtime needs; submit it under another"));
    }
    let launch = Launch {
        format: LAUNCH_FORMAT,
        topology: topology.id.clone(),
        name: topology.name.clone(),
        worker: resident.of.worker,
        incarnation: resident.incarnation,
        supervisor: me.clone(),
        host: config.host.clone(),
        port,
        bind: config.bind.to_string(),
        secret: followed.secret.clone(),
        arguments: topology.arguments.clone(),
        config: merged,
        graph,
        placement: followed.placement.clone(),
        spouts: followed.spouts(),
        revision: topology.revision,
        supervisor_socket: socket,
        nimbuses: config.nimbuses.clone(),
        log: log(config, &topology.id, port),
        log_bytes: config.log_bytes,
        log_files: config.log_files,
    };
    Ok(WorkerStart {
        port,
        life: resident.life(),
        executable: blob(&topology.executable.hash),
        work_folder: folder(config, &topology.id, port),
        files: topology.files.iter().map(|(name, file)| (name.clone(), blob(&file.hash))).collect(),
        environment,
        launch,
    })
}

/// The topology's own configuration.
fn graph_config(disk: &dyn Disk, graph: &Path) -> Result<BTreeMap<String, Value>, String> {
    #[derive(Deserialize)]
    struct Graph {
        #[serde(default)]
        config: BTreeMap<String, Value>,
    }
    let bad = |why: String| format!("the topology's graph {} cannot be read: {why}", graph.display());
    let bytes = disk.look(graph).map_err(|error| bad(error.to_string()))?.bytes;
    if bytes > GRAPH_BYTES {
        return Err(bad(format!("it has {bytes} bytes, at most {GRAPH_BYTES} are allowed")));
    }
    let json = disk.read(graph).map_err(|error| bad(error.to_string()))?;
    serde_json::from_slice::<Graph>(&json).map(|graph| graph.config).map_err(|error| bad(error.to_string()))
}

/// `topology.environment`.
fn environment(config: &BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let variables = match config.get("topology.environment") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(variables)) => variables,
        Some(_) => return Err("topology.environment must be a map from names to values".to_owned()),
    };
    let text = |(name, value): (&String, &Value)| match value {
        Value::String(value) => Ok((name.clone(), value.clone())),
        Value::Number(_) | Value::Bool(_) => Ok((name.clone(), value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(format!(
            "topology.environment gives `{}` a value that is neither text nor number",
            name.escape_default()
        )),
    };
    variables.iter().map(text).collect()
}

/// The topologies that have a folder here.
pub(crate) fn topologies(local: &Folder, folder: &Path) -> Result<BTreeSet<TopologyId>, String> {
    Ok(local.names(folder)?.iter().filter_map(|name| TopologyId::from_str(name).ok()).collect())
}

/// Removes logs of topologies that are gone, and in which nothing was written for `kept` before `now_ms` since 1970.
pub(crate) fn remove_old_logs(local: &Folder, logs: &Path, stay: &BTreeSet<TopologyId>, kept: Duration, now_ms: u64) {
    let all = match topologies(local, logs) {
        Ok(all) => all,
        Err(why) => return tracing::warn!("{why}; old logs stay"),
    };
    for id in all.difference(stay) {
        let folder = logs.join(id.as_str());
        let old =
            |written_ms: u64| now_ms.checked_sub(written_ms).is_some_and(|age| u128::from(age) >= kept.as_millis());
        if last_written_ms(local.disk().as_ref(), &folder).is_none_or(old)
            && let Err(why) = local.remove_folder(&folder)
        {
            tracing::warn!("{why}");
        }
    }
}

/// When a file in a slot's folder of this topology's folder of logs was written last.
fn last_written_ms(disk: &dyn Disk, topology: &Path) -> Option<u64> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        disk.names(folder).unwrap_or_default().into_iter().map(|name| folder.join(name)).collect()
    };
    let files = below(topology).into_iter().flat_map(|slot| below(&slot));
    files.filter_map(|file| Some(disk.look(&file).ok()?.modified_ms)).max()
}
