//! Which steps a container takes, and in which order.

use super::*;

#[test]
fn the_steps_of_a_container_come_one_after_the_other() {
    type Change = fn(&mut Observed);
    let same: Change = |_| {};
    let replaced: Change = |observed| port(observed, |facts| facts.interfaces[0].replaced = true);
    let waits: Change = |observed| guest(observed, |_, settings| settings.pending = ["hostname".to_owned()].into());
    let table: [(Json, Change, &[&str]); 15] = [
        (
            json!({"onboot": true}),
            gone,
            &["create-container", "set-properties", "set-unit-file", "start", "plug-port", "daemon-reload"],
        ),
        (json!({"running": false}), gone, &["create-container", "set-properties"]),
        // Half a copy is not there.
        (
            json!({"running": false, "cores": null, "memory_mib": null}),
            |observed| {
                stopped(observed);
                guest(observed, |facts, _| facts.lock = UNFINISHED.to_owned());
            },
            &["create-container"],
        ),
        (json!({"hostname": "blog", "memory_mib": 96}), same, &["set-container", "set-properties"]),
        (json!({"hostname": "blog", "restart": true}), same, &["set-container", "delete-port", "restart", "plug-port"]),
        (json!({"restart": true}), waits, &["delete-port", "restart", "plug-port"]),
        (json!({"running": false}), same, &["stop"]),
        // systemd-nspawn makes the device anew: the port of the last run would stay with the old one.
        (json!({}), stopped, &["delete-port", "start", "plug-port"]),
        (
            json!({}),
            |observed| {
                stopped(observed);
                observed.ports.remove("ve-web");
            },
            &["start", "plug-port"],
        ),
        (json!({}), replaced, &["replug-port"]),
        (json!({}), |observed| port(observed, |facts| facts.bridge = "br1".into()), &["move-port"]),
        (json!({"networks": [{"name": "eth0", "bridge": "br0", "tag": 7}]}), same, &["set-port"]),
        (json!({}), |observed| drop(observed.ports.remove("ve-web")), &["plug-port"]),
        (json!({"running": false, "template": true}), stopped, &["make-template"]),
        (json!({"onboot": true}), same, &["set-unit-file", "daemon-reload"]),
    ];
    for (fields, change, expected) in table {
        let mut observed = host();
        change(&mut observed);
        let plan = planned(&document(&fields), &observed);
        assert_eq!(words(&plan), expected, "{fields}");
        let of_container = plan.steps.iter().filter(|step| !matches!(step.action, Action::ReloadSystemd));
        for (step, before) in of_container.clone().skip(1).zip(of_container) {
            assert_eq!(step.after, [before.id], "{fields}: {plan:?}");
        }
    }
}

#[test]
fn a_template_is_fetched_for_each_that_waits_for_it() {
    let containers: Vec<Json> = ["web", "db"]
        .iter()
        .map(|id| {
            web(&json!({"id": id, "from": {"template": "new"}, "running": false, "cores": null, "memory_mib": null}))
        })
        .collect();
    let document = json!({
        "lxc": {"templates": [{"name": "new", "file": "/srv/new.tar"}], "containers": containers}
    });
    let mut observed = host();
    gone(&mut observed);
    let plan = planned(&document, &observed);
    assert_eq!(words(&plan), ["fetch-template", "create-container", "fetch-template", "create-container"]);
    images(&mut observed, &["new"]);
    assert_eq!(words(&planned(&document, &observed)), ["create-container", "create-container"]);
}

#[test]
fn a_port_is_plugged_anew_as_it_was() {
    let mut observed = host();
    port(&mut observed, |facts| {
        facts.external_ids.insert("site".to_owned(), "north".to_owned());
        facts.tag = Some(9);
        facts.interfaces[0].replaced = true;
    });
    let plan = planned(&document(&json!({"networks": [{"name": "eth0", "bridge": "br0", "tag": 7}]})), &observed);
    let [step] = plan.steps.as_slice() else { unreachable!("{plan:?}") };
    assert!(
        matches!(&step.action, Action::Port(name, PortOp::Replug(spec)) if **name == *"ve-web"
            && spec.tag == Want::Is(7)
            && spec.external_ids.get("site") == Some(&Some("north".to_owned()))),
        "{step:?}"
    );
    let fields: Vec<&str> = step.changes.iter().map(|difference| difference.field.as_str()).collect();
    assert_eq!(fields, ["networks.ve-web.tag", "networks.ve-web.device"]);
}

#[test]
fn what_is_removed_takes_along_what_op_dbus_made_for_it() {
    let absent = json!({"lxc": {"containers": [{"id": "web", "ensure": "absent"}]}});
    let mut observed = host();
    unit(&mut observed, |facts| facts.unit_file_state = "enabled".to_owned());
    let plan = planned(&absent, &observed);
    assert_eq!(words(&plan), ["stop", "set-unit-file", "destroy-container", "delete-port", "daemon-reload"]);
    assert!(plan.steps[0].warnings.iter().any(|text| text.contains("all that is in it will be gone")), "{plan:?}");
    let disables = |action: &Action| {
        matches!(action, Action::Unit(_, UnitOp::Files { enable: Some(false), unmask: false, mask: false }))
    };
    assert!(disables(&plan.steps[1].action));
    // Neither another's port, nor one that the document has a word for.
    let mut foreign = host();
    port(&mut foreign, |facts| facts.external_ids.clear());
    assert_eq!(words(&planned(&absent, &foreign)), ["stop", "destroy-container"]);
    let mut declared = absent.clone();
    declared["ovsdb"] = json!({"bridges": {"br0": {"ports": {"ve-web": {}}}}});
    assert_eq!(words(&planned(&declared, &host())), ["stop", "destroy-container"]);
    let mut stopped_host = host();
    stopped(&mut stopped_host);
    assert_eq!(words(&planned(&absent, &stopped_host)), ["destroy-container", "delete-port"]);
    guest(&mut stopped_host, |facts, _| facts.has_foreign_settings = true);
    let warnings = &planned(&absent, &stopped_host).steps[0].warnings;
    assert!(warnings.iter().any(|text| text.contains("which op-dbus did not write")), "{warnings:?}");
    let mut nothing = host();
    gone(&mut nothing);
    assert_eq!(words(&planned(&absent, &nothing)), [""; 0]);
}
