//! Layers of configuration as the command reads them: what wins, and what is refused.

use std::fs;
use std::path::Path;

use super::{Ended, run, storm, storm_in};

fn value(home: &Path, key: &str) -> String {
    let (status, stdout, stderr) = storm_in(home, &["localconfvalue", key]);
    assert_eq!((status, stderr.as_str()), (0, ""), "{key}");
    stdout
}

fn write(folder: &Path, text: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("storm.yaml"), text).unwrap();
}

#[test]
fn defaults_are_storms() {
    let home = tempfile::tempdir().unwrap();
    for (key, expected) in [
        ("nimbus.seeds", "nimbus.seeds: localhost\n"),
        ("nimbus.api.port", "nimbus.api.port: 6628\n"),
        ("supervisor.slots.ports", "supervisor.slots.ports: 6700 6701 6702 6703\n"),
        ("storm.zookeeper.servers", "storm.zookeeper.servers: localhost\n"),
        ("storm.bind.address", "storm.bind.address: 127.0.0.1\n"),
        ("ui.port", "ui.port: 8080\n"),
        ("topology.message.timeout.secs", "topology.message.timeout.secs: 30\n"),
        ("nimbus.host", "nimbus.host: null\n"),
    ] {
        assert_eq!(value(home.path(), key), expected);
    }
}

#[test]
fn a_key_that_is_neither_known_nor_set_has_no_value() {
    let home = tempfile::tempdir().unwrap();
    for (key, told) in [
        (
            "nope.key",
            "error: the key `nope.key` is not known, and nobody set it on this machine; check how it is written, or set it\n",
        ),
        (
            "topolgy.workers",
            "error: the key `topolgy.workers` is not known, and nobody set it on this machine; did you mean \
             `topology.workers`?\n",
        ),
    ] {
        assert_eq!(storm_in(home.path(), &["localconfvalue", key]), (1, String::new(), told.to_owned()));
    }
}

#[test]
fn a_later_layer_wins() {
    let home = tempfile::tempdir().unwrap();
    write(&home.path().join(".storm"), "ui.port: 1\nui.title: file\nmy.own: [a, b]\n");
    assert_eq!(value(home.path(), "my.own"), "my.own: a b\n");
    let ask = |variable: Option<&str>, flags: &[&str]| {
        let mut command = storm(home.path());
        if let Some(variable) = variable {
            command.env("STORM_UI_PORT", variable);
        }
        run(command.args(["localconfvalue", "ui.port", "--json"]).args(flags)).1
    };
    assert_eq!(ask(None, &[]), "1\n");
    assert_eq!(ask(Some("2"), &[]), "2\n");
    assert_eq!(ask(Some(""), &[]), "1\n");
    assert_eq!(ask(Some("2"), &["-c", "ui.port=3"]), "3\n");
    assert_eq!(ask(Some("2"), &["-c", "ui.port=3", "-c", "ui.port=4"]), "4\n");
    assert_eq!(ask(Some("2"), &["-c", "ui.port=null"]), "8080\n");
}

#[test]
fn storm_yaml_is_looked_for_in_order() {
    let home = tempfile::tempdir().unwrap();
    let folder = |name: &str| home.path().join(name);
    write(&folder("installed/conf"), "ui.title: installed\n");
    write(&folder("conf"), "ui.title: conf\n");
    fs::write(folder("named.yaml"), "ui.title: named\n").unwrap();
    let ask = |flags: &[&str]| {
        let mut command = storm(home.path());
        command.env("STORM_HOME", folder("installed")).env("STORM_CONF_DIR", folder("conf"));
        run(command.args(["localconfvalue", "ui.title"]).args(flags)).1
    };
    assert_eq!(ask(&["--config", "named.yaml"]), "ui.title: named\n");
    assert_eq!(ask(&[]), "ui.title: conf\n");
    fs::remove_file(folder("conf/storm.yaml")).unwrap();
    assert_eq!(ask(&[]), "ui.title: installed\n");
    write(&folder(".storm"), "ui.title: own\n");
    assert_eq!(ask(&[]), "ui.title: own\n");
}

