//! The section `dbus`.

use serde_json::{Value, json};

use super::{Case, check};
use crate::desired::code;

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
