//! Containers as real LXC runs them: told apart, started and stopped as jobs, plugged where the document says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use op_dbus_testkit::{Lab, STATE, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";
const JOB: &str = "org.opdbus.Job";
const RESOURCE: &str = "org.opdbus.Resource";
const CONTAINER: &str = "org.opdbus.Container";
const PORT: &str = "org.opdbus.Port";

/// Another hand that claims container 100.
const RIVAL: &str = "lxc@100.service";

fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    lab.remove_units(&[RIVAL]);
    lab.install_afresh(BINARY, None);
    lab.configure(&[("hold_down_ms", "500"), ("settle_ms", "1000")]);
    Some(lab)
}

fn unit(id: &str) -> String {
    format!("pve-container@{id}.service")
}

fn container(id: &str) -> String {
    path("container", id)
}

fn get(lab: &Lab, id: &str, property: &str) -> Value {
    lab.get(&container(id), CONTAINER, property)
}

/// Calls a verb of a container's and waits for its job; returns that and its result.
fn order(lab: &Lab, id: &str, verb: &str, options: &[&str]) -> (String, String) {
    let reply = lab.call(&container(id), CONTAINER, verb, &[&["a{sv}"][..], options].concat());
    let job = reply[0].as_str().unwrap().to_owned();
    let result = lab.wait(&job);
    (job, result)
}

fn is_on_tree(lab: &Lab, path: &str) -> bool {
    lab.run(&["busctl", "--list", "tree", "org.opdbus"]).lines().any(|line| line == path)
}

#[test]
fn they_are_told_apart() {
    let Some(lab) = enter() else { return };
    // Running and plugged; running without a port; stopped and declared.
    lab.run(&["systemctl", "start", &unit("100"), &unit("101")]);
    lab.set_desired_state(&json!({ "lxc": { "containers": [{ "id": "102" }] } }));
    // A VM's tap, and a stranger's port.
    let _ = lab.outcome(&["ip", "tuntap", "add", "tap105i0", "mode", "tap"]);
    lab.ovs(&["add-port", "ovsbr0", "tap105i0"]);
    lab.ovs(&["add-port", "ovsbr0", "uplink0", "--", "set", "interface", "uplink0", "type=internal"]);
    // What a container that is gone has left behind.
    lab.ovs(&["--no-wait", "add-port", "ovsbr0", "veth200i0"]);
    lab.until(&container("100"), CONTAINER, "Ports", |ports| *ports == json!([path("port", "veth100")]));
    lab.until(&container("200"), CONTAINER, "Ports", |ports| *ports == json!([path("port", "veth200i0")]));
    lab.until(&path("port", "uplink0"), PORT, "OfPort", |number| number.as_i64().unwrap() > 0);

    let ovsbr0 = path("bridge", "ovsbr0");
    for (id, unit_name, state, running, bridges) in [
        ("100", unit("100"), "active", true, json!([ovsbr0])),
        ("101", unit("101"), "active", true, json!([])),
        ("102", unit("102"), "inactive", false, json!([])),
        ("200", String::new(), "", false, json!([ovsbr0])),
    ] {
        assert_eq!(get(&lab, id, "Id"), id);
        assert_eq!(get(&lab, id, "Unit"), unit_name);
        assert_eq!(get(&lab, id, "ActiveState"), state, "{id}");
        assert_eq!(get(&lab, id, "Running"), running, "{id}");
        assert_eq!(get(&lab, id, "Bridges"), bridges, "{id}");
        assert_eq!(get(&lab, id, "Runtime"), if unit_name.is_empty() { "" } else { "systemd" });
    }
    assert_eq!(get(&lab, "100", "UnitPath"), "/org/freedesktop/systemd1/unit/pve_2dcontainer_40100_2eservice");
    for (port, of, stale) in [
        ("veth100", container("100"), false),
        ("veth200i0", container("200"), true),
        ("tap105i0", "/".to_owned(), false),
        ("uplink0", "/".to_owned(), false),
    ] {
        assert_eq!(lab.get(&path("port", port), PORT, "Container"), *of);
        assert_eq!(lab.get(&path("port", port), PORT, "Stale"), stale, "{port}");
    }
    assert!(!is_on_tree(&lab, &container("105")), "a VM is no container");
    assert_eq!(lab.get(&ovsbr0, "org.opdbus.Bridge", "Containers"), json!([container("100"), container("200")]));
    assert!(lab.journal().lines().any(|line| line == "Discovered container 100 on bridge ovsbr0 via port veth100"));

    // It stops: its port is stale, for as long as it is there.
    lab.run(&["systemctl", "stop", &unit("100")]);
    lab.until(&path("port", "veth100"), PORT, "Stale", |stale| *stale == true);
    lab.ovs(&["del-port", "veth100"]);
    lab.ovs(&["del-port", "veth200i0"]);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    lab.until(&ovsbr0, "org.opdbus.Bridge", "Containers", |containers| *containers == json!([]));
    for id in ["100", "200"] {
        assert!(!is_on_tree(&lab, &container(id)), "nothing tells of {id} any more");
    }
    lab.run(&["ip", "link", "del", "tap105i0"]);
}

