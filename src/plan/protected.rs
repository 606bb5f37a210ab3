//! Units that op-dbus never touches unless the document says `allow_protected`.

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
