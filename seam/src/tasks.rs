//! Threads, tasks, time and randomness.
//!
//! Not here: files (`disk`). Invariant: on a seam of one thread nothing runs on any other, so a paused clock cannot run ahead of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::rngs::{ChaCha8Rng, SysRng};
use rand::{Rng, SeedableRng, TryRng};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Whether the tasks of a process go on: how a simulation pauses one, or kills it between any two polls.
pub trait Gate: Send + Sync + 'static {
    /// Asked before each poll of each task. Who has it wait wakes the task when it may go on.
    fn poll_pass(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The clock on the wall, in milliseconds since 1970.
type Wall = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Tasks, time and randomness for everything that one process (or one local cluster) runs; a cheap clone.
#[derive(Clone)]
pub struct Seam {
    runtime: Handle,
    random: Arc<Mutex<ChaCha8Rng>>,
    one_thread: bool,
    wall: Option<Wall>,
    gate: Option<Arc<dyn Gate>>,
}

impl Seam {
    /// The seam of production: the current runtime, randomness from the operating system.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if the operating system gives no randomness.
    pub fn system() -> Self {
        let mut key = [0; 32];
        SysRng.try_fill_bytes(&mut key).expect("the operating system gives randomness");
        Seam {
            runtime: Handle::current(),
            random: Arc::new(Mutex::new(ChaCha8Rng::from_seed(key))),
            one_thread: false,
            wall: None,
            gate: None,
        }
    }

    /// As [`Seam::system`], but with blocking work on the runtime's one thread as well: a paused clock would run ahead of any
    /// other thread.
    ///
    /// # Panics
    /// As [`Seam::system`].
    pub fn on_one_thread() -> Self {
        Seam { one_thread: true, ..Seam::system() }
    }

    /// The seam of a seeded run: the current runtime, which must be of one thread, and randomness from `seed` alone.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn seeded(seed: u64) -> Self {
        Seam {
            runtime: Handle::current(),
            random: Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))),
            one_thread: true,
            wall: None,
            gate: None,
        }
    }

    /// The seam of one process of a simulation: as [`Seam::seeded`], with a wall clock of its own, and a gate that each of
    /// its tasks passes before each poll.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn simulated(seed: u64, wall: impl Fn() -> u64 + Send + Sync + 'static, gate: Arc<dyn Gate>) -> Self {
        Seam { wall: Some(Arc::new(wall)), gate: Some(gate), ..Seam::seeded(seed) }
    }

    /// Starts a task that is aborted when its handle is dropped.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        match &self.gate {
            None => Task(self.runtime.spawn(work)),
            Some(gate) => Task(self.runtime.spawn(Gated { gate: gate.clone(), work: Box::pin(work) })),
        }
    }

    /// Work that passes this process's gate, for a set of tasks that is not the seam's.
    pub fn gated<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> BoxFuture<'static, T> {
        match &self.gate {
            None => Box::pin(work),
            Some(gate) => Box::pin(Gated { gate: gate.clone(), work: Box::pin(work) }),
        }
    }

    /// Does work that waits for the disk: on a thread of the runtime's pool, or at once on a seam of one thread.
    ///
    /// # Panics
    /// If the work does.
    pub async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self.one_thread {
            return work();
        }
        match self.runtime.spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending, and with it who waits.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Milliseconds since 1970 on this machine's clock, which may jump: for records and people, never for spans.
    pub fn epoch_ms(&self) -> u64 {
        match &self.wall {
            Some(wall) => wall(),
            None => {
                #[expect(clippy::disallowed_methods, reason = "records and people are told the time of day")]
                let now = std::time::SystemTime::now();
                let since = now.duration_since(std::time::UNIX_EPOCH);
                since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }

    /// Starts a task that may block its thread: on a thread of its own, but like any other on a seam of one thread.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        name: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        if self.one_thread {
            return self.spawn(work);
        }
        let runtime = self.runtime.clone();
        let (work, abort) = futures_util::future::abortable(work);
        let (ended, end) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ = ended.send(runtime.block_on(work));
        });
        self.spawn(async move {
            let _abort_with_me = AbortOnDrop(abort);
            match (thread, end.await) {
                (Ok(_), Ok(Ok(value))) => value,
                // The thread could not be started, or the work panicked: the task ends the same way.
                (thread, _) => panic!("the thread of a blocking component ended early: {thread:?}"),
            }
        })
    }

    /// Now, on the clock that a test can pause.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Waits on that clock.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Waits on that clock until `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
    }

    /// A timer that is set again and again by who polls it; it costs nothing until it is.
    pub fn sleep_slot(&self) -> Sleep {
        Sleep(None)
    }

    /// A key for a generator of one's own.
    pub fn random_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut key);
        key
    }

    /// A random number, all 64 bits of it.
    pub fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}

/// A task behind a gate.
struct Gated<T> {
    gate: Arc<dyn Gate>,
    work: BoxFuture<'static, T>,
}

impl<T> Future for Gated<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.gate.poll_pass(cx) {
            Poll::Ready(()) => self.work.as_mut().poll(cx),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A timer for a hand-written poll: see [`Seam::sleep_slot`].
#[derive(Debug)]
pub struct Sleep(Option<Pin<Box<tokio::time::Sleep>>>);

impl Sleep {
    /// Ready when `deadline` has come; wakes the caller's task then.
    pub fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

struct AbortOnDrop(futures_util::future::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A running task; dropping it aborts the task at its next await.
#[derive(Debug)]
pub struct Task<T>(JoinHandle<T>);

impl<T> Task<T> {
    /// Waits for the end; `None` if it panicked or was aborted.
    pub async fn join(mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
