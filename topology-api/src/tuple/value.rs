//! Values without a static type, and tuples of them: what other languages, topologies that are data, and event views see.
//!
//! Not here: how typed fields turn into values (`field`). Invariant: every integer has one form (`Int` if it fits 64 bits),
//! and a map's entries are sorted by the canonical bytes of its keys, so equal values have equal bytes.
//!
//! # Bytes of a value
//! ```text
//! 0 null    1 false    2 true    3 i64    4 f64    5 length UTF-8 (text)    6 length bytes
//! 7 count values (list)    8 count (value value)×count (map)    9 u128 (wide, positive)    10 i128 (wide, negative)
//! ```
//! Numbers are little-endian, lengths and counts LEB128. A dynamic tuple is a count and its values. Lists and maps nested
//! deeper than [`MAX_DEPTH`] are refused.
//!
//! # JSON
//! Null, booleans, texts, lists, and maps whose keys are texts are themselves; so are finite floats and integers that fit 64
//! bits, signed or not. What JSON lacks is an object with one key: `{"$bytes": "00ff"}` (hexadecimal), `{"$int": "-1…"}`,
//! `{"$float": "NaN" | "inf" | "-inf"}`, `{"$map": [[key, value], …]}`; also a map of one text key that begins with `$` is
//! written so. A JSON object of one such key that holds something else is read as the map that it looks like.

use std::fmt;
use std::mem::size_of;

use super::convert::ConvertError;
use super::field::Field;
use super::key::{Key, KeyBytes};
use super::wire::{DecodeError, first_capacity, put_bytes, take, take_bytes, take_length, take_str};
use super::{Bytes, Text, Tuple};

/// How deep lists and maps may lie in each other on the wire.
pub const MAX_DEPTH: usize = 64;

/// A value of a dynamic tuple.
///
/// ```
/// use topology_api::tuple::Value;
///
/// let value = Value::from(vec![Value::from("a"), Value::from(7), Value::Null]);
/// assert_eq!(value.to_json().to_string(), r#"["a",7,null]"#);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: a field that is `None`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// An integer that does not; made by `Value::from`.
    Wide(Box<WideInt>),
    /// A float.
    Float(f64),
    /// A text.
    Text(Text),
    /// Bytes.
    Bytes(Bytes),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(ValueMap),
}

impl Value {
    /// The integer, if it is one that fits `i128`.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(i128::from(*value)),
            Value::Wide(wide) => match **wide {
                WideInt(Wide::Positive(value)) => i128::try_from(value).ok(),
                WideInt(Wide::Negative(value)) => Some(value),
            },
            _ => None,
        }
    }

    /// The integer, if it is one that is not negative.
    pub fn as_uint(&self) -> Option<u128> {
        match self {
            Value::Int(value) => u128::try_from(*value).ok(),
            Value::Wide(wide) => match **wide {
                WideInt(Wide::Positive(value)) => Some(value),
                WideInt(Wide::Negative(_)) => None,
            },
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as JSON; see the module on what JSON lacks.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        let only = |key: &str, value: Json| Json::Object([(key.to_owned(), value)].into_iter().collect());
        match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => Json::from(*value),
            Value::Wide(wide) => match wide.0 {
                Wide::Positive(value) if u64::try_from(value).is_ok() => Json::from(value as u64),
                _ => only("$int", Json::String(wide.to_string())),
            },
            Value::Float(value) => serde_json::Number::from_f64(*value)
                .map_or_else(|| only("$float", Json::String(value.to_string())), Json::Number),
            Value::Text(text) => Json::String(text.to_string()),
            Value::Bytes(bytes) => only("$bytes", Json::String(hex(bytes))),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect()),
            Value::Map(map) => match map.text_keys() {
                Some(entries) => Json::Object(entries.map(|(key, value)| (key.to_owned(), value.to_json())).collect()),
                None => {
                    let pair = |(key, value): &(Value, Value)| Json::Array(vec![key.to_json(), value.to_json()]);
                    only("$map", Json::Array(map.0.iter().map(pair).collect()))
                }
            },
        }
    }

    /// The value that JSON stands for.
    pub fn from_json(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(value),
            Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), _, _) => Value::Int(value),
                (_, Some(value), _) => Value::from(value),
                (_, _, value) => Value::Float(value.unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text.into()),
            Json::Array(items) => Value::List(items.into_iter().map(Value::from_json).collect()),
            Json::Object(entries) => match what_json_lacks(&entries) {
                Some(value) => value,
                None => {
                    let entries = entries.into_iter();
                    Value::Map(entries.map(|(key, value)| (Value::from(key), Value::from_json(value))).collect())
                }
            },
        }
    }

    fn decode_at(input: &mut &[u8], depth: usize) -> Result<Self, DecodeError> {
        let [tag] = take(input)?;
        if matches!(tag, 7 | 8) && depth >= MAX_DEPTH {
            return Err(DecodeError::new(format!(
                "a value has more than {MAX_DEPTH} lists and maps within each other"
            )));
        }
        Ok(match tag {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Int(i64::decode(input)?),
            4 => Value::Float(f64::decode(input)?),
            5 => Value::Text(Text::new(take_str(input)?)),
            6 => Value::Bytes(Bytes::copy_from_slice(take_bytes(input)?)),
            7 => Value::List(decode_list(input, depth + 1)?),
            8 => {
                let count = take_length(input)?;
                let entry = |_| Ok((Value::decode_at(input, depth + 1)?, Value::decode_at(input, depth + 1)?));
                Value::Map((0..count).map(entry).collect::<Result<_, _>>()?)
            }
            9 => Value::from(u128::decode(input)?),
            10 => Value::from(i128::decode(input)?),
            tag => return Err(DecodeError::new(format!("a value has the unknown tag {tag}"))),
        })
    }
}

