//! Executables, graphs and files on this machine, by their hashes.
//!
//! `HASH` is whole and was on disk before it got that name; `HASH.part` is on its way. A blob that is there when the Supervisor starts is
//! read through again before it is used. What came of one whose download broke off stays; a part that the disk did not take does not,
//! so that it does not hold a full disk full.
//!
//! | task | how many | ends with | waits for |
//! |---|---|---|---|
//! | fetch | one for each blob that is wanted and not here; [`DOWNLOADS`] at a time | the blob, or nobody wanting it | Nimbus, the disk |
//!
//! Not here: which are needed (`machine`). Invariants: nothing is used whose hash is not its name; what came of a blob and is
//! kept is not fetched twice; a blob has no write permission, so that a worker does not change it for others.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use seam::Seam;
use seam::disk::Disk;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use worker_api::ids::BlobHash;

use crate::folder::{Folder, in_words};
use crate::host::Host;

/// Downloads at a time.
const DOWNLOADS: usize = 5;
/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of a blob that are read or written at a time.
const PIECE: usize = 256 << 10;

/// What became of a blob.
pub(crate) struct Fetched {
    /// Which.
    pub(crate) hash: BlobHash,
    /// It is here; or why not, while it is tried again.
    pub(crate) result: Result<(), String>,
}

/// The blobs of this machine.
pub(crate) struct Blobs {
    folder: Arc<Folder>,
    host: Arc<dyn Host>,
    seam: Seam,
    here: BTreeSet<BlobHash>,
    under_way: BTreeMap<BlobHash, AbortHandle>,
    tasks: JoinSet<()>,
    room: Arc<Semaphore>,
    fetched: mpsc::Sender<Fetched>,
}

impl Blobs {
    /// Tells of each blob that was wanted by `fetched`.
    pub(crate) fn new(folder: Arc<Folder>, host: Arc<dyn Host>, seam: Seam, fetched: mpsc::Sender<Fetched>) -> Self {
        let (here, under_way, tasks) = (BTreeSet::new(), BTreeMap::new(), JoinSet::new());
        let room = Arc::new(Semaphore::new(DOWNLOADS));
        Blobs { folder, host, seam, here, under_way, tasks, room, fetched }
    }

    /// Whether all of them are here; those that are not are fetched.
    pub(crate) async fn want(&mut self, blobs: &BTreeMap<BlobHash, u64>) -> bool {
        // Removed by hand, perhaps.
        let (folder, known) = (self.folder.clone(), self.here.clone());
        let there = move || known.into_iter().filter(|hash| folder.disk().look(&path(&folder, hash)).is_ok()).collect();
        self.here = self.seam.on_disk(there).await;
        let mut all = true;
        for (hash, bytes) in blobs {
            if self.here.contains(hash) {
                continue;
            }
            all = false;
            if !self.under_way.contains_key(hash) {
                let whole = path(&self.folder, hash);
                let fetch = Fetch {
                    folder: self.folder.clone(),
                    host: self.host.clone(),
                    seam: self.seam.clone(),
                    hash: hash.clone(),
                    bytes: *bytes,
                    part: whole.with_extension("part"),
                    whole,
                };
                let (room, fetched) = (self.room.clone(), self.fetched.clone());
                let task = self.tasks.spawn(self.seam.gated(fetch.run(room, fetched)));
                self.under_way.insert(hash.clone(), task);
            }
        }
        all
    }

    /// Ends what is under way; what came stays.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// The next task that has ended, of those under way; `None` at once if there are none. Cancel-safe.
    pub(crate) async fn next_ended(&mut self) -> Option<Result<(), JoinError>> {
        self.tasks.join_next().await
    }

    /// To be told what [`Fetched`] said.
    pub(crate) fn arrived(&mut self, hash: &BlobHash) {
        // It was not wanted any more when it came.
        if self.under_way.remove(hash).is_some() {
            self.here.insert(hash.clone());
        }
    }

    /// Removes all but these.
    pub(crate) async fn keep(&mut self, needed: &BTreeSet<BlobHash>) {
        self.here.retain(|hash| needed.contains(hash));
        self.under_way.retain(|hash, task| {
            let stays = needed.contains(hash);
            if !stays {
                task.abort();
            }
            stays
        });
        let (folder, needed) = (self.folder.clone(), needed.clone());
        let remove = move || {
            let names = match folder.names(&folder.blobs()) {
                Ok(names) => names,
                Err(why) => return tracing::warn!("{why}; blobs that are not needed stay"),
            };
            for name in names {
                let hash = BlobHash::from_str(name.strip_suffix(".part").unwrap_or(&name));
                if !hash.is_ok_and(|hash| needed.contains(&hash))
                    && let Err(why) = folder.remove(&folder.blobs().join(name))
                {
                    tracing::warn!("{why}");
                }
            }
        };
        self.seam.on_disk(remove).await;
    }
}

/// Where a blob is.
fn path(folder: &Folder, hash: &BlobHash) -> PathBuf {
    folder.blobs().join(hash.as_str())
}

