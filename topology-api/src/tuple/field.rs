//! What a tuple's fields can be, and how each is written on the wire and turned into a dynamic value.
//!
//! Not here: the canonical bytes of keys (`key`) and fields of any serde type (`opaque`). Invariant: a field takes at least
//! one byte on the wire, so a count greater than the bytes that are left is refused before anything is allocated.
//!
//! # Bytes of a field
//! ```text
//! integers, floats         their own width, little-endian; usize and isize as 64 bits
//! bool                     one byte, 0 or 1
//! char                     u32
//! text, bytes              length, bytes
//! Option                   0, or 1 and the value
//! Vec, sets                count, items
//! maps                     count, (key value)×count
//! [T; N]                   its items; one byte 0 if N is 0
//! pairs, up to four        their parts
//! Box, Arc                 what is in them
//! Duration                 u64 seconds, u32 nanoseconds
//! SystemTime               i64 seconds since 1970 (rounded down), u32 nanoseconds
//! a tuple within a tuple   one byte 0, its fields
//! ```
//! Lengths and counts are LEB128. Hash maps and sets are written in the order of their keys' bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::mem::size_of;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::convert::ConvertError;
use super::key::{Key, KeyBytes};
use super::value::{Value, ValueMap};
use super::wire::{DecodeError, first_capacity, put_bytes, put_length, take, take_bytes, take_length, take_str};
use super::{Bytes, Text};

/// A type that a tuple's field can have.
///
/// One's own type becomes one by implementing this, which is seldom needed: a struct with `#[tuple]` is a field too, and
/// `#[tuple(serde)]` on a field takes any serde type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a tuple",
    label = "not a type that tuples carry",
    note = "fields are numbers, bool, char, `Text`, `String`, `Bytes`, `Value`, times, structs with #[tuple], and Option, Vec, arrays, maps, sets and pairs of these",
    note = "any other type that implements serde's Serialize and Deserialize: write #[tuple(serde)] above the field"
)]
pub trait Field: Key + Clone + Send + Sync + 'static {
    /// Whether `heap_size` can be other than zero. Those that hold others ask them all, even if the answer is known: so a
    /// tuple that contains itself, whose bytes could nest without bound, does not compile.
    const HAS_HEAP: bool;

    /// Memory beyond `size_of::<Self>()`, in bytes; what several share counts for each of them.
    fn heap_size(&self) -> usize;

    /// Appends the value's bytes: at least one.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads a value off the front of `input`.
    ///
    /// # Errors
    /// If the bytes are not such a value.
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError>;

    /// The value without its type.
    fn into_value(self) -> Value;

    /// The value of this type.
    ///
    /// # Errors
    /// If the dynamic value is none of this type.
    fn from_value(value: Value) -> Result<Self, ConvertError>;

    /// Appends the bytes of all items, without a count. Numbers are copied in bulk.
    #[doc(hidden)]
    #[inline]
    fn encode_slice(slice: &[Self], out: &mut Vec<u8>) {
        slice.iter().for_each(|item| item.encode(out));
    }

    /// Reads `count` items.
    #[doc(hidden)]
    #[inline]
    fn decode_vec(count: usize, input: &mut &[u8]) -> Result<Vec<Self>, DecodeError> {
        let mut items = Vec::with_capacity(first_capacity::<Self>(count, input));
        for _ in 0..count {
            items.push(Self::decode(input)?);
        }
        Ok(items)
    }

    /// Reads `N` items.
    #[doc(hidden)]
    #[inline]
    fn decode_array<const N: usize>(input: &mut &[u8]) -> Result<[Self; N], DecodeError> {
        let mut items = [const { None }; N];
        for item in &mut items {
            *item = Some(Self::decode(input)?);
        }
        Ok(items.map(|item| item.expect("every item was read above")))
    }

    /// All items as one dynamic value: a list, and bytes for `u8`.
    #[doc(hidden)]
    fn vec_into_value(items: Vec<Self>) -> Value {
        Value::List(items.into_iter().map(Self::into_value).collect())
    }

    /// The items of a dynamic value.
    #[doc(hidden)]
    fn vec_from_value(value: Value) -> Result<Vec<Self>, ConvertError> {
        match value {
            Value::List(items) => items.into_iter().map(Self::from_value).collect(),
            other => Err(ConvertError::expected("a list", &other)),
        }
    }

    /// A clone. The macro calls this and the next two, so that a type that is no field gives one message and not four.
    #[doc(hidden)]
    #[inline]
    fn duplicate(&self) -> Self {
        self.clone()
    }

    /// The key's bytes.
    #[doc(hidden)]
    #[inline]
    fn write_field_key(&self, key: &mut KeyBytes) {
        self.write_key(key);
    }

    /// The key's hash.
    #[doc(hidden)]
    #[inline]
    fn hash_field_key(&self, scratch: &mut KeyBytes) -> u64 {
        self.hash_key(scratch)
    }
}

