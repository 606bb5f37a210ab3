//! Presets of firewalld and NetworkManager, on the real ones: in the lab's variant `network`, since PackageKit falls silent
//! where NetworkManager is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;

use op_dbus_testkit::{Lab, STATE, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");

/// The lab, in the variant that these tests need.
fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    assert!(Path::new("/usr/sbin/firewalld").exists(), "tests/lab/machine --variant network boots such a machine");
    lab.install_afresh(BINARY, None);
    lab.until("/org/opdbus/plugin/dbus", "org.opdbus.Plugin", "Status", |is| is == "connected");
    Some(lab)
}

fn by_preset(name: &str, with: &Value, ensure: &str) -> Value {
    json!({ "dbus": { "objects": { "x": { "preset": name, "with": with, "ensure": ensure } } } })
}

fn until_status(lab: &Lab, status: &str) {
    lab.until(&path("object", "x"), "org.opdbus.Resource", "Status", |is| is == status);
}

/// The summaries of a plan.
fn plan(lab: &Lab, document: &Value) -> Vec<String> {
    let reply = lab.call(STATE, "org.opdbus.State", "Plan", &["sa{sv}", &document.to_string(), "0"]);
    reply[0].as_array().unwrap().iter().map(|step| step[3].as_str().unwrap().to_owned()).collect()
}

/// The calls that a preset's own file shows, those that write.
fn shown_calls(preset: &str) -> Vec<String> {
    let preset = op_dbus::desired::presets().iter().find(|known| known.name == preset).unwrap();
    preset
        .busctl
        .iter()
        .filter(|call| call.contains(" addService ") || call.contains(" removeService "))
        .cloned()
        .collect()
}

fn services(lab: &Lab, permanent: bool) -> String {
    let zone = ["firewall-cmd", "--zone=public", "--list-services"];
    let permanent: &[&str] = if permanent { &["--permanent"] } else { &[] };
    lab.run(&[&zone[..], permanent].concat())
}

