//! The three homes of the cluster state, each made for one test, and what can go wrong in them.
//!
//! Not here: what is expected of them. Invariant: nothing waits for a fixed time, but for a condition.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_state::memory::{Memory, MemorySession};
use cluster_state::store::{Store, StoreError};
use cluster_state::zookeeper::ZooKeeperConfig;
use cluster_state::{file, zookeeper};
use tempfile::TempDir;
use zookeeper_server::ZooKeeper;

use crate::proxy::Proxy;

/// A test that takes longer hangs.
pub(crate) const LONGEST_CASE: Duration = Duration::from_secs(120);

/// Where a test keeps its state.
pub(crate) enum Home {
    Memory(Memory),
    File(TempDir, Mutex<Option<Arc<dyn Store>>>),
    ZooKeeper(String),
}

/// A session of a test, with the means to disturb it.
pub(crate) struct TestSession {
    pub(crate) store: Arc<dyn Store>,
    means: Means,
}

enum Means {
    Memory(Arc<MemorySession>),
    File,
    ZooKeeper(Proxy),
}

impl Home {
    pub(crate) fn memory() -> Self {
        Home::Memory(Memory::default())
    }

    pub(crate) fn file() -> Self {
        Home::File(tempfile::tempdir().unwrap(), Mutex::default())
    }

    pub(crate) fn zookeeper() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Home::ZooKeeper(format!("/conformance/{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// A connected session of its own; a file has only one.
    pub(crate) async fn session(&self) -> TestSession {
        self.session_of(Duration::from_secs(20)).await
    }

    /// A session that can be lost soon.
    pub(crate) async fn short_session(&self) -> TestSession {
        self.session_of(Duration::from_secs(1)).await
    }

    async fn session_of(&self, session_timeout: Duration) -> TestSession {
        match self {
            Home::Memory(memory) => {
                let session = memory.session();
                TestSession { store: session.clone(), means: Means::Memory(session) }
            }
            Home::File(folder, opened) => {
                let mut opened = opened.lock().unwrap();
                let store = opened.get_or_insert_with(|| file::open(&folder.path().join("state")).unwrap());
                TestSession { store: store.clone(), means: Means::File }
            }
            Home::ZooKeeper(root) => {
                let proxy = Proxy::before(shared_server()).await;
                let servers = vec![proxy.address()];
                let config = ZooKeeperConfig { servers, root: root.clone(), session_timeout, auth: None };
                let store = zookeeper::open(config).unwrap();
                connected(&store).await;
                TestSession { store, means: Means::ZooKeeper(proxy) }
            }
        }
    }

    /// Loses a session, and gives the one that follows it.
    pub(crate) async fn lose(&self, session: TestSession) -> TestSession {
        match (self, &session.means) {
            (_, Means::Memory(memory)) => memory.lose(),
            (_, Means::ZooKeeper(proxy)) => {
                let epoch = session.store.session().epoch;
                proxy.cut();
                eventually("the session is given up", async || is_given_up(&session.store).await).await;
                proxy.mend();
                connected(&session.store).await;
                assert_eq!(session.store.session().epoch, epoch + 1);
            }
            (Home::File(folder, opened), Means::File) => {
                drop((session, opened.lock().unwrap().take()));
                let path = folder.path().join("state");
                // A thread that served the last call may hold it a moment longer.
                let mut store = None;
                eventually("the file is free", async || {
                    store = file::open(&path).ok();
                    store.is_some()
                })
                .await;
                *opened.lock().unwrap() = store.clone();
                return TestSession { store: store.unwrap(), means: Means::File };
            }
            (_, Means::File) => unreachable!("a file's session is of a file"),
        }
        session
    }
}

impl TestSession {
    /// Loses the answer of the next commit, which happens or not.
    pub(crate) fn lose_next_answer(&self, happens: bool) {
        match &self.means {
            Means::Memory(session) => session.lose_next_answer(happens),
            Means::ZooKeeper(proxy) => proxy.lose_next_answer(happens),
            Means::File => unreachable!("a file's answers are not lost"),
        }
    }

    /// Cuts the connection, and waits until that is known.
    pub(crate) async fn cut(&self) {
        match &self.means {
            Means::Memory(session) => session.go_away(),
            Means::ZooKeeper(proxy) => proxy.cut(),
            Means::File => unreachable!("a file has no connection"),
        }
        let mut session = self.store.session();
        while session.connected {
            session = self.store.session_changed(session).await;
        }
    }

    pub(crate) async fn mend(&self) {
        match &self.means {
            Means::Memory(session) => session.come_back(),
            Means::ZooKeeper(proxy) => proxy.mend(),
            Means::File => unreachable!("a file has no connection"),
        }
        connected(&self.store).await;
    }
}

/// Waits until a store is connected.
pub(crate) async fn connected(store: &Arc<dyn Store>) {
    let mut session = store.session();
    while !session.connected {
        session = store.session_changed(session).await;
    }
}

/// Whether the client itself counts the session as lost, which it does after the server.
async fn is_given_up(store: &Arc<dyn Store>) -> bool {
    match store.read(&cluster_state::paths::leader()).await {
        Err(StoreError::Away(why)) => why.contains("the session with") || why.contains("no ZooKeeper answers"),
        _ => false,
    }
}

/// Waits for a condition, at most a minute.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to this within a minute: {what}");
}

/// One server for all tests that leave it alone; it ends with this process.
pub(crate) fn shared_server() -> String {
    static SERVER: Mutex<Option<ZooKeeper>> = Mutex::new(None);
    let mut server = SERVER.lock().unwrap();
    server.get_or_insert_with(|| ZooKeeper::start().unwrap()).address()
}
