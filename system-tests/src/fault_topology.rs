//! The fault tests' own topology: numbered lines → words → one line in a file for each word, before its ack.
//!
//! Not here: judging the files (`evidence`). Invariants: the line of an offset follows from the offset alone; a word's line is
//! with the operating system before the word is acked, so killing the process loses nothing that was acked.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use storm::prelude::*;

/// Emits numbered lines and writes down every word of them.
#[derive(clap::Args, Clone)]
pub struct Args {
    /// The folder that all evidence goes to; an absolute path, the same on all machines
    #[arg(long)]
    pub folder: PathBuf,
    /// How many lines
    #[arg(long, default_value_t = 10_000)]
    pub lines: u64,
    /// Lines that each spout task emits in a second
    #[arg(long, default_value_t = 1000)]
    pub rate: u64,
    /// Tasks that write words down
    #[arg(long, default_value_t = 4)]
    pub writers: usize,
    /// Hold the words instead of writing them down, so that their lines stay pending
    #[arg(long)]
    pub hold: bool,
}

/// Spout tasks.
pub const SOURCES: usize = 2;
/// Tasks that split.
const SPLITTERS: usize = 2;

/// A numbered line.
#[tuple]
pub struct Line {
    /// Its number, from 0.
    pub offset: u64,
}

/// A word of it.
#[tuple]
pub struct Word {
    /// The line.
    pub offset: u64,
    /// Its place in the line, from 0.
    pub index: u64,
    /// The word.
    pub word: Text,
}

/// The words of a line: one to eight, of a few hundred different ones.
pub fn words(offset: u64) -> impl Iterator<Item = String> {
    // The finalizer of SplitMix64: neighbours get words that have nothing to do with each other.
    let mix = |n: u64| {
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    };
    let seed = mix(offset.wrapping_add(0x9e37_79b9_7f4a_7c15));
    (0..1 + seed % 8).map(move |index| format!("w{}", mix(seed ^ (index + 1)) % 400))
}

/// The topology.
///
/// # Errors
/// If the folder is not absolute.
pub fn topology(args: Args, topology: &mut TopologyBuilder) -> Result {
    if !args.folder.is_absolute() {
        return Err(Error::fatal(format!("--folder `{}` must be absolute", args.folder.display())));
    }
    let Args { folder, lines, rate, writers, hold } = args;
    let spout = {
        let folder = folder.clone();
        move || Lines::new(folder.clone(), lines, rate)
    };
    let lines = topology.spout("lines", spout).parallelism(SOURCES).add();
    let split = {
        let folder = folder.clone();
        move || Split { folder: folder.clone(), seen: None }
    };
    // By offset, so that which tasks a root touches is the same each time it is emitted.
    let words = topology.bolt("split", split).parallelism(SPLITTERS).fields(&lines, Line::OFFSET).add();
    if hold {
        // What is held on purpose is not to fail for it.
        topology.config("topology.enable.message.timeouts", false);
        topology.bolt("write", || Hold { held: Vec::new() }).parallelism(writers).fields(&words, Word::WORD).add();
        return Ok(());
    }
    let write = move || WriteDown { folder: folder.clone(), file: None };
    topology.bolt("write", write).parallelism(writers).fields(&words, Word::WORD).blocking().add();
    Ok(())
}

fn append(folder: &Path, name: String) -> Result<File> {
    let path = folder.join(name);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.attempt(|| format!("cannot append to `{}`", path.display()))
}

/// Emits each `peers`-th offset, and again what fails; goes on where its last life knew that all was acked.
struct Lines {
    folder: PathBuf,
    lines: u64,
    rate: u64,
    /// Own offsets are `first`, `first + step`, …
    first: u64,
    step: u64,
    next: u64,
    failed: VecDeque<u64>,
    /// Below it all own offsets are acked; above it those in `acked`.
    frontier: u64,
    written_frontier: u64,
    acked: BTreeSet<u64>,
    fails: Option<File>,
    started: Option<std::time::Instant>,
    emitted: u64,
    heard: bool,
}

impl Lines {
    fn new(folder: PathBuf, lines: u64, rate: u64) -> Self {
        Lines {
            folder,
            lines,
            rate,
            first: 0,
            step: 1,
            next: 0,
            failed: VecDeque::new(),
            frontier: 0,
            written_frontier: 0,
            acked: BTreeSet::new(),
            fails: None,
            started: None,
            emitted: 0,
            heard: false,
        }
    }

    fn frontier_file(&self) -> PathBuf {
        self.folder.join(format!("frontier-{}", self.first))
    }

