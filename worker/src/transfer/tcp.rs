//! Connections between workers over TCP.
//!
//! Not here: names and addresses of a plan. Invariant: Nagle's delay is off on each connection, since links coalesce.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};

use super::network::{Connection, Connector};
use worker_api::ids::WorkerIndex;

/// Listens at one address and knows those of the peers.
pub struct Tcp {
    listener: TcpListener,
    /// `host:port` of each peer.
    peers: Mutex<BTreeMap<WorkerIndex, String>>,
}

impl Tcp {
    /// Listens at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// If nothing can listen there.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Tcp { listener: TcpListener::bind(address).await?, peers: Mutex::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the operating system does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Tells where a peer listens: `host:port`. The next dial goes there.
    pub fn set_peer(&self, worker: WorkerIndex, address: impl Into<String>) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, address.into());
    }
}

fn connection(stream: TcpStream) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Connection { reader: Box::new(reader), writer: Box::new(writer) })
}

impl Connector for Tcp {
    fn dial(&self, to: WorkerIndex) -> BoxFuture<'_, io::Result<Connection>> {
        let address = self.peers.lock().unwrap_or_else(PoisonError::into_inner).get(&to).cloned();
        async move {
            let Some(address) = address else {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("no address of worker {to} is known")));
            };
            connection(TcpStream::connect(address).await?)
        }
        .boxed()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        async move { connection(self.listener.accept().await?.0) }.boxed()
    }
}
