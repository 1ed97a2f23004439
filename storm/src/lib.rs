//! Stream processing with Storm's model, in one native executable: what a topology's author depends on.
//!
//! Not here: anything of its own but the entry point; the rest is re-exported. Invariant: user code names this crate alone.

pub use clap;
pub use local_cluster;
pub use topology_api::*;
