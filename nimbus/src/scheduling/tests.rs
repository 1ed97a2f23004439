//! Literal plans, and what holds for all of them.

use std::collections::BTreeMap;

use cluster_state::plans::WholePlan;
use cluster_state::store::Version;
use proptest::prelude::*;

use super::*;

const LINUX: &str = "x86_64-linux";

fn machine(number: usize) -> SupervisorId {
    SupervisorId::new(format!("m{number}")).unwrap()
}

fn available(ports: std::ops::Range<u16>) -> Machine {
    let slots = ports.map(Port).collect();
    Machine::Available { host: "host".to_owned(), platform: LINUX.to_owned(), slots }
}

/// Machines m1, m2, … with so many slots each, from port 6700 on.
fn machines(slots: &[u16]) -> BTreeMap<SupervisorId, Machine> {
    slots.iter().enumerate().map(|(at, count)| (machine(at + 1), available(6700..6700 + count))).collect()
}

/// A topology with components of so many tasks and executors.
fn topology(name: &str, submitted_ms: u64, workers: u16, components: &[(u32, u32)]) -> TopologyDetails {
    let mut first = 1;
    let component = |(tasks, executors): &(u32, u32)| {
        let component = Component { first_task: TaskId(first), tasks: *tasks, executors: *executors };
        first += tasks;
        component
    };
    TopologyDetails {
        id: TopologyId::new(name).unwrap(),
        submitted_ms,
        platform: LINUX.to_owned(),
        workers,
        components: components.iter().map(component).collect(),
        leaving: false,
        ended: false,
        anew: false,
        plan: None,
        failing: BTreeMap::new(),
    }
}

/// The next plans are the ones that hold.
fn follow(topologies: &mut [TopologyDetails], round: &Round) {
    for topology in topologies {
        if let Some(plan) = round.plans.get(&topology.id) {
            topology.plan = Some(plan.clone());
        }
    }
}

/// `m1:6700@1[1 2|5]`: slot, version, tasks of the executors; `-` for a worker that waits.
fn text(plan: &TopologyPlan) -> String {
    let executor = |tasks: &Vec<TaskId>| tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let worker = |worker: &PlannedWorker| {
        let executors: Vec<String> = worker.executors.iter().map(executor).collect();
        let slot =
            worker.slot.as_ref().map_or_else(|| "-".to_owned(), |slot| format!("{}:{}", slot.supervisor, slot.port));
        format!("{slot}@{}[{}]", worker.version, executors.join("|"))
    };
    let workers: Vec<String> = plan.workers.iter().map(worker).collect();
    format!("v{} {}", plan.version, workers.join(" "))
}

fn texts(round: &Round) -> Vec<String> {
    round.plans.iter().map(|(id, plan)| format!("{id} {}", text(plan))).collect()
}

fn sentences(round: &Round) -> Vec<&str> {
    round.sentences.values().map(String::as_str).collect()
}

#[test]
fn the_first_plan_deals_executors_round_robin_to_slots_of_machines_in_turn() {
    // Two executors of two and one tasks, then three of one task.
    let topologies = [topology("a", 1, 3, &[(3, 2), (3, 3)])];
    let round = schedule(&machines(&[1, 2, 2]), &topologies);
    assert_eq!(texts(&round), ["a v1 m2:6700@1[1 2|5] m3:6700@1[3|6] m1:6700@1[4]"]);
    assert_eq!(sentences(&round), ["Fully Scheduled"]);
}

#[test]
fn slots_of_one_machine_are_used_when_each_has_given_one() {
    let round = schedule(&machines(&[4, 1]), &[topology("a", 1, 4, &[(8, 4)])]);
    assert_eq!(texts(&round), ["a v1 m1:6700@1[1 2] m2:6700@1[3 4] m1:6701@1[5 6] m1:6702@1[7 8]"]);
}

#[test]
fn who_was_submitted_first_is_served_first_whatever_the_order_of_the_input() {
    let (first, second) = (topology("z", 1, 2, &[(2, 2)]), topology("a", 2, 4, &[(4, 4)]));
    let third = topology("m", 3, 2, &[(2, 2)]);
    for order in [[&first, &second, &third], [&third, &second, &first]] {
        let round = schedule(&machines(&[2, 2]), &order.map(Clone::clone));
        assert_eq!(texts(&round), ["a v1 m1:6701@1[1|3] m2:6701@1[2|4]", "z v1 m1:6700@1[1] m2:6700@1[2]"]);
        assert_eq!(
            sentences(&round),
            [
                "Running with fewer slots than requested (2/4)",
                "Waiting for 2 of 2 slots: no slot is free; add a machine or more supervisor.slots.ports",
                "Fully Scheduled"
            ]
        );
    }
}

