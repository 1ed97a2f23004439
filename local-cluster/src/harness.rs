//! A single bolt under a test's hand: push tuples, move the time, look at what it emitted, acked and failed.
//!
//! Not here: executors, inboxes, other components. Invariant: the bolt is made, prepared and run by the same code as in a
//! worker; only its inputs, its outputs and its clock are the test's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Poll, Waker};
use std::time::Duration;

use topology_api::anchor::{Anchor, Edge, EdgeIds, Generation, LedgerId, Root, Slot};
use topology_api::batch::{Anchors, Batch};
use topology_api::component::{AnyBolt, AnyTask, Clock, Ran, Tally, TaskParts, Turn};
use topology_api::context::{Context, ContextParts, FencingToken, Metrics, Wake};
use topology_api::error::{Error, Result};
use topology_api::fail::FailReason;
use topology_api::holds::Settled;
use topology_api::ids::TaskId;
use topology_api::output::{Outbox, Outgoing, Rooms, RouteSpec, StreamWires, Wires};
use topology_api::topology::{Component, Topology};
use topology_api::tuple::Tuple;

/// One task of a bolt of a topology, without a cluster.
///
/// ```
/// # extern crate topology_api as storm;
/// use local_cluster::BoltHarness;
/// use local_cluster::testing::Feed;
/// use storm::prelude::*;
///
/// #[tuple] struct Line { text: Text }
/// #[tuple] #[derive(Debug, PartialEq)] struct Word { word: Text }
///
/// struct Split;
/// impl Bolt for Split {
///     type Input = Line;
///     type Output = Word;
///     fn execute(&mut self, line: Line, out: &mut Emitter<Word>) -> Result {
///         line.text.split_whitespace().for_each(|word| out.emit(Word { word: word.into() }));
///         Ok(())
///     }
/// }
///
/// let mut topology = Topology::builder("words");
/// let feed = Feed::<Line>::open();
/// let lines = topology.spout("lines", move || feed.spout()).add();
/// topology.bolt("split", || Split).shuffle(&lines).add();
///
/// let mut split = BoltHarness::of(topology.build().unwrap(), "split").unwrap();
/// let id = split.push("lines", Line { text: "to be".into() }).unwrap();
/// assert_eq!(split.emitted::<Word>("default"), [Word { word: "to".into() }, Word { word: "be".into() }]);
/// assert_eq!(split.acked(), [id]);
/// ```
pub struct BoltHarness {
    topology: Topology,
    component: usize,
    bolt: Box<dyn AnyBolt>,
    clock: Arc<HandClock>,
    outbox: Outbox,
    emitted: BTreeMap<u16, VecDeque<Outgoing>>,
    /// What of each input's edge nobody has taken yet; gone when it is settled.
    open: BTreeMap<u32, u64>,
    acked: Vec<u64>,
    failed: Vec<(u64, FailReason)>,
    errors: Vec<String>,
    pushed: u32,
}

/// Moves only when the test says so.
#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// There is always room.
struct Everywhere;

impl Rooms for Everywhere {
    fn has_room(&self, _: u32) -> bool {
        true
    }
}

/// Inputs belong to roots of a ledger that only the harness knows.
const LEDGER: LedgerId = LedgerId(0);

impl BoltHarness {
    /// The first task of the bolt of this name, prepared.
    ///
    /// # Errors
    /// If there is no such bolt, or its `prepare` fails.
    pub fn of(topology: Topology, bolt: &str) -> Result<Self> {
        let place =
            topology.components().iter().position(|component| component.name() == bolt && !component.is_spout());
        let Some(place) = place else {
            return Err(Error::fatal(format!("topology `{}` has no bolt `{bolt}`", topology.name())));
        };
        let component = &topology.components()[place];
        let task = component.tasks()[0];
        let clock = Arc::new(HandClock::default());
        let wires = component.streams().iter().enumerate().map(|(stream, info)| {
            let receivers = if info.direct { receivers(&topology, place, stream) } else { vec![task] };
            let route = RouteSpec::to_one_outlet(info.direct, &receivers, stream as u32);
            StreamWires { fields: &info.fields, routes: vec![route], receivers }
        });
        let parts = TaskParts {
            component: component.name(),
            wires: Wires::new(wires.collect::<Vec<_>>()),
            sources: Vec::new(),
            key: [1; 32],
            clock: clock.clone(),
        };
        let AnyTask::Bolt(mut made) = topology.task(place, parts) else {
            return Err(Error::fatal(format!("`{bolt}` is not a bolt")));
        };
        made.prepare(&context(&topology, component, task))?;
        Ok(BoltHarness {
            topology,
            component: place,
            bolt: made,
            clock,
            outbox: Outbox::new(EdgeIds::from_key([2; 32])),
            emitted: BTreeMap::new(),
            open: BTreeMap::new(),
            acked: Vec::new(),
            failed: Vec::new(),
            errors: Vec::new(),
            pushed: 0,
        })
    }

