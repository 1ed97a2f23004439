//! Tuples handed from one tokio task to another in batches, without acknowledging.
//!
//! Not here: acknowledging (`ledger`). Invariant: the queue is bounded, so the source never runs ahead without end.

use tokio::sync::mpsc;

use crate::measure::Handled;

/// Tuples handed over at once.
pub const BATCH: usize = 256;

/// Batches that a queue between two tasks holds.
pub const BATCHES_IN_FLIGHT: usize = 64;

/// Hands `tuples` numbers from a source to a sink, and returns what the sink got.
pub async fn unacked(tuples: u64) -> Handled {
    let (sender, mut receiver) = mpsc::channel::<Vec<u64>>(BATCHES_IN_FLIGHT);
    tokio::spawn(async move {
        let mut next = 0;
        while next < tuples {
            let end = tuples.min(next + BATCH as u64);
            let mut batch = Vec::with_capacity(BATCH);
            // One at a time, as a spout emits them.
            while next < end {
                batch.push(std::hint::black_box(next));
                next += 1;
            }
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    });
    let sink = tokio::spawn(async move {
        let mut received = Handled::default();
        while let Some(batch) = receiver.recv().await {
            for tuple in &batch {
                received.checksum = received.checksum.wrapping_add(std::hint::black_box(*tuple));
            }
            received.tuples += batch.len() as u64;
        }
        received
    });
    sink.await.expect("the sink neither panics nor is aborted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_tuple_arrives() {
        for tuples in [0, 1, 256, 1000] {
            assert_eq!(unacked(tuples).await, Handled { tuples, checksum: (0..tuples).sum() });
        }
    }
}
