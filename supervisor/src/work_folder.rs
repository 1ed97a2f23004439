//! What a worker finds when it starts: its folder with launch file and files, the place of its log, a port that is free.
//!
//! `WORKERS/TOPOLOGY-ID/PORT/` is its current folder; `LOGS/TOPOLOGY-ID/PORT/worker.log` its log.
//!
//! Not here: starting it (`launcher`), when (`slot`). Invariants: the launch file is readable by this user alone; what is removed lies
//! in these two folders, below a topology's id.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use worker_api::ids::{BlobHash, Port, SupervisorId, TopologyId};
use worker_api::launch::{LAUNCH_FILE, LAUNCH_FORMAT, Launch};

use crate::SupervisorConfig;
use crate::folder::{in_words, make_folder, names, write_file};
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

/// Whether a worker can listen there.
///
/// # Errors
/// Who has it, in a sentence.
pub(crate) fn port_is_free(config: &SupervisorConfig, port: Port) -> Result<(), String> {
    match TcpListener::bind((config.bind, port.0)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(format!(
            "port {port} at {} is taken by another process (`ss -ltnp` shows which); end it, or take the port out of \
             supervisor.slots.ports",
            config.bind
        )),
        Err(error) => Err(format!("a worker cannot listen at {} port {port}: {error}", config.bind)),
    }
}

/// Makes a worker's folder ready, and gives the variables that it gets.
///
/// # Errors
/// In a sentence.
pub(crate) fn furnish(
    config: &SupervisorConfig,
    me: &SupervisorId,
    socket: &Path,
    followed: &Followed,
    resident: &Resident,
    port: Port,
    blob: impl Fn(&BlobHash) -> PathBuf,
) -> Result<BTreeMap<String, String>, String> {
    let topology = &followed.topology;
    let graph = blob(&topology.graph.hash);
    let mut merged: BTreeMap<String, Value> = config.configuration.clone();
    merged.retain(|key, _| key.starts_with("topology."));
    merged.extend(graph_config(&graph)?);
    let environment = environment(&merged)?;
    let folder = folder(config, &topology.id, port);
    make_folder(&folder)?;
    for (name, file) in &topology.files {
        if name.as_str() == LAUNCH_FILE {
            return Err(format!("the file {LAUNCH_FILE} has a name that the runtime needs; submit it under another"));
        }
        let (from, to) = (blob(&file.hash), folder.join(name.as_str()));
        link(&from, &to).map_err(|error| format!("cannot put the file {}: {}", to.display(), in_words(&error)))?;
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
        supervisor_socket: socket.to_owned(),
        nimbuses: config.nimbuses.clone(),
        log: log(config, &topology.id, port),
        log_bytes: config.log_bytes,
        log_files: config.log_files,
    };
    let path = folder.join(LAUNCH_FILE);
    let mut json =
        serde_json::to_vec_pretty(&launch).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    json.push(b'\n');
    write_file(&path, &json)?;
    Ok(environment)
}

/// The file under another name: the same one if both are on one file system, else a copy. What a worker left under that name goes.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => fs::copy(from, to).map(drop),
        linked => linked,
    }
}

/// The topology's own configuration.
fn graph_config(graph: &Path) -> Result<BTreeMap<String, Value>, String> {
    #[derive(Deserialize)]
    struct Graph {
        #[serde(default)]
        config: BTreeMap<String, Value>,
    }
    let bad = |why: String| format!("the topology's graph {} cannot be read: {why}", graph.display());
    let bytes = fs::metadata(graph).map_err(|error| bad(error.to_string()))?.len();
    if bytes > GRAPH_BYTES {
        return Err(bad(format!("it has {bytes} bytes, at most {GRAPH_BYTES} are allowed")));
    }
    let json = fs::read(graph).map_err(|error| bad(error.to_string()))?;
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
pub(crate) fn topologies(folder: &Path) -> Result<BTreeSet<TopologyId>, String> {
    Ok(names(folder)?.iter().filter_map(|name| TopologyId::from_str(name).ok()).collect())
}

/// Removes a folder with all in it; one that is not there is no error.
///
/// # Errors
/// In a sentence.
pub(crate) fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {}", folder.display(), in_words(&error)))
        }
        _ => Ok(()),
    }
}

/// Removes logs of topologies that are gone, and in which nothing was written for `kept`.
pub(crate) fn remove_old_logs(logs: &Path, stay: &BTreeSet<TopologyId>, kept: Duration, now: SystemTime) {
    let all = match topologies(logs) {
        Ok(all) => all,
        Err(why) => return tracing::warn!("{why}; old logs stay"),
    };
    for id in all.difference(stay) {
        let folder = logs.join(id.as_str());
        let old = |written: SystemTime| now.duration_since(written).is_ok_and(|age| age >= kept);
        if last_written(&folder).is_none_or(old)
            && let Err(why) = remove(&folder)
        {
            tracing::warn!("{why}");
        }
    }
}

/// When a file below the folder was written last.
fn last_written(folder: &Path) -> Option<SystemTime> {
    let mut last = None;
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let written = match entry.file_type() {
            Ok(kind) if kind.is_dir() => last_written(&entry.path()),
            _ => entry.metadata().and_then(|data| data.modified()).ok(),
        };
        last = last.max(written);
    }
    last
}
