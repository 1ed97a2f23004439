//! What a Supervisor knows across its own ends: who it is, what it follows, who lives in its slots.
//!
//! | file | what |
//! |---|---|
//! | `lock` | locked while a Supervisor uses the folder |
//! | `id` | its id, made once |
//! | `socket` | where its socket is, if the folder's path is too long for one |
//! | `topologies/ID.json` | [`Followed`], with the topology's secret |
//! | `slots/PORT/record.json` | [`SlotRecord`] |
//! | `slots/PORT/report.json` | the last report of its worker |
//! | `slots/PORT/…` | what the keeper writes there |
//! | `blobs/` | see `blobs` |
//!
//! Not here: what follows from it. Invariants: each file is there whole or not at all, and readable by this user alone; a slot's
//! folder stays, so that its count of lives only goes up.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use nimbus_api::machine::{KEPT_ENDS, WorkerEnd};
use seam::disk::Disk;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use worker_api::ids::{Incarnation, Port, SupervisorId, TopologyId};
use worker_api::report::Report;

use crate::reconcile::{Followed, Following};
use crate::slot::{Assignment, Resident};

/// The number of the format of records. Another one is not read.
const FORMAT: u32 = 1;

/// What is kept of a slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlotRecord {
    /// The last that was given out.
    pub(crate) incarnation: Incarnation,
    /// Who may live in it.
    pub(crate) resident: Option<Resident>,
    /// Whom the rest speaks of: who is in it, or was last.
    pub(crate) of: Option<Assignment>,
    /// How its last lives ended, oldest first.
    pub(crate) ends: Vec<WorkerEnd>,
    /// How many of them there were, but those that were planned.
    pub(crate) restarts: u64,
}

impl SlotRecord {
    /// Before a start.
    pub(crate) fn begin(&mut self, resident: Resident) {
        if !self.is_of(&resident.of) {
            self.ends.clear();
            self.restarts = 0;
        }
        self.of = Some(resident.of.clone());
        self.incarnation = resident.incarnation;
        self.resident = Some(resident);
    }

    /// Whether the ends are of this worker, be it by an older plan.
    pub(crate) fn is_of(&self, of: &Assignment) -> bool {
        self.of.as_ref().is_some_and(|own| own.topology == of.topology && own.worker == of.worker)
    }

    /// After an end.
    pub(crate) fn end(&mut self, end: WorkerEnd) {
        self.resident = None;
        self.restarts += u64::from(!end.planned);
        self.ends.push(end);
        let surplus = self.ends.len().saturating_sub(KEPT_ENDS);
        self.ends.drain(..surplus);
    }

    /// Nothing of its last worker needs to be known.
    pub(crate) fn forget(&mut self) {
        *self = SlotRecord { incarnation: self.incarnation, ..SlotRecord::default() };
    }
}

/// A file. Its content is a map of its own, as numbers that are keys in it would not be read back out of a flattened one.
#[derive(Serialize, Deserialize)]
struct Filed<T> {
    format: u32,
    content: T,
}

/// The folder.
pub(crate) struct Folder {
    root: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Folder {
    /// Makes it if it is not there.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn open(root: &Path, disk: Arc<dyn Disk>) -> Result<Folder, String> {
        let folder = Folder { root: root.to_owned(), disk };
        for path in [root.to_owned(), root.join("slots"), root.join("topologies"), root.join("blobs")] {
            folder.make(&path)?;
        }
        Ok(folder)
    }

