//! The text of every record, as operators and other versions read it: a change here is a new format.
//!
//! Not here: where records lie. Invariant: the text is literal, and read back gives the same record.

use std::collections::BTreeMap;
use std::fmt::Debug;

use cluster_state::board::Board;
use cluster_state::memory::Memory;
use cluster_state::paths;
use cluster_state::records::{
    Drained, FileBlob, KillStep, Lead, Leader, NameTaken, Nimbus, Placed, PlanHead, PlanPart, RebalanceStep,
    Rebalanced, Record, Status, Submissions, Supervisor, Topology, TopologySecret,
};
use cluster_state::store::{Op, Store};
use topology_api::ids::TaskId;
use worker_api::describe::Build;
use worker_api::ids::{
    BlobHash, FileName, NimbusId, PlanVersion, Port, Revision, SupervisorId, TopologyId, TopologyName, WorkerIndex,
};
use worker_api::secret::Secret;

async fn golden<R: Record + Clone + PartialEq + Debug>(record: R, lines: &[&str]) {
    let text =
        format!("{{\n  \"format\": 1,\n  \"writer\": \"nimbus-1/7\",\n  \"number\": 1,\n{}\n}}\n", lines.join("\n"));
    let path = paths::leader();

    let session = Memory::default().session();
    let board = Board::new(session.clone(), "nimbus-1/7".into());
    board.commit(board.change().create(path.clone(), record.clone())).await.unwrap();
    let written = session.read(&path).await.unwrap().unwrap().value;
    assert_eq!(String::from_utf8(written).unwrap(), text);

    let session = Memory::default().session();
    session.commit(vec![Op::Create(path.clone(), text.into_bytes())]).await.unwrap();
    let board = Board::new(session, "another".into());
    assert_eq!(board.read::<R>(&path).await.unwrap().unwrap().record, record);
}

fn id() -> TopologyId {
    TopologyId::new("word-count-1-1700000000").unwrap()
}

fn hash(byte: u8) -> BlobHash {
    BlobHash::of([byte; 32])
}

fn topology(status: Status) -> Topology {
    Topology {
        id: id(),
        name: TopologyName::new("word-count").unwrap(),
        owner: Some("ada".into()),
        submitted_ms: 1_700_000_000_123,
        build: Build {
            version: "0.1.0".into(),
            launch_format: 1,
            platform: "x86_64-linux".into(),
            panic_aborts: false,
        },
        executable: FileBlob { hash: hash(0xaa), bytes: 4_000_000 },
        graph: FileBlob { hash: hash(0xbb), bytes: 1200 },
        files: BTreeMap::from([(FileName::new("words.txt").unwrap(), FileBlob { hash: hash(0xcc), bytes: 7 })]),
        arguments: vec!["--speed".into(), "2".into()],
        started: true,
        rebalanced: Default::default(),
        revision: Revision(7),
        status,
    }
}