#[test]
fn workers_are_at_most_executors_and_stay_as_many_as_they_were_at_first() {
    let mut topologies = [topology("a", 1, 5, &[(4, 2)]), topology("b", 2, 0, &[(4, 2)])];
    let round = schedule(&machines(&[3]), &topologies);
    assert_eq!(texts(&round), ["a v1 m1:6700@1[1 2] m1:6701@1[3 4]", "b v1 m1:6702@1[1 2|3 4]"]);
    assert_eq!(sentences(&round), ["Fully Scheduled", "Fully Scheduled"]);
    topologies[1].workers = 2;
    follow(&mut topologies, &round);
    let round = schedule(&machines(&[8]), &topologies);
    assert_eq!(texts(&round), Vec::<String>::new());
    assert_eq!(sentences(&round), ["Fully Scheduled", "Running with fewer slots than requested (1/2)"]);
}

#[test]
fn a_dead_machines_workers_move_and_nobody_else() {
    let mut topologies = [topology("a", 1, 4, &[(4, 4)])];
    let round = schedule(&machines(&[2, 2]), &topologies);
    assert_eq!(texts(&round), ["a v1 m1:6700@1[1] m2:6700@1[2] m1:6701@1[3] m2:6701@1[4]"]);
    follow(&mut topologies, &round);
    let mut others = machines(&[2, 2, 1]);
    others.remove(&machine(1));
    let round = schedule(&others, &topologies);
    assert_eq!(texts(&round), ["a v2 m3:6700@2[1] m2:6700@1[2] -@2[3] m2:6701@1[4]"]);
    let waiting = "Waiting for 1 of 4 slots: no slot is free; add a machine or more supervisor.slots.ports";
    assert_eq!(sentences(&round), [waiting]);
    follow(&mut topologies, &round);

    // Nothing new: nothing changes. A slot: who waits gets it before a new topology.
    let round = schedule(&others, &topologies);
    assert_eq!((texts(&round), sentences(&round)), (vec![], vec![waiting]));
    others.insert(machine(4), available(6700..6701));
    let newer = topology("b", 0, 1, &[(1, 1)]);
    let round = schedule(&others, &[newer, topologies[0].clone()]);
    assert_eq!(texts(&round), ["a v3 m3:6700@2[1] m2:6700@1[2] m4:6700@3[3] m2:6701@1[4]"]);
}

#[test]
fn a_slot_that_is_no_longer_offered_is_left_and_a_silent_machine_is_not() {
    let mut topologies = [topology("a", 1, 2, &[(2, 2)])];
    let round = schedule(&machines(&[2]), &topologies);
    follow(&mut topologies, &round);
    let mut others = machines(&[0, 4]);
    others.insert(machine(1), available(6701..6703));
    assert_eq!(texts(&schedule(&others, &topologies)), ["a v2 m2:6700@2[1] m1:6701@1[2]"]);
    others.insert(machine(1), Machine::Unavailable);
    let round = schedule(&others, &topologies);
    assert_eq!((texts(&round), sentences(&round)), (vec![], vec!["Fully Scheduled"]));
}

#[test]
fn a_machine_that_is_called_otherwise_makes_a_new_plan_and_restarts_nobody() {
    let mut topologies = [topology("a", 1, 1, &[(1, 1)])];
    let round = schedule(&machines(&[1]), &topologies);
    follow(&mut topologies, &round);
    let slots = [Port(6700)].into();
    let renamed = Machine::Available { host: "renamed".to_owned(), platform: LINUX.to_owned(), slots };
    let round = schedule(&[(machine(1), renamed)].into(), &topologies);
    assert_eq!(texts(&round), ["a v2 m1:6700@1[1]"]);
    let host = |plan: &TopologyPlan| plan.workers[0].slot.as_ref().unwrap().host.clone();
    assert_eq!(round.plans.values().map(host).collect::<Vec<_>>(), ["renamed"]);
}

