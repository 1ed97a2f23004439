//! Where tuples flow: executors, routing, the ledgers of tuple trees, links between workers.

pub mod acking;
pub mod ids;
pub mod seam;
pub mod transfer;
