//! Runs links over connections: one task that reads, one that writes, one that keeps a connection up for each peer.
//!
//! | task | one for each | ends with | waits for |
//! |---|---|---|---|
//! | accept | worker | [`Links`] | connections, and handshakes of at most [`HANDSHAKES`] at once |
//! | driver | peer | [`Links`] | the connection's end; then dials again, or waits to be dialled |
//! | reader | connection | the connection | the socket, and nothing else |
//! | writer | connection | the connection | the socket, something to send, a confirm or keep-alive that is due |
//!
//! Of two workers the one with the higher index dials. A link's machine lies behind one mutex, held for a few pushes and
//! never while anything is encoded, delivered or awaited. What the machine wants delivered is delivered by whoever finds
//! nobody else at it, so the order stays that of the machine.
//!
//! Not here: what is decided (`link`), and what the bytes mean (`frame`, `handshake`). Invariant: an error on a connection
//! closes that connection and nothing else.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mutations::Mutation;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use topology_api::anchor::Root;
use topology_api::fail::FailReason;
use topology_api::ids::TaskId;
use tracing::{info, warn};

use super::frame::{self, AckRecord, Data, End, FrameError, Record, RecordError};
use super::handshake::{self, Acceptor, Agreed, Dialer, HandshakeError, Identity, MESSAGE_BYTES, Refusal, Reply};
use super::link::{ConnectionId, Effect, Link, LinkError, Turn};
use super::network::{Connection, Connector};
use super::permits::{Amount, Windows};
use seam::{Seam, Task};
use worker_api::ids::{Incarnation, Life, PlanVersion, WorkerIndex};
use worker_api::report::LinkReport;

/// Most handshakes of accepted connections at once; further connections wait to be accepted.
pub const HANDSHAKES: usize = 64;
/// How long a handshake may take, from the first byte to the last.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// About how much is written at once.
const WRITE_BYTES: usize = 256 << 10;
/// Room for what is read at once.
const READ_BYTES: usize = 128 << 10;
/// How long the accept task rests after an error, which is mostly a lack of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Takes what links deliver. For one peer the calls come one after another, in the peer's order; they must be quick, as
/// the reader of the connection makes them. They may use any link.
pub trait Deliver: Send + Sync {
    /// A batch for tasks of this worker. Each target's share counts until [`LinkHandle::consumed`].
    fn data(&self, from: WorkerIndex, data: Data);
    /// A source has ended. Every new life of this worker is told again, of all the sources that ever ended.
    fn end(&self, from: WorkerIndex, end: End);
    /// Acks for this worker's ledgers.
    fn acks(&self, from: WorkerIndex, acks: Vec<AckRecord>);
    /// Fails of roots of this worker's ledgers.
    fn fails(&self, from: WorkerIndex, fails: Vec<(Root, FailReason)>);
    /// Roots of this worker's ledgers that a bolt is holding.
    fn held(&self, from: WorkerIndex, roots: Vec<Root>);
    /// `by` has lost an incarnation of `worker` for good; all acks and visits that `by` queued before came before this.
    fn lost(&self, by: WorkerIndex, worker: WorkerIndex, incarnation: Incarnation);
    /// This worker has lost an incarnation of `worker` for good. Exactly once for each that was connected.
    fn peer_lost(&self, worker: WorkerIndex, incarnation: Incarnation);
    /// The link is with this life for the first time.
    fn connected(&self, worker: WorkerIndex, life: Life);
    /// This life of `worker` has proved itself and is not welcome. If it is newer, it runs by a later plan than this
    /// worker knows: ask for that, then call [`Links::peer`]. Called at each attempt to connect.
    fn refused(&self, worker: WorkerIndex, life: Life, why: Refusal);
}

/// What links are made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this worker is.
    pub identity: Identity,
    /// The tasks of this worker that peers may send to.
    pub tasks: Vec<TaskId>,
    /// What each peer may have under way to each of them.
    pub window: Amount,
}

