//! What becomes of submissions, good and bad.

use cluster_state::board::Board;
use cluster_state::records::{Status, Topology, TopologySecret};
use cluster_state::{paths, records};
use nimbus_api::failure::FailureKind;
use nimbus_api::submission::Kill;
use nimbus_api::topology::StatusWord;
use serde_json::json;
use topology_api::ids::TaskId;
use worker_api::ids::{BlobHash, FileName, NAME_BYTES, PlanVersion, Port, TopologyName};

use crate::fixture::*;

async fn nothing_is_stored(board: &Board) {
    for folder in [paths::topologies(), paths::plans(), paths::names(), paths::secrets()] {
        assert_eq!(board.children(&folder).await.unwrap(), Vec::<String>::new(), "{folder}");
    }
}

#[tokio::test]
async fn a_submission_is_planned_started_and_shown() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701, 6702]).await;
    machine.tell().await;
    let submitted = fixture.submit("word-count").await.unwrap();
    assert_eq!(submitted.warnings, Vec::<String>::new());
    let id = submitted.id;
    assert!(id.as_str().starts_with("word-count-1-"), "{id}");

    let board = fixture.board();
    let plan = plan(&board, &id, 1).await;
    let task = |ids: &[u32]| ids.iter().map(|id| TaskId(*id)).collect::<Vec<_>>();
    assert_eq!(tasks(&plan), [vec![task(&[1]), task(&[3])], vec![task(&[2]), task(&[4])]]);
    let addresses: Vec<String> =
        plan.placement().addresses.iter().map(|address| address.as_ref().unwrap().to_string()).collect();
    assert_eq!(addresses, ["m1.local:6700", "m1.local:6701"]);

    let before = fixture.client.topology("word-count").await.unwrap().summary;
    assert_eq!(
        (before.status, before.reason.as_deref()),
        (StatusWord::Active, Some("starting, 0 of 2 workers are ready"))
    );
    let answer = machine.tell().await;
    assert_eq!(answer.plans, [(id.clone(), PlanVersion(1))].into());
    let record = eventually(|| async {
        let found = board.read::<Topology>(&paths::topology(&id)).await.unwrap().unwrap().record;
        found.started.then_some(found)
    })
    .await;
    assert_eq!((record.status, record.owner.as_deref()), (Status::Active, Some("ada")));
    assert_eq!((record.executable.hash, record.executable.bytes), (hash_of(EXECUTABLE), EXECUTABLE.len() as u64));
    assert_eq!(record.arguments, ["--input", "text"]);

    let shown = fixture.client.topology(id.as_str()).await.unwrap();
    let summary = shown.summary;
    assert_eq!((summary.status, summary.reason), (StatusWord::Active, None));
    assert_eq!((summary.tasks, summary.executors, summary.workers, summary.workers_wanted), (4, 4, 2, 2));
    assert_eq!((summary.scheduler.as_str(), summary.plan), ("Fully Scheduled", PlanVersion(1)));
    assert_eq!(shown.configuration["my.password"], json!("*****"));
    assert_eq!(shown.configuration["storm.zookeeper.auth.payload"], json!("*****"));
    assert_eq!(shown.configuration["topology.workers"], json!(2));
    assert_eq!(shown.graph.config["my.password"], json!("*****"));
    let worker = &shown.workers[1];
    assert_eq!((worker.host.as_deref(), worker.port, worker.pid), (Some("m1.local"), Some(Port(6701)), Some(4711)));
    assert_eq!(worker.tasks, [("count".to_owned(), 1), ("lines".to_owned(), 1)].into());
    let executors: Vec<_> =
        shown.executors.iter().map(|one| (one.component.as_str(), one.tasks.0.0, one.worker.0)).collect();
    assert_eq!(executors, [("count", 1, 0), ("count", 2, 1), ("count", 3, 0), ("lines", 4, 1)]);

    let cluster = fixture.client.cluster().await.unwrap();
    assert_eq!((cluster.cluster_state, cluster.unreadable), (None, vec![]));
    assert_eq!(cluster.machines[0].used, [Port(6700), Port(6701)]);
    assert_eq!(cluster.machines[0].slots, [Port(6700), Port(6701), Port(6702)]);
    assert_eq!((cluster.machines[0].available, cluster.machines[0].dead), (true, false));
    assert!(cluster.nimbuses[0].leads);
    assert_eq!(cluster.topologies.len(), 1);
    let configuration = fixture.client.configuration().await.unwrap();
    assert_eq!(configuration["storm.zookeeper.auth.payload"], json!("*****"));
    assert_eq!(configuration["nimbus.api.port"], json!(6628));
}

