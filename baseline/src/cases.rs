//! The cases by name, and how one is run.
//!
//! Not here: what a case does (a module each). Invariant: every run has a runtime of its own, with two threads, so no
//! case finds what another left.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use crate::measure::{Handled, Measurement};
use crate::metronome::Offer;
use crate::{chain, hop, ledger, microsecond, tcp, timely, word_count};

/// One of the runtime's jobs, done by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Word count in one loop: the cost of splitting and counting alone.
    Loop,
    /// Word count on two threads with batches: what any runtime with a hop must pay.
    Threads,
    /// Word count as a timely dataflow with one worker.
    Timely1,
    /// Word count as a timely dataflow with two workers.
    Timely2,
    /// A source and a sink as tokio tasks.
    Hop,
    /// The same with each tuple acknowledged.
    HopAcked,
    /// A source, two bolts that pass on, and a sink, with each tuple acknowledged.
    ThreeHopsAcked,
    /// 64-byte tuples over a loopback connection.
    Tcp,
    /// A chain of tokio tasks at 1,000 tuples a second.
    Chain,
    /// Two bolts in a row with a microsecond of work each, on two threads.
    Microsecond,
}

/// A text whose words are counted. It lives as long as the process, since timely's threads ask for that.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Where it lies.
    pub file: &'static Path,
    /// The same in memory, for timely.
    pub content: &'static str,
    /// Times that it is read in one run.
    pub passes: usize,
}

/// What a case is run with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// The text whose words are counted.
    pub text: Option<Text>,
    /// Tuples, where it is not the text that says how many; else each case has a number that takes a fraction of a
    /// second.
    pub tuples: Option<u64>,
}

/// Why a case could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A word count without a text.
    #[error(
        "the case `{0}` counts the words of a text, but none was given; make one by `baseline make-text FILE BYTES` \
         and name it by `--text FILE`"
    )]
    NoText(Case),
    /// The operating system gave no runtime, no connection or no text.
    #[error("the case `{case}` met an error of the operating system")]
    System {
        /// The case.
        case: Case,
        /// What the operating system said.
        source: io::Error,
    },
    /// The peer failed.
    #[error(transparent)]
    Timely(#[from] crate::timely::Error),
}

/// A name that no case has.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("there is no case `{0}`; the cases are {names}", names = Case::ALL.map(|case| case.name()).join(", "))]
pub struct UnknownCase(String);

impl Case {
    /// Every case, cheapest to understand first.
    pub const ALL: [Case; 10] = [
        Case::Loop,
        Case::Threads,
        Case::Timely1,
        Case::Timely2,
        Case::Hop,
        Case::HopAcked,
        Case::ThreeHopsAcked,
        Case::Tcp,
        Case::Chain,
        Case::Microsecond,
    ];

    /// The name in commands and results.
    pub fn name(self) -> &'static str {
        match self {
            Case::Loop => "loop",
            Case::Threads => "threads",
            Case::Timely1 => "timely-1",
            Case::Timely2 => "timely-2",
            Case::Hop => "hop",
            Case::HopAcked => "hop-acked",
            Case::ThreeHopsAcked => "three-hops-acked",
            Case::Tcp => "tcp",
            Case::Chain => "chain",
            Case::Microsecond => "microsecond",
        }
    }

    /// Whether the case counts the words of a text.
    pub fn needs_text(self) -> bool {
        matches!(self, Case::Loop | Case::Threads | Case::Timely1 | Case::Timely2)
    }

    /// Runs the case once. It must not be called from inside a tokio runtime.
    ///
    /// # Errors
    /// If the text is missing, or the operating system gives no thread or connection.
    pub fn run(self, load: &Load) -> Result<Measurement, Error> {
        let tuples = |usual| load.tuples.unwrap_or(usual);
        let text = || load.text.ok_or(Error::NoText(self));
        let system = |source| Error::System { case: self, source };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(system)?;
        match self {
            Case::Loop => {
                let Text { file, passes, .. } = text()?;
                Measurement::of(|| Ok(word_count::one_loop(file, passes).map_err(system)?.handled()))
            }
            Case::Threads => {
                let Text { file, passes, .. } = text()?;
                Measurement::of(|| Ok(word_count::two_threads(file, passes).map_err(system)?.handled()))
            }
            Case::Timely1 | Case::Timely2 => {
                let Text { content, passes, .. } = text()?;
                let workers = if self == Case::Timely1 { 1 } else { 2 };
                Measurement::of(|| Ok(timely::word_count(content, passes, workers)?))
            }
            Case::Hop => Measurement::of(|| Ok(runtime.block_on(hop::unacked(tuples(200_000_000))))),
            Case::HopAcked => Measurement::of(|| Ok(runtime.block_on(ledger::one_hop(tuples(50_000_000))))),
            Case::ThreeHopsAcked => Measurement::of(|| Ok(runtime.block_on(ledger::three_hops(tuples(30_000_000))))),
            Case::Tcp => Measurement::of(|| runtime.block_on(tcp::frames(tuples(30_000_000))).map_err(system)),
            Case::Microsecond => Measurement::of(|| Ok(microsecond::two_threads(tuples(500_000)))),
            Case::Chain => {
                let mut latency = None;
                let offer = Offer::new(chain::PER_SECOND, tuples(2_000));
                let run = Measurement::of(|| {
                    let times = runtime.block_on(chain::times(offer.clone(), 0));
                    latency = Some(times.latencies().0);
                    Ok::<_, Error>(Handled { tuples: times.since_due.len(), checksum: 0 })
                })?;
                Ok(Measurement { latency, ..run })
            }
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Case {
    type Err = UnknownCase;

    fn from_str(name: &str) -> Result<Self, UnknownCase> {
        Case::ALL.into_iter().find(|case| case.name() == name).ok_or_else(|| UnknownCase(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn names_round_trip() {
        for case in Case::ALL {
            assert_eq!(case.to_string().parse(), Ok(case));
        }
        let unknown = "hops".parse::<Case>().unwrap_err().to_string();
        assert!(unknown.starts_with("there is no case `hops`; the cases are loop, threads, "), "{unknown}");
    }

    #[test]
    fn every_case_runs() {
        let content = "the cow jumped\nover the moon\n";
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let text = Text { file: Box::leak(file.path().into()), content, passes: 3 };
        let load = Load { text: Some(text), tuples: Some(20) };
        let mut counted = Vec::new();
        for case in Case::ALL {
            let Handled { tuples, checksum } = case.run(&load).unwrap().handled;
            assert_eq!(tuples, if case.needs_text() { 18 } else { 20 }, "{case}");
            if case.needs_text() {
                counted.push(checksum);
            }
        }
        counted.dedup();
        assert_eq!(counted.len(), 1, "{counted:?}");
    }

    #[test]
    fn a_word_count_asks_for_its_text() {
        let problem = Case::Loop.run(&Load::default()).unwrap_err().to_string();
        assert!(problem.starts_with("the case `loop` counts the words of a text, but none was given"), "{problem}");
    }
}
