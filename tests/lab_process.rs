//! The process under its service manager: ready, reload, watchdog, SIGKILL in the middle of a job, orderly end; in the
//! sandbox of the installed unit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{collections::BTreeSet, fs};

use op_dbus_testkit::{Lab, NAME, STATE};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const STATE_FILE: &str = "/etc/op-dbus/state.json";
const CONFIG: &str = "/etc/op-dbus/op-dbus.toml";

/// Two units that start at once and one that takes its time, so that a job can be met in its middle.
const UNITS: [(&str, &str); 3] = [
    ("lab-a.service", "[Service]\nExecStart=sleep infinity\n"),
    ("lab-b.service", "[Service]\nExecStart=sleep infinity\n"),
    ("lab-slow.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=sh -c 'read line </run/lab-slow'\n"),
];

/// A fresh op-dbus that knows nothing yet.
fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    lab.outcome(&["systemctl", "stop", "op-dbus.service"]);
    for path in [STATE_FILE, CONFIG] {
        drop(fs::remove_file(path));
    }
    drop(fs::remove_dir_all("/var/lib/op-dbus"));
    for (name, text) in UNITS {
        lab.outcome(&["systemctl", "stop", "--no-block", name]);
        fs::write(format!("/etc/systemd/system/{name}"), text).unwrap();
    }
    lab.outcome(&["systemctl", "kill", "--signal=KILL", "lab-slow.service"]);
    lab.outcome(&["systemctl", "reset-failed"]);
    lab.install(BINARY, None);
    Some(lab)
}

/// A property of op-dbus's unit.
fn show(lab: &Lab, property: &str) -> String {
    lab.run(&["systemctl", "show", "--value", "--property", property, "op-dbus.service"])
}

/// Waits for a line in op-dbus's journal.
fn told(lab: &Lab, pattern: &str) -> String {
    let script = r#"read -r line < <(exec journalctl --unit=op-dbus --follow --lines=all --output=cat --grep="$1"); echo "$line""#;
    lab.run(&["timeout", "100", "bash", "-c", script, "bash", pattern])
}

fn active(units: &[&str]) -> Value {
    let units: serde_json::Map<_, _> =
        units.iter().map(|unit| ((*unit).to_owned(), json!({ "active_state": "active" }))).collect();
    json!({ "systemd": { "units": units } })
}

#[test]
fn it_runs_in_its_sandbox_and_the_tree_is_filled_when_it_is_ready() {
    let Some(lab) = enter() else { return };
    // `systemctl start` has returned: the name is there, and so is what is behind it.
    for plugin in ["systemd", "ovsdb", "lxc"] {
        assert_eq!(lab.get(&format!("/org/opdbus/plugin/{plugin}"), "org.opdbus.Plugin", "Status"), "connected");
    }
    assert_eq!(lab.get("/org/opdbus/bridge/ovsbr0", "org.opdbus.Bridge", "Name"), "ovsbr0");
    assert_eq!(show(&lab, "CapabilityBoundingSet"), "cap_dac_override");
    let pid = show(&lab, "MainPID");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for limit in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000002"] {
        assert!(status.lines().any(|line| line == limit), "{limit} in {status}");
    }
    assert_eq!(lab.run(&["stat", "--format=%a %U", "/var/lib/op-dbus"]), "700 root");
    // One that is there is not replaced.
    let second = lab.outcome(&["/usr/bin/op-dbus", "--state-dir", "/run/second"]);
    assert!(!second.success && second.stderr.contains(NAME), "{}", second.stderr);
    assert_eq!(show(&lab, "MainPID"), pid);
}

