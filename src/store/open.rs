//! Opening the state directory: what a crash or a hand left there is sorted out before anything is chosen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    GENERATIONS_KEPT, Store,
    error::StoreError,
    fs::{Fs, OsFs},
    layout::{self, Counters, FileContent, Meta, Named, Read, Source, StateFile},
};

impl Store {
    /// Opens the state directory, made where it is missing (mode 0700), and takes its lock.
    ///
    /// Left-overs of writes that were cut off are removed. Whatever is torn or incomplete is moved to `quarantine/`
    /// with a warning; the newest complete generation is the current one. Nothing else is written to a directory that
    /// is in order, so that a full or read-only disk does not hinder reading.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`], [`StoreError::NewerFormat`], [`StoreError::Io`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        make_dirs(&OsFs, &dir)?;
        let lock = lock(&dir)?;
        // Unknown is like no other boot: at worst a reconcile at the start finds nothing to do.
        let boot = crate::clock::boot_id().unwrap_or_default();
        Self::load(Box::new(OsFs), dir, Some(lock), boot)
    }

    /// [`Store::open`] on any file system.
    pub(super) fn load(fs: Box<dyn Fs>, dir: PathBuf, lock: Option<File>, boot: String) -> Result<Self, StoreError> {
        make_dirs(&*fs, &dir.join(layout::GENERATIONS))?;
        let mut store = Self {
            fs,
            dir,
            _lock: lock,
            boot,
            metas: BTreeMap::new(),
            unsure: BTreeSet::new(),
            current: None,
            next_number: 1,
            keep: GENERATIONS_KEPT,
            counters: Counters { job_ceiling: 1, generation_floor: 0 },
            next_job: 1,
            file: None,
            file_recorded: true,
        };
        let (documents, metas) = store.sweep()?;
        if documents.is_empty() && metas.is_empty() {
            // Who made the folders may have been cut off before their names were on the disk.
            let (dir, folder) = (store.dir.clone(), store.generations());
            sync_name(&*store.fs, &dir)?;
            sync_name(&*store.fs, &folder)?;
        }
        store.read_counters(documents.is_empty() && metas.is_empty())?;
        let newest = documents.last().max(metas.last()).copied().unwrap_or(0).max(store.counters.generation_floor);
        store.next_number = newest.saturating_add(1);
        store.read_metas(&documents, &metas)?;
        store.choose()?;
        store.clear_lone_documents(&documents);
        store.read_state_file()?;
        Ok(store)
    }

    /// Removes left-over temporary files; the numbers of documents and of metas that are there.
    fn sweep(&self) -> Result<(BTreeSet<u64>, BTreeSet<u64>), StoreError> {
        let (mut documents, mut metas) = (BTreeSet::new(), BTreeSet::new());
        let folder = self.generations();
        for name in self.names(&folder)? {
            match layout::named(&name) {
                Named::Document(number) => _ = documents.insert(number),
                Named::Meta(number) => _ = metas.insert(number),
                Named::Temp => self.remove_temp(&folder.join(name)),
                Named::Foreign => {}
            }
        }
        for name in self.names(&self.dir)? {
            if layout::named(&name) == Named::Temp {
                self.remove_temp(&self.dir.join(name));
            }
        }
        Ok((documents, metas))
    }

    fn names(&self, folder: &Path) -> Result<Vec<String>, StoreError> {
        self.fs.list(folder).map_err(StoreError::io("read the folder", folder))
    }

    fn remove_temp(&self, path: &Path) {
        if let Err(error) = self.fs.remove(path) {
            tracing::warn!(path = %path.display(), "a left-over file cannot be removed: {error}");
        }
    }

    fn read_counters(&mut self, fresh: bool) -> Result<(), StoreError> {
        let path = self.dir.join(layout::COUNTERS);
        match layout::read_json::<Counters>(&*self.fs, &path)? {
            Read::Whole(counters) => self.counters = counters,
            // A directory that cannot be written from the beginning is of no use: say so now.
            Read::Missing if fresh => self.write_counters(self.counters.clone())?,
            missing_or_torn => {
                // The number of seconds since 1970 is beyond what any life of op-dbus could have counted up to.
                let seconds = crate::clock::realtime_usec() / 1_000_000;
                let why = if let Read::Torn(why) = missing_or_torn { why } else { "it is missing".to_owned() };
                tracing::warn!(path = %path.display(), "job numbers go on from {seconds}: {why}");
                self.counters.job_ceiling = seconds.max(1);
            }
        }
        self.next_job = self.counters.job_ceiling;
        Ok(())
    }

    /// Reads what is known of each generation, and keeps those that are complete.
    fn read_metas(&mut self, documents: &BTreeSet<u64>, metas: &BTreeSet<u64>) -> Result<(), StoreError> {
        let folder = self.generations();
        for &number in metas {
            let torn = match layout::read_json::<Meta>(&*self.fs, &folder.join(layout::meta(number)))? {
                Read::Whole(meta) if meta.number != number => format!("it is about generation {}", meta.number),
                Read::Whole(_) if !documents.contains(&number) => "its document is missing".to_owned(),
                Read::Whole(meta) => {
                    let document = folder.join(layout::document(number));
                    let size = self.fs.size(&document).map_err(StoreError::io("read", document))?;
                    if size == meta.size {
                        self.metas.insert(number, meta);
                        continue;
                    }
                    format!("its document has {size} bytes instead of {}", meta.size)
                }
                Read::Missing => continue,
                Read::Torn(why) => why,
            };
            self.quarantine(number, &torn);
        }
        if !self.metas.is_empty() && self.fs.sync_dir(&folder).is_err() {
            // What was named just before a crash may not be on the disk for sure.
            self.unsure = self.metas.keys().copied().collect();
        }
        Ok(())
    }

    /// Makes the newest generation current whose document is the one that was stored.
    fn choose(&mut self) -> Result<(), StoreError> {
        while let Some((&number, meta)) = self.metas.last_key_value() {
            match self.read_document(meta)? {
                Ok(text) => {
                    self.current = Some(self.generation(meta, text.into()));
                    return Ok(());
                }
                Err(why) => {
                    self.metas.remove(&number);
                    self.quarantine(number, &why);
                }
            }
        }
        Ok(())
    }

    /// Documents of which nothing is known: below the oldest generation they are what a cut-off prune left; above,
    /// what a cut-off call never acknowledged (or somebody's hand): those are kept for people to look at.
    fn clear_lone_documents(&mut self, documents: &BTreeSet<u64>) {
        let oldest = self.metas.first_key_value().map(|(number, _)| *number);
        for &number in documents.iter().filter(|number| !self.metas.contains_key(number)).collect::<Vec<_>>() {
            let path = self.generations().join(layout::document(number));
            if self.fs.size(&path).is_err() {
                // In quarantine already.
                continue;
            }
            if oldest.is_some_and(|oldest| number < oldest) {
                if let Err(error) = self.fs.remove(&path) {
                    tracing::warn!(path = %path.display(), "an old document cannot be removed: {error}");
                }
            } else {
                self.quarantine(number, "it was never completed");
            }
        }
    }

    fn read_state_file(&mut self) -> Result<(), StoreError> {
        let path = self.dir.join(layout::STATE_FILE);
        let noted = match layout::read_json::<StateFile>(&*self.fs, &path)? {
            Read::Whole(noted) => Some(noted),
            Read::Missing => None,
            Read::Torn(why) => {
                tracing::warn!(path = %path.display(), "the state file's last content is not known any more: {why}");
                None
            }
        };
        // As with generations: until its name is on the disk for sure, the generation that tells the same is needed.
        self.file_recorded = noted.is_none() || self.fs.sync_dir(&self.dir).is_ok();
        let as_of = noted.as_ref().map_or(0, |noted| noted.as_of);
        self.file = noted.map(|noted| noted.content);
        // A generation that came from the file after that note: a crash came between the two.
        let later = self.metas.values().rev().take_while(|meta| meta.number > as_of);
        if let Some(meta) = later.into_iter().find(|meta| meta.source == Source::File) {
            self.file = Some(FileContent { sha256: meta.sha256.clone(), refused: false });
            self.file_recorded = false;
        }
        Ok(())
    }

    /// Puts a generation's files aside. Where that cannot be done they stay: they are not chosen either way.
    fn quarantine(&mut self, number: u64, why: &str) {
        tracing::warn!(generation = number, "a torn generation is put aside: {why}");
        if let Err(error) = self.try_quarantine(number) {
            tracing::warn!(generation = number, "a torn generation cannot be put aside: {error}");
        }
    }

    fn try_quarantine(&mut self, number: u64) -> Result<(), StoreError> {
        if self.counters.generation_floor < number {
            // Its number stays used up when its files no longer show it.
            self.write_counters(Counters { generation_floor: number, ..self.counters.clone() })?;
        }
        let (from, to) = (self.generations(), self.dir.join(layout::QUARANTINE));
        make_dirs(&*self.fs, &to)?;
        for name in [layout::meta(number), layout::document(number)] {
            match self.fs.rename(&from.join(&name), &to.join(&name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::io("move", from.join(name))(error));
                }
                _ => {}
            }
        }
        for folder in [to, from] {
            self.fs.sync_dir(&folder).map_err(StoreError::io("sync", folder))?;
        }
        Ok(())
    }
}

/// Makes a folder and those above it, each name put on the disk.
fn make_dirs(fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
    if path.as_os_str().is_empty() || fs.list(path).is_ok() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    make_dirs(fs, parent)?;
    fs.make_dir(path).map_err(StoreError::io("make the folder", path))?;
    sync_name(fs, path)
}

/// Puts the name of a folder on the disk.
fn sync_name(fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs.sync_dir(parent) {
        // A folder that may be written but not read cannot be opened for fsync.
        Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(StoreError::io("sync", parent)(error)),
        _ => Ok(()),
    }
}

/// Takes the lock of a state directory; it ends with the file's last descriptor, so also with the process.
fn lock(dir: &Path) -> Result<File, StoreError> {
    use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
    let path = dir.join(layout::LOCK);
    // Reading is enough for flock(2), and works on a read-only disk where the file is there already.
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file =
        open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|error| StoreError::io("open", &path)(error.into()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(File::from(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked(dir.to_owned())),
        Err(error) => Err(StoreError::io("lock", path)(error.into())),
    }
}
