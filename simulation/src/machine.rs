//! A machine: a disk, a clock on the wall, slots with what runs in them, and the keepers that write how it ended.
//!
//! Not here: what a Supervisor decides, what a worker does. Invariants: a slot is held as long as its worker or its keeper lives; when it is free,
//! the end is written or never will be; a fall of the machine ends all its processes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mutations::Mutation;
use nimbus_api::machine::{MachineAnswer, MachineReport};
use seam::Task;
use seam::disk::Disk;
use supervisor::host::{Connections, End, Host, Lock, NotLaunched, Signal, WorkerProcess, WorkerStart};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use worker::journal::Event as LinkEvent;
use worker::process::{Worker, WorkerReport};
use worker::transfer::network::{Connection, Connector};
use worker_api::ids::{
    BlobHash, Incarnation, Life, NimbusId, PlanVersion, Port, Revision, SupervisorId, TopologyId, WorkerIndex,
};
use worker_api::launch::LAUNCH_FILE;
use worker_api::plan::Address;
use worker_api::report::Report;
use worker_role::{Ended, Event, ProcessFacts, Role, RoleConfig, Surroundings};

use crate::disk::{MachineDisk, Wall};
use crate::network::MachineId;
use crate::oracle::Observation;
use crate::process::Process;
use crate::world::World;

/// Midnight of a day in 2026: when a run begins, on each clock that was not set.
pub(crate) const BEGIN_MS: u64 = 1_767_225_600_000;
/// Events that may wait to be heard by a worker.
const EVENTS: usize = 16;

/// The clock on a machine's wall, which may be set.
#[derive(Clone)]
pub struct Clock {
    began: Instant,
    ahead_ms: Arc<AtomicI64>,
}

impl Clock {
    /// One that is right.
    pub fn new(began: Instant) -> Self {
        Clock { began, ahead_ms: Arc::default() }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        let run = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        (BEGIN_MS + run).saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// Sets it: so far ahead of the right one.
    pub fn set(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }

    /// For a disk.
    pub fn wall(&self) -> Wall {
        let clock = self.clone();
        Arc::new(move || clock.now_ms())
    }
}

/// A machine on which a Supervisor and its workers run; a cheap clone.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    id: MachineId,
    host: String,
    slots: Vec<Port>,
    world: World,
    disk: MachineDisk,
    clock: Clock,
    /// Counts its disks: with another disk, its Supervisor is another one.
    disks: AtomicU16,
    /// Counts its starts.
    boots: AtomicU64,
    state: Mutex<State>,
    /// The Supervisor's socket came, or the machine is back.
    changed: Notify,
}

#[derive(Default)]
struct State {
    daemon: Option<Process>,
    socket: Option<Connections>,
    is_down: bool,
    daemon_not_before: Option<Instant>,
    places: BTreeMap<Port, Place>,
}

#[derive(Default)]
struct Place {
    holder: Option<Holder>,
    end: Option<End>,
    last_started: Option<Incarnation>,
}

/// A worker in its slot.
#[derive(Clone)]
pub struct Holder {
    /// Its process.
    pub process: Process,
    /// Its topology.
    pub topology: TopologyId,
    /// Which worker of it.
    pub worker: WorkerIndex,
    /// Which life.
    pub life: Life,
    is_kept: bool,
    began: Instant,
    handle: Arc<Mutex<Handle>>,
}

/// What is seen of a worker from outside.
#[derive(Default)]
struct Handle {
    worker: std::sync::Weak<Worker>,
    ended: Option<Ended>,
    signals: Option<mpsc::Sender<Event>>,
    cause: Option<String>,
}

impl Holder {
    /// What it has counted, if it lives.
    pub fn report(&self) -> Option<WorkerReport> {
        lock(&self.handle).worker.upgrade().map(|worker| worker.report())
    }

    /// Whether all its components are prepared and all peers connected.
    pub fn is_ready(&self) -> bool {
        lock(&self.handle).worker.upgrade().is_some_and(|worker| worker.is_ready())
    }

    /// Roots that its spouts have pending.
    pub fn pending(&self) -> u64 {
        lock(&self.handle).worker.upgrade().map_or(0, |worker| worker.pending())
    }
}

