//! What a worker is told and what it says: the border between a topology's executable and the daemons.
//!
//! A worker is started with a [launch file](launch::Launch), which says who it is, what runs where ([`plan::Placement`]) and
//! whom to report to. It says how it is in a [`Report`](report::Report) each second, and hears what to do in
//! an [`Answer`](answer::Answer). What its executable is, it says in [`Described`](describe::Described).
//!
//! Not here: how any of it travels (the Supervisor's socket, Nimbus's HTTP), and what follows from it. Invariant: each format
//! has a number, and golden bytes that say when it changes.

#![forbid(unsafe_code)]

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
