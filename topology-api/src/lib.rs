//! What a topology's author writes with: spouts, bolts, tuples, groupings and the checked graph.
//!
//! Not here: any runtime, thread, socket or clock. A component compiles and is tested without a cluster.

// The macros write paths that begin with `::storm`, the crate that users depend on.
extern crate self as storm;

pub mod bolt;
pub mod config;
pub mod context;
pub mod error;
pub mod fail;
pub mod grouping;
pub mod ids;
pub mod output;
pub mod spout;
pub mod topology;
pub mod tuple;

pub mod anchor;
pub mod batch;
pub mod component;
pub mod holds;

pub use topology_macros::{Input, Output, tuple};

/// Everything that a topology's author usually needs: `use storm::prelude::*;`.
pub mod prelude {
    pub use crate::bolt::{AsyncBolt, Bolt, DynamicTuple, Emitter, Input, Manual, Tracked};
    pub use crate::context::Context;
    pub use crate::error::{Attempt, Error, Result};
    pub use crate::fail::FailReason;
    pub use crate::grouping::{CustomGrouping, Grouping};
    pub use crate::ids::TaskId;
    pub use crate::output::{Direct, Output, Port};
    pub use crate::spout::{Next, Roots, Spout};
    pub use crate::topology::{DirectStream, Stream, Topology, TopologyBuilder};
    pub use crate::tuple::{Bytes, Shared, Text, Value, Values};
    pub use crate::values;
    pub use topology_macros::{Input, Output, tuple};
}