/// What numbers have in common: no heap, and a fixed width that slices are copied by.
macro_rules! number {
    ($type:ty as $wire:ty) => {
        const HAS_HEAP: bool = false;

        #[inline]
        fn heap_size(&self) -> usize {
            0
        }

        #[inline]
        fn encode(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&(*self as $wire).to_le_bytes());
        }

        #[inline]
        fn encode_slice(slice: &[Self], out: &mut Vec<u8>) {
            const WIDTH: usize = size_of::<$wire>();
            let start = out.len();
            out.resize(start + slice.len() * WIDTH, 0);
            for (bytes, item) in out[start..].as_chunks_mut::<WIDTH>().0.iter_mut().zip(slice) {
                *bytes = (*item as $wire).to_le_bytes();
            }
        }
    };
}

/// Numbers whose every bit pattern is a value.
macro_rules! plain_number {
    ($type:ty) => {
        number!($type as $type);

        #[inline]
        fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
            take(input).map(<$type>::from_le_bytes)
        }

        #[inline]
        fn decode_vec(count: usize, input: &mut &[u8]) -> Result<Vec<Self>, DecodeError> {
            let (chunks, _) = input.as_chunks::<{ size_of::<$type>() }>();
            let Some(chunks) = chunks.get(..count) else { return Err(DecodeError::truncated()) };
            *input = &input[chunks.as_flattened().len()..];
            Ok(chunks.iter().map(|bytes| <$type>::from_le_bytes(*bytes)).collect())
        }

        #[inline]
        fn decode_array<const N: usize>(input: &mut &[u8]) -> Result<[Self; N], DecodeError> {
            let (chunks, _) = input.as_chunks::<{ size_of::<$type>() }>();
            let Some(chunks) = chunks.first_chunk::<N>() else { return Err(DecodeError::truncated()) };
            *input = &input[chunks.as_flattened().len()..];
            Ok(chunks.map(<$type>::from_le_bytes))
        }
    };
}

fn integer<T: TryFrom<i128>>(value: Value, expected: &'static str) -> Result<T, ConvertError> {
    value.as_int().and_then(|number| T::try_from(number).ok()).ok_or_else(|| ConvertError::expected(expected, &value))
}

macro_rules! integers {
    ($($type:ty: $expected:literal;)*) => {$(
        impl Field for $type {
            plain_number!($type);

            #[inline]
            fn into_value(self) -> Value {
                Value::from(self)
            }

            fn from_value(value: Value) -> Result<Self, ConvertError> {
                integer(value, $expected)
            }
        }
    )*};
}

integers! {
    i8: "an integer from -128 to 127";
    i16: "an integer from -32768 to 32767";
    i32: "an integer of 32 bits";
    i64: "an integer of 64 bits";
    i128: "an integer of 128 bits";
    u16: "an integer from 0 to 65535";
    u32: "an integer from 0 to 4294967295";
    u64: "an integer of 64 bits that is not negative";
}

impl Field for u128 {
    plain_number!(u128);

    fn into_value(self) -> Value {
        Value::from(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        value.as_uint().ok_or_else(|| ConvertError::expected("an integer of 128 bits that is not negative", &value))
    }
}

impl Field for u8 {
    const HAS_HEAP: bool = false;

    #[inline]
    fn heap_size(&self) -> usize {
        0
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        take(input).map(|[byte]| byte)
    }

