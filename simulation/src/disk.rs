//! The disk of a machine, in memory: it can be full, and a fall of the machine takes what was not synced.
//!
//! Not here: which process writes what; slowness. Invariants: what was synced is there after a fall; a name that was given
//! by a rename is too, with as much of the content as had been synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seam::disk::{Disk, Look};

use crate::process::Process;

/// The clock on a machine's wall, in milliseconds since 1970.
pub type Wall = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A machine's disk; a cheap clone.
#[derive(Clone)]
pub struct MachineDisk {
    wall: Wall,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, File>,
    folders: BTreeSet<PathBuf>,
    /// What would be there after a fall.
    durable: BTreeMap<PathBuf, Arc<[u8]>>,
    bytes: u64,
    /// Most bytes that it takes now.
    most: Option<u64>,
}

struct File {
    content: Vec<u8>,
    /// What of it is on disk for sure.
    synced: Option<Arc<[u8]>>,
    modified_ms: u64,
    read_only: bool,
}

impl MachineDisk {
    /// An empty disk.
    pub fn new(wall: Wall) -> Self {
        let state = State { folders: BTreeSet::from([PathBuf::from("/")]), ..State::default() };
        MachineDisk { wall, state: Arc::new(Mutex::new(state)) }
    }

    /// Takes no byte more, or does again.
    pub fn fill(&self, is_full: bool) {
        let mut state = lock(&self.state);
        state.most = is_full.then_some(state.bytes);
    }

    /// Whether it takes no byte more.
    pub fn is_full(&self) -> bool {
        lock(&self.state).most.is_some()
    }

    /// The machine falls: what was not synced is gone.
    pub fn fall(&self) {
        let mut state = lock(&self.state);
        let now = (self.wall)();
        let durable = state.durable.clone();
        state.files = durable
            .into_iter()
            .map(|(path, bytes)| {
                let file = File { content: bytes.to_vec(), synced: Some(bytes), modified_ms: now, read_only: false };
                (path, file)
            })
            .collect();
        state.bytes = state.files.values().map(|file| file.content.len() as u64).sum();
        state.most = None;
    }

    /// Everything is gone: another disk takes its place.
    pub fn replace_by_empty(&self) {
        *lock(&self.state) = State { folders: BTreeSet::from([PathBuf::from("/")]), ..State::default() };
    }

    /// All files below a folder, with their lengths.
    pub fn files_below(&self, folder: &Path) -> BTreeMap<PathBuf, u64> {
        let state = lock(&self.state);
        let below = state.files.range(folder.to_owned()..).take_while(|(path, _)| path.starts_with(folder));
        below.map(|(path, file)| (path.clone(), file.content.len() as u64)).collect()
    }

    /// All folders below a folder.
    pub fn folders_below(&self, folder: &Path) -> BTreeSet<PathBuf> {
        let state = lock(&self.state);
        state.folders.iter().filter(|path| path.starts_with(folder) && *path != folder).cloned().collect()
    }

    /// As a process has it: with that process's end nothing is written any more.
    pub fn of(&self, process: &Process) -> ProcessDisk {
        ProcessDisk { disk: self.clone(), process: process.clone() }
    }
}

impl State {
    fn file(&self, path: &Path) -> io::Result<&File> {
        self.files.get(path).ok_or_else(|| match self.folders.contains(path) {
            true => io::ErrorKind::IsADirectory.into(),
            false => io::ErrorKind::NotFound.into(),
        })
    }

    fn file_mut(&mut self, path: &Path) -> io::Result<&mut File> {
        self.files.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn folder_of_is_there(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(folder) if !self.folders.contains(folder) => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(()),
        }
    }

