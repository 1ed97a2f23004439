//! The result: a file that is replaced as a whole.
//!
//! Not here: when it is written. Invariant: who opens the file sees one complete result, the old one or the new one, even
//! after a crash.

use std::cmp::Reverse;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use storm::prelude::*;
use tempfile::NamedTempFile;

/// A file of `word<TAB>count` lines by falling count, then by word.
pub struct ResultFile {
    path: PathBuf,
}

impl ResultFile {
    /// The result at `path`; nothing is opened yet.
    pub fn new(path: &Path) -> Self {
        ResultFile { path: path.to_owned() }
    }

    /// Whether the result can be written.
    ///
    /// # Errors
    /// A fatal one, if a file cannot be made in the folder or the path is that of something else than a file.
    pub fn check(&self) -> Result {
        let refused = |found: String| Err(Error::fatal(format!("{}: {found}", self.attempted())));
        if fs::metadata(&self.path).is_ok_and(|found| !found.is_file()) {
            return refused("what is there is not a file; name another path".into());
        }
        if !self.folder().is_dir() {
            return refused(format!("there is no folder `{}`; make it first", self.folder().display()));
        }
        self.blank().attempt(|| self.attempted()).map_err(Error::into_fatal)?;
        Ok(())
    }

    /// Puts a new result in the place of the last one.
    ///
    /// # Errors
    /// If it cannot be written; the last one stands then.
    pub fn replace<'a>(&self, counts: impl Iterator<Item = (&'a str, u64)>) -> Result {
        let mut counts: Vec<_> = counts.collect();
        counts.sort_unstable_by_key(|(word, count)| (Reverse(*count), *word));
        self.write(&counts).attempt(|| self.attempted())
    }

    fn write(&self, counts: &[(&str, u64)]) -> io::Result<()> {
        let mut lines = BufWriter::new(self.blank()?);
        for (word, count) in counts {
            writeln!(lines, "{word}\t{count}")?;
        }
        let file = lines.into_inner()?;
        // On disk before it has its name, and then the name: a crash leaves the old result or the new one.
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(self.folder())?.sync_all()
    }

    /// An empty file beside the result, as a rename is atomic within a file system only; it goes away if it is dropped.
    fn blank(&self) -> io::Result<NamedTempFile> {
        let readable = Permissions::from_mode(0o666); // less the umask, as for any new file
        tempfile::Builder::new().prefix(".word-count-").permissions(readable).tempfile_in(self.folder())
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
    }

    fn attempted(&self) -> String {
        format!("cannot write the result to `{}`", self.path.display())
    }
}
