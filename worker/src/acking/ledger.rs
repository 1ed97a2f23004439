//! The shared side of a spout task's ledger: what any thread of the process does with an ack, a fail, a loss.
//!
//! Not here: opening and ending roots (`pending`), the slots' atomics (`word`). Invariant: nothing here ends a root; it
//! tells the owner, at most once a root for each kind of outcome, so what waits for the owner is bounded by the slots.

use std::sync::PoisonError;
use std::sync::atomic::AtomicU64 as Counter;
use std::task::{Context, Poll, Waker};

use mutations::Mutation;
use topology_api::anchor::{Anchor, Generation, LedgerId, Root, Slot};
use topology_api::fail::FailReason;

use super::atomic::{AtomicBool, AtomicU64, Mutex, Ordering};
use super::word::{Claim, Claims, GENERATION, Settled, Word, Words};
use worker_api::ids::{Incarnation, WorkerIndex};

/// What crosses to a ledger's worker about one root: acks merged by XOR, and where the tree went from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckRecord {
    /// The root.
    pub root: Root,
    /// XOR of the settled edges; zero if the record only says where the tree went.
    pub edge: u64,
    /// The [`worker_bits`] of the workers that children of the root were sent to.
    pub mask: u64,
}

/// The bits by which a root remembers an incarnation of a worker that its tree was sent to; both of a worker's if it is
/// not known which. Two lives in a row have different ones, so that the loss of the first does not fail what the second
/// got. Beyond 32 workers bits are shared, and a loss may fail more roots than those that touched the worker.
pub const fn worker_bits(worker: WorkerIndex, life: Option<Incarnation>) -> u64 {
    let first = (worker.0 as u64 * 2) % 64;
    match life {
        Some(Incarnation(life)) => 1 << (first + life % 2),
        None => 0b11 << first,
    }
}

/// The worker of a bit: its number modulo 32.
pub(super) const fn worker_of_bit(bit: u32) -> u32 {
    bit / 2
}

/// What waits for the owner of a ledger. Recycled between calls of [`Ledger::poll_outcomes`].
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Roots whose edges were all acked.
    pub completed: Vec<Root>,
    /// Roots that failed, and why.
    pub failed: Vec<(Root, FailReason)>,
    /// Roots that a bolt says it holds on purpose.
    pub held: Vec<Root>,
    /// Bits of the workers that are gone.
    pub lost: u64,
}

impl Outcomes {
    /// Whether nothing is told.
    pub fn is_empty(&self) -> bool {
        self.completed.is_empty() && self.failed.is_empty() && self.held.is_empty() && self.lost == 0
    }
}

/// What came too late, for roots that had ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StaleCounts {
    /// Acks (neighbouring ones of one root count once) and visits.
    pub acks: u64,
    /// Fails, doubles for one root included.
    pub fails: u64,
}

/// The slots of one spout task, shared by all threads of its worker.
pub struct Ledger {
    id: LedgerId,
    first: u32,
    words: Words,
    claims: Claims,
    masks: Box<[AtomicU64]>,
    crosses: AtomicBool,
    desk: Mutex<Desk>,
    /// Whether something lies on the desk, for an owner who looks often.
    told: AtomicBool,
    stale_acks: Counter,
    stale_fails: Counter,
}

/// Where the owner finds what others tell it.
#[derive(Default)]
struct Desk {
    outcomes: Outcomes,
    owner: Option<Waker>,
}

impl Ledger {
    /// A ledger of `slots` slots, at most [`Root::SLOTS`]; 28 bytes of address space a slot, memory only for those used.
    /// `first` is the generation of each slot's first root and should be random, so that what is left of an earlier ledger
    /// with the same id is stale in this one.
    pub fn new(id: LedgerId, slots: u32, first: Generation) -> Self {
        let slots = slots.min(Root::SLOTS);
        Ledger {
            id,
            first: first.0,
            words: Words::closed(slots),
            claims: Claims::none(slots),
            masks: masks(slots),
            crosses: AtomicBool::new(false),
            desk: Mutex::default(),
            told: AtomicBool::new(false),
            stale_acks: Counter::new(0),
            stale_fails: Counter::new(0),
        }
    }

