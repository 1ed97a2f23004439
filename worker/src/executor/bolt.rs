//! A bolt's executor: takes batches from its inbox, runs them through its tasks, hands on what they emit.
//!
//! Not here: spouts. Invariant: a batch taken from the inbox is executed to its end, by the next instance if one panics,
//! before the next is taken; so order is kept from task to task within a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use topology_api::batch::{AnyBatch, decode_anchors};
use topology_api::component::{AnyBolt, Ran, Turn};
use topology_api::context::{Metrics, Wake};
use topology_api::error::Error;
use topology_api::fail::{FailKind, FailReason};
use topology_api::holds::Settled;
use topology_api::ids::TaskId;

use super::{Core, ExecutorEvent, Phase, Stop};
use crate::inbox::{Content, Envelope, Inbox, WireBatch};
use crate::transfer::connection::LinkHandle;
use seam::Sleep;
use worker_api::report::Doing;

/// What is held for longer than this is told to the root's owner, so that it does not count against its window.
const TELL_HELD_US: u64 = 100_000;
/// How often held inputs are looked at, at least and at most.
const SWEEP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// A bolt's executor before it runs.
pub(crate) struct BoltExecutor {
    pub(crate) core: Core,
    pub(crate) inbox: Inbox,
    pub(crate) tasks: Vec<BoltSlot>,
    /// The subscription by which a stream comes: (emitting component, stream) → place.
    pub(crate) subscriptions: BTreeMap<(usize, u16), usize>,
    /// Links to the senders of other workers, which are granted permits for what is taken.
    pub(crate) links: Vec<Option<LinkHandle>>,
    /// Ends that a task waits for: of each task of each stream that does not close a cycle.
    pub(crate) awaited_ends: BTreeSet<(TaskId, u16)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) tick: Option<Duration>,
    /// When held inputs are looked at next; never while nothing is held.
    pub(crate) sweep_at_us: Option<u64>,
}

/// One task of the executor.
pub(crate) struct BoltSlot {
    pub(crate) task: TaskId,
    pub(crate) bolt: Box<dyn AnyBolt>,
    /// For each stream, the outlets that are told of the task's end.
    pub(crate) streams: Vec<Vec<u32>>,
    pub(crate) metrics: Metrics,
    /// Ends that came.
    pub(crate) ends: BTreeSet<(TaskId, u16)>,
    pub(crate) ended: bool,
    /// How a call in flight ended the bolt's instance, until that is dealt with.
    pub(crate) call_ended: Option<Ran>,
    /// Panics and failed starts since it last executed something well.
    pub(crate) failures: u32,
}

/// Why a bolt's executor wakes up.
enum Woken {
    Taken(Envelope),
    /// Calls in flight or held inputs were settled; output may be ready.
    Settled,
    Tick,
    Sweep,
    Stopping,
}

impl BoltExecutor {
    /// Runs until the topology stops or an error is fatal.
    pub(crate) async fn run(mut self) {
        let Err(stop) = self.work().await;
        if matches!(stop, Stop::Stopped) {
            for slot in &mut self.tasks {
                slot.bolt.cleanup();
            }
        }
        self.core.ended(stop);
    }

    async fn work(&mut self) -> Result<Infallible, Stop> {
        for slot in 0..self.tasks.len() {
            self.prepare(slot).await?;
        }
        (self.core.env.events)(ExecutorEvent::Ready);
        self.core.turn_us = self.core.now_us();
        let mut tick_at_us = self.tick.map(|tick| self.core.turn_us + tick.as_micros() as u64);
        let mut sleep = self.core.env.seam.sleep_slot();
        loop {
            match self.woken(&mut sleep, tick_at_us).await {
                Woken::Stopping => return Err(Stop::Stopped),
                Woken::Taken(envelope) => self.take(envelope).await?,
                Woken::Settled => self.settled().await?,
                Woken::Tick => {
                    // A late tick is not made up for by several.
                    let now_us = self.core.now_us();
                    tick_at_us = self.tick.map(|tick| now_us + tick.as_micros() as u64);
                    for slot in 0..self.tasks.len() {
                        if !self.tasks[slot].ended {
                            self.call(slot, |bolt, turn| bolt.tick(turn)).await?;
                        }
                    }
                }
                Woken::Sweep => self.sweep().await?,
            }
            self.hand_on_what_is_open().await?;
            self.finish_ended().await?;
            self.plan_sweep();
            self.core.yield_if_due().await?;
        }
    }

