//! Documents that are wrong: each fault with its place, its code and its remedy, all at once.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::desired::{DocumentError, Rules, code, parse, parse_bytes, parse_with, tests::faults};

/// A wrong document, and of each of its faults: pointer, code, and words that its message holds.
struct Case(Value, &'static [(&'static str, &'static str, &'static str)]);

fn unit(name: &str, fields: &Value) -> Value {
    json!({"systemd": {"units": {name: fields}}})
}

fn bridge(name: &str, fields: &Value) -> Value {
    json!({"ovsdb": {"bridges": {name: fields}}})
}

fn port(fields: &Value) -> Value {
    bridge("br0", &json!({"ports": {"p0": fields}}))
}

fn containers(list: &Value) -> Value {
    json!({"lxc": {"containers": list}})
}

fn check(cases: &[Case]) {
    for Case(document, expected) in cases {
        let text = document.to_string();
        let found = faults(&text);
        let places: Vec<_> = found.iter().map(|fault| (fault.pointer.as_str(), fault.code)).collect();
        let wanted: Vec<_> = expected.iter().map(|(pointer, code, _)| (*pointer, *code)).collect();
        assert_eq!(places, wanted, "{text}\n{found:#?}");
        for (fault, (_, _, words)) in found.iter().zip(*expected) {
            assert!(fault.message.contains(words), "{text}: {:?} lacks {words:?}", fault.message);
        }
    }
}

#[test]
fn structure() {
    check(&[
        Case(json!([]), &[("", code::WRONG_TYPE, "must be an object, but is a list")]),
        Case(json!({"version": 2}), &[("/version", code::OUT_OF_RANGE, "from 1 to 1")]),
        Case(json!({"version": "1"}), &[("/version", code::WRONG_TYPE, "without quotes")]),
        Case(json!({"drift": "enforced"}), &[("/drift", code::OUT_OF_RANGE, "did you mean \"enforce\"?")]),
        Case(json!({"prune": 1}), &[("/prune", code::WRONG_TYPE, "must be true or false, but is a number")]),
        Case(json!({"systmd": {}}), &[("/systmd", code::UNKNOWN_FIELD, "did you mean systemd?")]),
        Case(json!({"$schema": ""}), &[("/$schema", code::UNKNOWN_FIELD, "there are version, drift, prune")]),
        Case(json!({"dbus": {"objects": []}}), &[("/dbus/objects", code::WRONG_TYPE, "must be an object")]),
        Case(json!({"systemd": null}), &[("/systemd", code::WRONG_TYPE, "leave it out")]),
        Case(json!({"systemd": {"unit": {}}}), &[("/systemd/unit", code::UNKNOWN_FIELD, "did you mean units?")]),
        Case(json!({"ovsdb": {"bridges": []}}), &[("/ovsdb/bridges", code::WRONG_TYPE, "must be an object")]),
        Case(json!({"lxc": {"containers": {}}}), &[("/lxc/containers", code::WRONG_TYPE, "must be a list")]),
    ]);
}

