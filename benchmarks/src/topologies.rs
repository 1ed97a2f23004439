//! The measured topologies: user code as in the examples, tuple by tuple; the word counts are that of the example.
//!
//! Not here: how they are run (`shape`, `offered`), and the hand-written programs beside them (`baseline`). Invariant: what
//! a sink got is told when its input has finished, and not before.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use baseline::measure::now;
use baseline::microsecond::work;
use baseline::word_count::checksum;
use hdrhistogram::Histogram;
use storm::prelude::*;
use word_count::{FileLines, Line, Total};

/// The sum of what sinks got.
pub(crate) type Sum = Arc<AtomicU64>;

/// A number.
#[tuple]
pub(crate) struct Number {
    pub(crate) value: u64,
}

/// Numbers from 0 up to an end, tracked or not.
pub(crate) struct Numbers {
    pub(crate) next: u64,
    pub(crate) end: u64,
    pub(crate) tracked: bool,
}

impl Spout for Numbers {
    type Output = Number;
    type MessageId = u64;

    fn next(&mut self, out: &mut Roots<'_, Number, u64>) -> Result<Next> {
        if self.next == self.end {
            return Ok(Next::Done);
        }
        let number = Number { value: self.next };
        if self.tracked {
            out.emit(number, self.next);
        } else {
            out.emit_untracked(number);
        }
        self.next += 1;
        Ok(Next::Emitted)
    }
}

/// Passes numbers on.
pub(crate) struct Identity;

impl Bolt for Identity {
    type Input = Number;
    type Output = Number;

    fn execute(&mut self, number: Number, out: &mut Emitter<Number>) -> Result {
        out.emit(number);
        Ok(())
    }
}

/// Works for some microseconds on each number.
pub(crate) struct Work {
    pub(crate) microseconds: u32,
}

impl Bolt for Work {
    type Input = Number;
    type Output = Number;

    fn execute(&mut self, number: Number, out: &mut Emitter<Number>) -> Result {
        out.emit(Number { value: (0..self.microseconds).fold(number.value, |value, _| work(value)) });
        Ok(())
    }
}

/// Adds numbers up.
pub(crate) struct Null {
    sum: u64,
    all: Sum,
}

impl Null {
    pub(crate) fn new(all: &Sum) -> Self {
        Null { sum: 0, all: all.clone() }
    }
}

impl Bolt for Null {
    type Input = Number;
    type Output = ();

    fn execute(&mut self, number: Number, _: &mut Emitter<()>) -> Result {
        self.sum = self.sum.wrapping_add(number.value);
        Ok(())
    }

    fn finish(&mut self, _: &mut Emitter<()>) -> Result {
        self.all.fetch_add(self.sum, Ordering::Relaxed);
        Ok(())
    }
}

/// The lines of a file, as the example reads them, several times over.
pub(crate) struct Passes {
    file: PathBuf,
    left: usize,
    lines: FileLines,
    context: Option<Context>,
}

impl Passes {
    pub(crate) fn new(file: PathBuf, passes: usize) -> Self {
        Passes { left: passes, lines: FileLines::new(&file), file, context: None }
    }
}

impl Spout for Passes {
    type Output = Line;
    type MessageId = u64;

    fn open(&mut self, context: &Context) -> Result {
        self.context = Some(context.clone());
        self.lines.open(context)
    }

    fn next(&mut self, out: &mut Roots<'_, Line, u64>) -> Result<Next> {
        let next = self.lines.next(out)?;
        if next != Next::Done || self.left <= 1 {
            return Ok(next);
        }
        self.left -= 1;
        self.lines = FileLines::new(&self.file);
        if let Some(context) = &self.context {
            self.lines.open(context)?;
        }
        self.lines.next(out)
    }

    fn fail(&mut self, offset: u64, reason: &FailReason) {
        self.lines.fail(offset, reason);
    }
}

/// Takes the counts of words, which come when all are counted.
pub(crate) struct Totals {
    pub(crate) all: Sum,
}

impl Bolt for Totals {
    type Input = Total;
    type Output = ();

    fn execute(&mut self, total: Total, _: &mut Emitter<()>) -> Result {
        self.all.fetch_add(checksum(&total.word, total.count), Ordering::Relaxed);
        Ok(())
    }
}

/// Splits lines that come as values.
pub(crate) struct SplitValues;

impl Bolt for SplitValues {
    type Input = Values;
    type Output = Values;

    fn execute(&mut self, line: Values, out: &mut Emitter<Values>) -> Result {
        let Some(text) = line.get(0).and_then(Value::as_text) else {
            return Err(Error::fatal("a line without a text"));
        };
        for word in text.split_whitespace() {
            out.emit(values![word]);
        }
        Ok(())
    }
}

/// Counts words that come as values.
#[derive(Default)]
pub(crate) struct CountValues(HashMap<Text, i64, ahash::RandomState>);

impl Bolt for CountValues {
    type Input = Values;
    type Output = Values;

    fn execute(&mut self, word: Values, _: &mut Emitter<Values>) -> Result {
        let Some(Value::Text(word)) = word.get(0) else { return Err(Error::fatal("a word that is no text")) };
        match self.0.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(word.clone(), 1);
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<Values>) -> Result {
        let totals = std::mem::take(&mut self.0).into_iter();
        out.emit_all(totals.map(|(word, count)| values![word, count]));
        Ok(())
    }
}

/// Takes the counts of words that come as values.
pub(crate) struct TotalValues {
    pub(crate) all: Sum,
}

