//! What runs in the cluster: topologies drawn from a seed, their sources and sinks, and what their bolts do amiss.
//!
//! | drawn | shape | what it is for |
//! |---|---|---|
//! | chain | source, up to two steps, sink | inner hops, acks and fails across workers, several tuples for each root |
//! | diamond | two ways from each tuple, and a join that anchors to both | children with several parents, inputs that are held |
//! | fan | several tuples for each root, and every grouping | roots of several edges, fan-out |
//! | window | several sources into a bolt that holds, and emits one tuple for many inputs | many anchors, ticks, long holds |
//! | slow | large tuples in bursts, through an async bolt that takes its time | permits, back-pressure |
//!
//! Not here: who runs it, and what must hold (`oracle`). Invariants: what a topology does depends on the seed, its id and the
//! order of calls alone; sources outlive workers, as a log of messages would; an effect is told before its input is acked.

mod bolts;
mod evidence;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use topology_api::prelude::*;
use topology_api::topology::Graph;
use worker_api::ids::{TopologyId, TopologyName};

use crate::oracle::Observation;
use bolts::{Item, Join, Neighbours, Relay, Scatter, Sink, Split, Unhurried, Which, WindowSink, Windows};
use evidence::{Evidence, Place};
use source::{Pace, Reader};

/// Who hears what happens, in its order. It is called in the midst of a component's work, and must not wait.
pub type Hear = Arc<dyn Fn(Observation) + Send + Sync>;

/// The topologies of one run, with what outlives their workers.
pub struct Workload {
    evidence: Arc<Evidence>,
    topologies: Vec<SubmittedTopology>,
}

/// A topology that is to be submitted; a cheap clone.
#[derive(Clone)]
pub struct SubmittedTopology {
    name: TopologyName,
    /// How many effects each tuple of its sources has; `None` if its components tell the oracle nothing.
    effects: Option<u32>,
    make: Arc<dyn Fn(&TopologyId) -> Topology + Send + Sync>,
}

/// What the oracle knows of a topology beforehand.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Its components and edges.
    pub graph: Graph,
    /// How many effects each tuple of its sources has; `None` if its components tell the oracle nothing.
    pub effects: Option<u32>,
}

/// What was drawn for one topology: the same for each build of it.
#[derive(Clone, Debug)]
struct Drawn {
    name: TopologyName,
    kind: Kind,
    workers: u16,
    /// Tasks of each spout.
    sources: usize,
    /// Tuples of each root.
    parts: u32,
    /// Steps of a chain.
    hops: usize,
    parallelism: usize,
    pace: Pace,
    message_timeout_s: u64,
    inbox_tuples: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Chain,
    Diamond,
    Fan,
    Window,
    Slow,
}

impl Kind {
    const ALL: [(Kind, &str); 5] = [
        (Kind::Chain, "chain"),
        (Kind::Diamond, "diamond"),
        (Kind::Fan, "fan"),
        (Kind::Window, "window"),
        (Kind::Slow, "slow"),
    ];
}

impl Workload {
    /// One to three topologies of different kinds, by this seed.
    pub fn of(seed: u64, hear: Hear) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let evidence = Arc::new(Evidence::new(random.random(), hear));
        let mut kinds = Kind::ALL.to_vec();
        let count = random.random_range(1..=3);
        let topologies = (0..count).map(|number| {
            let (kind, name) = kinds.swap_remove(random.random_range(0..kinds.len()));
            let name = TopologyName::new(format!("{name}-{number}")).expect("a name of letters and a digit is allowed");
            Drawn::by(name, kind, &mut random).submitted(&evidence)
        });
        Workload { topologies: topologies.collect(), evidence }
    }

    /// A topology of a user's own, which tells the oracle nothing of its tuples.
    pub fn of_own(topology: SubmittedTopology, hear: Hear) -> Self {
        Workload { evidence: Arc::new(Evidence::new(0, hear)), topologies: vec![topology] }
    }

    /// What is to be submitted.
    pub fn topologies(&self) -> &[SubmittedTopology] {
        &self.topologies
    }

    /// What the oracle knows of them.
    pub fn shapes(&self) -> BTreeMap<TopologyName, Shape> {
        self.topologies.iter().map(|topology| (topology.name.clone(), topology.shape())).collect()
    }

    /// Whether the seed has drawn the topologies, and their sources are known.
    pub fn is_drawn(&self) -> bool {
        self.topologies.iter().all(|topology| topology.effects.is_some())
    }

    /// How many tuples of a submission's sources are not acked yet; `None` if none was ever read.
    pub fn unread(&self, topology: &TopologyId) -> Option<u64> {
        self.evidence.unread(topology)
    }

    /// Whether components do amiss what the seed says; at first they do.
    pub fn faults_on(&self, on: bool) {
        self.evidence.set_faults(on);
    }

    /// Has the sources give nothing more that is new; what is not acked they give again.
    pub fn close_sources(&self) {
        self.evidence.close_sources();
    }
}

