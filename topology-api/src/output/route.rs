//! Routing: which task's batch each tuple of a stream joins, and when that batch goes.
//!
//! Not here: the delivery of batches, and what a full receiver means (the runtime). Invariant: routing moves tuples and
//! divides edges; it never drops an anchor: a tuple that goes nowhere is acked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{BATCH_BYTES, BATCH_TUPLES, Outbox, Outgoing, Rooms};
use crate::anchor::Anchor;
use crate::batch::{Anchors, Batch};
use crate::component::panic_text;
use crate::fail::{FailKind, FailReason};
use crate::grouping::{ByIndex, CustomGrouping, Grouping, GroupingSpec, KeyHash, KeyOf, TypedGrouping, two_candidates};
use crate::ids::TaskId;
use crate::tuple::{KeyBytes, KeyGroup, Tuple};

/// A task of the subscriber, and how this executor reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The task.
    pub task: TaskId,
    /// The executor's outlet to it.
    pub outlet: u32,
    /// Whether it runs in the same worker.
    pub local: bool,
}

/// One subscription to a stream, as the runtime hands it to the task's port.
pub struct RouteSpec<'a> {
    pub(crate) subscriber: &'a str,
    pub(crate) grouping: &'a GroupingSpec,
    /// The subscriber's tasks, ascending.
    pub(crate) targets: Vec<Target>,
    /// Outlets that together reach each task once: one for each task of this worker, one for each other worker.
    pub(crate) broadcast: Vec<u32>,
    /// Draws the place where shuffling begins, so that not all senders begin with the same task.
    pub(crate) start: usize,
}

impl RouteSpec<'static> {
    /// A route that takes everything to one task, or on a direct stream to the task that the emitter names: for a harness.
    pub fn to_one_outlet(direct: bool, tasks: &[TaskId], outlet: u32) -> Self {
        static GLOBAL: GroupingSpec = GroupingSpec { shown: Grouping::Global, typed: None };
        static DIRECT: GroupingSpec = GroupingSpec { shown: Grouping::Direct, typed: None };
        let grouping = if direct { &DIRECT } else { &GLOBAL };
        let targets = tasks.iter().map(|task| Target { task: *task, outlet, local: true }).collect();
        RouteSpec { subscriber: "harness", grouping, targets, broadcast: vec![outlet], start: 0 }
    }
}

/// How the tuples of one subscription are spread.
enum Choice<T> {
    /// Whole batches to the task that had least, among those with room.
    Even,
    /// Whole batches to the first target.
    First,
    /// A copy to every broadcast outlet.
    Every,
    /// By key.
    Keyed(Arc<dyn KeyOf<T>>),
    /// By key to one of two.
    PartialKeyed(Arc<dyn KeyOf<T>>),
    /// To the task that the emitter names.
    Direct,
    /// By the author's rule.
    Custom(Box<dyn CustomGrouping<T>>),
}

/// One subscription's share in a port.
pub(super) struct Route<T: Tuple> {
    subscriber: Box<str>,
    targets: Vec<Target>,
    tasks: Vec<TaskId>,
    broadcast: Vec<u32>,
    choice: Choice<T>,
    /// For each target, tuples that wait for their batch to fill.
    buffers: Vec<Buffer<T>>,
    /// Targets whose buffer is not empty.
    open: Vec<u32>,
    /// Tuples sent to each target; levelled for a target that had no room, so that it gets no burst afterwards.
    sent: Vec<u64>,
    start: usize,
    transferred: u64,
    key: KeyBytes,
    hashes: Vec<u64>,
}

struct Buffer<T> {
    tuples: Vec<T>,
    anchors: Anchors,
    heap_bytes: usize,
}

