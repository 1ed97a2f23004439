//! What a task's bolt holds: inputs taken as `Tracked` that are neither acked nor failed yet.
//!
//! Not here: sending what was decided (the executor). Invariant: a hold is settled exactly once: by ack, fail, drop or
//! time-out, whichever comes first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use crate::anchor::{Anchor, Edge, Root};
use crate::component::{Clock, SettledInput};
use crate::fail::{FailKind, FailReason};

/// The holds of one task; shared with its [`Grip`]s, which may be on any thread.
#[derive(Clone)]
pub struct Holds(Arc<Shared>);

struct Shared {
    component: Box<str>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    holds: Vec<Hold>,
    free: Vec<usize>,
    settled: Settled,
    /// How many fails were settled when the last input was taken: those that follow are of the call that took it.
    fails_before: usize,
    waker: Option<Waker>,
    /// Which of the bolt's subscriptions inputs are taken from now.
    subscription: usize,
}

#[derive(Default)]
struct Hold {
    /// Which use of this entry; a grip of an earlier use finds its hold settled.
    serial: u64,
    roots: Box<[Root]>,
    subscription: usize,
    taken_us: u64,
    /// When it was taken, or kept alive last.
    since_us: u64,
    /// Whether the owner was told that this is held for long.
    told: bool,
    open: bool,
}

impl Hold {
    fn settled(&self, acked: bool, now_us: u64) -> SettledInput {
        SettledInput { subscription: self.subscription, acked, took_us: now_us.saturating_sub(self.taken_us) }
    }
}

/// What the executor has to pass on.
#[derive(Default, Debug)]
pub struct Settled {
    /// Anchors to ack.
    pub acks: Vec<Anchor>,
    /// Roots to fail.
    pub fails: Vec<(Root, FailReason)>,
    /// Roots that are held for long or kept alive.
    pub held: Vec<Root>,
    /// The inputs that these were of.
    pub inputs: Vec<SettledInput>,
}

impl Holds {
    /// No holds yet, of a task of `component`.
    pub fn new(component: &str, clock: Arc<dyn Clock>) -> Self {
        Holds(Arc::new(Shared { component: component.into(), clock, state: Mutex::default() }))
    }

    /// The inputs that are taken from now on come by this subscription.
    pub(crate) fn take_from(&self, subscription: usize) {
        self.lock().subscription = subscription;
    }

    /// Takes hold of an input with these anchors.
    pub(crate) fn take(&self, anchors: &[Anchor]) -> Grip {
        let now_us = self.0.clock.now_us();
        let mut state = self.lock();
        let subscription = state.subscription;
        let hold = |serial| Hold {
            serial,
            roots: anchors.iter().map(|anchor| anchor.root).collect(),
            subscription,
            taken_us: now_us,
            since_us: now_us,
            told: false,
            open: true,
        };
        state.fails_before = state.settled.fails.len();
        let entry = match state.free.pop() {
            Some(entry) => {
                state.holds[entry] = hold(state.holds[entry].serial + 1);
                entry
            }
            None => {
                state.holds.push(hold(0));
                state.holds.len() - 1
            }
        };
        let serial = state.holds[entry].serial;
        let rests = anchors.iter().map(|anchor| (anchor.root, AtomicU64::new(anchor.edge.0))).collect();
        Grip { holds: self.clone(), entry, serial, rests, owner: true }
    }

    /// Takes what was settled since the last call; `waker` is woken by the next settlement.
    pub fn take_settled(&self, waker: &Waker, into: &mut Settled) {
        let mut state = self.lock();
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        state.fails_before = 0;
        let settled = &mut state.settled;
        into.acks.append(&mut settled.acks);
        into.fails.append(&mut settled.fails);
        into.held.append(&mut settled.held);
        into.inputs.append(&mut settled.inputs);
    }

    /// Fails what is held longer than `timeout_us`, and tells of what is held longer than `tell_after_us`.
    pub fn sweep(&self, timeout_us: Option<u64>, tell_after_us: u64) {
        let now = self.0.clock.now_us();
        let mut state = self.lock();
        let state = &mut *state;
        for (entry, hold) in state.holds.iter_mut().enumerate().filter(|(_, hold)| hold.open) {
            let held_for = now.saturating_sub(hold.since_us);
            if timeout_us.is_some_and(|timeout| held_for > timeout) {
                hold.open = false;
                let reason = FailReason::new(FailKind::TimedOut, &self.0.component, "");
                state.settled.fails.extend(hold.roots.iter().map(|root| (*root, reason.clone())));
                state.settled.inputs.push(hold.settled(false, now));
                state.free.push(entry);
            } else if held_for > tell_after_us && !hold.told {
                hold.told = true;
                state.settled.held.extend(hold.roots.iter());
            }
        }
        wake(state);
    }

