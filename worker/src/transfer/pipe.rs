//! Connections between workers of one process: in-memory pipes, with faults to order.
//!
//! Nothing here waits for a clock, so a paused one runs on, and on one thread all of it happens in the same order each
//! time. Not here: the links on top. Invariant: a pipe holds at most [`PIPE_BYTES`], and what a cut pipe held is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use super::network::{Connection, Connector};
use worker_api::ids::WorkerIndex;

/// Most bytes on their way in one direction of a connection.
pub const PIPE_BYTES: usize = 256 << 10;
/// Most connections that wait to be accepted by one worker.
const BACKLOG_CONNECTIONS: usize = 64;

/// The workers of one process and the pipes between them; a cheap clone.
#[derive(Clone, Default)]
pub struct Pipes(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    listeners: BTreeMap<WorkerIndex, Listener>,
    lives: u64,
    refused: BTreeSet<(WorkerIndex, WorkerIndex)>,
    connections: Vec<Laid>,
}

/// A connection that was opened: who dialled whom, and its wire in each direction.
struct Laid {
    from: WorkerIndex,
    to: WorkerIndex,
    wires: [Weak<Mutex<Wire>>; 2],
}

struct Listener {
    life: u64,
    backlog: mpsc::Sender<Connection>,
}

impl Pipes {
    /// No worker yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A worker begins to listen. If it did before, that one is killed.
    pub fn connector(&self, worker: WorkerIndex) -> PipeConnector {
        self.kill(worker);
        let (backlog, accepted) = mpsc::channel(BACKLOG_CONNECTIONS);
        let mut inner = self.lock();
        inner.lives += 1;
        let life = inner.lives;
        inner.listeners.insert(worker, Listener { life, backlog });
        PipeConnector { worker, life, pipes: self.clone(), accepted: tokio::sync::Mutex::new(accepted) }
    }

    /// Breaks all connections between two workers: both sides get an error, and what was on its way is lost.
    pub fn cut(&self, one: WorkerIndex, other: WorkerIndex) {
        self.cut_where(|from, to| (from, to) == (one, other) || (from, to) == (other, one));
    }

    /// From now on no connection between two workers can be opened, or it can again.
    pub fn refuse(&self, one: WorkerIndex, other: WorkerIndex, refused: bool) {
        for pair in [(one, other), (other, one)] {
            if refused {
                self.lock().refused.insert(pair);
            } else {
                self.lock().refused.remove(&pair);
            }
        }
    }

    /// A worker dies: its connections break, and nothing is dialled or accepted by it any more.
    pub fn kill(&self, worker: WorkerIndex) {
        self.lock().listeners.remove(&worker);
        self.cut_where(|from, to| from == worker || to == worker);
    }

    fn cut_where(&self, cut: impl Fn(WorkerIndex, WorkerIndex) -> bool) {
        let mut wires = Vec::new();
        self.lock().connections.retain(|laid| {
            let cut = cut(laid.from, laid.to);
            if cut {
                wires.extend(laid.wires.iter().filter_map(Weak::upgrade));
            }
            !cut
        });
        for wire in wires {
            lock(&wire).end(Ended::Cut);
        }
    }

