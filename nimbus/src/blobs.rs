//! Blobs: files named by the SHA-256 of their bytes, in `storm.local.dir`/nimbus/blobs.
//!
//! | file | what |
//! |---|---|
//! | `HASH` | a blob that is complete and was verified before it got this name |
//! | `HASH.part` | an upload as far as it came; it goes on there, also after a restart |
//!
//! A complete blob stays while a topology uses it, or while an upload's pin holds: `upload_expiration` from its last piece, or
//! until a submission names it. A part stays as long after its last piece. Which topologies use what is read from the
//! records; until all of them were read nothing complete is deleted.
//!
//! Not here: HTTP (`server`). Invariants: bytes that are served under a hash were compared with it in this process; an upload that does not fit its
//! hash, or the disk, leaves nothing.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use cluster_state::records::EpochMs;
use futures_util::{Stream, StreamExt};
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::submission::Blob;
use sha2::{Digest, Sha256};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::time::timeout;
use worker_api::ids::{BlobHash, TopologyId};

use crate::NimbusError;
use crate::clock::epoch_ms;
use crate::folder::{FILE_MODE, close};

/// Longest blob in bytes.
pub(crate) const BLOB_BYTES: u64 = 4 << 30;
/// How long an upload may be silent within a piece.
const PIECE_SILENCE: Duration = Duration::from_secs(30);
/// How long who asks for a blob may wait for a part of it to be compared with its hash.
const LOOK: Duration = Duration::from_secs(5);

/// What a topology uses its blobs as: `executable`, `graph`, or a file's name.
pub(crate) type Uses = Vec<(BlobHash, String)>;

/// The blobs of this Nimbus; shared by `Arc`.
pub(crate) struct Blobs {
    folder: PathBuf,
    expiration: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Complete ones.
    complete: BTreeMap<BlobHash, Complete>,
    /// Who uses what, whether it is there or not.
    used_by: BTreeMap<BlobHash, BTreeMap<TopologyId, Vec<String>>>,
    /// Whether `used_by` has all topologies.
    all_uses_known: bool,
    /// Held while a piece is written: one at a time for each blob.
    uploads: BTreeMap<BlobHash, Arc<tokio::sync::Mutex<()>>>,
    /// Parts that were compared with their hash and did not fit, with the length that they had: they lack something yet.
    lacking: BTreeMap<BlobHash, u64>,
}

struct Complete {
    bytes: u64,
    /// Whether this process has compared it with its hash.
    verified: bool,
    /// Kept until then, though nobody uses it.
    pinned_until_ms: Option<EpochMs>,
    /// How often it was pinned since it was last used by a topology: so many submissions may be about to name it.
    pins: u32,
}

/// How much of a blob is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it: its length in bytes.
    Complete(u64),
    /// So many bytes; an upload goes on there.
    Partial(u64),
}

/// Why a piece was not taken.
pub(crate) enum Refused {
    /// It begins elsewhere than at the end of what is there.
    Offset {
        /// Where an upload goes on.
        right: u64,
    },
    /// Anything else.
    Failure(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Refused::Failure(failure)
    }
}

