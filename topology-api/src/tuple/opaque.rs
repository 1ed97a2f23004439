//! Fields of any serde type: `#[tuple(serde)]`.
//!
//! Not here: types that tuples know (`field`). Invariant: nothing but the tuple's own type reads these bytes, so they have
//! no key.
//!
//! # Bytes
//! `0 length postcard`, or if the sender's value did not serialize `1 length UTF-8`: the reason, which fails the tuple where
//! it is read. As a dynamic value it is what serde makes of it in JSON, or the postcard bytes if JSON cannot hold it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::ConvertError;
use super::value::Value;
use super::wire::{DecodeError, put_bytes, take, take_bytes, take_str};

/// A clone.
pub fn duplicate<T: Clone>(value: &T) -> T {
    value.clone()
}

/// What it takes on the wire, as its memory cannot be seen; in bytes.
pub fn heap_size<T: Serialize>(value: &T) -> usize {
    postcard::experimental::serialized_size(value).unwrap_or(0)
}

/// Appends the value's bytes.
pub fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    match postcard::to_stdvec(value) {
        Ok(bytes) => {
            out.push(0);
            put_bytes(&bytes, out);
        }
        Err(error) => {
            out.push(1);
            put_bytes(error.to_string().as_bytes(), out);
        }
    }
}

/// Reads a value.
///
/// # Errors
/// If the bytes are not such a value, or say why the sender could not serialize it.
pub fn decode<T: DeserializeOwned>(input: &mut &[u8]) -> Result<T, DecodeError> {
    match take(input)? {
        [0] => postcard::from_bytes(take_bytes(input)?)
            .map_err(|error| DecodeError::new(format!("the bytes are not a {}: {error}", short_name::<T>()))),
        [1] => {
            let reason = take_str(input)?;
            Err(DecodeError::new(format!("the sender could not serialize its {}: {reason}", short_name::<T>())))
        }
        [other] => Err(DecodeError::new(format!("a serde field begins with {other}"))),
    }
}

/// The value without its type.
pub fn into_value<T: Serialize>(value: &T) -> Value {
    match serde_json::to_value(value) {
        Ok(json) => Value::from_json(json),
        Err(_) => Value::Bytes(postcard::to_stdvec(value).unwrap_or_default().into()),
    }
}

/// The value of this type.
///
/// # Errors
/// If the dynamic value is none of this type.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, ConvertError> {
    let found = if let Value::Bytes(bytes) = &value {
        postcard::from_bytes(bytes).ok()
    } else {
        serde_json::from_value(value.to_json()).ok()
    };
    found.ok_or_else(|| ConvertError::expected(format!("what serde reads as {}", short_name::<T>()), &value))
}

fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    // Generic types keep their whole name: its last part would be a piece of a parameter.
    if name.contains('<') { name } else { name.rsplit("::").next().unwrap_or(name) }
}