#[test]
fn a_worker_leaves_the_slot_that_fails_it_for_another_machine_if_there_is_one() {
    let mut topologies = [topology("a", 1, 2, &[(2, 2)])];
    let round = schedule(&machines(&[3, 1]), &topologies);
    assert_eq!(texts(&round), ["a v1 m1:6700@1[1] m2:6700@1[2]"]);
    follow(&mut topologies, &round);
    topologies[0].failing = [(WorkerIndex(0), (machine(1), Port(6700)))].into();
    // Another machine, although this one has more free slots.
    let round = schedule(&machines(&[3, 2]), &topologies);
    assert_eq!(texts(&round), ["a v2 m2:6701@2[1] m2:6700@1[2]"]);
    // Else another slot.
    assert_eq!(texts(&schedule(&machines(&[3, 1]), &topologies)), ["a v2 m1:6701@2[1] m2:6700@1[2]"]);
    // Else it stays.
    assert_eq!(texts(&schedule(&machines(&[1, 1]), &topologies)), Vec::<String>::new());
    // It has left: the same word of failure moves nobody.
    follow(&mut topologies, &round);
    assert_eq!(texts(&schedule(&machines(&[3, 2]), &topologies)), Vec::<String>::new());
}

#[test]
fn the_slot_that_a_worker_leaves_is_given_on_in_the_same_round() {
    let mut topologies = [topology("a", 1, 1, &[(1, 1)]), topology("b", 2, 1, &[(1, 1)])];
    let round = schedule(&machines(&[1]), &topologies[..1]);
    follow(&mut topologies, &round);
    topologies[0].failing = [(WorkerIndex(0), (machine(1), Port(6700)))].into();
    let round = schedule(&machines(&[1, 1]), &topologies);
    assert_eq!(texts(&round), ["a v2 m2:6700@2[1]", "b v1 m1:6700@1[1]"]);
}

#[test]
fn a_topology_that_is_killed_gets_nothing_and_keeps_what_it_has() {
    let mut topologies = [topology("a", 1, 2, &[(2, 2)]), topology("b", 2, 1, &[(1, 1)])];
    let round = schedule(&machines(&[1, 1]), &topologies[..1]);
    follow(&mut topologies, &round);
    topologies[0].leaving = true;
    // Machine 2 is dead: its worker is not placed elsewhere, and its slots are held on machine 1.
    let round = schedule(&machines(&[1]), &topologies);
    assert_eq!(texts(&round), Vec::<String>::new());
    assert_eq!(
        sentences(&round),
        [
            "It is being killed: it gets no slot any more",
            "Waiting for 1 of 1 slots: no slot is free; add a machine or more supervisor.slots.ports"
        ]
    );
}

#[test]
fn a_machine_of_another_platform_gets_nothing() {
    let arm = Machine::Available {
        host: "arm".to_owned(),
        platform: "aarch64-linux".to_owned(),
        slots: [Port(1), Port(2)].into(),
    };
    let topologies = [topology("a", 1, 2, &[(2, 2)])];
    let mut all = machines(&[]);
    let none = "Waiting for 2 of 2 slots: no machine is available; start one by `storm supervisor`";
    assert_eq!(sentences(&schedule(&all, &topologies)), [none]);
    all.insert(machine(0), arm);
    let other = "Waiting for 2 of 2 slots: no machine for x86_64-linux is available; add one, or build the executable for \
                 what is there";
    assert_eq!(sentences(&schedule(&all, &topologies)), [other]);
    all.insert(machine(1), available(1..2));
    assert_eq!(texts(&schedule(&all, &topologies)), ["a v1 m1:1@1[1|2]"]);
}

#[test]
fn a_slot_that_two_plans_name_stays_with_the_older_topology() {
    let mut topologies = [topology("a", 2, 1, &[(1, 1)]), topology("b", 1, 1, &[(1, 1)])];
    for topology in &mut topologies {
        let round = schedule(&machines(&[1]), std::slice::from_ref(topology));
        follow(std::slice::from_mut(topology), &round);
    }
    assert_eq!(texts(&schedule(&machines(&[1, 1]), &topologies)), ["a v2 m2:6700@2[1]"]);
    // On a machine that is silent, too.
    let silent = [(machine(1), Machine::Unavailable)].into();
    assert_eq!(texts(&schedule(&silent, &topologies)), ["a v2 -@2[1]"]);
}

/// Two workers of four executors on machine 1, in the round that deals them anew.
fn dealt(anew: impl FnOnce(&mut TopologyDetails), machines: &BTreeMap<SupervisorId, Machine>) -> Round {
    let mut topologies = [topology("a", 1, 2, &[(4, 2), (2, 2)])];
    let round = schedule(&self::machines(&[2]), &topologies);
    assert_eq!(texts(&round), ["a v1 m1:6700@1[1 2|5] m1:6701@1[3 4|6]"]);
    follow(&mut topologies, &round);
    topologies[0].anew = true;
    anew(&mut topologies[0]);
    schedule(machines, &topologies)
}

