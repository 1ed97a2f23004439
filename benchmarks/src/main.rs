//! `benchmarks [CASE…] [--json FILE] [--compare FILE]`: the runtime measured beside hand-written programs of the same
//! shape, in the same run, round by round in turn.
//!
//! A table on standard output, with goals met and missed, and how to repeat it; on request a line of JSON for each case.
//! Values are medians of the rounds, ratios those of rounds that were run one after the other. All checks and statistics of
//! the runtime are on, its configuration is the default one.
//!
//! Not here: the hand-written programs (`baseline`) and the topologies (`topologies`). Invariant: a case and its limit
//! handle the same tuples, and what comes out of both is checked.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the results are this program's output")]

mod cases;
mod memory;
mod offered;
mod outcome;
mod scheduling;
mod shape;
mod start;
mod topologies;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use baseline::cases::Text;
use baseline::{made_text, word_count};
use clap::Parser;

use crate::cases::{Bench, Rounds};
use crate::memory::Alone;
use crate::outcome::Outcome;
use crate::start::Executables;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of the text that is made when none is given.
const TEXT_BYTES: u64 = 50_000_000;
/// Times that it is read in a round.
const PASSES: usize = 5;
/// By how much the short form divides tuples, and bytes of the text.
const SHORT: u64 = 500;

/// Measures the runtime beside hand-written programs of the same shape.
///
/// Example: `benchmarks hop-acked word-count --json now.json --compare before.json`
#[derive(Parser)]
#[command(name = "benchmarks")]
struct Options {
    /// Cases, or beginnings of their names; all if not given
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// Write a line of JSON for each case into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print what differs from the cases in this file, which an earlier `--json` wrote
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Rounds of each case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The text whose words are counted; one of 50 MB is made if not given
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// One round of little: proves that every case works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "long"])]
    short: bool,
    /// Overload for two minutes instead of ten seconds
    #[arg(long)]
    long: bool,
    /// Names of the cases, and nothing else
    #[arg(long)]
    list: bool,
    /// The `storm` executable, for what starts it
    #[arg(long, value_name = "FILE", requires = "word_count")]
    storm: Option<PathBuf>,
    /// The example's executable, for what is submitted
    #[arg(long, value_name = "FILE")]
    word_count: Option<PathBuf>,
    /// Measure this process alone, and say what it takes
    #[arg(long, hide = true)]
    alone: Option<Alone>,
    #[arg(long, hide = true, default_value_t = 1.0)]
    seconds: f64,
}

/// What is run by itself, and how.
const SINGLE: [(&str, Single); 12] = [
    ("latency", |bench, name, rounds| offered::latency(bench, name, rounds, 1)),
    ("latency-two-workers", |bench, name, rounds| offered::latency(bench, name, rounds, 2)),
    ("sustainable", offered::sustainable),
    ("overload", |bench, name, _| offered::overload(bench, name, if bench.long { 120.0 } else { 10.0 })),
    ("rare-output", offered::rare_output),
    ("idle", memory::idle_case),
    ("memory", memory::memory_case),
    ("start-local", |_, name, rounds| start::local(name, rounds)),
    ("start-standalone", start::standalone),
    ("start-size", |bench, name, _| start::size(bench, name)),
    ("scheduling", |_, name, rounds| scheduling::run(name, rounds)),
    ("probe", probe),
];

