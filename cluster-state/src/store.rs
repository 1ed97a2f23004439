//! The store behind the noticeboard: a tree of small values, with watches, transactions and ephemeral values.
//!
//! Not here: what the values say (`records`), and which store is used (its maker chooses: [`zookeeper`](crate::zookeeper),
//! [`file`](crate::file), [`memory`](crate::memory)). Invariant: a transaction happens as a whole or not at all, in one order that all readers see.

use std::fmt;

use futures_util::future::BoxFuture;

/// Longest value in bytes; a longer one is refused before anything is sent.
pub const RECORD_BYTES: usize = 256 << 10;

/// Most bytes of values and paths in one transaction: a ZooKeeper hangs up on a request of more than 1 MiB.
pub const COMMIT_BYTES: usize = 768 << 10;

/// A place in the tree, below the store's root: `topologies/word-count-1-1700000000`; no leading or trailing `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    /// Made by `paths` alone, from names that were checked.
    pub(crate) fn new(path: impl Into<String>) -> Self {
        Path(path.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name directly below this path on the way to `descendant`, if that lies below it.
    pub(crate) fn child_towards<'a>(&self, descendant: &'a str) -> Option<&'a str> {
        descendant.strip_prefix(self.as_str())?.strip_prefix('/')?.split('/').next()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Counts the changes of one value; another value at the same path later may have it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A value with its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes.
    pub value: Vec<u8>,
    /// Its version.
    pub version: Version,
}

/// One step of a transaction. A value has at least one byte. Folders above a path are made and removed by the store itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Something must be there (with this version, if one is given).
    Check(Path, Option<Version>),
    /// Make a value where none is.
    Create(Path, Vec<u8>),
    /// Make one that goes with this session.
    CreateEphemeral(Path, Vec<u8>),
    /// Replace a value of this version.
    Set(Path, Vec<u8>, Version),
    /// Remove a value (of this version, if one is given).
    Delete(Path, Option<Version>),
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// An op did not fit what is there; nothing was changed.
    #[error("`{path}` is not as expected: {conflict}")]
    Conflict {
        /// Place of the first op that did not fit.
        path: Path,
        /// How.
        conflict: Conflict,
    },
    /// The store cannot be reached; nothing was changed by this call.
    #[error("the cluster state cannot be reached: {0}")]
    Away(String),
    /// The connection was lost before the answer came: it may have happened or not.
    #[error("the connection to the cluster state was lost before it answered")]
    AnswerLost,
    /// A value is too long.
    #[error("`{path}` would have {bytes} bytes, at most {RECORD_BYTES} are allowed")]
    TooLong {
        /// Its place.
        path: Path,
        /// Its length.
        bytes: usize,
    },
    /// The store refuses us, or is broken; to try again will not help.
    #[error("{0}")]
    Refused(String),
}

/// How an op does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// There is one already.
    #[error("it exists")]
    Exists,
    /// There is none.
    #[error("it does not exist")]
    Missing,
    /// It was changed.
    #[error("it was changed meanwhile")]
    Changed,
}

/// What is known of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Counts the sessions, from 1; 0 before the first. A new one has lost the ephemeral values of those before.
    pub epoch: u64,
    /// Whether the store answers now.
    pub connected: bool,
}

/// A store. One conformance suite holds for all of them.
pub trait Store: Send + Sync + 'static {
    /// The value at a path, if there is one.
    ///
    /// It may be as it was some time ago, before others wrote. But it sees every transaction of this store object that was
    /// answered before, and all that was there when one was refused; and it never goes back behind what this store object has
    /// read or watched. Who must not miss what another did before, or what a life before this one has read, writes first.
    ///
    /// # Errors
    /// [`StoreError::Away`], [`StoreError::Refused`].
    fn read(&self, path: &Path) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>>;

    /// Names of what lies directly below a path, sorted; empty if nothing does.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn children(&self, path: &Path) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;

    /// Does all of it, or nothing; each op sees what those before it did. At most [`COMMIT_BYTES`].
    ///
    /// # Errors
    /// Any. After [`StoreError::AnswerLost`] the caller reads back what became of it.
    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Watches a path and all below it, from now on.
    fn watch(&self, path: &Path) -> Box<dyn Watch>;

    /// What is known of the connection now.
    fn session(&self) -> Session;

    /// Waits until [`Store::session`] differs from `seen`. Cancel-safe.
    fn session_changed(&self, seen: Session) -> BoxFuture<'_, Session>;
}

/// Changes below a path.
pub trait Watch: Send {
    /// Waits until something may have changed since the last call (or since the watch was made): the caller then reads anew.
    /// Several changes may be told as one; a lost connection counts as a change once it is back. Cancel-safe.
    fn changed(&mut self) -> BoxFuture<'_, ()>;
}