#[test]
fn units() {
    let long = "u".repeat(300 - ".service".len()) + ".service";
    check(&[
        Case(unit("a.service", &json!(5)), &[("/systemd/units/a.service", code::WRONG_TYPE, "must be an object")]),
        Case(
            unit("a.service", &json!({"enabled": "yes", "masked": null, "active_state": "running"})),
            &[
                ("/systemd/units/a.service/enabled", code::WRONG_TYPE, "true or false, but is a text"),
                ("/systemd/units/a.service/masked", code::WRONG_TYPE, "leave it out"),
                ("/systemd/units/a.service/active_state", code::OUT_OF_RANGE, "\"active\", \"inactive\""),
            ],
        ),
        Case(
            unit("a.service", &json!({"active-state": "active"})),
            &[("/systemd/units/a.service/active-state", code::UNKNOWN_FIELD, "did you mean active_state?")],
        ),
        Case(
            unit("a.service", &json!({"properties": {"CPUWeight": null, "IOWeight": 0.5, "Tags": ["a", 1], "X": {}}})),
            &[
                ("/systemd/units/a.service/properties/CPUWeight", code::WRONG_TYPE, "leave it out"),
                ("/systemd/units/a.service/properties/IOWeight", code::WRONG_TYPE, "fraction"),
                ("/systemd/units/a.service/properties/Tags/1", code::WRONG_TYPE, "put it in quotes"),
                ("/systemd/units/a.service/properties/X", code::WRONG_TYPE, "but is an object"),
            ],
        ),
        Case(
            unit("a.service", &json!({"properties": {"cpu_weight": 1}})),
            &[("/systemd/units/a.service/properties/cpu_weight", code::BAD_NAME, "as in CPUWeight")],
        ),
        Case(
            unit("a.service", &json!({"properties": {"A": "nul\u{0}"}})),
            &[("/systemd/units/a.service/properties/A", code::OUT_OF_RANGE, "NUL")],
        ),
        Case(unit("a/b.service", &json!({})), &[("/systemd/units/a~1b.service", code::BAD_NAME, "character")]),
        Case(unit("a\nb.service", &json!({})), &[("/systemd/units/a\nb.service", code::BAD_NAME, "\"a\\nb.service\"")]),
        Case(unit("nginx", &json!({})), &[("/systemd/units/nginx", code::BAD_NAME, "has no type")]),
        Case(unit("getty@.service", &json!({})), &[("/systemd/units/getty@.service", code::BAD_NAME, "template")]),
        Case(
            unit("a.service", &json!({"masked": true, "enabled": true, "active_state": "active"})),
            &[
                ("/systemd/units/a.service/enabled", code::CONTRADICTION, "take masked or enabled away"),
                ("/systemd/units/a.service/active_state", code::CONTRADICTION, "masked unit cannot be active"),
            ],
        ),
    ]);
    let found = faults(&unit(&long, &json!({})).to_string());
    assert_eq!((found[0].code, found[0].pointer.len()), (code::BAD_NAME, "/systemd/units/".len() + 300));
    assert!(found[0].message.contains("255 bytes") && found[0].message.len() < 200, "{}", found[0].message);
}

fn package(fields: &Value) -> Value {
    json!({"packagekit": {"packages": {"nginx": fields}}})
}

#[test]
fn packages() {
    const AT: &str = "/packagekit/packages/nginx";
    check(&[
        Case(package(&json!([])), &[(AT, code::WRONG_TYPE, "must be an object")]),
        Case(
            package(&json!({"ensure": "present", "versoin": "1"})),
            &[
                ("/packagekit/packages/nginx/ensure", code::OUT_OF_RANGE, "\"installed\", \"removed\", \"latest\""),
                ("/packagekit/packages/nginx/versoin", code::UNKNOWN_FIELD, "did you mean version?"),
            ],
        ),
        Case(
            package(&json!({"ensure": "installed", "version": 1})),
            &[("/packagekit/packages/nginx/version", code::WRONG_TYPE, "put it in quotes")],
        ),
        Case(
            package(&json!({"ensure": "installed", "version": "1 or 2"})),
            &[("/packagekit/packages/nginx/version", code::BAD_NAME, "is no version")],
        ),
        Case(
            package(&json!({"ensure": "latest", "version": "1.0"})),
            &[("/packagekit/packages/nginx/version", code::CONTRADICTION, "say \"ensure\": \"installed\"")],
        ),
        Case(
            package(&json!({"allow_downgrade": true, "allow_remove_others": true})),
            &[
                ("/packagekit/packages/nginx/allow_downgrade", code::CONTRADICTION, "say which version"),
                ("/packagekit/packages/nginx/allow_remove_others", code::CONTRADICTION, "say ensure"),
            ],
        ),
        Case(
            json!({"packagekit": {"packages": {"a;b": {}, "-a": {}, "a:b": {"arch": "b"}}}}),
            &[
                ("/packagekit/packages/a;b", code::BAD_NAME, "no package's name"),
                ("/packagekit/packages/-a", code::BAD_NAME, "no package's name"),
                ("/packagekit/packages/a:b/arch", code::CONTRADICTION, "take arch away"),
            ],
        ),
        Case(
            json!({"packagekit": {"packages": {"a:b": {}, "a": {"arch": "b"}}}}),
            &[("/packagekit/packages/a/arch", code::CONTRADICTION, "\"a:b\" is declared already")],
        ),
        Case(
            json!({"packagekit": {"refresh": "often", "pakages": {}}}),
            &[
                ("/packagekit/refresh", code::OUT_OF_RANGE, "\"before-apply\""),
                ("/packagekit/pakages", code::UNKNOWN_FIELD, "did you mean packages?"),
            ],
        ),
    ]);
}