impl Machine {
    /// A machine without processes, with an empty disk.
    pub fn new(world: &World, id: MachineId, host: String, slots: Vec<Port>) -> Self {
        let clock = Clock::new(world.log().began());
        Machine(Arc::new(Inner {
            id,
            host,
            slots,
            world: world.clone(),
            disk: MachineDisk::new(clock.wall()),
            clock,
            disks: AtomicU16::new(0),
            boots: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// In the network.
    pub fn id(&self) -> MachineId {
        self.0.id
    }

    /// What others call it.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Its slots.
    pub fn slots(&self) -> &[Port] {
        &self.0.slots
    }

    /// Its disk.
    pub fn disk(&self) -> &MachineDisk {
        &self.0.disk
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Who its Supervisor is: always the same for a disk.
    ///
    /// # Panics
    /// Never: host names of a run are short, of letters and digits.
    pub fn supervisor_id(&self) -> SupervisorId {
        SupervisorId::new(self.daemon_id()).expect("host names of a run fit the grammar")
    }

    /// Who its Nimbus is: always the same for a disk.
    ///
    /// # Panics
    /// As [`Machine::supervisor_id`].
    pub fn nimbus_id(&self) -> NimbusId {
        NimbusId::new(self.daemon_id()).expect("host names of a run fit the grammar")
    }

    fn daemon_id(&self) -> String {
        format!("{}-{}", self.0.host, self.0.disks.load(Ordering::Relaxed))
    }

    /// A new process of its.
    pub fn process(&self, what: &str) -> Process {
        let clock = self.0.clock.clone();
        self.0.world.process(format!("{}/{what}", self.0.host), move || clock.now_ms())
    }

    /// The process of its Supervisor or Nimbus, if it lives.
    pub fn daemon(&self) -> Option<Process> {
        lock(&self.0.state).daemon.clone().filter(Process::is_alive)
    }

    /// This process is its Supervisor or Nimbus from now on.
    pub fn set_daemon(&self, process: Process) {
        lock(&self.0.state).daemon = Some(process);
    }

    /// Workers that live, by slot.
    pub fn workers(&self) -> BTreeMap<Port, Holder> {
        let state = lock(&self.0.state);
        let held = state.places.iter().filter_map(|(port, place)| Some((*port, place.holder.clone()?)));
        held.filter(|(_, holder)| holder.process.is_alive()).collect()
    }

    /// The keeper of a slot's worker is killed: nobody writes how the worker ends.
    pub fn kill_keeper(&self, port: Port) {
        if let Some(holder) = lock(&self.0.state).places.get_mut(&port).and_then(|place| place.holder.as_mut()) {
            holder.is_kept = false;
        }
    }

    /// Falls: all processes end at once, and what was not synced is gone.
    pub fn fall(&self, with_its_disk: bool) {
        self.0.world.network().fall(self.0.id, true);
        lock(&self.0.state).is_down = true;
        self.0.boots.fetch_add(1, Ordering::Relaxed);
        let workers = self.workers();
        for holder in workers.values() {
            lock(&self.0.state).places.values_mut().for_each(|place| {
                place.holder.iter_mut().for_each(|holder| holder.is_kept = false);
            });
            holder.process.kill();
        }
        if let Some(daemon) = self.daemon() {
            daemon.kill();
        }
        match with_its_disk {
            true => {
                self.0.disk.replace_by_empty();
                self.0.disks.fetch_add(1, Ordering::Relaxed);
                lock(&self.0.state).places.clear();
            }
            false => self.0.disk.fall(),
        }
    }

    /// Is back after a fall; nothing runs yet.
    pub fn come_back(&self) {
        self.0.world.network().fall(self.0.id, false);
        lock(&self.0.state).is_down = false;
        self.0.changed.notify_waiters();
    }

    /// Waits until a daemon may be started on it.
    pub async fn may_run(&self) {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let (is_down, until) = {
                let state = lock(&self.0.state);
                (state.is_down, state.daemon_not_before)
            };
            match until.filter(|until| *until > Instant::now()) {
                _ if is_down => changed.await,
                Some(until) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = sleep_until(until) => {}
                    }
                }
                None => return,
            }
        }
    }

    /// Whether it has fallen, and is not back.
    pub fn is_down(&self) -> bool {
        lock(&self.0.state).is_down
    }

    /// Its daemon is not started again before so long from now.
    pub fn hold_daemon(&self, pause: Duration) {
        lock(&self.0.state).daemon_not_before = Some(Instant::now() + pause);
        self.0.changed.notify_waiters();
    }

    /// All its processes end, for good.
    pub fn end(&self) {
        lock(&self.0.state).is_down = true;
        self.workers().values().for_each(|holder| holder.process.kill());
        self.daemon().iter().for_each(Process::kill);
        lock(&self.0.state).socket = None;
    }

    /// Folders and files of workers on its disk.
    pub fn worker_folders(&self) -> BTreeSet<String> {
        let folder = folder("workers");
        let files = self.0.disk.files_below(&folder).into_keys();
        let folders = self.0.disk.folders_below(&folder);
        files.chain(folders).map(|path| path.display().to_string()).collect()
    }

    /// Blobs of its Supervisor or Nimbus: file names, parts among them.
    pub fn blobs(&self, of: &str) -> BTreeSet<String> {
        let files = self.0.disk.files_below(&folder(of).join("blobs")).into_keys();
        files.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
    }

    /// As a host for this Supervisor process.
    pub fn host_for(&self, process: &Process, nimbuses: Vec<MachineId>) -> Arc<dyn Host> {
        Arc::new(SimulatedHost { machine: self.clone(), process: process.clone(), nimbuses })
    }

    fn holder(&self, port: Port) -> Option<Holder> {
        lock(&self.0.state).places.get(&port)?.holder.clone()
    }

    /// Starts a worker, as its keeper does.
    fn start(&self, start: &WorkerStart, executable: &[u8]) -> Result<(), NotLaunched> {
        let world = &self.0.world;
        let failed = |why: String| NotLaunched::Failed(why);
        let port = start.port;
        let is_held = self.holder(port).is_some();
        // The lock of a real slot is passed over with this bug, as here.
        if is_held && !mutations::on(Mutation::WorkerStartedTwice) {
            return Err(NotLaunched::Held(format!("the slot {port} is held")));
        }
        let Some(submitted) = world.executable(executable) else {
            return Err(failed(format!("cannot run the executable {}: it is none", start.executable.display())));
        };
        let launch = start.launch.clone();
        let (topology, worker, life) = (launch.topology.clone(), launch.worker, start.life);
        let process = self.process(&format!("{port} {topology}#{worker} {}.{}", life.plan, life.incarnation));
        let handle = Arc::<Mutex<Handle>>::default();
        let began = Instant::now();
        let holder = Holder {
            process: process.clone(),
            topology: topology.clone(),
            worker,
            life,
            is_kept: true,
            began,
            handle: handle.clone(),
        };
        {
            let mut state = lock(&self.0.state);
            let place = state.places.entry(port).or_default();
            place.holder = Some(holder);
            place.end = None;
            place.last_started = Some(life.incarnation);
        }
        world.hear(Observation::WorkerStarted {
            topology: topology.clone(),
            worker,
            life,
            machine: self.supervisor_id(),
            port,
        });
        let machine = self.clone();
        process.at_end(move || machine.ended(port));
        let machine = self.clone();
        let built = Arc::new(submitted.build(&topology));
        let me = process.clone();
        process.run(async move {
            let Some(accepted) = machine.0.world.network().listen((machine.id(), port.0), &me) else {
                lock(&handle).cause = Some(format!("cannot listen at port {port}: it is taken"));
                return;
            };
            let connector = Arc::new(LinkConnector {
                machine: machine.clone(),
                process: me.clone(),
                peers: Mutex::default(),
                accepted: tokio::sync::Mutex::new(accepted),
            });
            let (signals, events) = mpsc::channel(EVENTS);
            lock(&handle).signals = Some(signals.clone());
            let surroundings = Around::start(&machine, &me, port, connector.clone(), &launch.nimbuses, signals, events);
            let hears = machine.0.world.clone();
            let observed = topology.clone();
            let observer = Arc::new(move |event| {
                if let LinkEvent::Accepted { peer, life: theirs } = event {
                    let (topology, peer) = (observed.clone(), (peer, theirs));
                    hears.hear(Observation::Accepted { topology, by: (worker, life), peer });
                }
            });
            let role = Role::start(
                RoleConfig {
                    topology: built,
                    launch,
                    connector,
                    data: me.seam().clone(),
                    control: me.seam().clone(),
                    journal: None,
                    observer: Some(observer),
                },
                surroundings,
            );
            lock(&handle).worker = role.worker();
            let ended = role.run().await;
            lock(&handle).ended = Some(ended);
        });
        Ok(())
    }

    /// The slot's worker has ended: its keeper writes how, and lets go of the slot.
    fn ended(&self, port: Port) {
        let Some(holder) = self.holder(port) else { return };
        let handle = std::mem::take(&mut *lock(&holder.handle));
        let counted = handle.worker.upgrade().map(|worker| worker.report());
        let (in_order, report) = match (handle.ended, counted) {
            (Some(ended), _) => (ended.in_order, Some(ended.report)),
            (None, report) => (false, report),
        };
        let is_full = self.0.disk.is_full();
        let cause = match (handle.cause, in_order) {
            (Some(cause), _) => cause,
            (None, true) => "it ended in order".to_owned(),
            (None, false) => "killed by SIGKILL".to_owned(),
        };
        self.0.world.log().line(holder.process.name(), format_args!("ended: {cause}"));
        let lived_ms = u64::try_from(holder.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let end = End {
            incarnation: holder.life.incarnation,
            ended_ms: self.0.clock.now_ms(),
            lived_ms,
            cause,
            last_lines: Vec::new(),
        };
        if let Some(place) = lock(&self.0.state).places.get_mut(&port) {
            place.holder = None;
            place.end = (holder.is_kept && !is_full).then_some(end);
        }
        let empty = || WorkerReport {
            uptime_us: 0,
            inbox_bytes: 0,
            executors: Vec::new(),
            links: BTreeMap::new(),
            metrics: BTreeMap::new(),
        };
        self.0.world.hear(Observation::WorkerEnded {
            topology: holder.topology,
            worker: holder.worker,
            life: holder.life,
            in_order,
            report: Box::new(report.unwrap_or_else(empty)),
        });
    }
}

/// A machine as the host of a Supervisor.
struct SimulatedHost {
    machine: Machine,
    process: Process,
    nimbuses: Vec<MachineId>,
}

impl Host for SimulatedHost {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.machine.0.disk.of(&self.process))
    }

    fn socket(&self) -> PathBuf {
        PathBuf::from("/storm/supervisor/supervisor.sock")
    }

    fn serve(&self, workers: Connections) -> BoxFuture<'static, ()> {
        let machine = self.machine.clone();
        async move {
            lock(&machine.0.state).socket = Some(workers);
            machine.0.changed.notify_waiters();
            std::future::pending::<()>().await;
        }
        .boxed()
    }

