//! A Supervisor with real workers: what it starts, adopts, restarts, ends and cleans up.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cluster_state::paths;
use cluster_state::records::{KillStep, Status, Supervisor as SupervisorRecord};
use nimbus_api::machine::SlotState;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;
use supervisor::Supervisor;
use worker_api::answer::{GoneLife, Slot, Spouts};
use worker_api::ids::{Incarnation, Life, PlanVersion, WorkerIndex};
use worker_api::launch::Launch;

use crate::cluster::{Cluster, id, wait_for};

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn is_alive(number: u32) -> bool {
    test_kill_process(pid(number)).is_ok()
}

#[tokio::test]
async fn a_plan_becomes_a_worker_with_all_that_it_needs() {
    let mut cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let worker = cluster.running(0).await;
    assert_eq!(worker.life, Life { plan: PlanVersion(1), incarnation: Incarnation(1) });
    let report = worker.report.unwrap();
    assert_eq!((worker.restarts, worker.placement, report.port), (0, PlanVersion(1), cluster.slot(0)));

    let folder = cluster.work_folder("words-1-1", 0);
    let launch = folder.join("launch.json");
    assert_eq!(fs::metadata(&launch).unwrap().permissions().mode() & 0o777, 0o600);
    let launch: Launch = serde_json::from_slice(&fs::read(&launch).unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&launch.config).unwrap(), json!({
        "own.key": [1, 2],
        "topology.debug": true,
        "topology.environment": {"GREETING": "hello"},
        "topology.message.timeout.secs": 30,
    }));
    assert_eq!((launch.topology, launch.spouts, launch.bind.as_str()), (id("words-1-1"), Spouts::Active, "127.0.0.1"));
    assert_eq!(fs::read_to_string(folder.join("words.txt")).unwrap(), "some words\n");
    assert_eq!(cluster.log("words-1-1", 0), "GREETING=hello\n");
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", report.pid)).unwrap();
    let arguments: Vec<&str> = arguments.trim_end_matches('\0').split('\0').skip(1).collect();
    assert_eq!(arguments, ["worker", "words-1-1", &cluster.slot(0).to_string()]);
    assert_eq!(fs::metadata(&launch.supervisor_socket).unwrap().permissions().mode() & 0o777, 0o600);

    let me = cluster.me.clone().unwrap();
    let record = cluster.board.read::<SupervisorRecord>(&paths::supervisor(&me)).await.unwrap().unwrap().record;
    assert_eq!((record.host.as_str(), record.slots), ("machine-1.example", cluster.config.slots.clone()));
    let heard = cluster.heard("words-1-1", 0);
    assert_eq!((heard[0].slot, heard[0].spouts, &heard[0].placement), (Slot::Kept, Spouts::Active, &None));
    cluster.stop().await;
    assert_eq!(cluster.board.read::<SupervisorRecord>(&paths::supervisor(&me)).await.unwrap(), None);
}

#[tokio::test]
async fn a_killed_worker_is_started_again_and_its_end_is_told() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0, 1]).await;
    let (first, other) = (cluster.running(0).await, cluster.running(1).await);
    kill_process(pid(first.report.as_ref().unwrap().pid), Signal::KILL).unwrap();
    let second = cluster.running_after(0, &first).await;
    assert_eq!(second.life, Life { plan: PlanVersion(1), incarnation: Incarnation(2) });
    assert_eq!((second.restarts, second.ends.len()), (1, 1));
    let end = &second.ends[0];
    assert_eq!((end.incarnation, end.cause.as_str()), (Incarnation(1), "killed by SIGKILL"));
    assert_eq!(end.last_report.as_ref().unwrap().life, first.life);
    // The other worker hears of it at once, and stays.
    wait_for("the peer's word", || {
        let gone = vec![GoneLife { worker: WorkerIndex(0), life: first.life }];
        cluster.heard("words-1-1", 1).iter().any(|answer| answer.gone == gone).then_some(())
    })
    .await;
    let still = cluster.running(1).await;
    assert_eq!(still.report.unwrap().pid, other.report.unwrap().pid);
}
