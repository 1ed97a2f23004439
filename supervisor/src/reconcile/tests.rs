//! What plans want, case by case and at random.

use cluster_state::records::{RebalanceStep, Rebalanced};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn followed(id: &str, version: u64, slots: &[(u16, u16, u64)]) -> Arc<Followed> {
    let blob = |digit: &str| json!({"hash": digit.repeat(64), "bytes": 1});
    let topology = serde_json::from_value(json!({
        "id": id, "name": "words", "owner": null, "submitted_ms": 1,
        "build": {"version": "0.1.0", "launch_format": 1, "platform": "x86_64-linux", "panic_aborts": false},
        "executable": blob("a"), "graph": blob("b"), "files": {"more": blob("a")},
        "arguments": [], "started": true, "status": {"state": "active"},
    }));
    let placed = |&(port, worker, version): &(u16, u16, u64)| {
        (Port(port), Placed { worker: WorkerIndex(worker), version: PlanVersion(version) })
    };
    Arc::new(Followed {
        topology: topology.unwrap(),
        placement: Placement {
            version: PlanVersion(version),
            plan: worker_api::plan::Plan { workers: Vec::new() },
            addresses: Vec::new(),
        },
        slots: slots.iter().map(placed).collect(),
        secret: Secret::new([1; 32]),
    })
}

fn following(all: &[&Arc<Followed>]) -> Following {
    all.iter().map(|followed| (followed.topology.id.clone(), Arc::clone(followed))).collect()
}

fn with_status(followed: &Arc<Followed>, started: bool, status: Status) -> Arc<Followed> {
    let topology = Topology { started, status, ..followed.topology.clone() };
    Arc::new(Followed { topology, ..Followed::clone(followed) })
}

fn killed(step: KillStep) -> Status {
    Status::Killed { step, wait_ms: 1, deadline_ms: 2 }
}

#[test]
fn spouts_are_active_when_all_were_ready_and_nobody_says_otherwise() {
    let topology = followed("a-1-1", 1, &[]);
    let inactive = || Status::Inactive { reason: "deactivated".to_owned() };
    let rebalancing = |step| Status::Rebalancing {
        step,
        wait_ms: 1,
        deadline_ms: 2,
        from: PlanVersion(1),
        to: Rebalanced::default(),
        inactive: None,
        by_itself: None,
    };
    for (started, status, expected) in [
        (true, Status::Active, Spouts::Active),
        (false, Status::Active, Spouts::Inactive),
        (true, inactive(), Spouts::Inactive),
        (true, rebalancing(RebalanceStep::Draining), Spouts::Inactive),
        (true, rebalancing(RebalanceStep::Switching), Spouts::Inactive),
        (true, killed(KillStep::Draining), Spouts::Inactive),
    ] {
        assert_eq!(with_status(&topology, started, status).spouts(), expected);
    }
}

#[test]
fn each_blob_is_needed_once() {
    let blobs = followed("a-1-1", 1, &[]).blobs();
    let names: Vec<String> = blobs.into_keys().map(String::from).collect();
    assert_eq!(names, ["a".repeat(64), "b".repeat(64)]);
}

#[test]
fn what_is_followed_never_becomes_older_and_stays_while_unreadable() {
    let (old, new) = (followed("a-1-1", 1, &[(1, 0, 1)]), followed("a-1-1", 2, &[(2, 0, 2)]));
    let other = followed("b-1-1", 1, &[]);
    let seen = |all: &[&Arc<Followed>]| Seen { here: following(all), ..Seen::default() };
    assert_eq!(follow(&following(&[&old]), &seen(&[&new])), following(&[&new]));
    assert_eq!(follow(&following(&[&new]), &seen(&[&old])), following(&[&new]));
    assert_eq!(follow(&following(&[&new, &other]), &seen(&[&other])), following(&[&other]));
    let unreadable = BTreeMap::from([(new.topology.id.clone(), "damaged".to_owned())]);
    let damaged = Seen { here: following(&[&other]), unreadable, ..Seen::default() };
    assert_eq!(follow(&following(&[&new]), &damaged), following(&[&new, &other]));
    let removing = with_status(&new, true, killed(KillStep::Removing));
    assert_eq!(follow(&following(&[&new]), &seen(&[&removing])), Following::new());
    // Killed, as the cluster state goes on counting; or the cluster state was emptied.
    assert_eq!(follow(&following(&[&new]), &seen(&[])), Following::new());
    let blank = Seen { blank: true, ..Seen::default() };
    assert_eq!(follow(&following(&[&new]), &blank), following(&[&new]));
}

