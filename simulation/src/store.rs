//! The cluster state as one process has it: slow, with lost answers, late and doubled watches, lost sessions; and who hears of each write.
//!
//! Not here: the tree (`cluster_state::memory`). Invariants: a write whose answer was lost has happened or not, as the seed
//! says; a process that has ended writes nothing more, but for what it had sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_state::memory::{Memory, MemorySession};
use cluster_state::store::{Op, Path, Session, Store, StoreError, Versioned, Watch};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, sleep_until};

use crate::oracle::Observation;
use crate::process::Process;

/// Hears observations.
pub type Hears = Arc<dyn Fn(Observation) + Send + Sync>;

/// What can go wrong with every session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// Of a thousand answers to writes, so many are lost.
    pub lost_answers_permille: u32,
    /// Of a thousand calls, so many take up to a second.
    pub slow_permille: u32,
    /// Of a thousand words of a watch, so many are late, or come twice.
    pub odd_watches_permille: u32,
}

/// The cluster state of a run; a cheap clone.
#[derive(Clone)]
pub struct ClusterState(Arc<Inner>);

struct Inner {
    memory: Memory,
    hears: Hears,
    state: Mutex<State>,
}

struct State {
    random: ChaCha8Rng,
    trouble: Trouble,
    values: BTreeMap<String, Vec<u8>>,
    sessions: BTreeMap<u64, Arc<SessionOf>>,
    /// By process: before which of its next writes its session is lost.
    losing: BTreeMap<u64, u64>,
}

/// The session of one process.
struct SessionOf {
    process: Process,
    session: Arc<MemorySession>,
    ephemeral: Mutex<BTreeSet<Path>>,
}

impl ClusterState {
    /// An empty one.
    pub fn new(seed: u64, hears: Hears) -> Self {
        let state = State {
            random: ChaCha8Rng::seed_from_u64(seed),
            trouble: Trouble::default(),
            values: BTreeMap::new(),
            sessions: BTreeMap::new(),
            losing: BTreeMap::new(),
        };
        ClusterState(Arc::new(Inner { memory: Memory::default(), hears, state: Mutex::new(state) }))
    }

    /// What goes wrong from now on.
    pub fn trouble(&self, trouble: Trouble) {
        lock(&self.0.state).trouble = trouble;
    }

    /// All values that are there, by path.
    pub fn values(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.0.state).values.clone()
    }

    /// Opens a session for a process.
    pub fn open(&self, process: &Process) -> Arc<dyn Store> {
        let session = Arc::new(SessionOf {
            process: process.clone(),
            session: self.0.memory.session(),
            ephemeral: Mutex::default(),
        });
        lock(&self.0.state).sessions.insert(process.number(), session.clone());
        Arc::new(ProcessStore { state: self.clone(), of: session })
    }

    /// The session of a process is over: its ephemeral values go. One that lives gets a new session, if it is not away.
    pub fn lose(&self, process: u64) {
        let Some(of) = self.session(process) else { return };
        let gone = std::mem::take(&mut *lock(&of.ephemeral));
        for path in gone {
            lock(&self.0.state).values.remove(path.as_str());
            (self.0.hears)(Observation::Recorded {
                writer: String::new(),
                path: path.as_str().to_owned(),
                value: None,
            });
        }
        of.session.lose();
        if !of.process.is_alive() {
            lock(&self.0.state).sessions.remove(&process);
        }
    }

    /// The session of a process is lost just before a write of its, after so many others.
    pub fn lose_before_write(&self, process: u64, writes: u64) {
        lock(&self.0.state).losing.insert(process, writes);
    }

    fn writes(&self, process: u64) {
        let is_lost = {
            let mut state = lock(&self.0.state);
            match state.losing.get_mut(&process) {
                Some(0) => state.losing.remove(&process).is_some(),
                Some(writes) => {
                    *writes -= 1;
                    false
                }
                None => false,
            }
        };
        if is_lost {
            self.lose(process);
        }
    }

    /// A process does not reach the cluster state any more, or it does again.
    pub fn away(&self, process: u64, is_away: bool) {
        let Some(of) = self.session(process) else { return };
        match is_away {
            true => of.session.go_away(),
            false => of.session.come_back(),
        }
    }

    fn session(&self, process: u64) -> Option<Arc<SessionOf>> {
        lock(&self.0.state).sessions.get(&process).cloned()
    }

    /// How long one way takes.
    fn delay(&self) -> Duration {
        let mut state = lock(&self.0.state);
        let slow = state.trouble.slow_permille;
        let ms = match state.random.random_range(0..1000) < slow {
            true => state.random.random_range(0..1000),
            false => state.random.random_range(0..3),
        };
        Duration::from_millis(ms)
    }

    fn apply(&self, of: &SessionOf, ops: Vec<Op>, sent_in: Session) -> Result<(), StoreError> {
        let lost = {
            let mut state = lock(&self.0.state);
            let permille = state.trouble.lost_answers_permille;
            (state.random.random_range(0..1000) < permille).then(|| state.random.random_bool(0.5))
        };
        // Of a session that is over, or a connection that broke: it did not come through.
        if lost == Some(false) || of.session.session() != sent_in {
            return Err(StoreError::AnswerLost);
        }
        let answer = match of.session.commit(ops.clone()).now_or_never() {
            Some(answer) => answer,
            // Memory does not wait.
            None => return Err(StoreError::AnswerLost),
        };
        if answer.is_ok() {
            self.note(of, ops, sent_in.epoch);
        }
        match lost {
            Some(_) => Err(StoreError::AnswerLost),
            None => answer,
        }
    }

    fn note(&self, of: &SessionOf, ops: Vec<Op>, epoch: u64) {
        for op in ops {
            let (path, value) = match op {
                Op::Check(..) => continue,
                Op::Create(path, value) | Op::Set(path, value, _) => (path, Some(value)),
                Op::CreateEphemeral(path, value) => {
                    lock(&of.ephemeral).insert(path.clone());
                    (path, Some(value))
                }
                Op::Delete(path, _) => {
                    let sessions: Vec<_> = lock(&self.0.state).sessions.values().cloned().collect();
                    for of in sessions {
                        lock(&of.ephemeral).remove(&path);
                    }
                    (path, None)
                }
            };
            let path = path.as_str().to_owned();
            match &value {
                Some(value) => drop(lock(&self.0.state).values.insert(path.clone(), value.clone())),
                None => drop(lock(&self.0.state).values.remove(&path)),
            }
            let writer = format!("{}#{epoch}", of.process.name());
            (self.0.hears)(Observation::Recorded { writer, path, value });
        }
    }
}

