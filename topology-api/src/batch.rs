//! What executors exchange: the tuples of one stream from one task, with their anchors; and its bytes on the wire.
//!
//! Not here: where a batch goes (`output`), and the frames around its bytes (the runtime's links). Invariant: a batch has
//! either no anchors at all or one for each tuple.
//!
//! # Bytes of a batch for `n` receiving tasks of one worker
//! ```text
//! sections: u16 = n
//! n × { length: u32 bytes, anchors }      each task's own shares of the edges
//! tuples, one after the other, as `Tuple::encode` writes them
//!
//! anchors: nothing if the batch is unanchored, else for each tuple a tag:
//!   0            belongs to no tree
//!   1 root edge  u64 u64
//!   2 edge       the root of the tuple before it
//!   3 n (root edge)×n    n: u32, several roots
//! ```
//! All numbers are little-endian.

use std::any::Any;
use std::mem::size_of;
use std::sync::Arc;

use crate::anchor::{Anchor, Edge, EdgeIds, Root};
use crate::tuple::{DecodeError, Tuple, Values};

/// Anchors of a batch's tuples: none at all, or one each; a tuple with several roots has an index into the side list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Anchors {
    /// One for each tuple, or empty.
    pub each: Vec<Anchor>,
    /// The anchors of tuples that have several roots ([`Anchor::as_many`]).
    pub many: Vec<Box<[Anchor]>>,
}

impl Anchors {
    /// Whether no tuple belongs to a tree.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// All anchors of the tuple at `index`: none, one or several.
    pub fn of(&self, index: usize) -> &[Anchor] {
        match self.each.get(index) {
            None => &[],
            Some(anchor) if anchor.is_none() => &[],
            Some(anchor) => match anchor.as_many() {
                Some(side) => self.many.get(side as usize).map_or(&[], |anchors| anchors),
                None => std::slice::from_ref(anchor),
            },
        }
    }

    /// Adds a tuple's anchors.
    pub fn push(&mut self, anchors: &[Anchor]) {
        match anchors {
            [] => self.each.push(Anchor::NONE),
            [anchor] => self.each.push(*anchor),
            several => {
                self.each.push(Anchor::many(self.many.len() as u32));
                self.many.push(several.into());
            }
        }
    }

    /// Takes the anchor of a tuple out of `from`, which keeps a hole in its side list.
    #[inline]
    pub(crate) fn push_from(&mut self, from: &mut Anchors, index: usize) {
        let anchor = from.each[index];
        match anchor.as_many() {
            None => self.each.push(anchor),
            Some(side) => {
                self.each.push(Anchor::many(self.many.len() as u32));
                self.many.push(std::mem::take(&mut from.many[side as usize]));
            }
        }
    }

    /// Takes a share of every edge for another receiver: random edges, which are XORed out of what remains here.
    pub(crate) fn split_off(&mut self, edges: &mut EdgeIds) -> Anchors {
        let mut share = self.clone();
        for (mine, theirs) in self.each.iter_mut().zip(&mut share.each) {
            if !mine.is_none() && mine.as_many().is_none() {
                (*mine, *theirs) = split(*mine, edges);
            }
        }
        for (mine, theirs) in self.many.iter_mut().flatten().zip(share.many.iter_mut().flatten()) {
            (*mine, *theirs) = split(*mine, edges);
        }
        share
    }

