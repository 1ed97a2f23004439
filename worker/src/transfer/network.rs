//! How connections between workers come about: the seam between a link and what carries its bytes.
//!
//! Not here: what is said on a connection (`handshake`, `frame`). Invariant: a connector only opens byte streams; it
//! proves nothing and remembers nothing.

use std::io;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use worker_api::ids::WorkerIndex;

/// Two byte streams, one each way. Dropping both closes the connection.
pub struct Connection {
    /// What the other side sends.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What the other side reads.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Opens connections for one worker.
pub trait Connector: Send + Sync + 'static {
    /// Opens a connection to where `to` is believed to listen. Cancel-safe.
    fn dial(&self, to: WorkerIndex) -> BoxFuture<'_, io::Result<Connection>>;

    /// The next connection that somebody has opened to this worker. Cancel-safe; an error is of that connection only.
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>>;
}
