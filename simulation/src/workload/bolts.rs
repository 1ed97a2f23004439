//! The bolts of the workload, and what they carry.
//!
//! Not here: how they are wired (`workload`), what they do amiss and how often (`evidence`). Invariant: an effect is told
//! before the input that brings it is acked.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use topology_api::prelude::*;

use super::evidence::{Amiss, Place, panic_as_meant};
use crate::oracle::SourceTuple;

/// A part of what a source has given.
#[tuple]
pub(super) struct Item {
    pub(super) source: u32,
    pub(super) offset: u64,
    pub(super) attempt: u32,
    /// Which of its root's tuples.
    pub(super) part: u32,
    /// Which of several that a bolt has made of it.
    pub(super) copy: u32,
    pub(super) load: Bytes,
}

impl Item {
    fn tuple(&self) -> SourceTuple {
        SourceTuple { source: self.source, offset: self.offset }
    }
}

/// What a window held: 16 bytes for each item.
#[tuple]
pub(super) struct Pane {
    pub(super) items: Bytes,
}

fn fails() -> Error {
    Error::retry("as the seed will")
}

/// Hands each on: at once, or some ticks later.
pub(super) struct Relay {
    place: Place,
    random: ChaCha8Rng,
    held: Vec<(u32, Tracked<Item>)>,
}

impl Relay {
    pub(super) fn of(place: &Place) -> Self {
        Relay { place: place.clone(), random: place.random(), held: Vec::new() }
    }
}

fn hand_on(item: Tracked<Item>, out: &mut Emitter<Item, Manual>) {
    let copy = (*item).clone();
    out.anchor(&item).emit(copy);
    item.ack();
}

impl Bolt for Relay {
    type Input = Tracked<Item>;
    type Output = Item;

    fn prepare(&mut self, context: &Context) -> Result {
        self.place.prepared(context);
        Ok(())
    }

    fn execute(&mut self, item: Tracked<Item>, out: &mut Emitter<Item, Manual>) -> Result {
        match self.place.amiss(&mut self.random) {
            Amiss::Nothing => hand_on(item, out),
            Amiss::Fails => item.fail("as the seed will"),
            Amiss::Forgets => drop(item),
            Amiss::Holds(ticks) => self.held.push((ticks, item)),
            Amiss::Panics => {
                let copy = (*item).clone();
                out.anchor(&item).emit(copy);
                panic_as_meant();
            }
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut Emitter<Item, Manual>) -> Result {
        for (ticks, item) in std::mem::take(&mut self.held) {
            match ticks {
                0 => hand_on(item, out),
                ticks => self.held.push((ticks - 1, item)),
            }
        }
        Ok(())
    }
}

/// Two ways for each.
#[derive(Output)]
pub(super) struct Halves {
    pub(super) left: Port<Item>,
    pub(super) right: Port<Item>,
}

/// Sends each both ways.
pub(super) struct Split {
    place: Place,
    random: ChaCha8Rng,
}

impl Split {
    pub(super) fn of(place: &Place) -> Self {
        Split { place: place.clone(), random: place.random() }
    }
}

impl Bolt for Split {
    type Input = Item;
    type Output = Halves;

    fn prepare(&mut self, context: &Context) -> Result {
        self.place.prepared(context);
        Ok(())
    }

    fn execute(&mut self, item: Item, out: &mut Emitter<Halves>) -> Result {
        out.left.emit(Item { copy: 0, ..item.clone() });
        // One way only, and then the input fails or is lost in a panic: what is out must not complete the root.
        match self.place.amiss(&mut self.random) {
            Amiss::Fails => return Err(fails()),
            Amiss::Panics => panic_as_meant(),
            Amiss::Nothing | Amiss::Forgets | Amiss::Holds(_) => out.right.emit(Item { copy: 1, ..item }),
        }
        Ok(())
    }
}

/// Takes its time with each, up to a most.
pub(super) struct Unhurried {
    place: Place,
    random: Mutex<ChaCha8Rng>,
    most: Duration,
}

impl Unhurried {
    pub(super) fn of(place: &Place, most: Duration) -> Self {
        Unhurried { place: place.clone(), random: Mutex::new(place.random()), most }
    }

    fn drawn(&self) -> (Amiss, Duration) {
        let mut random = self.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let most = self.most.as_micros() as u64;
        (self.place.amiss(&mut random), Duration::from_micros(random.random_range(0..most)))
    }
}

impl AsyncBolt for Unhurried {
    type Input = Item;
    type Output = Item;

    fn prepare(&mut self, context: &Context) -> Result {
        self.place.prepared(context);
        Ok(())
    }

