//! What a local run came to, for a person on standard error and for a program in a file.
//!
//! Not here: counting (`local_cluster::Summary`). Invariant: a report file is there as a whole, or not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use local_cluster::Summary;
use serde::Serialize;

/// Number of the file's format.
const REPORT_FORMAT: u32 = 1;

/// What a run came to.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    format: u32,
    topology: String,
    /// From the start to the end of the last tuple, the preparing of components included.
    seconds: f64,
    acked: u64,
    failed: u64,
    /// Roots acked in a second.
    per_second: f64,
    complete_latency_us: Latency,
    /// Tuples, by bolt.
    executed: BTreeMap<String, u64>,
    /// The last ones, by component; those without any are not there.
    errors: BTreeMap<String, Vec<String>>,
}

/// From the emit of a root to its last ack, in microseconds; all 0 if nothing was acked.
#[derive(Debug, Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
    max: u64,
}

impl Report {
    /// `spouts` are the names of those components that execute nothing.
    pub(crate) fn new(topology: &str, spouts: &[String], took: Duration, summary: Summary) -> Self {
        let Summary { acked, failed, complete, mut executed, mut errors } = summary;
        executed.retain(|component, _| !spouts.contains(component));
        errors.retain(|_, errors| !errors.is_empty());
        let seconds = took.as_secs_f64();
        Report {
            format: REPORT_FORMAT,
            topology: topology.to_owned(),
            seconds,
            acked,
            failed,
            per_second: if seconds > 0.0 { acked as f64 / seconds } else { 0.0 },
            complete_latency_us: Latency {
                p50: complete.quantile_us(0.5),
                p99: complete.quantile_us(0.99),
                max: complete.quantile_us(1.0),
            },
            executed,
            errors,
        }
    }

    /// Writes it as JSON: into another file beside it, which then takes its name.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let beside = path.with_file_name(name);
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        let written = File::create(&beside)
            .and_then(|mut file| file.write_all(json.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&beside, path));
        if written.is_err() {
            // The first error is the one to be told.
            let _ = std::fs::remove_file(&beside);
        }
        written
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50, p99, max } = self.complete_latency_us;
        write!(
            f,
            "  roots     {} acked, {} failed, in {}: {} a second",
            grouped(self.acked),
            grouped(self.failed),
            span(Duration::from_secs_f64(self.seconds)),
            grouped(self.per_second as u64)
        )?;
        if self.acked > 0 {
            let [p50, p99, max] = [p50, p99, max].map(|us| span(Duration::from_micros(us)));
            write!(f, "\n  complete  p50 {p50}, p99 {p99}, max {max}")?;
        }
        for (index, (component, tuples)) in self.executed.iter().enumerate() {
            write!(f, "{}`{component}` {}", if index == 0 { "\n  executed  " } else { ", " }, grouped(*tuples))?;
        }
        for (component, errors) in &self.errors {
            let last = errors.last().map_or("", String::as_str);
            match errors.len() {
                1 => write!(f, "\n  error     `{component}`: {last}")?,
                kept => write!(f, "\n  errors    `{component}`, the last of {kept} kept: {last}")?,
            }
        }
        Ok(())
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many roots, in words.
pub(crate) fn roots(count: u64) -> String {
    if count == 1 { "1 root".to_owned() } else { format!("{} roots", grouped(count)) }
}

/// A span of time, at three digits.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    let (value, unit) = match seconds {
        _ if seconds < 1e-3 => (seconds * 1e6, "µs"),
        _ if seconds < 1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let decimals = if unit == "µs" || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn spans_have_three_digits() {
        let cases = [(7, "7 µs"), (999, "999 µs"), (1_234, "1.23 ms"), (12_345, "12.3 ms"), (123_456, "123 ms")];
        let longer = [(1_234_567, "1.23 s"), (3_600_000_000, "3600 s")];
        for (us, text) in cases.into_iter().chain(longer) {
            assert_eq!(span(Duration::from_micros(us)), text);
        }
    }
}
