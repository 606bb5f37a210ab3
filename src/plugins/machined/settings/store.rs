//! Settings files on the disk: read, and written whole or not at all.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use rustix::fs::{Mode, OFlags};

use super::{Found, Settings};

/// End of the names of settings files.
const SUFFIX: &str = ".nspawn";

/// No settings file is longer; what is, is another's.
const LONGEST_BYTES: u64 = 256 * 1024;

/// The folder of settings files, and whose files are written there.
#[derive(Debug, Clone)]
pub(in super::super) struct Store {
    folder: PathBuf,
    machine_id: String,
}

/// Why a settings file was not written. Somebody's hand is needed.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum StoreError {
    /// It is there and bears no mark of this machine.
    #[error("{} is not op-dbus's: move its settings into the desired state and the file away", .0.display())]
    Foreign(PathBuf),
    /// The disk refused.
    #[error("{}: {why}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
}

impl Store {
    pub(in super::super) fn new(folder: &Path, machine_id: &str) -> Self {
        Self { folder: folder.to_owned(), machine_id: machine_id.to_owned() }
    }

    /// Where that container's settings are.
    pub(in super::super) fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}{SUFFIX}"))
    }

    /// All settings files, by container.
    pub(in super::super) fn read_all(&self) -> BTreeMap<String, Found> {
        // A folder that cannot be read holds no settings: systemd-nspawn cannot read them either.
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let ids = names.filter_map(|name| name.strip_suffix(SUFFIX).map(str::to_owned));
        ids.map(|id| (id.clone(), self.read(&id))).filter(|(_, found)| *found != Found::None).collect()
    }

    /// One container's settings file.
    pub(in super::super) fn read(&self, id: &str) -> Found {
        let path = self.path(id);
        let Ok(facts) = fs::symlink_metadata(&path) else { return Found::None };
        // A link is not of op-dbus's making, whatever it points to.
        if !facts.is_file() || facts.len() > LONGEST_BYTES {
            return Found::Foreign;
        }
        let settings = fs::read_to_string(&path).ok().and_then(|text| Settings::parse(&text, &self.machine_id));
        settings.map_or(Found::Foreign, |settings| {
            let written = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let written_usec = written.and_then(|time| u64::try_from(time.as_micros()).ok()).unwrap_or_default();
            Found::Ours { settings, written_usec }
        })
    }

    /// Writes a container's settings, unless they stand there already; settings that say nothing take the file away.
    /// Answers whether anything was written.
    pub(in super::super) fn write(&self, id: &str, settings: &Settings) -> Result<bool, StoreError> {
        match self.read(id) {
            Found::Foreign => return Err(StoreError::Foreign(self.path(id))),
            Found::Ours { settings: there, .. } if there == *settings && !settings.is_empty() => return Ok(false),
            Found::None if settings.is_empty() => return Ok(false),
            Found::Ours { .. } if settings.is_empty() => return self.remove(id),
            Found::None | Found::Ours { .. } => {}
        }
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |why: io::Error| StoreError::Disk { path, why }
        };
        fs::create_dir_all(&self.folder).map_err(disk(&self.folder))?;
        let (path, draft) = (self.path(id), self.folder.join(format!(".{id}{SUFFIX}.op-dbus")));
        replace(&path, &draft, &settings.text(&self.machine_id)).map_err(|why| {
            // What is left of the attempt is no settings file, whatever becomes of it.
            let _ = fs::remove_file(&draft);
            disk(&path)(why)
        })?;
        Ok(true)
    }

    /// Takes a container's settings away if they are op-dbus's. Answers whether anything was.
    pub(in super::super) fn remove(&self, id: &str) -> Result<bool, StoreError> {
        if !matches!(self.read(id), Found::Ours { .. }) {
            return Ok(false);
        }
        let path = self.path(id);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(why) => Err(StoreError::Disk { path, why }),
        }
    }
}

/// Puts a file in place by renaming one that is written and on the disk.
fn replace(path: &Path, draft: &Path, text: &str) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    // Left by a crash; it was never in place.
    let _ = fs::remove_file(draft);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = fs::File::from(rustix::fs::open(draft, flags, mode)?);
    // Whatever the process's umask: people and tools read settings.
    rustix::fs::fchmod(&file, mode)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}