/// The links of one worker to its peers. Dropping it closes all connections.
pub struct Links {
    shared: Arc<Shared>,
    _accept: Task<()>,
}

struct Shared {
    seam: Seam,
    began: Instant,
    settings: Settings,
    connector: Arc<dyn Connector>,
    /// Weak, as the worker that is delivered to holds the links.
    deliver: Weak<dyn Deliver>,
    peers: Mutex<BTreeMap<WorkerIndex, Peer>>,
}

struct Peer {
    handle: LinkHandle,
    _driver: Task<()>,
}

impl Links {
    /// Begins to accept connections. `deliver` is held weakly: what comes after it is dropped goes nowhere.
    pub fn start(seam: Seam, settings: Settings, connector: Arc<dyn Connector>, deliver: Weak<dyn Deliver>) -> Self {
        let began = seam.now();
        let shared = Arc::new(Shared { seam, began, settings, connector, deliver, peers: Mutex::default() });
        let accept = shared.seam.spawn(accept(shared.clone()));
        Links { shared, _accept: accept }
    }

    /// The link to a peer whose slot's tasks last changed at `plan`: made at the first call. At a later call with a later
    /// plan, the peer's life of an earlier one is given up.
    pub fn peer(&self, worker: WorkerIndex, plan: PlanVersion) -> LinkHandle {
        let mut peers = lock(&self.shared.peers);
        if let Some(peer) = peers.get(&worker) {
            let handle = peer.handle.clone();
            drop(peers);
            handle.change(|link, effects| link.plan(plan, effects));
            return handle;
        }
        let handle = LinkHandle(Arc::new(Inner::new(&self.shared, worker, plan)));
        let dials = self.shared.settings.identity.worker > worker;
        let driver = self.shared.seam.spawn(drive(handle.clone(), dials.then(|| self.shared.clone())));
        peers.insert(worker, Peer { handle: handle.clone(), _driver: driver });
        handle
    }

    /// Tells every peer that an incarnation of `worker` is gone for good.
    pub fn lost(&self, worker: WorkerIndex, incarnation: Incarnation) {
        let handles: Vec<_> = lock(&self.shared.peers).values().map(|peer| peer.handle.clone()).collect();
        for handle in handles.iter().filter(|handle| handle.0.peer != worker) {
            handle.lost(worker, incarnation);
        }
    }
}

/// The drivers hold what holds them: only so do they end with the links.
impl Drop for Links {
    fn drop(&mut self) {
        let peers = std::mem::take(&mut *lock(&self.shared.peers));
        drop(peers);
    }
}

impl Shared {
    fn nonce(&self) -> [u8; 32] {
        self.seam.random_key()
    }

    /// What this worker knows of a peer that has just proved itself.
    fn received_from(&self, peer: WorkerIndex, life: Life) -> Result<u64, Refusal> {
        let handle = self.handle(peer).ok_or(Refusal::NotAddressed)?;
        let known = lock(&handle.0.state).link.received_from(life);
        if let (Err(why), Some(deliver)) = (known, self.deliver.upgrade()) {
            deliver.refused(peer, life, why);
        }
        known
    }

    fn handle(&self, peer: WorkerIndex) -> Option<LinkHandle> {
        lock(&self.peers).get(&peer).map(|peer| peer.handle.clone())
    }
}

/// One peer's link, as executors use it; a cheap clone. Nothing here waits but what is `async`.
#[derive(Clone)]
pub struct LinkHandle(Arc<Inner>);

struct Inner {
    peer: WorkerIndex,
    seam: Seam,
    began: Instant,
    deliver: Weak<dyn Deliver>,
    state: Mutex<State>,
    /// Something may be there to write, or a deadline has changed.
    writer: Notify,
    /// The connection in use may be another.
    driver: Notify,
    /// All may have been confirmed.
    settled: Notify,
    rooms: Mutex<BTreeMap<TaskId, Arc<Notify>>>,
}

struct State {
    link: Link,
    /// What is to be delivered, in order; at most that of one frame and of a few calls.
    effects: Vec<Effect>,
    delivering: bool,
    /// A connection that was accepted and that the driver is to run.
    accepted: Option<(ConnectionId, Connection)>,
}