    /// Gives it a tuple of the stream `default` of a component; the id stands for it in `acked` and `failed`.
    ///
    /// # Errors
    /// As [`BoltHarness::push_stream`].
    pub fn push<T: Tuple>(&mut self, from: &str, tuple: T) -> Result<u64> {
        self.push_stream(from, "default", tuple)
    }

    /// Gives it a tuple of a stream that it subscribes to.
    ///
    /// # Errors
    /// If it does not subscribe to that stream, the stream carries something else, or the bolt panicked or failed for
    /// good. A panic leaves a new instance behind, as in a worker.
    pub fn push_stream<T: Tuple>(&mut self, from: &str, stream: &str, tuple: T) -> Result<u64> {
        let components = self.topology.components();
        let subscriptions = components[self.component].subscriptions();
        let found = subscriptions.iter().position(|subscription| {
            let source = &components[subscription.source];
            source.name() == from && source.streams()[subscription.stream].name == stream
        });
        let Some(subscription) = found else {
            return Err(Error::fatal(format!("the bolt does not subscribe to stream `{stream}` of `{from}`")));
        };
        let source = components[subscriptions[subscription].source].tasks()[0];
        let id = self.pushed;
        self.pushed += 1;
        let anchor = Anchor { root: Root::new(LEDGER, Slot(id), Generation(0)), edge: self.outbox.edges.draw() };
        self.open.insert(id, anchor.edge.0);
        let batch = Batch::new(vec![tuple], Anchors { each: vec![anchor], many: Vec::new() });
        let mut batch = self.bolt.admit(subscription, Box::new(batch));
        self.run(|bolt, turn| bolt.execute(subscription, source, &mut *batch, turn))?;
        Ok(u64::from(id))
    }

    /// Calls `tick`.
    ///
    /// # Errors
    /// If the bolt panicked or failed for good.
    pub fn tick(&mut self) -> Result {
        self.run(|bolt, turn| bolt.tick(turn))
    }

    /// Calls `finish`.
    ///
    /// # Errors
    /// Those of `finish`.
    pub fn finish(&mut self) -> Result {
        self.run(|bolt, turn| bolt.finish(turn))
    }

    /// Moves the bolt's clock, and fails what it has held longer than the message time-out by then.
    pub fn advance(&mut self, by: Duration) {
        self.clock.0.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
        let timeout_us = self.topology.settings().message_timeout.map(|timeout| timeout.as_micros() as u64);
        let mut tally = Tally::default();
        let mut turn = turn(&mut self.outbox, &self.clock, &mut tally);
        self.bolt.sweep(timeout_us, u64::MAX, &mut turn);
        self.settle();
    }

    /// Polls calls in flight, whose futures something else has made ready; returns how many are left.
    pub fn poll(&mut self) -> usize {
        self.settle();
        self.bolt.in_flight()
    }

    /// What it emitted on a stream since the last time, in order; nothing if the stream carries something else.
    pub fn emitted<T: Tuple>(&mut self, stream: &str) -> Vec<T> {
        self.settle();
        let streams = self.topology.components()[self.component].streams();
        let Some(stream) = streams.iter().position(|info| info.name == stream) else { return Vec::new() };
        let mut tuples = Vec::new();
        for mut outgoing in self.emitted.remove(&(stream as u16)).into_iter().flatten() {
            if let Some(batch) = outgoing.batch.as_any_mut().downcast_mut::<Batch<T>>() {
                tuples.extend(batch.tuples.by_ref());
            }
        }
        tuples
    }

    /// Ids of inputs whose edges were all acked, or handed on to what was emitted, in that order.
    pub fn acked(&mut self) -> Vec<u64> {
        self.settle();
        self.acked.clone()
    }

