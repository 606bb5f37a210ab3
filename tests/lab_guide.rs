//! The founding guide, held to its word: its documents converge on real containers, from the state file as NixOS writes it
//! and by a call, and each of its busctl lines about op-dbus or the containers' units prints what the guide says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use op_dbus_testkit::{Lab, STATE};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// The guide's `services.op-dbus.stateConfig`, as NixOS turns it into JSON.
const GUIDE: &str = r#"{"lxc":{"containers":[{"bridge":"ovsbr0","id":"100","running":true,"veth":"veth100"}]},"systemd":{"units":{"pve-container@100.service":{"active_state":"active","enabled":true},"pve-container@101.service":{"active_state":"active","enabled":true}}}}"#;

/// The guide's document with container 102, which its example output shows, and with every container's port.
fn extended() -> Value {
    let mut document: Value = serde_json::from_str(GUIDE).unwrap();
    document["systemd"]["units"]["pve-container@102.service"] = json!({ "enabled": true, "active_state": "active" });
    document["lxc"]["containers"] = ["100", "101", "102"]
        .map(|id| json!({ "id": id, "veth": format!("veth{id}"), "bridge": "ovsbr0", "running": true }))
        .into();
    document
}

/// The guide's line that asks systemd for a container's state.
fn active_state(lab: &Lab, id: &str) -> String {
    let path = format!("/org/freedesktop/systemd1/unit/pve_2dcontainer_40{id}_2eservice");
    lab.run(&[
        "busctl",
        "get-property",
        "org.freedesktop.systemd1",
        &path,
        "org.freedesktop.systemd1.Unit",
        "ActiveState",
    ])
}

/// The guide's line that calls systemd's manager.
fn manager(lab: &Lab, call: &[&str]) -> String {
    lab.run(&[&["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", MANAGER][..], call].concat())
}

fn enabled(lab: &Lab, id: &str) -> bool {
    lab.outcome(&["systemctl", "is-enabled", &format!("pve-container@{id}.service")]).stdout == "enabled"
}

/// What op-dbus told the journal.
fn journal(lab: &Lab) -> String {
    lab.run(&["journalctl", "--sync"]);
    lab.run(&["journalctl", "--unit=op-dbus", "--output=cat", "--no-pager"])
}

/// One story: what the guide does first and what it does then build on each other.
#[test]
fn the_guide_from_the_state_file_to_the_monitoring() {
    let Some(lab) = Lab::enter() else { return };

    // "NixOS writes config to /etc/op-dbus/state.json; op-dbus reads state and calls plugins."
    lab.install(BINARY, Some(GUIDE));
    lab.until(STATE, "org.opdbus.State", "InSync", |value| *value == true);
    assert_eq!(lab.get(STATE, "org.opdbus.State", "StateSource"), "file");
    assert_eq!(lab.get(STATE, "org.opdbus.State", "StateFileStatus"), "current");
    for id in ["100", "101"] {
        assert_eq!(active_state(&lab, id), r#"s "active""#);
        assert!(enabled(&lab, id), "{id} is enabled");
    }
    assert_eq!(lab.run(&["ovs-vsctl", "port-to-br", "veth100"]), "ovsbr0");
    assert_ne!(active_state(&lab, "102"), r#"s "active""#, "102 is not in the document");

    // "Check op-dbus Status"
    assert!(lab.run(&["busctl", "status", "org.opdbus"]).contains("Unit=op-dbus.service"));
    assert_eq!(
        manager(&lab, &["GetUnit", "s", "op-dbus.service"]),
        r#"o "/org/freedesktop/systemd1/unit/op_2ddbus_2eservice""#
    );
    let path = "/org/freedesktop/systemd1/unit/op_2ddbus_2eservice";
    assert_eq!(
        lab.run(&[
            "busctl",
            "get-property",
            "org.freedesktop.systemd1",
            path,
            "org.freedesktop.systemd1.Unit",
            "ActiveState"
        ]),
        r#"s "active""#
    );

    // The document is taken as it stands; asked again it gives nothing to do.
    assert_eq!(lab.call(STATE, "org.opdbus.State", "Validate", &["sa{sv}", GUIDE, "0"])[0], json!([]));
    assert_eq!(lab.call(STATE, "org.opdbus.State", "Plan", &["sa{sv}", GUIDE, "0"])[0], json!([]));

    // "pve-container@102.service loaded active running"
    let (_, result) = lab.set_desired_state(&extended());
    assert_eq!(result, "done");
    for id in ["100", "101", "102"] {
        assert_eq!(active_state(&lab, id), r#"s "active""#);
        assert!(enabled(&lab, id), "{id} is enabled");
        assert_eq!(lab.run(&["ovs-vsctl", "port-to-br", &format!("veth{id}")]), "ovsbr0");
        let unit = format!(
            "pve-container@{id}.service\" \"Proxmox VE LXC Container: {id}\" \"loaded\" \"active\" \"running\""
        );
        assert!(manager(&lab, &["ListUnits"]).contains(&unit), "{unit}");
        // "op-dbus logs show OVSDB queries"
        let line = format!("Discovered container {id} on bridge ovsbr0 via port veth{id}");
        assert!(journal(&lab).lines().any(|told| told == line), "{line} in\n{}", journal(&lab));
    }

    // The same document again is the same generation, and nothing is written.
    let generation = lab.get(STATE, "org.opdbus.State", "Generation");
    let written = lab.run(&["ovs-vsctl", "get", "Open_vSwitch", ".", "next_cfg"]);
    let (_, result) = lab.set_desired_state(&extended());
    assert_eq!(result, "unchanged");
    assert_eq!(lab.get(STATE, "org.opdbus.State", "Generation"), generation);
    assert_eq!(lab.run(&["ovs-vsctl", "get", "Open_vSwitch", ".", "next_cfg"]), written);

    // The same on op-dbus's own tree.
    let container = "/org/opdbus/container/_3101";
    assert_eq!(lab.get(container, "org.opdbus.Container", "Running"), true);
    assert_eq!(lab.get(container, "org.opdbus.Container", "Unit"), "pve-container@101.service");
    assert_eq!(lab.get(container, "org.opdbus.Container", "Bridges"), json!(["/org/opdbus/bridge/ovsbr0"]));
    assert_eq!(lab.get(container, "org.opdbus.Container", "Ports"), json!(["/org/opdbus/port/veth101"]));
    assert_eq!(lab.get("/org/opdbus/port/veth101", "org.opdbus.Port", "Container"), container);

    // "Stop container via D-Bus", "Start container via D-Bus": op-dbus sees it, and by default leaves it alone.
    let container = "/org/opdbus/container/_3100";
    manager(&lab, &["StopUnit", "ss", "pve-container@100.service", "replace"]);
    lab.until(container, "org.opdbus.Resource", "Status", |value| value == "drifted");
    assert_eq!(active_state(&lab, "100"), r#"s "inactive""#);
    manager(&lab, &["StartUnit", "ss", "pve-container@100.service", "replace"]);
    lab.until(container, "org.opdbus.Resource", "InSync", |value| *value == true);
    assert_eq!(active_state(&lab, "100"), r#"s "active""#);
}