#[tokio::test]
async fn a_second_one_of_a_name_is_refused_and_the_secrets_differ() {
    let fixture = Fixture::start().await;
    let first = fixture.submit("word-count").await.unwrap();
    assert_eq!(first.warnings, ["no Supervisor is there: it waits until one is"]);
    let (kind, said) = refusal(fixture.submit("word-count").await);
    assert_eq!(kind, FailureKind::AlreadyAlive);
    assert!(said.starts_with(&format!("the name `word-count` is taken: {} runs", first.id)), "{said}");
    let second = fixture.submit("word-count-2").await.unwrap();
    assert!(second.id.as_str().starts_with("word-count-2-2-"), "{}", second.id);
    let board = fixture.board();
    let secret = async |id| board.read::<TopologySecret>(&paths::secret(id)).await.unwrap().unwrap().record.secret;
    assert!(secret(&first.id).await != secret(&second.id).await);
    let count = board.read::<records::Submissions>(&paths::submissions()).await.unwrap().unwrap().record.count;
    assert_eq!(count, 2);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_a_sentence_and_leaves_nothing() {
    let fixture = Fixture::start().await;
    let _machine = Machine::new(&fixture, "m1", &[6700]).await;
    let executable = upload(&fixture.client, EXECUTABLE).await;
    let good = submission("t", executable.clone());
    let refused = async |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = serde_json::to_value(&good).unwrap();
        change(&mut json);
        upload(&fixture.client, EXECUTABLE).await;
        refusal(fixture.client.submit(&serde_json::from_value(json).unwrap()).await)
    };
    // The machine's record is known before the first of these is checked.
    eventually(|| async { (!fixture.client.cluster().await.unwrap().machines.is_empty()).then_some(()) }).await;
    for (path, value, told) in [
        (
            "/described/build/launch_format",
            json!(2),
            "the executable's launch file has format 2, and this is built for format 1",
        ),
        ("/described/format", json!(7), "the graph has format 7, and this is built for format 1"),
        (
            "/described/build/platform",
            json!("riscv64-linux"),
            "the executable is built for \"riscv64-linux\", and the machines are",
        ),
        (
            "/described/config/topology.workers",
            json!(9),
            "topology `t` wants 9 workers by topology.workers, and nimbus.slots.perTopology allows 8",
        ),
        ("/described/config/topology.workers", json!("two"), "`topology.workers` in the topology's code takes"),
        (
            "/described/config/topology.wrokers",
            json!(2),
            "unknown key `topology.wrokers` in the topology's code; did you mean `topology.workers`?",
        ),
        ("/described/components/0/name", json!("<b>"), "the component name `<b>` must begin with a letter"),
        ("/described/components/0/name", json!("lines"), "two components have the name `lines`"),
        ("/described/components/0/first_task", json!(2), "the tasks of component `count` begin at 2; 1 is next"),
        ("/described/components/1/first_task", json!(5), "the tasks of component `lines` begin at 5; 4 is next"),
        (
            "/described/components/0/executors",
            json!(4),
            "component `count` has 4 executors for 3 tasks; 1 to 3 are allowed",
        ),
        ("/described/components/0/executors", json!(0), "component `count` has 0 executors for 3 tasks"),
        (
            "/described/components/0/inputs/0/component",
            json!("words"),
            "bolt `count` subscribes to `words`, which is not in the topology",
        ),
        (
            "/described/components/0/inputs/0/stream",
            json!("late"),
            "bolt `count` subscribes to stream `late` of `lines`, which it does not emit",
        ),
        (
            "/described/components/0/inputs/0/grouping",
            json!({"type": "fields", "fields": ["word"]}),
            "bolt `count` groups stream `default` of `lines` by field `word`, which it does not have",
        ),
        (
            "/described/components/0/inputs/0/grouping",
            json!({"type": "direct"}),
            "bolt `count` subscribes to stream `default` of `lines`: direct grouping",
        ),
        ("/described/components/1/kind", json!("bolt"), "it has no spout, so no tuple would ever flow"),
        (
            "/described/components/1/streams/0/name",
            json!("__x"),
            "the name of stream `__x` of `lines` begins with `__`",
        ),
    ] {
        let (kind, said) = refused(&|json| {
            let (parent, key) = path.rsplit_once('/').unwrap();
            match json.pointer_mut(parent).unwrap() {
                serde_json::Value::Array(items) => items[key.parse::<usize>().unwrap()] = value.clone(),
                parent => parent[key] = value.clone(),
            }
        })
        .await;
        assert_eq!(kind, FailureKind::InvalidTopology, "{said}");
        assert!(said.contains(told), "{path}: {said}");
    }
    let (kind, said) = refused(&|json| json["files"] = json!({"launch.json": "0".repeat(64)})).await;
    assert_eq!(
        (kind, said.as_str()),
        (
            FailureKind::InvalidTopology,
            "no file of topology `t` may be called `launch.json`: each worker's folder has one of the runtime's; choose \
             another name"
        )
    );
    let (kind, said) = refused(&|json| {
        let mut many = json["described"]["components"][0].clone();
        (many["tasks"], many["executors"]) = (json!(200), json!(200));
        json["described"]["components"][0] = many;
        json["described"]["components"][1]["first_task"] = json!(201);
    })
    .await;
    assert_eq!(
        (kind, said.as_str()),
        (FailureKind::InvalidTopology, "topology `t` has 201 executors, and nimbus.executors.perTopology allows 100")
    );
    let (kind, said) = refused(&|json| json["arguments"] = json!(["x".repeat(300 << 10)])).await;
    assert_eq!(kind, FailureKind::TooLarge);
    assert!(said.starts_with("its record would have 30"), "{said}");

    let board = fixture.board();
    nothing_is_stored(&board).await;
    // Nor of the graphs that were made. The executable was uploaded once more than it was named: one pin holds it.
    assert_eq!(fixture.blob_files(), [executable.to_string()]);
    fixture.client.submit(&good).await.unwrap();
}

