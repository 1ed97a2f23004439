//! Clusters of several Nimbuses: started, their leader killed or stopped, what the records say of who wrote them.
//!
//! Not here: one daemon (`cluster`), what a topology did (`evidence`). Invariant: a take-over is over when the others say that one
//! of them leads; whoever was killed or stopped is not asked.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster_state::paths;
use cluster_state::store::{Path, Store};
use cluster_state::zookeeper::{self, ZooKeeperConfig};
use nimbus_api::client::Client;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::{Cluster, signal};

/// A cluster of so many Nimbuses and two Supervisors with so many slots each, all ready. The machines of the Supervisors are called
/// `127.0.0.2` and `127.0.0.3`, and listen there.
///
/// # Errors
/// If a daemon does not become ready.
pub async fn several(nimbuses: usize, zookeeper: &[String], slots: usize, conf: &[(&str, Value)]) -> Result<Cluster> {
    let mut all: Vec<(&str, Value)> = vec![("storm.zookeeper.servers", zookeeper.into())];
    all.extend_from_slice(conf);
    let mut cluster = Cluster::of(nimbuses, &all)?;
    cluster.add("nimbus", &["nimbus"], 0)?;
    for number in 2..=nimbuses {
        cluster.add(&format!("nimbus-{number}"), &["nimbus"], 0)?;
    }
    add_machine(&mut cluster, "supervisor-a", 2, slots)?;
    add_machine(&mut cluster, "supervisor-b", 3, slots)?;
    for name in cluster.daemons.keys().cloned().collect::<Vec<_>>() {
        cluster.start(&name).await?;
    }
    Ok(cluster)
}

/// Adds the Supervisor of a machine `127.0.0.NUMBER`, without starting it.
///
/// # Errors
/// If its folder cannot be made.
pub fn add_machine(cluster: &mut Cluster, name: &str, number: u8, slots: usize) -> Result<()> {
    let host = Value::from(format!("127.0.0.{number}"));
    let own = [("storm.local.hostname", host.clone()), ("storm.bind.address", host)];
    cluster.add_with(name, &["supervisor"], slots, &own)
}

/// One lead that ended, and the next.
#[derive(Clone, Debug)]
pub struct TakeOver {
    /// The daemon that led.
    pub from: String,
    /// The daemon that leads.
    pub to: String,
    /// From the signal until another said that it leads.
    pub took: Duration,
}

/// SIGKILL for the Nimbus that leads; waits until another one does.
///
/// # Errors
/// If none leads, before or after.
pub async fn kill_leader(cluster: &mut Cluster) -> Result<TakeOver> {
    let from = leader(cluster).await?;
    let begin = Instant::now();
    cluster.daemon(&from).kill()?;
    next_leader(cluster, from, begin).await
}

/// SIGSTOP for the Nimbus that leads; waits until another one does.
///
/// # Errors
/// If none leads, before or after.
pub async fn stop_leader(cluster: &mut Cluster) -> Result<TakeOver> {
    let from = leader(cluster).await?;
    let begin = Instant::now();
    signal(cluster.daemon(&from).pid()?, Signal::STOP)?;
    next_leader(cluster, from, begin).await
}

async fn leader(cluster: &Cluster) -> Result<String> {
    cluster.wait("a Nimbus leads", async |cluster| cluster.leader().await).await
}

async fn next_leader(cluster: &Cluster, from: String, begin: Instant) -> Result<TakeOver> {
    let others = without(cluster, &from);
    let own = cluster.api_port_of(&from);
    let to = cluster
        .wait(&format!("another Nimbus than {from} leads"), async |cluster| {
            let port = others.cluster().await.ok()?.nimbuses.iter().find(|nimbus| nimbus.leads)?.port;
            let name = cluster.daemons.keys().find(|name| cluster.api_port_of(name) == Some(port));
            name.filter(|_| own != Some(port)).cloned()
        })
        .await?;
    Ok(TakeOver { from, to, took: begin.elapsed() })
}

/// Of two Nimbuses the one that follows loses its disk, then the other one its life; waits until the one without a disk leads, which
/// takes as long as is said from its start on.
///
/// # Errors
/// If none leads, before or after, or the folder cannot be removed.
pub async fn lead_without_disk(cluster: &mut Cluster) -> Result<TakeOver> {
    let from = leader(cluster).await?;
    let to = if from == "nimbus" { "nimbus-2" } else { "nimbus" }.to_owned();
    cluster.daemon(&to).kill()?;
    std::fs::remove_dir_all(cluster.daemon(&to).folder.join("local"))?;
    cluster.daemon(&from).kill()?;
    let begin = Instant::now();
    cluster.start(&to).await?;
    let leads = async |cluster: &Cluster| cluster.leader().await.filter(|leader| *leader == to).map(drop);
    cluster.wait("the one without a disk leads", leads).await?;
    Ok(TakeOver { from, to, took: begin.elapsed() })
}

/// Waits until this Nimbus has all blobs of a topology: its executable and its graph.
///
/// # Errors
/// If it does not come to have them.
pub async fn gets_blobs(cluster: &Cluster, name: &str) -> Result<()> {
    let own = only(cluster, name)?;
    let has_all = async |_: &Cluster| {
        let blobs = own.blobs().await.ok()?;
        (blobs.len() >= 2 && blobs.iter().all(|blob| blob.complete)).then_some(())
    };
    cluster.wait("the leader has what it lacked", has_all).await
}

