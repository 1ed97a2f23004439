//! The formats as they are written, byte by byte: whoever changes one sees it here, and raises its number.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use topology_api::fail::FailKind;
use topology_api::grouping::Grouping;
use topology_api::ids::TaskId;
use topology_api::topology::{ComponentGraph, GRAPH_FORMAT, Graph, InputGraph, StreamGraph};
use worker_api::answer::{ANSWER_FORMAT, Answer, GoneLife, Slot, Spouts};
use worker_api::describe::{Build, Described, platform};
use worker_api::ids::{
    Incarnation, Life, PlanVersion, Port, Revision, SupervisorId, TopologyId, TopologyName, WorkerIndex,
};
use worker_api::launch::{LAUNCH_FORMAT, Launch};
use worker_api::plan::{Address, Placement, Plan, SlotPlan};
use worker_api::read_json;
use worker_api::report::{
    Counts, Distribution, Doing, ExecutorReport, Fatal, Input, LinkReport, Output, REPORT_FORMAT, Report,
    ReportedError, Stage, Waiting,
};
use worker_api::secret::Secret;

/// Checks that `value` is written as `golden` and read back from it; that another format is refused whatever else it
/// holds; and that a field that is missing is named.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    what: &'static str,
    format: u32,
    value: &T,
    golden: &str,
    field: &str,
) {
    let written = serde_json::to_string_pretty(value).unwrap() + "\n";
    assert_eq!(written, golden, "{what}");
    assert_eq!(read_json::<T>(what, format, golden.as_bytes()).unwrap(), *value, "{what}");

    let other = br#"{"format":77}"#;
    assert_eq!(
        read_json::<T>(what, format, other).unwrap_err().to_string(),
        format!(
            "the {what} has format 77, and this is built for format {format}; \
             build the topology and the daemons with the same version"
        )
    );
    let mut json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(golden).unwrap();
    json.remove(field).unwrap();
    let missing = read_json::<T>(what, format, &serde_json::to_vec(&json).unwrap()).unwrap_err().to_string();
    let begin = format!("the {what} cannot be read: missing field `{field}`");
    assert!(missing.starts_with(&begin), "{missing}");
    let cut = read_json::<T>(what, format, &golden.as_bytes()[..golden.len() / 2]).unwrap_err().to_string();
    assert!(cut.starts_with(&format!("the {what} cannot be read: EOF while parsing ")), "{cut}");
}

fn placement() -> Placement {
    let slot = |version, executors: &[&[u32]]| SlotPlan {
        version: PlanVersion(version),
        executors: executors.iter().map(|tasks| tasks.iter().copied().map(TaskId).collect()).collect(),
    };
    Placement {
        version: PlanVersion(4),
        plan: Plan { workers: vec![slot(1, &[&[1, 2], &[3]]), slot(4, &[&[4]])] },
        addresses: vec![Some(Address { host: "node-1".to_owned(), port: 6700 }), None],
    }
}

#[test]
fn launch_file() {
    let launch = Launch {
        format: LAUNCH_FORMAT,
        topology: TopologyId::new("word-count-3-1700000000").unwrap(),
        name: TopologyName::new("word-count").unwrap(),
        worker: WorkerIndex(0),
        incarnation: Incarnation(7),
        supervisor: SupervisorId::new("s-1").unwrap(),
        host: "node-1".to_owned(),
        port: Port(6700),
        bind: "127.0.0.1".to_owned(),
        secret: Secret::new([0xab; 32]),
        arguments: vec!["--input".to_owned(), "book.txt".to_owned()],
        config: BTreeMap::from([("topology.workers".to_owned(), json!(2)), ("my.key".to_owned(), json!({"a": [1]}))]),
        graph: "graph.json".into(),
        placement: placement(),
        spouts: Spouts::Inactive,
        revision: Revision(7),
        supervisor_socket: "/run/storm/supervisor.sock".into(),
        nimbuses: vec!["node-0:6628".to_owned()],
        log: "/var/log/storm/worker.log".into(),
        log_bytes: 104_857_600,
        log_files: 9,
    };
    check("launch file", LAUNCH_FORMAT, &launch, include_str!("launch.json"), "incarnation");
}

