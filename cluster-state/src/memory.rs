//! The store of a test: a tree in memory that several sessions share, with what can go wrong as controls.
//!
//! Not here: waiting; each answer is there at once. Invariants: nothing depends on a map's order, a clock or chance; a change
//! and the watches that it fires are one step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use crate::store::{Op, Path, Session, Store, StoreError, Versioned, Watch};
use crate::transaction::{Standing, Write, Writes, check_lengths, writes};
use crate::waiting::{Sessions, Watches, lock};

/// A tree in memory that several sessions share.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Tree>>);

#[derive(Default)]
struct Tree {
    values: BTreeMap<Path, Write>,
    /// Of every session that was opened, in order.
    watches: Vec<Arc<Watches>>,
    /// Counts the sessions, also those that followed a lost one.
    owners: u64,
}

impl Tree {
    fn apply(&mut self, writes: Writes) {
        for (path, write) in writes {
            for watches in &self.watches {
                watches.changed(path.as_str());
            }
            match write {
                Some(write) => drop(self.values.insert(path, write)),
                None => drop(self.values.remove(&path)),
            }
        }
    }

    fn new_owner(&mut self) -> u64 {
        self.owners += 1;
        self.owners
    }
}

impl Memory {
    /// Opens a session of its own, which is connected.
    pub fn session(&self) -> Arc<MemorySession> {
        let watches = Arc::<Watches>::default();
        let mut tree = lock(&self.0);
        tree.watches.push(watches.clone());
        let state = SessionState {
            owner: tree.new_owner(),
            is_lost: false,
            next_answer: NextAnswer::Given,
            refused_after: None,
        };
        let sessions = Sessions::default();
        sessions.set(Session { epoch: 1, connected: true });
        Arc::new(MemorySession { tree: self.0.clone(), watches, sessions, state: Mutex::new(state) })
    }
}

/// One session on a [`Memory`].
pub struct MemorySession {
    tree: Arc<Mutex<Tree>>,
    watches: Arc<Watches>,
    sessions: Sessions,
    state: Mutex<SessionState>,
}

struct SessionState {
    owner: u64,
    /// While it was away.
    is_lost: bool,
    next_answer: NextAnswer,
    /// Commits that happen until one is refused.
    refused_after: Option<u32>,
}

#[derive(Clone, Copy)]
enum NextAnswer {
    Given,
    Lost { happens: bool },
}

impl MemorySession {
    /// Loses the session: its ephemeral values go, and a new one takes its place (once it is [back](Self::come_back)).
    pub fn lose(&self) {
        let mut state = lock(&self.state);
        let mut tree = lock(&self.tree);
        let is_mine = |write: &Write| write.standing.owner == Some(state.owner);
        let mine = tree.values.iter().filter(|(_, write)| is_mine(write));
        let gone = mine.map(|(path, _)| (path.clone(), None)).collect();
        tree.apply(gone);
        state.owner = tree.new_owner();
        let Session { epoch, connected } = self.sessions.now();
        if connected {
            self.sessions.set(Session { epoch: epoch + 1, connected });
            self.watches.all_changed();
        } else {
            state.is_lost = true;
        }
    }

    /// Cuts the connection: all calls fail with [`StoreError::Away`].
    pub fn go_away(&self) {
        self.sessions.set(Session { connected: false, ..self.sessions.now() });
    }

    /// Ends [`go_away`](Self::go_away).
    pub fn come_back(&self) {
        let mut state = lock(&self.state);
        let Session { epoch, connected } = self.sessions.now();
        if !connected {
            let lost = std::mem::take(&mut state.is_lost);
            self.sessions.set(Session { epoch: epoch + u64::from(lost), connected: true });
            self.watches.all_changed();
        }
    }

    /// Loses the answer of the next commit, which happens or not.
    pub fn lose_next_answer(&self, happens: bool) {
        lock(&self.state).next_answer = NextAnswer::Lost { happens };
    }

    /// Refuses one commit, which does not happen, after so many others; the session stays as it is.
    pub fn refuse_commit(&self, after: u32) {
        lock(&self.state).refused_after = Some(after);
    }

    fn connected(&self) -> Result<(), StoreError> {
        if self.sessions.now().connected {
            Ok(())
        } else {
            Err(StoreError::Away("this session's connection to memory is cut".into()))
        }
    }

    fn commit_now(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        check_lengths(&ops)?;
        self.connected()?;
        let mut state = lock(&self.state);
        if let Some(left) = state.refused_after.take() {
            match left.checked_sub(1) {
                Some(left) => state.refused_after = Some(left),
                None => return Err(StoreError::Refused("this session refuses one commit".into())),
            }
        }
        let answer = std::mem::replace(&mut state.next_answer, NextAnswer::Given);
        if let NextAnswer::Lost { happens: false } = answer {
            return Err(StoreError::AnswerLost);
        }
        let mut tree = lock(&self.tree);
        let standing = |path: &Path| Ok(tree.values.get(path).map(|write| write.standing));
        let outcome = writes(ops, state.owner, standing).map(|writes| tree.apply(writes));
        match answer {
            NextAnswer::Given => outcome,
            NextAnswer::Lost { .. } => Err(StoreError::AnswerLost),
        }
    }

    fn read_now(&self, path: &Path) -> Result<Option<Versioned>, StoreError> {
        self.connected()?;
        let tree = lock(&self.tree);
        let versioned = |Write { value, standing: Standing { version, .. } }: &Write| Versioned {
            value: value.clone(),
            version: *version,
        };
        Ok(tree.values.get(path).map(versioned))
    }

    fn children_now(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        self.connected()?;
        let tree = lock(&self.tree);
        let below = tree.values.keys().filter_map(|value| path.child_towards(value.as_str()));
        Ok(below.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
    }
}

impl Store for MemorySession {
    fn read(&self, path: &Path) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        ready(self.read_now(path)).boxed()
    }

    fn children(&self, path: &Path) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        ready(self.children_now(path)).boxed()
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.commit_now(ops) }.boxed()
    }

    fn watch(&self, path: &Path) -> Box<dyn Watch> {
        self.watches.watch(path)
    }

    fn session(&self) -> Session {
        self.sessions.now()
    }

    fn session_changed(&self, seen: Session) -> BoxFuture<'_, Session> {
        self.sessions.changed(seen).boxed()
    }
}
