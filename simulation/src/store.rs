//! The cluster state as one process has it: slow, with lost answers, late and doubled watches, lost sessions, on a server that
//! may be behind; and who hears of each write.
//!
//! A process reads what its server has: as it was some time ago, for as long as others have written since. A write goes to all
//! servers at once, and the answer to it, yes or no, comes from a server that has seen all before it. A new connection of a
//! process is no older than the one before; a new process may begin behind what the process before it has read.
//!
//! Not here: the tree (`cluster_state::memory`). Invariants: a write whose answer was lost has happened or not, as the seed
//! says; a process that has ended writes nothing more, but for what it had sent; what a process reads never goes back; it is told
//! of a change only once it would read it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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

/// How far the server of a process may be behind when nothing goes wrong, in milliseconds: not so far.
const BEHIND_MS: u64 = 50;

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
    /// Servers are up to so many milliseconds behind; at 0 no further than they are anyway.
    pub behind_ms: u64,
}

/// The cluster state of a run; a cheap clone.
#[derive(Clone)]
pub struct ClusterState(Arc<Inner>);

struct Inner {
    memory: Memory,
    /// Reads all that is there, for ever.
    newest: Arc<MemorySession>,
    hears: Hears,
    state: Mutex<State>,
}

struct State {
    random: ChaCha8Rng,
    trouble: Trouble,
    values: BTreeMap<String, Vec<u8>>,
    sessions: BTreeMap<u64, Arc<SessionOf>>,
    /// What some server may not have yet.
    recent: VecDeque<(Instant, Before)>,
    /// By process: before which of its next writes its session is lost.
    losing: BTreeMap<u64, u64>,
}

/// The session of one process.
struct SessionOf {
    process: Process,
    session: Arc<MemorySession>,
    ephemeral: Mutex<BTreeSet<Path>>,
    server: Mutex<Server>,
}

/// What was at the paths of a transaction, or of a session's end, before it.
type Before = Vec<(Path, Option<Versioned>)>;

/// The server that a process is connected to.
#[derive(Default)]
struct Server {
    /// How long it takes to it from now on.
    behind: Duration,
    /// What it has not yet, in its order, and when it will have it.
    missing: VecDeque<(Instant, Before)>,
}

impl Server {
    /// One that is so far behind, of which these are the last changes.
    fn new(behind: Duration, recent: &VecDeque<(Instant, Before)>) -> Self {
        let now = Instant::now();
        let missing = recent.iter().map(|(at, before)| (*at + behind, before.clone()));
        Server { behind, missing: missing.filter(|(due, _)| *due > now).collect() }
    }

    /// Something has changed.
    fn changed(&mut self, before: Before) {
        let due = Instant::now() + self.behind;
        let last = self.missing.back().map_or(due, |(last, _)| *last);
        self.missing.push_back((due.max(last), before));
    }

    /// What is otherwise here than on the newest server.
    fn otherwise(&mut self) -> BTreeMap<&Path, &Option<Versioned>> {
        let now = Instant::now();
        while self.missing.front().is_some_and(|(due, _)| *due <= now) {
            self.missing.pop_front();
        }
        // The earliest change tells how it still is here.
        let changes = self.missing.iter().rev().flat_map(|(_, before)| before);
        changes.map(|(path, before)| (path, before)).collect()
    }

    /// It has all that there is.
    fn catch_up(&mut self) {
        self.missing.clear();
    }

    /// When it will have what there is now, if it has not.
    fn has_all_at(&self) -> Option<Instant> {
        self.missing.back().map(|(due, _)| *due).filter(|due| *due > Instant::now())
    }
}

impl ClusterState {
    /// An empty one.
    pub fn new(seed: u64, hears: Hears) -> Self {
        let state = State {
            random: ChaCha8Rng::seed_from_u64(seed),
            trouble: Trouble::default(),
            values: BTreeMap::new(),
            sessions: BTreeMap::new(),
            recent: VecDeque::new(),
            losing: BTreeMap::new(),
        };
        let memory = Memory::default();
        let newest = memory.session();
        ClusterState(Arc::new(Inner { memory, newest, hears, state: Mutex::new(state) }))
    }