/// A value in a few words: `the text "abc"`, `the integer 7`, `a list of 3`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "the bool {value}"),
            Value::Int(value) => write!(f, "the integer {value}"),
            Value::Wide(value) => write!(f, "the integer {value}"),
            Value::Float(value) => write!(f, "the float {value:?}"),
            Value::Text(text) => {
                let shown: String = text.chars().take(SHOWN).collect();
                let more = if shown.len() < text.len() { "…" } else { "" };
                write!(f, "the text {shown:?}{more}")
            }
            Value::Bytes(bytes) => write!(f, "bytes ({})", bytes.len()),
            Value::List(items) => write!(f, "a list of {}", items.len()),
            Value::Map(map) => write!(f, "a map of {}", map.len()),
        }
    }
}

impl Field for Value {
    const HAS_HEAP: bool = true;

    fn heap_size(&self) -> usize {
        match self {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
            Value::Wide(_) => size_of::<WideInt>(),
            Value::Text(text) => text.heap_size(),
            Value::Bytes(bytes) => bytes.heap_size(),
            Value::List(items) => items.heap_size(),
            Value::Map(map) => map.0.heap_size(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.push(0),
            Value::Bool(value) => out.push(1 + u8::from(*value)),
            Value::Int(value) => {
                out.push(3);
                value.encode(out);
            }
            Value::Float(value) => {
                out.push(4);
                value.encode(out);
            }
            Value::Text(text) => {
                out.push(5);
                put_bytes(text.as_bytes(), out);
            }
            Value::Bytes(bytes) => {
                out.push(6);
                put_bytes(bytes, out);
            }
            Value::List(items) => {
                out.push(7);
                items.encode(out);
            }
            Value::Map(map) => {
                out.push(8);
                map.0.encode(out);
            }
            Value::Wide(wide) => match wide.0 {
                Wide::Positive(value) => {
                    out.push(9);
                    value.encode(out);
                }
                Wide::Negative(value) => {
                    out.push(10);
                    value.encode(out);
                }
            },
        }
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Value::decode_at(input, 0)
    }

    fn into_value(self) -> Value {
        self
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        Ok(value)
    }
}

impl Key for Value {
    fn write_key(&self, key: &mut KeyBytes) {
        match self {
            Value::Null => key.null(),
            Value::Bool(value) => key.bool(*value),
            Value::Int(value) => key.int(*value),
            Value::Wide(wide) => match wide.0 {
                Wide::Positive(value) => key.uint_wide(value),
                Wide::Negative(value) => key.int_wide(value),
            },
            Value::Float(value) => key.float(*value),
            Value::Text(text) => key.text(text),
            Value::Bytes(bytes) => key.bytes(bytes),
            Value::List(items) => items.write_key(key),
            Value::Map(map) => {
                key.begin_map(map.len());
                for (name, value) in &map.0 {
                    name.write_key(key);
                    value.write_key(key);
                }
            }
        }
    }

