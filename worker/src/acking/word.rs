//! One slot of a ledger: the root's XOR word, its state (generation and marks) and its stamp, side by side in 16 bytes; and,
//! apart from them, what others have claimed to tell the owner.
//!
//! Not here: which slots are free, and what is told to the owner (`pending`, `ledger`). Invariant: only the owner writes a
//! state; what others write is refused unless the slot is open in the generation that they name.

use mutations::Mutation;

use super::atomic::{AtomicU32, AtomicU64, Ordering};

/// The generation's bits of a state; the rest are marks.
pub(super) const GENERATION: u32 = (1 << 28) - 1;
/// The slot holds a pending root.
const OPEN: u32 = 1 << 28;
/// The owner has counted the root as held.
const HELD: u32 = 1 << 29;

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
    /// Nothing: the root has ended.
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
        if mutations::on(Mutation::DoubleXor) {
            self.word().fetch_xor(edge, Ordering::AcqRel);
        }
        // Acquire and release: who completes the root has seen what every bolt of the tree did.
        if self.word().fetch_xor(edge, Ordering::AcqRel) == edge { Settled::Complete } else { Settled::Open }
    }

    /// The generation of the root in the slot, or of its next one.
    pub(super) fn generation(&self) -> u32 {
        self.state().load(Ordering::Relaxed) & GENERATION
    }

    /// Whether that root is pending.
    #[inline]
    pub(super) fn accepts(&self, generation: u32) -> bool {
        self.state().load(Ordering::Relaxed) & !HELD == generation | OPEN
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
        let state = self.state().load(Ordering::Relaxed);
        if state & !HELD != generation | OPEN {
            return None;
        }
        self.state().store(generation.wrapping_add(1) & GENERATION, Ordering::Release);
        Some(Ending { stamp: self.stamp().load(Ordering::Relaxed), held: state & HELD != 0 })
    }

    /// The owner's: counts the root as held; `false` if it has ended or was counted before.
    pub(super) fn count_held(&self, generation: u32) -> bool {
        let counts = self.state().load(Ordering::Relaxed) == generation | OPEN;
        if counts {
            self.state().store(generation | OPEN | HELD, Ordering::Relaxed);
        }
        counts
    }

    /// The owner's: generation and word of the root in the slot; `None` if the slot is free.
    pub(super) fn look(&self) -> Option<(u32, u64)> {
        let state = self.state().load(Ordering::Relaxed);
        (state & OPEN != 0).then(|| (state & GENERATION, self.word().load(Ordering::Acquire)))
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

/// What may be claimed for a root, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Claim {
    /// To tell the owner that it failed.
    Fail = 1 << 28,
    /// To tell the owner that a bolt holds it on purpose; until the owner doubts it.
    Hold = 1 << 29,
}

/// By slot: a generation and what was claimed for it. Apart from the states, as these have one writer. Memory is committed
/// where something is claimed.
pub(super) struct Claims(Box<[AtomicU32]>);

impl Claims {
    #[cfg(not(loom))]
    pub(super) fn none(slots: u32) -> Self {
        Claims(bytemuck::zeroed_slice_box(slots as usize))
    }

    #[cfg(loom)]
    pub(super) fn none(slots: u32) -> Self {
        Claims((0..slots).map(|_| AtomicU32::new(0)).collect())
    }

    /// Claims for the slot's root of that generation; `false` if somebody has. The caller has seen that the root is pending.
    pub(super) fn claim(&self, slot: u32, generation: u32, claim: Claim) -> bool {
        let mark = claim as u32;
        let claimed = |now: u32| {
            let now = if now & GENERATION == generation { now } else { generation };
            (now & mark == 0).then_some(now | mark)
        };
        self.0[slot as usize].fetch_update(Ordering::AcqRel, Ordering::Relaxed, claimed).is_ok()
    }

    /// The owner's: whether a bolt has said that it holds the root since this was asked last.
    pub(super) fn doubt_hold(&self, slot: u32, generation: u32) -> bool {
        let hold = Claim::Hold as u32;
        let doubted = |now: u32| (now & GENERATION == generation && now & hold != 0).then_some(now & !hold);
        self.0[slot as usize].fetch_update(Ordering::AcqRel, Ordering::Relaxed, doubted).is_ok()
    }
}
