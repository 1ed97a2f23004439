//! The measured topologies: user code as in the examples, tuple by tuple.
//!
//! Not here: the hand-written programs beside them (`baseline`). Invariant: nothing in here knows that it is measured.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use storm::prelude::*;

use crate::cases::now;

/// A number.
#[tuple]
pub(crate) struct Number {
    pub(crate) value: u64,
}

/// A line of text.
#[tuple]
pub(crate) struct Line {
    pub(crate) text: Text,
}

/// A word.
#[tuple]
pub(crate) struct Word {
    pub(crate) word: Text,
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

/// Takes numbers and does nothing with them.
pub(crate) struct Null;

impl Bolt for Null {
    type Input = Number;
    type Output = ();

    fn execute(&mut self, number: Number, _: &mut Emitter<()>) -> Result {
        std::hint::black_box(number.value);
        Ok(())
    }
}

/// The lines of a text in memory, several times over.
pub(crate) struct Lines {
    text: &'static str,
    at: usize,
    passes: usize,
}

impl Lines {
    pub(crate) fn new(text: &'static str, passes: usize) -> Self {
        Lines { text, at: 0, passes }
    }
}

impl Spout for Lines {
    type Output = Line;
    type MessageId = u64;

    fn next(&mut self, out: &mut Roots<'_, Line, u64>) -> Result<Next> {
        if self.at >= self.text.len() {
            if self.passes <= 1 {
                return Ok(Next::Done);
            }
            self.passes -= 1;
            self.at = 0;
        }
        let rest = &self.text[self.at..];
        let line = rest.split('\n').next().unwrap_or(rest);
        out.emit(Line { text: line.into() }, self.at as u64);
        self.at += line.len() + 1;
        Ok(Next::Emitted)
    }
}

/// Splits lines into words.
pub(crate) struct Split;

impl Bolt for Split {
    type Input = Line;
    type Output = Word;

    fn execute(&mut self, line: Line, out: &mut Emitter<Word>) -> Result {
        for word in line.text.split_ascii_whitespace() {
            out.emit(Word { word: word.into() });
        }
        Ok(())
    }
}

/// Counts words.
#[derive(Default)]
pub(crate) struct Count(HashMap<Text, u64, ahash::RandomState>);

impl Bolt for Count {
    type Input = Word;
    type Output = ();

    fn execute(&mut self, word: Word, _: &mut Emitter<()>) -> Result {
        match self.0.get_mut(word.word.as_str()) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(word.word, 1);
            }
        }
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

/// Takes cells and does nothing with them.
pub(crate) struct NullCell;

impl Bolt for NullCell {
    type Input = Cell;
    type Output = ();

    fn execute(&mut self, cell: Cell, _: &mut Emitter<()>) -> Result {
        std::hint::black_box((cell.value, cell.rest));
        Ok(())
    }
}

/// Numbers at a steady rate: one for each interval that has passed.
pub(crate) struct Paced {
    began: Option<Instant>,
    interval: Duration,
    emitted: u64,
    end: u64,
}

impl Paced {
    pub(crate) fn new(interval: Duration, end: u64) -> Self {
        Paced { began: None, interval, emitted: 0, end }
    }
}

impl Spout for Paced {
    type Output = Number;
    type MessageId = u64;

    fn next(&mut self, out: &mut Roots<'_, Number, u64>) -> Result<Next> {
        if self.emitted == self.end {
            return Ok(Next::Done);
        }
        let passed = self.began.get_or_insert_with(now).elapsed();
        let due = self.interval * self.emitted as u32;
        if passed < due {
            return Ok(Next::Idle(due - passed));
        }
        out.emit(Number { value: self.emitted }, self.emitted);
        self.emitted += 1;
        Ok(Next::Emitted)
    }
}
