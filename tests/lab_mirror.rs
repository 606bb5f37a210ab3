//! The mirror on the bus: whatever another client does to units, containers, bridges and ports shows on the tree, told
//! once; and backends that restart, vanish and come back tell nothing but what is different.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{collections::BTreeMap, fs};

use op_dbus_testkit::{Lab, STATE, Signal, Signals, path};
use serde_json::{Map, Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";
const RESOURCE: &str = "org.opdbus.Resource";
const UNIT_FACE: &str = "org.opdbus.Unit";
const UNIT: &str = "lab-idle.service";
const MARKER: &str = "lab-marker.service";
const IDLE: &str =
    "[Unit]\nDescription=idles\n[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

/// op-dbus mirrors two units and container 100, and wants nothing of them.
fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    lab.remove_units(&[UNIT, MARKER]);
    lab.units(&[(UNIT, IDLE), (MARKER, IDLE)]);
    lab.install_afresh(BINARY, None);
    let document = json!({
        "systemd": { "units": { UNIT: {}, MARKER: {} } },
        "lxc": { "containers": [{ "id": "100" }] }
    });
    let (_, result) = lab.set_desired_state(&document);
    assert_eq!(result, "unchanged");
    Some(lab)
}

/// Does something that another unit tells of, after all that systemd told before: then returns what was told of that
/// object's interface since.
fn changes(
    lab: &Lab,
    signals: &mut Signals<'_>,
    path: &str,
    interface: &str,
) -> Vec<(Map<String, Value>, Vec<String>)> {
    mark(lab, signals);
    signals.changes(path, interface)
}

fn mark(lab: &Lab, signals: &mut Signals<'_>) {
    let marker = op_dbus_testkit::path("unit", MARKER);
    for (verb, state) in [("start", "active"), ("stop", "inactive")] {
        lab.run(&["systemctl", verb, MARKER]);
        signals.until_told(&marker, UNIT_FACE, "ActiveState", &json!(state));
    }
    let bridge = op_dbus_testkit::path("bridge", "ovsbr0");
    lab.ovs(&["set", "bridge", "ovsbr0", "external_ids:mark=1"]);
    signals.until("the mark", |signal| is_changed(signal, &bridge, "ExternalIds"));
    lab.ovs(&["remove", "bridge", "ovsbr0", "external_ids", "mark"]);
    signals.until("the mark's end", |signal| is_changed(signal, &bridge, "ExternalIds"));
}

fn is_changed(signal: &Signal, path: &str, property: &str) -> bool {
    signal.path == path && signal.changed().is_some_and(|(_, changed, _)| changed.contains_key(property))
}

/// The one change that was told, of these properties and no other.
fn once(told: &[(Map<String, Value>, Vec<String>)], properties: &[&str]) -> Map<String, Value> {
    let [(changed, invalid)] = told else { panic!("not told once: {told:#?}") };
    assert_eq!(*invalid, [""; 0]);
    assert_eq!(changed.keys().collect::<Vec<_>>(), properties);
    changed.clone()
}

/// What was told, of these properties and no other, each of them once. systemd tells of one change in several signals,
/// or its client makes it in several calls, and the machine may be slow enough for op-dbus to see one without the other.
fn each_once(told: &[(Map<String, Value>, Vec<String>)], properties: &[&str]) -> BTreeMap<String, Value> {
    let mut names: Vec<&String> = told.iter().flat_map(|(changed, _)| changed.keys()).collect();
    names.sort();
    assert_eq!(names, properties, "{told:#?}");
    step_by_step(told)
}

/// What was told, one after the other, comes to; a stop may take systemd long enough to be told on its way, but nothing
/// is told twice.
fn step_by_step(told: &[(Map<String, Value>, Vec<String>)]) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (property, value) in told.iter().flat_map(|(changed, _)| changed) {
        assert_ne!(all.insert(property.clone(), value.clone()).as_ref(), Some(value), "{property} twice: {told:#?}");
    }
    all
}

