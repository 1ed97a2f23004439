//! What the records say: read as a whole when this Nimbus begins to lead, then kept in step with its own writes.
//!
//! Not here: writing them (`publish`), what is heard of machines and workers (`observed`). Invariant: a record that cannot be
//! read takes down its own topology, which is listed with the reason; nothing of it is deleted by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster_state::board::{Board, ReadError};
use cluster_state::records::{
    Drained, NameTaken, Nimbus, RebalanceStep, Rebalanced, Status, Submissions, Supervisor, Topology,
};
use cluster_state::store::{Path, StoreError};
use cluster_state::{paths, plans};
use futures_util::{StreamExt, TryStreamExt, stream};
use topology_api::config::TopologySettings;
use topology_api::ids::TaskId;
use topology_api::topology::{ComponentGraph, Graph};
use worker_api::ids::{BlobHash, PlanVersion, SupervisorId, TopologyId, TopologyName, WorkerIndex};
use worker_api::plan::{Address, Placement, Plan, SlotPlan};

use crate::blobs::{Blobs, Uses};
use crate::lifecycle::merged;
use crate::scheduling::{Component, PlannedWorker, TopologyPlan};
use crate::submission::check_graph;

/// Records that are read at once.
const READS_AT_ONCE: usize = 32;

/// All that the records say.
#[derive(Default)]
pub(crate) struct Known {
    /// Those whose record can be read.
    pub(crate) topologies: BTreeMap<TopologyId, KnownTopology>,
    /// Those whose record cannot.
    pub(crate) unreadable: BTreeMap<TopologyId, Unreadable>,
    /// How many submissions there were.
    pub(crate) submissions: u64,
    /// Who is there.
    pub(crate) daemons: Daemons,
    /// Machines that are being emptied.
    pub(crate) drained: BTreeMap<SupervisorId, Drained>,
    /// Other things that cannot be read, in a sentence each.
    pub(crate) oddities: Vec<String>,
}

/// A topology whose record cannot be read.
pub(crate) struct Unreadable {
    /// What its user calls it.
    pub(crate) name: TopologyName,
    /// In a sentence.
    pub(crate) why: String,
}

/// A topology.
pub(crate) struct KnownTopology {
    /// Its record.
    pub(crate) record: Topology,
    /// Its graph; else why it cannot be had.
    pub(crate) graph: Result<Arc<KnownGraph>, String>,
    /// Its plan, if it has one.
    pub(crate) plan: Option<KnownPlan>,
    /// Why its plan cannot be read.
    pub(crate) plan_unreadable: Option<String>,
}

/// What a graph says, read once.
pub(crate) struct KnownGraph {
    /// As it was submitted.
    pub(crate) graph: Graph,
    /// What the runtime reads of its configuration.
    pub(crate) settings: TopologySettings,
    /// For the scheduler.
    pub(crate) components: Vec<Component>,
}

/// A plan that holds.
pub(crate) struct KnownPlan {
    /// What the scheduler made.
    pub(crate) plan: TopologyPlan,
    /// What workers are told.
    pub(crate) placement: Placement,
    /// Where it has workers.
    pub(crate) machines: BTreeSet<SupervisorId>,
}

/// The daemons that have a record.
#[derive(Default)]
pub(crate) struct Daemons {
    /// Machines that may get work.
    pub(crate) supervisors: BTreeMap<SupervisorId, Supervisor>,
    /// All Nimbuses.
    pub(crate) nimbuses: Vec<Nimbus>,
    /// Those that cannot be read, in a sentence each.
    pub(crate) unreadable: Vec<String>,
}

impl KnownTopology {
    /// Made from a record with its graph.
    pub(crate) fn new(record: Topology, graph: Result<Arc<KnownGraph>, String>) -> Self {
        KnownTopology { record, graph, plan: None, plan_unreadable: None }
    }

    /// The blobs that it uses, with what as.
    pub(crate) fn uses(&self) -> Uses {
        uses(&self.record)
    }

    /// The workers of its plan, by index.
    pub(crate) fn planned(&self) -> impl Iterator<Item = (WorkerIndex, &PlannedWorker)> {
        (0..).map(WorkerIndex).zip(self.plan.iter().flat_map(|plan| &plan.plan.workers))
    }

