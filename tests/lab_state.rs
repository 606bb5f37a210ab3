//! SetDesiredState and its kin on a real machine: what each call takes, refuses, answers and leaves behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "common/world.rs"]
mod world;

use op_dbus_testkit::{Lab, STATE, path, quoted};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";

/// op-dbus on a machine with the units and devices of `world`, where it never ran.
fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    world::prepare(&lab);
    lab.install_afresh(BINARY, None);
    Some(lab)
}

/// Calls a method of the state, whose options are none.
fn call(lab: &Lab, member: &str, signature: &str, arguments: &[&str]) -> Value {
    lab.call(STATE, FACE, member, &[&[signature][..], arguments, &["0"]].concat())
}

fn plan(lab: &Lab, document: &str) -> Value {
    call(lab, "Plan", "sa{sv}", &[document])[0].clone()
}

fn refused(lab: &Lab, member: &str, arguments: &[&str]) -> (String, String) {
    lab.refused(STATE, &format!("{FACE}.{member}"), arguments)
}

fn set_with(lab: &Lab, document: &Value, options: &[&str]) -> Value {
    let (document, count) = (document.to_string(), (options.len() / 3).to_string());
    let arguments = [&["sa{sv}", &document, &count][..], options].concat();
    lab.call(STATE, FACE, "SetDesiredStateWithOptions", &arguments)
}

/// What any write to systemd or Open vSwitch would change: jobs ever queued, the time of the last reload, all links and
/// files of units, and the counter of transactions.
fn written(lab: &Lab) -> Vec<String> {
    vec![
        lab.manager("NInstalledJobs"),
        lab.manager("UnitsLoadFinishTimestampMonotonic"),
        lab.run(&["find", "/etc/systemd", "/run/systemd/system", "-printf", "%p %l %T@\n"]),
        lab.ovs(&["get", "Open_vSwitch", ".", "next_cfg"]),
    ]
}

#[test]
fn the_same_document_twice_is_no_write_and_no_signal_of_any_resource() {
    let Some(lab) = enter() else { return };
    let document = world::document();
    let (job, result) = lab.set_desired_state(&document);
    assert_eq!(result, "done", "{}", lab.get(&job, "org.opdbus.Job", "Message"));
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
    let generation = lab.get(STATE, FACE, "Generation");

    let before = written(&lab);
    let mut signals = lab.signals();
    // Other white space, other order.
    let mut sections: Vec<_> = document.as_object().unwrap().iter().collect();
    sections.reverse();
    let sections: Vec<_> = sections.iter().map(|(name, section)| format!("  {name:?}: {section:#}")).collect();
    let respelt = format!("{{\n{}\n}}", sections.join(",\n"));
    for text in [document.to_string(), respelt] {
        let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &text]);
        assert_eq!(reply[0], generation);
        let job = reply[1].as_str().unwrap();
        assert_eq!(lab.wait(job), "unchanged");
        let finished = signals.until("JobFinished", |signal| signal.member == "JobFinished");
        assert_eq!(finished.arguments, [generation.clone(), json!(job), json!("unchanged"), json!({})]);
        assert_eq!(lab.get(job, "org.opdbus.Job", "Steps"), json!([]));
    }
    assert_eq!(written(&lab), before);
    let resources: Vec<_> = signals.seen().iter().filter(|signal| signal.is_of_resource()).cloned().collect();
    assert_eq!(resources, [], "nothing changed, so nothing is told");
}

