//! Canonical bytes of keys, their hash, and the key group that it gives.
//!
//! Not here: which task a grouping picks out of a group's candidates (`grouping`). Invariant: equal keys have equal bytes,
//! whether they are typed or dynamic, on every machine and in every version: these bytes are a wire format.
//!
//! # Canonical bytes
//! A key is one item, or for several fields a list of their items (so two fields and a list of two agree). An item is a
//! tag and what follows it; numbers are little-endian, lengths and counts LEB128:
//! ```text
//! 0  null                    also a field that is None
//! 1  false
//! 2  true
//! 3  integer   i64           every integer that fits, whatever width its type has
//! 4  integer   u128          a greater one
//! 5  integer   i128          a lesser one
//! 6  float     f64           f32 widened; −0.0 as 0.0; every NaN as 0x7ff8000000000000; a float never equals an integer
//! 7  text      length bytes  UTF-8; a char is the text of it
//! 8  bytes     length bytes  never equal to a text
//! 9  list      count items   also arrays, pairs, sets (sorted by their bytes)
//! 10 map       count (item item)×count   sorted by the bytes of the keys; also a tuple within a tuple, by field names
//! ```
//! Points in time and durations are integers: nanoseconds (since 1970 for points in time).
//!
//! The hash is XXH3-64 with seed 0: of a single integer of 64 bits, float, text or bytes over its content alone (what
//! follows tag and length), of any other key over all its bytes. So the hash of a text is that of its UTF-8 where it lies: a
//! copy behind a tag would cost five times the hash. The group is the hash modulo 32,768.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_64;

use super::field::nanos_since_1970;
use super::wire::{put_bytes, put_length};
use super::{Bytes, Text};

/// Number of key groups of every topology.
pub const KEY_GROUPS: u16 = 32_768;

/// What all keys fall into; a group belongs to one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(u16);

impl KeyGroup {
    /// The group of a key with this hash.
    #[inline]
    pub fn of_hash(hash: u64) -> Self {
        KeyGroup((hash % u64::from(KEY_GROUPS)) as u16)
    }

    /// Its number, below [`KEY_GROUPS`].
    pub fn number(self) -> u16 {
        self.0
    }

    /// Which of `tasks` tasks has this group: group × tasks ÷ 32,768, from 0 and below `tasks` (0 if there are none).
    #[inline]
    pub fn task_index(self, tasks: usize) -> usize {
        usize::from(self.0) * tasks / usize::from(KEY_GROUPS)
    }
}

/// Builder of a key's canonical bytes. One is used again and again: [`clear`](KeyBytes::clear) keeps its memory.
///
/// ```
/// use topology_api::tuple::{Key, KeyBytes};
///
/// let mut key = KeyBytes::default();
/// "a".write_key(&mut key);
/// assert_eq!(key.as_bytes(), [7, 1, b'a']);
/// ```
#[derive(Clone, Debug, Default)]
pub struct KeyBytes {
    bytes: Vec<u8>,
}

impl KeyBytes {
    /// Forgets the key, for the next one.
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The canonical bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash of the key: XXH3-64, seed 0; see the module on what it covers. The builder holds exactly one key.
    #[inline]
    pub fn hash(&self) -> u64 {
        xxh3_64(self.content())
    }

    /// What is hashed.
    #[inline]
    fn content(&self) -> &[u8] {
        match self.bytes[..] {
            [3 | 6, ref content @ ..] => content,
            [7 | 8, length, ref content @ ..] if length < 0x80 => content,
            [7 | 8, ref rest @ ..] => {
                let length = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
                rest.get(length..).unwrap_or_default()
            }
            ref all => all,
        }
    }

    /// The group that the key falls into.
    #[inline]
    pub fn group(&self) -> KeyGroup {
        KeyGroup::of_hash(self.hash())
    }

    /// Begins a key of `count` fields: nothing for one, else a list of that many items, which the caller writes next.
    #[inline]
    pub fn begin_fields(&mut self, count: usize) {
        if count != 1 {
            self.begin_list(count);
        }
    }

    /// Writes null.
    #[inline]
    pub fn null(&mut self) {
        self.bytes.push(0);
    }