    /// What rebalances have changed, and what one that drains will change.
    pub(crate) fn asked(&self) -> Rebalanced {
        match &self.record.status {
            Status::Rebalancing { to, .. } => merged(&self.record.rebalanced, to),
            _ => self.record.rebalanced.clone(),
        }
    }

    /// How many workers it shall have, by its submission and what rebalances changed; without its graph, as many as it has.
    pub(crate) fn workers_wanted(&self, rebalanced: &Rebalanced) -> u16 {
        let planned = || self.plan.as_ref().map_or(0, |plan| plan.plan.workers.len() as u16);
        let submitted = self.graph.as_ref().map_or_else(|_| planned(), |graph| graph.settings.workers);
        rebalanced.workers.unwrap_or(submitted)
    }

    /// Its components with the executors that they shall have, by its submission and what rebalances changed.
    pub(crate) fn components(&self, rebalanced: &Rebalanced) -> Vec<Component> {
        let Ok(graph) = &self.graph else { return Vec::new() };
        let component = |(named, component): (&ComponentGraph, &Component)| {
            let executors = rebalanced.executors.get(&named.name).copied();
            Component { executors: executors.unwrap_or(component.executors), ..*component }
        };
        graph.graph.components.iter().zip(&graph.components).map(component).collect()
    }

    /// Whether its plan is to go, or is gone.
    pub(crate) fn is_removing(&self) -> bool {
        use cluster_state::records::KillStep::Removing;
        matches!(self.record.status, Status::Killed { step: Removing, .. })
    }

    /// Whether its executors are to be dealt anew now.
    pub(crate) fn is_switching(&self) -> bool {
        matches!(self.record.status, Status::Rebalancing { step: RebalanceStep::Switching, .. })
    }

    /// The version of its plan; 0 without one.
    pub(crate) fn plan_version(&self) -> PlanVersion {
        self.plan.as_ref().map_or(PlanVersion(0), |plan| plan.plan.version)
    }

    /// Whether its spouts' last tuples are waited for, or it goes already.
    pub(crate) fn is_killed(&self) -> bool {
        matches!(self.record.status, Status::Killed { .. })
    }
}

/// The blobs that a topology uses, with what as.
pub(crate) fn uses(record: &Topology) -> Uses {
    let own = [(&record.executable, "executable".to_owned()), (&record.graph, "graph".to_owned())];
    let files = record.files.iter().map(|(name, blob)| (blob, name.to_string()));
    own.into_iter().chain(files).map(|(blob, what)| (blob.hash.clone(), what)).collect()
}

/// The blobs that a topology uses, with their lengths in bytes.
pub(crate) fn lengths(record: &Topology) -> impl Iterator<Item = (BlobHash, u64)> {
    let all = [&record.executable, &record.graph].into_iter().chain(record.files.values());
    all.map(|blob| (blob.hash.clone(), blob.bytes))
}

impl KnownGraph {
    /// From a graph that was checked.
    pub(crate) fn new(graph: Graph, settings: TopologySettings) -> Self {
        let components = graph.components.iter().map(Component::from).collect();
        KnownGraph { graph, settings, components }
    }

    /// The component that a task is of.
    pub(crate) fn component_of(&self, TaskId(task): TaskId) -> Option<&str> {
        let after = self.graph.components.partition_point(|component| component.first_task <= task);
        Some(self.graph.components.get(after.checked_sub(1)?)?.name.as_str())
    }

    /// Reads a graph's blob.
    async fn read(blobs: &Arc<Blobs>, hash: &BlobHash) -> Result<Self, String> {
        let json = blobs.read(hash).await.map_err(|failure| format!("its graph cannot be had: {failure}"))?;
        let graph: Graph =
            serde_json::from_slice(&json).map_err(|error| format!("its graph cannot be read: {error}"))?;
        let settings =
            check_graph(&graph).map_err(|problems| format!("its graph is refused: {}", problems.join("; ")))?;
        Ok(KnownGraph::new(graph, settings))
    }
}

