//! The machine itself as a [`Host`]: keepers, locks, signals, a Unix socket, HTTP.
//!
//! Not here: starting a keeper (`launcher`), the socket (`socket`). Invariants: one Supervisor uses a folder at a time; the launch
//! file is readable by this user alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nimbus_api::client::{BlobState, Client};
use nimbus_api::machine::{MachineAnswer, MachineReport};
use rustix::fs::{FlockOperation, flock};
use seam::Seam;
use seam::disk::{Disk, LocalDisk};
use tokio::io::DuplexStream;
use tokio::net::UnixListener;
use worker_api::ids::{BlobHash, Incarnation, Port};
use worker_api::launch::LAUNCH_FILE;

use crate::SupervisorConfig;
use crate::folder::{Folder, in_words};
use crate::host::{Connections, Host, Lock, NotLaunched, Signal, WorkerProcess, WorkerStart};
use crate::keeper::Record;
use crate::launcher::{LaunchError, Launcher, Start, take_end};
use crate::process::Process;
use crate::socket;

/// The machine that this process runs on.
pub struct LocalHost {
    bind: IpAddr,
    folder: Arc<Folder>,
    launcher: Launcher,
    client: Client,
    socket: PathBuf,
    listener: Arc<UnixListener>,
    seam: Seam,
    _lock: File,
}

impl LocalHost {
    /// Listens for workers. `lock` is held as long as it is there.
    ///
    /// # Errors
    /// In a sentence: if there is no socket to be had.
    pub(crate) async fn open(
        config: &SupervisorConfig,
        folder: Folder,
        lock: File,
        seam: Seam,
    ) -> Result<LocalHost, String> {
        let (folder, random) = (Arc::new(folder), seam.random());
        let place = folder.clone();
        let socket = seam.on_disk(move || socket::place(&place, random)).await?;
        let listener = Arc::new(socket::listen(&socket)?);
        let launcher = Launcher::new(config.keeper.clone());
        let client = Client::new(config.nimbuses.clone());
        Ok(LocalHost { bind: config.bind, folder, launcher, client, socket, listener, seam, _lock: lock })
    }
}

/// Nobody else uses this folder as long as the file is open.
///
/// # Errors
/// In a sentence: if another Supervisor uses it.
pub(crate) fn lock(folder: &Folder) -> Result<File, String> {
    let (root, path) = (folder.root(), folder.root().join("lock"));
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = lock.map_err(|error| format!("cannot lock {}: {error}", path.display()))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(format!(
            "another Supervisor uses {}; stop it, or give this one another storm.local.dir",
            root.display()
        ));
    }
    Ok(lock)
}

impl Host for LocalHost {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(LocalDisk)
    }

    fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    fn serve(&self, workers: Connections) -> BoxFuture<'static, ()> {
        Box::pin(socket::serve(self.listener.clone(), workers))
    }

    fn port_is_free(&self, port: Port) -> Result<(), String> {
        let bind = self.bind;
        match TcpListener::bind((bind, port.0)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(format!(
                "port {port} at {bind} is taken by another process (`ss -ltnp` shows which); end it, or take the port out of \
                 supervisor.slots.ports"
            )),
            Err(error) => Err(format!("a worker cannot listen at {bind} port {port}: {error}")),
        }
    }

    fn launch(&self, start: WorkerStart) -> BoxFuture<'static, Result<(), NotLaunched>> {
        let (launcher, folder, seam) = (self.launcher.clone(), self.folder.clone(), self.seam.clone());
        Box::pin(async move {
            let order = Start {
                slot_folder: folder.slot(start.port),
                work_folder: start.work_folder.clone(),
                executable: start.executable.clone(),
                topology: start.launch.topology.clone(),
                port: start.port,
                incarnation: start.life.incarnation,
                environment: start.environment.clone(),
                log: start.launch.log.clone(),
            };
            seam.on_disk(move || furnish(&folder, &start)).await.map_err(NotLaunched::Failed)?;
            launcher.start(&order).await.map_err(|error| match error {
                LaunchError::SlotHeld { .. } => NotLaunched::Held(error.to_string()),
                error => NotLaunched::Failed(error.to_string()),
            })
        })
    }

    fn look(&self, port: Port) -> io::Result<Lock> {
        let folder = self.folder.slot(port);
        if Launcher::is_held(&folder)? {
            return Ok(Lock::Held);
        }
        Ok(Lock::Free(take_end(&folder).unwrap_or_else(|error| {
            tracing::warn!("how the worker of slot {port} ended is not known: {error}");
            None
        })))
    }

    fn last_started(&self, port: Port) -> Option<Incarnation> {
        Some(Record::read(&self.folder.slot(port)).ok()??.incarnation)
    }

    fn is_kept(&self, port: Port) -> bool {
        // What cannot be read says nothing.
        !matches!(Process::keeper_of(&self.folder.slot(port)), Ok(None))
    }

    fn signal(&self, port: Port, signal: Signal) -> io::Result<()> {
        match Process::of_keeper_record(&self.folder.slot(port))? {
            Some(process) => WorkerProcess::signal(&process, signal),
            None => Ok(()),
        }
    }

    fn fetch(&self, hash: BlobHash, from: u64, to: DuplexStream) -> BoxFuture<'static, Result<(), String>> {
        let client = self.client.clone();
        Box::pin(async move {
            let mut to = to;
            client.download(&hash, from, &mut to).await.map(drop).map_err(|error| error.to_string())
        })
    }

    fn offer(
        &self,
        hash: BlobHash,
        length: u64,
        offset: u64,
        piece: Bytes,
    ) -> BoxFuture<'static, Result<Option<u64>, String>> {
        let client = self.client.clone();
        Box::pin(async move {
            let end = offset + piece.len() as u64;
            let answer = match piece.is_empty() && offset < length {
                true => client.blob_state(&hash).await.map(|state| match state {
                    Some(BlobState::Complete(_)) => None,
                    Some(BlobState::Partial(has)) => Some(has),
                    None => Some(0),
                }),
                false => client.upload(&hash, offset, length, piece).await.map(|()| (end < length).then_some(end)),
            };
            answer.map_err(|error| error.to_string())
        })
    }

    fn report(&self, report: Arc<MachineReport>) -> BoxFuture<'static, Result<MachineAnswer, String>> {
        let client = self.client.clone();
        Box::pin(async move { client.report_machine(&report.id, &report).await.map_err(|error| error.to_string()) })
    }
}

impl WorkerProcess for Process {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        Process::signal(
            self,
            match signal {
                Signal::Term => crate::process::Signal::TERM,
                Signal::Kill => crate::process::Signal::KILL,
            },
        )
    }
}

/// Makes a worker's folder ready.
fn furnish(folder: &Folder, start: &WorkerStart) -> Result<(), String> {
    folder.make(&start.work_folder)?;
    for (name, from) in &start.files {
        let to = start.work_folder.join(name.as_str());
        link(from, &to).map_err(|error| format!("cannot put the file {}: {}", to.display(), in_words(&error)))?;
    }
    let path = start.work_folder.join(LAUNCH_FILE);
    let json = serde_json::to_vec_pretty(&start.launch);
    let mut json = json.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    json.push(b'\n');
    folder.write(&path, &json)
}

/// The file under another name: the same one if both are on one file system, else a copy. What a worker left under that name goes.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => fs::copy(from, to).map(drop),
        linked => linked,
    }
}
