//! Storm's ExclamationTopology: words → exclaim1 → exclaim2, each of which adds `!!!`.
//!
//! Not here: replay of what fails (`guaranteed-count` shows it). Invariant: what `exclaim2` emits is a word of [`WORDS`]
//! with six exclamation marks.

#![forbid(unsafe_code)]

use std::io::{self, Write};

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use storm::prelude::*;

/// What the spout chooses from, as Storm's own does.
pub const WORDS: [&str; 5] = ["nathan", "mike", "jackson", "golda", "bertels"];

/// Adds exclamation marks to random words and prints them.
#[derive(clap::Args)]
pub struct Args {
    /// How many words
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub count: u64,

    /// Another seed gives other words
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// A word, with or without exclamation marks.
#[tuple]
#[derive(Debug)]
pub struct Word {
    /// The text.
    pub word: Text,
}

/// Emits random words.
struct RandomWords {
    left: u64,
    random: ChaCha8Rng,
}

impl Spout for RandomWords {
    type Output = Word;
    type MessageId = (); // nothing to tell one word from another by, as nothing is replayed

    fn next(&mut self, out: &mut Roots<'_, Word, ()>) -> Result<Next> {
        if self.left == 0 {
            return Ok(Next::Done);
        }
        self.left -= 1;
        let word = WORDS.choose(&mut self.random).map_or("", |word| *word);
        out.emit(Word { word: word.into() }, ());
        Ok(Next::Emitted)
    }
}

/// Adds three exclamation marks.
struct Exclaim;

impl Bolt for Exclaim {
    type Input = Word;
    type Output = Word;

    fn execute(&mut self, Word { word }: Word, out: &mut Emitter<Word>) -> Result {
        out.emit(Word { word: format!("{word}!!!").into() });
        Ok(())
    }
}

/// Prints words.
struct Print;

impl Bolt for Print {
    type Input = Word;
    type Output = ();

    fn execute(&mut self, Word { word }: Word, _: &mut Emitter<()>) -> Result {
        writeln!(io::stdout(), "{word}")?;
        Ok(())
    }
}

/// The topology.
///
/// # Errors
/// None; the graph is checked afterwards.
pub fn topology(args: Args, topology: &mut TopologyBuilder) -> Result {
    let words = exclaim(args, topology);
    topology.bolt("print", || Print).global(&words).add();
    Ok(())
}

/// Wires all but the printing; gives the stream of `exclaim2`.
pub fn exclaim(Args { count, seed }: Args, topology: &mut TopologyBuilder) -> Stream<Word> {
    // Called once for each task, in the worker where the task runs.
    let spout = move || RandomWords { left: count, random: ChaCha8Rng::seed_from_u64(seed) };
    let words = topology.spout("words", spout).add();
    let once = topology.bolt("exclaim1", || Exclaim).parallelism(3).shuffle(&words).add();
    topology.bolt("exclaim2", || Exclaim).parallelism(2).shuffle(&once).add()
}
