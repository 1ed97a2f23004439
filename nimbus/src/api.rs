//! What a Nimbus is asked, without HTTP: the same for the routes and for a simulation.
//!
//! Not here: answering (`process`, `blobs`). Invariant: every answer is bounded in time by the cluster state's own bounds; a
//! Nimbus that ends answers [`FailureKind::NotLeader`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use cluster_state::records::Leader;
use futures_util::Stream;
use nimbus_api::cluster::{Cluster, MachineSummary};
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::machine::{MachineAnswer, MachineReport};
use nimbus_api::submission::{Blob, Submission, Submitted};
use nimbus_api::topology::{Topology, TopologySummary};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use worker_api::answer::Answer;
use worker_api::check_format;
use worker_api::ids::BlobHash;
use worker_api::report::{REPORT_FORMAT, Report};

use crate::blobs::{Blobs, Extent, Refused, missing};
use crate::process::{Command, Reply, Request};

/// Asks a Nimbus; a cheap clone. All of it may be dropped while it waits; what was asked may happen nevertheless.
#[derive(Clone)]
pub struct Api {
    requests: mpsc::Sender<Request>,
    blobs: Arc<Blobs>,
    /// As it may be shown.
    configuration: Arc<BTreeMap<String, Value>>,
    leader: watch::Receiver<Option<Leader>>,
}

impl Api {
    pub(crate) fn new(
        requests: mpsc::Sender<Request>,
        blobs: Arc<Blobs>,
        configuration: Arc<BTreeMap<String, Value>>,
        leader: watch::Receiver<Option<Leader>>,
    ) -> Self {
        Api { requests, blobs, configuration, leader }
    }

    /// The cluster at a glance.
    ///
    /// # Errors
    /// If another Nimbus leads.
    pub async fn cluster(&self) -> Result<Cluster, Failure> {
        self.ask(Request::Cluster).await
    }

    /// The Nimbus that this one follows; `None` if it leads, or knows of no leader.
    pub fn leader(&self) -> Option<Leader> {
        self.leader.borrow().clone()
    }

    /// The cluster by the records alone, without what machines report: for when the leader does not answer, which `why` says.
    ///
    /// # Errors
    /// If this Nimbus has not read the records.
    pub async fn cluster_by_records(&self, why: String) -> Result<Cluster, Failure> {
        self.ask(|reply| Request::ClusterByRecords(why, reply)).await
    }

    /// One topology, by name or id, by the records alone.
    ///
    /// # Errors
    /// If there is none, or this Nimbus has not read the records.
    pub async fn topology_by_records(&self, name_or_id: &str) -> Result<Box<Topology>, Failure> {
        self.ask(|reply| Request::TopologyByRecords(name_or_id.to_owned(), reply)).await
    }

    /// The cluster's configuration, without secrets.
    pub fn configuration(&self) -> &BTreeMap<String, Value> {
        &self.configuration
    }

    /// One topology, by name or id.
    ///
    /// # Errors
    /// If there is none, another Nimbus leads, or the cluster state is away and nothing is known.
    pub async fn topology(&self, name_or_id: &str) -> Result<Box<Topology>, Failure> {
        self.ask(|reply| Request::Topology(name_or_id.to_owned(), reply)).await
    }

    /// A topology shall run.
    ///
    /// # Errors
    /// If it makes no sense, its name is taken, its blobs are not here, another Nimbus leads, or the cluster state is away.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, Failure> {
        self.ask(|reply| Request::Submit(Box::new(submission), reply)).await
    }

    /// A topology, by name or id, shall change.
    ///
    /// # Errors
    /// If there is none, its state does not allow it, another Nimbus leads, or the cluster state is away.
    pub async fn command(&self, name_or_id: &str, command: Command) -> Result<TopologySummary, Failure> {
        self.ask(|reply| Request::Command(name_or_id.to_owned(), command, reply)).await
    }

    /// The machines of this host name, or with this id, shall have no work, or may have it again.
    ///
    /// # Errors
    /// [`FailureKind::NotFound`] if there is none; as [`Api::command`].
    pub async fn drain(&self, host_or_id: &str, drained: bool) -> Result<Vec<MachineSummary>, Failure> {
        self.ask(|reply| Request::Drain(host_or_id.to_owned(), drained, reply)).await
    }

    /// A Supervisor reports.
    ///
    /// # Errors
    /// If another Nimbus leads, or the cluster state is away and nothing is known.
    pub async fn report_machine(&self, report: MachineReport) -> Result<MachineAnswer, Failure> {
        self.ask(|reply| Request::Machine(Box::new(report), reply)).await
    }

    /// A worker reports by itself.
    ///
    /// # Errors
    /// As [`Api::report_machine`], or if its format is not known here.
    pub async fn report_worker(&self, report: Report) -> Result<Answer, Failure> {
        check_format("worker's report", REPORT_FORMAT, report.format)
            .map_err(|wrong| FailureKind::BadRequest.with(wrong.to_string()))?;
        self.ask(|reply| Request::Worker(Box::new(report), reply)).await
    }

    /// All blobs on this Nimbus's disk, parts among them, by hash.
    pub async fn blobs(&self) -> Vec<Blob> {
        self.blobs.list().await
    }

    /// How much of a blob is here. Who asks means to upload or submit it: what is here is pinned.
    ///
    /// # Errors
    /// If nothing of it is.
    pub async fn blob_state(&self, hash: &BlobHash) -> Result<Extent, Failure> {
        self.blobs.pin(hash).await.ok_or_else(|| missing(hash))
    }

    /// Appends a piece of an upload (one of bytes that are all there is `stream::iter([Ok::<_, Infallible>(bytes)])`) at
    /// `offset`; `length` is that of the whole blob. What came of a piece that was cut short stays.
    ///
    /// # Errors
    /// If it begins elsewhere, is longer than it may be, was cut short, does not fit its hash, or the disk.
    pub async fn append<E: fmt::Display>(
        &self,
        hash: &BlobHash,
        offset: u64,
        length: u64,
        piece: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Extent, Refused> {
        self.blobs.append(hash, offset, length, piece).await
    }

    /// At most 256 KiB of a blob from `from` on, none from its end on; and its whole length.
    ///
    /// # Errors
    /// If it is not here, or is damaged.
    pub async fn piece(&self, hash: &BlobHash, from: u64) -> Result<(Bytes, u64), Failure> {
        self.blobs.piece(hash, from).await
    }

    /// Which of these blobs are here, complete; nothing is pinned by asking.
    pub fn held(&self, hashes: &[BlobHash]) -> Vec<BlobHash> {
        hashes.iter().filter(|hash| self.blobs.complete(hash).is_some()).cloned().collect()
    }

    /// Asks the loop, and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let stops = || FailureKind::NotLeader.with("this Nimbus is stopping");
        self.requests.send(request(reply)).await.map_err(|_| stops())?;
        answer.await.map_err(|_| stops())?
    }
}