impl LinkHandle {
    /// The peer.
    pub fn peer(&self) -> WorkerIndex {
        self.0.peer
    }

    /// Whether a batch may be sent to `task` of the peer; never before the peer has connected.
    pub fn has_room(&self, task: TaskId) -> bool {
        self.0.link().has_room(task)
    }

    /// Waits until a batch may be sent to `task`. Cancel-safe: nothing is taken before [`LinkHandle::send_data`].
    pub async fn room(&self, task: TaskId) {
        let room = lock(&self.0.rooms).entry(task).or_default().clone();
        loop {
            let mut woken = pin!(room.notified());
            woken.as_mut().enable();
            if self.has_room(task) {
                return;
            }
            woken.await;
        }
    }

    /// Sends a batch, and takes its permits. Ask for room first, for each target: a batch sent without is sent all the
    /// same, and overdraws.
    ///
    /// # Errors
    /// If the batch does not fit the wire format; then nothing was taken.
    pub fn send_data(&self, data: Data) -> Result<(), RecordError> {
        let sent = self.0.link().data(data);
        self.0.writer.notify_one();
        sent
    }

    /// Says that a task has ended, behind its data. Each later life of the peer is told as well.
    ///
    /// # Errors
    /// If it does not fit the wire format.
    pub fn end(&self, end: End) -> Result<(), RecordError> {
        let sent = self.0.link().end(end);
        self.0.writer.notify_one();
        sent
    }

    /// Sends acks to the peer's ledgers, and empties the list.
    pub fn acks(&self, acks: &mut Vec<AckRecord>) {
        if !acks.is_empty() {
            self.0.link().acks(acks.drain(..));
            self.0.writer.notify_one();
        }
    }

    /// Fails a root of the peer's ledgers.
    pub fn fail(&self, root: Root, reason: FailReason) {
        self.0.link().fail(root, reason);
        self.0.writer.notify_one();
    }

    /// Says that a bolt is holding these roots of the peer's ledgers.
    pub fn held(&self, roots: impl IntoIterator<Item = Root>) {
        self.0.link().held(roots);
        self.0.writer.notify_one();
    }

    /// Says that an incarnation of `worker` is gone for good, behind all that was queued before.
    pub fn lost(&self, worker: WorkerIndex, incarnation: Incarnation) {
        self.0.link().lost(worker, incarnation);
        self.0.writer.notify_one();
    }

    /// A task of this worker has consumed (or dropped) this much of what came over this link: tuples, and bytes of
    /// payload, as they came in [`Deliver::data`], once for each target.
    pub fn consumed(&self, task: TaskId, tuples: u64, bytes: u64) {
        if self.0.link().consumed(task, Amount { tuples, bytes }) {
            self.0.writer.notify_one();
        }
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.0.link().is_connected()
    }

    /// The incarnation of the peer that the link is with; `None` before the first and after one was given up.
    pub fn peer_incarnation(&self) -> Option<Incarnation> {
        self.0.link().life().map(|life| life.incarnation)
    }

    /// This life of the peer, and all before it, are known to be dead: batches for it are dropped, and
    /// [`Deliver::peer_lost`] is called if it had been connected.
    pub fn give_up(&self, life: Life) {
        self.change(|link, effects| link.give_up(life, effects));
    }

    /// Waits until the peer has confirmed all that was queued. Cancel-safe. May wait for ever for a peer that is away.
    pub async fn settled(&self) {
        loop {
            let mut woken = pin!(self.0.settled.notified());
            woken.as_mut().enable();
            if self.0.link().is_settled() {
                return;
            }
            woken.await;
        }
    }

    /// Whether it is connected, and counts since it was made.
    pub fn report(&self) -> LinkReport {
        self.0.link().report()
    }

