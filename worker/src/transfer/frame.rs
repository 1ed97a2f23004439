//! The wire format of a link, version 1: frames, and the records in them. Little endian, no padding.
//!
//! ```text
//! frame    length u32 (of what follows) | sequence u64 | confirms u64 | record*
//!          sequence: 1, 2, 3 … over the life of a link; 0 is a frame without records that only confirms
//!          confirms: the highest sequence that the sender of this frame has received
//!
//! record   tag u8, then
//!   1 acks     count u32 | (root u64 | edge u64 | mask u64)*
//!   2 fails    count u32 | (root u64 | kind u8 | length u16 | by | length u16 | message)*
//!   3 held     count u32 | root u64 *
//!   4 grants   count u32 | (task u32 | tuples u64 | bytes u64)*
//!   5 lost     worker u16 | incarnation u64
//!   6 data     source u32 | stream u16 | targets u16 | tuples u32 | payload u32 | task u32 * | payload bytes
//!   7 end      source u32 | stream u16 | targets u16 | task u32 *
//! ```
//!
//! Lists and target lists are never empty. A frame has at most [`FRAME_BYTES`], but a single `data` record whose payload
//! has at most [`PAYLOAD_BYTES`] may make a frame of its own that is larger. There is no check sum: a link runs over TCP.
//!
//! Not here: the handshake before the first frame (`handshake`), and what a payload's bytes mean (the stream's codec).
//! Invariant: whatever decodes encodes to the same bytes again, and no length is believed before it is checked.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use topology_api::anchor::Root;
use topology_api::fail::{FailKind, FailReason};
use topology_api::ids::TaskId;

use worker_api::ids::{Incarnation, WorkerIndex};

/// Version of this format; the handshake refuses another.
pub const VERSION: u16 = 1;
/// Largest frame, in bytes after its length, unless it holds one `data` record alone.
pub const FRAME_BYTES: usize = 4 << 20;
/// Largest payload of a `data` record, in bytes.
pub const PAYLOAD_BYTES: usize = 64 << 20;
/// Most tasks that one record is for.
pub const TARGETS: usize = u16::MAX as usize;

/// Bytes of a frame before its records, the length included.
pub const HEADER_BYTES: usize = 20;
/// Largest length that a frame can state: a lone `data` record with all the targets and payload it may have.
const LENGTH_MAX: usize = 16 + DATA_BYTES + 4 * TARGETS + PAYLOAD_BYTES;

/// Bytes of a list's tag and count.
const LIST_BYTES: usize = 5;
const ACK_BYTES: usize = 24;
/// Bytes of a fail without its texts.
const FAIL_BYTES: usize = 13;
const HELD_BYTES: usize = 8;
const GRANT_BYTES: usize = 20;
const LOST_BYTES: usize = 11;
/// Bytes of a `data` record before its targets.
const DATA_BYTES: usize = 17;
/// Bytes of an `end` record before its targets.
const END_BYTES: usize = 9;

pub use crate::acking::AckRecord;

/// A batch of one stream, for tasks of the worker it is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The task that emitted it.
    pub source: TaskId,
    /// The stream's number among those of its component.
    pub stream: u16,
    /// The tasks that each get all of it, 1 ..= [`TARGETS`].
    pub targets: Vec<TaskId>,
    /// How many tuples the payload holds.
    pub tuples: u32,
    /// The encoded tuples, at most [`PAYLOAD_BYTES`].
    pub payload: Bytes,
}

/// The word that a task will emit no more on a stream; it keeps its place behind the stream's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The task that has ended.
    pub source: TaskId,
    /// The stream's number among those of its component.
    pub stream: u16,
    /// The tasks that are told, 1 ..= [`TARGETS`].
    pub targets: Vec<TaskId>,
}

/// How much a sender may have sent to one task since the link began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The receiving task.
    pub task: TaskId,
    /// Total of tuples.
    pub tuples: u64,
    /// Total of payload bytes.
    pub bytes: u64,
}