/// One blob on its way.
#[derive(Clone)]
struct Fetch {
    folder: Arc<Folder>,
    host: Arc<dyn Host>,
    seam: Seam,
    hash: BlobHash,
    bytes: u64,
    whole: PathBuf,
    part: PathBuf,
}

impl Fetch {
    /// Ends when the blob is here.
    async fn run(self, room: Arc<Semaphore>, fetched: mpsc::Sender<Fetched>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let result = match room.acquire().await {
                Ok(_permit) => self.once().await,
                Err(_) => return,
            };
            let done = result.is_ok();
            if fetched.send(Fetched { hash: self.hash.clone(), result }).await.is_err() || done {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self) -> Result<(), String> {
        if self.on_disk(Fetch::is_whole).await? {
            return Ok(());
        }
        let had = self.on_disk(Fetch::came).await?;
        if had < self.bytes {
            let (to, from) = tokio::io::duplex(PIECE);
            let fetching = self.host.fetch(self.hash.clone(), had, to);
            // What came is the more to go on from; a part that the disk did not take is gone.
            let (fetched, ()) =
                futures_util::future::try_join(async { Ok(fetching.await) }, self.keep(had, from)).await?;
            fetched.map_err(|error| format!("cannot fetch the blob {}: {error}", self.short()))?;
        }
        self.on_disk(Fetch::finish).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Fetch) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let fetch = self.clone();
        self.seam.on_disk(move || work(&fetch)).await
    }

    /// Writes what comes behind what is there.
    async fn keep(&self, had: u64, from: DuplexStream) -> Result<(), String> {
        let (mut from, mut at) = (from, had);
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            // The other end of it is in this process, and has no errors.
            while piece.len() < PIECE && from.read_buf(&mut piece).await.is_ok_and(|read| read > 0) {}
            if piece.is_empty() {
                return Ok(());
            }
            let (bytes, offset) = (piece.len() as u64, at);
            let write = move |fetch: &Fetch| match fetch.disk().write_at(&fetch.part, offset, &piece) {
                Ok(()) => Ok(()),
                Err(error) => {
                    fetch.folder.remove(&fetch.part)?;
                    Err(fetch.not_kept(&error))
                }
            };
            self.on_disk(write).await?;
            at += bytes;
        }
    }

    fn disk(&self) -> &dyn Disk {
        self.folder.disk().as_ref()
    }

    fn short(&self) -> &str {
        &self.hash.as_str()[..12]
    }

    fn not_kept(&self, error: &io::Error) -> String {
        format!("cannot keep the blob {}: {}", self.short(), in_words(error))
    }

    /// Whether all of it is here, and right; what is wrong is removed.
    fn is_whole(&self) -> Result<bool, String> {
        if self.disk().look(&self.whole).is_err() {
            return Ok(false);
        }
        if self.is_right(&self.whole)? {
            return Ok(true);
        }
        tracing::error!("{} is damaged; it is fetched again", self.whole.display());
        self.folder.remove(&self.whole)?;
        Ok(false)
    }

    /// How many bytes of it came so far.
    fn came(&self) -> Result<u64, String> {
        match self.disk().look(&self.part) {
            Ok(found) => Ok(found.bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(self.not_kept(&error)),
        }
    }

    /// Gives it its name, if it is right.
    fn finish(&self) -> Result<(), String> {
        let (has, short) = (self.came()?, self.short());
        if has < self.bytes {
            return Err(format!("the blob {short} was cut short: {has} of {} bytes came so far", self.bytes));
        }
        let disk = self.disk();
        if has == 0 {
            // Of a blob without bytes nothing comes.
            disk.write_at(&self.part, 0, &[]).map_err(|error| self.not_kept(&error))?;
        }
        if let Err(error) = disk.sync(&self.part) {
            self.folder.remove(&self.part)?;
            return Err(self.not_kept(&error));
        }
        if has > self.bytes || !self.is_right(&self.part)? {
            self.folder.remove(&self.part)?;
            return Err(format!("what Nimbus sent as the blob {short} is something else; it is fetched again"));
        }
        let named = disk.make_executable(&self.part).and_then(|()| disk.rename(&self.part, &self.whole));
        named.map_err(|error| self.not_kept(&error))
    }

    /// Whether what is in the file is the blob.
    fn is_right(&self, path: &Path) -> Result<bool, String> {
        match digest(self.disk(), path) {
            Ok(found) => Ok(found == self.hash),
            Err(error) => Err(format!("cannot read {}: {}", path.display(), in_words(&error))),
        }
    }
}

fn digest(disk: &dyn Disk, path: &Path) -> io::Result<BlobHash> {
    let (mut digest, mut at) = (Sha256::new(), 0);
    loop {
        let piece = disk.read_at(path, at, PIECE)?;
        if piece.is_empty() {
            return Ok(BlobHash::of(digest.finalize().into()));
        }
        at += piece.len() as u64;
        digest.update(&piece);
    }
}
