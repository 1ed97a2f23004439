//! `cargo verify`: every check and every test, part by part.
//!
//! Not here: the rules about the source text (`tidy`). Invariants: one part's failure stops no other part; nothing is
//! written outside the target folder, but for the seed of a property that failed, which is there to be committed.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;
use crate::{bench, tidy};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run this part alone; may be given several times
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Print the parts and end
    #[arg(long)]
    list: bool,
}

struct Part {
    name: &'static str,
    /// What it proves, in a few words.
    proves: &'static str,
    work: Work,
}

enum Work {
    Cargo(&'static [&'static str]),
    Tidy,
    Docs,
    Loom,
    Bench,
}

/// Cheapest first, so that a slip shows early.
const PARTS: &[Part] = &[
    Part { name: "fmt", proves: "the format", work: Work::Cargo(&["fmt", "--all", "--check"]) },
    Part { name: "tidy", proves: "the rules of the house about seams, names and module docs", work: Work::Tidy },
    Part {
        name: "clippy",
        proves: "no lint, in any target",
        work: Work::Cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-Dwarnings"]),
    },
    Part { name: "docs", proves: "the documentation builds, and its links lead somewhere", work: Work::Docs },
    Part {
        name: "tests",
        proves: "unit, property, compile-fail and local-cluster tests, and whole clusters of real processes under faults",
        work: Work::Cargo(&[
            "test",
            "--workspace",
            "--all-targets",
            "--features",
            "simulation/mutations",
            "--no-fail-fast",
        ]),
    },
    Part {
        name: "doctests",
        proves: "the examples in the documentation run",
        work: Work::Cargo(&["test", "--workspace", "--doc", "--features", "storm/simulation", "--no-fail-fast"]),
    },
    Part {
        name: "bench",
        proves: "every benchmark runs and gives what it should; nothing is measured",
        work: Work::Bench,
    },
    Part { name: "loom", proves: "the ledger's word, in every order of its threads", work: Work::Loom },
];

/// An environment variable that shortens a part which would otherwise take too long; one that is set already stands.
struct Bound {
    part: &'static str,
    variable: &'static str,
    value: &'static str,
    meaning: &'static str,
}

const BOUNDS: &[Bound] = &[Bound {
    part: "loom",
    variable: "LOOM_MAX_PREEMPTIONS",
    value: "3",
    meaning: "a model tries every order with at most that many preemptions; set it higher for a longer search",
}];

/// What the tests themselves shorten, with the way to the long form.
const SHORT_TESTS: &[&str] = &[
    "simulated clusters under faults are 16 seeds of a minute each; longer: cargo xtask simulate --seeds N",
    "clusters of real processes meet each fault once or a few times; longer: cargo run --release --package system-tests --bin endurance -- --help",
];

#[derive(Default, Clone, Copy, Debug, PartialEq)]
struct Tests {
    passed: u64,
    failed: u64,
}

struct Outcome {
    name: &'static str,
    ended_well: bool,
    seconds: f64,
    tests: Tests,
}

/// Runs the parts asked for, and prints a line for each and a table of them all; `true` if every part ended well.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let names = || PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
    for wanted in &options.only {
        ensure!(PARTS.iter().any(|part| part.name == wanted), "there is no part `{wanted}`; the parts are {}", names());
    }
    if options.list {
        for part in PARTS {
            println!("{:<10}{}", part.name, part.proves);
        }
        return Ok(true);
    }
    let is_wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    for Bound { part, variable, value, meaning } in BOUNDS {
        match std::env::var(variable) {
            _ if !is_wanted(part) => {}
            Ok(given) => println!("as given: {variable}={given}"),
            Err(_) => println!("shortened: {variable}={value} ({meaning})"),
        }
    }

    if is_wanted("tests") {
        SHORT_TESTS.iter().for_each(|short| println!("shortened: {short}"));
    }

    let mut outcomes = Vec::new();
    for part in PARTS.iter().filter(|part| is_wanted(part.name)) {
        print!("{:<10}", part.name);
        std::io::stdout().flush()?;
        let outcome = time(part, workspace)?;
        println!("{}", line(&outcome));
        outcomes.push(outcome);
    }

    println!("\n{:<10}{:>8}{:>10}{:>10}", "part", "seconds", "passed", "failed");
    for outcome in &outcomes {
        let Tests { passed, failed } = outcome.tests;
        let verdict = if outcome.ended_well { "" } else { "  FAILED" };
        println!("{:<10}{:>8.1}{passed:>10}{failed:>10}{verdict}", outcome.name, outcome.seconds);
    }
    let seconds: f64 = outcomes.iter().map(|outcome| outcome.seconds).sum();
    println!("{:<10}{seconds:>8.1}", "all");
    let total = total(&outcomes);
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(outcomes.iter().all(|outcome| outcome.ended_well))
}