    fn change(&self, change: impl FnOnce(&mut Link, &mut Vec<Effect>)) {
        {
            let State { link, effects, .. } = &mut *lock(&self.0.state);
            change(link, effects);
        }
        self.0.driver.notify_one();
        self.0.writer.notify_one();
        self.0.settled.notify_waiters();
        self.0.deliver();
    }
}

impl Inner {
    fn new(shared: &Shared, peer: WorkerIndex, plan: PlanVersion) -> Self {
        let windows = Windows::new(shared.settings.window, shared.settings.tasks.iter().copied());
        let link = Link::new(plan, windows);
        Inner {
            peer,
            seam: shared.seam.clone(),
            began: shared.began,
            deliver: shared.deliver.clone(),
            state: Mutex::new(State { link, effects: Vec::new(), delivering: false, accepted: None }),
            writer: Notify::new(),
            driver: Notify::new(),
            settled: Notify::new(),
            rooms: Mutex::default(),
        }
    }

    fn now(&self) -> Duration {
        self.seam.now() - self.began
    }

    /// The machine, for a call that has no effects.
    fn link(&self) -> impl std::ops::DerefMut<Target = Link> + '_ {
        LinkGuard(lock(&self.state))
    }

    /// Delivers what is due, unless somebody else is at it and will see this as well.
    fn deliver(&self) {
        struct Delivering<'a>(&'a Inner);
        impl Drop for Delivering<'_> {
            fn drop(&mut self) {
                lock(&self.0.state).delivering = false;
            }
        }
        loop {
            let mut state = lock(&self.state);
            if state.delivering || state.effects.is_empty() {
                return;
            }
            state.delivering = true;
            let effects = std::mem::take(&mut state.effects);
            drop(state);
            let _delivering = Delivering(self);
            let deliver = self.deliver.upgrade();
            for effect in effects {
                self.act(effect, deliver.as_deref());
            }
        }
    }

    fn act(&self, effect: Effect, deliver: Option<&dyn Deliver>) {
        let peer = self.peer;
        if let Effect::Room(task) = effect {
            if let Some(room) = lock(&self.rooms).get(&task) {
                room.notify_waiters();
            }
            return;
        }
        let Some(deliver) = deliver else { return };
        match effect {
            Effect::Deliver(Record::Data(data)) => deliver.data(peer, data),
            Effect::Deliver(Record::Acks(acks)) => deliver.acks(peer, acks),
            Effect::Deliver(Record::Fails(fails)) => deliver.fails(peer, fails),
            Effect::Deliver(Record::Held(roots)) => deliver.held(peer, roots),
            Effect::Deliver(Record::End(end)) => deliver.end(peer, end),
            Effect::Deliver(Record::Lost { worker, incarnation }) => deliver.lost(peer, worker, incarnation),
            Effect::Connected(life) => {
                deliver.connected(peer, life);
            }
            Effect::PeerLost(incarnation) => {
                deliver.peer_lost(peer, incarnation);
            }
            // The machine keeps grants to itself.
            Effect::Deliver(Record::Grants(_)) | Effect::Room(_) => {}
        }
    }

    fn receive(&self, id: ConnectionId, frame: frame::Frame, bytes: usize) -> Result<(), LinkError> {
        let now = self.now();
        let (wake, settled) = {
            let State { link, effects, .. } = &mut *lock(&self.state);
            (link.receive(id, frame, bytes, now, effects)?, link.is_settled())
        };
        if wake {
            self.writer.notify_one();
        }
        if settled {
            self.settled.notify_waiters();
        }
        self.deliver();
        Ok(())
    }

    /// Takes a connection into use whose handshake has ended well.
    fn connected(&self, agreed: Agreed, accepted: Option<Connection>) -> Result<ConnectionId, LinkError> {
        let now = self.now();
        let id = {
            let State { link, effects, accepted: slot, .. } = &mut *lock(&self.state);
            let id = link.connected(agreed, now, effects)?;
            *slot = accepted.map(|connection| (id, connection));
            id
        };
        self.driver.notify_one();
        self.writer.notify_one();
        self.deliver();
        Ok(id)
    }
}

struct LinkGuard<'a>(MutexGuard<'a, State>);

