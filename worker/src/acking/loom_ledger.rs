//! Model of a ledger in which last acks, fails, time-outs and the owner coincide, in every order that loom can find.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p worker --lib loom`
//!
//! Not here: whole trees (`trees`). Invariant: a root ends once, by an outcome that was told of it and of no other.

use std::sync::Arc;
use std::task::{Context, Waker};

use loom::thread::{JoinHandle, spawn};
use topology_api::anchor::{Anchor, Edge, Generation, LedgerId, Root};
use topology_api::fail::{FailKind, FailReason};

use super::{Ended, Ledger, Outcomes, Pending};

const ONE: u64 = 0b0110;
const OTHER: u64 = 0b0011;

struct Owner(Pending);

impl Owner {
    fn new() -> Self {
        Owner(Pending::new(Arc::new(Ledger::new(LedgerId(1), 1, Generation(9))), Some(1_000)))
    }

    fn open(&mut self, word: u64) -> Root {
        let root = self.0.open_one(0).unwrap();
        self.0.set_word(root, Edge(word));
        root
    }

    fn take(&mut self, ended: &mut Ended) {
        let mut outcomes = Outcomes::default();
        let ledger = self.0.ledger().clone();
        if ledger.poll_outcomes(&mut Context::from_waker(Waker::noop()), &mut outcomes).is_ready() {
            self.0.take(&mut outcomes, 0, ended);
        }
    }

    fn ack(&self, root: Root, edge: u64) -> JoinHandle<()> {
        let ledger = self.0.ledger().clone();
        spawn(move || settle(&ledger, root, edge))
    }

    fn fail(&self, root: Root, kind: FailKind) -> JoinHandle<()> {
        let ledger = self.0.ledger().clone();
        spawn(move || ledger.fail(root, FailReason::new(kind, "", "")))
    }
}

fn settle(ledger: &Ledger, root: Root, edge: u64) {
    let mut completed = Vec::new();
    ledger.settle(&[Anchor { root, edge: Edge(edge) }], &mut completed);
    ledger.hand_over(&mut completed);
}

fn join<const N: usize>(threads: [JoinHandle<()>; N]) {
    for thread in threads {
        thread.join().unwrap();
    }
}

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

#[test]
fn two_last_acks_complete_a_root_once() {
    model(|| {
        let mut owner = Owner::new();
        let root = owner.open(ONE ^ OTHER);
        let acks = [owner.ack(root, ONE), owner.ack(root, OTHER)];
        let mut ended = Ended::default();
        owner.take(&mut ended);
        join(acks);
        owner.take(&mut ended);
        assert_eq!((ended.acked.len(), ended.failed.len()), (1, 0));
        assert_eq!((owner.0.pending(), owner.0.counts().stale), (0, 0));
    });
}

#[test]
fn a_root_ends_once_when_time_out_fail_and_last_ack_coincide() {
    model(|| {
        let mut owner = Owner::new();
        let root = owner.open(ONE);
        let others = [owner.ack(root, ONE), owner.fail(root, FailKind::Failed), owner.fail(root, FailKind::TimedOut)];
        let mut ended = Ended::default();
        owner.take(&mut ended);
        join(others);
        owner.take(&mut ended);
        assert_eq!(ended.acked.len() + ended.failed.len(), 1, "{ended:?}");
        assert_eq!(owner.0.pending(), 0);
    });
}

#[test]
fn what_comes_for_the_last_root_never_ends_the_next() {
    model(|| {
        let mut owner = Owner::new();
        let first = owner.open(ONE ^ OTHER);
        let others = [owner.ack(first, ONE), owner.fail(first, FailKind::TimedOut), owner.ack(first, OTHER)];
        let mut ended = Ended::default();
        owner.take(&mut ended);
        // The slot's next root, if the first has ended by now. Its edge is such that a late ack could not miss it.
        let next = (owner.0.pending() == 0).then(|| owner.open(ONE));
        let of_first = std::mem::take(&mut ended);
        join(others);
        owner.take(&mut ended);
        match next {
            None => assert_eq!(ended.acked.len() + ended.failed.len(), 1),
            Some(next) => {
                assert_eq!(of_first.acked.len() + of_first.failed.len(), 1);
                assert_ne!(next, first);
                assert_eq!(ended, Ended::default(), "nobody has acked or failed the next root");
                // A late ack may have broken its word, then it stays unfinished; it never ends by anything but its own.
                settle(owner.0.ledger(), next, ONE);
                owner.take(&mut ended);
                assert!(ended.failed.is_empty());
                assert_eq!(ended.acked.len() + owner.0.pending(), 1);
            }
        }
    });
}

#[test]
fn held_roots_are_counted_down_whenever_they_end() {
    model(|| {
        let mut owner = Owner::new();
        let root = owner.open(ONE);
        let ledger = owner.0.ledger().clone();
        let others = [spawn(move || ledger.held(&[root])), owner.ack(root, ONE)];
        let mut ended = Ended::default();
        owner.0.audit(0, &mut ended);
        owner.take(&mut ended);
        join(others);
        owner.take(&mut ended);
        assert_eq!((ended.acked.len(), owner.0.pending(), owner.0.held()), (1, 0, 0));
    });
}