impl Blobs {
    /// Opens the folder, or makes it; what lies there counts as not verified yet.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub(crate) async fn open(folder: PathBuf, expiration: Duration) -> Result<Blobs, NimbusError> {
        let cannot = |error| NimbusError(format!("cannot use {} for blobs: {error}", folder.display()));
        fs::create_dir_all(&folder).await.map_err(cannot)?;
        close(&folder).map_err(cannot)?;
        let mut kept = Kept::default();
        let mut files = fs::read_dir(&folder).await.map_err(cannot)?;
        while let Some(file) = files.next_entry().await.map_err(cannot)? {
            let found = file.metadata().await.map_err(cannot)?;
            if found.is_file() {
                close(&file.path()).map_err(cannot)?;
            }
            let Some(hash) = file.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let pinned_until_ms = Some(modified_ms(&found) + expiration.as_millis() as u64);
            kept.complete.insert(hash, Complete { bytes: found.len(), verified: false, pinned_until_ms, pins: 1 });
        }
        Ok(Blobs { folder, expiration, kept: Mutex::new(kept) })
    }

    /// How much of a blob is there. Who asks means to submit it: what is there is pinned anew. A part that turns out to be
    /// all of it is finished first, if that does not take long.
    pub(crate) async fn pin(self: &Arc<Self>, hash: &BlobHash) -> Option<Extent> {
        let _ = timeout(LOOK, self.finish_idle(hash)).await;
        let until = epoch_ms() + self.expiration.as_millis() as u64;
        if let Some(complete) = self.kept().complete.get_mut(hash) {
            complete.pinned_until_ms = Some(until);
            complete.pins = complete.pins.saturating_add(1);
            return Some(Extent::Complete(complete.bytes));
        }
        fs::metadata(self.part(hash)).await.ok().map(|found| Extent::Partial(found.len()))
    }

    /// Finishes the parts that lie here whole: an end of this Nimbus may have come before the last step of their uploads.
    pub(crate) async fn finish_parts(self: &Arc<Self>) {
        for (hash, _) in self.parts().await {
            self.finish_idle(&hash).await;
        }
    }

    /// Finishes a part that nobody writes, if its bytes have its hash. They are read once for each length that it has.
    async fn finish_idle(self: &Arc<Self>, hash: &BlobHash) {
        let Ok(found) = fs::metadata(self.part(hash)).await else { return };
        let bytes = found.len();
        {
            let kept = self.kept();
            if !found.is_file() || kept.uploads.contains_key(hash) || kept.lacking.get(hash) == Some(&bytes) {
                return;
            }
        }
        let (blobs, hash) = (Arc::clone(self), hash.clone());
        // A task of its own, so that it goes on when who asked does not wait for it.
        let finishing = tokio::spawn(async move {
            let _alone = blobs.alone(&hash).await;
            let part = blobs.part(&hash);
            if !fs::metadata(&part).await.is_ok_and(|found| found.len() == bytes) {
                return;
            }
            let finished = match digest(part).await {
                Ok(found) if found == hash => blobs.finish_synced(&hash, bytes).await,
                Ok(_) => {
                    blobs.kept().lacking.insert(hash.clone(), bytes);
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = finished {
                tracing::warn!("{}", blobs.disk_failure(&hash, &error));
            }
        });
        let _ = finishing.await;
    }

    async fn finish_synced(&self, hash: &BlobHash, bytes: u64) -> io::Result<()> {
        File::open(self.part(hash)).await?.sync_all().await?;
        self.finish(hash, bytes)
    }

    /// Appends a piece of an upload: `offset` is where it begins, `length` that of the whole blob. When the last one is
    /// there the whole is compared with its hash, also if its sender has gone; an empty piece at the end brings that about
    /// again. What came of a piece that was cut short stays, and the upload goes on there.
    ///
    /// # Errors
    /// If it begins elsewhere, is longer than it may be, was cut short, does not fit its hash, or the disk: of an upload
    /// that does not fit its hash, or the disk, nothing stays.
    pub(crate) async fn append<E: std::fmt::Display>(
        self: &Arc<Self>,
        hash: &BlobHash,
        offset: u64,
        length: u64,
        mut piece: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Extent, Refused> {
        if length > BLOB_BYTES {
            let said = format!("blob {hash} would have {length} bytes, at most {BLOB_BYTES} are allowed");
            return Err(FailureKind::TooLarge.with(said).into());
        }
        let alone = self.alone(hash).await;
        if let Some(bytes) = self.complete(hash) {
            // Another upload of the same bytes was faster. What is sent is taken, so that its sender hears the answer.
            while let Some(Ok(_)) = timeout(PIECE_SILENCE, piece.next()).await.unwrap_or_default() {}
            self.pin(hash).await;
            return Ok(Extent::Complete(bytes));
        }
        self.kept().lacking.remove(hash);
        let part = self.part(hash);
        let disk = |error| self.disk_failure(hash, &error);
        let mut file = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(&part).await.map_err(disk)?;
        let mut bytes = file.metadata().await.map_err(disk)?.len();
        if bytes != offset {
            return Err(Refused::Offset { right: bytes });
        }
        loop {
            let data = match timeout(PIECE_SILENCE, piece.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(data))) => data,
                Ok(Some(Err(error))) => {
                    let _ = file.flush().await;
                    return Err(FailureKind::BadRequest
                        .with(format!("the upload of blob {hash} was cut short: {error}"))
                        .into());
                }
                Err(_) => {
                    let _ = file.flush().await;
                    let secs = PIECE_SILENCE.as_secs();
                    return Err(FailureKind::BadRequest
                        .with(format!("the upload of blob {hash} was silent for {secs} s"))
                        .into());
                }
            };
            bytes += data.len() as u64;
            if bytes > length {
                drop(file);
                let _ = fs::remove_file(&part).await;
                let said = format!("more than the {length} bytes came that blob {hash} should have; nothing was kept");
                return Err(FailureKind::CorruptBlob.with(said).into());
            }
            if let Err(error) = file.write_all(&data).await {
                return Err(self.give_up(hash, &error).await.into());
            }
        }
        // Errors of earlier writes come out here too.
        if let Err(error) = file.flush().await {
            return Err(self.give_up(hash, &error).await.into());
        }
        if bytes < length {
            return Ok(Extent::Partial(bytes));
        }
        let (blobs, hash) = (Arc::clone(self), hash.clone());
        // A task of its own, so that a sender that goes does not break it off.
        let finishing = tokio::spawn(async move {
            let _alone = alone;
            blobs.finish_upload(&hash, file, bytes).await
        });
        let finished = finishing.await.map_err(|error| FailureKind::Internal.with(error.to_string()))?;
        Ok(finished.map(|()| Extent::Complete(bytes))?)
    }

    /// The last step of an upload: what came is made to last, compared with its hash, and named.
    async fn finish_upload(&self, hash: &BlobHash, file: File, bytes: u64) -> Result<(), Failure> {
        if let Err(error) = file.sync_all().await {
            return Err(self.give_up(hash, &error).await);
        }
        let part = self.part(hash);
        let found = digest(part.clone()).await.map_err(|error| self.disk_failure(hash, &error))?;
        if found != *hash {
            let _ = fs::remove_file(&part).await;
            return Err(FailureKind::CorruptBlob.with(format!(
                "the {bytes} bytes that came have the SHA-256 {found}, not {hash}; nothing was kept: send them again"
            )));
        }
        self.finish(hash, bytes).map_err(|error| self.disk_failure(hash, &error))
    }

    /// Keeps these bytes, and names them.
    ///
    /// # Errors
    /// If they do not fit the disk.
    pub(crate) async fn keep(self: &Arc<Self>, bytes: Bytes) -> Result<BlobHash, Failure> {
        let hash = BlobHash::of(Sha256::digest(&bytes).into());
        let length = bytes.len() as u64;
        loop {
            let offset = match self.pin(&hash).await {
                Some(Extent::Complete(_)) => return Ok(hash),
                Some(Extent::Partial(offset)) => offset.min(length),
                None => 0,
            };
            let rest = bytes.slice(offset as usize..);
            let piece = futures_util::stream::iter([Ok::<_, io::Error>(rest)]);
            match self.append(&hash, offset, length, piece).await {
                Ok(_) => return Ok(hash),
                Err(Refused::Failure(failure)) => return Err(failure),
                Err(Refused::Offset { right }) if right > length => {
                    let _alone = self.alone(&hash).await;
                    let _ = fs::remove_file(self.part(&hash)).await;
                }
                Err(Refused::Offset { .. }) => {}
            }
        }
    }

    /// Opens a complete blob at `from`; gives its whole length too. It is verified first, if this process has not done so.
    ///
    /// # Errors
    /// If it is not there, or is damaged: then it is given up, so that it can be uploaded again.
    pub(crate) async fn open_at(self: &Arc<Self>, hash: &BlobHash, from: u64) -> Result<(File, u64), Failure> {
        self.verify(hash).await?;
        let bytes = self.complete(hash).ok_or_else(|| missing(hash))?;
        let cannot = |error: io::Error| FailureKind::Internal.with(format!("cannot read blob {hash}: {error}"));
        let mut file = File::open(self.folder.join(hash.as_str())).await.map_err(cannot)?;
        let found = file.metadata().await.map_err(cannot)?.len();
        if found != bytes {
            return Err(self.damaged(hash, &format!("it has {found} bytes instead of {bytes}")));
        }
        file.seek(SeekFrom::Start(from)).await.map_err(cannot)?;
        Ok((file, bytes))
    }

    /// All of a blob's bytes.
    ///
    /// # Errors
    /// As [`Blobs::open_at`].
    pub(crate) async fn read(self: &Arc<Self>, hash: &BlobHash) -> Result<Vec<u8>, Failure> {
        self.verify(hash).await?;
        let cannot = |error: io::Error| FailureKind::Internal.with(format!("cannot read blob {hash}: {error}"));
        fs::read(self.folder.join(hash.as_str())).await.map_err(cannot)
    }

    /// Compares a blob with its hash, once in this process's life.
    ///
    /// # Errors
    /// If it is not there, or is damaged: then it is given up.
    pub(crate) async fn verify(self: &Arc<Self>, hash: &BlobHash) -> Result<(), Failure> {
        match self.kept().complete.get(hash) {
            None => return Err(missing(hash)),
            Some(complete) if complete.verified => return Ok(()),
            Some(_) => {}
        }
        let _alone = self.alone(hash).await;
        let found = match digest(self.folder.join(hash.as_str())).await {
            Ok(found) => found,
            Err(error) => return Err(self.damaged(hash, &format!("it cannot be read: {error}"))),
        };
        if found != *hash {
            return Err(self.damaged(hash, &format!("its bytes have the SHA-256 {found}")));
        }
        if let Some(complete) = self.kept().complete.get_mut(hash) {
            complete.verified = true;
        }
        Ok(())
    }

    /// Whether any blob is complete.
    pub(crate) fn has_complete(&self) -> bool {
        !self.kept().complete.is_empty()
    }

    /// The length of a blob that is complete.
    pub(crate) fn complete(&self, hash: &BlobHash) -> Option<u64> {
        self.kept().complete.get(hash).map(|complete| complete.bytes)
    }

    /// The complete ones that this process has not verified yet.
    pub(crate) fn unverified(&self) -> Vec<BlobHash> {
        let kept = self.kept();
        kept.complete.iter().filter(|(_, complete)| !complete.verified).map(|(hash, _)| hash.clone()).collect()
    }

    /// A submission uses these from now on: they stay until [`Blobs::release`], whatever their pins say.
    ///
    /// # Errors
    /// If one of them is not complete; then none is used.
    pub(crate) fn reserve(&self, id: &TopologyId, uses: &Uses) -> Result<(), BlobHash> {
        let mut kept = self.kept();
        if let Some((missing, _)) = uses.iter().find(|(hash, _)| !kept.complete.contains_key(hash)) {
            return Err(missing.clone());
        }
        kept.add_uses(id, uses);
        Ok(())
    }

    /// The submission that reserved these is stored: their pins have served.
    pub(crate) fn unpin(&self, uses: &Uses) {
        let mut kept = self.kept();
        for (hash, _) in uses {
            if let Some(complete) = kept.complete.get_mut(hash) {
                (complete.pinned_until_ms, complete.pins) = (None, 0);
            }
        }
    }

    /// A submission that named these was refused: each has one pin less, and what no other pin holds, and nobody uses, is
    /// deleted.
    pub(crate) fn refused(&self, named: &[BlobHash]) {
        let mut kept = self.kept();
        for hash in named {
            if let Some(complete) = kept.complete.get_mut(hash) {
                complete.pins = complete.pins.saturating_sub(1);
                complete.pinned_until_ms = complete.pinned_until_ms.filter(|_| complete.pins > 0);
            }
        }
        self.delete_unused(&mut kept);
    }

    /// All topologies that the records tell of, with what they use. `all_known` says whether every record was read.
    pub(crate) fn set_uses(&self, topologies: &[(TopologyId, Uses)], all_known: bool) {
        {
            let mut kept = self.kept();
            kept.used_by.clear();
            kept.all_uses_known = all_known;
            for (id, uses) in topologies {
                kept.add_uses(id, uses);
            }
        }
        for (_, uses) in topologies {
            self.unpin(uses);
        }
    }

    /// A topology is gone: what nobody else uses, and no pin holds, is deleted.
    pub(crate) fn release(&self, id: &TopologyId) {
        let mut kept = self.kept();
        kept.used_by.retain(|_, users| {
            users.remove(id);
            !users.is_empty()
        });
        self.delete_unused(&mut kept);
    }

    /// How often to look for what has expired, in milliseconds: as often as uploads expire, within reason.
    pub(crate) fn sweep_ms(&self) -> u64 {
        (self.expiration.as_millis() as u64).clamp(1000, 60_000)
    }

    /// Deletes what has expired: blobs that nobody uses, and parts that did not grow for long.
    pub(crate) async fn sweep(&self) {
        self.delete_unused(&mut self.kept());
        let expired = epoch_ms().saturating_sub(self.expiration.as_millis() as u64);
        for (hash, found) in self.parts().await {
            let busy = self.kept().uploads.contains_key(&hash);
            if !busy && modified_ms(&found) < expired {
                tracing::info!("an upload of blob {hash} that did not go on is dropped");
                let _ = fs::remove_file(self.part(&hash)).await;
                self.kept().lacking.remove(&hash);
            }
        }
    }

    /// All of them, parts among them, by hash.
    pub(crate) async fn list(&self) -> Vec<Blob> {
        let parts = self.parts().await;
        let kept = self.kept();
        let used_by = |hash: &BlobHash| kept.used_by.get(hash).cloned().unwrap_or_default();
        let complete = kept.complete.iter().map(|(hash, complete)| {
            (hash.clone(), Blob { hash: hash.clone(), bytes: complete.bytes, complete: true, used_by: used_by(hash) })
        });
        let parts = parts.into_iter().filter(|(hash, _)| !kept.complete.contains_key(hash)).map(|(hash, found)| {
            (hash.clone(), Blob { bytes: found.len(), complete: false, used_by: used_by(&hash), hash })
        });
        complete.chain(parts).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn part(&self, hash: &BlobHash) -> PathBuf {
        self.folder.join(format!("{hash}.part"))
    }

    async fn parts(&self) -> Vec<(BlobHash, std::fs::Metadata)> {
        let mut parts = Vec::new();
        let Ok(mut files) = fs::read_dir(&self.folder).await else { return parts };
        while let Ok(Some(file)) = files.next_entry().await {
            let name = file.file_name();
            let hash = name.to_str().and_then(|name| name.strip_suffix(".part")?.parse().ok());
            if let (Some(hash), Ok(found)) = (hash, file.metadata().await) {
                parts.push((hash, found));
            }
        }
        parts
    }

    /// Waits until nobody else writes or verifies this blob.
    async fn alone(self: &Arc<Self>, hash: &BlobHash) -> Alone {
        let lock = Arc::clone(self.kept().uploads.entry(hash.clone()).or_default());
        Alone { guard: Some(lock.lock_owned().await), blobs: Arc::clone(self), hash: hash.clone() }
    }

    /// Gives a part that was verified the name of its hash.
    fn finish(&self, hash: &BlobHash, bytes: u64) -> io::Result<()> {
        let mut kept = self.kept();
        std::fs::rename(self.part(hash), self.folder.join(hash.as_str()))?;
        sync_folder(&self.folder)?;
        let pinned_until_ms = Some(epoch_ms() + self.expiration.as_millis() as u64);
        kept.complete.insert(hash.clone(), Complete { bytes, verified: true, pinned_until_ms, pins: 1 });
        Ok(())
    }

    /// Drops the part of an upload that the disk did not take: it would only fill it.
    async fn give_up(&self, hash: &BlobHash, error: &io::Error) -> Failure {
        let _ = fs::remove_file(self.part(hash)).await;
        self.disk_failure(hash, error)
    }

    fn disk_failure(&self, hash: &BlobHash, error: &io::Error) -> Failure {
        let folder = self.folder.display();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FailureKind::NoSpace.with(format!(
                "there is no space left in {folder} for blob {hash}; nothing of it was kept: free some, and submit again"
            )),
            _ => FailureKind::Internal.with(format!("cannot keep blob {hash} in {folder}: {error}")),
        }
    }

    fn damaged(&self, hash: &BlobHash, how: &str) -> Failure {
        let mut kept = self.kept();
        kept.complete.remove(hash);
        let _ = std::fs::remove_file(self.folder.join(hash.as_str()));
        let said = format!("blob {hash} was damaged on the disk of this Nimbus: {how}; upload it again");
        tracing::error!("{said}");
        FailureKind::CorruptBlob.with(said)
    }

    fn delete_unused(&self, kept: &mut Kept) {
        if !kept.all_uses_known {
            return;
        }
        let now = epoch_ms();
        let Kept { complete, used_by, .. } = kept;
        complete.retain(|hash, complete| {
            let stays = used_by.contains_key(hash) || complete.pinned_until_ms.is_some_and(|until| now < until);
            if !stays && let Err(error) = std::fs::remove_file(self.folder.join(hash.as_str())) {
                tracing::warn!("cannot delete blob {hash}: {error}");
            }
            stays
        });
    }
}

