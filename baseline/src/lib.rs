//! What hand-written programs reach on the machine at hand: each case does one of the runtime's jobs with nothing
//! around it.
//!
//! Absolute figures differ from machine to machine and from hour to hour, so the benchmarks run these cases in the same
//! process, round by round, and print the runtime's figures as ratios to them.
//!
//! Not here: the runtime (`worker/`) and its benchmarks. Invariant: nothing here depends on another crate of this
//! workspace, so a change of the runtime never moves its own limit.
#![forbid(unsafe_code)]

pub mod cases;
pub mod chain;
pub mod hop;
pub mod ledger;
pub mod made_text;
pub mod measure;
pub mod metronome;
pub mod microsecond;
pub mod probe;
pub mod split_mix;
pub mod tcp;
pub mod timely;
pub mod word_count;
