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
    for flag in ["x", "split", "split=", "=2", "split=-1", "split=two", "a\n"] {
        refused(&["-e", flag], &format!("`-e` takes COMPONENT=N, found `{}`", flag.escape_default()));
    }
    for flag in ["split=0", "split=32769", "split=99999999999"] {
        let bounds = "`-e` takes 1 executor up to one for each task, of which a component has at most 32768; found";
        refused(&["--executor", flag], &format!("{bounds} `{flag}`"));
    }
    refused(&["-e", "split=2", "-e", "split=3"], "`-e` names `split` twice; say once how many executors it shall have");
    refused(
        &["-n", "2", "-c", "topology.workers=3"],
        "a rebalance changes workers (`-n`) and executors (`-e`) alone, found `-c topology.workers`; to change the \
         configuration, kill the topology and submit it again",
    );
}

#[test]
fn a_wait_of_more_than_seven_days_is_refused_before_anybody_is_asked() {
    let long = "`-w`: a wait of 604801 s is longer than seven days: 0 to 604800 s are possible";
    refused(&["-w", "604801"], long);
    let home = tempfile::tempdir().unwrap();
    let ended = storm_in(home.path(), &["kill", "one", "two", "-i", "-w", "604801"]);
    assert_eq!(ended, (64, String::new(), format!("error: {long}\n")));
}