impl Kept {
    fn add_uses(&mut self, id: &TopologyId, uses: &Uses) {
        for (hash, what) in uses {
            let whats = self.used_by.entry(hash.clone()).or_default().entry(id.clone()).or_default();
            whats.push(what.clone());
        }
    }
}

/// Nobody else writes or verifies a blob while this is there.
struct Alone {
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
    blobs: Arc<Blobs>,
    hash: BlobHash,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut kept = self.blobs.kept();
        self.guard = None;
        // Who waits has the lock too.
        if kept.uploads.get(&self.hash).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            kept.uploads.remove(&self.hash);
        }
    }
}

/// There is no such blob.
pub(crate) fn missing(hash: &BlobHash) -> Failure {
    FailureKind::NotFound.with(format!("there is no blob {hash} here, or not all of it"))
}

/// Makes what was renamed or created in a folder survive a crash.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

fn modified_ms(found: &std::fs::Metadata) -> EpochMs {
    let modified = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    modified.map_or(0, |since| since.as_millis() as EpochMs)
}

/// The hash of a file's bytes.
async fn digest(path: PathBuf) -> io::Result<BlobHash> {
    let hashing = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(BlobHash::of(hasher.finalize().into())),
                bytes => hasher.update(&buffer[..bytes]),
            }
        }
    });
    hashing.await.map_err(io::Error::other)?
}
