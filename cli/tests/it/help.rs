//! Help texts, byte for byte.

use super::storm_in;

const VERBS: [&[&str]; 22] = [
    &[],
    &["submit"],
    &["local"],
    &["list"],
    &["kill"],
    &["rebalance"],
    &["activate"],
    &["deactivate"],
    &["get-errors"],
    &["nimbus"],
    &["supervisor"],
    &["ui"],
    &["standalone"],
    &["admin", "machines"],
    &["admin", "drain"],
    &["admin", "undrain"],
    &["blobstore", "list"],
    &["blobstore", "cat"],
    &["localconfvalue"],
    &["remoteconfvalue"],
    &["version"],
    &["completions"],
];

#[test]
fn the_help_of_each_verb_is_this() {
    let home = tempfile::tempdir().unwrap();
    let mut all = String::new();
    for verb in VERBS {
        let (status, stdout, stderr) = storm_in(home.path(), &[verb, &["--help"]].concat());
        assert_eq!((status, stderr.as_str()), (0, ""), "{verb:?}");
        assert!(verb.is_empty() || stdout.contains("Example"), "{verb:?} has no example");
        all += &format!("$ storm {}--help\n{stdout}\n", verb.iter().map(|word| format!("{word} ")).collect::<String>());
    }
    // To change it on purpose, write what the test prints to the file.
    assert!(all == include_str!("help.txt"), "the help has changed:\n{all}");
}

#[test]
fn without_a_verb_the_help_goes_to_standard_error() {
    let home = tempfile::tempdir().unwrap();
    let (status, stdout, stderr) = storm_in(home.path(), &[]);
    assert_eq!((status, stdout.as_str()), (64, ""));
    assert!(stderr.contains("Usage: storm <COMMAND>"), "{stderr}");
    let (status, stdout, stderr) = storm_in(home.path(), &["lits"]);
    assert_eq!((status, stdout.as_str()), (64, ""));
    assert!(stderr.contains("a similar subcommand exists: 'list'"), "{stderr}");
}

#[test]
fn the_version_is_the_packages() {
    let home = tempfile::tempdir().unwrap();
    let (status, stdout, _) = storm_in(home.path(), &["version"]);
    let platform = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    assert_eq!((status, stdout), (0, format!("Storm 0.1.0\nPlatform {platform}\n")));
}