    /// Writes a boolean.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(1 + u8::from(value));
    }

    /// Writes an integer of up to 64 bits.
    #[inline]
    pub fn int(&mut self, value: i64) {
        let mut item = [3; 9];
        item[1..].copy_from_slice(&value.to_le_bytes());
        self.bytes.extend_from_slice(&item);
    }

    /// Writes any signed integer.
    #[inline]
    pub fn int_wide(&mut self, value: i128) {
        match (i64::try_from(value), u128::try_from(value)) {
            (Ok(value), _) => self.int(value),
            (_, Ok(value)) => self.uint_wide(value),
            _ => {
                self.bytes.push(5);
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
    }

    /// Writes any unsigned integer.
    #[inline]
    pub fn uint_wide(&mut self, value: u128) {
        match i64::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => {
                self.bytes.push(4);
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
    }

    /// Writes a float.
    #[inline]
    pub fn float(&mut self, value: f64) {
        const NAN: u64 = 0x7ff8_0000_0000_0000;
        // Adding zero turns -0.0 into 0.0 and leaves all else as it is.
        let bits = if value.is_nan() { NAN } else { (value + 0.0).to_bits() };
        let mut item = [6; 9];
        item[1..].copy_from_slice(&bits.to_le_bytes());
        self.bytes.extend_from_slice(&item);
    }

    /// Writes a text.
    #[inline]
    pub fn text(&mut self, value: &str) {
        self.bytes.push(7);
        put_bytes(value.as_bytes(), &mut self.bytes);
    }

    /// Writes bytes.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        self.bytes.push(8);
        put_bytes(value, &mut self.bytes);
    }

    /// Begins a list of `count` items, which the caller writes next.
    #[inline]
    pub fn begin_list(&mut self, count: usize) {
        self.bytes.push(9);
        put_length(count, &mut self.bytes);
    }

    /// Writes a list whose items have no order of their own: sorted by their bytes.
    pub fn set<'a, K: Key + 'a>(&mut self, items: impl IntoIterator<Item = &'a K>) {
        let mut items: Vec<_> = items.into_iter().map(KeyBytes::of).collect();
        items.sort_unstable();
        self.begin_list(items.len());
        items.iter().for_each(|item| self.bytes.extend_from_slice(item));
    }

    /// Begins a map of `count` entries; the caller writes key and value of each next, sorted by the bytes of the keys.
    #[inline]
    pub fn begin_map(&mut self, count: usize) {
        self.bytes.push(10);
        put_length(count, &mut self.bytes);
    }

    /// Writes a map, sorted by the bytes of its keys.
    pub fn map<'a, K: Key + 'a, V: Key + 'a>(&mut self, entries: impl IntoIterator<Item = (&'a K, &'a V)>) {
        let mut entries: Vec<_> = entries.into_iter().map(|(key, value)| (KeyBytes::of(key), value)).collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.begin_map(entries.len());
        for (key, value) in entries {
            self.bytes.extend_from_slice(&key);
            value.write_key(self);
        }
    }

    /// The canonical bytes of one key.
    pub(crate) fn of(key: &(impl Key + ?Sized)) -> Vec<u8> {
        let mut bytes = KeyBytes::default();
        key.write_key(&mut bytes);
        bytes.bytes
    }
}

/// What tuples can be grouped by.
///
/// A pair (or more, up to four) is the key of its parts together: `(host, port)` agrees with grouping by the two fields.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "not something that tuples are grouped by",
    note = "a key is a number, bool, char, text, bytes, a point in time, or an option, list, map or pair of these; a #[tuple(serde)] field is opaque and has no key"
)]
pub trait Key {
    /// Appends the key's canonical bytes: exactly one item.
    fn write_key(&self, key: &mut KeyBytes);

    /// The hash of this key alone: that of its canonical bytes, for which `scratch` is used if they are needed.
    #[inline]
    fn hash_key(&self, scratch: &mut KeyBytes) -> u64 {
        scratch.clear();
        self.write_key(scratch);
        scratch.hash()
    }

    /// Appends the canonical bytes of a list of such keys; a list of `u8` is bytes.
    #[doc(hidden)]
    #[inline]
    fn write_list_key(list: &[Self], key: &mut KeyBytes)
    where
        Self: Sized,
    {
        key.begin_list(list.len());
        list.iter().for_each(|item| item.write_key(key));
    }
}

impl Key for bool {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        key.bool(*self);
    }
}

impl Key for i64 {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        key.int(*self);
    }

    #[inline]
    fn hash_key(&self, _: &mut KeyBytes) -> u64 {
        xxh3_64(&self.to_le_bytes())
    }
}

impl Key for i128 {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        key.int_wide(*self);
    }
}

impl Key for u128 {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        key.uint_wide(*self);
    }
}

impl Key for u64 {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        key.uint_wide(u128::from(*self));
    }

    #[inline]
    fn hash_key(&self, scratch: &mut KeyBytes) -> u64 {
        match i64::try_from(*self) {
            Ok(value) => value.hash_key(scratch),
            Err(_) => u128::from(*self).hash_key(scratch),
        }
    }
}

