//! Files of a process: the machine's own, or a simulation's.
//!
//! Calls block; who has a runtime makes them through [`Seam::on_disk`](crate::Seam::on_disk). Not here: what lies in the files, locks
//! between processes. Invariants: a file that [`Disk::replace`] writes is there whole or as it was before; what was synced is there
//! after a fall of the machine.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// A disk. Errors are those of the system: [`io::ErrorKind::NotFound`], [`io::ErrorKind::StorageFull`] and so on.
pub trait Disk: Send + Sync + 'static {
    /// All of a file.
    ///
    /// # Errors
    /// Of the system.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// At most `most` bytes of a file, from `from` on; fewer only at its end.
    ///
    /// # Errors
    /// Of the system.
    fn read_at(&self, path: &Path, from: u64, most: usize) -> io::Result<Vec<u8>>;

    /// A file's length in bytes, and when it was changed last in milliseconds since 1970.
    ///
    /// # Errors
    /// Of the system.
    fn look(&self, path: &Path) -> io::Result<Look>;

    /// Writes a file for this user alone, whole or not at all; with `sync` it is on disk when this returns.
    ///
    /// # Errors
    /// Of the system: the file is then as it was.
    fn replace(&self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()>;

    /// Writes at `from` of a file for this user alone, which is made if it is not there, and cut there before.
    ///
    /// # Errors
    /// Of the system: some of it may be there.
    fn write_at(&self, path: &Path, from: u64, bytes: &[u8]) -> io::Result<()>;

    /// Waits until a file's content is on disk.
    ///
    /// # Errors
    /// Of the system.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in the same folder; it has that name after a fall of the machine too.
    ///
    /// # Errors
    /// Of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes away everybody's permission to write a file, and lets its user execute it.
    ///
    /// # Errors
    /// Of the system.
    fn make_executable(&self, path: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and all in it.
    ///
    /// # Errors
    /// Of the system.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Names in a folder, sorted.
    ///
    /// # Errors
    /// Of the system.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Makes a folder, and those above it, for this user alone; one that is there is no error.
    ///
    /// # Errors
    /// Of the system.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
}

/// What is seen of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its length.
    pub bytes: u64,
    /// When it was changed last, in milliseconds since 1970; 0 if the system does not say.
    pub modified_ms: u64,
}

/// The machine's own disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_at(&self, path: &Path, from: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn look(&self, path: &Path) -> io::Result<Look> {
        let found = fs::metadata(path)?;
        let since = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_ms = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        Ok(Look { bytes: found.len(), modified_ms })
    }

    fn replace(&self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
        let new = path.with_extension("new");
        let write = || {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            if sync {
                file.sync_all()?;
            }
            fs::rename(&new, path)?;
            if sync { sync_folder_of(path) } else { Ok(()) }
        };
        write().inspect_err(|_| {
            // Half a file would only take room on a full disk.
            let _ = fs::remove_file(&new);
        })
    }

    fn write_at(&self, path: &Path, from: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        // What is no file on a disk cannot be cut.
        if file.metadata()?.len() != from {
            file.set_len(from)?;
        }
        file.seek(SeekFrom::Start(from))?;
        file.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_folder_of(to)
    }

    fn make_executable(&self, path: &Path) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(0o500))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<String>>>()?;
        names.sort();
        Ok(names)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