#[test]
fn bridges() {
    check(&[
        Case(
            bridge("abcdefghijklmnop", &json!({})),
            &[("/ovsdb/bridges/abcdefghijklmnop", code::BAD_NAME, "longer than the 15 bytes")],
        ),
        Case(bridge("..", &json!({})), &[("/ovsdb/bridges/..", code::BAD_NAME, "a folder")]),
        Case(bridge("a b", &json!({})), &[("/ovsdb/bridges/a b", code::BAD_NAME, "a space")]),
        Case(
            bridge("br0", &json!({"datapath_type": "userspace", "fail_mode": "open", "stp_enable": null})),
            &[
                ("/ovsdb/bridges/br0/datapath_type", code::OUT_OF_RANGE, "\"netdev\""),
                ("/ovsdb/bridges/br0/fail_mode", code::OUT_OF_RANGE, "\"standalone\", \"secure\""),
                ("/ovsdb/bridges/br0/stp_enable", code::WRONG_TYPE, "leave it out"),
            ],
        ),
        Case(
            bridge("br0", &json!({"external_ids": {"opdbus-owner": "me", "n": 5, "nul\u{0}": null}})),
            &[
                ("/ovsdb/bridges/br0/external_ids/opdbus-owner", code::RESERVED_KEY, "op-dbus's own"),
                ("/ovsdb/bridges/br0/external_ids/n", code::WRONG_TYPE, "put it in quotes"),
                ("/ovsdb/bridges/br0/external_ids/nul\u{fffd}", code::OUT_OF_RANGE, "NUL"),
            ],
        ),
        Case(
            bridge("br0", &json!({"other_config": {"opdbus-x": null}, "controllers": ["", "tcp:a:1", "tcp:a:1"]})),
            &[
                ("/ovsdb/bridges/br0/controllers/0", code::OUT_OF_RANGE, "is empty"),
                ("/ovsdb/bridges/br0/controllers/2", code::DUPLICATE_KEY, "twice in this list"),
                ("/ovsdb/bridges/br0/other_config/opdbus-x", code::RESERVED_KEY, "take it away"),
            ],
        ),
        Case(
            bridge("br0", &json!({"controllers": "tcp:a:1"})),
            &[("/ovsdb/bridges/br0/controllers", code::WRONG_TYPE, "put it in [ ]")],
        ),
        Case(
            bridge("br0", &json!({"ensure": "absent", "ports": {"p0": {}, "p1": {"ensure": "absent"}}})),
            &[("/ovsdb/bridges/br0/ports/p0", code::CONTRADICTION, "its bridge shall be absent")],
        ),
        Case(
            json!({"ovsdb": {"bridges": {"br0": {"ports": {"p0": {}, "br1": {}}}, "br1": {"ports": {"p0": {}}}}}}),
            &[
                ("/ovsdb/bridges/br1/ports/p0", code::CONTRADICTION, "stands under bridge \"br0\" too"),
                ("/ovsdb/bridges/br0/ports/br1", code::CONTRADICTION, "name of a bridge"),
            ],
        ),
        Case(
            bridge("br0", &json!({"ports": {"br0": {"ensure": "absent"}}})),
            &[("/ovsdb/bridges/br0/ports/br0/ensure", code::CONTRADICTION, "local port")],
        ),
        Case(
            bridge("br0", &json!({"ports": {"br0": {"type": "system"}}})),
            &[("/ovsdb/bridges/br0/ports/br0/type", code::CONTRADICTION, "always of type internal")],
        ),
        Case(
            bridge("br0", &json!({"ports": {"br0": {"interfaces": ["eno1", "eno2"]}}})),
            &[("/ovsdb/bridges/br0/ports/br0/interfaces", code::CONTRADICTION, "no bond")],
        ),
    ]);
}

