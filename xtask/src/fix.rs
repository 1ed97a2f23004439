//! `cargo xtask fix`: format, then apply what clippy can repair by itself.
//!
//! Not here: checks (`verify`). Invariant: the only verb that changes source files.

use anyhow::Result;

use crate::workspace::{Workspace, succeeds};

/// Formats and repairs the whole workspace; `false` if something is left that a person must repair.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let clippy =
        ["clippy", "--fix", "--workspace", "--all-targets", "--allow-dirty", "--allow-staged", "--", "-Dwarnings"];
    let repaired = succeeds(&mut workspace.cargo(&clippy))?;
    // Last, since a repair may leave a line that is too long.
    let formatted = succeeds(&mut workspace.cargo(&["fmt", "--all"]))?;
    Ok(repaired && formatted)
}