#[test]
fn a_unit_is_followed_through_its_life() {
    let Some(lab) = enter() else { return };
    let unit = path("unit", UNIT);
    let mut signals = lab.signals();
    let mut told = |lab: &Lab, command: &[&str]| {
        signals.forget();
        lab.run(command);
        changes(lab, &mut signals, &unit, "Unit")
    };

    // Loaded first, at times noticeably.
    let changed = step_by_step(&told(&lab, &["systemctl", "start", UNIT]));
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["ActiveEnterUSec", "ActiveState", "SubState", "UnitPath"]);
    assert_eq!((&changed["ActiveState"], &changed["SubState"]), (&json!("active"), &json!("running")));
    assert_eq!(changed["UnitPath"], "/org/freedesktop/systemd1/unit/lab_2didle_2eservice");

    let changed =
        each_once(&told(&lab, &["systemctl", "kill", "--signal=KILL", UNIT]), &["ActiveState", "Result", "SubState"]);
    assert_eq!((&changed["ActiveState"], &changed["Result"]), (&json!("failed"), &json!("signal")));

    // systemd tells of a unit and of its result as a service in two signals.
    let changed = step_by_step(&told(&lab, &["systemctl", "start", UNIT]));
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["ActiveEnterUSec", "ActiveState", "Result", "SubState"]);
    assert_eq!((&changed["ActiveState"], &changed["Result"]), (&json!("active"), &json!("success")));

    let changed = once(&told(&lab, &["systemctl", "enable", UNIT]), &["UnitFileState"]);
    assert_eq!(changed["UnitFileState"], "enabled");

    // No signal of systemd's tells of that.
    let changed =
        once(&told(&lab, &["rm", "/etc/systemd/system/multi-user.target.wants/lab-idle.service"]), &["UnitFileState"]);
    assert_eq!(changed["UnitFileState"], "disabled");

    // A reload that changes nothing tells nothing, of hundreds of units that are loaded anew.
    assert_eq!(told(&lab, &["systemctl", "daemon-reload"]), []);

    let file = format!("/usr/lib/systemd/system/{UNIT}");
    fs::write(&file, IDLE.replace("idles", "dreams")).unwrap();
    let changed = once(&told(&lab, &["systemctl", "daemon-reload"]), &["Description"]);
    assert_eq!(changed["Description"], "dreams");

    let changed = step_by_step(&told(&lab, &["systemctl", "stop", UNIT]));
    assert_eq!((&changed["ActiveState"], &changed["UnitPath"]), (&json!("inactive"), &json!("/")));

    let changed = each_once(&told(&lab, &["systemctl", "mask", UNIT]), &["Description", "LoadState", "UnitFileState"]);
    assert_eq!(changed["LoadState"], "masked");
    let changed =
        each_once(&told(&lab, &["systemctl", "unmask", UNIT]), &["Description", "LoadState", "UnitFileState"]);
    assert_eq!((&changed["LoadState"], &changed["UnitFileState"]), (&json!("loaded"), &json!("disabled")));

    fs::remove_file(&file).unwrap();
    let changed =
        each_once(&told(&lab, &["systemctl", "daemon-reload"]), &["Description", "LoadState", "UnitFileState"]);
    assert_eq!(changed["LoadState"], "not-found");
    assert_eq!(lab.get(&unit, RESOURCE, "Present"), false);

    // Nothing was wanted of it, so nothing of all this was drift.
    assert!(!signals.seen().iter().any(|signal| signal.member == "DriftDetected"));
}

