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
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use nimbus_api::client::{Client, ClientError};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use worker_api::ids::BlobHash;

use crate::folder::{in_words, names, remove_file};

/// Downloads at a time.
const DOWNLOADS: usize = 5;
/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What became of a blob.
pub(crate) struct Fetched {
    /// Which.
    pub(crate) hash: BlobHash,
    /// It is here; or why not, while it is tried again.
    pub(crate) result: Result<(), String>,
}

/// The blobs of this machine.
pub(crate) struct Blobs {
    folder: PathBuf,
    client: Client,
    here: BTreeSet<BlobHash>,
    under_way: BTreeMap<BlobHash, AbortHandle>,
    tasks: JoinSet<()>,
    room: Arc<Semaphore>,
    fetched: mpsc::Sender<Fetched>,
}

impl Blobs {
    /// Tells of each blob that was wanted by `fetched`.
    pub(crate) fn new(folder: PathBuf, client: Client, fetched: mpsc::Sender<Fetched>) -> Self {
        let (here, under_way, tasks) = (BTreeSet::new(), BTreeMap::new(), JoinSet::new());
        Blobs { folder, client, here, under_way, tasks, room: Arc::new(Semaphore::new(DOWNLOADS)), fetched }
    }

    /// Where a blob is.
    pub(crate) fn path(&self, hash: &BlobHash) -> PathBuf {
        self.folder.join(hash.as_str())
    }

    /// Whether all of them are here; those that are not are fetched.
    pub(crate) fn want(&mut self, blobs: &BTreeMap<BlobHash, u64>) -> bool {
        let mut all = true;
        for (hash, bytes) in blobs {
            if self.here.contains(hash) {
                // Removed by hand, perhaps.
                if self.path(hash).exists() {
                    continue;
                }
                self.here.remove(hash);
            }
            all = false;
            if !self.under_way.contains_key(hash) {
                let fetch = Fetch {
                    client: self.client.clone(),
                    hash: hash.clone(),
                    bytes: *bytes,
                    whole: self.path(hash),
                    part: self.folder.join(format!("{hash}.part")),
                };
                let (room, fetched) = (self.room.clone(), self.fetched.clone());
                self.under_way.insert(hash.clone(), self.tasks.spawn(fetch.run(room, fetched)));
            }
        }
        while self.tasks.try_join_next().is_some() {}
        all
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
        let over: Vec<_> = self.under_way.extract_if(.., |hash, _| !needed.contains(hash)).collect();
        over.iter().for_each(|(_, task)| task.abort());
        // Until then they may still make or rename a file, which would stay.
        while over.iter().any(|(_, task)| !task.is_finished()) && self.tasks.join_next().await.is_some() {}
        let names = match names(&self.folder) {
            Ok(names) => names,
            Err(why) => {
                tracing::warn!("{why}; blobs that are not needed stay");
                return;
            }
        };
        for name in names {
            let hash = BlobHash::from_str(name.strip_suffix(".part").unwrap_or(&name));
            if !hash.is_ok_and(|hash| needed.contains(&hash))
                && let Err(why) = remove_file(&self.folder.join(name))
            {
                tracing::warn!("{why}");
            }
        }
    }
}

/// One blob on its way.
struct Fetch {
    client: Client,
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
        let (hash, short) = (&self.hash, &self.hash.as_str()[..12]);
        if self.whole.exists() {
            if self.is_right(self.whole.clone()).await? {
                return Ok(());
            }
            tracing::error!("{} is damaged; it is fetched again", self.whole.display());
            remove_file(&self.whole)?;
        }
        let kept = |error: &io::Error| format!("cannot keep the blob {short}: {}", in_words(error));
        // Made here and not on another thread, which would make it after this fetch was ended and what it left removed.
        let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.part);
        let mut file = tokio::fs::File::from_std(file.map_err(|error| kept(&error))?);
        let had = file.metadata().await.map_err(|error| kept(&error))?.len();
        if had < self.bytes {
            let came = self.client.download(hash, had, &mut file).await;
            // What came is the more to go on from.
            let flushed = file.flush().await;
            if flushed.is_err() || matches!(came, Err(ClientError::File(_))) {
                remove_file(&self.part)?;
            }
            flushed.map_err(|error| kept(&error))?;
            came.map_err(|error| format!("cannot fetch the blob {short}: {error}"))?;
        }
        let has = file.metadata().await.map_err(|error| kept(&error))?.len();
        if has < self.bytes {
            return Err(format!("the blob {short} was cut short: {has} of {} bytes came so far", self.bytes));
        }
        if let Err(error) = file.sync_all().await {
            remove_file(&self.part)?;
            return Err(kept(&error));
        }
        drop(file);
        if has > self.bytes || !self.is_right(self.part.clone()).await? {
            remove_file(&self.part)?;
            return Err(format!("what Nimbus sent as the blob {short} is something else; it is fetched again"));
        }
        let finish = || {
            fs::set_permissions(&self.part, fs::Permissions::from_mode(0o500))?;
            fs::rename(&self.part, &self.whole)
        };
        finish().map_err(|error| kept(&error))
    }

    /// Whether what is in the file is the blob.
    async fn is_right(&self, path: PathBuf) -> Result<bool, String> {
        let read = spawn_blocking(move || digest(&path).map_err(|error| (path, error))).await;
        match read.map_err(|error| error.to_string())? {
            Ok(found) => Ok(found == self.hash),
            Err((path, error)) => Err(format!("cannot read {}: {}", path.display(), in_words(&error))),
        }
    }
}

fn digest(path: &Path) -> io::Result<BlobHash> {
    let mut file = fs::File::open(path)?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(BlobHash::of(digest.finalize().into())),
            read => digest.update(&piece[..read]),
        }
    }
}