    /// The spout task's number.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// The most roots that can be pending.
    pub fn slots(&self) -> u32 {
        self.words.len() as u32
    }

    /// Settles the edges of tuples that were acked here and have no children. Roots completed by that are added to
    /// `completed`, which the caller hands over once ([`Ledger::hand_over`]). Neighbouring anchors of one root cost one XOR.
    /// Anchors of other ledgers, and those that stand for several, count as stale: the caller sorts them out before.
    #[inline]
    pub fn settle(&self, acks: &[Anchor], completed: &mut Vec<Root>) {
        for run in acks.chunk_by(|one, next| one.root == next.root) {
            let edge = run.iter().fold(0, |edge, ack| edge ^ ack.edge.0);
            self.settle_one(run[0].root, edge, completed);
        }
    }

    #[inline]
    pub(super) fn settle_one(&self, root: Root, edge: u64, completed: &mut Vec<Root>) {
        let settle = |(word, mut generation): (Word<'_>, u32)| {
            if mutations::on(Mutation::CompletionByIndexAlone) {
                generation = word.generation();
            }
            word.settle(generation, edge)
        };
        match self.find(root).map_or(Settled::Stale, settle) {
            Settled::Open => {}
            Settled::Complete => completed.push(root),
            Settled::Stale => count(&self.stale_acks),
        }
    }

    /// Tells the owner what is complete, and wakes it once; `completed` is empty afterwards.
    pub fn hand_over(&self, completed: &mut Vec<Root>) {
        if completed.is_empty() {
            return;
        }
        self.tell(|outcomes| {
            if outcomes.completed.is_empty() {
                std::mem::swap(&mut outcomes.completed, completed);
            } else {
                outcomes.completed.append(completed);
            }
        });
    }

    /// Takes what another worker sent about roots of this ledger: marks where the trees went, settles, tells the owner.
    pub fn settle_remote(&self, acks: &[AckRecord]) {
        let mut completed = Vec::new();
        for &AckRecord { root, edge, mask } in acks {
            // First the mask: once the edge is settled, the root may depend on the workers in it alone.
            if mask != 0 {
                self.touch(root, mask);
            }
            if edge != 0 {
                self.settle_one(root, edge, &mut completed);
            }
        }
        self.hand_over(&mut completed);
    }

    /// Marks that a tuple of the root goes to the workers in `mask`; before it is sent.
    pub fn touch(&self, root: Root, mask: u64) {
        let Some((word, generation)) = self.find(root) else { return count(&self.stale_acks) };
        if !word.accepts(generation) {
            return count(&self.stale_acks);
        }
        if !self.crosses.load(Ordering::Relaxed) {
            self.crosses.store(true, Ordering::Relaxed);
        }
        let marked = &self.masks[root.slot().0 as usize];
        // A tree that stays between two workers writes this line once, not for each tuple.
        if marked.load(Ordering::Relaxed) & mask != mask {
            marked.fetch_or(mask, Ordering::Relaxed);
        }
    }

    /// Tells the owner that the root failed. The first word counts; the edge of what failed is never settled.
    pub fn fail(&self, root: Root, reason: FailReason) {
        if self.claim(root, Claim::Fail) {
            self.tell(|outcomes| outcomes.failed.push((root, reason)));
        } else {
            count(&self.stale_fails);
        }
    }

    /// Tells the owner that a bolt holds these roots on purpose; they count apart until they end. To be repeated while that
    /// is so: cheap if the owner knows.
    pub fn held(&self, roots: &[Root]) {
        let mut claimed = roots.iter().filter(|root| self.claim(**root, Claim::Hold)).peekable();
        if claimed.peek().is_some() {
            self.tell(|outcomes| outcomes.held.extend(claimed));
        }
    }

    /// Tells the owner that the current incarnation of the workers in `mask` is gone for good. The reason that the failed
    /// roots get names such a worker by its number modulo 32.
    pub fn lost(&self, mask: u64) {
        self.tell(|outcomes| outcomes.lost |= mask);
    }