    async fn execute(&self, item: Item, out: &mut Emitter<Item>) -> Result {
        let (amiss, pause) = self.drawn();
        tokio::time::sleep(pause).await;
        match amiss {
            Amiss::Nothing | Amiss::Forgets => {}
            Amiss::Fails => return Err(fails()),
            Amiss::Panics => panic_as_meant(),
            Amiss::Holds(ticks) => tokio::time::sleep(super::TICK * ticks).await,
        }
        out.emit(item);
        Ok(())
    }
}

/// Puts both halves of an attempt together again, under both as parents.
pub(super) struct Join {
    place: Place,
    random: ChaCha8Rng,
    /// By source, offset and attempt: which half is here, and for how many ticks.
    halves: BTreeMap<(u32, u64, u32), (u32, Tracked<Item>)>,
}

/// Ticks for which a join waits for the other half: one that failed on its way comes no more.
const PATIENCE_TICKS: u32 = 60;

impl Join {
    pub(super) fn of(place: &Place) -> Self {
        Join { place: place.clone(), random: place.random(), halves: BTreeMap::new() }
    }
}

impl Bolt for Join {
    type Input = Tracked<Item>;
    type Output = Item;

    fn prepare(&mut self, context: &Context) -> Result {
        self.place.prepared(context);
        Ok(())
    }

    fn execute(&mut self, item: Tracked<Item>, out: &mut Emitter<Item, Manual>) -> Result {
        let key = (item.source, item.offset, item.attempt);
        let Some((_, half)) = self.halves.remove(&key) else {
            self.halves.insert(key, (0, item));
            return Ok(());
        };
        if half.copy == item.copy {
            half.fail("the same half came twice");
            return Err(Error::fatal("within an attempt no tuple is doubled, but the same half came twice"));
        }
        match self.place.amiss(&mut self.random) {
            Amiss::Fails => half.fail("as the seed will"),
            Amiss::Forgets => drop(half),
            Amiss::Panics => panic_as_meant(),
            Amiss::Nothing | Amiss::Holds(_) => {
                let joined = Item { copy: 0, ..(*item).clone() };
                out.anchor([&half, &item]).emit(joined);
                half.ack();
                item.ack();
            }
        }
        Ok(())
    }

    fn tick(&mut self, _: &mut Emitter<Item, Manual>) -> Result {
        self.halves.values_mut().for_each(|(ticks, _)| *ticks += 1);
        self.halves.retain(|_, (ticks, _)| *ticks < PATIENCE_TICKS);
        Ok(())
    }
}

/// One to a named task, and some wherever.
#[derive(Output)]
pub(super) struct Scattered {
    pub(super) named: Direct<Item>,
    pub(super) copies: Port<Item>,
}

/// Makes several of each.
pub(super) struct Scatter {
    place: Place,
    random: ChaCha8Rng,
    copies: u32,
}

impl Scatter {
    pub(super) fn of(place: &Place, copies: u32) -> Self {
        Scatter { place: place.clone(), random: place.random(), copies }
    }
}

impl Bolt for Scatter {
    type Input = Item;
    type Output = Scattered;

    fn prepare(&mut self, context: &Context) -> Result {
        self.place.prepared(context);
        Ok(())
    }

    fn execute(&mut self, item: Item, out: &mut Emitter<Scattered>) -> Result {
        let receivers = out.named.receivers();
        let named = receivers[item.offset as usize % receivers.len()];
        out.named.emit_to(named, item.clone())?;
        match self.place.amiss(&mut self.random) {
            Amiss::Fails => return Err(fails()),
            Amiss::Panics => panic_as_meant(),
            Amiss::Nothing | Amiss::Forgets | Amiss::Holds(_) => {}
        }
        out.copies.emit_all((0..self.copies).map(move |copy| Item { copy, ..item.clone() }));
        Ok(())
    }
}

/// Each to the task of its offset, and to the next one.
pub(super) struct Neighbours;

impl CustomGrouping<Item> for Neighbours {
    fn choose(&mut self, item: &Item, tasks: &[TaskId], chosen: &mut Vec<TaskId>) {
        let first = item.offset as usize % tasks.len();
        chosen.extend([tasks[first], tasks[(first + 1) % tasks.len()]]);
    }
}

/// Which of its effects a sink's task brings about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// There is one.
    One,
    /// That of the task's place.
    ByTask,
    /// That of the task's distance from the one of the offset.
    ByOffset,
    /// That of the copy.
    ByCopy,
}

/// Tells an effect for each.
pub(super) struct Sink {
    place: Place,
    random: ChaCha8Rng,
    /// Effects of one part.
    width: u32,
    /// The first of them that is this sink's.
    first: u32,
    which: Which,
    task_index: u64,
    tasks: u64,
}

