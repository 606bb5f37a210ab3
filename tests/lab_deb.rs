//! The Debian package, installed, upgraded, removed and purged as an administrator does. `tests/deb` makes two revisions
//! of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use op_dbus_testkit::{Lab, STATE, STATE_DIR, STATE_FILE};
use serde_json::json;

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const CONFIG: &str = "/etc/op-dbus/op-dbus.toml";

/// The package's files of that revision.
fn package(revision: u32) -> String {
    let target = Path::new(BINARY).parent().and_then(Path::parent).expect("the target folder");
    let name = format!("op-dbus_{}-{revision}_amd64.deb", env!("CARGO_PKG_VERSION"));
    let path = target.join("debian").join(name);
    assert!(path.exists(), "{} is missing: tests/deb makes it", path.display());
    path.to_str().unwrap().to_owned()
}

/// All files below a folder, as they would lie on a machine.
fn files(root: &Path) -> BTreeSet<PathBuf> {
    let found = Command::new("find").arg(root).args(["-type", "f", "-printf", "/%P\\n"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from).collect()
}

fn generations(lab: &Lab) -> serde_json::Value {
    lab.call(STATE, "org.opdbus.State", "ListGenerations", &["a{sv}", "0"])
}

/// The package is what `dist/install` puts in place, and documents.
#[test]
fn it_has_the_files_of_dist_install() {
    let Some(lab) = Lab::enter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [installed, unpacked] = ["installed", "unpacked"].map(|name| folder.path().join(name));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/install");
    let status = Command::new(script).arg(BINARY).env("DESTDIR", &installed).status().unwrap();
    assert!(status.success());
    lab.run(&["dpkg-deb", "--extract", &package(1), unpacked.to_str().unwrap()]);
    let documents = Path::new("/usr/share/doc/op-dbus");
    let (documents, unpacked): (BTreeSet<_>, BTreeSet<_>) = files(&unpacked)
        .into_iter()
        // Man pages are compressed, as Debian wants them.
        .map(|path| if path.extension().is_some_and(|end| end == "gz") { path.with_extension("") } else { path })
        .partition(|path| path.starts_with(documents));
    assert_eq!(unpacked, files(&installed));
    for document in ["copyright", "operations.md", "examples/set-document.sh", "examples/oo1424oo-config.nix"] {
        assert!(documents.contains(&Path::new("/usr/share/doc/op-dbus").join(document)), "{document}");
    }
}

/// One story: each step stands on the one before.
#[test]
fn it_is_installed_upgraded_removed_and_purged() {
    let Some(lab) = Lab::enter() else { return };

    // Installed: it runs, and starts at boot.
    lab.run(&["apt-get", "install", "--yes", &package(1)]);
    lab.until(STATE, "org.opdbus.State", "Generation", |value| *value == 0);
    assert_eq!(lab.run(&["systemctl", "is-enabled", "op-dbus.service"]), "enabled");
    assert!(lab.run(&["busctl", "status", "org.opdbus"]).contains("Unit=op-dbus.service"));
    lab.run(&["pkaction", "--action-id", "org.opdbus.set-desired-state"]);
    let catalog = lab.run(&["journalctl", "--list-catalog", "9a4b6d6d2c7f4f0c9a3f0e7b8c5d1e02"]);
    assert!(catalog.contains("Defined-By: op-dbus") || catalog.contains("op-dbus"), "{catalog}");
    assert!(lab.call_as("alice", STATE, "org.freedesktop.DBus.Peer.Ping", &[]).success, "the bus policy is there");
    for (section, page, word) in [
        ("8", "op-dbus", "--state-file"),
        ("5", "op-dbus.toml", "hold_down_ms"),
        ("5", "org.opdbus", "SetDesiredState"),
    ] {
        let shown = lab.outcome(&["man", "--warnings", section, page]);
        assert!(shown.success && shown.stdout.contains(word), "{page}({section}): {}", shown.stderr);
        assert_eq!(shown.stderr, "", "{page}({section})");
    }

    // Used: a generation, and an administrator's configuration.
    let document = json!({ "ovsdb": { "bridges": { "ovsbr0": { "ports": { "deb0": { "type": "internal" } } } } } });
    assert_eq!(lab.set_desired_state(&document).1, "done");
    let config = fs::read_to_string(CONFIG).unwrap().replace("#hold_down_ms = 2000", "hold_down_ms = 3000");
    fs::write(CONFIG, &config).unwrap();
    fs::write(STATE_FILE, document.to_string()).unwrap();
    lab.until(STATE, "org.opdbus.State", "StateFileStatus", |value| value == "current");
    let before = generations(&lab);

    // Upgraded: another process, the same generations, nothing written to the switch, the configuration as it was.
    let process = lab.show("op-dbus.service", "MainPID");
    let written = lab.ovs(&["get", "Open_vSwitch", ".", "next_cfg"]);
    lab.run(&["apt-get", "install", "--yes", "--option=Dpkg::Options::=--force-confold", &package(2)]);
    lab.until(STATE, "org.opdbus.State", "Generation", |value| *value == 1);
    assert_ne!(lab.show("op-dbus.service", "MainPID"), process);
    assert_eq!(generations(&lab), before);
    lab.until("/org/opdbus/port/deb0", "org.opdbus.Resource", "InSync", |value| *value == true);
    assert_eq!(lab.ovs(&["get", "Open_vSwitch", ".", "next_cfg"]), written);
    assert_eq!(fs::read_to_string(CONFIG).unwrap(), config);
    assert_eq!(lab.run(&["dpkg-query", "--show", "--showformat=${Version}", "op-dbus"]), "0.1.0-2");

    // Removed: it has gone from the bus, what it looked after and what it remembers have not.
    lab.run(&["apt-get", "remove", "--yes", "op-dbus"]);
    assert!(!lab.outcome(&["busctl", "status", "org.opdbus"]).success);
    assert_eq!(lab.ovs(&["port-to-br", "deb0"]), "ovsbr0");
    assert!(Path::new(STATE_DIR).join("generations/00000001.json").exists());
    assert_eq!(fs::read_to_string(CONFIG).unwrap(), config);

    // Installed again: it goes on where it was.
    lab.run(&["apt-get", "install", "--yes", &package(2)]);
    lab.until(STATE, "org.opdbus.State", "Generation", |value| *value == 1);
    assert_eq!(generations(&lab), before);

    // Purged: nothing of it is left but the state file, which is no package's.
    lab.run(&["apt-get", "purge", "--yes", "op-dbus"]);
    assert!(!Path::new(STATE_DIR).exists());
    let left = lab.run(&["find", "/etc", "/usr", "/var/lib/systemd/deb-systemd-helper-enabled", "-name", "*op-dbus*"]);
    let checkout = env!("CARGO_MANIFEST_DIR");
    let left: Vec<&str> = left.lines().filter(|path| !path.starts_with(checkout)).collect();
    assert_eq!(left, ["/etc/op-dbus"]);
    assert_eq!(fs::read_dir("/etc/op-dbus").unwrap().count(), 1);
    assert!(Path::new(STATE_FILE).exists());
    assert!(!lab.outcome(&["dpkg-query", "--show", "op-dbus"]).success);
}