    /// Calls `prepare` until it is well.
    async fn prepare(&mut self, slot: usize) -> Result<(), Stop> {
        loop {
            let BoltSlot { task, bolt, metrics, .. } = &mut self.tasks[slot];
            let context = self.core.context(*task, metrics.clone(), Wake::new(|| {}));
            let Err(error) = bolt.prepare(&context) else { return Ok(()) };
            self.tasks[slot].failures += 1;
            let failures = self.tasks[slot].failures;
            self.core.failed_to_start("prepare", error, failures).await?;
            let reason = FailReason::new(FailKind::Failed, self.core.name(), "prepare failed");
            self.tasks[slot].bolt.restart(&reason, &mut self.core.turn());
        }
    }

    /// Waits for something to do.
    async fn woken(&mut self, sleep: &mut Sleep, tick_at_us: Option<u64>) -> Woken {
        let timer_us = [tick_at_us, self.sweep_at_us].into_iter().flatten().min();
        if let Some(envelope) = self.take_at_once(timer_us) {
            return Woken::Taken(envelope);
        }
        let mut phase = self.core.phase.clone();
        let mut stopping = pin!(phase.wait_for(|phase| *phase == Phase::Stopping));
        let mut waited = false;
        poll_fn(|cx| {
            if stopping.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::Stopping);
            }
            if self.poll_settled(cx) {
                return Poll::Ready(Woken::Settled);
            }
            if let Some(at_us) = timer_us
                && sleep.poll_until(self.core.env.clock.instant(at_us), cx).is_ready()
            {
                return Poll::Ready(if tick_at_us == Some(at_us) { Woken::Tick } else { Woken::Sweep });
            }
            if let Poll::Ready(envelope) = self.inbox.poll_take(cx) {
                if waited {
                    self.core.turn_us = self.core.now_us();
                }
                return Poll::Ready(Woken::Taken(envelope));
            }
            if !waited {
                waited = true;
                let ended = self.tasks.iter().all(|slot| slot.ended);
                let now_us = self.core.now_us();
                self.core.stats.doing(if ended { Doing::Ended } else { Doing::Idle }, now_us);
            }
            Poll::Pending
        })
        .await
    }

    /// What waits in the inbox, if nothing else could come before it.
    fn take_at_once(&mut self, timer_us: Option<u64>) -> Option<Envelope> {
        let settles_later = |slot: &BoltSlot| slot.bolt.in_flight() > 0 || slot.bolt.holds().is_some();
        let is_due = timer_us.is_some_and(|at_us| at_us <= self.core.seen_us);
        let stops = self.core.phase.is_changed() && self.core.phase.see() == Phase::Stopping;
        if is_due || stops || self.tasks.iter().any(settles_later) {
            return None;
        }
        self.inbox.take()
    }

    /// Takes what `Tracked` inputs and calls in flight settled; whether there was anything.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        for slot in &mut self.tasks {
            if let Some(holds) = slot.bolt.holds() {
                let mut settled = Settled::default();
                holds.take_settled(cx.waker(), &mut settled);
                any |= take_settled(settled, &mut self.core);
            }
            let calls = slot.bolt.in_flight();
            if calls == 0 {
                continue;
            }
            let in_flight = slot.bolt.poll_in_flight(cx, &mut self.core.turn());
            any |= in_flight.calls < calls || in_flight.ended.is_some();
            slot.call_ended = slot.call_ended.take().or(in_flight.ended);
        }
        any
    }

    /// Hands on what was settled without a batch, and replaces instances that a call in flight has ended.
    async fn settled(&mut self) -> Result<(), Stop> {
        let now_us = self.core.now_us();
        for slot in 0..self.tasks.len() {
            let BoltSlot { task, bolt, call_ended, .. } = &mut self.tasks[slot];
            let ended = call_ended.take();
            bolt.output().route(&mut self.core.turn(), false);
            self.core.hand_on(*task, now_us).await?;
            match ended {
                None => self.pull(slot).await?,
                Some(Ran::Fatal(error)) => return Err(Stop::Fatal(error)),
                Some(Ran::Panicked(text)) => self.restart(slot, &text).await?,
                Some(Ran::Done | Ran::Paused | Ran::Full) => {}
            }
        }
        Ok(())
    }

    async fn take(&mut self, envelope: Envelope) -> Result<(), Stop> {
        let Envelope { to, source, stream, content } = envelope;
        if !matches!(content, Content::Batch(_)) {
            // What is not executed takes time as well, after which others have their turn.
            self.core.now_us();
        }
        if let Content::Wire(WireBatch { from: Some(from), payload, tuples, .. }) = &content
            && let Some(Some(link)) = self.links.get(usize::from(from.0))
        {
            link.consumed(to, u64::from(*tuples), payload.len() as u64);
        }
        let slot = self.tasks.iter().position(|slot| slot.task == to);
        let emitting = self.core.env.component_of(source);
        let (Some(slot), Some(emitting)) = (slot, emitting) else { return Ok(()) };
        let Some(subscription) = self.subscriptions.get(&(emitting, stream)).copied() else { return Ok(()) };
        match content {
            Content::End => {
                self.tasks[slot].ends.insert((source, stream));
                Ok(())
            }
            Content::Batch(batch) => self.execute(slot, subscription, source, batch).await,
            Content::Wire(wire) => match self.decode(emitting, stream, wire) {
                Some(batch) => self.execute(slot, subscription, source, batch).await,
                None => Ok(()),
            },
        }
    }

    /// Reads a batch that came as bytes; if it cannot be read, its roots fail.
    fn decode(&mut self, emitting: usize, stream: u16, wire: WireBatch) -> Option<Box<dyn AnyBatch>> {
        let WireBatch { payload, receiver, tuples, .. } = wire;
        let info = &self.core.env.topology.components()[emitting].streams()[usize::from(stream)];
        match (info.decode)(&payload, receiver, tuples as usize) {
            Ok(batch) => Some(batch),
            Err(error) => {
                let said = format!("a batch of stream `{}`: {error}", info.name);
                let reason = FailReason::new(FailKind::Malformed, self.core.name(), &said);
                if let Ok((anchors, _)) = decode_anchors(&payload, receiver, tuples as usize) {
                    anchors.for_each(|anchor| self.core.settling.fail(anchor.root, &reason));
                }
                self.core.stats.count(|counts| counts.malformed += 1);
                self.core.stats.error(format!("could not read {said}"), self.core.seen_us);
                None
            }
        }
    }

    /// Runs a batch to its end.
    async fn execute(
        &mut self,
        slot: usize,
        subscription: usize,
        source: TaskId,
        batch: Box<dyn AnyBatch>,
    ) -> Result<(), Stop> {
        let mut batch = self.tasks[slot].bolt.admit(subscription, batch);
        let task = self.tasks[slot].task;
        loop {
            let began_us = self.core.seen_us;
            let taken = batch.taken();
            self.core.stats.executes(batch.anchors(), began_us);
            let bolt = &mut self.tasks[slot].bolt;
            let ran = bolt.execute(subscription, source, &mut *batch, &mut self.core.turn());
            let to = batch.taken();
            self.core.note(format_args!("task {task} executes {taken}..{to} from task {source}"));
            if let Some(holds) = self.tasks[slot].bolt.holds() {
                let mut settled = Settled::default();
                holds.take_settled(Waker::noop(), &mut settled);
                take_settled(settled, &mut self.core);
            }
            self.core.hand_on_from(task, Some(subscription), began_us).await?;
            match ran {
                Ran::Done => {
                    self.tasks[slot].failures = 0;
                    return self.pull(slot).await;
                }
                Ran::Paused => {
                    self.pull(slot).await?;
                    self.hand_on_if_overdue(slot).await?;
                    self.core.yield_if_due().await?;
                }
                Ran::Full => self.wait_for_calls(slot).await?,
                Ran::Panicked(text) => {
                    if batch.taken() > taken + 1 {
                        self.tasks[slot].failures = 0;
                    }
                    self.restart(slot, &text).await?;
                }
                Ran::Fatal(error) => return Err(Stop::Fatal(error)),
            }
        }
    }

    /// Takes all that open iterators give, as fast as it is delivered.
    async fn pull(&mut self, slot: usize) -> Result<(), Stop> {
        match self.pull_all(slot).await? {
            None => Ok(()),
            Some(text) => self.restart(slot, &text).await,
        }
    }

    /// The same; gives the text of a panic.
    async fn pull_all(&mut self, slot: usize) -> Result<Option<String>, Stop> {
        while self.tasks[slot].bolt.output().pulls() {
            let began_us = self.core.seen_us;
            let BoltSlot { task, bolt, .. } = &mut self.tasks[slot];
            let ran = bolt.output().pull(&mut self.core.turn());
            self.core.hand_on(*task, began_us).await?;
            match ran {
                Ran::Paused => self.core.yield_if_due().await?,
                Ran::Panicked(text) => return Ok(Some(text)),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Waits until a call in flight has returned.
    async fn wait_for_calls(&mut self, slot: usize) -> Result<(), Stop> {
        self.flush(slot).await?;
        self.core.stats.doing(Doing::WaitingForCalls, self.core.seen_us);
        let mut sleep = self.core.env.seam.sleep_slot();
        loop {
            self.plan_sweep();
            let sweep_at_us = self.sweep_at_us;
            let mut phase = self.core.phase.clone();
            let mut stopping = pin!(phase.wait_for(|phase| *phase == Phase::Stopping));
            let woken = poll_fn(|cx| {
                if stopping.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Woken::Stopping);
                }
                if self.poll_settled(cx) {
                    return Poll::Ready(Woken::Settled);
                }
                match sweep_at_us.map(|at_us| sleep.poll_until(self.core.env.clock.instant(at_us), cx)) {
                    Some(Poll::Ready(())) => Poll::Ready(Woken::Sweep),
                    _ => Poll::Pending,
                }
            })
            .await;
            match woken {
                Woken::Stopping => return Err(Stop::Stopped),
                Woken::Sweep => self.sweep().await?,
                _ => {
                    self.core.turn_us = self.core.now_us();
                    return self.settled().await;
                }
            }
        }
    }

    /// Puts a new instance in the place of one that panicked.
    async fn restart(&mut self, slot: usize, text: &str) -> Result<(), Stop> {
        let task = self.tasks[slot].task;
        tracing::error!(component = self.core.name(), task = task.0, panic = text, "a bolt panicked and is replaced");
        self.core.stats.count(|counts| counts.restarts += 1);
        let reason = FailReason::new(FailKind::Panicked, self.core.name(), text);
        self.tasks[slot].bolt.restart(&reason, &mut self.core.turn());
        let began_us = self.core.now_us();
        self.core.hand_on(task, began_us).await?;
        self.tasks[slot].failures += 1;
        let failures = self.tasks[slot].failures;
        if failures > 1 {
            self.core.pause(failures - 1).await?;
        }
        self.prepare(slot).await
    }

    /// A call that takes no tuple.
    async fn call(
        &mut self,
        slot: usize,
        call: impl FnOnce(&mut Box<dyn AnyBolt>, &mut Turn<'_>) -> Ran,
    ) -> Result<(), Stop> {
        let began_us = self.core.now_us();
        self.core.stats.doing(Doing::Executing, began_us);
        let BoltSlot { task, bolt, .. } = &mut self.tasks[slot];
        let ran = call(bolt, &mut self.core.turn());
        self.core.hand_on(*task, began_us).await?;
        match ran {
            Ran::Panicked(text) => self.restart(slot, &text).await,
            Ran::Fatal(error) => Err(Stop::Fatal(error)),
            _ => self.pull(slot).await,
        }
    }

    /// Hands on everything when nothing waits, else what has been open for long.
    async fn hand_on_what_is_open(&mut self) -> Result<(), Stop> {
        let idle = self.inbox.is_empty();
        for slot in 0..self.tasks.len() {
            if idle {
                self.flush(slot).await?;
            } else {
                self.hand_on_if_overdue(slot).await?;
            }
            let BoltSlot { task, bolt, .. } = &mut self.tasks[slot];
            if self.core.stats.emits() {
                self.core.stats.outputs(*task, |outputs| bolt.output().counts(outputs));
            }
        }
        Ok(())
    }

    async fn hand_on_if_overdue(&mut self, slot: usize) -> Result<(), Stop> {
        let holds_output = self.tasks[slot].bolt.output().holds_tuples();
        if self.core.is_overdue(holds_output) { self.flush(slot).await } else { Ok(()) }
    }

    async fn flush(&mut self, slot: usize) -> Result<(), Stop> {
        if !self.tasks[slot].bolt.output().holds_tuples() {
            return Ok(());
        }
        let began_us = self.core.now_us();
        let BoltSlot { task, bolt, .. } = &mut self.tasks[slot];
        bolt.output().route(&mut self.core.turn(), true);
        self.core.hand_on(*task, began_us).await?;
        self.core.open_since_us = None;
        Ok(())
    }

    async fn sweep(&mut self) -> Result<(), Stop> {
        self.sweep_at_us = None;
        let timeout_us = self.timeout.map(|timeout| timeout.as_micros() as u64);
        for slot in &mut self.tasks {
            slot.bolt.sweep(timeout_us, TELL_HELD_US, &mut self.core.turn());
        }
        self.settled().await
    }

    /// Says when held inputs are to be looked at, if any are.
    fn plan_sweep(&mut self) {
        let holds =
            |slot: &BoltSlot| slot.bolt.in_flight() > 0 || slot.bolt.holds().is_some_and(|holds| !holds.is_empty());
        if self.sweep_at_us.is_none() && self.tasks.iter().any(holds) {
            let every = self.timeout.map_or(SWEEP.1, |timeout| (timeout / 8).clamp(SWEEP.0, SWEEP.1));
            self.sweep_at_us = Some(self.core.seen_us + every.as_micros() as u64);
        }
    }

    /// Calls `finish`. A panic in it, or in what it gave to be emitted, is the run's end: a new instance has not what the
    /// old one had left to do.
    async fn finish(&mut self, slot: usize) -> Result<(), Stop> {
        let began_us = self.core.now_us();
        self.core.stats.doing(Doing::Executing, began_us);
        let BoltSlot { task, bolt, .. } = &mut self.tasks[slot];
        let ran = bolt.finish(&mut self.core.turn());
        self.core.hand_on(*task, began_us).await?;
        let panicked = match ran {
            Ran::Fatal(error) => return Err(Stop::Fatal(error)),
            Ran::Panicked(text) => Some(text),
            _ => self.pull_all(slot).await?,
        };
        match panicked {
            None => Ok(()),
            Some(text) => Err(Stop::Fatal(Error::fatal(format!("panicked in `finish`: {text}")))),
        }
    }

    /// Calls `finish` of tasks whose input has ended, and passes the end on.
    async fn finish_ended(&mut self) -> Result<(), Stop> {
        for slot in 0..self.tasks.len() {
            let BoltSlot { ended, bolt, ends, .. } = &self.tasks[slot];
            let all_came = !self.awaited_ends.is_empty() && self.awaited_ends.is_subset(ends);
            if *ended || !all_came || bolt.in_flight() > 0 {
                continue;
            }
            self.finish(slot).await?;
            self.flush(slot).await?;
            let BoltSlot { task, bolt, streams, ended, .. } = &mut self.tasks[slot];
            *ended = true;
            self.core.stats.outputs(*task, |outputs| bolt.output().counts(outputs));
            self.core.tell_end(*task, streams);
            if self.tasks.iter().all(|slot| slot.ended) {
                self.core.stats.doing(Doing::Ended, self.core.seen_us);
                (self.core.env.events)(ExecutorEvent::Ended);
            }
        }
        Ok(())
    }
}

/// Puts what `Tracked` inputs settled into the executor's outbox; whether there was anything.
fn take_settled(settled: Settled, core: &mut Core) -> bool {
    let any =
        !settled.acks.is_empty() || !settled.fails.is_empty() || !settled.held.is_empty() || !settled.inputs.is_empty();
    core.tally.settled.extend(settled.inputs);
    core.outbox.acks.extend(settled.acks);
    core.outbox.fails.extend(settled.fails);
    core.outbox.held.extend(settled.held);
    any
}
