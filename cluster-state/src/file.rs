//! The store of one machine: an embedded file, with one session for as long as it is open.
//!
//! Not here: several processes (the file is locked), and waiting on the disk in async threads. Invariants: a commit that was
//! answered is on the disk; after a failed one the file is opened anew and says itself whether it happened.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use crate::store::{Op, Path, Session, Store, StoreError, Version, Versioned, Watch};
use crate::transaction::{Standing, Write, Writes, check_lengths, writes};
use crate::waiting::{Sessions, Watches, lock};

/// Path to version, whether it is ephemeral, value.
const VALUES: TableDefinition<'_, &str, (u64, bool, &[u8])> = TableDefinition::new("values");
/// One row: how many commits there were.
const COMMITS: TableDefinition<'_, (), u64> = TableDefinition::new("commits");
/// Memory for pages of the file: its values are few and small.
const CACHE_BYTES: usize = 16 << 20;
/// Owner of ephemeral values: there is one session.
const OWNER: u64 = 1;

/// Opens the file, or makes it; ephemeral values that an earlier process left are gone. Blocks on the disk.
///
/// # Errors
/// If it cannot be used, or another process uses it.
pub fn open(path: &std::path::Path) -> Result<Arc<dyn Store>, StoreError> {
    let database = open_database(path)?;
    remove_ephemeral(&database).map_err(|error| failed(path, "clearing", &error))?;
    let sessions = Sessions::default();
    sessions.set(Session { epoch: 1, connected: true });
    let open = Open { path: path.to_owned(), database: Mutex::new(Some(database)), watches: Watches::default() };
    Ok(Arc::new(File { open: Arc::new(open), sessions }))
}

struct File {
    open: Arc<Open>,
    sessions: Sessions,
}

struct Open {
    path: PathBuf,
    /// `None` after a failure, until it can be opened again. The lock makes one order of all that happens here.
    database: Mutex<Option<Database>>,
    watches: Watches,
}

fn open_database(path: &std::path::Path) -> Result<Database, StoreError> {
    // Made before the library would, as it holds secrets.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    file.and_then(|file| file.set_permissions(Permissions::from_mode(0o600))).map_err(|error| {
        refused(path, format!("cannot be opened for writing: {error}; give this user a folder to write in"))
    })?;
    // The check turns damage into an error, which otherwise might be a panic later.
    Database::builder().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create(path).map_err(|error| {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                refused(path, "is in use by another process: end that one, or use another folder".to_owned())
            }
            DatabaseError::UpgradeRequired(_) => refused(
                path,
                "was written by another version: run that one, or move the file away to begin with none".to_owned(),
            ),
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
                failed(path, "opening", &error)
            }
            error => refused(
                path,
                format!("is damaged ({error}): put back a copy of it, or move it away to begin with none"),
            ),
        }
    })
}

fn refused(path: &std::path::Path, what: String) -> StoreError {
    StoreError::Refused(format!("the state file {} {what}", path.display()))
}

/// Of what may go by itself, or with an operator's help: a full disk.
fn failed(path: &std::path::Path, attempt: &str, error: &dyn Display) -> StoreError {
    StoreError::Away(format!(
        "{attempt} the state file {} failed: {error}; see whether its disk is full or broken",
        path.display()
    ))
}

fn remove_ephemeral(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(COMMITS)?;
    transaction.open_table(VALUES)?.retain(|_, (_, is_ephemeral, _)| !is_ephemeral)?;
    Ok(transaction.commit()?)
}

impl Open {
    fn read(&self, path: &Path) -> Result<Option<Versioned>, StoreError> {
        self.with(&mut lock(&self.database), "reading", |database| {
            let values = database.begin_read()?.open_table(VALUES)?;
            Ok(values.get(path.as_str())?.map(|found| {
                let (version, _, value) = found.value();
                Versioned { value: value.to_vec(), version: Version(version) }
            }))
        })
    }

    fn children(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        self.with(&mut lock(&self.database), "reading", |database| {
            let values = database.begin_read()?.open_table(VALUES)?;
            let mut names = BTreeSet::new();
            for entry in values.range(path.as_str()..)? {
                let (key, _) = entry?;
                if !key.value().starts_with(path.as_str()) {
                    break;
                }
                names.extend(path.child_towards(key.value()).map(str::to_owned));
            }
            Ok(names.into_iter().collect())
        })
    }