impl<T: Tuple> Route<T> {
    pub(super) fn new(spec: RouteSpec<'_>, fields: &[String]) -> Self {
        let mut targets = spec.targets;
        if spec.grouping.shown == Grouping::LocalOrShuffle && targets.iter().any(|target| target.local) {
            targets.retain(|target| target.local);
        }
        let tasks: Vec<TaskId> = targets.iter().map(|target| target.task).collect();
        let typed = spec.grouping.typed.as_ref().and_then(|typed| typed.downcast_ref::<TypedGrouping<T>>());
        let key = |names: &[String]| -> Arc<dyn KeyOf<T>> {
            match typed {
                Some(TypedGrouping::Key(key)) => key.clone(),
                _ => Arc::new(ByIndex(
                    names.iter().filter_map(|name| fields.iter().position(|field| field == name)).collect(),
                )),
            }
        };
        let choice = match &spec.grouping.shown {
            Grouping::Shuffle | Grouping::LocalOrShuffle | Grouping::None => Choice::Even,
            Grouping::Global => Choice::First,
            Grouping::All => Choice::Every,
            Grouping::Direct => Choice::Direct,
            Grouping::Fields(_) | Grouping::PartialKey(_) if targets.len() == 1 => Choice::First,
            Grouping::Fields(names) => Choice::Keyed(key(names)),
            Grouping::PartialKey(names) => Choice::PartialKeyed(key(names)),
            Grouping::Custom(_) => match typed {
                Some(TypedGrouping::Custom(make)) => {
                    let mut custom = make();
                    custom.prepare(&tasks);
                    Choice::Custom(custom)
                }
                _ => Choice::Even,
            },
        };
        let buffers = tasks.iter().map(|_| Buffer { tuples: Vec::new(), anchors: Anchors::default(), heap_bytes: 0 });
        Route {
            subscriber: spec.subscriber.into(),
            buffers: buffers.collect(),
            open: Vec::new(),
            sent: vec![0; targets.len()],
            start: if targets.is_empty() { 0 } else { spec.start % targets.len() },
            broadcast: spec.broadcast,
            targets,
            tasks,
            choice,
            transferred: 0,
            key: KeyBytes::default(),
            hashes: Vec::new(),
        }
    }

    pub(super) fn transferred(&self) -> u64 {
        self.transferred
    }

    pub(super) fn holds_tuples(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes a port's staged tuples.
    pub(super) fn take(
        &mut self,
        stream: u16,
        tuples: Vec<T>,
        mut anchors: Anchors,
        outbox: &mut Outbox,
        rooms: &dyn Rooms,
    ) {
        if self.targets.is_empty() {
            anchors.for_each(|anchor| outbox.acks.push(anchor));
            return;
        }
        match &mut self.choice {
            Choice::First | Choice::Even => {
                let even = matches!(self.choice, Choice::Even);
                for (tuples, anchors) in chunks(tuples, anchors) {
                    let target = if even { self.least_sent(rooms) } else { 0 };
                    self.sent[target] += tuples.len() as u64;
                    self.send(stream, target, Batch::new(tuples, anchors), outbox);
                }
            }
            Choice::Every => {
                self.transferred += (tuples.len() * self.targets.len()) as u64;
                for (tuples, mut anchors) in chunks(tuples, anchors) {
                    let Some((last, others)) = self.broadcast.split_last() else { continue };
                    for outlet in others {
                        let share = anchors.split_off(&mut outbox.edges);
                        let batch = Box::new(Batch::new(tuples.clone(), share));
                        outbox.outgoing.push_back(Outgoing { outlet: *outlet, stream, batch });
                    }
                    let batch = Box::new(Batch::new(tuples, anchors));
                    outbox.outgoing.push_back(Outgoing { outlet: *last, stream, batch });
                }
            }
            Choice::Keyed(key) => {
                let count = self.targets.len();
                let key = key.clone();
                let (tuples, mut hashes) = self.hashed(&*key, tuples, &mut anchors, outbox);
                let targets = hashes.drain(..).map(|hash| KeyGroup::of_hash(hash).task_index(count));
                if anchors.each.len() == tuples.len() && anchors.many.is_empty() {
                    // The usual case, without a look at what the anchors are.
                    for ((tuple, anchor), target) in tuples.into_iter().zip(anchors.each).zip(targets) {
                        self.join_anchored(stream, target, tuple, anchor, outbox);
                    }
                } else {
                    for (index, (tuple, target)) in tuples.into_iter().zip(targets).enumerate() {
                        self.join(stream, target, tuple, &mut anchors, index, outbox);
                    }
                }
                self.hashes = hashes;
            }
            Choice::PartialKeyed(key) => {
                let key = key.clone();
                let (tuples, mut hashes) = self.hashed(&*key, tuples, &mut anchors, outbox);
                for (index, (tuple, hash)) in tuples.into_iter().zip(hashes.drain(..)).enumerate() {
                    let (first, second) = two_candidates(hash, self.targets.len());
                    let has_room = |target: usize| rooms.has_room(self.targets[target].outlet);
                    let target = match (has_room(first), has_room(second)) {
                        (true, false) => first,
                        (false, true) => second,
                        _ if self.sent[second] < self.sent[first] => second,
                        _ => first,
                    };
                    self.sent[target] += 1;
                    self.join(stream, target, tuple, &mut anchors, index, outbox);
                }
                self.hashes = hashes;
            }
            Choice::Custom(_) => self.take_custom(stream, tuples, anchors, outbox),
            // A direct stream is routed by receiver (`direct`); nothing comes here.
            Choice::Direct => anchors.for_each(|anchor| outbox.acks.push(anchor)),
        }
    }

    /// The hashes of these tuples' keys. A tuple over whose key the author's code panics fails its root and is left out.
    fn hashed(
        &mut self,
        key: &dyn KeyOf<T>,
        tuples: Vec<T>,
        anchors: &mut Anchors,
        outbox: &mut Outbox,
    ) -> (Vec<T>, Vec<KeyHash>) {
        let mut hashes = std::mem::take(&mut self.hashes);
        let mut all = |tuples: &[T], hashes: &mut Vec<KeyHash>| {
            catch_unwind(AssertUnwindSafe(|| key.hashes(tuples, &mut self.key, hashes)))
        };
        if all(&tuples, &mut hashes).is_ok() {
            return (tuples, hashes);
        }
        hashes.clear();
        let mut kept = Vec::with_capacity(tuples.len());
        let mut kept_anchors = Anchors::default();
        for (index, tuple) in tuples.into_iter().enumerate() {
            match all(std::slice::from_ref(&tuple), &mut hashes) {
                Ok(()) => {
                    if !anchors.is_empty() {
                        kept_anchors.push_from(anchors, index);
                    }
                    kept.push(tuple);
                }
                Err(panic) => {
                    let said = format!("in the key of its grouping: {}", panic_text(&*panic));
                    let reason = FailReason::new(FailKind::Panicked, &self.subscriber, said);
                    outbox.fail_all(anchors.of(index), &reason);
                }
            }
        }
        *anchors = kept_anchors;
        (kept, hashes)
    }

    fn take_custom(&mut self, stream: u16, tuples: Vec<T>, mut anchors: Anchors, outbox: &mut Outbox) {
        let mut chosen = Vec::new();
        for (index, tuple) in tuples.into_iter().enumerate() {
            chosen.clear();
            if let Choice::Custom(custom) = &mut self.choice {
                let choose = || custom.choose(&tuple, &self.tasks, &mut chosen);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(choose)) {
                    let said = format!("in its custom grouping: {}", panic_text(&*panic));
                    let reason = FailReason::new(FailKind::Panicked, &self.subscriber, said);
                    outbox.fail_all(anchors.of(index), &reason);
                    continue;
                }
            }
            let targets: Option<Vec<usize>> = chosen.iter().map(|task| self.tasks.binary_search(task).ok()).collect();
            match targets.as_deref() {
                None => {
                    let said =
                        format!("its custom grouping chose {chosen:?}, not all of them its tasks {:?}", self.tasks);
                    let reason = FailReason::new(FailKind::Failed, &self.subscriber, said);
                    let failed = anchors.of(index).to_vec();
                    outbox.fail_all(&failed, &reason);
                }
                Some([]) => outbox.acks.extend(anchors.of(index)),
                Some([others @ .., last]) => {
                    let mut rest = Anchors::default();
                    if !anchors.is_empty() {
                        rest.push_from(&mut anchors, index);
                    }
                    for target in others {
                        let mut share = rest.split_off(&mut outbox.edges);
                        self.join(stream, *target, tuple.clone(), &mut share, 0, outbox);
                    }
                    self.join(stream, *last, tuple, &mut rest, 0, outbox);
                }
            }
        }
    }

