//! A value that one changes and many wait for, woken in the order in which they began to wait.
//!
//! As tokio's `watch`, which wakes in random order, so that a seeded run would not be the same each time. Not here: queues.
//! Invariant: who waits sees the last value, not each one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

struct Shared<T> {
    state: Mutex<State<T>>,
    /// As in the state, for those who look often.
    version: AtomicU64,
    changed: Notify,
}

struct State<T> {
    value: T,
    /// Counts the changes.
    version: u64,
}

/// Changes the value.
pub struct Sender<T>(Arc<Shared<T>>);

/// Looks at the value; a clone has seen what its original has seen.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A value and its first receiver, who has seen it.
pub fn channel<T: Clone>(value: T) -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { value, version: 0 });
    let shared = Arc::new(Shared { state, version: AtomicU64::new(0), changed: Notify::new() });
    (Sender(shared.clone()), Receiver { shared, seen: 0 })
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    /// Sets the value.
    pub fn set(&self, value: T) {
        self.modify(|known| *known = value);
    }

    /// Changes the value in place.
    pub fn modify(&self, change: impl FnOnce(&mut T)) {
        self.modify_if(|value| {
            change(value);
            true
        });
    }

    /// The same, if `change` says that it has.
    pub fn modify_if(&self, change: impl FnOnce(&mut T) -> bool) {
        {
            let mut state = self.0.lock();
            if !change(&mut state.value) {
                return;
            }
            state.version += 1;
            self.0.version.store(state.version, Ordering::Release);
        }
        self.0.changed.notify_waiters();
    }
}

impl<T: Clone> Receiver<T> {
    /// The value, which has now been seen.
    pub fn see(&mut self) -> T {
        let state = self.shared.lock();
        self.seen = state.version;
        state.value.clone()
    }

    /// Whether the value is another than the one seen last; without a lock.
    pub fn is_changed(&self) -> bool {
        self.shared.version.load(Ordering::Acquire) != self.seen
    }

    /// The value.
    pub fn get(&self) -> T {
        self.shared.lock().value.clone()
    }

    /// Waits until the value is another than the one seen last, and sees it. Cancel-safe.
    pub async fn changed(&mut self) {
        let seen = self.seen;
        self.until(|state| state.version != seen).await;
    }

    /// Waits until the value is as wished, and sees it. Cancel-safe.
    pub async fn wait_for(&mut self, mut wished: impl FnMut(&T) -> bool) -> T {
        self.until(|state| wished(&state.value)).await
    }

    async fn until(&mut self, mut is_so: impl FnMut(&State<T>) -> bool) -> T {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            {
                let state = self.shared.lock();
                if is_so(&state) {
                    self.seen = state.version;
                    return state.value.clone();
                }
                // Before the lock is let go, so that no change gets by.
                changed.as_mut().enable();
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn the_last_value_is_seen_once() {
        let (sender, mut receiver) = channel(1);
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut changed = std::pin::pin!(receiver.changed());
            assert_eq!(changed.as_mut().poll(&mut cx), Poll::Pending);
            sender.set(2);
            sender.set(3);
            assert_eq!(changed.as_mut().poll(&mut cx), Poll::Ready(()));
        }
        assert_eq!(receiver.get(), 3);
        assert_eq!(std::pin::pin!(receiver.changed()).poll(&mut cx), Poll::Pending);
        sender.modify(|value| *value += 1);
        assert_eq!(receiver.see(), 4);
        assert_eq!(std::pin::pin!(receiver.changed()).poll(&mut cx), Poll::Pending);
        assert_eq!(std::pin::pin!(receiver.wait_for(|value| *value == 4)).poll(&mut cx), Poll::Ready(4));
    }

    #[tokio::test]
    async fn who_waited_first_is_woken_first() {
        for _ in 0..20 {
            let (sender, receiver) = channel(0);
            let order = Arc::new(Mutex::new(Vec::new()));
            let waiting: Vec<_> = (0..10)
                .map(|number| {
                    let (mut receiver, order) = (receiver.clone(), order.clone());
                    tokio::spawn(async move {
                        receiver.wait_for(|value| *value == 1).await;
                        order.lock().unwrap().push(number);
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            sender.set(1);
            for task in waiting {
                task.await.unwrap();
            }
            assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        }
    }
}
