//! The package database: where it is, what stands in it, whether somebody is at work in it.

mod dpkg;
mod lists;
mod log;
mod watch;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::version::Scheme;

pub(super) use self::{
    lists::providers,
    log::{complaint, log_beyond, log_length},
    watch::Watch,
};

/// The name of dpkg's database in its folder.
const STATUS: &str = "status";

/// dpkg's locks in its folder: while either is held, somebody is at work.
const LOCKS: [&str; 2] = ["lock", "lock-frontend"];

/// dpkg's journal in its folder: what it had not yet put into its database when it ended.
const JOURNAL: &str = "updates";

/// The kernel's list of file locks (proc_locks(5)).
const PROC_LOCKS: &str = "/proc/locks";

/// Where package databases are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFolders {
    /// dpkg's.
    pub dpkg: PathBuf,
    /// rpm's: the first that is there.
    pub rpm: Vec<PathBuf>,
    /// Files and folders whose change means that something else may be offered: lists of repositories and sources.
    pub offers: Vec<PathBuf>,
    /// apt's lists of what repositories offer.
    pub lists: PathBuf,
    /// What dpkg printed while apt ran it.
    pub log: PathBuf,
}

impl PackageFolders {
    /// Those of the system.
    #[must_use]
    pub fn system() -> Self {
        let offers = [
            "/var/lib/apt/lists",
            "/etc/apt/sources.list",
            "/etc/apt/sources.list.d",
            "/etc/apt/preferences",
            "/etc/apt/preferences.d",
            "/etc/yum.repos.d",
            "/etc/zypp/repos.d",
        ];
        Self {
            dpkg: "/var/lib/dpkg".into(),
            rpm: vec!["/usr/lib/sysimage/rpm".into(), "/var/lib/rpm".into()],
            offers: offers.map(PathBuf::from).to_vec(),
            lists: "/var/lib/apt/lists".into(),
            log: "/var/log/apt/term.log".into(),
        }
    }
}

/// A package database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Database {
    /// dpkg's: op-dbus reads it itself.
    Dpkg(PathBuf),
    /// rpm's: op-dbus sees that it changes, and has PackageKit read it.
    Rpm(PathBuf),
}

/// One installed package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its architecture.
    pub(super) arch: String,
    /// Its version.
    pub(super) version: String,
    /// dpkg's word for a package between two states; empty = it is in neither.
    pub(super) halfway: String,
    /// No system works without it.
    pub(super) essential: bool,
    /// Other names that it stands for.
    pub(super) provides: Vec<String>,
    /// One line about it.
    pub(super) summary: String,
}

/// What is installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Installed {
    /// By name: one entry for each architecture.
    pub(super) packages: BTreeMap<String, Vec<Entry>>,
    /// The machine's own architecture; empty = unknown.
    pub(super) native: String,
}

impl Installed {
    /// The package of that name, and of that architecture if one is said; else of the machine's own, or of any.
    pub(super) fn find(&self, name: &str, arch: Option<&str>) -> Option<&Entry> {
        let entries = self.packages.get(name)?;
        match arch {
            Some(arch) => {
                entries.iter().find(|entry| entry.arch == arch || matches!(entry.arch.as_str(), "all" | "noarch"))
            }
            None => entries
                .iter()
                .find(|entry| entry.arch == self.native || matches!(entry.arch.as_str(), "all" | "noarch"))
                .or(entries.first()),
        }
    }
}

/// A state of a file, to tell whether it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// The state of that file now; `None` = it is not there.
fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some(Stamp { inode: meta.ino(), size: meta.size(), changed: (meta.mtime(), meta.mtime_nsec()) })
}

/// The state of all that decides what is offered.
pub(super) fn offers_stamp(folders: &PackageFolders) -> Vec<Option<Stamp>> {
    folders.offers.iter().map(|path| stamp(path)).collect()
}

impl Database {
    /// The machine's; `None` where there is none that op-dbus knows.
    pub(super) fn find(folders: &PackageFolders) -> Option<Self> {
        if folders.dpkg.join(STATUS).is_file() {
            return Some(Self::Dpkg(folders.dpkg.clone()));
        }
        folders.rpm.iter().find(|folder| folder.is_dir()).cloned().map(Self::Rpm)
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Dpkg(folder) | Self::Rpm(folder) => folder,
        }
    }

    /// How its versions are compared.
    pub(super) const fn scheme(&self) -> Scheme {
        match self {
            Self::Dpkg(_) => Scheme::Deb,
            Self::Rpm(_) => Scheme::Rpm,
        }
    }

    /// What is installed; `None` where only PackageKit can tell.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub(super) fn read(&self) -> io::Result<Option<Installed>> {
        match self {
            // Names and versions are ASCII; descriptions may hold anything.
            Self::Dpkg(folder) => {
                let bytes = fs::read(folder.join(STATUS))?;
                Ok(Some(dpkg::parse(&String::from_utf8_lossy(&bytes))))
            }
            Self::Rpm(_) => Ok(None),
        }
    }

    /// Whether its journal was left behind, or is in use.
    pub(super) fn has_journal(&self) -> bool {
        let Self::Dpkg(folder) = self else { return false };
        let is_entry = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        let entries = fs::read_dir(folder.join(JOURNAL)).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_entry))
    }

    /// Whether somebody is at work in it, as far as the kernel tells.
    pub(super) fn is_busy(&self) -> bool {
        let Self::Dpkg(folder) = self else { return false };
        let inodes: Vec<u64> =
            LOCKS.iter().filter_map(|lock| fs::metadata(folder.join(lock)).ok()).map(|meta| meta.ino()).collect();
        fs::read_to_string(PROC_LOCKS).is_ok_and(|locks| locks.lines().any(|line| holds(line, &inodes)))
    }
}

/// Whether a line of /proc/locks is of one of these files: `9: POSIX ADVISORY WRITE 877 00:3d:821491 0 EOF`. The device
/// is not compared: on some file systems the kernel names another there than to stat(2).
fn holds(line: &str, inodes: &[u64]) -> bool {
    let file = line.split_whitespace().find(|word| word.matches(':').count() == 2);
    let inode = file.and_then(|file| file.rsplit(':').next()).and_then(|inode| inode.parse().ok());
    inode.is_some_and(|inode| inodes.contains(&inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_locks_are_read() {
        let line = "9: POSIX  ADVISORY  WRITE 877 00:3d:821491 0 EOF";
        assert!(holds(line, &[1, 821_491]));
        assert!(!holds(line, &[877, 3]));
        // One that waits for it.
        assert!(holds("9: -> POSIX  ADVISORY  WRITE 878 00:3d:821491 0 EOF", &[821_491]));
        assert!(!holds("", &[0]));
    }

    #[test]
    fn a_machine_without_a_database_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let folders = PackageFolders {
            dpkg: at("dpkg"),
            rpm: vec![at("rpm1"), at("rpm2")],
            offers: Vec::new(),
            lists: at("lists"),
            log: at("log"),
        };
        assert_eq!(Database::find(&folders), None);
        fs::create_dir(at("rpm2")).unwrap();
        assert_eq!(Database::find(&folders), Some(Database::Rpm(at("rpm2"))));
        fs::create_dir(at("dpkg")).unwrap();
        fs::write(at("dpkg").join("status"), "Package: a\nStatus: install ok installed\nVersion: 1\n").unwrap();
        let dpkg = Database::find(&folders).unwrap();
        assert_eq!(dpkg, Database::Dpkg(at("dpkg")));
        assert_eq!(dpkg.read().unwrap().unwrap().find("a", None).unwrap().version, "1");
        assert!(!dpkg.is_busy());
    }
}
