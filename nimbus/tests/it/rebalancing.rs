//! Topologies are dealt anew, by command and by themselves, and machines are emptied.

use std::time::Duration;

use cluster_state::board::Board;
use cluster_state::paths;
use cluster_state::plans::WholePlan;
use cluster_state::records::{RebalanceStep, Rebalanced, Status, Topology};
use nimbus_api::cluster::MachineSummary;
use nimbus_api::failure::FailureKind;
use nimbus_api::machine::SlotState;
use nimbus_api::submission::{Kill, Rebalance};
use nimbus_api::topology::StatusWord;
use worker_api::answer::{Slot, Spouts};
use worker_api::ids::{Incarnation, Life, PlanVersion, Port, Revision, TopologyId, WorkerIndex};
use worker_api::report::Report;

use crate::fixture::*;

async fn record(board: &Board, id: &TopologyId) -> Topology {
    board.read::<Topology>(&paths::topology(id)).await.unwrap().unwrap().record
}

/// Its workers, as `MACHINE:PORT@VERSION TASKS|…`.
fn workers(plan: &WholePlan) -> Vec<String> {
    let placed = plan.parts.iter().flat_map(|(machine, part)| part.workers.iter().map(move |placed| (machine, placed)));
    let mut all: Vec<(WorkerIndex, String)> = placed
        .map(|(machine, (index, placed))| {
            let tasks = |tasks: &Vec<_>| tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let executors: Vec<String> = placed.executors.iter().map(tasks).collect();
            (*index, format!("{machine}:{}@{} {}", placed.port.unwrap(), placed.version, executors.join("|")))
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, text)| text).collect()
}