#[test]
fn what_is_exported_plans_to_nothing_and_is_taken_as_unchanged() {
    let Some(lab) = enter() else { return };
    lab.set_desired_state(&world::document());
    // What a document cannot say, or should not: none of it may come out as something to do.
    lab.ovs(&["add-br", "labfake", "ovsbr0", "12"]);
    lab.ovs(&["--no-wait", "add-port", "ovsbr0", "labnodev"]);
    lab.ovs(&[
        "add-port",
        "lab0",
        "labgre",
        "--",
        "set",
        "interface",
        "labgre",
        "type=gre",
        "options:remote_ip=192.0.2.9",
        "options:psk=hush",
    ]);
    lab.ovs(&["set", "bridge", "ovsbr0", "external_ids:odd=\"a \\\"b\\\" {c}\"", "other_config:x=y"]);
    lab.ovs(&["set", "port", "lab0tag", "vlan_mode=native-untagged", "trunks=10,11"]);
    // Container 102 is stopped and leaves a port behind.
    lab.run(&["systemctl", "start", "pve-container@102.service"]);
    lab.until(&path("port", "veth102"), "org.opdbus.Port", "Bridge", |bridge| *bridge == path("bridge", "ovsbr0"));
    lab.run(&["systemctl", "stop", "pve-container@102.service"]);
    lab.until(&path("container", "102"), "org.opdbus.Container", "Running", |running| *running == false);

    let all = ["1", "all-units", "b", "true"];
    for (plugins, options) in [
        (&["0"][..], &["0"][..]),
        (&["0"], &all),
        (&["1", "systemd"], &["0"]),
        (&["1", "ovsdb"], &["0"]),
        (&["2", "lxc", "ovsdb"], &["0"]),
    ] {
        let reply = lab.call(STATE, FACE, "ExportState", &[&["asa{sv}"][..], plugins, options].concat());
        let document = reply[0].as_str().unwrap();
        assert_eq!(call(&lab, "Validate", "sa{sv}", &[document])[0], json!([]), "{document}");
        assert_eq!(plan(&lab, document), json!([]), "of {plugins:?} {options:?}: {document}");
    }

    let reply = lab.call(STATE, FACE, "ExportState", &[&["asa{sv}", "0"][..], &all].concat());
    let text = reply[0].as_str().unwrap();
    let document: Value = serde_json::from_str(text).unwrap();
    assert!(!text.contains("hush"), "a secret is not exported: {text}");
    let lab0 = &document["ovsdb"]["bridges"]["lab0"];
    assert_eq!(lab0["ports"]["lab0bond"]["interfaces"], json!(["labd1", "labd2"]));
    assert_eq!(lab0["ports"]["lab0tag"]["tag"], 10);
    assert_eq!(lab0["other_config"]["mac-aging-time"], "301");
    assert_eq!(document["systemd"]["units"]["lab-idle.service"]["active_state"], "active");
    assert!(document["systemd"]["units"].as_object().unwrap().len() > 20, "all units with an [Install]: {text}");
    let containers = document["lxc"]["containers"].as_array().unwrap();
    let ids: Vec<_> = containers.iter().map(|container| container["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["100", "101"], "of 102 there is a port alone: systemd has forgotten its unit");

    // As the desired state it is a new generation, and there is still nothing to do.
    let before = written(&lab);
    let (job, result) = lab.set_desired_state(&document);
    assert_eq!(result, "unchanged", "{}", lab.get(&job, "org.opdbus.Job", "Message"));
    assert_eq!(written(&lab), before);
    lab.ovs(&["del-br", "labfake"]);
}

#[test]
fn a_generation_that_is_not_the_expected_one_is_a_conflict() {
    let Some(lab) = enter() else { return };
    let document = json!({ "systemd": { "units": { "lab-idle.service": { "active_state": "active" } } } });
    let first = set_with(&lab, &document, &["expected-generation", "t", "0"]);
    assert_eq!(first[0], 1);
    assert_eq!(lab.wait(first[1].as_str().unwrap()), "done");

    let other = json!({ "systemd": { "units": { "lab-idle.service": { "active_state": "inactive" } } } });
    let (name, message) = refused(
        &lab,
        "SetDesiredStateWithOptions",
        &[&quoted(&other.to_string()), "{'expected-generation': <uint64 7>}"],
    );
    assert_eq!(name, "org.opdbus.Error.Conflict");
    assert!(message.contains("generation 1 is current, not 7"), "{message}");
    assert_eq!(lab.get(STATE, FACE, "Generation"), 1);
    assert_eq!(lab.show("lab-idle.service", "ActiveState"), "active");

    let second = set_with(&lab, &other, &["expected-generation", "t", "1"]);
    assert_eq!(second[0], 2);
    assert_eq!(lab.wait(second[1].as_str().unwrap()), "done");
    assert_eq!(lab.show("lab-idle.service", "ActiveState"), "inactive");

    // An option that is ignored would be a lock-out.
    let (name, message) = refused(
        &lab,
        "SetDesiredStateWithOptions",
        &[&quoted(&other.to_string()), "{'expected-generatoin': <uint64 2>}"],
    );
    assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs");
    assert!(message.contains("expected-generatoin") && message.contains("allow-empty"), "{message}");
}

#[test]
fn an_empty_document_must_be_meant() {
    let Some(lab) = enter() else { return };
    let document = json!({ "systemd": { "units": { "lab-idle.service": { "active_state": "active" } } } });
    lab.set_desired_state(&document);
    let (name, message) = refused(&lab, "SetDesiredState", &["'{}'"]);
    assert_eq!(name, "org.opdbus.Error.InvalidDocument");
    assert!(message.contains("allow_empty"), "{message}");
    assert_eq!(lab.get(STATE, FACE, "Generation"), 1);

    let reply = set_with(&lab, &json!({}), &["allow-empty", "b", "true"]);
    assert_eq!(reply[0], 2);
    assert_eq!(lab.wait(reply[1].as_str().unwrap()), "unchanged");
    assert_eq!(lab.get(STATE, FACE, "Managed"), 0);
    assert_eq!(lab.show("lab-idle.service", "ActiveState"), "active", "what is not named is left alone");
    let gone = lab.outcome(&["busctl", "introspect", "org.opdbus", &path("unit", "lab-idle.service")]);
    assert!(!gone.success, "a unit that is not declared is not on the tree");
}

#[test]
fn all_faults_at_once_and_nothing_changes() {
    let Some(lab) = enter() else { return };
    lab.set_desired_state(&json!({ "systemd": { "units": { "lab-idle.service": { "active_state": "active" } } } }));
    let bad = json!({
        "systemd": { "units": { "lab-idle.service": { "active_sate": "active" }, "lab-off.service": { "masked": true, "active_state": "active" } } },
        "ovsdb": { "bridges": { "lab0": { "ports": { "lab0tag": { "tag": 5000 } } }, "a-name-far-too-long": {} } },
        "lxc": { "containers": [{ "id": "100", "running": "yes" }] }
    });
    let faults = call(&lab, "Validate", "sa{sv}", &[&bad.to_string()])[0].clone();
    let mut pointers: Vec<_> = faults.as_array().unwrap().iter().map(|fault| fault[0].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/lxc/containers/0/running",
            "/ovsdb/bridges/a-name-far-too-long",
            "/ovsdb/bridges/lab0/ports/lab0tag/tag",
            "/systemd/units/lab-idle.service/active_sate",
            "/systemd/units/lab-off.service/active_state",
        ],
        "{faults:#}"
    );
    for member in ["SetDesiredState", "SetDesiredStateWithOptions", "Plan"] {
        let text = quoted(&bad.to_string());
        let arguments = if member == "SetDesiredState" { vec![text.as_str()] } else { vec![&text, "{}"] };
        let (name, message) = refused(&lab, member, &arguments);
        assert_eq!(name, "org.opdbus.Error.InvalidDocument");
        for pointer in &pointers {
            assert!(message.contains(pointer), "{pointer} in {message}");
        }
        assert!(message.contains("active_state"), "the near name: {message}");
    }
    assert_eq!(lab.get(STATE, FACE, "Generation"), 1);
    assert_eq!(lab.get(STATE, FACE, "JobsTotal"), 1);
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
}

#[test]
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let Some(lab) = enter() else { return };
    let before = written(&lab);
    let steps = plan(&lab, &world::document().to_string());
    let steps = steps.as_array().unwrap();
    let find = |resource: &str, action: &str| {
        let found = steps.iter().find(|step| step[1] == resource && step[2] == action);
        found.unwrap_or_else(|| panic!("{action} of {resource} in {steps:#?}"))
    };
    let waits = |later: &Value, earlier: &Value| {
        // Steps name what they wait for; that may wait in turn.
        let mut open = vec![later.clone()];
        while let Some(step) = open.pop() {
            for id in step[5].as_array().unwrap() {
                if *id == earlier[0] {
                    return true;
                }
                open.push(steps.iter().find(|step| step[0] == *id).unwrap().clone());
            }
        }
        false
    };
    let bridge = find(&path("bridge", "lab0"), "add-bridge");
    let bond = find(&path("port", "lab0bond"), "add-port");
    let start = find(&path("container", "100"), "start");
    let plug = find(&path("port", "veth100"), "plug-port");
    let files = find(&path("unit", "lab-plain.service"), "set-unit-file");
    let reload = find("/org/opdbus/plugin/systemd", "daemon-reload");
    let idle = find(&path("unit", "lab-idle.service"), "start");
    assert!(waits(bond, bridge), "a bridge before its ports");
    assert!(waits(plug, start), "a container before the port that it brings");
    assert!(waits(reload, files) && waits(idle, reload), "files, one reload, starts");
    assert!(!waits(start, bridge), "nothing on lab0 concerns container 100");
    let change = files[4].as_array().unwrap().iter().find(|change| change[0] == "enabled").unwrap();
    assert_eq!(change, &json!(["enabled", { "type": "b", "data": false }, { "type": "b", "data": true }]), "from, to");
    assert!(files[7]["warnings"]["data"][0].as_str().unwrap().contains("[Install]"), "{files}");
    assert_eq!(written(&lab), before);
    assert_eq!(lab.get(STATE, FACE, "Generation"), 0);

    // What cannot be done is listed, with its reason.
    let blocked = json!({
        "systemd": { "units": { "lab-nowhere.service": { "active_state": "active" } } },
        "lxc": { "containers": [{ "id": "100", "veth": "veth100", "bridge": "nowhere0", "running": true }] }
    });
    let steps = plan(&lab, &blocked.to_string());
    let reasons: Vec<_> = steps.as_array().unwrap().iter().map(|step| &step[7]["reason"]["data"]).collect();
    assert!(reasons.contains(&&json!("UnitNotFound")) && reasons.contains(&&json!("BridgeMissing")), "{steps:#}");
}

