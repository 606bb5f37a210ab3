//! Drift on real units and real ports: told, and by policy put back or left alone; never a fight.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;

use op_dbus_testkit::{Lab, STATE, Signals, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";
const RESOURCE: &str = "org.opdbus.Resource";
/// Three units that idle, and may be started as often as anybody likes.
const UNITS: [&str; 3] = ["lab-a.service", "lab-b.service", "lab-c.service"];
/// Comes back by itself.
const PHOENIX: &str = "lab-phoenix.service";
/// Fails at once unless this file is there.
const WELL: &str = "/run/lab-well";
const SICKLY: &str = "lab-sickly.service";
/// A time that systemd lets pass before it starts a unit again.
const SETTLE_USEC: u64 = 5_000_000;

fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    lab.remove_units(&[UNITS[0], UNITS[1], UNITS[2], PHOENIX, SICKLY]);
    let often = "[Unit]\nStartLimitIntervalSec=0\n";
    let idle = format!("{often}[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n");
    let phoenix = format!("{often}[Service]\nExecStart=sleep infinity\nRestart=always\nRestartSec=500ms\n");
    let sickly = format!("{often}[Service]\nExecStart=sh -c 'test -e {WELL} && exec sleep infinity; exit 1'\n");
    lab.units(&[(UNITS[0], &idle), (UNITS[1], &idle), (UNITS[2], &idle), (PHOENIX, &phoenix), (SICKLY, &sickly)]);
    lab.install_afresh(BINARY, None);
    // What is started here runs for good, or not at all.
    lab.configure(&[("hold_down_ms", "200"), ("settle_ms", "500")]);
    Some(lab)
}

fn active(drift: Option<&str>) -> Value {
    match drift {
        Some(drift) => json!({ "active_state": "active", "drift": drift }),
        None => json!({ "active_state": "active" }),
    }
}

fn apply(lab: &Lab, document: &Value) {
    let (job, result) = lab.set_desired_state(document);
    assert!(["done", "unchanged"].contains(&result.as_str()), "{}", lab.get(&job, "org.opdbus.Job", "Message"));
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
}

fn count(lab: &Lab, property: &str) -> u64 {
    lab.get(STATE, FACE, property).as_u64().unwrap()
}

