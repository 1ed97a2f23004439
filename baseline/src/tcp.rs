//! 64-byte tuples copied into frames, sent over a loopback connection, and copied out on the other side.
//!
//! Not here: numbering, acknowledging, any check of what arrives. Invariant: a tuple is handled only when all of its
//! bytes are there.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::measure::Handled;

/// Bytes of a tuple.
pub const TUPLE: usize = 64;

const FRAME: usize = TUPLE * 1024;

/// Sends `tuples` tuples to a peer on the same machine, and returns what it got.
///
/// # Errors
/// If there is no loopback port, or the connection breaks.
pub async fn frames(tuples: u64) -> io::Result<Handled> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let sender = tokio::spawn(async move { send(tuples, TcpStream::connect(address).await?).await });
    let receiver = tokio::spawn(async move { receive(listener.accept().await?.0).await });
    sender.await??;
    receiver.await?
}

async fn send(tuples: u64, mut stream: TcpStream) -> io::Result<()> {
    let mut frame = Vec::with_capacity(FRAME);
    for tuple in 0..tuples {
        let mut bytes = [0; TUPLE];
        bytes[..8].copy_from_slice(&tuple.to_le_bytes());
        frame.extend_from_slice(&bytes);
        if frame.len() == FRAME {
            stream.write_all(&frame).await?;
            frame.clear();
        }
    }
    stream.write_all(&frame).await?;
    stream.shutdown().await
}

async fn receive(mut stream: TcpStream) -> io::Result<Handled> {
    let mut buffer = vec![0; FRAME];
    let (mut filled, mut received) = (0, Handled::default());
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(received);
        }
        filled += read;
        let (tuples, rest) = buffer[..filled].as_chunks::<TUPLE>();
        for tuple in tuples {
            let tuple = std::hint::black_box(*tuple);
            let [value, ..] = tuple.as_chunks().0 else { continue };
            received.checksum = received.checksum.wrapping_add(u64::from_le_bytes(*value));
        }
        received.tuples += tuples.len() as u64;
        let (whole, begun) = (filled - rest.len(), rest.len());
        buffer.copy_within(whole..filled, 0);
        filled = begun;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_tuple_arrives() {
        for tuples in [0, 1, 1024, 5000] {
            assert_eq!(frames(tuples).await.unwrap(), Handled { tuples, checksum: (0..tuples).sum() });
        }
    }
}
