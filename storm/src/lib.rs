//! Stream processing with Storm's model, in one native executable: what a topology's author depends on.
//!
//! Not here: anything of its own but the entry point; the rest is re-exported. Invariant: user code names this crate alone.

mod arguments;
mod console;
mod local;
mod progress;
mod refusal;
mod report;
mod run;

pub use clap;
pub use local_cluster;
pub use run::run;
pub use topology_api::*;

/// Everything that a topology's author usually needs: `use storm::prelude::*;`.
pub mod prelude {
    pub use clap;
    pub use topology_api::prelude::*;
}