#[test]
fn dealt_anew_workers_spread_and_keep_what_slots_and_tasks_they_can() {
    // The same: nothing.
    assert_eq!(texts(&dealt(|_| {}, &machines(&[2]))), Vec::<String>::new());
    assert_eq!(texts(&dealt(|_| {}, &machines(&[3, 0]))), Vec::<String>::new());
    // Another machine: the worker that stays keeps its version, as all tasks are where they were.
    assert_eq!(texts(&dealt(|_| {}, &machines(&[2, 1]))), ["a v2 m1:6700@1[1 2|5] m2:6700@2[3 4|6]"]);
    // More workers: all start anew.
    let more = |topology: &mut TopologyDetails| topology.workers = 3;
    let round = dealt(more, &machines(&[2, 2]));
    assert_eq!(texts(&round), ["a v2 m1:6700@2[1 2|6] m1:6701@2[3 4] m2:6700@2[5]"]);
    // As many as there are slots for.
    assert_eq!(texts(&dealt(|topology| topology.workers = 9, &machines(&[2]))), Vec::<String>::new());
    // Fewer workers, other executors.
    let fewer = |topology: &mut TopologyDetails| topology.workers = 1;
    assert_eq!(texts(&dealt(fewer, &machines(&[2]))), ["a v2 m1:6700@2[1 2|3 4|5|6]"]);
    let executors = |topology: &mut TopologyDetails| topology.components[0].executors = 4;
    assert_eq!(texts(&dealt(executors, &machines(&[2]))), ["a v2 m1:6700@2[1|3|5] m1:6701@2[2|4|6]"]);
}

#[test]
fn dealt_anew_workers_leave_machines_that_are_drained_or_silent_if_there_is_a_slot_elsewhere() {
    for unfit in [Machine::Drained, Machine::Unavailable] {
        let mut others = machines(&[0, 1]);
        others.insert(machine(1), unfit);
        // One slot for both.
        assert_eq!(texts(&dealt(|_| {}, &others)), ["a v2 m2:6700@2[1 2|3 4|5|6]"]);
        // None: they stay, and are dealt as is wanted.
        others.remove(&machine(2));
        assert_eq!(texts(&dealt(|_| {}, &others)), Vec::<String>::new());
        let fewer = |topology: &mut TopologyDetails| topology.workers = 1;
        assert_eq!(texts(&dealt(fewer, &others)), ["a v2 m1:6700@2[1 2|3 4|5|6]"]);
    }
}

#[test]
fn slots_that_fail_their_workers_are_left_when_dealt_anew() {
    let fails = |topology: &mut TopologyDetails| {
        topology.failing = [(WorkerIndex(0), (machine(1), Port(6700)))].into();
    };
    assert_eq!(texts(&dealt(fails, &machines(&[3]))), ["a v2 m1:6702@2[1 2|5] m1:6701@1[3 4|6]"]);
    // Without another slot they stay.
    assert_eq!(texts(&dealt(fails, &machines(&[2]))), Vec::<String>::new());
}

#[test]
fn what_one_leaves_others_get_in_the_same_round() {
    let mut topologies = [topology("a", 1, 2, &[(2, 2)]), topology("b", 2, 1, &[(1, 1)])];
    let round = schedule(&machines(&[2]), &topologies);
    follow(&mut topologies, &round);
    (topologies[0].anew, topologies[0].workers) = (true, 1);
    assert_eq!(texts(&schedule(&machines(&[2]), &topologies)), ["a v2 m1:6700@2[1|2]", "b v1 m1:6701@1[1]"]);
}

#[test]
fn nobody_is_given_a_slot_of_a_drained_machine() {
    let mut all = machines(&[2, 1]);
    all.insert(machine(1), Machine::Drained);
    let topologies = [topology("a", 1, 2, &[(2, 2)])];
    assert_eq!(texts(&schedule(&all, &topologies)), ["a v1 m2:6700@1[1|2]"]);
}