impl std::ops::Deref for LinkGuard<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.0.link
    }
}

impl std::ops::DerefMut for LinkGuard<'_> {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.0.link
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("use a connection: {0}")]
    Io(#[from] io::Error),
    #[error("use a connection: the peer has closed it")]
    Closed,
    #[error("shake hands: not done within {} s", HANDSHAKE_DEADLINE.as_secs())]
    Deadline,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("use a connection: its task has panicked")]
    Panicked,
}

/// Accepts connections and shakes hands, for as long as the links live.
async fn accept(shared: Arc<Shared>) {
    let mut handshakes = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = handshakes.next() => {
                if let Err(error) = ended {
                    let error: ConnectionError = error;
                    warn!(%error, "closed an accepted connection");
                }
            }
            accepted = shared.connector.accept(), if handshakes.len() < HANDSHAKES => match accepted {
                Ok(connection) => handshakes.push(Box::pin(welcome(&shared, connection))),
                Err(error) => {
                    warn!(%error, "could not accept a connection");
                    shared.seam.sleep(ACCEPT_REST).await;
                }
            },
        }
    }
}

async fn welcome(shared: &Shared, mut connection: Connection) -> Result<(), ConnectionError> {
    let mut acceptor = Acceptor::new(shared.settings.identity.clone(), shared.nonce());
    let mut known = |peer, life| shared.received_from(peer, life);
    let receive = |body: &[u8]| acceptor.receive(body, &mut known);
    let agreed = within_deadline(&shared.seam, shake_hands(&mut connection, Vec::new(), receive)).await?;
    let handle = shared.handle(agreed.peer).ok_or(LinkError::Refused(Refusal::NotAddressed))?;
    handle.0.connected(agreed, Some(connection))?;
    Ok(())
}

async fn dial(shared: &Shared, handle: &LinkHandle) -> Result<(ConnectionId, Connection), ConnectionError> {
    let (mut dialer, first) = Dialer::new(shared.settings.identity.clone(), handle.peer(), shared.nonce());
    let mut known = |peer, life| shared.received_from(peer, life);
    let receive = |body: &[u8]| dialer.receive(body, &mut known);
    let (agreed, connection) = within_deadline(&shared.seam, async {
        let mut connection = shared.connector.dial(handle.peer()).await?;
        let agreed = shake_hands(&mut connection, first, receive).await?;
        Ok((agreed, connection))
    })
    .await?;
    Ok((handle.0.connected(agreed, None)?, connection))
}

async fn within_deadline<T>(
    seam: &Seam,
    work: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    tokio::select! {
        biased;
        done = work => done,
        () = seam.sleep(HANDSHAKE_DEADLINE) => Err(ConnectionError::Deadline),
    }
}

async fn shake_hands(
    connection: &mut Connection,
    first: Vec<u8>,
    mut receive: impl FnMut(&[u8]) -> Result<Reply, HandshakeError>,
) -> Result<Agreed, ConnectionError> {
    connection.writer.write_all(&first).await?;
    let mut body = [0; MESSAGE_BYTES];
    loop {
        let mut length = [0; 2];
        connection.reader.read_exact(&mut length).await?;
        let reply = match handshake::body_len(length) {
            Ok(length) => {
                connection.reader.read_exact(&mut body[..length]).await?;
                receive(&body[..length])
            }
            Err(error) => Err(error),
        };
        match reply {
            Ok(Reply { send, agreed }) => {
                connection.writer.write_all(&send).await?;
                if let Some(agreed) = agreed {
                    return Ok(agreed);
                }
            }
            Err(error) => {
                if let Some(message) = error.message() {
                    connection.writer.write_all(&message).await?;
                    connection.writer.shutdown().await?;
                }
                return Err(error.into());
            }
        }
    }
}