    /// The owner's: swaps what was told since the last time into `outcomes`, whose lists should be empty; pending, with the
    /// task registered to be woken, while there is nothing.
    pub fn poll_outcomes(&self, context: &mut Context<'_>, outcomes: &mut Outcomes) -> Poll<()> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        if desk.outcomes.is_empty() {
            desk.owner = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.take_from(&mut desk, outcomes);
        Poll::Ready(())
    }

    /// The owner's: the same without waiting, and without a lock while there is nothing.
    pub fn take_outcomes(&self, outcomes: &mut Outcomes) {
        if self.told.load(Ordering::Acquire) {
            self.take_from(&mut self.desk.lock().unwrap_or_else(PoisonError::into_inner), outcomes);
        }
    }

    fn take_from(&self, desk: &mut Desk, outcomes: &mut Outcomes) {
        std::mem::swap(&mut desk.outcomes, outcomes);
        desk.outcomes.lost = 0;
        self.told.store(false, Ordering::Relaxed);
    }

    /// What came too late until now.
    pub fn stale(&self) -> StaleCounts {
        StaleCounts {
            acks: self.stale_acks.load(std::sync::atomic::Ordering::Relaxed),
            fails: self.stale_fails.load(std::sync::atomic::Ordering::Relaxed),
        }
    }

    fn claim(&self, root: Root, claim: Claim) -> bool {
        self.find(root).is_some_and(|(word, generation)| {
            word.accepts(generation) && self.claims.claim(root.slot().0, generation, claim)
        })
    }

    fn tell(&self, what: impl FnOnce(&mut Outcomes)) {
        let owner = {
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            what(&mut desk.outcomes);
            self.told.store(true, Ordering::Release);
            desk.owner.take()
        };
        if let Some(owner) = owner {
            owner.wake();
        }
    }

    /// The root's slot and the generation that is stored there while the root is pending.
    #[inline]
    pub(super) fn find(&self, root: Root) -> Option<(Word<'_>, u32)> {
        let bits = root.to_bits() ^ u64::from(self.id.0) << 48;
        // A foreign ledger's number stays in the upper bits, where it makes the index too large for any slab.
        let word = self.words.get((bits >> 28) as usize)?;
        Some((word, (bits as u32).wrapping_sub(self.first) & GENERATION))
    }

    /// The owner's: a slot below [`Ledger::slots`].
    #[inline]
    pub(super) fn slot(&self, slot: u32) -> Word<'_> {
        self.words.at(slot)
    }

    /// The name of a slot's root of that stored generation.
    #[inline]
    pub(super) fn root(&self, slot: u32, generation: u32) -> Root {
        Root::new(self.id, Slot(slot), Generation(generation.wrapping_add(self.first)))
    }

    /// Whether any tuple of this ledger has ever crossed to another worker.
    #[inline]
    pub(super) fn crosses(&self) -> bool {
        self.crosses.load(Ordering::Relaxed)
    }

    /// The owner's: whether a bolt has said that it holds the slot's root since this was asked last.
    pub(super) fn doubt_hold(&self, slot: u32, generation: u32) -> bool {
        self.claims.doubt_hold(slot, generation)
    }

    /// The owner's: forgets where the last root of a closed slot went.
    pub(super) fn forget_mask(&self, slot: u32) {
        let mask = &self.masks[slot as usize];
        if mask.load(Ordering::Relaxed) != 0 {
            mask.store(0, Ordering::Relaxed);
        }
    }

    /// The owner's: where the tree of the slot's root went.
    pub(super) fn mask(&self, slot: u32) -> u64 {
        self.masks[slot as usize].load(Ordering::Relaxed)
    }
}

#[cold]
fn count(counter: &Counter) {
    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(not(loom))]
fn masks(slots: u32) -> Box<[AtomicU64]> {
    bytemuck::zeroed_slice_box(slots as usize)
}

#[cfg(loom)]
fn masks(slots: u32) -> Box<[AtomicU64]> {
    (0..slots).map(|_| AtomicU64::new(0)).collect()
}