#[test]
fn ports() {
    check(&[
        Case(
            port(&json!({"tag": 5000, "trunks": [1, 4096, -1, "2"], "mtu_request": 67})),
            &[
                ("/ovsdb/bridges/br0/ports/p0/tag", code::OUT_OF_RANGE, "from 0 to 4095"),
                ("/ovsdb/bridges/br0/ports/p0/trunks/1", code::OUT_OF_RANGE, "from 0 to 4095"),
                ("/ovsdb/bridges/br0/ports/p0/trunks/2", code::OUT_OF_RANGE, "from 0 to 4095"),
                ("/ovsdb/bridges/br0/ports/p0/trunks/3", code::WRONG_TYPE, "without quotes"),
                ("/ovsdb/bridges/br0/ports/p0/mtu_request", code::OUT_OF_RANGE, "from 68 to 65535"),
            ],
        ),
        Case(port(&json!({"tag": 1.5})), &[("/ovsdb/bridges/br0/ports/p0/tag", code::WRONG_TYPE, "fraction")]),
        Case(
            port(&json!({"type": "Internal"})),
            &[("/ovsdb/bridges/br0/ports/p0/type", code::OUT_OF_RANGE, "\"internal\"")],
        ),
        Case(
            port(&json!({"interfaces": ["eno1"]})),
            &[("/ovsdb/bridges/br0/ports/p0/interfaces", code::OUT_OF_RANGE, "at least 2")],
        ),
        Case(
            port(&json!({"interfaces": ["eno1", "eno1"], "bond_mode": "balance-slb"})),
            &[("/ovsdb/bridges/br0/ports/p0/interfaces/1", code::DUPLICATE_KEY, "twice")],
        ),
        Case(
            port(&json!({"interfaces": null})),
            &[("/ovsdb/bridges/br0/ports/p0/interfaces", code::WRONG_TYPE, "must be a list")],
        ),
        Case(
            port(&json!({"interfaces": ["eno1", "a-device-with-a-long-name"]})),
            &[("/ovsdb/bridges/br0/ports/p0/interfaces/1", code::BAD_NAME, "15 bytes")],
        ),
        Case(
            port(&json!({"bond_mode": "balance-slb"})),
            &[("/ovsdb/bridges/br0/ports/p0/bond_mode", code::CONTRADICTION, "only a bond")],
        ),
        Case(
            port(&json!({"interfaces": ["eno1", "eno2"], "type": "system", "options": {"a": "b"}})),
            &[
                ("/ovsdb/bridges/br0/ports/p0/type", code::CONTRADICTION, "take type or interfaces away"),
                ("/ovsdb/bridges/br0/ports/p0/options", code::CONTRADICTION, "take options or interfaces away"),
            ],
        ),
        Case(
            bridge("br0", &json!({"ports": {"a-name-of-17-byte": {"type": "internal"}}})),
            &[("/ovsdb/bridges/br0/ports/a-name-of-17-byte", code::BAD_NAME, "15 bytes")],
        ),
        Case(
            bridge(
                "br0",
                &json!({"ports": {"eno1": {}, "b0": {"interfaces": ["eno1", "eno2"]},
                                            "b1": {"interfaces": ["eno2", "br0"]}}}),
            ),
            &[
                ("/ovsdb/bridges/br0/ports/b1/interfaces", code::CONTRADICTION, "\"br0\" belongs to port:br0"),
                ("/ovsdb/bridges/br0/ports/b1/interfaces", code::CONTRADICTION, "\"eno2\" belongs to port:b0"),
                ("/ovsdb/bridges/br0/ports/eno1", code::CONTRADICTION, "\"eno1\" belongs to port:b0"),
            ],
        ),
    ]);
}

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
fn objects() {
    let object = |more: Value| {
        let mut entry = json!({"service": "a.b", "path": "/a", "interface": "a.b"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"dbus": {"objects": {"x": entry}}})
    };
    let preset = |name: &str, with: Value| json!({"dbus": {"objects": {"x": {"preset": name, "with": with}}}});
    check(&[
        Case(
            json!({"dbus": {"objects": {"x": {}, "a/b": 5}}}),
            &[
                ("/dbus/objects/x", code::MISSING_FIELD, "service is missing"),
                ("/dbus/objects/x", code::MISSING_FIELD, "path is missing"),
                ("/dbus/objects/x", code::MISSING_FIELD, "interface is missing"),
                ("/dbus/objects/a~1b", code::BAD_NAME, "no name for an object"),
                ("/dbus/objects/a~1b", code::WRONG_TYPE, "must be an object"),
            ],
        ),
        Case(
            object(json!({"service": "org.opdbus", "path": "a", "interface": "a", "bus": "other", "activate": 1})),
            &[
                ("/dbus/objects/x/bus", code::OUT_OF_RANGE, "\"system\", \"session\""),
                ("/dbus/objects/x/service", code::BAD_NAME, "op-dbus's own"),
                ("/dbus/objects/x/path", code::BAD_NAME, "nor a look-up"),
                ("/dbus/objects/x/interface", code::BAD_NAME, "org.freedesktop.timedate1"),
                ("/dbus/objects/x/activate", code::WRONG_TYPE, "true or false"),
            ],
        ),
        Case(object(json!({"service": ":1.5"})), &[("/dbus/objects/x/service", code::BAD_NAME, "no service's name")]),
        Case(
            object(
                json!({"properties": {"A": null, "b c": 1, "C": {"value": 1, "sett": {}}, "D": [null], "E": "\u{0}"}}),
            ),
            &[
                ("/dbus/objects/x/properties/A", code::WRONG_TYPE, "must be a value, but is null"),
                ("/dbus/objects/x/properties/b c", code::BAD_NAME, "no property's name"),
                ("/dbus/objects/x/properties/C/sett", code::UNKNOWN_FIELD, "did you mean set?"),
                ("/dbus/objects/x/properties/D/0", code::WRONG_TYPE, "must be a value, but is null"),
                ("/dbus/objects/x/properties/E", code::OUT_OF_RANGE, "NUL"),
            ],
        ),
        Case(
            object(json!({"properties": {"A": {"value": 1, "set": {"method": "a.b", "args": 1, "wait_for": "luck"}}}})),
            &[
                ("/dbus/objects/x/properties/A/set/method", code::BAD_NAME, "no method's name"),
                ("/dbus/objects/x/properties/A/set/args", code::WRONG_TYPE, "must be a list"),
                ("/dbus/objects/x/properties/A/set/wait_for", code::OUT_OF_RANGE, "\"signal\""),
            ],
        ),
        Case(
            object(
                json!({"path": "$lookup:a", "exists": {"method": "queryA", "args": ["$value", "$lookup:b", "$nonsense"]}}),
            ),
            &[
                ("/dbus/objects/x/path", code::UNKNOWN_RESOURCE, "no look-up \"a\""),
                ("/dbus/objects/x/exists/args/0", code::CONTRADICTION, "sets none"),
                ("/dbus/objects/x/exists/args/1", code::UNKNOWN_RESOURCE, "no look-up \"b\""),
                ("/dbus/objects/x/exists/args/2", code::CONTRADICTION, "refers to nothing"),
            ],
        ),
        Case(
            object(json!({"exists": {"method": "PowerOff"},
                          "lookups": {"a": {"path": "/", "interface": "a.b", "method": "MakeOne"}}})),
            &[
                ("/dbus/objects/x/exists/method", code::CONTRADICTION, "must only read"),
                ("/dbus/objects/x/lookups/a/method", code::CONTRADICTION, "must only read"),
            ],
        ),
        Case(
            object(
                json!({"lookups": {"a": {"path": "/", "interface": "a.b"}, "B": {"path": "/", "interface": "a.b", "property": "P", "args": []},
                                      "c": {"path": "/", "interface": "a.b", "method": "GetOne", "args": ["$object"]}}}),
            ),
            &[
                ("/dbus/objects/x/lookups/a", code::CONTRADICTION, "either for a property"),
                ("/dbus/objects/x/lookups/B", code::BAD_NAME, "no look-up's name"),
                ("/dbus/objects/x/lookups/B", code::CONTRADICTION, "which alone has args"),
            ],
        ),
        Case(
            object(
                json!({"properties": {"A": {"value": 1, "passing": 2}, "B": {"value": 1, "passing": [[null]]}, "C": {"value": 1, "passing": vec![1; 33]}}}),
            ),
            &[
                ("/dbus/objects/x/properties/A/passing", code::WRONG_TYPE, "must be a list"),
                ("/dbus/objects/x/properties/B/passing/0/0", code::WRONG_TYPE, "null"),
                ("/dbus/objects/x/properties/C/passing", code::OUT_OF_RANGE, "more than 32 values"),
            ],
        ),
        Case(
            object(json!({"ensure": "absent", "properties": {"A": 1}})),
            &[
                ("/dbus/objects/x/ensure", code::CONTRADICTION, "how it is removed"),
                ("/dbus/objects/x/properties", code::CONTRADICTION, "has no properties"),
            ],
        ),
        Case(
            json!({"dbus": {"objects": {
                "x": {"service": "a.b", "path": "/a", "interface": "a.b", "properties": {"A": 1, "B": 1}},
                "y": {"service": "a.b", "path": "/a", "interface": "a.b", "properties": {"B": 2, "C": 1}},
            }}}),
            &[("/dbus/objects/y/properties/B", code::CONTRADICTION, "object \"x\" declares this property already")],
        ),
        Case(
            json!({"dbus": {"objects": {
                "x": {"preset": "timezone", "with": {"timezone": "UTC"}},
                "y": {"preset": "timezone", "with": {"timezone": "UTC"}, "ensure": "absent"},
                "z": {"preset": "timezone", "with": {"timezone": "UTC", "ntp": true}},
            }}}),
            &[
                ("/dbus/objects/y/ensure", code::CONTRADICTION, "how it is removed"),
                ("/dbus/objects/z/with/timezone", code::CONTRADICTION, "object \"x\" declares this property already"),
            ],
        ),
        Case(
            preset("timezon", json!({})),
            &[("/dbus/objects/x/preset", code::OUT_OF_RANGE, "did you mean \"timezone\"?")],
        ),
        Case(
            preset("timezone", json!({"zone": "UTC", "ntp": "yes"})),
            &[
                ("/dbus/objects/x/with/ntp", code::WRONG_TYPE, "true or false"),
                ("/dbus/objects/x/with/zone", code::UNKNOWN_FIELD, "there are ntp, timezone"),
            ],
        ),
        Case(preset("hostname", json!({})), &[("/dbus/objects/x/with", code::MISSING_FIELD, "hostname is missing")]),
        Case(
            json!({"dbus": {"objects": {"x": {"preset": "hostname", "service": "a.b"}}}}),
            &[
                ("/dbus/objects/x", code::MISSING_FIELD, "with is missing"),
                ("/dbus/objects/x/service", code::UNKNOWN_FIELD, "no field \"service\""),
            ],
        ),
    ]);
}

