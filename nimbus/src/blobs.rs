//! Blobs: files named by the SHA-256 of their bytes, in `storm.local.dir`/nimbus/blobs.
//!
//! | file | what |
//! |---|---|
//! | `HASH` | a blob that is complete and was verified before it got this name |
//! | `HASH.part` | an upload as far as it came; it goes on there, also after a restart |
//!
//! A complete blob stays while a topology uses it, or while an upload's pin holds: `upload_expiration` from its last piece, or
//! until a submission names it. A part stays as long after its last piece. A file's date says once how old it is, and one in
//! the future that it is new; from then on the clock counts that does not jump. Which topologies use what is read from
//! the records; until all of them were read nothing complete is deleted.
//!
//! Not here: HTTP (`server`). Invariants: bytes that are served under a hash were compared with it in this process; an upload that does not fit its
//! hash, or the disk, leaves nothing.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use cluster_state::records::EpochMs;
use futures_util::{Stream, StreamExt};
use mutations::Mutation;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::submission::Blob;
use seam::disk::{Disk, Look};
use seam::{Seam, Task};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::timeout;
use worker_api::ids::{BlobHash, TopologyId};

use crate::NimbusError;
use crate::clock::Clock;

/// Longest blob in bytes.
pub(crate) const BLOB_BYTES: u64 = 4 << 30;
/// How long an upload may be silent within a piece.
const PIECE_SILENCE: Duration = Duration::from_secs(30);
/// How long who asks for a blob may wait for a part of it to be compared with its hash.
const LOOK: Duration = Duration::from_secs(5);
/// What comes of an upload is written in pieces of about so many bytes.
const WRITE_BYTES: usize = 256 << 10;
/// A blob is read in pieces of at most so many bytes.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// What a topology uses its blobs as: `executable`, `graph`, or a file's name.
pub(crate) type Uses = Vec<(BlobHash, String)>;

/// The blobs of this Nimbus; shared by `Arc`.
pub(crate) struct Blobs {
    folder: PathBuf,
    expiration: Duration,
    clock: Clock,
    seam: Seam,
    disk: Arc<dyn Disk>,
    kept: Mutex<Kept>,
    /// What goes on when who asked for it is gone; each ends by itself.
    going_on: Mutex<Vec<Task<()>>>,
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
    /// Parts as they were found when it was last looked for what has expired, and when they expire if they stay so, on
    /// `clock`.
    parts: BTreeMap<BlobHash, (Look, u64)>,
}

struct Complete {
    bytes: u64,
    /// Whether this process has compared it with its hash.
    verified: bool,
    /// Kept until then on `clock`, though nobody uses it.
    pinned_until_ms: Option<u64>,
    /// How often it was pinned since it was last used by a topology: so many submissions may be about to name it.
    pins: u32,
}

/// How much of a blob is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it: its length in bytes.
    Complete(u64),
    /// So many bytes; an upload goes on there.
    Partial(u64),
}

