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
//! #             None if self.next == 10 => return Ok(Next::Done),
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
//! let (sink, seen) = (kept.clone(), kept.clone());
//! let run = Simulation::of(move || {
//!     let sink = sink.clone();
//!     let mut topology = Topology::builder("numbers");
//!     let numbers = topology.spout("numbers", || Numbers { next: 0, again: Vec::new() }).add();
//!     topology.bolt("keep", move || Keep(sink.clone())).shuffle(&numbers).add();
//!     topology.build().unwrap()
//! });
//! let run = run.seed(7).machines(2).minutes(1).faults(Faults::none());
//! let run = run.check_always("no-other-numbers", move |_| match seen.lock().unwrap().iter().find(|n| **n > 9) {
//!     Some(n) => Err(format!("{n} was kept, and never given")),
//!     None => Ok(()),
//! });
//! let run = run.check("all-acked", |run| if run.acked == 10 { Ok(()) } else { Err(format!("{run:?}")) });
//! run.run().check();
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

use crate::checks::{Check, Seen, When};
use crate::run::{Config, Outcome, run_own};
use crate::workload::SubmittedTopology;

/// Lines of a log that a failed check shows.
const LAST_LINES: usize = 40;
/// The environment variable that names the one seed which [`seeds`] runs.
const SEED: &str = "STORM_SIMULATION_SEED";

/// A cluster for one topology: three Nimbuses, and machines with a Supervisor each.
#[must_use = "call `.run()` to run it"]
#[derive(Clone, Debug)]
pub struct Simulation {
    topology: SubmittedTopology,
    seed: u64,
    machines: u16,
    length: Duration,
    faults: Faults,
    checks: Vec<Check>,
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
            checks: Vec::new(),
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

    /// A check of one's own, judged when all has settled: what does not hold then, in a sentence, or a panic. It is given what
    /// the run has come to; what the topology's components have done they tell it by what it shares with them.
    pub fn check(
        self,
        name: &'static str,
        check: impl Fn(&Seen) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.with(Check::new(name, When::AtTheEnd, check))
    }

    /// As [`Simulation::check`], and judged each second of the virtual clock as well: the run ends where it does not hold.
    pub fn check_always(
        self,
        name: &'static str,
        check: impl Fn(&Seen) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.with(Check::new(name, When::EachSecond, check))
    }

    fn with(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Runs it in this thread.
    ///
    /// # Panics
    /// Within a tokio runtime.
    pub fn run(self) -> Run {
        let Simulation { topology, seed, machines, length, faults, checks } = self;
        let config = Config { machines, faults: faults.0, ..Config::of(seed, length) };
        let name = topology.name().clone();
        Run { seed, outcome: run_own(&config, topology, checks), name }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// The rest.
    pub outcome: Outcome,
    name: TopologyName,
}

impl Run {
    /// What happened, line by line: the same for each run of this seed.
    pub fn log(&self) -> &str {
        &self.outcome.log
    }

    /// Sees that all that the runtime promises has held, and one's own checks.
    ///
    /// # Panics
    /// If something has not: with what, the last lines of the log, where all of it was written, and how to run the seed
    /// again.
    pub fn check(&self) {
        assert!(self.outcome.violations.is_empty(), "{self}\n{}", self.keep_log());
    }

    /// Writes the log into the folder for temporary files, and says where.
    fn keep_log(&self) -> String {
        let folder = std::env::temp_dir().join("storm-simulation");
        let file = folder.join(format!("{}-seed-{}.log", self.name, self.seed));
        match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, self.log())) {
            Ok(()) => format!("all of its log: {}", file.display()),
            Err(error) => format!("its log cannot be written to {}: {error}", file.display()),
        }
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

/// Does a test for each of these seeds, and names the one at which it fails; if the environment variable
/// `STORM_SIMULATION_SEED` is set, for that one alone.
///
/// # Panics
/// With the test, after a line on standard error that says the seed and how to repeat it; if the variable is no number.
pub fn seeds(seeds: Range<u64>, test: impl Fn(u64)) {
    let only = std::env::var(SEED).ok().map(|text| {
        text.parse::<u64>()
            .unwrap_or_else(|error| panic!("{SEED} should be the number of a seed, not `{text}`: {error}"))
    });
    for seed in only.map_or(seeds, |only| only..only.saturating_add(1)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            // The harness of tests calls a test's thread by its name.
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            eprintln!("the test fails at seed {seed}; that one alone: {SEED}={seed} cargo test {name}");
            resume_unwind(panic);
        }
    }
}
