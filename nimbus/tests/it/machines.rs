//! Machines and workers that report, vanish, and come back.

use std::time::Duration;

use cluster_state::memory::Memory;
use cluster_state::paths;
use cluster_state::records::Topology;
use nimbus_api::client::ClientError;
use nimbus_api::machine::{MachineReport, SlotState, WorkerEnd};
use nimbus_api::submission::Kill;
use nimbus_api::topology::StatusWord;
use worker_api::answer::{GoneLife, Slot, Spouts};
use worker_api::ids::{Incarnation, Life, PlanVersion, Port, TopologyId, WorkerIndex};
use worker_api::report::{Fatal, Report, Stage};

use crate::fixture::*;

#[tokio::test]
async fn topologies_wait_for_slots_and_get_them_when_a_machine_comes() {
    let fixture = Fixture::start().await;
    let id = fixture.submit("t").await.unwrap().id;
    let scheduler = async || fixture.client.topology("t").await.unwrap().summary.scheduler;
    let waits = "Waiting for 2 of 2 slots: no machine is available; start one by `storm supervisor`";
    assert_eq!(scheduler().await, waits);
    let reason = async || fixture.client.topology("t").await.unwrap().summary.reason;
    assert_eq!(reason().await, Some(format!("starting, 0 of 2 workers are ready; {waits}")));
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    plan(&fixture.board(), &id, 1).await;
    eventually(|| async { (scheduler().await == "Fully Scheduled").then_some(()) }).await;
    machine.tell().await;
    eventually(|| async { reason().await.is_none().then_some(()) }).await;
}

#[tokio::test]
async fn a_dead_machines_workers_go_elsewhere_and_a_silent_one_that_is_back_keeps_nothing_twice() {
    let (folder, memory) = (tempfile::tempdir().unwrap(), Memory::default());
    let fixture = Fixture::go_on(folder, memory, |config| config.machine_timeout = Duration::from_secs(2)).await;
    let mut first = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    first.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    let before = plan(&board, &id, 1).await;
    assert_eq!(before.parts.len(), 1);
    let mut second = Machine::new(&fixture, "m2", &[6700, 6701]).await;
    // Only the second one is heard from now on.
    let after = loop {
        second.tell().await;
        let plan = cluster_state::plans::read(&board, &id).await.unwrap().unwrap();
        if plan.head.version == PlanVersion(2) {
            break plan;
        }
    };
    assert_eq!(after.head.parts.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["m2"]);
    assert_eq!(tasks(&after), tasks(&before));
    // The parts that the first plan named are gone.
    assert_eq!(
        board.children(&paths::plan_parts(&id)).await.unwrap(),
        [after.head.parts.values().next().unwrap().as_str()]
    );
    let machines = fixture.client.cluster().await.unwrap().machines;
    let states: Vec<_> = machines.iter().map(|machine| (machine.id.as_str(), machine.dead)).collect();
    assert_eq!(states, [("m1", true), ("m2", false)]);
    // A worker that was left behind asks by itself, and hears that its slot is gone.
    let old = report(&id, WorkerIndex(0), Port(6700), Life { plan: PlanVersion(1), incarnation: Incarnation(1) });
    let answer = fixture.client.report_worker(&old).await.unwrap();
    assert_eq!(answer.slot, Slot::Gone);
    assert_eq!(answer.placement.unwrap().version, PlanVersion(2));
}

#[tokio::test]
async fn workers_that_ask_by_themselves_are_answered() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    plan(&board, &id, 1).await;
    let life = Life { plan: PlanVersion(1), incarnation: Incarnation(1) };
    let (client, one) = (&fixture.client, report(&id, WorkerIndex(0), Port(6700), life));
    let answer = eventually(|| async {
        let answer = client.report_worker(&one).await.unwrap();
        (answer.spouts == Spouts::Inactive).then_some(answer)
    })
    .await;
    assert_eq!((answer.slot, answer.placement, answer.gone), (Slot::Kept, None, vec![]));
    // Both are ready: the topology starts, and they hear it.
    client.report_worker(&report(&id, WorkerIndex(1), Port(6701), life)).await.unwrap();
    eventually(|| async { (client.report_worker(&one).await.unwrap().spouts == Spouts::Active).then_some(()) }).await;
    let mut behind = one.clone();
    behind.placement = PlanVersion(0);
    let placement = client.report_worker(&behind).await.unwrap().placement.unwrap();
    assert_eq!((placement.version, placement.addresses.len()), (PlanVersion(1), 2));
    let stranger = report(&id, WorkerIndex(7), Port(6700), life);
    assert_eq!(client.report_worker(&stranger).await.unwrap().slot, Slot::Gone);
    let elsewhere = report(&id, WorkerIndex(0), Port(6709), life);
    assert_eq!(client.report_worker(&elsewhere).await.unwrap().slot, Slot::Gone);
    let gone = report(&TopologyId::new("no-1-1").unwrap(), WorkerIndex(0), Port(6700), life);
    assert_eq!(client.report_worker(&gone).await.unwrap().slot, Slot::Gone);
}