#[test]
fn a_container_is_followed_with_its_port() {
    let Some(lab) = enter() else { return };
    let (container, port, bridge) = (path("container", "100"), path("port", "veth100"), path("bridge", "ovsbr0"));
    let mut signals = lab.signals();
    lab.run(&["systemctl", "start", "pve-container@100.service"]);
    lab.until(&container, "org.opdbus.Container", "Ports", |ports| *ports == json!([port]));
    mark(&lab, &mut signals);
    let told = signals.changes(&container, "Container");
    let of = |property: &str| told.iter().filter(|(changed, _)| changed.contains_key(property)).count();
    assert_eq!((of("ActiveState"), of("Running")), (1, 1), "{told:#?}");
    let invalid =
        |property: &str| told.iter().filter(|(_, invalid)| invalid.iter().any(|name| name == property)).count();
    assert_eq!((invalid("Ports"), invalid("Bridges")), (1, 1), "{told:#?}");
    assert_eq!(lab.get(&port, "org.opdbus.Port", "Container"), container);
    assert_eq!(lab.get(&bridge, "org.opdbus.Bridge", "Containers"), json!([container]));

    signals.forget();
    lab.run(&["systemctl", "add-wants", "multi-user.target", "pve-container@100.service"]);
    let told = changes(&lab, &mut signals, &container, "Container");
    assert_eq!(once(&told, &["OnBoot"])["OnBoot"], true);

    signals.forget();
    lab.run(&["systemctl", "kill", "--signal=KILL", "pve-container@100.service"]);
    lab.until(&container, "org.opdbus.Container", "Running", |running| *running == false);
    lab.until(&port, "org.opdbus.Port", "Stale", |stale| *stale == true);
    let told = changes(&lab, &mut signals, &container, "Container");
    let states: Vec<_> = told.iter().filter_map(|(changed, _)| changed.get("ActiveState")).collect();
    // With several processes to bury, systemd is at times seen to be at it.
    assert_eq!(states.last(), Some(&&json!("failed")), "{told:#?}");

    lab.ovs(&["del-port", "veth100"]);
    lab.until(&container, "org.opdbus.Container", "Ports", |ports| *ports == json!([]));
    assert_eq!(lab.get(&bridge, "org.opdbus.Bridge", "Containers"), json!([]));
}

