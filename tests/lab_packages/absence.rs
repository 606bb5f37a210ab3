//! Machines where packages cannot be had: PackageKit is masked or missing, or there is no package database.

use std::fs;

use op_dbus_testkit::{STATE, path};
use serde_json::json;

use crate::fixture::{ACTIVATION, FACE, PLUGIN, PLUGIN_PATH, RESOURCE, enter, stands, stop_packagekitd, version};

#[test]
fn a_masked_or_missing_packagekit_keeps_nobody_else_from_working() {
    let Some(lab) = enter() else { return };
    lab.run(&["systemctl", "mask", "--now", "packagekit.service"]);
    let document = json!({
        "packagekit": { "packages": { "lab-hello": { "ensure": "installed" } } },
        "ovsdb": { "bridges": { "ovsbr0": { "ports": { "labp1": { "type": "internal" } } } } },
    });
    assert_eq!(lab.set_desired_state(&document).1, "partial");
    assert_eq!(lab.ovs(&["port-to-br", "labp1"]), "ovsbr0");
    lab.until(PLUGIN_PATH, PLUGIN, "Status", |status| *status == "unavailable");
    let message = lab.get(PLUGIN_PATH, PLUGIN, "Message");
    assert!(message.as_str().unwrap().contains("mask"), "{message}");
    lab.until(&path("package", "lab-hello"), RESOURCE, "Status", |status| *status == "unknown");
    assert_eq!(stands(&lab, &path("package", "lab-hello")).1, "BackendAway");
    // Back again, what was left is taken up.
    lab.run(&["systemctl", "unmask", "packagekit.service"]);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert_eq!(version(&lab, "lab-hello"), "1.0");

    // Not there at all. It still asks what there is to update.
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    stop_packagekitd(&lab);
    fs::rename(ACTIVATION, "/srv/away.service").unwrap();
    lab.run(&["systemctl", "reload", "dbus.service"]);
    lab.run(&["systemctl", "start", "op-dbus.service"]);
    lab.until(PLUGIN_PATH, PLUGIN, "Message", |message| message.as_str().unwrap().contains("not installed"));
    // A job of the start may still have both in hand.
    lab.until(&path("package", "lab-hello"), RESOURCE, "Status", |status| *status == "unknown");
    assert_eq!(stands(&lab, &path("package", "lab-hello")).1, "BackendAway");
    lab.until(&path("port", "labp1"), RESOURCE, "Status", |status| *status == "in-sync");
    fs::rename("/srv/away.service", ACTIVATION).unwrap();
    lab.run(&["systemctl", "reload", "dbus.service"]);
    lab.until(PLUGIN_PATH, PLUGIN, "Status", |status| *status == "connected");
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
}

/// As where the system is an image, or NixOS.
#[test]
fn without_a_package_database_nobody_else_is_kept_from_working() {
    let Some(lab) = enter() else { return };
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    lab.run(&["mount", "-t", "tmpfs", "empty", "/var/lib/dpkg"]);
    lab.run(&["systemctl", "start", "op-dbus.service"]);
    let document = json!({
        "packagekit": { "packages": { "lab-hello": { "ensure": "installed" } } },
        "ovsdb": { "bridges": { "ovsbr0": { "ports": { "labp2": { "type": "internal" } } } } },
    });
    assert_eq!(lab.set_desired_state(&document).1, "partial");
    assert_eq!(lab.ovs(&["port-to-br", "labp2"]), "ovsbr0");
    lab.until(PLUGIN_PATH, PLUGIN, "Status", |status| *status == "unavailable");
    let message = lab.get(PLUGIN_PATH, PLUGIN, "Message");
    assert!(message.as_str().unwrap().contains("no package database"), "{message}");
    assert_eq!(stands(&lab, &path("package", "lab-hello")), ("unknown".to_owned(), "BackendAway".to_owned()));
    assert_eq!(stands(&lab, &path("port", "labp2")).0, "in-sync");
}
