//! Writing records: submissions, states, plans, and their end. Each write checks the guard of the lead.
//!
//! A plan's parts are written before the head that names them, and parts that no head names are deleted after it: whoever
//! reads a head finds its parts, or a newer head.
//!
//! Not here: what to write. Invariants: a leader that slept writes nothing; a record is only replaced if it says what this
//! leader knows of it.

use cluster_state::board::{Board, Change, ReadError};
use cluster_state::paths;
use cluster_state::records::{Drained, NameTaken, PlanHead, Record, Submissions, Topology, TopologySecret};
use cluster_state::store::{Conflict, Path, StoreError, Version};
use mutations::Mutation;
use worker_api::ids::{BlobHash, SupervisorId, TopologyId, TopologyName};
use worker_api::secret::Secret;

use crate::scheduling::PlanRecords;

/// Deletions in one transaction.
const DELETED_AT_ONCE: usize = 256;

/// Writes under one lead.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) board: std::sync::Arc<Board>,
    /// Names the guard.
    pub(crate) token: BlobHash,
}

/// Why it was not written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// This Nimbus leads no more: nothing was written.
    #[error("another Nimbus leads by now, or the session with the cluster state was lost")]
    NotLeading,
    /// The records are not what this leader knows: nothing was written.
    #[error("{0}")]
    Changed(StoreError),
    /// The store did not do it.
    #[error(transparent)]
    Store(StoreError),
    /// What is there cannot be understood.
    #[error("{0}")]
    Unreadable(String),
}

impl From<ReadError> for WriteError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => WriteError::Store(error),
            unreadable => WriteError::Unreadable(unreadable.to_string()),
        }
    }
}

impl Writer {
    /// Stores a submission: topology, name, secret, and the count that its id has, all or nothing.
    ///
    /// # Errors
    /// Any; [`WriteError::Changed`] names what was in the way.
    pub(crate) async fn submit(&self, topology: Topology, secret: Secret, count: u64) -> Result<(), WriteError> {
        let path = paths::submissions();
        let before = self.board.read::<Submissions>(&path).await?;
        let change = match before {
            Some(before) if before.record.count + 1 == count => {
                self.change().set(path, Submissions { count }, before.version)
            }
            None if count == 1 => self.change().create(path, Submissions { count }),
            _ => return Err(changed(path)),
        };
        let id = topology.id.clone();
        let change = change
            .create(paths::name(&topology.name), NameTaken { topology: id.clone() })
            .create(paths::secret(&id), TopologySecret { secret })
            .create(paths::topology(&id), topology);
        self.commit(change).await
    }

    /// Replaces a topology's record.
    ///
    /// # Errors
    /// Any.
    pub(crate) async fn set(&self, before: &Topology, after: Topology) -> Result<(), WriteError> {
        let path = paths::topology(&before.id);
        let version = self.unchanged(&path, before).await?;
        self.commit(self.change().set(path, after, version)).await
    }

    /// Replaces a topology's record, and removes its plan: both or neither.
    ///
    /// # Errors
    /// Any.
    pub(crate) async fn remove_plan(&self, before: &Topology, after: Topology) -> Result<(), WriteError> {
        let (path, head) = (paths::topology(&before.id), paths::plan_head(&before.id));
        let version = self.unchanged(&path, before).await?;
        let mut change = self.change().set(path, after, version);
        if self.there(&paths::plan(&before.id), "head").await? {
            change = change.delete(head);
        }
        self.commit(change).await?;
        self.delete_parts(&before.id, &[]).await
    }

    /// Makes this plan the one that holds.
    ///
    /// # Errors
    /// Any.
    pub(crate) async fn plan(&self, id: &TopologyId, records: PlanRecords) -> Result<(), WriteError> {
        let there = self.board.children(&paths::plan_parts(id)).await.map_err(WriteError::Store)?;
        for (hash, part) in &records.parts {
            // A part never changes: one of this name says the same.
            if !there.iter().any(|name| name == hash.as_str()) {
                self.commit(self.change().create(paths::plan_part(id, hash), part.clone())).await?;
            }
        }
        let path = paths::plan_head(id);
        let before = self.board.read::<PlanHead>(&path).await?;
        let version = records.head.version.0;
        let change = match before {
            Some(before) if before.record.version.0 + 1 == version => {
                self.change().set(path, records.head, before.version)
            }
            None if version == 1 => self.change().create(path, records.head),
            _ => return Err(changed(path)),
        };
        // Its topology has not gone meanwhile.
        self.commit(change.check(paths::topology(id))).await?;
        let named: Vec<&BlobHash> = records.parts.keys().collect();
        self.delete_parts(id, &named).await
    }