/// What a numbered frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Acks for ledgers of the receiver.
    Acks(Vec<AckRecord>),
    /// Roots of the receiver's ledgers that failed, and why.
    Fails(Vec<(Root, FailReason)>),
    /// Roots of the receiver's ledgers that a bolt says it is holding.
    Held(Vec<Root>),
    /// Permits to send.
    Grants(Vec<Grant>),
    /// The sender has lost an incarnation of a worker for good.
    Lost {
        /// The worker.
        worker: WorkerIndex,
        /// Its incarnation that is gone.
        incarnation: Incarnation,
    },
    /// A batch.
    Data(Data),
    /// The end of a stream's source.
    End(End),
}

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number, or 0 if it only confirms.
    pub sequence: u64,
    /// The highest number that its sender has received.
    pub confirms: u64,
    /// What it carries, in the order in which it is to be seen.
    pub records: Vec<Record>,
}

/// Why bytes are not a frame. The connection that they came over is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The stated length is outside what a frame can have.
    #[error("read a frame's length: found {found} bytes, expected 16 to {LENGTH_MAX}; is the peer of this version?")]
    Length {
        /// The stated length.
        found: usize,
    },
    /// A frame above [`FRAME_BYTES`] holds something else than one `data` record.
    #[error("read a frame of {found} bytes: only a lone batch may exceed {FRAME_BYTES}; is the peer of this version?")]
    Large {
        /// The frame's length.
        found: usize,
    },
    /// The frame ends inside a record.
    #[error("read {record}: the frame ends inside it; is the peer of this version?")]
    Truncated {
        /// What was being read.
        record: &'static str,
    },
    /// A record's tag is unknown.
    #[error("read a record: found the unknown tag {found}; is the peer of this version?")]
    Tag {
        /// The tag.
        found: u8,
    },
    /// A list has no element.
    #[error("read {record}: its list is empty; is the peer of this version?")]
    Empty {
        /// What was being read.
        record: &'static str,
    },
    /// A payload is larger than any sender sends.
    #[error("read a batch: found a payload of {found} bytes, at most {PAYLOAD_BYTES} are allowed")]
    Payload {
        /// The stated length.
        found: usize,
    },
    /// The kind of a fail is unknown.
    #[error("read a fail: found the unknown kind {found}; is the peer of this version?")]
    FailKind {
        /// The number of the kind.
        found: u8,
    },
    /// A text of a fail is too long or not UTF-8.
    #[error("read a fail: its text is not UTF-8 of at most {} bytes", FailReason::TEXT_BYTES)]
    Text,
    /// A frame that only confirms has records, or a numbered one has none.
    #[error("read frame {sequence}: found {bytes} bytes of records; frame 0 has none, all others have some")]
    Records {
        /// The frame's number.
        sequence: u64,
        /// Bytes after the frame's header.
        bytes: usize,
    },
}

/// Why a record cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The batch is too large.
    #[error(
        "send a batch: its payload has {found} bytes, at most {PAYLOAD_BYTES} can be sent; make the tuples smaller"
    )]
    Payload {
        /// The payload's length.
        found: usize,
    },
    /// The record is for nobody, or for too many.
    #[error("send a record: it is for {found} tasks, expected 1 to {TARGETS}")]
    Targets {
        /// The number of targets.
        found: usize,
    },
}

impl Data {
    /// Whether it fits the format.
    ///
    /// # Errors
    /// If the payload is too large, or the number of targets is out of range.
    pub fn check(&self) -> Result<(), RecordError> {
        if self.payload.len() > PAYLOAD_BYTES {
            return Err(RecordError::Payload { found: self.payload.len() });
        }
        check_targets(&self.targets)
    }
}

impl End {
    /// Whether it fits the format.
    ///
    /// # Errors
    /// If the number of targets is out of range.
    pub fn check(&self) -> Result<(), RecordError> {
        check_targets(&self.targets)
    }
}

fn check_targets(targets: &[TaskId]) -> Result<(), RecordError> {
    if targets.is_empty() || targets.len() > TARGETS {
        return Err(RecordError::Targets { found: targets.len() });
    }
    Ok(())
}

