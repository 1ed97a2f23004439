//! Brings to Nimbus what it lacks: blobs, piece by piece, going on where an upload broke off.
//!
//! Not here: how a piece travels (`nimbus_api::client`). Invariant: what is complete is not sent again.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nimbus_api::client::{BlobState, Client, ClientError, UPLOAD_BYTES};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use worker_api::ids::BlobHash;

use crate::blob_hash::of_file;
use crate::exit::{Exit, Refusal};

/// How often in a row an upload may break off without getting on.
const TRIES: u32 = 5;
/// Before it is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// A file that is to become a blob.
pub(crate) struct Source {
    what: &'static str,
    path: PathBuf,
    bytes: u64,
    /// Its name as a blob.
    pub(crate) hash: BlobHash,
}

impl Source {
    /// Reads it through. `what` names it in messages.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) async fn read(what: &'static str, path: &Path) -> Result<Self, Refusal> {
        let (path, reads) = (path.to_owned(), path.to_owned());
        let hashed = tokio::task::spawn_blocking(move || of_file(&reads)).await.map_err(io::Error::from).flatten();
        let (hash, bytes) = hashed.map_err(|error| cannot_read(what, &path, &error))?;
        Ok(Source { what, path, bytes, hash })
    }
}

fn cannot_read(what: &str, path: &Path, error: &io::Error) -> Refusal {
    Refusal::new(Exit::NoInput, format!("cannot read {what} `{}`: {error}", path.display()))
}

/// Uploads what Nimbus lacks of these, with a bar on a terminal.
///
/// # Errors
/// If Nimbus refuses, cannot be reached for long, or a file has changed.
pub(crate) async fn upload(client: &Client, sources: impl Iterator<Item = &Source>) -> Result<(), Refusal> {
    for source in sources {
        let bar = bar(source);
        let sent = send(client, source, &bar).await;
        bar.finish_and_clear();
        sent?;
    }
    Ok(())
}

fn bar(source: &Source) -> ProgressBar {
    // Short ones are there before a bar could be read.
    let watched = io::stderr().is_terminal() && source.bytes > UPLOAD_BYTES as u64;
    let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(source.bytes), target);
    let name = source.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match ProgressStyle::with_template("uploading {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}") {
        Ok(style) => bar.with_style(style).with_message(name),
        Err(_) => bar,
    }
}

async fn send(client: &Client, source: &Source, bar: &ProgressBar) -> Result<(), Refusal> {
    let mut tries = 0;
    let mut reached = 0;
    loop {
        let broke_off = match client.blob_state(&source.hash).await {
            Ok(Some(BlobState::Complete(_))) => return Ok(()),
            Ok(state) => {
                let from = match state {
                    Some(BlobState::Partial(bytes)) => bytes,
                    _ => 0,
                };
                if from > reached {
                    (reached, tries) = (from, 0);
                }
                match send_from(client, source, from, bar).await? {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        // What was said no to would be said no to again; a broken connection may come back.
        tries += 1;
        let may_pass = matches!(broke_off, ClientError::Unreachable(_) | ClientError::Garbled { .. });
        if !may_pass || tries == TRIES || reached == 0 && tries > 1 && matches!(broke_off, ClientError::Unreachable(_))
        {
            return Err(broke_off.into());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Sends all from `from` on. The inner error is what Nimbus or the connection said.
async fn send_from(
    client: &Client,
    source: &Source,
    from: u64,
    bar: &ProgressBar,
) -> Result<Result<(), ClientError>, Refusal> {
    let cannot = |error: io::Error| cannot_read(source.what, &source.path, &error);
    let mut file = tokio::fs::File::open(&source.path).await.map_err(cannot)?;
    file.seek(SeekFrom::Start(from)).await.map_err(cannot)?;
    let mut at = from;
    bar.set_position(at);
    loop {
        // When all of it is there already, an empty piece has Nimbus finish it. An empty blob is one piece too.
        let length = source.bytes.saturating_sub(at).min(UPLOAD_BYTES as u64) as usize;
        let mut piece = vec![0; length];
        file.read_exact(&mut piece).await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Refusal::new(
                Exit::Failed,
                format!(
                    "{} `{}` became shorter while it was sent; submit it again",
                    source.what,
                    source.path.display()
                ),
            ),
            _ => cannot(error),
        })?;
        if let Err(error) = client.upload(&source.hash, at, source.bytes, Bytes::from(piece)).await {
            return Ok(Err(error));
        }
        at += length as u64;
        bar.set_position(at);
        if at >= source.bytes {
            return Ok(Ok(()));
        }
    }
}