    /// Who this Supervisor is: made from these random bits and the host's name at the first start.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn id(&self, host: &str, random: u128) -> Result<SupervisorId, String> {
        let path = self.root.join("id");
        match self.disk.read(&path) {
            Ok(id) => SupervisorId::from_str(String::from_utf8_lossy(&id).trim()).map_err(|error| {
                format!("{}: {error}; if you remove the file, this Supervisor becomes another machine", path.display())
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let hex = format!("{random:032x}");
                let host: String = host
                    .chars()
                    .map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '-' })
                    .take(80)
                    .collect();
                let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
                let id = SupervisorId::new(format!("{a}-{b}-{c}-{d}-{e}-{host}")).map_err(|error| error.to_string())?;
                self.write(&path, format!("{id}\n").as_bytes())?;
                Ok(id)
            }
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The disk that it lies on.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Where blobs are.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where the socket is, if the path is short enough.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("supervisor.sock")
    }

    /// Where it is written down where the socket is instead.
    pub(crate) fn socket_elsewhere(&self) -> PathBuf {
        self.root.join("socket")
    }

    /// A slot's folder.
    pub(crate) fn slot(&self, port: Port) -> PathBuf {
        self.root.join("slots").join(port.to_string())
    }

    /// The slots that there ever were.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn slots(&self) -> Result<Vec<Port>, String> {
        Ok(self.names(&self.root.join("slots"))?.iter().filter_map(|name| name.parse().ok().map(Port)).collect())
    }

    /// A slot's record. One that cannot be read is put aside: its worker is then unknown, and lives count on from a number
    /// that none had, `now_ms` since 1970.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn slot_record(&self, port: Port, now_ms: u64) -> Result<SlotRecord, String> {
        let folder = self.slot(port);
        self.make(&folder)?;
        let path = folder.join("record.json");
        match self.read_json(&path) {
            Ok(record) => Ok(record.unwrap_or_default()),
            Err(why) => {
                tracing::error!("{why}; it is put aside as record.json.unreadable, the slot begins anew");
                let renamed = self.disk.rename(&path, &folder.join("record.json.unreadable"));
                renamed.map_err(|error| format!("cannot rename {}: {error}", path.display()))?;
                Ok(SlotRecord { incarnation: Incarnation(now_ms), ..SlotRecord::default() })
            }
        }
    }

    /// Writes a slot's record; after that it survives anything.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn write_slot_record(&self, port: Port, record: &SlotRecord) -> Result<(), String> {
        self.write_json(&self.slot(port).join("record.json"), record)
    }

    /// The last report of a slot's worker, if one is kept that can be read.
    pub(crate) fn report(&self, port: Port) -> Option<Report> {
        self.read_json(&self.slot(port).join("report.json")).ok().flatten()
    }

    /// Keeps the last report of a slot's worker.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn write_report(&self, port: Port, report: &Report) -> Result<(), String> {
        // Not waited for: after a fall of the machine an older one does.
        let path = self.slot(port).join("report.json");
        let json = json(&path, report)?;
        self.put(&path, &json, false)
    }

    /// Removes the last report of a slot's worker.
    pub(crate) fn remove_report(&self, port: Port) {
        let _ = self.disk.remove(&self.slot(port).join("report.json"));
    }

    /// What was followed; what cannot be read is told in a sentence each, and stays where it is.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn following(&self) -> Result<(Following, Vec<(TopologyId, String)>), String> {
        let folder = self.root.join("topologies");
        let (mut following, mut unreadable) = (Following::new(), Vec::new());
        for name in self.names(&folder)? {
            let Some(id) = name.strip_suffix(".json").and_then(|id| TopologyId::from_str(id).ok()) else { continue };
            match self.read_json::<Followed>(&folder.join(&name)) {
                Ok(Some(followed)) => drop(following.insert(id, followed.into())),
                Ok(None) => {}
                Err(why) => unreadable.push((id, why)),
            }
        }
        Ok((following, unreadable))
    }

    /// Writes down what is followed of a topology.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn write_followed(&self, followed: &Followed) -> Result<(), String> {
        self.write_json(&self.followed(&followed.topology.id), followed)
    }

    /// Removes what was followed of a topology.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn remove_followed(&self, id: &TopologyId) -> Result<(), String> {
        self.remove(&self.followed(id))
    }

    fn followed(&self, id: &TopologyId) -> PathBuf {
        self.root.join("topologies").join(format!("{id}.json"))
    }

    /// Makes a folder, and those above it, for this user alone.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn make(&self, path: &Path) -> Result<(), String> {
        let made = self.disk.make_folder(path);
        made.map_err(|error| format!("cannot make the folder {}: {}", path.display(), in_words(&error)))
    }

    /// Names in a folder, sorted; none if it is not there.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn names(&self, folder: &Path) -> Result<Vec<String>, String> {
        match self.disk.names(folder) {
            Ok(names) => Ok(names),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(format!("cannot list {}: {}", folder.display(), in_words(&error))),
        }
    }

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), String> {
        removed(path, self.disk.remove(path))
    }

    /// Removes a folder with all in it; one that is not there is no error.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn remove_folder(&self, path: &Path) -> Result<(), String> {
        removed(path, self.disk.remove_folder(path))
    }

    /// Writes a file for this user alone, whole or not at all, and waits until it is on disk.
    ///
    /// # Errors
    /// In a sentence.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        self.put(path, bytes, true)
    }

    fn put(&self, path: &Path, bytes: &[u8], sync: bool) -> Result<(), String> {
        let written = self.disk.replace(path, bytes, sync);
        written.map_err(|error| format!("cannot write {}: {}", path.display(), in_words(&error)))
    }

    fn write_json(&self, path: &Path, content: &impl Serialize) -> Result<(), String> {
        self.write(path, &json(path, content)?)
    }

    fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, String> {
        let bytes = match self.disk.read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {}", path.display(), in_words(&error))),
        };
        match worker_api::read_json::<Filed<T>>("Supervisor's file", FORMAT, &bytes) {
            Ok(filed) => Ok(Some(filed.content)),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }
}

fn removed(path: &Path, done: io::Result<()>) -> Result<(), String> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {}", path.display(), in_words(&error)))
        }
        _ => Ok(()),
    }
}

/// What an error of the file system means for who runs the machine.
pub(crate) fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full; make room on it".to_owned(),
        io::ErrorKind::QuotaExceeded => "the disk quota of this user is used up; make room, or raise it".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; look into the kernel's log for why".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; the folder must belong to the user of the Supervisor".to_owned()
        }
        _ => error.to_string(),
    }
}

