extern crate topology_api as storm;
use storm::prelude::*;

struct Raw;

struct Print;
impl Bolt for Print {
    type Input = Raw;
    type Output = ();
    fn execute(&mut self, _: Raw, _: &mut Emitter<()>) -> Result<()> {
        Ok(())
    }
}

fn main() {}