#[test]
fn container_units_are_told_by_the_rules() {
    let document = json!({"systemd": {"units": {"ct-1.service": {"active_state": "inactive"}}},
                          "lxc": {"containers": [{"id": "1", "running": true}]}});
    let text = document.to_string();
    assert!(parse(&text).is_ok());
    let rules = Rules { container_units: vec!["ct-*.service".to_owned()], proxmox: false };
    assert!(matches!(parse_with(&text, &rules), Err(DocumentError::Invalid(faults)) if faults.len() == 1));
}

#[test]
fn what_after_names() {
    let after = |list: Value| {
        json!({"systemd": {"units": {"a.service": {"after": list}, "lxc@1.service": {}}},
               "lxc": {"containers": [{"id": "2"}]}})
    };
    check(&[
        Case(
            after(json!(["object:nginx", "nonsense", "vm:1", "unit:", 5, "unit:lxc@1.service", "unit:lxc@1.service"])),
            &[
                ("/systemd/units/a.service/after/1", code::BAD_NAME, "write unit:NAME"),
                ("/systemd/units/a.service/after/2", code::BAD_NAME, "write unit:NAME"),
                ("/systemd/units/a.service/after/3", code::BAD_NAME, "write unit:NAME"),
                ("/systemd/units/a.service/after/4", code::WRONG_TYPE, "must be a text"),
                ("/systemd/units/a.service/after/6", code::DUPLICATE_KEY, "twice"),
                ("/systemd/units/a.service/after/0", code::UNKNOWN_RESOURCE, "object:nginx"),
            ],
        ),
        Case(after(Value::Null), &[("/systemd/units/a.service/after", code::WRONG_TYPE, "must be a list")]),
        Case(
            after(json!(["unit:b.service", "container:1", "unit:lxc@2.service", "container:2"])),
            &[
                ("/systemd/units/a.service/after/0", code::UNKNOWN_RESOURCE, "declares no unit:b.service"),
                ("/systemd/units/a.service/after/1", code::UNKNOWN_RESOURCE, "as unit:lxc@1.service: write that"),
                ("/systemd/units/a.service/after/2", code::UNKNOWN_RESOURCE, "as container:2: write that"),
            ],
        ),
        // Where a section could not be read, nobody knows what it names.
        Case(
            json!({"systemd": {"units": {"a.service": {"after": ["bridge:br0"]}}}, "ovsdb": 5}),
            &[("/ovsdb", code::WRONG_TYPE, "must be an object")],
        ),
    ]);
}

