//! Copies of blobs: fetching what this Nimbus lacks, from others or machines, asking the others what they have, answering
//! submissions that wait for it.
//!
//! Not here: what is fetched next (`replication`). Invariant: nothing here is written to the cluster state: who has what is asked
//! of those who have it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster_state::records::Nimbus;
use futures_util::stream;
use nimbus_api::submission::Submitted;
use worker_api::ids::{BlobHash, NimbusId, SupervisorId, TopologyId};

use super::{Process, Reply, Role, WAITING_REQUESTS};
use crate::blobs::{Blobs, Extent, Refused, Uses};
use crate::knowledge::{KnownTopology, lengths};
use crate::liveness::MachineState;
use crate::peers::Peers;
use crate::replication::Wanted;

/// How often the others are asked what they have.
const ASK: Duration = Duration::from_secs(5);
/// How long no other machine is asked for a blob that one was asked for.
const OFFERED_MS: u64 = 10_000;
/// Blobs that a machine is asked for at once.
const OFFERED: usize = 16;
/// How often they are asked, while a submission waits for copies.
const ASK_SOON: Duration = Duration::from_millis(100);

/// A submission that is stored, and answered when there are copies of its blobs.
pub(super) struct Replicating {
    id: TopologyId,
    blobs: Vec<BlobHash>,
    wanted: Wanted,
    /// When it was stored, on the process's clock.
    since_ms: u64,
    warnings: Vec<String>,
    reply: Reply<Submitted>,
}

impl Process {
    /// The other Nimbuses that are there, the leader first.
    fn others(&self) -> Vec<Nimbus> {
        let nimbuses = self.known.iter().flat_map(|known| &known.daemons.nimbuses);
        let mut others: Vec<Nimbus> = nimbuses.filter(|nimbus| nimbus.id != self.me.id).cloned().collect();
        let leader = self.leader().map(|leader| &leader.nimbus);
        others.sort_by_key(|other| (Some(&other.id) != leader, other.id.clone()));
        others
    }

    /// Begins to fetch what topologies use and this Nimbus lacks.
    pub(super) fn fetch(&mut self) {
        let others = self.others();
        self.tell_lacks(&others);
        let Some(known) = &self.known else { return };
        let used = known.topologies.values().filter(|topology| !topology.is_removing());
        let used = used.flat_map(|topology| lengths(&topology.record));
        let lacking: BTreeMap<BlobHash, u64> = used.filter(|(hash, _)| self.blobs.complete(hash).is_none()).collect();
        self.fetching.want(&lacking);
        let now = self.clock.uptime_ms();
        while let Some((hash, bytes, from)) = self.fetching.next(&others, now) {
            let (blobs, peers, from) = (Arc::clone(&self.blobs), Arc::clone(&self.peers), from.clone());
            let wanted = hash.clone();
            let task = self.seam.spawn(async move { fetch_from(&blobs, &*peers, &from, &wanted, bytes).await });
            self.fetches.push(Box::pin(async move {
                let stopped = || Err("it broke off".to_owned());
                (hash, task.join().await.unwrap_or_else(stopped))
            }));
        }
    }

    /// Has the log say what a leader lacks, of whom it is fetched, and when all of it is here; each once.
    fn tell_lacks(&mut self, others: &[Nimbus]) {
        let leads = matches!(self.role, Role::Leads(_));
        let Some(known) = self.known.as_ref().filter(|_| leads) else { return self.told_lacks.clear() };
        let mut lacks = BTreeMap::new();
        for (id, topology) in known.topologies.iter().filter(|(_, topology)| !topology.is_removing()) {
            let lacking = topology.uses().into_iter().filter(|(hash, _)| self.blobs.complete(hash).is_none());
            let lacking: Vec<String> =
                lacking.map(|(hash, what)| format!("{what} ({}…)", &hash.as_str()[..12])).collect();
            if lacking.is_empty() {
                continue;
            }
            let nimbuses = others.iter().map(|other| format!("Nimbus {} at {}:{}", other.id, other.host, other.port));
            let machines =
                self.machines_with(topology).map(|machine| format!("machine {}", self.machine(machine).host));
            let from: Vec<String> = nimbuses.chain(machines).collect();
            let from = match from.is_empty() {
                true => "nobody is there that may have them".to_owned(),
                false => format!("they are fetched from whoever has them of {}", from.join(", ")),
            };
            lacks.insert(id.clone(), format!("{}; {from}", lacking.join(", ")));
        }
        for (id, lack) in lacks.iter().filter(|(id, lack)| self.told_lacks.get(*id) != Some(*lack)) {
            tracing::warn!("{id}: this Nimbus leads, and lacks of its blobs: {lack}");
        }
        for id in self.told_lacks.keys().filter(|id| !lacks.contains_key(*id) && known.topologies.contains_key(*id)) {
            tracing::info!("{id}: all of its blobs are here");
        }
        self.told_lacks = lacks;
    }

