//! A spout's executor: asks its tasks for tuples while there is room for them, and tells them what became of theirs.
//!
//! Not here: which roots may be pending (`acking`). Invariant: a spout is told of an outcome before it is asked for more,
//! so that what failed can go first.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use mutations::Mutation;
use topology_api::anchor::{Anchor, EdgeIds, Root, Slot};
use topology_api::component::{AnySpout, Panicked, Ran, Said};
use topology_api::context::{Metrics, Wake};
use topology_api::fail::{FailKind, FailReason};
use topology_api::ids::TaskId;
use topology_api::spout::OpenRoots;

use super::{Core, ExecutorEvent, Phase, Stop, pause_after};
use crate::acking::{Ended, Interval, Outcomes, Pending, Window};
use worker_api::report::Doing;

/// Least time between two looks for roots that stand still.
const AUDIT_US: u64 = 1_000_000;

/// A spout's executor before it runs.
pub(crate) struct SpoutExecutor {
    pub(crate) core: Core,
    pub(crate) tasks: Vec<SpoutSlot>,
    pub(crate) wake: Arc<WakeFlag>,
}

/// One task of the executor.
pub(crate) struct SpoutSlot {
    pub(crate) task: TaskId,
    pub(crate) spout: Box<dyn AnySpout>,
    pub(crate) streams: Vec<Vec<u32>>,
    pub(crate) metrics: Metrics,
    /// `None` if trees are not tracked.
    pub(crate) pending: Option<Pending>,
    /// What the ledger told and the spout does not know yet.
    pub(crate) outcomes: Outcomes,
    pub(crate) window: Window,
    pub(crate) state: Asking,
    pub(crate) opened: bool,
    pub(crate) active: bool,
    pub(crate) failures: u32,
    /// What was acked since the window was last told.
    pub(crate) interval: Interval,
    pub(crate) told_window_us: u64,
}

/// Whether a spout is to be asked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Asking {
    /// Now.
    Now,
    /// Not before this time, unless something comes.
    At(u64),
    /// Not before this time, whatever comes: its last `next` failed.
    Pausing(u64),
    /// It said that there is nothing more.
    Done,
    /// … and all that it emitted is settled: its receivers know.
    Ended,
}

/// Set by a source's [`Wake`], from any thread.
#[derive(Default)]
pub(crate) struct WakeFlag {
    set: AtomicBool,
    waker: AtomicWaker,
}

impl WakeFlag {
    fn handle(self: &Arc<Self>) -> Wake {
        let flag = self.clone();
        Wake::new(move || {
            flag.set.store(true, Ordering::Release);
            flag.waker.wake();
        })
    }

    fn take(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.was_set()
    }

    fn was_set(&self) -> bool {
        self.set.load(Ordering::Relaxed) && self.set.swap(false, Ordering::AcqRel)
    }
}

/// The owner of the pending roots, as the spout's emitting sees it.
struct Opener<'a> {
    pending: &'a mut Pending,
    now_us: u64,
}

impl OpenRoots for Opener<'_> {
    fn open(&mut self, count: usize, edges: &mut EdgeIds, anchors: &mut Vec<Anchor>) -> usize {
        self.pending.open(count, self.now_us, edges, anchors)
    }

    fn open_one(&mut self) -> Option<Root> {
        self.pending.open_one(self.now_us)
    }

    fn set_word(&mut self, root: Root, word: u64) {
        self.pending.set_word(root, topology_api::anchor::Edge(word));
    }
}

impl SpoutExecutor {
    /// Runs until the topology stops or an error is fatal.
    pub(crate) async fn run(mut self) {
        let Err(stop) = self.work().await;
        self.close(matches!(stop, Stop::Stopped));
        self.core.ended(stop);
    }

    async fn work(&mut self) -> Result<Infallible, Stop> {
        (self.core.env.events)(ExecutorEvent::Ready);
        self.core.turn_us = self.core.now_us();
        let mut ended = Ended::default();
        let mut audit_us = self.core.turn_us;
        let mut phase = self.core.phase.see();
        loop {
            if self.core.phase.is_changed() {
                phase = self.core.phase.see();
            }
            if phase == Phase::Stopping {
                return Err(Stop::Stopped);
            }
            for slot in 0..self.tasks.len() {
                self.tell_outcomes(slot, &mut ended).await?;
                self.set_active(slot, phase == Phase::Active).await?;
            }
            // Also while another task of the executor keeps it busy.
            if self.wake.was_set() {
                self.ask_idle_ones();
            }
            let mut asked = false;
            for slot in 0..self.tasks.len() {
                asked |= self.ask(slot).await?;
            }
            self.tell_windows();
            let now_us = self.core.seen_us;
            if now_us >= audit_us + AUDIT_US {
                audit_us = now_us;
                for slot in 0..self.tasks.len() {
                    if let Some(pending) = &mut self.tasks[slot].pending {
                        pending.audit(now_us, &mut ended);
                    }
                    self.tell(slot, &mut ended).await?;
                }
            }
            if asked {
                self.core.yield_if_due().await?;
            } else {
                self.woken().await;
            }
        }
    }

