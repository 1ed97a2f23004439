//! The network between machines: connections with latency, order and bounds, and calls; partitions, cuts, falls.
//!
//! A connection behaves as one of TCP does: bytes that were written come in their order or the connection breaks; a partition holds
//! them up until it ends; the end of a process breaks its connections, with or without what it wrote last; a machine that fell says nothing, and
//! answers with a reset once it is back. Within a machine nothing takes time.
//!
//! Not here: what is said. Invariant: at most [`WIRE_BYTES`] are under way in each direction of a connection, and
//! [`BACKLOG_CONNECTIONS`] wait to be accepted at a port.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use worker::transfer::network::Connection;

use crate::process::Process;

/// Most bytes under way in one direction of a connection.
pub const WIRE_BYTES: usize = 256 << 10;
/// Most connections that wait to be accepted at a port.
pub const BACKLOG_CONNECTIONS: usize = 64;
/// How long a dial waits for an answer, as the system does.
const DIAL: Duration = Duration::from_secs(60);

/// A machine in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub u16);

/// All machines and what runs between them; a cheap clone.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something about who reaches whom has changed.
    changed: Notify,
}

struct State {
    random: ChaCha8Rng,
    /// From the first, nothing reaches the second.
    blocked: BTreeSet<(MachineId, MachineId)>,
    down: BTreeSet<MachineId>,
    /// So much longer everything between two machines takes.
    slower: BTreeMap<(MachineId, MachineId), Duration>,
    /// Of a hundred answers to calls, so many are lost.
    lost_answers_percent: u32,
    listeners: BTreeMap<(MachineId, u16), Listener>,
    connections: BTreeMap<u64, Laid>,
    opened: u64,
    /// Processes whose end is told here.
    watched: BTreeSet<u64>,
}

struct Listener {
    process: Process,
    backlog: mpsc::Sender<Connection>,
}

struct Laid {
    /// Who dialled, and who accepted.
    ends: [(u64, MachineId); 2],
    /// From the first to the second, and back.
    wires: [Weak<Mutex<Wire>>; 2],
}