#[test]
fn topologies_wish_for_more_workers_and_to_leave_drained_machines() {
    let mut topologies = [topology("a", 1, 3, &[(3, 3)]), topology("b", 2, 2, &[(2, 2)])];
    let round = schedule(&machines(&[3]), &topologies);
    assert_eq!(texts(&round), ["a v1 m1:6700@1[1] m1:6701@1[2] m1:6702@1[3]"]);
    follow(&mut topologies, &round);
    let round = schedule(&machines(&[3, 1]), &topologies);
    assert_eq!(texts(&round), ["b v1 m2:6700@1[1|2]"]);
    assert_eq!(round.wishes, [].into());
    follow(&mut topologies, &round);
    // One slot more.
    let id = |name: &str| TopologyId::new(name).unwrap();
    assert_eq!(schedule(&machines(&[3, 2]), &topologies).wishes, [(id("b"), Wish::MoreWorkers)].into());
    // Nothing to leave for.
    let mut drained = machines(&[3, 1]);
    drained.insert(machine(1), Machine::Drained);
    let round = schedule(&drained, &topologies);
    assert_eq!((texts(&round), round.wishes.clone()), (vec![], [].into()));
    assert_eq!(
        sentences(&round),
        [
            "Fully Scheduled; waits for slots to leave host: no slot is free; add a machine or more supervisor.slots.ports",
            "Running with fewer slots than requested (1/2)",
        ]
    );
    let full = "waits for slots to leave host: no slot is free; add a machine or more supervisor.slots.ports";
    assert_eq!(round.stays, [(id("a"), full.to_owned())].into());
    let alone = schedule(&[(machine(1), Machine::Drained)].into(), &topologies[..1]);
    let nobody = "waits for slots to leave host: no machine is available that is not drained; start one by \
                  `storm supervisor`, or give one work again by `storm admin undrain`";
    assert_eq!(alone.stays, [(id("a"), nobody.to_owned())].into());
    topologies[0].ended = true;
    let ended = "has ended, and stays on host until it is killed";
    let round = schedule(&drained, &topologies);
    assert_eq!(sentences(&round)[0], format!("Fully Scheduled; {ended}"));
    assert_eq!(round.stays, [(id("a"), ended.to_owned())].into());
    topologies[0].ended = false;
    // Who leaves goes first: what he needs is not wished for by others.
    drained.insert(machine(2), available(6700..6703));
    let round = schedule(&drained, &topologies);
    assert_eq!(round.wishes, [(id("a"), Wish::Leave { host: "host".to_owned() })].into());
    assert_eq!(sentences(&round)[0], "Fully Scheduled; leaves host");
    assert_eq!(round.stays, [].into());
    topologies[0].anew = true;
    assert_eq!(texts(&schedule(&drained, &topologies)), ["a v2 m2:6701@2[1|3] m2:6702@2[2]"]);
}

/// A plan with a waiting worker.
fn some_plan() -> TopologyPlan {
    let mut topologies = [topology("a", 1, 3, &[(3, 2), (1, 1)])];
    let round = schedule(&machines(&[1, 2]), &topologies);
    follow(&mut topologies, &round);
    schedule(&machines(&[1]), &topologies).plans.remove(&topologies[0].id).unwrap()
}

#[test]
fn a_plan_becomes_records_and_comes_back() {
    let plan = some_plan();
    assert_eq!(text(&plan), "v2 -@2[1 2] m1:6700@1[3] -@2[4]");
    let records = plan.records().unwrap();
    let head = serde_json::to_string(&records.head).unwrap();
    assert_eq!(
        head,
        r#"{"version":2,"workers":3,"parts":{"m1":"33e0fa192af0b0481aae77c21e8012ffffe1ae9e7f762b823c2c467c8c0531e5"},"waiting":"b65b6a8e6db34f3d5f119c41ee14f4ff573c705fa62c1da13eda0d7abfead380"}"#
    );
    let parts: Vec<String> =
        records.parts.iter().map(|(hash, part)| format!("{hash} {}", serde_json::to_string(part).unwrap())).collect();
    assert_eq!(
        parts,
        [
            r#"33e0fa192af0b0481aae77c21e8012ffffe1ae9e7f762b823c2c467c8c0531e5 {"host":"host","workers":{"1":{"port":6700,"version":1,"executors":[[3]]}}}"#,
            r#"b65b6a8e6db34f3d5f119c41ee14f4ff573c705fa62c1da13eda0d7abfead380 {"host":"","workers":{"0":{"port":null,"version":2,"executors":[[1,2]]},"2":{"port":null,"version":2,"executors":[[4]]}}}"#,
        ]
    );
    assert_eq!(TopologyPlan::try_from(&whole(&records)), Ok(plan));
}

fn whole(records: &PlanRecords) -> WholePlan {
    let part = |hash: &worker_api::ids::BlobHash| records.parts[hash].clone();
    WholePlan {
        head: records.head.clone(),
        record: Version(1),
        parts: records.head.parts.iter().map(|(id, hash)| (id.clone(), part(hash))).collect(),
        waiting: records.head.waiting.as_ref().map(part),
    }
}

