//! What is found at a start, on a real file system and after somebody's hand was in it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    super::{Source, Store, StoreError, fs::Fs as _},
    BOOT,
    disk::{Disk, Fault},
};
use crate::reconcile::CoreError;

const BUS: Source = Source::Bus;

fn on(disk: &Disk, boot: &str) -> Result<Store, StoreError> {
    disk.set(Fault::None);
    Store::load(Box::new(disk.clone()), "/var/state".into(), None, boot.into())
}

/// A disk with generations 1 to 3, of which each is finished.
fn three() -> Disk {
    let disk = Disk::new();
    let mut store = on(&disk, BOOT).unwrap();
    for text in ["one", "two", "three"] {
        let number = store.add(text, BUS, 1000, 42).unwrap();
        store.set_result(number, "done", true).unwrap();
    }
    assert_eq!(store.next_job_id().unwrap(), 1);
    disk
}

fn file(name: &str) -> std::path::PathBuf {
    Path::new("/var/state").join(name)
}

fn numbers(store: &Store) -> Vec<u64> {
    store.list().iter().map(|info| info.number).collect()
}

#[test]
fn keeps_documents_as_received_and_for_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("made/when/missing");
    let text = "{ \"version\" : 1,\r\n \"é\":\"\\u00e9\" }";
    let mut store = Store::open(&dir).unwrap();
    assert_eq!(store.current(), None);
    assert_eq!(store.add(text, BUS, 1000, 1_700_000_000_000_000).unwrap(), 1);
    store.set_result(1, "done", true).unwrap();
    assert_eq!(fs::read(dir.join("generations/00000001.json")).unwrap(), text.as_bytes());

    for path in ["", "generations"] {
        assert_eq!(fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777, 0o700, "{path:?}");
    }
    for path in ["lock", "store.json", "generations/00000001.json", "generations/00000001.meta.json"] {
        assert_eq!(fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }

    drop(store);
    let store = Store::open(&dir).unwrap();
    let current = store.current().unwrap();
    assert_eq!(&*current.text, text);
    assert!(current.finished && current.finished_this_boot);
    let info = &current.info;
    assert_eq!((info.number, info.time_usec, info.uid), (1, 1_700_000_000_000_000, 1000));
    assert_eq!((info.source, info.result.as_str()), ("bus", "done"));
    assert_eq!(store.text(0).unwrap(), text);
    assert!(matches!(store.text(2), Err(StoreError::NotFound(2))));
}

#[test]
fn has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::open(folder.path()).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)) && error.may_retry(), "{error}");
    drop(first);
    Store::open(folder.path()).unwrap();
}

#[test]
fn a_path_through_a_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = Store::open(folder.path().join("file/state")).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
    assert!(!error.may_retry());
    assert!(matches!(CoreError::from(error), CoreError::Failed(_)));
}

#[test]
fn left_overs_are_removed_and_foreign_files_left_alone() {
    let disk = three();
    for name in [".store.json.tmp", "generations/.00000004.json.tmp", "generations/README", "generations/1.json"] {
        disk.create(&file(name)).unwrap();
    }
    assert_eq!(numbers(&on(&disk, BOOT).unwrap()), [1, 2, 3]);
    let files = disk.files();
    assert!(!files.iter().any(|name| name.contains(".tmp")), "{files:?}");
    for name in ["generations/README", "generations/1.json"] {
        assert!(files.contains(&file(name).display().to_string()), "{files:?}");
    }
}

/// Each way to damage the newest generation: the one before is current, what is torn is put aside, and its number is
/// not used again, even when the quarantine is emptied.
#[test]
fn a_torn_generation_is_never_chosen() {
    type Damage = fn(&Disk);
    let damages: [(&str, Damage); 7] = [
        ("document cut", |disk| disk.tamper(&file("generations/00000003.json"), |bytes| bytes.truncate(2))),
        ("document changed", |disk| disk.tamper(&file("generations/00000003.json"), |bytes| bytes[0] = b'T')),
        ("document empty", |disk| disk.tamper(&file("generations/00000003.json"), Vec::clear)),
        ("document gone", |disk| disk.remove(&file("generations/00000003.json")).unwrap()),
        ("meta cut", |disk| disk.tamper(&file("generations/00000003.meta.json"), |bytes| bytes.truncate(20))),
        ("meta gone", |disk| disk.remove(&file("generations/00000003.meta.json")).unwrap()),
        ("meta of another", |disk| {
            let other = disk.read(&file("generations/00000002.meta.json")).unwrap();
            disk.tamper(&file("generations/00000003.meta.json"), |bytes| *bytes = other);
        }),
    ];
    for (what, damage) in damages {
        let disk = three();
        damage(&disk);
        let store = on(&disk, BOOT).unwrap();
        assert_eq!(numbers(&store), [1, 2], "{what}");
        assert_eq!(store.text(0).unwrap(), "two", "{what}");
        let aside: Vec<String> = disk.files().into_iter().filter(|name| name.contains("/quarantine/")).collect();
        assert!(!aside.is_empty(), "{what}");
        assert!(!disk.files().iter().any(|name| name.contains("generations/00000003")), "{what}: {:?}", disk.files());
        for name in aside {
            disk.remove(Path::new(&name)).unwrap();
        }
        assert_eq!(on(&disk, BOOT).unwrap().add("four", BUS, 0, 0).unwrap(), 4, "{what}");
    }
}

