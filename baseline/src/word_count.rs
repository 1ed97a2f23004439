//! Word count over a text that lies in memory: in one loop, and split and counted on two threads.
//!
//! Not here: reading files, acknowledging. Invariant: words are what stands between white space of ASCII, unchanged.

use std::collections::HashMap;

use compact_str::CompactString;
use crossbeam_channel::bounded;

use crate::hop::BATCH;

/// Times that a text is read in one run, so that a run lasts long enough to be measured.
pub const PASSES: usize = 5;

/// Batches that wait between splitting and counting.
const BATCHES_WAITING: usize = 32;

/// How often each word was seen.
#[derive(Debug, Default)]
pub struct Counts(HashMap<CompactString, u64, ahash::RandomState>);

impl Counts {
    /// Counts `word` once more.
    #[inline]
    pub fn add(&mut self, word: &str) {
        match self.0.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(word.into(), 1);
            }
        }
    }

    /// How often `word` was seen.
    pub fn of(&self, word: &str) -> u64 {
        self.0.get(word).copied().unwrap_or(0)
    }

    /// How many words were seen.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// The lines of `text`, [`PASSES`] times.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    std::iter::repeat_n(text, PASSES).flat_map(str::lines)
}

/// Splits and counts in one loop.
pub fn one_loop(text: &str) -> Counts {
    let mut counts = Counts::default();
    for line in lines(text) {
        line.split_ascii_whitespace().for_each(|word| counts.add(word));
    }
    counts
}

/// Splits on one thread, which hands owned words in batches to another, which counts.
pub fn two_threads(text: &str) -> Counts {
    let (sender, receiver) = bounded::<Vec<CompactString>>(BATCHES_WAITING);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut batch = Vec::with_capacity(BATCH);
            for word in lines(text).flat_map(str::split_ascii_whitespace) {
                batch.push(CompactString::new(word));
                if batch.len() == BATCH {
                    let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                    if sender.send(full).is_err() {
                        return;
                    }
                }
            }
            // A counter that is gone has panicked, and its own message says why.
            let _ = sender.send(batch);
        });
        let mut counts = Counts::default();
        for batch in receiver {
            batch.iter().for_each(|word| counts.add(word));
        }
        counts
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "the cow jumped\nover  the moon\n\nThe end";

    fn check(counts: &Counts) {
        assert_eq!(counts.total(), 8 * PASSES as u64);
        assert_eq!(counts.of("the"), 2 * PASSES as u64);
        assert_eq!(counts.of("The"), PASSES as u64);
        assert_eq!(counts.of("sun"), 0);
    }

    #[test]
    fn one_loop_counts_every_word() {
        check(&one_loop(TEXT));
    }

    #[test]
    fn two_threads_count_every_word() {
        check(&two_threads(TEXT));
    }

    #[test]
    fn many_batches_are_counted() {
        let text = "a b c\n".repeat(1000);
        assert_eq!(two_threads(&text).of("b"), 1000 * PASSES as u64);
    }
}