    fn into_value(self) -> Value {
        Value::from(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        integer(value, "an integer from 0 to 255")
    }

    #[inline]
    fn encode_slice(slice: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(slice);
    }

    #[inline]
    fn decode_vec(count: usize, input: &mut &[u8]) -> Result<Vec<Self>, DecodeError> {
        super::wire::take_slice(input, count).map(<[u8]>::to_vec)
    }

    #[inline]
    fn decode_array<const N: usize>(input: &mut &[u8]) -> Result<[Self; N], DecodeError> {
        take(input)
    }

    fn vec_into_value(items: Vec<Self>) -> Value {
        Value::Bytes(items.into())
    }

    /// A list of integers is taken too: languages without a type for bytes send that.
    fn vec_from_value(value: Value) -> Result<Vec<Self>, ConvertError> {
        match value {
            Value::Bytes(bytes) => Ok(bytes.into()),
            Value::List(items) => items.into_iter().map(u8::from_value).collect(),
            other => Err(ConvertError::expected("bytes", &other)),
        }
    }
}

macro_rules! sizes {
    ($($type:ty as $wire:ty;)*) => {$(
        impl Field for $type {
            number!($type as $wire);

            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
                let number = take(input).map(<$wire>::from_le_bytes)?;
                Self::try_from(number)
                    .map_err(|_| DecodeError::new(format!("the size {number} does not fit this machine's words")))
            }

            fn into_value(self) -> Value {
                (self as $wire).into_value()
            }

            fn from_value(value: Value) -> Result<Self, ConvertError> {
                integer(value, "an integer that fits this machine's words")
            }
        }
    )*};
}

sizes! {
    usize as u64;
    isize as i64;
}

impl Field for f64 {
    plain_number!(f64);

    fn into_value(self) -> Value {
        Value::Float(self)
    }

    /// An integer is taken too if it has an exact float: other languages write 1 for 1.0.
    fn from_value(value: Value) -> Result<Self, ConvertError> {
        const EXACT: i64 = 1 << 53;
        match value {
            Value::Float(float) => Ok(float),
            Value::Int(int) if (-EXACT..=EXACT).contains(&int) => Ok(int as f64),
            other => Err(ConvertError::expected("a float", &other)),
        }
    }
}

impl Field for f32 {
    plain_number!(f32);

    fn into_value(self) -> Value {
        Value::Float(f64::from(self))
    }

    /// Rounds to the nearest `f32`.
    fn from_value(value: Value) -> Result<Self, ConvertError> {
        let wide = f64::from_value(value)?;
        let narrow = wide as f32;
        if narrow.is_infinite() && wide.is_finite() {
            return Err(ConvertError::expected("a float of 32 bits", &Value::Float(wide)));
        }
        Ok(narrow)
    }
}

impl Field for bool {
    const HAS_HEAP: bool = false;

    #[inline]
    fn heap_size(&self) -> usize {
        0
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        match take(input)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(DecodeError::new(format!("a bool is written as {other}"))),
        }
    }

    fn into_value(self) -> Value {
        Value::Bool(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        match value {
            Value::Bool(value) => Ok(value),
            other => Err(ConvertError::expected("a bool", &other)),
        }
    }
}

impl Field for char {
    const HAS_HEAP: bool = false;

    #[inline]
    fn heap_size(&self) -> usize {
        0
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        u32::from(*self).encode(out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let code = u32::decode(input)?;
        char::from_u32(code).ok_or_else(|| DecodeError::new(format!("{code:#x} is not a character")))
    }

    fn into_value(self) -> Value {
        Value::Text(Text::from(self))
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        if let Value::Text(text) = &value {
            let mut chars = text.chars();
            if let (Some(first), None) = (chars.next(), chars.next()) {
                return Ok(first);
            }
        }
        Err(ConvertError::expected("a text of one character", &value))
    }
}

impl Field for Text {
    const HAS_HEAP: bool = true;

    #[inline]
    fn heap_size(&self) -> usize {
        match self.shared_bytes() {
            0 => 0,
            bytes => bytes + ARC_HEADER,
        }
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        take_str(input).map(Text::new)
    }

    fn into_value(self) -> Value {
        Value::Text(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(ConvertError::expected("a text", &other)),
        }
    }
}

macro_rules! texts {
    ($($type:ty: |$text:ident| $heap:expr;)*) => {$(
        impl Field for $type {
            const HAS_HEAP: bool = true;

            #[inline]
            fn heap_size(&self) -> usize {
                let $text = self;
                $heap
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                put_bytes(self.as_bytes(), out);
            }

            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
                take_str(input).map(Self::from)
            }

            fn into_value(self) -> Value {
                Value::Text(Text::from(self))
            }

            fn from_value(value: Value) -> Result<Self, ConvertError> {
                Text::from_value(value).map(|text| Self::from(text.as_str()))
            }
        }
    )*};
}

texts! {
    String: |text| text.capacity();
    Arc<str>: |text| text.len() + ARC_HEADER;
}

impl Field for Bytes {
    const HAS_HEAP: bool = true;

