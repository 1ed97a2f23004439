//! The role `worker`: runs one worker of a cluster's topology, by what its launch file says, and tells its Supervisor how it
//! gets on.
//!
//! Read in this order: `launch` is what it is told at its start, `control` what it decides, `reporting` whom it talks to,
//! `log` where its words go. Data runs on all cores, control on the thread that calls this.
//!
//! Not here: executors and links (`worker`). Invariant: nobody's silence ends it; after a signal every wait is bounded, and
//! a second signal ends it at once.

mod control;
mod launch;
mod log;
mod reporting;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use seam::Seam;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use topology_api::topology::Topology;
use worker::process::{Worker, WorkerConfig, WorkerReport};
use worker::transfer::tcp::Tcp;
use worker_api::answer::GoneLife;
use worker_api::ids::{Life, PlanVersion, WorkerIndex};
use worker_api::launch::Launch;
use worker_api::plan::Address;
use worker_api::report::{Doing, Fatal, REPORT_FORMAT, Report, Stage};

use crate::arguments::Slot;
use crate::refusal::{Exit, Refusal};
use crate::signals::Signals;
use control::{Control, Effect, Event, Head, Seen};
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
        let signals = Signals::new().map_err(Refusal::Runtime)?;
        Ok(Role::start(topology, launch, tcp, data_seam, control_seam, signals).run().await)
    });
    // A call of user code that never returns would keep it from ending in order.
    data.shutdown_background();
    let _ = io::stdout().flush();
    exit
}

/// A running worker and its ways out.
struct Role {
    launch: Launch,
    life: Life,
    began: Instant,
    tcp: Arc<Tcp>,
    worker: Worker,
    control: Control,
    reporting: Reporting,
    signals: Signals,
    log: Log,
    /// The stage that the log knows.
    logged: Stage,
    /// When the log is told next what it waits for, while it starts.
    waits_at: Duration,
}

/// So long it may wait for components and peers at its start until the log says for which; then for twice as long.
const WAITS: Duration = Duration::from_secs(5);

impl Role {
    fn start(topology: Topology, launch: Launch, tcp: Tcp, data: Seam, control: Seam, signals: Signals) -> Self {
        let Launch { topology: id, worker: me, incarnation, placement, .. } = &launch;
        let (version, port) = (env!("CARGO_PKG_VERSION"), launch.port);
        let pid = std::process::id();
        tracing::info!(topology = %id, worker = %me, %port, %incarnation, pid, version, "the worker starts");
        let plan = placement.plan.slot(*me).map_or(PlanVersion(0), |slot| slot.version);
        let tcp = Arc::new(tcp);
        tell_addresses(&tcp, *me, &placement.addresses);
        let worker = Worker::start(WorkerConfig {
            topology: Arc::new(topology),
            topology_id: id.to_string(),
            secret: launch.secret.clone(),
            plan: placement.plan.clone(),
            worker: *me,
            incarnation: *incarnation,
            connector: tcp.clone(),
            seam: data,
            control,
            journal: None,
        });
        Role {
            life: Life { plan, incarnation: *incarnation },
            began: Instant::now(),
            control: Control::new(*me, placement, launch.spouts),
            reporting: Reporting::start(launch.supervisor_socket.clone(), launch.nimbuses.clone()),
            log: Log::new(launch.log.clone(), launch.log_bytes, launch.log_files),
            logged: Stage::Starting,
            waits_at: WAITS,
            tcp,
            worker,
            signals,
            launch,
        }
    }

    async fn run(mut self) -> Exit {
        let mut progress = self.worker.watch_progress();
        let mut event = None;
        loop {
            let (now, seen) = (self.began.elapsed(), self.look());
            for effect in self.control.step(now, &seen, event.take()) {
                match effect {
                    Effect::Stop => return self.stop().await,
                    Effect::End => return self.end_at_once(Exit::Terminated),
                    effect => self.act(effect),
                }
            }
            let next = self.began + self.control.next_step(now, &seen);
            event = tokio::select! {
                biased;
                _ = self.signals.next() => Some(Event::Signal),
                event = self.reporting.next() => event,
                () = progress.changed() => None,
                () = tokio::time::sleep_until(next) => None,
            };
        }
    }