    /// What goes wrong from now on.
    pub fn trouble(&self, trouble: Trouble) {
        let mut state = lock(&self.0.state);
        state.trouble = trouble;
        let sessions: Vec<Arc<SessionOf>> = state.sessions.values().cloned().collect();
        for of in sessions {
            lock(&of.server).behind = state.behind();
        }
    }

    /// All values that are there, by path.
    pub fn values(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.0.state).values.clone()
    }

    /// Opens a session for a process.
    pub fn open(&self, process: &Process) -> Arc<dyn Store> {
        let mut state = lock(&self.0.state);
        let server = Server::new(state.behind(), &state.recent);
        let session = Arc::new(SessionOf {
            process: process.clone(),
            session: self.0.memory.session(),
            ephemeral: Mutex::default(),
            server: Mutex::new(server),
        });
        state.sessions.insert(process.number(), session.clone());
        drop(state);
        Arc::new(ProcessStore { state: self.clone(), of: session })
    }

    /// The session of a process is over: its ephemeral values go. One that lives gets a new session, if it is not away.
    pub fn lose(&self, process: u64) {
        let Some(of) = self.session(process) else { return };
        let gone = std::mem::take(&mut *lock(&of.ephemeral));
        self.changed(self.before(gone.iter()), Some(&of));
        for path in gone {
            lock(&self.0.state).values.remove(path.as_str());
            (self.0.hears)(Observation::Recorded {
                writer: String::new(),
                path: path.as_str().to_owned(),
                value: None,
            });
        }
        of.session.lose();
        lock(&of.server).catch_up();
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
            false => {
                lock(&of.server).catch_up();
                of.session.come_back();
            }
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
        let before = self.before(ops.iter().filter_map(written));
        let answer = match of.session.commit(ops.clone()).now_or_never() {
            Some(answer) => answer,
            // Memory does not wait.
            None => return Err(StoreError::AnswerLost),
        };
        // Who is not answered may not see it yet.
        let answered = lost.is_none().then_some(of);
        if answer.is_ok() {
            self.changed(before, answered);
            self.note(of, ops, sent_in.epoch);
        }
        if let Some(of) = answered {
            lock(&of.server).catch_up();
        }
        match lost {
            Some(_) => Err(StoreError::AnswerLost),
            None => answer,
        }
    }

    /// What is at these paths.
    fn before<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> Before {
        let read = |path: &Path| self.0.newest.read(path).now_or_never()?.ok()?;
        paths.map(|path| (path.clone(), read(path))).collect()
    }

    /// These paths change, and all servers hear of it but that of who did it.
    fn changed(&self, before: Before, by: Option<&SessionOf>) {
        let mut state = lock(&self.0.state);
        let now = Instant::now();
        let longest = Duration::from_millis(state.trouble.behind_ms.max(BEHIND_MS));
        while state.recent.front().is_some_and(|(at, _)| *at + longest <= now) {
            state.recent.pop_front();
        }
        for of in state.sessions.values().filter(|of| by.is_none_or(|by| !std::ptr::eq(by, of.as_ref()))) {
            lock(&of.server).changed(before.clone());
        }
        state.recent.push_back((now, before));
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

impl State {
    /// How far a server is behind.
    fn behind(&mut self) -> Duration {
        let most = match self.trouble.behind_ms {
            0 => BEHIND_MS,
            most => most,
        };
        let ms = if self.random.random_bool(0.5) { self.random.random_range(0..most) } else { 0 };
        Duration::from_millis(ms)
    }
}

/// The place that an op changes.
fn written(op: &Op) -> Option<&Path> {
    match op {
        Op::Check(..) => None,
        Op::Create(path, _) | Op::CreateEphemeral(path, _) | Op::Set(path, ..) | Op::Delete(path, _) => Some(path),
    }
}

impl ProcessStore {
    async fn read_there(&self, path: &Path) -> Result<Option<Versioned>, StoreError> {
        let newest = self.of.session.read(path).await?;
        let mut server = lock(&self.of.server);
        let otherwise = server.otherwise();
        Ok(otherwise.get(path).map_or(newest, |before| (*before).clone()))
    }

    async fn children_there(&self, folder: &Path) -> Result<Vec<String>, StoreError> {
        let newest = self.of.session.children(folder).await?;
        let mut server = lock(&self.of.server);
        let otherwise = server.otherwise();
        if otherwise.is_empty() {
            return Ok(newest);
        }
        let values = self.state.values();
        let stays = |path: &&str| otherwise.keys().all(|changed| changed.as_str() != *path);
        let there = otherwise.iter().filter(|(_, before)| before.is_some()).map(|(path, _)| path.as_str());
        let all = values.keys().map(String::as_str).filter(stays).chain(there);
        let below = all.filter_map(|path| path.strip_prefix(folder.as_str())?.strip_prefix('/')?.split('/').next());
        Ok(below.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
    }

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
            let read = self.read_there(&path).await;
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
            let children = self.children_there(&path).await;
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
        let (state, of, inner) = (self.state.clone(), self.of.clone(), self.of.session.watch(path));
        // What its server has not yet is a change to come.
        let told_at = lock(&of.server).has_all_at();
        Box::new(OddWatch { state, of, inner, told_at })
    }

    fn session(&self) -> Session {
        self.of.session.session()
    }

    fn session_changed(&self, seen: Session) -> BoxFuture<'_, Session> {
        self.of.session.session_changed(seen)
    }
}

