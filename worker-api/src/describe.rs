//! What an executable says of itself in the role `describe`: its graph, and what it was built with.
//!
//! Not here: the graph (`topology_api::topology`). Invariant: the graph alone decides whether two executables agree; the build
//! decides whether this cluster can run it.

use serde::{Deserialize, Serialize};
use topology_api::topology::Graph;

/// What `describe` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Described {
    /// What it was built with.
    pub build: Build,
    /// The topology.
    #[serde(flatten)]
    pub graph: Graph,
}

/// How an executable was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Version of the runtime in it.
    pub version: String,
    /// The launch file that it reads: [`LAUNCH_FORMAT`](crate::launch::LAUNCH_FORMAT).
    pub launch_format: u32,
    /// `x86_64-linux`: processor and operating system.
    pub platform: String,
    /// Whether a panic ends the process instead of one executor (`panic = "abort"`).
    pub panic_aborts: bool,
}

impl Build {
    /// How the executable that calls this was built.
    pub fn own() -> Self {
        Build {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            launch_format: crate::launch::LAUNCH_FORMAT,
            platform: platform(),
            panic_aborts: cfg!(panic = "abort"),
        }
    }
}

/// Processor and operating system of this executable.
pub fn platform() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}
