//! What the configuration accepts, refuses and suggests.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn yaml(text: &str) -> Config {
    let mut config = Config::new();
    config.add_yaml("conf.yaml", text);
    config
}

fn flag(assignment: &str) -> Config {
    let mut config = Config::new();
    config.add_flag(assignment);
    config
}

/// What `check` reports, as printed; empty if nothing.
fn report(config: &Config) -> String {
    config.check().err().map(|errors| errors.to_string()).unwrap_or_default()
}

#[test]
fn mistakes_in_a_file() {
    let check = |text: &str, expected: &str| assert_eq!(report(&yaml(text)), expected, "{text:?}");
    check("", "");
    check("# nothing", "");
    check("\u{feff}topology.workers: 3", "");
    check("topology.workers: 3.0", "");
    check("topology.debug: yes", "");
    check("topology.max.spout.pending: null", "");
    check("topology.worker.childopts: [-Xmx1g]", "");
    check("nimbus.thrift.tls.port: 0", "");
    check("drpc.http.port: -1", "");
    check("config: {topology.workers: 3}", "");
    check("my.own: {a: [1, 2]}\nclient.id: 7\ntask.name: x\nresource.path: /", "");
    check(
        "topology.mesage.timeout.secs: 3",
        "unknown key `topology.mesage.timeout.secs` in conf.yaml; did you mean `topology.message.timeout.secs`?",
    );
    check(
        "config: {topology.wrokers: 3}",
        "unknown key `topology.wrokers` in conf.yaml; did you mean `topology.workers`?",
    );
    check(
        "topology.colour: red",
        "unknown key `topology.colour` in conf.yaml; all keys that begin with `topology.` are Storm's, so name your own \
         otherwise",
    );
    check(
        "topology: {workers: 3}",
        "`topology` in conf.yaml holds a map; write its keys flat, such as `topology.workers: …`",
    );
    check(
        "storm:\n  zookeeper:\n    servers: [a]",
        "`storm` in conf.yaml holds a map; write its keys flat, such as `storm.zookeeper.servers: …`",
    );
    check(
        "topology.workers: 0",
        "`topology.workers` in conf.yaml takes a whole number in 1 ..= 65535, found the number 0",
    );
    check(
        "topology.workers: 1.5",
        "`topology.workers` in conf.yaml takes a whole number in 1 ..= 65535, found the number 1.5",
    );
    check(
        "topology.workers: \"3\"",
        "`topology.workers` in conf.yaml takes a whole number in 1 ..= 65535, found the text \"3\"",
    );
    check(
        "topology.workers: 18446744073709551615",
        "`topology.workers` in conf.yaml takes a whole number in 1 ..= 65535, found the number 18446744073709551615",
    );
    check(
        "topology.max.spout.pending: 1048577",
        "`topology.max.spout.pending` in conf.yaml takes a whole number in 1 ..= 1048576, found the number 1048577",
    );
    check(
        "topology.message.timeout.secs: 0",
        "`topology.message.timeout.secs` in conf.yaml takes a number of seconds in 0.001 ..= 2147483647, found the number 0",
    );
    check(
        "topology.message.timeout.secs: 1e300",
        "`topology.message.timeout.secs` in conf.yaml takes a number of seconds in 0.001 ..= 2147483647, found the number \
         1e+300",
    );
    check("topology.debug: 1", "`topology.debug` in conf.yaml takes true or false, found the number 1");
    check("topology.name: 7", "`topology.name` in conf.yaml takes text, found the number 7");
    check("nimbus.seeds: a", "`nimbus.seeds` in conf.yaml takes a list, found the text \"a\"");
    check("topology.environment: [A]", "`topology.environment` in conf.yaml takes a map, found a list");
    check("ui.port: -1", "`ui.port` in conf.yaml takes a whole number in 0 ..= 65535, found the number -1");
    check("drpc.http.port: on", "`drpc.http.port` in conf.yaml takes a whole number, found true");
    check("worker.childopts: {}", "`worker.childopts` in conf.yaml takes text or a list, found a map");
    check(
        "topology.stats.sample.rate: -0.5",
        "`topology.stats.sample.rate` in conf.yaml takes a number of at least 0, found the number -0.5",
    );
    check(
        "storm.nimbus.retry.times: x",
        "`storm.nimbus.retry.times` in conf.yaml takes a number, found the text \"x\"",
    );
    check(
        "topology.ras.constraints: 1",
        "`topology.ras.constraints` in conf.yaml takes a map or a list, found the number 1",
    );
    check(
        "storm.zookeeper.ssl.keystore.password: 1234",
        "`storm.zookeeper.ssl.keystore.password` in conf.yaml takes text, found a number",
    );
    check(
        "topology.workers: aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbb",
        "`topology.workers` in conf.yaml takes a whole number in 1 ..= 65535, found the text \
         \"aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaa\" and more",
    );
    check("- a\n- b", "conf.yaml must be a map of keys to values, found a list");
    check("topology.workers 3", "conf.yaml must be a map of keys to values, found the text \"topology.workers 3\"");
    check("a: [1", "cannot read conf.yaml as YAML: unclosed bracket '[' at line 1, column 4");
    check("a: 1\na: 2", "cannot read conf.yaml as YAML: key `a` stands there twice, again at line 2, column 1");
    check(
        "topology.message.timeout.secs: .inf",
        "cannot read conf.yaml as YAML: non-finite float `.inf` rejected by the configured policy at line 1, column 32",
    );
}