    fn commit(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let mut slot = lock(&self.database);
        // How many commits there were, once this one is under way.
        let mut before = None;
        let outcome = self.with(&mut slot, "writing", |database| {
            let transaction = database.begin_write()?;
            match self.writes(&transaction, ops) {
                Ok(writes) => {
                    write(&transaction, &writes)?;
                    let count = commits(&transaction.open_table(COMMITS)?)?;
                    transaction.open_table(COMMITS)?.insert((), count + 1)?;
                    before = Some(count);
                    transaction.commit()?;
                    Ok(Ok(writes))
                }
                Err(error) => {
                    transaction.abort()?;
                    Ok(Err(error))
                }
            }
        });
        match (outcome, before) {
            (Ok(Ok(writes)), _) => {
                for path in writes.keys() {
                    self.watches.changed(path.as_str());
                }
                Ok(())
            }
            (Err(failure), Some(before)) => self.look_whether_it_happened(&mut slot, before, failure),
            (Ok(Err(failure)) | Err(failure), _) => Err(failure),
        }
    }

    fn writes(&self, transaction: &redb::WriteTransaction, ops: Vec<Op>) -> Result<Writes, StoreError> {
        let reading = |error: &dyn Display| failed(&self.path, "reading", error);
        let values = transaction.open_table(VALUES).map_err(|error| reading(&error))?;
        writes(ops, OWNER, |path| {
            let found = values.get(path.as_str()).map_err(|error| reading(&error))?;
            Ok(found.map(|found| {
                let (version, is_ephemeral, _) = found.value();
                Standing { version: Version(version), owner: is_ephemeral.then_some(OWNER) }
            }))
        })
    }

    /// After a commit that failed: it happened if the file, opened anew, has one more.
    fn look_whether_it_happened(
        &self,
        slot: &mut Option<Database>,
        before: u64,
        failure: StoreError,
    ) -> Result<(), StoreError> {
        let after = self.with(slot, "reading", |database| Ok(commits(&database.begin_read()?.open_table(COMMITS)?)?));
        match after {
            Ok(after) if after > before => {
                self.watches.all_changed();
                Ok(())
            }
            Ok(_) => Err(failure),
            Err(_) => Err(StoreError::Refused(format!("{failure}; whether it was written is not known"))),
        }
    }

    /// Does `work` with the database, which is opened again if something failed before.
    fn with<T>(
        &self,
        slot: &mut Option<Database>,
        attempt: &str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let database = match slot.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        match work(&database) {
            Ok(done) => {
                *slot = Some(database);
                Ok(done)
            }
            // The library refuses all that follows a failure until the file is opened anew.
            Err(error) => Err(failed(&self.path, attempt, &error)),
        }
    }
}

fn commits(table: &impl ReadableTable<(), u64>) -> Result<u64, StorageError> {
    Ok(table.get(())?.map_or(0, |count| count.value()))
}

fn write(transaction: &redb::WriteTransaction, writes: &Writes) -> Result<(), redb::Error> {
    let mut values = transaction.open_table(VALUES)?;
    for (path, write) in writes {
        match write {
            Some(Write { value, standing }) => {
                values.insert(path.as_str(), (standing.version.0, standing.owner.is_some(), value.as_slice()))?;
            }
            None => {
                values.remove(path.as_str())?;
            }
        }
    }
    Ok(())
}

impl File {
    /// Does `work` on a thread that may wait for the disk.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Open) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let open = self.open.clone();
        async move {
            let done = tokio::task::spawn_blocking(move || work(&open)).await;
            done.unwrap_or_else(|error| Err(failed(&self.open.path, "using", &error)))
        }
        .boxed()
    }
}

impl Store for File {
    fn read(&self, path: &Path) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        let path = path.clone();
        self.blocking(move |open| open.read(&path))
    }

    fn children(&self, path: &Path) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        let path = path.clone();
        self.blocking(move |open| open.children(&path))
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.blocking(move |open| {
            check_lengths(&ops)?;
            open.commit(ops)
        })
    }

    fn watch(&self, path: &Path) -> Box<dyn Watch> {
        self.open.watches.watch(path)
    }

    fn session(&self) -> Session {
        self.sessions.now()
    }

    fn session_changed(&self, seen: Session) -> BoxFuture<'_, Session> {
        self.sessions.changed(seen).boxed()
    }
}
