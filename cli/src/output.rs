//! Standard output, for what was asked for; standard error, for all else.
//!
//! Not here: log lines of daemons (`daemon::logs`). Invariant: a reader that has read enough is no failure.

use std::io::{self, Write};

use serde::Serialize;

use crate::exit::{Exit, Refusal};

/// Prints to standard output, as it is.
///
/// # Errors
/// If it cannot be written; a closed pipe is none.
pub(crate) fn data(text: &str) -> Result<(), Refusal> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Refusal::new(Exit::Failed, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints JSON of several lines.
///
/// # Errors
/// As [`data`].
pub(crate) fn json(value: &impl Serialize) -> Result<(), Refusal> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Refusal::new(Exit::Failed, format!("cannot print the answer as JSON: {error}")))?;
    data(&(text + "\n"))
}

/// Says something to standard error.
pub(crate) fn say(message: &str) {
    // Nobody is left to be told that standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{message}");
}