#[test]
fn bridges_and_ports_of_other_clients_come_change_and_go() {
    let Some(lab) = enter() else { return };
    let (bridge, port) = (path("bridge", "lab-br"), path("port", "lab-p1"));
    let mut signals = lab.signals();
    let objects = |signals: &mut Signals<'_>, member: &str| {
        let seen = signals.seen().iter().filter(|signal| signal.member == member);
        seen.map(|signal| signal.arguments[0].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    lab.ovs(&["add-br", "lab-br", "--", "set", "bridge", "lab-br", "datapath_type=netdev"]);
    mark(&lab, &mut signals);
    assert_eq!(objects(&mut signals, "InterfacesAdded"), [bridge.clone(), path("port", "lab-br")]);
    let added = signals.seen().iter().find(|signal| signal.member == "InterfacesAdded").unwrap().clone();
    let interfaces = added.arguments[1].as_object().unwrap().clone();
    assert_eq!(interfaces.keys().collect::<Vec<_>>(), ["org.opdbus.Bridge", RESOURCE]);
    // All properties came with it, whatever was told later.
    let mut all: Vec<_> = lab.properties(&bridge, "org.opdbus.Bridge").keys().cloned().collect();
    all.sort_unstable();
    assert_eq!(
        interfaces["org.opdbus.Bridge"].as_object().unwrap().keys().collect::<Vec<_>>(),
        all.iter().collect::<Vec<_>>()
    );
    assert_eq!(lab.get(&bridge, RESOURCE, "Status"), "unmanaged");
    assert_eq!(lab.get(&bridge, RESOURCE, "InSync"), true);

    signals.forget();
    lab.ovs(&[
        "set",
        "bridge",
        "lab-br",
        "fail_mode=secure",
        "external_ids:a=b",
        "other_config:c=d",
        "mcast_snooping_enable=true",
    ]);
    let changed = once(
        &changes(&lab, &mut signals, &bridge, "Bridge"),
        &["ExternalIds", "FailMode", "McastSnoopingEnable", "OtherConfig"],
    );
    assert_eq!(changed["ExternalIds"], json!({ "a": "b" }));

    signals.forget();
    lab.ovs(&["add-port", "lab-br", "lab-p1", "tag=5", "--", "set", "interface", "lab-p1", "type=internal"]);
    signals.until("the port's number", |signal| {
        is_changed(signal, &port, "OfPort") || is_added_with_number(signal, &port)
    });
    mark(&lab, &mut signals);
    assert_eq!(objects(&mut signals, "InterfacesAdded"), std::slice::from_ref(&port));
    let told = signals.changes(&bridge, "Bridge");
    assert_eq!(told, [(Map::new(), vec!["Ports".to_owned()])]);
    assert_eq!(lab.get(&bridge, "org.opdbus.Bridge", "Ports"), json!([path("port", "lab-br"), port]));
    assert_eq!(lab.get(&port, "org.opdbus.Port", "Tag"), 5);
    assert!(lab.get(&port, "org.opdbus.Port", "OfPort").as_i64().unwrap() > 0);

    signals.forget();
    lab.ovs(&["set", "port", "lab-p1", "tag=6", "trunks=7,8", "vlan_mode=native-tagged"]);
    let changed = once(&changes(&lab, &mut signals, &port, "Port"), &["Tag", "Trunks", "VlanMode"]);
    assert_eq!((&changed["Tag"], &changed["Trunks"]), (&json!(6), &json!([7, 8])));

    signals.forget();
    lab.ovs(&["del-port", "lab-p1"]);
    mark(&lab, &mut signals);
    assert_eq!(objects(&mut signals, "InterfacesRemoved"), std::slice::from_ref(&port));
    let removed = signals.seen().iter().find(|signal| signal.member == "InterfacesRemoved").unwrap().clone();
    let mut names: Vec<_> =
        removed.arguments[1].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["org.opdbus.Port", RESOURCE]);

    signals.forget();
    lab.ovs(&["del-br", "lab-br"]);
    mark(&lab, &mut signals);
    let mut gone = objects(&mut signals, "InterfacesRemoved");
    gone.sort_unstable();
    assert_eq!(gone, [bridge, path("port", "lab-br")]);
}

fn is_added_with_number(signal: &Signal, port: &str) -> bool {
    signal.member == "InterfacesAdded"
        && signal.arguments[0] == *port
        && signal.arguments[1]["org.opdbus.Port"]["OfPort"].as_i64().is_some_and(|number| number > 0)
}

#[test]
fn a_port_without_its_device_says_so_until_the_device_is_there() {
    let Some(lab) = enter() else { return };
    let port = path("port", "lab-dev");
    let _ = lab.outcome(&["ip", "link", "del", "lab-dev"]);
    lab.outcome(&["ovs-vsctl", "add-port", "ovsbr0", "lab-dev"]);
    lab.until(&port, "org.opdbus.Port", "Error", |error| error.as_str().unwrap().contains("No such device"));
    assert_eq!(lab.get(&port, "org.opdbus.Port", "OfPort"), -1);
    assert_eq!(lab.get(&port, "org.opdbus.Port", "Stale"), true);
    lab.run(&["ip", "link", "add", "lab-dev", "type", "veth", "peer", "name", "lab-devx"]);
    lab.until(&port, "org.opdbus.Port", "OfPort", |number| number.as_i64().unwrap() > 0);
    lab.until(&port, "org.opdbus.Port", "Stale", |stale| *stale == false);
    lab.until(&port, "org.opdbus.Port", "Error", |error| error == "");
    lab.run(&["ip", "link", "del", "lab-dev"]);
    lab.until(&port, "org.opdbus.Port", "Stale", |stale| *stale == true);
}

