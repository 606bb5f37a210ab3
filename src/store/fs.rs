//! The few file operations that the store is made of, so that tests can stop, fail or cut the power between any two.

use std::{
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Folders are for the daemon alone: documents may hold what is not for everybody.
const DIR_MODE: u32 = 0o700;

/// ... and so are files.
const FILE_MODE: u32 = 0o600;

/// A file that is being written.
pub(super) trait NewFile {
    /// Writes some of the bytes (write(2)).
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Puts what was written on the disk (fsync(2)).
    fn sync(&mut self) -> io::Result<()>;
}

/// The operations. Each is one system call in effect.
pub(super) trait Fs: fmt::Debug + Send {
    /// Makes a folder, mode 0700; one that is there is fine.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// A file's bytes.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// A file's size in bytes.
    fn size(&self, path: &Path) -> io::Result<u64>;

    /// Makes an empty file, mode 0600, in place of one of that name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;

    /// Renames within the state directory, in place of one of the new name, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Puts a folder's names on the disk (fsync(2) of the folder).
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's.
#[derive(Debug, Clone, Copy)]
pub(super) struct OsFs;

impl NewFile for fs::File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.sync_all()
    }
}

impl Fs for OsFs {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match fs::DirBuilder::new().mode(DIR_MODE).create(path) {
            // A link to a folder will do as well: a path through a file fails at its first use.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            // The store's own names are ASCII; others are none of its business.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        fs::metadata(path).map(|meta| meta.len())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }
}

/// Writes all bytes and puts them on the disk.
pub(super) fn write_synced(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs.create(path)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.sync()
}