#[test]
fn cycles() {
    let three = json!({"systemd": {"units": {
        "a.service": {"after": ["unit:b.service"]},
        "b.service": {"after": ["unit:c.service"]},
        "c.service": {"after": ["unit:a.service", "unit:d.service"]},
        "d.service": {"after": ["unit:d.service"]},
    }}});
    let implied = json!({
        "ovsdb": {"bridges": {"br0": {"after": ["port:veth1i0"], "ports": {"veth1i0": {}}}}},
        "lxc": {"containers": [{"id": "1", "veth": "veth1", "bridge": "br0"}]},
    });
    let unit = json!({
        "systemd": {"units": {"lxc@1.service": {"after": ["container:2"]}, "lxc@3.service": {}}},
        "ovsdb": {"bridges": {"br0": {"after": ["unit:lxc@3.service"]}}},
        "lxc": {"containers": [{"id": "1"}, {"id": "2", "after": ["container:1"]},
                               {"id": "3", "veth": "veth3", "bridge": "br0"}]},
    });
    check(&[
        Case(
            three,
            &[
                (
                    "/systemd/units/c.service/after/0",
                    code::CYCLE,
                    "unit:a.service -> unit:b.service -> unit:c.service -> unit:a.service: take one after away",
                ),
                ("/systemd/units/d.service/after/0", code::CYCLE, "unit:d.service -> unit:d.service"),
            ],
        ),
        Case(
            implied,
            &[
                ("/ovsdb/bridges/br0/after/0", code::CYCLE, "bridge:br0 -> port:veth1i0 -> bridge:br0 (its bridge)"),
                (
                    "/ovsdb/bridges/br0/after/0",
                    code::CYCLE,
                    "port:veth1i0 -> container:1 (brings its device) -> bridge:br0 (its bridge)",
                ),
            ],
        ),
        Case(
            unit,
            &[
                ("/ovsdb/bridges/br0/after/0", code::CYCLE, "-> unit:lxc@3.service -> bridge:br0 (its bridge)"),
                ("/lxc/containers/1/after/0", code::CYCLE, "-> unit:lxc@1.service (runs it) -> container:2"),
            ],
        ),
    ]);
}

