//! The section `lxc`, and what other sections say of its containers.

use serde_json::{Value, json};

use super::{Case, check, containers};
use crate::desired::{DocumentError, Rules, code, parse_with};

#[test]
fn containers_and_what_they_meet() {
    let with = |ovsdb: Value, list: Value| json!({"ovsdb": {"bridges": ovsdb}, "lxc": {"containers": list}});
    let unit_and = |unit: Value, running: bool| {
        json!({"systemd": {"units": {"pve-container@100.service": unit}},
               "lxc": {"containers": [{"id": "100", "running": running}]}})
    };
    let plugged = json!([{"id": "1", "veth": "veth1", "bridge": "br0"}]);
    check(&[
        Case(containers(&json!([{}])), &[("/lxc/containers/0", code::MISSING_FIELD, "id is missing")]),
        Case(containers(&json!([[]])), &[("/lxc/containers/0", code::WRONG_TYPE, "must be an object")]),
        Case(containers(&json!([{"id": 100}])), &[("/lxc/containers/0/id", code::WRONG_TYPE, "put it in quotes")]),
        Case(containers(&json!([{"id": "a/b"}])), &[("/lxc/containers/0/id", code::BAD_NAME, "no container's id")]),
        Case(
            containers(&json!([{"id": "1"}, {"id": "2"}, {"id": "1"}])),
            &[("/lxc/containers/2/id", code::CONTRADICTION, "/lxc/containers/0")],
        ),
        Case(
            containers(&json!([{"id": "1", "bridge": "br0"}])),
            &[("/lxc/containers/0", code::MISSING_FIELD, "without veth")],
        ),
        Case(
            containers(&json!([{"id": "1", "hostname": "warp", "onboot": true, "ensure": "absent", "runing": true}])),
            &[("/lxc/containers/0/runing", code::UNKNOWN_FIELD, "did you mean running?")],
        ),
        Case(
            containers(&json!([{"id": "2", "veth": "veth1"}, {"id": "1", "veth": "veth1"}])),
            &[("/lxc/containers/1/veth", code::CONTRADICTION, "veth of container 2 already")],
        ),
        Case(
            with(json!({"br0": {}, "br1": {"ports": {"veth1": {"tag": 1}}}}), plugged.clone()),
            &[("/lxc/containers/0/bridge", code::CONTRADICTION, "declared on bridge \"br1\"")],
        ),
        Case(
            with(json!({"br0": {"ports": {"veth1": {"ensure": "absent"}}}}), plugged.clone()),
            &[("/lxc/containers/0/bridge", code::CONTRADICTION, "shall be absent from that bridge")],
        ),
        Case(
            with(json!({"br0": {"ensure": "absent"}}), plugged.clone()),
            &[("/lxc/containers/0/bridge", code::CONTRADICTION, "shall be absent")],
        ),
        Case(
            with(json!({"br0": {"ports": {"b0": {"interfaces": ["veth1", "eno1"]}}}}), plugged),
            &[("/lxc/containers/0/veth", code::CONTRADICTION, "belongs to port:b0")],
        ),
        Case(
            with(json!({"br0": {}}), json!([{"id": "1", "veth": "br0", "bridge": "br0"}])),
            &[("/lxc/containers/0/veth", code::CONTRADICTION, "belongs to port:br0")],
        ),
        Case(
            unit_and(json!({"active_state": "inactive"}), true),
            &[("/lxc/containers/0/running", code::CONTRADICTION, "/systemd/units/pve-container@100.service")],
        ),
        Case(
            unit_and(json!({"active_state": "active"}), false),
            &[("/lxc/containers/0/running", code::CONTRADICTION, "shall not run")],
        ),
        Case(
            unit_and(json!({"masked": true}), true),
            &[("/lxc/containers/0/running", code::CONTRADICTION, "shall run")],
        ),
    ]);
}

