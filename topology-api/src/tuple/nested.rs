//! A tuple as a field of another tuple. Called by what `#[tuple]` writes.
//!
//! Not here: the fields themselves. Invariant: it takes at least one byte, even a tuple without fields.

use super::Tuple;
use super::convert::ConvertError;
use super::key::{Key, KeyBytes};
use super::value::Value;
use super::wire::{DecodeError, take};

/// Appends one byte 0 and the tuple's bytes.
#[inline]
pub fn encode<T: Tuple>(tuple: &T, out: &mut Vec<u8>) {
    out.push(0);
    tuple.encode(out);
}

/// Reads a tuple.
///
/// # Errors
/// If the bytes are not such a tuple.
#[inline]
pub fn decode<T: Tuple>(input: &mut &[u8]) -> Result<T, DecodeError> {
    match take(input)? {
        [0] => T::decode(input),
        [other] => Err(DecodeError::new(format!("a `{}` within a tuple begins with {other}", T::NAME))),
    }
}

/// A map by the fields' names.
pub fn into_value<T: Tuple>(tuple: T) -> Value {
    let names = T::FIELDS.iter().map(|name| Value::from(*name));
    Value::Map(names.zip(tuple.into_values()).collect())
}

/// The tuple of a map; a field that is missing counts as null.
///
/// # Errors
/// If the value is no map, has other fields, or a field's value has another type.
pub fn from_value<T: Tuple>(value: Value) -> Result<T, ConvertError> {
    let Value::Map(map) = &value else { return Err(ConvertError::expected(expected::<T>(), &value)) };
    let unknown = map.iter().any(|(key, _)| key.as_text().is_none_or(|key| !T::FIELDS.contains(&key)));
    if unknown {
        return Err(ConvertError::expected(expected::<T>(), &value));
    }
    T::from_values(T::FIELDS.iter().map(|name| map.get(name).cloned().unwrap_or(Value::Null)).collect())
}

/// The hash of a field that has no key.
pub fn hash_of_null(scratch: &mut KeyBytes) -> u64 {
    None::<bool>.hash_key(scratch)
}

fn expected<T: Tuple>() -> String {
    format!("a map of the fields of `{}` ({})", T::NAME, T::FIELDS.join(", "))
}