impl KnownPlan {
    /// With what workers are told of it.
    pub(crate) fn new(plan: TopologyPlan) -> Self {
        let workers = plan.workers.iter();
        let workers = workers.map(|worker| SlotPlan { version: worker.version, executors: worker.executors.clone() });
        let addresses = plan.workers.iter().map(|worker| {
            let slot = worker.slot.as_ref()?;
            Some(Address { host: slot.host.clone(), port: slot.port.0 })
        });
        let placement = Placement {
            version: plan.version,
            addresses: addresses.collect(),
            plan: Plan { workers: workers.collect() },
        };
        let slots = plan.workers.iter().filter_map(|worker| worker.slot.as_ref());
        let machines = slots.map(|slot| slot.supervisor.clone()).collect();
        KnownPlan { plan, placement, machines }
    }
}

/// What was read, with what is left of topologies that have no record any more.
pub(crate) struct Loaded {
    /// What holds.
    pub(crate) known: Known,
    /// An interrupted end, or a hand that removed a record, left names, secrets or plans of these.
    pub(crate) orphans: BTreeSet<TopologyId>,
    /// Names that are taken by nobody.
    pub(crate) orphaned_names: Vec<TopologyName>,
}

/// Reads everything.
///
/// # Errors
/// If the store does not answer; a record that cannot be understood is none.
pub(crate) async fn load(board: &Board, blobs: &Arc<Blobs>) -> Result<Loaded, StoreError> {
    let mut known = Known { daemons: daemons(board).await?, ..Known::default() };
    match board.read::<Submissions>(&paths::submissions()).await {
        Ok(found) => known.submissions = found.map_or(0, |found| found.record.count),
        Err(ReadError::Store(error)) => return Err(error),
        // Submitting meets it again, and says so.
        Err(unreadable) => known.oddities.push(unreadable.to_string()),
    }
    for name in board.children(&paths::drained()).await? {
        let Ok(id) = SupervisorId::new(name) else { continue };
        match board.read::<Drained>(&paths::drained_machine(&id)).await {
            Ok(Some(found)) => drop(known.drained.insert(id, found.record)),
            Ok(None) => {}
            Err(ReadError::Store(error)) => return Err(error),
            // Whoever wrote it meant that the machine gets no work.
            Err(unreadable) => {
                known.drained.insert(id.clone(), Drained { id, host: String::new(), since_ms: 0 });
                known.oddities.push(unreadable.to_string());
            }
        }
    }
    let ids = ids(board, &paths::topologies(), &mut known.oddities).await?;
    let mut topologies = stream::iter(ids.iter().cloned().map(|id| topology(board, blobs, id))).buffered(READS_AT_ONCE);
    let mut unreadable = BTreeMap::new();
    while let Some((id, topology)) = topologies.try_next().await? {
        match topology {
            Some(Ok(topology)) => drop(known.topologies.insert(id, topology)),
            Some(Err(why)) => drop(unreadable.insert(id, why)),
            None => {}
        }
    }
    let (taken, orphaned_names) = names(board, &known, &ids, &mut unreadable).await?;
    for (id, why) in unreadable {
        let name = taken.get(&id).cloned().unwrap_or_else(|| name_of(&id));
        known.unreadable.insert(id, Unreadable { name, why });
    }
    let mut orphans = BTreeSet::new();
    for folder in [paths::plans(), paths::secrets()] {
        orphans.extend(self::ids(board, &folder, &mut known.oddities).await?);
    }
    orphans.retain(|id| !ids.contains(id));
    Ok(Loaded { known, orphans, orphaned_names })
}

/// One topology with graph and plan; `None` if it went meanwhile.
async fn topology(
    board: &Board,
    blobs: &Arc<Blobs>,
    id: TopologyId,
) -> Result<(TopologyId, Option<Result<KnownTopology, String>>), StoreError> {
    let record = match board.read::<Topology>(&paths::topology(&id)).await {
        Ok(Some(found)) if found.record.id == id => found.record,
        Ok(Some(found)) => return Ok((id, Some(Err(format!("its record speaks of {}", found.record.id))))),
        Ok(None) => return Ok((id, None)),
        Err(ReadError::Store(error)) => return Err(error),
        Err(unreadable) => return Ok((id, Some(Err(unreadable.to_string())))),
    };
    let graph = KnownGraph::read(blobs, &record.graph.hash).await.map(Arc::new);
    let mut topology = KnownTopology::new(record, graph);
    match plans::read(board, &id).await {
        Ok(None) => {}
        Ok(Some(whole)) => match TopologyPlan::try_from(&whole) {
            Ok(plan) => topology.plan = Some(KnownPlan::new(plan)),
            Err(broken) => topology.plan_unreadable = Some(broken.to_string()),
        },
        Err(ReadError::Store(error)) => return Err(error),
        Err(unreadable) => topology.plan_unreadable = Some(unreadable.to_string()),
    }
    Ok((id, Some(Ok(topology))))
}

