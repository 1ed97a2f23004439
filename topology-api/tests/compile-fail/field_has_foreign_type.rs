extern crate topology_api as storm;
use storm::prelude::*;

#[tuple]
struct Visit {
    url: Text,
    from: Vec<std::net::IpAddr>,
}

fn main() {}
