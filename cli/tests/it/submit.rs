//! What cannot be submitted. `cat describe` prints a file of that name, which `--file` puts there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Ended, storm_in};

fn submit(home: &Path, arguments: &[&str]) -> Ended {
    storm_in(home, &[&["submit"], arguments].concat())
}

fn executable(home: &Path, name: &str, bytes: &[u8]) {
    fs::write(home.join(name), bytes).unwrap();
    fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[track_caller]
fn refused(ended: Ended, status: i32, expected: &str) {
    assert_eq!(ended, (status, String::new(), format!("error: {expected}\n")));
}

#[test]
fn what_cannot_be_read_or_executed_is_not_started() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    refused(
        submit(home, &["none"]),
        66,
        "cannot read the executable `none`: No such file or directory (os error 2); check the path",
    );
    refused(submit(home, &["."]), 66, "`.` is not a file; name the executable that `cargo build` made");
    fs::copy("/bin/cat", home.join("cat")).unwrap();
    fs::set_permissions(home.join("cat"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(submit(home, &["./cat"]), 66, "`./cat` may not be executed; allow it by `chmod +x ./cat`");
}

#[test]
fn what_is_not_for_this_machine_is_not_started() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    executable(home, "app.jar", b"PK\x03\x04 and more");
    refused(
        submit(home, &["app.jar"]),
        65,
        "`app.jar` is a JAR or another archive; a topology is the executable that `cargo build` makes",
    );
    executable(home, "app.sh", b"#!/bin/sh\ntouch started\n");
    refused(
        submit(home, &["app.sh"]),
        65,
        "`app.sh` is a script; a topology is the executable that `cargo build` makes",
    );
    let mut other = fs::read("/bin/cat").unwrap();
    other[18..20].copy_from_slice(&[243, 0]);
    executable(home, "app", &other);
    let here = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let expected = format!("`app` is built for riscv64 (64 bits), and this machine is {here}; build it for this one");
    refused(submit(home, &["app"]), 65, &expected);
    assert!(!home.join("started").exists());
}

#[test]
fn what_is_cut_short_is_not_started() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let whole = fs::read("/bin/cat").unwrap();
    // By the place of its table of sections, which nothing follows.
    let sections = u64::from_le_bytes(whole[40..48].try_into().unwrap());
    let count = u64::from(u16::from_le_bytes([whole[60], whole[61]]));
    let all = sections + count * 64;
    for bytes in [all - 1, all / 2, 100] {
        executable(home, "app", &whole[..bytes as usize]);
        let expected = format!(
            "`app` is cut short: its headers tell of at least {all} bytes, and it has {bytes}; copy it again, or build it again"
        );
        refused(submit(home, &["app"]), 65, &expected);
    }
    executable(home, "app", &whole[..63]);
    let expected =
        "`app` is cut short: its headers tell of at least 64 bytes, and it has 63; copy it again, or build it again";
    refused(submit(home, &["app"]), 65, expected);
}

#[test]
fn what_describes_nothing_is_not_one_of_ours() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    refused(
        submit(home, &["/bin/true"]),
        65,
        "`/bin/true` is not a topology's executable: its `main` must call `storm::run`, and `/bin/true describe` printed \
         nothing",
    );
    refused(
        submit(home, &["/bin/false"]),
        65,
        "`/bin/false describe`, which is to print the topology's graph, ended with exit status: 1 without a word",
    );
    let described = |text: &str| {
        fs::write(home.join("graph.json"), text).unwrap();
        submit(home, &["/bin/cat", "--file", "describe=graph.json"])
    };
    refused(
        described("hello\n"),
        65,
        "`/bin/cat` is not a topology's executable: its `main` must call `storm::run`, and `/bin/cat describe` printed no \
         graph (expected value at line 1 column 1)",
    );
    refused(
        described(r#"{"format": 7}"#),
        65,
        "`/bin/cat`: the graph has format 7, and this is built for format 1; build the topology and the daemons with the \
         same version",
    );
    refused(
        described(r#"{"format": 1, "build": {"launch_format": 9}}"#),
        65,
        "`/bin/cat`: the launch file has format 9, and this is built for format 1; build the topology and the daemons with \
         the same version",
    );
}

#[test]
fn what_is_written_wrong_is_told() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    refused(submit(home, &["/bin/cat", "--file", "model"]), 64, "`--file` takes NAME=PATH, found `model`");
    refused(
        submit(home, &["/bin/cat", "--file", "../model=x"]),
        64,
        "the file name `../model` is not allowed: it must begin with a letter, a digit or `_`",
    );
    refused(
        submit(home, &["/bin/cat", "--file", "launch.json=none"]),
        64,
        "`--file` may not name `launch.json`: each worker's folder has one of the runtime's; choose another name",
    );
    refused(
        submit(home, &["/bin/cat", "--file", "model=none"]),
        66,
        "cannot read `none` of `--file model=…`: No such file or directory (os error 2); check the path",
    );
    refused(
        submit(home, &["/bin/cat", "--name", "a/b"]),
        64,
        "the topology name `a/b` is not allowed: it may have letters, digits, `_`, `.` and `-` only",
    );
    refused(
        submit(home, &["/bin/cat", "-c", "topology.worker=2"]),
        64,
        "unknown key `topology.worker` in `-c`; did you mean `topology.workers`?",
    );
}

#[test]
fn a_path_that_no_worker_will_find_is_named() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("book.txt"), "").unwrap();
    fs::write(home.path().join("kept"), "").unwrap();
    let arguments = ["/bin/true", "--file", "kept=kept", "--", "--input=book.txt", "kept", "/bin/cat", "absent"];
    let (_, _, stderr) = submit(home.path(), &arguments);
    let expected = "warning: `book.txt` in the topology's arguments is a file here, but not in the folder of a worker; give \
                    its absolute path, or send it along by `--file NAME=book.txt` and name it NAME\nerror: ";
    assert!(stderr.starts_with(expected) && stderr.matches("warning").count() == 1, "{stderr}");
}