    fn port_is_free(&self, port: Port) -> Result<(), String> {
        match self.machine.0.world.network().listener((self.machine.id(), port.0)) {
            None => Ok(()),
            Some(process) => Err(format!("port {port} is taken by {process:?}")),
        }
    }

    fn launch(&self, start: WorkerStart) -> BoxFuture<'static, Result<(), NotLaunched>> {
        let (machine, disk) = (self.machine.clone(), self.machine.0.disk.of(&self.process));
        async move {
            let executable = furnish(&disk, &start).map_err(|error| NotLaunched::Failed(error.to_string()))?;
            let boot = machine.0.boots.load(Ordering::Relaxed);
            let pause = machine.0.world.random_ms(1..30);
            // A process of its own, which goes on whatever becomes of the Supervisor.
            let keeper = tokio::spawn(async move {
                sleep(pause).await;
                if machine.0.boots.load(Ordering::Relaxed) != boot {
                    return Err(NotLaunched::Failed("the machine fell".to_owned()));
                }
                machine.start(&start, &executable)
            });
            keeper.await.unwrap_or_else(|error| Err(NotLaunched::Failed(error.to_string())))
        }
        .boxed()
    }

    fn look(&self, port: Port) -> io::Result<Lock> {
        let state = lock(&self.machine.0.state);
        let Some(place) = state.places.get(&port) else { return Ok(Lock::Free(None)) };
        match &place.holder {
            Some(_) => Ok(Lock::Held),
            None => Ok(Lock::Free(place.end.clone())),
        }
    }

    fn last_started(&self, port: Port) -> Option<Incarnation> {
        lock(&self.machine.0.state).places.get(&port)?.last_started
    }

    fn is_kept(&self, port: Port) -> bool {
        self.machine.holder(port).is_some_and(|holder| holder.is_kept)
    }

    fn signal(&self, port: Port, signal: Signal) -> io::Result<()> {
        if let Some(holder) = self.machine.holder(port) {
            holder.signal(signal);
        }
        Ok(())
    }

    fn fetch(&self, hash: BlobHash, from: u64, to: DuplexStream) -> BoxFuture<'static, Result<(), String>> {
        let (world, id, all) = (self.machine.0.world.clone(), self.machine.id(), self.nimbuses.clone());
        async move {
            let mut to = to;
            world.nimbuses().download(id, &all, &hash, from, &mut to).await?;
            to.shutdown().await.map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn offer(
        &self,
        hash: BlobHash,
        length: u64,
        offset: u64,
        piece: Bytes,
    ) -> BoxFuture<'static, Result<Option<u64>, String>> {
        let (world, id, all) = (self.machine.0.world.clone(), self.machine.id(), self.nimbuses.clone());
        async move { world.nimbuses().offer(id, &all, hash, length, offset, piece).await }.boxed()
    }

    fn report(&self, report: Arc<MachineReport>) -> BoxFuture<'static, Result<MachineAnswer, String>> {
        let (world, id, all) = (self.machine.0.world.clone(), self.machine.id(), self.nimbuses.clone());
        async move { world.nimbuses().report_machine(&world, id, &all, report).await }.boxed()
    }
}