    fn room_for(&self, more: usize) -> io::Result<()> {
        match self.most {
            Some(most) if self.bytes + more as u64 > most => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

/// A machine's disk as one of its processes has it.
#[derive(Clone)]
pub struct ProcessDisk {
    disk: MachineDisk,
    process: Process,
}

impl ProcessDisk {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        // Each call is a step at which the process may be killed: else several files would change as one.
        match self.process.steps() {
            true => Ok(lock(&self.disk.state)),
            false => Err(io::Error::other("the process has ended")),
        }
    }
}

impl Disk for ProcessDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.state()?.file(path)?.content.clone())
    }

    fn read_at(&self, path: &Path, from: u64, most: usize) -> io::Result<Vec<u8>> {
        let state = self.state()?;
        let content = &state.file(path)?.content;
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(content.len());
        Ok(content[from..content.len().min(from.saturating_add(most))].to_vec())
    }

    fn look(&self, path: &Path) -> io::Result<Look> {
        let state = self.state()?;
        if state.folders.contains(path) {
            return Ok(Look { bytes: 0, modified_ms: 0 });
        }
        let file = state.file(path)?;
        Ok(Look { bytes: file.content.len() as u64, modified_ms: file.modified_ms })
    }

    fn replace(&self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
        let modified_ms = (self.disk.wall)();
        let mut state = self.state()?;
        state.folder_of_is_there(path)?;
        // The new file lies beside the old one for a moment.
        state.room_for(bytes.len())?;
        let before = state.files.get(path).map_or(0, |file| file.content.len() as u64);
        state.bytes = state.bytes - before + bytes.len() as u64;
        let synced: Option<Arc<[u8]>> = sync.then(|| bytes.into());
        if let Some(synced) = &synced {
            state.durable.insert(path.to_owned(), synced.clone());
        }
        let file = File { content: bytes.to_vec(), synced, modified_ms, read_only: false };
        state.files.insert(path.to_owned(), file);
        Ok(())
    }

    fn write_at(&self, path: &Path, from: u64, bytes: &[u8]) -> io::Result<()> {
        let modified_ms = (self.disk.wall)();
        let mut state = self.state()?;
        state.folder_of_is_there(path)?;
        let before = match state.files.get(path) {
            Some(file) if file.read_only => return Err(io::ErrorKind::PermissionDenied.into()),
            Some(file) => file.content.len(),
            None => 0,
        };
        let from = usize::try_from(from).map_err(|_| io::ErrorKind::FileTooLarge)?;
        state.room_for((from + bytes.len()).saturating_sub(before))?;
        state.bytes = state.bytes - before as u64 + (from + bytes.len()) as u64;
        let new = || File { content: Vec::new(), synced: None, modified_ms, read_only: false };
        let file = state.files.entry(path.to_owned()).or_insert_with(new);
        file.content.resize(from, 0);
        file.content.extend_from_slice(bytes);
        file.modified_ms = modified_ms;
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        let file = state.file_mut(path)?;
        let synced: Arc<[u8]> = file.content.as_slice().into();
        file.synced = Some(synced.clone());
        state.durable.insert(path.to_owned(), synced);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.durable.remove(from);
        let synced = file.synced.clone().unwrap_or_else(|| Arc::from([]));
        state.durable.insert(to.to_owned(), synced);
        let replaced = state.files.insert(to.to_owned(), file);
        state.bytes -= replaced.map_or(0, |file| file.content.len() as u64);
        Ok(())
    }

    fn make_executable(&self, path: &Path) -> io::Result<()> {
        self.state()?.file_mut(path)?.read_only = true;
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        let file = state.files.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.bytes -= file.content.len() as u64;
        state.durable.remove(path);
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        if !state.folders.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.folders.retain(|folder| !folder.starts_with(path));
        state.durable.retain(|file, _| !file.starts_with(path));
        state.files.retain(|file, _| !file.starts_with(path));
        state.bytes = state.files.values().map(|file| file.content.len() as u64).sum();
        Ok(())
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state()?;
        if !state.folders.contains(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = state.files.range(folder.to_owned()..).map(|(path, _)| path);
        let folders = state.folders.range(folder.to_owned()..);
        let below = |path: &&PathBuf| path.starts_with(folder);
        let children = files.take_while(below).chain(folders.take_while(below));
        let inside = children.filter(|path| path.parent() == Some(folder)).filter_map(|path| path.file_name());
        let names: BTreeSet<String> = inside.map(|name| name.to_string_lossy().into_owned()).collect();
        Ok(names.into_iter().collect())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        for folder in path.ancestors() {
            if state.files.contains_key(folder) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            state.folders.insert(folder.to_owned());
        }
        Ok(())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