/// Continues the Nimbus that was stopped, and waits until it follows the other one; asks it.
///
/// # Errors
/// If it does not.
pub async fn awake(cluster: &mut Cluster, slept: &TakeOver) -> Result<Client> {
    signal(cluster.daemon(&slept.from).pid()?, Signal::CONT)?;
    let awake = only(cluster, &slept.from)?;
    let follows = async |cluster: &Cluster| {
        let summary = awake.cluster().await.ok()?;
        let leader = summary.nimbuses.iter().find(|nimbus| nimbus.leads)?.port;
        let is_there = summary.nimbuses.iter().any(|one| Some(one.port) == cluster.api_port_of(&slept.from));
        (is_there && Some(leader) == cluster.api_port_of(&slept.to)).then_some(())
    };
    cluster.wait("the one that slept follows", follows).await?;
    Ok(awake)
}

/// Waits until this topology can be activated: the cluster state is there, and a Nimbus leads.
///
/// # Errors
/// If it cannot.
pub async fn takes_changes(cluster: &Cluster, topology: &str) -> Result<()> {
    let is_done = async |cluster: &Cluster| {
        cluster.storm_output(&["activate", topology]).ok().filter(|(code, ..)| *code == 0).map(drop)
    };
    cluster.wait("changes are possible again", is_done).await
}

/// Asks the Nimbuses but this one.
pub fn without(cluster: &Cluster, name: &str) -> Client {
    let own = cluster.api_port_of(name);
    let others = cluster.api_ports.iter().filter(|port| own != Some(**port));
    Client::new(others.map(|port| format!("127.0.0.1:{port}")).collect())
}

/// Asks this Nimbus alone.
///
/// # Errors
/// If it is none.
pub fn only(cluster: &Cluster, name: &str) -> Result<Client> {
    let port = cluster.api_port_of(name).with_context(|| format!("{name} is no Nimbus"))?;
    Ok(Client::new(vec![format!("127.0.0.1:{port}")]))
}

/// A record, as it lies in ZooKeeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Counts its changes.
    pub version: u64,
    /// Who wrote it last.
    pub writer: String,
    /// Its bytes.
    pub bytes: usize,
}

/// The records of ZooKeeper.
pub struct Records {
    store: std::sync::Arc<dyn Store>,
}

impl Records {
    /// Opens them, without waiting.
    ///
    /// # Errors
    /// If the addresses make no sense.
    pub fn open(servers: &[String]) -> Result<Records> {
        let config = ZooKeeperConfig {
            servers: servers.to_vec(),
            root: "/storm".to_owned(),
            session_timeout: Duration::from_secs(20),
            auth: None,
        };
        Ok(Records { store: zookeeper::open(config)? })
    }

    /// The store, for who plays a daemon.
    pub fn store(&self) -> std::sync::Arc<dyn Store> {
        std::sync::Arc::clone(&self.store)
    }

    /// All that Nimbuses write, by path; not what says which daemons are there.
    ///
    /// # Errors
    /// If ZooKeeper does not answer, or something is no record.
    pub async fn all(&self) -> Result<BTreeMap<String, Written>> {
        let deadline = Instant::now() + crate::cluster::PATIENCE;
        while !self.store.session().connected {
            let seen = self.store.session();
            tokio::time::timeout_at(deadline, self.store.session_changed(seen)).await.context("no session")?;
        }
        let mut wanted: Vec<Path> = vec![paths::submissions(), paths::leader()];
        for id in self.store.children(&paths::topologies()).await? {
            let id = worker_api::ids::TopologyId::new(id)?;
            wanted.extend([paths::topology(&id), paths::plan_head(&id), paths::secret(&id)]);
            for hash in self.store.children(&paths::plan_parts(&id)).await? {
                wanted.push(paths::plan_part(&id, &hash.parse()?));
            }
        }
        for name in self.store.children(&paths::names()).await? {
            wanted.push(paths::name(&worker_api::ids::TopologyName::new(name)?));
        }
        for machine in self.store.children(&paths::drained()).await? {
            wanted.push(paths::drained_machine(&worker_api::ids::SupervisorId::new(machine)?));
        }
        let mut records = BTreeMap::new();
        for path in wanted {
            let Some(found) = self.store.read(&path).await? else { continue };
            let value: Value = serde_json::from_slice(&found.value).with_context(|| format!("{path} is no JSON"))?;
            let writer = value["writer"].as_str().with_context(|| format!("{path} names no writer"))?.to_owned();
            records.insert(path.to_string(), Written { version: found.version.0, writer, bytes: found.value.len() });
        }
        Ok(records)
    }
}

/// The id of a Nimbus, as it stands in what it wrote: the writer of the leader's record.
///
/// # Errors
/// If none leads.
pub fn writer_of_leader(records: &BTreeMap<String, Written>) -> Result<String> {
    Ok(records.get("leader").context("none leads")?.writer.clone())
}

/// Whether none of these records was made or changed by `writer` since `before`.
///
/// # Errors
/// With the first one that was.
pub fn wrote_nothing(
    writer: &str,
    before: &BTreeMap<String, Written>,
    after: &BTreeMap<String, Written>,
) -> Result<()> {
    for (path, written) in after {
        ensure!(
            written.writer != writer || before.get(path) == Some(written),
            "{writer} has written {path}: before {:?}, now {written:?}",
            before.get(path)
        );
    }
    Ok(())
}
