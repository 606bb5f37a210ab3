//! The state file on a real machine: read, watched as NixOS swaps it, refused, overridden, adopted; and what op-dbus
//! takes up again at its next start.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use op_dbus_testkit::{Lab, STATE, STATE_FILE, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";
const UNIT: &str = "lab-idle.service";
/// Stand-ins for NixOS's store and for the link that it swaps.
const STORE: &str = "/srv/lab-store";
const STATIC: &str = "/etc/lab-static";

fn enter(state: Option<&str>) -> Option<Lab> {
    let lab = Lab::enter()?;
    lab.remove_units(&[UNIT]);
    lab.units(&[(UNIT, "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n")]);
    let _ = fs::remove_dir_all(STORE);
    let _ = fs::remove_file(STATIC);
    lab.install_afresh(BINARY, state);
    Some(lab)
}

/// A document that names the one unit.
fn document(active: &str) -> String {
    json!({ "systemd": { "units": { UNIT: { "active_state": active } } } }).to_string()
}

fn get(lab: &Lab, property: &str) -> Value {
    lab.get(STATE, FACE, property)
}

/// Where the state and its file stand: source, status of the file, generation.
fn stand(lab: &Lab) -> (String, String, u64) {
    let text = |property| get(lab, property).as_str().unwrap().to_owned();
    (text("StateSource"), text("StateFileStatus"), get(lab, "Generation").as_u64().unwrap())
}

fn stands(source: &str, status: &str, generation: u64) -> (String, String, u64) {
    (source.to_owned(), status.to_owned(), generation)
}

/// Waits until that generation's job is through.
fn until_done(lab: &Lab, generation: u64) {
    lab.until(STATE, FACE, "ObservedGeneration", |observed| *observed == generation);
}

fn restart(lab: &Lab) {
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
}

/// Replaces the file as careful programs do: by a rename.
fn replace(text: &str) {
    fs::write("/etc/op-dbus/.new", text).unwrap();
    fs::rename("/etc/op-dbus/.new", STATE_FILE).unwrap();
}

/// A folder of the store with that state file in it.
fn in_store(name: &str, text: &str) -> PathBuf {
    let folder = Path::new(STORE).join(name);
    fs::create_dir_all(folder.join("op-dbus")).unwrap();
    fs::write(folder.join("op-dbus/state.json"), text).unwrap();
    folder
}

/// Points the link elsewhere as NixOS does: a new link, renamed over the old one.
fn swap(to: &Path) {
    let fresh = format!("{STATIC}.new");
    symlink(to, &fresh).unwrap();
    fs::rename(&fresh, STATIC).unwrap();
}

#[test]
fn it_is_followed_through_swapped_links() {
    let Some(lab) = enter(None) else { return };
    assert_eq!(stand(&lab), stands("none", "missing", 0));

    // As on NixOS: /etc/op-dbus/state.json -> /etc/static/op-dbus/state.json, /etc/static -> /nix/store/...-etc.
    swap(&in_store("first", &document("active")));
    symlink(format!("{STATIC}/op-dbus/state.json"), STATE_FILE).unwrap();
    until_done(&lab, 1);
    assert_eq!(stand(&lab), stands("file", "current", 1));
    assert_eq!(lab.show(UNIT, "ActiveState"), "active");
    let listed = lab.call(STATE, FACE, "ListGenerations", &["a{sv}", "0"])[0][0].clone();
    assert_eq!((&listed[2], &listed[3]), (&json!("file"), &json!(u32::MAX)));

    // The link in the middle of the path is swapped; what the file's own folder holds stays as it was.
    swap(&in_store("second", &document("inactive")));
    until_done(&lab, 2);
    assert_eq!(stand(&lab), stands("file", "current", 2));
    assert_eq!(lab.show(UNIT, "ActiveState"), "inactive");

    // The same content in another place is no news: the next one tells that it was looked at.
    swap(&in_store("third", &document("inactive")));
    swap(&in_store("fourth", &document("active")));
    until_done(&lab, 3);
    assert_eq!(stand(&lab), stands("file", "current", 3));

    // The file goes: nothing changes.
    fs::remove_file(STATE_FILE).unwrap();
    lab.until(STATE, FACE, "StateFileStatus", |status| status == "missing");
    assert_eq!(get(&lab, "Generation"), 3);
    assert_eq!(lab.show(UNIT, "ActiveState"), "active");
}

