extern crate topology_api as storm;
use storm::prelude::*;

#[derive(Output)]
struct Out {
    words: Text,
}

#[derive(Output)]
struct Unnamed(Text);

fn main() {}
