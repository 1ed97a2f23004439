//! Executors: each runs the tasks of one component that were given to it, one batch at a time, as one task of the runtime.
//!
//! Not here: the component's code and how a batch goes through it (`topology_api::component`). Invariant: an executor waits
//! only for its inbox, for room at its receivers, for time, and for its own calls in flight; acks are handed over before it
//! waits for any of them.

pub(crate) mod bolt;
pub(crate) mod spout;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use topology_api::component::{Clock, Tally, Turn};
use topology_api::context::{Context, ContextParts, FencingToken, Metrics, Wake};
use topology_api::error::{Error, Severity};
use topology_api::ids::TaskId;
use topology_api::output::Outbox;
use topology_api::topology::Topology;

use crate::journal::Journal;
use crate::outlets::{Delivery, Outlets};
use crate::settling::Settling;
use crate::stats::ExecutorStats;
use crate::watch;
use seam::Seam;
use worker_api::ids::{Incarnation, PlanVersion, WorkerIndex};
use worker_api::report::Doing;

/// After so long an executor leaves its batch half done and yields.
const TURN_US: u64 = 200;
/// What is open for longer is handed on, whether its batch is full or not.
const OPEN_US: u64 = 1_000;
/// First and longest pause after panics and errors without progress between them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));

/// What the worker tells its executors; each phase holds until the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Spouts are not asked.
    Inactive,
    /// Spouts are asked.
    Active,
    /// What is pending fails; components are closed; executors end.
    Stopping,
}

/// What all executors of a worker share.
pub(crate) struct Env {
    pub(crate) topology: Arc<Topology>,
    pub(crate) tasks: Arc<BTreeMap<String, Vec<TaskId>>>,
    pub(crate) worker: WorkerIndex,
    pub(crate) plan_version: PlanVersion,
    pub(crate) incarnation: Incarnation,
    pub(crate) seam: Seam,
    pub(crate) clock: Arc<WorkerClock>,
    pub(crate) events: Box<dyn Fn(ExecutorEvent) + Send + Sync>,
    pub(crate) journal: Option<Journal>,
}

impl Env {
    /// The component of a task, by its place in the topology: task ids are contiguous over the components.
    pub(crate) fn component_of(&self, task: TaskId) -> Option<usize> {
        let components = self.topology.components();
        let place = components.partition_point(|component| component.tasks().last().is_some_and(|last| *last < task));
        components.get(place).filter(|component| component.tasks().contains(&task)).map(|_| place)
    }
}

/// What an executor tells its worker.
#[derive(Debug)]
pub(crate) enum ExecutorEvent {
    /// Its tasks are prepared.
    Ready,
    /// All of its tasks have ended: their input is finished.
    Ended,
    /// It stopped, as no retry helps.
    Fatal { component: String, error: String },
    /// It stopped with the topology.
    Stopped,
}

/// The worker's clock: microseconds since it started.
pub(crate) struct WorkerClock {
    seam: Seam,
    began: Instant,
}

impl WorkerClock {
    pub(crate) fn new(seam: Seam) -> Self {
        WorkerClock { began: seam.now(), seam }
    }

    /// The instant of a time on this clock.
    pub(crate) fn instant(&self, at_us: u64) -> Instant {
        self.began + Duration::from_micros(at_us)
    }
}

impl Clock for WorkerClock {
    fn now_us(&self) -> u64 {
        self.seam.now().duration_since(self.began).as_micros() as u64
    }
}

/// The pause after the `failures`-th failure in a row.
fn pause_after(failures: u32) -> Duration {
    PAUSE.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE.1)
}

/// Microseconds that an executor had for its calls: it stands still while the executor waits for room at its receivers, so
/// that what waits does not count as held.
pub(crate) struct HoldingClock {
    clock: Arc<WorkerClock>,
    waited_us: AtomicU64,
}

impl HoldingClock {
    pub(crate) fn new(clock: Arc<WorkerClock>) -> Self {
        HoldingClock { clock, waited_us: AtomicU64::new(0) }
    }

    fn stood_still(&self, waited_us: u64) {
        self.waited_us.fetch_add(waited_us, Ordering::Relaxed);
    }
}

impl Clock for HoldingClock {
    fn now_us(&self) -> u64 {
        self.clock.now_us().saturating_sub(self.waited_us.load(Ordering::Relaxed))
    }
}

/// Why an executor's loop ends.
pub(crate) enum Stop {
    Fatal(Error),
    Stopped,
}

/// The common part of spout and bolt executors: turns, delivery, pauses.
pub(crate) struct Core {
    pub(crate) env: Arc<Env>,
    pub(crate) component: usize,
    /// `topology.debug`: each batch and each root's end is logged.
    pub(crate) debug: bool,
    pub(crate) stats: Arc<ExecutorStats>,
    pub(crate) outlets: Outlets,
    pub(crate) outbox: Outbox,
    pub(crate) tally: Tally,
    pub(crate) settling: Settling,
    pub(crate) phase: watch::Receiver<Phase>,
    /// When the current turn began: the last time that it yielded or waited.
    pub(crate) turn_us: u64,
    /// When the clock was last read: each time that a component's code has returned, and after each wait.
    pub(crate) seen_us: u64,
    /// Since when output is open, if any is.
    pub(crate) open_since_us: Option<u64>,
    /// By which its tasks measure what they hold.
    pub(crate) holding: Arc<HoldingClock>,
}

impl Core {
    pub(crate) fn name(&self) -> &str {
        self.env.topology.components()[self.component].name()
    }

    /// Reads the clock, which takes as long as a dozen tuples: what follows without a wait goes by [`Core::seen_us`].
    pub(crate) fn now_us(&mut self) -> u64 {
        self.seen_us = self.env.clock.now_us();
        self.seen_us
    }