#[test]
fn an_old_document_that_was_changed_is_not_handed_out() {
    let disk = three();
    disk.tamper(&file("generations/00000001.json"), |bytes| bytes[0] = b'0');
    let error = on(&disk, BOOT).unwrap().text(1).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { number: 1, .. }), "{error}");
}

#[test]
fn all_generations_torn_is_none() {
    let disk = three();
    for number in 1..=3 {
        disk.tamper(&file(&format!("generations/0000000{number}.meta.json")), Vec::clear);
    }
    let mut store = on(&disk, BOOT).unwrap();
    assert_eq!(store.current(), None);
    assert_eq!(store.add("four", BUS, 0, 0).unwrap(), 4);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    for name in ["store.json", "generations/00000001.meta.json"] {
        let disk = three();
        disk.tamper(&file(name), |bytes| *bytes = br#"{"format": 2, "all": "new"}"#.to_vec());
        let before = disk.files();
        let error = on(&disk, BOOT).unwrap_err();
        assert!(matches!(error, StoreError::NewerFormat { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(disk.files(), before);
    }
}

#[test]
fn lost_counters_never_give_a_number_twice() {
    for damage in [Vec::clear as fn(&mut Vec<u8>), |bytes| bytes.truncate(5)] {
        let disk = three();
        disk.tamper(&file("store.json"), damage);
        let mut store = on(&disk, BOOT).unwrap();
        assert!(store.next_job_id().unwrap() > 1_000_000_000);
    }
    let disk = three();
    disk.remove(&file("store.json")).unwrap();
    let first = on(&disk, BOOT).unwrap().next_job_id().unwrap();
    assert!(first > 1_000_000_000);
    assert!(on(&disk, BOOT).unwrap().next_job_id().unwrap() > first);
}

#[test]
fn an_orderly_end_gives_job_numbers_back() {
    let disk = three();
    let mut store = on(&disk, BOOT).unwrap();
    let crashed = store.next_job_id().unwrap();
    assert_eq!(crashed, 1001, "after a crash the rest of the block is skipped");
    store.close().unwrap();
    assert_eq!(on(&disk, BOOT).unwrap().next_job_id().unwrap(), crashed + 1);
}

#[test]
fn job_numbers_outlast_a_full_disk_for_a_while() {
    let disk = three();
    let mut store = on(&disk, BOOT).unwrap();
    let first = store.next_job_id().unwrap();
    disk.set(Fault::Full(0));
    let error = loop {
        match store.next_job_id() {
            Ok(job) => assert!(job < first + 1000),
            Err(error) => break error,
        }
    };
    assert!(error.may_retry(), "{error}");
    disk.set(Fault::None);
    assert_eq!(store.next_job_id().unwrap(), first + 1000, "none was left out, none given twice");
}

#[test]
fn finished_is_of_one_boot() {
    let disk = three();
    let next_boot = on(&disk, "another").unwrap();
    let current = next_boot.current().unwrap();
    assert!(current.finished && !current.finished_this_boot);

    // A boot that cannot be told is like no other, and so not like itself either.
    let mut unknown = on(&disk, "").unwrap();
    unknown.set_result(3, "unchanged", true).unwrap();
    assert!(!unknown.current().unwrap().finished_this_boot);
    assert!(!on(&disk, "").unwrap().current().unwrap().finished_this_boot);

    let mut store = on(&disk, BOOT).unwrap();
    store.set_result(3, "partial", false).unwrap();
    assert!(!store.current().unwrap().finished);
    assert_eq!(store.current().unwrap().info.result, "partial");
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let disk = three();
    let mut store = on(&disk, BOOT).unwrap();
    let content = super::super::FileContent { sha256: super::super::sha256_hex(b"x"), refused: true };
    store.set_file_content(content.clone()).unwrap();
    disk.set(Fault::None);
    store.set_result(3, "done", true).unwrap();
    store.set_file_content(content).unwrap();
    drop(store);
    assert_eq!(disk.operations(), 0);
    drop(on(&disk, BOOT).unwrap());
    assert_eq!(disk.operations(), 2, "an fsync of each folder, which have nothing to write");
}

#[test]
fn opens_and_reads_on_a_full_disk() {
    for at in 0..6 {
        let disk = three();
        disk.set(Fault::Full(at));
        let mut store = Store::load(Box::new(disk.clone()), "/var/state".into(), None, BOOT.into()).unwrap();
        let error = store.add("four", BUS, 0, 0).unwrap_err();
        assert!(error.may_retry() && error.to_string().contains("00000004"), "{error}");
        assert_eq!(store.text(0).unwrap(), "three");
        assert!(!disk.files().iter().any(|name| name.contains(".tmp") || name.contains("00000004")));
    }
}