/// Why a piece of an upload was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
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
    pub(crate) async fn open(
        folder: PathBuf,
        expiration: Duration,
        clock: Clock,
        seam: Seam,
        disk: Arc<dyn Disk>,
    ) -> Result<Blobs, NimbusError> {
        let found = seam.on_disk({
            let (folder, disk) = (folder.clone(), Arc::clone(&disk));
            move || {
                disk.make_folder(&folder)?;
                let names = disk.names(&folder)?.into_iter();
                let hashes = names.filter_map(|name| name.parse::<BlobHash>().ok());
                hashes.map(|hash| Ok((disk.look(&folder.join(hash.as_str()))?, hash))).collect::<io::Result<Vec<_>>>()
            }
        });
        let found = found.await;
        let found =
            found.map_err(|error| NimbusError(format!("cannot use {} for blobs: {error}", folder.display())))?;
        let mut kept = Kept::default();
        for (look, hash) in found {
            let pinned_until_ms = Some(expires_ms(&clock, expiration, look.modified_ms));
            kept.complete.insert(hash, Complete { bytes: look.bytes, verified: false, pinned_until_ms, pins: 1 });
        }
        Ok(Blobs { folder, expiration, clock, seam, disk, kept: Mutex::new(kept), going_on: Mutex::default() })
    }

    /// How much of a blob is there. Who asks means to submit it: what is there is pinned anew. A part that turns out to be
    /// all of it is finished first, if that does not take long.
    pub(crate) async fn pin(self: &Arc<Self>, hash: &BlobHash) -> Option<Extent> {
        let _ = timeout(LOOK, self.finish_idle(hash)).await;
        let until = self.pin_end_ms();
        if let Some(complete) = self.kept().complete.get_mut(hash) {
            complete.pinned_until_ms = Some(until);
            complete.pins = complete.pins.saturating_add(1);
            return Some(Extent::Complete(complete.bytes));
        }
        self.look(self.part(hash)).await.ok().map(|found| Extent::Partial(found.bytes))
    }

    /// How much of a blob is there; nothing is pinned by asking.
    pub(crate) async fn extent(&self, hash: &BlobHash) -> Option<Extent> {
        match self.complete(hash) {
            Some(bytes) => Some(Extent::Complete(bytes)),
            None => self.look(self.part(hash)).await.ok().map(|found| Extent::Partial(found.bytes)),
        }
    }

    /// A pin has served: it was that of a blob which was fetched for a topology.
    pub(crate) fn used_pin(&self, hash: &BlobHash) {
        self.kept().drop_pin(hash);
    }

    /// Finishes the parts that lie here whole: an end of this Nimbus may have come before the last step of their uploads.
    pub(crate) async fn finish_parts(self: &Arc<Self>) {
        for (hash, _) in self.parts().await {
            self.finish_idle(&hash).await;
        }
    }

    /// Finishes a part that nobody writes, if its bytes have its hash. They are read once for each length that it has.
    async fn finish_idle(self: &Arc<Self>, hash: &BlobHash) {
        let Ok(Look { bytes, .. }) = self.look(self.part(hash)).await else { return };
        {
            let kept = self.kept();
            if kept.uploads.contains_key(hash) || kept.lacking.get(hash) == Some(&bytes) {
                return;
            }
        }
        let (blobs, hash) = (Arc::clone(self), hash.clone());
        let finishing = self.going_on(async move {
            let _alone = blobs.alone(&hash).await;
            let part = blobs.part(&hash);
            if !blobs.look(part.clone()).await.is_ok_and(|found| found.bytes == bytes) {
                return;
            }
            let finished = match blobs.digest(part, bytes).await {
                Ok(found) if found == hash => blobs.finish(&hash, bytes).await,
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
        finishing.await;
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
        let mut alone = self.alone(hash).await;
        if let Some(bytes) = self.complete(hash) {
            // Another upload of the same bytes was faster. What is sent is taken, so that its sender hears the answer.
            while let Some(Ok(_)) = timeout(PIECE_SILENCE, piece.next()).await.unwrap_or_default() {}
            self.pin(hash).await;
            return Ok(Extent::Complete(bytes));
        }
        self.kept().lacking.remove(hash);
        let right = match self.look(self.part(hash)).await {
            Ok(found) => found.bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(self.disk_failure(hash, &error).into()),
        };
        if right != offset {
            return Err(Refused::Offset { right });
        }
        let (mut written, mut is_cut) = (offset, None);
        let mut waiting = Vec::new();
        loop {
            match timeout(PIECE_SILENCE, piece.next()).await {
                Ok(Some(Ok(data))) => waiting.extend_from_slice(&data),
                Ok(None) => break,
                Ok(Some(Err(error))) => {
                    is_cut = Some(format!("the upload of blob {hash} was cut short: {error}"));
                    break;
                }
                Err(_) => {
                    let secs = PIECE_SILENCE.as_secs();
                    is_cut = Some(format!("the upload of blob {hash} was silent for {secs} s"));
                    break;
                }
            }
            if written + waiting.len() as u64 > length {
                self.remove(self.part(hash)).await;
                let said = format!("more than the {length} bytes came that blob {hash} should have; nothing was kept");
                return Err(FailureKind::CorruptBlob.with(said).into());
            }
            if waiting.len() >= WRITE_BYTES {
                alone = self.write(alone, &mut written, std::mem::take(&mut waiting)).await?;
            }
        }
        alone = self.write(alone, &mut written, waiting).await?;
        if let Some(why) = is_cut {
            return Err(FailureKind::BadRequest.with(why).into());
        }
        if written < length {
            return Ok(Extent::Partial(written));
        }
        let (blobs, hash) = (Arc::clone(self), hash.clone());
        let finishing = self.going_on(async move {
            let _alone = alone;
            blobs.finish_upload(&hash, length).await
        });
        let stops = || Refused::from(FailureKind::NotLeader.with("this Nimbus is stopping"));
        finishing.await.ok_or_else(stops)??;
        Ok(Extent::Complete(length))
    }

    /// Writes what came of an upload at its end. The upload is alone until that has happened, also if its sender goes.
    async fn write(&self, alone: Alone, written: &mut u64, bytes: Vec<u8>) -> Result<Alone, Failure> {
        let (disk, part, from) = (Arc::clone(&self.disk), self.part(&alone.hash), *written);
        *written += bytes.len() as u64;
        let (alone, result) = self.seam.on_disk(move || (alone, disk.write_at(&part, from, &bytes))).await;
        match result {
            Ok(()) => Ok(alone),
            Err(error) => {
                // It would only fill the disk.
                self.remove(self.part(&alone.hash)).await;
                Err(self.disk_failure(&alone.hash, &error))
            }
        }
    }

    /// The last step of an upload: what came is compared with its hash, made to last, and named.
    async fn finish_upload(&self, hash: &BlobHash, bytes: u64) -> Result<(), Failure> {
        let part = self.part(hash);
        let found = self.digest(part.clone(), bytes).await.map_err(|error| self.disk_failure(hash, &error))?;
        if found != *hash {
            self.remove(part).await;
            return Err(FailureKind::CorruptBlob.with(format!(
                "the {bytes} bytes that came have the SHA-256 {found}, not {hash}; nothing was kept: send them again"
            )));
        }
        match self.finish(hash, bytes).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.remove(part).await;
                Err(self.disk_failure(hash, &error))
            }
        }
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
                    self.remove(self.part(&hash)).await;
                }
                Err(Refused::Offset { .. }) => {}
            }
        }
    }

    /// At most [`READ_BYTES`] of a complete blob from `from` on, none from its end on; and its whole length. It is verified
    /// first, if this process has not done so.
    ///
    /// # Errors
    /// If it is not there, or is damaged: then it is given up, so that it can be uploaded again.
    pub(crate) async fn piece(self: &Arc<Self>, hash: &BlobHash, from: u64) -> Result<(Bytes, u64), Failure> {
        self.verify(hash).await?;
        if self.length_differs(hash).await?.is_some() {
            let _alone = self.alone(hash).await;
            if let Some(how) = self.length_differs(hash).await? {
                return Err(self.damaged(hash, &how).await);
            }
        }
        let bytes = self.complete(hash).ok_or_else(|| missing(hash))?;
        let (disk, path) = (Arc::clone(&self.disk), self.path(hash));
        let piece = self.seam.on_disk(move || disk.read_at(&path, from, READ_BYTES)).await;
        let piece = piece.map_err(|error| unreadable(hash, &error))?;
        Ok((piece.into(), bytes))
    }

    /// How a file's length is not that of its blob.
    async fn length_differs(&self, hash: &BlobHash) -> Result<Option<String>, Failure> {
        let bytes = self.complete(hash).ok_or_else(|| missing(hash))?;
        let found = self.look(self.path(hash)).await.map_err(|error| unreadable(hash, &error))?.bytes;
        Ok((found != bytes).then(|| format!("it has {found} bytes instead of {bytes}")))
    }

    /// All of a blob's bytes.
    ///
    /// # Errors
    /// As [`Blobs::piece`].
    pub(crate) async fn read(self: &Arc<Self>, hash: &BlobHash) -> Result<Vec<u8>, Failure> {
        self.verify(hash).await?;
        let (disk, path) = (Arc::clone(&self.disk), self.path(hash));
        self.seam.on_disk(move || disk.read(&path)).await.map_err(|error| unreadable(hash, &error))
    }

    /// Compares a blob with its hash, once in this process's life.
    ///
    /// # Errors
    /// If it is not there, or is damaged: then it is given up.
    pub(crate) async fn verify(self: &Arc<Self>, hash: &BlobHash) -> Result<(), Failure> {
        let is_verified = || self.kept().complete.get(hash).map(|complete| complete.verified);
        if is_verified().ok_or_else(|| missing(hash))? {
            return Ok(());
        }
        let _alone = self.alone(hash).await;
        if is_verified().ok_or_else(|| missing(hash))? {
            return Ok(());
        }
        let bytes = self.complete(hash).ok_or_else(|| missing(hash))?;
        let found = match self.digest(self.path(hash), bytes).await {
            Ok(found) => found,
            Err(error) => return Err(self.damaged(hash, &format!("it cannot be read: {error}")).await),
        };
        if found != *hash {
            return Err(self.damaged(hash, &format!("its bytes have the SHA-256 {found}")).await);
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
        self.kept().unpin(uses);
    }

    /// A submission that named these was refused: each has one pin less, and what no other pin holds, and nobody uses, is
    /// deleted.
    pub(crate) async fn refused(self: &Arc<Self>, named: &[BlobHash]) {
        for hash in named {
            self.kept().drop_pin(hash);
        }
        self.delete_unused().await;
    }

    /// All topologies that the records tell of, with what they use. `all_known` says whether every record was read.
    pub(crate) fn set_uses(&self, topologies: &[(TopologyId, Uses)], all_known: bool) {
        let mut kept = self.kept();
        let before = std::mem::take(&mut kept.used_by);
        kept.all_uses_known = all_known;
        for (id, uses) in topologies {
            kept.add_uses(id, uses);
            // Pins of blobs that it was known to use are of others, who are about to submit them.
            if !uses.iter().any(|(hash, _)| before.get(hash).is_some_and(|users| users.contains_key(id))) {
                kept.unpin(uses);
            }
        }
    }

    /// A topology is gone: what nobody else uses, and no pin holds, is deleted.
    pub(crate) async fn release(self: &Arc<Self>, id: &TopologyId) {
        self.kept().used_by.retain(|_, users| {
            users.remove(id);
            !users.is_empty()
        });
        self.delete_unused().await;
    }

    /// How often to look for what has expired, in milliseconds: as often as uploads expire, within reason.
    pub(crate) fn sweep_ms(&self) -> u64 {
        (self.expiration.as_millis() as u64).clamp(1000, 60_000)
    }

    /// Deletes what has expired: blobs that nobody uses, and parts that did not grow for long.
    pub(crate) async fn sweep(self: &Arc<Self>) {
        self.delete_unused().await;
        let found = self.parts().await;
        let expired: Vec<BlobHash> = {
            let (mut kept, now) = (self.kept(), self.clock.uptime_ms());
            let before = std::mem::take(&mut kept.parts);
            let parts = found.into_iter().map(|(hash, look)| {
                let same = before.get(&hash).filter(|(seen, _)| *seen == look);
                let new = || (look, expires_ms(&self.clock, self.expiration, look.modified_ms));
                let part = same.copied().unwrap_or_else(new);
                (hash, part)
            });
            kept.parts = parts.collect();
            kept.parts.iter().filter(|(_, (_, expires))| *expires <= now).map(|(hash, _)| hash.clone()).collect()
        };
        for hash in expired {
            if !self.kept().uploads.contains_key(&hash) {
                tracing::info!("an upload of blob {hash} that did not go on is dropped");
                self.remove(self.part(&hash)).await;
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
            (hash.clone(), Blob { bytes: found.bytes, complete: false, used_by: used_by(&hash), hash })
        });
        complete.chain(parts).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Ends what would go on when who asked for it is gone.
    pub(crate) fn stop(&self) {
        self.going_on.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }

    /// Does something that goes on when who waits for it is gone; `None` if this Nimbus ends first.
    fn going_on<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send + 'static {
        let (done, result) = oneshot::channel();
        let task = self.seam.spawn(async move {
            // Who asked may be gone.
            let _ = done.send(work.await);
        });
        let mut going_on = self.going_on.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        going_on.retain(|task| !task.is_finished());
        going_on.push(task);
        async move { result.await.ok() }
    }

    fn path(&self, hash: &BlobHash) -> PathBuf {
        self.folder.join(hash.as_str())
    }

    fn part(&self, hash: &BlobHash) -> PathBuf {
        part_in(&self.folder, hash)
    }

    /// When a pin of now ends, on `clock`.
    fn pin_end_ms(&self) -> u64 {
        self.clock.uptime_ms().saturating_add(self.expiration.as_millis() as u64)
    }

    async fn look(&self, path: PathBuf) -> io::Result<Look> {
        let disk = Arc::clone(&self.disk);
        self.seam.on_disk(move || disk.look(&path)).await
    }

    /// Removes a file that may be there.
    async fn remove(&self, path: PathBuf) {
        let disk = Arc::clone(&self.disk);
        let removed = self.seam.on_disk(move || disk.remove(&path).map_err(|error| (path, error))).await;
        if let Err((path, error)) = removed
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!("cannot delete {}: {error}", path.display());
        }
    }

    /// The hash of a file's bytes, as far as it has not many more than it should.
    async fn digest(&self, path: PathBuf, bytes: u64) -> io::Result<BlobHash> {
        let disk = Arc::clone(&self.disk);
        let hashing = self.seam.on_disk(move || {
            let (mut hasher, mut from) = (Sha256::new(), 0);
            loop {
                let piece = disk.read_at(&path, from, READ_BYTES)?;
                // What is no file on a disk may never end.
                if piece.is_empty() || from > bytes {
                    return Ok(BlobHash::of(hasher.finalize().into()));
                }
                hasher.update(&piece);
                from += piece.len() as u64;
            }
        });
        hashing.await
    }

    async fn parts(&self) -> Vec<(BlobHash, Look)> {
        let (disk, folder) = (Arc::clone(&self.disk), self.folder.clone());
        let parts = self.seam.on_disk(move || {
            let names = disk.names(&folder).unwrap_or_default().into_iter();
            let hashes = names.filter_map(|name| name.strip_suffix(".part")?.parse::<BlobHash>().ok());
            hashes.filter_map(|hash| Some((disk.look(&part_in(&folder, &hash)).ok()?, hash))).collect::<Vec<_>>()
        });
        parts.await.into_iter().map(|(found, hash)| (hash, found)).collect()
    }

    /// Waits until nobody else writes or verifies this blob.
    async fn alone(self: &Arc<Self>, hash: &BlobHash) -> Alone {
        let lock = Arc::clone(self.kept().uploads.entry(hash.clone()).or_default());
        Alone { guard: Some(lock.lock_owned().await), blobs: Arc::clone(self), hash: hash.clone() }
    }

    /// Gives a part that was verified the name of its hash, after it was made to last.
    async fn finish(&self, hash: &BlobHash, bytes: u64) -> io::Result<()> {
        let (disk, part, path) = (Arc::clone(&self.disk), self.part(hash), self.path(hash));
        let named = self.seam.on_disk(move || {
            disk.sync(&part)?;
            disk.rename(&part, &path)
        });
        named.await?;
        let pinned_until_ms = Some(self.pin_end_ms());
        self.kept().complete.insert(hash.clone(), Complete { bytes, verified: true, pinned_until_ms, pins: 1 });
        Ok(())
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

    /// Gives a blob up that nobody else may write or verify meanwhile.
    async fn damaged(&self, hash: &BlobHash, how: &str) -> Failure {
        self.kept().complete.remove(hash);
        self.remove(self.path(hash)).await;
        let said = format!("blob {hash} was damaged on the disk of this Nimbus: {how}; upload it again");
        tracing::error!("{said}");
        FailureKind::CorruptBlob.with(said)
    }

    /// Deletes complete blobs that nobody uses, and no pin holds.
    async fn delete_unused(self: &Arc<Self>) {
        let unused: Vec<BlobHash> = {
            let (kept, now) = (self.kept(), self.clock.uptime_ms());
            kept.complete.keys().filter(|hash| kept.is_unused(hash, now)).cloned().collect()
        };
        for hash in unused {
            let _alone = self.alone(&hash).await;
            {
                // Somebody may need it by now.
                let (mut kept, now) = (self.kept(), self.clock.uptime_ms());
                if !kept.is_unused(&hash, now) {
                    continue;
                }
                kept.complete.remove(&hash);
            }
            self.remove(self.path(&hash)).await;
        }
    }
}