impl Record {
    /// Bytes that it takes in a frame.
    pub fn encoded_len(&self) -> usize {
        match self {
            Record::Acks(acks) => LIST_BYTES + ACK_BYTES * acks.len(),
            Record::Fails(fails) => {
                let texts: usize = fails.iter().map(|(_, reason)| reason.by.len() + reason.message.len()).sum();
                LIST_BYTES + FAIL_BYTES * fails.len() + texts
            }
            Record::Held(roots) => LIST_BYTES + HELD_BYTES * roots.len(),
            Record::Grants(grants) => LIST_BYTES + GRANT_BYTES * grants.len(),
            Record::Lost { .. } => LOST_BYTES,
            Record::Data(data) => DATA_BYTES + 4 * data.targets.len() + data.payload.len(),
            Record::End(end) => END_BYTES + 4 * end.targets.len(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Acks(acks) => {
                put_list(out, 1, acks.len());
                for ack in acks {
                    out.put_u64_le(ack.root.to_bits());
                    out.put_u64_le(ack.edge);
                    out.put_u64_le(ack.mask);
                }
            }
            Record::Fails(fails) => {
                put_list(out, 2, fails.len());
                for (root, reason) in fails {
                    out.put_u64_le(root.to_bits());
                    out.put_u8(reason.kind as u8);
                    for text in [&reason.by, &reason.message] {
                        out.put_u16_le(text.len() as u16);
                        out.put_slice(text.as_bytes());
                    }
                }
            }
            Record::Held(roots) => {
                put_list(out, 3, roots.len());
                for root in roots {
                    out.put_u64_le(root.to_bits());
                }
            }
            Record::Grants(grants) => {
                put_list(out, 4, grants.len());
                for grant in grants {
                    out.put_u32_le(grant.task.0);
                    out.put_u64_le(grant.tuples);
                    out.put_u64_le(grant.bytes);
                }
            }
            Record::Lost { worker, incarnation } => {
                out.put_u8(5);
                out.put_u16_le(worker.0);
                out.put_u64_le(incarnation.0);
            }
            Record::Data(data) => {
                out.put_u8(6);
                out.put_u32_le(data.source.0);
                out.put_u16_le(data.stream);
                out.put_u16_le(data.targets.len() as u16);
                out.put_u32_le(data.tuples);
                out.put_u32_le(data.payload.len() as u32);
                put_targets(out, &data.targets);
                out.put_slice(&data.payload);
            }
            Record::End(end) => {
                out.put_u8(7);
                out.put_u32_le(end.source.0);
                out.put_u16_le(end.stream);
                out.put_u16_le(end.targets.len() as u16);
                put_targets(out, &end.targets);
            }
        }
    }

    fn decode(from: &mut Bytes) -> Result<Self, FrameError> {
        let tag = from.try_get_u8().map_err(|_| FrameError::Truncated { record: "a record" })?;
        match tag {
            1 => {
                let count = get_count(from, "acks", ACK_BYTES)?;
                let ack = |from: &mut Bytes| AckRecord {
                    root: Root::from_bits(from.get_u64_le()),
                    edge: from.get_u64_le(),
                    mask: from.get_u64_le(),
                };
                Ok(Record::Acks((0..count).map(|_| ack(from)).collect()))
            }
            2 => {
                let count = get_count(from, "fails", FAIL_BYTES)?;
                (0..count).map(|_| get_fail(from)).collect::<Result<_, _>>().map(Record::Fails)
            }
            3 => {
                let count = get_count(from, "held roots", HELD_BYTES)?;
                Ok(Record::Held((0..count).map(|_| Root::from_bits(from.get_u64_le())).collect()))
            }
            4 => {
                let count = get_count(from, "grants", GRANT_BYTES)?;
                let grant = |from: &mut Bytes| Grant {
                    task: TaskId(from.get_u32_le()),
                    tuples: from.get_u64_le(),
                    bytes: from.get_u64_le(),
                };
                Ok(Record::Grants((0..count).map(|_| grant(from)).collect()))
            }
            5 => {
                need(from, "a lost worker", LOST_BYTES - 1)?;
                let worker = WorkerIndex(from.get_u16_le());
                Ok(Record::Lost { worker, incarnation: Incarnation(from.get_u64_le()) })
            }
            6 => {
                need(from, "a batch", DATA_BYTES - 1)?;
                let source = TaskId(from.get_u32_le());
                let stream = from.get_u16_le();
                let targets = usize::from(from.get_u16_le());
                let tuples = from.get_u32_le();
                let payload = from.get_u32_le() as usize;
                if payload > PAYLOAD_BYTES {
                    return Err(FrameError::Payload { found: payload });
                }
                let targets = get_targets(from, "a batch", targets)?;
                need(from, "a batch", payload)?;
                Ok(Record::Data(Data { source, stream, targets, tuples, payload: from.split_to(payload) }))
            }
            7 => {
                need(from, "a source's end", END_BYTES - 1)?;
                let source = TaskId(from.get_u32_le());
                let stream = from.get_u16_le();
                let targets = usize::from(from.get_u16_le());
                Ok(Record::End(End { source, stream, targets: get_targets(from, "a source's end", targets)? }))
            }
            found => Err(FrameError::Tag { found }),
        }
    }
}

fn put_list(out: &mut Vec<u8>, tag: u8, count: usize) {
    out.put_u8(tag);
    out.put_u32_le(count as u32);
}

fn put_targets(out: &mut Vec<u8>, targets: &[TaskId]) {
    for target in targets {
        out.put_u32_le(target.0);
    }
}

fn need(from: &Bytes, record: &'static str, bytes: usize) -> Result<(), FrameError> {
    if from.remaining() < bytes { Err(FrameError::Truncated { record }) } else { Ok(()) }
}

/// A list's count, which is not believed unless that many elements can follow.
fn get_count(from: &mut Bytes, record: &'static str, element_bytes: usize) -> Result<usize, FrameError> {
    let count = from.try_get_u32_le().map_err(|_| FrameError::Truncated { record })? as usize;
    if count == 0 {
        return Err(FrameError::Empty { record });
    }
    if count > from.remaining() / element_bytes {
        return Err(FrameError::Truncated { record });
    }
    Ok(count)
}

fn get_targets(from: &mut Bytes, record: &'static str, count: usize) -> Result<Vec<TaskId>, FrameError> {
    if count == 0 {
        return Err(FrameError::Empty { record });
    }
    need(from, record, 4 * count)?;
    Ok((0..count).map(|_| TaskId(from.get_u32_le())).collect())
}

fn get_fail(from: &mut Bytes) -> Result<(Root, FailReason), FrameError> {
    need(from, "fails", FAIL_BYTES)?;
    let root = Root::from_bits(from.get_u64_le());
    let number = from.get_u8();
    let kind = FailKind::from_number(number).ok_or(FrameError::FailKind { found: number })?;
    let by = get_text(from)?;
    let message = get_text(from)?;
    let text = |bytes: &Bytes| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| FrameError::Text);
    Ok((root, FailReason::new(kind, text(&by)?, text(&message)?)))
}

