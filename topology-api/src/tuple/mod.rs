//! Tuples: what streams carry. Typed ones are structs with `#[tuple]`, dynamic ones are [`Values`].
//!
//! Not here: streams, batches and where tuples go. Invariant: a tuple's bytes on the wire and the canonical bytes of its keys
//! are the same on every machine.

mod convert;
mod field;
mod key;
#[doc(hidden)]
pub mod nested;
#[doc(hidden)]
pub mod opaque;
mod shared;
mod text;
mod token;
mod value;
mod wire;

pub use bytes::Bytes;
pub use topology_macros::tuple;

pub use crate::values;

pub use convert::ConvertError;
pub use field::Field;
pub use key::{KEY_GROUPS, Key, KeyBytes, KeyGroup};
pub use shared::Shared;
pub use text::Text;
pub use token::{FieldOf, FieldTokens};
pub use value::{MAX_DEPTH, Value, ValueMap, Values, WideInt};
pub use wire::DecodeError;

/// What a stream carries: a struct with `#[tuple]`, [`Values`], or [`Shared`] of one of these.
///
/// ```
/// # extern crate topology_api as storm;
/// use storm::prelude::*;
/// use storm::tuple::Tuple;
///
/// #[tuple]
/// #[derive(Debug, PartialEq)]
/// struct Word {
///     word: Text,
///     count: u32,
/// }
///
/// let mut bytes = Vec::new();
/// let tuple = Word { word: "a".into(), count: 7 };
/// Tuple::encode(&tuple, &mut bytes);
/// assert_eq!(bytes, [1, b'a', 7, 0, 0, 0]);
/// assert_eq!(Word::from_values(values!["a", 7]), Ok(tuple));
/// assert_eq!(Word::COUNT.name(), "count");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple",
    label = "not something that a stream carries",
    note = "add #[tuple] to the struct"
)]
pub trait Tuple: Clone + Send + Sync + 'static {
    /// The type's name, as its author wrote it.
    const NAME: &'static str;

    /// The fields' names, in order; none for [`Values`], whose stream names them.
    const FIELDS: &'static [&'static str];

    /// The fields that have no key (`#[tuple(serde)]`): nothing can be grouped by them.
    const OPAQUE_FIELDS: &'static [&'static str] = &[];

    /// Whether `heap_size` can be other than zero.
    const HAS_HEAP: bool;

    /// Memory beyond `size_of::<Self>()`, in bytes; what several tuples share counts for each of them.
    fn heap_size(&self) -> usize;

    /// Appends the tuple's bytes: its fields, one after the other.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads a tuple off the front of `input`, with no more memory than a small multiple of the input's length.
    ///
    /// # Errors
    /// If the bytes are not such a tuple; the text names the field.
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError>;

    /// The tuple without its type.
    fn into_values(self) -> Values;

    /// The tuple of this type.
    ///
    /// # Errors
    /// If the number or the types of the values differ; the text names the field.
    fn from_values(values: Values) -> Result<Self, ConvertError>;

    /// Appends the canonical bytes of the field at `field`; null if there is none, or an opaque one.
    fn write_key(&self, field: usize, key: &mut KeyBytes);

    /// The hash of the key that the field at `field` is; `scratch` is used if its canonical bytes are needed.
    #[inline]
    fn hash_key(&self, field: usize, scratch: &mut KeyBytes) -> u64 {
        scratch.clear();
        self.write_key(field, scratch);
        scratch.hash()
    }

    /// Appends the key of several fields: the field itself if it is one, else the list of them.
    #[inline]
    fn write_key_of(&self, fields: &[usize], key: &mut KeyBytes) {
        key.begin_fields(fields.len());
        fields.iter().for_each(|field| self.write_key(*field, key));
    }

    /// The hash of the key of several fields.
    #[inline]
    fn hash_key_of(&self, fields: &[usize], scratch: &mut KeyBytes) -> u64 {
        if let [field] = fields {
            return self.hash_key(*field, scratch);
        }
        scratch.clear();
        self.write_key_of(fields, scratch);
        scratch.hash()
    }
}
