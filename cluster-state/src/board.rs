//! Reading and writing records: JSON, formats, who wrote it, and what became of a write whose answer was lost.
//!
//! Not here: how bytes are kept (`store`). Invariant: each record that is written names this writer and a number that no other
//! write of it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use crate::records::{Record, Stored};
use crate::store::{Conflict, Op, Path, RECORD_BYTES, Session, Store, StoreError, Version, Watch};

/// Before a commit whose answer was lost is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// A noticeboard for one writer; share it by `Arc`.
pub struct Board {
    store: Arc<dyn Store>,
    writer: String,
    /// Of the last change.
    number: AtomicU64,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read<R> {
    /// What it says.
    pub record: R,
    /// Its version, for [`Change::set`].
    pub version: Version,
}

/// Why a record was not read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is there, but cannot be understood: of another version, or damaged. The others are not touched by it.
    #[error("the {what} at `{path}` cannot be read: {why}; remove it, or run the version that wrote it")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// Its place.
        path: Path,
        /// What is wrong with it.
        why: String,
    },
}

/// Steps that happen all or not at all, once they are [committed](Board::commit).
pub struct Change {
    writer: String,
    number: u64,
    ops: Vec<Op>,
    too_long: Option<StoreError>,
}

impl Board {
    /// A board on this store. `writer` is the daemon's id, with something that no other life of it has.
    pub fn new(store: Arc<dyn Store>, writer: String) -> Self {
        Board { store, writer, number: AtomicU64::new(0) }
    }

    /// The record at a path, if there is one.
    ///
    /// # Errors
    /// If the store does not answer, or the record cannot be understood.
    pub async fn read<R: Record>(&self, path: &Path) -> Result<Option<Read<R>>, ReadError> {
        let Some(found) = self.store.read(path).await? else { return Ok(None) };
        let record = decode::<R>(&found.value).map_err(|why| ReadError::Unreadable {
            what: R::WHAT,
            path: path.clone(),
            why,
        })?;
        Ok(Some(Read { record, version: found.version }))
    }

    /// Names of what lies directly below a path, sorted.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn children(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        self.store.children(path).await
    }

    /// Watches a path and all below it, from now on.
    pub fn watch(&self, path: &Path) -> Box<dyn Watch> {
        self.store.watch(path)
    }

    /// What is known of the connection.
    pub fn session(&self) -> Session {
        self.store.session()
    }

    /// Waits until the session differs from `seen`. Cancel-safe.
    pub async fn session_changed(&self, seen: Session) -> Session {
        self.store.session_changed(seen).await
    }

    /// Begins a change.
    pub fn change(&self) -> Change {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        Change { writer: self.writer.clone(), number, ops: Vec::new(), too_long: None }
    }

    /// Does all of it, or nothing. A lost answer is settled by reading back, which waits until the store is back.
    ///
    /// # Errors
    /// As the store's, but never [`StoreError::AnswerLost`].
    pub async fn commit(&self, change: Change) -> Result<(), StoreError> {
        if let Some(too_long) = change.too_long {
            return Err(too_long);
        }
        let mut lost = false;
        loop {
            match self.store.commit(change.ops.clone()).await {
                Err(StoreError::AnswerLost) => lost = true,
                // Not an answer to what may have happened before.
                Err(StoreError::Away(_)) if lost => {}
                // Tried again after a lost answer: what does not fit may be our own work.
                Err(StoreError::Conflict { .. }) if lost => return self.settle(&change.ops, change.number).await,
                answer => return answer,
            }
            self.back().await;
        }
    }

    /// Waits until it is worth to try again.
    async fn back(&self) {
        // A call may know of a lost connection before the session says so.
        tokio::time::sleep(PAUSE).await;
        let mut session = self.store.session();
        while !session.connected {
            session = self.store.session_changed(session).await;
        }
    }

    /// Whether a change that may have happened did: by what it wrote first, or else by what it deleted.
    async fn settle(&self, ops: &[Op], number: u64) -> Result<(), StoreError> {
        let written = ops.iter().find_map(|op| match op {
            Op::Create(path, _) | Op::CreateEphemeral(path, _) | Op::Set(path, ..) => Some(path),
            Op::Check(..) | Op::Delete(..) => None,
        });
        let deleted = ops.iter().find_map(|op| match op {
            Op::Delete(path, _) => Some(path),
            _ => None,
        });
        let Some(path) = written.or(deleted) else { return Ok(()) };
        let found = loop {
            match self.store.read(path).await {
                Err(StoreError::Away(_) | StoreError::AnswerLost) => self.back().await,
                answer => break answer?,
            }
        };
        let conflict = match (written, found) {
            (None, None) => return Ok(()),
            (Some(_), Some(found)) if is_by(&found.value, &self.writer, number) => return Ok(()),
            (_, Some(_)) => Conflict::Changed,
            (Some(_), None) => Conflict::Missing,
        };
        Err(StoreError::Conflict { path: path.clone(), conflict })
    }
}

impl Change {
    /// Makes a record where none is.
    pub fn create<R: Record>(mut self, path: Path, record: R) -> Self {
        let value = self.encode(&path, record);
        self.ops.push(Op::Create(path, value));
        self
    }

    /// Makes a record that goes with this session.
    pub fn create_ephemeral<R: Record>(mut self, path: Path, record: R) -> Self {
        let value = self.encode(&path, record);
        self.ops.push(Op::CreateEphemeral(path, value));
        self
    }

    /// Replaces a record of this version.
    pub fn set<R: Record>(mut self, path: Path, record: R, version: Version) -> Self {
        let value = self.encode(&path, record);
        self.ops.push(Op::Set(path, value, version));
        self
    }

    /// Removes a record.
    pub fn delete(mut self, path: Path) -> Self {
        self.ops.push(Op::Delete(path, None));
        self
    }

    /// Something must be there: the guard of a leader's writes.
    pub fn check(mut self, path: Path) -> Self {
        self.ops.push(Op::Check(path, None));
        self
    }

    fn encode<R: Record>(&mut self, path: &Path, record: R) -> Vec<u8> {
        let stored = Stored { format: R::FORMAT, writer: self.writer.clone(), number: self.number, record };
        let value = encode(&stored);
        if value.len() > RECORD_BYTES {
            self.too_long = Some(StoreError::TooLong { path: path.clone(), bytes: value.len() });
        }
        value
    }
}

/// The bytes of a record: JSON for people to read, with a line feed at its end.
pub fn encode<R: Record>(stored: &Stored<R>) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(stored).expect("records are maps of names, numbers and text");
    json.push(b'\n');
    json
}

/// What a record's bytes say.
fn decode<R: Record>(value: &[u8]) -> Result<R, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    worker_api::check_format(R::WHAT, R::FORMAT, format).map_err(|error| error.to_string())?;
    // The record alone: a flattened one could not have numbers as keys.
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

fn is_by(value: &[u8], writer: &str, number: u64) -> bool {
    #[derive(Deserialize)]
    struct Signature {
        writer: String,
        number: u64,
    }
    serde_json::from_slice::<Signature>(value).is_ok_and(|by| by.writer == writer && by.number == number)
}