#[test]
fn start_stop_and_restart_are_jobs() {
    let Some(lab) = enter() else { return };
    // The document names it, and does not say whether it runs.
    lab.set_desired_state(&json!({ "lxc": { "containers": [{ "id": "100" }] } }));
    let (job, result) = order(&lab, "100", "Start", &["0"]);
    assert_eq!(result, "done");
    for (property, value) in [("Kind", json!("start")), ("Target", json!(container("100"))), ("CallerUid", json!(0))] {
        assert_eq!(lab.get(&job, JOB, property), value);
    }
    assert_eq!(lab.show(&unit("100"), "ActiveState"), "active");
    assert_eq!(order(&lab, "100", "Start", &["0"]).1, "unchanged", "it runs already");

    let since = lab.show(&unit("100"), "ActiveEnterTimestampMonotonic");
    let (job, result) = order(&lab, "100", "Restart", &["0"]);
    assert_eq!((result.as_str(), &lab.get(&job, JOB, "Kind")), ("done", &json!("restart")));
    assert_ne!(lab.show(&unit("100"), "ActiveEnterTimestampMonotonic"), since);

    let (job, result) = order(&lab, "100", "Stop", &["0"]);
    assert_eq!((result.as_str(), &lab.get(&job, JOB, "Kind")), ("done", &json!("stop")));
    assert_eq!(lab.show(&unit("100"), "ActiveState"), "inactive");
    assert_eq!(order(&lab, "100", "Stop", &["0"]).1, "unchanged");
    assert_eq!(lab.get(STATE, FACE, "Generation"), 1, "no new generation");
    assert_eq!(order(&lab, "100", "Restart", &["0"]).1, "done", "one that does not run is started");

    // One that nobody runs, and one that there is not.
    lab.ovs(&["--no-wait", "add-port", "ovsbr0", "veth200"]);
    lab.until(&container("200"), CONTAINER, "Running", |running| *running == false);
    let (name, message) = lab.refused(&container("200"), "org.opdbus.Container.Start", &["{}"]);
    assert_eq!(name, "org.opdbus.Error.NotFound");
    assert!(message.contains("pve-container@200.service"), "{message}");
    let (name, _) = lab.refused(&container("300"), "org.opdbus.Container.Start", &["{}"]);
    assert_eq!(name, "org.freedesktop.DBus.Error.UnknownObject");
    let (name, _) = lab.refused(&container("100"), "org.opdbus.Container.Start", &["{'overide': <true>}"]);
    assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs");
}

#[test]
fn what_contradicts_the_document_is_a_conflict_unless_it_is_overridden() {
    let Some(lab) = enter() else { return };
    let document = |running: bool| json!({ "drift": "enforce", "lxc": { "containers": [{ "id": "100", "running": running }, { "id": "101", "running": true }] } });
    assert_eq!(lab.set_desired_state(&document(true)).1, "done");
    let (name, message) = lab.refused(&container("100"), "org.opdbus.Container.Stop", &["{}"]);
    assert_eq!(name, "org.opdbus.Error.Conflict");
    assert!(message.contains("override"), "{message}");
    assert_eq!(lab.show(&unit("100"), "ActiveState"), "active");
    assert_eq!(order(&lab, "100", "Restart", &["0"]).1, "done", "that contradicts nothing");

    let (_, result) = order(&lab, "100", "Stop", &["1", "override", "b", "true"]);
    assert_eq!(result, "done");
    assert_eq!(lab.get(&container("100"), RESOURCE, "Status"), "paused");
    assert_eq!(lab.get(&container("100"), RESOURCE, "Reason"), "Overridden");
    // The other one is enforced, and while that is put back, this one is left alone.
    lab.run(&["systemctl", "stop", &unit("101")]);
    lab.until(&container("101"), RESOURCE, "Status", |status| status == "drifted");
    lab.until(&container("101"), RESOURCE, "Status", |status| status == "in-sync");
    assert_eq!(lab.show(&unit("100"), "ActiveState"), "inactive");

    // The next generation ends it.
    let mut next = document(true);
    next["lxc"]["containers"][0]["drift"] = json!("report");
    assert_eq!(lab.set_desired_state(&next).1, "done");
    assert_eq!(lab.show(&unit("100"), "ActiveState"), "active");
    assert_eq!(lab.get(&container("100"), RESOURCE, "Status"), "in-sync");

    assert_eq!(lab.set_desired_state(&document(false)).1, "done");
    for verb in ["Start", "Restart"] {
        let (name, _) = lab.refused(&container("100"), &format!("org.opdbus.Container.{verb}"), &["{}"]);
        assert_eq!(name, "org.opdbus.Error.Conflict", "{verb}");
    }
}