    /// Takes what became of a task's roots and tells its spout.
    async fn tell_outcomes(&mut self, slot: usize, ended: &mut Ended) -> Result<(), Stop> {
        let SpoutSlot { pending: Some(pending), outcomes, .. } = &mut self.tasks[slot] else { return Ok(()) };
        if outcomes.is_empty() {
            pending.ledger().take_outcomes(outcomes);
            if outcomes.is_empty() {
                return Ok(());
            }
        }
        pending.take(outcomes, self.core.seen_us, ended);
        self.tell(slot, ended).await
    }

    async fn tell(&mut self, slot: usize, ended: &mut Ended) -> Result<(), Stop> {
        if ended.acked.is_empty() && ended.failed.is_empty() {
            return Ok(());
        }
        let SpoutSlot { task, interval, .. } = &mut self.tasks[slot];
        if !ended.acked.is_empty() {
            let runs = ended.acked.chunk_by(|one, next| one.latency_us == next.latency_us);
            self.core.stats.completed(runs.map(|run| (u64::from(run[0].latency_us), run.len() as u64)));
            interval.completed += ended.acked.len() as u64;
            interval.latency_sum_us += ended.acked.iter().map(|acked| u64::from(acked.latency_us)).sum::<u64>();
            let roots = ended.acked.len();
            self.core.note(format_args!("task {task} hears {roots} acks"));
            let mut slots: VecDeque<Slot> = ended.acked.drain(..).map(|acked| acked.slot).collect();
            // After a panic the next instance hears the rest.
            while let Err(Panicked(text)) = self.tasks[slot].spout.ack(&mut slots) {
                self.restart(slot, &text).await?;
            }
        }
        for failed in ended.failed.drain(..) {
            let SpoutSlot { task, spout, state, .. } = &mut self.tasks[slot];
            let (root, reason) = (failed.root, &failed.reason);
            self.core.note(format_args!("task {task} hears {root} fail: {reason}"));
            self.core.stats.count(|counts| {
                counts.failed += 1;
                *counts.failed_by_kind.entry(failed.reason.kind).or_default() += 1;
            });
            if failed.reason.kind == FailKind::Stalled {
                tracing::error!(root = %failed.root, "a root stood still and is failed: this is a fault of the runtime");
            }
            let heard = spout.fail(failed.root.slot(), &failed.reason);
            // A spout that was done, or had nothing, may have it again now.
            if !matches!(state, Asking::Ended | Asking::Pausing(_)) {
                *state = Asking::Now;
            }
            if let Err(Panicked(text)) = heard {
                self.restart(slot, &text).await?;
            }
        }
        if let Asking::At(_) = self.tasks[slot].state {
            self.tasks[slot].state = Asking::Now;
        }
        let all = self.pending_of_all();
        self.core.stats.count(|counts| (counts.pending, counts.held, counts.window) = all);
        Ok(())
    }

    /// What is pending and held, and the windows: of all tasks, as who drains waits for all of them.
    fn pending_of_all(&self) -> (u64, u64, u64) {
        let (mut all, mut held, mut window) = (0, 0, 0);
        for slot in &self.tasks {
            window += u64::from(slot.window.limit());
            if let Some(pending) = &slot.pending {
                all += pending.pending() as u64;
                held += pending.held() as u64;
            }
        }
        (all, held, window)
    }

    /// Opens a spout when it is first activated; tells it of each change.
    async fn set_active(&mut self, slot: usize, active: bool) -> Result<(), Stop> {
        if active && !self.tasks[slot].opened {
            self.open(slot).await?;
        }
        let SpoutSlot { spout, opened, active: known, .. } = &mut self.tasks[slot];
        if !*opened || *known == active {
            return Ok(());
        }
        *known = active;
        match spout.set_active(active) {
            Ok(()) => Ok(()),
            Err(Panicked(text)) => self.restart(slot, &text).await,
        }
    }

    async fn open(&mut self, slot: usize) -> Result<(), Stop> {
        loop {
            let wake = self.wake.handle();
            let SpoutSlot { task, spout, metrics, .. } = &mut self.tasks[slot];
            let context = self.core.context(*task, metrics.clone(), wake);
            let Err(error) = spout.open(&context) else {
                self.tasks[slot].opened = true;
                return Ok(());
            };
            self.tasks[slot].failures += 1;
            let failures = self.tasks[slot].failures;
            self.core.failed_to_start("open", error, failures).await?;
            self.tasks[slot].spout.restart();
        }
    }