/// All that is on the tree of resources, read anew.
fn tree(lab: &Lab) -> Value {
    let reply = lab.call("/org/opdbus", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &[]);
    let mut objects = reply[0].as_object().unwrap().clone();
    objects.retain(|path, _| !path.contains("/job/") && !path.contains("/plugin/") && path != STATE);
    Value::Object(objects)
}

#[test]
fn systemd_executed_anew_tells_only_what_is_different() {
    let Some(lab) = enter() else { return };
    lab.run(&["systemctl", "start", UNIT]);
    let (unit, plugin) = (path("unit", UNIT), "/org/opdbus/plugin/systemd");
    lab.until(&unit, UNIT_FACE, "ActiveState", |state| state == "active");
    let before = tree(&lab);
    let mut signals = lab.signals();
    lab.run(&["systemctl", "daemon-reexec"]);
    signals.until_told(plugin, "org.opdbus.Plugin", "Reconnects", &json!(1));
    lab.until(plugin, "org.opdbus.Plugin", "Status", |status| status == "connected");
    assert_eq!(tree(&lab), before);
    let told: Vec<_> = signals.seen().iter().filter(|signal| signal.is_of_resource()).cloned().collect();
    assert_eq!(told, [], "back within 2 s, nothing was unknown and nothing differs");
    // It follows again.
    lab.run(&["systemctl", "stop", UNIT]);
    signals.until_told(&unit, UNIT_FACE, "ActiveState", &json!("inactive"));
}

/// Properties that ovs-vswitchd keeps in columns that the database holds in memory alone (`ephemeral` in its schema):
/// they are gone with a server that crashes, until ovs-vswitchd has written them anew.
const EPHEMERAL: [&str; 8] =
    ["DatapathId", "OfPort", "LinkState", "AdminState", "MacInUse", "Mtu", "Error", "Interfaces"];

#[test]
fn a_database_server_that_crashes_is_back_by_itself_and_tells_only_what_is_different() {
    let Some(lab) = enter() else { return };
    let document = json!({ "ovsdb": { "bridges": { "ovsbr0": {
        "external_ids": { "after": null }, "ports": { "lab-int": { "type": "internal", "tag": 3 } }
    } } } });
    assert_eq!(lab.set_desired_state(&document).1, "done");
    let (bridge, port, plugin) = (path("bridge", "ovsbr0"), path("port", "lab-int"), "/org/opdbus/plugin/ovsdb");
    lab.until(&port, "org.opdbus.Port", "LinkState", |state| state != "");
    let before = tree(&lab);
    let mut signals = lab.signals();

    lab.run(&["systemctl", "kill", "--signal=KILL", "ovsdb-server.service"]);
    signals.until_told(plugin, "org.opdbus.Plugin", "Reconnects", &json!(1));
    lab.until(plugin, "org.opdbus.Plugin", "Status", |status| status == "connected");
    lab.until(&bridge, "org.opdbus.Bridge", "DatapathId", |id| id != "");
    for face in ["OfPort", "LinkState", "MacInUse"] {
        lab.until(&port, "org.opdbus.Port", face, |now| *now == before[&port]["org.opdbus.Port"][face]["data"]);
    }
    lab.ovs(&["set", "bridge", "ovsbr0", "other_config:after=1"]);
    signals.until("the first change after it", |signal| is_changed(signal, &bridge, "OtherConfig"));
    lab.ovs(&["remove", "bridge", "ovsbr0", "other_config", "after"]);
    signals.until("its end", |signal| is_changed(signal, &bridge, "OtherConfig"));
    assert_eq!(tree(&lab), before);
    let of_resources = signals.seen().iter().filter(|signal| signal.is_of_resource());
    let told: Vec<_> = of_resources.filter(|signal| !is_changed(signal, &bridge, "OtherConfig")).cloned().collect();
    for signal in &told {
        let (face, changed, invalid) = signal.changed().unwrap_or_else(|| panic!("nothing came or went: {signal:?}"));
        assert_ne!(face, RESOURCE, "back within 2 s, nothing was unknown: {signal:?}");
        assert_eq!(invalid, [""; 0], "{signal:?}");
        assert!(changed.keys().all(|property| EPHEMERAL.contains(&property.as_str())), "{signal:?}");
    }
}