/// Makes a worker's folder ready, as a Supervisor does before a start; gives the executable's bytes.
fn furnish(disk: &dyn Disk, start: &WorkerStart) -> io::Result<Vec<u8>> {
    disk.make_folder(&start.work_folder)?;
    for (name, from) in &start.files {
        let bytes = disk.read(from)?;
        disk.replace(&start.work_folder.join(name.as_str()), &bytes, false)?;
    }
    let json = serde_json::to_vec_pretty(&start.launch)?;
    disk.replace(&start.work_folder.join(LAUNCH_FILE), &json, false)?;
    if let Some(folder) = start.launch.log.parent() {
        disk.make_folder(folder)?;
    }
    disk.read(&start.executable)
}

impl Holder {
    fn signal(&self, signal: Signal) {
        match signal {
            Signal::Kill => self.process.kill(),
            Signal::Term => {
                let signals = lock(&self.handle).signals.clone();
                match signals {
                    // More than a few of them change nothing.
                    Some(signals) => drop(signals.try_send(Event::Signal)),
                    // It has not set up what it does with signals.
                    None => self.process.kill(),
                }
            }
        }
    }
}

/// What the Supervisor's socket tells of who is at the other end.
struct AtTheOtherEnd(Holder);

impl WorkerProcess for AtTheOtherEnd {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.0.signal(signal);
        Ok(())
    }
}