    /// Roots that a task may open now.
    fn room(slot: &mut SpoutSlot) -> usize {
        match &slot.pending {
            Some(pending) => slot.window.room(pending.pending(), pending.held()),
            None => usize::MAX,
        }
    }

    /// Asks a task for tuples if it may have some; whether it was asked.
    async fn ask(&mut self, slot: usize) -> Result<bool, Stop> {
        let now_us = self.core.seen_us;
        let it = &mut self.tasks[slot];
        let due = match it.state {
            Asking::Now => true,
            Asking::At(at_us) | Asking::Pausing(at_us) => now_us >= at_us,
            Asking::Done => return self.end_if_settled(slot).await.map(|()| false),
            Asking::Ended => false,
        };
        let room = Self::room(it);
        if !it.active || !due || room == 0 {
            if it.active && due {
                self.core.stats.doing(Doing::WaitingForPending, now_us);
            }
            // What it had more to add to waits for nothing now: its roots would be pending for ever.
            if it.spout.output().holds_tuples() {
                self.hand_on(slot, true, now_us).await?;
            }
            return Ok(false);
        }
        self.core.stats.doing(Doing::Executing, now_us);
        if mutations::on(Mutation::EdgeByEdge)
            && let Some(pending) = &mut it.pending
        {
            // Who has got the tuples of the last call has run meanwhile.
            pending.add_late();
        }
        let mut opener = it.pending.as_mut().map(|pending| Opener { pending, now_us });
        let ledger = opener.as_mut().map(|opener| opener as &mut dyn OpenRoots);
        let asked = it.spout.next(room, ledger, &mut self.core.turn());
        let more = matches!(asked.said, Said::More) && asked.roots < room;
        it.failures = match asked.said {
            Said::Failed(_) | Said::Panicked(_) if asked.roots == 0 => it.failures,
            _ => 0,
        };
        let after = |pause: Duration| now_us.saturating_add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
        let mut stop = Ok(true);
        match asked.said {
            Said::More => it.state = Asking::Now,
            Said::Idle(pause) => it.state = Asking::At(after(pause)),
            Said::Done => it.state = Asking::Done,
            Said::Failed(error) => {
                it.failures += 1;
                it.state = Asking::Pausing(after(pause_after(it.failures)));
                tracing::warn!(component = self.core.name(), %error, "a spout's next failed");
                self.core.stats.error(error.to_string(), now_us);
            }
            Said::Fatal(error) => stop = Err(Stop::Fatal(error)),
            Said::Panicked(text) => {
                self.hand_on(slot, true, now_us).await?;
                self.restart(slot, &text).await?;
                return Ok(true);
            }
        }
        let roots = asked.roots;
        if self.tasks[slot].pending.is_none() {
            // Without tracking a root counts as acked once it is emitted.
            self.core.stats.count(|counts| counts.acked += roots as u64);
        }
        let task = self.tasks[slot].task;
        self.core.note(format_args!("task {task} opens {roots} roots"));
        self.hand_on(slot, !more, now_us).await?;
        self.pull(slot).await?;
        self.end_if_settled(slot).await?;
        stop
    }

    /// Hands on what a task emitted: all of it, or what is full and what has been open for long.
    async fn hand_on(&mut self, slot: usize, all: bool, began_us: u64) -> Result<(), Stop> {
        let SpoutSlot { task, spout, .. } = &mut self.tasks[slot];
        let task = *task;
        if all || self.core.is_overdue(spout.output().holds_tuples()) {
            spout.output().route(&mut self.core.turn(), true);
            self.core.open_since_us = None;
        }
        self.core.hand_on(task, began_us).await?;
        let all = self.pending_of_all();
        let spout = &mut self.tasks[slot].spout;
        self.core.stats.asked(task, |outputs, counts| {
            spout.output().counts(outputs);
            (counts.pending, counts.held, counts.window) = all;
        });
        Ok(())
    }

