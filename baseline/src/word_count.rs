//! Word count over a file: in one loop, and split and counted on two threads.
//!
//! The words are split, made and looked up as the example `word-count` does it, and are of the type that is under its
//! texts.
//!
//! Not here: acknowledging. Invariant: words are what stands between white space, unchanged.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crossbeam_channel::bounded;
use smol_str::SmolStr;

use crate::hop::BATCH;
use crate::measure::Handled;

/// Batches that wait between splitting and counting.
const BATCHES_WAITING: usize = 32;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Bytes that lie in a word itself.
const INLINE_BYTES: usize = 23;

/// How often each word was seen.
#[derive(Debug, Default)]
pub struct Counts(HashMap<SmolStr, u64, ahash::RandomState>);

impl Counts {
    /// Counts `word` once more.
    #[inline]
    pub fn add(&mut self, word: SmolStr) {
        match self.0.get_mut(word.as_str()) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(word, 1);
            }
        }
    }

    /// How often `word` was seen.
    pub fn of(&self, word: &str) -> u64 {
        self.0.get(word).copied().unwrap_or(0)
    }

    /// How many words were seen, and the [`checksum`] of their counts.
    pub fn handled(&self) -> Handled {
        let checksum = self.0.iter().fold(0, |sum: u64, (word, count)| sum.wrapping_add(checksum(word, *count)));
        Handled { tuples: self.0.values().sum(), checksum }
    }
}

/// The part of one word in the checksum of all: parts add up, in any order, also of counts that were made apart.
pub fn checksum(word: &str, count: u64) -> u64 {
    let hash = word
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    hash.wrapping_mul(count)
}

/// A word as it is handed over: short ones without a copy more than needed.
#[inline]
pub(crate) fn owned(word: &str) -> SmolStr {
    if word.len() <= INLINE_BYTES { SmolStr::new_inline(word) } else { SmolStr::new(word) }
}

/// Gives each line of the file to `take`, until it says no, `passes` times over.
fn each_line(file: &Path, passes: usize, mut take: impl FnMut(&str) -> bool) -> io::Result<()> {
    let mut line = Vec::new();
    for _ in 0..passes {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, File::open(file)?);
        while reader.by_ref().read_until(b'\n', &mut line)? > 0 {
            let text = str::from_utf8(line.strip_suffix(b"\n").unwrap_or(&line)).map_err(io::Error::other)?;
            if !take(text) {
                return Ok(());
            }
            line.clear();
        }
    }
    Ok(())
}

/// Splits and counts in one loop, the file `passes` times over.
///
/// # Errors
/// If the file cannot be read, or is not UTF-8.
pub fn one_loop(file: &Path, passes: usize) -> io::Result<Counts> {
    let mut counts = Counts::default();
    each_line(file, passes, |line| {
        line.split_whitespace().for_each(|word| counts.add(owned(word)));
        true
    })?;
    Ok(counts)
}

/// Splits on one thread, which hands owned words in batches to another, which counts.
///
/// # Errors
/// If the file cannot be read, or is not UTF-8.
pub fn two_threads(file: &Path, passes: usize) -> io::Result<Counts> {
    let (sender, receiver) = bounded::<Vec<SmolStr>>(BATCHES_WAITING);
    std::thread::scope(|scope| {
        let split = scope.spawn(move || {
            let mut batch = Vec::with_capacity(BATCH);
            each_line(file, passes, |line| {
                for word in line.split_whitespace() {
                    batch.push(owned(word));
                    if batch.len() == BATCH {
                        let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                        if sender.send(full).is_err() {
                            return false;
                        }
                    }
                }
                true
            })?;
            // A counter that is gone has panicked, and its own message says why.
            let _ = sender.send(batch);
            Ok(())
        });
        let mut counts = Counts::default();
        for batch in receiver {
            batch.into_iter().for_each(|word| counts.add(word));
        }
        split.join().expect("the splitter does not panic").map(|()| counts)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn every_word_is_counted() {
        let file = file("the cow jumped\nover  the moon\n\nThe end");
        for counts in [one_loop(file.path(), 2).unwrap(), two_threads(file.path(), 2).unwrap()] {
            assert_eq!(counts.handled().tuples, 16);
            assert_eq!((counts.of("the"), counts.of("The"), counts.of("sun")), (4, 2, 0));
        }
    }

    #[test]
    fn many_batches_are_counted() {
        let file = file(&"a b c\n".repeat(1000));
        assert_eq!(two_threads(file.path(), 1).unwrap().of("b"), 1000);
    }

    #[test]
    fn what_differs_has_another_checksum() {
        let sum = |text| one_loop(file(text).path(), 1).unwrap().handled().checksum;
        assert_eq!(sum("a b a"), sum("a a b"));
        assert_ne!(sum("a b a"), sum("a b b"));
        assert_eq!(sum("a b a"), checksum("a", 1).wrapping_add(checksum("a", 1)).wrapping_add(checksum("b", 1)));
    }

    #[test]
    fn a_text_that_is_none_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0xFF, b'\n']).unwrap();
        assert!(two_threads(file.path(), 1).is_err());
        assert!(one_loop(Path::new("/nowhere"), 1).is_err());
    }
}
