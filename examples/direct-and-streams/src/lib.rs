//! Orders meet their payments: two inputs joined, several output streams, and receipts that go to a named task.
//!
//! Not here: where orders and payments come from (both are made up). Invariant: an order is acked together with what was
//! made of it: if that fails, order and payment are both emitted again.

#![forbid(unsafe_code)]

mod join;
mod source;

use std::io::{self, Write};
use std::time::Duration;

use storm::prelude::*;

pub use join::{Join, JoinOut, JoinOutStreams, Paid, Receipt, Unmatched};
pub use source::{Order, Payment, Replaying};

/// How often the join looks for what waits too long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The desks that payments are made at.
pub const DESKS: u64 = 5;

/// The printers, each of which serves the same desks always.
pub const PRINTERS: usize = 3;

/// Joins orders with their payments, and has receipts printed where they were paid.
#[derive(clap::Args)]
pub struct Args {
    /// How many orders; every fifth is never paid
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub orders: u64,
}

/// A receipt that was printed.
#[tuple]
#[derive(Debug)]
pub struct Printed {
    /// The order.
    pub order: u64,
    /// Where it was paid.
    pub desk: u64,
    /// The printer, from 0.
    pub printer: u64,
}

/// Prints receipts.
#[derive(Default)]
struct Printer {
    index: u64,
}

impl Bolt for Printer {
    type Input = Receipt;
    type Output = Printed;

    fn prepare(&mut self, context: &Context) -> Result {
        self.index = context.task_index() as u64;
        Ok(())
    }

    fn execute(&mut self, Receipt { order, desk }: Receipt, out: &mut Emitter<Printed>) -> Result {
        out.emit(Printed { order, desk, printer: self.index });
        Ok(())
    }
}

/// All that can become of an order: an input of several types is an enum of them.
#[derive(Input)]
enum Outcome {
    Paid(Paid),
    Unmatched(Unmatched),
    Printed(Printed),
}

/// Tells outcomes.
struct Tell;

impl Bolt for Tell {
    type Input = Outcome;
    type Output = ();

    fn execute(&mut self, outcome: Outcome, _: &mut Emitter<()>) -> Result {
        let mut out = io::stdout().lock();
        match outcome {
            Outcome::Paid(Paid { order, cents }) => writeln!(out, "order {order} is paid: {cents} cents"),
            Outcome::Unmatched(Unmatched { order, missing }) => writeln!(out, "order {order} has no {missing}"),
            Outcome::Printed(Printed { order, desk, printer }) => {
                writeln!(out, "the receipt of order {order} for desk {desk} is on printer {printer}")
            }
        }?;
        Ok(())
    }
}

/// The topology.
///
/// # Errors
/// None; the graph is checked afterwards.
pub fn topology(args: Args, topology: &mut TopologyBuilder) -> Result {
    let (join, printed) = join_and_print(args, topology);
    topology.bolt("tell", || Tell).global(&join.paid).global(&join.unmatched).global(&printed).add();
    Ok(())
}

/// Wires all but the telling; gives the streams of the join, and that of the printers.
pub fn join_and_print(
    Args { orders: count }: Args,
    topology: &mut TopologyBuilder,
) -> (JoinOutStreams, Stream<Printed>) {
    let orders = topology.spout("orders", move || Replaying::new(source::orders(count))).add();
    let payments = topology.spout("payments", move || Replaying::new(source::payments(count))).add();
    // Both by the order's number: what belongs together meets in one task.
    let join = topology
        .bolt("join", Join::default)
        .parallelism(2)
        .fields(&orders, Order::ID)
        .fields(&payments, Payment::ORDER)
        .tick_every(LOOK_EVERY)
        .add();
    let printed = topology.bolt("printer", Printer::default).parallelism(PRINTERS).direct(&join.receipts).add();
    (join, printed)
}