fn topology_lines(status: &[&'static str]) -> Vec<&'static str> {
    let mut lines = vec![
        r#"  "id": "word-count-1-1700000000","#,
        r#"  "name": "word-count","#,
        r#"  "owner": "ada","#,
        r#"  "submitted_ms": 1700000000123,"#,
        r#"  "build": {"#,
        r#"    "version": "0.1.0","#,
        r#"    "launch_format": 1,"#,
        r#"    "platform": "x86_64-linux","#,
        r#"    "panic_aborts": false"#,
        r#"  },"#,
        r#"  "executable": {"#,
        r#"    "hash": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","#,
        r#"    "bytes": 4000000"#,
        r#"  },"#,
        r#"  "graph": {"#,
        r#"    "hash": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","#,
        r#"    "bytes": 1200"#,
        r#"  },"#,
        r#"  "files": {"#,
        r#"    "words.txt": {"#,
        r#"      "hash": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","#,
        r#"      "bytes": 7"#,
        r#"    }"#,
        r#"  },"#,
        r#"  "arguments": ["#,
        r#"    "--speed","#,
        r#"    "2""#,
        r#"  ],"#,
        r#"  "started": true,"#,
        r#"  "revision": 7,"#,
        r#"  "status": {"#,
    ];
    lines.extend(status);
    lines.push("  }");
    lines
}

#[tokio::test]
async fn topologies() {
    golden(topology(Status::Active), &topology_lines(&[r#"    "state": "active""#])).await;
    let reason = "input finished".to_owned();
    let lines = topology_lines(&[r#"    "state": "inactive","#, r#"    "reason": "input finished""#]);
    golden(topology(Status::Inactive { reason }), &lines).await;
    let steps =
        [(KillStep::Draining, r#"    "step": "draining","#), (KillStep::Removing, r#"    "step": "removing","#)];
    for (step, line) in steps {
        let status = Status::Killed { step, wait_ms: 30_000, deadline_ms: 1_700_000_030_123 };
        let rest = [r#"    "wait_ms": 30000,"#, r#"    "deadline_ms": 1700000030123"#];
        golden(topology(status), &topology_lines(&[r#"    "state": "killed","#, line, rest[0], rest[1]])).await;
    }
    for (step, line) in [
        (RebalanceStep::Draining, r#"    "step": "draining","#),
        (RebalanceStep::Switching, r#"    "step": "switching","#),
    ] {
        let status = Status::Rebalancing {
            step,
            wait_ms: 30_000,
            deadline_ms: 1_700_000_030_123,
            from: PlanVersion(7),
            to: Rebalanced { workers: Some(4), executors: [("count".to_owned(), 8)].into() },
            inactive: Some("deactivated".to_owned()),
            by_itself: None,
        };
        let rest = [
            r#"    "wait_ms": 30000,"#,
            r#"    "deadline_ms": 1700000030123,"#,
            r#"    "from": 7,"#,
            r#"    "to": {"#,
            r#"      "workers": 4,"#,
            r#"      "executors": {"#,
            r#"        "count": 8"#,
            r#"      }"#,
            r#"    },"#,
            r#"    "inactive": "deactivated","#,
            r#"    "by_itself": null"#,
        ];
        let lines = [r#"    "state": "rebalancing","#, line].into_iter().chain(rest).collect::<Vec<_>>();
        golden(topology(status), &topology_lines(&lines)).await;
    }
    // What a rebalance has changed stands before the state.
    let rebalanced = Rebalanced { workers: Some(4), executors: [("count".to_owned(), 8)].into() };
    let changed = Topology { rebalanced, ..topology(Status::Active) };
    let mut lines = topology_lines(&[r#"    "state": "active""#]);
    let at = lines.iter().position(|line| line.contains(r#""revision""#)).unwrap();
    let more = [
        r#"  "rebalanced": {"#,
        r#"    "workers": 4,"#,
        r#"    "executors": {"#,
        r#"      "count": 8"#,
        r#"    }"#,
        r#"  },"#,
    ];
    lines.splice(at..at, more);
    golden(changed, &lines).await;
    let nobody = Topology { owner: None, ..topology(Status::Active) };
    let mut lines = topology_lines(&[r#"    "state": "active""#]);
    lines[2] = r#"  "owner": null,"#;
    golden(nobody, &lines).await;
}

#[tokio::test]
async fn secrets_names_and_submissions() {
    let secret = Secret::new(std::array::from_fn(|at| at as u8));
    golden(
        TopologySecret { secret },
        &[r#"  "secret": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f""#],
    )
    .await;
    golden(NameTaken { topology: id() }, &[r#"  "topology": "word-count-1-1700000000""#]).await;
    golden(Submissions { count: u64::MAX }, &[r#"  "count": 18446744073709551615"#]).await;
}

#[tokio::test]
async fn plans() {
    let (one, two) = (SupervisorId::new("one").unwrap(), SupervisorId::new("two").unwrap());
    let head = PlanHead {
        version: PlanVersion(3),
        workers: 3,
        parts: BTreeMap::from([(two, hash(2)), (one, hash(1))]),
        waiting: Some(hash(3)),
    };
    golden(
        head,
        &[
            r#"  "version": 3,"#,
            r#"  "workers": 3,"#,
            r#"  "parts": {"#,
            r#"    "one": "0101010101010101010101010101010101010101010101010101010101010101","#,
            r#"    "two": "0202020202020202020202020202020202020202020202020202020202020202""#,
            r#"  },"#,
            r#"  "waiting": "0303030303030303030303030303030303030303030303030303030303030303""#,
        ],
    )
    .await;
    let placed = |port, tasks: &[&[u32]]| Placed {
        port,
        version: PlanVersion(2),
        executors: tasks.iter().map(|tasks| tasks.iter().copied().map(TaskId).collect()).collect(),
    };
    let workers = BTreeMap::from([
        (WorkerIndex(0), placed(Some(Port(6700)), &[&[1, 2], &[3]])),
        (WorkerIndex(10), placed(None, &[])),
    ]);
    golden(
        PlanPart { host: "one.example".into(), workers },
        &[
            r#"  "host": "one.example","#,
            r#"  "workers": {"#,
            r#"    "0": {"#,
            r#"      "port": 6700,"#,
            r#"      "version": 2,"#,
            r#"      "executors": ["#,
            r#"        ["#,
            r#"          1,"#,
            r#"          2"#,
            r#"        ],"#,
            r#"        ["#,
            r#"          3"#,
            r#"        ]"#,
            r#"      ]"#,
            r#"    },"#,
            r#"    "10": {"#,
            r#"      "port": null,"#,
            r#"      "version": 2,"#,
            r#"      "executors": []"#,
            r#"    }"#,
            r#"  }"#,
        ],
    )
    .await;
}

#[tokio::test]
async fn daemons() {
    let nimbus = NimbusId::new("nimbus-1").unwrap();
    let started_ms = 1_700_000_000_000;
    golden(
        Nimbus { id: nimbus.clone(), host: "one.example".into(), port: 6628, version: "0.1.0".into(), started_ms },
        &[
            r#"  "id": "nimbus-1","#,
            r#"  "host": "one.example","#,
            r#"  "port": 6628,"#,
            r#"  "version": "0.1.0","#,
            r#"  "started_ms": 1700000000000"#,
        ],
    )
    .await;
    golden(
        Leader { nimbus: nimbus.clone(), host: "one.example".into(), port: 6628, token: hash(9) },
        &[
            r#"  "nimbus": "nimbus-1","#,
            r#"  "host": "one.example","#,
            r#"  "port": 6628,"#,
            r#"  "token": "0909090909090909090909090909090909090909090909090909090909090909""#,
        ],
    )
    .await;
    golden(Lead { nimbus }, &[r#"  "nimbus": "nimbus-1""#]).await;
    golden(
        Drained { id: SupervisorId::new("machine-1").unwrap(), host: "two.example".into(), since_ms: started_ms },
        &[r#"  "id": "machine-1","#, r#"  "host": "two.example","#, r#"  "since_ms": 1700000000000"#],
    )
    .await;
    let supervisor = Supervisor {
        id: SupervisorId::new("machine-1").unwrap(),
        host: "two.example".into(),
        slots: vec![Port(6700), Port(6701)],
        version: "0.1.0".into(),
        platform: "x86_64-linux".into(),
        started_ms,
    };
    golden(
        supervisor,
        &[
            r#"  "id": "machine-1","#,
            r#"  "host": "two.example","#,
            r#"  "slots": ["#,
            r#"    6700,"#,
            r#"    6701"#,
            r#"  ],"#,
            r#"  "version": "0.1.0","#,
            r#"  "platform": "x86_64-linux","#,
            r#"  "started_ms": 1700000000000"#,
        ],
    )
    .await;
}