impl Network {
    /// Nobody listens yet.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: ChaCha8Rng::seed_from_u64(seed),
            blocked: BTreeSet::new(),
            down: BTreeSet::new(),
            slower: BTreeMap::new(),
            lost_answers_percent: 0,
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            opened: 0,
            watched: BTreeSet::new(),
        };
        Network(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// A process listens from now on, until it ends; `None` if another one does there.
    pub fn listen(&self, at: (MachineId, u16), process: &Process) -> Option<mpsc::Receiver<Connection>> {
        let (backlog, accepted) = mpsc::channel(BACKLOG_CONNECTIONS);
        if self.listener(at).is_some() {
            return None;
        }
        lock(&self.0.state).listeners.insert(at, Listener { process: process.clone(), backlog });
        self.watch(process);
        Some(accepted)
    }

    /// Has the end of a process break its connections.
    fn watch(&self, process: &Process) {
        if lock(&self.0.state).watched.insert(process.number()) {
            let (network, number) = (self.clone(), process.number());
            process.at_end(move || network.ended(number));
        }
    }

    /// Who listens there.
    pub fn listener(&self, at: (MachineId, u16)) -> Option<Process> {
        let state = lock(&self.0.state);
        state.listeners.get(&at).map(|listener| listener.process.clone()).filter(Process::is_alive)
    }

    /// A process has ended: its connections break, and it listens no more.
    fn ended(&self, number: u64) {
        let mut broken = Vec::new();
        {
            let mut state = lock(&self.0.state);
            let State { listeners, connections, random, watched, .. } = &mut *state;
            watched.remove(&number);
            listeners.retain(|_, listener| listener.process.number() != number);
            connections.retain(|_, laid| {
                let Some(end) = laid.ends.iter().position(|(process, _)| *process == number) else { return true };
                let [there, back] = &laid.wires;
                let (from, to) = if end == 0 { (there, back) } else { (back, there) };
                broken.push((from.upgrade(), to.upgrade(), random.random_bool(0.5)));
                false
            });
        }
        for (from, to, with_its_last_bytes) in broken {
            if let Some(from) = from {
                lock(&from).writer_has_ended(with_its_last_bytes);
            }
            if let Some(to) = to {
                lock(&to).break_off(End::Unread);
            }
        }
    }

    /// Nothing reaches `to` from `from` any more, or it does again.
    pub fn block(&self, from: MachineId, to: MachineId, is_blocked: bool) {
        {
            let mut state = lock(&self.0.state);
            match is_blocked {
                true => state.blocked.insert((from, to)),
                false => state.blocked.remove(&(from, to)),
            };
        }
        self.reach_changed();
    }

    /// A machine falls, and says nothing more; or it is back, and knows of no connection.
    pub fn fall(&self, machine: MachineId, is_down: bool) {
        {
            let mut state = lock(&self.0.state);
            match is_down {
                true => state.down.insert(machine),
                false => state.down.remove(&machine),
            };
        }
        if !is_down {
            self.cut_where(|one, other| one == machine || other == machine);
        }
        self.reach_changed();
    }

    /// Breaks all connections between two machines: both sides get an error, and what was under way is lost.
    pub fn cut(&self, one: MachineId, other: MachineId) {
        self.cut_where(|from, to| (from, to) == (one, other) || (from, to) == (other, one));
    }

    /// Breaks all connections between two machines for one side only: it gets an error, and what it is sent is lost. The other
    /// side hears of it only after what is under way to it, which comes so much later.
    pub fn cut_half(&self, one: MachineId, other: MachineId, late: Duration) {
        let mut halves = Vec::new();
        {
            let mut state = lock(&self.0.state);
            let State { connections, random, .. } = &mut *state;
            connections.retain(|_, laid| {
                let ends = (laid.ends[0].1, laid.ends[1].1);
                let is_cut = ends == (one, other) || ends == (other, one);
                if is_cut {
                    let [there, back] = &laid.wires;
                    // Mostly who dialled, for it dials again at once.
                    let (from, to) = if random.random_bool(0.8) { (there, back) } else { (back, there) };
                    halves.push((from.upgrade(), to.upgrade()));
                }
                !is_cut
            });
        }
        for (from, to) in halves {
            if let Some(from) = from {
                lock(&from).break_off_later(late);
            }
            if let Some(to) = to {
                lock(&to).lead_nowhere();
            }
        }
    }

    /// Everything between two machines takes so much longer.
    pub fn slow(&self, one: MachineId, other: MachineId, by: Duration) {
        let mut state = lock(&self.0.state);
        for pair in [(one, other), (other, one)] {
            match by.is_zero() {
                true => drop(state.slower.remove(&pair)),
                false => drop(state.slower.insert(pair, by)),
            }
        }
        drop(state);
        self.reach_changed();
    }

    /// Of a hundred answers to calls, so many are lost after the call was done.
    pub fn lose_answers(&self, percent: u32) {
        lock(&self.0.state).lost_answers_percent = percent;
    }

    /// No partition, no delay, no loss any more. Machines that fell are still down.
    pub fn heal(&self) {
        {
            let mut state = lock(&self.0.state);
            state.blocked.clear();
            state.slower.clear();
            state.lost_answers_percent = 0;
        }
        self.reach_changed();
    }

    fn cut_where(&self, cut: impl Fn(MachineId, MachineId) -> bool) {
        let mut wires = Vec::new();
        lock(&self.0.state).connections.retain(|_, laid| {
            let cut = cut(laid.ends[0].1, laid.ends[1].1);
            if cut {
                wires.extend(laid.wires.iter().filter_map(Weak::upgrade));
            }
            !cut
        });
        for wire in wires {
            lock(&wire).break_off(End::Cut);
        }
    }

    /// Tells wires and who waits on a way that it may be another now.
    fn reach_changed(&self) {
        let mut changed = Vec::new();
        {
            let state = lock(&self.0.state);
            for laid in state.connections.values() {
                let [(_, one), (_, other)] = laid.ends;
                let [there, back] = &laid.wires;
                let way = |from, to| (state.is_blocked(from, to), state.slower(from, to));
                changed.extend(there.upgrade().map(|wire| (wire, way(one, other))));
                changed.extend(back.upgrade().map(|wire| (wire, way(other, one))));
            }
        }
        for (wire, (is_blocked, slower)) in changed {
            let mut wire = lock(&wire);
            wire.slower = slower;
            wire.is_blocked = is_blocked;
            wire.wake_reader();
        }
        self.0.changed.notify_waiters();
    }

    /// Waits as long as something takes from one machine to another, through any partition.
    async fn travel(&self, from: MachineId, to: MachineId) {
        let latency = lock(&self.0.state).latency(from, to);
        if !latency.is_zero() {
            sleep(latency).await;
        }
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if !lock(&self.0.state).is_blocked(from, to) {
                return;
            }
            changed.await;
        }
    }

    /// Opens a connection from a process on `from` to who listens at `to`.
    ///
    /// # Errors
    /// Nobody listens there, or no answer came within a minute.
    pub async fn dial(&self, process: &Process, from: MachineId, to: (MachineId, u16)) -> io::Result<Connection> {
        let dialled = async {
            self.travel(from, to.0).await;
            let connection = self.lay(process, from, to)?;
            self.travel(to.0, from).await;
            Ok(connection)
        };
        timeout(DIAL, dialled).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn lay(&self, process: &Process, from: MachineId, to: (MachineId, u16)) -> io::Result<Connection> {
        let mut state = lock(&self.0.state);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        if !process.is_alive() {
            return Err(refused());
        }
        let listener = state.listeners.get(&to).filter(|listener| listener.process.is_alive()).ok_or_else(refused)?;
        let other = listener.process.number();
        let slot = listener.backlog.clone().try_reserve_owned().map_err(|_| refused())?;
        state.opened += 1;
        let number = state.opened;
        let (there, back) = (state.wire(from, to.0), state.wire(to.0, from));
        // Those that both sides have closed.
        if number.is_multiple_of(64) {
            state.connections.retain(|_, laid| laid.wires.iter().any(|wire| wire.strong_count() > 0));
        }
        let ends = [(process.number(), from), (other, to.0)];
        let wires = [Arc::downgrade(&there), Arc::downgrade(&back)];
        state.connections.insert(number, Laid { ends, wires });
        drop(state);
        self.watch(process);
        slot.send(Connection { reader: Box::new(Outlet::new(there.clone())), writer: Box::new(Inlet(back.clone())) });
        Ok(Connection { reader: Box::new(Outlet::new(back)), writer: Box::new(Inlet(there)) })
    }

    /// Asks a process that listens at `to`: `work` is done in it, on its side of the network. What it does may be done although
    /// the answer is lost.
    ///
    /// # Errors
    /// Nobody listens there; the one who did has ended; the answer was lost. A partition or a machine that fell has the caller wait.
    pub async fn call<T: Send + 'static>(
        &self,
        from: MachineId,
        to: (MachineId, u16),
        work: impl AsyncWork<T>,
    ) -> io::Result<T> {
        self.travel(from, to.0).await;
        let server = self.listener(to).ok_or(io::ErrorKind::ConnectionRefused)?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let started = server.clone();
        let _task = server.seam().spawn(async move {
            // Who asked may be gone.
            let _ = answer.send(work.start(started).await);
        });
        let answer = tokio::select! {
            biased;
            answer = answered => answer.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?,
            () = server.ended() => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let is_lost = {
            let mut state = lock(&self.0.state);
            let percent = state.lost_answers_percent;
            from != to.0 && percent > 0 && state.random.random_range(0..100) < percent
        };
        self.travel(to.0, from).await;
        match is_lost {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(answer),
        }
    }
}