    /// What a component's code is run with.
    pub(crate) fn turn(&mut self) -> Turn<'_> {
        Turn {
            began_us: self.seen_us,
            until_us: self.turn_us + TURN_US,
            outbox: &mut self.outbox,
            rooms: &self.outlets,
            clock: &*self.env.clock,
            tally: &mut self.tally,
            component: self.env.topology.components()[self.component].name(),
        }
    }

    /// Writes down what happens, for a test's journal and for `topology.debug`.
    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        if let Some(journal) = &self.env.journal {
            journal.line(self.env.clock.now_us(), what);
        }
        if self.debug {
            tracing::info!(component = self.name(), "{what}");
        }
    }

    /// Hands over what was settled, counts, and delivers what is ready; ends early when the topology stops.
    pub(crate) async fn hand_on(&mut self, source: TaskId, began_us: u64) -> Result<(), Stop> {
        self.hand_on_from(source, None, began_us).await
    }

    /// The same after a batch of this subscription.
    pub(crate) async fn hand_on_from(
        &mut self,
        source: TaskId,
        subscription: Option<usize>,
        began_us: u64,
    ) -> Result<(), Stop> {
        let mut now_us = self.now_us();
        self.settling.settle(&mut self.outbox);
        self.stats.turn(&mut self.tally, subscription, now_us.saturating_sub(began_us), now_us);
        while let Some(outgoing) = self.outbox.outgoing.pop_front() {
            let (stream, outlet, tuples) = (outgoing.stream, outgoing.outlet, outgoing.batch.len());
            self.note(format_args!("task {source} sends {tuples} of stream {stream} by {outlet}"));
            let component = self.env.topology.components()[self.component].name();
            let mut delivery = Delivery {
                source,
                component,
                stats: &self.stats,
                settling: &mut self.settling,
                phase: &mut self.phase,
                now_us,
                waited: false,
            };
            self.outlets.deliver(outgoing, &mut delivery).await;
            if delivery.waited {
                if self.phase.get() == Phase::Stopping {
                    return Err(Stop::Stopped);
                }
                let began_us = std::mem::replace(&mut now_us, self.now_us());
                self.holding.stood_still(now_us.saturating_sub(began_us));
            }
        }
        Ok(())
    }

    /// Whether output that is open for long must be handed on now.
    pub(crate) fn is_overdue(&mut self, holds_output: bool) -> bool {
        if !holds_output {
            self.open_since_us = None;
            return false;
        }
        let since = *self.open_since_us.get_or_insert(self.seen_us);
        self.seen_us.saturating_sub(since) >= OPEN_US
    }

    /// Lets others run if the turn is over; ends early when the topology stops.
    pub(crate) async fn yield_if_due(&mut self) -> Result<(), Stop> {
        if self.seen_us >= self.turn_us + TURN_US {
            yield_to_others().await;
            self.turn_us = self.now_us();
            if self.phase.get() == Phase::Stopping {
                return Err(Stop::Stopped);
            }
        }
        Ok(())
    }

    /// Pauses after the `failures`-th failure in a row; ends early when the topology stops.
    pub(crate) async fn pause(&mut self, failures: u32) -> Result<(), Stop> {
        let pause = pause_after(failures);
        let now_us = self.now_us();
        self.stats.doing(Doing::Restarting, now_us);
        let mut phase = self.phase.clone();
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Stopping) => Err(Stop::Stopped),
            () = self.env.seam.sleep(pause) => {
                self.turn_us = self.now_us();
                Ok(())
            }
        }
    }

    /// The context of one of the executor's tasks.
    pub(crate) fn context(&self, task: TaskId, metrics: Metrics, wake: Wake) -> Context {
        let component = &self.env.topology.components()[self.component];
        Context::new(ContextParts {
            topology: self.env.topology.name().to_owned(),
            component: component.name().to_owned(),
            task,
            tasks: self.env.tasks.clone(),
            conf: component.conf().clone(),
            fencing: FencingToken { plan_version: self.env.plan_version.0, incarnation: self.env.incarnation.0 },
            worker: self.env.worker.0,
            metrics,
            wake,
        })
    }

    /// Deals with the error of `open` or `prepare`: pauses, or ends the executor.
    pub(crate) async fn failed_to_start(&mut self, what: &str, error: Error, failures: u32) -> Result<(), Stop> {
        match error.severity() {
            // Told by who hears that the worker stopped.
            Severity::Fatal => Err(Stop::Fatal(error)),
            Severity::Retry => {
                tracing::warn!(component = self.name(), %error, "{what} failed");
                self.stats.error(format!("{what}: {error}"), self.seen_us);
                self.pause(failures).await
            }
        }
    }

    /// Says how the executor ended.
    pub(crate) fn ended(&mut self, stop: Stop) {
        let now_us = self.now_us();
        self.stats.doing(Doing::Stopped, now_us);
        let event = match stop {
            Stop::Stopped => ExecutorEvent::Stopped,
            Stop::Fatal(error) => {
                self.stats.error(error.to_string(), now_us);
                ExecutorEvent::Fatal { component: self.name().to_owned(), error: error.to_string() }
            }
        };
        (self.env.events)(event);
    }

    /// Tells all receivers of a task's streams that it has ended.
    pub(crate) fn tell_end(&self, task: TaskId, streams: &[Vec<u32>]) {
        for (stream, outlets) in streams.iter().enumerate() {
            self.outlets.end(task, stream as u16, outlets.iter().copied());
        }
    }
}

/// Goes to the end of the queue, where an idle thread finds it. tokio's own `yield_now` wakes a task only when its thread next
/// looks for work: if the thread's next task never returns, neither would this one.
async fn yield_to_others() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
