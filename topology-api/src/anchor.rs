//! What a tuple carries so that its spout learns its end: the root it belongs to and its share of the root's word.
//!
//! Not here: the ledger that holds the words (it is the runtime's). Invariant: the edges of all tuples of one root that
//! are still under way XOR to the word in the root's slot, and no edge is zero.

use std::fmt;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// Number of a spout task's ledger: the index of the task among all spout tasks of the topology, 0 ..= 65,534.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(pub u16);

/// Number of a slot in its ledger, below [`Root::SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Which use of a slot is meant; counts up, modulo [`Root::GENERATIONS`], each time a root ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// One pending root of a spout task: ledger (16 bits), slot (20 bits), generation (28 bits), packed so that an
/// [`Anchor`] has 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(u64);

impl Root {
    /// Slots that one ledger can have: the most roots that one spout task can have pending.
    pub const SLOTS: u32 = 1 << 20;
    /// Generations before a slot's count begins again.
    pub const GENERATIONS: u32 = 1 << 28;
    /// The root of a tuple that belongs to no tree.
    pub const NONE: Root = Root(u64::MAX);

    /// Packs the three parts; `slot` and `generation` are taken modulo their ranges.
    pub const fn new(ledger: LedgerId, slot: Slot, generation: Generation) -> Self {
        Root(
            (ledger.0 as u64) << 48 | ((slot.0 % Self::SLOTS) as u64) << 28 | (generation.0 % Self::GENERATIONS) as u64,
        )
    }

    /// The spout task's ledger.
    pub const fn ledger(self) -> LedgerId {
        LedgerId((self.0 >> 48) as u16)
    }

    /// The slot in that ledger.
    pub const fn slot(self) -> Slot {
        Slot((self.0 >> 28) as u32 % Self::SLOTS)
    }

    /// The use of that slot.
    pub const fn generation(self) -> Generation {
        Generation(self.0 as u32 % Self::GENERATIONS)
    }

    /// The packed form, for the wire.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From the packed form; every number is a root, whose ledger may not exist.
    pub const fn from_bits(bits: u64) -> Self {
        Root(bits)
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("unanchored");
        }
        write!(f, "{}/{}/{}", self.ledger().0, self.slot().0, self.generation().0)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({self})")
    }
}

/// A tuple's share of its root's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edge(pub u64);

/// One root of a tuple and the tuple's edge to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// The root, or [`Root::NONE`], or an index into the batch's list of several anchors ([`Anchor::many`]).
    pub root: Root,
    /// The share; meaningless without a root.
    pub edge: Edge,
}

impl Anchor {
    /// The anchor of a tuple that belongs to no tree.
    pub const NONE: Anchor = Anchor { root: Root::NONE, edge: Edge(0) };

    /// Ledger number that marks an anchor with several roots; no spout task has it.
    const MANY: u16 = u16::MAX - 1;

    /// Stands for the anchors at `index` of the batch's side list.
    pub const fn many(index: u32) -> Self {
        Anchor { root: Root((Self::MANY as u64) << 48 | index as u64), edge: Edge(0) }
    }

    /// The index into the side list, if this anchor stands for several.
    pub const fn as_many(self) -> Option<u32> {
        if self.root.ledger().0 == Self::MANY { Some(self.root.0 as u32) } else { None }
    }

    /// Whether the tuple belongs to no tree.
    pub fn is_none(self) -> bool {
        self.root == Root::NONE
    }
}

/// Edge ids: never zero, and not to be guessed from earlier ones (ChaCha8, keyed per executor).
pub struct EdgeIds {
    source: ChaCha8Rng,
    block: Box<[u64; EdgeIds::BLOCK]>,
    next: usize,
}

impl EdgeIds {
    const BLOCK: usize = 64;

    /// Ids from a 32-byte key: from the operating system in production, from the seed in a seeded run.
    pub fn from_key(key: [u8; 32]) -> Self {
        EdgeIds { source: ChaCha8Rng::from_seed(key), block: Box::new([0; Self::BLOCK]), next: Self::BLOCK }
    }

    /// The next id.
    #[inline]
    pub fn draw(&mut self) -> Edge {
        loop {
            if self.next == Self::BLOCK {
                self.refill();
            }
            let edge = self.block[self.next];
            self.next += 1;
            if edge != 0 {
                return Edge(edge);
            }
        }
    }

    #[cold]
    fn refill(&mut self) {
        for edge in self.block.iter_mut() {
            *edge = self.source.next_u64();
        }
        self.next = 0;
    }
}
