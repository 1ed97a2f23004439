//! The role `worker` as a process: what runs a worker ([`worker_role`]) with its launch file, sockets, signals and log.
//!
//! Read in this order: `launch` is what it is told at its start, `reporting` whom it talks to, `log` where its words go.
//! Data runs on all cores, control on the thread that calls this.
//!
//! Not here: what it decides (`worker_role`), executors and links (`worker`). Invariant: nobody's silence ends it; after a
//! signal every wait is bounded, and a second signal ends it at once.

mod launch;
mod log;
mod reporting;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use seam::Seam;
use tokio::runtime::{Builder, Runtime};
use topology_api::topology::Topology;
use worker::transfer::tcp::Tcp;
use worker_api::ids::WorkerIndex;
use worker_api::launch::Launch;
use worker_api::plan::Address;
use worker_api::report::Report;
use worker_role::{Event, ProcessFacts, Role, RoleConfig, Surroundings};

use crate::arguments::Slot;
use crate::refusal::{Exit, Refusal};
use crate::signals::Signals;
use log::Log;
use reporting::Reporting;

pub(crate) use launch::shown;

/// The slot's lock, which the worker was given as standard input: held until the process ends.
pub(crate) struct SlotLock(#[expect(dead_code, reason = "it is held, not used")] OwnedFd);

impl SlotLock {
    /// Takes the lock off standard input, so that processes which user code starts do not inherit it and hold the slot.
    pub(crate) fn take() -> Result<Self, Refusal> {
        let take = || {
            // Above the three standard ones.
            let lock = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
            rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
            Ok(SlotLock(lock))
        };
        take().map_err(Refusal::Runtime)
    }
}

/// Reads what the slot's worker is told.
pub(crate) fn read(slot: &Slot) -> Result<Launch, Refusal> {
    launch::read(slot)
}

/// Runs a worker of this topology.
pub(crate) fn run(topology: Topology, launch: Launch) -> Result<Exit, Refusal> {
    launch::check_graph(&launch, &topology.graph())?;
    let address = launch::listen_at(&launch)?;
    let data = Builder::new_multi_thread().thread_name("data").enable_all().build().map_err(Refusal::Runtime)?;
    let control = Builder::new_current_thread().enable_all().build().map_err(Refusal::Runtime)?;
    let seam = |runtime: &Runtime| {
        let _context = runtime.enter();
        Seam::system()
    };
    let tcp = data.block_on(Tcp::bind(address)).map_err(|error| Refusal::Port { address, error })?;
    let (data_seam, control_seam) = (seam(&data), seam(&control));
    let exit = control.block_on(async {
        let tcp = Arc::new(tcp);
        let process = Process {
            tcp: tcp.clone(),
            reporting: Reporting::start(launch.supervisor_socket.clone(), launch.nimbuses.clone()),
            signals: Signals::new().map_err(Refusal::Runtime)?,
            log: Log::new(launch.log.clone(), launch.log_bytes, launch.log_files),
        };
        let config = RoleConfig {
            topology: Arc::new(topology),
            launch,
            connector: tcp,
            data: data_seam,
            control: control_seam,
            journal: None,
            observer: None,
        };
        let ended = Role::start(config, process).run().await;
        Ok(if ended.in_order { Exit::Done } else { Exit::Terminated })
    });
    // A call of user code that never returns would keep it from ending in order.
    data.shutdown_background();
    let _ = io::stdout().flush();
    exit
}

/// What a worker has around it as a process.
struct Process {
    tcp: Arc<Tcp>,
    reporting: Reporting,
    signals: Signals,
    log: Log,
}

impl Surroundings for Process {
    fn report(&mut self, report: Report, to_nimbus: bool) {
        self.reporting.report(report, to_nimbus);
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            biased;
            _ = self.signals.next() => Event::Signal,
            event = self.reporting.next() => event,
        }
    }

    fn peer_is_at(&mut self, peer: WorkerIndex, address: &Address) {
        self.tcp.set_peer(peer, address.to_string());
    }

    fn process(&self) -> ProcessFacts {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        ProcessFacts {
            pid: std::process::id(),
            cpu_us: cpu.tv_sec as u64 * 1_000_000 + cpu.tv_nsec as u64 / 1_000,
            memory_bytes: memory_bytes(),
        }
    }

    fn rotate_log(&mut self) {
        self.log.rotate_if_full();
    }
}

/// The resident set; 0 if the system does not say.
fn memory_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident =
        pages.as_deref().and_then(|pages| pages.split(' ').nth(1)).and_then(|pages| pages.parse::<u64>().ok());
    resident.unwrap_or(0) * rustix::param::page_size() as u64
}
