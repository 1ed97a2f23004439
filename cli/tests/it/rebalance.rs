//! What `storm rebalance` refuses before it asks anybody, and what it and `storm admin` are told by a real Nimbus.

use super::storm_in;

fn refused(arguments: &[&str], expected: &str) {
    let home = tempfile::tempdir().unwrap();
    let (status, stdout, stderr) = storm_in(home.path(), &[&["rebalance", "counting"], arguments].concat());
    assert_eq!((status, stdout.as_str(), stderr), (64, "", format!("error: {expected}\n")), "{arguments:?}");
}

#[test]
fn numbers_that_make_no_sense_are_refused_in_one_sentence() {
    refused(&["-n", "0"], "`-n` takes 1 worker or more, found 0; `storm deactivate` stops the spouts");
    for flag in ["x", "split", "split=", "=2", "split=-1", "split=two", "split=4294967296", "a\n"] {
        refused(&["-e", flag], &format!("`-e` takes COMPONENT=N, found `{}`", flag.escape_default()));
    }
    refused(&["--executor", "split=0"], "`-e` takes 1 executor or more, found `split=0`");
    refused(&["-e", "split=2", "-e", "split=3"], "`-e` names `split` twice; say once how many executors it shall have");
    refused(
        &["-n", "2", "-c", "topology.workers=3"],
        "a rebalance changes workers (`-n`) and executors (`-e`) alone, found `-c topology.workers`; to change the \
         configuration, kill the topology and submit it again",
    );
}