fn get_text(from: &mut Bytes) -> Result<Bytes, FrameError> {
    let length = usize::from(from.try_get_u16_le().map_err(|_| FrameError::Truncated { record: "fails" })?);
    if length > FailReason::TEXT_BYTES {
        return Err(FrameError::Text);
    }
    need(from, "fails", length)?;
    Ok(from.split_to(length))
}

/// Appends a frame to `out`. `records` are in the order in which they are to be seen; none for a frame that only
/// confirms (`sequence` 0). Each of them fits the format ([`Data::check`], [`End::check`]), and all together a frame.
pub fn encode(sequence: u64, confirms: u64, records: &[Record], out: &mut Vec<u8>) {
    let length: usize = 16 + records.iter().map(Record::encoded_len).sum::<usize>();
    debug_assert!(length <= FRAME_BYTES || records.len() == 1, "a frame of {length} bytes");
    out.reserve(4 + length);
    out.put_u32_le(length as u32);
    out.put_u64_le(sequence);
    out.put_u64_le(confirms);
    for record in records {
        record.encode(out);
    }
}

/// Cuts the next whole frame, without its length, off the front of what was received; `None` if more must come first.
///
/// A small frame is copied, so that a batch that waits for long does not keep the whole of `received` in memory.
///
/// # Errors
/// If the length that the frame states is out of range; nothing is allocated for it then.
pub fn split(received: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    const COPIED_BYTES: usize = 16 << 10;
    let Some(length) = received.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) else {
        return Ok(None);
    };
    if !(16..=LENGTH_MAX).contains(&length) {
        return Err(FrameError::Length { found: length });
    }
    if received.len() < 4 + length {
        received.reserve(4 + length - received.len());
        return Ok(None);
    }
    received.advance(4);
    if length > COPIED_BYTES {
        return Ok(Some(received.split_to(length).freeze()));
    }
    let frame = Bytes::copy_from_slice(&received[..length]);
    received.advance(length);
    Ok(Some(frame))
}

