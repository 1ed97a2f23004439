//! Where orders and payments come from: lists, made up.
//!
//! Not here: how they are joined (`join`). Invariant: a tuple is emitted until it is acked.

use std::collections::VecDeque;

use storm::output::{Output, Port};
use storm::prelude::*;
use storm::tuple::Tuple;

use crate::DESKS;

/// An order.
#[tuple]
pub struct Order {
    /// Its number.
    pub id: u64,
    /// What it costs.
    pub cents: u64,
}

/// A payment.
#[tuple]
pub struct Payment {
    /// The order that it is for.
    pub order: u64,
    /// The desk where it was made.
    pub desk: u64,
}

/// So many orders.
pub(crate) fn orders(count: u64) -> Vec<Order> {
    (0..count).map(|id| Order { id, cents: 100 + 10 * id }).collect()
}

/// Their payments, the last one first; every fifth is missing.
pub(crate) fn payments(count: u64) -> Vec<Payment> {
    let paid = (0..count).rev().filter(|order| order % 5 != 4);
    paid.map(|order| Payment { order, desk: order % DESKS }).collect()
}

/// Emits the tuples of a list, and again those that fail. A tuple's message id is its place in the list.
pub struct Replaying<T> {
    tuples: Vec<T>,
    next: usize,
    failed: VecDeque<usize>,
}

impl<T> Replaying<T> {
    /// All of these, then done.
    pub fn new(tuples: Vec<T>) -> Self {
        Replaying { tuples, next: 0, failed: VecDeque::new() }
    }
}

impl<T: Tuple + Output<Ports = Port<T>>> Spout for Replaying<T> {
    type Output = T;
    type MessageId = usize;

    fn next(&mut self, out: &mut Roots<'_, T, usize>) -> Result<Next> {
        let place = match self.failed.pop_front() {
            Some(place) => place,
            None if self.next == self.tuples.len() => return Ok(Next::Done),
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        out.emit(self.tuples[place].clone(), place);
        Ok(Next::Emitted)
    }

    fn fail(&mut self, place: usize, _: &FailReason) {
        self.failed.push_back(place);
    }
}
