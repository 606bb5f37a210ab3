//! The store on real file systems that are full or read-only. Needs root, to mount a small one.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use op_dbus::store::{Source, Store, StoreError};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// A mounted tmpfs, taken away at the end.
struct Small(tempfile::TempDir);

impl Small {
    /// Mounts a small tmpfs; `None`, with the reason printed, where this process may not.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        match mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), c"size=128k,mode=0700") {
            Ok(()) => Some(Self(folder)),
            Err(error) => {
                println!("skipped: a tmpfs cannot be mounted here ({error}); run as root");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = fs::read_dir(self.path().join("generations"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_leaves_the_old_generation() {
    let Some(disk) = Small::mount() else { return };
    let mut store = Store::open(disk.path()).unwrap();
    store.add("old", Source::Bus, 0, 1).unwrap();

    let big = "x".repeat(1 << 20);
    let error = store.add(&big, Source::Bus, 0, 2).unwrap_err();
    assert!(error.may_retry(), "{error}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(disk.files(), ["00000001.json", "00000001.meta.json"]);
    assert_eq!(&*store.current().unwrap().text, "old");

    assert_eq!(store.add("new", Source::Bus, 0, 3).unwrap(), 2, "there is space for this one");
    drop(store);
    let store = Store::open(disk.path()).unwrap();
    assert_eq!(store.text(0).unwrap(), "new");
}

#[test]
fn a_read_only_disk_can_be_read() {
    let Some(disk) = Small::mount() else { return };
    let mut store = Store::open(disk.path()).unwrap();
    store.add("old", Source::Bus, 0, 1).unwrap();
    mount_remount(disk.path(), MountFlags::RDONLY, c"").unwrap();
    let error = store.add("new", Source::Bus, 0, 2).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && !error.may_retry(), "{error}");
    assert!(error.to_string().contains("Read-only file system"), "{error}");

    drop(store);
    let mut store = Store::open(disk.path()).unwrap();
    assert_eq!(store.text(0).unwrap(), "old");
    store.next_job_id().unwrap_err();
}