/// What a call does in the process that is asked.
pub trait AsyncWork<T>: Send + 'static {
    /// Does it.
    fn start(self, server: Process) -> Pin<Box<dyn Future<Output = T> + Send>>;
}

impl<T, F, W> AsyncWork<T> for F
where
    F: FnOnce(Process) -> W + Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    fn start(self, server: Process) -> Pin<Box<dyn Future<Output = T> + Send>> {
        Box::pin(self(server))
    }
}

impl State {
    fn is_blocked(&self, from: MachineId, to: MachineId) -> bool {
        self.down.contains(&from) || self.down.contains(&to) || (from != to && self.blocked.contains(&(from, to)))
    }

    fn latency(&mut self, from: MachineId, to: MachineId) -> Duration {
        if from == to {
            return Duration::ZERO;
        }
        latency(&mut self.random) + self.slower(from, to)
    }

    fn slower(&self, from: MachineId, to: MachineId) -> Duration {
        self.slower.get(&(from, to)).copied().unwrap_or_default()
    }

    fn wire(&mut self, from: MachineId, to: MachineId) -> Arc<Mutex<Wire>> {
        let is_local = from == to;
        Arc::new(Mutex::new(Wire {
            random: (!is_local).then(|| ChaCha8Rng::seed_from_u64(self.random.random())),
            slower: self.slower(from, to),
            is_blocked: self.is_blocked(from, to),
            segments: VecDeque::new(),
            bytes: 0,
            last: Instant::now(),
            end: None,
            reader: None,
            writer: None,
        }))
    }
}