#[test]
fn generations_are_listed_and_their_documents_are_as_received() {
    let Some(lab) = enter() else { return };
    let (name, _) = refused(&lab, "GetDesiredState", &["0", "{}"]);
    assert_eq!(name, "org.opdbus.Error.NotFound", "there is none yet");
    let (name, _) = refused(&lab, "Reconcile", &["{}"]);
    assert_eq!(name, "org.opdbus.Error.NotFound", "nothing to reconcile with");

    let texts = ["active", "inactive"].map(|state| {
        format!("{{ \"systemd\":\n{{\"units\": {{\"lab-idle.service\": {{\"active_state\": \"{state}\"}} }} }} }}\n")
    });
    for text in &texts {
        let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", text]);
        lab.wait(reply[1].as_str().unwrap());
    }
    let listed = call(&lab, "ListGenerations", "a{sv}", &[])[0].clone();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    for (at, (generation, text)) in listed.iter().zip(&texts).enumerate() {
        assert_eq!(generation[0], at + 1);
        assert_eq!((&generation[2], &generation[3]), (&json!("bus"), &json!(0)));
        std::fs::write("/run/lab-document", text).unwrap();
        let sum = lab.run(&["sha256sum", "/run/lab-document"]);
        assert_eq!(generation[4], sum.split_whitespace().next().unwrap());
        assert_eq!(generation[5], "done");
        let number = (at + 1).to_string();
        assert_eq!(call(&lab, "GetDesiredState", "ta{sv}", &[&number])[0], **text);
    }
    assert!(listed[0][1].as_u64() < listed[1][1].as_u64(), "times rise");
    assert_eq!(call(&lab, "GetDesiredState", "ta{sv}", &["0"])[0], *texts[1]);
    let (name, _) = refused(&lab, "GetDesiredState", &["3", "{}"]);
    assert_eq!(name, "org.opdbus.Error.NotFound");
}