#[test]
fn a_slot_that_two_want_is_for_who_is_in_it() {
    let (a, b) = (followed("a-1-1", 1, &[(1, 0, 1)]), followed("b-1-1", 1, &[(1, 0, 1), (9, 1, 1)]));
    let slots = BTreeSet::from([Port(1)]);
    let of = |id: &str| Assignment { topology: id.parse().unwrap(), worker: WorkerIndex(0), plan: PlanVersion(1) };
    let told = |wants: &Wants| {
        let told = wants.troubles.iter().map(|(id, why)| format!("{id}: {why}"));
        (wants.slots[&Port(1)].topology.to_string(), told.collect::<Vec<_>>().join("\n"))
    };
    let first = wants(&following(&[&a, &b]), &slots, &BTreeMap::new());
    let not_ours =
        "b-1-1: its plan gives it slot 9, which is not one of this machine's; add it to supervisor.slots.ports";
    assert_eq!(told(&first), ("a-1-1".to_owned(), not_ours.to_owned()));
    let second = wants(&following(&[&a, &b]), &slots, &BTreeMap::from([(Port(1), of("b-1-1"))]));
    let waits = "a-1-1: it waits for slot 1, which b-1-1 has until its plan is changed";
    assert_eq!(told(&second), ("b-1-1".to_owned(), format!("{waits}\n{not_ours}")));
}

proptest! {
    /// Each slot that is wanted is one of the machine's, by a plan that wants it, and who is in it and wanted stays.
    #[test]
    fn wants_follow_the_plans(
        plans in prop::collection::vec(prop::collection::btree_map(0..5u16, (0..3u16, 1..3u64), 0..4), 0..4),
        inside in prop::collection::btree_map(0..5u16, (0..4usize, 0..3u16, 1..3u64), 0..5),
    ) {
        let id = |index: usize| format!("t-{index}-1");
        let plan = |(index, slots): (usize, &BTreeMap<u16, (u16, u64)>)| {
            let slots: Vec<_> = slots.iter().map(|(port, (worker, version))| (*port, *worker, *version)).collect();
            followed(&id(index), 1, &slots)
        };
        let all: Vec<_> = plans.iter().enumerate().map(plan).collect();
        let all = following(&all.iter().collect::<Vec<_>>());
        let slots: BTreeSet<Port> = (0..4).map(Port).collect();
        let inside: BTreeMap<Port, Assignment> = inside.into_iter().map(|(port, (topology, worker, plan))| {
            let topology = id(topology).parse().unwrap();
            (Port(port), Assignment { topology, worker: WorkerIndex(worker), plan: PlanVersion(plan) })
        }).collect();
        let wants = wants(&all, &slots, &inside);
        let plans: Vec<_> = all.values().flat_map(|followed| followed.wants()).collect();
        for (port, assignment) in &wants.slots {
            prop_assert!(slots.contains(port) && plans.contains(&(*port, assignment.clone())));
        }
        for (port, assignment) in plans {
            if slots.contains(&port) {
                prop_assert!(wants.slots.contains_key(&port));
                if inside.get(&port) == Some(&assignment) {
                    prop_assert_eq!(wants.slots.get(&port), Some(&assignment));
                }
                let given = wants.slots.get(&port) == Some(&assignment);
                prop_assert!(given || wants.troubles.contains_key(&assignment.topology));
            }
        }
    }
}
