//! What a component returns when something goes wrong, and whether trying again can help.
//!
//! Not here: why a root failed, as its spout hears it (`fail`). Invariant: whatever `?` turns into an [`Error`] may be
//! retried; only who says so makes it fatal.

use std::fmt;

/// The result of everything that a component does.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The tuple fails, so its spout may replay it; in `open`, `prepare` and `next` the call is made again after a pause.
    Retry,
    /// No retry helps: the component stops, and with it a local run; a cluster starts the worker anew.
    Fatal,
}

/// An error of a component. Any `std` error becomes a retryable one by `?`.
///
/// ```
/// # use topology_api::error::{Error, Result, Severity};
/// fn parse(text: &str) -> Result<u32> {
///     let number: u32 = text.parse()?;
///     if number == 0 { Err(Error::fatal("zero was configured")) } else { Ok(number) }
/// }
/// assert_eq!(parse("x").unwrap_err().severity(), Severity::Retry);
/// assert_eq!(parse("0").unwrap_err().severity(), Severity::Fatal);
/// ```
pub struct Error {
    severity: Severity,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error after which trying again may help.
    pub fn retry(message: impl fmt::Display) -> Self {
        Error { severity: Severity::Retry, message: message.to_string(), source: None }
    }

    /// An error after which no retry helps.
    pub fn fatal(message: impl fmt::Display) -> Self {
        Error { severity: Severity::Fatal, message: message.to_string(), source: None }
    }

    /// The same error, but fatal.
    pub fn into_fatal(self) -> Self {
        Error { severity: Severity::Fatal, ..self }
    }

    /// Whether trying again may help.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The error that it was made from by `?`, whose own causes follow; none if it is only words.
    pub fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Says what was attempted when an error passes by.
pub trait Attempt<T> {
    /// The error with `what` in front: "what: error".
    ///
    /// # Errors
    /// The same as `self`, with more words.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            Error { message: format!("{}: {}", what(), error.message), ..error }
        })
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Error { severity: Severity::Retry, message: error.to_string(), source: Some(Box::new(error)) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().and_then(|source| source.source());
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.severity)
    }
}