#[test]
fn a_file_that_unfolds_without_end_is_refused() {
    let mut text = "k0: &k0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let inner = format!("*k{}", level - 1);
        text += &format!("k{level}: &k{level} [{}]\n", [inner.as_str(); 10].join(","));
    }
    assert!(
        report(&yaml(&text)).starts_with("cannot read conf.yaml as YAML: budget breached"),
        "{}",
        report(&yaml(&text))
    );
}

#[test]
fn a_file_that_nests_without_end_is_refused() {
    for text in ["[".repeat(100_000), "a: ".to_owned() + &"{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(report(&yaml(&text)).starts_with("cannot read conf.yaml as YAML: "), "{}", &text[..8]);
    }
}

#[test]
fn flags() {
    let check = |assignment: &str, key: &str, expected: Value| {
        assert_eq!(flag(assignment).get(key), Some(&expected), "{assignment}");
        assert_eq!(report(&flag(assignment)), "", "{assignment}");
    };
    check("topology.workers=3", "topology.workers", json!(3));
    check("topology.name=42", "topology.name", json!("42"));
    check("topology.name=null and void", "topology.name", json!("null and void"));
    check("worker.childopts=1", "worker.childopts", json!("1"));
    check("worker.childopts=[\"-a\"]", "worker.childopts", json!(["-a"]));
    check("topology.environment={\"A\": \"b=c\"}", "topology.environment", json!({"A": "b=c"}));
    check("my.own=a=b", "my.own", json!("a=b"));
    check("my.own=", "my.own", json!(""));
    check("my.own=1.5", "my.own", json!(1.5));
    check("my.own=[1", "my.own", json!("[1"));
    check("topology.workers=null", "topology.workers", json!(1));

    let check = |assignment: &str, expected: &str| assert_eq!(report(&flag(assignment)), expected);
    check("topology.workers", "`-c` takes KEY=VALUE, found `topology.workers`");
    check("=3", "`-c` takes KEY=VALUE, found `=3`");
    check("ui.prot=3", "unknown key `ui.prot` in `-c`; did you mean `ui.port`?");
    check(
        "topology.workers=two",
        "`topology.workers` in `-c` takes a whole number in 1 ..= 65535, found the text \"two\"",
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut config = yaml("topology.workers: 0\nui.prot: 1");
    config.add_yaml("more.yaml", "a: [").add_flag("x").set("topology.debug", "loud");
    assert_eq!(
        config.settings().unwrap_err().to_string(),
        "cannot read more.yaml as YAML: unclosed bracket '[' at line 1, column 4\n\
         `-c` takes KEY=VALUE, found `x`\n\
         `topology.debug` in the topology's code takes true or false, found the text \"loud\"\n\
         `topology.workers` in conf.yaml takes a whole number in 1 ..= 65535, found the number 0\n\
         unknown key `ui.prot` in conf.yaml; did you mean `ui.port`?"
    );
}

#[test]
fn the_stronger_layer_wins_in_whatever_order() {
    type Add = fn(&mut Config);
    let layers: [(Add, u16); 4] = [
        (|_| (), 1),
        (|config| _ = config.add_yaml("conf.yaml", "topology.workers: 2"), 2),
        (|config| _ = config.set("topology.workers", 3), 3),
        (|config| _ = config.add_flag("topology.workers=4"), 4),
    ];
    for (first, first_workers) in layers {
        for (second, second_workers) in layers {
            let mut config = Config::new();
            first(&mut config);
            second(&mut config);
            assert_eq!(config.settings().unwrap().workers, first_workers.max(second_workers));

            let (mut left, mut right) = (Config::new(), Config::new());
            first(&mut left);
            second(&mut right);
            assert_eq!(left.merge(right).settings().unwrap().workers, first_workers.max(second_workers));
        }
    }
}

#[test]
fn of_one_layer_the_last_wins() {
    let mut config = yaml("topology.workers: 2");
    config.add_yaml("more.yaml", "topology.workers: 3");
    assert_eq!(config.settings().unwrap().workers, 3);
    assert_eq!(config.origin("topology.workers"), Some(&Origin::File("more.yaml".to_owned())));
    config.add_flag("topology.workers=5").add_flag("topology.workers=4");
    assert_eq!(config.settings().unwrap().workers, 4);
}

#[test]
fn merging_keeps_what_could_not_be_read() {
    let mut config = Config::new();
    config.merge(flag("x"));
    assert_eq!(report(&config), "`-c` takes KEY=VALUE, found `x`");
}

#[test]
fn null_takes_back_what_a_weaker_layer_has_set() {
    let mut config = yaml("topology.workers: 2\ntopology.max.spout.pending: 10\nmy.own: 1");
    config.add_flag("topology.workers=null").add_flag("topology.max.spout.pending=null").add_flag("my.own=null");
    let settings = config.settings().unwrap();
    assert_eq!((settings.workers, settings.max_spout_pending), (1, None));
    assert_eq!(config.get("my.own"), None);
    assert!(config.iter().all(|(key, _, _)| key != "my.own"));
}

#[test]
fn default_settings() {
    let expected = TopologySettings {
        name: None,
        workers: 1,
        message_timeout: Some(Duration::from_secs(30)),
        max_spout_pending: None,
        tracking: true,
        inbox_tuples: 4096,
        max_task_parallelism: None,
        debug: false,
        always_serialize: false,
        error_interval: Duration::from_secs(10),
        max_errors_per_interval: 5,
    };
    assert_eq!(Config::new().settings(), Ok(expected));
    assert_eq!(Config::new().component_settings(), Ok(ComponentSettings::default()));
}

#[test]
fn every_setting_is_read() {
    let config = yaml(
        "topology.name: count\n\
         topology.workers: 65535\n\
         topology.message.timeout.secs: 0.25\n\
         topology.max.spout.pending: 1048576\n\
         topology.acker.executors: 0\n\
         topology.executor.receive.buffer.size: 16\n\
         topology.max.task.parallelism: 2\n\
         topology.debug: true\n\
         topology.testing.always.try.serialize: true\n\
         topology.error.throttle.interval.secs: 0.5\n\
         topology.max.error.report.per.interval: 7\n\
         topology.tick.tuple.freq.secs: 0.001\n\
         topology.tasks: 32768\n",
    );
    let expected = TopologySettings {
        name: Some("count".to_owned()),
        workers: 65_535,
        message_timeout: Some(Duration::from_millis(250)),
        max_spout_pending: Some(1_048_576),
        tracking: false,
        inbox_tuples: 16,
        max_task_parallelism: Some(2),
        debug: true,
        always_serialize: true,
        error_interval: Duration::from_millis(500),
        max_errors_per_interval: 7,
    };
    assert_eq!(config.settings(), Ok(expected));
    let expected = ComponentSettings {
        max_spout_pending: Some(1_048_576),
        tick: Some(Duration::from_millis(1)),
        debug: true,
        tasks: Some(32_768),
        max_task_parallelism: Some(2),
    };
    assert_eq!(config.component_settings(), Ok(expected));
}

#[test]
fn timeouts_and_tracking_can_be_turned_off() {
    assert_eq!(yaml("topology.enable.message.timeouts: false").settings().unwrap().message_timeout, None);
    assert!(yaml("topology.acker.executors: 7").settings().unwrap().tracking);
    let never = yaml("topology.message.timeout.secs: 2147483647").settings().unwrap().message_timeout;
    assert_eq!(never, Some(Duration::from_secs(2_147_483_647)));
}

fn own<const N: usize>(entries: [(&str, Value); N]) -> [(String, Value); N] {
    entries.map(|(key, value)| (key.to_owned(), value))
}

#[test]
fn a_component_has_its_own_values_over_the_topologys() {
    let mut config = flag("topology.tasks=4");
    config.set("topology.debug", true).set("topology.tick.tuple.freq.secs", 5).set("my.own", 1);
    let entries = own([
        ("topology.tasks", json!(8)),
        ("topology.max.spout.pending", json!(3)),
        ("topology.tick.tuple.freq.secs", Value::Null),
        ("my.own", json!(2)),
        ("my.other", json!("x")),
    ]);
    let component = config.for_component("count", entries);
    let expected = ComponentSettings {
        max_spout_pending: Some(3),
        tick: None,
        debug: true,
        tasks: Some(8),
        max_task_parallelism: None,
    };
    assert_eq!(component.component_settings(), Ok(expected));
    assert_eq!(component.get("my.own"), Some(&json!(2)));
    assert_eq!(component.get("my.other"), Some(&json!("x")));
    assert_eq!(component.origin("my.own"), Some(&Origin::Component("count".to_owned())));
}

#[test]
fn mistakes_of_a_component() {
    // The topology's own mistakes are not told a second time.
    let mut topology = flag("topology.max.spout.pending=0");
    topology.add_flag("x").add_flag("ui.prot=1").add_flag("ui.port=1");
    let check = |key: &str, value: Value, expected: &str| {
        let component = topology.for_component("count", own([(key, value)]));
        assert_eq!(report(&component), expected);
    };
    check("topology.debug", json!(true), "");
    check("topology.bolts.window.length.count", json!(3), "");
    check("my.own", json!(3), "");
    check(
        "topology.workers",
        json!(2),
        "`topology.workers` in component `count` cannot be set for a component, as it holds for the whole topology: set it \
         there",
    );
    check(
        "topology.tuple.compression.enable",
        json!(true),
        "`topology.tuple.compression.enable` in component `count` cannot be set for a component, as it holds for the whole \
         topology: set it there",
    );
    check(
        "nimbus.seeds",
        json!(["a"]),
        "`nimbus.seeds` in component `count` cannot be set for a component, as only the daemons and the command line read \
         such keys",
    );
    check(
        "topology.task",
        json!(2),
        "unknown key `topology.task` in component `count`; did you mean `topology.tasks`?",
    );
    check(
        "topology.tasks",
        json!(0),
        "`topology.tasks` in component `count` takes a whole number in 1 ..= 32768, found the number 0",
    );
    let component = topology.for_component("count", []);
    assert_eq!(component.component_settings(), Ok(ComponentSettings::default()));
    assert_eq!(component.notices(), [""; 0]);
}

#[test]
fn notices_name_each_key_once() {
    let mut config = yaml(
        "worker.childopts: -Xmx1g\n\
         topology.worker.childopts: -Xmx2g\n\
         topology.workers: 2\n\
         ui.port: 80\n\
         topolgy.workers: 2\n\
         TOPOLOGY_DEBUG: true\n\
         my.own: 1\n\
         ui.prot: 1\n",
    );
    config.set("ui.port", 81);
    assert_eq!(
        config.notices(),
        [
            "`TOPOLOGY_DEBUG` in conf.yaml is taken as a key of your own; did you mean `topology.debug`?",
            "`topolgy.workers` in conf.yaml is taken as a key of your own; did you mean `topology.workers`?",
            "without effect on a topology, as only the daemons and the command line read such keys: `ui.port`",
            "without effect on a topology, as there is no JVM here: `topology.worker.childopts`, `worker.childopts`",
        ]
    );
    assert_eq!(Config::new().notices(), [""; 0]);
    let entries = own([("topology.bolts.window.length.count", json!(3))]);
    assert_eq!(
        config.for_component("count", entries).notices(),
        ["without effect on a topology, as windows and state are not supported: `topology.bolts.window.length.count`"]
    );
}

#[test]
fn values_stay_out_of_debug_output() {
    let config = flag("storm.zookeeper.auth.payload=user:secret");
    let printed = format!("{config:?}");
    assert!(printed.contains("\"storm.zookeeper.auth.payload\": Flag"), "{printed}");
    assert!(!printed.contains("secret"), "{printed}");
}

/// Without control characters, which YAML refuses where JSON does not.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Eighths: `serde_json` may read a float of many digits as its neighbour.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        Just(Value::from(1e300)),
        "\\PC{0,80}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,12}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Known keys, keys like them, and any text.
fn any_key() -> impl Strategy<Value = String> {
    let names: Vec<_> = keys::honoured_keys().map(KeyInfo::name).collect();
    prop_oneof![
        prop::sample::select(names.clone()).prop_map(str::to_owned),
        (prop::sample::select(names), ".{0,3}").prop_map(|(name, more)| name.replacen(".t", &more, 1)),
        ".{0,200}",
    ]
}

proptest! {
    #[test]
    fn whatever_is_set_is_settings_or_mistakes(
        entries in prop::collection::vec((any_key(), any_json()), 0..8),
        own in prop::collection::vec((any_key(), any_json()), 0..8),
        flags in prop::collection::vec("[a-z.=\\[{]{0,20}", 0..3),
    ) {
        let mut config = Config::new();
        for (key, value) in entries {
            config.set(key, value);
        }
        for assignment in flags {
            config.add_flag(&assignment);
        }
        let component = config.for_component("count", own);
        prop_assert_eq!(config.settings().err(), config.check().err());
        prop_assert_eq!(component.component_settings().err(), component.check().err());
        config.notices();
        component.notices();
    }

    #[test]
    fn whatever_a_file_holds_is_read_or_refused(text in "[a-z0-9.:&*!%@\\[\\]{},'\"#\\-|> \n\t~?<]{0,80}|.{0,80}") {
        let config = yaml(&text);
        prop_assert_eq!(config.settings().err(), config.check().err());
        config.notices();
    }

    #[test]
    fn a_file_says_what_the_same_flags_say(key in "my\\.[a-z]{1,8}", value in any_json()) {
        let map = json!({ key.clone(): value });
        let (from_file, from_flag) = (yaml(&map.to_string()), flag(&format!("{key}={}", map[&key])));
        prop_assert_eq!(from_file.get(&key), from_flag.get(&key));
    }
}
