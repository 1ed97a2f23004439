//! The join: holds an order until its payment comes, or the other way round, and anchors what follows to both.
//!
//! Not here: the streams' receivers. Invariant: what waits here is held as `Tracked`, so it is lost in no crash: it fails,
//! and is emitted again.

use std::collections::BTreeMap;

use storm::prelude::*;

use crate::source::{Order, Payment};

/// At the so-many-th tick an order or payment has waited long enough: 3 s, well below the message time-out of 30 s.
const PATIENCE_TICKS: u32 = 3;

/// An order that was paid.
#[tuple]
#[derive(Debug)]
pub struct Paid {
    /// The order.
    pub order: u64,
    /// What it cost.
    pub cents: u64,
}

/// An order or payment whose other half never came.
#[tuple]
#[derive(Debug)]
pub struct Unmatched {
    /// The order.
    pub order: u64,
    /// What is missing: `order` or `payment`.
    pub missing: Text,
}

/// A receipt to be printed.
#[tuple]
#[derive(Debug)]
pub struct Receipt {
    /// The order.
    pub order: u64,
    /// Where it was paid.
    pub desk: u64,
}

/// Each field is a stream of this name.
#[derive(Output)]
pub struct JoinOut {
    /// Orders with their payments.
    pub paid: Port<Paid>,
    /// What waited in vain.
    pub unmatched: Port<Unmatched>,
    /// The join says which task gets a receipt.
    pub receipts: Direct<Receipt>,
}

/// The stream's type decides the variant.
#[derive(Input)]
pub enum Event {
    /// From the orders.
    Order(Order),
    /// From the payments.
    Payment(Payment),
}

/// Brings orders and payments together.
#[derive(Default)]
pub struct Join {
    orders: BTreeMap<u64, Waiting<Order>>,
    payments: BTreeMap<u64, Waiting<Payment>>,
}

/// Half of a pair, and the responsibility for it.
struct Waiting<T> {
    tuple: T,
    hold: Tracked<()>,
    ticks: u32,
}

impl<T> Waiting<T> {
    fn new(tuple: T, hold: Tracked<()>) -> Self {
        Waiting { tuple, hold, ticks: 0 }
    }

    fn is_over(&mut self) -> bool {
        self.ticks += 1;
        self.ticks >= PATIENCE_TICKS
    }
}

impl Bolt for Join {
    type Input = Tracked<Event>;
    type Output = JoinOut;

    fn execute(&mut self, event: Tracked<Event>, out: &mut Emitter<JoinOut, Manual>) -> Result {
        let (event, hold) = event.split();
        // One that is emitted again takes the place of the one that failed.
        match event {
            Event::Order(order) => {
                let order = Waiting::new(order, hold);
                match self.payments.remove(&order.tuple.id) {
                    Some(payment) => return pay(order, payment, out),
                    None => drop(self.orders.insert(order.tuple.id, order)),
                }
            }
            Event::Payment(payment) => {
                let payment = Waiting::new(payment, hold);
                match self.orders.remove(&payment.tuple.order) {
                    Some(order) => return pay(order, payment, out),
                    None => drop(self.payments.insert(payment.tuple.order, payment)),
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut Emitter<JoinOut, Manual>) -> Result {
        // A root that nobody settles is never done, so a join says for how long it waits.
        for (order, Waiting { hold, .. }) in self.orders.extract_if(.., |_, waiting| waiting.is_over()) {
            out.anchor(&hold).unmatched.emit(Unmatched { order, missing: "payment".into() });
            hold.ack();
        }
        for (order, Waiting { hold, .. }) in self.payments.extract_if(.., |_, waiting| waiting.is_over()) {
            out.anchor(&hold).unmatched.emit(Unmatched { order, missing: "order".into() });
            hold.ack();
        }
        Ok(())
    }
}

/// Emits what follows from a pair. An error on the way drops the holds, which fails both.
fn pay(order: Waiting<Order>, payment: Waiting<Payment>, out: &mut Emitter<JoinOut, Manual>) -> Result {
    let Order { id, cents } = order.tuple;
    let desk = payment.tuple.desk;
    {
        // Children of both: should one fail, order and payment are both emitted again.
        let mut out = out.anchor([&order.hold, &payment.hold]);
        out.paid.emit(Paid { order: id, cents });
        // The receivers of a direct stream are the tasks of its subscribers, ascending.
        let printers = out.receipts.receivers();
        let printer = printers[desk as usize % printers.len()];
        out.receipts.emit_to(printer, Receipt { order: id, desk })?;
    }
    order.hold.ack();
    payment.hold.ack();
    Ok(())
}
