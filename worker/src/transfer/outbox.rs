//! What waits to be sent to a peer, in which order, and what was sent and may have to be sent again.
//!
//! Two lanes: acks, fails, held roots and grants go first, merged for as long as they wait; batches, ends and `lost` follow
//! in the order in which they were queued. So whatever was queued before a `lost` is seen before it.
//! - The first lane is bounded by what it speaks of: one ack, fail or held entry for a root, one grant for a task.
//! - The second lane is bounded by permits, in tuples and bytes for each task; ends and `lost` are few.
//! - Sent frames are kept until confirmed, at most [`UNCONFIRMED_BYTES`] and one frame.
//!
//! Not here: connections and permits (`link`). Invariant: a frame's number and records never change once it was formed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mutations::Mutation;
use topology_api::anchor::{Generation, Root};
use topology_api::fail::FailReason;
use topology_api::ids::TaskId;

use super::frame::{AckRecord, FRAME_BYTES, Grant, HEADER_BYTES, Record};

/// No frame is formed while this many bytes wait to be confirmed.
pub const UNCONFIRMED_BYTES: usize = 16 << 20;
/// A frame is closed when its records have this many bytes, so that a waiting batch keeps no more in memory.
const FRAME_TARGET_BYTES: usize = 64 << 10;
/// Most elements of one list; with the longest texts 1,024 fails are still less than a frame.
const LIST_ELEMENTS: usize = 1024;
/// Records of a frame, which are of 4 MiB at most, and of their frame's header.
const RECORDS_BYTES: usize = FRAME_BYTES - HEADER_BYTES;

/// An entry about a root, which takes up a later one about the same root.
trait AboutRoot {
    fn root(&self) -> Root;
    fn take_up(&mut self, later: &Self);
    /// Whether it says anything.
    fn counts(&self) -> bool {
        true
    }
}

impl AboutRoot for AckRecord {
    fn root(&self) -> Root {
        if mutations::on(Mutation::MergedBySlotAlone) {
            return Root::new(self.root.ledger(), self.root.slot(), Generation(0));
        }
        self.root
    }

    fn take_up(&mut self, later: &Self) {
        self.edge ^= later.edge;
        self.mask |= later.mask;
    }

    fn counts(&self) -> bool {
        self.edge != 0 || self.mask != 0
    }
}

/// Of two reasons the first counts: it ended the root.
impl AboutRoot for (Root, FailReason) {
    fn root(&self) -> Root {
        self.0
    }

    fn take_up(&mut self, _: &Self) {}
}

impl AboutRoot for Root {
    fn root(&self) -> Root {
        *self
    }

    fn take_up(&mut self, _: &Self) {}
}

/// Entries about roots, merged whenever they have doubled: at most twice the roots, or [`Merged::FEW_ENTRIES`].
#[derive(Debug)]
struct Merged<T> {
    entries: Vec<T>,
    merge_at_entries: usize,
}

impl<T> Default for Merged<T> {
    fn default() -> Self {
        Merged { entries: Vec::new(), merge_at_entries: Self::FEW_ENTRIES }
    }
}

impl<T> Merged<T> {
    const FEW_ENTRIES: usize = 4096;
}

impl<T: AboutRoot> Merged<T> {
    fn push(&mut self, entry: T) {
        self.entries.push(entry);
        if self.entries.len() >= self.merge_at_entries {
            self.merge();
            self.merge_at_entries = Self::FEW_ENTRIES.max(2 * self.entries.len());
        }
    }

    fn merge(&mut self) {
        self.entries.sort_by_key(AboutRoot::root);
        self.entries.dedup_by(|later, kept| {
            let same = later.root() == kept.root();
            if same {
                kept.take_up(later);
            }
            same
        });
        self.entries.retain(AboutRoot::counts);
    }

    /// Takes all of them, sorted by root, in lists of at most [`LIST_ELEMENTS`].
    fn drain_lists(&mut self, mut each: impl FnMut(Vec<T>)) {
        self.merge();
        let mut entries = std::mem::take(&mut self.entries);
        self.merge_at_entries = Self::FEW_ENTRIES;
        while entries.len() > LIST_ELEMENTS {
            let rest = entries.split_off(LIST_ELEMENTS);
            each(std::mem::replace(&mut entries, rest));
        }
        if !entries.is_empty() {
            each(entries);
        }
    }
}

