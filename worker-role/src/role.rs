//! A worker under its control: does what `control` decides, and says how it is.
//!
//! Not here: what is decided (`control`), where words go (`surroundings`). Invariant: after a signal every wait is bounded,
//! and a second signal ends it at once; dropping the role ends all that it started.

use std::sync::{Arc, Weak};
use std::time::Duration;

use seam::Seam;
use tokio::time::Instant;
use topology_api::topology::Topology;
use worker::journal::{Journal, Observer};
use worker::process::{Worker, WorkerConfig, WorkerReport};
use worker::transfer::network::Connector;
use worker_api::answer::GoneLife;
use worker_api::ids::{Life, PlanVersion, WorkerIndex};
use worker_api::launch::Launch;
use worker_api::plan::Address;
use worker_api::report::{Doing, Fatal, REPORT_FORMAT, Report, Stage};

use crate::control::{Control, Effect, Head, Seen};
use crate::surroundings::{Event, ProcessFacts, Surroundings};

/// So long it may wait for components and peers at its start until the log says for which; then for twice as long.
const WAITS: Duration = Duration::from_secs(5);

/// What a worker is run with.
pub struct RoleConfig {
    /// The topology, as this executable builds it; its graph is the one that was submitted.
    pub topology: Arc<Topology>,
    /// What it was told at its start. Its plan has a slot for this worker.
    pub launch: Launch,
    /// How it reaches its peers, where [`Surroundings::peer_is_at`] says.
    pub connector: Arc<dyn Connector>,
    /// Where executors and links run.
    pub data: Seam,
    /// Where control runs: what calls [`Role::run`].
    pub control: Seam,
    /// Where to write what happens, if a test wants to know.
    pub journal: Option<Journal>,
    /// Who hears what happens on its links, if a test wants to know.
    pub observer: Option<Observer>,
}

/// How a worker has ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it has failed what was pending and closed its components; not so after a second signal.
    pub in_order: bool,
    /// What it had counted.
    pub report: WorkerReport,
}

/// A running worker. Dropping it, or the future of [`Role::run`], ends all of it at once, as SIGKILL would.
pub struct Role<S> {
    launch: Launch,
    life: Life,
    seam: Seam,
    began: Instant,
    worker: Arc<Worker>,
    control: Control,
    surroundings: S,
    /// The stage that the log knows.
    logged: Stage,
    /// When the log is told next what it waits for, while it starts.
    waits_at: Duration,
}

impl<S: Surroundings> Role<S> {
    /// Starts the worker. It hears nothing, and its spouts are not asked, before [`Role::run`].
    pub fn start(config: RoleConfig, mut surroundings: S) -> Self {
        let RoleConfig { topology, launch, connector, data, control, journal, observer } = config;
        let Launch { topology: id, worker: me, incarnation, placement, .. } = &launch;
        let (version, port, pid) = (env!("CARGO_PKG_VERSION"), launch.port, surroundings.process().pid);
        tracing::info!(topology = %id, worker = %me, %port, %incarnation, pid, version, "the worker starts");
        let plan = placement.plan.slot(*me).map_or(PlanVersion(0), |slot| slot.version);
        tell_addresses(&mut surroundings, *me, &placement.addresses);
        let worker = Worker::start(WorkerConfig {
            topology,
            topology_id: id.to_string(),
            secret: launch.secret.clone(),
            plan: placement.plan.clone(),
            worker: *me,
            incarnation: *incarnation,
            connector,
            seam: data,
            control: control.clone(),
            journal,
            observer,
        });
        Role {
            life: Life { plan, incarnation: *incarnation },
            began: control.now(),
            seam: control,
            worker: Arc::new(worker),
            control: Control::new(*me, placement, launch.spouts, launch.revision),
            surroundings,
            logged: Stage::Starting,
            waits_at: WAITS,
            launch,
        }
    }

    /// The worker for who looks at its counts from outside; it is gone when the role is.
    pub fn worker(&self) -> Weak<Worker> {
        Arc::downgrade(&self.worker)
    }

    /// Runs it until it is told to end, by a signal or as its slot is another's.
    pub async fn run(mut self) -> Ended {
        let mut progress = self.worker.watch_progress();
        let mut event = None;
        loop {
            let (now, seen) = (self.age(), self.look());
            for effect in self.control.step(now, &seen, event.take()) {
                match effect {
                    Effect::Stop => return self.stop().await,
                    Effect::End => return self.end_at_once(),
                    effect => self.act(effect),
                }
            }
            let next = self.began + self.control.next_step(now, &seen);
            event = tokio::select! {
                biased;
                event = self.surroundings.next() => Some(event),
                () = progress.changed() => None,
                () = self.seam.sleep_until(next) => None,
            };
        }
    }

    fn age(&self) -> Duration {
        self.seam.now() - self.began
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
                tell_addresses(&mut self.surroundings, self.launch.worker, &placement.addresses);
                self.worker.placed(&placement.plan);
            }
            Effect::Gone(GoneLife { worker, life }) => self.worker.peer_is_gone(worker, life),
            Effect::Failed(Fatal { component, error }) => {
                tracing::error!("component `{component}` stopped for good: {error}; the topology becomes inactive");
            }
            Effect::Drain(why) => tracing::info!("{why}: drains, and ends"),
            Effect::Report { head, to_nimbus } => {
                self.surroundings.rotate_log();
                let report = self.report(head);
                self.tell_stage(&report);
                self.surroundings.report(report, to_nimbus);
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
        let now = self.age();
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
        let Head { number, placement, stage, spouts, drained, revision, fatal } = head;
        let ProcessFacts { pid, cpu_us, memory_bytes } = self.surroundings.process();
        Report {
            format: REPORT_FORMAT,
            topology: self.launch.topology.clone(),
            worker: self.launch.worker,
            port: self.launch.port,
            life: self.life,
            number,
            pid,
            placement,
            stage,
            spouts,
            drained,
            revision,
            fatal,
            uptime_us,
            cpu_us,
            memory_bytes,
            inbox_bytes,
            executors,
            links,
            metrics,
        }
    }

    /// Closes the components, within what the worker grants them.
    async fn stop(mut self) -> Ended {
        let pending = self.worker.pending();
        let (surroundings, control) = (&mut self.surroundings, &mut self.control);
        let told_again = async { while surroundings.next().await != Event::Signal || !control.is_signalled_again() {} };
        tokio::select! {
            biased;
            () = told_again => return self.end_at_once(),
            () = self.worker.stop() => {}
        }
        match pending {
            0 => tracing::info!("the worker ends"),
            pending => tracing::warn!(pending, "the worker ends; roots that had not finished have failed"),
        }
        Ended { in_order: true, report: self.worker.report() }
    }

    fn end_at_once(self) -> Ended {
        tracing::warn!(pending = self.worker.pending(), "told to stop again: ends at once");
        Ended { in_order: false, report: self.worker.report() }
    }
}

/// Where the peers are; who has no slot now is dialled where it was last.
fn tell_addresses(surroundings: &mut impl Surroundings, me: WorkerIndex, addresses: &[Option<Address>]) {
    for (index, address) in addresses.iter().enumerate() {
        let peer = WorkerIndex(index as u16);
        if let Some(address) = address.as_ref().filter(|_| peer != me) {
            surroundings.peer_is_at(peer, address);
        }
    }
}