#[test]
fn resources_are_listed_by_filter_and_page() {
    let Some(lab) = enter() else { return };
    lab.set_desired_state(&world::document());
    let list = |filter: &[&str], after: &str, limit: &str| {
        let arguments = [&["a{sv}sua{sv}"][..], filter, &[after, limit, "0"]].concat();
        let reply = lab.call(STATE, FACE, "ListResources", &arguments);
        (reply[0].as_array().unwrap().clone(), reply[1].as_str().unwrap().to_owned())
    };
    let (all, next) = list(&["0"], "", "0");
    assert_eq!(next, "");
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let (page, next) = list(&["0"], &after, "3");
        assert!(page.len() == 3 || next.is_empty());
        paged.extend(page);
        if next.is_empty() {
            break;
        }
        after = next;
    }
    assert_eq!(paged, all);
    let kinds: Vec<_> = all.iter().map(|row| row[1].as_str().unwrap()).collect();
    let mut ordered = kinds.clone();
    ordered.sort_by_key(|kind| ["bridge", "port", "container", "unit"].iter().position(|known| known == kind));
    assert_eq!(kinds, ordered);

    let names = |filter: &[&str]| {
        let (rows, _) = list(filter, "", "0");
        rows.iter().map(|row| row[2].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&["1", "kind", "s", "unit"]),
        ["lab-idle.service", "lab-off.service", "lab-once.service", "lab-plain.service"]
    );
    assert_eq!(names(&["2", "kind", "s", "bridge", "managed", "b", "true"]), ["lab0", "ovsbr0"]);
    assert_eq!(names(&["2", "kind", "s", "port", "name-prefix", "s", "lab0t"]), ["lab0tag", "lab0trunk"]);
    assert_eq!(names(&["2", "kind", "s", "port", "managed", "b", "false"]), ["lab0", "ovsbr0", "veth101"]);
    assert_eq!(names(&["1", "status", "s", "drifted"]), [""; 0]);
    lab.run(&["systemctl", "stop", "lab-plain.service"]);
    let plain = path("unit", "lab-plain.service");
    lab.until(&plain, "org.opdbus.Resource", "Status", |status| status == "drifted");
    let (drifted, _) = list(&["1", "status", "s", "drifted"], "", "0");
    assert_eq!(drifted, [json!([plain, "unit", "lab-plain.service", "drifted", "Differs", {}])]);
    for filter in ["{'kind': <'brige'>}", "{'knd': <'bridge'>}", "{'managed': <'yes'>}"] {
        let (name, _) = refused(&lab, "ListResources", &[filter, "", "0", "{}"]);
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs", "{filter}");
    }
}

