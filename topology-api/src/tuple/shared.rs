//! A tuple that is cloned by reference.
//!
//! Not here: fields that are (`Text`, `Bytes`, `Arc`). Invariant: on the wire and as values it is its tuple.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Tuple;
use super::convert::ConvertError;
use super::key::KeyBytes;
use super::value::Values;
use super::wire::DecodeError;
use crate::bolt::{Accepts, Arrival, Auto, Input};
use crate::output::{Declare, Output, Port, PortField, Wires};
use crate::topology::Stream;

/// A tuple behind an [`Arc`]: for large tuples that go to many tasks.
///
/// A stream may carry `Shared<Page>`, and a bolt that takes `Shared<Page>` subscribes to streams of `Page` too.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Shares a tuple.
    pub fn new(tuple: T) -> Self {
        Shared(Arc::new(tuple))
    }
}

impl<T: Clone> Shared<T> {
    /// The tuple itself: a clone only if others hold it too.
    pub fn into_inner(self) -> T {
        Arc::unwrap_or_clone(self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(tuple: T) -> Self {
        Shared::new(tuple)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Tuple> Tuple for Shared<T> {
    const NAME: &'static str = T::NAME;
    const FIELDS: &'static [&'static str] = T::FIELDS;
    const OPAQUE_FIELDS: &'static [&'static str] = T::OPAQUE_FIELDS;
    const HAS_HEAP: bool = true;

    /// Counts the tuple for each of those that hold it.
    #[inline]
    fn heap_size(&self) -> usize {
        2 * size_of::<usize>() + size_of::<T>() + self.0.heap_size()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        T::decode(input).map(Shared::new)
    }

    fn into_values(self) -> Values {
        self.into_inner().into_values()
    }

    fn from_values(values: Values) -> Result<Self, ConvertError> {
        T::from_values(values).map(Shared::new)
    }

    #[inline]
    fn write_key(&self, field: usize, key: &mut KeyBytes) {
        self.0.write_key(field, key);
    }

    #[inline]
    fn hash_key(&self, field: usize, scratch: &mut KeyBytes) -> u64 {
        self.0.hash_key(field, scratch)
    }
}

impl<T: Tuple> Input for Shared<T> {
    type Mode = Auto;
}

impl<T: Tuple> Accepts<Shared<T>> for Shared<T> {
    #[inline]
    fn accept(tuple: Shared<T>, _: &mut Arrival<'_>) -> Result<Self, ConvertError> {
        Ok(tuple)
    }
}

impl<T: Tuple> Accepts<T> for Shared<T> {
    #[inline]
    fn accept(tuple: T, _: &mut Arrival<'_>) -> Result<Self, ConvertError> {
        Ok(Shared::new(tuple))
    }
}

impl<T: Tuple> Output for Shared<T> {
    type Ports = Port<Shared<T>>;
    type Streams = Stream<Shared<T>>;

    fn open(wires: &mut Wires<'_>) -> Self::Ports {
        <Port<Shared<T>> as PortField>::open(wires, "default")
    }

    fn declare(declare: &mut Declare<'_>) -> Self::Streams {
        <Port<Shared<T>> as PortField>::declare(declare, "default")
    }
}