impl SubmittedTopology {
    /// A topology of a user's own. Each call makes the same graph, under this name.
    pub fn of_own(name: TopologyName, make: impl Fn() -> Topology + Send + Sync + 'static) -> Self {
        SubmittedTopology { name, effects: None, make: Arc::new(move |_| make()) }
    }

    /// Its name.
    pub fn name(&self) -> &TopologyName {
        &self.name
    }

    /// How many workers it asks for.
    pub fn workers(&self) -> u16 {
        self.build(&TopologyId::of(&self.name, 0, 0)).settings().workers
    }

    /// How many effects each tuple of its sources has; 0 if its components tell the oracle nothing.
    pub fn effects(&self) -> u32 {
        self.effects.unwrap_or(0)
    }

    /// What the oracle knows of it.
    pub fn shape(&self) -> Shape {
        let nobody = TopologyId::of(&self.name, 0, 0);
        Shape { graph: self.build(&nobody).graph(), effects: self.effects }
    }

    /// Builds it anew, as each worker process does, for the submission of this id. The graph is the same for each.
    ///
    /// # Panics
    /// If a user's own does.
    pub fn build(&self, id: &TopologyId) -> Topology {
        (self.make)(id)
    }
}

impl fmt::Debug for SubmittedTopology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl Drawn {
    fn submitted(self, evidence: &Arc<Evidence>) -> SubmittedTopology {
        let (name, effects, evidence) = (self.name.clone(), Some(self.effects()), evidence.clone());
        let make = move |id: &TopologyId| self.build(&Place { evidence: evidence.clone(), topology: id.clone() });
        SubmittedTopology { name, effects, make: Arc::new(make) }
    }

    fn effects(&self) -> u32 {
        match self.kind {
            Kind::Fan => self.parts * (2 * self.parallelism as u32 + 7),
            Kind::Chain | Kind::Diamond | Kind::Window | Kind::Slow => self.parts,
        }
    }

    fn build(&self, place: &Place) -> Topology {
        let mut topology = Topology::builder(self.name.as_str());
        topology.config("topology.workers", self.workers);
        topology.config("topology.message.timeout.secs", self.message_timeout_s);
        topology.config("topology.executor.receive.buffer.size", self.inbox_tuples);
        match self.kind {
            Kind::Chain => self.chain(&mut topology, place),
            Kind::Diamond => self.diamond(&mut topology, place),
            Kind::Fan => self.fan(&mut topology, place),
            Kind::Window => self.window(&mut topology, place),
            Kind::Slow => self.slow(&mut topology, place),
        }
        topology.build().unwrap_or_else(|error| panic!("the workload draws topologies that can be built: {error}"))
    }

    fn source(&self, topology: &mut TopologyBuilder, place: &Place, name: &str) -> Stream<Item> {
        let (place, pace, parts) = (place.clone(), self.pace, self.parts);
        topology.spout(name, move || Reader::of(&place, pace, parts)).parallelism(self.sources).add()
    }

    fn relay(&self, topology: &mut TopologyBuilder, place: &Place, name: &str, items: &Stream<Item>) -> Stream<Item> {
        let (place, many) = (place.clone(), self.parallelism);
        let relay = topology.bolt(name, move || Relay::of(&place)).parallelism(many).tasks(many + 1);
        relay.tick_every(TICK).fields(items, (Item::SOURCE, Item::OFFSET)).add()
    }

    fn chain(&self, topology: &mut TopologyBuilder, place: &Place) {
        let many = self.parallelism;
        let mut items = self.source(topology, place, "source");
        for hop in 0..self.hops {
            items = self.relay(topology, place, &format!("step-{hop}"), &items);
        }
        let last = place.clone();
        topology.bolt("sink", move || Sink::of(&last, 1, 0, Which::One)).parallelism(many).shuffle(&items).add();
    }

    fn diamond(&self, topology: &mut TopologyBuilder, place: &Place) {
        let many = self.parallelism;
        let items = self.source(topology, place, "source");
        let [split, right, join, sink] = std::array::from_fn(|_| place.clone());
        let halves = topology.bolt("split", move || Split::of(&split)).parallelism(many).shuffle(&items).add();
        let left = self.relay(topology, place, "left", &halves.left);
        let right = topology.async_bolt("right", 8, move || Unhurried::of(&right, SHORT)).parallelism(many);
        let right = right.shuffle(&halves.right).add();
        let join = topology.bolt("join", move || Join::of(&join)).parallelism(many).tick_every(TICK);
        let key = (Item::SOURCE, Item::OFFSET);
        let joined = join.fields(&left, key).fields(&right, key).add();
        topology.bolt("sink", move || Sink::of(&sink, 1, 0, Which::One)).shuffle(&joined).add();
    }