struct ProcessStore {
    state: ClusterState,
    of: Arc<SessionOf>,
}

impl ProcessStore {
    fn connected(&self) -> Result<Session, StoreError> {
        let session = self.of.session.session();
        match session.connected && self.of.process.is_alive() {
            true => Ok(session),
            false => Err(StoreError::Away("no server of it answers".to_owned())),
        }
    }
}

impl Store for ProcessStore {
    fn read(&self, path: &Path) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        let path = path.clone();
        async move {
            self.connected()?;
            sleep(self.state.delay()).await;
            let read = self.of.session.read(&path).await;
            sleep(self.state.delay()).await;
            self.connected()?;
            read
        }
        .boxed()
    }

    fn children(&self, path: &Path) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        let path = path.clone();
        async move {
            self.connected()?;
            sleep(self.state.delay()).await;
            let children = self.of.session.children(&path).await;
            sleep(self.state.delay()).await;
            self.connected()?;
            children
        }
        .boxed()
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.state.writes(self.of.process.number());
            let session = self.connected()?;
            let (state, of) = (self.state.clone(), self.of.clone());
            let (there, back) = (self.state.delay(), self.state.delay());
            // What was sent comes through, whatever becomes of who sent it.
            let sent = tokio::spawn(async move {
                sleep(there).await;
                state.apply(&of, ops, session)
            });
            let answer = sent.await.unwrap_or(Err(StoreError::AnswerLost));
            sleep(back).await;
            match self.of.session.session() == session {
                true => answer,
                false => Err(StoreError::AnswerLost),
            }
        }
        .boxed()
    }

    fn watch(&self, path: &Path) -> Box<dyn Watch> {
        Box::new(OddWatch { state: self.state.clone(), inner: self.of.session.watch(path), told_at: None })
    }

    fn session(&self) -> Session {
        self.of.session.session()
    }

    fn session_changed(&self, seen: Session) -> BoxFuture<'_, Session> {
        self.of.session.session_changed(seen)
    }
}

/// A watch whose words are late, and may come twice.
struct OddWatch {
    state: ClusterState,
    inner: Box<dyn Watch>,
    /// When the next word is told: it is kept if nobody waits for it then.
    told_at: Option<Instant>,
}

impl Watch for OddWatch {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        async move {
            let at = match self.told_at {
                Some(at) => at,
                None => {
                    self.inner.changed().await;
                    let at = Instant::now() + self.lateness();
                    self.told_at = Some(at);
                    at
                }
            };
            sleep_until(at).await;
            self.told_at = self.is_doubled().then(|| Instant::now() + Duration::from_millis(1) + self.lateness());
        }
        .boxed()
    }
}

impl OddWatch {
    fn lateness(&self) -> Duration {
        self.state.delay() + self.odd().unwrap_or_default()
    }

    fn is_doubled(&self) -> bool {
        self.odd().is_some()
    }

    fn odd(&self) -> Option<Duration> {
        let mut state = lock(&self.state.0.state);
        let permille = state.trouble.odd_watches_permille;
        let is_odd = state.random.random_range(0..1000) < permille;
        is_odd.then(|| Duration::from_millis(state.random.random_range(0..1500)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
