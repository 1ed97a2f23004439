//! Topologies are dealt anew, by command and by themselves, and machines are emptied.

use cluster_state::board::Board;
use cluster_state::paths;
use cluster_state::plans::WholePlan;
use cluster_state::records::{RebalanceStep, Status, Topology};
use nimbus_api::failure::FailureKind;
use nimbus_api::submission::{Kill, Rebalance};
use nimbus_api::topology::StatusWord;
use worker_api::answer::{Slot, Spouts};
use worker_api::ids::{Incarnation, Life, PlanVersion, Port, TopologyId, WorkerIndex};
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

    machines[0].drained = true;
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
    assert!(record(&board, &id).await.started);
}