/// Reads a frame that [`split`] has cut off. Payloads are slices of it, not copies.
///
/// # Errors
/// If the bytes are no frame of this format.
pub fn decode(mut frame: Bytes) -> Result<Frame, FrameError> {
    let length = frame.len();
    need(&frame, "a frame's header", 16)?;
    let sequence = frame.get_u64_le();
    let confirms = frame.get_u64_le();
    if (sequence == 0) != frame.is_empty() {
        return Err(FrameError::Records { sequence, bytes: frame.len() });
    }
    let mut records = Vec::new();
    while !frame.is_empty() {
        records.push(Record::decode(&mut frame)?);
    }
    if length > FRAME_BYTES && !matches!(records[..], [Record::Data(_)]) {
        return Err(FrameError::Large { found: length });
    }
    Ok(Frame { sequence, confirms, records })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use topology_api::anchor::{Generation, LedgerId, Slot};

    use super::*;

    fn encoded(sequence: u64, confirms: u64, records: &[Record]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(sequence, confirms, records, &mut out);
        out
    }

    /// Decodes exactly one frame.
    fn read(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        let mut received = BytesMut::from(bytes);
        let frame = split(&mut received)?.map(decode).transpose()?;
        assert!(frame.is_none() || received.is_empty(), "bytes are left");
        Ok(frame)
    }

    fn root() -> Root {
        Root::new(LedgerId(0x0102), Slot(0x3_0405), Generation(0x607_0809))
    }

    #[test]
    fn golden_bytes() {
        let records = [
            Record::Acks(vec![AckRecord { root: root(), edge: 0x1112131415161718, mask: 0x21 }]),
            Record::Fails(vec![(root(), FailReason::new(FailKind::TimedOut, "split", "é"))]),
            Record::Held(vec![root()]),
            Record::Grants(vec![Grant { task: TaskId(7), tuples: 256, bytes: 65_536 }]),
            Record::Lost { worker: WorkerIndex(3), incarnation: Incarnation(9) },
            Record::Data(Data {
                source: TaskId(1),
                stream: 2,
                targets: vec![TaskId(3), TaskId(4)],
                tuples: 5,
                payload: Bytes::from_static(b"tuples"),
            }),
            Record::End(End { source: TaskId(1), stream: 2, targets: vec![TaskId(3)] }),
        ];
        #[rustfmt::skip]
        let golden: &[u8] = &[
            163, 0, 0, 0,  6, 0, 0, 0, 0, 0, 0, 0,  5, 0, 0, 0, 0, 0, 0, 0,
            1,  1, 0, 0, 0,  9, 8, 7, 86, 64, 48, 2, 1,  24, 23, 22, 21, 20, 19, 18, 17,  33, 0, 0, 0, 0, 0, 0, 0,
            2,  1, 0, 0, 0,  9, 8, 7, 86, 64, 48, 2, 1,  3,  5, 0, 115, 112, 108, 105, 116,  2, 0, 195, 169,
            3,  1, 0, 0, 0,  9, 8, 7, 86, 64, 48, 2, 1,
            4,  1, 0, 0, 0,  7, 0, 0, 0,  0, 1, 0, 0, 0, 0, 0, 0,  0, 0, 1, 0, 0, 0, 0, 0,
            5,  3, 0,  9, 0, 0, 0, 0, 0, 0, 0,
            6,  1, 0, 0, 0,  2, 0,  2, 0,  5, 0, 0, 0,  6, 0, 0, 0,  3, 0, 0, 0,  4, 0, 0, 0,
                116, 117, 112, 108, 101, 115,
            7,  1, 0, 0, 0,  2, 0,  1, 0,  3, 0, 0, 0,
        ];
        assert_eq!(encoded(6, 5, &records), golden);
        assert_eq!(read(golden), Ok(Some(Frame { sequence: 6, confirms: 5, records: records.to_vec() })));
        assert_eq!(VERSION, 1, "other bytes are another version");
    }

    #[test]
    fn a_confirm_is_a_frame_without_records() {
        let golden = [16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(encoded(0, 9, &[]), golden);
        assert_eq!(read(&golden), Ok(Some(Frame { sequence: 0, confirms: 9, records: vec![] })));
    }

    /// Frame 1, with these bytes for its records.
    fn with_records(records: &[u8]) -> Vec<u8> {
        let mut frame = encoded(1, 0, &[]);
        frame[0] += u8::try_from(records.len()).unwrap();
        frame.extend(records);
        frame
    }

    #[test]
    fn lengths_are_checked_before_they_are_believed() {
        let check = |bytes: &[u8], expected: FrameError| assert_eq!(read(bytes), Err(expected), "{bytes:?}");
        check(&[15, 0, 0, 0], FrameError::Length { found: 15 });
        check(&[0xff, 0xff, 0xff, 0xff], FrameError::Length { found: 0xffff_ffff });
        check(&with_records(&[]), FrameError::Records { sequence: 1, bytes: 0 });
        check(&with_records(&[1, 0xff, 0xff, 0xff, 0xff]), FrameError::Truncated { record: "acks" });
        check(&with_records(&[4, 0, 0, 0, 0]), FrameError::Empty { record: "grants" });
        check(&with_records(&[8]), FrameError::Tag { found: 8 });
        let mut fail = vec![2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0];
        check(&with_records(&fail), FrameError::FailKind { found: 9 });
        fail[13..].copy_from_slice(&[0, 1, 4, 0, 0]);
        check(&with_records(&fail), FrameError::Text);
        fail[13..].copy_from_slice(&[0, 0, 0, 1, 0]);
        fail.push(0xff);
        check(&with_records(&fail), FrameError::Text);
        let data = [6, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 4, 0, 0, 0, 0];
        check(&with_records(&data), FrameError::Payload { found: PAYLOAD_BYTES + 1 });
        let nobody = [7, 0, 0, 0, 0, 0, 0, 0, 0];
        check(&with_records(&nobody), FrameError::Empty { record: "a source's end" });
    }

    #[test]
    fn only_a_lone_batch_may_be_larger_than_a_frame() {
        let large = Record::Data(Data {
            source: TaskId(1),
            stream: 0,
            targets: vec![TaskId(2)],
            tuples: 1,
            payload: vec![7; FRAME_BYTES].into(),
        });
        let mut frame = encoded(1, 0, std::slice::from_ref(&large));
        assert_eq!(read(&frame).unwrap().unwrap().records, [large]);
        let lost = Record::Lost { worker: WorkerIndex(1), incarnation: Incarnation(1) };
        let length = frame.len() - 4 + lost.encoded_len();
        frame[..4].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
        lost.encode(&mut frame);
        assert_eq!(read(&frame), Err(FrameError::Large { found: length }));
    }

    #[test]
    fn records_that_do_not_fit_are_refused_before_they_are_sent() {
        let data = |targets: usize, payload: usize| Data {
            source: TaskId(1),
            stream: 0,
            targets: vec![TaskId(2); targets],
            tuples: 1,
            payload: vec![0; payload].into(),
        };
        assert_eq!(data(TARGETS, PAYLOAD_BYTES).check(), Ok(()));
        assert_eq!(data(0, 1).check(), Err(RecordError::Targets { found: 0 }));
        assert_eq!(data(TARGETS + 1, 1).check(), Err(RecordError::Targets { found: TARGETS + 1 }));
        assert_eq!(data(1, PAYLOAD_BYTES + 1).check(), Err(RecordError::Payload { found: PAYLOAD_BYTES + 1 }));
    }

    #[test]
    fn payloads_are_slices_of_their_frame() {
        let payload = vec![7; 100_000];
        let data = Data { source: TaskId(1), stream: 0, targets: vec![TaskId(2)], tuples: 1, payload: payload.into() };
        let mut received = BytesMut::from(&encoded(1, 0, &[Record::Data(data)])[..]);
        let frame = split(&mut received).unwrap().unwrap();
        let records = decode(frame.clone()).unwrap().records;
        let [Record::Data(data)] = &records[..] else { panic!("{records:?}") };
        assert!(frame.as_ptr_range().contains(&data.payload.as_ptr()));
    }

    fn any_root() -> impl Strategy<Value = Root> {
        any::<u64>().prop_map(Root::from_bits)
    }

    fn any_tasks() -> impl Strategy<Value = Vec<TaskId>> {
        prop::collection::vec(any::<u32>().prop_map(TaskId), 1..5)
    }

    fn list<T: std::fmt::Debug>(element: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
        prop::collection::vec(element, 1..5)
    }

    prop_compose! {
        fn any_fail()(root in any_root(), kind in 0u8..9, by in ".{0,9}", message in ".{0,9}") -> (Root, FailReason) {
            (root, FailReason::new(FailKind::from_number(kind).unwrap(), by, message))
        }
    }

    prop_compose! {
        fn any_ack()(root in any_root(), edge: u64, mask: u64) -> AckRecord {
            AckRecord { root, edge, mask }
        }
    }

    prop_compose! {
        fn any_grant()(task: u32, tuples: u64, bytes: u64) -> Grant {
            Grant { task: TaskId(task), tuples, bytes }
        }
    }

    prop_compose! {
        fn any_data()(source: u32, stream: u16, targets in any_tasks(), tuples: u32, payload: Vec<u8>) -> Data {
            Data { source: TaskId(source), stream, targets, tuples, payload: payload.into() }
        }
    }

    fn any_record() -> impl Strategy<Value = Record> {
        prop_oneof![
            list(any_ack()).prop_map(Record::Acks),
            list(any_fail()).prop_map(Record::Fails),
            list(any_root()).prop_map(Record::Held),
            list(any_grant()).prop_map(Record::Grants),
            (any::<u16>(), any::<u64>()).prop_map(|(worker, incarnation)| Record::Lost {
                worker: WorkerIndex(worker),
                incarnation: Incarnation(incarnation)
            }),
            any_data().prop_map(Record::Data),
            (any::<u32>(), any::<u16>(), any_tasks()).prop_map(|(source, stream, targets)| Record::End(End {
                source: TaskId(source),
                stream,
                targets
            })),
        ]
    }

    proptest! {
        #[test]
        fn frames_round_trip_and_no_part_of_one_is_read(
            sequence in 1u64..,
            confirms: u64,
            records in list(any_record()),
        ) {
            let bytes = encoded(sequence, confirms, &records);
            prop_assert_eq!(bytes.len(), HEADER_BYTES + records.iter().map(Record::encoded_len).sum::<usize>());
            for end in 0..bytes.len() {
                // What has not all come yet is no frame yet …
                prop_assert_eq!(read(&bytes[..end]), Ok(None));
                // … and what says that it has is refused, or ends between two records.
                if end > HEADER_BYTES {
                    let mut short = bytes[..end].to_vec();
                    short[..4].copy_from_slice(&u32::try_from(end - 4).unwrap().to_le_bytes());
                    if let Ok(Some(frame)) = read(&short) {
                        prop_assert!(frame.records.len() < records.len());
                        prop_assert_eq!(&frame.records[..], &records[..frame.records.len()]);
                    }
                }
            }
            prop_assert_eq!(read(&bytes), Ok(Some(Frame { sequence, confirms, records })));
        }

        #[test]
        fn garbage_is_refused_or_means_exactly_its_bytes(tag in 0u8..9, body: Vec<u8>) {
            let mut bytes = encoded(1, 0, &[]);
            bytes.push(tag);
            bytes.extend(body);
            let length = u32::try_from(bytes.len() - 4).unwrap();
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            if let Ok(Some(frame)) = read(&bytes) {
                prop_assert_eq!(encoded(frame.sequence, frame.confirms, &frame.records), bytes);
            }
        }

        #[test]
        fn a_changed_byte_is_refused_or_means_exactly_its_bytes(
            records in list(any_record()),
            at: prop::sample::Index,
            change in 1u8..,
        ) {
            let mut bytes = encoded(1, 0, &records);
            let at = 4 + at.index(bytes.len() - 4);
            bytes[at] ^= change;
            if let Ok(Some(frame)) = read(&bytes) {
                prop_assert_eq!(encoded(frame.sequence, frame.confirms, &frame.records), bytes);
            }
        }
    }
}
