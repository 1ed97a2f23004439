//! Why a dynamic tuple is not the typed one that a bolt takes.
//!
//! Not here: converting (`field`, and what `#[tuple]` writes). Invariant: the text says what was expected and what was found.

use std::borrow::Cow;

use super::value::Value;

/// A dynamic tuple or value that is not of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The number of values is another one than that of the fields.
    #[error("`{tuple}` has {} ({}), but {found} values came", fields(.expected.len()), .expected.join(", "))]
    Count {
        /// The wanted tuple.
        tuple: &'static str,
        /// Its fields.
        expected: &'static [&'static str],
        /// How many values there are.
        found: usize,
    },
    /// A field's value has another type.
    #[error("field `{field}` of `{tuple}` takes {expected}, but {found} came")]
    Field {
        /// The wanted tuple.
        tuple: &'static str,
        /// The field.
        field: &'static str,
        /// What the field takes.
        expected: Cow<'static, str>,
        /// The value, shortened.
        found: String,
    },
    /// A value has another type.
    #[error("expected {expected}, but {found} came")]
    Value {
        /// What was wanted.
        expected: Cow<'static, str>,
        /// The value, shortened.
        found: String,
    },
}

impl ConvertError {
    /// An error about a value that is not what was expected.
    #[cold]
    pub fn expected(expected: impl Into<Cow<'static, str>>, found: &Value) -> Self {
        ConvertError::Value { expected: expected.into(), found: found.to_string() }
    }

    /// Says which field it is about; the innermost field stays.
    #[cold]
    #[must_use]
    pub fn in_field(self, tuple: &'static str, field: &'static str) -> Self {
        match self {
            ConvertError::Value { expected, found } => ConvertError::Field { tuple, field, expected, found },
            other => other,
        }
    }
}

fn fields(count: usize) -> String {
    match count {
        0 => "no fields".to_owned(),
        1 => "one field".to_owned(),
        _ => format!("{count} fields"),
    }
}