impl Key for f64 {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        key.float(*self);
    }
}

impl Key for str {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        key.text(self);
    }

    #[inline]
    fn hash_key(&self, _: &mut KeyBytes) -> u64 {
        xxh3_64(self.as_bytes())
    }
}

impl Key for Bytes {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        key.bytes(self);
    }

    #[inline]
    fn hash_key(&self, _: &mut KeyBytes) -> u64 {
        xxh3_64(self)
    }
}

/// Keys that are the key of another type.
macro_rules! keys {
    ($($type:ty as $other:ty: |$value:ident| $same:expr;)*) => {$(
        impl Key for $type {
            #[inline]
            fn write_key(&self, key: &mut KeyBytes) {
                let $value = self;
                <$other as Key>::write_key($same, key);
            }

            #[inline]
            fn hash_key(&self, scratch: &mut KeyBytes) -> u64 {
                let $value = self;
                <$other as Key>::hash_key($same, scratch)
            }
        }
    )*};
}

keys! {
    i8 as i64: |value| &i64::from(*value);
    i16 as i64: |value| &i64::from(*value);
    i32 as i64: |value| &i64::from(*value);
    isize as i64: |value| &(*value as i64);
    u16 as i64: |value| &i64::from(*value);
    u32 as i64: |value| &i64::from(*value);
    usize as u64: |value| &(*value as u64);
    f32 as f64: |value| &f64::from(*value);
    char as str: |value| value.encode_utf8(&mut [0; 4]);
    String as str: |value| value;
    Text as str: |value| value;
    Duration as u128: |value| &value.as_nanos();
    SystemTime as i128: |value| &nanos_since_1970(*value);
}

impl Key for u8 {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        key.int(i64::from(*self));
    }

    #[inline]
    fn hash_key(&self, scratch: &mut KeyBytes) -> u64 {
        i64::from(*self).hash_key(scratch)
    }

    #[inline]
    fn write_list_key(list: &[Self], key: &mut KeyBytes) {
        key.bytes(list);
    }
}

impl<K: Key> Key for Option<K> {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        match self {
            Some(value) => value.write_key(key),
            None => key.null(),
        }
    }

    #[inline]
    fn hash_key(&self, scratch: &mut KeyBytes) -> u64 {
        match self {
            Some(value) => value.hash_key(scratch),
            None => {
                scratch.clear();
                scratch.null();
                scratch.hash()
            }
        }
    }
}

impl<K: Key> Key for [K] {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        K::write_list_key(self, key);
    }
}

impl<K: Key, const N: usize> Key for [K; N] {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        K::write_list_key(self, key);
    }
}

impl<K: Key> Key for Vec<K> {
    #[inline]
    fn write_key(&self, key: &mut KeyBytes) {
        K::write_list_key(self, key);
    }
}

macro_rules! keys_by_reference {
    ($($type:ty),*) => {$(
        impl<K: Key + ?Sized> Key for $type {
            #[inline]
            fn write_key(&self, key: &mut KeyBytes) {
                (**self).write_key(key);
            }

            #[inline]
            fn hash_key(&self, scratch: &mut KeyBytes) -> u64 {
                (**self).hash_key(scratch)
            }
        }
    )*};
}

keys_by_reference!(&K, Box<K>, Arc<K>);

macro_rules! keys_of_several {
    ($(($count:literal: $($part:ident $index:tt),*))*) => {$(
        impl<$($part: Key),*> Key for ($($part,)*) {
            #[inline]
            fn write_key(&self, key: &mut KeyBytes) {
                key.begin_list($count);
                $(self.$index.write_key(key);)*
            }
        }
    )*};
}

keys_of_several! {
    (2: A 0, B 1)
    (3: A 0, B 1, C 2)
    (4: A 0, B 1, C 2, D 3)
}

impl<K: Key, V: Key, S> Key for std::collections::HashMap<K, V, S> {
    fn write_key(&self, key: &mut KeyBytes) {
        key.map(self);
    }
}

impl<K: Key, V: Key> Key for std::collections::BTreeMap<K, V> {
    fn write_key(&self, key: &mut KeyBytes) {
        key.map(self);
    }
}

impl<K: Key, S> Key for std::collections::HashSet<K, S> {
    fn write_key(&self, key: &mut KeyBytes) {
        key.set(self);
    }
}

impl<K: Key> Key for std::collections::BTreeSet<K> {
    fn write_key(&self, key: &mut KeyBytes) {
        key.set(self);
    }
}
