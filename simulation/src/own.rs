//! A user's own topology in a simulated cluster, for a test: under faults by a seed, with the user's own checks.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! # extern crate topology_api as storm;
//! use simulation::own::{Faults, Simulation};
//! # use storm::prelude::*;
//! # #[tuple] struct Number { n: u64 }
//! # struct Numbers { next: u64, again: Vec<u64> }
//! # impl Spout for Numbers {
//! #     type Output = Number;
//! #     type MessageId = u64;
//! #     fn next(&mut self, out: &mut Roots<Number, u64>) -> Result<Next> {
//! #         let n = match self.again.pop() {
//! #             Some(n) => n,
//! #             None if self.next == 10 => return Ok(Next::Idle(std::time::Duration::from_secs(1))),
//! #             None => { self.next += 1; self.next - 1 }
//! #         };
//! #         out.emit(Number { n }, n);
//! #         Ok(Next::Emitted)
//! #     }
//! #     fn fail(&mut self, n: u64, _: &FailReason) { self.again.push(n) }
//! # }
//! # struct Keep(Arc<Mutex<Vec<u64>>>);
//! # impl Bolt for Keep {
//! #     type Input = Number;
//! #     type Output = ();
//! #     fn execute(&mut self, number: Number, _: &mut Emitter<()>) -> Result {
//! #         self.0.lock().unwrap().push(number.n);
//! #         Ok(())
//! #     }
//! # }
//!
//! // What outlives workers, as a database would.
//! let kept = Arc::new(Mutex::new(Vec::new()));
//! let sink = kept.clone();
//! let run = Simulation::of(move || {
//!     let sink = sink.clone();
//!     let mut topology = Topology::builder("numbers");
//!     let numbers = topology.spout("numbers", || Numbers { next: 0, again: Vec::new() }).add();
//!     topology.bolt("keep", move || Keep(sink.clone())).shuffle(&numbers).add();
//!     topology.build().unwrap()
//! });
//! run.seed(7).machines(2).minutes(1).faults(Faults::none()).run().check();
//! assert_eq!(kept.lock().unwrap().len(), 10);
//! ```
//!
//! Not here: what a run is (`run`). Invariant: a run depends on the seed and the topology alone.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use topology_api::topology::Topology;
use worker_api::ids::TopologyName;

use crate::run::{Config, Outcome, run_own};
use crate::workload::SubmittedTopology;

/// Lines of a log that a failed check shows.
const LAST_LINES: usize = 40;

/// A cluster for one topology: three Nimbuses, and machines with a Supervisor each.
#[must_use = "call `.run()` to run it"]
#[derive(Clone, Debug)]
pub struct Simulation {
    topology: SubmittedTopology,
    seed: u64,
    machines: u16,
    length: Duration,
    faults: Faults,
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults(bool);

impl Faults {
    /// All that the simulation knows: processes that are killed and paused, networks that part, machines that end, clocks that
    /// jump, disks that are full, a cluster state that is away. When and where follows from the seed; after the
    /// time that [`Simulation::minutes`] says nothing is disturbed any more.
    pub fn all() -> Self {
        Faults(true)
    }

    /// Nothing.
    pub fn none() -> Self {
        Faults(false)
    }
}

impl Simulation {
    /// Of the topology that this builds: in each worker process anew, and each time the same. What shall outlive workers, as a
    /// source and a sink do, the closure holds and hands to each. Its sources should come to an end: when all has
    /// settled nothing may be pending.
    ///
    /// # Panics
    /// If the topology's name is outside the grammar of names.
    pub fn of(topology: impl Fn() -> Topology + Send + Sync + 'static) -> Self {
        let name = TopologyName::new(topology().name()).unwrap_or_else(|error| panic!("{error}"));
        Simulation {
            topology: SubmittedTopology::of_own(name, topology),
            seed: 0,
            machines: 3,
            length: Duration::from_secs(300),
            faults: Faults::all(),
        }
    }

    /// What all that is random follows from; 0 if not said.
    pub fn seed(self, seed: u64) -> Self {
        Simulation { seed, ..self }
    }

    /// How many machines run workers, each with three slots; three if not said.
    pub fn machines(self, machines: u16) -> Self {
        Simulation { machines, ..self }
    }

    /// How long things go wrong on the virtual clock; five minutes if not said. Then it has two minutes more to settle, and
    /// ends when it has.
    pub fn minutes(self, minutes: u64) -> Self {
        Simulation { length: Duration::from_secs(60 * minutes), ..self }
    }

    /// What goes wrong; all if not said.
    pub fn faults(self, faults: Faults) -> Self {
        Simulation { faults, ..self }
    }

    /// Runs it in this thread.
    ///
    /// # Panics
    /// Within a tokio runtime.
    pub fn run(self) -> Run {
        let Simulation { topology, seed, machines, length, faults } = self;
        let config = Config { machines, faults: faults.0, ..Config::of(seed, length) };
        Run { seed, outcome: run_own(&config, topology) }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// The rest.
    pub outcome: Outcome,
}

impl Run {
    /// What happened, line by line: the same for each run of this seed.
    pub fn log(&self) -> &str {
        &self.outcome.log
    }

    /// Sees that all that the runtime promises has held.
    ///
    /// # Panics
    /// If something has not: with what, the seed, and the last lines of the log.
    pub fn check(&self) {
        assert!(self.outcome.violations.is_empty(), "{self}");
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, Outcome { log, violations, lasted, .. }) = (self.seed, &self.outcome);
        writeln!(f, "seed {seed}, {:.1} s: {} violations", lasted.as_secs_f64(), violations.len())?;
        for (at, violation) in violations {
            writeln!(f, "  at {:.6} s {violation}", at.as_secs_f64())?;
        }
        let lines: Vec<&str> = log.lines().collect();
        writeln!(f, "the last lines of its log:")?;
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "`.seed({seed})` runs it again, to the same byte")
    }
}

/// Does a test for each of these seeds, and names the one at which it fails.
///
/// # Panics
/// With the test, after a line on standard error that says the seed.
pub fn seeds(seeds: Range<u64>, test: impl Fn(u64)) {
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("the test fails at seed {seed}");
            resume_unwind(panic);
        }
    }
}
