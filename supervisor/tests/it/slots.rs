//! A Supervisor with real workers: what it starts, adopts, restarts, ends and cleans up.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cluster_state::paths;
use cluster_state::records::{KillStep, Status, Supervisor as SupervisorRecord};
use nimbus_api::machine::{MachineReport, SlotState};
use rustix::process::{Pid, kill_process, test_kill_process};
use serde_json::json;
use supervisor::Supervisor;
use supervisor::process::{Process, Signal};
use worker_api::answer::{GoneLife, Slot, Spouts};
use worker_api::ids::{Incarnation, Life, PlanVersion, WorkerIndex};
use worker_api::launch::Launch;

use crate::cluster::{Cluster, FIXTURE, id, wait_for};

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
    assert_eq!(
        serde_json::to_value(&launch.config).unwrap(),
        json!({
            "own.key": [1, 2],
            "topology.debug": true,
            "topology.environment": {"GREETING": "hello"},
            "topology.message.timeout.secs": 30,
        })
    );
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
    let first = wait_for("the first answer", || cluster.heard("words-1-1", 0).into_iter().next()).await;
    assert_eq!((first.slot, first.spouts, first.placement), (Slot::Kept, Spouts::Active, None));
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

#[tokio::test]
async fn a_restarted_supervisor_adopts_its_workers() {
    let mut cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0, 1]).await;
    let before = [cluster.running(0).await, cluster.running(1).await].map(|worker| worker.report.unwrap().pid);
    cluster.stop().await;
    // One of them dies while nobody looks.
    kill_process(pid(before[1]), Signal::KILL).unwrap();
    wait_for("its end", || fs::exists(cluster.slot_folder(1).join("end.json")).unwrap().then_some(())).await;
    cluster.start().await;
    let adopted = cluster.running(0).await;
    assert_eq!(
        (adopted.report.unwrap().pid, adopted.life.incarnation, adopted.restarts),
        (before[0], Incarnation(1), 0)
    );
    let restarted = cluster.running(1).await;
    assert_eq!((restarted.life.incarnation, restarted.restarts), (Incarnation(2), 1));
    assert_eq!(restarted.ends[0].cause, "killed by SIGKILL");
    assert_eq!(restarted.ends[0].last_report.as_ref().unwrap().pid, before[1]);
}

/// Which life a slot's record, or its keeper's, speaks of.
fn incarnation(cluster: &Cluster, file: &str) -> u64 {
    let read = || -> Option<u64> {
        let json = fs::read(cluster.slot_folder(0).join(file)).ok()?;
        let json: serde_json::Value = serde_json::from_slice(&json).ok()?;
        json.pointer("/content/incarnation").or_else(|| json.get("incarnation"))?.as_u64()
    };
    read().unwrap_or_default()
}

