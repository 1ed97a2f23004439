//! A grouping of one's own: each order goes to the warehouse of its region, one for overseas to two of them.
//!
//! Not here: groupings by a key, which need no code (`word-count`). Invariant: an order for a region goes to the warehouses
//! that [`ByRegion`] names, in any number of workers.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, Write};

use storm::prelude::*;

/// Sends orders to the warehouses of their regions and prints who got which.
#[derive(clap::Args)]
pub struct Args {
    /// How many orders
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub orders: u64,
}

/// An order.
#[tuple]
pub struct Order {
    /// Its number.
    pub id: u64,
    /// Where it is to go.
    pub region: Text,
}

/// An order that left a warehouse.
#[tuple]
#[derive(Debug)]
pub struct Shipped {
    /// The order's number.
    pub id: u64,
    /// Its region.
    pub region: Text,
    /// The warehouse, from 0.
    pub warehouse: u64,
}

/// The regions that orders are from, in turn.
pub const REGIONS: [&str; 4] = ["north", "south", "overseas", "nowhere"];

/// How many warehouses there are.
pub const WAREHOUSES: usize = 3;

/// The first warehouse serves the north, the second the south, the last two overseas together; an order for elsewhere goes
/// to none.
///
/// Each sending task has an instance of its own, so the choice depends on the order alone.
pub struct ByRegion;

impl CustomGrouping<Order> for ByRegion {
    fn choose(&mut self, order: &Order, tasks: &[TaskId], chosen: &mut Vec<TaskId>) {
        // `tasks` are those of the subscriber, ascending, so a warehouse is a place among them.
        match order.region.as_str() {
            "north" => chosen.push(tasks[0]),
            "south" => chosen.push(tasks[1]),
            "overseas" => chosen.extend(&tasks[1..]),
            _ => {} // nobody gets it, and it is acked at once
        }
    }
}

/// Emits orders, and again what fails.
struct Orders {
    next: u64,
    end: u64,
    failed: VecDeque<u64>,
}

impl Spout for Orders {
    type Output = Order;
    type MessageId = u64;

    fn next(&mut self, out: &mut Roots<'_, Order, u64>) -> Result<Next> {
        let id = match self.failed.pop_front() {
            Some(id) => id,
            None if self.next == self.end => return Ok(Next::Done),
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        let region = REGIONS[id as usize % REGIONS.len()].into();
        out.emit(Order { id, region }, id);
        Ok(Next::Emitted)
    }

    fn fail(&mut self, id: u64, _: &FailReason) {
        self.failed.push_back(id);
    }
}

/// Ships what it gets.
#[derive(Default)]
struct Warehouse {
    index: u64,
}

impl Bolt for Warehouse {
    type Input = Order;
    type Output = Shipped;

    fn prepare(&mut self, context: &Context) -> Result {
        self.index = context.task_index() as u64;
        Ok(())
    }

    fn execute(&mut self, Order { id, region }: Order, out: &mut Emitter<Shipped>) -> Result {
        out.emit(Shipped { id, region, warehouse: self.index });
        Ok(())
    }
}

/// Prints what was shipped.
struct Print;

impl Bolt for Print {
    type Input = Shipped;
    type Output = ();

    fn execute(&mut self, Shipped { id, region, warehouse }: Shipped, _: &mut Emitter<()>) -> Result {
        writeln!(io::stdout(), "warehouse {warehouse} ships order {id} ({region})")?;
        Ok(())
    }
}

/// The topology.
///
/// # Errors
/// None; the graph is checked afterwards.
pub fn topology(args: Args, topology: &mut TopologyBuilder) -> Result {
    let shipped = ship(args, topology);
    topology.bolt("print", || Print).global(&shipped).add();
    Ok(())
}

/// Wires all but the printing; gives the stream of what the warehouses ship.
pub fn ship(args: Args, topology: &mut TopologyBuilder) -> Stream<Shipped> {
    let spout = move || Orders { next: 0, end: args.orders, failed: VecDeque::new() };
    let orders = topology.spout("orders", spout).add();
    // The closure makes the grouping of one sending task.
    topology.bolt("warehouse", Warehouse::default).parallelism(WAREHOUSES).custom(&orders, || ByRegion).add()
}
