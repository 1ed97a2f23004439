//! What a Supervisor stands on: a disk, processes, and the ways to its workers and to Nimbus.
//!
//! A machine is one ([`LocalHost`](crate::local::LocalHost)), a simulation's machine is another; all that decides is the same on both.
//!
//! Not here: when any of it is done (`machine`). Invariants: a host decides nothing; it knows slots by their ports, and what lies
//! in its folders by the [`SupervisorConfig`](crate::SupervisorConfig) that the Supervisor is started with too.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nimbus_api::machine::{MachineAnswer, MachineReport};
use seam::disk::Disk;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use worker_api::answer::Answer;
use worker_api::ids::{BlobHash, FileName, Incarnation, Life, Port};
use worker_api::launch::Launch;
use worker_api::report::Report;

pub use crate::keeper::End;

/// What a Supervisor stands on.
///
/// Futures that are given out run behind the Supervisor's [`Seam`](seam::Seam), and are dropped with it or when they take too
/// long; methods that are not futures answer at once, or as quickly as a disk does: they are called through
/// [`Seam::on_disk`](seam::Seam::on_disk).
pub trait Host: Send + Sync + 'static {
    /// The disk that the folders of the configuration lie on.
    fn disk(&self) -> Arc<dyn Disk>;

    /// Where workers find this Supervisor: what their launch files say.
    fn socket(&self) -> PathBuf;

    /// Takes connections of workers, and opens one of `workers` for each. Called once, at the start; it ends by being dropped.
    fn serve(&self, workers: Connections) -> BoxFuture<'static, ()>;

    /// Whether a worker could listen at this port now.
    ///
    /// # Errors
    /// Who has it, or what else is in the way, in a sentence.
    fn port_is_free(&self, port: Port) -> Result<(), String>;

    /// Starts a slot's worker. Ready when it runs and the slot is held, or with why it does not and nothing is left of it. What
    /// [`look`](Host::look) said of the end of the slot's worker before is then gone.
    ///
    /// Dropped meanwhile, as it is after half a minute, the start may go on: [`look`](Host::look) tells what came of it.
    ///
    /// # Errors
    /// [`NotLaunched`].
    fn launch(&self, start: WorkerStart) -> BoxFuture<'static, Result<(), NotLaunched>>;

    /// Whether somebody has the slot, and how its last worker ended if nobody does.
    ///
    /// # Errors
    /// If it cannot be told: nothing is then started in it.
    fn look(&self, port: Port) -> io::Result<Lock>;

    /// Which life was started last in the slot; `None` if none was, or nothing is known of it. Asked if a worker is gone and
    /// nobody wrote how it ended.
    fn last_started(&self, port: Port) -> Option<Incarnation>;

    /// Whether somebody is there to write how the slot's worker ends. Asked once, when it is adopted.
    fn is_kept(&self, port: Port) -> bool;

    /// Sends a signal to the slot's worker, which has no connection. To one that has ended it does nothing.
    ///
    /// # Errors
    /// Of the system.
    fn signal(&self, port: Port, signal: Signal) -> io::Result<()>;

    /// Fetches a blob from a Nimbus that has it, from byte `from` on, and writes it to `to` as it comes. Its end is the end of the
    /// blob, or of what could be had; the caller counts, and checks the hash. What was written before an error counts too.
    ///
    /// # Errors
    /// Why it was not to be had, as part of a sentence; also if `to` was closed.
    fn fetch(&self, hash: BlobHash, from: u64, to: DuplexStream) -> BoxFuture<'static, Result<(), String>>;

    /// Gives Nimbus, which lacks it, a piece of a blob of `length` bytes, which begins at `offset`; an empty one before the end
    /// only asks how far the blob came. Gives where the next piece begins; `None` if Nimbus has all of it.
    ///
    /// # Errors
    /// Why it did not take it, as part of a sentence.
    fn offer(
        &self,
        hash: BlobHash,
        length: u64,
        offset: u64,
        piece: Bytes,
    ) -> BoxFuture<'static, Result<Option<u64>, String>>;

    /// Tells Nimbus what is on this machine, and gives its answer. Dropped after 20 s.
    ///
    /// # Errors
    /// Why no Nimbus answered, in a sentence.
    fn report(&self, report: Arc<MachineReport>) -> BoxFuture<'static, Result<MachineAnswer, String>>;
}