#[tokio::test]
async fn a_supervisor_that_is_killed_at_any_moment_starts_none_twice() {
    let mut cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let mut last = cluster.running(0).await;
    cluster.stop().await;
    for round in 0..10 {
        let before = incarnation(&cluster, "record.json");
        let mut supervisor = std::process::Command::new(FIXTURE)
            .arg("supervisor")
            .arg(cluster.folder.path())
            .args(cluster.config.slots.iter().map(ToString::to_string))
            .spawn()
            .unwrap();
        // As soon as the next life is written down; as soon as it is started; as soon as it reports.
        wait_for("the next life", || {
            // Once its last life is over, there is a next one; it may be on its way still.
            if incarnation(&cluster, "keeper.json") <= before
                && let Ok(Some(worker)) = Process::of_keeper_record(&cluster.slot_folder(0))
            {
                worker.signal(Signal::KILL).unwrap();
            }
            let moment = match round % 3 {
                0 => incarnation(&cluster, "record.json") > before,
                1 => incarnation(&cluster, "keeper.json") > before,
                _ => {
                    incarnation(&cluster, "keeper.json") > before && cluster.slot_folder(0).join("report.json").exists()
                }
            };
            moment.then_some(())
        })
        .await;
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
    }
    cluster.start().await;
    last = cluster.running_after(0, &last).await;
    assert!(last.life.incarnation.0 > 10, "{}", last.life);
    let logs = cluster.config.logs_folder.join("words-1-1").join(cluster.slot(0).to_string());
    assert_eq!(fs::read_to_string(logs.join("two")).ok(), None);
    assert!(logs.join("only").exists());
    let reported = last.report.unwrap().pid;
    // A worker may report before its keeper has written down that it runs.
    wait_for("the keeper's record", || {
        let worker = Process::of_keeper_record(&cluster.slot_folder(0)).unwrap()?;
        (worker.pid() == reported).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_is_restarted_with_nimbus_and_cluster_state_away() {
    let mut cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let first = cluster.running(0).await;
    cluster.stop().await;
    cluster.everybody_goes().await;
    cluster.start().await;
    let first_pid = first.report.as_ref().unwrap().pid;
    kill_process(pid(first_pid), Signal::KILL).unwrap();
    // Nimbus hears of it only later.
    let launch = cluster.work_folder("words-1-1", 0).join("launch.json");
    wait_for("the next life", || {
        let launch: Launch = serde_json::from_slice(&fs::read(&launch).ok()?).ok()?;
        (launch.incarnation == Incarnation(2)).then_some(())
    })
    .await;
    wait_for("its report", || cluster.slot_folder(0).join("report.json").exists().then_some(())).await;
    cluster.nimbus_comes().await;
    let second = cluster.running_after(0, &first).await;
    let second_pid = second.report.as_ref().unwrap().pid;
    assert_ne!(second_pid, first_pid);
    cluster.session.come_back();
    cluster.set("words-1-1", |topology| topology.status = Status::Inactive { reason: "deactivated".to_owned() }).await;
    let inactive = cluster
        .until(|report| {
            let worker = report.slots[&cluster.slot(0)].worker.as_ref();
            worker.and_then(|worker| worker.report.as_ref()).is_some_and(|report| report.spouts == Spouts::Inactive)
        })
        .await;
    let report = inactive.slots[&cluster.slot(0)].worker.clone().unwrap().report.unwrap();
    assert_eq!((report.pid, report.drained), (second_pid, true));
}

#[tokio::test]
async fn a_damaged_file_of_the_supervisor_is_waited_over() {
    let mut cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0, 1]).await;
    let (first, other) = (cluster.running(0).await, cluster.running(1).await);
    cluster.stop().await;
    fs::write(cluster.config.folder.join("topologies/words-1-1.json"), "{").unwrap();
    kill_process(pid(first.report.as_ref().unwrap().pid), Signal::KILL).unwrap();
    cluster.session.go_away();
    cluster.start().await;
    // The living one goes on; the other waits for the cluster state.
    assert_eq!(cluster.running(1).await.report.unwrap().pid, other.report.unwrap().pid);
    let port = cluster.slot(0);
    let report = cluster.until(|report| report.slots[&port].state == SlotState::Fetching).await;
    let trouble = &report.troubles[&id("words-1-1")];
    assert!(
        trouble.ends_with(": the Supervisor's file cannot be read: EOF while parsing an object at line 1 column 1"),
        "{trouble}"
    );
    cluster.session.come_back();
    let second = cluster.running_after(0, &first).await;
    assert_eq!((second.life.incarnation, second.restarts), (Incarnation(2), 1));
    cluster.until(|report| report.troubles.is_empty()).await;
}

#[tokio::test]
async fn a_worker_that_hangs_is_killed_and_restarted() {
    let mut cluster = Cluster::new().await;
    cluster.config.worker_timeout = Duration::from_secs(1);
    cluster.start().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let first = cluster.running(0).await;
    kill_process(pid(first.report.as_ref().unwrap().pid), Signal::STOP).unwrap();
    let second = cluster.running_after(0, &first).await;
    assert_eq!(second.ends[0].cause, "silent for 1 s, killed by its Supervisor");
    assert!(!is_alive(first.report.unwrap().pid));
}

#[tokio::test]
async fn a_worker_that_never_reports_is_killed() {
    let mut cluster = Cluster::new().await;
    cluster.config.start_timeout = Duration::from_millis(500);
    cluster.start().await;
    cluster.submit(cluster.topology("words-1-1", &["mute"]), &[0]).await;
    let port = cluster.slot(0);
    let report =
        cluster.until(|report| report.slots[&port].worker.as_ref().is_some_and(|worker| worker.restarts > 0)).await;
    let worker = report.slots[&port].worker.clone().unwrap();
    assert_eq!(worker.ends[0].cause, "did not report within 0.5 s, killed by its Supervisor");
}

#[tokio::test]
async fn a_worker_that_crashes_again_and_again_is_restarted_ever_slower() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &["crash"]), &[0]).await;
    let port = cluster.slot(0);
    let report = cluster
        .until(|report| {
            let slot = &report.slots[&port];
            slot.state == SlotState::BackingOff && slot.worker.as_ref().is_some_and(|worker| worker.restarts == 3)
        })
        .await;
    let worker = report.slots[&port].worker.clone().unwrap();
    assert!(worker.ends[0].cause.starts_with("exited with code 3"), "{}", worker.ends[0].cause);
    let incarnations: Vec<u64> = worker.ends.iter().map(|end| end.incarnation.0).collect();
    assert_eq!(incarnations, [1, 2, 3]);
    // The second restart waited.
    assert!(worker.ends[2].ended_ms - worker.ends[1].ended_ms >= 250);
}