#[test]
fn reconcile_puts_back_all_or_one_resource() {
    let Some(lab) = enter() else { return };
    lab.set_desired_state(&world::document());
    let idle = path("unit", "lab-idle.service");
    let tag = path("port", "lab0tag");
    let break_both = || {
        lab.run(&["systemctl", "stop", "lab-idle.service"]);
        lab.ovs(&["set", "port", "lab0tag", "tag=99"]);
        lab.until(&idle, "org.opdbus.Resource", "Status", |status| status == "drifted");
        lab.until(&tag, "org.opdbus.Resource", "Status", |status| status == "drifted");
    };
    break_both();
    let reply = lab.call(&tag, "org.opdbus.Resource", "Reconcile", &["a{sv}", "0"]);
    let job = reply[0].as_str().unwrap();
    assert_eq!(lab.wait(job), "done");
    assert_eq!(lab.get(job, "org.opdbus.Job", "Target"), *tag);
    assert_eq!(lab.get(job, "org.opdbus.Job", "Kind"), "reconcile");
    assert_eq!(lab.ovs(&["get", "port", "lab0tag", "tag"]), "10");
    assert_eq!(lab.show("lab-idle.service", "ActiveState"), "inactive", "only the port was asked for");

    break_both();
    let reply = call(&lab, "Reconcile", "a{sv}", &[]);
    let job = reply[0].as_str().unwrap();
    assert_eq!(lab.wait(job), "done");
    assert_eq!(lab.get(job, "org.opdbus.Job", "Target"), STATE);
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
    assert_eq!(lab.get(STATE, FACE, "Generation"), 1, "no new generation");
    let reply = call(&lab, "Reconcile", "a{sv}", &[]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "unchanged");

    // What is shown and not declared has nothing to be reconciled with.
    let (name, _) = lab.refused(&path("port", "ovsbr0"), "org.opdbus.Resource.Reconcile", &["{}"]);
    assert_eq!(name, "org.opdbus.Error.NotFound");
}