    async fn pull(&mut self, slot: usize) -> Result<(), Stop> {
        while self.tasks[slot].spout.output().pulls() {
            let began_us = self.core.seen_us;
            let SpoutSlot { task, spout, .. } = &mut self.tasks[slot];
            let ran = spout.output().pull(&mut self.core.turn());
            self.core.hand_on(*task, began_us).await?;
            match ran {
                Ran::Paused => self.core.yield_if_due().await?,
                Ran::Panicked(text) => return self.restart(slot, &text).await,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// A new instance for one that panicked; it hears what becomes of the roots that are pending.
    async fn restart(&mut self, slot: usize, text: &str) -> Result<(), Stop> {
        let task = self.tasks[slot].task;
        tracing::error!(component = self.core.name(), task = task.0, panic = text, "a spout panicked and is replaced");
        self.core.stats.error(format!("panicked: {text}"), self.core.seen_us);
        self.core.stats.count(|counts| counts.restarts += 1);
        let it = &mut self.tasks[slot];
        it.spout.restart();
        (it.opened, it.active, it.state) = (false, false, Asking::Now);
        it.failures += 1;
        let failures = it.failures;
        if failures > 1 {
            self.core.pause(failures - 1).await?;
        }
        // At once, also while the topology is inactive: outcomes are told to open spouts only.
        self.open(slot).await
    }

    /// A spout that is done and has nothing pending has ended: its receivers are told, behind its last tuples.
    async fn end_if_settled(&mut self, slot: usize) -> Result<(), Stop> {
        let it = &mut self.tasks[slot];
        if it.state != Asking::Done || it.pending.as_ref().is_some_and(|pending| pending.pending() > 0) {
            return Ok(());
        }
        it.state = Asking::Ended;
        let began_us = self.core.now_us();
        self.hand_on(slot, true, began_us).await?;
        let SpoutSlot { task, streams, .. } = &self.tasks[slot];
        self.core.tell_end(*task, streams);
        if self.tasks.iter().all(|slot| slot.state == Asking::Ended) {
            self.core.stats.doing(Doing::Ended, began_us);
            (self.core.env.events)(ExecutorEvent::Ended);
        }
        Ok(())
    }

    fn tell_windows(&mut self) {
        let now_us = self.core.seen_us;
        for slot in &mut self.tasks {
            if now_us - slot.told_window_us >= Window::INTERVAL_US {
                slot.told_window_us = now_us;
                slot.window.observe(now_us, std::mem::take(&mut slot.interval));
            }
        }
    }

    /// A source has said that there is something to read.
    fn ask_idle_ones(&mut self) {
        for slot in self.tasks.iter_mut().filter(|slot| matches!(slot.state, Asking::At(_))) {
            slot.state = Asking::Now;
        }
    }

    /// Waits for an outcome, a wake, another phase, or the time at which a task is to be asked again.
    async fn woken(&mut self) {
        let now_us = self.core.now_us();
        let mut ask_at_us = None;
        let mut waits_for_pending = false;
        for slot in self.tasks.iter_mut().filter(|slot| slot.active) {
            let at_us = match slot.state {
                Asking::Now => 0,
                Asking::At(at_us) | Asking::Pausing(at_us) => at_us,
                Asking::Done | Asking::Ended => continue,
            };
            // Only a task that would be asked now counts its window as standing in the way; it waits for outcomes.
            if at_us <= now_us && Self::room(slot) == 0 {
                waits_for_pending = true;
            } else {
                ask_at_us = Some(ask_at_us.map_or(at_us, |known: u64| known.min(at_us)));
            }
        }
        // Pending roots are looked over for such as stand still, so it wakes up for that, rarely.
        let pending = self.tasks.iter().any(|slot| slot.pending.as_ref().is_some_and(|pending| pending.pending() > 0));
        let audit_at_us = pending.then_some(now_us + AUDIT_US);
        let at_us = ask_at_us.into_iter().chain(audit_at_us).min();
        let doing = if self.tasks.iter().all(|slot| slot.state == Asking::Ended) {
            Doing::Ended
        } else if !self.tasks.iter().any(|slot| slot.active) {
            Doing::Inactive
        } else if waits_for_pending {
            Doing::WaitingForPending
        } else {
            Doing::Idle
        };
        self.core.stats.doing(doing, now_us);
        let mut sleep = self.core.env.seam.sleep_slot();
        let mut phase = self.core.phase.clone();
        let mut changed = std::pin::pin!(phase.changed());
        poll_fn(|cx| {
            if changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut any = false;
            if self.wake.take(cx.waker()) {
                any = true;
                self.ask_idle_ones();
            }
            for slot in &mut self.tasks {
                if let Some(pending) = &slot.pending {
                    any |= pending.ledger().poll_outcomes(cx, &mut slot.outcomes).is_ready();
                }
            }
            if any {
                return Poll::Ready(());
            }
            at_us.map_or(Poll::Pending, |at_us| sleep.poll_until(self.core.env.clock.instant(at_us), cx))
        })
        .await;
        self.core.turn_us = self.core.now_us();
    }

    /// Fails what is pending, and closes the spouts if the stop is an orderly one.
    fn close(&mut self, orderly: bool) {
        let reason = FailReason::new(FailKind::Stopped, "", "");
        for slot in &mut self.tasks {
            if orderly && slot.opened && slot.active {
                let _ = slot.spout.set_active(false);
            }
            let mut ended = Ended::default();
            if let Some(pending) = &mut slot.pending {
                pending.fail_all(&reason, &mut ended);
            }
            for failed in ended.failed {
                let _ = slot.spout.fail(failed.root.slot(), &failed.reason);
            }
            if orderly && slot.opened {
                slot.spout.close();
            }
        }
    }
}
