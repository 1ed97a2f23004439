//! `cargo demo`: word count over a whole book, and what came out of it.
//!
//! Not here: the topology (`examples/word-count`). Invariant: works on a copy below the target folder, so the book in
//! the source tree stays as it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace::{Workspace, succeeds};

const BOOK: &str = "examples/word-count/opticks.txt";
const WORDS_SHOWN: usize = 10;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// End after the result, instead of following the text
    #[arg(long)]
    once: bool,
}

/// Counts the words of the book, shows the result, and without `--once` goes on with what is appended to the text.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let folder = workspace.target.join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let (text, counts, report) = (folder.join("text.txt"), folder.join("counts.tsv"), folder.join("report.json"));
    let book = workspace.root.join(BOOK);
    fs::copy(&book, &text).with_context(|| format!("copying {} to {}", book.display(), text.display()))?;
    // What an earlier run left must not pass for this one's result.
    for stale in [&counts, &report] {
        if stale.exists() {
            fs::remove_file(stale).with_context(|| format!("removing {}", stale.display()))?;
        }
    }

    let executable = workspace.release_executable("word-count", "word-count")?;
    let word_count = || {
        let mut command = Command::new(&executable);
        command.arg("local").arg("--input").arg(&text).arg("--output").arg(&counts);
        command
    };
    println!("Counting the words of Newton's Opticks ({BOOK})");
    let ended_well = succeeds(word_count().arg("--report").arg(&report))?;
    ensure!(ended_well, "the word count failed; what it says stands above");
    println!("\n{}", most_frequent(&read(&counts)?)?);
    println!("{}", summary(&read(&report)?)?);
    println!("all counts: {}", counts.display());
    if options.once {
        return Ok(true);
    }

    println!("\nFollowing {}: append lines to it and they are counted. Ctrl-C ends.", text.display());
    succeeds(word_count().arg("--follow"))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// A table of the first lines of `counts`, which has `word<TAB>count` a line by falling count.
fn most_frequent(counts: &str) -> Result<String> {
    let mut table = String::from("   count  word\n");
    for line in counts.lines().take(WORDS_SHOWN) {
        let (word, count) = line.split_once('\t').with_context(|| format!("no tab in the result's line {line:?}"))?;
        table += &format!("{count:>8}  {word}\n");
    }
    Ok(table)
}

/// One line with the rate and the complete latency out of the JSON `report` of a run.
fn summary(report: &str) -> Result<String> {
    let report: Value = serde_json::from_str(report).context("reading the report of the run as JSON")?;
    let number = |pointer: &str| {
        let found = report.pointer(pointer).and_then(Value::as_f64);
        found.with_context(|| format!("the report of the run has no number at {pointer}: {report}"))
    };
    Ok(format!(
        "{} lines acked, {} failed, in {:.2} s: {:.0} a second; complete latency p50 {:.2} ms, p99 {:.2} ms",
        number("/acked")?,
        number("/failed")?,
        number("/seconds")?,
        number("/per_second")?,
        number("/complete_latency_us/p50")? / 1000.0,
        number("/complete_latency_us/p99")? / 1000.0,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_first_ten_words() {
        let counts: String = (0..12).map(|word| format!("w{word}\t{}\n", 100 - word)).collect();
        let table = most_frequent(&counts).unwrap();
        assert_eq!(table.lines().count(), 11);
        assert_eq!(table.lines().nth(1), Some("     100  w0"));
        assert_eq!(table.lines().last(), Some("      91  w9"));
    }

    #[test]
    fn a_result_without_tabs_is_refused() {
        assert_eq!(most_frequent("the 7\n").unwrap_err().to_string(), "no tab in the result's line \"the 7\"");
    }

    #[test]
    fn the_summary_has_rate_and_latency() {
        let report = r#"{"topology":"word-count","acked":9285,"failed":0,"seconds":0.5,"per_second":18570.2,
            "complete_latency_us":{"p50":1500,"p99":4000}}"#;
        assert_eq!(
            summary(report).unwrap(),
            "9285 lines acked, 0 failed, in 0.50 s: 18570 a second; complete latency p50 1.50 ms, p99 4.00 ms"
        );
    }

    #[test]
    fn a_report_without_latency_is_refused() {
        let error = summary(r#"{"acked":1,"failed":0,"seconds":1,"per_second":1}"#).unwrap_err().to_string();
        assert!(error.contains("/complete_latency_us/p50"), "{error}");
    }
}