/// By whom names are taken that no readable record explains; and those that nobody has.
async fn names(
    board: &Board,
    known: &Known,
    ids: &BTreeSet<TopologyId>,
    unreadable: &mut BTreeMap<TopologyId, String>,
) -> Result<(BTreeMap<TopologyId, TopologyName>, Vec<TopologyName>), StoreError> {
    let explained: BTreeSet<&str> = known.topologies.values().map(|topology| topology.record.name.as_str()).collect();
    let (mut taken, mut orphaned) = (BTreeMap::new(), Vec::new());
    for name in board.children(&paths::names()).await?.into_iter().filter(|name| !explained.contains(name.as_str())) {
        let Ok(name) = TopologyName::new(name) else { continue };
        match board.read::<NameTaken>(&paths::name(&name)).await {
            Ok(Some(found)) if ids.contains(&found.record.topology) => drop(taken.insert(found.record.topology, name)),
            Ok(Some(_)) => orphaned.push(name),
            Ok(None) => {}
            Err(ReadError::Store(error)) => return Err(error),
            // Whose it is may be told by an id that begins with it.
            Err(error) => {
                let of_it = unreadable.iter_mut().find(|(id, _)| name_of(id) == name);
                if let Some((_, why)) = of_it {
                    why.push_str(&format!("; {error}"));
                }
            }
        }
    }
    Ok((taken, orphaned))
}

/// The name that an id was formed of: `NAME-COUNT-SECONDS`.
fn name_of(id: &TopologyId) -> TopologyName {
    let text = id.as_str();
    let name = text.rsplitn(3, '-').nth(2).unwrap_or(text);
    let fits = |text: &str| TopologyName::new(text).ok();
    fits(name).or_else(|| fits(&text[..text.len().min(worker_api::ids::NAME_BYTES)])).unwrap_or_else(unnamed)
}

fn unnamed() -> TopologyName {
    TopologyName::new("unreadable").expect("it fits the grammar")
}

/// Ids that lie in a folder; what is no id is named among the oddities.
async fn ids(board: &Board, folder: &Path, oddities: &mut Vec<String>) -> Result<BTreeSet<TopologyId>, StoreError> {
    let mut ids = BTreeSet::new();
    for name in board.children(folder).await? {
        match TopologyId::new(name) {
            Ok(id) => drop(ids.insert(id)),
            Err(bad) => oddities.push(format!("`{folder}` has something that is no topology: {bad}")),
        }
    }
    Ok(ids)
}

/// Reads who is there.
///
/// # Errors
/// If the store does not answer.
pub(crate) async fn daemons(board: &Board) -> Result<Daemons, StoreError> {
    let mut daemons = Daemons::default();
    for name in board.children(&paths::supervisors()).await? {
        let Ok(id) = SupervisorId::new(name) else { continue };
        match board.read::<Supervisor>(&paths::supervisor(&id)).await {
            Ok(Some(found)) => drop(daemons.supervisors.insert(id, found.record)),
            Ok(None) => {}
            Err(ReadError::Store(error)) => return Err(error),
            Err(unreadable) => daemons.unreadable.push(unreadable.to_string()),
        }
    }
    for name in board.children(&paths::nimbuses()).await? {
        let Ok(id) = name.parse() else { continue };
        match board.read::<Nimbus>(&paths::nimbus(&id)).await {
            Ok(Some(found)) => daemons.nimbuses.push(found.record),
            Ok(None) => {}
            Err(ReadError::Store(error)) => return Err(error),
            Err(unreadable) => daemons.unreadable.push(unreadable.to_string()),
        }
    }
    Ok(daemons)
}