#[test]
fn keys_that_stand_twice() {
    let text = r#"{"drift": "report", "drift": 5,
        "systemd": {"units": {"a.service": {"enabled": true, "enabled": true}, "a.service": {}}},
        "ovsdb": {"bridges": {"br0": {"external_ids": {"a~/": "1", "a~/": "2"}}, "br0": {}}}}"#;
    let found: Vec<_> = faults(text).into_iter().map(|fault| (fault.code, fault.pointer)).collect();
    let twice = |pointer: &str| (code::DUPLICATE_KEY, pointer.to_owned());
    let wanted = [
        "/systemd/units/a.service",
        "/systemd/units/a.service/enabled",
        "/ovsdb/bridges/br0",
        "/ovsdb/bridges/br0/external_ids/a~0~1",
        "/drift",
    ];
    assert_eq!(found, wanted.map(twice));
}

#[test]
fn texts_that_are_no_documents() {
    for (bytes, words) in [
        (&b"nonsense"[..], "line 1 column 2"),
        (b"{\n\"systemd\": }", "line 2 column 12"),
        (b"{\"drift\": \"\xff\"}", "not UTF-8 at line 1 column 12"),
        (b"", "line 1 column 0"),
        (b"[[[[", "line 1 column 4"),
    ] {
        match parse_bytes(bytes) {
            Err(DocumentError::Invalid(faults)) => {
                assert_eq!((faults.len(), faults[0].code, faults[0].pointer.as_str()), (1, code::SYNTAX, ""));
                assert!(faults[0].message.contains(words), "{}", faults[0].message);
            }
            other => panic!("{other:?}"),
        }
    }
    let deep = "{\"systemd\":".repeat(10_000);
    assert_eq!(faults(&deep)[0].code, code::TOO_DEEP);
    let large = " ".repeat(5 * 1024 * 1024);
    let error = parse(&large).unwrap_err();
    assert!(matches!(&error, DocumentError::TooLarge(message) if message.contains("5242880")), "{error}");
    assert_eq!(parse_bytes(large.as_bytes()), Err(error));
}