impl Sink {
    pub(super) fn of(place: &Place, width: u32, first: u32, which: Which) -> Self {
        Sink { place: place.clone(), random: place.random(), width, first, which, task_index: 0, tasks: 1 }
    }
}

impl Bolt for Sink {
    type Input = Item;
    type Output = ();

    fn prepare(&mut self, context: &Context) -> Result {
        (self.task_index, self.tasks) = (context.task_index() as u64, context.peers().len() as u64);
        self.place.prepared(context);
        Ok(())
    }

    fn execute(&mut self, item: Item, _: &mut Emitter<()>) -> Result {
        let which = match self.which {
            Which::One => 0,
            Which::ByTask => self.task_index as u32,
            Which::ByOffset => ((self.tasks + self.task_index - item.offset % self.tasks) % self.tasks) as u32,
            Which::ByCopy => item.copy,
        };
        let amiss = self.place.amiss(&mut self.random);
        if amiss == Amiss::Fails {
            return Err(fails());
        }
        self.place.effect(item.tuple(), item.attempt, item.part * self.width + self.first + which);
        // The effect is there, and yet the attempt fails.
        match amiss {
            Amiss::Panics => panic_as_meant(),
            Amiss::Forgets => Err(fails()),
            Amiss::Nothing | Amiss::Fails | Amiss::Holds(_) => Ok(()),
        }
    }
}

/// Holds what comes, and emits one tuple for all of it: when it has enough, or at some ticks.
pub(super) struct Windows {
    place: Place,
    random: ChaCha8Rng,
    held: Vec<Tracked<Item>>,
}

/// Items that close a window.
const WINDOW: usize = 24;

impl Windows {
    pub(super) fn of(place: &Place) -> Self {
        Windows { place: place.clone(), random: place.random(), held: Vec::new() }
    }

    fn close(&mut self, out: &mut Emitter<Pane, Manual>) {
        let bytes = |item: &Tracked<Item>| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&item.offset.to_le_bytes());
            bytes[8..12].copy_from_slice(&item.source.to_le_bytes());
            bytes[12..].copy_from_slice(&item.attempt.to_le_bytes());
            bytes
        };
        let items: Vec<u8> = self.held.iter().flat_map(bytes).collect();
        out.anchor(&self.held).emit(Pane { items: items.into() });
        self.held.drain(..).for_each(Tracked::ack);
    }
}

impl Bolt for Windows {
    type Input = Tracked<Item>;
    type Output = Pane;

    fn prepare(&mut self, context: &Context) -> Result {
        self.place.prepared(context);
        Ok(())
    }

    fn execute(&mut self, item: Tracked<Item>, out: &mut Emitter<Pane, Manual>) -> Result {
        match self.place.amiss(&mut self.random) {
            Amiss::Fails => item.fail("as the seed will"),
            Amiss::Forgets => drop(item),
            Amiss::Panics => panic_as_meant(),
            Amiss::Nothing | Amiss::Holds(_) => self.held.push(item),
        }
        if self.held.len() >= WINDOW {
            self.close(out);
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut Emitter<Pane, Manual>) -> Result {
        if !self.held.is_empty() && self.random.random_range(0..4) == 0 {
            self.close(out);
        } else {
            self.held.iter().for_each(Tracked::keep_alive);
        }
        Ok(())
    }
}

/// Tells an effect for each item of a window.
pub(super) struct WindowSink {
    place: Place,
    random: ChaCha8Rng,
}

impl WindowSink {
    pub(super) fn of(place: &Place) -> Self {
        WindowSink { place: place.clone(), random: place.random() }
    }
}

impl Bolt for WindowSink {
    type Input = Pane;
    type Output = ();

    fn prepare(&mut self, context: &Context) -> Result {
        self.place.prepared(context);
        Ok(())
    }

    fn execute(&mut self, pane: Pane, _: &mut Emitter<()>) -> Result {
        let amiss = self.place.amiss(&mut self.random);
        for item in pane.items.chunks_exact(16) {
            let (offset, rest) = item.split_at(8);
            let (source, attempt) = rest.split_at(4);
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
            let tuple = SourceTuple { source: number(source) as u32, offset: number(offset) };
            self.place.effect(tuple, number(attempt) as u32, 0);
        }
        match amiss {
            Amiss::Fails | Amiss::Forgets => Err(fails()),
            Amiss::Panics => panic_as_meant(),
            Amiss::Nothing | Amiss::Holds(_) => Ok(()),
        }
    }
}
