//! A user's own topology with the user's own checks: when they are judged, what they are given, and what is said if they do not hold.
//!
//! Not here: what the runtime promises (`whole`). Invariant: each run is of one seed, without faults but where they are wanted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use simulation::checks::Seen;
use simulation::own::{Faults, Simulation};
use topology_api::prelude::*;

#[tuple]
struct Number {
    n: u64,
}

/// Gives 0 .. 10, and those that fail again.
struct Numbers {
    next: u64,
    again: Vec<u64>,
}

impl Spout for Numbers {
    type Output = Number;
    type MessageId = u64;
    fn next(&mut self, out: &mut Roots<Number, u64>) -> Result<Next> {
        let n = match self.again.pop() {
            Some(n) => n,
            None if self.next == 10 => return Ok(Next::Done),
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        out.emit(Number { n }, n);
        Ok(Next::Emitted)
    }
    fn fail(&mut self, n: u64, _: &FailReason) {
        self.again.push(n);
    }
}

type Kept = Arc<Mutex<Vec<u64>>>;

struct Keep(Kept);

impl Bolt for Keep {
    type Input = Number;
    type Output = ();
    fn execute(&mut self, number: Number, _: &mut Emitter<()>) -> Result {
        self.0.lock().unwrap().push(number.n);
        Ok(())
    }
}

fn numbers(name: &'static str, kept: &Kept) -> Simulation {
    let kept = kept.clone();
    let simulation = Simulation::of(move || {
        let kept = kept.clone();
        let mut topology = Topology::builder(name);
        let numbers = topology.spout("numbers", || Numbers { next: 0, again: Vec::new() }).add();
        topology.bolt("keep", move || Keep(kept.clone())).shuffle(&numbers).add();
        topology.build().unwrap()
    });
    simulation.seed(7).machines(2).minutes(1).faults(Faults::none())
}

#[test]
fn checks_are_judged_each_second_or_at_the_end_and_see_what_was_done() {
    let (kept, seen) = (Kept::default(), Arc::new(Mutex::new([Vec::new(), Vec::new()])));
    let [always, at_the_end] = [0, 1].map(|which| {
        let seen: Arc<Mutex<[Vec<Seen>; 2]>> = seen.clone();
        move |now: &Seen| {
            seen.lock().unwrap()[which].push(*now);
            Ok(())
        }
    });
    numbers("counted", &kept).check_always("always", always).check("at-the-end", at_the_end).run().check();
    let [always, at_the_end] = std::mem::take(&mut *seen.lock().unwrap());
    let begin = Seen { at: Duration::from_secs(1), ..Seen::default() };
    assert_eq!(always[0], begin);
    assert!(always.len() > 60, "judged {} times", always.len());
    let [Seen { at, emitted, acked, failed, pending, workers }] = at_the_end[..] else { panic!("{at_the_end:?}") };
    assert!(at > Duration::from_secs(60));
    assert_eq!((emitted, acked, failed, pending, workers), (10, 10, 0, 0, 1));
    assert_eq!(*kept.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_check_that_does_not_hold_ends_the_run_and_is_told_with_its_log() {
    let kept = Kept::default();
    let book = kept.clone();
    let few = move |_: &Seen| match book.lock().unwrap().len() {
        0..=3 => Ok(()),
        many => Err(format!("{many} were kept")),
    };
    let run = numbers("few", &kept).check_always("few", few).run();
    let said: Vec<String> = run.outcome.violations.iter().map(|(_, violation)| violation.to_string()).collect();
    assert_eq!(said, ["few: 10 were kept"]);
    assert!(run.outcome.lasted < Duration::from_secs(60), "it went on for {:?}", run.outcome.lasted);
    let panic = catch_unwind(AssertUnwindSafe(|| run.check())).unwrap_err();
    let told = panic.downcast_ref::<String>().unwrap();
    assert!(told.contains("few: 10 were kept") && told.contains("`.seed(7)` runs it again"), "{told}");
    let (_, file) = told.rsplit_once("all of its log: ").unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), run.log());
}

#[test]
fn an_assertion_in_a_check_is_what_does_not_hold() {
    let run = numbers("asserted", &Kept::default()).check("eleven", |run| {
        assert!(run.acked == 11, "{} of 11 were acked", run.acked);
        Ok(())
    });
    let said: Vec<String> = run.run().outcome.violations.iter().map(|(_, violation)| violation.to_string()).collect();
    assert_eq!(said, ["eleven: it panicked: 10 of 11 were acked"]);
}
