//! The same word count as a dataflow of timely, the fastest general peer: split, exchange by word, count.
//!
//! Not here: acknowledging, which timely does not have. Invariant: an input runs at most [`AHEAD`] lines ahead of what
//! its dataflow has finished, so no queue grows without bound.

use std::cell::Cell;
use std::rc::Rc;

use compact_str::CompactString;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::core::Map;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Input, Operator, Probe};

use crate::word_count::{Counts, lines};

/// Lines that an input may run ahead.
pub const AHEAD: usize = 40_960;

/// Lines between two looks at how far the dataflow is.
const STRIDE: usize = 4096;

/// Why no count came out.
#[derive(Debug, thiserror::Error)]
#[error("a timely dataflow with {workers} workers did not run: {problem}")]
pub struct Error {
    workers: usize,
    problem: String,
}

/// Counts with `workers` threads, each of which reads its share of the lines; returns how many words were counted.
///
/// # Errors
/// If timely cannot start its threads, or one of them panics.
pub fn word_count(text: &'static str, workers: usize) -> Result<u64, Error> {
    let failed = |problem: String| Error { workers, problem };
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let all: Vec<&'static str> = lines(text).collect();
        let share = all.len().div_ceil(worker.peers()).max(1);
        let mine = all.chunks(share).nth(worker.index()).unwrap_or_default();

        let counted = Rc::new(Cell::new(0_u64));
        let counted_inside = counted.clone();
        // Every worker must send a word to the same one.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let mut input = InputHandle::<usize, CapacityContainerBuilder<Vec<&'static str>>>::new_with_builder();
        let probe = Handle::new();
        worker.dataflow::<usize, _, _>(|scope| {
            scope
                .input_from(&mut input)
                .flat_map(|line: &'static str| line.split_ascii_whitespace().map(CompactString::new))
                .unary(Exchange::new(move |word: &CompactString| hasher.hash_one(word.as_str())), "count", |_, _| {
                    let mut counts = Counts::default();
                    move |input, output| {
                        input.for_each(|time, words| {
                            words.iter().for_each(|word| counts.add(word));
                            counted_inside.set(counted_inside.get() + words.len() as u64);
                            output.session(&time).give(words.len());
                        });
                    }
                })
                .container::<Vec<usize>>()
                .probe_with(&probe);
        });
        for (at, line) in mine.iter().enumerate() {
            input.send(*line);
            if at % STRIDE == 0 {
                input.advance_to(at);
                while probe.less_than(&at.saturating_sub(AHEAD)) {
                    worker.step();
                }
            }
        }
        input.close();
        while worker.step() {}
        counted.get()
    });
    let counted = guards.map_err(|problem| failed(problem.to_string()))?.join();
    counted.into_iter().map(|words| words.map_err(|problem| failed(problem.to_string()))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word_count::PASSES;

    #[test]
    fn every_word_is_counted() {
        for workers in [1, 2] {
            assert_eq!(word_count("the cow jumped\nover the moon\n", workers).unwrap(), 6 * PASSES as u64);
            assert_eq!(word_count("", workers).unwrap(), 0);
        }
    }
}
