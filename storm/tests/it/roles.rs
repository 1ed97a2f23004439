//! What each role prints, and what mistakes get.

use serde_json::{Value, json};

use crate::{Said, run};

fn said(arguments: &[&str]) -> Said {
    run(&tempfile::tempdir().unwrap(), arguments)
}

fn refused(code: i32, err: &str) -> Said {
    Said { code, out: String::new(), err: err.to_owned() }
}

#[test]
fn help_explains_the_roles_with_examples() {
    assert_eq!(said(&["--help"]), Said { code: 0, out: include_str!("help.txt").into(), err: String::new() });
}

#[test]
fn the_help_of_a_role_has_the_topologys_arguments_apart_from_the_runtimes() {
    assert_eq!(
        said(&["local", "--help"]),
        Said { code: 0, out: include_str!("help-local.txt").into(), err: String::new() }
    );
}

#[test]
fn describe_prints_the_graph_and_nothing_else() {
    let said = said(&["describe", "--input", "text", "-c", "topology.workers=2"]);
    let platform = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let out = include_str!("describe.json");
    let out = out.replace("VERSION", env!("CARGO_PKG_VERSION")).replace("PLATFORM", &platform);
    assert_eq!(said, Said { code: 0, out, err: String::new() });
}

#[test]
fn a_run_ends_with_its_input_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    for workers in ["1", "3"] {
        let said = run(&folder, &["local", "--input", "text", "--workers", workers, "--report", "report.json"]);
        assert_eq!((said.code, &*said.out), (0, ""));
        let lines: Vec<&str> = said.err.lines().collect();
        assert_eq!(lines[0], "`word-count` has run: its input has ended");
        assert!(lines[1].starts_with("  roots     2 acked, 0 failed, in "), "{}", said.err);
        assert!(lines[2].starts_with("  complete  p50 "), "{}", said.err);
        assert_eq!(lines[3..], ["  executed  `count` 6, `split` 2"]);

        let text = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
        let mut report: Value = serde_json::from_str(&text).unwrap();
        let (seconds, per_second) = (report["seconds"].take().as_f64().unwrap(), report["per_second"].take());
        assert_eq!(per_second.as_f64().unwrap(), 2.0 / seconds);
        let latency = report["complete_latency_us"].take();
        let latency = ["p50", "p99", "max"].map(|name| latency[name].as_u64().unwrap());
        assert!(0 < latency[0] && latency[0] <= latency[1] && latency[1] <= latency[2], "{latency:?}");
        assert_eq!(
            report,
            json!({
                "format": 1, "topology": "word-count", "seconds": null, "acked": 2, "failed": 0, "per_second": null,
                "complete_latency_us": null, "executed": { "count": 6, "split": 2 }, "errors": {}
            })
        );
    }
    let mut left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["report.json", "text"]);
}

#[test]
fn a_quiet_run_says_nothing() {
    assert_eq!(said(&["local", "--input", "text", "--quiet"]), refused(0, ""));
}

#[test]
fn a_report_has_no_folder() {
    let said = said(&["local", "--input", "text", "--report", "no/report.json"]);
    let err = "error: cannot write the report to `no/report.json`, as there is no folder `no`; make it, or name another file\n";
    assert_eq!(said, refused(64, err));
}

#[test]
fn an_input_is_missing() {
    for role in ["local", "describe"] {
        let err = "error: cannot build topology `word-count`: cannot read `no-text`: No such file or directory (os error 2)\n";
        assert_eq!(said(&[role, "--input", "no-text"]), refused(66, err));
    }
}

#[test]
fn a_configuration_file_is_missing() {
    let err = "error: cannot read the configuration file `no.yaml` of `--config`: No such file or directory (os error 2); check the path\n";
    assert_eq!(said(&["describe", "--input", "text", "--config", "no.yaml"]), refused(66, err));
}

#[test]
fn files_yield_to_flags() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), "topology.workers: 2\nmy.key: a\n").unwrap();
    std::fs::write(folder.path().join("b.yaml"), "my.key: b\ntopology.max.spout.pending: 9\n").unwrap();
    let config = ["--config", "a.yaml", "--config", "b.yaml", "-c", "topology.max.spout.pending=7", "-c", "x=[1]"];
    let said = run(&folder, &[&["describe", "--input", "text"], &config[..]].concat());
    let graph: Value = serde_json::from_str(&said.out).unwrap();
    let expected = json!({ "my.key": "b", "topology.max.spout.pending": 7, "topology.workers": 2, "x": [1] });
    assert_eq!(graph["config"], expected);
}