/// A frame that is on its way or on the wire.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its number.
    pub sequence: u64,
    /// What it carries.
    pub records: Arc<Vec<Record>>,
    /// Its length on the wire.
    pub bytes: usize,
}

/// The sending side of a link's stream.
#[derive(Debug)]
pub struct Outbox {
    acks: Merged<AckRecord>,
    fails: Merged<(Root, FailReason)>,
    held: Merged<Root>,
    grants: BTreeMap<TaskId, Grant>,
    /// What of the first lane was cut into lists already, and goes before anything else.
    lists: VecDeque<Record>,
    /// The second lane.
    ordered: VecDeque<Record>,
    unconfirmed: VecDeque<Numbered>,
    unconfirmed_bytes: usize,
    /// The number of the next frame to be formed.
    next: u64,
    /// The number of the next frame to be written on this connection: all unconfirmed ones from here are to be written.
    cursor: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox {
            acks: Merged::default(),
            fails: Merged::default(),
            held: Merged::default(),
            grants: BTreeMap::new(),
            lists: VecDeque::new(),
            ordered: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            unconfirmed_bytes: 0,
            next: 1,
            cursor: 1,
        }
    }
}

impl Outbox {
    /// The life of the peer is gone. Batches, ends and grants were for it; what was said of roots and of other workers goes to
    /// its next life, as far as it was not confirmed: that life's tuples may have come here by another worker before this link
    /// heard of it. To a ledger whose roots were meant by it the rest is stale.
    pub fn renew(&mut self) {
        let old = std::mem::take(self);
        let sent = old.unconfirmed.iter().flat_map(|frame| frame.records.iter());
        for record in sent.chain(&old.lists).chain(&old.ordered) {
            match record {
                Record::Acks(acks) => acks.iter().for_each(|ack| self.acks.push(*ack)),
                Record::Fails(fails) => fails.iter().for_each(|fail| self.fails.push(fail.clone())),
                Record::Held(roots) => roots.iter().for_each(|root| self.held.push(*root)),
                Record::Lost { .. } => self.ordered.push_back(record.clone()),
                Record::Grants(_) | Record::Data(_) | Record::End(_) => {}
            }
        }
        old.acks.entries.into_iter().for_each(|ack| self.acks.push(ack));
        old.fails.entries.into_iter().for_each(|fail| self.fails.push(fail));
        old.held.entries.into_iter().for_each(|root| self.held.push(root));
    }

    /// Acks that wait, and the second lane.
    #[cfg(test)]
    pub fn waiting(&self) -> (&[AckRecord], impl Iterator<Item = &Record>) {
        (&self.acks.entries, self.ordered.iter())
    }

    /// Queues an ack; those about the same root are merged.
    pub fn ack(&mut self, ack: AckRecord) {
        self.acks.push(ack);
    }

    /// Queues a fail; the first reason for a root counts.
    pub fn fail(&mut self, root: Root, reason: FailReason) {
        // Its fields are public: cut what was not cut when it was made.
        self.fails.push((root, FailReason::new(reason.kind, reason.by, reason.message)));
    }

    /// Queues the word that a root is held.
    pub fn held(&mut self, root: Root) {
        self.held.push(root);
    }

    /// Queues a grant in place of an earlier one that still waits for the same task.
    pub fn grant(&mut self, grant: Grant) {
        self.grants.insert(grant.task, grant);
    }

    /// Queues a batch, an end or a `lost`, behind all that was queued before.
    pub fn push(&mut self, record: Record) {
        self.ordered.push_back(record);
    }

    /// Whether anything waits to be written on a connection.
    pub fn has_work(&self) -> bool {
        self.cursor < self.next || (self.waits() && self.unconfirmed_bytes < UNCONFIRMED_BYTES)
    }

    /// Whether everything that was queued was also confirmed.
    pub fn is_settled(&self) -> bool {
        self.unconfirmed.is_empty() && !self.waits()
    }

    /// The highest number given to a frame; 0 before the first.
    pub fn highest(&self) -> u64 {
        self.next - 1
    }