    #[inline]
    fn hash_key(&self, scratch: &mut KeyBytes) -> u64 {
        match self {
            Value::Int(value) => value.hash_key(scratch),
            Value::Text(text) => text.hash_key(scratch),
            Value::Bytes(bytes) => bytes.hash_key(scratch),
            other => {
                scratch.clear();
                other.write_key(scratch);
                scratch.hash()
            }
        }
    }
}

/// An integer that does not fit 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WideInt(Wide);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wide {
    /// Above `i64::MAX`.
    Positive(u128),
    /// Below `i64::MIN`.
    Negative(i128),
}

impl fmt::Display for WideInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Wide::Positive(value) => value.fmt(f),
            Wide::Negative(value) => value.fmt(f),
        }
    }
}

/// A map of values, sorted by the canonical bytes of its keys. Collected from pairs; of equal keys the last one stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValueMap(Vec<(Value, Value)>);

impl ValueMap {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a text key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
    }

    /// The entries, by the canonical bytes of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Value, &Value)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The entries, if the map can be written as a JSON object.
    fn text_keys(&self) -> Option<impl Iterator<Item = (&str, &Value)>> {
        let texts = self.0.iter().all(|(key, _)| key.as_text().is_some());
        let marked = matches!(&self.0[..], [(key, _)] if key.as_text().is_some_and(|key| key.starts_with('$')));
        (texts && !marked).then(|| self.0.iter().filter_map(|(key, value)| Some((key.as_text()?, value))))
    }
}

impl FromIterator<(Value, Value)> for ValueMap {
    fn from_iter<I: IntoIterator<Item = (Value, Value)>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries.into_iter().map(|entry| (KeyBytes::of(&entry.0), entry)).collect();
        // Stable, and reversed before it: the last of equal keys comes first, and is the one that dedup leaves.
        entries.reverse();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|a, b| a.0 == b.0);
        ValueMap(entries.into_iter().map(|(_, entry)| entry).collect())
    }
}

impl IntoIterator for ValueMap {
    type Item = (Value, Value);
    type IntoIter = std::vec::IntoIter<(Value, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

macro_rules! from {
    ($($type:ty: |$value:ident| $made:expr;)*) => {$(
        impl From<$type> for Value {
            #[inline]
            fn from($value: $type) -> Self {
                $made
            }
        }
    )*};
}

from! {
    (): |_unit| Value::Null;
    bool: |value| Value::Bool(value);
    i8: |value| Value::Int(i64::from(value));
    i16: |value| Value::Int(i64::from(value));
    i32: |value| Value::Int(i64::from(value));
    i64: |value| Value::Int(value);
    isize: |value| Value::Int(value as i64);
    u8: |value| Value::Int(i64::from(value));
    u16: |value| Value::Int(i64::from(value));
    u32: |value| Value::Int(i64::from(value));
    u64: |value| Value::from(u128::from(value));
    usize: |value| Value::from(value as u128);
    f32: |value| Value::Float(f64::from(value));
    f64: |value| Value::Float(value);
    char: |value| Value::Text(Text::from(value));
    &str: |value| Value::Text(Text::new(value));
    String: |value| Value::Text(Text::from(value));
    Text: |value| Value::Text(value);
    Bytes: |value| Value::Bytes(value);
    &[u8]: |value| Value::Bytes(Bytes::copy_from_slice(value));
    Vec<u8>: |value| Value::Bytes(Bytes::from(value));
    Vec<Value>: |value| Value::List(value);
    ValueMap: |value| Value::Map(value);
}

impl From<u128> for Value {
    #[inline]
    fn from(value: u128) -> Self {
        match i64::try_from(value) {
            Ok(value) => Value::Int(value),
            Err(_) => Value::Wide(Box::new(WideInt(Wide::Positive(value)))),
        }
    }
}

impl From<i128> for Value {
    #[inline]
    fn from(value: i128) -> Self {
        match (i64::try_from(value), u128::try_from(value)) {
            (Ok(value), _) => Value::Int(value),
            (_, Ok(value)) => Value::from(value),
            _ => Value::Wide(Box::new(WideInt(Wide::Negative(value)))),
        }
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// A tuple without a static type: the values of a stream's fields, in their order.
///
/// ```
/// use topology_api::tuple::Value;
/// use topology_api::values;
///
/// let tuple = values!["word", 7, 0.5];
/// assert_eq!(tuple.get(1), Some(&Value::Int(7)));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(Vec<Value>);

impl Values {
    /// The value of the field at `index`.
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.0.get(index)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Value> {
        self.0.iter()
    }

    /// The values, one for each field of a tuple.
    ///
    /// # Errors
    /// If there are more or fewer.
    #[doc(hidden)]
    pub fn into_fields<const N: usize>(
        self,
        tuple: &'static str,
        fields: &'static [&'static str],
    ) -> Result<[Value; N], ConvertError> {
        self.0.try_into().map_err(|values: Vec<Value>| ConvertError::Count {
            tuple,
            expected: fields,
            found: values.len(),
        })
    }
}

impl From<Vec<Value>> for Values {
    fn from(values: Vec<Value>) -> Self {
        Values(values)
    }
}

impl FromIterator<Value> for Values {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        Values(values.into_iter().collect())
    }
}

impl IntoIterator for Values {
    type Item = Value;
    type IntoIter = std::vec::IntoIter<Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl std::ops::Index<usize> for Values {
    type Output = Value;

    fn index(&self, index: usize) -> &Value {
        &self.0[index]
    }
}

/// A dynamic tuple: `values!["word", 7, 0.5]`. Each value is anything that `Value::from` takes.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        $crate::tuple::Values::from(::std::vec![$($crate::tuple::Value::from($value)),*])
    };
}

impl Tuple for Values {
    const NAME: &'static str = "Values";
    const FIELDS: &'static [&'static str] = &[];
    const HAS_HEAP: bool = true;