    /// Calls `visit` with every anchor, those of the side list too.
    pub fn for_each(&self, mut visit: impl FnMut(Anchor)) {
        for index in 0..self.each.len() {
            self.of(index).iter().for_each(|anchor| visit(*anchor));
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut last = Root::NONE;
        for (index, anchor) in self.each.iter().enumerate() {
            if anchor.is_none() {
                out.push(0);
            } else if anchor.as_many().is_some() {
                let several = self.of(index);
                out.push(3);
                out.extend_from_slice(&(several.len() as u32).to_le_bytes());
                several.iter().for_each(|anchor| put_anchor(*anchor, out));
            } else if anchor.root == last {
                out.push(2);
                out.extend_from_slice(&anchor.edge.0.to_le_bytes());
            } else {
                out.push(1);
                put_anchor(*anchor, out);
                last = anchor.root;
            }
        }
    }

    fn decode(mut bytes: &[u8], tuples: usize) -> Result<Self, DecodeError> {
        let mut anchors = Anchors::default();
        if bytes.is_empty() {
            return Ok(anchors);
        }
        anchors.each.reserve(tuples.min(bytes.len()));
        let mut last = Root::NONE;
        for _ in 0..tuples {
            match take::<1>(&mut bytes)? {
                [0] => anchors.each.push(Anchor::NONE),
                [1] => {
                    let anchor = take_anchor(&mut bytes)?;
                    last = anchor.root;
                    anchors.each.push(anchor);
                }
                [2] => {
                    let edge = Edge(u64::from_le_bytes(take(&mut bytes)?));
                    anchors.each.push(Anchor { root: last, edge });
                }
                [3] => {
                    let count = u32::from_le_bytes(take(&mut bytes)?) as usize;
                    if count > bytes.len() / 16 {
                        return Err(DecodeError::new("a tuple's list of anchors is longer than its batch"));
                    }
                    let several = (0..count).map(|_| take_anchor(&mut bytes)).collect::<Result<Vec<_>, _>>()?;
                    anchors.push(&several);
                }
                [tag] => return Err(DecodeError::new(format!("an anchor has the unknown tag {tag}"))),
            }
        }
        if bytes.is_empty() {
            Ok(anchors)
        } else {
            Err(DecodeError::new("bytes are left over after a batch's anchors"))
        }
    }
}

/// One anchor divided in two.
fn split(anchor: Anchor, edges: &mut EdgeIds) -> (Anchor, Anchor) {
    loop {
        let share = edges.draw();
        let rest = Edge(anchor.edge.0 ^ share.0);
        if rest.0 != 0 {
            return (Anchor { edge: rest, ..anchor }, Anchor { edge: share, ..anchor });
        }
    }
}

fn put_anchor(anchor: Anchor, out: &mut Vec<u8>) {
    out.extend_from_slice(&anchor.root.to_bits().to_le_bytes());
    out.extend_from_slice(&anchor.edge.0.to_le_bytes());
}

fn take_anchor(bytes: &mut &[u8]) -> Result<Anchor, DecodeError> {
    let root = Root::from_bits(u64::from_le_bytes(take(bytes)?));
    let anchor = Anchor { root, edge: Edge(u64::from_le_bytes(take(bytes)?)) };
    // Neither marker may come from outside: one would stand for no tree, the other point into the side list.
    if anchor.is_none() || anchor.as_many().is_some() {
        return Err(DecodeError::new("an anchor names a root that no spout has"));
    }
    Ok(anchor)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| DecodeError::new("a batch ends too early"))?;
    *bytes = rest;
    Ok(*head)
}

/// Tuples of one stream and their anchors. Taken from the front, tuple by tuple, so that it can be left half done.
pub struct Batch<T> {
    /// What is still to be executed.
    pub tuples: std::vec::IntoIter<T>,
    /// The anchors of all tuples that the batch had at first; shared with who watches over the executor.
    pub anchors: Arc<Anchors>,
    /// How many tuples were taken: the index of the next tuple's anchor.
    pub taken: usize,
    /// Memory of all tuples, in bytes, when the batch was made.
    pub bytes: usize,
}

impl<T: Tuple> Batch<T> {
    /// A batch of these tuples; `bytes` is counted here.
    pub fn new(tuples: Vec<T>, anchors: Anchors) -> Self {
        let heap_bytes = if T::HAS_HEAP { tuples.iter().map(T::heap_size).sum() } else { 0 };
        Self::counted(tuples, anchors, heap_bytes)
    }

    /// A batch of tuples whose memory beyond their own size is known.
    pub(crate) fn counted(tuples: Vec<T>, anchors: Anchors, heap_bytes: usize) -> Self {
        let bytes = heap_bytes + tuples.len() * size_of::<T>();
        Batch { tuples: tuples.into_iter(), anchors: Arc::new(anchors), taken: 0, bytes }
    }