    fn look(&self) -> Seen {
        let progress = self.worker.progress();
        Seen {
            ready: self.worker.is_ready(),
            ended: self.worker.is_ended(),
            drained: self.worker.is_drained(),
            fatal: progress.fatal,
            newer_plan: progress.newer_plan,
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Activate => {
                tracing::info!("active: the spouts are asked");
                self.worker.activate();
            }
            Effect::Deactivate => {
                tracing::info!("inactive: the spouts are asked no more");
                self.worker.deactivate();
            }
            Effect::Placed(placement) => {
                tracing::info!(version = %placement.version, "follows a later plan");
                tell_addresses(&self.tcp, self.launch.worker, &placement.addresses);
                self.worker.placed(&placement.plan);
            }
            Effect::Gone(GoneLife { worker, life }) => self.worker.peer_is_gone(worker, life),
            Effect::Failed(Fatal { component, error }) => {
                tracing::error!("component `{component}` stopped for good: {error}; the topology becomes inactive");
            }
            Effect::Drain(why) => tracing::info!("{why}: drains, and ends"),
            Effect::Report { head, to_nimbus } => {
                self.log.rotate_if_full();
                let report = self.report(head);
                self.tell_stage(&report);
                self.reporting.report(report, to_nimbus);
            }
            Effect::Stop | Effect::End => {}
        }
    }

    /// Logs how far it is; if it does not get far, what it waits for.
    fn tell_stage(&mut self, report: &Report) {
        if report.stage != self.logged {
            self.logged = report.stage;
            match report.stage {
                Stage::Ready => tracing::info!("ready: all components are prepared, all peers connected"),
                Stage::Ended => tracing::info!("the input has ended; the worker stays until it is told to stop"),
                // That it drains is told with its reason.
                Stage::Starting | Stage::Draining => {}
            }
        }
        let now = self.began.elapsed();
        if report.stage == Stage::Starting && now >= self.waits_at {
            self.waits_at = now * 2;
            let starting = report.executors.iter().filter(|executor| executor.doing == Doing::Starting);
            let mut waits: Vec<String> =
                starting.map(|executor| format!("component `{}`", executor.component)).collect();
            let away = report.links.iter().filter(|(_, link)| !link.connected);
            waits.extend(away.map(|(peer, _)| format!("worker {peer}")));
            tracing::warn!("not ready after {:.0} s: it waits for {}", now.as_secs_f64(), waits.join(", "));
        }
    }

    fn report(&self, head: Head) -> Report {
        let WorkerReport { uptime_us, inbox_bytes, executors, links, metrics } = self.worker.report();
        let Head { number, placement, stage, spouts, drained, fatal } = head;
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Report {
            format: REPORT_FORMAT,
            topology: self.launch.topology.clone(),
            worker: self.launch.worker,
            port: self.launch.port,
            life: self.life,
            number,
            pid: std::process::id(),
            placement,
            stage,
            spouts,
            drained,
            fatal,
            uptime_us,
            cpu_us: cpu.tv_sec as u64 * 1_000_000 + cpu.tv_nsec as u64 / 1_000,
            memory_bytes: memory_bytes(),
            inbox_bytes,
            executors,
            links,
            metrics,
        }
    }

    /// Closes the components, within what the worker grants them.
    async fn stop(self) -> Exit {
        let Role { worker, mut signals, reporting, .. } = self;
        let pending = worker.pending();
        tokio::select! {
            biased;
            _ = signals.next() => {
                tracing::warn!("told to stop again: ends at once");
                return Exit::Terminated;
            }
            () = worker.stop() => {}
        }
        drop(reporting);
        match pending {
            0 => tracing::info!("the worker ends"),
            pending => tracing::warn!(pending, "the worker ends; roots that had not finished have failed"),
        }
        Exit::Done
    }

    fn end_at_once(self, exit: Exit) -> Exit {
        tracing::warn!(pending = self.worker.pending(), "told to stop again: ends at once");
        exit
    }
}

/// Where the peers are; who has no slot now is dialled where it was last.
fn tell_addresses(tcp: &Tcp, me: WorkerIndex, addresses: &[Option<Address>]) {
    for (index, address) in addresses.iter().enumerate() {
        let peer = WorkerIndex(index as u16);
        if let Some(address) = address.as_ref().filter(|_| peer != me) {
            tcp.set_peer(peer, address.to_string());
        }
    }
}

/// The resident set; 0 if the system does not say.
fn memory_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident =
        pages.as_deref().and_then(|pages| pages.split(' ').nth(1)).and_then(|pages| pages.parse::<u64>().ok());
    resident.unwrap_or(0) * rustix::param::page_size() as u64
}
