//! The section `ovsdb`.

use serde_json::json;

use super::{Case, bridge, check, port};
use crate::desired::code;

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