    /// The reason for what was dropped since the last input was taken: `execute` returned this error for it.
    pub(crate) fn blame(&self, reason: &FailReason) {
        let mut state = self.lock();
        let State { settled, fails_before, .. } = &mut *state;
        let of_the_call = settled.fails.iter_mut().skip(*fails_before);
        for (_, dropped) in of_the_call.filter(|(_, known)| known.kind == FailKind::Dropped) {
            dropped.clone_from(reason);
        }
    }

    /// Fails everything that is held: the instance that held it is gone.
    pub fn fail_all(&self, reason: &FailReason) {
        let now = self.0.clock.now_us();
        let mut state = self.lock();
        let state = &mut *state;
        for (entry, hold) in state.holds.iter_mut().enumerate().filter(|(_, hold)| hold.open) {
            hold.open = false;
            state.settled.fails.extend(hold.roots.iter().map(|root| (*root, reason.clone())));
            state.settled.inputs.push(hold.settled(false, now));
            state.free.push(entry);
        }
        wake(state);
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.free.len() == state.holds.len()
    }

    /// How many inputs are held, and for how long the oldest, in microseconds.
    pub fn oldest(&self) -> (usize, u64) {
        let now = self.0.clock.now_us();
        let state = self.lock();
        let open = || state.holds.iter().filter(|hold| hold.open);
        (open().count(), open().map(|hold| now.saturating_sub(hold.since_us)).max().unwrap_or(0))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(state: &mut State) {
    let settled = &state.settled;
    if (!settled.acks.is_empty() || !settled.fails.is_empty() || !settled.held.is_empty() || !settled.inputs.is_empty())
        && let Some(waker) = state.waker.take()
    {
        waker.wake();
    }
}

/// One hold, as a `Tracked` owns it: its roots and what of their edges was not given to children.
pub struct Grip {
    holds: Holds,
    entry: usize,
    serial: u64,
    rests: Arc<[(Root, AtomicU64)]>,
    owner: bool,
}

impl Grip {
    /// The roots of the input.
    pub(crate) fn roots(&self) -> impl Iterator<Item = Root> {
        self.rests.iter().map(|(root, _)| *root)
    }

    /// The same rests, for who anchors to it; does not settle the hold.
    pub(crate) fn clone_reference(&self) -> Grip {
        Grip {
            holds: self.holds.clone(),
            entry: self.entry,
            serial: self.serial,
            rests: self.rests.clone(),
            owner: false,
        }
    }

    /// A child took this share of the root at `index`.
    pub(crate) fn take_off(&self, index: usize, share: u64) {
        self.rests[index].1.fetch_xor(share, Ordering::Relaxed);
    }

    pub(crate) fn keep_alive(&self) {
        let now = self.holds.0.clock.now_us();
        let mut state = self.holds.lock();
        if let Some(hold) = state.holds.get_mut(self.entry).filter(|hold| hold.open && hold.serial == self.serial) {
            hold.since_us = now;
            hold.told = true;
            state.settled.held.extend(self.roots());
            wake(&mut state);
        }
    }

    pub(crate) fn ack(mut self) {
        self.owner = false;
        let now_us = self.holds.0.clock.now_us();
        let mut state = self.holds.lock();
        if close(&mut state, self.entry, self.serial, true, now_us) {
            let anchor =
                |(root, rest): &(Root, AtomicU64)| Anchor { root: *root, edge: Edge(rest.load(Ordering::Relaxed)) };
            state.settled.acks.extend(self.rests.iter().map(anchor));
            wake(&mut state);
        }
    }

    pub(crate) fn fail(mut self, kind: FailKind, message: String) {
        self.owner = false;
        self.settle_as_failed(kind, message);
    }

    fn settle_as_failed(&self, kind: FailKind, message: String) {
        let reason = FailReason::new(kind, &self.holds.0.component, message);
        let now_us = self.holds.0.clock.now_us();
        let mut state = self.holds.lock();
        if close(&mut state, self.entry, self.serial, false, now_us) {
            state.settled.fails.extend(self.roots().map(|root| (root, reason.clone())));
            wake(&mut state);
        }
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        if self.owner {
            self.settle_as_failed(FailKind::Dropped, String::new());
        }
    }
}

/// Closes the hold if it is still open; false if a time-out was first.
fn close(state: &mut State, entry: usize, serial: u64, acked: bool, now_us: u64) -> bool {
    match state.holds.get_mut(entry) {
        Some(hold) if hold.open && hold.serial == serial => {
            hold.open = false;
            hold.roots = Box::default();
            state.settled.inputs.push(hold.settled(acked, now_us));
            state.free.push(entry);
            true
        }
        _ => false,
    }
}