impl Bolt for TotalValues {
    type Input = Values;
    type Output = ();

    fn execute(&mut self, total: Values, _: &mut Emitter<()>) -> Result {
        let (Some(Value::Text(word)), Some(Value::Int(count))) = (total.get(0), total.get(1)) else {
            return Err(Error::fatal("a total that is no word with its count"));
        };
        self.all.fetch_add(checksum(word, *count as u64), Ordering::Relaxed);
        Ok(())
    }
}

/// Sixty-four bytes.
#[tuple]
pub(crate) struct Cell {
    pub(crate) value: u64,
    pub(crate) rest: [u8; 56],
}

/// Cells from 0 up to an end.
pub(crate) struct Cells {
    pub(crate) next: u64,
    pub(crate) end: u64,
}

impl Spout for Cells {
    type Output = Cell;
    type MessageId = u64;

    fn next(&mut self, out: &mut Roots<'_, Cell, u64>) -> Result<Next> {
        if self.next == self.end {
            return Ok(Next::Done);
        }
        out.emit(Cell { value: self.next, rest: [0; 56] }, self.next);
        self.next += 1;
        Ok(Next::Emitted)
    }
}

/// Adds cells up.
pub(crate) struct NullCell {
    pub(crate) sum: u64,
    pub(crate) all: Sum,
}

impl Bolt for NullCell {
    type Input = Cell;
    type Output = ();

    fn execute(&mut self, cell: Cell, _: &mut Emitter<()>) -> Result {
        self.sum = self.sum.wrapping_add(std::hint::black_box(cell).value);
        Ok(())
    }

    fn finish(&mut self, _: &mut Emitter<()>) -> Result {
        self.all.fetch_add(self.sum, Ordering::Relaxed);
        Ok(())
    }
}

/// A kibibyte, and where it lies in the memory of who made it.
#[tuple]
pub(crate) struct Payload {
    pub(crate) address: u64,
    pub(crate) bytes: Bytes,
}

/// Bytes of a payload.
pub(crate) const PAYLOAD_BYTES: usize = 1024;

/// So many payloads, each made anew.
pub(crate) struct Payloads {
    pub(crate) left: u64,
}

impl Spout for Payloads {
    type Output = Payload;
    type MessageId = u64;

    fn next(&mut self, out: &mut Roots<'_, Payload, u64>) -> Result<Next> {
        if self.left == 0 {
            return Ok(Next::Done);
        }
        self.left -= 1;
        let bytes = Bytes::from(vec![self.left as u8; PAYLOAD_BYTES]);
        out.emit(Payload { address: address(&bytes), bytes }, self.left);
        Ok(Next::Emitted)
    }
}

fn address(bytes: &Bytes) -> u64 {
    bytes.as_ptr().addr() as u64
}

/// Takes payloads, and counts those that lie elsewhere than where they were made.
pub(crate) struct Shared {
    copied: u64,
    sum: u64,
    all_copied: Sum,
    all: Sum,
}

impl Shared {
    pub(crate) fn new(all: &Sum, all_copied: &Sum) -> Self {
        Shared { copied: 0, sum: 0, all_copied: all_copied.clone(), all: all.clone() }
    }
}

impl Bolt for Shared {
    type Input = Payload;
    type Output = ();

    fn execute(&mut self, payload: Payload, _: &mut Emitter<()>) -> Result {
        self.copied += u64::from(address(&payload.bytes) != payload.address);
        self.sum += u64::from(payload.bytes[PAYLOAD_BYTES - 1]);
        Ok(())
    }

    fn finish(&mut self, _: &mut Emitter<()>) -> Result {
        self.all_copied.fetch_add(self.copied, Ordering::Relaxed);
        self.all.fetch_add(self.sum, Ordering::Relaxed);
        Ok(())
    }
}

/// When something happened, in nanoseconds since a moment that all know.
#[tuple]
pub(crate) struct Stamp {
    pub(crate) at_ns: u64,
}

/// Works for a microsecond on each number, and emits the time now and then.
pub(crate) struct Rarely {
    pub(crate) began: Instant,
    /// Of so many numbers the last one has an output.
    pub(crate) every: u64,
}

impl Bolt for Rarely {
    type Input = Number;
    type Output = Stamp;

    fn execute(&mut self, number: Number, out: &mut Emitter<Stamp>) -> Result {
        std::hint::black_box(work(number.value));
        if number.value % self.every == self.every - 1 {
            out.emit(Stamp { at_ns: self.began.elapsed().as_nanos() as u64 });
        }
        Ok(())
    }
}

/// Times in nanoseconds, from where they are measured to who reads them.
pub(crate) type Times = Arc<Mutex<Histogram<u64>>>;

/// Says how long stamps were under way.
pub(crate) struct Arrivals {
    pub(crate) began: Instant,
    pub(crate) times: Times,
}

impl Bolt for Arrivals {
    type Input = Stamp;
    type Output = ();

    fn execute(&mut self, stamp: Stamp, _: &mut Emitter<()>) -> Result {
        let under_way_ns = (now().duration_since(self.began).as_nanos() as u64).saturating_sub(stamp.at_ns);
        self.times.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(under_way_ns);
        Ok(())
    }
}

/// Has nothing, and is asked again five times a second.
pub(crate) struct Nothing;

impl Spout for Nothing {
    type Output = Number;
    type MessageId = u64;

    fn next(&mut self, _: &mut Roots<'_, Number, u64>) -> Result<Next> {
        Ok(Next::Idle(std::time::Duration::from_millis(200)))
    }
}