    /// Removes whatever is left of a topology; `name` is given free if it is this topology's.
    ///
    /// # Errors
    /// Any.
    pub(crate) async fn remove(&self, id: &TopologyId, name: Option<&TopologyName>) -> Result<(), WriteError> {
        let mut change = self.change();
        if self.there(&paths::plan(id), "head").await? {
            change = change.delete(paths::plan_head(id));
        }
        for (folder, path) in [(paths::secrets(), paths::secret(id)), (paths::topologies(), paths::topology(id))] {
            if self.there(&folder, id.as_str()).await? {
                change = change.delete(path);
            }
        }
        if let Some(name) = name {
            let taken = self.board.read::<NameTaken>(&paths::name(name)).await;
            if match taken {
                Ok(taken) => taken.is_some_and(|taken| taken.record.topology == *id),
                Err(ReadError::Unreadable { .. }) => true,
                Err(error) => return Err(error.into()),
            } {
                change = change.delete(paths::name(name));
            }
        }
        self.commit(change).await?;
        self.delete_parts(id, &[]).await
    }

    /// Has machines drained: all of these or none.
    ///
    /// # Errors
    /// Any.
    pub(crate) async fn drain(&self, machines: &[Drained]) -> Result<(), WriteError> {
        let create =
            |change: Change, machine: &Drained| change.create(paths::drained_machine(&machine.id), machine.clone());
        self.commit(machines.iter().fold(self.change(), create)).await
    }

    /// Has machines drained no more: all of these or none.
    ///
    /// # Errors
    /// Any.
    pub(crate) async fn undrain(&self, machines: &[SupervisorId]) -> Result<(), WriteError> {
        let delete = |change: Change, id: &SupervisorId| change.delete(paths::drained_machine(id));
        self.commit(machines.iter().fold(self.change(), delete)).await
    }

    /// Gives a name free that nobody has.
    ///
    /// # Errors
    /// Any.
    pub(crate) async fn free_name(&self, name: &TopologyName) -> Result<(), WriteError> {
        self.commit(self.change().delete(paths::name(name))).await
    }

    /// Deletes the parts of a plan but these.
    async fn delete_parts(&self, id: &TopologyId, named: &[&BlobHash]) -> Result<(), WriteError> {
        let there = self.board.children(&paths::plan_parts(id)).await.map_err(WriteError::Store)?;
        let there = there.into_iter().filter_map(|name| BlobHash::try_from(name).ok());
        let stale: Vec<BlobHash> = there.filter(|hash| !named.contains(&hash)).collect();
        for stale in stale.chunks(DELETED_AT_ONCE) {
            let delete = |change: Change, hash| change.delete(paths::plan_part(id, hash));
            self.commit(stale.iter().fold(self.change(), delete)).await?;
        }
        Ok(())
    }

    /// The version of a record that says what it should.
    async fn unchanged<R: Record + PartialEq>(&self, path: &Path, known: &R) -> Result<Version, WriteError> {
        match self.board.read::<R>(path).await? {
            Some(found) if found.record == *known => Ok(found.version),
            _ => Err(changed(path.clone())),
        }
    }

    async fn there(&self, folder: &Path, name: &str) -> Result<bool, WriteError> {
        let names = self.board.children(folder).await.map_err(WriteError::Store)?;
        Ok(names.iter().any(|found| found == name))
    }

    fn change(&self) -> Change {
        if mutations::on(Mutation::UnguardedLeaderWrite) {
            return self.board.change();
        }
        self.board.change().check(paths::lead(&self.token))
    }

    async fn commit(&self, change: Change) -> Result<(), WriteError> {
        self.board.commit(change).await.map_err(|error| match &error {
            StoreError::Conflict { path, .. } if *path == paths::lead(&self.token) => WriteError::NotLeading,
            StoreError::Conflict { .. } => WriteError::Changed(error),
            _ => WriteError::Store(error),
        })
    }
}

fn changed(path: Path) -> WriteError {
    WriteError::Changed(StoreError::Conflict { path, conflict: Conflict::Changed })
}
