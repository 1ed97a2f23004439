//! Storm's REST paths: literal answers, and the keys that Storm sends.
//!
//! Not here: refusals (`safety`, `troubles`). Invariant: key sets are written down here once more, by hand, so that a golden
//! answer that lost a key is noticed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::http::{ask, get, tell};
use crate::played::{ID, play, play_fixture};

fn golden(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// That the members of `object` are these.
fn keys(object: &Value, wanted: &[&str]) {
    let found: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted: BTreeSet<&str> = wanted.iter().flat_map(|line| line.split_whitespace()).collect();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn answers_are_storms_to_the_letter() {
    let played = play_fixture().await;
    for (path, answer) in [
        ("cluster/summary", include_str!("storm/cluster-summary.json")),
        ("cluster/configuration", include_str!("storm/cluster-configuration.json")),
        ("nimbus/summary", include_str!("storm/nimbus-summary.json")),
        ("supervisor/summary", include_str!("storm/supervisor-summary.json")),
        ("topology/summary", include_str!("storm/topology-summary.json")),
        ("owner-resources", include_str!("storm/owner-resources.json")),
        ("topology/word-count-1-1700000000", include_str!("storm/topology.json")),
        ("topology/word-count-1-1700000000?window=600&sys=true", include_str!("storm/topology-600-sys.json")),
        ("topology/word-count-1-1700000000/component/lines", include_str!("storm/component-lines.json")),
        ("topology/word-count-1-1700000000/component/split?window=600", include_str!("storm/component-split-600.json")),
    ] {
        let reply = get(played.at(), &format!("/api/v1/{path}")).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let (found, wanted) = (reply.json(), golden(answer));
        assert_eq!(found, wanted, "{path}: {found:#}");
    }
}

const CAPACITY: &str = "totalMem totalCpu availMem availCpu";
const TOPOLOGY: &str = "id encodedId name owner status uptime uptimeSeconds tasksTotal workersTotal executorsTotal \
    replicationCount schedulerInfo requestedMemOnHeap requestedMemOffHeap requestedTotalMem requestedCpu \
    assignedMemOnHeap assignedMemOffHeap assignedTotalMem assignedCpu requestedGenericResources \
    assignedGenericResources topologyVersion stormVersion";
const COUNTS: &str = "emitted transferred acked failed";
const BOLT: &str = "executed executeLatency processLatency capacity";
const WINDOW: &str = "window windowPretty";
const OWNER: &str = "owner totalTopologies totalExecutors totalWorkers totalTasks totalMemoryUsage totalCpuUsage \
    memoryGuarantee cpuGuarantee memoryGuaranteeRemaining cpuGuaranteeRemaining isolatedNodes totalReqOnHeapMem \
    totalReqOffHeapMem totalReqMem totalReqCpu totalAssignedOnHeapMem totalAssignedOffHeapMem";
const SUPERVISOR: &str = "id host version uptime uptimeSeconds slotsTotal slotsUsed slotsFree usedMem usedCpu \
    totalGenericResources usedGenericResources availGenericResources blacklisted logLink";
const WORKER: &str = "supervisorId host topologyId topologyName owner port executorsTotal assignedMemOnHeap \
    assignedMemOffHeap assignedCpu componentNumTasks uptime uptimeSeconds workerLogLink";

#[tokio::test]
async fn every_key_of_storm_is_sent() {
    let played = play_fixture().await;
    let json = async |path: &str| get(played.at(), &format!("/api/v1/{path}")).await.json();

    let cluster = json("cluster/summary").await;
    let more = "stormVersion stormVersionInfo user supervisors topologies slotsTotal slotsUsed slotsFree executorsTotal \
        tasksTotal fragmentedMem fragmentedCpu memAssignedPercentUtil cpuAssignedPercentUtil totalGenerics availGenerics \
        schedulerDisplayResource bugtracker-url central-log-url";
    keys(&cluster, &[CAPACITY, more]);
    keys(&cluster["stormVersionInfo"], &["version revision branch date srcChecksum"]);

    let nimbus = json("nimbus/summary").await;
    keys(&nimbus, &["nimbuses"]);
    keys(&nimbus["nimbuses"][0], &["host port status version nimbusUpTime nimbusUpTimeSeconds nimbusLogLink"]);

    let supervisors = json("supervisor/summary").await;
    keys(&supervisors, &["supervisors schedulerDisplayResource logviewerPort logviewerScheme"]);
    keys(&supervisors["supervisors"][0], &[CAPACITY, SUPERVISOR]);
    for path in ["supervisor?id=sup-1", "supervisor?host=worker-1.example"] {
        let supervisor = json(path).await;
        keys(&supervisor, &["supervisors workers schedulerDisplayResource logviewerPort logviewerScheme"]);
        keys(&supervisor["supervisors"][0], &[CAPACITY, SUPERVISOR]);
        assert_eq!(supervisor["workers"].as_array().unwrap().len(), 2);
        keys(&supervisor["workers"][0], &[WORKER]);
    }

    let topologies = json("topology/summary").await;
    keys(&topologies, &["topologies schedulerDisplayResource"]);
    keys(&topologies["topologies"][0], &[TOPOLOGY]);

    let owner = json("owner-resources/alice").await;
    keys(&owner, &[OWNER, "topologies schedulerDisplayResource"]);
    keys(&owner["topologies"][0], &[TOPOLOGY]);
    keys(&json("owner-resources/nobody").await, &[OWNER]);
    keys(&json("owner-resources").await["owners"][0], &[OWNER]);

    let topology = json(&format!("topology/{ID}")).await;
    let more = "requestedRegularOnHeapMem requestedSharedOnHeapMem requestedRegularOffHeapMem requestedSharedOffHeapMem \
        assignedRegularOnHeapMem assignedSharedOnHeapMem assignedRegularOffHeapMem assignedSharedOffHeapMem msgTimeout \
        window windowHint user debug samplingPct schedulerDisplayResource bugtracker-url central-log-url configuration \
        visualizationTable topologyStats workers spouts bolts";
    keys(&topology, &[TOPOLOGY, more]);
    keys(&topology["topologyStats"][0], &[WINDOW, COUNTS, "completeLatency"]);
    keys(&topology["workers"][0], &[WORKER]);
    let component = "executors tasks requestedMemOnHeap requestedMemOffHeap requestedCpu requestedGenericResourcesComp \
        lastError errorHost errorWorkerLogLink errorPort errorTime errorLapsedSecs";
    keys(&topology["spouts"][0], &[COUNTS, component, "spoutId encodedSpoutId completeLatency"]);
    keys(&topology["bolts"][0], &[COUNTS, BOLT, component, "boltId encodedBoltId"]);

    let component = "id encodedId topologyId encodedTopologyId topologyStatus user name componentType executors tasks \
        requestedMemOnHeap requestedMemOffHeap requestedCpu requestedGenericResources window windowHint debug samplingPct \
        profilingAndDebuggingCapable profileActionEnabled profilerActive schedulerDisplayResource componentErrors \
        executorStats outputStats";
    let executor = "id encodedId uptime host workerLogLink uptimeSeconds port";
    let spout = json(&format!("topology/{ID}/component/lines")).await;
    keys(&spout, &[component, "spoutSummary"]);
    keys(&spout["spoutSummary"][0], &[WINDOW, COUNTS, "completeLatency lastError"]);
    keys(&spout["outputStats"][0], &[COUNTS, "stream completeLatency"]);
    keys(&spout["executorStats"][0], &[COUNTS, executor, "completeLatency"]);
    let bolt = json(&format!("topology/{ID}/component/split")).await;
    keys(&bolt, &[component, "boltStats inputStats"]);
    keys(&bolt["boltStats"][0], &[WINDOW, COUNTS, BOLT]);
    keys(&bolt["outputStats"][0], &["stream emitted transferred"]);
    let input = "component encodedComponentId stream executed acked failed executeLatency processLatency";
    keys(&bolt["inputStats"][0], &[input]);
    keys(&bolt["executorStats"][0], &[COUNTS, BOLT, executor]);
    keys(&bolt["componentErrors"][0], &["errorTime errorHost errorPort errorWorkerLogLink errorLapsedSecs error"]);
}

#[tokio::test]
async fn windows_that_nobody_counts_are_zero_and_words_are_refused() {
    let played = play_fixture().await;
    let topology = get(played.at(), &format!("/api/v1/topology/{ID}?window=7")).await.json();
    assert_eq!((&topology["window"], &topology["windowHint"]), (&json!("7"), &json!("7s")));
    let split = &topology["bolts"][1];
    assert_eq!((&split["emitted"], &split["executeLatency"]), (&json!(0), &json!("0.000")));
    assert_eq!(split["capacity"], "0.200", "the last ten minutes, whatever window");

    let said = "the window `ten` is no number of seconds: use 600, 10800, 86400 or :all-time";
    for path in
        [format!("/api/v1/topology/{ID}?window=ten"), format!("/api/v1/topology/{ID}/component/split?window=ten")]
    {
        assert_eq!(get(played.at(), &path).await.refusal(), (500, "500 Server Error".into(), said.into()));
    }
}

#[tokio::test]
async fn a_fresh_topology_shows_what_was_declared() {
    let mut topology = golden(include_str!("nimbus/topology.json"));
    topology["executors"] = json!([]);
    topology["workers"] = json!([]);
    let played = play(topology).await;
    let topology = get(played.at(), &format!("/api/v1/topology/{ID}")).await.json();
    assert_eq!((&topology["topologyStats"], &topology["workers"]), (&json!([]), &json!([])));
    let (spout, bolt) = (&topology["spouts"][0], &topology["bolts"][1]);
    assert_eq!(
        (&spout["executors"], &spout["tasks"], &spout["completeLatency"]),
        (&json!(1), &json!(1), &json!("0.000"))
    );
    assert_eq!((&bolt["executors"], &bolt["tasks"], &bolt["executed"]), (&json!(2), &json!(3), &json!(0)));
}

#[tokio::test]
async fn the_largest_counts_neither_wrap_nor_round() {
    let mut topology = golden(include_str!("nimbus/topology.json"));
    for executor in [1, 2] {
        let counts = &mut topology["executors"][executor]["windows"][":all-time"];
        counts["outputs"]["default"]["emitted"] = u64::MAX.into();
        counts["inputs"][0]["process_us"] = u64::MAX.into();
        counts["inputs"][0]["executed"] = u64::MAX.into();
        counts["inputs"][0]["acked"] = u64::MAX.into();
    }
    let played = play(topology).await;
    let topology = get(played.at(), &format!("/api/v1/topology/{ID}")).await.json();
    assert_eq!(topology["bolts"][1]["emitted"], u64::MAX);
    assert_eq!(topology["topologyStats"][3]["emitted"], u64::MAX);
    assert_eq!(get(played.at(), &format!("/api/v1/topology/{ID}/component/split")).await.status, 200);
}

#[tokio::test]
async fn roots_of_a_spout_with_several_streams_are_not_made_up() {
    let mut topology = golden(include_str!("nimbus/topology.json"));
    topology["executors"][0]["windows"][":all-time"]["outputs"]["second"] = json!({ "emitted": 7, "transferred": 7 });
    let played = play(topology).await;
    let spout = get(played.at(), &format!("/api/v1/topology/{ID}/component/lines")).await.json();
    let stream = |name: &str, emitted: u64, transferred: u64| json!({ "stream": name, "emitted": emitted, "transferred": transferred, "acked": null, "failed": null, "completeLatency": "0" });
    assert_eq!(spout["outputStats"], json!([stream("default", 1000, 2000), stream("second", 7, 7)]));
}

#[tokio::test]
async fn callbacks_wrap_answers_and_nothing_else() {
    let played = play_fixture().await;
    let reply = get(played.at(), "/api/v1/owner-resources/nobody?callback=a.b").await;
    assert_eq!(reply.header("content-type"), Some("application/javascript;charset=utf-8"));
    assert!(reply.body.starts_with("a.b({") && reply.body.ends_with("});"), "{}", reply.body);
    for path in ["owner-resources/nobody?callback=alert(1)", "owner-resources/nobody?callback=", "nowhere?callback=f"] {
        let reply = get(played.at(), &format!("/api/v1/{path}")).await;
        assert_eq!(reply.header("content-type"), Some("application/json;charset=utf-8"), "{path}");
        assert!(reply.json().is_object(), "{path}");
    }
    let reply = ask(played.at(), &format!("POST /api/v1/topology/{ID}/activate?callback=f"), &[]).await;
    assert!(reply.body.starts_with("f({"), "{}", reply.body);
}

#[tokio::test]
async fn actions_reach_nimbus_and_answer_as_storm_does() {
    let played = play_fixture().await;
    let actions =
        [("activate", "activate"), ("deactivate", "deactivate"), ("rebalance/5", "rebalance"), ("kill/7", "kill")];
    for (path, operation) in actions {
        let reply = ask(played.at(), &format!("POST /api/v1/topology/{ID}/{path}"), &[]).await;
        let success = json!({ "topologyOperation": operation, "topologyId": ID, "status": "success" });
        assert_eq!((reply.status, reply.json()), (200, success), "{path}");
    }
    let told = [
        "/v1/topologies/word-count-1-1700000000/activate null",
        "/v1/topologies/word-count-1-1700000000/deactivate null",
        "/v1/topologies/word-count-1-1700000000/rebalance {\"wait_secs\":5,\"workers\":null,\"executors\":{}}",
        "/v1/topologies/word-count-1-1700000000/kill {\"wait_secs\":7}",
    ];
    assert_eq!(played.told(), told);

    for wait in ["soon", "-1", "1.5", "99999999999999999999"] {
        for (operation, past) in [("kill", "killed"), ("rebalance", "rebalanced")] {
            let path = format!("POST /api/v1/topology/{ID}/{operation}/{wait}");
            let refused = ask(played.at(), &path, &[]).await.refusal();
            let said = format!("the wait `{wait}` is no number of seconds, such as 30; nothing was {past}");
            assert_eq!(refused, (500, "500 Server Error".into(), said));
        }
    }
    for (operation, past) in [("kill", "killed"), ("rebalance", "rebalanced")] {
        let path = format!("POST /api/v1/topology/{ID}/{operation}/604801");
        let refused = ask(played.at(), &path, &[]).await.refusal();
        let long = "a wait of 604801 s is longer than seven days: 0 to 604800 s are possible; nothing was";
        assert_eq!(refused, (500, "500 Server Error".into(), format!("{long} {past}")));
    }
    assert_eq!(played.told(), told);
}

#[tokio::test]
async fn a_rebalances_body_is_that_of_storms_documents() {
    let played = play_fixture().await;
    let path = format!("POST /api/v1/topology/{ID}/rebalance/0");
    let documented =
        r#"{"rebalanceOptions": {"numWorkers": 2, "executors": {"spout": 4, "count": 10}}, "callback": "foo"}"#;
    for body in [documented, r#"{"rebalanceOptions": {"executors": {"split": 1}}}"#, "{}"] {
        let reply = tell(played.at(), &path, &["content-type: application/json"], body).await;
        let success = json!({ "topologyOperation": "rebalance", "topologyId": ID, "status": "success" });
        assert_eq!((reply.status, reply.json()), (200, success), "{body}");
    }
    let told = [
        r#"{"wait_secs":0,"workers":2,"executors":{"count":10,"spout":4}}"#,
        r#"{"wait_secs":0,"workers":null,"executors":{"split":1}}"#,
        r#"{"wait_secs":0,"workers":null,"executors":{}}"#,
    ];
    assert_eq!(played.told(), told.map(|body| format!("/v1/topologies/{ID}/rebalance {body}")));
    for (body, found) in [
        (r#"{"rebalanceOptions": {"numworkers": 2}}"#, "unknown field `numworkers`"),
        (r#"{"rebalanceOptions": {"numWorkers": -2}}"#, "invalid value: integer `-2`, expected u16"),
        (r#"{"rebalanceOptions": {"executors": {"split": "4"}}}"#, "invalid type: string \"4\", expected u32"),
        ("[[1, {}]]", "invalid type: sequence, expected a JSON object"),
        (r#"{"rebalanceOptions": [1, {}]}"#, "invalid type: sequence, expected a JSON object"),
        (r#"{"rebalanceOptions": {"executors": {"split": 1, "split": 2}}}"#, "component `split` is named twice"),
        ("rebalance", "expected value at line 1 column 1"),
    ] {
        let (status, error, said) = tell(played.at(), &path, &[], body).await.refusal();
        assert_eq!((status, error.as_str()), (400, "400 Bad Request"), "{said}");
        assert!(said.contains(found) && said.ends_with("; nothing was rebalanced"), "{said}");
    }
    assert_eq!(played.told().len(), told.len());
}

#[tokio::test]
async fn nimbuss_own_words_come_through_without_secrets() {
    let played = play_fixture().await;
    let topology = get(played.at(), &format!("/api/v2/topology/{ID}")).await.json();
    let mut wanted = golden(include_str!("nimbus/topology.json"));
    wanted["configuration"]["my.password"] = json!("*****");
    wanted["graph"]["components"][1]["config"]["my.password"] = json!("*****");
    wanted["workers"][1]["ends"][0]["last_report"] = Value::Null;
    assert_eq!(topology, wanted);
    for (component, tasks) in [("lines", json!([[7, 7]])), ("", json!([]))] {
        let some = get(played.at(), &format!("/api/v2/topology/{ID}?executors={component}")).await.json();
        let found: Vec<&Value> = some["executors"].as_array().unwrap().iter().map(|one| &one["tasks"]).collect();
        assert_eq!(json!(found), tasks);
        assert_eq!(some["workers"], wanted["workers"]);
    }
    let cluster = get(played.at(), "/api/v2/cluster").await.json();
    assert_eq!(cluster, golden(include_str!("nimbus/cluster.json")));
}