    /// Whether a frame waits to be confirmed.
    pub fn is_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    fn waits(&self) -> bool {
        !(self.ordered.is_empty()
            && self.lists.is_empty()
            && self.acks.entries.is_empty()
            && self.grants.is_empty()
            && self.fails.entries.is_empty()
            && self.held.entries.is_empty())
    }

    /// The peer has received all frames up to `sequence`, which is at most [`Outbox::highest`].
    pub fn confirm(&mut self, sequence: u64) {
        while let Some(frame) = self.unconfirmed.front()
            && frame.sequence <= sequence
        {
            self.unconfirmed_bytes -= frame.bytes;
            self.unconfirmed.pop_front();
        }
        self.cursor = self.cursor.max(sequence + 1);
    }

    /// A new connection to the same incarnation: what is not confirmed is to be written again.
    pub fn rewind(&mut self) {
        if mutations::on(Mutation::FramesNotResent) {
            return self.cursor = self.next;
        }
        self.cursor = self.unconfirmed.front().map_or(self.next, |frame| frame.sequence);
    }

    /// The next frame to write: one that was written on an earlier connection, or a new one.
    pub fn next_frame(&mut self) -> Option<Numbered> {
        if self.cursor == self.next && !self.form() {
            return None;
        }
        let first = self.unconfirmed.front()?.sequence;
        let frame = self.unconfirmed.get((self.cursor - first) as usize)?.clone();
        self.cursor += 1;
        Some(frame)
    }

