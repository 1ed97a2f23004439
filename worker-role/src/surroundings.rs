//! What a worker has around it: a process with sockets, signals and a log, or a simulation.
//!
//! Not here: how its peers' bytes come (`worker::transfer::network`), tasks and time (`seam`). Invariant: nothing here decides.

use std::future::Future;

use worker_api::answer::Answer;
use worker_api::ids::WorkerIndex;
use worker_api::plan::Address;
use worker_api::report::Report;

/// What differs between a process and a simulation.
pub trait Surroundings: Send + 'static {
    /// Sends a report to the Supervisor, and to Nimbus as well if `to_nimbus`. One that has not gone when the next one
    /// comes may be dropped.
    fn report(&mut self, report: Report, to_nimbus: bool);

    /// Waits for what happens next, for ever if nothing does. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Event> + Send;

    /// A peer listens there now: the connector's next dial goes there.
    fn peer_is_at(&mut self, peer: WorkerIndex, address: &Address);

    /// What is known of the process, for a report.
    fn process(&self) -> ProcessFacts;

    /// Called once a report: has the log rotated if it is full.
    fn rotate_log(&mut self);
}

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An answer has come from the Supervisor.
    Supervisor(Answer),
    /// An answer has come from Nimbus.
    Nimbus(Answer),
    /// A signal asks for the end.
    Signal,
}

/// What is known of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Its id.
    pub pid: u32,
    /// Processor time that it used, user and system, in microseconds.
    pub cpu_us: u64,
    /// Memory that it has (resident set); 0 if the system does not say.
    pub memory_bytes: u64,
}
