//! The worker's log: a file that standard output and error already go to, rotated by size.
//!
//! Not here: what is written there. Invariant: a file that standard error does not go to is left alone, so a worker that is
//! started by hand keeps its terminal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The log.
pub(super) struct Log {
    path: PathBuf,
    /// Size at which it is rotated.
    bytes: u64,
    /// Rotated ones that are kept.
    files: u32,
    /// Whether it was said that it cannot be rotated.
    told: bool,
}

impl Log {
    pub(super) fn new(path: PathBuf, bytes: u64, files: u32) -> Self {
        Log { path, bytes, files, told: false }
    }

    /// Rotates it if it is full: `worker.log` becomes `worker.log.1`, and so on.
    pub(super) fn rotate_if_full(&mut self) {
        match self.try_rotate() {
            Ok(()) => self.told = false,
            Err(error) if !self.told => {
                self.told = true;
                let path = self.path.display();
                tracing::warn!(%error, "cannot rotate `{path}`, which grows on; make room, or its folder writable");
            }
            Err(_) => {}
        }
    }

    fn try_rotate(&self) -> io::Result<()> {
        let Ok(known) = fs::metadata(&self.path) else { return Ok(()) };
        if known.len() < self.bytes {
            return Ok(());
        }
        let written = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?).metadata()?;
        if (known.dev(), known.ino()) != (written.dev(), written.ino()) {
            return Ok(());
        }
        for number in (1..self.files).rev() {
            let from = self.rotated(number);
            if from.exists() {
                fs::rename(from, self.rotated(number + 1))?;
            }
        }
        match self.files {
            0 => fs::remove_file(&self.path)?,
            _ => fs::rename(&self.path, self.rotated(1))?,
        }
        let new = OpenOptions::new().create(true).append(true).open(&self.path)?;
        rustix::stdio::dup2_stdout(&new)?;
        rustix::stdio::dup2_stderr(&new)?;
        Ok(())
    }

    fn rotated(&self, number: u32) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number}"));
        self.path.with_file_name(name)
    }
}
