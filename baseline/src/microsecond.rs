//! About a microsecond of work for each tuple, as a bolt has it that parses or looks something up; and the limit for
//! two such bolts in a row.
//!
//! Not here: waiting. Invariant: the work for a value is the same on every machine, only its time is not.

use crossbeam_channel::bounded;

use crate::hop::{BATCH, BATCHES_IN_FLIGHT};
use crate::measure::Handled;

/// Rounds of mixing, each of which waits for the one before: some 2 ns on a machine of these years.
const ROUNDS: u32 = 460;

/// Works on `value` for about a microsecond.
#[inline(never)]
pub fn work(value: u64) -> u64 {
    (0..ROUNDS).fold(value, |bits, _| (bits ^ (bits >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(1))
}

/// A thread works on each of `tuples` tuples, and hands them in batches to a second thread, which works on them again.
/// Returns what came out.
pub fn two_threads(tuples: u64) -> Handled {
    let (sender, receiver) = bounded::<Vec<u64>>(BATCHES_IN_FLIGHT);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut batch = Vec::with_capacity(BATCH);
            for tuple in 0..tuples {
                batch.push(work(tuple));
                if batch.len() == BATCH || tuple + 1 == tuples {
                    let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                    if sender.send(full).is_err() {
                        break;
                    }
                }
            }
        });
        let mut worked = Handled::default();
        for batch in receiver {
            worked.tuples += batch.len() as u64;
            for tuple in batch {
                worked.checksum = worked.checksum.wrapping_add(work(tuple));
            }
        }
        worked
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tuple_is_worked_on() {
        for tuples in [1000, 512, 0] {
            let checksum = (0..tuples).fold(0_u64, |sum, tuple| sum.wrapping_add(work(work(tuple))));
            assert_eq!(two_threads(tuples), Handled { tuples, checksum });
        }
    }

    #[test]
    fn different_values_give_different_results() {
        assert_ne!(work(1), work(2));
    }
}
