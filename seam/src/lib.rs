//! The one way out: tasks, time, randomness, the disk. Under a seed all of it runs on one thread, the same each time.
//!
//! [`Seam`] is what a process's code gets: in production the runtime, the clocks and the operating system's randomness; in
//! a simulation virtual ones, and a [`Gate`] by which the process is paused or killed at any await. [`disk::Disk`] is where
//! its files lie.
//!
//! Not here: sockets and pipes (`worker::transfer`), starting processes (`supervisor`). Invariant: who goes through the seam
//! for everything depends on the seed alone.
#![forbid(unsafe_code)]

pub mod disk;
mod tasks;

pub use tasks::{Gate, Seam, Sleep, Task};
