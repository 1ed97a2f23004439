//! The worker's parts working together, from outside.

mod links;
