//! A simulated process: its tasks pass a gate, by which it is paused, or killed between any two of their polls.
//!
//! Not here: what runs in it (`world`), its machine (`machine`). Invariant: from the moment of its end none of its tasks is polled again, and
//! nothing that it still does in that moment reaches a disk, the network or the cluster state.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use seam::{Gate, Seam, Task};
use tokio::sync::Notify;

use crate::log;

/// Polls of all processes of a run, with their bound: what finds a run that goes round in circles at one instant.
#[derive(Debug)]
pub struct Polls {
    so_far: AtomicU64,
    most: u64,
}

impl Polls {
    /// At most so many.
    pub fn at_most(most: u64) -> Arc<Self> {
        Arc::new(Polls { so_far: AtomicU64::new(0), most })
    }

    /// How many there were.
    pub fn so_far(&self) -> u64 {
        self.so_far.load(Ordering::Relaxed)
    }

    /// Whether there were too many: then no gate lets anything through any more.
    pub fn are_too_many(&self) -> bool {
        self.so_far() > self.most
    }
}

/// A process; a cheap clone. It ends when it is killed, or its root task has ended.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    number: u64,
    seam: Seam,
    gate: Arc<ProcessGate>,
    root: Mutex<Option<Task<()>>>,
}

struct ProcessGate {
    name: Arc<str>,
    polls: Arc<Polls>,
    state: Mutex<State>,
    ended: Notify,
}

struct State {
    run: Run,
    /// Steps until its end, if that was ordered.
    steps_left: Option<u64>,
    waiting: Vec<Waker>,
    at_end: Vec<Box<dyn FnOnce() + Send>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Runs,
    Paused,
    Ended,
}

impl Process {
    /// A new process without tasks. `wall` is the clock of its machine; no other process of the run has the `number`.
    pub fn new(
        name: String,
        number: u64,
        seed: u64,
        wall: impl Fn() -> u64 + Send + Sync + 'static,
        polls: Arc<Polls>,
    ) -> Self {
        let name: Arc<str> = name.into();
        let state = State { run: Run::Runs, steps_left: None, waiting: Vec::new(), at_end: Vec::new() };
        let gate = Arc::new(ProcessGate { name: name.clone(), polls, state: Mutex::new(state), ended: Notify::new() });
        let seam = Seam::simulated(seed, wall, gate.clone());
        Process(Arc::new(Inner { name, number, seam, gate, root: Mutex::default() }))
    }

    /// What it is called in the log.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Its tasks, time and randomness.
    pub fn seam(&self) -> &Seam {
        &self.0.seam
    }

    /// Runs this as what the process is for: when it ends, the process does.
    pub fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let me = Arc::downgrade(&self.0);
        let root = self.0.seam.spawn(async move {
            // A panic of it ends the process as well.
            let _end = EndOnDrop(me);
            work.await;
        });
        if self.is_alive() {
            *lock(&self.0.root) = Some(root);
        }
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        lock(&self.0.gate.state).run != Run::Ended
    }

    /// Ends it now, as SIGKILL does.
    pub fn kill(&self) {
        end(&self.0.gate);
        // Its tasks are dropped by the runtime, the tasks that they own with them.
        drop(lock(&self.0.root).take());
    }

    /// Ends it at its `steps`-th step from now: a poll of any of its tasks, or what it does on a disk.
    pub fn kill_after(&self, steps: u64) {
        lock(&self.0.gate.state).steps_left = Some(steps);
        let me = self.clone();
        // What it leaves is dropped outside its own poll.
        self.at_end(move || drop(lock(&me.0.root).take()));
    }

    /// It lives on: what [`kill_after`](Process::kill_after) ordered is not done any more.
    pub fn spare(&self) {
        lock(&self.0.gate.state).steps_left = None;
    }

    /// Stops all of its tasks until [`resume`](Process::resume), as SIGSTOP does.
    pub fn pause(&self) {
        let mut state = lock(&self.0.gate.state);
        if state.run == Run::Runs {
            state.run = Run::Paused;
        }
    }

    /// Lets them go on.
    pub fn resume(&self) {
        let waiting = {
            let mut state = lock(&self.0.gate.state);
            if state.run == Run::Paused {
                state.run = Run::Runs;
            }
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits for its end. Cancel-safe.
    pub async fn ended(&self) {
        let mut ended = std::pin::pin!(self.0.gate.ended.notified());
        ended.as_mut().enable();
        if self.is_alive() {
            ended.await;
        }
    }

    /// Does this when it ends; at once if it has.
    pub fn at_end(&self, work: impl FnOnce() + Send + 'static) {
        {
            let mut state = lock(&self.0.gate.state);
            if state.run != Run::Ended {
                state.at_end.push(Box::new(work));
                return;
            }
        }
        work();
    }

    /// One step that is no poll: whether the process lives on to make it.
    pub fn steps(&self) -> bool {
        self.0.gate.step()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.name)
    }
}

struct EndOnDrop(Weak<Inner>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            end(&inner.gate);
        }
    }
}

fn end(gate: &ProcessGate) {
    let at_end = {
        let mut state = lock(&gate.state);
        if state.run == Run::Ended {
            return;
        }
        state.run = Run::Ended;
        state.waiting.clear();
        std::mem::take(&mut state.at_end)
    };
    at_end.into_iter().for_each(|work| work());
    gate.ended.notify_waiters();
}

impl ProcessGate {
    fn step(&self) -> bool {
        {
            let mut state = lock(&self.state);
            if state.run == Run::Ended {
                return false;
            }
            match &mut state.steps_left {
                Some(0) => {}
                Some(left) => {
                    *left -= 1;
                    return true;
                }
                None => return true,
            }
        }
        end(self);
        false
    }
}

impl Gate for ProcessGate {
    fn poll_pass(&self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut state = lock(&self.state);
            match state.run {
                Run::Ended => return Poll::Pending,
                Run::Paused => {
                    let waker = cx.waker();
                    if !state.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
                        state.waiting.push(waker.clone());
                    }
                    return Poll::Pending;
                }
                Run::Runs => {}
            }
        }
        self.polls.so_far.fetch_add(1, Ordering::Relaxed);
        if self.polls.are_too_many() || !self.step() {
            return Poll::Pending;
        }
        log::speaks(&self.name);
        Poll::Ready(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
