//! One slot of a ledger: the root's XOR word, its state (generation and marks) and its stamp, side by side in 16 bytes.
//!
//! Not here: which slots are free, and what is told to the owner (`pending`, `ledger`). Invariant: only the owner opens and
//! ends a slot; what others write is refused unless the slot is open in the generation that they name.

use super::atomic::{AtomicU32, AtomicU64, Ordering};

/// The generation's bits of a state; the rest are marks.
pub(super) const GENERATION: u32 = (1 << 28) - 1;
/// The slot holds a pending root.
const OPEN: u32 = 1 << 28;
/// Somebody has told the owner that the root failed: later fails are doubles, later acks are stale.
const FAILING: u32 = 1 << 29;
/// A bolt has said, since the last audit, that it holds the root on purpose.
const HOLDING: u32 = 1 << 30;
/// The owner has counted the root as held.
const HELD: u32 = 1 << 31;

/// Word, state and stamp; a tuple, because a slab of zeroed tuples needs no unsafe code.
type Cell = (AtomicU64, AtomicU32, AtomicU32);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Cell>() == 16);

/// The slots of a ledger. Memory is committed when a slot is first used.
pub(super) struct Words(Box<[Cell]>);

impl Words {
    #[cfg(not(loom))]
    pub(super) fn closed(slots: u32) -> Self {
        Words(bytemuck::zeroed_slice_box(slots as usize))
    }

    #[cfg(loom)]
    pub(super) fn closed(slots: u32) -> Self {
        Words((0..slots).map(|_| (AtomicU64::new(0), AtomicU32::new(0), AtomicU32::new(0))).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn get(&self, slot: usize) -> Option<Word<'_>> {
        self.0.get(slot).map(Word)
    }

    #[inline]
    pub(super) fn at(&self, slot: u32) -> Word<'_> {
        Word(&self.0[slot as usize])
    }
}

/// What an ack did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing: the root has ended or is failing.
    Stale,
    /// The root waits for more.
    Open,
    /// It was the last: the caller tells the owner.
    Complete,
}

/// One slot. `generation` is always the stored one, modulo [`GENERATION`] + 1.
#[derive(Clone, Copy)]
pub(super) struct Word<'a>(&'a Cell);

impl Word<'_> {
    fn word(&self) -> &AtomicU64 {
        &self.0.0
    }

    fn state(&self) -> &AtomicU32 {
        &self.0.1
    }

    fn stamp(&self) -> &AtomicU32 {
        &self.0.2
    }

    /// Takes `edge` out of the root's word.
    #[inline]
    pub(super) fn settle(&self, generation: u32, edge: u64) -> Settled {
        if !self.accepts(generation) {
            return Settled::Stale;
        }
        // All others have settled: what is left is this edge, so nobody else can be about to write, and the word need not
        // become zero, as the owner ends the root by its generation. That spares a tree's last ack the locked operation.
        if self.word().load(Ordering::Acquire) == edge {
            return Settled::Complete;
        }
        // Acquire and release: who completes the root has seen what every bolt of the tree did.
        if self.word().fetch_xor(edge, Ordering::AcqRel) == edge { Settled::Complete } else { Settled::Open }
    }

    /// Whether acks of that generation count: the root is pending and not failing.
    #[inline]
    pub(super) fn accepts(&self, generation: u32) -> bool {
        self.state().load(Ordering::Relaxed) & !(HOLDING | HELD) == generation | OPEN
    }

    /// Marks the root as failing; `false` if it has ended or is failing already.
    pub(super) fn claim_fail(&self, generation: u32) -> bool {
        self.claim(FAILING, |state| state & !(HOLDING | HELD) == generation | OPEN)
    }

    /// Marks the root as held; `false` if it has ended or the owner knows already.
    pub(super) fn claim_hold(&self, generation: u32) -> bool {
        self.claim(HOLDING, |state| state & (OPEN | HOLDING | GENERATION) == generation | OPEN)
    }

    /// Compare and exchange, as an unconditional write could meet the slot's next root.
    fn claim(&self, mark: u32, applies: impl Fn(u32) -> bool) -> bool {
        let marked = |state| if applies(state) { Some(state | mark) } else { None };
        self.state().fetch_update(Ordering::AcqRel, Ordering::Relaxed, marked).is_ok()
    }

    /// The owner's: gives the closed slot its next root and returns the generation.
    #[inline]
    pub(super) fn open(&self, word: u64, stamp: u32) -> u32 {
        let generation = self.state().load(Ordering::Relaxed);
        self.word().store(word, Ordering::Relaxed);
        self.stamp().store(stamp, Ordering::Relaxed);
        // The anchors reach others through queues, which order these stores before what others do with them.
        self.state().store(generation | OPEN, Ordering::Release);
        generation
    }

    /// The owner's: sets the word of an open root that nobody else knows yet.
    #[inline]
    pub(super) fn set(&self, word: u64) {
        self.word().store(word, Ordering::Relaxed);
    }

    /// The owner's: ends the root of that generation and raises it; `None` if there is no such root any more.
    #[inline]
    pub(super) fn end(&self, generation: u32) -> Option<Ending> {
        let state = self.state().load(Ordering::Acquire);
        if state & (OPEN | GENERATION) != generation | OPEN {
            return None;
        }
        self.state().store(generation.wrapping_add(1) & GENERATION, Ordering::Release);
        Some(Ending { stamp: self.stamp().load(Ordering::Relaxed), held: state & HELD != 0 })
    }

    /// The owner's: counts the root as held; `false` if it has ended or was counted before.
    pub(super) fn count_held(&self, generation: u32) -> bool {
        self.claim(HELD, |state| state & (OPEN | HELD | GENERATION) == generation | OPEN)
    }

    /// The owner's: asks for a new word that the root is held, without which it counts as forgotten at the next audit.
    pub(super) fn doubt_hold(&self) {
        self.state().fetch_and(!HOLDING, Ordering::Relaxed);
    }

    /// The owner's: what is in the slot now; `None` if it is free.
    pub(super) fn look(&self) -> Option<Look> {
        let state = self.state().load(Ordering::Acquire);
        let look = Look {
            generation: state & GENERATION,
            word: self.word().load(Ordering::Acquire),
            holding: state & HOLDING != 0,
        };
        (state & OPEN != 0).then_some(look)
    }
}

/// What the owner learns when it ends a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// As it was given to [`Word::open`].
    pub(super) stamp: u32,
    /// Whether the root was counted as held.
    pub(super) held: bool,
}

/// An open slot as the owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) generation: u32,
    pub(super) word: u64,
    /// Whether a bolt has said of late that it holds the root.
    pub(super) holding: bool,
}