#[test]
fn its_port_is_plugged_where_the_document_says_and_again_after_each_start() {
    let Some(lab) = enter() else { return };
    let document = |bridge: &str| {
        json!({
            "ovsdb": { "bridges": { "lab0": { "datapath_type": "netdev" } } },
            "lxc": { "containers": [
                // Its own hook plugs it into ovsbr0 at each start.
                { "id": "100", "veth": "veth100", "bridge": bridge, "running": true },
                // Nobody else plugs this one.
                { "id": "101", "veth": "veth101", "bridge": bridge, "running": true },
                { "id": "102", "veth": "veth102", "bridge": bridge, "running": false }
            ] }
        })
    };
    let on = |port: &str| lab.outcome(&["ovs-vsctl", "port-to-br", port]).stdout;
    let (job, result) = lab.set_desired_state(&document("lab0"));
    assert_eq!(result, "done", "{}", lab.get(&job, JOB, "Message"));
    assert_eq!((on("veth100").as_str(), on("veth101").as_str(), on("veth102").as_str()), ("lab0", "lab0", ""));
    for id in ["100", "101"] {
        let port = path("port", &format!("veth{id}"));
        assert!(lab.get(&port, PORT, "OfPort").as_i64().unwrap() > 0);
        assert_eq!(get(&lab, id, "Bridges"), json!([path("bridge", "lab0")]));
    }

    // Somebody starts it anew: it comes back on the wrong bridge, and is put right although drift is only reported.
    let mut signals = lab.signals();
    lab.run(&["systemctl", "restart", &unit("100")]);
    loop {
        let finished = signals.until("JobFinished", |signal| signal.member == "JobFinished");
        let job = finished.arguments[1].as_str().unwrap();
        assert_eq!(lab.get(job, JOB, "Kind"), "drift");
        if lab.get(job, JOB, "Target") == *container("100") {
            assert_eq!(finished.arguments[2], "done");
            break;
        }
    }
    assert_eq!(on("veth100"), "lab0");
    // The other's port stays in the database, and its new device is taken up by Open vSwitch itself.
    lab.run(&["systemctl", "restart", &unit("101")]);
    signals.until_told(&container("101"), CONTAINER, "ActiveState", &json!("active"));
    lab.until(&path("port", "veth101"), PORT, "Stale", |stale| *stale == false);
    assert_eq!(on("veth101"), "lab0");
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);

    // Another bridge in the document: moved.
    assert_eq!(lab.set_desired_state(&document("ovsbr0")).1, "done");
    assert_eq!((on("veth100").as_str(), on("veth101").as_str()), ("ovsbr0", "ovsbr0"));

    // A bridge that is neither there nor declared, until somebody makes it.
    let (_, result) = lab.set_desired_state(&document("lab1"));
    assert_eq!(result, "partial");
    for id in ["100", "101"] {
        assert_eq!(lab.get(&container(id), RESOURCE, "Status"), "blocked");
        assert_eq!(lab.get(&container(id), RESOURCE, "Reason"), "BridgeMissing");
    }
    assert_eq!((on("veth100").as_str(), on("veth101").as_str()), ("ovsbr0", "ovsbr0"), "left where they are");
    lab.ovs(&["add-br", "lab1", "--", "set", "bridge", "lab1", "datapath_type=netdev"]);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert_eq!((on("veth100").as_str(), on("veth101").as_str()), ("lab1", "lab1"));
}

#[test]
fn two_that_claim_the_same_id_are_left_to_somebody_who_knows() {
    let Some(lab) = enter() else { return };
    lab.units(&[(RIVAL, "[Service]\nExecStart=sleep infinity\n")]);
    lab.run(&["systemctl", "start", RIVAL, &unit("100")]);
    lab.until(&container("100"), CONTAINER, "Ports", |ports| *ports == json!([path("port", "veth100")]));
    let document = json!({ "lxc": { "containers": [{ "id": "100", "running": false }] } });
    let (_, result) = lab.set_desired_state(&document);
    assert_eq!(result, "failed");
    assert_eq!(lab.get(&container("100"), RESOURCE, "Reason"), "AmbiguousContainer");
    assert_eq!(
        (lab.show(RIVAL, "ActiveState"), lab.show(&unit("100"), "ActiveState")),
        ("active".to_owned(), "active".to_owned())
    );
    // One of the two goes, and the other is the container.
    lab.run(&["systemctl", "stop", RIVAL]);
    lab.until_shown(&unit("100"), "ActiveState", |state| state == "inactive");
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
}