#[tokio::test]
async fn blobs_that_are_not_there_are_named() {
    let fixture = Fixture::start().await;
    let missing: BlobHash = "0".repeat(64).parse().unwrap();
    let (kind, said) = refusal(fixture.client.submit(&submission("t", missing.clone())).await);
    assert_eq!(kind, FailureKind::NotFound);
    assert_eq!(
        said,
        format!("executable: there is no blob {missing} here, or not all of it; upload it, and submit again")
    );
    let executable = upload(&fixture.client, EXECUTABLE).await;
    let mut submission = submission("t", executable);
    submission.files.insert(FileName::new("model.bin").unwrap(), missing.clone());
    let (kind, said) = refusal(fixture.client.submit(&submission).await);
    assert_eq!(kind, FailureKind::NotFound);
    assert!(said.starts_with("file model.bin: there is no blob 0000"), "{said}");
    nothing_is_stored(&fixture.board()).await;
}

#[tokio::test]
async fn the_user_is_warned_of_aborting_panics_and_few_slots() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700]).await;
    machine.tell().await;
    eventually(|| async { fixture.client.cluster().await.unwrap().machines[0].available.then_some(()) }).await;
    let mut submission = submission("t", upload(&fixture.client, EXECUTABLE).await);
    submission.described.build.panic_aborts = true;
    let warnings = fixture.client.submit(&submission).await.unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "the executable is built with `panic = \"abort\"`: a panic ends the whole worker, not one executor",
            "it wants 2 workers, and 1 slots are free: it runs with fewer",
        ]
    );
}

#[tokio::test]
async fn a_name_of_the_longest_length_runs() {
    let fixture = Fixture::start().await;
    let name = "n".repeat(NAME_BYTES);
    let id = fixture.submit(&name).await.unwrap().id;
    let shown = fixture.client.topology(&name).await.unwrap().summary;
    assert_eq!((shown.id, shown.name), (id, TopologyName::new(name).unwrap()));
}

#[tokio::test]
async fn commands_move_a_topology_and_a_killed_one_only_waits() {
    let fixture = Fixture::start().await;
    let mut machine = Machine::new(&fixture, "m1", &[6700, 6701]).await;
    machine.tell().await;
    let id = fixture.submit("t").await.unwrap().id;
    plan(&fixture.board(), &id, 1).await;
    let client = &fixture.client;
    let deactivated = client.deactivate("t").await.unwrap();
    assert_eq!((deactivated.status, deactivated.reason.as_deref()), (StatusWord::Inactive, Some("deactivated")));
    assert_eq!(client.deactivate(id.as_str()).await.unwrap().status, StatusWord::Inactive);
    assert_eq!(client.activate("t").await.unwrap().status, StatusWord::Active);
    machine.tell().await;
    let killed = client.kill("t", Kill { wait_secs: Some(1000) }).await.unwrap();
    assert_eq!(killed.status, StatusWord::Killed);
    let reason = killed.reason.unwrap();
    assert!(reason.starts_with("draining, 0 roots pending, at most "), "{reason}");
    assert_eq!(
        refusal(client.activate("t").await),
        (FailureKind::WrongState, "cannot activate `t`: it is being killed".to_owned())
    );
    assert_eq!(refusal(client.deactivate("t").await).0, FailureKind::WrongState);
    let (kind, said) = refusal(client.submit(&submission("t", hash_of(EXECUTABLE))).await);
    assert_eq!(kind, FailureKind::AlreadyAlive);
    assert!(said.contains("is still being killed"), "{said}");
    // Its workers drain, and all goes long before the wait is over.
    machine.drained = true;
    while client.topology("t").await.is_ok() {
        machine.tell().await;
    }
    let (kind, said) = refusal(client.kill("t", Kill::default()).await);
    assert_eq!(
        (kind, said.as_str()),
        (FailureKind::NotAlive, "no topology has the name or id `t`; `storm list` shows those that run")
    );
    nothing_is_stored(&fixture.board()).await;
    assert_eq!(fixture.blob_files(), Vec::<String>::new());
    fixture.submit("t").await.unwrap();
}
