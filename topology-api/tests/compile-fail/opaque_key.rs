extern crate topology_api as storm;
use storm::prelude::*;

#[tuple]
struct Line {
    text: Text,
    #[tuple(serde)]
    origin: std::net::IpAddr,
}

#[tuple]
struct Word {
    word: Text,
}

struct Lines;
impl Spout for Lines {
    type Output = Line;
    type MessageId = u64;
    fn next(&mut self, _: &mut Roots<Line, u64>) -> Result<Next> {
        Ok(Next::Done)
    }
}

struct Count;
impl Bolt for Count {
    type Input = Line;
    type Output = ();
    fn execute(&mut self, _: Line, _: &mut Emitter<()>) -> Result<()> {
        Ok(())
    }
}

fn main() {
    let mut topology = Topology::builder("words");
    let lines = topology.spout("lines", || Lines).add();
    topology.bolt("count", || Count).fields(&lines, Line::ORIGIN).add();
}
