//! A disk in memory that can stop, fail or lose its power at any operation.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use super::super::fs::{Fs, NewFile};

/// What goes wrong, and at which operation from now (0 = the next).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The process is killed: this operation is done by half (a write) or not at all, and none after it.
    Stop(usize),
    /// This operation fails, those after it work.
    FailOnce(usize),
    /// From this operation on there is no space: files can be removed, but not made nor written.
    Full(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

/// A file's bytes as a process sees them, and as they are on the platter.
#[derive(Debug, Clone, Default)]
struct Bytes {
    live: Vec<u8>,
    safe: Vec<u8>,
}

#[derive(Debug)]
struct State {
    files: Vec<Bytes>,
    live: BTreeMap<PathBuf, Node>,
    safe: BTreeMap<PathBuf, Node>,
    fault: Fault,
    operations: usize,
}

/// The disk; clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<Mutex<State>>);

/// Whether an operation takes space. (Those that change nothing are not counted: to stop before one is to stop before
/// the next that does.)
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    Takes,
    Keeps,
}

impl State {
    /// Counts an operation; the error it fails with, if it does.
    fn operation(&mut self, space: Space) -> io::Result<()> {
        let at = self.operations;
        self.operations += 1;
        match self.fault {
            Fault::Stop(stop) if at >= stop => Err(io::Error::other("the process is dead")),
            Fault::FailOnce(fail) if at == fail => Err(io::Error::from_raw_os_error(5)),
            Fault::Full(full) if at >= full && space == Space::Takes => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        self.live.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn file(&self, path: &Path) -> io::Result<&Bytes> {
        match self.node(path)? {
            Node::File(file) => Ok(&self.files[file]),
            Node::Folder => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn in_folder(&self, path: &Path) -> io::Result<()> {
        match self.node(path.parent().unwrap())? {
            Node::Folder => Ok(()),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }
}

impl Disk {
    pub(super) fn new() -> Self {
        let root = BTreeMap::from(["/", "/var"].map(|path| (PathBuf::from(path), Node::Folder)));
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            live: root.clone(),
            safe: root,
            fault: Fault::None,
            operations: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counts operations from here; this is what goes wrong.
    pub(super) fn set(&self, fault: Fault) {
        let mut state = self.state();
        state.fault = fault;
        state.operations = 0;
    }

    /// Operations since [`Disk::set`].
    pub(super) fn operations(&self) -> usize {
        self.state().operations
    }

    /// A file's bytes, to be changed behind the store's back.
    pub(super) fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let Node::File(file) = state.node(path).unwrap() else { panic!("{} is a folder", path.display()) };
        change(&mut state.files[file].live);
    }

    /// All files.
    pub(super) fn files(&self) -> Vec<String> {
        let state = self.state();
        let files = state.live.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.display().to_string()).collect()
    }

    /// The power fails: of what was not synced, each name and each file's tail is there or not, as `lost` says.
    pub(super) fn cut_power(&self, mut lost: impl FnMut() -> bool) {
        let mut state = self.state();
        let State { files, live, safe, .. } = &mut *state;
        let paths: BTreeSet<PathBuf> = live.keys().chain(safe.keys()).cloned().collect();
        for path in paths {
            if live.get(&path) != safe.get(&path) && !lost() {
                match live.get(&path) {
                    Some(node) => safe.insert(path, *node),
                    None => safe.remove(&path),
                };
            }
        }
        for bytes in files {
            if bytes.live != bytes.safe && lost() {
                // What of the unsynced bytes is there is anybody's guess; half of them is the worst one.
                let half = bytes.live.len() / 2;
                bytes.safe = bytes.live[..half].to_vec();
            } else {
                bytes.safe.clone_from(&bytes.live);
            }
            bytes.live.clone_from(&bytes.safe);
        }
        *live = safe.clone();
        // What lies in a folder that was lost is lost with it.
        let folders = |path: &Path| path.ancestors().skip(1).all(|folder| live.get(folder) == Some(&Node::Folder));
        let lost: Vec<PathBuf> = live.keys().filter(|path| !folders(path)).cloned().collect();
        for path in lost {
            live.remove(&path);
        }
        *safe = live.clone();
    }
}

#[derive(Debug)]
struct Open {
    disk: Disk,
    file: usize,
}

impl NewFile for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let dead_before = matches!(state.fault, Fault::Stop(stop) if state.operations > stop);
        let result = state.operation(Space::Takes);
        // What fails has written the first half, unless nobody lives to write it.
        let count = if result.is_ok() { bytes.len().div_ceil(2) } else { bytes.len() / 2 };
        if !dead_before {
            let file = self.file;
            state.files[file].live.extend_from_slice(&bytes[..count]);
        }
        result.map(|()| count)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation(Space::Takes)?;
        let bytes = &mut state.files[self.file];
        bytes.safe.clone_from(&bytes.live);
        Ok(())
    }
}

impl Fs for Disk {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation(Space::Takes)?;
        state.in_folder(path)?;
        state.live.insert(path.to_owned(), Node::Folder);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.node(path)?;
        let inside = state.live.keys().filter(|entry| entry.parent() == Some(path));
        Ok(inside.map(|entry| entry.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        state.file(path).map(|bytes| bytes.live.clone())
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        state.file(path).map(|bytes| bytes.live.len() as u64)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let mut state = self.state();
        state.operation(Space::Takes)?;
        state.in_folder(path)?;
        let file = state.files.len();
        state.files.push(Bytes::default());
        state.live.insert(path.to_owned(), Node::File(file));
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation(Space::Keeps)?;
        let node = state.node(from)?;
        state.in_folder(to)?;
        state.live.remove(from);
        state.live.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation(Space::Keeps)?;
        state.file(path)?;
        state.live.remove(path);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation(Space::Keeps)?;
        let State { live, safe, .. } = &mut *state;
        safe.retain(|entry, _| entry.parent() != Some(path));
        safe.extend(
            live.iter().filter(|(entry, _)| entry.parent() == Some(path)).map(|(entry, node)| (entry.clone(), *node)),
        );
        Ok(())
    }
}