/// Mostly a millisecond or two, now and then much more.
fn latency(random: &mut ChaCha8Rng) -> Duration {
    match random.random_range(0..100u32) {
        0 => Duration::from_millis(random.random_range(10..100)),
        _ => Duration::from_millis(random.random_range(1..4)),
    }
}

/// One direction of a connection.
struct Wire {
    /// For latencies; `None` within a machine.
    random: Option<ChaCha8Rng>,
    slower: Duration,
    is_blocked: bool,
    /// Bytes, and when they are there.
    segments: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When the last of what was sent is there.
    last: Instant,
    end: Option<End>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The writer has closed it: what is under way can still be read.
    Written,
    /// The writer has ended: after what is under way comes a reset.
    Reset,
    /// The reader has gone.
    Unread,
    /// Broken, for both.
    Cut,
    /// Broken for the reader, and the writer has not heard of it.
    Nowhere,
}

impl Wire {
    /// When what is sent now is there: not before what was sent earlier.
    fn arrival(&mut self) -> Instant {
        let latency = self.random.as_mut().map_or(Duration::ZERO, latency);
        self.last = self.last.max(Instant::now() + latency + self.slower);
        self.last
    }

    fn writer_has_ended(&mut self, with_its_last_bytes: bool) {
        if self.end.is_some() {
            return;
        }
        if !with_its_last_bytes {
            self.segments.clear();
            self.bytes = 0;
        }
        self.arrival();
        self.end = Some(End::Reset);
        self.wake_reader();
    }

    fn close(&mut self) {
        if self.end.is_none() {
            self.arrival();
            self.end = Some(End::Written);
            self.wake_reader();
        }
    }

    fn break_off(&mut self, end: End) {
        self.segments.clear();
        self.bytes = 0;
        if end == End::Cut || self.end.is_none() {
            self.end = Some(end);
        }
        self.wake_reader();
        self.wake_writer();
    }

    /// As if the writer had ended now, which is heard so much later, as is all that is under way.
    fn break_off_later(&mut self, late: Duration) {
        self.segments.iter_mut().for_each(|(at, _)| *at += late);
        self.last = self.last.max(Instant::now()) + late;
        if self.end.is_none() {
            self.end = Some(End::Reset);
        }
        self.wake_reader();
        self.wake_writer();
    }

    fn lead_nowhere(&mut self) {
        self.segments.clear();
        self.bytes = 0;
        if self.end.is_none() {
            self.end = Some(End::Nowhere);
        }
        self.wake_reader();
        self.wake_writer();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

/// The end of a wire that is read.
struct Outlet {
    wire: Arc<Mutex<Wire>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Outlet {
    fn new(wire: Arc<Mutex<Wire>>) -> Self {
        Outlet { wire, sleep: None }
    }
}

/// The end of a wire that is written.
struct Inlet(Arc<Mutex<Wire>>);

impl AsyncRead for Outlet {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Outlet { wire, sleep } = &mut *self;
        let mut wire = lock(wire);
        if matches!(wire.end, Some(End::Cut | End::Nowhere)) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        wire.reader = Some(cx.waker().clone());
        if wire.is_blocked {
            return Poll::Pending;
        }
        let next = match (wire.segments.front(), wire.end) {
            (Some((at, _)), _) => *at,
            (None, Some(_)) => wire.last,
            (None, None) => return Poll::Pending,
        };
        if next > Instant::now() {
            let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if sleep.deadline() != next {
                sleep.as_mut().reset(next);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let now = Instant::now();
        let mut taken = 0;
        while let Some((at, bytes)) = wire.segments.front_mut() {
            let room = into.remaining();
            if *at > now || room == 0 {
                break;
            }
            let count = bytes.len().min(room);
            into.put_slice(&bytes[..count]);
            bytes.advance(count);
            taken += count;
            if bytes.is_empty() {
                wire.segments.pop_front();
            }
        }
        if taken > 0 {
            wire.bytes -= taken;
            wire.wake_writer();
            return Poll::Ready(Ok(()));
        }
        match wire.end {
            Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Inlet {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = lock(&self.0);
        match wire.end {
            Some(End::Cut | End::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(End::Written | End::Unread) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(End::Nowhere) => return Poll::Ready(Ok(bytes.len())),
            None => {}
        }
        let count = bytes.len().min(WIRE_BYTES - wire.bytes);
        if count == 0 && !bytes.is_empty() {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let arrival = wire.arrival();
        wire.segments.push_back((arrival, Bytes::copy_from_slice(&bytes[..count])));
        wire.bytes += count;
        wire.wake_reader();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        lock(&self.wire).break_off(End::Unread);
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        lock(&self.0).close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
