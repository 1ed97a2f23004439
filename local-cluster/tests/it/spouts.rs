//! Spouts.
