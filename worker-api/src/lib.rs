//! What a worker is told and what it says: the border between a topology's executable and the daemons.
//!
//! A worker is started with a [launch file](launch::Launch), which says who it is, what runs where ([`plan::Placement`]) and
//! whom to report to. It says how it is in a [`Report`](report::Report) each second, and hears what to do in
//! an [`Answer`](answer::Answer). What its executable is, it says in [`Described`](describe::Described).
//!
//! Not here: how any of it travels (the Supervisor's socket, Nimbus's HTTP), and what follows from it. Invariant: each format
//! has a number, and golden bytes that say when it changes.

#![forbid(unsafe_code)]

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub mod answer;
pub mod describe;
pub mod ids;
pub mod launch;
pub mod plan;
pub mod report;
pub mod secret;

/// Refuses another format than ours, in words that say what to do. `what` names the thing: "launch file".
///
/// # Errors
/// If `found` is not `ours`.
pub fn check_format(what: &'static str, ours: u32, found: u32) -> Result<(), WrongFormat> {
    if found == ours { Ok(()) } else { Err(WrongFormat { what, ours, found }) }
}

/// Reads JSON that begins with its format's number, of which only `ours` is understood. `what` names the thing.
///
/// # Errors
/// If it has another format, whatever else it holds, or does not hold what that format says.
pub fn read_json<T: DeserializeOwned>(what: &'static str, ours: u32, json: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let malformed = |error| Unreadable::Malformed { what, error };
    let Format { format } = serde_json::from_slice(json).map_err(malformed)?;
    check_format(what, ours, format)?;
    serde_json::from_slice(json).map_err(malformed)
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It was written by another version.
    #[error(transparent)]
    WrongFormat(#[from] WrongFormat),
    /// It is not what its format says.
    #[error("the {what} cannot be read: {error}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// What is wrong, and where.
        error: serde_json::Error,
    },
}

/// Something was written by another version of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {what} has format {found}, and this is built for format {ours}; build the topology and the daemons with the same version"
)]
pub struct WrongFormat {
    /// What has it.
    pub what: &'static str,
    /// The number that is understood here.
    pub ours: u32,
    /// The number that was found.
    pub found: u32,
}