/// Turns the service `https` of zone `public` on and off, from both sides.
fn a_service(preset: &str, permanent: bool) {
    let Some(lab) = enter() else { return };
    let with = json!({ "zone": "public", "service": "https" });
    let (on, off) = (by_preset(preset, &with, "present"), by_preset(preset, &with, "absent"));
    let firewall = |verb: &str| {
        let flag = format!("--{verb}-service=https");
        let mut command = vec!["firewall-cmd", "--quiet", "--zone=public", &flag];
        command.extend(permanent.then_some("--permanent"));
        lab.run(&command);
    };
    firewall("remove");
    let planned = plan(&lab, &on);
    let shown = shown_calls(preset);
    // The numbers of firewalld's own objects differ from machine to machine.
    let plain =
        |call: &str| call.split(' ').filter(|word| !word.contains("/config/zone/")).collect::<Vec<_>>().join(" ");
    assert_eq!(planned.len(), 1);
    assert!(plain(&planned[0]).ends_with(&plain(&shown[0])), "{planned:?} {shown:?}");

    assert_eq!(lab.set_desired_state(&on).1, "done");
    assert!(services(&lab, permanent).contains("https"));
    assert_eq!(lab.set_desired_state(&on).1, "unchanged");
    // By anybody else: firewalld says so.
    firewall("remove");
    until_status(&lab, "drifted");
    let job = lab.call(&path("object", "x"), "org.opdbus.Resource", "Reconcile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(job[0].as_str().unwrap()), "done");
    assert!(services(&lab, permanent).contains("https"));

    assert!(plain(&plan(&lab, &off)[0]).ends_with(&plain(&shown[1])));
    assert_eq!(lab.set_desired_state(&off).1, "done");
    assert!(!services(&lab, permanent).contains("https"));
    firewall("add");
    until_status(&lab, "drifted");
    firewall("remove");
    until_status(&lab, "in-sync");
}

#[test]
fn a_service_of_a_zone_until_the_next_reload() {
    a_service("firewalld-service-runtime", false);
}

#[test]
fn a_service_of_a_zone_for_good() {
    a_service("firewalld-service", true);
}

#[test]
fn a_service_that_firewalld_does_not_know_is_refused_in_its_words() {
    let Some(lab) = enter() else { return };
    let with = json!({ "zone": "public", "service": "no-such-service" });
    assert_eq!(lab.set_desired_state(&by_preset("firewalld-service-runtime", &with, "present")).1, "failed");
    let message = lab.get(&path("object", "x"), "org.opdbus.Resource", "Message");
    assert!(message.as_str().unwrap().contains("INVALID_SERVICE"), "{message}");
    let with = json!({ "zone": "no-such-zone", "service": "ssh" });
    assert_eq!(lab.set_desired_state(&by_preset("firewalld-service", &with, "present")).1, "failed");
    assert_eq!(lab.get(&path("object", "x"), "org.opdbus.Resource", "Reason"), "ObjectMissing");
}

#[test]
fn a_restart_of_firewalld_is_survived() {
    let Some(lab) = enter() else { return };
    let with = json!({ "zone": "public", "service": "https" });
    let mut on = by_preset("firewalld-service-runtime", &with, "present");
    on["dbus"]["objects"]["x"]["drift"] = "enforce".into();
    assert_eq!(lab.set_desired_state(&on).1, "done");
    lab.run(&["systemctl", "stop", "firewalld.service"]);
    until_status(&lab, "unknown");
    // What was set until the next reload is gone with it, and is put back.
    lab.run(&["systemctl", "start", "firewalld.service"]);
    until_status(&lab, "in-sync");
    assert!(services(&lab, false).contains("https"));
}

const UUID: &str = "5a2f6a3e-6bfa-4b7e-9a5f-0f7d4a6f1c11";
const ADDRESS: [&str; 4] = ["ipv4.method", "manual", "ipv4.addresses", "192.0.2.78/24"];

/// Makes the connection `lab`: a bridge, with these settings besides.
fn add_connection(lab: &Lab, settings: &[&str]) {
    let add = ["nmcli", "connection", "add", "type", "bridge", "ifname", "labbr0", "con-name", "lab"];
    let plain = ["autoconnect", "no", "ipv6.method", "disabled", "connection.uuid", UUID];
    lab.run(&[&add[..], &plain, settings].concat());
}

/// The connection, on and off.
fn connection() -> (Value, Value) {
    let entry = |ensure: &str| by_preset("networkmanager-connection", &json!({ "uuid": UUID }), ensure);
    (entry("present"), entry("absent"))
}

/// Sets the document; the job that brings it about.
fn begin(lab: &Lab, document: &Value) -> String {
    let reply = lab.call(STATE, "org.opdbus.State", "SetDesiredState", &["s", &document.to_string()]);
    reply[1].as_str().unwrap().to_owned()
}

/// The state of the connection, as NetworkManager has it: empty where it is off.
fn state(lab: &Lab) -> String {
    let active = lab.run(&["nmcli", "--terse", "--fields", "UUID,STATE", "connection", "show", "--active"]);
    active.lines().find_map(|line| line.strip_prefix(UUID)?.strip_prefix(':')).unwrap_or_default().to_owned()
}

#[test]
fn a_connection_that_is_being_activated_is_waited_for() {
    let Some(lab) = enter() else { return };
    // Nobody answers to its DHCP: it is being activated until it is told to do without.
    add_connection(&lab, &["ipv4.method", "auto", "ipv4.dhcp-timeout", "infinity"]);
    let finish = || {
        lab.run(&[&["nmcli", "connection", "modify", "lab"][..], &ADDRESS].concat());
        lab.run(&["nmcli", "device", "reapply", "labbr0"]);
    };
    let stall = || {
        lab.run(&["nmcli", "connection", "modify", "lab", "ipv4.method", "auto", "ipv4.addresses", ""]);
        lab.run(&["nmcli", "--wait", "0", "connection", "up", "lab"]);
    };
    let (mut on, off) = connection();
    // By op-dbus: the job ends when the connection is on, and not when it is begun.
    let job = begin(&lab, &on);
    let shown = |state: u32| {
        lab.until(&path("object", "x"), "org.opdbus.Object", "Properties", |is| is["State"]["data"] == state);
    };
    shown(1);
    assert_eq!(state(&lab), "activating");
    assert_eq!(lab.get(&job, "org.opdbus.Job", "Result"), "");
    assert_eq!(lab.get(&path("object", "x"), "org.opdbus.Resource", "Status"), "verifying");
    finish();
    assert_eq!(lab.wait(&job), "done");
    assert_eq!(state(&lab), "activated");
    until_status(&lab, "in-sync");

    // By anybody else, while it is off and when it is declared: there is nothing to call, and it is waited for.
    assert_eq!(lab.set_desired_state(&off).1, "done");
    stall();
    on["dbus"]["objects"]["x"]["drift"] = "enforce".into();
    assert_eq!(plan(&lab, &on), ["settle object x"]);
    let job = begin(&lab, &on);
    shown(1);
    assert_eq!(lab.get(&job, "org.opdbus.Job", "Result"), "");
    finish();
    assert_eq!(lab.wait(&job), "unchanged", "op-dbus had nothing to call");
    until_status(&lab, "in-sync");

    // By anybody else, again: it is on its way, and no drift.
    let mut signals = lab.signals();
    let drifts = lab.get(STATE, "org.opdbus.State", "DriftsTotal");
    stall();
    shown(1);
    until_status(&lab, "pending");
    finish();
    until_status(&lab, "in-sync");
    assert_eq!(lab.get(STATE, "org.opdbus.State", "DriftsTotal"), drifts);
    assert!(!signals.seen().iter().any(|signal| signal.member == "DriftDetected"));

    assert_eq!(lab.set_desired_state(&off).1, "done");
    lab.run(&["nmcli", "connection", "delete", "lab"]);
}

#[test]
fn a_connection_on_and_off() {
    let Some(lab) = enter() else { return };
    add_connection(&lab, &ADDRESS);
    let (on, off) = connection();
    let active = || state(&lab) == "activated";
    let planned = plan(&lab, &on);
    assert!(planned[0].contains("ActivateConnection ooo /org/freedesktop/NetworkManager/Settings/"), "{planned:?}");
    assert_eq!(lab.set_desired_state(&on).1, "done");
    assert!(active());
    assert_eq!(lab.set_desired_state(&on).1, "unchanged");
    lab.run(&["nmcli", "connection", "down", "lab"]);
    until_status(&lab, "drifted");
    let job = lab.call(&path("object", "x"), "org.opdbus.Resource", "Reconcile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(job[0].as_str().unwrap()), "done");
    assert!(active());
    assert_eq!(lab.set_desired_state(&off).1, "done");
    assert!(!active());
    lab.run(&["nmcli", "connection", "delete", "lab"]);
}