    fn dial(&self, from: WorkerIndex, life: u64, to: WorkerIndex) -> io::Result<Connection> {
        let mut inner = self.lock();
        let alive = inner.listeners.get(&from).is_some_and(|listener| listener.life == life);
        let listener = inner.listeners.get(&to).filter(|_| alive && !inner.refused.contains(&(from, to)));
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let slot = listener.ok_or_else(refused)?.backlog.clone().try_reserve_owned().map_err(|_| refused())?;
        let (there, back) = (Arc::<Mutex<Wire>>::default(), Arc::<Mutex<Wire>>::default());
        inner.connections.retain(|laid| laid.wires.iter().any(|wire| wire.strong_count() > 0));
        inner.connections.push(Laid { from, to, wires: [Arc::downgrade(&there), Arc::downgrade(&back)] });
        drop(inner);
        slot.send(Connection { reader: Box::new(Outlet(there.clone())), writer: Box::new(Inlet(back.clone())) });
        Ok(Connection { reader: Box::new(Outlet(back)), writer: Box::new(Inlet(there)) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One life of a worker in the network of pipes.
pub struct PipeConnector {
    worker: WorkerIndex,
    life: u64,
    pipes: Pipes,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
}

impl Connector for PipeConnector {
    fn dial(&self, to: WorkerIndex) -> BoxFuture<'_, io::Result<Connection>> {
        async move { self.pipes.dial(self.worker, self.life, to) }.boxed()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        async move {
            match self.accepted.lock().await.recv().await {
                Some(connection) => Ok(connection),
                // Killed: nobody comes any more.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Wire {
    bytes: BytesMut,
    ended: Option<Ended>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The writer has gone: what is in the pipe can still be read.
    Written,
    /// The reader has gone.
    Unread,
    Cut,
}

impl Wire {
    fn end(&mut self, ended: Ended) {
        if ended != Ended::Written {
            self.bytes.clear();
        }
        if ended == Ended::Cut {
            self.ended = Some(ended);
        }
        self.ended.get_or_insert(ended);
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of a wire that is read.
struct Outlet(Arc<Mutex<Wire>>);

/// The end of a wire that is written.
struct Inlet(Arc<Mutex<Wire>>);

impl AsyncRead for Outlet {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.0);
        if !wire.bytes.is_empty() {
            let count = wire.bytes.len().min(into.remaining());
            into.put_slice(&wire.bytes[..count]);
            wire.bytes.advance(count);
            if let Some(writer) = wire.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
        match wire.ended {
            Some(Ended::Cut) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(_) => Poll::Ready(Ok(())),
            None => {
                wire.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Inlet {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = lock(&self.0);
        match wire.ended {
            Some(Ended::Cut) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(_) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None => {}
        }
        let count = bytes.len().min(PIPE_BYTES - wire.bytes.len());
        if count == 0 && !bytes.is_empty() {
            wire.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        wire.bytes.extend_from_slice(&bytes[..count]);
        if let Some(reader) = wire.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).end(Ended::Written);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        lock(&self.0).end(Ended::Unread);
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        lock(&self.0).end(Ended::Written);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const A: WorkerIndex = WorkerIndex(0);
    const B: WorkerIndex = WorkerIndex(1);

    /// A connection from B to A, as B and as A have it; and the two connectors, which must live on.
    async fn connected(pipes: &Pipes) -> (Connection, Connection, [PipeConnector; 2]) {
        let (a, b) = (pipes.connector(A), pipes.connector(B));
        let dialled = b.dial(A).await.unwrap();
        let accepted = a.accept().await.unwrap();
        (dialled, accepted, [a, b])
    }

    async fn error_of(connection: &mut Connection) -> (io::ErrorKind, io::ErrorKind) {
        let read = connection.reader.read_u8().await.unwrap_err().kind();
        (read, connection.writer.write_all(b"x").await.unwrap_err().kind())
    }

    #[tokio::test]
    async fn what_a_cut_pipe_held_is_lost_and_both_sides_hear_of_it() {
        let pipes = Pipes::new();
        let (mut dialled, mut accepted, _connectors) = connected(&pipes).await;
        dialled.writer.write_all(b"lost").await.unwrap();
        pipes.cut(A, B);
        let reset = (io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionReset);
        assert_eq!(error_of(&mut accepted).await, reset);
        assert_eq!(error_of(&mut dialled).await, reset);
    }

    #[tokio::test]
    async fn what_was_written_before_the_writer_went_is_read() {
        let (mut dialled, mut accepted, _connectors) = connected(&Pipes::new()).await;
        dialled.writer.write_all(b"last words").await.unwrap();
        drop(dialled);
        let mut read = String::new();
        accepted.reader.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "last words");
        assert_eq!(accepted.writer.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_killed_worker_reaches_nobody_and_nobody_reaches_it() {
        let pipes = Pipes::new();
        let (mut dialled, _accepted, [a, b]) = connected(&pipes).await;
        pipes.kill(B);
        assert_eq!(error_of(&mut dialled).await.0, io::ErrorKind::ConnectionReset);
        let refused = |dialled: io::Result<Connection>| dialled.err().map(|error| error.kind());
        assert_eq!(refused(b.dial(A).await), Some(io::ErrorKind::ConnectionRefused));
        assert_eq!(refused(a.dial(B).await), Some(io::ErrorKind::ConnectionRefused));
        let _successor = pipes.connector(B);
        assert_eq!(refused(a.dial(B).await), None);
        assert_eq!(refused(b.dial(A).await), Some(io::ErrorKind::ConnectionRefused), "the dead stay dead");
    }

    #[tokio::test]
    async fn a_full_pipe_holds_up_its_writer() {
        let (mut dialled, mut accepted, _connectors) = connected(&Pipes::new()).await;
        let all = vec![7; PIPE_BYTES + 1];
        let mut read = vec![0; all.len()];
        let written = async {
            dialled.writer.write_all(&all).await.unwrap();
        };
        let mut written = std::pin::pin!(written);
        tokio::select! {
            biased;
            () = &mut written => panic!("a pipe holds more than {PIPE_BYTES} bytes"),
            () = std::future::ready(()) => {}
        }
        let (_, count) = tokio::join!(written, accepted.reader.read_exact(&mut read));
        assert_eq!((count.unwrap(), read), (PIPE_BYTES + 1, all));
    }
}