    /// The machines that run a topology, and so may have its blobs.
    fn machines_with<'a>(&'a self, topology: &'a KnownTopology) -> impl Iterator<Item = &'a SupervisorId> {
        let machines = topology.plan.iter().flat_map(|plan| &plan.machines);
        machines.filter(|machine| self.observed.machines.state(machine) != MachineState::Dead)
    }

    /// A fetch has ended.
    pub(super) fn fetched(&mut self, hash: &BlobHash, result: Result<(), String>) {
        match &result {
            Ok(()) => {
                tracing::info!("blob {hash} was fetched from another Nimbus");
                self.load_is_due |= self.lacking.contains(hash);
            }
            Err(trouble) => tracing::warn!("cannot fetch blob {hash}: {trouble}"),
        }
        self.fetching.ended(hash, result, self.others().len(), self.clock.uptime_ms());
        self.fetch();
    }

    /// The blobs that a machine is asked for: lacking here, used by what it runs, and asked of no other one just now.
    pub(super) fn wanted_of(&mut self, machine: &SupervisorId) -> Vec<BlobHash> {
        let (now, blobs) = (self.clock.uptime_ms(), Arc::clone(&self.blobs));
        self.offering.retain(|hash, (_, until_ms)| {
            let is_lacking = blobs.complete(hash).is_none();
            if !is_lacking {
                blobs.used_pin(hash);
            }
            is_lacking && now < *until_ms
        });
        let runs = |topology: &&KnownTopology| {
            topology.plan.as_ref().is_some_and(|plan| plan.machines.contains(machine)) && !topology.is_removing()
        };
        let topologies = self.known.iter().flat_map(|known| known.topologies.values()).filter(runs);
        let lacking = topologies.flat_map(|topology| lengths(&topology.record)).map(|(hash, _)| hash);
        let lacking: BTreeSet<BlobHash> = lacking.filter(|hash| blobs.complete(hash).is_none()).collect();
        let asked = lacking.into_iter().filter(|hash| {
            let asked = || (machine.clone(), now + OFFERED_MS);
            self.offering.entry(hash.clone()).or_insert_with(asked).0 == *machine
        });
        asked.take(OFFERED).collect()
    }

    /// Asks those of the others who are not being asked what they have, after a pause; with `at_once` all, without one.
    pub(super) fn ask_others(&mut self, at_once: bool) {
        let others = self.others();
        self.copies.retain(&others);
        if at_once || !matches!(self.role, Role::Leads(_)) {
            self.asking.clear();
            self.asked.clear();
        }
        let Some(known) = self.known.as_ref().filter(|_| matches!(self.role, Role::Leads(_))) else { return };
        let used = known.topologies.values().flat_map(|topology| lengths(&topology.record));
        let used = used.map(|(hash, _)| (hash, ())).collect::<BTreeMap<_, _>>();
        let used: Arc<[BlobHash]> = used.into_keys().collect();
        let pause = match (at_once, self.replicating.is_empty()) {
            (true, _) => Duration::ZERO,
            (false, false) => ASK_SOON,
            (false, true) => ASK,
        };
        for other in others.into_iter().filter(|_| !used.is_empty()) {
            if self.asked.insert(other.id.clone()) {
                let (peers, used, seam) = (Arc::clone(&self.peers), Arc::clone(&used), self.seam.clone());
                self.asking.push(Box::pin(async move {
                    seam.sleep(pause).await;
                    let held = peers.held(&other, &used).await;
                    (other.id, held)
                }));
            }
        }
    }

    /// Another one said what it has.
    pub(super) fn heard_held(&mut self, nimbus: NimbusId, held: Result<Vec<BlobHash>, String>) {
        self.asked.remove(&nimbus);
        match held {
            Ok(held) => self.copies.heard(nimbus, held),
            Err(why) => tracing::debug!("Nimbus {nimbus} does not say what it has: {why}"),
        }
        self.answer_replicated();
        self.ask_others(false);
    }

