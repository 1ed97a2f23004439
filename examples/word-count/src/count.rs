//! The bolts: lines into words, words into totals, totals into the result.
//!
//! Not here: files (`file_lines`, `result_file`). Invariant: fields grouping sends all occurrences of a word to one counter,
//! so the latest total of a word is its count.

use std::collections::HashMap;
use std::path::Path;

use storm::prelude::*;

use crate::file_lines::Line;
use crate::result_file::ResultFile;

type Counts = HashMap<Text, u64, ahash::RandomState>;

/// A word, as it stands in the text.
#[tuple]
pub struct Word {
    /// Not normalised: `Light` and `light,` are words of their own.
    pub word: Text,
}

/// How often a word occurred so far.
#[tuple]
#[derive(Debug)]
pub struct Total {
    /// The word.
    pub word: Text,
    /// Its occurrences.
    pub count: u64,
}

/// Splits lines at white space.
pub struct Split;

impl Bolt for Split {
    type Input = Line;
    type Output = Word;

    fn execute(&mut self, line: Line, out: &mut Emitter<Word>) -> Result {
        for word in line.text.split_whitespace() {
            out.emit(Word { word: word.into() });
        }
        Ok(())
    }
}

/// Counts words.
///
/// Input that ends gives the totals at its end. Input that is followed gives the new total with each word: it belongs to
/// the tree of the word's line, so when nothing is pending the writer knows all that was counted.
pub struct Count {
    counts: Counts,
    follow: bool,
}

impl Count {
    /// A counter of no words.
    pub fn new(follow: bool) -> Self {
        Count { counts: Counts::default(), follow }
    }

    fn add(&mut self, word: &Text) -> u64 {
        // Looked up first: most words are known, and an entry would need a clone of each.
        match self.counts.get_mut(word) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                self.counts.insert(word.clone(), 1);
                1
            }
        }
    }
}

impl Bolt for Count {
    type Input = Word;
    type Output = Total;

    fn execute(&mut self, Word { word }: Word, out: &mut Emitter<Total>) -> Result {
        let count = self.add(&word);
        if self.follow {
            out.emit(Total { word, count });
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<Total>) -> Result {
        // An iterator is asked as fast as the writer takes the totals, however many there are.
        let totals = std::mem::take(&mut self.counts).into_iter();
        out.emit_all(totals.map(|(word, count)| Total { word, count }));
        Ok(())
    }
}

/// Writes the totals: at the end of the input, or of input that is followed now and then and when the topology stops.
pub struct WriteTotals {
    file: ResultFile,
    counts: Counts,
    follow: bool,
    /// Whether `counts` has what the file has not.
    changed: bool,
}

impl WriteTotals {
    /// A writer to `path`.
    pub fn new(path: &Path, follow: bool) -> Self {
        WriteTotals { file: ResultFile::new(path), counts: Counts::default(), follow, changed: false }
    }

    fn write(&mut self) -> Result {
        self.file.replace(self.counts.iter().map(|(word, count)| (word.as_str(), *count)))?;
        self.changed = false;
        Ok(())
    }
}

impl Bolt for WriteTotals {
    type Input = Total;
    type Output = ();

    fn prepare(&mut self, _: &Context) -> Result {
        // Better to hear of a wrong path now than when hours of counting are to be written.
        self.file.check()
    }

    fn execute(&mut self, Total { word, count }: Total, _: &mut Emitter<()>) -> Result {
        self.counts.insert(word, count);
        self.changed = true;
        Ok(())
    }

    fn tick(&mut self, _: &mut Emitter<()>) -> Result {
        if self.changed { self.write() } else { Ok(()) }
    }

    fn finish(&mut self, _: &mut Emitter<()>) -> Result {
        self.write()
    }

    fn cleanup(&mut self) {
        // Input that is followed has no end, only a stop. Input that has one and is stopped before it leaves no result.
        if self.follow
            && self.changed
            && let Err(error) = self.write()
        {
            eprintln!("the last counts are not in the result: {error}");
        }
    }
}
