//! At least once: a bolt goes wrong in every way there is, the spout replays, and at the end each number was counted.
//!
//! Not here: exactly once (a replayed number may count twice, and the result says how often). Invariant: the spout forgets
//! a number when it is acked, not before.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use storm::prelude::*;

/// Counts numbers by way of a bolt that fails them at random.
#[derive(clap::Args)]
pub struct Args {
    /// How many numbers
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub count: u64,

    /// How likely a number fails each time it comes, from 0 to below 1
    #[arg(long, value_name = "RATE", default_value_t = 0.2)]
    pub fail_rate: f64,

    /// Another seed gives other mishaps
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// A number on its way.
#[tuple]
pub struct Number {
    /// Each is emitted until it is acked.
    pub n: u64,
}

/// How often a number was counted.
#[tuple]
#[derive(Debug)]
pub struct Counted {
    /// The number.
    pub n: u64,
    /// At least once; more if it failed after it was counted.
    pub times: u64,
}

/// Emits the numbers below `end`, and again what fails.
struct Numbers {
    next: u64,
    end: u64,
    failed: VecDeque<u64>,
    replays: BTreeMap<String, u64>,
}

impl Spout for Numbers {
    type Output = Number;
    type MessageId = u64;

    fn next(&mut self, out: &mut Roots<'_, Number, u64>) -> Result<Next> {
        let n = match self.failed.pop_front() {
            Some(n) => n,
            // Done is not the end: should something fail yet, it is asked again.
            None if self.next == self.end => return Ok(Next::Done),
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        out.emit(Number { n }, n);
        Ok(Next::Emitted)
    }

    fn fail(&mut self, n: u64, reason: &FailReason) {
        *self.replays.entry(reason.to_string()).or_default() += 1;
        self.failed.push_back(n);
    }

    fn close(&mut self) {
        let mut out = io::stdout().lock();
        for (reason, times) in &self.replays {
            // A closed pipe is no reason to fail: the numbers are counted.
            let _ = writeln!(out, "{times:>6} replays as {reason}");
        }
    }
}

/// What can go wrong with a tuple.
#[derive(Clone, Copy)]
enum Mishap {
    Fail,
    Error,
    Panic,
    Forget,
}

/// Passes numbers on, or not.
struct Unreliable {
    fail_rate: f64,
    random: ChaCha8Rng,
}

impl Unreliable {
    fn mishap(&mut self) -> Option<Mishap> {
        const ALL: [Mishap; 4] = [Mishap::Fail, Mishap::Error, Mishap::Panic, Mishap::Forget];
        self.random.random_bool(self.fail_rate).then(|| ALL[self.random.random_range(..ALL.len())])
    }
}

impl Bolt for Unreliable {
    // `Tracked`, as it settles its inputs itself; a plain `Number` would be acked by `Ok` and failed by `Err`.
    type Input = Tracked<Number>;
    type Output = Number;

    fn execute(&mut self, number: Tracked<Number>, out: &mut Emitter<Number, Manual>) -> Result {
        let mishap = self.mishap();
        // In half of the cases the number has gone on before it fails, and will be counted once more.
        if mishap.is_none() || self.random.random_bool(0.5) {
            out.anchor(&number).emit(Number { n: number.n });
        }
        match mishap {
            None => number.ack(),
            Some(Mishap::Fail) => number.fail("bad luck"),
            Some(Mishap::Error) => return Err(Error::retry("an error")), // fails what the call held
            Some(Mishap::Panic) => panic!("a mistake"), // and so does a panic; a new instance takes over
            Some(Mishap::Forget) => {}                  // dropped without ack or fail, so it fails here and now
        }
        Ok(())
    }
}

/// Counts how often each number comes.
#[derive(Default)]
struct Count(BTreeMap<u64, u64>);

impl Bolt for Count {
    type Input = Number;
    type Output = Counted;

    fn execute(&mut self, Number { n }: Number, _: &mut Emitter<Counted>) -> Result {
        *self.0.entry(n).or_default() += 1;
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<Counted>) -> Result {
        out.emit_all(std::mem::take(&mut self.0).into_iter().map(|(n, times)| Counted { n, times }));
        Ok(())
    }
}

/// Compares what was counted with what was emitted.
struct Check {
    missing: BTreeSet<u64>,
    counted_again: u64,
}

impl Bolt for Check {
    type Input = Counted;
    type Output = ();

    fn execute(&mut self, Counted { n, times }: Counted, _: &mut Emitter<()>) -> Result {
        self.missing.remove(&n);
        self.counted_again += times - 1;
        Ok(())
    }

    fn finish(&mut self, _: &mut Emitter<()>) -> Result {
        if !self.missing.is_empty() {
            return Err(Error::fatal(format!("these numbers were never counted: {:?}", self.missing)));
        }
        writeln!(io::stdout(), "each number was counted; replays made {} counts more than needed", self.counted_again)?;
        Ok(())
    }
}

/// The topology.
///
/// # Errors
/// If the fail rate is none.
pub fn topology(args: Args, topology: &mut TopologyBuilder) -> Result {
    let end = args.count;
    let counted = count(args, topology)?;
    topology.bolt("check", move || Check { missing: (0..end).collect(), counted_again: 0 }).global(&counted).add();
    Ok(())
}

/// Wires all but the check; gives the stream of what was counted.
///
/// # Errors
/// If the fail rate is none.
pub fn count(Args { count, fail_rate, seed }: Args, topology: &mut TopologyBuilder) -> Result<Stream<Counted>> {
    if !(0.0..1.0).contains(&fail_rate) {
        return Err(Error::fatal(format!("--fail-rate is {fail_rate}; give a number from 0 to below 1")));
    }
    let spout = move || Numbers { next: 0, end: count, failed: VecDeque::new(), replays: BTreeMap::new() };
    let numbers = topology.spout("numbers", spout).add();
    // Also called for the instance that follows a panic: one seed for all would have it panic at the same place for ever.
    let instance = AtomicU64::new(0);
    let unreliable = move || {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(instance.fetch_add(1, Ordering::Relaxed));
        Unreliable { fail_rate, random }
    };
    let passed = topology.bolt("unreliable", unreliable).parallelism(4).shuffle(&numbers).add();
    Ok(topology.bolt("count", Count::default).parallelism(2).fields(&passed, Number::N).add())
}