#[tokio::test]
async fn a_plan_that_changes_a_slot_replaces_its_worker_and_no_other() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0, 1]).await;
    let (first, other) = (cluster.running(0).await, cluster.running(1).await);
    cluster.replan("words-1-1", 2, &[(0, 2), (1, 1)]).await;
    let second = cluster.running_after(0, &first).await;
    assert_eq!(second.life, Life { plan: PlanVersion(2), incarnation: Incarnation(2) });
    let end = second.ends.last().unwrap();
    assert_eq!((end.cause.as_str(), end.planned), ("stopped by its Supervisor: its plan changed", true));
    assert_eq!((second.restarts, second.failures()), (0, [].as_slice()));
    let port = cluster.slot(1);
    let report = cluster
        .until(|report| {
            let worker = report.slots[&port].worker.as_ref();
            worker.and_then(|worker| worker.report.as_ref()).is_some_and(|report| report.placement == PlanVersion(2))
        })
        .await;
    let still = report.slots[&port].worker.clone().unwrap();
    assert_eq!((still.report.unwrap().pid, still.life), (other.report.unwrap().pid, other.life));
}

#[tokio::test]
async fn a_worker_that_does_not_end_is_killed_after_the_grace() {
    let mut cluster = Cluster::new().await;
    // Time enough for the worker to hear that it is to end, which is asserted below.
    cluster.config.shutdown_grace = Duration::from_secs(1);
    cluster.start().await;
    cluster.submit(cluster.topology("words-1-1", &["stubborn"]), &[0]).await;
    let first = cluster.running(0).await;
    cluster.replan("words-1-1", 2, &[(1, 2)]).await;
    cluster.running(1).await;
    let port = cluster.slot(0);
    let empty = cluster.until(|report| report.slots[&port].state == SlotState::Empty).await;
    assert!(!is_alive(first.report.unwrap().pid));
    assert!(cluster.heard("words-1-1", 0).iter().any(|answer| answer.slot == Slot::Gone));
    let last = empty.slots[&port].worker.clone().unwrap();
    assert_eq!(last.ends[0].cause, "stopped by its Supervisor: its topology has nothing in this slot any more");
    assert!(!cluster.work_folder("words-1-1", 0).exists());
    assert!(cluster.work_folder("words-1-1", 1).exists());
}

