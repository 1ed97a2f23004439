//! Submitting a topology, rebalancing and killing it.
//!
//! Not here: the checks (`nimbus::submission`). Invariant: blobs come first; a submission names them by their hashes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use worker_api::describe::Described;
use worker_api::ids::{BlobHash, FileName, TopologyId, TopologyName};

use crate::failure::{Failure, FailureKind};

/// `POST /v1/topologies`: at most [`SUBMISSION_BYTES`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// What the user calls it.
    pub name: TopologyName,
    /// Who submits it, as far as is known.
    pub owner: Option<String>,
    /// What the executable said of itself.
    pub described: Described,
    /// The executable's blob.
    pub executable: BlobHash,
    /// Blobs that lie in each worker's folder.
    pub files: BTreeMap<FileName, BlobHash>,
    /// The arguments of the topology's author.
    pub arguments: Vec<String>,
}

/// Longest submission in bytes.
pub const SUBMISSION_BYTES: usize = 16 << 20;

/// The topology is stored, and will run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The submission's id.
    pub id: TopologyId,
    /// What the user should know although nothing is wrong: a panic ends the process, fewer slots than wanted.
    pub warnings: Vec<String>,
}

/// The refusal of a submission whose name another topology has.
pub fn name_is_taken(name: &TopologyName, by: &TopologyId, is_killed: bool) -> Failure {
    let state = if is_killed { "is still being killed" } else { "runs" };
    FailureKind::AlreadyAlive.with(format!(
        "the name `{name}` is taken: {by} {state}; kill it first, wait until it is gone, or choose another name"
    ))
}

/// Longest wait of a kill or a rebalance, in seconds: seven days.
pub const MOST_WAIT_SECS: u64 = 7 * 24 * 3600;

/// Checks how long what is pending may take to finish, in seconds; `None` is the topology's message time-out.
///
/// # Errors
/// In a sentence, if that is longer than [`MOST_WAIT_SECS`].
pub fn check_wait(wait_secs: Option<u64>) -> Result<(), String> {
    match wait_secs.filter(|secs| *secs > MOST_WAIT_SECS) {
        None => Ok(()),
        Some(secs) => {
            Err(format!("a wait of {secs} s is longer than seven days: 0 to {MOST_WAIT_SECS} s are possible"))
        }
    }
}

/// `POST /v1/topologies/ID/kill`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// How long it may drain, in seconds, at most [`MOST_WAIT_SECS`]; `None` for the message time-out.
    pub wait_secs: Option<u64>,
}

/// `POST /v1/topologies/ID/rebalance`: what is not said stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalance {
    /// How long it may drain, in seconds, at most [`MOST_WAIT_SECS`]; `None` for the message time-out.
    pub wait_secs: Option<u64>,
    /// How many workers it shall have, 1 or more.
    pub workers: Option<u16>,
    /// How many executors components shall have, 1 up to their tasks.
    #[serde(deserialize_with = "crate::object::executors")]
    pub executors: BTreeMap<String, u32>,
}

/// A blob that Nimbus has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Its name.
    pub hash: BlobHash,
    /// Its length in bytes, as far as it is there.
    pub bytes: u64,
    /// Whether all of it is there.
    pub complete: bool,
    /// The topologies that use it, and what as: `executable`, `graph`, or the file's name.
    pub used_by: BTreeMap<TopologyId, Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_more_than_seven_days_is_refused() {
        for wait in [None, Some(0), Some(604_800)] {
            assert_eq!(check_wait(wait), Ok(()));
        }
        for (secs, told) in [(604_801, "604801"), (u64::MAX, "18446744073709551615")] {
            let why = format!("a wait of {told} s is longer than seven days: 0 to 604800 s are possible");
            assert_eq!(check_wait(Some(secs)), Err(why));
        }
    }
}
