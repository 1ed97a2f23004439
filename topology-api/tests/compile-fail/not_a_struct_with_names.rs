extern crate topology_api as storm;
use storm::prelude::*;

#[tuple]
struct Word(Text);

#[tuple]
enum Event {
    Started,
}

#[tuple]
struct Pair<T> {
    left: T,
}

#[tuple]
struct Tree {
    branches: Vec<Tree>,
}

#[tuple]
struct Marked {
    #[tuple(json)]
    text: Text,
}

fn main() {}
