//! Stream processing with Storm's model, in one native executable: what a topology's author depends on.
//!
//! A **topology** is a graph of **spouts**, which emit tuples from a source, and **bolts**, which take tuples, do something
//! and may emit others; **groupings** say which task of a bolt a tuple goes to. Each spout tuple is the root of a tree of
//! tuples: when all of it is acked its spout hears `ack`, and when any of it fails its spout hears `fail`, and may emit it
//! again.
//!
//! # A word count
//!
//! This is all of it, with this crate as the only dependency:
//!
//! ```no_run
//! use std::collections::BTreeMap;
//! use std::path::PathBuf;
//! use std::process::ExitCode;
//!
//! use storm::prelude::*;
//!
//! #[tuple] struct Line { text: Text }
//! #[tuple] struct Word { word: Text }
//!
//! struct Lines { left: std::vec::IntoIter<Text> }
//! impl Spout for Lines {
//!     type Output = Line;
//!     type MessageId = ();
//!     fn next(&mut self, out: &mut Roots<Line, ()>) -> Result<Next> {
//!         let Some(text) = self.left.next() else { return Ok(Next::Done) };
//!         out.emit(Line { text }, ());
//!         Ok(Next::Emitted)
//!     }
//! }
//!
//! struct Split;
//! impl Bolt for Split {
//!     type Input = Line;
//!     type Output = Word;
//!     fn execute(&mut self, line: Line, out: &mut Emitter<Word>) -> Result {
//!         line.text.split_whitespace().for_each(|word| out.emit(Word { word: word.into() }));
//!         Ok(())
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Count { counts: BTreeMap<Text, u64> }
//! impl Bolt for Count {
//!     type Input = Word;
//!     type Output = ();
//!     fn execute(&mut self, word: Word, _: &mut Emitter<()>) -> Result {
//!         *self.counts.entry(word.word).or_default() += 1;
//!         Ok(())
//!     }
//!     fn finish(&mut self, _: &mut Emitter<()>) -> Result {
//!         self.counts.iter().for_each(|(word, count)| println!("{word}\t{count}"));
//!         Ok(())
//!     }
//! }
//!
//! /// Counts the words of a file.
//! #[derive(clap::Args)]
//! struct Args {
//!     /// The text to read
//!     #[arg(long)]
//!     input: PathBuf,
//! }
//!
//! fn topology(args: Args, topology: &mut TopologyBuilder) -> Result {
//!     let text = std::fs::read_to_string(&args.input).attempt(|| format!("cannot read `{}`", args.input.display()))?;
//!     let lines: Vec<Text> = text.lines().map(Text::from).collect();
//!     let lines = topology.spout("lines", move || Lines { left: lines.clone().into_iter() }).add();
//!     let words = topology.bolt("split", || Split).parallelism(2).shuffle(&lines).add();
//!     topology.bolt("count", Count::default).parallelism(2).fields(&words, Word::WORD).add();
//!     Ok(())
//! }
//!
//! fn main() -> ExitCode {
//!     storm::run("word-count", topology)
//! }
//! ```
//!
//! `cargo run -- local --input book.txt` runs it, `cargo run -- describe --input book.txt` prints its graph, and
//! `cargo run -- --help` says what else there is. The roles and what a process ends with: [`run`](fn@run).
//!
//! # Tuples
//!
//! A stream carries one type, a struct with [`#[tuple]`](macro@tuple); within a worker it is moved, never serialized.
//! [`Text`](tuple::Text) and [`Bytes`](tuple::Bytes) are cloned by reference. [`Values`](tuple::Values) are tuples whose
//! fields are known only when it runs; a bolt that takes them can subscribe to any stream.
//!
//! # Spouts
//!
//! A [`Spout`](spout::Spout) is asked by `next` while there is room for more roots, and never has to wait or to count. It
//! gives each root a message id of its own choice, which comes back by `ack` or `fail`:
//!
//! ```
//! use std::time::Duration;
//! use storm::prelude::*;
//!
//! #[tuple] struct Order { id: u64 }
//!
//! struct Orders { next: u64, again: Vec<u64> }
//! impl Spout for Orders {
//!     type Output = Order;
//!     type MessageId = u64;
//!     fn next(&mut self, out: &mut Roots<Order, u64>) -> Result<Next> {
//!         let id = match self.again.pop() {
//!             Some(id) => id,
//!             None if self.next == 1000 => return Ok(Next::Idle(Duration::from_millis(100))), // `Next::Done` ends it
//!             None => { self.next += 1; self.next }
//!         };
//!         out.emit(Order { id }, id);
//!         Ok(Next::Emitted)
//!     }
//!     fn ack(&mut self, id: u64) { println!("{id} is done") }
//!     fn fail(&mut self, id: u64, reason: &FailReason) {
//!         eprintln!("{id}: {reason}");
//!         self.again.push(id);
//!     }
//! }
//! ```
//!
//! When all spouts are done and nothing is pending, the bolts get `finish`, in the order of the graph, and the run ends.
//!
//! # Bolts
//!
//! What a [`Bolt`](bolt::Bolt) emits in `execute` is anchored to its input. `Ok` acks the input; `Err` fails it, and with
//! [`Error::fatal`](error::Error::fatal) ends the run too. A panic fails what the bolt held, and a new instance takes its
//! place. `tick` is called at an interval (Storm's tick tuples); `prepare` gets the task's [`Context`](context::Context):
//!
//! ```
//! use std::time::Duration;
//! use storm::prelude::*;
//!
//! #[tuple] struct Reading { sensor: u64, celsius: f64 }
//! #[tuple] struct Mean { celsius: f64 }
//! # struct Sensors;
//! # impl Spout for Sensors {
//! #     type Output = Reading;
//! #     type MessageId = ();
//! #     fn next(&mut self, _: &mut Roots<Reading, ()>) -> Result<Next> { Ok(Next::Done) }
//! # }
//!
//! #[derive(Default)]
//! struct Means { limit: f64, sum: f64, count: u64 }
//! impl Bolt for Means {
//!     type Input = Reading;
//!     type Output = Mean;
//!     fn prepare(&mut self, context: &Context) -> Result {
//!         let limit = context.conf("means.limit").and_then(|limit| limit.as_f64());
//!         self.limit = limit.ok_or_else(|| Error::fatal("set `means.limit` to a number"))?;
//!         Ok(())
//!     }
//!     fn execute(&mut self, reading: Reading, _: &mut Emitter<Mean>) -> Result {
//!         if reading.celsius > self.limit {
//!             return Err(Error::retry(format!("sensor {} is broken", reading.sensor)));
//!         }
//!         self.sum += reading.celsius;
//!         self.count += 1;
//!         Ok(())
//!     }
//!     fn tick(&mut self, out: &mut Emitter<Mean>) -> Result {
//!         if self.count > 0 {
//!             out.emit(Mean { celsius: self.sum / self.count as f64 });
//!         }
//!         (self.sum, self.count) = (0.0, 0);
//!         Ok(())
//!     }
//! }
//!
//! let mut topology = Topology::builder("means");
//! topology.config("means.limit", 80.0);
//! let readings = topology.spout("sensors", || Sensors).add();
//! topology.bolt("means", Means::default).tick_every(Duration::from_secs(1)).shuffle(&readings).add();
//! topology.build()?;
//! # Ok::<(), storm::topology::BuildError>(())
//! ```
//!
//! # Groupings
//!
//! What `add` gives is the handle of the component's stream, and knows its type: a wrong stream or field does not compile.
//!
//! ```
//! use storm::prelude::*;
//!
//! #[tuple] struct Visit { user: u64, page: Text }
//! # struct Visits;
//! # impl Spout for Visits {
//! #     type Output = Visit;
//! #     type MessageId = ();
//! #     fn next(&mut self, _: &mut Roots<Visit, ()>) -> Result<Next> { Ok(Next::Done) }
//! # }
//! # struct Sink;
//! # impl Bolt for Sink {
//! #     type Input = Visit;
//! #     type Output = ();
//! #     fn execute(&mut self, _: Visit, _: &mut Emitter<()>) -> Result { Ok(()) }
//! # }
//!
//! /// Each user to the task of its number.
//! struct ByNumber;
//! impl CustomGrouping<Visit> for ByNumber {
//!     fn choose(&mut self, visit: &Visit, tasks: &[TaskId], chosen: &mut Vec<TaskId>) {
//!         chosen.push(tasks[visit.user as usize % tasks.len()]);
//!     }
//! }
//!
//! let mut topology = Topology::builder("visits");
//! let visits = topology.spout("visits", || Visits).add();
//! topology.bolt("a", || Sink).parallelism(4).shuffle(&visits).add(); // evenly, to tasks that have room
//! topology.bolt("b", || Sink).parallelism(4).local_or_shuffle(&visits).add(); // in the same worker if there is one
//! topology.bolt("c", || Sink).parallelism(4).fields(&visits, Visit::USER).add(); // one key, one task
//! topology.bolt("d", || Sink).parallelism(4).fields(&visits, (Visit::USER, Visit::PAGE)).add();
//! topology.bolt("e", || Sink).parallelism(4).fields_by(&visits, |visit| &*visit.page).add(); // a key inside the tuple
//! topology.bolt("f", || Sink).parallelism(4).fields_with(&visits, |visit| visit.user / 100).add(); // a computed key
//! topology.bolt("g", || Sink).parallelism(4).partial_key(&visits, Visit::USER).add(); // one key, one of two tasks
//! topology.bolt("h", || Sink).parallelism(4).all(&visits).add(); // every task gets it
//! topology.bolt("i", || Sink).parallelism(4).global(&visits).add(); // the first task gets all
//! topology.bolt("j", || Sink).parallelism(4).custom(&visits, || ByNumber).add(); // a rule of one's own
//! assert_eq!(topology.build()?.components().len(), 11);
//! # Ok::<(), storm::topology::BuildError>(())
//! ```
//!
//! # Several streams in, several out
//!
//! An enum of tuples with [`#[derive(Input)]`](macro@Input) takes several streams, a struct of ports with
//! [`#[derive(Output)]`](macro@Output) emits several. The emitter of a [`Direct`](output::Direct) port names the task:
//!
//! ```
//! use storm::prelude::*;
//!
//! #[tuple] struct Order { id: u64 }
//! #[tuple] struct Payment { order: u64 }
//! # struct Orders;
//! # impl Spout for Orders {
//! #     type Output = Order;
//! #     type MessageId = ();
//! #     fn next(&mut self, _: &mut Roots<Order, ()>) -> Result<Next> { Ok(Next::Done) }
//! # }
//! # struct Payments;
//! # impl Spout for Payments {
//! #     type Output = Payment;
//! #     type MessageId = ();
//! #     fn next(&mut self, _: &mut Roots<Payment, ()>) -> Result<Next> { Ok(Next::Done) }
//! # }
//! # struct Ship;
//! # impl Bolt for Ship {
//! #     type Input = Order;
//! #     type Output = ();
//! #     fn execute(&mut self, _: Order, _: &mut Emitter<()>) -> Result { Ok(()) }
//! # }
//!
//! #[derive(Input)]
//! enum Event { Order(Order), Payment(Payment) }
//!
//! #[derive(Output)]
//! struct Joined { paid: Port<Order>, express: Direct<Order> }
//!
//! #[derive(Default)]
//! struct Join { open: Vec<u64>, express: Vec<TaskId> }
//! impl Bolt for Join {
//!     type Input = Event;
//!     type Output = Joined;
//!     fn prepare(&mut self, context: &Context) -> Result {
//!         self.express = context.tasks_of("express").to_vec();
//!         Ok(())
//!     }
//!     fn execute(&mut self, event: Event, out: &mut Emitter<Joined>) -> Result {
//!         match event {
//!             Event::Order(order) if order.id < 100 => out.express.emit_to(self.express[0], order)?,
//!             Event::Order(order) => self.open.push(order.id),
//!             Event::Payment(payment) => {
//!                 self.open.retain(|id| *id != payment.order);
//!                 out.paid.emit(Order { id: payment.order });
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut topology = Topology::builder("shop");
//! let orders = topology.spout("orders", || Orders).add();
//! let payments = topology.spout("payments", || Payments).add();
//! let joined = topology.bolt("join", Join::default).fields(&orders, Order::ID).fields(&payments, Payment::ORDER).add();
//! topology.bolt("ship", || Ship).shuffle(&joined.paid).add();
//! topology.bolt("express", || Ship).direct(&joined.express).add();
//! topology.build()?;
//! # Ok::<(), storm::topology::BuildError>(())
//! ```
//!
//! # Tracked inputs
//!
//! A bolt that acks later than `execute` returns, or anchors to several inputs, takes [`Tracked`](bolt::Tracked). It owns
//! the input until it acks or fails it; one that is dropped without either fails at once, so nothing is forgotten silently:
//!
//! ```
//! use storm::prelude::*;
//!
//! #[tuple] struct Row { id: u64 }
//! #[tuple] struct Written { rows: u64 }
//!
//! #[derive(Default)]
//! struct Write { rows: Vec<Tracked<Row>> }
//! impl Bolt for Write {
//!     type Input = Tracked<Row>;
//!     type Output = Written;
//!     fn execute(&mut self, row: Tracked<Row>, out: &mut Emitter<Written, Manual>) -> Result {
//!         if row.id == 0 {
//!             row.fail("rows are numbered from 1");
//!             return Ok(());
//!         }
//!         self.rows.push(row);
//!         if self.rows.len() == 100 {
//!             // … write them, all at once
//!             out.anchor(&self.rows).emit(Written { rows: 100 });
//!             self.rows.drain(..).for_each(Tracked::ack);
//!         }
//!         Ok(())
//!     }
//! }
//! ```
//!
//! An input that is held longer than `topology.message.timeout.secs` fails, unless `keep_alive` is called. Waiting in a queue
//! does not count.
//!
//! # Async bolts
//!
//! An [`AsyncBolt`](bolt::AsyncBolt) awaits in `execute`, with so many calls in flight at once as the builder is told. A bolt
//! that must block its thread instead says so by `.blocking()`, and gets a thread of its own.
//!
//! ```
//! use storm::prelude::*;
//!
//! #[tuple] struct Query { name: Text }
//! #[tuple] struct Answer { name: Text, address: Text }
//! # struct Queries;
//! # impl Spout for Queries {
//! #     type Output = Query;
//! #     type MessageId = ();
//! #     fn next(&mut self, _: &mut Roots<Query, ()>) -> Result<Next> { Ok(Next::Done) }
//! # }
//!
//! async fn ask(name: &str) -> std::io::Result<String> {
//!     Ok(format!("{name}.example")) // … a service, over the network
//! }
//!
//! struct Lookup;
//! impl AsyncBolt for Lookup {
//!     type Input = Query;
//!     type Output = Answer;
//!     async fn execute(&self, query: Query, out: &mut Emitter<Answer>) -> Result {
//!         let address = ask(&query.name).await?;
//!         out.emit(Answer { name: query.name, address: address.into() });
//!         Ok(())
//!     }
//! }
//!
//! let mut topology = Topology::builder("lookup");
//! let queries = topology.spout("queries", || Queries).add();
//! topology.async_bolt("lookup", 64, || Lookup).shuffle(&queries).add();
//! topology.build()?;
//! # Ok::<(), storm::topology::BuildError>(())
//! ```
//!
//! # Testing
//!
//! A topology is tested in a [local cluster](local_cluster): the same executors, ledgers and links in one process, on tokio's
//! paused clock, which jumps over every wait. [`Feed`](local_cluster::testing::Feed) emits given tuples and keeps what became
//! of them, [`Capture`](local_cluster::testing::Capture) keeps what a stream carried:
//!
//! ```
//! use std::time::Duration;
//! use storm::local_cluster::testing::{Capture, Feed};
//! use storm::local_cluster::{LocalCluster, run_paused};
//! use storm::prelude::*;
//!
//! #[tuple] struct Line { text: Text }
//! #[tuple] struct Word { word: Text }
//! # struct Split;
//! # impl Bolt for Split {
//! #     type Input = Line;
//! #     type Output = Word;
//! #     fn execute(&mut self, line: Line, out: &mut Emitter<Word>) -> Result {
//! #         line.text.split_whitespace().for_each(|word| out.emit(Word { word: word.into() }));
//! #         Ok(())
//! #     }
//! # }
//!
//! # fn main() {
//! run_paused(async |seam| {
//!     let mut topology = Topology::builder("split-lines");
//!     let feed = Feed::of([Line { text: "to be".into() }, Line { text: "or not".into() }]);
//!     let given = feed.clone();
//!     let lines = topology.spout("lines", move || given.spout()).add();
//!     let words = topology.bolt("split", || Split).shuffle(&lines).add(); // the bolt under test
//!     let seen = Capture::of(&mut topology, &words);
//!
//!     let topology = topology.build().unwrap();
//!     let cluster = LocalCluster::builder(topology).workers(2).seam(seam).start().await.unwrap();
//!     cluster.ended().await.unwrap();
//!     cluster.stop(Duration::ZERO).await;
//!
//!     let words: Vec<_> = seen.tuples().iter().map(|tuple| tuple.word.to_string()).collect();
//!     assert_eq!(words, ["to", "be", "or", "not"]);
//!     assert_eq!(feed.acked().len(), 2);
//! });
//! # }
//! ```
//!
//! # Configuration
//!
//! Keys are Storm's: `topology.workers`, `topology.message.timeout.secs`, `topology.max.spout.pending` … Files (`--config`)
//! yield to the topology's code, and the code to `-c` flags. A key that looks like Storm's and is none is refused, with the
//! one that was probably meant; other keys are the topology's own, and every task reads them by
//! [`Context::conf`](context::Context::conf). The rules: [`config`].
//!
//! Not here: anything of its own but the entry point; the rest is re-exported. Invariant: user code names this crate alone.

#![forbid(unsafe_code)]

mod arguments;
mod console;
mod local;
mod progress;
mod refusal;
mod report;
mod run;
mod signals;
mod worker_role;

/// The crate that reads command lines: a topology's own arguments are a struct with `#[derive(clap::Args)]`.
pub use clap;
pub use local_cluster;
pub use run::run;
/// A user's own topology in a simulated cluster, under faults by a seed.
#[cfg(feature = "simulation")]
pub mod simulation {
    pub use ::simulation::checks::Seen;
    pub use ::simulation::oracle::Violation;
    pub use ::simulation::own::{Faults, Run, Simulation, seeds};
    pub use ::simulation::run::Outcome;
}
pub use topology_api::*;

/// Everything that a topology's author usually needs: `use storm::prelude::*;`.
pub mod prelude {
    pub use clap;
    pub use topology_api::prelude::*;
}

/// The topology of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The examples of docs/testing.md, compiled and run.
#[cfg(all(doctest, feature = "simulation"))]
#[doc = include_str!("../../docs/testing.md")]
struct Testing;