    /// The target that was sent least, among those that have room; if none has, among all.
    fn least_sent(&mut self, rooms: &dyn Rooms) -> usize {
        let count = self.targets.len();
        if count == 1 {
            return 0;
        }
        self.start = if self.start + 1 == count { 0 } else { self.start + 1 };
        let (mut best, mut best_sent) = (None, u64::MAX);
        for step in 0..count {
            let target = if self.start + step >= count { self.start + step - count } else { self.start + step };
            if self.sent[target] < best_sent && rooms.has_room(self.targets[target].outlet) {
                (best, best_sent) = (Some(target), self.sent[target]);
            }
        }
        let Some(best) = best else {
            let least = (0..count).min_by_key(|target| self.sent[(self.start + target) % count]).unwrap_or(0);
            return (self.start + least) % count;
        };
        for target in 0..count {
            // It had no room when it was its turn; what it missed is not made up for in a burst.
            if self.sent[target] < best_sent {
                self.sent[target] = best_sent;
            }
        }
        best
    }

    /// Adds one tuple to a target's buffer, which goes when it is full.
    #[inline]
    fn join(&mut self, stream: u16, target: usize, tuple: T, from: &mut Anchors, index: usize, outbox: &mut Outbox) {
        let buffer = &mut self.buffers[target];
        if buffer.tuples.is_empty() {
            self.open.push(target as u32);
        }
        if T::HAS_HEAP {
            buffer.heap_bytes += tuple.heap_size();
        }
        if !from.is_empty() {
            if buffer.anchors.each.len() < buffer.tuples.len() {
                buffer.anchors.each.resize(buffer.tuples.len(), Anchor::NONE);
            }
            buffer.anchors.push_from(from, index);
        } else if !buffer.anchors.is_empty() {
            buffer.anchors.each.push(Anchor::NONE);
        }
        buffer.tuples.push(tuple);
        if buffer.tuples.len() >= BATCH_TUPLES || buffer.heap_bytes >= BATCH_BYTES {
            self.open.retain(|open| *open != target as u32);
            self.send_buffer(stream, target, outbox);
        }
    }

