//! Where acks and fails go: straight into the ledgers of this worker, over links to those of others.
//!
//! Not here: the ledgers (`acking`). Invariant: an executor hands over what a turn settled before it waits for anything.

use std::sync::Arc;

use mutations::Mutation;
use topology_api::anchor::{Anchor, LedgerId, Root};
use topology_api::batch::Anchors;
use topology_api::fail::FailReason;
use topology_api::output::Outbox;

use crate::acking::{AckRecord, Ledger, worker_bits};
use crate::transfer::connection::LinkHandle;
use worker_api::ids::{Incarnation, WorkerIndex};

/// Where each spout task's ledger is.
#[derive(Clone)]
pub(crate) enum Place {
    /// In this worker.
    Here(Arc<Ledger>),
    /// In another, reached by its link.
    There(WorkerIndex),
}

/// All ledgers of the topology, by number, and the links to the other workers.
pub(crate) struct Ledgers {
    pub(crate) places: Vec<Place>,
    /// By worker; none for this one.
    pub(crate) links: Vec<Option<LinkHandle>>,
}

impl Ledgers {
    pub(crate) fn place(&self, ledger: LedgerId) -> Option<&Place> {
        self.places.get(usize::from(ledger.0))
    }

    fn link(&self, worker: WorkerIndex) -> Option<&LinkHandle> {
        self.links.get(usize::from(worker.0))?.as_ref()
    }

    /// Fails a root, wherever its ledger is. A root of no ledger is nobody's.
    pub(crate) fn fail(&self, root: Root, reason: &FailReason) {
        match self.place(root.ledger()) {
            Some(Place::Here(ledger)) => ledger.fail(root, reason.clone()),
            Some(Place::There(_)) if mutations::on(Mutation::LostFail) => {}
            Some(Place::There(worker)) => {
                if let Some(link) = self.link(*worker) {
                    link.fail(root, reason.clone());
                }
            }
            None => {}
        }
    }
}

/// One executor's way to all ledgers.
pub(crate) struct Settling {
    ledgers: Arc<Ledgers>,
    completed: Vec<Root>,
    remote: Vec<AckRecord>,
}

impl Settling {
    pub(crate) fn new(ledgers: Arc<Ledgers>) -> Self {
        Settling { ledgers, completed: Vec::new(), remote: Vec::new() }
    }

    /// Hands over what a turn left in the outbox: acks, fails, and what is held.
    pub(crate) fn settle(&mut self, outbox: &mut Outbox) {
        for run in outbox.acks.chunk_by(|a, b| a.root.ledger() == b.root.ledger()) {
            match self.ledgers.place(run[0].root.ledger()) {
                Some(Place::Here(ledger)) => {
                    ledger.settle(run, &mut self.completed);
                    ledger.hand_over(&mut self.completed);
                }
                Some(Place::There(worker)) => {
                    let record = |anchor: &Anchor| AckRecord { root: anchor.root, edge: anchor.edge.0, mask: 0 };
                    self.remote.extend(run.iter().map(record));
                    send(&self.ledgers, Some(*worker), &mut self.remote);
                }
                // Tuples of no tree are among the acked ones.
                None => {}
            }
        }
        outbox.acks.clear();
        for (root, reason) in outbox.fails.drain(..) {
            self.ledgers.fail(root, &reason);
        }
        for root in outbox.held.drain(..) {
            match self.ledgers.place(root.ledger()) {
                Some(Place::Here(ledger)) => ledger.held(&[root]),
                Some(Place::There(worker)) => {
                    if let Some(link) = self.ledgers.link(*worker) {
                        link.held([root]);
                    }
                }
                None => {}
            }
        }
    }

    pub(crate) fn fail(&self, root: Root, reason: &FailReason) {
        self.ledgers.fail(root, reason);
    }

    /// A batch with these anchors goes to a worker: each root is marked with it, here or over the link to its ledger.
    pub(crate) fn goes_to(&mut self, worker: WorkerIndex, life: Option<Incarnation>, anchors: &Anchors) {
        let mask = worker_bits(worker, life);
        let mut marked = Root::NONE;
        let mut home = None;
        anchors.for_each(|Anchor { root, .. }| {
            if root == marked {
                return;
            }
            marked = root;
            match self.ledgers.place(root.ledger()) {
                Some(Place::Here(ledger)) => ledger.touch(root, mask),
                // Its own worker's loss takes the ledger with it.
                Some(Place::There(there)) if *there == worker => {}
                Some(Place::There(there)) => {
                    if home != Some(*there) {
                        send(&self.ledgers, home, &mut self.remote);
                        home = Some(*there);
                    }
                    self.remote.push(AckRecord { root, edge: 0, mask });
                }
                None => {}
            }
        });
        send(&self.ledgers, home, &mut self.remote);
    }
}

/// Sends records to the ledgers of a worker, and empties the list.
fn send(ledgers: &Ledgers, worker: Option<WorkerIndex>, records: &mut Vec<AckRecord>) {
    match worker.and_then(|worker| ledgers.link(worker)) {
        Some(link) => link.acks(records),
        None => records.clear(),
    }
}