    /// Reads the batch of the receiver at `receiver` (its place among the `n` sections).
    ///
    /// # Errors
    /// If the bytes are not a batch of `count` tuples of this type.
    pub fn decode(bytes: &[u8], receiver: usize, count: usize) -> Result<Self, DecodeError> {
        let (anchors, mut rest) = decode_anchors(bytes, receiver, count)?;
        let mut tuples = Vec::with_capacity(count.min(rest.len() + 1));
        for _ in 0..count {
            tuples.push(T::decode(&mut rest)?);
        }
        if !rest.is_empty() {
            return Err(DecodeError::new("bytes are left over after a batch's tuples"));
        }
        Ok(Batch::new(tuples, anchors))
    }
}

/// The anchors of the receiver at `receiver`, and the bytes of the tuples: what can still be failed when the tuples
/// themselves cannot be read.
///
/// # Errors
/// If the bytes are not a batch of `count` tuples with that many sections.
pub fn decode_anchors(bytes: &[u8], receiver: usize, count: usize) -> Result<(Anchors, &[u8]), DecodeError> {
    let mut rest = bytes;
    let sections = u16::from_le_bytes(take(&mut rest)?) as usize;
    let mut anchors = None;
    for section in 0..sections {
        let length = u32::from_le_bytes(take(&mut rest)?) as usize;
        let Some((section_bytes, after)) = rest.split_at_checked(length) else {
            return Err(DecodeError::new("a batch ends within its anchors"));
        };
        if section == receiver {
            anchors = Some(Anchors::decode(section_bytes, count)?);
        }
        rest = after;
    }
    let anchors = anchors.ok_or_else(|| DecodeError::new(format!("a batch has no anchors for receiver {receiver}")))?;
    Ok((anchors, rest))
}

/// A batch whose tuple type is known to its stream only.
pub trait AnyBatch: Send {
    /// Tuples that are still to be executed.
    fn len(&self) -> usize;

    /// Whether all of it was executed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory of its tuples when it was made, in bytes.
    fn bytes(&self) -> usize;

    /// Anchors of all tuples it was made with.
    fn anchors(&self) -> &Arc<Anchors>;

    /// How many tuples were taken from it already.
    fn taken(&self) -> usize;

    /// Appends its bytes for `receivers` tasks (at least one), which divide its edges among them. For untaken batches.
    fn encode(&self, receivers: u16, edges: &mut EdgeIds, out: &mut Vec<u8>);

    /// The same tuples as dynamic values, with the same anchors.
    fn into_values(self: Box<Self>) -> Box<Batch<Values>>;

    /// For the downcast, once a batch.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Tuple> AnyBatch for Batch<T> {
    fn len(&self) -> usize {
        self.tuples.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn anchors(&self) -> &Arc<Anchors> {
        &self.anchors
    }

    fn taken(&self) -> usize {
        self.taken
    }

    fn encode(&self, receivers: u16, edges: &mut EdgeIds, out: &mut Vec<u8>) {
        out.extend_from_slice(&receivers.to_le_bytes());
        let section = |anchors: &Anchors, out: &mut Vec<u8>| {
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            anchors.encode(out);
            let length = (out.len() - at - 4) as u32;
            out[at..at + 4].copy_from_slice(&length.to_le_bytes());
        };
        if receivers == 1 {
            section(&self.anchors, out);
        } else {
            let mut rest = (*self.anchors).clone();
            for _ in 1..receivers {
                section(&rest.split_off(edges), out);
            }
            section(&rest, out);
        }
        self.tuples.as_slice().iter().for_each(|tuple| tuple.encode(out));
    }

    fn into_values(self: Box<Self>) -> Box<Batch<Values>> {
        let tuples: Vec<Values> = self.tuples.map(T::into_values).collect();
        Box::new(Batch { tuples: tuples.into_iter(), anchors: self.anchors, taken: self.taken, bytes: self.bytes })
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Reads the batches of a stream whose tuple type only the stream knows.
pub type DecodeBatch = fn(bytes: &[u8], receiver: usize, count: usize) -> Result<Box<dyn AnyBatch>, DecodeError>;

/// The reader of batches of `T`.
pub(crate) fn decode_batch_of<T: Tuple>() -> DecodeBatch {
    |bytes, receiver, count| Ok(Box::new(Batch::<T>::decode(bytes, receiver, count)?))
}