/// Plays the machines until the topology is as said.
async fn until(
    fixture: &Fixture,
    machines: &mut [&mut Machine],
    what: impl Fn(&nimbus_api::topology::Topology) -> bool,
) {
    loop {
        for machine in machines.iter_mut() {
            machine.tell().await;
        }
        if what(&fixture.client.topology("t").await.unwrap()) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn wants(workers: u16, executors: &[(&str, u32)], wait_secs: u64) -> Rebalance {
    let executors = executors.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    Rebalance { wait_secs: Some(wait_secs), workers: Some(workers), executors }
}

#[tokio::test]
async fn a_running_topology_drains_is_dealt_anew_and_goes_on() {
    let fixture = Fixture::start().await;
    let mut first = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    first.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    assert_eq!(workers(&plan(&board, &id, 1).await), ["m1:6700@1 1|3", "m1:6701@1 2|4"]);
    until(&fixture, &mut [&mut first], |t| t.summary.reason.is_none()).await;
    let mut second = Machine::new(&fixture, "m2", &[6700, 6701]).await;
    second.tell().await;

    let answer = fixture.client.rebalance("t", &wants(3, &[("count", 2)], 600)).await.unwrap();
    assert_eq!(answer.status, StatusWord::Rebalancing);
    assert_eq!(answer.reason.unwrap(), "rebalancing: draining, 0 roots pending, at most 600 s more");
    let life = Life { plan: PlanVersion(1), incarnation: Incarnation(1) };
    // Older than what its machine says of it.
    let old = Report { number: 0, ..report(&id, WorkerIndex(0), Port(6700), life) };
    let told = fixture.client.report_worker(&old).await.unwrap();
    assert_eq!((told.slot, told.spouts), (Slot::Kept, Spouts::Inactive));
    // Nothing moves while something is pending.
    let mut machines = [&mut first, &mut second];
    for machine in &mut machines {
        machine.tell().await;
    }
    assert!(matches!(record(&board, &id).await.status, Status::Rebalancing { step: RebalanceStep::Draining, .. }));

    // Nor does it when workers were drained before they heard of it: their spouts may have been asked since.
    let draining = record(&board, &id).await;
    machines[0].drained = true;
    machines[0].revision = Revision(draining.revision.0 - 1);
    for _ in 0..3 {
        machines[0].tell().await;
    }
    assert_eq!(record(&board, &id).await, draining);
    machines[0].revision = draining.revision;
    machines[0].tell().await;
    let after = plan(&board, &id, 2).await;
    assert_eq!(workers(&after), ["m1:6700@2 1 2", "m1:6701@2 3", "m2:6700@2 4"]);
    assert_eq!(fixture.client.report_worker(&old).await.unwrap().slot, Slot::Gone);
    let back = eventually(|| async {
        let record = record(&board, &id).await;
        (record.status == Status::Active).then_some(record)
    })
    .await;
    assert!(!back.started);
    assert_eq!(back.rebalanced.workers, Some(3));
    assert_eq!(back.rebalanced.executors, [("count".to_owned(), 2)].into());
    until(&fixture, &mut machines, |t| t.summary.reason.is_none()).await;
    let shown = fixture.client.topology("t").await.unwrap();
    assert_eq!((shown.summary.workers, shown.summary.workers_wanted, shown.summary.executors), (3, 3, 3));
    assert_eq!(shown.summary.scheduler, "Fully Scheduled");
    assert_eq!(shown.graph.components[0].executors, 2);
    assert!(record(&board, &id).await.started);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_is_changed() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    plan(&board, &id, 1).await;
    let before = record(&board, &id).await;
    let (kind, said) = refusal(fixture.client.rebalance("t", &wants(1, &[("lines", 2)], 0)).await);
    assert_eq!(kind, FailureKind::BadRequest);
    assert_eq!(
        said,
        "cannot rebalance `t`: component `lines` cannot have 2 executors: it has 1 tasks, and each executor runs one at \
         least; 1 to 1 are possible"
    );
    let (kind, said) = refusal(fixture.client.rebalance("t", &wants(9, &[], 0)).await);
    assert_eq!(kind, FailureKind::BadRequest);
    assert_eq!(said, "cannot rebalance `t`: 9 workers are more than nimbus.slots.perTopology allows, which is 8");
    assert_eq!(refusal(fixture.client.rebalance("u", &wants(1, &[], 0)).await).0, FailureKind::NotAlive);
    let long = "a wait of 604801 s is longer than seven days: 0 to 604800 s are possible";
    let (kind, said) = refusal(fixture.client.rebalance("t", &wants(1, &[], 604_801)).await);
    assert_eq!((kind, said), (FailureKind::BadRequest, format!("cannot rebalance `t`: {long}")));
    let (kind, said) = refusal(fixture.client.kill("t", Kill { wait_secs: Some(604_801) }).await);
    assert_eq!((kind, said), (FailureKind::BadRequest, format!("cannot kill `{id}`: {long}")));
    assert_eq!(record(&board, &id).await, before);
    let (kind, said) = refusal(fixture.client.drain("m7").await);
    assert_eq!(kind, FailureKind::NotFound);
    assert_eq!(said, "no machine has the host name or the Supervisor's id `m7`; there are m1.local");
    fixture.client.kill("t", Kill { wait_secs: Some(600) }).await.unwrap();
    let (kind, said) = refusal(fixture.client.rebalance("t", &wants(1, &[], 0)).await);
    assert_eq!((kind, said.as_str()), (FailureKind::WrongState, "cannot rebalance `t`: it is being killed"));
}

#[tokio::test]
async fn more_workers_than_executors_are_taken_with_a_warning() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701, 6702, 6703, 6704]).await;
    machine.tell().await;
    fixture.submit("t").await.unwrap();
    until(&fixture, &mut [&mut machine], |t| t.summary.plan == PlanVersion(1) && t.summary.reason.is_none()).await;
    let used = |executors: &str| {
        format!("it has {executors}, so {} of the 8 workers that are asked for will be used", &executors[..1])
    };
    // While it drains, and once it is dealt anew; what is asked for with the same words counts.
    let begun = fixture.client.rebalance("t", &wants(8, &[("count", 1)], 0)).await.unwrap();
    assert_eq!(begun.warnings, [used("2 executors")]);
    until(&fixture, &mut [&mut machine], |t| t.summary.plan == PlanVersion(2) && t.summary.reason.is_none()).await;
    let summary = fixture.client.topology("t").await.unwrap().summary;
    assert_eq!((summary.workers, summary.workers_wanted, summary.warnings), (2, 8, vec![used("2 executors")]));
    let begun = fixture.client.rebalance("t", &wants(4, &[("count", 3)], 0)).await.unwrap();
    assert_eq!(begun.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn a_topology_too_large_for_the_machines_is_refused_at_submit_and_at_a_rebalance() {
    let fixture = Fixture::start().await;
    let mut first = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    first.tell().await;
    let mut large = submission("t", upload(&fixture.client, EXECUTABLE).await);
    let mut graph = serde_json::to_value(&large.described.graph).unwrap();
    // One worker runs the bolts' one half of the tasks, one the other: 320 KiB together, in a record of 256.
    for (name, at, first_task) in [("count", 0, 1), ("know", 1, 10_001)] {
        let mut bolt = graph["components"][0].clone();
        (bolt["name"], bolt["tasks"]) = (name.into(), 10_000.into());
        (bolt["executors"], bolt["first_task"]) = (2.into(), first_task.into());
        match at {
            0 => graph["components"][0] = bolt,
            _ => graph["components"].as_array_mut().unwrap().insert(1, bolt),
        }
    }
    graph["components"][2]["first_task"] = 20_001.into();
    large.described.graph = serde_json::from_value(graph).unwrap();
    let (kind, said) = refusal(fixture.client.submit(&large).await);
    assert_eq!(kind, FailureKind::InvalidTopology);
    let too_long =
        "would have 329273 bytes, at most 261120 are allowed; use fewer tasks, or more workers on more machines";
    assert_eq!(said, format!("topology `t` is refused: the plan's part for machine m1 {too_long}"));
    let board = fixture.board();
    assert_eq!(board.children(&paths::topologies()).await.unwrap(), Vec::<String>::new());

    // A second machine has room for its half of it, and one worker is too little.
    let mut second = Machine::new(&fixture, "m2", &[6700, 6701]).await;
    second.tell().await;
    upload(&fixture.client, EXECUTABLE).await;
    let id = fixture.client.submit(&large).await.unwrap().id;
    assert_eq!(plan(&board, &id, 1).await.parts.len(), 2);
    let before = record(&board, &id).await;
    let (kind, said) = refusal(fixture.client.rebalance("t", &wants(1, &[], 0)).await);
    assert_eq!(kind, FailureKind::BadRequest);
    let alone = "cannot rebalance `t`: the plan's part for worker 0, on a machine of its own, would have ";
    assert!(said.starts_with(alone), "{said}");
    assert_eq!(record(&board, &id).await, before);
}

#[tokio::test]
async fn one_that_is_dealt_as_it_was_goes_on_at_once_and_restarts_nothing() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    until(&fixture, &mut [&mut machine], |t| t.summary.plan == PlanVersion(1) && t.summary.reason.is_none()).await;
    fixture.client.rebalance("t", &wants(2, &[], 0)).await.unwrap();
    let back = eventually(|| async {
        let record = record(&board, &id).await;
        (record.status == Status::Active).then_some(record)
    })
    .await;
    assert!(back.started);
    assert_eq!(back.rebalanced.workers, Some(2));
    assert_eq!(cluster_state::plans::read(&board, &id).await.unwrap().unwrap().head.version, PlanVersion(1));
}

