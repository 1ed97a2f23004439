//! `benchmarks [--case NAME] [--rounds N] [--text FILE]`: the runtime measured beside hand-written programs of the same
//! shape, in the same run, round by round in turn.
//!
//! One JSON line for each case on stdout; a table and how to repeat it on stderr. Medians of the rounds; ratios are those
//! of medians. All checks and statistics of the runtime are on, its configuration is the default one.
//!
//! The case `scheduling` has no such program: it times Nimbus's plans of a large cluster.
//!
//! Not here: the hand-written programs (`baseline`) and the topologies (`topologies`). Invariant: a case and its limit
//! handle the same number of tuples of the same kind.

mod cases;
mod scheduling;
mod topologies;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use baseline::cases::Load;
use baseline::made_text;
use clap::Parser;

use crate::cases::{Case, Outcome};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of the text that is made when none is given.
const TEXT_BYTES: u64 = 50_000_000;

/// Measures the runtime beside hand-written programs of the same shape.
///
/// Example: `benchmarks --case hop-acked --rounds 5`
#[derive(Parser)]
#[command(name = "benchmarks")]
struct Options {
    /// Only this case; all if not given
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// Rounds of each case, the runtime and its limit in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The text whose words are counted; one of 50 MB is made if not given
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Names of the cases, and nothing else
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmarks: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the results are this program's output")]
fn run(options: &Options) -> Result<()> {
    if options.list {
        Case::ALL.iter().for_each(|case| println!("{}", case.name()));
        println!("{}", scheduling::NAME);
        return Ok(());
    }
    let (plans, names): (Vec<&str>, Vec<&str>) =
        options.case.iter().map(String::as_str).partition(|name| *name == scheduling::NAME);
    let cases = match options.case.is_empty() {
        true => Case::ALL.to_vec(),
        false => names.into_iter().map(Case::named).collect::<Result<_>>()?,
    };
    let text = cases.iter().any(|case| case.needs_text()).then(|| text(options)).transpose()?;
    // It lives as long as the process: the hand-written programs share it between threads.
    let text: Option<&'static str> = text.map(|text| &*Box::leak(text.into_boxed_str()));
    if !cases.is_empty() {
        eprintln!("{:<22} {:>14} {:>14} {:>7}   spread (ours | limit)", "case", "per second", "limit", "ratio");
    }
    for case in cases {
        let outcome = case.run(options.rounds, &Load { text, tuples: None })?;
        report(&outcome);
        println!("{}", serde_json::to_string(&outcome)?);
    }
    if options.case.is_empty() || !plans.is_empty() {
        let outcome = scheduling::run(options.rounds)?;
        eprintln!(
            "{:<22} first plans {:.0} ms, nothing changed {:.0} ms, dead machines {:.0} ms, records {:.0} ms",
            scheduling::NAME,
            outcome.first_plans_ms,
            outcome.unchanged_ms,
            outcome.dead_machines_ms,
            outcome.records_ms
        );
        println!("{}", serde_json::to_string(&outcome)?);
    }
    eprintln!("repeat one by: cargo xtask bench -- --case NAME --rounds {}", options.rounds);
    Ok(())
}

fn report(outcome: &Outcome) {
    eprintln!(
        "{:<22} {:>14.0} {:>14.0} {:>7.2}   {:.0} – {:.0} | {:.0} – {:.0}",
        outcome.case,
        outcome.per_second,
        outcome.limit_per_second,
        outcome.ratio,
        outcome.least_per_second,
        outcome.most_per_second,
        outcome.limit_least_per_second,
        outcome.limit_most_per_second,
    );
    if let Some(latency) = &outcome.latency {
        eprintln!(
            "{:<22} p50 {:.1} µs (limit {:.1}), p99 {:.1} µs (limit {:.1}), {:.1} % of a core",
            "", latency.p50_us, latency.limit_p50_us, latency.p99_us, latency.limit_p99_us, latency.core_percent
        );
    }
}

fn text(options: &Options) -> Result<String> {
    match &options.text {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading the text {}", path.display())),
        None => {
            let mut text = Vec::new();
            made_text::write(&mut text, TEXT_BYTES).context("making a text")?;
            String::from_utf8(text).context("the made text is UTF-8")
        }
    }
}