    fn heap_size(&self) -> usize {
        self.0.heap_size()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        decode_list(input, 0).map(Values)
    }

    fn into_values(self) -> Values {
        self
    }

    fn from_values(values: Values) -> Result<Self, ConvertError> {
        Ok(values)
    }

    /// A field that the tuple has not got is null.
    fn write_key(&self, field: usize, key: &mut KeyBytes) {
        match self.0.get(field) {
            Some(value) => value.write_key(key),
            None => key.null(),
        }
    }

    #[inline]
    fn hash_key(&self, field: usize, scratch: &mut KeyBytes) -> u64 {
        self.0.get(field).hash_key(scratch)
    }
}

fn decode_list(input: &mut &[u8], depth: usize) -> Result<Vec<Value>, DecodeError> {
    let count = take_length(input)?;
    let mut items = Vec::with_capacity(first_capacity::<Value>(count, input));
    for _ in 0..count {
        items.push(Value::decode_at(input, depth)?);
    }
    Ok(items)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

fn unhex(text: &str) -> Option<Bytes> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes.map(Bytes::from) } else { None }
}

/// The value of a JSON object with one key that stands for what JSON lacks.
fn what_json_lacks(entries: &serde_json::Map<String, serde_json::Value>) -> Option<Value> {
    let (key, value) = entries.iter().next().filter(|_| entries.len() == 1)?;
    match (key.as_str(), value) {
        ("$bytes", serde_json::Value::String(text)) => unhex(text).map(Value::Bytes),
        ("$int", serde_json::Value::String(text)) => {
            text.parse::<i128>().map(Value::from).or_else(|_| text.parse::<u128>().map(Value::from)).ok()
        }
        ("$float", serde_json::Value::String(text)) => {
            matches!(text.as_str(), "NaN" | "inf" | "-inf").then(|| text.parse().ok().map(Value::Float)).flatten()
        }
        ("$map", serde_json::Value::Array(pairs)) => {
            let pair = |pair: &serde_json::Value| match pair.as_array().map(Vec::as_slice) {
                Some([key, value]) => Some((Value::from_json(key.clone()), Value::from_json(value.clone()))),
                _ => None,
            };
            pairs.iter().map(pair).collect::<Option<ValueMap>>().map(Value::Map)
        }
        _ => None,
    }
}