fn kill(lab: &Lab, unit: &str) {
    lab.run(&["systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit]);
}

fn until_status(lab: &Lab, resource: &str, status: &str) {
    lab.until(resource, RESOURCE, "Status", |now| now == status);
}

/// Waits for DriftDetected of that resource and returns the differences that it tells.
fn until_detected(signals: &mut Signals<'_>, resource: &str) -> Value {
    let told =
        signals.until("DriftDetected", |signal| signal.member == "DriftDetected" && signal.arguments[0] == *resource);
    told.arguments[1].clone()
}

/// Waits for the end of a job of drift about that resource, and returns its result.
fn until_corrected(lab: &Lab, signals: &mut Signals<'_>, resource: &str) -> String {
    loop {
        let told = signals.until("JobFinished", |signal| signal.member == "JobFinished");
        let job = told.arguments[1].as_str().unwrap();
        if lab.get(job, "org.opdbus.Job", "Target") == resource && lab.get(job, "org.opdbus.Job", "Kind") == "drift" {
            assert_eq!(lab.get(job, "org.opdbus.Job", "CallerUid"), u32::MAX);
            return told.arguments[2].as_str().unwrap().to_owned();
        }
    }
}

/// A time of a unit, in microseconds since boot.
fn time(lab: &Lab, unit: &str, property: &str) -> u64 {
    lab.show(unit, property).parse().unwrap()
}

#[test]
fn reported_drift_is_told_and_left_alone_and_enforced_drift_is_put_back() {
    let Some(lab) = enter() else { return };
    apply(
        &lab,
        &json!({ "systemd": { "units": {
        UNITS[0]: active(None), UNITS[1]: active(Some("enforce")), UNITS[2]: active(Some("enforce"))
    } } }),
    );
    let [reported, stopped, killed] = UNITS.map(|unit| path("unit", unit));
    assert_eq!(lab.get(&reported, RESOURCE, "DriftPolicy"), "report");
    assert_eq!(lab.get(&stopped, RESOURCE, "DriftPolicy"), "enforce");
    let mut signals = lab.signals();

    lab.run(&["systemctl", "stop", UNITS[0], UNITS[1]]);
    let differences = json!([["active_state", "active", "inactive"]]);
    for resource in [&reported, &stopped] {
        until_status(&lab, resource, "drifted");
        assert_eq!(lab.get(resource, RESOURCE, "Reason"), "Differs");
        assert_eq!(lab.get(resource, RESOURCE, "InSync"), false);
    }
    assert_eq!(count(&lab, "Drifted"), 2);
    assert_eq!(count(&lab, "DriftsTotal"), 2);

    // A crash is put back at once, and so before what somebody stopped earlier: that may be on its way up again.
    kill(&lab, UNITS[2]);
    assert_eq!(until_corrected(&lab, &mut signals, &killed), "done");
    assert_eq!(until_corrected(&lab, &mut signals, &stopped), "done");
    assert!(
        time(&lab, UNITS[2], "ActiveEnterTimestampMonotonic") < time(&lab, UNITS[1], "ActiveEnterTimestampMonotonic")
    );
    let away =
        time(&lab, UNITS[1], "ActiveEnterTimestampMonotonic") - time(&lab, UNITS[1], "InactiveEnterTimestampMonotonic");
    assert!(away >= SETTLE_USEC, "somebody's stop settles for 5 s, not {away} us");
    until_status(&lab, &stopped, "in-sync");
    until_status(&lab, &killed, "in-sync");

    assert_eq!(lab.show(UNITS[0], "ActiveState"), "inactive", "reported, and left alone");
    assert_eq!(lab.get(&reported, RESOURCE, "Status"), "drifted");
    let detected: Vec<_> = signals.seen().iter().filter(|signal| signal.member == "DriftDetected").cloned().collect();
    let of = |resource: &str| detected.iter().filter(|signal| signal.arguments[0] == *resource).collect::<Vec<_>>();
    for resource in [&reported, &stopped] {
        let [told] = of(resource)[..] else { panic!("{detected:#?}") };
        assert_eq!(told.arguments[1], differences);
    }
    let [told] = of(&killed)[..] else { panic!("{detected:#?}") };
    assert_eq!(told.arguments[1], json!([["active_state", "active", "failed"]]));

    // The next call puts it right.
    let reply = lab.call(STATE, FACE, "Reconcile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "done");
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
}

#[test]
fn a_stop_that_is_taken_back_and_a_restart_are_nobodys_drift() {
    let Some(lab) = enter() else { return };
    apply(
        &lab,
        &json!({ "drift": "enforce", "systemd": { "units": { UNITS[0]: active(None), UNITS[1]: active(None) } } }),
    );
    let [unit, marker, _] = UNITS.map(|unit| path("unit", unit));
    let jobs = count(&lab, "JobsTotal");
    let mut signals = lab.signals();

    lab.run(&["systemctl", "restart", UNITS[0]]);
    lab.run(&["systemctl", "stop", UNITS[0]]);
    until_status(&lab, &unit, "drifted");
    lab.run(&["systemctl", "start", UNITS[0]]);
    until_status(&lab, &unit, "in-sync");

    // Something else that is stopped now is put back later than the first would have been.
    lab.run(&["systemctl", "stop", UNITS[1]]);
    assert_eq!(until_corrected(&lab, &mut signals, &marker), "done");
    assert_eq!(count(&lab, "JobsTotal"), jobs + 1, "the marker's job alone");
    assert_eq!(count(&lab, "DriftsTotal"), 2, "the restart was none");
}

#[test]
fn a_unit_that_restarts_by_itself_does_not_drift() {
    let Some(lab) = enter() else { return };
    apply(&lab, &json!({ "drift": "enforce", "systemd": { "units": { PHOENIX: active(None) } } }));
    let unit = path("unit", PHOENIX);
    let jobs = count(&lab, "JobsTotal");
    let mut signals = lab.signals();
    kill(&lab, PHOENIX);
    signals.until_told(&unit, "org.opdbus.Unit", "SubState", &json!("auto-restart"));
    signals.until_told(&unit, "org.opdbus.Unit", "Restarts", &json!(1));
    lab.until(&unit, "org.opdbus.Unit", "ActiveState", |state| state == "active");
    until_status(&lab, &unit, "in-sync");
    let statuses: Vec<_> =
        signals.changes(&unit, "Resource").iter().filter_map(|(changed, _)| changed.get("Status").cloned()).collect();
    assert!(!statuses.contains(&json!("drifted")), "{statuses:?}");
    let seen = signals.seen();
    assert!(!seen.iter().any(|signal| signal.member == "DriftDetected"), "{seen:#?}");
    assert_eq!(count(&lab, "JobsTotal"), jobs);
    assert_eq!(count(&lab, "DriftsTotal"), 0);
}

#[test]
fn after_five_corrections_it_only_reports_until_it_is_asked_again() {
    let Some(lab) = enter() else { return };
    let document = json!({ "drift": "enforce", "systemd": { "units": { UNITS[0]: active(None) } } });
    apply(&lab, &document);
    let unit = path("unit", UNITS[0]);
    let mut signals = lab.signals();
    let five_times = |signals: &mut Signals<'_>| {
        for correction in 1..=5 {
            kill(&lab, UNITS[0]);
            assert_eq!(until_corrected(&lab, signals, &unit), "done", "correction {correction}");
            until_status(&lab, &unit, "in-sync");
        }
        kill(&lab, UNITS[0]);
        lab.until(&unit, RESOURCE, "Reason", |reason| reason == "TooManyCorrections");
        assert_eq!(lab.get(&unit, RESOURCE, "Status"), "drifted");
        assert_eq!(lab.get(STATE, FACE, "CurrentJob"), "/");
        assert_eq!(lab.show(UNITS[0], "ActiveState"), "failed");
    };
    five_times(&mut signals);
    let jobs = count(&lab, "JobsTotal");
    // Somebody else puts it back, and it dies again: still only reported.
    lab.run(&["systemctl", "start", UNITS[0]]);
    lab.until(&unit, RESOURCE, "InSync", |in_sync| *in_sync == true);
    kill(&lab, UNITS[0]);
    lab.until(&unit, RESOURCE, "Reason", |reason| reason == "TooManyCorrections");
    assert_eq!(count(&lab, "JobsTotal"), jobs);

    let reply = lab.call(&unit, RESOURCE, "Reconcile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "done");
    five_times(&mut signals);
    // A new generation is a new start as well.
    apply(
        &lab,
        &json!({ "drift": "enforce", "systemd": { "units": { UNITS[0]: active(None), UNITS[1]: active(None) } } }),
    );
    kill(&lab, UNITS[0]);
    assert_eq!(until_corrected(&lab, &mut signals, &unit), "done");
}

#[test]
fn corrections_that_fail_count_as_well() {
    let Some(lab) = enter() else { return };
    fs::write(WELL, "").unwrap();
    apply(&lab, &json!({ "drift": "enforce", "systemd": { "units": { SICKLY: active(None) } } }));
    let unit = path("unit", SICKLY);
    let mut signals = lab.signals();
    let jobs = count(&lab, "JobsTotal");
    fs::remove_file(WELL).unwrap();
    kill(&lab, SICKLY);
    lab.until(&unit, RESOURCE, "Reason", |reason| reason == "TooManyCorrections");
    assert_eq!(count(&lab, "JobsTotal"), jobs + 5);
    let finished = signals.seen().iter().filter(|signal| signal.member == "JobFinished");
    let results: Vec<_> = finished.map(|signal| signal.arguments[2].as_str().unwrap()).collect();
    assert_eq!(results, ["failed"; 5]);

    fs::write(WELL, "").unwrap();
    let reply = lab.call(STATE, FACE, "Reconcile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "done");
    assert_eq!(lab.get(&unit, RESOURCE, "Status"), "in-sync");
}

#[test]
fn an_enabled_units_link_is_put_back() {
    let Some(lab) = enter() else { return };
    apply(&lab, &json!({ "drift": "enforce", "systemd": { "units": { UNITS[0]: { "enabled": true } } } }));
    let unit = path("unit", UNITS[0]);
    let mut signals = lab.signals();
    fs::remove_file(format!("/etc/systemd/system/multi-user.target.wants/{}", UNITS[0])).unwrap();
    assert_eq!(until_detected(&mut signals, &unit), json!([["enabled", true, false]]));
    assert_eq!(until_corrected(&lab, &mut signals, &unit), "done");
    assert_eq!(lab.run(&["systemctl", "is-enabled", UNITS[0]]), "enabled");
}

fn ports(drift: &str) -> Value {
    json!({ "drift": drift, "ovsdb": { "bridges": { "lab0": {
        "datapath_type": "netdev", "external_ids": { "site": "north" },
        "ports": { "lab0tag": { "type": "internal", "tag": 10, "external_ids": { "a": "b" } } }
    } } } })
}

#[test]
fn a_port_changed_by_another_client_is_told_field_by_field() {
    let Some(lab) = enter() else { return };
    apply(&lab, &ports("report"));
    let (bridge, port) = (path("bridge", "lab0"), path("port", "lab0tag"));
    let mut signals = lab.signals();

    lab.ovs(&[
        "set",
        "port",
        "lab0tag",
        "tag=99",
        "external_ids:a=c",
        "--",
        "set",
        "bridge",
        "lab0",
        "external_ids:site=south",
    ]);
    let differences = json!([["tag", 10, 99], ["external_ids.a", "b", "c"]]);
    assert_eq!(until_detected(&mut signals, &port), differences);
    until_status(&lab, &port, "drifted");
    until_status(&lab, &bridge, "drifted");
    assert_eq!(lab.get(&port, RESOURCE, "Differences").as_array().unwrap().len(), 2);
    assert_eq!(lab.get(&port, "org.opdbus.Port", "Tag"), 99, "the mirror says what is");
    assert_eq!(count(&lab, "DriftsTotal"), 2);

    // Other differences are told anew, and are the same drift.
    lab.ovs(&["set", "port", "lab0tag", "tag=98", "external_ids:a=b"]);
    assert_eq!(until_detected(&mut signals, &port), json!([["tag", 10, 98]]));
    lab.ovs(&["clear", "port", "lab0tag", "tag"]);
    // What is not there stands as an empty array.
    assert_eq!(until_detected(&mut signals, &port), json!([["tag", 10, []]]));
    assert_eq!(count(&lab, "DriftsTotal"), 2);
    lab.ovs(&["del-port", "lab0tag"]);
    assert_eq!(until_detected(&mut signals, &port), json!([["ensure", "present", "absent"]]));
    lab.until(&port, RESOURCE, "Reason", |reason| reason == "Missing");
    assert_eq!(lab.get(&port, RESOURCE, "Present"), false);

    // Keys that the document does not name are nobody's drift.
    let reply = lab.call(STATE, FACE, "Reconcile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "done");
    signals.forget();
    lab.ovs(&[
        "set",
        "port",
        "lab0tag",
        "external_ids:mine=1",
        "trunks=3",
        "--",
        "set",
        "bridge",
        "lab0",
        "other_config:mac-aging-time=77",
    ]);
    lab.until(&bridge, "org.opdbus.Bridge", "OtherConfig", |config| {
        config["mac-aging-time"]["data"] == "77" || config["mac-aging-time"] == "77"
    });
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
    assert!(!signals.seen().iter().any(|signal| signal.member == "DriftDetected"));
}

#[test]
fn an_enforced_port_is_put_back_and_what_is_not_named_is_kept() {
    let Some(lab) = enter() else { return };
    apply(&lab, &ports("enforce"));
    let port = path("port", "lab0tag");
    let mut signals = lab.signals();
    lab.ovs(&["set", "port", "lab0tag", "tag=99", "external_ids:mine=1"]);
    assert_eq!(until_corrected(&lab, &mut signals, &port), "done");
    assert_eq!(lab.ovs(&["get", "port", "lab0tag", "tag", "external_ids:mine"]), "10\n\"1\"");
    lab.ovs(&["del-port", "lab0tag"]);
    assert_eq!(until_corrected(&lab, &mut signals, &port), "done");
    assert_eq!(lab.ovs(&["get", "port", "lab0tag", "tag"]), "10");
    // The whole bridge: it and its port come back, the bridge first.
    lab.ovs(&["del-br", "lab0"]);
    for in_sync in [false, true] {
        signals.until_told(STATE, FACE, "InSync", &json!(in_sync));
    }
    assert_eq!(lab.ovs(&["port-to-br", "lab0tag"]), "lab0");
    assert_eq!(lab.ovs(&["get", "bridge", "lab0", "external_ids:site"]), "north");
}

#[test]
fn what_a_re_plug_wiped_is_put_right_whatever_the_policy() {
    let Some(lab) = enter() else { return };
    let document = |port: Value| {
        json!({
            "ovsdb": { "bridges": { "ovsbr0": { "ports": { "veth100": port } } } },
            "lxc": { "containers": [{ "id": "100", "veth": "veth100", "bridge": "ovsbr0", "running": true }] }
        })
    };
    apply(&lab, &document(json!({ "tag": 7, "external_ids": { "who": "us" } })));
    assert_eq!(lab.ovs(&["get", "port", "veth100", "tag", "external_ids:who"]), "7\nus");
    let port = path("port", "veth100");
    let mut signals = lab.signals();

    // By hand, in one transaction.
    lab.ovs(&["del-port", "veth100", "--", "add-port", "ovsbr0", "veth100"]);
    assert_eq!(until_corrected(&lab, &mut signals, &port), "done");
    assert_eq!(lab.ovs(&["get", "port", "veth100", "tag", "external_ids:who"]), "7\nus");

    // By the container's own hook, as its unit is started anew.
    lab.run(&["systemctl", "restart", "pve-container@100.service"]);
    assert_eq!(until_corrected(&lab, &mut signals, &port), "done");
    assert_eq!(lab.ovs(&["get", "port", "veth100", "tag", "external_ids:who"]), "7\nus");
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);

    // A change that is no re-plug is left alone: the policy is report.
    lab.ovs(&["set", "port", "veth100", "tag=8"]);
    until_status(&lab, &port, "drifted");
    assert_eq!(lab.get(STATE, FACE, "CurrentJob"), "/");

    // ... and where the port's own entry says report, a re-plug too.
    apply(&lab, &document(json!({ "tag": 7, "drift": "report" })));
    let jobs = count(&lab, "JobsTotal");
    lab.ovs(&["del-port", "veth100", "--", "add-port", "ovsbr0", "veth100"]);
    until_status(&lab, &port, "drifted");
    assert_eq!(lab.get(STATE, FACE, "CurrentJob"), "/");
    assert_eq!(count(&lab, "JobsTotal"), jobs);
    assert_eq!(lab.ovs(&["get", "port", "veth100", "tag"]), "[]");
}
