//! `baseline CASE… [--text FILE]`: runs hand-written cases, and prints one JSON line for each.
//!
//! Not here: the cases (the library). Invariant: standard output has results only; the rest goes to standard error.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the results are what this program is for")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use baseline::cases::{Case, Load, Text};
use baseline::made_text;
use baseline::measure::Summary;
use clap::{Parser, Subcommand};

/// Times that a text is read in one run, so that a run lasts long enough to be measured.
const PASSES: usize = 5;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What hand-written programs reach on this machine, as one JSON line for each case
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// `all`, `timely` for both of its cases, or names of cases
    #[arg(required = true, value_name = "CASE")]
    cases: Vec<String>,
    /// The text whose words are counted
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Rounds of each case, one case after the other in every round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tuples of a case that counts no text
    #[arg(long, value_name = "N")]
    tuples: Option<u64>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Write a text of made-up words with natural frequencies, always the same
    MakeText { file: PathBuf, bytes: u64 },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.verb {
        Some(Verb::MakeText { file, bytes }) => make_text(file, *bytes),
        None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn make_text(file: &PathBuf, bytes: u64) -> Result<()> {
    let writing = || format!("writing a text to {}", file.display());
    let mut out = BufWriter::new(File::create(file).with_context(writing)?);
    made_text::write(&mut out, bytes).with_context(writing)?;
    out.flush().with_context(writing)
}

fn run(arguments: &Arguments) -> Result<()> {
    let text = match &arguments.text {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("reading the text {}", path.display()))?;
            let file: &'static Path = Box::leak(path.clone().into_boxed_path());
            Some(Text { file, content: text.leak(), passes: PASSES })
        }
        None => None,
    };
    let load = Load { text, tuples: arguments.tuples };
    let cases = cases(&arguments.cases, text.is_some())?;
    let mut rounds = vec![Vec::new(); cases.len()];
    for _ in 0..arguments.rounds {
        for (case, measurements) in cases.iter().zip(&mut rounds) {
            measurements.push(case.run(&load)?);
        }
    }
    for (case, measurements) in cases.iter().zip(&rounds) {
        if let Some(summary) = Summary::of(case.name(), measurements) {
            println!("{}", serde_json::to_string(&summary).context("printing a result as JSON")?);
        }
    }
    Ok(())
}

/// The cases that `names` ask for. `all` leaves out what cannot run here, and says so.
fn cases(names: &[String], with_text: bool) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => {
                for case in Case::ALL {
                    if with_text || !case.needs_text() {
                        cases.push(case);
                    } else {
                        eprintln!("left out: {case}");
                    }
                }
            }
            "timely" => cases.extend([Case::Timely1, Case::Timely2]),
            name => cases.push(name.parse()?),
        }
    }
    Ok(cases)
}
