//! The process under its service manager: ready only with a filled tree, in the sandbox of the installed unit; the
//! watchdog; SIGKILL in the middle of a job; and the verbs that need no daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{fs, path::Path};

use op_dbus_testkit::{Lab, NAME, STATE, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const SERVICE: &str = "op-dbus.service";
const FACE: &str = "org.opdbus.State";
/// What the last of [`UNITS`] waits for, so that a job can be met in its middle.
const GATE: &str = "/run/lab-gate";
const UNITS: [(&str, &str); 2] = [
    ("lab-idle.service", "[Service]\nExecStart=sleep infinity\n"),
    (
        "lab-gated.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=sh -c 'mkfifo /run/lab-gate; read line </run/lab-gate'\n",
    ),
];

fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    lab.remove_units(&UNITS.map(|(name, _)| name));
    drop(fs::remove_file(GATE));
    lab.units(&UNITS);
    lab.install_afresh(BINARY, None);
    Some(lab)
}

#[test]
fn it_runs_in_its_sandbox_and_the_tree_is_filled_when_it_is_ready() {
    let Some(lab) = enter() else { return };
    // `systemctl start` has returned: the name is there, and so is what is behind it.
    for plugin in ["systemd", "ovsdb", "lxc"] {
        assert_eq!(lab.get(&path("plugin", plugin), "org.opdbus.Plugin", "Status"), "connected");
    }
    assert_eq!(lab.get(&path("bridge", "ovsbr0"), "org.opdbus.Bridge", "Name"), "ovsbr0");

    let pid = lab.show(SERVICE, "MainPID");
    let status = fs::read_to_string(Path::new("/proc").join(&pid).join("status")).unwrap();
    // CAP_DAC_OVERRIDE is bit 1, CAP_NET_ADMIN bit 12.
    for limit in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000001002", "CapBnd:\t0000000000001002"] {
        assert!(status.lines().any(|line| line == limit), "{limit} in {status}");
    }
    assert_eq!(lab.run(&["stat", "--format=%a %U", "/var/lib/op-dbus"]), "700 root");

    // One that is there is not replaced.
    let second = lab.outcome(&["op-dbus", "--state-dir", "/run/lab-second"]);
    assert!(!second.success && second.stderr.contains(NAME), "{}", second.stderr);
    assert_eq!(lab.show(SERVICE, "MainPID"), pid);
}

#[test]
fn killed_in_the_middle_of_a_job_it_comes_back_and_converges() {
    let Some(lab) = enter() else { return };
    let units: serde_json::Map<_, _> =
        UNITS.iter().map(|(name, _)| ((*name).to_owned(), json!({ "active_state": "active" }))).collect();
    let document = json!({ "systemd": { "units": units } });
    lab.call(STATE, FACE, "SetDesiredState", &["s", &document.to_string()]);
    lab.until(&path("unit", "lab-gated.service"), "org.opdbus.Unit", "ActiveState", |state| state == "activating");
    lab.run(&["systemctl", "kill", "--signal=KILL", SERVICE]);

    // systemd starts it again; the generation is on disk, and is taken up where it was left.
    lab.until_shown(SERVICE, "NRestarts", |restarts| restarts == "1");
    lab.until(STATE, FACE, "Generation", |generation| *generation == 1);
    fs::write(GATE, "go on\n").unwrap();
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    for (unit, _) in UNITS {
        assert_eq!(lab.show(unit, "ActiveState"), "active");
    }
    let kept = lab.call(STATE, FACE, "GetDesiredState", &["ta{sv}", "1", "0"]);
    assert_eq!(serde_json::from_str::<Value>(kept[0].as_str().unwrap()).unwrap(), document);
}

#[test]
fn stopped_in_the_middle_of_a_slow_start_it_ends_in_order_and_takes_it_up_again() {
    let Some(lab) = enter() else { return };
    let document = json!({ "systemd": { "units": { "lab-gated.service": { "active_state": "active" } } } });
    lab.call(STATE, FACE, "SetDesiredState", &["s", &document.to_string()]);
    lab.until(&path("unit", "lab-gated.service"), "org.opdbus.Unit", "ActiveState", |state| state == "activating");

    // The start that nobody lets go on is systemd's by now: op-dbus ends by itself, and is not killed.
    lab.run(&["systemctl", "stop", SERVICE]);
    assert_eq!(lab.show(SERVICE, "Result"), "success");
    assert_eq!(lab.show("lab-gated.service", "ActiveState"), "activating");

    lab.run(&["systemctl", "start", SERVICE]);
    fs::write(GATE, "go on\n").unwrap();
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    lab.until(STATE, FACE, "ObservedGeneration", |generation| *generation == 1);
    assert_eq!(lab.show("lab-gated.service", "ActiveState"), "active");
}

#[test]
fn one_that_hangs_is_restarted_by_the_watchdog() {
    let Some(lab) = enter() else { return };
    assert_eq!(lab.show(SERVICE, "WatchdogUSec"), "30s", "the installed unit has one");
    lab.add_to_service("watchdog", "[Service]\nWatchdogSec=1s\n");
    lab.run(&["systemctl", "restart", SERVICE]);
    let pid = lab.show(SERVICE, "MainPID");
    lab.run(&["systemctl", "kill", "--signal=STOP", SERVICE]);
    lab.until_shown(SERVICE, "NRestarts", |restarts| restarts == "1");
    lab.until(STATE, FACE, "Generation", |generation| *generation == 0);
    assert_ne!(lab.show(SERVICE, "MainPID"), pid);
    assert!(lab.run(&["journalctl", "--unit", SERVICE, "--no-pager"]).contains("Watchdog timeout"));
}

#[test]
fn the_command_line_checks_and_describes_documents() {
    let Some(lab) = enter() else { return };
    let file = "/run/lab-document.json";
    fs::write(file, r#"{"systemd":{"units":{"a.service":{"enabled":true,"active_state":"active"}}}}"#).unwrap();
    // Somebody may check a document of hers.
    lab.run(&["runuser", "-u", "alice", "--", "op-dbus", "check", file]);
    fs::write(file, r#"{"systemd":{"units":{"a.service":{"enabeld":true,"active_state":3}}}}"#).unwrap();
    let refused = lab.outcome(&["op-dbus", "check", file]);
    let said = refused.stdout + &refused.stderr;
    assert!(!refused.success, "{said}");
    for field in ["enabeld", "active_state"] {
        assert!(said.contains(&format!("/systemd/units/a.service/{field}")), "{said}");
    }
    let schema: Value = serde_json::from_str(&lab.run(&["op-dbus", "schema"])).unwrap();
    assert!(schema["properties"]["systemd"].is_object(), "{schema}");
}
