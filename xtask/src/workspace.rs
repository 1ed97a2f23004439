//! Where the workspace lies, and how cargo is called in it.
//!
//! Not here: what the calls are for. Invariant: every child process starts at the workspace's root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The workspace that this tool was started in.
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Where builds go; everything that a verb writes is below it.
    pub(crate) target: PathBuf,
    cargo: PathBuf,
}

impl Workspace {
    /// Asks cargo for the workspace around the current folder.
    pub(crate) fn find() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let output = Command::new(&cargo)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("starting `cargo metadata`")?;
        ensure!(output.status.success(), "`cargo metadata` ended with {}", output.status);
        let metadata: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("reading what `cargo metadata` printed")?;
        let folder = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).with_context(|| format!("`cargo metadata` printed no {key}"))
        };
        Ok(Workspace { root: folder("workspace_root")?, target: folder("target_directory")?, cargo })
    }

    /// A call of cargo, not yet started.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// The executable `name` of `package`, built by this profile if it is not fresh.
    pub(crate) fn executable(&self, profile: &str, package: &str, name: &str) -> Result<PathBuf> {
        let mut build = self.cargo(&["build", "--profile", profile, "--package", package, "--bin", name]);
        ensure!(succeeds(&mut build)?, "building the package `{package}` failed; what cargo says stands above");
        // The folder of the profile `dev` is older than its name.
        let folder = if profile == "dev" { "debug" } else { profile };
        Ok(self.target.join(folder).join(name).with_extension(std::env::consts::EXE_EXTENSION))
    }

    /// `path` as it is named from the root.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

/// Runs `command` on this terminal, and tells whether it ended well.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    Ok(status.success())
}