    /// As a whole or not at all, like an offset that a broker keeps.
    fn write_frontier(&mut self) {
        let beside = self.folder.join(format!(".frontier-{}", self.first));
        let written = fs::write(&beside, self.frontier.to_string());
        if written.and_then(|()| fs::rename(&beside, self.frontier_file())).is_ok() {
            self.written_frontier = self.frontier;
        }
    }
}

impl Spout for Lines {
    type Output = Line;
    type MessageId = u64;

    fn open(&mut self, context: &Context) -> Result {
        (self.first, self.step) = (context.task_index() as u64, context.peers().len() as u64);
        let frontier = fs::read_to_string(self.frontier_file()).unwrap_or_default();
        self.frontier = frontier.trim().parse().unwrap_or(self.first);
        (self.next, self.written_frontier) = (self.frontier, self.frontier);
        self.fails = Some(append(&self.folder, format!("fails-{}", self.first))?);
        let mut starts = append(&self.folder, format!("starts-{}", self.first))?;
        writeln!(starts, "{} {}", std::process::id(), self.frontier)?;
        #[expect(clippy::disallowed_methods, reason = "the pace of a test's load, which decides nothing")]
        let now = std::time::Instant::now();
        self.started = Some(now);
        Ok(())
    }

    fn next(&mut self, out: &mut Roots<'_, Line, u64>) -> Result<Next> {
        if let Some(offset) = self.failed.pop_front() {
            out.emit(Line { offset }, offset);
            return Ok(Next::Emitted);
        }
        if self.next >= self.lines {
            return Ok(Next::Done);
        }
        let due = self.started.map_or(0, |at| at.elapsed().as_millis() as u64 * self.rate / 1000);
        if self.emitted >= due {
            return Ok(Next::Idle(Duration::from_millis(1)));
        }
        self.emitted += 1;
        out.emit(Line { offset: self.next }, self.next);
        self.next += self.step;
        Ok(Next::Emitted)
    }

    fn ack(&mut self, offset: u64) {
        self.acked.insert(offset);
        while self.acked.remove(&self.frontier) {
            self.frontier += self.step;
        }
        // The first ack of a life at once, so that others see when it is alive.
        let first = !std::mem::replace(&mut self.heard, true);
        if first || self.frontier >= self.written_frontier + 50 * self.step || self.frontier >= self.lines {
            self.write_frontier();
        }
    }

    fn fail(&mut self, offset: u64, reason: &FailReason) {
        self.failed.push_back(offset);
        if let Some(fails) = &mut self.fails {
            // The evidence of a test: a line that cannot be written shows as one that is missing.
            let _ = writeln!(fails, "{offset} {:?} {reason}", reason.kind);
        }
    }

    fn close(&mut self) {
        self.write_frontier();
    }
}

/// Splits, and writes down which lines it has seen.
struct Split {
    folder: PathBuf,
    seen: Option<File>,
}

impl Bolt for Split {
    type Input = Line;
    type Output = Word;

    fn prepare(&mut self, context: &Context) -> Result {
        self.seen = Some(append(&self.folder, format!("split-{}", context.task()))?);
        Ok(())
    }

    fn execute(&mut self, line: Line, out: &mut Emitter<Word>) -> Result {
        if let Some(seen) = &mut self.seen {
            seen.write_all(format!("{}\n", line.offset).as_bytes())?;
        }
        for (index, word) in words(line.offset).enumerate() {
            out.emit(Word { offset: line.offset, index: index as u64, word: word.into() });
        }
        Ok(())
    }
}

/// Writes each word down; `Ok`, and with it the ack, comes after the write.
struct WriteDown {
    folder: PathBuf,
    file: Option<File>,
}

impl Bolt for WriteDown {
    type Input = Word;
    type Output = ();

    fn prepare(&mut self, context: &Context) -> Result {
        self.file = Some(append(&self.folder, format!("out-{}", context.task()))?);
        Ok(())
    }

    fn execute(&mut self, Word { offset, index, word }: Word, _: &mut Emitter<()>) -> Result {
        let file = self.file.as_mut().ok_or_else(|| Error::fatal("executed before prepared"))?;
        // One write for one line: two lives of this task never mix within a line.
        Ok(file.write_all(format!("{offset} {index} {word}\n").as_bytes())?)
    }
}

/// Holds each word for as long as it lives.
struct Hold {
    held: Vec<Tracked<Word>>,
}

impl Bolt for Hold {
    type Input = Tracked<Word>;
    type Output = ();

    fn execute(&mut self, word: Tracked<Word>, _: &mut Emitter<(), Manual>) -> Result {
        self.held.push(word);
        Ok(())
    }
}
