//! What a tuple carries so that its spout learns its end: the root it belongs to and its share of the root's word.
//!
//! Not here: the ledger that holds the words (it is the runtime's). Invariant: the edges of all tuples of one root that
//! are still under way XOR to the word in the root's slot, and no edge is zero.

use std::fmt;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// Number of a spout task's ledger: the index of the task among all spout tasks of the topology, up to
/// [`LedgerId::LAST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(pub u16);

impl LedgerId {
    /// The largest: the two above it mark anchors of several roots and of none.
    pub const LAST: LedgerId = LedgerId(u16::MAX - 2);
}

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

    /// The id drawn last: of several edges of a root the one that `Mutation::EdgeByEdge` shows before the others.
    pub(crate) fn last(&self) -> Edge {
        Edge(self.block[self.next - 1])
    }

    #[cold]
    fn refill(&mut self) {
        // At once, as number by number costs nearly twice the time.
        let mut bytes = [0; 8 * Self::BLOCK];
        self.source.fill_bytes(&mut bytes);
        for (edge, bytes) in self.block.iter_mut().zip(bytes.as_chunks().0) {
            *edge = u64::from_le_bytes(*bytes);
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn draw(key: u8, count: usize) -> Vec<u64> {
        let mut ids = EdgeIds::from_key([key; 32]);
        (0..count).map(|_| ids.draw().0).collect()
    }

    #[test]
    fn edges_are_never_zero_and_never_alike() {
        let edges = draw(1, 100_000);
        assert!(!edges.contains(&0));
        assert_eq!(edges.iter().collect::<HashSet<_>>().len(), edges.len());
    }

    #[test]
    fn edges_depend_on_the_key_alone() {
        assert_eq!(draw(1, 200), draw(1, 200));
        assert!(draw(1, 200).iter().zip(draw(2, 200)).all(|(one, other)| *one != other));
    }

    /// A counter, or a generator that is linear over XOR, gives the same difference twice; then two edges of one tree
    /// could stand for two others.
    #[test]
    fn no_two_pairs_of_edges_have_the_same_xor_or_difference() {
        let edges = draw(3, 1000);
        let mut xors = HashSet::new();
        let mut differences = HashSet::new();
        for (at, one) in edges.iter().enumerate() {
            for other in &edges[at + 1..] {
                assert!(xors.insert(one ^ other), "{one:x} and {other:x}");
                let difference = one.wrapping_sub(*other);
                assert!(differences.insert(difference.min(difference.wrapping_neg())), "{one:x} and {other:x}");
            }
        }
    }

    /// 65 numbers of 64 bits are always dependent over XOR; but no few of them may be: the rank of any 32 in a row is 32.
    #[test]
    fn edges_in_a_row_are_independent_over_xor() {
        for (at, window) in draw(4, 2000).windows(32).enumerate() {
            let mut basis: Vec<u64> = Vec::new();
            for edge in window {
                let rest = basis.iter().fold(*edge, |rest, base| rest.min(rest ^ base));
                assert_ne!(rest, 0, "at {at}");
                basis.push(rest);
            }
        }
    }

    #[test]
    fn every_bit_is_set_half_the_time() {
        let edges = draw(5, 100_000);
        for bit in 0..64 {
            let set = edges.iter().filter(|edge| *edge >> bit & 1 == 1).count();
            // Five standard deviations are 790.
            assert!((49_200..50_800).contains(&set), "bit {bit}: {set}");
        }
    }

    #[test]
    fn a_root_gives_back_its_parts() {
        let root = Root::new(LedgerId(65_534), Slot(Root::SLOTS - 1), Generation(Root::GENERATIONS - 1));
        assert_eq!(
            (root.ledger(), root.slot(), root.generation()),
            (LedgerId(65_534), Slot(1_048_575), Generation(268_435_455))
        );
        assert_eq!(Root::from_bits(root.to_bits()), root);
        assert_eq!(root.to_string(), "65534/1048575/268435455");
        assert_ne!(root, Root::NONE);
    }

    #[test]
    fn an_anchor_may_stand_for_several_or_none() {
        assert_eq!(size_of::<Anchor>(), 16);
        assert_eq!(Anchor::many(7).as_many(), Some(7));
        assert_eq!((Anchor::NONE.as_many(), Anchor::NONE.is_none()), (None, true));
        assert!(!Anchor::many(u32::MAX).is_none());
    }
}
