//! Bugs that are switched on in whole clusters are found: those that a seed or two find. For all of them: `cargo xtask simulate --mutations`.
//!
//! Not here: bugs between workers on a local cluster (`local`). Invariant: each bound is the table's.

use simulation::proof::{WITHIN, found};

/// What has a bound of no more than so many seeds is looked for here.
const FEW: u64 = 3;

#[test]
fn bugs_that_a_seed_finds_are_found_in_whole_clusters() {
    let few: Vec<_> = WITHIN.into_iter().filter(|(_, within)| *within <= FEW).collect();
    assert!(few.len() >= 8, "the table has {} bugs that are found at once", few.len());
    for (mutation, within) in few {
        let found = found(mutation, 1..within + 1);
        assert!(found.is_some(), "{mutation:?} was not found within {within} seeds");
    }
}
