//! The exclamation topology in a local cluster.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use exclamation::{Args, WORDS, exclaim};
use storm::local_cluster::testing::Capture;
use storm::local_cluster::{LocalCluster, run_paused};
use storm::prelude::*;

fn exclaimed(args: Args, workers: u16) -> Vec<String> {
    run_paused(async |seam| {
        let mut topology = Topology::builder("exclamation");
        let words = exclaim(args, &mut topology);
        let captured = Capture::of(&mut topology, &words);
        let cluster = LocalCluster::builder(topology.build().unwrap()).workers(workers).seam(seam);
        let cluster = cluster.start().await.unwrap();
        cluster.ended().await.unwrap();
        let mut words: Vec<String> = captured.tuples().iter().map(|word| word.word.to_string()).collect();
        words.sort();
        words
    })
}

#[test]
fn each_word_gets_six_exclamation_marks() {
    let words = exclaimed(Args { count: 1000, seed: 1 }, 2);
    assert_eq!(words.len(), 1000);
    let all: BTreeSet<String> = WORDS.iter().map(|word| format!("{word}!!!!!!")).collect();
    assert_eq!(words.into_iter().collect::<BTreeSet<_>>(), all);
}

#[test]
fn a_seed_gives_the_same_words_in_any_number_of_workers() {
    let words = |seed, workers| exclaimed(Args { count: 20, seed }, workers);
    assert_eq!(words(1, 1), words(1, 3));
    assert_ne!(words(1, 1), words(2, 1));
}
