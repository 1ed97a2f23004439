//! Tuples flow from spouts to bolts, are acked, and bounded topologies end by themselves.

use std::time::Duration;

use storm::local_cluster::testing::{Capture, Feed};
use storm::local_cluster::{LocalCluster, run_paused};
use storm::prelude::*;

#[tuple]
struct Line {
    text: Text,
}

#[tuple]
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    word: Text,
}

struct Split;

impl Bolt for Split {
    type Input = Line;
    type Output = Word;

    fn execute(&mut self, line: Line, out: &mut Emitter<Word>) -> Result {
        for word in line.text.split_whitespace() {
            out.emit(Word { word: word.into() });
        }
        Ok(())
    }
}

/// Takes its time.
struct Block;

impl Bolt for Block {
    type Input = Line;
    type Output = ();

    fn execute(&mut self, _: Line, _: &mut Emitter<()>) -> Result {
        std::thread::park_timeout(Duration::from_millis(50));
        Ok(())
    }
}

fn lines(lines: &[&str]) -> Vec<Line> {
    lines.iter().map(|text| Line { text: (*text).into() }).collect()
}

#[test]
fn every_word_arrives_and_every_line_is_acked() {
    for workers in [1, 2, 3] {
        run_paused(async |seam| {
            let feed = Feed::of(lines(&["to be or", "not", "", "to be"]));
            let mut topology = Topology::builder("split-lines");
            let spout = feed.clone();
            let lines = topology.spout("lines", move || spout.spout()).add();
            let words = topology.bolt("split", || Split).parallelism(2).shuffle(&lines).add();
            let seen = Capture::of(&mut topology, &words);
            let cluster = LocalCluster::builder(topology.build().unwrap()).workers(workers).seam(seam);
            let cluster = cluster.start().await.unwrap();
            cluster.ended().await.unwrap();
            cluster.stop(Duration::from_secs(1)).await;
            let mut words: Vec<String> = seen.tuples().iter().map(|word| word.word.to_string()).collect();
            words.sort();
            assert_eq!(words, ["be", "be", "not", "or", "to", "to"], "{workers} workers");
            let mut acked = feed.acked();
            acked.sort();
            assert_eq!(acked, [0, 1, 2, 3], "{workers} workers");
            assert_eq!(feed.failed(), []);
        });
    }
}

#[test]
fn a_paused_clock_stands_still_while_a_component_blocks() {
    run_paused(async |seam| {
        let feed = Feed::of(lines(&["to be or not to be"]));
        let mut topology = Topology::builder("blocks");
        let spout = feed.clone();
        let lines = topology.spout("lines", move || spout.spout()).add();
        topology.bolt("blocks", || Block).shuffle(&lines).blocking().add();
        let began = seam.now();
        let cluster = LocalCluster::builder(topology.build().unwrap()).seam(seam.clone()).start().await.unwrap();
        cluster.ended().await.unwrap();
        assert_eq!(feed.failed(), []);
        assert!(seam.now() - began < Duration::from_secs(1));
    });
}
