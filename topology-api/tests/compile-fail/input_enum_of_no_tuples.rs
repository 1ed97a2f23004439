extern crate topology_api as storm;
use storm::prelude::*;

struct Raw;

#[derive(Input)]
enum Event {
    Raw(Raw),
}

#[derive(Input)]
enum Named {
    Word { word: Text },
}

#[derive(Input)]
struct Single {
    word: Text,
}

fn main() {}