#[test]
fn a_reload_reads_the_configuration_and_keeps_the_process() {
    let Some(lab) = enter() else { return };
    let pid = show(&lab, "MainPID");
    fs::write(CONFIG, "[nonsense]\n").unwrap();
    lab.run(&["systemctl", "reload", "op-dbus.service"]);
    let line = told(&lab, "the configuration cannot be read again");
    assert!(line.contains("nonsense"), "{line}");
    fs::write(CONFIG, "[limits]\njobs = 3\n").unwrap();
    lab.run(&["systemctl", "reload", "op-dbus.service"]);
    told(&lab, "counts from the next start on");
    assert_eq!(show(&lab, "MainPID"), pid);
    assert_eq!(show(&lab, "NRestarts"), "0");
    assert_eq!(lab.get(STATE, "org.opdbus.State", "InSync"), true);
}

#[test]
fn killed_in_the_middle_of_a_job_it_comes_back_and_converges() {
    let Some(lab) = enter() else { return };
    drop(fs::remove_file("/run/lab-slow"));
    lab.run(&["mkfifo", "/run/lab-slow"]);
    let document = active(&["lab-a.service", "lab-b.service", "lab-slow.service"]);
    lab.call(STATE, "org.opdbus.State", "SetDesiredState", &["s", &document.to_string()]);
    let slow = "/org/opdbus/unit/lab_2dslow_2eservice";
    lab.until(slow, "org.opdbus.Unit", "ActiveState", |state| state == "activating");
    lab.run(&["systemctl", "kill", "--signal=KILL", "op-dbus.service"]);

    // Restarted by systemd; the generation is on disk and is taken up where it was left.
    lab.until(STATE, "org.opdbus.State", "Generation", |generation| *generation == 1);
    fs::write("/run/lab-slow", "go on\n").unwrap();
    lab.until(STATE, "org.opdbus.State", "InSync", |in_sync| *in_sync == true);
    for (unit, _) in UNITS {
        assert_eq!(lab.run(&["systemctl", "is-active", unit]), "active");
    }
    assert_eq!(show(&lab, "NRestarts"), "1");
    let kept = lab.call(STATE, "org.opdbus.State", "GetDesiredState", &["ta{sv}", "1", "0"]);
    assert_eq!(serde_json::from_str::<Value>(kept[0].as_str().unwrap()).unwrap(), document);
}

#[test]
fn one_that_hangs_is_restarted_by_the_watchdog() {
    let Some(lab) = enter() else { return };
    fs::create_dir_all("/run/systemd/system/op-dbus.service.d").unwrap();
    fs::write("/run/systemd/system/op-dbus.service.d/lab.conf", "[Service]\nWatchdogSec=1s\n").unwrap();
    lab.run(&["systemctl", "daemon-reload"]);
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
    let pid = show(&lab, "MainPID");
    lab.run(&["systemctl", "kill", "--signal=STOP", "op-dbus.service"]);
    told(&lab, "Watchdog timeout");
    lab.until(STATE, "org.opdbus.State", "Generation", |generation| *generation == 0);
    assert_ne!(show(&lab, "MainPID"), pid);
    fs::remove_dir_all("/run/systemd/system/op-dbus.service.d").unwrap();
    lab.run(&["systemctl", "daemon-reload"]);
}

#[test]
fn it_ends_in_order_and_what_has_begun_is_finished() {
    let Some(lab) = enter() else { return };
    lab.set_desired_state(&active(&["lab-a.service"]));
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    assert_eq!(show(&lab, "Result"), "success");
    assert_eq!(show(&lab, "ExecMainStatus"), "0");
    assert!(!lab.outcome(&["busctl", "status", NAME]).success, "the name is released");
    assert_eq!(lab.run(&["systemctl", "is-active", "lab-a.service"]), "active", "what it started stays");
    // Started again it does not do again what is done, and a look does not start it.
    lab.run(&["systemctl", "start", "op-dbus.service"]);
    assert_eq!(lab.get(STATE, "org.opdbus.State", "Generation"), 1);
    lab.until(STATE, "org.opdbus.State", "InSync", |in_sync| *in_sync == true);
}

