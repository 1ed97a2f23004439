//! Fields as constants of their tuple's type: `Word::WORD`. What fields grouping is told by.
//!
//! Not here: the bytes of a key (`key`). Invariant: a token belongs to one tuple type, so a field of another stream does not
//! compile.

use std::fmt;

use super::Tuple;
use super::key::{Key, KeyBytes};

/// The field of type `F` of the tuple `T`; `#[tuple]` writes one for each field, in capitals.
pub struct FieldOf<T, F> {
    name: &'static str,
    index: usize,
    get: fn(&T) -> &F,
}

impl<T, F> FieldOf<T, F> {
    /// Written by `#[tuple]`.
    #[doc(hidden)]
    pub const fn new(name: &'static str, index: usize, get: fn(&T) -> &F) -> Self {
        FieldOf { name, index, get }
    }

    /// The field's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its place in the tuple, from 0.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Its value in a tuple.
    pub fn get<'a>(&self, tuple: &'a T) -> &'a F {
        (self.get)(tuple)
    }
}

impl<T, F> Clone for FieldOf<T, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, F> Copy for FieldOf<T, F> {}

impl<T, F> fmt::Debug for FieldOf<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field `{}`", self.name)
    }
}

/// The fields that tuples of `T` are grouped by: one token, or up to four as `(Order::SHOP, Order::ID)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name fields of `{T}`",
    label = "the stream carries `{T}`",
    note = "name a field by its constant, `{T}::FIELD`, or several as a pair (up to four)"
)]
pub trait FieldTokens<T> {
    /// The fields' names, in the order of the key.
    fn names(&self) -> Vec<&'static str>;

    /// Appends the key: the field, or for several the list of them.
    fn write_key(&self, tuple: &T, key: &mut KeyBytes);

    /// The hash of the key; `scratch` is used if its canonical bytes are needed.
    #[inline]
    fn hash_key(&self, tuple: &T, scratch: &mut KeyBytes) -> u64 {
        scratch.clear();
        self.write_key(tuple, scratch);
        scratch.hash()
    }
}

impl<T: Tuple, F: Key> FieldTokens<T> for FieldOf<T, F> {
    fn names(&self) -> Vec<&'static str> {
        vec![self.name]
    }

    #[inline]
    fn write_key(&self, tuple: &T, key: &mut KeyBytes) {
        // By index: a match that is compiled into the loop, where the getter would be a call.
        tuple.write_key(self.index, key);
    }

    #[inline]
    fn hash_key(&self, tuple: &T, scratch: &mut KeyBytes) -> u64 {
        tuple.hash_key(self.index, scratch)
    }
}

macro_rules! tokens {
    ($(($count:literal: $($field:ident $index:tt),*))*) => {$(
        impl<T: Tuple, $($field: Key),*> FieldTokens<T> for ($(FieldOf<T, $field>,)*) {
            fn names(&self) -> Vec<&'static str> {
                vec![$(self.$index.name),*]
            }

            #[inline]
            fn write_key(&self, tuple: &T, key: &mut KeyBytes) {
                key.begin_fields($count);
                $(tuple.write_key(self.$index.index, key);)*
            }
        }
    )*};
}

tokens! {
    (1: A 0)
    (2: A 0, B 1)
    (3: A 0, B 1, C 2)
    (4: A 0, B 1, C 2, D 3)
}
