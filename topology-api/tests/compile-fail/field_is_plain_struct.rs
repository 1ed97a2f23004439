extern crate topology_api as storm;
use storm::prelude::*;

struct Address {
    street: String,
}

#[tuple]
struct Parcel {
    id: u64,
    to: Address,
}

fn main() {}
