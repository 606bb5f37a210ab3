//! State directories that earlier versions wrote, in tests/fixtures/: each must be read for ever. A version that changes
//! what it writes adds one of its own, and alters none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use op_dbus::{
    desired,
    model::OP_DBUS_UID,
    store::{Source, Store},
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A copy to write into.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn what_0_1_0_wrote_is_read_as_it_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("state-0.1.0"), folder.path());
    let store = Store::open(folder.path()).unwrap();

    let kept = store.list();
    let summary: Vec<_> =
        kept.iter().map(|info| (info.number, info.source, info.uid, info.result.as_str(), info.time_usec)).collect();
    assert_eq!(
        summary,
        [
            (1, "bus", 0, "done", 1_795_392_578_317_003),
            (2, "bus", 0, "failed", 1_795_392_578_335_077),
            (3, "file", OP_DBUS_UID, "done", 1_795_392_578_349_878),
        ]
    );
    let current = store.current().expect("a current generation");
    assert!(current.info.number == 3 && current.finished && !current.finished_this_boot);

    let first = desired::parse(&store.text(1).unwrap()).unwrap();
    assert_eq!((first.bridges.len(), first.ports.len()), (1, 1));
    let second = desired::parse(&store.text(2).unwrap()).unwrap();
    assert_eq!(second.units.len(), 1);
    let third = desired::parse(&current.text).unwrap();
    assert_eq!((third.units.len(), third.containers.len()), (2, 1));
}

/// Whoever wrote it: every generation is whole, is a document, and is counted on from.
#[test]
fn every_version_s_directory_is_taken_whole_and_counted_on_from() {
    let mut seen = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("state-") {
            continue;
        }
        seen += 1;
        let folder = tempfile::tempdir().unwrap();
        copy(&fixtures().join(&name), folder.path());
        let written = fs::read_dir(folder.path().join("generations")).unwrap().count();
        let mut store = Store::open(folder.path()).unwrap();
        let kept = store.list();
        assert_eq!(kept.len() * 2, written, "{name}: each has its document, and nothing was put aside");
        for info in &kept {
            let text = store.text(info.number).unwrap();
            desired::parse(&text).unwrap_or_else(|error| panic!("generation {} of {name}: {error}", info.number));
        }
        let last = kept.last().map_or(0, |info| info.number);
        let counted = fs::read_to_string(folder.path().join("store.json")).unwrap();
        assert_eq!(store.add("{}", Source::Bus, 0, 1).unwrap(), last + 1, "{name}");
        // Numbers of jobs go on from the block that was set aside, and are never used again.
        let ceiling: serde_json::Value = serde_json::from_str(&counted).unwrap();
        assert!(store.next_job_id().unwrap() >= ceiling["job_ceiling"].as_u64().unwrap(), "{name}");
        assert!(!folder.path().join("quarantine").exists(), "{name}");
    }
    assert!(seen > 0, "there are no fixtures");
}