/// A watch whose words come when the server has what they tell of, are late, and may come twice.
struct OddWatch {
    state: ClusterState,
    of: Arc<SessionOf>,
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
                    let late = Instant::now() + self.lateness();
                    let at = lock(&self.of.server).has_all_at().map_or(late, |there| there.max(late));
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

#[cfg(test)]
mod tests {
    use cluster_state::paths;
    use tokio::time::timeout;
    use worker_api::ids::SupervisorId;

    use super::*;
    use crate::process::Polls;

    fn path(name: &str) -> Path {
        paths::supervisor(&SupervisorId::new(name).unwrap())
    }

    fn create(name: &str) -> Vec<Op> {
        vec![Op::Create(path(name), name.as_bytes().to_vec())]
    }

    fn daemon(state: &ClusterState, number: u64, behind: Duration) -> Arc<dyn Store> {
        let process = Process::new(format!("daemon-{number}"), number, 1, || 0, Polls::at_most(1000));
        let store = state.open(&process);
        let recent = lock(&state.0.state).recent.clone();
        *lock(&state.session(number).unwrap().server) = Server::new(behind, &recent);
        store
    }

    async fn names(store: &Arc<dyn Store>) -> Vec<String> {
        store.children(&paths::supervisors()).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_behind_shows_what_was_until_it_has_it_or_is_written_to() {
        let state = ClusterState::new(1, Arc::new(|_| {}));
        let writer = daemon(&state, 1, Duration::ZERO);
        writer.commit(create("one")).await.unwrap();
        let reader = daemon(&state, 2, Duration::from_secs(10));
        let mut watch = reader.watch(&paths::supervisors());
        // It begins behind too.
        assert_eq!(names(&reader).await, [] as [String; 0]);
        assert_eq!(reader.read(&path("one")).await.unwrap(), None);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(names(&reader).await, ["one"]);
        watch.changed().await;
        writer.commit(create("two")).await.unwrap();
        assert_eq!(names(&writer).await, ["one", "two"]);
        assert_eq!(names(&reader).await, ["one"]);
        // Who watches is told once it is to be read.
        assert!(timeout(Duration::from_secs(9), watch.changed()).await.is_err());
        watch.changed().await;
        assert_eq!(names(&reader).await, ["one", "two"]);
        writer.commit(vec![Op::Delete(path("one"), None)]).await.unwrap();
        assert_eq!(names(&reader).await, ["one", "two"]);
        let value = reader.read(&path("one")).await.unwrap().map(|found| found.value);
        assert_eq!(value, Some(b"one".to_vec()));
        // A write that is refused shows why.
        reader.commit(create("two")).await.unwrap_err();
        assert_eq!(names(&reader).await, ["two"]);
        assert_eq!(reader.read(&path("one")).await.unwrap(), None);
    }
}
