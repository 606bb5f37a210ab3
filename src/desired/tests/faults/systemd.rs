//! The section `systemd`.

use serde_json::json;

use super::{Case, check, faults, unit};
use crate::desired::{DocumentError, Rules, code, parse, parse_with};

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

#[test]
fn container_units_are_told_by_the_rules() {
    let document = json!({"systemd": {"units": {"ct-1.service": {"active_state": "inactive"}}},
                          "lxc": {"containers": [{"id": "1", "running": true}]}});
    let text = document.to_string();
    assert!(parse(&text).is_ok());
    let rules = Rules { container_units: vec!["ct-*.service".to_owned()], proxmox: false };
    assert!(matches!(parse_with(&text, &rules), Err(DocumentError::Invalid(faults)) if faults.len() == 1));
}