    fn fan(&self, topology: &mut TopologyBuilder, place: &Place) {
        let many = self.parallelism;
        let width = self.effects() / self.parts;
        let items = self.source(topology, place, "source");
        let scatter = place.clone();
        let scattered = topology.bolt("scatter", move || Scatter::of(&scatter, many as u32)).parallelism(many);
        let scattered = scattered.shuffle(&items).add();
        let mut first = 0;
        let mut sink = |effects: usize, which: Which| {
            let (place, base) = (place.clone(), first);
            first += effects as u32;
            move || Sink::of(&place, width, base, which)
        };
        topology.bolt("to-all", sink(many, Which::ByTask)).parallelism(many).all(&items).add();
        topology.bolt("to-two", sink(2, Which::ByOffset)).parallelism(many + 1).custom(&items, || Neighbours).add();
        topology.bolt("by-fields", sink(1, Which::One)).parallelism(many).fields(&items, Item::OFFSET).add();
        topology.bolt("by-part", sink(1, Which::One)).parallelism(many).partial_key(&items, Item::PART).add();
        topology.bolt("global", sink(1, Which::One)).parallelism(many).global(&items).add();
        topology.bolt("near", sink(1, Which::One)).parallelism(many).local_or_shuffle(&items).add();
        topology.bolt("named", sink(1, Which::One)).parallelism(many).direct(&scattered.named).add();
        topology.bolt("copies", sink(many, Which::ByCopy)).parallelism(many).none(&scattered.copies).add();
        debug_assert_eq!(first, width, "each effect has a place of its own");
    }

    fn window(&self, topology: &mut TopologyBuilder, place: &Place) {
        let many = self.parallelism;
        let one = self.source(topology, place, "one-source");
        let other = self.source(topology, place, "other-source");
        let (windows, sink) = (place.clone(), place.clone());
        let windows = topology.bolt("windows", move || Windows::of(&windows)).parallelism(many).tick_every(TICK);
        let panes = windows.fields(&one, Item::OFFSET).fields(&other, Item::OFFSET).add();
        topology.bolt("sink", move || WindowSink::of(&sink)).parallelism(many).shuffle(&panes).add();
    }

    fn slow(&self, topology: &mut TopologyBuilder, place: &Place) {
        let many = self.parallelism;
        let items = self.source(topology, place, "source");
        let (slow, sink) = (place.clone(), place.clone());
        let slow = topology.async_bolt("slow", 1, move || Unhurried::of(&slow, LONG)).parallelism(many);
        let items = slow.fields(&items, Item::OFFSET).add();
        let items = self.relay(topology, place, "then", &items);
        topology.bolt("sink", move || Sink::of(&sink, 1, 0, Which::One)).parallelism(many).shuffle(&items).add();
    }

    fn by(name: TopologyName, kind: Kind, random: &mut ChaCha8Rng) -> Self {
        let sources = random.random_range(1..=2);
        // Roots a second, of all sources together: what a seed costs.
        let rate = match kind {
            Kind::Chain | Kind::Diamond | Kind::Window => 20,
            Kind::Fan => 6,
            Kind::Slow => 3,
        };
        let burst = match kind {
            Kind::Slow => random.random_range(20..=80),
            _ => random.random_range(1..=10),
        };
        let spouts = if kind == Kind::Window { 2 * sources } else { sources };
        Drawn {
            name,
            kind,
            workers: random.random_range(1..=4),
            sources,
            parts: match kind {
                Kind::Chain => random.random_range(1..=2),
                Kind::Fan => 2,
                Kind::Diamond | Kind::Window | Kind::Slow => 1,
            },
            hops: random.random_range(0..=2),
            parallelism: random.random_range(1..=3),
            pace: Pace {
                burst,
                every: Duration::from_millis(1000 * burst * spouts as u64 / rate),
                load_bytes: if kind == Kind::Slow { random.random_range(64..=160) << 10 } else { 0 },
            },
            message_timeout_s: random.random_range(5..=20),
            inbox_tuples: [2, 4, 16, 4096][random.random_range(0..4)],
        }
    }
}

/// How often bolts that hold are called.
const TICK: Duration = Duration::from_millis(250);
/// How long a call that takes its time does so at most.
const SHORT: Duration = Duration::from_millis(20);
/// The same, where it is to be slow.
const LONG: Duration = Duration::from_millis(60);
