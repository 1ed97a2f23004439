//! Questions to a real Nimbus: a `storm standalone` without slots, so that what is submitted only waits.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster_state::board::Board;
use cluster_state::memory::Memory;
use cluster_state::paths;
use cluster_state::records::{Lead, Leader};
use nimbus::{Nimbus, NimbusConfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use worker_api::ids::{BlobHash, NimbusId};

use super::{Ended, run, storm};

struct Standalone {
    home: TempDir,
    child: Child,
    nimbus: String,
}

impl Standalone {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = storm(home.path());
        command.args(["standalone", "-c", "nimbus.api.port=0", "-c", "ui.port=0", "-c", "supervisor.slots.ports=[]"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let rest = line.strip_prefix("Standalone ready: Nimbus at ").unwrap_or_else(|| panic!("{line}"));
        let nimbus = rest.split(',').next().unwrap().to_owned();
        let state = format!("0 slots, cluster state: {}\n", home.path().join("storm-local/state.redb").display());
        assert!(rest.ends_with(&state), "{line}");
        Standalone { home, child, nimbus }
    }

    fn storm(&self, arguments: &[&str]) -> Ended {
        run(storm(self.home.path()).args(arguments).env("STORM_NIMBUS_SEEDS", format!("[\"{}\"]", self.nimbus)))
    }

    /// Asks until the cluster leads, and the answer is a success.
    fn led(&self, arguments: &[&str]) -> Ended {
        loop {
            let ended = self.storm(arguments);
            if ended.0 != 69 {
                return ended;
            }
        }
    }

    fn stop(mut self) -> i32 {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::TERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        // It is gone if it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `cat describe` is to print.
fn describe(home: &Path, name: &str) {
    let component = |name: &str, kind: &str, first: u32, inputs: Value| {
        let streams = match kind {
            "spout" => json!([{"name": "default", "fields": ["text"], "direct": false, "tuple": "Line"}]),
            _ => json!([]),
        };
        json!({"name": name, "kind": kind, "executors": 1, "first_task": first, "tasks": 1, "streams": streams,
               "inputs": inputs, "config": {}})
    };
    let input = json!([{"component": "lines", "stream": "default", "grouping": {"type": "shuffle"}}]);
    let described = json!({
        "build": worker_api::describe::Build::own(),
        "format": topology_api::topology::GRAPH_FORMAT,
        "name": name,
        "config": {},
        "components": [component("count", "bolt", 1, input), component("lines", "spout", 2, json!([]))],
    });
    fs::write(home.join("graph.json"), described.to_string()).unwrap();
}

#[test]
fn a_topology_is_submitted_listed_switched_and_killed() {
    let cluster = Standalone::start();
    let home = cluster.home.path();
    let says = |text: &str| (0, text.to_owned(), String::new());
    assert_eq!(cluster.led(&["list"]), says("No topologies running.\n"));
    describe(home, "counting");
    let submit = ["submit", "/bin/cat", "--file", "describe=graph.json"];
    let (status, stdout, stderr) = cluster.led(&submit);
    assert_eq!(status, 0, "{stderr}");
    let id = stdout.strip_prefix("Submitted counting as ").unwrap_or_else(|| panic!("{stdout}")).trim().to_owned();
    assert!(id.starts_with("counting-1-"), "{id}");

    let (_, table, reasons) = cluster.storm(&["list"]);
    let waits = "Waiting for 1 of 1 slots: no slot is free; add a machine or more supervisor.slots.ports";
    assert_eq!(reasons, format!("counting: starting, 0 of 1 workers are ready; {waits}\n"));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0],
        "Topology_name        Status     Num_tasks  Num_workers  Uptime_secs  Topology_Id          Owner               "
    );
    assert_eq!(lines[1], "-".repeat(88));
    assert!(lines[2].starts_with("counting             ACTIVE     2          0            "), "{table}");
    assert!(lines[2].ends_with(&format!(" {id:<20} ada                 ")), "{table}");
    assert_eq!(lines.len(), 3);
    let (_, listed, _) = cluster.storm(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["id"]), (&json!("counting"), &json!(id)));

    // Nothing of it is uploaded.
    fs::write(home.join("more"), "not there yet").unwrap();
    let blobs = cluster.storm(&["blobstore", "list"]);
    let taken = format!(
        "error: the name `counting` is taken: {id} runs; kill it first, wait until it is gone, or choose another name\n"
    );
    assert_eq!(cluster.storm(&[&submit[..], &["--file", "more=more"]].concat()), (1, String::new(), taken));
    assert_eq!(cluster.storm(&["blobstore", "list"]), blobs);
    assert_eq!(cluster.storm(&["deactivate", "counting"]), says("Deactivated topology: counting\n"));
    assert!(cluster.storm(&["list"]).1.contains(" INACTIVE "));
    assert_eq!(cluster.storm(&["activate", "counting"]), says("Activated topology: counting\n"));
    let errors = "{\"Topology Name\":\"counting\",\"Comp-Errors\":{}}\n";
    assert_eq!(cluster.storm(&["get-errors", "counting"]), says(errors));
    let unknown = "{\"Failure\":\"No topologies running with name other\"}\n";
    assert_eq!(cluster.storm(&["get-errors", "other"]), (1, unknown.to_owned(), String::new()));

    let (_, blobs, _) = cluster.storm(&["blobstore", "list"]);
    let executable = blobs.lines().find(|line| line.ends_with(&format!("  {id} (executable)"))).unwrap();
    let hash = executable.split(' ').next().unwrap();
    assert_eq!(cluster.storm(&["blobstore", "cat", hash, "--FILE", "copy"]), says(""));
    assert_eq!(fs::read(home.join("copy")).unwrap(), fs::read("/bin/cat").unwrap());
    let file = blobs.lines().find(|line| line.ends_with(" (describe)")).unwrap().split(' ').next().unwrap();
    assert_eq!(cluster.storm(&["blobstore", "cat", file]).1, fs::read_to_string(home.join("graph.json")).unwrap());
    let (status, stdout, _) = cluster.storm(&["blobstore", "cat", &"0".repeat(64), "-f", "none"]);
    assert_eq!((status, stdout.as_str(), home.join("none").exists()), (1, "", false));

    assert_eq!(cluster.storm(&["remoteconfvalue", "supervisor.slots.ports"]), says("supervisor.slots.ports: \n"));
    let told =
        "error: the key `nope.key` is not known, and nobody set it at Nimbus; check how it is written, or set it\n";
    assert_eq!(cluster.storm(&["remoteconfvalue", "nope.key"]), (1, String::new(), told.to_owned()));
    assert_eq!(cluster.storm(&["remoteconfvalue", "nimbus.host"]), says("nimbus.host: null\n"));
    let (status, stdout, stderr) = cluster.storm(&["kill", "other", "counting", "-i", "--wait", "0"]);
    assert_eq!((status, stdout.as_str()), (1, "Killed topology: counting\n"), "{stderr}");
    assert_eq!(cluster.stop(), 0);
}

#[test]
fn an_owner_is_found_without_variables_too_and_keys_of_tools_stay_with_the_tools() {
    let cluster = Standalone::start();
    let home = cluster.home.path();
    assert_eq!(cluster.led(&["list"]).0, 0);
    let own_name = Command::new("id").arg("-un").output().unwrap().stdout;
    let own_name = String::from_utf8(own_name).unwrap().trim().to_owned();
    let seeds = format!("nimbus.seeds=[\"{}\"]", cluster.nimbus);
    for (name, variable, owner) in [("by-variable", Some("LOGNAME"), "grace"), ("by-number", None, own_name.as_str())] {
        describe(home, name);
        // `cat` would refuse any `-c`.
        let tools = ["-c", &seeds, "-c", "ui.port=1", "-c", "storm.local.dir=x", "-c", "nimbus.api.port=1"];
        let mut command = storm(home);
        command.args(["submit", "/bin/cat", "--file", "describe=graph.json"]).args(tools).env("USER", "");
        if let Some(variable) = variable {
            command.env(variable, owner);
        }
        let (status, _, stderr) = run(&mut command);
        assert_eq!(status, 0, "{stderr}");
        let listed: Value = serde_json::from_str(&cluster.storm(&["list", "--json"]).1).unwrap();
        let found = listed.as_array().unwrap().iter().find(|topology| topology["name"] == name).unwrap();
        assert_eq!(found["owner"], owner);
    }
}

#[test]
fn a_daemon_whose_words_cannot_be_written_answers_and_ends_in_order() {
    let home = tempfile::tempdir().unwrap();
    // Nobody can be told which port it got, so it is told one that was free a moment ago.
    let nimbus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = storm(home.path());
    command.args(["standalone", "-c", &format!("nimbus.api.port={}", nimbus.port()), "-c", "ui.port=0"]);
    command.args(["-c", "supervisor.slots.ports=[]"]);
    let child = command.stdout(full()).stderr(full()).spawn().unwrap();
    let mut cluster = Standalone { home, child, nimbus: nimbus.to_string() };
    let listed = loop {
        assert_eq!(cluster.child.try_wait().unwrap(), None);
        let ended = cluster.storm(&["list"]);
        if ended.0 != 69 {
            break ended;
        }
    };
    assert_eq!(listed, (0, "No topologies running.\n".to_owned(), String::new()));
    assert_eq!(cluster.stop(), 0);
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let home = tempfile::tempdir().unwrap();
    for key in ["nimbus.api.port", "ui.port"] {
        let other = if key == "ui.port" { "nimbus.api.port=0" } else { "ui.port=0" };
        let flags = ["standalone", "-c", &format!("{key}={port}"), "-c", other, "-c", "supervisor.slots.ports=[]"];
        let (status, stdout, stderr) = super::storm_in(home.path(), &flags);
        assert_eq!((status, stdout.as_str()), (1, ""));
        let last = stderr.lines().last().unwrap();
        assert!(
            last.starts_with("error: ") && last.contains(&format!("127.0.0.1:{port}")) && last.contains(key),
            "{last}"
        );
    }
}

#[test]
fn nobody_answers() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home = tempfile::tempdir().unwrap();
    let ended = super::storm_in(home.path(), &["list", "-c", &format!("nimbus.seeds=[\"{free}\"]")]);
    let expected = format!(
        "error: cannot reach Nimbus at {free} (Connection refused (os error 111)); start one by `storm nimbus`, or name where \
         it is by `-c nimbus.seeds='[\"HOST\"]'`\n"
    );
    assert_eq!(ended, (69, String::new(), expected));
}

