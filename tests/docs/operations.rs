//! docs/operations.md: each Reason with its remedy, each polkit action, each installed file, each bound.

use std::{collections::BTreeSet, fmt::Write as _, path::Path, process::Command};

use op_dbus::{bus::Limits, model::Reason};

use op_dbus_testkit::markdown;

const FILE: &str = "docs/operations.md";

/// The first column of the table with that heading, without its quotes.
fn first_column(heading: &str) -> BTreeSet<String> {
    let text = markdown::read(FILE);
    let table = text.split_once(heading).unwrap_or_else(|| panic!("{FILE} has no table {heading}")).1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.split('|').nth(1).unwrap().trim().trim_matches('`').to_owned()).collect()
}

#[test]
fn every_reason_has_its_remedy() {
    let explained = first_column("| Reason | meaning | remedy |");
    let there = Reason::ALL.iter().filter(|reason| **reason != Reason::None);
    assert_eq!(explained, there.map(|reason| reason.as_str().to_owned()).collect());
}

#[test]
fn every_polkit_action_is_explained() {
    let policy = markdown::read("dist/org.opdbus.policy");
    let ids = policy.split("<action id=\"").skip(1).filter_map(|rest| rest.split_once('"').map(|(id, _)| id));
    let mut explained = first_column("| action | methods | by default |");
    assert!(explained.remove("none"));
    assert_eq!(explained, ids.map(str::to_owned).collect());
}

#[test]
fn every_message_id_is_explained() {
    let catalog = markdown::read("dist/op-dbus.catalog");
    let ids = catalog.lines().filter_map(|line| line.strip_prefix("-- "));
    assert_eq!(first_column("| MESSAGE_ID | entry |"), ids.map(str::to_owned).collect());
}

/// All files below a folder, as they would lie on a machine.
fn collect(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
            continue;
        }
        let path = format!("/{}", path.strip_prefix(root).unwrap().display());
        // One line stands for all interfaces, and one for all pages of the manual.
        let many = ["/usr/share/dbus-1/interfaces/", "/usr/share/man/"];
        let folder = many.iter().find(|folder| path.starts_with(**folder));
        found.insert(folder.map_or_else(|| path.clone(), |folder| (*folder).to_owned()));
    }
}

#[test]
fn every_installed_file_is_listed() {
    let root = tempfile::tempdir().unwrap();
    let script = markdown::root().join("dist/install");
    let status = Command::new(script)
        .arg(env!("CARGO_BIN_EXE_op-dbus"))
        .env("DESTDIR", root.path())
        .status()
        .expect("dist/install starts");
    assert!(status.success());
    let mut installed = BTreeSet::new();
    collect(root.path(), root.path(), &mut installed);
    assert_eq!(first_column("| file | what |"), installed);
}

/// The table of bounds. A new one does not compile before it has its line.
pub fn limits() -> String {
    let Limits {
        document_bytes,
        managed_objects_bytes,
        heavy_per_caller,
        heavy_per_user,
        calls_per_caller,
        waits_per_caller,
        parsers,
    } = Limits::default();
    let mib = |bytes: usize| format!("{} MiB", bytes / (1024 * 1024));
    let rows = [
        ("a document", mib(document_bytes)),
        ("an answer, GetManagedObjects' too", mib(managed_objects_bytes)),
        ("calls that parse or plan a document, of one connection", heavy_per_caller.to_string()),
        ("the same, of all connections of one user", heavy_per_user.to_string()),
        ("other calls that op-dbus has to carry out, of one connection", calls_per_caller.to_string()),
        ("jobs that one connection waits for", waits_per_caller.to_string()),
        ("documents that are parsed at the same time; others queue", parsers.to_string()),
    ];
    let mut out = "| what | at most |\n|---|---|\n".to_owned();
    for (what, most) in rows {
        writeln!(out, "| {what} | {most} |").unwrap();
    }
    out
}