#[tokio::test]
async fn nothing_is_left_of_a_topology_that_is_gone_but_its_logs() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0, 1]).await;
    let worker = cluster.running(0).await;
    let report = cluster.until(|report| report.topologies == [id("words-1-1")]).await;
    assert_eq!(report.troubles, Default::default());
    cluster
        .set("words-1-1", |topology| {
            topology.status = Status::Killed { step: KillStep::Removing, wait_ms: 0, deadline_ms: 0 };
        })
        .await;
    let report = cluster.until(|report| report.topologies.is_empty()).await;
    assert!(report.slots.values().all(|slot| slot.state == SlotState::Empty && slot.worker.is_none()), "{report:?}");
    assert!(!is_alive(worker.report.unwrap().pid));
    cluster.remove("words-1-1").await;
    let local = cluster.folder.path().join("local");
    let names = |path: &str| {
        let mut names: Vec<String> = fs::read_dir(local.join(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!((names("workers"), names("supervisor/topologies")), (vec![], vec![]));
    // Blobs go with the look that finds no use for them.
    assert_eq!(names("supervisor/blobs"), Vec::<String>::new());
    let secrets = fs::read_to_string(cluster.slot_folder(0).join("record.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&secrets).unwrap(),
        json!({"format": 1, "content": {"incarnation": 1, "resident": null, "of": null, "ends": [], "restarts": 0}})
    );
    assert_eq!(cluster.log("words-1-1", 0), "GREETING=hello\n");
    // They go when they are old.
    cluster.stop().await;
    cluster.config.logs_kept = Duration::ZERO;
    cluster.start().await;
    wait_for("the logs to go", || (!cluster.config.logs_folder.join("words-1-1").exists()).then_some(())).await;
}

#[tokio::test]
async fn a_blob_that_breaks_off_goes_on_where_it_was_and_a_damaged_one_is_fetched_again() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let topology = cluster.topology("words-1-1", &[]);
    let executable = cluster.config.folder.join("blobs").join(topology.executable.hash.as_str());
    cluster.cut_next(5);
    cluster.submit(topology, &[0]).await;
    cluster.running(0).await;
    let mut offsets = cluster.offsets();
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 0, 0, 5]);
    assert_eq!(fs::metadata(&executable).unwrap().permissions().mode() & 0o777, 0o500);

    let worker = cluster.running(0).await;
    cluster.stop().await;
    let whole = fs::read(&executable).unwrap();
    fs::remove_file(&executable).unwrap();
    fs::write(&executable, "damaged").unwrap();
    cluster.start().await;
    kill_process(pid(worker.report.as_ref().unwrap().pid), Signal::KILL).unwrap();
    cluster.running_after(0, &worker).await;
    assert_eq!(fs::read(&executable).unwrap(), whole);
}

#[tokio::test]
async fn a_disk_that_takes_no_blob_is_not_kept_full_by_a_part_of_it() {
    let mut cluster = Cluster::started().await;
    cluster.stop().await;
    let topology = cluster.topology("words-1-1", &[]);
    let part = cluster.config.folder.join("blobs").join(format!("{}.part", topology.executable.hash));
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    cluster.submit(topology, &[0]).await;
    cluster.start().await;
    // The part is gone, so it begins anew, on a disk that has room now.
    cluster.running(0).await;
    assert!(!part.is_symlink());
}

#[tokio::test]
async fn an_end_that_could_not_be_written_is_told_with_what_may_have_hindered_it() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let worker = cluster.running(0).await;
    // Where the keeper writes it first.
    let in_its_way = cluster.slot_folder(0).join("end.json.new");
    fs::create_dir(&in_its_way).unwrap();
    kill_process(pid(worker.report.as_ref().unwrap().pid), Signal::KILL).unwrap();
    let port = cluster.slot(0);
    let ended =
        |report: &MachineReport| report.slots[&port].worker.as_ref().is_some_and(|worker| !worker.ends.is_empty());
    let report = cluster.until(ended).await;
    assert_eq!(
        report.slots[&port].worker.as_ref().unwrap().ends[0].cause,
        "how it ended is not known: its keeper could not write it (is the disk full?), was killed too, or the machine fell"
    );
    fs::remove_dir(in_its_way).unwrap();
}

#[tokio::test]
async fn what_cannot_be_had_is_told_and_waited_for() {
    let cluster = Cluster::started().await;
    let topology = cluster.topology("words-1-1", &[]);
    cluster.lose_blobs();
    cluster.submit(topology, &[0]).await;
    let port = cluster.slot(0);
    let report = cluster.until(|report| !report.troubles.is_empty()).await;
    assert_eq!(report.slots[&port].state, SlotState::Fetching);
    let trouble = &report.troubles[&id("words-1-1")];
    assert!(trouble.starts_with("cannot fetch the blob ") && trouble.contains(": there is no blob "), "{trouble}");
    cluster.topology("words-1-1", &[]);
    cluster.running(0).await;
    cluster.until(|report| report.troubles.is_empty()).await;
}

