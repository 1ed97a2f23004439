//! What the Supervisor does with real processes.

mod cluster;
mod keeper;
mod slots;
