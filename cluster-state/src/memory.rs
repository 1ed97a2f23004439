//! The store of a test: memory.

/// A tree in memory that several sessions share.
#[derive(Clone, Debug, Default)]
pub struct Memory {}