#[test]
fn keys_without_effect_are_named_once() {
    let said = said(&["describe", "--input", "text", "-c", "nimbus.childopts=-Xmx1g"]);
    assert_eq!(said.code, 0);
    assert!(said.err.starts_with("warning: without effect on a topology, as "), "{}", said.err);
    assert!(said.err.ends_with(": `nimbus.childopts`\n"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1);
}

#[test]
fn a_flag_is_misspelt() {
    let err = "error: unexpected argument '--inptu' found\n\n  tip: a similar argument exists: '--input'\n\n\
               Usage: entry-fixture local --input <FILE>\n\nFor more information, try '--help'.\n";
    assert_eq!(said(&["local", "--inptu", "text"]), refused(64, err));
}

#[test]
fn no_role_is_given() {
    let err = "error: `entry-fixture` was started without a role; say `entry-fixture local` to run the topology here, \
               `entry-fixture describe` to see its graph, or `entry-fixture --help`\n";
    assert_eq!(said(&[]), refused(64, err));
}

#[test]
fn a_worker_needs_a_slot() {
    let err = "error: the following required arguments were not provided:\n  <TOPOLOGY-ID>\n  <PORT>\n\n\
               Usage: entry-fixture worker TOPOLOGY-ID PORT [--launch FILE]\n\nFor more information, try '--help'.\n";
    assert_eq!(said(&["worker", "--launch", "file"]), refused(64, err));
    let err = "error: invalid value '../x' for '<TOPOLOGY-ID>': the topology id `../x` is not allowed: \
               it must begin with a letter, a digit or `_`\n\nFor more information, try '--help'.\n";
    assert_eq!(said(&["worker", "../x", "6700"]), refused(64, err));
}

#[test]
fn a_key_is_misspelt() {
    let err = "error: topology `word-count` has a mistake: unknown key `topology.mesage.timeout.secs` in `-c`; \
               did you mean `topology.message.timeout.secs`?\n";
    assert_eq!(said(&["local", "--input", "text", "-c", "topology.mesage.timeout.secs=3"]), refused(64, err));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mistakes = ["--mistake", "graph", "-c", "topology.workers=no", "--config", "no.yaml"];
    let err = "error: cannot read the configuration file `no.yaml` of `--config`: No such file or directory (os error 2); check the path\n\
        error: topology `word-count` has 4 mistakes:\n  \
        - `topology.workers` in `-c` takes a whole number in 1 ..= 65535, found the text \"no\"\n  \
        - bolt `count` has parallelism 0; give at least 1\n  \
        - bolt `print` subscribes to no stream, so it would never get a tuple; chain a grouping, as `.shuffle(&stream)`\n  \
        - bolt `echo` subscribes to `line`, which is not in the topology; did you mean `lines`?\n";
    assert_eq!(said(&[&["local", "--input", "text"], &mistakes[..]].concat()), refused(64, err));
}

#[test]
fn the_topologys_function_fails_and_the_configuration_is_wrong_too() {
    let err = "error: cannot build topology `word-count`: cannot read `no-text`: No such file or directory (os error 2)\n\
        error: unknown key `topology.worker` in `-c`; did you mean `topology.workers`?\n";
    assert_eq!(said(&["local", "--input", "no-text", "-c", "topology.worker=2"]), refused(64, err));
}

/// Log lines begin with a time, which is cut off.
fn without_times(err: &str) -> Vec<String> {
    let cut = |line: &str| match line.split_once(' ') {
        Some((time, rest)) if time.ends_with('Z') && time.starts_with("20") => rest.trim_start().to_owned(),
        _ => line.to_owned(),
    };
    err.lines().map(cut).collect()
}

#[test]
fn the_topologys_function_panics() {
    let said = said(&["describe", "--input", "text", "--mistake", "panic-in-code"]);
    assert_eq!((said.code, &*said.out), (64, ""));
    let lines = without_times(&said.err);
    assert!(lines[0].starts_with("ERROR storm::console: panic: somebody asked for it at=\"storm/tests/it/fixture.rs:"));
    assert_eq!(
        lines[1..],
        [
            "error: cannot build topology `word-count`, as its function panicked: somebody asked for it; the line above says where"
        ]
    );
}

#[test]
fn a_bolt_panics_and_the_run_goes_on() {
    let said = said(&["local", "--input", "text", "--mistake", "panic"]);
    assert_eq!((said.code, &*said.out), (0, ""));
    let lines = without_times(&said.err);
    assert!(
        lines[0].starts_with("ERROR storm::console: panic: or what at=\"storm/tests/it/fixture.rs:"),
        "{}",
        said.err
    );
    assert!(lines[1].starts_with("ERROR worker::executor::bolt: "), "{}", said.err);
    assert_eq!(lines[2], "`word-count` has run: its input has ended");
    assert!(lines[3].starts_with("  roots     1 acked, 1 failed, in "), "{}", said.err);
    assert_eq!(lines.last().unwrap(), "  error     `count`: panicked: or what");
    assert!(!said.err.contains("RUST_BACKTRACE"), "{}", said.err);
}

#[test]
fn a_fatal_error_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["local", "--input", "text", "--mistake", "fatal", "--report", "report.json"];
    let said = run(&folder, &arguments);
    assert_eq!((said.code, &*said.out), (1, ""));
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines[0], "`word-count` has run: it failed");
    let error = "error: `word-count` could not go on: component `count` stopped: no room for `";
    assert!(lines.last().unwrap().starts_with(error), "{}", said.err);
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["acked"], 0);
    assert!(report["errors"]["count"][0].as_str().unwrap().starts_with("no room for `"), "{report}");
}
