//! The same word count as a dataflow of timely, the fastest general peer: split, exchange by word, count.
//!
//! Not here: acknowledging, which timely does not have. Invariant: an input runs at most [`AHEAD`] lines ahead of what
//! its dataflow has finished, so no queue grows without bound.

use std::cell::RefCell;
use std::rc::Rc;

use smol_str::SmolStr;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::core::Map;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Input, Operator, Probe};

use crate::measure::Handled;
use crate::word_count::{Counts, owned};

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

/// Counts with `workers` threads, each of which reads its share of the lines of a text in memory, `passes` times over.
///
/// # Errors
/// If timely cannot start its threads, or one of them panics.
pub fn word_count(text: &'static str, passes: usize, workers: usize) -> Result<Handled, Error> {
    let failed = |problem: String| Error { workers, problem };
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let all: Vec<&'static str> = std::iter::repeat_n(text, passes).flat_map(str::lines).collect();
        let share = all.len().div_ceil(worker.peers()).max(1);
        let mine = all.chunks(share).nth(worker.index()).unwrap_or_default();

        let counts = Rc::new(RefCell::new(Counts::default()));
        let counts_inside = counts.clone();
        // Every worker must send a word to the same one.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let mut input = InputHandle::<usize, CapacityContainerBuilder<Vec<&'static str>>>::new_with_builder();
        let probe = Handle::new();
        worker.dataflow::<usize, _, _>(|scope| {
            scope
                .input_from(&mut input)
                .flat_map(|line: &'static str| line.split_whitespace().map(owned))
                .unary(Exchange::new(move |word: &SmolStr| hasher.hash_one(word.as_str())), "count", |_, _| {
                    move |input, output| {
                        let mut counts = counts_inside.borrow_mut();
                        input.for_each(|time, words| {
                            let counted = words.len();
                            words.drain(..).for_each(|word| counts.add(word));
                            output.session(&time).give(counted);
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
        counts.borrow().handled()
    });
    let mut all = Handled::default();
    for counted in guards.map_err(|problem| failed(problem.to_string()))?.join() {
        let Handled { tuples, checksum } = counted.map_err(|problem| failed(problem.to_string()))?;
        all.tuples += tuples;
        all.checksum = all.checksum.wrapping_add(checksum);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word_count::checksum;

    #[test]
    fn every_word_is_counted() {
        for workers in [1, 2] {
            let words = ["the", "cow", "jumped", "over", "the", "moon"];
            let checksum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(checksum(word, 2)));
            let counted = word_count("the cow jumped\nover the moon\n", 2, workers).unwrap();
            assert_eq!(counted, Handled { tuples: 12, checksum });
            assert_eq!(word_count("", 2, workers).unwrap(), Handled::default());
        }
    }
}
