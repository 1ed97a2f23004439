//! Follows the cluster state: says that this machine may get work, and what the plans want of it.
//!
//! Not here: what follows from it (`reconcile`). Invariants: what was seen is told as a whole, from reads that all succeeded; a store
//! that is away, now or for days, changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::board::{Board, ReadError};
use cluster_state::records::{PlanHead, Record, Submissions, Supervisor, Topology, TopologySecret};
use cluster_state::store::{Conflict, StoreError};
use cluster_state::{paths, plans};
use mutations::Mutation;
use tokio::sync::{Notify, watch};
use worker_api::ids::{PlanVersion, SupervisorId, TopologyId};

use crate::reconcile::{Followed, Placed, Seen};

/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// Follows the cluster state until it is dropped.
pub(crate) struct Follower {
    /// Read and written through this.
    pub(crate) board: Arc<Board>,
    /// What is said of this machine.
    pub(crate) record: Supervisor,
    /// Where what was seen is told.
    pub(crate) seen: watch::Sender<Option<Arc<Seen>>>,
    /// Somebody knows of a newer plan.
    pub(crate) look: Arc<Notify>,
}

/// What has been read of the topologies that have something here: only their status is read again while their plan stays.
type Known = BTreeMap<TopologyId, (PlanVersion, Arc<Followed>)>;

impl Follower {
    /// Never returns.
    pub(crate) async fn run(self) {
        let mut topologies = self.board.watch(&paths::topologies());
        let mut plans = self.board.watch(&paths::plans());
        let mut enrolled = None;
        let mut known = Known::new();
        let mut failing = false;
        loop {
            let session = self.board.session();
            let mut failed = None;
            if session.connected {
                // First, for after a write nothing is read that is older than what a life before this one has followed.
                if enrolled != Some(session.epoch) {
                    match enroll(&self.board, &self.record).await {
                        Ok(()) => enrolled = Some(session.epoch),
                        Err(error) => failed = Some(error),
                    }
                }
                match read(&self.board, &self.record.id, &mut known).await {
                    Ok(seen) => {
                        self.seen.send_if_modified(|before| {
                            let differs = before.as_deref() != Some(&seen);
                            if differs {
                                *before = Some(Arc::new(seen));
                            }
                            differs
                        });
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if mutations::on(Mutation::WatchMissed) {
                (topologies, plans) = (self.board.watch(&paths::topologies()), self.board.watch(&paths::plans()));
            }
            match &failed {
                Some(error) if !failing => tracing::warn!("{error}; workers go on as they are"),
                None if failing && session.connected => tracing::info!("the cluster state answers again"),
                _ => {}
            }
            failing = failed.is_some();
            let again = async {
                match failed {
                    Some(_) => tokio::time::sleep(AGAIN).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = topologies.changed() => {}
                () = plans.changed() => {}
                _ = self.board.session_changed(session) => {}
                () = self.look.notified() => {}
                () = again => {}
            }
        }
    }
}

/// This machine may get work, for as long as this session lasts.
async fn enroll(board: &Board, record: &Supervisor) -> Result<(), StoreError> {
    let path = paths::supervisor(&record.id);
    let first = board.change().create_ephemeral(path.clone(), record.clone());
    match board.commit(first).await {
        // Left by the session before, which the store has not given up yet.
        Err(StoreError::Conflict { conflict: Conflict::Exists, .. }) => {
            board.commit(board.change().delete(path.clone()).create_ephemeral(path, record.clone())).await
        }
        answer => answer,
    }
}

/// This machine gets no work any more.
pub(crate) async fn leave(board: &Board, id: &SupervisorId) -> Result<(), StoreError> {
    board.commit(board.change().delete(paths::supervisor(id))).await
}

async fn read(board: &Board, me: &SupervisorId, known: &mut Known) -> Result<Seen, StoreError> {
    let mut seen = Seen::default();
    let mut kept = Known::new();
    for name in board.children(&paths::topologies()).await? {
        let id = match name.parse::<TopologyId>() {
            Ok(id) => id,
            Err(error) => {
                tracing::warn!("a record of a topology is passed over: {error}");
                continue;
            }
        };
        match topology(board, me, &id, known.remove(&id)).await {
            Ok(Found::Here(version, followed)) => {
                kept.insert(id.clone(), (version, followed.clone()));
                seen.here.insert(id, followed);
            }
            Ok(Found::Elsewhere) => drop(seen.elsewhere.insert(id)),
            Ok(Found::Gone) => {}
            Err(ReadError::Store(error)) => return Err(error),
            Err(error @ ReadError::Unreadable { .. }) => drop(seen.unreadable.insert(id, error.to_string())),
        }
    }
    // A kill leaves the count of submissions.
    let nothing = seen.here.is_empty() && seen.elsewhere.is_empty() && seen.unreadable.is_empty();
    seen.blank = nothing && is_blank(board).await?;
    *known = kept;
    Ok(seen)
}

async fn is_blank(board: &Board) -> Result<bool, StoreError> {
    match board.read::<Submissions>(&paths::submissions()).await {
        Ok(found) => Ok(found.is_none()),
        Err(ReadError::Store(error)) => Err(error),
        Err(ReadError::Unreadable { .. }) => Ok(false),
    }
}

/// What there is of a topology.
enum Found {
    Here(PlanVersion, Arc<Followed>),
    Elsewhere,
    Gone,
}

async fn topology(
    board: &Board,
    me: &SupervisorId,
    id: &TopologyId,
    known: Option<(PlanVersion, Arc<Followed>)>,
) -> Result<Found, ReadError> {
    let Some(head) = board.read::<PlanHead>(&paths::plan_head(id)).await? else { return Ok(Found::Gone) };
    if !head.record.parts.contains_key(me) {
        return Ok(Found::Elsewhere);
    }
    let Some(topology) = board.read::<Topology>(&paths::topology(id)).await? else { return Ok(Found::Gone) };
    let topology = topology.record;
    if let Some((version, followed)) = known.filter(|(version, _)| *version == head.record.version) {
        if followed.topology == topology {
            return Ok(Found::Here(version, followed));
        }
        return Ok(Found::Here(version, Arc::new(Followed { topology, ..Followed::clone(&followed) })));
    }
    let Some(plan) = plans::read(board, id).await? else { return Ok(Found::Gone) };
    let Some(part) = plan.parts.get(me) else { return Ok(Found::Elsewhere) };
    let path = paths::secret(id);
    let Some(secret) = board.read::<TopologySecret>(&path).await? else {
        // Damage, or a removal that is under way and tells of its next step.
        let why = "it is not there".to_owned();
        return Err(ReadError::Unreadable { what: TopologySecret::WHAT, path, why });
    };
    let placed = |(worker, placed): (_, &cluster_state::records::Placed)| {
        placed.port.map(|port| (port, Placed { worker, version: placed.version }))
    };
    let slots = part.workers.iter().filter_map(|(worker, at)| placed((*worker, at))).collect();
    let placement = plan.placement();
    let followed = Followed { topology, placement, slots, secret: secret.record.secret };
    Ok(Found::Here(plan.head.version, Arc::new(followed)))
}