    /// The same for a tuple of one root.
    #[inline]
    fn join_anchored(&mut self, stream: u16, target: usize, tuple: T, anchor: Anchor, outbox: &mut Outbox) {
        let buffer = &mut self.buffers[target];
        let waiting = buffer.tuples.len();
        if waiting == 0 {
            self.open.push(target as u32);
        }
        if buffer.anchors.each.len() < waiting {
            buffer.anchors.each.resize(waiting, Anchor::NONE);
        }
        if T::HAS_HEAP {
            buffer.heap_bytes += tuple.heap_size();
        }
        buffer.anchors.each.push(anchor);
        buffer.tuples.push(tuple);
        if waiting + 1 >= BATCH_TUPLES || buffer.heap_bytes >= BATCH_BYTES {
            self.open.retain(|open| *open != target as u32);
            self.send_buffer(stream, target, outbox);
        }
    }

    fn send_buffer(&mut self, stream: u16, target: usize, outbox: &mut Outbox) {
        let buffer = &mut self.buffers[target];
        // A full buffer is replaced by one of its size, one that was flushed early by one that grows only as needed.
        let capacity = if buffer.tuples.len() >= BATCH_TUPLES { BATCH_TUPLES } else { 0 };
        let tuples = std::mem::replace(&mut buffer.tuples, Vec::with_capacity(capacity));
        let next = Anchors {
            each: Vec::with_capacity(if buffer.anchors.is_empty() { 0 } else { capacity }),
            many: Vec::new(),
        };
        let anchors = std::mem::replace(&mut buffer.anchors, next);
        let batch = Batch::counted(tuples, anchors, std::mem::take(&mut buffer.heap_bytes));
        self.send(stream, target, batch, outbox);
    }

    fn send(&mut self, stream: u16, target: usize, batch: Batch<T>, outbox: &mut Outbox) {
        self.transferred += batch.tuples.len() as u64;
        let batch = Box::new(batch);
        outbox.outgoing.push_back(Outgoing { outlet: self.targets[target].outlet, stream, batch });
    }

    /// Sends what waits in buffers.
    pub(super) fn flush(&mut self, stream: u16, outbox: &mut Outbox) {
        for target in std::mem::take(&mut self.open) {
            self.send_buffer(stream, target as usize, outbox);
        }
    }
}

/// Routes the tuples of a direct stream: each to the one receiver that its emitter named.
pub(super) fn direct<T: Tuple>(
    routes: &mut [&mut Route<T>],
    stream: u16,
    tuples: Vec<T>,
    mut anchors: Anchors,
    receivers: &[TaskId],
    outbox: &mut Outbox,
) {
    for (index, (tuple, receiver)) in tuples.into_iter().zip(receivers).enumerate() {
        let found =
            routes.iter_mut().find_map(|route| route.tasks.binary_search(receiver).ok().map(|target| (route, target)));
        match found {
            Some((route, target)) => route.join(stream, target, tuple, &mut anchors, index, outbox),
            None => outbox.acks.extend(anchors.of(index)),
        }
    }
}

/// A long list of tuples in batches; a usual one as it is.
fn chunks<T>(tuples: Vec<T>, anchors: Anchors) -> Vec<(Vec<T>, Anchors)> {
    if tuples.len() < 2 * BATCH_TUPLES {
        return vec![(tuples, anchors)];
    }
    let Anchors { each, mut many } = anchors;
    let (mut tuples, mut each) = (tuples.into_iter(), each.into_iter());
    let mut chunks = Vec::with_capacity(tuples.len().div_ceil(BATCH_TUPLES));
    while tuples.len() > 0 {
        let chunk: Vec<T> = tuples.by_ref().take(BATCH_TUPLES).collect();
        let mut anchors = Anchors::default();
        for anchor in each.by_ref().take(BATCH_TUPLES) {
            // Side lists are rare: the chunk takes its own out of the common one.
            match anchor.as_many() {
                None => anchors.each.push(anchor),
                Some(side) => anchors.push(&std::mem::take(&mut many[side as usize])),
            }
        }
        chunks.push((chunk, anchors));
    }
    chunks
}