#[expect(clippy::disallowed_methods, reason = "how long a check took is told to a person and decides nothing")]
fn time(part: &Part, workspace: &Workspace) -> Result<Outcome> {
    let start = Instant::now();
    let (ended_well, tests) = match part.work {
        Work::Tidy => (tidied(workspace)?, Tests::default()),
        Work::Bench => watch(bench::benchmarks(workspace, "dev", &["--short".to_owned()])?)?,
        Work::Cargo(arguments) => watch(workspace.cargo(arguments))?,
        Work::Docs => {
            let mut docs = workspace.cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
            docs.env("RUSTDOCFLAGS", "-Dwarnings");
            watch(docs)?
        }
        Work::Loom => {
            let mut loom = workspace.cargo(&["test", "--release", "--package", "worker", "--lib", "loom"]);
            // A folder of its own: other flags for rustc would make every other part build anew. A model runs many times
            // and is linked once, so it is optimised, but not across crates.
            loom.env("RUSTFLAGS", "--cfg loom")
                .env("CARGO_TARGET_DIR", workspace.target.join("loom"))
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            let (ended_well, tests) = watch(loom)?;
            // The models are found by their name, and a new name must not pass for success.
            (ended_well && tests.passed > 0, tests)
        }
    };
    Ok(Outcome { name: part.name, ended_well, seconds: start.elapsed().as_secs_f64(), tests })
}

fn tidied(workspace: &Workspace) -> Result<bool> {
    let findings = tidy::check(workspace)?;
    for finding in &findings {
        println!("\n{finding}");
    }
    Ok(findings.is_empty())
}

/// Runs `command` and adds up what its test runners report. What it prints is shown as it comes on a terminal, else
/// only if it fails, and without the tests that passed.
fn watch(mut command: Command) -> Result<(bool, Tests)> {
    for Bound { variable, value, .. } in BOUNDS {
        if std::env::var_os(variable).is_none() {
            command.env(variable, value);
        }
    }
    let (output, input) = std::io::pipe().context("making a pipe")?;
    command.stdout(input.try_clone().context("sharing a pipe")?).stderr(input);
    let mut child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
    // The command holds the writing ends; the pipe would not end while it lives.
    drop(command);

    let at_once = std::io::stderr().is_terminal();
    let (mut printed, mut tests) = (Vec::new(), Tests::default());
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("reading what a check prints")?).into_owned();
        if let Some(of_one_runner) = runner_figures(&line) {
            tests.passed += of_one_runner.passed;
            tests.failed += of_one_runner.failed;
        }
        if at_once {
            eprintln!("{line}");
        } else if !line.ends_with(" ... ok") {
            printed.push(line);
        }
    }
    let ended_well = child.wait().context("waiting for a check")?.success();
    if !ended_well && !printed.is_empty() {
        println!("\n{}", printed.join("\n"));
    }
    Ok((ended_well, tests))
}

/// The figures of a test runner's last line: `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
fn runner_figures(line: &str) -> Option<Tests> {
    let figures = line.trim_start().strip_prefix("test result: ")?;
    let before =
        |word: &str| figures.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok());
    Some(Tests { passed: before("passed")?, failed: before("failed")? })
}

/// All figures together. A part that failed without a failing test, for instance because it did not compile, counts as
/// one failure, so that the last line never looks good when the exit code is not.
fn total(outcomes: &[Outcome]) -> Tests {
    outcomes.iter().fold(Tests::default(), |sum, outcome| Tests {
        passed: sum.passed + outcome.tests.passed,
        failed: sum.failed + outcome.tests.failed.max(u64::from(!outcome.ended_well)),
    })
}

fn line(outcome: &Outcome) -> String {
    let Outcome { ended_well, seconds, tests: Tests { passed, failed }, .. } = outcome;
    let verdict = if *ended_well { "ok" } else { "FAILED" };
    match passed + failed {
        0 => format!("{verdict}, {seconds:.1} s"),
        _ => format!("{verdict}, {seconds:.1} s, {passed} passed, {failed} failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_runners_are_read() {
        let ok = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.03s";
        assert_eq!(runner_figures(ok), Some(Tests { passed: 12, failed: 0 }));
        let bad = "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.03s";
        assert_eq!(runner_figures(bad), Some(Tests { passed: 4, failed: 2 }));
        assert_eq!(runner_figures("test ledger::acked ... ok"), None);
    }

    #[test]
    fn a_part_that_fails_without_a_failing_test_counts_as_one_failure() {
        let outcome = |ended_well, passed, failed| Outcome {
            name: "tests",
            ended_well,
            seconds: 1.0,
            tests: Tests { passed, failed },
        };
        let outcomes = [outcome(true, 7, 0), outcome(false, 0, 0), outcome(false, 5, 2)];
        assert_eq!(total(&outcomes), Tests { passed: 12, failed: 3 });
    }

    #[test]
    fn a_command_that_fails_is_told_from_one_that_ends_well() {
        assert!(watch(Command::new("true")).unwrap().0);
        assert!(!watch(Command::new("false")).unwrap().0);
    }

    #[test]
    fn figures_of_several_runners_add_up() {
        let mut echo = Command::new("printf");
        echo.arg("test result: ok. 3 passed; 0 failed\nnoise\ntest result: ok. 4 passed; 0 failed\n");
        assert_eq!(watch(echo).unwrap(), (true, Tests { passed: 7, failed: 0 }));
    }
}