fn json(path: &Path, content: &impl Serialize) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec_pretty(&Filed { format: FORMAT, content });
    let mut json = json.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    json.push(b'\n');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nimbus_api::machine::WorkerEnd;
    use seam::disk::LocalDisk;
    use worker_api::ids::{PlanVersion, WorkerIndex};

    use super::*;

    const NOW_MS: u64 = 1_700_000_000_001;

    fn open(root: &Path) -> Folder {
        Folder::open(root, Arc::new(LocalDisk)).unwrap()
    }

    fn end(incarnation: u64) -> WorkerEnd {
        WorkerEnd {
            incarnation: Incarnation(incarnation),
            ended_ms: 1_700_000_000_000,
            lived_ms: 20,
            cause: "killed by SIGKILL".to_owned(),
            planned: false,
            last_lines: vec!["last".to_owned()],
            last_report: None,
        }
    }

    fn resident(topology: &str, incarnation: u64) -> Resident {
        let of = Assignment { topology: topology.parse().unwrap(), worker: WorkerIndex(2), plan: PlanVersion(5) };
        Resident { of, incarnation: Incarnation(incarnation) }
    }

    #[test]
    fn a_slots_record_is_written_as_it_always_was() {
        let mut record = SlotRecord::default();
        record.begin(resident("words-1-1", 7));
        record.end(end(7));
        record.begin(resident("words-1-1", 8));
        let folder = tempfile::TempDir::new().unwrap();
        let folder = open(folder.path());
        assert_eq!(folder.slot_record(Port(6700), NOW_MS).unwrap(), SlotRecord::default());
        folder.write_slot_record(Port(6700), &record).unwrap();
        let written = fs::read_to_string(folder.slot(Port(6700)).join("record.json")).unwrap();
        let compact: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(
            compact.to_string(),
            r#"{"content":{"ends":[{"cause":"killed by SIGKILL","ended_ms":1700000000000,"incarnation":7,"last_lines":["last"],"#
                .to_owned()
                + r#""last_report":null,"lived_ms":20}],"incarnation":8,"of":{"plan":5,"topology":"words-1-1","worker":2},"#
                + r#""resident":{"incarnation":8,"of":{"plan":5,"topology":"words-1-1","worker":2}},"restarts":1},"format":1}"#
        );
        assert_eq!(folder.slot_record(Port(6700), NOW_MS).unwrap(), record);
        assert_eq!(folder.slots().unwrap(), [Port(6700)]);
    }

    #[test]
    fn ends_are_of_one_worker_and_the_last_ones() {
        let mut record = SlotRecord::default();
        for incarnation in 1..=12 {
            record.begin(resident("words-1-1", incarnation));
            record.end(end(incarnation));
        }
        let kept: Vec<u64> = record.ends.iter().map(|end| end.incarnation.0).collect();
        assert_eq!((kept, record.restarts), ((3..=12).collect(), 12));
        record.begin(resident("words-1-1", 13));
        record.end(WorkerEnd { planned: true, ..end(13) });
        assert_eq!((record.ends.len(), record.restarts), (10, 12));
        record.begin(resident("other-1-1", 13));
        assert_eq!((record.ends.len(), record.restarts, record.incarnation), (0, 0, Incarnation(13)));
        record.forget();
        assert_eq!(record, SlotRecord { incarnation: Incarnation(13), ..SlotRecord::default() });
    }

    #[test]
    fn a_record_that_cannot_be_read_is_put_aside_and_lives_count_on() {
        let root = tempfile::TempDir::new().unwrap();
        let folder = open(root.path());
        folder.slot_record(Port(1), NOW_MS).unwrap();
        let path = folder.slot(Port(1)).join("record.json");
        for damaged in ["{", r#"{"format":2,"content":{}}"#] {
            fs::write(&path, damaged).unwrap();
            let record = folder.slot_record(Port(1), NOW_MS).unwrap();
            assert!(record.incarnation == Incarnation(NOW_MS) && record.of.is_none(), "{record:?}");
            assert_eq!(fs::read_to_string(path.with_file_name("record.json.unreadable")).unwrap(), damaged);
        }
    }

    #[test]
    fn an_id_is_made_once_and_fits_every_host() {
        let root = tempfile::TempDir::new().unwrap();
        let folder = open(root.path());
        let id = folder.id("fe80::1%eth0.example", 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef).unwrap();
        assert_eq!(folder.id("renamed", 0).unwrap(), id);
        assert_eq!(id.as_str(), "01234567-89ab-cdef-0123-456789abcdef-fe80--1-eth0-example");
        fs::write(root.path().join("id"), "../x").unwrap();
        let why = folder.id("renamed", 0).unwrap_err();
        assert!(why.ends_with("if you remove the file, this Supervisor becomes another machine"), "{why}");
    }
}
