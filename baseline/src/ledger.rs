//! The same hand-over with every tuple acknowledged, over one hop and over three.
//!
//! The source owns a ledger: for each pending tuple a slot with an atomic word, a message id and a time stamp. It stores
//! the tuple's edge id in the word; the leaf XORs it in again, once, and the tuple is done when the word is zero. Slots
//! that are done go back to the source in batches, which then reads id and stamp.
//!
//! Not here: fan-out, failing, time-outs, generations. Invariant: a slot has at most one tuple in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::hop::{BATCH, BATCHES_IN_FLIGHT};
use crate::measure::{Handled, now};
use crate::split_mix::SplitMix;

/// Tuples that may be pending over one hop, each with a slot of the ledger.
pub const PENDING: usize = 1 << 14;

/// Tuples that may be pending over three hops: more than the queues hold, else the source starves.
pub const PENDING_OVER_THREE_HOPS: usize = 1 << 16;

#[derive(Clone, Copy)]
struct Tuple {
    value: u64,
    edge: u64,
    slot: u32,
}

type Words = Arc<[AtomicU64]>;

/// A source and a sink, `tuples` times; returns how many the source saw acknowledged, and what the sink got.
pub async fn one_hop(tuples: u64) -> Handled {
    let words = words(PENDING);
    let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
    let (done, sum) = sink(receiver, words.clone());
    handled(source(tuples, words, sender, done).await, sum).await
}

/// A source, two bolts that pass each tuple on, and a sink; returns how many the source saw acknowledged, and
/// what the sink got.
pub async fn three_hops(tuples: u64) -> Handled {
    let words = words(PENDING_OVER_THREE_HOPS);
    let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
    let (done, sum) = sink(passing_on(passing_on(receiver)), words.clone());
    handled(source(tuples, words, sender, done).await, sum).await
}

async fn handled(tuples: u64, sum: JoinHandle<u64>) -> Handled {
    Handled { tuples, checksum: sum.await.expect("the sink neither panics nor is aborted") }
}

fn words(pending: usize) -> Words {
    (0..pending).map(|_| AtomicU64::new(0)).collect()
}

/// A bolt that emits each tuple again. Nothing happens in the ledger: one edge goes in and one comes out.
fn passing_on(mut input: mpsc::Receiver<Vec<Tuple>>) -> mpsc::Receiver<Vec<Tuple>> {
    let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
    tokio::spawn(async move {
        while let Some(batch) = input.recv().await {
            // A batch of its own, since what a bolt emits is in general not what it got.
            let mut emitted = Vec::with_capacity(BATCH);
            for Tuple { value, edge, slot } in batch {
                emitted.push(Tuple { value: std::hint::black_box(value), edge, slot });
            }
            if sender.send(emitted).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Acknowledges what comes in; the slots that are done come out, and in the end the sum of the values.
fn sink(mut input: mpsc::Receiver<Vec<Tuple>>, words: Words) -> (mpsc::Receiver<Vec<u32>>, JoinHandle<u64>) {
    // A batch that is done has a slot at least, so this many never fill the queue and the sink never waits here.
    let (sender, receiver) = mpsc::channel(words.len());
    let sum = tokio::spawn(async move {
        let mut sum = 0_u64;
        while let Some(batch) = input.recv().await {
            let mut done = Vec::with_capacity(batch.len());
            for Tuple { value, edge, slot } in batch {
                sum = sum.wrapping_add(std::hint::black_box(value));
                if words[slot as usize].fetch_xor(edge, Ordering::AcqRel) == edge {
                    done.push(slot);
                }
            }
            if sender.send(done).await.is_err() {
                break;
            }
        }
        sum
    });
    (receiver, sum)
}

/// What the source keeps for a pending tuple besides its word.
#[derive(Clone, Copy, Default)]
struct Pending {
    id: u64,
    stamp_us: u32,
}

async fn source(
    tuples: u64,
    words: Words,
    sender: mpsc::Sender<Vec<Tuple>>,
    mut done: mpsc::Receiver<Vec<u32>>,
) -> u64 {
    let source = tokio::spawn(async move {
        let start = now();
        let mut edges = SplitMix::new(42);
        let mut free: Vec<u32> = (0..words.len() as u32).collect();
        let mut pending = vec![Pending::default(); words.len()];
        let (mut emitted, mut completed) = (0, 0);
        while completed < tuples {
            let stamp_us = microseconds_since(start);
            let mut batch = Vec::with_capacity(BATCH);
            while emitted < tuples && batch.len() < BATCH {
                let Some(slot) = free.pop() else { break };
                // Never zero, which would mean done.
                let edge = edges.draw() | 1;
                pending[slot as usize] = Pending { id: emitted, stamp_us };
                words[slot as usize].store(edge, Ordering::Release);
                batch.push(Tuple { value: emitted, edge, slot });
                emitted += 1;
            }
            let waits = batch.is_empty();
            if !waits && sender.send(batch).await.is_err() {
                break;
            }
            let mut arrived = if waits { done.recv().await } else { done.try_recv().ok() };
            if waits && arrived.is_none() {
                break;
            }
            let read_us = microseconds_since(start);
            while let Some(slots) = arrived {
                for slot in &slots {
                    let Pending { id, stamp_us } = pending[*slot as usize];
                    std::hint::black_box((id, read_us.wrapping_sub(stamp_us)));
                }
                completed += slots.len() as u64;
                free.extend(slots);
                arrived = done.try_recv().ok();
            }
        }
        completed
    });
    source.await.expect("the source neither panics nor is aborted")
}

fn microseconds_since(start: Instant) -> u32 {
    start.elapsed().as_micros() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_tuple_is_acknowledged_over_one_hop() {
        for tuples in [0, 1, 256, 3 * PENDING as u64 + 5] {
            assert_eq!(one_hop(tuples).await, Handled { tuples, checksum: (0..tuples).sum() });
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_tuple_is_acknowledged_over_three_hops() {
        for tuples in [0, 1, 256, 2 * PENDING_OVER_THREE_HOPS as u64 + 5] {
            assert_eq!(three_hops(tuples).await, Handled { tuples, checksum: (0..tuples).sum() });
        }
    }

    #[tokio::test]
    async fn an_edge_that_does_not_match_is_not_done() {
        let words = words(2);
        words[0].store(7, Ordering::Release);
        words[1].store(9, Ordering::Release);
        let (sender, receiver) = mpsc::channel(1);
        let (mut done, _) = sink(receiver, words);
        let batch = vec![Tuple { value: 0, edge: 8, slot: 0 }, Tuple { value: 0, edge: 9, slot: 1 }];
        assert!(sender.send(batch).await.is_ok());
        assert_eq!(done.recv().await, Some(vec![1]));
    }
}