#[test]
fn all_faults_at_once_and_no_more_than_anybody_reads() {
    let mut text = "{".to_owned();
    for number in 0..100_000 {
        // Writing to a String cannot fail.
        let _ = write!(text, "\"wrong{number}\": {number},");
    }
    text.push_str("\"last\": 1}");
    let found = faults(&text);
    assert_eq!(found.len(), 1001);
    assert_eq!((found[1000].code, found[1000].message.as_str()), (code::MORE_FAULTS, "and 99001 faults more"));
}

#[test]
fn names_as_long_as_a_document_do_not_multiply() {
    let long = "b".repeat(1_000_000);
    let names: Vec<String> = (0..2000).map(|number| format!("p{number}")).collect();
    let ports: Value = names.iter().map(|name| (name.clone(), json!({"tag": 5000}))).collect();
    let after: Vec<String> = names.iter().map(|name| format!("port:{name}")).collect();
    let found = faults(&bridge(&long, &json!({"ports": ports, "after": after})).to_string());
    let bytes: usize = found.iter().map(|fault| fault.message.len() + fault.pointer.len()).sum();
    assert!(found.len() == 1001 && bytes < 2_000_000, "{bytes}");
    let bond = |port: &str| format!("{port}-{}", "b".repeat(200));
    let ports = json!({bond("y"): {"interfaces": names}, bond("z"): {"interfaces": names}});
    let found = faults(&bridge("br0", &json!({"ports": ports})).to_string());
    let bytes: usize = found.iter().map(|fault| fault.message.len() + fault.pointer.len()).sum();
    assert!(found.len() == 1001 && bytes < 1_000_000, "{bytes}");
}

#[test]
fn refused_entries_are_still_named() {
    let found = faults(
        &json!({
            "systemd": {"units": {
                "a.service": {"after": ["unit:nginx", "bridge:abcdefghijklmnop", "port:p0", "unit:b.service"]},
                "nginx": {"after": ["unit:nowhere.service"]},
            }},
            "ovsdb": {"bridges": {"abcdefghijklmnop": {"ports": {"p0": {"tag": 5000}}}}},
        })
        .to_string(),
    );
    let places: Vec<_> = found.iter().map(|fault| (fault.pointer.as_str(), fault.code)).collect();
    let wanted = [
        ("/systemd/units/nginx", code::BAD_NAME),
        ("/ovsdb/bridges/abcdefghijklmnop", code::BAD_NAME),
        ("/ovsdb/bridges/abcdefghijklmnop/ports/p0/tag", code::OUT_OF_RANGE),
        ("/systemd/units/a.service/after/3", code::UNKNOWN_RESOURCE),
    ];
    assert_eq!(places, wanted);
}

#[test]
fn errors_read_well() {
    let error = parse(r#"{"prune": 1, "drift": null}"#).unwrap_err();
    let text = "/drift: must be a text, but is null; leave it out if it shall not be managed\n\
                /prune: must be true or false, but is a number";
    assert_eq!(error.to_string(), text);
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
