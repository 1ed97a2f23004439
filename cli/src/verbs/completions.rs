//! `storm completions`: what a shell needs to complete this command line.

use clap_complete::Shell;

use crate::arguments::command;
use crate::exit::{Exit, Refusal};
use crate::output::data;

const EXAMPLE: &str = "\
Examples:
  storm completions bash > ~/.local/share/bash-completion/completions/storm
  storm completions zsh > ~/.zfunc/_storm
  storm completions fish > ~/.config/fish/completions/storm.fish";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "storm", &mut script);
        data(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Done)
    }
}