    /// Answers a submission that was stored, at once or when there are copies.
    pub(super) fn replicate(&mut self, id: TopologyId, warnings: Vec<String>, reply: Reply<Submitted>) {
        let topology = self.known.as_ref().and_then(|known| known.topologies.get(&id));
        let config = topology.and_then(|topology| Some(&topology.graph.as_ref().ok()?.graph.config));
        let wanted = config.map(|config| Wanted::of(config, &self.config.configuration));
        let wanted = wanted.filter(|_| self.replicating.len() < WAITING_REQUESTS);
        let (Some(wanted), Some(topology)) = (wanted.filter(|wanted| wanted.count > 1), topology) else {
            let _ = reply.send(Ok(Submitted { id, warnings }));
            return;
        };
        let blobs = lengths(&topology.record).map(|(hash, _)| hash).collect();
        let since_ms = self.clock.uptime_ms();
        self.replicating.push(Replicating { id, blobs, wanted, since_ms, warnings, reply });
        self.ask_others(true);
        self.answer_replicated();
    }

    /// Answers those submissions that have their copies, or wait no longer.
    pub(super) fn answer_replicated(&mut self) {
        let (now, there) = (self.clock.uptime_ms(), self.others().len() + 1);
        let leads = matches!(self.role, Role::Leads(_));
        for mut waiting in std::mem::take(&mut self.replicating) {
            let waited = Duration::from_millis(now.saturating_sub(waiting.since_ms));
            let verdict = match leads {
                true => waiting.wanted.verdict(self.copies.of(&waiting.blobs) + 1, there, waited),
                false => Some(Some("the lead was lost before there were copies of its blobs: it is stored".to_owned())),
            };
            match verdict {
                None => self.replicating.push(waiting),
                Some(warning) => {
                    waiting.warnings.extend(warning);
                    let _ = waiting.reply.send(Ok(Submitted { id: waiting.id, warnings: waiting.warnings }));
                }
            }
        }
    }

    /// How many Nimbuses have all blobs of a topology, as far as is known.
    pub(crate) fn copies_of(&self, topology: &KnownTopology) -> u32 {
        let blobs: Vec<BlobHash> = lengths(&topology.record).map(|(hash, _)| hash).collect();
        let here = blobs.iter().all(|hash| self.blobs.complete(hash).is_some());
        self.copies.of(&blobs) as u32 + u32::from(here)
    }

    /// What a topology waits for that is not here, in words that go behind "it is" or stand alone.
    pub(crate) fn waits_for(&self, topology: &KnownTopology) -> Option<String> {
        let lacks: Uses = topology.uses().into_iter().filter(|(hash, _)| self.blobs.complete(hash).is_none()).collect();
        // Without its graph least can be done with it.
        let graph = lacks.iter().find(|(hash, _)| *hash == topology.record.graph.hash);
        let (hash, what) = graph.or_else(|| lacks.first())?;
        let machines = self.machines_with(topology).next().is_some();
        let how = match self.fetching.trouble(hash) {
            Some(trouble) => format!("; last: {trouble}"),
            None if self.others().is_empty() && !machines => "; none that may have it is there: start one".to_owned(),
            None => String::new(),
        };
        let short = &hash.as_str()[..12];
        Some(format!("waiting for its {what} ({short}…), which is fetched from the other Nimbuses and machines{how}"))
    }

    /// Whether a topology's graph is not here.
    pub(crate) fn lacks_graph(&self, topology: &KnownTopology) -> bool {
        topology.graph.is_err() && self.blobs.complete(&topology.record.graph.hash).is_none()
    }
}

/// Fetches what is lacking of a blob of this length.
async fn fetch_from(
    blobs: &Arc<Blobs>,
    peers: &dyn Peers,
    from: &Nimbus,
    hash: &BlobHash,
    bytes: u64,
) -> Result<(), String> {
    let whom = format!("Nimbus {} at {}:{}", from.id, from.host, from.port);
    loop {
        let offset = match blobs.extent(hash).await {
            Some(Extent::Complete(_)) => return Ok(()),
            Some(Extent::Partial(offset)) => offset,
            None => 0,
        };
        // All of it may be there, and its last step may be lacking.
        let mut piece = Bytes::new();
        if offset < bytes {
            let (came, length) = peers.piece(from, hash, offset).await.map_err(|why| format!("{whom}: {why}"))?;
            if length != bytes || came.is_empty() {
                return Err(format!(
                    "{whom} gave {} bytes at {offset} of {length}, and it has {bytes} bytes",
                    came.len()
                ));
            }
            piece = came;
        }
        match blobs.append(hash, offset, bytes, stream::iter([Ok::<_, Infallible>(piece)])).await {
            Ok(Extent::Complete(_)) => {
                blobs.used_pin(hash);
                return Ok(());
            }
            // Somebody else may be uploading it.
            Ok(Extent::Partial(_)) | Err(Refused::Offset { .. }) => {}
            Err(Refused::Failure(failure)) => return Err(failure.message),
        }
    }
}
