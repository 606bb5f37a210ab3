//! x
#[test]
fn t() {
    let Some(lab) = op_dbus_testkit::Lab::enter() else { return };
    lab.run(&["systemctl", "is-system-running"]);
}
