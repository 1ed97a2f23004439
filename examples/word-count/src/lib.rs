//! Counts the words of a text: lines → split → count → write.
//!
//! Not here: how tuples move and how replays come about (the runtime). Invariant: a line is acked when all of its words are
//! counted, so the result is written after every line was counted at least once.

#![forbid(unsafe_code)]

mod count;
mod file_lines;
mod result_file;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use storm::prelude::*;

pub use count::{Count, Split, Total, Word, WriteTotals};
pub use file_lines::{FileLines, Line};
pub use result_file::ResultFile;

/// How often the result is written anew while the input is followed.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// Counts the words of a text file and writes `word<TAB>count` lines, the most frequent word first.
#[derive(clap::Args)]
pub struct Args {
    /// The text, in UTF-8
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,

    /// Where the counts go; replaced as a whole, when all is counted
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,

    /// Go on with what is appended to the input; the counts are written every two seconds and at the end
    #[arg(long)]
    pub follow: bool,

    /// Tasks that split lines into words
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub splitters: usize,

    /// Tasks that count words
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub counters: usize,
}

/// The topology.
///
/// # Errors
/// If the result would replace the text.
pub fn topology(args: Args, topology: &mut TopologyBuilder) -> Result {
    let Args { input, output, follow, splitters, counters } = args;
    if let (Ok(text), Ok(result)) = (fs::canonicalize(&input), fs::canonicalize(&output))
        && text == result
    {
        return Err(Error::fatal(format!(
            "--input and --output are the same file, `{}`; name another",
            text.display()
        )));
    }

    let lines = topology.spout("lines", move || FileLines::new(&input).following(follow)).add();
    let words = topology.bolt("split", || Split).parallelism(splitters).shuffle(&lines).add();
    // The same word always goes to the same counter, so each count is in one place.
    let totals =
        topology.bolt("count", move || Count::new(follow)).parallelism(counters).fields(&words, Word::WORD).add();
    // There is one writer. It waits for the disk, so it gets a thread of its own.
    let write = topology.bolt("write", move || WriteTotals::new(&output, follow)).global(&totals).blocking();
    if follow {
        write.tick_every(WRITE_EVERY).add()
    } else {
        write.add()
    }
    Ok(())
}
