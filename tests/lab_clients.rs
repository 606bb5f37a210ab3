//! The tree as the usual D-Bus libraries read it: GDBus with its object manager, dasbus with its introspection, and
//! sd-bus by way of busctl.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;

use op_dbus_testkit::{Lab, NAME, STATE};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");

/// Runs one of `tests/clients/`, which says "ok" if all was as it expects.
fn client(lab: &Lab, file: &str) {
    lab.install(BINARY, None);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(file);
    assert_eq!(lab.run(&["python3", "-B", &script.to_string_lossy()]), "ok");
}

#[test]
fn gdbus_keeps_the_tree_by_itself() {
    let Some(lab) = Lab::enter() else { return };
    client(&lab, "gdbus_client.py");
}

#[test]
fn dasbus_makes_proxies_from_the_introspection() {
    let Some(lab) = Lab::enter() else { return };
    client(&lab, "dasbus_client.py");
}

#[test]
fn busctl_reads_all_of_it() {
    let Some(lab) = Lab::enter() else { return };
    lab.install(BINARY, None);

    let tree = lab.run(&["busctl", "--list", "tree", NAME]);
    let paths: Vec<_> = tree.lines().collect();
    for path in
        ["/org/opdbus", STATE, "/org/opdbus/bridge/ovsbr0", "/org/opdbus/port/ovsbr0", "/org/opdbus/plugin/ovsdb"]
    {
        assert!(paths.contains(&path), "{path} in\n{tree}");
        let introspected = lab.run(&["busctl", "introspect", NAME, path]);
        assert!(introspected.contains("org.freedesktop.DBus.Introspectable"), "{introspected}");
        assert!(!introspected.contains("n/a"), "no member without a type: {introspected}");
    }
    let introspected = lab.run(&["busctl", "introspect", NAME, STATE, "org.opdbus.State"]);
    assert!(introspected.contains(".SetDesiredState"), "{introspected}");
    assert!(introspected.contains("emits-change"), "{introspected}");

    assert_eq!(
        lab.run(&[
            "busctl",
            "get-property",
            NAME,
            "/org/opdbus/bridge/ovsbr0",
            "org.opdbus.Bridge",
            "Name",
            "DatapathType"
        ]),
        "s \"ovsbr0\"\ns \"netdev\""
    );
    let refused = lab.outcome(&["busctl", "set-property", NAME, STATE, "org.opdbus.State", "InSync", "b", "true"]);
    assert!(!refused.success && refused.stderr.contains("InSync"), "a message that stands alone: {}", refused.stderr);
}
