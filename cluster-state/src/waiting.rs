//! Who waits for something: watches below a path, and those who wait for another session.
//!
//! Not here: what changed. Invariant: a change between two calls is told by the second; waiters wake in the order in which
//! they came.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::store::{Path, Session, Watch};

/// The watches of one session.
#[derive(Default)]
pub(crate) struct Watches(Mutex<Vec<Weak<Watched>>>);

struct Watched {
    path: Path,
    /// Keeps one change for a watch that is not waiting.
    changed: Notify,
}

impl Watches {
    /// A watch on `path` and all below it.
    pub(crate) fn watch(&self, path: &Path) -> Box<dyn Watch> {
        let watched = Arc::new(Watched { path: path.clone(), changed: Notify::new() });
        let mut watches = lock(&self.0);
        watches.retain(|watched| watched.strong_count() > 0);
        watches.push(Arc::downgrade(&watched));
        Box::new(Changes(watched))
    }

    /// Tells who watches `path` or a folder above it.
    pub(crate) fn changed(&self, path: &str) {
        self.tell(|watched| {
            let below = path.strip_prefix(watched.as_str());
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
    }

    /// Tells everybody.
    pub(crate) fn all_changed(&self) {
        self.tell(|_| true);
    }

    fn tell(&self, whom: impl Fn(&Path) -> bool) {
        for watched in lock(&self.0).iter().filter_map(Weak::upgrade) {
            if whom(&watched.path) {
                watched.changed.notify_one();
            }
        }
    }
}

struct Changes(Arc<Watched>);

impl Watch for Changes {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        self.0.changed.notified().boxed()
    }
}

/// The session as it is now, and who waits for another.
#[derive(Default)]
pub(crate) struct Sessions {
    now: Mutex<Session>,
    changed: Notify,
}

impl Sessions {
    pub(crate) fn now(&self) -> Session {
        *lock(&self.now)
    }

    /// Sets it, and tells who waits.
    pub(crate) fn set(&self, session: Session) {
        let before = std::mem::replace(&mut *lock(&self.now), session);
        if before != session {
            self.changed.notify_waiters();
        }
    }

    /// Waits until it differs from `seen`. Cancel-safe.
    pub(crate) async fn changed(&self, seen: Session) -> Session {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Waits from here on, so nothing is missed after the look.
            changed.as_mut().enable();
            let now = self.now();
            if now != seen {
                return now;
            }
            changed.await;
        }
    }
}

/// What a panic elsewhere left is still whole: nothing here is changed in steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
