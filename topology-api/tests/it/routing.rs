//! What leaves a bolt: where each tuple goes, and how the edges of its input are divided over all that leaves and is acked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use storm::anchor::{Anchor, Edge, EdgeIds, Generation, LedgerId, Root, Slot};
use storm::batch::{Anchors, Batch};
use storm::component::{AnyBolt, AnyTask, Clock, Ran, Tally, TaskParts, Turn};
use storm::fail::{FailKind, FailReason};
use storm::grouping::CustomGrouping;
use storm::output::{Outbox, Rooms, StreamWires, Target, Wires};
use storm::prelude::*;
use storm::tuple::KeyGroup;

/// What a call shall do.
#[tuple]
#[derive(Debug)]
struct Job {
    left: u64,
    right: u64,
    pulled: u64,
    straight: u64,
    /// 0 returns well, 1 an error, 2 panics, 3 the iterator panics.
    end: u64,
}

#[tuple]
#[derive(Debug, PartialEq)]
struct Part {
    n: u64,
}

#[derive(Output)]
struct Parts {
    left: Port<Part>,
    right: Port<Part>,
    straight: Direct<Part>,
}

struct Cut {
    next: u64,
}

impl Bolt for Cut {
    type Input = Job;
    type Output = Parts;

    fn execute(&mut self, job: Job, out: &mut Emitter<Parts>) -> Result {
        let mut part = || {
            self.next += 1;
            Part { n: self.next }
        };
        (0..job.left).for_each(|_| out.left.emit(part()));
        (0..job.right).for_each(|_| out.right.emit(part()));
        for n in 0..job.straight {
            let receivers = out.straight.receivers();
            let task = receivers[n as usize % receivers.len()];
            out.straight.emit_to(task, part())?;
        }
        if job.pulled > 0 {
            let breaks = job.end == 3;
            out.right.emit_all((0..job.pulled).map(move |n| {
                assert!(!breaks || n < 5, "the iterator breaks");
                Part { n }
            }));
        }
        match job.end {
            1 => Err(Error::retry("as told")),
            2 => panic!("as told"),
            _ => Ok(()),
        }
    }
}

struct Jobs;

impl Spout for Jobs {
    type Output = Job;
    type MessageId = ();

    fn next(&mut self, _: &mut Roots<'_, Job, ()>) -> Result<Next> {
        Ok(Next::Done)
    }
}

struct Takes;

impl Bolt for Takes {
    type Input = Part;
    type Output = ();

    fn execute(&mut self, _: Part, _: &mut Emitter<()>) -> Result {
        Ok(())
    }
}

struct Reads;

impl Bolt for Reads {
    type Input = Values;
    type Output = ();

    fn execute(&mut self, _: Values, _: &mut Emitter<()>) -> Result {
        Ok(())
    }
}

/// As many tasks as the number's last digit, or a foreign one for 9.
struct Some9;

impl CustomGrouping<Part> for Some9 {
    fn choose(&mut self, part: &Part, tasks: &[TaskId], chosen: &mut Vec<TaskId>) {
        match part.n % 10 {
            9 => chosen.push(TaskId(9999)),
            n => chosen.extend(tasks.iter().take(n as usize)),
        }
    }
}

struct Stopped;

impl Clock for Stopped {
    fn now_us(&self) -> u64 {
        0
    }
}

/// Room everywhere but at the outlets of these tasks.
struct Except(BTreeSet<TaskId>, Vec<Vec<TaskId>>);

impl Rooms for Except {
    fn has_room(&self, outlet: u32) -> bool {
        self.1[outlet as usize].iter().all(|task| !self.0.contains(task))
    }
}

/// One task of a component, and what leaves it.
struct Rig {
    bolt: Box<dyn AnyBolt>,
    outbox: Outbox,
    rooms: Except,
    /// (task, its tuple's number, its anchors), in order.
    arrived: Vec<(TaskId, u64, Vec<Anchor>)>,
    acked: Vec<Anchor>,
    failed: BTreeMap<Root, FailKind>,
    check: EdgeIds,
}