#[tokio::test]
async fn ends_of_workers_are_told_to_the_other_machines() {
    let fixture = Fixture::start().await;
    let (mut first, mut second) =
        (Machine::new(&fixture, "m1", &[6700]).await, Machine::new(&fixture, "m2", &[6700]).await);
    first.tell().await;
    second.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    plan(&fixture.board(), &id, 1).await;
    assert_eq!(first.tell().await.gone, [].into());
    let mut told = first.report().await;
    let worker = told.slots.get_mut(&Port(6700)).unwrap().worker.as_mut().unwrap();
    let index = worker.worker;
    worker.life.incarnation = Incarnation(3);
    (worker.report, worker.restarts) = (None, 2);
    worker.ends = vec![WorkerEnd {
        incarnation: Incarnation(2),
        ended_ms: 1,
        lived_ms: 90_000,
        cause: "killed by SIGKILL".to_owned(),
        planned: false,
        last_lines: vec!["bye".to_owned()],
        last_report: None,
    }];
    fixture.client.report_machine(&first.id, &told).await.unwrap();
    let life = Life { plan: PlanVersion(1), incarnation: Incarnation(2) };
    let gone = [(id.clone(), vec![GoneLife { worker: index, life }])].into();
    let answer = second.tell().await;
    assert_eq!((answer.gone, answer.plans), (gone, [(id.clone(), PlanVersion(1))].into()));
    let shown = fixture.client.topology("t").await.unwrap();
    let worker = &shown.workers[usize::from(index.0)];
    assert_eq!((worker.restarts, worker.ends[0].cause.as_str()), (2, "killed by SIGKILL"));
    assert_eq!(shown.summary.restarts, 2);
}

#[tokio::test]
async fn a_fatal_error_and_the_end_of_input_make_a_topology_inactive() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701, 6702, 6703]).await;
    machine.tell().await;
    for (name, fatal, expected) in [
        (
            "failing",
            Some(Fatal { component: "count".to_owned(), error: "no".to_owned() }),
            "fatal error in `count`: no",
        ),
        ("ending", None, "input finished"),
    ] {
        let id = fixture.submit(name).await.unwrap().id;
        plan(&fixture.board(), &id, 1).await;
        machine.stage = Stage::Ready;
        machine.tell().await;
        machine.stage = if fatal.is_some() { Stage::Ready } else { Stage::Ended };
        let mut report = machine.report().await;
        for slot in report.slots.values_mut().filter_map(|slot| slot.worker.as_mut()) {
            let own = slot.report.as_mut().unwrap();
            own.number = 2;
            match slot.topology == id {
                true => own.fatal = fatal.clone(),
                false => own.stage = Stage::Ready,
            }
        }
        eventually(|| async {
            fixture.client.report_machine(&machine.id, &report).await.unwrap();
            let summary = fixture.client.topology(name).await.unwrap().summary;
            (summary.status == StatusWord::Inactive && summary.reason.as_deref() == Some(expected)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_machines_trouble_is_shown_and_a_blocked_slot_is_not_used() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    let mut told = machine.report().await;
    told.slots.get_mut(&Port(6700)).unwrap().state = SlotState::Blocked;
    fixture.client.report_machine(&machine.id, &told).await.unwrap();
    let id = fixture.submit("t").await.unwrap().id;
    let planned = plan(&fixture.board(), &id, 1).await;
    assert_eq!(planned.placement().addresses.len(), 1);
    assert_eq!(planned.placement().addresses[0].as_ref().unwrap().port, 6701);
    let mut told = machine.report().await;
    told.troubles.insert(id.clone(), "its executable cannot be had: the disk is full".to_owned());
    fixture.client.report_machine(&machine.id, &told).await.unwrap();
    let shown = fixture.client.topology("t").await.unwrap();
    assert_eq!(shown.troubles, ["m1.local: its executable cannot be had: the disk is full"]);
}

#[tokio::test]
async fn records_stay_until_no_machine_names_the_topology() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    plan(&board, &id, 1).await;
    machine.keeps.push(id.clone());
    fixture.client.kill("t", Kill { wait_secs: Some(0) }).await.unwrap();
    eventually(|| async { board.children(&paths::plans()).await.unwrap().is_empty().then_some(()) }).await;
    // It is asked for twice after a report that names it: nothing may have happened in between.
    for _ in 0..2 {
        machine.tell().await;
        let summary = fixture.client.topology("t").await.unwrap().summary;
        assert_eq!(summary.reason.as_deref(), Some("removing: its workers stop, and its machines clean up"));
        assert!(board.read::<Topology>(&paths::topology(&id)).await.unwrap().is_some());
    }
    machine.keeps.clear();
    loop {
        machine.tell().await;
        if let Err(ClientError::Refused(_)) = fixture.client.topology("t").await {
            break;
        }
    }
    assert!(board.read::<Topology>(&paths::topology(&id)).await.unwrap().is_none());
}

#[tokio::test]
async fn workers_leave_ports_that_others_have_for_slots_that_were_not_tried() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701, 6702, 6703]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    let board = fixture.board();
    plan(&board, &id, 1).await;
    let mut taken = vec![Port(6700), Port(6701)];
    // As a Supervisor does: a port is known to be taken only while a worker is wanted there.
    let mut tell = async |taken: &[Port]| {
        let mut told = machine.report().await;
        for (port, slot) in &mut told.slots {
            if taken.contains(port) && slot.state != SlotState::Empty {
                slot.state = SlotState::Blocked;
            }
        }
        fixture.client.report_machine(&machine.id, &told).await.unwrap();
        let plan = cluster_state::plans::read(&board, &id).await.unwrap().unwrap();
        let ports = plan.placement().addresses.into_iter().map(|address| address.map(|address| address.port));
        (plan.head.version, ports.collect::<Vec<_>>())
    };
    while tell(&taken).await != (PlanVersion(2), vec![Some(6702), Some(6703)]) {
        tokio::task::yield_now().await;
    }
    // All are taken: the workers wait, and it is said why.
    taken.extend([Port(6702), Port(6703)]);
    while tell(&taken).await != (PlanVersion(3), vec![None, None]) {
        tokio::task::yield_now().await;
    }
    let sentence = "Waiting for 2 of 2 slots: no slot is free; add a machine or more supervisor.slots.ports; \
                    ports that other processes have: m1.local:6700, m1.local:6701, m1.local:6702, m1.local:6703";
    assert_eq!(fixture.client.topology("t").await.unwrap().summary.scheduler, sentence);
}

