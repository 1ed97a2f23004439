//! The ways out of an executor: to inboxes of its own worker and over links to others.
//!
//! Not here: which way a batch goes (routing), and what a link does with it. Invariant: a batch that crosses to a worker
//! leaves a mark with each of its roots before it can get there, so that the worker's death finds them.

use std::sync::Arc;

use bytes::Bytes;
use topology_api::anchor::EdgeIds;
use topology_api::batch::Anchors;
use topology_api::fail::{FailKind, FailReason};
use topology_api::ids::TaskId;
use topology_api::output::{Outgoing, Rooms};

use crate::executor::Phase;
use crate::inbox::{Budget, Content, Envelope, Inbox, WireBatch};
use crate::settling::Settling;
use crate::stats::ExecutorStats;
use crate::transfer::connection::LinkHandle;
use crate::transfer::frame::{Data, End};
use crate::watch;
use worker_api::report::Doing;

/// One way out.
pub(crate) enum Outlet {
    /// To a task of the same worker.
    Local {
        /// The task.
        task: TaskId,
        /// Its executor's inbox.
        inbox: Inbox,
        /// Whether the edge closes a cycle: then nobody waits.
        closes_cycle: bool,
    },
    /// To tasks of another worker.
    Remote {
        /// The tasks, one or (for a copy to each) several.
        tasks: Vec<TaskId>,
        /// The link.
        link: LinkHandle,
        /// As above.
        closes_cycle: bool,
    },
}

/// The ways out of one executor, numbered as its routes know them.
pub(crate) struct Outlets {
    outlets: Vec<Outlet>,
    budget: Arc<Budget>,
    /// Batches go as bytes inside the worker too: what a test asks for.
    always_serialize: bool,
    /// For what is sent as bytes.
    edges: EdgeIds,
    buffer: Vec<u8>,
}

/// What an outlet's delivery needs of its executor.
pub(crate) struct Delivery<'a> {
    pub(crate) source: TaskId,
    pub(crate) component: &'a str,
    pub(crate) stats: &'a ExecutorStats,
    pub(crate) settling: &'a mut Settling,
    pub(crate) phase: &'a mut watch::Receiver<Phase>,
    pub(crate) now_us: u64,
    /// Whether it had to wait.
    pub(crate) waited: bool,
}

impl Delivery<'_> {
    /// Waits for room at a task; false if the topology stops first, and the room may never come.
    async fn waits_for(&mut self, task: TaskId, room: impl Future<Output = ()>) -> bool {
        self.stats.doing(Doing::WaitingForRoom(task), self.now_us);
        self.waited = true;
        tokio::select! {
            biased;
            _ = self.phase.wait_for(|phase| *phase == Phase::Stopping) => false,
            () = room => true,
        }
    }
}

impl Outlets {
    pub(crate) fn new(outlets: Vec<Outlet>, budget: Arc<Budget>, always_serialize: bool, edges: EdgeIds) -> Self {
        Outlets { outlets, budget, always_serialize, edges, buffer: Vec::new() }
    }

    /// Delivers one batch, once there is room for it. If the topology stops while it waits, the batch is dropped: its roots
    /// fail with the rest of what is pending.
    pub(crate) async fn deliver(&mut self, outgoing: Outgoing, delivery: &mut Delivery<'_>) {
        let Outgoing { outlet, stream, batch } = outgoing;
        let source = delivery.source;
        match &self.outlets[outlet as usize] {
            Outlet::Local { task, inbox, closes_cycle } => {
                if *closes_cycle {
                    if !self.budget.has_room() {
                        overflow(batch.anchors(), delivery);
                        return;
                    }
                } else if !inbox.has_room() && !delivery.waits_for(*task, inbox.room()).await {
                    return;
                }
                let content = if self.always_serialize {
                    let tuples = batch.len() as u32;
                    let payload = encode(&mut self.buffer, |out| batch.encode(1, &mut self.edges, out));
                    Content::Wire(WireBatch { from: None, payload, receiver: 0, tuples })
                } else {
                    Content::Batch(batch)
                };
                let envelope = Envelope { to: *task, source, stream, content };
                if *closes_cycle { inbox.put_returning(envelope) } else { inbox.put(envelope) }
            }
            Outlet::Remote { tasks, link, closes_cycle } => {
                if *closes_cycle {
                    if !tasks.iter().all(|task| link.has_room(*task)) {
                        overflow(batch.anchors(), delivery);
                        return;
                    }
                } else {
                    for task in tasks {
                        if !link.has_room(*task) && !delivery.waits_for(*task, link.room(*task)).await {
                            return;
                        }
                    }
                }
                let tuples = batch.len() as u32;
                let payload = encode(&mut self.buffer, |out| batch.encode(tasks.len() as u16, &mut self.edges, out));
                let life = link.peer_incarnation();
                delivery.settling.goes_to(link.peer(), life, batch.anchors());
                let data = Data { source, stream, targets: tasks.clone(), tuples, payload };
                if let Err(error) = link.send_data(data) {
                    let reason = FailReason::new(FailKind::Malformed, delivery.component, error.to_string());
                    batch.anchors().for_each(|anchor| delivery.settling.fail(anchor.root, &reason));
                    delivery.stats.error(format!("could not send {tuples} tuples: {error}"), delivery.now_us);
                }
                let now = link.peer_incarnation();
                if now != life {
                    // The peer was replaced meanwhile: the batch may go to either life of it.
                    delivery.settling.goes_to(link.peer(), now, batch.anchors());
                }
            }
        }
    }

    /// Tells every receiver of a stream's outlets that the task has ended.
    pub(crate) fn end(&self, source: TaskId, stream: u16, outlets: impl Iterator<Item = u32>) {
        for outlet in outlets {
            match &self.outlets[outlet as usize] {
                Outlet::Local { task, inbox, .. } => {
                    inbox.put(Envelope { to: *task, source, stream, content: Content::End });
                }
                Outlet::Remote { tasks, link, .. } => {
                    // Its size is bounded by the number of tasks of one worker, which fits.
                    let _ = link.end(End { source, stream, targets: tasks.clone() });
                }
            }
        }
    }
}

impl Rooms for Outlets {
    fn has_room(&self, outlet: u32) -> bool {
        match &self.outlets[outlet as usize] {
            Outlet::Local { inbox, closes_cycle, .. } => *closes_cycle || inbox.has_room(),
            Outlet::Remote { tasks, link, .. } => tasks.iter().all(|task| link.has_room(*task)),
        }
    }
}

/// Encodes into a buffer that keeps its size, and copies what was written once.
fn encode(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    buffer.clear();
    write(buffer);
    Bytes::copy_from_slice(buffer)
}

fn overflow(anchors: &Anchors, delivery: &mut Delivery<'_>) {
    let reason = FailReason::new(FailKind::CycleOverflow, delivery.component, "");
    anchors.for_each(|anchor| delivery.settling.fail(anchor.root, &reason));
}
