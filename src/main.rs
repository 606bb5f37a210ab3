//! The `op-dbus` daemon.
fn main() {}