impl Rig {
    /// The component `cut`; tasks with an even id run in its worker, odd ones in one other.
    fn new(topology: &Topology, key: u8) -> Self {
        let place = topology.components().iter().position(|component| component.name() == "cut");
        let place = place.expect("every graph here has a `cut`");
        let component = &topology.components()[place];
        let mut outlets: Vec<Vec<TaskId>> = Vec::new();
        let mut streams: Vec<StreamWires<'_>> = component
            .streams()
            .iter()
            .map(|stream| StreamWires { fields: &stream.fields, routes: Vec::new(), receivers: Vec::new() })
            .collect();
        for (subscriber, index) in topology.subscribers(place) {
            let info = &topology.components()[subscriber];
            let subscription = &info.subscriptions()[index];
            let (mut targets, mut broadcast, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
            for task in info.tasks() {
                let local = task.0 % 2 == 0;
                targets.push(Target { task: *task, outlet: outlets.len() as u32, local });
                if local {
                    broadcast.push(outlets.len() as u32)
                } else {
                    elsewhere.push(*task)
                }
                outlets.push(vec![*task]);
            }
            if !elsewhere.is_empty() {
                broadcast.push(outlets.len() as u32);
                outlets.push(elsewhere);
            }
            if *subscription.grouping() == Grouping::Direct {
                streams[subscription.stream].receivers.extend(info.tasks());
            }
            let start = usize::from(key) * 7;
            streams[subscription.stream].routes.push(subscription.route(info.name(), targets, broadcast, start));
        }
        let parts = TaskParts {
            component: "cut",
            wires: Wires::new(streams),
            sources: Vec::new(),
            key: [key; 32],
            clock: Arc::new(Stopped),
        };
        let AnyTask::Bolt(bolt) = topology.task(place, parts) else { panic!("`cut` is a bolt") };
        Rig {
            bolt,
            outbox: Outbox::new(EdgeIds::from_key([key.wrapping_add(1); 32])),
            rooms: Except(BTreeSet::new(), outlets),
            arrived: Vec::new(),
            acked: Vec::new(),
            failed: BTreeMap::new(),
            check: EdgeIds::from_key([key.wrapping_add(2); 32]),
        }
    }

    /// Runs a batch to its end, with new instances where one panics, and delivers all of it.
    fn run(&mut self, jobs: Vec<Job>, anchors: Anchors) {
        let mut batch = self.bolt.admit(0, Box::new(Batch::new(jobs, anchors)));
        let mut tally = Tally::default();
        loop {
            let ran = self.turn(&mut tally, |bolt, turn| bolt.execute(0, TaskId(1), &mut *batch, turn));
            let mut pulled = self.turn(&mut tally, |bolt, turn| bolt.output().pull(turn));
            while matches!(pulled, Ran::Paused) {
                pulled = self.turn(&mut tally, |bolt, turn| bolt.output().pull(turn));
            }
            for ended in [&ran, &pulled] {
                if let Ran::Panicked(text) = ended {
                    self.turn(&mut tally, |bolt, turn| {
                        bolt.restart(&FailReason::new(FailKind::Panicked, "cut", text), turn);
                        Ran::Done
                    });
                }
            }
            if matches!(ran, Ran::Done) || batch.is_empty() {
                break;
            }
        }
        self.flush(&mut tally);
    }

    fn flush(&mut self, tally: &mut Tally) {
        self.turn(tally, |bolt, turn| {
            bolt.output().route(turn, true);
            Ran::Done
        });
        self.deliver();
    }

    fn turn(&mut self, tally: &mut Tally, call: impl FnOnce(&mut dyn AnyBolt, &mut Turn<'_>) -> Ran) -> Ran {
        let mut turn = Turn {
            outbox: &mut self.outbox,
            rooms: &self.rooms,
            clock: &Stopped,
            began_us: 0,
            until_us: u64::MAX,
            tally,
            component: "cut",
        };
        call(&mut *self.bolt, &mut turn)
    }

    /// What is sent to another worker goes as bytes, once for all of its tasks.
    fn deliver(&mut self) {
        while let Some(outgoing) = self.outbox.outgoing.pop_front() {
            let tasks = self.rooms.1[outgoing.outlet as usize].clone();
            let mut bytes = Vec::new();
            outgoing.batch.encode(tasks.len() as u16, &mut self.check, &mut bytes);
            for (receiver, task) in tasks.into_iter().enumerate() {
                let batch = Batch::<Part>::decode(&bytes, receiver, outgoing.batch.len());
                let batch = batch.expect("what was written is read");
                let anchors = batch.anchors.clone();
                for (index, part) in batch.tuples.enumerate() {
                    self.arrived.push((task, part.n, anchors.of(index).to_vec()));
                }
            }
        }
        self.acked.append(&mut self.outbox.acks);
        for (root, reason) in self.outbox.fails.drain(..) {
            self.failed.entry(root).or_insert(reason.kind);
        }
    }

    /// For each root, the XOR of all that arrived or was acked.
    fn balance(&self) -> BTreeMap<Root, u64> {
        let mut balance = BTreeMap::new();
        for anchor in self.arrived.iter().flat_map(|(_, _, anchors)| anchors).chain(&self.acked) {
            if !anchor.is_none() {
                assert_ne!(anchor.edge, Edge(0), "no edge is zero");
                *balance.entry(anchor.root).or_default() ^= anchor.edge.0;
            }
        }
        balance
    }

    fn by_task(&self) -> BTreeMap<u32, Vec<u64>> {
        let mut by_task: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (task, n, _) in &self.arrived {
            by_task.entry(task.0).or_default().push(*n);
        }
        by_task
    }
}

fn begun()
-> (TopologyBuilder, storm::topology::Stream<Part>, storm::topology::Stream<Part>, storm::topology::DirectStream<Part>)
{
    let mut topology = Topology::builder("cuts");
    let jobs = topology.spout("a-jobs", || Jobs).add();
    let parts = topology.bolt("cut", || Cut { next: 0 }).shuffle(&jobs).add();
    (topology, parts.left, parts.right, parts.straight)
}

/// Every kind of subscriber, as `kinds` says.
fn subscribed(kinds: &[u8]) -> Topology {
    let (mut topology, left, right, straight) = begun();
    topology.bolt("players", || Takes).parallelism(3).direct(&straight).add();
    for (number, kind) in kinds.iter().enumerate() {
        let stream = if number % 2 == 0 { &left } else { &right };
        let bolt = topology.bolt(&format!("sub-{number}"), || Takes).parallelism(1 + number % 4);
        match kind % 8 {
            0 => bolt.shuffle(stream).add(),
            1 => bolt.fields(stream, Part::N).add(),
            2 => bolt.partial_key(stream, Part::N).add(),
            3 => bolt.all(stream).add(),
            4 => bolt.global(stream).add(),
            5 => bolt.local_or_shuffle(stream).add(),
            6 => bolt.custom(stream, || Some9).add(),
            _ => bolt.none(stream).add(),
        }
    }
    topology.build().unwrap_or_else(|error| panic!("{error}"))
}

fn root(number: u32) -> Root {
    Root::new(LedgerId(3), Slot(number), Generation(number + 1))
}

fn job() -> impl Strategy<Value = Job> {
    let end = prop_oneof![12 => Just(0_u64), 1 => Just(1), 1 => Just(2), 1 => Just(3)];
    let pulled = prop_oneof![6 => Just(0_u64), 2 => 1..20_u64, 1 => 250..1200_u64];
    (0..4_u64, 0..4_u64, pulled, 0..3_u64, end).prop_map(|(left, right, pulled, straight, end)| Job {
        left,
        right,
        pulled,
        straight,
        end,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever a bolt emits, to whom, and from how many roots: what left it and what it acked XOR to what came in, if all
    /// of it went well; if any of it failed, the root fails and nothing that left can complete it.
    #[test]
    fn edges_are_divided_and_failed_ones_never_balance(
        kinds in prop::collection::vec(0..8_u8, 0..6),
        inputs in prop::collection::vec((job(), prop::collection::btree_set(0..12_u32, 0..4)), 1..60),
        key in any::<u8>(),
    ) {
        let topology = subscribed(&kinds);
        let mut rig = Rig::new(&topology, key);
        let mut edges = EdgeIds::from_key([key ^ 0x55; 32]);
        let (mut came, mut wrong) = (BTreeMap::<Root, u64>::new(), BTreeSet::new());
        let mut anchors = Anchors::default();
        let mut jobs = Vec::new();
        for (job, roots) in inputs {
            let of: Vec<Anchor> =
                roots.iter().map(|number| Anchor { root: root(*number), edge: edges.draw() }).collect();
            for anchor in &of {
                *came.entry(anchor.root).or_default() ^= anchor.edge.0;
                if job.end == 1 || job.end == 2 || (job.end == 3 && job.pulled > 5) {
                    wrong.insert(anchor.root);
                }
            }
            anchors.push(&of);
            jobs.push(job);
        }
        rig.run(jobs, anchors);
        let balance = rig.balance();
        for (root, came) in came {
            let left = balance.get(&root).copied().unwrap_or(0);
            if wrong.contains(&root) {
                prop_assert!(rig.failed.contains_key(&root), "{root} fails");
                prop_assert_ne!(left, came, "{} cannot complete", root);
            } else if rig.failed.contains_key(&root) {
                // A custom grouping chose a foreign task.
                prop_assert_ne!(left, came, "{} cannot complete", root);
                prop_assert!(kinds.iter().any(|kind| kind % 8 == 6));
            } else {
                prop_assert_eq!(left, came, "{} balances", root);
            }
        }
    }

    #[test]
    fn a_batch_without_anchors_stays_without(kinds in prop::collection::vec(0..8_u8, 0..6), jobs in prop::collection::vec(job(), 1..40)) {
        let topology = subscribed(&kinds);
        let mut rig = Rig::new(&topology, 1);
        rig.run(jobs, Anchors::default());
        prop_assert!(rig.arrived.iter().all(|(_, _, anchors)| anchors.is_empty()));
        prop_assert!(rig.acked.is_empty() && rig.failed.is_empty());
    }
}

/// Runs jobs that emit so many parts on `left`, each batch flushed or left open as chance will.
fn emits(topology: &Topology, fan_outs: &[u64], key: u8) -> Rig {
    let mut rig = Rig::new(topology, key);
    for jobs in fan_outs.chunks(5) {
        let job = |left: &u64| Job { left: *left, right: 0, pulled: 0, straight: 0, end: 0 };
        rig.run(jobs.iter().map(job).collect(), Anchors::default());
    }
    rig
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn shuffle_is_even_by_tuples(tasks in 1..12_usize, fan_outs in prop::collection::vec(0..60_u64, 2000..2500), key in any::<u8>()) {
        let (mut topology, left, ..) = begun();
        topology.bolt("sub", || Takes).parallelism(tasks).shuffle(&left).add();
        let rig = emits(&topology.build().unwrap(), &fan_outs, key);
        let total: u64 = fan_outs.iter().sum();
        let each = total as f64 / tasks as f64;
        let by_task = rig.by_task();
        prop_assert_eq!(rig.arrived.len() as u64, total);
        for (task, seen) in &by_task {
            let off = (seen.len() as f64 - each).abs();
            // 1 %, or a batch where that is more.
            prop_assert!(off <= (each * 0.01).max(300.0), "task {} of {} got {} instead of {:.0}", task, tasks, seen.len(), each);
        }
    }

    #[test]
    fn a_key_has_one_task_or_two(tasks in 1..12_usize, fan_outs in prop::collection::vec(0..20_u64, 200..300)) {
        let (mut topology, left, ..) = begun();
        // Typed by token, by closure and by computed key, and by name.
        topology.bolt("sub-1", || Takes).parallelism(tasks).fields(&left, Part::N).add();
        topology.bolt("sub-2", || Takes).parallelism(tasks).fields_by(&left, |part| &part.n).add();
        topology.bolt("sub-3", || Takes).parallelism(tasks).fields_with(&left, |part| part.n as i32).add();
        topology.bolt("sub-4", || Reads).parallelism(tasks).subscribe_stream("cut", "left", Grouping::fields(["n"])).add();
        topology.bolt("sub-5", || Takes).parallelism(tasks).partial_key(&left, Part::N).add();
        let topology = topology.build().unwrap();
        let mut places: BTreeMap<(&str, u64), BTreeSet<usize>> = BTreeMap::new();
        for key in [1, 2] {
            for (task, n, _) in emits(&topology, &fan_outs, key).arrived {
                let sub = topology.components().iter().find(|component| component.tasks().contains(&task)).unwrap();
                places.entry((sub.name(), n)).or_default().insert((task.0 - sub.tasks()[0].0) as usize);
            }
        }
        for n in 1..=fan_outs.iter().sum() {
            let mut hashed = storm::tuple::KeyBytes::default();
            hashed.begin_fields(1);
            storm::tuple::Key::write_key(&n, &mut hashed);
            let first = KeyGroup::of_hash(hashed.hash()).task_index(tasks);
            for sub in ["sub-1", "sub-2", "sub-3", "sub-4"] {
                prop_assert_eq!(&places[&(sub, n)], &BTreeSet::from([first]), "{} in {}", n, sub);
            }
            prop_assert!(places[&("sub-5", n)].len() <= 2);
        }
    }
}

#[test]
fn partial_key_levels_a_hot_key_over_two_tasks() {
    let (mut topology, left, ..) = begun();
    topology.bolt("sub", || Takes).parallelism(6).partial_key(&left, Part::N).add();
    let topology = topology.build().unwrap();
    let mut rig = Rig::new(&topology, 1);
    for _ in 0..2000 {
        // Each new instance counts from one again, so that the key is the same.
        rig.run(vec![Job { left: 1, right: 0, pulled: 0, straight: 0, end: 2 }], Anchors::default());
    }
    let by_task = rig.by_task();
    let counts: Vec<usize> = by_task.values().map(Vec::len).collect();
    assert_eq!(counts, [1000, 1000]);
}

#[test]
fn all_global_and_local_or_shuffle_keep_to_their_tasks() {
    let fan_outs = vec![3; 400];
    let numbers: Vec<u64> = (1..=1200).collect();
    let spread = |kind: u8, tasks: usize| {
        let (mut topology, left, ..) = begun();
        let sub = topology.bolt("sub", || Takes).parallelism(tasks);
        match kind {
            0 => sub.all(&left).add(),
            1 => sub.global(&left).add(),
            _ => sub.local_or_shuffle(&left).add(),
        }
        // Tasks: a-jobs 1, cut 2, sub from 3 on; even ones are in the emitter's worker.
        emits(&topology.build().unwrap(), &fan_outs, 9).by_task()
    };
    assert_eq!(spread(0, 4), (3..7).map(|task| (task, numbers.clone())).collect());
    assert_eq!(spread(1, 4), BTreeMap::from([(3, numbers.clone())]));
    let local = spread(2, 5);
    assert_eq!(local.keys().copied().collect::<Vec<_>>(), [4, 6]);
    assert_eq!(spread(2, 1).keys().copied().collect::<Vec<_>>(), [3], "nobody is local");
}

/// A full receiver is passed over, and gets no burst afterwards; if all are full, the one that had least waits.
#[test]
fn shuffle_passes_over_tasks_without_room() {
    let (mut topology, left, ..) = begun();
    topology.bolt("sub", || Takes).parallelism(3).shuffle(&left).add();
    let topology = topology.build().unwrap();
    let mut rig = Rig::new(&topology, 0);
    let send = |rig: &mut Rig, batches: usize| {
        rig.arrived.clear();
        for _ in 0..batches {
            rig.run(vec![Job { left: 10, right: 0, pulled: 0, straight: 0, end: 0 }], Anchors::default());
        }
        rig.by_task().into_iter().map(|(task, seen)| (task, seen.len())).collect::<Vec<_>>()
    };
    assert_eq!(send(&mut rig, 30), [(3, 100), (4, 100), (5, 100)]);
    rig.rooms.0.insert(TaskId(4));
    assert_eq!(send(&mut rig, 30), [(3, 150), (5, 150)]);
    rig.rooms.0.clear();
    assert_eq!(send(&mut rig, 30), [(3, 100), (4, 100), (5, 100)]);
    rig.rooms.0.extend([TaskId(3), TaskId(4), TaskId(5)]);
    assert_eq!(send(&mut rig, 30), [(3, 100), (4, 100), (5, 100)]);
}