impl Kept {
    fn unpin(&mut self, uses: &Uses) {
        for (hash, _) in uses {
            if let Some(complete) = self.complete.get_mut(hash) {
                (complete.pinned_until_ms, complete.pins) = (None, 0);
            }
        }
    }

    fn drop_pin(&mut self, hash: &BlobHash) {
        if let Some(complete) = self.complete.get_mut(hash) {
            complete.pins = complete.pins.saturating_sub(1);
            complete.pinned_until_ms = complete.pinned_until_ms.filter(|_| complete.pins > 0);
        }
    }

    fn is_unused(&self, hash: &BlobHash, now_ms: u64) -> bool {
        let Some(complete) = self.complete.get(hash) else { return false };
        let is_pinned =
            complete.pinned_until_ms.is_some_and(|until| now_ms < until) && !mutations::on(Mutation::PinnedBlobDropped);
        self.all_uses_known && !is_pinned && !self.used_by.contains_key(hash)
    }

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

fn unreadable(hash: &BlobHash, error: &io::Error) -> Failure {
    FailureKind::Internal.with(format!("cannot read blob {hash}: {error}"))
}

/// When a file of this date expires, on the clock that does not jump.
fn expires_ms(clock: &Clock, expiration: Duration, modified_ms: EpochMs) -> u64 {
    let age_ms = clock.epoch_ms().saturating_sub(modified_ms);
    clock.uptime_ms().saturating_add((expiration.as_millis() as u64).saturating_sub(age_ms))
}

fn part_in(folder: &Path, hash: &BlobHash) -> PathBuf {
    folder.join(format!("{hash}.part"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll};

    use seam::Gate;
    use seam::disk::LocalDisk;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    struct Open;

    impl Gate for Open {
        fn poll_pass(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pin_outlives_the_topology_that_uses_the_blob_also_when_records_are_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let seam = Seam::simulated(1, || HOUR_MS, Arc::new(Open));
        let (clock, path) = (Clock::start(seam.clone()), folder.path().join("blobs"));
        let blobs = Blobs::open(path, Duration::from_secs(60), clock, seam, Arc::new(LocalDisk)).await.unwrap();
        let blobs = Arc::new(blobs);
        let hash = blobs.keep(Bytes::from_static(b"ten bytes.")).await.unwrap();
        let (id, other) = (TopologyId::new("t-1-1").unwrap(), TopologyId::new("t-2-1").unwrap());
        let uses = vec![(hash.clone(), "executable".to_owned())];
        blobs.set_uses(&[(id.clone(), uses.clone())], true);
        // Who wants to submit it again when it is gone.
        assert_eq!(blobs.pin(&hash).await, Some(Extent::Complete(10)));
        blobs.set_uses(&[(id.clone(), uses.clone())], true);
        blobs.release(&id).await;
        assert_eq!(blobs.complete(&hash), Some(10));
        // A submission that was stored, whatever was heard of it, has used its pin.
        blobs.set_uses(&[(other.clone(), uses)], true);
        blobs.release(&other).await;
        assert_eq!(blobs.complete(&hash), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_neither_keeps_nor_drops_a_blob() {
        let (folder, wall) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(1_000 * HOUR_MS)));
        let now = Arc::clone(&wall);
        let seam = Seam::simulated(1, move || now.load(Ordering::Relaxed), Arc::new(Open));
        let (clock, path) = (Clock::start(seam.clone()), folder.path().join("blobs"));
        let expiration = Duration::from_secs(60);
        let blobs = Blobs::open(path.clone(), expiration, clock, seam, Arc::new(LocalDisk)).await.unwrap();
        let blobs = Arc::new(blobs);
        blobs.set_uses(&[], true);
        let hash = blobs.keep(Bytes::from_static(b"ten bytes.")).await.unwrap();
        let dated = |file: &str, ms: u64| {
            let file = std::fs::File::options().append(true).create(true).open(path.join(file)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(ms)).unwrap();
        };
        let (part, other) = (format!("{}.part", BlobHash::of([1; 32])), format!("{}.part", BlobHash::of([2; 32])));
        dated(&part, 1_000 * HOUR_MS);
        // As if it had been written an hour from now.
        dated(&other, 1_001 * HOUR_MS);
        let left = async |wall_ms: u64, secs: u64| {
            wall.store(wall_ms, Ordering::Relaxed);
            tokio::time::advance(Duration::from_secs(secs)).await;
            blobs.sweep().await;
            LocalDisk.names(&path).unwrap().len()
        };
        assert_eq!(left(1_000 * HOUR_MS, 0).await, 3);
        assert_eq!(left(1_001 * HOUR_MS, 59).await, 3, "{hash} was dropped as the clock was set ahead");
        assert_eq!(left(999 * HOUR_MS, 1).await, 0, "kept, as the clock was set back");
    }
}