/// What a worker has around it.
struct Around {
    connector: Arc<LinkConnector>,
    process: Process,
    /// The plan and the record that it has reported last.
    heard_of: Option<(PlanVersion, Revision)>,
    reports: watch::Sender<Option<Report>>,
    for_nimbus: mpsc::Sender<Report>,
    events: mpsc::Receiver<Event>,
    _tasks: [Task<()>; 2],
}

impl Around {
    fn start(
        machine: &Machine,
        process: &Process,
        port: Port,
        connector: Arc<LinkConnector>,
        nimbuses: &[String],
        told: mpsc::Sender<Event>,
        events: mpsc::Receiver<Event>,
    ) -> Self {
        let (reports, made) = watch::channel(None);
        let (for_nimbus, mut asked) = mpsc::channel::<Report>(1);
        let seam = process.seam();
        let supervisor = seam.spawn(talk(machine.clone(), port, made, told.clone()));
        let (world, id) = (machine.0.world.clone(), machine.id());
        let nimbuses = world.machines_at(nimbuses);
        let nimbus = seam.spawn(async move {
            while let Some(report) = asked.recv().await {
                if let Ok(answer) = world.nimbuses().report_worker(&world, id, &nimbuses, report).await {
                    drop(told.send(Event::Nimbus(answer)).await);
                }
            }
        });
        Around {
            connector,
            process: process.clone(),
            heard_of: None,
            reports,
            for_nimbus,
            events,
            _tasks: [supervisor, nimbus],
        }
    }
}

