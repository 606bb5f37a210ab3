//! `op-dbus --session`: somebody who is not root, her own bus, her own units, her own folders, and no right asked of polkit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use op_dbus_testkit::{Lab, NAME, Outcome, STATE};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");

const UNIT: &str = "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=default.target\n";

/// Runs a command as alice, as from a login of hers.
fn outcome(lab: &Lab, command: &[&str]) -> Outcome {
    let login = ["runuser", "-u", "alice", "--", "env", "HOME=/home/alice", "XDG_RUNTIME_DIR=/run/user/1000"];
    lab.outcome(&[&login[..], command].concat())
}

fn alice(lab: &Lab, command: &[&str]) -> String {
    let outcome = outcome(lab, command);
    assert!(outcome.success, "{command:?}: {}\n{}", outcome.stderr, outcome.stdout);
    outcome.stdout
}

fn call(lab: &Lab, path: &str, interface: &str, member: &str, arguments: &[&str]) -> Value {
    let call = ["busctl", "--user", "--json=short", "--timeout=90", "call", NAME, path, interface, member];
    let reply: Value = serde_json::from_str(&alice(lab, &[&call[..], arguments].concat())).unwrap();
    reply["data"].clone()
}

#[test]
fn her_own_units_on_her_own_bus() {
    let Some(lab) = Lab::enter() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/install");
    lab.run(&[script, BINARY]);
    alice(&lab, &["mkdir", "-p", "/home/alice/.config/systemd/user"]);
    std::fs::write("/home/alice/.config/systemd/user/lab-idle.service", UNIT).unwrap();
    lab.run(&["loginctl", "enable-linger", "alice"]);
    lab.run(&["systemctl", "start", "user@1000.service"]);
    alice(&lab, &["systemd-run", "--user", "--unit=op-dbus", "--service-type=notify", "/usr/bin/op-dbus", "--session"]);

    let document =
        json!({ "systemd": { "units": { "lab-idle.service": { "enabled": true, "active_state": "active" } } } });
    let reply = call(&lab, STATE, "org.opdbus.State", "SetDesiredState", &["s", &document.to_string()]);
    let result = call(&lab, reply[1].as_str().unwrap(), "org.opdbus.Job", "Wait", &[]);
    assert_eq!(result[0], "done");
    assert_eq!(alice(&lab, &["systemctl", "--user", "is-active", "lab-idle.service"]), "active");
    assert_eq!(alice(&lab, &["systemctl", "--user", "is-enabled", "lab-idle.service"]), "enabled");
    let unit = "/org/opdbus/unit/lab_2didle_2eservice";
    assert_eq!(
        alice(&lab, &["busctl", "--user", "get-property", NAME, unit, "org.opdbus.Resource", "Status"]),
        "s \"in-sync\""
    );

    // Her documents lie in her own folder, and she reads what is guarded elsewhere.
    assert!(!alice(&lab, &["find", "/home/alice/.local/state/op-dbus", "-type", "f"]).is_empty());
    let stored = call(&lab, STATE, "org.opdbus.State", "GetDesiredState", &["ta{sv}", "0", "0"]);
    assert_eq!(serde_json::from_str::<Value>(stored[0].as_str().unwrap()).unwrap(), document);

    // A service of her own bus: her systemd, by a preset.
    let with = json!({ "unit": "lab-idle.service", "property": "Description", "value": "hers",
                       "interface": "org.freedesktop.systemd1.Unit" });
    let object = json!({ "dbus": { "objects": { "idle": { "preset": "unit-property", "with": with } } } });
    let reply = call(&lab, STATE, "org.opdbus.State", "SetDesiredState", &["s", &object.to_string()]);
    let result = call(&lab, reply[1].as_str().unwrap(), "org.opdbus.Job", "Wait", &[]);
    assert_eq!(result[0], "done");
    assert_eq!(
        alice(&lab, &["systemctl", "--user", "show", "--value", "--property=Description", "lab-idle.service"]),
        "hers"
    );

    // Open vSwitch and the containers are the host's, not hers.
    for plugin in ["ovsdb", "lxc"] {
        let path = format!("/org/opdbus/plugin/{plugin}");
        assert_eq!(
            alice(&lab, &["busctl", "--user", "get-property", NAME, &path, "org.opdbus.Plugin", "Status"]),
            "s \"disabled\""
        );
    }
    // Nothing of it is on the system bus.
    assert!(!lab.outcome(&["busctl", "status", NAME]).success);
}