#[tokio::test]
async fn a_write_that_is_refused_in_any_step_is_made_up_for() {
    // Draining, switching, back: each by a write of its own.
    for refused in 0..3 {
        let fixture = Fixture::start().await;
        let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
        machine.tell().await;
        let id = fixture.submit("t").await.unwrap().id;
        let board = fixture.board();
        until(&fixture, &mut [&mut machine], |t| t.summary.plan == PlanVersion(1) && t.summary.reason.is_none()).await;
        fixture.session.refuse_commit(refused);
        match fixture.client.rebalance("t", &wants(2, &[], 0)).await {
            Ok(_) => assert!(refused > 0),
            Err(_) => {
                assert_eq!(refused, 0);
                eventually(|| async { fixture.client.rebalance("t", &wants(2, &[], 0)).await.ok() }).await;
            }
        }
        // Its machine goes on reporting, so that nothing but the refused write calls for another look.
        let mut machines = [&mut machine];
        let back = until(&fixture, &mut machines, |t| t.summary.status == StatusWord::Active);
        tokio::time::timeout(Duration::from_secs(60), back).await.unwrap();
        assert_eq!(record(&board, &id).await.rebalanced.workers, Some(2));
    }
}

#[tokio::test]
async fn a_new_leader_goes_on_with_a_rebalance_in_each_step() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701, 6702]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    until(&fixture, &mut [&mut machine], |t| t.summary.plan == PlanVersion(1) && t.summary.reason.is_none()).await;

    // While it drains.
    fixture.client.rebalance("t", &wants(3, &[], 600)).await.unwrap();
    let draining = record(&board, &id).await;
    let fixture = fixture.restart().await;
    machine.nimbus_is(&fixture);
    until(&fixture, &mut [&mut machine], |t| t.summary.status == StatusWord::Rebalancing).await;
    assert_eq!(record(&board, &id).await, draining);
    machine.drained = true;
    until(&fixture, &mut [&mut machine], |t| t.summary.status == StatusWord::Active && t.summary.reason.is_none())
        .await;
    assert_eq!(workers(&plan(&board, &id, 2).await), ["m1:6700@2 1|4", "m1:6701@2 2", "m1:6702@2 3"]);

    // While it switches: before its plan is written, and after.
    let mut fixture = fixture;
    for before in [2, 3] {
        let Fixture { folder, memory, nimbus, .. } = fixture;
        nimbus.stop().await;
        let path = paths::topology(&id);
        let found = board.read::<Topology>(&path).await.unwrap().unwrap();
        let switching = Topology {
            rebalanced: Rebalanced { workers: Some(2), ..Rebalanced::default() },
            status: Status::Rebalancing {
                step: RebalanceStep::Switching,
                wait_ms: 0,
                deadline_ms: 0,
                from: PlanVersion(2),
                to: Rebalanced::default(),
                inactive: Some("deactivated".to_owned()),
                by_itself: None,
            },
            ..found.record
        };
        board.commit(board.change().set(path, switching, found.version)).await.unwrap();
        fixture = Fixture::go_on(folder, memory, |_| {}).await;
        machine.nimbus_is(&fixture);
        until(&fixture, &mut [&mut machine], |t| t.summary.status == StatusWord::Inactive).await;
        assert_eq!(workers(&plan(&board, &id, 3).await), ["m1:6700@3 1|3", "m1:6701@3 2|4"], "{before}");
        while !record(&board, &id).await.started {
            machine.tell().await;
        }
    }
}