type Single = fn(&Bench, &str, u32) -> Result<Outcome>;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if let Some(alone) = options.alone {
        // Its memory is measured, so the text is not read into it.
        let file = options.text.clone().map(|file| &*Box::leak(file.into_boxed_path()));
        let text = file.map(|file| Text { file, content: "", passes: PASSES });
        println!("{}", serde_json::to_string(&alone.measure(options.seconds, text)?)?);
        return Ok(());
    }
    let all = cases::all(if options.short { SHORT } else { 1 });
    let is_wanted = chosen(&options.cases, &all)?;
    let compared = all.iter().filter(|case| is_wanted(case.name));
    let single: Vec<_> = SINGLE.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    if options.list {
        compared.map(|case| case.name).chain(single.iter().map(|(name, _)| *name)).for_each(|name| println!("{name}"));
        return Ok(());
    }
    let earlier = options.compare.as_deref().map(read).transpose()?;
    let rounds = if options.short { 1 } else { options.rounds };

    let (text, _held) = text(options)?;
    let words = word_count::one_loop(text.file, text.passes).context("counting the text's words")?.handled();
    let executables = options.storm.clone().zip(options.word_count.clone());
    let bench = Bench {
        text: Some(text),
        words: Some(words),
        short: options.short,
        long: options.long,
        executables: executables.map(|(storm, word_count)| Executables { storm, word_count }),
    };

    // All cases in each round, so that an hour of the machine is not one case's alone.
    let mut measured: Vec<Rounds<'_>> = compared.map(Rounds::of).collect();
    for round in 1..=rounds {
        for case in &mut measured {
            eprintln!("round {round} of {rounds}: {}", case.name());
            case.run(&bench).with_context(|| format!("the case {}", case.name()))?;
        }
    }
    let mut outcomes: Vec<Outcome> = measured.iter().flat_map(Rounds::outcomes).collect();
    for (name, measure) in single {
        if ["start-standalone", "start-size"].contains(&name) && bench.executables.is_none() {
            eprintln!("left out: {name}, which needs `--storm FILE --word-count FILE`");
            continue;
        }
        eprintln!("{rounds} rounds: {name}");
        outcomes.push(measure(&bench, name, rounds).with_context(|| format!("the case {name}"))?);
    }
    if let Some(file) = &options.json {
        let mut lines = String::new();
        for outcome in &outcomes {
            lines += &serde_json::to_string(outcome)?;
            lines.push('\n');
        }
        fs::write(file, lines).with_context(|| format!("writing {}", file.display()))?;
    }
    report(options, rounds, &outcomes);
    if let Some(earlier) = &earlier {
        println!();
        for outcome in &outcomes {
            let before = earlier.iter().find(|before| before.case == outcome.case);
            print!("{}", before.map(|before| outcome.compared(before)).unwrap_or_default());
        }
    }
    Ok(())
}

/// Whether a case is wanted: all are if none is named.
fn chosen<'a>(names: &'a [String], cases: &[cases::Case]) -> Result<impl Fn(&str) -> bool + 'a> {
    let known = || cases.iter().map(|case| case.name).chain(SINGLE.into_iter().map(|(name, _)| name));
    for name in names {
        if !known().any(|known| known.starts_with(name.as_str())) {
            bail!("there is no case `{name}`; the cases are {}", known().collect::<Vec<_>>().join(", "));
        }
    }
    // A case's own name is not the beginning of another's.
    let is_name: Vec<(&String, bool)> = names.iter().map(|name| (name, known().any(|known| known == name))).collect();
    Ok(move |case: &str| {
        let named =
            is_name.iter().any(|(name, exact)| if *exact { case == *name } else { case.starts_with(name.as_str()) });
        is_name.is_empty() || named
    })
}

fn read(file: &Path) -> Result<Vec<Outcome>> {
    let lines = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let outcome = |(at, line): (usize, &str)| {
        serde_json::from_str(line)
            .with_context(|| format!("line {} of {} is no outcome of a case", at + 1, file.display()))
    };
    lines.lines().enumerate().map(outcome).collect()
}

fn report(options: &Options, rounds: u32, outcomes: &[Outcome]) {
    if options.short {
        println!("{} cases have run. The short form measures nothing.", outcomes.len());
        return;
    }
    println!();
    outcomes.iter().for_each(|outcome| print!("{}", outcome.lines()));
    let checks = || outcomes.iter().flat_map(|outcome| &outcome.checks);
    let met = checks().filter(|check| check.met).count();
    println!("\n{met} of {} goals met", checks().count());
    let names = if options.cases.is_empty() { String::new() } else { format!(" {}", options.cases.join(" ")) };
    println!("Repeat it by: cargo xtask bench{names} --rounds {rounds}");
}

/// The text, and the file that is made for it and goes with the value.
fn text(options: &Options) -> Result<(Text, Option<tempfile::TempPath>)> {
    let (file, held) = match &options.text {
        Some(file) => (file.clone(), None),
        None => {
            let file = tempfile::NamedTempFile::new().context("making a temporary file")?;
            let bytes = if options.short { TEXT_BYTES / SHORT } else { TEXT_BYTES };
            let mut out = BufWriter::new(File::create(file.path()).context("making a text")?);
            made_text::write(&mut out, bytes).and_then(|_| out.flush()).context("making a text")?;
            (file.path().to_owned(), Some(file.into_temp_path()))
        }
    };
    let content = fs::read_to_string(&file).with_context(|| format!("reading the text {}", file.display()))?;
    // They live as long as the process: the hand-written programs share them between threads.
    Ok((Text { file: Box::leak(file.into_boxed_path()), content: content.leak(), passes: PASSES }, held))
}

/// What it costs to hand a cache line from core to core, as it is beside each case.
fn probe(_: &Bench, name: &str, rounds: u32) -> Result<Outcome> {
    let trips = (0..rounds).map(|_| baseline::probe::round_trip_ns());
    Ok(Outcome::new(name, rounds, Vec::new(), outcome::figures([("round_trip_ns", outcome::median(trips).round())])))
}
