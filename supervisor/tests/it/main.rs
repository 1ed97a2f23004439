//! What the Supervisor does with real processes.

mod keeper;
