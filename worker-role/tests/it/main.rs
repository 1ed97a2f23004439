//! Two workers of a topology in one thread, each with a Supervisor that only listens.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mutations::Mutation;
use seam::{Seam, Task};
use storm::local_cluster::run_seeded;
use storm::local_cluster::testing::Feed;
use storm::prelude::*;
use tokio::sync::mpsc;
use worker::journal;
use worker::transfer::pipe::Pipes;
use worker_api::answer::Spouts;
use worker_api::ids::{Incarnation, Life, PlanVersion, Port, SupervisorId, TopologyId, TopologyName, WorkerIndex};
use worker_api::launch::{LAUNCH_FORMAT, Launch};
use worker_api::plan::{Address, Placement, Plan, SlotPlan};
use worker_api::report::{Report, Stage};
use worker_api::secret::Secret;
use worker_role::{Ended, Event, ProcessFacts, Role, RoleConfig, Surroundings};

#[tuple]
#[derive(Debug, PartialEq)]
struct Item {
    n: u64,
}

struct Sink;

impl Bolt for Sink {
    type Input = Item;
    type Output = ();

    fn execute(&mut self, _: Item, _: &mut Emitter<()>) -> Result {
        Ok(())
    }
}

/// What two workers say, and what is heard of their links, with when it was in milliseconds.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn add(&self, seam: &Seam, began: tokio::time::Instant, what: String) {
        let at = (seam.now() - began).as_millis();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{at} {what}"));
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has(&self, what: &str) -> bool {
        self.all().iter().any(|line| line.ends_with(what))
    }
}

struct Around {
    told: Arc<dyn Fn(String) + Send + Sync>,
    events: mpsc::Receiver<Event>,
}

impl Surroundings for Around {
    fn report(&mut self, report: Report, to_nimbus: bool) {
        let Report { worker, number, pid, stage, spouts, drained, .. } = report;
        let links = report.links.values().filter(|link| link.connected).count();
        (self.told)(format!("{worker} reports {number} {pid} {stage:?} {spouts:?} {drained} {links} {to_nimbus}"));
    }

    async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => pending().await,
        }
    }

    fn peer_is_at(&mut self, peer: WorkerIndex, address: &Address) {
        (self.told)(format!("worker {peer} is at {address}"));
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts { pid: 7, cpu_us: 0, memory_bytes: 0 }
    }

    fn rotate_log(&mut self) {}
}

struct World {
    seam: Seam,
    began: tokio::time::Instant,
    pipes: Pipes,
    feed: Feed<Item>,
    told: Told,
}

impl World {
    fn new(seam: Seam) -> Self {
        let feed = Feed::of((0..100).map(|n| Item { n }));
        World { began: seam.now(), seam, pipes: Pipes::new(), feed, told: Told::default() }
    }

    fn topology(&self) -> Arc<Topology> {
        let mut topology = Topology::builder("items");
        let feed = self.feed.clone();
        let items = topology.spout("items", move || feed.spout()).add();
        topology.bolt("sink", || Sink).shuffle(&items).add();
        Arc::new(topology.build().unwrap())
    }

    fn role(&self, worker: u16, incarnation: u64) -> (Role<Around>, mpsc::Sender<Event>) {
        let slot = |task| SlotPlan { version: PlanVersion(1), executors: vec![vec![TaskId(task)]] };
        let address = |port| Some(Address { host: "machine".to_owned(), port });
        let placement = Placement {
            version: PlanVersion(1),
            plan: Plan { workers: vec![slot(1), slot(2)] },
            addresses: vec![address(6700), address(6701)],
        };
        let launch = Launch {
            format: LAUNCH_FORMAT,
            topology: TopologyId::new("items-1-1").unwrap(),
            name: TopologyName::new("items").unwrap(),
            worker: WorkerIndex(worker),
            incarnation: Incarnation(incarnation),
            supervisor: SupervisorId::new("machine").unwrap(),
            host: "machine".to_owned(),
            port: Port(6700 + worker),
            bind: "127.0.0.1".to_owned(),
            secret: Secret::new([7; 32]),
            arguments: Vec::new(),
            config: BTreeMap::new(),
            graph: PathBuf::new(),
            placement,
            spouts: Spouts::Active,
            revision: Default::default(),
            supervisor_socket: PathBuf::new(),
            nimbuses: Vec::new(),
            log: PathBuf::new(),
            log_bytes: 1,
            log_files: 1,
        };
        let (tell, events) = mpsc::channel(4);
        let say = |told: Told, seam: Seam, began| move |what: String| told.add(&seam, began, what);
        let said = say(self.told.clone(), self.seam.clone(), self.began);
        let heard = say(self.told.clone(), self.seam.clone(), self.began);
        let observer: journal::Observer = Arc::new(move |event| match event {
            journal::Event::Accepted { peer, life: Life { plan, incarnation } } => {
                heard(format!("{worker} accepts {peer} {plan}.{incarnation}"));
            }
            journal::Event::Refused { peer, life: Life { plan, incarnation }, why } => {
                heard(format!("{worker} refuses {peer} {plan}.{incarnation}: {why:?}"));
            }
        });
        let config = RoleConfig {
            topology: self.topology(),
            launch,
            connector: Arc::new(self.pipes.connector(WorkerIndex(worker))),
            data: self.seam.clone(),
            control: self.seam.clone(),
            journal: None,
            observer: Some(observer),
        };
        (Role::start(config, Around { told: Arc::new(said), events }), tell)
    }

