//! The systemd unit of a process, from its control group.

/// The system's unit that the process belongs to: never touched on its behalf.
pub(crate) fn system_unit(pid: u32) -> Option<String> {
    first_unit(&control_group(pid)?).map(str::to_owned)
}

/// The unit of the user's own manager that the process belongs to.
pub(crate) fn user_unit(pid: u32) -> Option<String> {
    let path = control_group(pid)?;
    first_unit(below_user_manager(&path)?).map(str::to_owned)
}

/// Path of the process in the unified hierarchy, cgroups(7).
fn control_group(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The first part of the path that is a unit and not a slice.
fn first_unit(path: &str) -> Option<&str> {
    let part = path.split('/').find(|part| !part.is_empty() && !is_slice(part))?;
    let (name, kind) = part.rsplit_once('.')?;
    (!name.is_empty() && matches!(kind, "service" | "scope" | "socket" | "mount" | "swap")).then_some(part)
}

/// The part of the path below the user's manager, `user@UID.service`.
fn below_user_manager(path: &str) -> Option<&str> {
    let (_, below) = path.split_once("/user@")?;
    below.split_once('/').map(|(_, below)| below)
}

fn is_slice(part: &str) -> bool {
    part.rsplit_once('.').is_some_and(|(_, kind)| kind == "slice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_unit_of_the_system() {
        for (path, unit) in [
            ("/system.slice/cron.service", Some("cron.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/system.slice/docker-1.scope/inner", Some("docker-1.scope")),
            ("/user.slice/user-1000.slice/session-2.scope", Some("session-2.scope")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/a.service", Some("user@1000.service")),
            ("/init.scope", Some("init.scope")),
            ("/", None),
            ("/../..", None),
            ("/lxc/100", None),
        ] {
            assert_eq!(first_unit(path), unit, "{path}");
        }
    }

    #[test]
    fn finds_the_unit_of_the_user() {
        let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.slice/a.service";
        assert_eq!(below_user_manager(path).and_then(first_unit), Some("a.service"));
        assert_eq!(below_user_manager("/system.slice/cron.service"), None);
    }
}
