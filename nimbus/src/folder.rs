//! The folder of a Nimbus, `storm.local.dir`/nimbus: its lock and its id.
//!
//! Not here: the blobs below it (`blobs`). Invariants: one process at a time has a folder, and so an id; nobody but its user
//! can look into it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use worker_api::ids::NimbusId;

use crate::NimbusError;

/// Files here are for their user alone: blobs may hold secrets.
const FILE_MODE: u32 = 0o600;
/// So are folders.
const FOLDER_MODE: u32 = 0o700;

/// Keeps others out of a folder, and of all files and folders in it, whatever made them.
fn close_all(folder: &Path) -> io::Result<()> {
    close(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            close_all(&entry.path())?;
        } else if kind.is_file() {
            close(&entry.path())?;
        }
    }
    Ok(())
}

/// Keeps others out of a file or a folder.
fn close(path: &Path) -> io::Result<()> {
    let mode = if path.is_dir() { FOLDER_MODE } else { FILE_MODE };
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Locks the folder until the file is dropped, and reads the id that lies there; the first time both are made, the id from
/// `random`. What lies in the folder is closed to others.
///
/// # Errors
/// If it cannot be used, or another process uses it.
pub(crate) fn open(folder: &Path, random: [u8; 32]) -> Result<(File, NimbusId), NimbusError> {
    let cannot = |what: &str, error: io::Error| {
        NimbusError(format!("cannot {what} in {} (nimbus below storm.local.dir): {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| cannot("work", error))?;
    close_all(folder).map_err(|error| cannot("keep others out", error))?;
    let lock = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(folder.join("lock"));
    let lock = lock.map_err(|error| cannot("make a lock", error))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => NimbusError(format!(
            "another Nimbus uses {}: end it, or choose another folder by storm.local.dir",
            folder.display()
        )),
        error => cannot("take the lock", error.into()),
    })?;
    let path = folder.join("id");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let id = text.trim().parse();
            id.map(|id| (lock, id)).map_err(|bad| NimbusError(format!("{} cannot be read: {bad}", path.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = new_id(random)?;
            write(folder, &path, &id).map_err(|error| cannot("keep an id", error))?;
            Ok((lock, id))
        }
        Err(error) => Err(cannot("read the id", error)),
    }
}

fn new_id(bytes: [u8; 32]) -> Result<NimbusId, NimbusError> {
    let digits: String = bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    NimbusId::new(digits).map_err(|bad| NimbusError(bad.to_string()))
}

/// Written beside and renamed, so that there is never half of it.
fn write(folder: &Path, path: &Path, id: &NimbusId) -> io::Result<()> {
    let beside = folder.join("id.new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(FILE_MODE).open(&beside)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}
