//! Units and methods that op-dbus never touches unless the document says `allow_protected`.

use super::{Inventory, ObjectCall};
use crate::model::unescape_path_element;

/// Methods of other services that are never called, `SERVICE INTERFACE.METHOD`; a `*` at the end stands for any rest. They
/// could take the machine, its bus or whoever decides about rights away: what one typing error must not do.
pub const PROTECTED_CALLS: [&str; 22] = [
    // The bus itself, and who may do what.
    "org.freedesktop.DBus *",
    "org.freedesktop.PolicyKit1 *",
    // The end of the machine, or of PID 1.
    "org.freedesktop.systemd1 org.freedesktop.systemd1.Manager.Exit",
    "org.freedesktop.systemd1 org.freedesktop.systemd1.Manager.Halt",
    "org.freedesktop.systemd1 org.freedesktop.systemd1.Manager.KExec",
    "org.freedesktop.systemd1 org.freedesktop.systemd1.Manager.PowerOff",
    "org.freedesktop.systemd1 org.freedesktop.systemd1.Manager.Reboot",
    "org.freedesktop.systemd1 org.freedesktop.systemd1.Manager.Reexecute",
    "org.freedesktop.systemd1 org.freedesktop.systemd1.Manager.SetExitCode",
    "org.freedesktop.systemd1 org.freedesktop.systemd1.Manager.SoftReboot",
    "org.freedesktop.systemd1 org.freedesktop.systemd1.Manager.SwitchRoot",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.Halt*",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.Hibernate*",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.HybridSleep*",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.Kill*",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.PowerOff*",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.Reboot*",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.ScheduleShutdown",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.SetReboot*",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.Suspend*",
    "org.freedesktop.login1 org.freedesktop.login1.Manager.Terminate*",
    // op-dbus itself.
    "org.opdbus *",
];

/// What the names of units begin with that are never touched: the service of that name, its sockets, its instances. (Those of
/// `user@`, the managers of people's sessions, are not touched either.)
pub const PROTECTED_STEMS: [&str; 4] = ["dbus", "systemd-journald", "systemd-logind", "systemd-udevd"];

/// Units that are never touched, besides those that are known by how their names begin: what the machine stands on
/// (systemd.special(7)), and what is the end of it, or of the work on it, when it is started.
pub const PROTECTED_UNITS: [&str; 53] = [
    // All processes, all files, and op-dbus itself.
    "-.slice",
    "-.mount",
    "init.scope",
    "system.slice",
    "user.slice",
    "op-dbus.service",
    // The way up: what stops or masks one of them takes along all that stands on it, or it is missing at the next boot.
    "default.target",
    "multi-user.target",
    "graphical.target",
    "basic.target",
    "sysinit.target",
    "local-fs-pre.target",
    "local-fs.target",
    "swap.target",
    "cryptsetup.target",
    "paths.target",
    "slices.target",
    "sockets.target",
    "timers.target",
    "getty.target",
    "network-pre.target",
    "network.target",
    "network-online.target",
    "remote-fs-pre.target",
    "remote-fs.target",
    // The way down. (Those of sleep are not here: a server that shall never sleep masks them.)
    "shutdown.target",
    "umount.target",
    "final.target",
    "exit.target",
    "halt.target",
    "kexec.target",
    "poweroff.target",
    "reboot.target",
    "runlevel0.target",
    "runlevel6.target",
    "soft-reboot.target",
    "systemd-exit.service",
    "systemd-halt.service",
    "systemd-kexec.service",
    "systemd-poweroff.service",
    "systemd-reboot.service",
    "systemd-soft-reboot.service",
    // Where all else is stopped.
    "emergency.service",
    "emergency.target",
    "initrd-switch-root.service",
    "initrd-switch-root.target",
    "rescue.service",
    "rescue.target",
    "runlevel1.target",
    "factory-reset.target",
    "system-update.target",
    "system-update-pre.target",
    "system-update-cleanup.service",
];

/// systemd's service: its methods take units, which have a list of their own.
const SYSTEMD: &str = "org.freedesktop.systemd1";

/// Whether a pattern of [`PROTECTED_CALLS`]' form means that method.
#[must_use]
pub fn matches_call(pattern: &str, service: &str, interface: &str, method: &str) -> bool {
    let call = format!("{service} {interface}.{method}");
    pattern.strip_suffix('*').map_or_else(|| pattern == call, |start| call.starts_with(start))
}

/// Whether that call is never made unless the document says `allow_protected`: by the list, or because it is about a
/// unit that is never touched.
pub(super) fn is_protected_call(call: &ObjectCall, inventory: &Inventory) -> bool {
    let listed = |pattern: &String| matches_call(pattern, &call.service, &call.interface, &call.method);
    if inventory.protected_calls.iter().any(listed) {
        return true;
    }
    let is_unit = |unit: &str| is_protected(unit) || inventory.protected_units.iter().any(|own| own == unit);
    let last = call.path.rsplit('/').next().unwrap_or_default();
    let of_path = unescape_path_element(last).is_some_and(|unit| is_unit(&unit));
    call.service == SYSTEMD && (of_path || call.args.iter().filter_map(|arg| arg.as_str()).any(is_unit))
}

/// Whether stopping, starting or changing that unit could take the machine, its bus or op-dbus itself away.
#[must_use]
pub fn is_protected(unit: &str) -> bool {
    PROTECTED_UNITS.contains(&unit)
        || unit.starts_with("user@")
        || PROTECTED_STEMS
            .iter()
            .any(|stem| unit.strip_prefix(stem).is_some_and(|rest| rest.starts_with(['.', '-', '@'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_what_a_machine_stands_on() {
        for unit in [
            "dbus.service",
            "dbus-broker.service",
            "dbus.socket",
            "systemd-journald.service",
            "user@1000.service",
            "systemd-journald-dev-log.socket",
            "-.mount",
            "-.slice",
            "init.scope",
            "op-dbus.service",
            "systemd-udevd.service",
            "sysinit.target",
            "basic.target",
            "local-fs.target",
            "sockets.target",
            "multi-user.target",
            "default.target",
            "network.target",
            "poweroff.target",
            "reboot.target",
            "systemd-poweroff.service",
            "rescue.target",
            "emergency.service",
            "shutdown.target",
            "system.slice",
            "user.slice",
        ] {
            assert!(is_protected(unit), "{unit}");
        }
        for unit in [
            "nginx.service",
            "dbusy.service",
            "systemd-timesyncd.service",
            "pve-container@100.service",
            "machines.target",
            "lab.target",
            "suspend.target",
            "ctrl-alt-del.target",
            "nfs-client.target",
            "app.slice",
        ] {
            assert!(!is_protected(unit), "{unit}");
        }
    }
}