#[test]
fn the_state_file_is_followed_while_it_runs() {
    let Some(lab) = enter() else { return };
    assert_eq!(lab.get(STATE, "org.opdbus.State", "StateFileStatus"), "missing");

    // As NixOS has it: a link into a folder that is swapped whole.
    for (folder, unit) in [("1", "lab-a.service"), ("2", "lab-b.service")] {
        fs::create_dir_all(format!("/etc/lab-static-{folder}")).unwrap();
        fs::write(format!("/etc/lab-static-{folder}/state.json"), active(&[unit]).to_string()).unwrap();
    }
    let point_to = |folder: &str| {
        let target = format!("lab-static-{folder}");
        lab.run(&["ln", "--symbolic", "--force", "--no-dereference", &target, "/etc/lab-static.new"]);
        lab.run(&["mv", "--no-target-directory", "/etc/lab-static.new", "/etc/lab-static"]);
    };
    point_to("1");
    lab.run(&["ln", "--symbolic", "/etc/lab-static/state.json", STATE_FILE]);
    lab.until("/org/opdbus/unit/lab_2da_2eservice", "org.opdbus.Resource", "Status", |status| status == "in-sync");
    point_to("2");
    lab.until("/org/opdbus/unit/lab_2db_2eservice", "org.opdbus.Resource", "Status", |status| status == "in-sync");
    assert_eq!(lab.get(STATE, "org.opdbus.State", "Generation"), 2);

    // A bad one is refused with its reason, and the last good generation stands.
    fs::write("/etc/lab-static-1/state.json", r#"{"systemd":{"unitz":{}}}"#).unwrap();
    point_to("1");
    lab.until(STATE, "org.opdbus.State", "StateFileStatus", |status| status == "refused");
    let message = lab.get(STATE, "org.opdbus.State", "StateFileMessage");
    assert!(message.as_str().unwrap().contains("/systemd/unitz"), "{message}");
    assert_eq!(lab.get(STATE, "org.opdbus.State", "Generation"), 2);

    // A call overrides the file until it is adopted.
    point_to("2");
    lab.until(STATE, "org.opdbus.State", "StateFileStatus", |status| status == "current");
    lab.set_desired_state(&active(&["lab-a.service"]));
    assert_eq!(lab.get(STATE, "org.opdbus.State", "StateFileStatus"), "overridden");
    assert_eq!(lab.get(STATE, "org.opdbus.State", "StateSource"), "bus");
    let reply = lab.call(STATE, "org.opdbus.State", "AdoptStateFile", &["a{sv}", "0"]);
    lab.wait(reply[1].as_str().unwrap());
    assert_eq!(lab.get(STATE, "org.opdbus.State", "StateFileStatus"), "current");
    assert_eq!(lab.get(STATE, "org.opdbus.State", "StateSource"), "file");
}

#[test]
fn the_command_line_checks_and_describes_documents() {
    let Some(lab) = enter() else { return };
    fs::write("/run/good.json", active(&["lab-a.service"]).to_string()).unwrap();
    lab.run(&["op-dbus", "check", "/run/good.json"]);
    fs::write("/run/bad.json", r#"{"systemd":{"units":{"a.service":{"enabeld":true,"active_state":3}}}}"#).unwrap();
    let refused = lab.outcome(&["op-dbus", "check", "/run/bad.json"]);
    assert!(!refused.success);
    let said = refused.stdout + &refused.stderr;
    let pointers: BTreeSet<_> =
        ["enabeld", "active_state"].map(|field| format!("/systemd/units/a.service/{field}")).into();
    assert!(pointers.iter().all(|pointer| said.contains(pointer)), "{said}");
    let schema: Value = serde_json::from_str(&lab.run(&["op-dbus", "schema"])).unwrap();
    assert!(schema["properties"]["systemd"].is_object(), "{schema}");
    // Somebody may check a document of hers.
    lab.run(&["runuser", "-u", "alice", "--", "op-dbus", "check", "/run/good.json"]);
}