#[test]
fn a_damaged_plan_says_what_is_wrong() {
    let records = some_plan().records().unwrap();
    let why = |damage: fn(&mut WholePlan)| {
        let mut whole = whole(&records);
        damage(&mut whole);
        TopologyPlan::try_from(&whole).unwrap_err().to_string()
    };
    let damaged = |why: &str| format!("version 2 of the plan is damaged: {why}; kill the topology and submit it again");
    assert_eq!(why(|whole| whole.waiting = None), damaged("no part names worker 0"));
    assert_eq!(why(|whole| whole.head.workers = 1), damaged("it has no worker 1, but a part names it"));
    assert_eq!(why(|whole| whole.waiting = whole.parts.values().next().cloned()), damaged("two parts name worker 1"));
}

#[test]
fn a_part_that_is_too_long_is_refused() {
    let topologies = [topology("a", 1, 1, &[(100_000, 100)])];
    let plan = schedule(&machines(&[1]), &topologies).plans.remove(&topologies[0].id).unwrap();
    assert_eq!(
        plan.records().unwrap_err().to_string(),
        "the plan's part for machine m1 would have 1691067 bytes, at most 261120 are allowed; use fewer tasks, or more workers \
         on more machines"
    );
}

#[test]
fn what_is_too_long_for_any_machines_is_known_without_them() {
    let spread = |workers| topology("a", 1, workers, &[(100_000, 100)]).fits_spread();
    assert_eq!(
        spread(1).unwrap_err().to_string(),
        "the plan's part for worker 0, on a machine of its own, would have 1691063 bytes, at most 261120 are allowed; use \
         fewer tasks, or more workers on more machines"
    );
    assert!(spread(6).is_err());
    assert_eq!(spread(7), Ok(()));
}

/// What befalls a cluster between two rounds.
#[derive(Clone, Debug)]
enum Fault {
    Dies(usize),
    Silent(usize),
    Slots(usize, u16),
    Fails(usize, u16),
    Killed(usize),
    Drained(usize),
    /// A topology is dealt anew, for so many workers, with so many executors of each component at most.
    Rebalanced(usize, u16, u32),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0..6usize).prop_map(Fault::Dies),
        (0..6usize).prop_map(Fault::Silent),
        (0..6usize, 0..5u16).prop_map(|(at, slots)| Fault::Slots(at, slots)),
        (0..5usize, 0..6u16).prop_map(|(at, worker)| Fault::Fails(at, worker)),
        (0..5usize).prop_map(Fault::Killed),
        (0..6usize).prop_map(Fault::Drained),
        (0..5usize, 1..6u16, 1..9u32).prop_map(|(at, workers, most)| Fault::Rebalanced(at, workers, most)),
        (0..5usize, 1..6u16, 1..9u32).prop_map(|(at, workers, most)| Fault::Rebalanced(at, workers, most)),
    ]
}

fn cluster() -> impl Strategy<Value = (Vec<u16>, Vec<TopologyDetails>)> {
    let components = prop::collection::vec((1..9u32, 1..9u32), 1..4);
    let topologies = prop::collection::vec((0..3u64, 0..6u16, components), 1..6).prop_map(|made| {
        let numbered = made.into_iter().enumerate();
        numbered.map(|(at, (when, workers, parts))| topology(&format!("t{at}"), when, workers, &parts)).collect()
    });
    (prop::collection::vec(0..5u16, 1..6), topologies)
}

fn befall(fault: &Fault, machines: &mut BTreeMap<SupervisorId, Machine>, topologies: &mut [TopologyDetails]) {
    match fault {
        Fault::Dies(at) => drop(machines.remove(&machine(*at))),
        Fault::Silent(at) => drop(machines.insert(machine(*at), Machine::Unavailable)),
        Fault::Slots(at, slots) => drop(machines.insert(machine(*at), available(6700..6700 + slots))),
        Fault::Fails(at, worker) => {
            let Some(topology) = topologies.get_mut(*at) else { return };
            let planned = topology.plan.as_ref().and_then(|plan| plan.workers.get(usize::from(*worker)));
            if let Some(slot) = planned.and_then(|planned| planned.slot.clone()) {
                topology.failing.insert(WorkerIndex(*worker), (slot.supervisor, slot.port));
            }
        }
        Fault::Killed(at) => {
            if let Some(topology) = topologies.get_mut(*at) {
                topology.leaving = true;
            }
        }
        Fault::Drained(at) => drop(machines.insert(machine(*at), Machine::Drained)),
        Fault::Rebalanced(at, workers, most) => {
            if let Some(topology) =
                topologies.get_mut(*at).filter(|topology| topology.plan.is_some() && !topology.leaving)
            {
                (topology.anew, topology.workers) = (true, *workers);
                for component in &mut topology.components {
                    component.executors = (*most).min(component.tasks);
                }
            }
        }
    }
}

