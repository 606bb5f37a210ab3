//! What entries come after.

use serde_json::{Value, json};

use super::{Case, check};
use crate::desired::code;

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
