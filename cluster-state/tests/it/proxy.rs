//! A TCP proxy before ZooKeeper that cuts the connection when a test wants it to.
//!
//! Not here: ZooKeeper's protocol beyond frames. Invariant: a transaction whose answer is lost happened, or never arrived.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// ZooKeeper's number of a transaction.
const MULTI: i32 = 14;

/// A proxy to one server; ends when it is dropped.
pub(crate) struct Proxy {
    address: String,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    server: String,
    is_cut: watch::Sender<bool>,
    /// What becomes of the next transaction, if its answer is to be lost: whether it happens.
    next: Mutex<Option<bool>>,
    /// The request whose answer is not passed on.
    swallowed: Mutex<Option<i32>>,
}

impl Proxy {
    pub(crate) async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            server,
            is_cut: watch::Sender::new(false),
            next: Mutex::default(),
            swallowed: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Proxy { address, shared, task }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Ends all connections, and lets none through until it is mended.
    pub(crate) fn cut(&self) {
        self.shared.is_cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.shared.is_cut.send_replace(false);
    }

    /// Forwards the next transaction or not, and then ends its connection.
    pub(crate) fn lose_next_answer(&self, happens: bool) {
        *self.shared.next.lock().unwrap() = Some(happens);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if !*shared.is_cut.borrow() {
            tokio::spawn(connection(client, shared.clone()));
        }
    }
}

async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(&shared.server).await else { return };
    let ((client_reads, client_writes), (server_reads, server_writes)) = (client.into_split(), server.into_split());
    let mut cut = shared.is_cut.subscribe();
    tokio::select! {
        biased;
        _ = cut.wait_for(|is_cut| *is_cut) => {}
        _ = requests(client_reads, server_writes, &shared) => {}
        _ = answers(server_reads, client_writes, &shared) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) -> std::io::Result<()> {
    // The first asks for the session.
    to.write_all(&frame(&mut from).await?).await?;
    loop {
        let request = frame(&mut from).await?;
        let next = if number(&request, 8) == MULTI { shared.next.lock().unwrap().take() } else { None };
        match next {
            Some(false) => return Ok(()),
            Some(true) => *shared.swallowed.lock().unwrap() = Some(number(&request, 4)),
            None => {}
        }
        to.write_all(&request).await?;
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) -> std::io::Result<()> {
    to.write_all(&frame(&mut from).await?).await?;
    loop {
        let answer = frame(&mut from).await?;
        if *shared.swallowed.lock().unwrap() == Some(number(&answer, 4)) {
            shared.swallowed.lock().unwrap().take();
            return Ok(());
        }
        to.write_all(&answer).await?;
    }
}

/// The next frame with its length before it.
async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.resize(4 + length as usize, 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

fn number(frame: &[u8], at: usize) -> i32 {
    frame.get(at..at + 4).map_or(0, |bytes| i32::from_be_bytes(bytes.try_into().unwrap()))
}