#[tokio::test]
async fn a_port_that_is_taken_blocks_its_slot_alone() {
    let cluster = Cluster::started().await;
    let taken = TcpListener::bind(("127.0.0.1", cluster.slot(0).0)).unwrap();
    cluster.submit(cluster.topology("words-1-1", &[]), &[0, 1]).await;
    cluster.running(1).await;
    let port = cluster.slot(0);
    let report = cluster.until(|report| report.slots[&port].state == SlotState::Blocked).await;
    let expected = format!("port {port} at 127.0.0.1 is taken by another process");
    assert!(report.troubles[&id("words-1-1")].starts_with(&expected), "{:?}", report.troubles);
    drop(taken);
    cluster.running(0).await;
    cluster.until(|report| report.troubles.is_empty()).await;
}

#[tokio::test]
async fn a_wrong_byte_on_the_socket_closes_that_connection_and_nothing_else() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let before = cluster.running(0).await;
    let socket = cluster.config.folder.join("supervisor.sock");
    for wrong in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"\xff\xfe\n", b"{}\n", b"{\"format\":1}\n"] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(wrong).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let answer = tokio::task::spawn_blocking(move || {
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).map(|_| answer)
        });
        // Either end of a socket may be told that what it sent was never read.
        let answer = answer.await.unwrap().unwrap_or_default();
        assert_eq!(answer, "", "{wrong:?}");
    }
    let still = cluster.until(|report| {
        let worker = report.slots[&cluster.slot(0)].worker.as_ref();
        let number = |report: &worker_api::report::Report| report.number;
        worker.and_then(|worker| worker.report.as_ref().map(number)) > before.report.as_ref().map(number)
    });
    let still = still.await.slots[&cluster.slot(0)].worker.clone().unwrap();
    assert_eq!((still.life, still.restarts), (before.life, 0));
}

#[tokio::test]
async fn a_report_of_another_format_is_told_to_end() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &["old"]), &[0]).await;
    let answer = wait_for("the answer", || cluster.heard("words-1-1", 0).pop()).await;
    assert_eq!((answer.slot, answer.spouts), (Slot::Gone, Spouts::Inactive));
}

#[tokio::test]
async fn a_second_supervisor_in_a_folder_is_refused() {
    let cluster = Cluster::started().await;
    let refused = Supervisor::start(cluster.config.clone(), cluster.session.clone()).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        format!(
            "another Supervisor uses {}; stop it, or give this one another storm.local.dir",
            cluster.config.folder.display()
        )
    );
}

#[tokio::test]
async fn a_long_folder_has_its_socket_elsewhere_and_finds_it_again() {
    let mut cluster = Cluster::new().await;
    cluster.config.folder = cluster.folder.path().join("long".repeat(40));
    cluster.start().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let before = cluster.running(0).await.report.unwrap().pid;
    cluster.stop().await;
    cluster.start().await;
    assert_eq!(cluster.running(0).await.report.unwrap().pid, before);
    let socket = fs::read_to_string(cluster.config.folder.join("socket")).unwrap();
    fs::remove_dir_all(std::path::Path::new(&socket).parent().unwrap()).unwrap();
}

#[tokio::test]
async fn an_unreadable_record_is_its_own_topologys_trouble() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let before = cluster.running(0).await;
    // A name record has no field of a topology's.
    let path = paths::topology(&id("words-1-1"));
    let found = cluster.board.read::<cluster_state::records::Topology>(&path).await.unwrap().unwrap();
    let damaged = cluster_state::records::NameTaken { topology: id("words-1-1") };
    cluster.board.commit(cluster.board.change().set(path, damaged, found.version)).await.unwrap();
    let report = cluster.until(|report| !report.troubles.is_empty()).await;
    let trouble = &report.troubles[&id("words-1-1")];
    assert!(trouble.starts_with("the topology record at `topologies/words-1-1` cannot be read: "), "{trouble}");
    cluster.submit(cluster.topology("other-1-1", &[]), &[1]).await;
    cluster.running(1).await;
    kill_process(pid(before.report.as_ref().unwrap().pid), Signal::KILL).unwrap();
    cluster.running_after(0, &before).await;
}