/// What the number of one thing in each place may be: at most one apart.
fn is_even(counts: impl Iterator<Item = usize> + Clone) -> bool {
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0) <= 1
}

type Place = (SupervisorId, Port);

fn places(plan: &TopologyPlan) -> Vec<Option<Place>> {
    let place = |worker: &PlannedWorker| worker.slot.as_ref().map(|slot| (slot.supervisor.clone(), slot.port));
    plan.workers.iter().map(place).collect()
}

/// Checks a round against what it was made of.
fn check(
    machines: &BTreeMap<SupervisorId, Machine>,
    topologies: &[TopologyDetails],
    round: &Round,
) -> Result<(), TestCaseError> {
    let good = |(supervisor, port): &Place| match machines.get(supervisor) {
        Some(Machine::Available { slots, .. }) => slots.contains(port),
        Some(Machine::Unavailable | Machine::Drained) => true,
        None => false,
    };
    let mut held = BTreeSet::new();
    let mut waiting = 0;
    for topology in topologies {
        let next = round.plans.get(&topology.id);
        prop_assert!(round.sentences.contains_key(&topology.id));
        prop_assert!(!(topology.leaving && next.is_some()));
        let Some(plan) = next.or(topology.plan.as_ref()) else { continue };

        let mut dealt: Vec<Vec<TaskId>> = plan.workers.iter().flat_map(|worker| worker.executors.clone()).collect();
        dealt.sort();
        let nowhere = places(plan).iter().all(Option::is_none);
        // Without any slot it is dealt as it was.
        if !nowhere || !topology.anew {
            prop_assert_eq!(dealt, executors(&topology.components), "each executor once");
        }
        prop_assert!(is_even(plan.workers.iter().map(|worker| worker.executors.len())), "even over workers");
        for place in places(plan).into_iter().flatten() {
            prop_assert!(good(&place) || topology.leaving, "{:?} is not offered", place);
            prop_assert!(held.insert(place.clone()), "{:?} is given twice", place);
        }

        match (&topology.plan, next) {
            (Some(before), Some(next)) => {
                prop_assert_eq!(next.version.0, before.version.0 + 1);
                prop_assert!(next != before);
                if topology.anew {
                    check_anew(machines, topology, before, next)?;
                    continue;
                }
                let moves = places(before).into_iter().zip(places(next));
                for (index, (before_at, next_at)) in moves.enumerate() {
                    let (was, is) = (&before.workers[index], &next.workers[index]);
                    prop_assert_eq!(&was.executors, &is.executors);
                    let version = if before_at == next_at { was.version } else { next.version };
                    prop_assert_eq!(is.version, version);
                    if let Some(at) = before_at.filter(good) {
                        let fails = topology.failing.get(&WorkerIndex(index as u16)) == Some(&at);
                        prop_assert!(next_at.as_ref() == Some(&at) || fails, "worker {} moved", index);
                        prop_assert!(next_at.is_some(), "worker {} lost a good slot", index);
                    }
                }
            }
            (None, Some(next)) => {
                prop_assert_eq!(next.version.0, 1);
                prop_assert!(next.workers.iter().all(|worker| worker.slot.is_some() && worker.version.0 == 1));
            }
            _ => {}
        }
        waiting += if topology.leaving || topology.anew {
            0
        } else {
            places(plan).iter().filter(|place| place.is_none()).count()
        };
    }
    let offered = |(id, machine): (&SupervisorId, &Machine)| match machine {
        Machine::Available { slots, .. } => slots.iter().map(|port| (id.clone(), *port)).collect(),
        Machine::Unavailable | Machine::Drained => Vec::new(),
    };
    let all: BTreeSet<Place> = machines.iter().flat_map(offered).collect();
    prop_assert!(waiting == 0 || all.is_subset(&held), "a worker waits while a slot is free");
    let unplanned = topologies
        .iter()
        .filter(|topology| !topology.leaving && topology.plan.is_none())
        .any(|topology| !round.plans.contains_key(&topology.id));
    prop_assert!(!unplanned || all.is_subset(&held), "a topology waits while a slot is free");
    Ok(())
}