#[test]
fn settings_of_containers() {
    let one = |settings: Value| {
        let mut entry = json!({"id": "101"});
        entry.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        containers(&json!([entry]))
    };
    let network = |settings: Value| {
        let mut entry = json!({"name": "eth0"});
        entry.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        one(json!({"networks": [entry]}))
    };
    let two = |first: Value, second: Value| {
        let network = |settings: Value| {
            let mut entry = json!({"name": "eth0"});
            entry.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
            json!([entry])
        };
        containers(&json!([{"id": "101", "networks": network(first)}, {"id": "102", "networks": network(second)}]))
    };
    check(&[
        Case(one(json!({"hostname": "my_host"})), &[("/lxc/containers/0/hostname", code::OUT_OF_RANGE, "no _")]),
        Case(one(json!({"memory_mib": 15})), &[("/lxc/containers/0/memory_mib", code::OUT_OF_RANGE, "from 16 to")]),
        Case(one(json!({"cores": 0})), &[("/lxc/containers/0/cores", code::OUT_OF_RANGE, "from 1 to 8192")]),
        Case(one(json!({"cpulimit": 0})), &[("/lxc/containers/0/cpulimit", code::OUT_OF_RANGE, "from 0.001")]),
        Case(
            network(json!({"ip": "10.0.0.1"})),
            &[("/lxc/containers/0/networks/0/ip", code::OUT_OF_RANGE, "with its prefix")],
        ),
        Case(
            network(json!({"ip6": "fd00:::1/64"})),
            &[("/lxc/containers/0/networks/0/ip6", code::OUT_OF_RANGE, "with its prefix")],
        ),
        Case(
            network(json!({"hwaddr": "01:00:5E:00:00:01"})),
            &[("/lxc/containers/0/networks/0/hwaddr", code::OUT_OF_RANGE, "of one device")],
        ),
        Case(
            two(json!({"ip": "10.0.0.1/24"}), json!({"ip": "10.0.0.1/16"})),
            &[("/lxc/containers/1/networks", code::CONTRADICTION, "is container 101's already")],
        ),
        Case(
            two(json!({"hwaddr": "BC:24:11:00:00:01"}), json!({"hwaddr": "bc:24:11:00:00:01"})),
            &[("/lxc/containers/1/networks", code::CONTRADICTION, "MAC")],
        ),
        Case(
            one(json!({"networks": [{"name": "eth0"}, {"name": "eth0"}]})),
            &[("/lxc/containers/0/networks/1/name", code::CONTRADICTION, "stands twice")],
        ),
        Case(
            one(json!({"networks": [], "veth": "veth101"})),
            &[("/lxc/containers/0/veth", code::CONTRADICTION, "short form")],
        ),
        Case(one(json!({"from": {}})), &[("/lxc/containers/0/from", code::MISSING_FIELD, "template nor clone")]),
        Case(
            one(json!({"from": {"template": "a:b", "clone": "100"}})),
            &[("/lxc/containers/0/from", code::OUT_OF_RANGE, "take template or clone away")],
        ),
        Case(
            one(json!({"from": {"clone": "101"}})),
            &[("/lxc/containers/0/from/clone", code::CONTRADICTION, "not there to be cloned")],
        ),
        Case(
            one(json!({"from": {"clone": "900", "password_credential": "p"}})),
            &[("/lxc/containers/0/from/password_credential", code::CONTRADICTION, "a clone keeps")],
        ),
        Case(
            one(json!({"ensure": "absent", "running": true})),
            &[("/lxc/containers/0/running", code::CONTRADICTION, "cannot run")],
        ),
        Case(one(json!({"purge": true})), &[("/lxc/containers/0/purge", code::CONTRADICTION, "absent")]),
        Case(
            one(json!({"mounts": [{"path": "/srv", "storage": "local-lvm"}]})),
            &[("/lxc/containers/0/mounts/0", code::CONTRADICTION, "add size_gib")],
        ),
        Case(one(json!({"startup": {}})), &[("/lxc/containers/0/startup", code::MISSING_FIELD, "order, up and down")]),
        Case(one(json!({"tags": ["Web"]})), &[("/lxc/containers/0/tags/0", code::OUT_OF_RANGE, "small letters")]),
        Case(
            json!({"lxc": {"templates": [{"name": "a.tar.zst"}]}}),
            &[("/lxc/templates/0", code::MISSING_FIELD, "url, appliance and file")],
        ),
    ]);
    // Only Proxmox VE's ids are numbers, and only of some size.
    let rules = Rules { proxmox: true, ..Rules::default() };
    for id in ["99", "1000000000", "0100", "web"] {
        let document = json!({"lxc": {"containers": [{"id": id, "hostname": "a"}]}}).to_string();
        let Err(DocumentError::Invalid(faults)) = parse_with(&document, &rules) else { panic!("{id} is taken") };
        assert_eq!((faults[0].pointer.as_str(), faults[0].code), ("/lxc/containers/0/id", code::OUT_OF_RANGE));
        crate::desired::parse(&document).unwrap();
    }
}