#[test]
fn a_database_server_that_is_stopped_makes_its_resources_unknown_and_nothing_else() {
    let Some(lab) = enter() else { return };
    let document = json!({
        "systemd": { "units": { UNIT: { "active_state": "active" }, MARKER: {} } },
        "ovsdb": { "bridges": { "lab0": { "datapath_type": "netdev", "ports": { "lab0p": { "type": "internal", "tag": 3 } } } } },
        "lxc": { "containers": [{ "id": "101", "running": false }] }
    });
    let (_, result) = lab.set_desired_state(&document);
    assert_eq!(result, "done");
    let (bridge, port, unit) = (path("bridge", "lab0"), path("port", "lab0p"), path("unit", UNIT));
    let plugin = "/org/opdbus/plugin/ovsdb";
    let mut signals = lab.signals();
    let uuid = lab.get(&bridge, "org.opdbus.Bridge", "Uuid");

    lab.run(&["systemctl", "stop", "ovs-vswitchd.service", "ovsdb-server.service"]);
    for resource in [&bridge, &port] {
        lab.until(resource, RESOURCE, "Status", |status| status == "unknown");
        assert_eq!(lab.get(resource, RESOURCE, "Reason"), "BackendAway");
        assert_eq!(lab.get(resource, RESOURCE, "InSync"), false);
    }
    assert_eq!(lab.get(&bridge, "org.opdbus.Bridge", "Uuid"), uuid, "the last known values stay");
    assert_ne!(lab.get(plugin, "org.opdbus.Plugin", "Status"), "connected");
    assert_ne!(lab.get(plugin, "org.opdbus.Plugin", "Message"), "");
    assert_eq!(lab.get(STATE, FACE, "Unknown"), 2);
    assert_eq!(lab.get(STATE, FACE, "InSync"), false);
    for resource in [&unit, &path("container", "101")] {
        assert_eq!(lab.get(resource, RESOURCE, "Status"), "in-sync", "what does not stand on it is known");
    }
    // What depends on it is not planned, the rest is.
    let reply = lab.call(STATE, FACE, "Reconcile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "partial");
    let plan = lab.call(STATE, FACE, "Plan", &["sa{sv}", &document.to_string(), "0"])[0].clone();
    let reasons: Vec<_> = plan.as_array().unwrap().iter().map(|step| &step[7]["reason"]["data"]).collect();
    assert_eq!(reasons, ["BackendAway"; 2], "{plan:#}");

    lab.run(&["systemctl", "start", "ovs-vswitchd.service"]);
    lab.until(plugin, "org.opdbus.Plugin", "Status", |status| status == "connected");
    lab.until(&bridge, RESOURCE, "Status", |status| status == "in-sync");
    lab.until(&port, RESOURCE, "Status", |status| status == "in-sync");
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
    let seen = signals.seen();
    assert!(!seen.iter().any(|signal| signal.member == "DriftDetected"), "{seen:#?}");
    assert!(!seen.iter().any(|signal| signal.member == "InterfacesRemoved" && signal.is_of_resource()), "{seen:#?}");
}

#[test]
fn the_bus_may_read_its_configuration_anew() {
    let Some(lab) = enter() else { return };
    let owner = lab.run(&["busctl", "status", "org.opdbus"]);
    let mut signals = lab.signals();
    for _ in 0..2 {
        lab.run(&[
            "busctl",
            "call",
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "ReloadConfig",
        ]);
    }
    mark(&lab, &mut signals);
    assert_eq!(lab.run(&["busctl", "status", "org.opdbus"]), owner);
    assert_eq!(lab.get("/org/opdbus/plugin/systemd", "org.opdbus.Plugin", "Reconnects"), 0);
}
