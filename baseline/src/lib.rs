//! What hand-written programs reach.
