//! What the tests of the invariants share: one topology, `words-1-1`, a spout `source` (task 1) and a bolt `sink` (task 2), in
//! worker 0.
//!
//! Not here: what must hold. Invariant: what is told here is well-formed; the tests make it wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use topology_api::grouping::Grouping;
use topology_api::ids::TaskId;
use topology_api::topology::{ComponentGraph, GRAPH_FORMAT, Graph, InputGraph, StreamGraph};
use worker::process::WorkerReport;
use worker_api::ids::{
    BlobHash, Incarnation, Life, PlanVersion, Port, SupervisorId, TopologyId, TopologyName, WorkerIndex,
};
use worker_api::report::{Counts, Doing, ExecutorReport, Input, Output, Waiting};

use super::{Invariant, Observation, Running, Settled, SourceTuple};
use crate::workload::Shape;

pub(super) fn topology() -> TopologyId {
    TopologyId::new("words-1-1").unwrap()
}

pub(super) fn machine() -> SupervisorId {
    SupervisorId::new("m1").unwrap()
}

pub(super) fn life(plan: u64, incarnation: u64) -> Life {
    Life { plan: PlanVersion(plan), incarnation: Incarnation(incarnation) }
}

pub(super) fn hash(letter: char) -> BlobHash {
    BlobHash::try_from(letter.to_string().repeat(64)).unwrap()
}

/// All that an invariant says of what it hears at time zero, and of what is left.
pub(super) fn heard(invariant: &mut impl Invariant, seen: &[Observation], settled: &Settled) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for observation in seen {
        said.extend(invariant.observe(Duration::ZERO, observation).err().map(|violation| violation.what));
    }
    said.extend(invariant.finish(settled).err().map(|violation| violation.what));
    said
}

fn tuple(offset: u64) -> SourceTuple {
    SourceTuple { source: 1, offset }
}

pub(super) fn emitted(offset: u64, attempt: u32) -> Observation {
    emitted_by(offset, attempt, life(1, 1))
}

pub(super) fn emitted_by(offset: u64, attempt: u32, life: Life) -> Observation {
    Observation::Emitted { topology: topology(), tuple: tuple(offset), attempt, by: (WorkerIndex(0), life) }
}

pub(super) fn effect(offset: u64, attempt: u32, index: u32) -> Observation {
    Observation::Effect { topology: topology(), tuple: tuple(offset), attempt, index }
}

pub(super) fn acked(offset: u64, attempt: u32) -> Observation {
    Observation::Acked { topology: topology(), tuple: tuple(offset), attempt }
}

pub(super) fn failed(offset: u64, attempt: u32) -> Observation {
    Observation::Failed { topology: topology(), tuple: tuple(offset), attempt, reason: "bad luck".to_owned() }
}

pub(super) fn submitted() -> Observation {
    Observation::Submitted { topology: topology(), effects: 1 }
}

pub(super) fn started(worker: u16, life: Life, port: u16) -> Observation {
    let (worker, port) = (WorkerIndex(worker), Port(port));
    Observation::WorkerStarted { topology: topology(), worker, life, machine: machine(), port }
}

/// Worker 0, incarnation 1 of plan 1.
pub(super) fn ended(executors: Vec<ExecutorReport>) -> Observation {
    let report = Box::new(report(executors));
    Observation::WorkerEnded { topology: topology(), worker: WorkerIndex(0), life: life(1, 1), in_order: false, report }
}

pub(super) fn ended_life(worker: u16, life: Life) -> Observation {
    let report = Box::new(report(Vec::new()));
    Observation::WorkerEnded { topology: topology(), worker: WorkerIndex(worker), life, in_order: false, report }
}

fn report(executors: Vec<ExecutorReport>) -> WorkerReport {
    WorkerReport { uptime_us: 1, inbox_bytes: 0, executors, links: BTreeMap::new(), metrics: BTreeMap::new() }
}

/// Of a worker whose spout has emitted so many, all acked, and whose bolt has executed and settled so many.
pub(super) fn counts(emitted: u64, executed: u64, settled: u64) -> WorkerReport {
    let executor = |component: &str, task, counts| ExecutorReport {
        component: component.to_owned(),
        tasks: vec![TaskId(task)],
        doing: Doing::Idle,
        doing_since_us: 0,
        inbox: Waiting::default(),
        counts,
        errors: Vec::new(),
    };
    let outputs = [("default".to_owned(), Output { emitted, transferred: emitted })].into();
    let spout = Counts { acked: emitted, outputs, ..Counts::default() };
    let input = Input {
        component: "source".to_owned(),
        stream: "default".to_owned(),
        executed,
        acked: settled,
        failed: 0,
        execute_us: 0,
        process_us: 0,
    };
    let bolt = Counts { executed, acked: settled, inputs: vec![input], ..Counts::default() };
    report(vec![executor("source", 1, spout), executor("sink", 2, bolt)])
}