    #[inline]
    fn heap_size(&self) -> usize {
        self.len()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        take_bytes(input).map(Bytes::copy_from_slice)
    }

    fn into_value(self) -> Value {
        Value::Bytes(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            other => u8::vec_from_value(other).map(Bytes::from),
        }
    }
}

impl<T: Field> Field for Option<T> {
    const HAS_HEAP: bool = T::HAS_HEAP;

    #[inline]
    fn heap_size(&self) -> usize {
        self.as_ref().map_or(0, T::heap_size)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(out);
        }
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        match take(input)? {
            [0] => Ok(None),
            [1] => T::decode(input).map(Some),
            [other] => Err(DecodeError::new(format!("an option begins with {other}"))),
        }
    }

    /// `None` is null; so is `Some(None)` of an option in an option.
    fn into_value(self) -> Value {
        self.map_or(Value::Null, T::into_value)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        match value {
            Value::Null => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    const HAS_HEAP: bool = true | T::HAS_HEAP;

    #[inline]
    fn heap_size(&self) -> usize {
        self.capacity() * size_of::<T>() + heap_of_items(self)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        T::encode_slice(self, out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let count = take_length(input)?;
        T::decode_vec(count, input)
    }

    fn into_value(self) -> Value {
        T::vec_into_value(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        T::vec_from_value(value)
    }
}

impl<T: Field> Field for Arc<[T]> {
    const HAS_HEAP: bool = true | T::HAS_HEAP;

    #[inline]
    fn heap_size(&self) -> usize {
        ARC_HEADER + size_of_val::<[T]>(self) + heap_of_items(&**self)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        T::encode_slice(self, out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Vec::decode(input).map(Arc::from)
    }

    fn into_value(self) -> Value {
        T::vec_into_value(self.to_vec())
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        T::vec_from_value(value).map(Arc::from)
    }
}

impl<T: Field, const N: usize> Field for [T; N] {
    const HAS_HEAP: bool = T::HAS_HEAP && N > 0;

    #[inline]
    fn heap_size(&self) -> usize {
        heap_of_items(self)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        if N == 0 {
            out.push(0);
        }
        T::encode_slice(self, out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        if N == 0 {
            take::<1>(input)?;
        }
        T::decode_array(input)
    }

    fn into_value(self) -> Value {
        T::vec_into_value(self.into())
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        let items = T::vec_from_value(value)?;
        items
            .try_into()
            .map_err(|items: Vec<T>| ConvertError::expected(format!("a list of {N}"), &T::vec_into_value(items)))
    }
}

macro_rules! parts {
    ($($count:literal: $($part:ident $index:tt),*;)*) => {$(
        impl<$($part: Field),*> Field for ($($part,)*) {
            const HAS_HEAP: bool = $($part::HAS_HEAP)||*;

            #[inline]
            fn heap_size(&self) -> usize {
                0 $(+ self.$index.heap_size())*
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)*
            }

            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
                Ok(($($part::decode(input)?,)*))
            }

            fn into_value(self) -> Value {
                Value::List(vec![$(self.$index.into_value()),*])
            }

            #[expect(non_snake_case, reason = "the types' names serve as the variables' names")]
            fn from_value(value: Value) -> Result<Self, ConvertError> {
                const EXPECTED: &str = concat!("a list of ", $count);
                let Value::List(items) = value else { return Err(ConvertError::expected(EXPECTED, &value)) };
                let [$($part),*]: [Value; $count] =
                    items.try_into().map_err(|items| ConvertError::expected(EXPECTED, &Value::List(items)))?;
                Ok(($($part::from_value($part)?,)*))
            }
        }
    )*};
}

parts! {
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
}

macro_rules! boxes {
    ($($type:ident: $header:expr;)*) => {$(
        impl<T: Field> Field for $type<T> {
            const HAS_HEAP: bool = true | T::HAS_HEAP;

            #[inline]
            fn heap_size(&self) -> usize {
                $header + size_of::<T>() + (**self).heap_size()
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                (**self).encode(out);
            }

            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
                T::decode(input).map($type::new)
            }

            fn into_value(self) -> Value {
                // The macro writes one body for both: an Arc that others hold too must be cloned.
                (*self).clone().into_value()
            }

            fn from_value(value: Value) -> Result<Self, ConvertError> {
                T::from_value(value).map($type::new)
            }
        }
    )*};
}

boxes! {
    Box: 0;
    Arc: ARC_HEADER;
}

impl Field for Duration {
    const HAS_HEAP: bool = false;

    fn heap_size(&self) -> usize {
        0
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_secs().encode(out);
        self.subsec_nanos().encode(out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let secs = u64::decode(input)?;
        Ok(Duration::new(secs, take_nanos(input)?))
    }

    /// An integer: nanoseconds.
    fn into_value(self) -> Value {
        Value::from(self.as_nanos())
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        value
            .as_uint()
            .and_then(duration_of_nanos)
            .ok_or_else(|| ConvertError::expected("nanoseconds, an integer that is not negative", &value))
    }
}

impl Field for SystemTime {
    const HAS_HEAP: bool = false;

    fn heap_size(&self) -> usize {
        0
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        let nanos = nanos_since_1970(*self);
        // The operating system's clock has 64 bits of seconds.
        (nanos.div_euclid(NANOS_A_SECOND) as i64).encode(out);
        (nanos.rem_euclid(NANOS_A_SECOND) as u32).encode(out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let secs = i64::decode(input)?;
        let nanos = take_nanos(input)?;
        time_of_nanos(i128::from(secs) * NANOS_A_SECOND + i128::from(nanos))
            .ok_or_else(|| DecodeError::new("a point in time is beyond this machine's clock"))
    }

    /// An integer: nanoseconds since 1970.
    fn into_value(self) -> Value {
        Value::from(nanos_since_1970(self))
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        value
            .as_int()
            .and_then(time_of_nanos)
            .ok_or_else(|| ConvertError::expected("nanoseconds since 1970, an integer", &value))
    }
}

impl<K: Field + Eq + Hash, V: Field, S: BuildHasher + Default + Clone + Send + Sync + 'static> Field
    for HashMap<K, V, S>
{
    const HAS_HEAP: bool = true | K::HAS_HEAP | V::HAS_HEAP;

    fn heap_size(&self) -> usize {
        // One control byte an entry.
        self.capacity() * (size_of::<(K, V)>() + 1) + heap_of_entries(self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        put_sorted(self.iter().map(|(key, value)| (key, move |out: &mut Vec<u8>| value.encode(out))), out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let count = take_length(input)?;
        let mut map = HashMap::with_capacity_and_hasher(first_capacity::<(K, V)>(count, input), S::default());
        for _ in 0..count {
            map.insert(K::decode(input)?, V::decode(input)?);
        }
        Ok(map)
    }

    fn into_value(self) -> Value {
        map_into_value(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        map_from_value(value)
    }
}

impl<K: Field + Ord, V: Field> Field for BTreeMap<K, V> {
    const HAS_HEAP: bool = true | K::HAS_HEAP | V::HAS_HEAP;

    fn heap_size(&self) -> usize {
        // Nodes are three quarters full on average.
        self.len() * size_of::<(K, V)>() * 4 / 3 + heap_of_entries(self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let count = take_length(input)?;
        (0..count).map(|_| Ok((K::decode(input)?, V::decode(input)?))).collect()
    }

    fn into_value(self) -> Value {
        map_into_value(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        map_from_value(value)
    }
}

impl<K: Field + Eq + Hash, S: BuildHasher + Default + Clone + Send + Sync + 'static> Field for HashSet<K, S> {
    const HAS_HEAP: bool = true | K::HAS_HEAP;

    fn heap_size(&self) -> usize {
        self.capacity() * (size_of::<K>() + 1) + heap_of_items(self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        put_sorted(self.iter().map(|key| (key, |_: &mut Vec<u8>| ())), out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let count = take_length(input)?;
        let mut set = HashSet::with_capacity_and_hasher(first_capacity::<K>(count, input), S::default());
        for _ in 0..count {
            set.insert(K::decode(input)?);
        }
        Ok(set)
    }

    /// A list, sorted by the items' bytes.
    fn into_value(self) -> Value {
        set_into_value(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        set_from_value(value)
    }
}

impl<K: Field + Ord> Field for BTreeSet<K> {
    const HAS_HEAP: bool = true | K::HAS_HEAP;

    fn heap_size(&self) -> usize {
        self.len() * size_of::<K>() * 4 / 3 + heap_of_items(self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        self.iter().for_each(|key| key.encode(out));
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let count = take_length(input)?;
        (0..count).map(|_| K::decode(input)).collect()
    }

    /// A list, sorted by the items' bytes.
    fn into_value(self) -> Value {
        set_into_value(self)
    }

    fn from_value(value: Value) -> Result<Self, ConvertError> {
        set_from_value(value)
    }
}

/// The two counts in front of what an `Arc` holds.
const ARC_HEADER: usize = 2 * size_of::<usize>();

const NANOS_A_SECOND: i128 = 1_000_000_000;

fn heap_of_items<'a, T: Field>(items: impl IntoIterator<Item = &'a T>) -> usize {
    if T::HAS_HEAP { items.into_iter().map(T::heap_size).sum() } else { 0 }
}

fn heap_of_entries<'a, K: Field, V: Field>(entries: impl IntoIterator<Item = (&'a K, &'a V)>) -> usize {
    if !K::HAS_HEAP && !V::HAS_HEAP {
        return 0;
    }
    entries.into_iter().map(|(key, value)| key.heap_size() + value.heap_size()).sum()
}

/// Writes entries in the order of their keys' bytes, so that equal maps have equal bytes in every process.
fn put_sorted<'a, K: Field, W: FnOnce(&mut Vec<u8>)>(entries: impl Iterator<Item = (&'a K, W)>, out: &mut Vec<u8>) {
    let encoded = |key: &K| {
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        bytes
    };
    let mut entries: Vec<_> = entries.map(|(key, write)| (encoded(key), write)).collect();
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (key, write) in entries {
        out.extend_from_slice(&key);
        write(out);
    }
}

fn map_into_value<K: Field, V: Field>(entries: impl IntoIterator<Item = (K, V)>) -> Value {
    let entries = entries.into_iter().map(|(key, value)| (key.into_value(), value.into_value()));
    Value::Map(entries.collect())
}

fn map_from_value<K: Field, V: Field, M: FromIterator<(K, V)>>(value: Value) -> Result<M, ConvertError> {
    match value {
        Value::Map(entries) => entries
            .into_iter()
            .map(|(key, value): (Value, Value)| Ok((K::from_value(key)?, V::from_value(value)?)))
            .collect(),
        other => Err(ConvertError::expected("a map", &other)),
    }
}

fn set_into_value<K: Field>(items: impl IntoIterator<Item = K>) -> Value {
    // A map's keys are sorted by the bytes that sort a set.
    let items: ValueMap = items.into_iter().map(|item| (item.into_value(), Value::Null)).collect();
    Value::List(items.into_iter().map(|(item, _)| item).collect())
}

fn set_from_value<K: Field, C: FromIterator<K>>(value: Value) -> Result<C, ConvertError> {
    match value {
        Value::List(items) => items.into_iter().map(K::from_value).collect(),
        other => Err(ConvertError::expected("a list", &other)),
    }
}

fn take_nanos(input: &mut &[u8]) -> Result<u32, DecodeError> {
    match u32::decode(input)? {
        nanos @ 0..1_000_000_000 => Ok(nanos),
        nanos => Err(DecodeError::new(format!("a second has {nanos} nanoseconds"))),
    }
}

fn duration_of_nanos(nanos: u128) -> Option<Duration> {
    const NANOS: u128 = NANOS_A_SECOND as u128;
    Some(Duration::new(u64::try_from(nanos / NANOS).ok()?, (nanos % NANOS) as u32))
}

/// A point in time as a number; negative before 1970.
pub(crate) fn nanos_since_1970(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

fn time_of_nanos(nanos: i128) -> Option<SystemTime> {
    let distance = duration_of_nanos(nanos.unsigned_abs())?;
    if nanos < 0 { SystemTime::UNIX_EPOCH.checked_sub(distance) } else { SystemTime::UNIX_EPOCH.checked_add(distance) }
}
