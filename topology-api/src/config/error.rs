//! What can be wrong with a configuration, in the words that its writer reads.
//!
//! Not here: the rules themselves (`Config::check`). Invariant: every message names the key and where it came from, and no
//! message has the value of a secret in it.

use std::fmt;

use serde_json::Value;

use super::Origin;
use super::keys::{self, KeyInfo};

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The key begins as Storm's do, but there is none of that name.
    #[error("unknown key `{key}` in {origin}; {}", advice(key, *.suggestion))]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The key that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// A map within a map where one flat key is meant.
    #[error("`{key}` in {origin} holds a map; write its keys flat, such as `{flat}: …`")]
    NestedKey {
        /// The key as it was written.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The first key in the map, written flat.
        flat: String,
    },
    /// The value is of another type, or out of range.
    #[error("`{key}` in {origin} takes {expected}, found {found}")]
    WrongValue {
        /// The key.
        key: &'static str,
        /// Where it stands.
        origin: Origin,
        /// What it takes.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The key cannot be set for a single component.
    #[error("`{key}` in {origin} cannot be set for a component, as {why}")]
    NotOfComponents {
        /// The key.
        key: &'static str,
        /// The component.
        origin: Origin,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The text is no YAML, or breaks its limits.
    #[error("cannot read {origin} as YAML: {reason}")]
    Malformed {
        /// The file.
        origin: Origin,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A file whose outermost value is no map.
    #[error("{origin} must be a map of keys to values, found {found}")]
    NotAMap {
        /// The file.
        origin: Origin,
        /// What was found.
        found: String,
    },
    /// A `-c` without a key or without `=`.
    #[error("`-c` takes KEY=VALUE, found `{found}`")]
    NotAnAssignment {
        /// What was found.
        found: String,
    },
}

fn advice(key: &str, suggestion: Option<&str>) -> String {
    match (suggestion, keys::storms_prefix(key)) {
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, Some(prefix)) => format!("all keys that begin with `{prefix}` are Storm's, so name your own otherwise"),
        (None, None) => "name it otherwise".to_owned(),
    }
}

/// What was found, in words; a secret's value stays out of them.
pub(super) fn describe(value: &Value, key: Option<&KeyInfo>) -> String {
    const SHOWN_CHARS: usize = 64;
    let secret = key.is_some_and(KeyInfo::is_secret);
    match value {
        Value::Null => "no value".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::Number(_) if secret => "a number".to_owned(),
        Value::String(_) if secret => "text".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().nth(SHOWN_CHARS).is_some() => {
            format!("the text {:?} and more", text.chars().take(SHOWN_CHARS).collect::<String>())
        }
        Value::String(text) => format!("the text {text:?}"),
    }
}

/// All mistakes of a configuration, each once; prints one on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok` if there are none.
    pub(super) fn unless_empty(errors: Vec<ConfigError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    /// The mistakes, at least one.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl IntoIterator for ConfigErrors {
    type Item = ConfigError;
    type IntoIter = std::vec::IntoIter<ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