pub(super) fn shapes() -> BTreeMap<TopologyName, Shape> {
    let component = |name: &str, kind: &str, first_task, streams, inputs| ComponentGraph {
        name: name.to_owned(),
        kind: kind.to_owned(),
        executors: 1,
        first_task,
        tasks: 1,
        streams,
        inputs,
        config: BTreeMap::new(),
    };
    let stream = StreamGraph {
        name: "default".to_owned(),
        fields: vec!["n".to_owned()],
        direct: false,
        tuple: "Item".to_owned(),
    };
    let input =
        InputGraph { component: "source".to_owned(), stream: "default".to_owned(), grouping: Grouping::Shuffle };
    let graph = Graph {
        format: GRAPH_FORMAT,
        name: "words".to_owned(),
        config: BTreeMap::new(),
        components: vec![
            component("source", "spout", 1, vec![stream], Vec::new()),
            component("sink", "bolt", 2, Vec::new(), vec![input]),
        ],
    };
    [(TopologyName::new("words").unwrap(), Shape { graph, effects: Some(1) })].into()
}

/// The topology runs as it should.
pub(super) fn running() -> Settled {
    let running = Running {
        plan: PlanVersion(1),
        workers_planned: 1,
        workers_wanted: 1,
        workers: [(WorkerIndex(0), (life(1, 1), None))].into(),
        pending: 0,
        queued: 0,
    };
    Settled { running: [(topology(), running)].into(), ..Settled::default() }
}

pub(super) fn recorded(path: &str, json: &str) -> Observation {
    let value = Some(json.as_bytes().to_vec());
    Observation::Recorded { writer: "s1".to_owned(), path: path.to_owned(), value }
}

pub(super) fn gone(path: &str) -> Observation {
    Observation::Recorded { writer: "s1".to_owned(), path: path.to_owned(), value: None }
}

pub(super) fn part_path(letter: char) -> String {
    format!("plans/words-1-1/parts/{}", hash(letter))
}

/// A part that has worker 0 in this slot since this plan.
pub(super) fn plan_part(letter: char, port: u16, version: u64) -> Observation {
    let json = format!(
        r#"{{"format":1,"writer":"n1/1","number":1,"host":"m1","workers":{{"0":{{"port":{port},"version":{version},"executors":[[1],[2]]}}}}}}"#
    );
    recorded(&part_path(letter), &json)
}

/// A head that names these parts, the first one as that of machine `m1`.
pub(super) fn plan_head(version: u64, parts: &[char]) -> Observation {
    let parts: Vec<String> =
        parts.iter().enumerate().map(|(index, letter)| format!(r#""m{}":"{}""#, index + 1, hash(*letter))).collect();
    let parts = parts.join(",");
    let json = format!(
        r#"{{"format":1,"writer":"n1/1","number":1,"version":{version},"workers":1,"parts":{{{parts}}},"waiting":null}}"#
    );
    recorded("plans/words-1-1/head", &json)
}

/// The Nimbus on this machine leads.
pub(super) fn leads(host: &str) -> Observation {
    let (format, token) = (r#""format":1,"writer":"n1/1","number":1"#, hash('d'));
    recorded("leader", &format!(r#"{{{format},"nimbus":"{host}-0","host":"{host}","port":6627,"token":"{token}"}}"#))
}

/// It has heard machine `m1`, whose report came so many seconds ago.
pub(super) fn heard_by(host: &str, secs: u64) -> Observation {
    Observation::Heard { nimbus: host.to_owned(), machine: "m1".to_owned(), took: Duration::from_secs(secs) }
}

pub(super) const ACTIVE: &str = r#"{"state":"active"}"#;
pub(super) const KILLED: &str = r#"{"state":"killed","step":"draining","wait_ms":30000,"deadline_ms":1767225630000}"#;
pub(super) const REMOVING: &str = r#"{"state":"killed","step":"removing","wait_ms":30000,"deadline_ms":1767225630000}"#;
pub(super) const REBALANCING: &str = r#"{"state":"rebalancing","step":"draining","wait_ms":30000,"deadline_ms":1767225630000,"from":1,"to":{},"inactive":null,"by_itself":null}"#;
pub(super) const SWITCHING: &str = r#"{"state":"rebalancing","step":"switching","wait_ms":30000,"deadline_ms":1767225630000,"from":1,"to":{},"inactive":null,"by_itself":null}"#;

/// The topology's record; its blobs are `e…e` and `f…f`.
pub(super) fn record(started: bool, status: &str) -> Observation {
    let blob = |letter| format!(r#"{{"hash":"{}","bytes":1}}"#, hash(letter));
    let json = format!(
        r#"{{"format":1,"writer":"n1/1","number":1,"id":"words-1-1","name":"words","owner":null,"submitted_ms":0,"build":BUILD,
        "executable":{},"graph":{},"files":{{}},"arguments":[],"started":{started},"status":{status}}}"#,
        blob('e'),
        blob('f'),
    );
    recorded("topologies/words-1-1", &json.replace("BUILD", BUILD))
}

const BUILD: &str = r#"{"version":"0.1.0","launch_format":1,"platform":"x86_64-linux","panic_aborts":false}"#;