    /// Forms one frame of what waits.
    fn form(&mut self) -> bool {
        if self.unconfirmed_bytes >= UNCONFIRMED_BYTES {
            return false;
        }
        let lists = &mut self.lists;
        self.acks.drain_lists(|acks| lists.push_back(Record::Acks(acks)));
        self.fails.drain_lists(|fails| lists.push_back(Record::Fails(fails)));
        self.held.drain_lists(|held| lists.push_back(Record::Held(held)));
        let grants: Vec<Grant> = std::mem::take(&mut self.grants).into_values().collect();
        lists.extend(grants.chunks(LIST_ELEMENTS).map(|grants| Record::Grants(grants.to_vec())));

        let mut records = Vec::new();
        let mut bytes = 0;
        while bytes < FRAME_TARGET_BYTES {
            let lane = if self.lists.is_empty() { &mut self.ordered } else { &mut self.lists };
            let Some(length) = lane.front().map(Record::encoded_len) else { break };
            if !records.is_empty() && bytes + length > RECORDS_BYTES {
                break;
            }
            bytes += length;
            records.extend(lane.pop_front());
        }
        if records.is_empty() {
            return false;
        }
        let frame = Numbered { sequence: self.next, records: Arc::new(records), bytes: HEADER_BYTES + bytes };
        self.next += 1;
        self.unconfirmed_bytes += frame.bytes;
        self.unconfirmed.push_back(frame);
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use topology_api::anchor::{Generation, LedgerId, Slot};
    use topology_api::fail::FailKind;

    use super::super::frame::{Data, PAYLOAD_BYTES};
    use super::*;
    use worker_api::ids::{Incarnation, WorkerIndex};

    fn root(slot: u32) -> Root {
        Root::new(LedgerId(1), Slot(slot), Generation(2))
    }

    fn ack(slot: u32, edge: u64, mask: u64) -> AckRecord {
        AckRecord { root: root(slot), edge, mask }
    }

    fn data(bytes: usize) -> Record {
        let payload = Bytes::from(vec![0; bytes]);
        Record::Data(Data { source: TaskId(1), stream: 0, targets: vec![TaskId(2)], tuples: 1, payload })
    }

    fn lost() -> Record {
        Record::Lost { worker: WorkerIndex(3), incarnation: Incarnation(4) }
    }

    fn records(outbox: &mut Outbox) -> Vec<Record> {
        outbox.next_frame().map_or_else(Vec::new, |frame| frame.records.to_vec())
    }

    #[test]
    fn acks_that_wait_together_are_sorted_and_merged() {
        let mut outbox = Outbox::default();
        for ack in [ack(2, 5, 1), ack(1, 7, 0), ack(2, 3, 4), ack(3, 9, 0), ack(3, 9, 0), ack(4, 8, 2), ack(4, 8, 0)] {
            outbox.ack(ack);
        }
        // Root 3's edges cancel: nothing is left to say; of root 4 it is where it went.
        assert_eq!(records(&mut outbox), [Record::Acks(vec![ack(1, 7, 0), ack(2, 6, 5), ack(4, 0, 2)])]);
        assert_eq!(records(&mut outbox), []);
    }

    #[test]
    fn the_first_lane_goes_first_and_lost_keeps_its_place() {
        let mut outbox = Outbox::default();
        outbox.push(data(8));
        outbox.ack(ack(1, 7, 8));
        outbox.push(lost());
        outbox.push(data(9));
        outbox.held(root(5));
        outbox.held(root(5));
        outbox.fail(root(6), FailReason::new(FailKind::Failed, "count", ""));
        outbox.fail(root(6), FailReason::new(FailKind::TimedOut, "count", ""));
        for tuples in [10, 20] {
            outbox.grant(Grant { task: TaskId(9), tuples, bytes: 1 });
        }
        let expected = [
            Record::Acks(vec![ack(1, 7, 8)]),
            Record::Fails(vec![(root(6), FailReason::new(FailKind::Failed, "count", ""))]),
            Record::Held(vec![root(5)]),
            Record::Grants(vec![Grant { task: TaskId(9), tuples: 20, bytes: 1 }]),
            data(8),
            lost(),
            data(9),
        ];
        assert_eq!(records(&mut outbox), expected);
    }

    #[test]
    fn nothing_overtakes_the_first_lane_when_it_fills_a_frame() {
        let mut outbox = Outbox::default();
        let long = "x".repeat(2 * FailReason::TEXT_BYTES);
        for slot in 0..3000 {
            let reason = FailReason { kind: FailKind::Failed, by: long.as_str().into(), message: long.as_str().into() };
            outbox.fail(root(slot), reason);
        }
        outbox.push(lost());
        let mut seen = 0;
        while let Some(frame) = outbox.next_frame() {
            assert!(frame.bytes <= FRAME_BYTES, "{} bytes", frame.bytes);
            for record in &*frame.records {
                match record {
                    Record::Fails(fails) => seen += fails.len(),
                    record => assert_eq!((record, seen), (&lost(), 3000)),
                }
            }
        }
        assert_eq!(seen, 3000);
    }

    #[test]
    fn entries_about_a_root_are_merged_while_they_wait() {
        let mut outbox = Outbox::default();
        for number in 0..100_000 {
            outbox.ack(ack(number % 10, 1 << (number % 60), 0));
        }
        assert!(outbox.acks.entries.len() <= Merged::<AckRecord>::FEW_ENTRIES);
    }

    #[test]
    fn a_large_batch_has_a_frame_of_its_own() {
        let mut outbox = Outbox::default();
        for record in [data(10), data(PAYLOAD_BYTES), data(10), data(10)] {
            outbox.push(record);
        }
        assert_eq!(records(&mut outbox), [data(10)]);
        assert_eq!(records(&mut outbox), [data(PAYLOAD_BYTES)]);
        assert_eq!(records(&mut outbox), [], "too much waits to be confirmed");
        assert!(!outbox.has_work());
        outbox.confirm(2);
        assert_eq!(records(&mut outbox), [data(10), data(10)]);
    }

    #[test]
    fn unconfirmed_frames_are_written_again_with_their_numbers() {
        let mut outbox = Outbox::default();
        for bytes in 1..=3 {
            outbox.push(data(bytes));
            outbox.next_frame().expect("a frame");
        }
        outbox.confirm(1);
        assert!(!outbox.has_work());
        outbox.rewind();
        outbox.push(data(4));
        let again: Vec<_> =
            std::iter::from_fn(|| outbox.next_frame()).map(|frame| (frame.sequence, frame.records.to_vec())).collect();
        assert_eq!(again, [(2, vec![data(2)]), (3, vec![data(3)]), (4, vec![data(4)])]);
        outbox.confirm(4);
        assert!(outbox.is_settled());
    }
}