#[test]
fn report() {
    let counts = Counts {
        executed: 10,
        acked: 8,
        failed: 1,
        failed_by_kind: BTreeMap::from([(FailKind::WorkerLost, 1)]),
        outputs: BTreeMap::from([("default".to_owned(), Output { emitted: 20, transferred: 40 })]),
        inputs: vec![Input {
            component: "lines".to_owned(),
            stream: "default".to_owned(),
            executed: 10,
            acked: 8,
            failed: 1,
            execute_us: 1000,
            process_us: 900,
        }],
        pending: 5,
        held: 2,
        window: 64,
        restarts: 1,
        malformed: 3,
        error_count: 4,
        execute: Distribution { sum_us: 1000, buckets: vec![(103, 10)] },
        process: Distribution { sum_us: 900, buckets: vec![(103, 9)] },
        complete: Distribution::default(),
    };
    let executor = |component: &str, tasks: &[u32], doing, counts| ExecutorReport {
        component: component.to_owned(),
        tasks: tasks.iter().copied().map(TaskId).collect(),
        doing,
        doing_since_us: 500,
        inbox: Waiting { tuples: 6, bytes: 700 },
        counts,
        errors: vec![ReportedError { at_us: 400, message: "no room".to_owned() }],
    };
    let report = Report {
        format: REPORT_FORMAT,
        topology: TopologyId::new("word-count-3-1700000000").unwrap(),
        worker: WorkerIndex(1),
        port: Port(6701),
        life: Life { plan: PlanVersion(4), incarnation: Incarnation(2) },
        number: 12,
        pid: 4711,
        placement: PlanVersion(4),
        stage: Stage::Ready,
        spouts: Spouts::Active,
        revision: Revision(7),
        drained: false,
        fatal: Some(Fatal { component: "count".to_owned(), error: "no disk".to_owned() }),
        uptime_us: 12_000_000,
        cpu_us: 3_000_000,
        memory_bytes: 20_000_000,
        inbox_bytes: 700,
        executors: vec![
            executor("split", &[3, 4], Doing::WaitingForRoom(TaskId(1)), counts),
            executor("lines", &[2], Doing::Idle, Counts::default()),
        ],
        links: BTreeMap::from([(
            WorkerIndex(0),
            LinkReport {
                connected: true,
                frames_sent: 1,
                bytes_sent: 2,
                frames_received: 3,
                bytes_received: 4,
                frames_resent: 5,
                doubles_dropped: 6,
                reconnects: 7,
                tuple_permits_received: 8,
                byte_permits_received: 9,
                tuple_permits_granted: 10,
                byte_permits_granted: 11,
            },
        )]),
        metrics: BTreeMap::from([(TaskId(3), BTreeMap::from([("lines".to_owned(), -1)]))]),
    };
    check("report", REPORT_FORMAT, &report, include_str!("report.json"), "stage");
}

#[test]
fn answer() {
    let life = Life { plan: PlanVersion(1), incarnation: Incarnation(3) };
    let answer = Answer {
        format: ANSWER_FORMAT,
        slot: Slot::Kept,
        spouts: Spouts::Active,
        revision: Revision(7),
        placement: Some(placement()),
        gone: vec![GoneLife { worker: WorkerIndex(1), life }],
    };
    check("answer", ANSWER_FORMAT, &answer, include_str!("answer.json"), "spouts");
}

#[test]
fn described() {
    let described = Described {
        build: Build {
            version: "0.1.0".to_owned(),
            launch_format: 1,
            platform: "x86_64-linux".to_owned(),
            panic_aborts: false,
        },
        graph: Graph {
            format: GRAPH_FORMAT,
            name: "word-count".to_owned(),
            config: BTreeMap::from([("topology.workers".to_owned(), json!(2))]),
            components: vec![ComponentGraph {
                name: "split".to_owned(),
                kind: "bolt".to_owned(),
                executors: 2,
                first_task: 3,
                tasks: 4,
                streams: vec![StreamGraph {
                    name: "default".to_owned(),
                    fields: vec!["word".to_owned()],
                    direct: false,
                    tuple: "Word".to_owned(),
                }],
                inputs: vec![InputGraph {
                    component: "lines".to_owned(),
                    stream: "default".to_owned(),
                    grouping: Grouping::Shuffle,
                }],
                config: BTreeMap::new(),
            }],
        },
    };
    check("description", GRAPH_FORMAT, &described, include_str!("described.json"), "build");
    // The graph can be read out of it alone.
    let graph: Graph = read_json("graph", GRAPH_FORMAT, include_bytes!("described.json")).unwrap();
    assert_eq!(graph, described.graph);
    let own = Build::own();
    assert_eq!((own.launch_format, own.platform, own.panic_aborts), (LAUNCH_FORMAT, platform(), false));
}