/// What to start.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStart {
    /// The slot.
    pub port: Port,
    /// Which life of its worker this is.
    pub life: Life,
    /// The topology's executable, on the host's disk.
    pub executable: PathBuf,
    /// The worker's folder: its current one, where its launch file and its files lie. It need not be there yet.
    pub work_folder: PathBuf,
    /// The topology's files, by the name that each has in the worker's folder, and where they are on the host's disk.
    pub files: BTreeMap<FileName, PathBuf>,
    /// Variables of the topology's author.
    pub environment: BTreeMap<String, String>,
    /// What the worker is told.
    pub launch: Launch,
}

/// Why a start came to nothing.
#[derive(Clone, Debug)]
pub enum NotLaunched {
    /// Its port is taken by a process that is not ours.
    PortTaken(String),
    /// Its slot is held by somebody.
    Held(String),
    /// Anything else.
    Failed(String),
}

/// A slot's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// A worker, or who watches it, has it.
    Held,
    /// Nobody has it; how the slot's last worker ended, if that was written.
    Free(Option<End>),
}

/// What a worker is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: it drains what it has, and ends.
    Term,
    /// SIGKILL.
    Kill,
}

/// The process at the other end of a connection.
pub trait WorkerProcess: Send + Sync + 'static {
    /// Sends it a signal. To one that has ended it does nothing.
    ///
    /// # Errors
    /// Of the system.
    fn signal(&self, signal: Signal) -> io::Result<()>;
}

/// Where workers connect; a cheap clone.
#[derive(Clone)]
pub struct Connections {
    ids: Arc<AtomicU64>,
    incoming: mpsc::Sender<Incoming>,
}

impl Connections {
    pub(crate) fn new(incoming: mpsc::Sender<Incoming>) -> Self {
        Connections { ids: Arc::default(), incoming }
    }

    /// A worker connected. Waits while there are too many; `None` if the Supervisor has ended. Cancel-safe.
    pub async fn connect(&self, process: impl WorkerProcess) -> Option<Connection> {
        // Kept from now on, so that its end is told without waiting.
        let closed = self.incoming.clone().reserve_owned().await.ok()?;
        let (answer, answers) = watch::channel(None);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer { id, process: Box::new(process), answer });
        Some(Connection { peer, incoming: self.incoming.clone(), answers, closed: Some(closed) })
    }
}

/// A worker's connection: dropping it closes it.
pub struct Connection {
    peer: Arc<Peer>,
    incoming: mpsc::Sender<Incoming>,
    answers: watch::Receiver<Option<Arc<Answer>>>,
    closed: Option<mpsc::OwnedPermit<Incoming>>,
}

impl Connection {
    /// Where its reports go.
    pub fn reports(&self) -> Reports {
        Reports { peer: self.peer.clone(), incoming: self.incoming.clone() }
    }

    /// Waits for an answer that was not taken yet, the newest one; `None` if the Supervisor has ended. Cancel-safe.
    pub async fn answer(&mut self) -> Option<Arc<Answer>> {
        loop {
            tokio::select! {
                biased;
                () = self.incoming.closed() => return None,
                changed = self.answers.changed() => changed.ok()?,
            }
            if let Some(answer) = self.answers.borrow_and_update().clone() {
                return Some(answer);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(closed) = self.closed.take() {
            closed.send(Incoming::Closed(self.peer.id));
        }
    }
}

/// A connection's way to the Supervisor.
#[derive(Clone)]
pub struct Reports {
    peer: Arc<Peer>,
    incoming: mpsc::Sender<Incoming>,
}

impl Reports {
    /// Hands over a report; false if the Supervisor has ended. Waits while it has too many of them.
    pub async fn send(&self, report: Report) -> bool {
        self.incoming.send(Incoming::Report(self.peer.clone(), Box::new(report))).await.is_ok()
    }
}

/// Who is connected.
pub(crate) struct Peer {
    /// No other connection has it.
    pub(crate) id: u64,
    /// Who is at the other end.
    pub(crate) process: Box<dyn WorkerProcess>,
    answer: watch::Sender<Option<Arc<Answer>>>,
}

impl Peer {
    /// Sends this answer next.
    pub(crate) fn tell(&self, answer: Arc<Answer>) {
        self.answer.send_replace(Some(answer));
    }
}

/// What comes in.
pub(crate) enum Incoming {
    /// A worker reported.
    Report(Arc<Peer>, Box<Report>),
    /// The connection with this id closed.
    Closed(u64),
}
