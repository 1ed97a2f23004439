extern crate topology_api as storm;
use storm::prelude::*;

#[tuple]
struct Line {
    text: Text,
}

struct Raw;

struct Parse;
impl Bolt for Parse {
    type Input = Line;
    type Output = Raw;
    fn execute(&mut self, _: Line, _: &mut Emitter<Raw>) -> Result<()> {
        Ok(())
    }
}

fn main() {}