#[tokio::test]
async fn a_drained_machine_is_left_for_what_slots_there_are_and_gets_nothing() {
    let fixture = Fixture::start().await;
    let mut first = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    first.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    until(&fixture, &mut [&mut first], |t| t.summary.plan == PlanVersion(1) && t.summary.reason.is_none()).await;

    // Nowhere to go.
    let drained = fixture.client.drain("m1.local").await.unwrap();
    let shown = |machine: &MachineSummary| {
        (machine.id.to_string(), machine.drained, machine.available, machine.used.iter().map(|port| port.0).collect())
    };
    assert_eq!(drained.iter().map(shown).collect::<Vec<_>>(), [("m1".to_owned(), true, false, vec![6700u16, 6701])]);
    let nobody = "waits for slots to leave m1.local: no machine is available that is not drained; start one by \
                  `storm supervisor`, or give one work again by `storm admin undrain`";
    until(&fixture, &mut [&mut first], |t| t.summary.scheduler == format!("Fully Scheduled; {nobody}")).await;
    assert_eq!(fixture.client.cluster().await.unwrap().machines[0].waits, [format!("t {nobody}")]);
    assert_eq!(record(&board, &id).await.status, Status::Active);

    // One slot: both workers' tasks go there, once they have drained. A new leader knows what is drained.
    assert!(fixture.client.cluster().await.unwrap().machines[0].heard_ms.is_some());
    let fixture = fixture.restart().await;
    // It has not heard of the machine itself.
    assert_eq!(fixture.client.cluster().await.unwrap().machines[0].heard_ms, None);
    let mut second = Machine::new(&fixture, "m2", &[6700]).await;
    first.nimbus_is(&fixture);
    until(&fixture, &mut [&mut first, &mut second], |t| t.summary.status == StatusWord::Rebalancing).await;
    let reason = fixture.client.topology("t").await.unwrap().summary.reason.unwrap();
    assert!(
        reason.starts_with("rebalancing, as m1.local is being drained: draining, 0 roots pending, at most "),
        "{reason}"
    );
    (first.drained, second.drained) = (true, true);
    until(&fixture, &mut [&mut first, &mut second], |t| {
        t.summary.status == StatusWord::Active && t.summary.reason.is_none()
    })
    .await;
    assert_eq!(workers(&plan(&board, &id, 2).await), ["m2:6700@2 1|2|3|4"]);
    let scheduler = fixture.client.topology("t").await.unwrap().summary.scheduler;
    assert_eq!(scheduler, "Running with fewer slots than requested (1/2)");
    assert_eq!(fixture.client.cluster().await.unwrap().machines[0].waits, Vec::<String>::new());

    // What no plan gives it any more is there until it has ended.
    let mut ending = first.report().await;
    ending.slots.get_mut(&Port(6701)).unwrap().state = SlotState::Stopping;
    fixture.client.report_machine(&ending.id, &ending).await.unwrap();
    let machines = fixture.client.cluster().await.unwrap().machines;
    assert_eq!(shown(&machines[0]), ("m1".to_owned(), true, false, vec![6701]));

    // Others get nothing there either, until it is drained no more.
    let other = fixture.submit("u").await.unwrap().id;
    first.tell().await;
    let machines = fixture.client.cluster().await.unwrap().machines;
    let used: Vec<_> = machines.iter().map(shown).collect();
    assert_eq!(used, [("m1".to_owned(), true, false, vec![]), ("m2".to_owned(), false, true, vec![6700])]);
    assert_eq!(cluster_state::plans::read(&board, &other).await.unwrap(), None);
    let again = fixture.client.drain("m1").await.unwrap();
    assert_eq!(again.iter().map(shown).collect::<Vec<_>>(), [("m1".to_owned(), true, false, vec![])]);
    let free = fixture.client.undrain("m1").await.unwrap();
    assert_eq!(free.iter().map(shown).collect::<Vec<_>>(), [("m1".to_owned(), false, true, vec![])]);
    assert_eq!(workers(&plan(&board, &other, 1).await), ["m1:6700@1 1|3", "m1:6701@1 2|4"]);
    assert_eq!(board.children(&paths::drained()).await.unwrap(), Vec::<String>::new());
}
