//! Ctrl-C and SIGTERM.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::command;

/// A process that was started, and its standard error.
struct Running {
    child: Child,
    err: BufReader<ChildStderr>,
}

impl Running {
    fn start(folder: &tempfile::TempDir, arguments: &[&str]) -> Self {
        let mut child = command(folder, arguments).stderr(Stdio::piped()).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Running { child, err }
    }

    /// Reads lines until one that begins so.
    fn until(&mut self, begin: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(begin) {
            line.clear();
            assert_ne!(self.err.read_line(&mut line).unwrap(), 0, "it ended without saying {begin:?}");
        }
        line
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success());
    }

    /// The number that it ended with, and what it said since.
    fn end(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.err.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code().unwrap(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_signal_lets_what_is_pending_finish() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let folder = tempfile::tempdir().unwrap();
        let slow = ["--mistake", "slow", "-c", "topology.max.spout.pending=64"];
        let arguments = [&["local", "--input", "text", "--report", "report.json"], &slow[..]].concat();
        let mut running = Running::start(&folder, &arguments);
        running.until("count has begun");
        running.signal(signal);
        let (ended, rest) = running.end();
        assert_eq!(ended, code, "{rest}");
        assert!(rest.contains("\n`word-count` has run: it was told to stop\n"), "{rest}");
        assert!(rest.contains("count has closed\n"), "{rest}");
        let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
        // Nothing was cut off: each line that was split has been counted and acked.
        assert_eq!(report["failed"], 0, "{report}");
        assert_eq!(report["acked"], report["executed"]["split"], "{report}");
        assert_eq!(report["executed"]["count"].as_u64().unwrap(), 3 * report["acked"].as_u64().unwrap(), "{report}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = ["--mistake", "stuck", "-c", "topology.max.spout.pending=1"];
    let mut running = Running::start(&folder, &[&["local", "--input", "text"], &stuck[..]].concat());
    running.until("count has begun");
    running.signal("INT");
    let line = running.until("stopping: ");
    assert_eq!(line, "stopping: 30.0 s to finish 1 root; a second Ctrl-C ends it at once\n");
    running.signal("INT");
    assert_eq!(running.end(), (130, "`word-count` has ended at once, with 1 root pending\n".to_owned()));
}
