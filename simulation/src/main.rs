//! Runs seeds, side by side in threads, and says which of them fail: what `cargo xtask simulate` starts.
//!
//! Not here: what a run is (the library). Invariant: a seed's outcome is the same whatever runs beside it.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command line tool talks through its standard output")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mutations::Mutation;
use simulation::faults::Tally;
use simulation::log::Log;
use simulation::run::{Config, Outcome, run_watched};
use simulation::world::Counts;

/// A seed that takes longer than this, in real time, goes round in circles within one poll.
const STUCK: Duration = Duration::from_secs(300);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long things may go wrong in a seed: a day. More than that takes longer than [`STUCK`].
const MOST_MINUTES: u64 = 24 * 60;
/// The machines of Nimbuses have the numbers below that of the first Supervisor's.
const MOST_NIMBUSES: u64 = 99;
/// More than any machine has cores.
const MOST_THREADS: u64 = 1024;
/// Last lines of a log that are shown.
const LINES: usize = 40;

/// What was asked for.
struct Options {
    seeds: u64,
    first: u64,
    /// How long things go wrong in each seed.
    minutes: u64,
    nimbuses: u16,
    threads: u64,
    mutation: Option<Mutation>,
    /// Whether each bug is to be found within its seeds.
    proof: bool,
    /// Where the log of the one seed goes.
    log: Option<PathBuf>,
    /// Where logs of failing seeds go.
    folder: PathBuf,
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)) {
        #[cfg(feature = "mutations")]
        Ok(options) if options.proof => prove(&options),
        Ok(options) if options.proof => {
            println!("this executable was built without the feature `mutations`");
            ExitCode::from(64)
        }
        Ok(options) => simulate(&options),
        Err(why) => {
            println!("{why}");
            ExitCode::from(64)
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seeds: 1,
        first: 1,
        minutes: 5,
        nimbuses: 3,
        threads: 1,
        mutation: None,
        proof: false,
        log: None,
        folder: PathBuf::from("target/simulation"),
    };
    while let Some(key) = arguments.next() {
        if key == "--mutations" {
            options.proof = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{key} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{key} needs a number, not `{value}`"));
        match key.as_str() {
            "--seeds" => options.seeds = within(&key, number()?, u64::MAX)?,
            "--seed" => options.first = number()?,
            "--minutes" => options.minutes = within(&key, number()?, MOST_MINUTES)?,
            "--nimbuses" => options.nimbuses = within(&key, number()?, MOST_NIMBUSES)? as u16,
            "--threads" => options.threads = within(&key, number()?, MOST_THREADS)?,
            "--mutation" => options.mutation = Some(mutation(&value)?),
            "--log" => options.log = Some(PathBuf::from(value)),
            "--folder" => options.folder = PathBuf::from(value),
            _ => return Err(format!("{key} is not known")),
        }
    }
    let Options { first, seeds, .. } = options;
    if first.checked_add(seeds).is_none() {
        return Err(format!("--seed {first} and --seeds {seeds} go beyond the last seed, which is {}", u64::MAX - 1));
    }
    Ok(options)
}

/// The number, if it is at least 1 and not above this: none is taken for another one, so that no run passes that was not made.
fn within(key: &str, number: u64, most: u64) -> Result<u64, String> {
    match number {
        0 => Err(format!("{key} needs a number from 1 on, not 0")),
        _ if number > most => Err(format!("{key} needs a number from 1 to {most}, not {number}")),
        _ => Ok(number),
    }
}

fn mutation(name: &str) -> Result<Mutation, String> {
    if !cfg!(feature = "mutations") {
        return Err("this executable was built without the feature `mutations`".to_owned());
    }
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let found = Mutation::ALL.into_iter().find(|mutation| plain(&format!("{mutation:?}")) == plain(name));
    found.ok_or_else(|| format!("there is no mutation `{name}`; there are {:?}", Mutation::ALL))
}

/// The seed that a thread runs, and its log.
type Running = Arc<Mutex<BTreeMap<u64, (u64, std::time::Instant, Option<Log>)>>>;

#[expect(clippy::disallowed_methods, reason = "how fast the simulation itself is")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn simulate(options: &Options) -> ExitCode {
    let began = now();
    let next = AtomicU64::new(options.first);
    let end = options.first + options.seeds;
    let running = Running::default();
    let (done, outcomes) = sync_channel::<(u64, Outcome)>(64);
    let mut total = Total::default();
    std::thread::scope(|scope| {
        for thread in 0..options.threads {
            let (next, running, done) = (&next, &running, done.clone());
            scope.spawn(move || {
                #[cfg(feature = "mutations")]
                mutations::switch(options.mutation);
                loop {
                    let later = |seed| (seed < end).then_some(seed + 1);
                    let Ok(seed) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later) else { break };
                    let note = |log| {
                        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
                        running.insert(thread, (seed, now(), log));
                    };
                    let mut config = Config::of(seed, Duration::from_secs(60 * options.minutes));
                    config.nimbuses = options.nimbuses;
                    let outcome = run_watched(&config, |log| note(Some(log)));
                    if done.send((seed, outcome)).is_err() {
                        break;
                    }
                }
                running.lock().unwrap_or_else(PoisonError::into_inner).remove(&thread);
            });
        }
        drop(done);
        let mut said = now();
        loop {
            match outcomes.recv_timeout(Duration::from_secs(1)) {
                Ok((seed, outcome)) => total.add(options, seed, outcome),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if said.elapsed() > PROGRESS {
                said = now();
                total.progress(options.seeds, began.elapsed());
            }
            give_up_if_stuck(&running);
        }
    });
    total.table(options, began.elapsed());
    if total.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks for each bug, and says which seed finds it, and by which invariant.
#[cfg(feature = "mutations")]
fn prove(options: &Options) -> ExitCode {
    let wanted = |mutation: &Mutation| options.mutation.is_none_or(|only| only == *mutation);
    let bounds = simulation::proof::WITHIN.into_iter().filter(|(mutation, _)| wanted(mutation));
    let mut missed = 0;
    println!("{:<24} {:>7} {:>7}  by", "bug", "within", "found");
    for (mutation, within) in bounds {
        let found = simulation::proof::found(mutation, options.first..options.first.saturating_add(within));
        missed += u64::from(found.is_none());
        let (seed, by) = match found {
            Some((seed, violation)) => (seed.to_string(), violation.to_string()),
            None => ("-".to_owned(), format!("not in {within} seeds")),
        };
        println!("{:<24} {within:>7} {seed:>7}  {by}", format!("{mutation:?}"));
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A run that does not come to its next poll cannot end itself.
fn give_up_if_stuck(running: &Running) {
    let running = running.lock().unwrap_or_else(PoisonError::into_inner);
    for (seed, since, log) in running.values() {
        if since.elapsed() > STUCK {
            println!("seed {seed} has run for {:?} and stands still; its log ends with", since.elapsed());
            println!("{}", log.as_ref().map(|log| log.tail(LINES)).unwrap_or_default());
            std::process::abort();
        }
    }
}

#[derive(Default)]
struct Total {
    runs: u64,
    virtual_time: Duration,
    counts: Counts,
    faults: Tally,
    polls: u64,
    failed: Vec<u64>,
}

impl Total {
    fn add(&mut self, options: &Options, seed: u64, outcome: Outcome) {
        self.runs += 1;
        self.virtual_time += outcome.lasted;
        self.counts.add(&outcome.counts);
        self.polls += outcome.polls;
        for (kind, times) in &outcome.faults {
            *self.faults.entry(*kind).or_default() += times;
        }
        if let Some(file) = &options.log {
            write(file, &outcome.log);
        }
        if outcome.violations.is_empty() {
            return;
        }
        self.failed.push(seed);
        println!("seed {seed} FAILS:");
        for (at, violation) in outcome.violations.iter().take(3) {
            println!("  at {:.3} s {violation}", at.as_secs_f64());
        }
        let mutation = options.mutation.map(|mutation| format!(" --mutation {mutation:?}")).unwrap_or_default();
        let Options { minutes, nimbuses, .. } = options;
        println!(
            "  again: cargo xtask simulate --seed {seed} --minutes {minutes} --nimbuses {nimbuses}{mutation} --log FILE"
        );
        let file = options.folder.join(format!("seed-{seed}.log"));
        if options.log.is_none() && write(&file, &outcome.log) {
            println!("  log: {}", file.display());
        }
    }

    fn progress(&self, seeds: u64, elapsed: Duration) {
        let (runs, failed) = (self.runs, self.failed.len());
        println!("{runs} of {seeds} seeds, {failed} failed, {:.0} s", elapsed.as_secs_f64());
    }

    fn table(&self, options: &Options, elapsed: Duration) {
        println!();
        for (kind, times) in &self.faults {
            println!("{:>20} {times:>9}", format!("{kind:?}"));
        }
        let Counts { emitted, replayed, acked, failed, effects, workers_started, records_written } = self.counts;
        for (what, count) in [
            ("roots emitted", emitted),
            ("replays among them", replayed),
            ("roots acked", acked),
            ("roots failed", failed),
            ("effects", effects),
            ("workers started", workers_started),
            ("records written", records_written),
            ("polls", self.polls),
        ] {
            println!("{what:>20} {count:>9}");
        }
        let (minutes, seconds) = (self.virtual_time.as_secs_f64() / 60.0, elapsed.as_secs_f64());
        println!(
            "\n{} seeds, {minutes:.0} virtual minutes in {seconds:.1} s on {} threads: {:.2} virtual minutes a second",
            self.runs,
            options.threads,
            minutes / seconds.max(0.001)
        );
        match self.failed.as_slice() {
            [] => println!("none failed"),
            failed => println!("{} failed: {failed:?}", failed.len()),
        }
    }
}

/// Whether it could be written; if not, why is said.
fn write(file: &Path, text: &str) -> bool {
    let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
    match folder.and_then(|()| std::fs::write(file, text)) {
        Ok(()) => true,
        Err(error) => {
            println!("cannot write {}: {error}", file.display());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> Option<String> {
        options(line.split(' ').map(str::to_owned)).err()
    }

    #[test]
    fn what_would_run_no_seed_or_another_one_is_refused() {
        let refusals = [
            ("--seeds 0", "--seeds needs a number from 1 on, not 0"),
            (
                "--seed 18446744073709551615",
                "--seed 18446744073709551615 and --seeds 1 go beyond the last seed, which is 18446744073709551614",
            ),
            ("--minutes 0", "--minutes needs a number from 1 on, not 0"),
            ("--minutes 307445734561825861", "--minutes needs a number from 1 to 1440, not 307445734561825861"),
            ("--nimbuses 0", "--nimbuses needs a number from 1 on, not 0"),
            ("--nimbuses 100", "--nimbuses needs a number from 1 to 99, not 100"),
            ("--threads 0", "--threads needs a number from 1 on, not 0"),
        ];
        for (line, why) in refusals {
            assert_eq!(refused(line).as_deref(), Some(why), "{line}");
        }
        let most = "--seed 18446744073709551614 --seeds 1 --minutes 1440 --nimbuses 99 --threads 1024";
        assert_eq!(refused(most), None);
    }
}