/// Checks what a topology comes to that is dealt anew.
fn check_anew(
    machines: &BTreeMap<SupervisorId, Machine>,
    topology: &TopologyDetails,
    before: &TopologyPlan,
    next: &TopologyPlan,
) -> Result<(), TestCaseError> {
    prop_assert!(next.workers.len() <= wanted(topology));
    let is_available = |place: &Place| matches!(machines.get(&place.0), Some(Machine::Available { .. }));
    let places = places(next);
    prop_assert!(places.iter().all(Option::is_some), "all have a slot");
    let fit = places.iter().flatten().filter(|place| is_available(place)).count();
    prop_assert!(fit == places.len() || fit == 0, "some stay on machines that may not get work, others do not");
    let was = self::places(before);
    let tasks = |plan: &TopologyPlan| plan.workers.iter().map(|worker| worker.executors.clone()).collect::<Vec<_>>();
    let same_tasks = tasks(before) == tasks(next);
    for (index, worker) in next.workers.iter().enumerate() {
        let stays = same_tasks && was.get(index) == Some(&places[index]);
        let version = if stays { before.workers[index].version } else { next.version };
        prop_assert_eq!(worker.version, version);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn every_round_is_sound((slots, mut topologies) in cluster(), faults in prop::collection::vec(fault(), 0..12)) {
        let mut machines = machines(&slots);
        for fault in std::iter::once(None).chain(faults.iter().map(Some)) {
            if let Some(fault) = fault {
                befall(fault, &mut machines, &mut topologies);
            }
            let round = schedule(&machines, &topologies);
            check(&machines, &topologies, &round)?;
            let turned: Vec<TopologyDetails> = topologies.iter().rev().cloned().collect();
            prop_assert_eq!(&schedule(&machines, &turned), &round, "the order of the input matters");
            follow(&mut topologies, &round);
            // To be dealt anew once more changes nothing, if no other plan changed: that may have left slots.
            let anew: BTreeSet<TopologyId> =
                topologies.iter().filter(|topology| topology.anew).map(|topology| topology.id.clone()).collect();
            if anew.len() > 1 || round.plans.keys().any(|id| !anew.contains(id)) {
                topologies.iter_mut().for_each(|topology| topology.anew = false);
            }
            let again = schedule(&machines, &topologies);
            prop_assert_eq!(texts(&again), Vec::<String>::new(), "own output is changed");
            for topology in &mut topologies {
                // What could not be dealt is as it was.
                let plan = topology.plan.iter().filter(|_| topology.anew).flat_map(|plan| &plan.workers);
                let mut dealt: Vec<Vec<TaskId>> = plan.flat_map(|worker| worker.executors.clone()).collect();
                dealt.sort();
                if topology.anew && dealt != executors(&topology.components) {
                    for component in &mut topology.components {
                        component.executors = dealt.iter().filter(|tasks| tasks[0].0 >= component.first_task.0 && tasks[0].0 < component.first_task.0 + component.tasks).count() as u32;
                    }
                }
                topology.anew = false;
                if let Some(plan) = &topology.plan {
                    let places = places(plan);
                    let at = |worker: &WorkerIndex| places.get(usize::from(worker.0)).and_then(Option::as_ref);
                    topology.failing.retain(|worker, slot| at(worker) == Some(slot));
                    let records = plan.records().unwrap();
                    prop_assert_eq!(&TopologyPlan::try_from(&whole(&records)).unwrap(), plan);
                }
            }
        }
    }

    #[test]
    fn a_first_plan_is_as_even_over_machines_as_free_slots_allow(slots in prop::collection::vec(0..6u16, 1..8), workers in 1..20u16) {
        let machines = machines(&slots);
        let round = schedule(&machines, &[topology("a", 1, workers, &[(20, 20)])]);
        let plan = round.plans.values().next();
        let used = |id: &SupervisorId| {
            plan.map_or(0, |plan| places(plan).into_iter().flatten().filter(|(at, _)| at == id).count())
        };
        let total = usize::from(workers).min(slots.iter().map(|count| usize::from(*count)).sum());
        prop_assert_eq!(plan.map_or(0, |plan| plan.workers.len()), total);
        for (at, _) in slots.iter().enumerate() {
            for (other, offered) in slots.iter().enumerate() {
                let (more, fewer) = (used(&machine(at + 1)), used(&machine(other + 1)));
                prop_assert!(more <= fewer + 1 || fewer == usize::from(*offered));
            }
        }
    }
}