fn refused(text: &str, verb: &[&str]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("s.yaml"), text).unwrap();
    storm_in(home.path(), &[verb, &["--config", "s.yaml"]].concat())
}

#[test]
fn mistakes_end_it_with_one_sentence() {
    for (text, expected) in [
        (
            "nimbus.seeds: [a\nui.port: 3\n",
            "error: cannot read s.yaml as YAML: illegal placement of ':' indicator at line 2, column 8\n",
        ),
        ("ui.prot: 1\n", "error: unknown key `ui.prot` in s.yaml; did you mean `ui.port`?\n"),
        (
            "ui.port: 70000\n",
            "error: `ui.port` in s.yaml takes a whole number in 0 ..= 65535, found the number 70000\n",
        ),
        ("nimbus.seeds: []\n", "error: `nimbus.seeds` is an empty list; name at least one host\n"),
        ("nimbus.seeds: [\"a b\"]\n", "error: `nimbus.seeds`: `a b` is no host name\n"),
        (
            "supervisor.slots.ports: [1, 1]\n",
            "error: `supervisor.slots.ports` names port 1 twice; a slot has a port of its own\n",
        ),
        (
            "storm.bind.address: 0.0.0.0\n",
            "error: `storm.bind.address` is 0.0.0.0, where others could reach this process, and nobody has to prove who \
             they are yet; on a network that you trust set `storm.network.allow.unauthenticated: true`\n",
        ),
    ] {
        assert_eq!(refused(text, &["list"]), (64, String::new(), expected.to_owned()));
    }
    let (status, stdout, stderr) = refused("storm.cluster.mode: local\n", &["ui"]);
    assert_eq!((status, stdout.as_str()), (64, ""));
    let expected = "error: `storm.cluster.mode` is `local`, and this is a daemon of a distributed cluster; remove the key, \
                    or run `storm standalone`\n";
    assert!(stderr.ends_with(expected), "{stderr}");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let home = tempfile::tempdir().unwrap();
    let (status, stdout, stderr) = storm_in(home.path(), &["list", "--config", "none.yaml"]);
    let expected = "error: cannot read the configuration file `none.yaml`: No such file or directory (os error 2); check its \
                    path and who may read it\n";
    assert_eq!((status, stdout.as_str(), stderr.as_str()), (66, "", expected));
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    let home = tempfile::tempdir().unwrap();
    let ended = run(storm(home.path()).arg("list").env("STORM_UI_PORT", "tcp://10.0.0.1:8080"));
    let expected = "error: `ui.port` in the environment's `STORM_UI_PORT` takes a whole number in 0 ..= 65535, found the text \
                    \"tcp://10.0.0.1:8080\"\n";
    assert_eq!(ended, (64, String::new(), expected.to_owned()));
}

#[test]
fn a_secret_is_not_printed() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["localconfvalue", "storm.zookeeper.auth.payload", "-c", "storm.zookeeper.auth.payload=storm:hush"];
    assert_eq!(storm_in(home.path(), &arguments).1, "storm.zookeeper.auth.payload: *****\n");
}

#[test]
fn nimbus_host_is_who_is_asked() {
    let home = tempfile::tempdir().unwrap();
    // Port 1 of loopback: nobody listens there.
    let asked = |flags: &[&str]| {
        let (status, _, stderr) = storm_in(home.path(), &[&["list", "-c", "nimbus.api.port=1"], flags].concat());
        assert_eq!(status, 69);
        stderr.split(" (").next().unwrap().to_owned()
    };
    assert_eq!(asked(&["-c", "nimbus.host=127.0.0.1"]), "error: cannot reach Nimbus at 127.0.0.1:1");
    let both = ["-c", "nimbus.host=127.0.0.1", "-c", "nimbus.seeds=[\"127.0.0.2:2\"]"];
    assert_eq!(asked(&both), "error: cannot reach Nimbus at 127.0.0.2:2");
}