#[tokio::test]
async fn why_an_active_topology_does_not_work_is_its_reason() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    plan(&fixture.board(), &id, 1).await;
    let reason = async || fixture.client.topology("t").await.unwrap().summary.reason;
    let tell = async |report: &MachineReport| {
        fixture.client.report_machine(&report.id, report).await.unwrap();
    };

    let mut full = machine.report().await;
    full.slots.values_mut().for_each(|slot| slot.worker = None);
    full.troubles.insert(id.clone(), "its disk is full".to_owned());
    tell(&full).await;
    let cannot = "machine m1.local cannot run it: its disk is full";
    assert_eq!(reason().await, Some(format!("starting, 0 of 2 workers are ready; {cannot}")));
    machine.tell().await;
    eventually(|| async { reason().await.is_none().then_some(()) }).await;

    // It ended once, and was heard since.
    let end = |incarnation: u64, ended_ms| WorkerEnd {
        incarnation: Incarnation(incarnation),
        ended_ms,
        lived_ms: 10,
        cause: "exited with code 7".to_owned(),
        planned: false,
        last_lines: Vec::new(),
        last_report: None,
    };
    let mut report = machine.report().await;
    let mut crash = |state, ends: &[u64], lives_ms: Option<u64>| {
        report.number += 1;
        let slot = report.slots.get_mut(&Port(6700)).unwrap();
        slot.state = state;
        let worker = slot.worker.as_mut().unwrap();
        worker.life.incarnation = Incarnation(ends.len() as u64 + 1);
        worker.restarts = ends.len() as u64;
        worker.ends = (1..).zip(ends).map(|(incarnation, ended_ms)| end(incarnation, *ended_ms)).collect();
        worker.report = lives_ms.map(|lives_ms| Report {
            uptime_us: lives_ms * 1000,
            ..crate::fixture::report(&id, worker.worker, Port(6700), worker.life)
        });
        report.clone()
    };
    let ended = |times: &str, again: &str| {
        Some(format!("worker 0 on m1.local:6700 has ended {times}, last: exited with code 7; {again}"))
    };
    let minute = 60_000;
    let (at_once, with_pauses) = ("it is started again", "it is started again with pauses");
    for (state, ends, lives_ms, expected) in [
        (SlotState::Starting, vec![0], None, ended("once", at_once)),
        (SlotState::Running, vec![0], Some(1), None),
        (SlotState::BackingOff, vec![0, 100], None, ended("2 times", with_pauses)),
        (SlotState::Running, vec![0, 100], Some(1), None),
        (SlotState::Running, vec![0, 100, 10 * minute], Some(10 * minute - 1), ended("3 times", at_once)),
        (SlotState::Running, vec![0, 100, 10 * minute], Some(10 * minute), None),
        (SlotState::Running, vec![0, 100, 10 * minute + 1], Some(1), None),
    ] {
        tell(&crash(state, &ends, lives_ms)).await;
        assert_eq!(reason().await, expected, "{state:?} {ends:?} {lives_ms:?}");
    }
    let mut both = crash(SlotState::BackingOff, &[0, 1], None);
    both.troubles.insert(id.clone(), "its disk is full".to_owned());
    tell(&both).await;
    assert_eq!(reason().await, ended("2 times", with_pauses).map(|first| first + "; and 1 more such"));
}
