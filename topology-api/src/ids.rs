//! The numbers and names that everything else speaks of.
//!
//! Not here: ids of workers and their incarnations (the runtime mints those). Invariant: an id prints as it is read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One logical instance of a component: 1-based, fixed for the topology's life, counted over components sorted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u32);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
