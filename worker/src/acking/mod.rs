//! The ledgers of tuple trees.