    fn run(&self, worker: u16, incarnation: u64) -> (Task<Ended>, mpsc::Sender<Event>) {
        let (role, tell) = self.role(worker, incarnation);
        (self.seam.spawn(role.run()), tell)
    }

    async fn until(&self, what: impl Fn(&Told) -> bool) {
        for _ in 0..100_000 {
            if what(&self.told) {
                return;
            }
            self.seam.sleep(Duration::from_millis(1)).await;
        }
        panic!("it has not come: {:#?}", self.told.all());
    }
}

/// Both run, worker 1 is killed and comes back, worker 0 ends in order.
async fn story(seam: Seam) -> Vec<String> {
    let world = World::new(seam);
    let (zero, tell) = world.run(0, 1);
    let (one, _tell) = world.run(1, 1);
    world.until(|_| world.feed.acked().len() == 100).await;
    drop(one);
    world.pipes.kill(WorkerIndex(1));
    let (_one, _tell) = world.run(1, 2);
    world.until(|told| told.has("0 accepts 1 1.2")).await;
    tell.send(Event::Signal).await.unwrap();
    let Ended { in_order, report } = zero.join().await.unwrap();
    assert!(in_order);
    assert_eq!(report.executors[0].counts.acked, 100);
    world.told.all()
}

#[test]
fn a_worker_runs_in_one_thread_and_the_same_each_time() {
    let told = run_seeded(3, story);
    assert_eq!(told, run_seeded(3, story));
    let without_time: Vec<&str> = told.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    let expected = [
        "worker 1 is at machine:6701",
        "worker 0 is at machine:6700",
        "0 accepts 1 1.1",
        "1 accepts 0 1.1",
        "0 accepts 1 1.2",
        "1 accepts 0 1.1",
    ];
    for expected in expected {
        assert!(without_time.contains(&expected), "{expected}: {told:#?}");
    }
    assert!(without_time.iter().any(|line| line.starts_with("0 reports 1 7 Starting Inactive")), "{told:#?}");
    assert!(without_time.iter().any(|line| line.contains(" Draining Inactive true 1 false")), "{told:#?}");
}

#[test]
fn dropping_a_role_ends_all_of_it_at_once() {
    run_seeded(4, async |seam| {
        let world = World::new(seam);
        let (zero, _tell) = world.run(0, 1);
        let (role, _events) = world.role(1, 1);
        let worker = role.worker();
        let one = world.seam.spawn(role.run());
        world.until(|told| told.has("1 accepts 0 1.1")).await;
        assert_eq!(worker.upgrade().unwrap().report().executors.len(), 1);
        drop(one);
        world.seam.sleep(Duration::from_millis(1)).await;
        assert!(worker.upgrade().is_none());
        // Its connections have closed.
        world.until(|told| told.all().iter().any(|line| line.contains("0 reports") && line.contains(" 0 false"))).await;
        let said = world.told.all().len();
        drop(zero);
        world.seam.sleep(Duration::from_secs(5)).await;
        assert_eq!(world.told.all().len(), said);
    });
}

#[test]
fn a_second_signal_ends_it_without_order() {
    run_seeded(5, async |seam| {
        let world = World::new(seam);
        let (zero, tell) = world.run(0, 1);
        for _ in 0..2 {
            tell.send(Event::Signal).await.unwrap();
        }
        assert!(!zero.join().await.unwrap().in_order);
    });
}

/// An earlier life of a peer that comes late is refused, and who listens hears it.
#[test]
fn a_life_that_was_replaced_is_refused() {
    run_seeded(6, async |seam| {
        let world = World::new(seam);
        let (_zero, _tell) = world.run(0, 1);
        let (_new, _events) = world.run(1, 2);
        world.until(|told| told.has("0 accepts 1 1.2")).await;
        let (_old, _more) = world.run(1, 1);
        world.until(|told| told.has("0 refuses 1 1.1: OlderIncarnation")).await;
    });
}

/// Spouts that are asked before the peers are there are seen by the first report that says so.
#[test]
fn spouts_wait_for_the_peers_unless_that_is_the_bug() {
    let early = |mutation| {
        mutations::switch(mutation);
        let early = run_seeded(7, async |seam| {
            let world = World::new(seam);
            let (_zero, _tell) = world.run(0, 1);
            world.seam.sleep(Duration::from_secs(5)).await;
            world.told.all().iter().any(|line| line.contains(&format!("{:?} {:?}", Stage::Starting, Spouts::Active)))
        });
        mutations::switch(None);
        early
    };
    assert!(!early(None));
    assert!(early(Some(Mutation::SpoutsActivatedTooEarly)));
}
