//! The Unix socket that workers report to: JSON texts, one a line, both ways.
//!
//! | task | how many | ends with | waits for |
//! |---|---|---|---|
//! | accept | one | the Supervisor | a connection, or room for one |
//! | connection | one for each, at most [`CONNECTIONS`] | the worker's end of it, or a wrong byte | a report, an answer |
//!
//! Not here: what a report means (`machine`). Invariants: a line is bounded; what one connection sends or does not read touches no
//! other; a new answer takes the place of one that has not been sent.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use worker_api::Unreadable;
use worker_api::answer::Answer;
use worker_api::report::REPORT_FORMAT;

use crate::folder::Folder;
use crate::host::Connections;
use crate::machine::gone;
use crate::process::Process;

/// Longest line.
const LINE_BYTES: usize = 16 << 20;
/// Most connections at a time.
pub(crate) const CONNECTIONS: usize = 1024;
/// How long one may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);
/// Longest path that a socket may have, on every system of ours.
const PATH_BYTES: usize = 100;

/// Where the socket is: in the folder, or, if that has too long a path, in a folder of this user alone among the temporary
/// ones, with `random` in its name, which is written down so that workers find the same one after a restart.
///
/// # Errors
/// In a sentence.
pub(crate) fn place(folder: &Folder, random: u64) -> Result<PathBuf, String> {
    let inside = folder.socket();
    if inside.as_os_str().len() <= PATH_BYTES {
        return Ok(inside);
    }
    let noted = folder.socket_elsewhere();
    if let Ok(path) = fs::read_to_string(&noted) {
        let path = PathBuf::from(path.trim_end());
        if path.parent().is_some_and(|folder| make_own(folder).is_ok()) {
            return Ok(path);
        }
    }
    let outside = std::env::temp_dir().join(format!("storm-{random:016x}"));
    let path = outside.join("supervisor.sock");
    if path.as_os_str().len() > PATH_BYTES {
        return Err(format!(
            "both {} and {} are too long for a Unix socket, at most {PATH_BYTES} bytes are allowed; set storm.local.dir or TMPDIR to a \
             shorter path",
            inside.display(),
            path.display()
        ));
    }
    make_own(&outside).map_err(|error| format!("cannot make the folder {}: {error}", outside.display()))?;
    folder.write(&noted, path.as_os_str().as_encoded_bytes())?;
    Ok(path)
}

/// Makes a folder that nobody else may look into, or sees that it is one.
fn make_own(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let found = fs::symlink_metadata(folder)?;
    let own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    if own { Ok(()) } else { Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not this user's alone")) }
}

/// Listens there; what was left of an earlier socket is removed.
///
/// # Errors
/// In a sentence.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, String> {
    let listen = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    listen().map_err(|error: io::Error| format!("cannot listen at {}: {error}", path.display()))
}

/// Takes connections until it is dropped.
pub(crate) async fn serve(listener: Arc<UnixListener>, workers: Connections) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot take a worker's connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while let Some(ended) = connections.try_join_next() {
            if let Err(error) = ended {
                tracing::error!("a connection to the Supervisor's socket has broken off: {error}");
            }
        }
        let workers = workers.clone();
        connections.spawn(async move {
            if let Err(why) = connection(stream, &workers).await {
                tracing::warn!("a connection to the Supervisor's socket is closed: {why}");
            }
            drop(permit);
        });
    }
}

async fn connection(stream: UnixStream, workers: &Connections) -> Result<(), String> {
    let process = Process::of_peer(&stream).map_err(|error| error.to_string())?;
    let pid = process.pid();
    let Some(mut connection) = workers.connect(process).await else { return Ok(()) };
    let reports = connection.reports();
    let (read, mut write) = stream.into_split();
    let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(LINE_BYTES));
    let reading = async {
        let mut hello = true;
        loop {
            let line = match hello {
                true => timeout(HELLO, lines.next()).await.map_err(|_| format!("process {pid} says nothing"))?,
                false => lines.next().await,
            };
            let line = match line {
                None => return Ok(None),
                Some(Ok(line)) => line,
                // It ended before it had read all answers.
                Some(Err(LinesCodecError::Io(_))) => return Ok(None),
                Some(Err(error)) => return Err(format!("process {pid} sent no report: {error}")),
            };
            hello = false;
            match worker_api::read_json("report", REPORT_FORMAT, line.as_bytes()) {
                Ok(report) => {
                    if !reports.send(report).await {
                        return Ok(None);
                    }
                }
                Err(Unreadable::WrongFormat(why)) => return Ok(Some(format!("process {pid}: {why}"))),
                Err(why @ Unreadable::Malformed { .. }) => return Err(format!("process {pid}: {why}")),
            }
        }
    };
    let writing = async {
        while let Some(answer) = connection.answer().await {
            if send(&mut write, &answer).await.is_err() {
                // Its reading end tells what became of it.
                std::future::pending::<()>().await;
            }
        }
    };
    let refused = tokio::select! {
        biased;
        end = reading => end?,
        () = writing => None,
    };
    let Some(why) = refused else { return Ok(()) };
    let _ = timeout(HELLO, send(&mut write, &gone())).await;
    Err(format!("{why}; it was told to end"))
}

async fn send(to: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    to.write_all(&line).await
}