impl Surroundings for Around {
    fn report(&mut self, report: Report, to_nimbus: bool) {
        let (placement, revision) = (report.placement, report.revision);
        let world = &self.connector.machine.0.world;
        if self.heard_of.replace((placement, revision)) != Some((placement, revision)) {
            world.log().line(self.process.name(), format_args!("goes by plan {placement}, record {revision}"));
        }
        let (topology, by) = (report.topology.clone(), (report.worker, report.life));
        world.hear(Observation::Reported { topology, by, placement, revision });
        if to_nimbus {
            // One at a time.
            let _ = self.for_nimbus.try_send(report.clone());
        }
        self.reports.send_replace(Some(report));
    }

    async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    fn peer_is_at(&mut self, peer: WorkerIndex, address: &Address) {
        lock(&self.connector.peers).insert(peer, address.clone());
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts { pid: u32::try_from(self.process.number()).unwrap_or(u32::MAX), cpu_us: 0, memory_bytes: 0 }
    }

    fn rotate_log(&mut self) {}
}

/// Keeps a connection to the machine's Supervisor up.
async fn talk(machine: Machine, port: Port, mut reports: watch::Receiver<Option<Report>>, told: mpsc::Sender<Event>) {
    loop {
        let mut socket_changed = std::pin::pin!(machine.0.changed.notified());
        socket_changed.as_mut().enable();
        let socket = lock(&machine.0.state).socket.clone();
        let Some(socket) = socket.filter(|_| machine.daemon().is_some()) else {
            socket_changed.await;
            sleep(machine.0.world.random_ms(0..200)).await;
            continue;
        };
        let Some(holder) = machine.holder(port) else { return };
        if let Some(mut connection) = socket.connect(AtTheOtherEnd(holder)).await {
            let to = connection.reports();
            // Who has just come knows nothing yet.
            reports.mark_changed();
            loop {
                tokio::select! {
                    biased;
                    answer = connection.answer() => match answer {
                        Some(answer) => drop(told.send(Event::Supervisor((*answer).clone())).await),
                        None => break,
                    },
                    changed = reports.changed() => {
                        let report = reports.borrow_and_update().clone();
                        let (Ok(()), Some(report)) = (changed, report) else { continue };
                        if !to.send(report).await {
                            break;
                        }
                    }
                }
            }
        }
        sleep(machine.0.world.random_ms(10..200)).await;
    }
}

/// How a worker reaches its peers.
struct LinkConnector {
    machine: Machine,
    process: Process,
    peers: Mutex<BTreeMap<WorkerIndex, Address>>,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
}

impl Connector for LinkConnector {
    fn dial(&self, to: WorkerIndex) -> BoxFuture<'_, io::Result<Connection>> {
        async move {
            let address = lock(&self.peers).get(&to).cloned().ok_or(io::ErrorKind::AddrNotAvailable)?;
            let world = &self.machine.0.world;
            let machine = world.machine_called(&address.host).ok_or(io::ErrorKind::HostUnreachable)?;
            world.network().dial(&self.process, self.machine.id(), (machine, address.port)).await
        }
        .boxed()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        async move {
            match self.accepted.lock().await.recv().await {
                Some(connection) => Ok(connection),
                // It has ended: nobody comes any more.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

/// Where things lie on each machine.
pub fn folder(what: &str) -> PathBuf {
    Path::new("/storm").join(what)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