#[tokio::test]
async fn the_machine_is_enrolled_again_when_its_session_was_lost() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let before = cluster.running(0).await;
    let path = paths::supervisor(&cluster.me.clone().unwrap());
    let mut watch = cluster.board.watch(&path);
    cluster.session.lose();
    cluster.session.come_back();
    while cluster.board.read::<SupervisorRecord>(&path).await.unwrap().is_none() {
        watch.changed().await;
    }
    let still = cluster.running(0).await;
    assert_eq!(still.life, before.life);
}

#[tokio::test]
async fn gone_lives_that_nimbus_knows_are_told_to_workers() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    cluster.running(0).await;
    let gone = GoneLife { worker: WorkerIndex(1), life: Life { plan: PlanVersion(1), incarnation: Incarnation(4) } };
    cluster.tell_gone("words-1-1", gone);
    wait_for("the word", || cluster.heard("words-1-1", 0).iter().any(|answer| answer.gone == [gone]).then_some(()))
        .await;
}

#[tokio::test]
async fn ends_are_kept_while_the_topology_runs_elsewhere() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let worker = cluster.running(0).await;
    cluster.replan("words-1-1", 2, &[]).await;
    let port = cluster.slot(0);
    let report = cluster.until(|report| report.topologies.is_empty()).await;
    let last = report.slots[&port].worker.clone().unwrap();
    assert_eq!((report.slots[&port].state, last.life, last.restarts), (SlotState::Empty, worker.life, 0));
    assert!(last.ends[0].last_report.is_some());
    cluster.remove("words-1-1").await;
    cluster.until(|report| report.slots[&port].worker.is_none()).await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_ends_nothing() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let before = cluster.running(0).await;
    // Root may write anywhere, so what is in the way is a file where a folder must be.
    fs::write(cluster.config.workers_folder.join("other-1-1"), "").unwrap();
    cluster.submit(cluster.topology("other-1-1", &[]), &[1]).await;
    let report = cluster.until(|report| !report.troubles.is_empty()).await;
    let trouble = &report.troubles[&id("other-1-1")];
    assert!(trouble.starts_with("cannot make the folder "), "{trouble}");
    fs::remove_file(cluster.config.workers_folder.join("other-1-1")).unwrap();
    cluster.running(1).await;
    assert_eq!(cluster.running(0).await.life, before.life);
}

#[tokio::test]
async fn a_worker_that_ends_after_the_input_has_finished_is_not_started_again() {
    let cluster = Cluster::started().await;
    cluster.submit(cluster.topology("words-1-1", &[]), &[0]).await;
    let worker = cluster.running(0).await;
    let finished = Status::Inactive { reason: Status::INPUT_FINISHED.to_owned() };
    cluster.set("words-1-1", |topology| topology.status = finished).await;
    wait_for("the worker hears it", || {
        cluster.heard("words-1-1", 0).last().filter(|answer| answer.spouts == Spouts::Inactive).map(drop)
    })
    .await;
    kill_process(pid(worker.report.unwrap().pid), Signal::KILL).unwrap();
    let report = cluster.until(|report| report.slots[&cluster.slot(0)].state == SlotState::Empty).await;
    let left = report.slots[&cluster.slot(0)].worker.as_ref().unwrap();
    assert_eq!((left.life.incarnation.0, left.ends.len()), (1, 1));
    assert_eq!(incarnation(&cluster, "record.json"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_nimbus_that_was_stopped_is_asked_once_and_those_behind_it_hear_the_machine() {
    let mut cluster = Cluster::new().await;
    // The kernel takes connections for it.
    let stopped = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stopped.set_nonblocking(true).unwrap();
    cluster.config.nimbuses.insert(0, stopped.local_addr().unwrap().to_string());
    cluster.start().await;
    let first = cluster.until(|_| true).await;
    cluster.until(|report| report.number > first.number + 3).await;
    assert_eq!(std::iter::from_fn(|| stopped.accept().ok()).count(), 1);
}
