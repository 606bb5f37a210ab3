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
    const WHOLE: [&str; 4] = ["init.scope", "-.slice", "-.mount", "op-dbus.service"];
    const STEMS: [&str; 4] = ["dbus", "systemd-journald", "systemd-logind", "systemd-udevd"];
    WHOLE.contains(&unit)
        || unit.starts_with("user@")
        || STEMS.iter().any(|stem| unit.strip_prefix(stem).is_some_and(|rest| rest.starts_with(['.', '-', '@'])))
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
        ] {
            assert!(is_protected(unit), "{unit}");
        }
        for unit in ["nginx.service", "dbusy.service", "systemd-timesyncd.service", "pve-container@100.service"] {
            assert!(!is_protected(unit), "{unit}");
        }
    }
}
