//! Documents that are wrong: each fault with its place, its code and its remedy, all at once.

mod dbus;
mod lxc;
mod order;
mod ovsdb;
mod packagekit;
mod systemd;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::desired::{DocumentError, code, parse, parse_bytes, tests::faults};

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
