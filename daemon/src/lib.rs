//! Birth and death of a process: its configuration, its logs, and the signals that end it.
//!
//! Not here: what a daemon does in between (`nimbus`, `supervisor`, `ui`), and which keys there are (`topology_api::config`).
//! Invariant: no value of a secret is printed or logged.

#![forbid(unsafe_code)]

pub mod configuration;
pub mod logs;
pub mod settings;
pub mod signals;
