//! Executables, graphs and files on this machine, by their hashes.
//!
//! `HASH` is whole and was on disk before it got that name; `HASH.part` is on its way. A blob that is there when the Supervisor starts is
//! read through again before it is used. What came of one whose download broke off stays; a part that the disk did not take does not,
//! so that it does not hold a full disk full.
//!
//! | task | how many | ends with | waits for |
//! |---|---|---|---|
//! | fetch | one for each blob that is wanted and not here; [`DOWNLOADS`] at a time | the blob, or nobody wanting it | Nimbus, the disk |
//! | offer | one, while Nimbus lacks blobs | the last of those that it named | Nimbus, the disk |
//!
//! Not here: which are needed (`machine`). Invariants: nothing is used whose hash is not its name; what came of a blob and is
//! kept is not fetched twice; a blob has no write permission, so that a worker does not change it for others.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nimbus_api::client::UPLOAD_BYTES;
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
    under_way: BTreeMap<BlobHash, UnderWay>,
    tasks: JoinSet<()>,
    room: Arc<Semaphore>,
    fetched: mpsc::Sender<Fetched>,
    offer: Option<AbortHandle>,
}

/// A fetch, and who is at work on the disk for it: an aborted task does not take what it has begun there along.
struct UnderWay {
    task: AbortHandle,
    disk: Arc<Semaphore>,
}

impl Blobs {
    /// Tells of each blob that was wanted by `fetched`.
    pub(crate) fn new(folder: Arc<Folder>, host: Arc<dyn Host>, seam: Seam, fetched: mpsc::Sender<Fetched>) -> Self {
        let (here, under_way, tasks) = (BTreeSet::new(), BTreeMap::new(), JoinSet::new());
        let room = Arc::new(Semaphore::new(DOWNLOADS));
        Blobs { folder, host, seam, here, under_way, tasks, room, fetched, offer: None }
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
                let disk = Arc::new(Semaphore::new(1));
                let fetch = Fetch {
                    at_work: disk.clone(),
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
                self.under_way.insert(hash.clone(), UnderWay { task, disk });
            }
        }
        all
    }

    /// Gives Nimbus those of these blobs, which it lacks, that are here: one after another, and no others before that has ended.
    pub(crate) fn offer(&mut self, lacking: Vec<BlobHash>) {
        if lacking.is_empty() || self.offer.as_ref().is_some_and(|offer| !offer.is_finished()) {
            return;
        }
        let (folder, host, seam) = (self.folder.clone(), self.host.clone(), self.seam.clone());
        let offer = async move {
            for hash in lacking {
                let short = &hash.as_str()[..12];
                match offer(&folder, host.as_ref(), &seam, &hash).await {
                    Ok(true) => tracing::info!("Nimbus lacked the blob {short}, and has it from this machine"),
                    Ok(false) => {}
                    Err(why) => tracing::warn!("cannot give Nimbus the blob {short}, which it lacks: {why}"),
                }
            }
        };
        self.offer = Some(self.tasks.spawn(self.seam.gated(offer)));
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
        let over: Vec<UnderWay> =
            self.under_way.extract_if(.., |hash, _| !needed.contains(hash)).map(|(_, fetch)| fetch).collect();
        over.iter().for_each(|fetch| fetch.task.abort());
        for fetch in over {
            // Until then it may still make or rename a file, which would stay; closed, it begins nothing more.
            drop(fetch.disk.acquire().await);
            fetch.disk.close();
        }
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

/// Gives Nimbus a blob, and goes on where it came to; `false` if it is not here. Nimbus compares it with its hash.
async fn offer(folder: &Arc<Folder>, host: &dyn Host, seam: &Seam, hash: &BlobHash) -> Result<bool, String> {
    let file = path(folder, hash);
    let of_it = |error: io::Error| format!("cannot read {}: {}", path(folder, hash).display(), in_words(&error));
    let (disk, place) = (folder.disk().clone(), file.clone());
    let length = match seam.on_disk(move || disk.look(&place)).await {
        Ok(found) => found.bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(of_it(error)),
    };
    let (mut at, mut piece) = (0, Bytes::new());
    loop {
        let sent = piece.len() as u64;
        let Some(next) = host.offer(hash.clone(), length, at, piece).await? else { return Ok(true) };
        if next > length || (sent > 0 && next <= at) {
            return Err(format!("it has {next} of {length} bytes after a piece of {sent} at {at}"));
        }
        let (disk, place) = (folder.disk().clone(), file.clone());
        let read = seam.on_disk(move || disk.read_at(&place, next, UPLOAD_BYTES)).await;
        (at, piece) = (next, read.map_err(of_it)?.into());
        if piece.is_empty() && at < length {
            return Err(format!("{} was cut meanwhile", file.display()));
        }
    }
}

/// Where a blob is.
fn path(folder: &Folder, hash: &BlobHash) -> PathBuf {
    folder.blobs().join(hash.as_str())
}

/// One blob on its way.
#[derive(Clone)]
struct Fetch {
    /// One permit: who is at work on the disk has it.
    at_work: Arc<Semaphore>,
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
        let Ok(at_work) = self.at_work.clone().acquire_owned().await else {
            return Err("nobody wants the blob any more".to_owned());
        };
        let work = move || {
            let _at_work = at_work;
            work(&fetch)
        };
        self.seam.on_disk(work).await
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