/// Keeps a connection to one peer up: dials if `dials` is there, else waits until the accept task has one.
async fn drive(handle: LinkHandle, dials: Option<Arc<Shared>>) {
    let inner = &handle.0;
    let peer = inner.peer;
    let mut said = String::new();
    loop {
        let connection = match &dials {
            Some(shared) => dial(shared, &handle).await,
            None => Ok(accepted(inner).await),
        };
        let error = match connection {
            Ok((id, connection)) => {
                if !std::mem::take(&mut said).is_empty() {
                    info!(%peer, "has a connection again");
                }
                let error = run(&handle, id, connection).await;
                inner.link().disconnected(id);
                error
            }
            Err(error) => error,
        };
        let error = error.to_string();
        if said != error {
            info!(%peer, error, "has no connection now");
            said = error;
        }
        if dials.is_some() {
            let delay = inner.link().dial_after(inner.seam.random());
            inner.seam.sleep(delay).await;
        }
    }
}

async fn accepted(inner: &Inner) -> (ConnectionId, Connection) {
    loop {
        let accepted = lock(&inner.state).accepted.take();
        if let Some(accepted) = accepted {
            return accepted;
        }
        inner.driver.notified().await;
    }
}

/// Runs a connection until it ends; says why it did.
async fn run(handle: &LinkHandle, id: ConnectionId, connection: Connection) -> ConnectionError {
    let seam = &handle.0.seam;
    let mut reader = Box::pin(seam.spawn(read(handle.clone(), id, connection.reader)).join());
    let writer = seam.spawn(write(handle.clone(), id, connection.writer));
    tokio::select! {
        biased;
        error = watch(&handle.0, id) => {
            if mutations::on(Mutation::StaleConnectionKept) {
                std::mem::forget(reader);
            }
            error.into()
        }
        error = &mut reader => error.unwrap_or(ConnectionError::Panicked),
        error = writer.join() => error.unwrap_or(ConnectionError::Panicked),
    }
}

/// Waits until the connection is to be closed for a reason of the machine.
async fn watch(inner: &Inner, id: ConnectionId) -> LinkError {
    loop {
        let again = match inner.link().check(id, inner.now()) {
            Ok(again) => again,
            Err(error) => return error,
        };
        tokio::select! {
            biased;
            () = inner.driver.notified() => {}
            () = inner.seam.sleep_until(inner.began + again) => {}
        }
    }
}

async fn read(handle: LinkHandle, id: ConnectionId, mut from: Box<dyn AsyncRead + Send + Unpin>) -> ConnectionError {
    let mut received = BytesMut::with_capacity(READ_BYTES);
    loop {
        match take_frames(&handle.0, id, &mut received) {
            Ok(()) => received.reserve(READ_BYTES / 2),
            Err(error) => return error,
        }
        match from.read_buf(&mut received).await {
            Ok(0) => return ConnectionError::Closed,
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}

fn take_frames(inner: &Inner, id: ConnectionId, received: &mut BytesMut) -> Result<(), ConnectionError> {
    while let Some(frame) = frame::split(received)? {
        let bytes = 4 + frame.len();
        inner.receive(id, frame::decode(frame)?, bytes)?;
    }
    Ok(())
}

async fn write(handle: LinkHandle, id: ConnectionId, mut to: Box<dyn AsyncWrite + Send + Unpin>) -> ConnectionError {
    let inner = &handle.0;
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    loop {
        let turn = inner.link().turn(id, WRITE_BYTES, inner.now());
        match turn {
            Turn::Write { frames, confirms } => {
                if frames.is_empty() {
                    frame::encode(0, confirms, &[], &mut buffer);
                }
                for frame in frames {
                    frame::encode(frame.sequence, confirms, &frame.records, &mut buffer);
                }
                if let Err(error) = to.write_all(&buffer).await {
                    return error.into();
                }
                buffer.clear();
                // A lone large batch must not keep its memory.
                buffer.shrink_to(2 * WRITE_BYTES);
            }
            Turn::Wait(until) => tokio::select! {
                biased;
                () = inner.writer.notified() => {}
                () = inner.seam.sleep_until(inner.began + until) => {}
            },
            Turn::Close(error) => return error.into(),
        }
    }
}