    /// Ids of inputs that failed, and why.
    pub fn failed(&mut self) -> Vec<(u64, FailReason)> {
        self.settle();
        self.failed.clone()
    }

    /// What its code returned as errors or panicked with.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    fn run(&mut self, run: impl FnOnce(&mut dyn AnyBolt, &mut Turn<'_>) -> Ran) -> Result {
        let mut tally = Tally::default();
        let ran = run(&mut *self.bolt, &mut turn(&mut self.outbox, &self.clock, &mut tally));
        self.errors.append(&mut tally.errors);
        let ended = match ran {
            Ran::Panicked(text) => {
                let component = &self.topology.components()[self.component];
                let reason = FailReason::new(topology_api::fail::FailKind::Panicked, component.name(), &text);
                self.bolt.restart(&reason, &mut turn(&mut self.outbox, &self.clock, &mut tally));
                let prepared = self.bolt.prepare(&context(&self.topology, component, component.tasks()[0]));
                prepared.and(Err(Error::retry(format!("the bolt panicked: {text}"))))
            }
            Ran::Fatal(error) => Err(error),
            _ => Ok(()),
        };
        self.settle();
        ended
    }

    /// Takes all that is staged, settled or returned.
    fn settle(&mut self) {
        let mut tally = Tally::default();
        loop {
            let mut turn = turn(&mut self.outbox, &self.clock, &mut tally);
            let mut nobody = Poll::from_waker(Waker::noop());
            self.bolt.poll_in_flight(&mut nobody, &mut turn);
            let pulled = self.bolt.output().pull(&mut turn);
            self.bolt.output().route(&mut turn, true);
            if let Some(holds) = self.bolt.holds() {
                let mut settled = Settled::default();
                holds.take_settled(Waker::noop(), &mut settled);
                self.outbox.acks.append(&mut settled.acks);
                self.outbox.fails.append(&mut settled.fails);
            }
            if !matches!(pulled, Ran::Paused) {
                break;
            }
        }
        self.errors.append(&mut tally.errors);
        for (root, reason) in self.outbox.fails.drain(..) {
            if self.open.remove(&root.slot().0).is_some() {
                self.failed.push((u64::from(root.slot().0), reason));
            }
        }
        let mut taken: Vec<Anchor> = self.outbox.acks.drain(..).collect();
        for outgoing in self.outbox.outgoing.drain(..) {
            outgoing.batch.anchors().for_each(|anchor| taken.push(anchor));
            self.emitted.entry(outgoing.stream).or_default().push_back(outgoing);
        }
        for Anchor { root, edge: Edge(edge) } in taken {
            let Some(rest) = self.open.get_mut(&root.slot().0) else { continue };
            *rest ^= edge;
            if *rest == 0 {
                self.open.remove(&root.slot().0);
                self.acked.push(u64::from(root.slot().0));
            }
        }
    }
}

fn turn<'a>(outbox: &'a mut Outbox, clock: &'a Arc<HandClock>, tally: &'a mut Tally) -> Turn<'a> {
    Turn {
        outbox,
        rooms: &Everywhere,
        clock: &**clock,
        began_us: clock.now_us(),
        until_us: u64::MAX,
        tally,
        component: "harness",
    }
}

/// The tasks that take a direct stream.
fn receivers(topology: &Topology, place: usize, stream: usize) -> Vec<TaskId> {
    let subscribers = topology.subscribers(place).into_iter().filter_map(|(subscriber, subscription)| {
        let component = &topology.components()[subscriber];
        (component.subscriptions()[subscription].stream == stream).then_some(component)
    });
    let mut tasks: Vec<TaskId> = subscribers.flat_map(|component| component.tasks().iter().copied()).collect();
    tasks.sort_unstable();
    tasks
}

fn context(topology: &Topology, component: &Component, task: TaskId) -> Context {
    Context::new(ContextParts {
        topology: topology.name().to_owned(),
        component: component.name().to_owned(),
        task,
        tasks: Arc::new(topology.tasks()),
        conf: component.conf().clone(),
        fencing: FencingToken { plan_version: 1, incarnation: 1 },
        worker: 0,
        metrics: Metrics::default(),
        wake: Wake::new(|| {}),
    })
}