#[test]
fn a_bad_one_is_refused_with_the_reason_and_the_last_good_one_stands() {
    let Some(lab) = enter(Some(&document("active"))) else { return };
    until_done(&lab, 1);
    let bad = document("active").replace("active_state", "active_sate");
    for (text, said) in [
        (bad.as_bytes(), "/systemd/units/lab-idle.service/active_sate"),
        (b"{ this is not JSON", "line 1"),
        (b"{\"drift\": \"\xff\"}", "UTF-8"),
        (b"{}", "allow_empty"),
    ] {
        fs::write(STATE_FILE, text).unwrap();
        lab.until(STATE, FACE, "StateFileMessage", |message| message.as_str().unwrap().contains(said));
        assert_eq!(stand(&lab), stands("file", "refused", 1));
        let refused = lab.refused(STATE, &format!("{FACE}.AdoptStateFile"), &["{}"]);
        assert_eq!(refused.0, "org.opdbus.Error.InvalidDocument");
        assert!(refused.1.contains(said), "{}", refused.1);
    }
    assert_eq!(get(&lab, "InSync"), true);
    assert_eq!(lab.show(UNIT, "ActiveState"), "active");

    // After a restart as well.
    restart(&lab);
    lab.until(STATE, FACE, "StateFileStatus", |status| status == "refused");
    assert_eq!(stand(&lab), stands("file", "refused", 1));
    assert_eq!(lab.call(STATE, FACE, "GetDesiredState", &["ta{sv}", "0", "0"])[0], document("active"));

    replace(&document("inactive"));
    until_done(&lab, 2);
    assert_eq!(stand(&lab), stands("file", "current", 2));
    assert_eq!(get(&lab, "StateFileMessage"), "");
    assert_eq!(lab.show(UNIT, "ActiveState"), "inactive");

    // Empty, and meant so.
    replace(r#"{ "allow_empty": true }"#);
    lab.until(STATE, FACE, "Generation", |generation| *generation == 3);
    assert_eq!(get(&lab, "Managed"), 0);
}

#[test]
fn a_call_overrides_it_until_it_changes_or_is_adopted() {
    let Some(lab) = enter(Some(&document("active"))) else { return };
    until_done(&lab, 1);
    lab.set_desired_state(&serde_json::from_str(&document("inactive")).unwrap());
    assert_eq!(stand(&lab), stands("bus", "overridden", 2));
    assert!(get(&lab, "StateFileMessage").as_str().unwrap().contains("AdoptStateFile"));

    // Written anew with what it held: still overridden, and so it is after a restart and a reload.
    replace(&document("active"));
    lab.run(&["systemctl", "reload", "op-dbus.service"]);
    assert_eq!(stand(&lab), stands("bus", "overridden", 2));
    restart(&lab);
    lab.until(STATE, FACE, "StateFileStatus", |status| status == "overridden");
    assert_eq!(stand(&lab), stands("bus", "overridden", 2));
    assert_eq!(lab.show(UNIT, "ActiveState"), "inactive");

    let conflict = lab.refused(STATE, &format!("{FACE}.AdoptStateFile"), &["{'expected-generation': <uint64 1>}"]);
    assert_eq!(conflict.0, "org.opdbus.Error.Conflict");
    let reply = lab.call(STATE, FACE, "AdoptStateFile", &["a{sv}", "1", "expected-generation", "t", "2"]);
    assert_eq!(reply[0], 3, "numbers only rise");
    assert_eq!(lab.wait(reply[1].as_str().unwrap()), "done");
    assert_eq!(stand(&lab), stands("file", "current", 3));
    assert_eq!(lab.show(UNIT, "ActiveState"), "active");

    // Adopted once more: the same generation, reconciled.
    let reply = lab.call(STATE, FACE, "AdoptStateFile", &["a{sv}", "0"]);
    assert_eq!(reply[0], 3);
    assert_eq!(lab.wait(reply[1].as_str().unwrap()), "unchanged");

    // Overridden again, and the file's next content counts.
    lab.set_desired_state(&serde_json::from_str(&document("inactive")).unwrap());
    assert_eq!(stand(&lab), stands("bus", "overridden", 4));
    let other = json!({ "systemd": { "units": { UNIT: { "active_state": "active", "enabled": true } } } });
    replace(&other.to_string());
    until_done(&lab, 5);
    assert_eq!(stand(&lab), stands("file", "current", 5));
    assert_eq!(lab.run(&["systemctl", "is-enabled", UNIT]), "enabled");

    fs::remove_file(STATE_FILE).unwrap();
    lab.until(STATE, FACE, "StateFileStatus", |status| status == "missing");
    let missing = lab.refused(STATE, &format!("{FACE}.AdoptStateFile"), &["{}"]);
    assert_eq!(missing.0, "org.opdbus.Error.NotFound");
}

#[test]
fn a_call_that_means_what_the_file_says_leaves_it_current() {
    let Some(lab) = enter(Some(&document("active"))) else { return };
    until_done(&lab, 1);
    let (_, result) = lab.set_desired_state(&serde_json::from_str(&document("active")).unwrap());
    assert_eq!(result, "unchanged");
    assert_eq!(stand(&lab), stands("file", "current", 1));
}

#[test]
fn what_changed_while_op_dbus_was_away_is_taken_up_at_its_start() {
    let Some(lab) = enter(Some(&document("active"))) else { return };
    until_done(&lab, 1);
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    replace(&document("inactive"));
    lab.run(&["systemctl", "start", "op-dbus.service"]);
    until_done(&lab, 2);
    assert_eq!(stand(&lab), stands("file", "current", 2));
    assert_eq!(lab.show(UNIT, "ActiveState"), "inactive");
    let documents =
        ["1", "2"].map(|number| lab.call(STATE, FACE, "GetDesiredState", &["ta{sv}", number, "0"])[0].clone());
    assert_eq!(documents, [json!(document("active")), json!(document("inactive"))], "generations outlive a restart");
}

#[test]
fn sighup_looks_at_what_no_event_tells() {
    let Some(lab) = enter(Some(&document("active"))) else { return };
    until_done(&lab, 1);
    // Somebody writes in place and does not close: only a person knows that this is all.
    let mut file = fs::File::create(STATE_FILE).unwrap();
    file.write_all(document("inactive").as_bytes()).unwrap();
    lab.run(&["systemctl", "reload", "op-dbus.service"]);
    until_done(&lab, 2);
    assert_eq!(stand(&lab), stands("file", "current", 2));
    drop(file);

    // A configuration that cannot be read leaves op-dbus as it is.
    let config = fs::read_to_string("/etc/op-dbus/op-dbus.toml").unwrap();
    fs::write("/etc/op-dbus/op-dbus.toml", "nonsense = true\n").unwrap();
    lab.run(&["systemctl", "reload", "op-dbus.service"]);
    assert_eq!(lab.show("op-dbus.service", "ActiveState"), "active");
    assert_eq!(stand(&lab), stands("file", "current", 2));
    assert!(lab.journal().contains("the configuration cannot be read again"), "{}", lab.journal());
    fs::write("/etc/op-dbus/op-dbus.toml", config).unwrap();
}

#[test]
fn at_its_own_start_it_reconciles_on_a_new_boot_and_otherwise_follows_the_drift_policy() {
    let Some(lab) = enter(None) else { return };
    let send = |drift: &str| {
        let text = json!({ "drift": drift, "systemd": { "units": { UNIT: { "active_state": "active" } } } });
        let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &text.to_string()]);
        lab.wait(reply[1].as_str().unwrap());
    };
    let start_with_drift = || {
        lab.run(&["systemctl", "stop", "op-dbus.service"]);
        lab.run(&["systemctl", "stop", UNIT]);
        lab.run(&["systemctl", "start", "op-dbus.service"]);
    };
    let unit = path("unit", UNIT);

    send("report");
    let mut signals = lab.signals();
    start_with_drift();
    lab.until(&unit, "org.opdbus.Resource", "Status", |status| status == "drifted");
    assert_eq!(get(&lab, "CurrentJob"), "/");
    assert_eq!(get(&lab, "JobsTotal"), 0);
    assert_eq!(lab.show(UNIT, "ActiveState"), "inactive");
    let told = signals.seen().iter().filter(|signal| signal.member == "DriftDetected").count();
    assert_eq!(told, 1, "it was so, and is not any more");

    // The same under the policy that puts it back.
    send("enforce");
    start_with_drift();
    lab.until_shown(UNIT, "ActiveState", |state| state == "active");
    let job = lab.until(STATE, FACE, "LastJob", |job| job != "/");
    assert_eq!(lab.get(job.as_str().unwrap(), "org.opdbus.Job", "Kind"), "drift");

    // Another boot, as far as op-dbus can tell: now the document holds whatever the policy.
    send("report");
    fs::write("/run/lab-boot-id", "01234567-89ab-cdef-0123-456789abcdef\n").unwrap();
    lab.add_to_service("boot", "[Service]\nBindReadOnlyPaths=/run/lab-boot-id:/proc/sys/kernel/random/boot_id\n");
    start_with_drift();
    lab.until_shown(UNIT, "ActiveState", |state| state == "active");
    let job = lab.until(STATE, FACE, "LastJob", |job| job != "/");
    assert_eq!(lab.get(job.as_str().unwrap(), "org.opdbus.Job", "Kind"), "reconcile");

    // ... and once only.
    start_with_drift();
    lab.until(&unit, "org.opdbus.Resource", "Status", |status| status == "drifted");
    assert_eq!(get(&lab, "JobsTotal"), 0);
}