#[test]
fn no_topologies_and_no_leader_are_an_empty_list_with_a_note() {
    let (home, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let memory = Memory::default();
    // The leader is a port that nobody listens at.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let leads = Board::new(memory.session(), "gone".to_owned());
    let (id, token) = (NimbusId::new("gone").unwrap(), BlobHash::of([7; 32]));
    let leader = Leader { nimbus: id.clone(), host: "127.0.0.1".to_owned(), port: closed, token: token.clone() };
    let change = leads.change().create_ephemeral(paths::leader(), leader);
    let change = change.create_ephemeral(paths::lead(&token), Lead { nimbus: id });
    let config = NimbusConfig {
        folder: folder.path().join("nimbus"),
        bind: "127.0.0.1:0".parse().unwrap(),
        host: "localhost".to_owned(),
        configuration: BTreeMap::new(),
        machine_timeout: Duration::from_secs(30),
        most_workers: None,
        most_executors: None,
        upload_expiration: Duration::from_secs(3600),
    };
    let nimbus = runtime.block_on(async {
        leads.commit(change).await.unwrap();
        Nimbus::start(config, memory.session()).await.unwrap()
    });
    let list = |arguments: &[&str]| {
        let seeds = format!("[\"{}\"]", nimbus.address());
        run(storm(home.path()).args(arguments).env("STORM_NIMBUS_SEEDS", seeds))
    };
    // Until it has read the records it cannot say.
    let (status, table, said) = loop {
        let ended = list(&["list"]);
        if ended.0 != 69 {
            break ended;
        }
    };
    assert_eq!((status, table.as_str()), (0, "No topologies running.\n"));
    let note = format!(
        "warning: this may be out of date: Nimbus gone at 127.0.0.1:{closed} leads, and does not answer this one: "
    );
    assert!(said.starts_with(&note) && said.lines().count() == 1, "{said}");
    assert_eq!(list(&["list", "--json"]).1, "[]\n");
    runtime.block_on(nimbus.stop());
}
