//! Scripts for shells, out of the same command line.

use super::storm_in;

#[test]
fn each_shell_gets_a_script_that_knows_the_verbs() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (status, stdout, stderr) = storm_in(home.path(), &["completions", shell]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{shell}");
        for verb in ["submit", "rebalance", "undrain", "standalone", "get-errors", "remoteconfvalue"] {
            assert!(stdout.contains(verb), "{shell} does not know {verb}");
        }
        assert!(!stdout.contains("keeper"), "{shell} offers what only a Supervisor starts");
    }
}
