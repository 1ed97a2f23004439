extern crate topology_api as storm;
use storm::prelude::*;

#[tuple]
struct Word {
    word: Text,
}

#[derive(Input)]
enum Either {
    Left(Word),
    Right(Word),
}

fn main() {}
