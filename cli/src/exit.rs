//! The numbers that `storm` ends with, and why it did not do what it was asked.
//!
//! Not here: the words of others (`nimbus_api`, `daemon`). Invariant: the table in the help is this one.

use std::process::ExitCode;

use daemon::configuration::ConfigurationError;
use nimbus_api::client::ClientError;
use nimbus_api::failure::FailureKind;

/// The number that the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All went well.
    Done = 0,
    /// It was tried, and failed.
    Failed = 1,
    /// A mistake in arguments or configuration (`EX_USAGE` of BSD's sysexits).
    Usage = 64,
    /// What was submitted cannot run here (`EX_DATAERR`).
    Unfit = 65,
    /// A file is missing, or may not be read (`EX_NOINPUT`).
    NoInput = 66,
    /// No Nimbus answers or leads, or the cluster state is away (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// Whether it was done is not known: to be looked for before it is done again (`EX_TEMPFAIL`).
    Unanswered = 75,
    /// Ended at once by a second Ctrl-C: 128 + SIGINT.
    Interrupted = 130,
    /// Ended at once by a second SIGTERM: 128 + SIGTERM.
    Terminated = 143,
}

/// The table for the help.
pub(crate) const TABLE: &str = "\
Ends with:
  0         all went well; a daemon has ended in order
  1         it was tried, and failed
  64        a mistake in arguments or configuration
  65        what was submitted cannot run here
  66        a file is missing, or may not be read
  69        no Nimbus answers or leads, or the cluster state is away
  75        no answer came: whether it was done is not known, `storm list` shows it
  130, 143  a daemon was ended at once by a second Ctrl-C, a second SIGTERM";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why it did not do it: one message for a person, one number for a script.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// The number.
    pub(crate) exit: Exit,
    message: String,
}

impl Refusal {
    /// What was attempted, what was found, what to do.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Refusal { exit, message: message.into() }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unreachable(_) => Exit::Unavailable,
            ClientError::Refused(failure) => match failure.kind {
                FailureKind::NotLeader | FailureKind::NoClusterState => Exit::Unavailable,
                FailureKind::Unanswered => Exit::Unanswered,
                FailureKind::InvalidTopology => Exit::Unfit,
                _ => Exit::Failed,
            },
            ClientError::Garbled { .. } | ClientError::File(_) => Exit::Failed,
        };
        Refusal::new(exit, error.to_string())
    }
}

impl From<ConfigurationError> for Refusal {
    fn from(error: ConfigurationError) -> Self {
        let exit = match error {
            ConfigurationError::File { .. } => Exit::NoInput,
            ConfigurationError::Mistakes(_) | ConfigurationError::Setting(_) => Exit::Usage,
        };
        Refusal::new(exit, error.to_string())
    }
}
