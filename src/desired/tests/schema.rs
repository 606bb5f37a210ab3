//! The schema and the decoder agree.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use proptest::{
    prelude::*,
    sample::{Index, select},
};
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::desired::{DocumentError, arbitrary, code, parse, schema, spell};

/// Evaluates the part of JSON Schema that our schema uses; a keyword it does not know fails the test.
struct Evaluator {
    root: Value,
    patterns: HashMap<String, Regex>,
}

static EVALUATOR: LazyLock<Evaluator> = LazyLock::new(|| {
    let root = schema();
    let mut patterns = HashMap::new();
    each_schema(&root, "", &mut |schema, _| {
        if let Some(Value::String(pattern)) = schema.get("pattern") {
            patterns.insert(pattern.clone(), Regex::new(pattern).unwrap());
        }
    });
    Evaluator { root, patterns }
});

/// Calls with each schema in a schema, and its place.
fn each_schema(schema: &Value, at: &str, call: &mut impl FnMut(&Map<String, Value>, &str)) {
    let Value::Object(keywords) = schema else { return };
    call(keywords, at);
    for (keyword, rule) in keywords {
        let at = format!("{at}/{keyword}");
        match (keyword.as_str(), rule) {
            ("properties" | "$defs", Value::Object(schemas)) => {
                for (name, schema) in schemas {
                    each_schema(schema, &format!("{at}/{name}"), call);
                }
            }
            ("anyOf" | "oneOf", Value::Array(schemas)) => {
                for schema in schemas {
                    each_schema(schema, &at, call);
                }
            }
            _ => each_schema(rule, &at, call),
        }
    }
}

impl Evaluator {
    fn accepts(&self, value: &Value) -> bool {
        self.valid(&self.root, value)
    }

    fn valid(&self, schema: &Value, value: &Value) -> bool {
        match schema {
            Value::Bool(verdict) => *verdict,
            Value::Object(keywords) => {
                keywords.iter().all(|(keyword, rule)| self.keyword(keywords, keyword, rule, value))
            }
            other => panic!("{other} is no schema"),
        }
    }

    fn keyword(&self, keywords: &Map<String, Value>, keyword: &str, rule: &Value, value: &Value) -> bool {
        let list = || rule.as_array().unwrap().iter();
        let limit = || usize::try_from(rule.as_u64().unwrap()).unwrap();
        match keyword {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                self.valid(self.root.pointer(pointer).unwrap(), value)
            }
            "anyOf" => list().any(|schema| self.valid(schema, value)),
            "oneOf" => list().filter(|schema| self.valid(schema, value)).count() == 1,
            "not" => !self.valid(rule, value),
            "const" => same(rule, value),
            "enum" => list().any(|word| same(word, value)),
            "type" => match rule {
                Value::String(name) => has_type(name, value),
                _ => list().any(|name| has_type(name.as_str().unwrap(), value)),
            },
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| self.patterns[rule.as_str().unwrap()].is_match(text)),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() >= limit()),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() <= limit()),
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| self.valid(rule, item))),
            "minItems" => value.as_array().is_none_or(|items| items.len() >= limit()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() <= limit()),
            "minProperties" => value.as_object().is_none_or(|fields| fields.len() >= limit()),
            "uniqueItems" => value.as_array().is_none_or(|items| {
                let mut pairs = items.iter().enumerate();
                pairs.all(|(index, item)| !items.iter().skip(index + 1).any(|other| same(item, other)))
            }),
            "required" => {
                value.as_object().is_none_or(|fields| list().all(|name| fields.contains_key(name.as_str().unwrap())))
            }
            "dependentRequired" => value.as_object().is_none_or(|fields| {
                let pairs = rule.as_object().unwrap().iter().filter(|(name, _)| fields.contains_key(*name));
                pairs
                    .flat_map(|(_, needed)| needed.as_array().unwrap())
                    .all(|name| fields.contains_key(name.as_str().unwrap()))
            }),
            "properties" => value.as_object().is_none_or(|fields| {
                let known = rule.as_object().unwrap();
                fields.iter().all(|(name, value)| known.get(name).is_none_or(|schema| self.valid(schema, value)))
            }),
            "propertyNames" => value
                .as_object()
                .is_none_or(|fields| fields.keys().all(|name| self.valid(rule, &Value::String(name.clone())))),
            "additionalProperties" => value.as_object().is_none_or(|fields| {
                let known = keywords.get("properties").and_then(Value::as_object);
                let others = fields.iter().filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                others.into_iter().all(|(_, value)| self.valid(rule, value))
            }),
            other => panic!("the evaluator does not know {other}"),
        }
    }
}

/// JSON Schema's equality (draft 2020-12, core, 4.2.2): numbers by value, `1` and `1.0` are one. A whole number that a
/// double cannot hold is itself alone.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(items), Value::Array(others)) => {
            items.len() == others.len() && items.iter().zip(others).all(|(item, other)| same(item, other))
        }
        (Value::Object(fields), Value::Object(others)) => {
            let has = |(name, value)| others.get(name).is_some_and(|other| same(value, other));
            fields.len() == others.len() && fields.iter().all(has)
        }
        (Value::Number(number), Value::Number(other)) => {
            number == other || (number.is_f64() || other.is_f64()) && number.as_f64() == other.as_f64()
        }
        _ => one == other,
    }
}

fn has_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("the evaluator does not know type {other}"),
    }
}

/// Whether the decoder finds the structure good: what only [`parse`] can know does not count.
fn structure_is_good(text: &str) -> bool {
    match parse(text) {
        Ok(_) => true,
        Err(DocumentError::Invalid(faults)) => {
            faults.iter().all(|fault| [code::CONTRADICTION, code::CYCLE, code::UNKNOWN_RESOURCE].contains(&fault.code))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Places of all values in a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Values that are right in one place and wrong in another.
fn anything() -> impl Strategy<Value = Value> {
    let words = [
        "",
        "report",
        "present",
        "active",
        "internal",
        "off",
        "trunk",
        "unit:a.service",
        "vm:1",
        "a/b",
        "a b",
        "..",
        "eno1",
        "opdbus-x",
        "nul\0",
        "abcdefghijklmnop",
        "CPUWeight",
        "installed",
        "1.*",
        "12h",
        "timezone",
        "/a",
        "a.b",
        "$value",
        "$lookup:one",
        "session",
        "signal",
        "10.0.0.1/24",
        "a_b",
        "/srv",
    ];
    let numbers =
        [json!(0), json!(1), json!(67), json!(68), json!(4096), json!(-1), json!(0.5), json!(7.0), json!(65536)];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(numbers.to_vec()),
        select(words.to_vec()).prop_map(Value::from),
        select(vec![
            json!([]),
            json!(["a"]),
            json!(["eno1", "eno2"]),
            json!(["x", "x"]),
            json!([1, 2]),
            json!([1, 1.0])
        ]),
        select(vec![json!({}), json!({"a": "b"}), json!({"a": null}), json!({"opdbus-a": "b"}), json!({"": 1})]),
    ]
}

/// Names of fields, right in one place and wrong in another.
fn key() -> impl Strategy<Value = String> {
    let names = [
        "id",
        "veth",
        "bridge",
        "running",
        "tag",
        "trunks",
        "type",
        "after",
        "drift",
        "ensure",
        "enabled",
        "masked",
        "active_state",
        "properties",
        "bond_mode",
        "interfaces",
        "controllers",
        "version",
        "systemd",
        "ports",
        "a",
        "opdbus-owner",
        "..",
        "abcdefghijklmnop",
        "a.service",
        "a@.service",
        "hostname",
        "packagekit",
        "mtu_request",
        "options",
        "vlan_mode",
        "stp_enable",
        "datapath_type",
        "allow_protected",
        "nul\0",
        "refresh",
        "packages",
        "nginx:amd64",
        "arch",
        "exclusive",
        "external_ids",
        "dbus",
        "objects",
        "service",
        "preset",
        "with",
        "value",
        "set",
        "args",
        "where",
        "property",
        "method",
        "$value",
        "nul\u{0}a",
        "from",
        "template",
        "clone",
        "networks",
        "name",
        "ip",
        "cpulimit",
        "startup",
        "mounts",
        "path",
        "templates",
    ];
    select(names.to_vec()).prop_map(str::to_owned)
}

/// Changes a document somewhere: another value, one field less, one more.
fn change(document: &mut Value, place: Index, key: String, value: Value, how: u8) {
    let mut found = Vec::new();
    places(document, "", &mut found);
    let place = document.pointer_mut(place.get::<String>(&found)).unwrap();
    match (how, place) {
        (0, place) => *place = value,
        (1, Value::Object(fields)) => {
            let first = fields.keys().next().cloned();
            first.and_then(|first| fields.remove(&first));
        }
        (_, Value::Object(fields)) => {
            fields.insert(key, value);
        }
        (_, Value::Array(items)) => items.push(value),
        (_, place) => *place = value,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(op_dbus_testkit::cases(512)))]

    #[test]
    fn schema_and_decoder_have_one_verdict(
        document in arbitrary::document(),
        changes in prop::collection::vec((any::<Index>(), key(), anything(), 0..3_u8), 0..3),
    ) {
        let mut value: Value = serde_json::from_str(&spell(&document)).unwrap();
        for (place, key, new, how) in changes {
            change(&mut value, place, key, new, how);
        }
        let text = value.to_string();
        prop_assert_eq!(EVALUATOR.accepts(&value), structure_is_good(&text), "{}\n{:?}", text, parse(&text));
    }
}

/// Every field of the document, wherever it stands, with a value of every type.
#[test]
fn each_field_alone() {
    let whole = json!({
        "version": 1, "drift": "report", "prune": false, "allow_empty": false,
        "systemd": {"units": {"a.service": {
            "enabled": true, "masked": false, "active_state": "active", "properties": {"A": 1}, "allow_protected": true,
            "after": ["bridge:br0"], "drift": "enforce"}}},
        "ovsdb": {"bridges": {"br0": {
            "ensure": "present", "exclusive": true, "datapath_type": "netdev", "fail_mode": "secure", "stp_enable": true,
            "rstp_enable": true, "mcast_snooping_enable": true, "controllers": ["tcp:a:1"], "external_ids": {"a": "b"},
            "other_config": {"a": null}, "after": [], "drift": "report",
            "ports": {
                "p0": {"ensure": "present", "type": "internal", "tag": 1, "trunks": [1], "vlan_mode": "access",
                       "options": {"a": "b"}, "mtu_request": 1500, "external_ids": {}, "other_config": {},
                       "after": [], "drift": "report"},
                "b0": {"interfaces": ["eno1", "eno2"], "bond_mode": "balance-slb", "lacp": "off"}}}}},
        "lxc": {"containers": [{"id": "1", "veth": "veth1", "bridge": "br0", "running": true, "allow_protected": true,
                                "after": [], "drift": "report"},
            {"id": "101", "ensure": "present", "purge": false, "hostname": "warp", "restart": true, "onboot": true,
             "from": {"template": "local:vztmpl/a.tar.zst", "storage": "local-lvm", "size_gib": 8, "unprivileged": true,
                      "ssh_public_keys": ["ssh-ed25519 A"], "password_credential": "root.password"},
             "cores": 2, "cpulimit": 1.5, "memory_mib": 512, "swap_mib": 0,
             "networks": [{"name": "eth0", "bridge": "br0", "tag": 20, "trunks": [1], "hwaddr": "BC:24:11:00:00:01",
                           "ip": "10.0.0.1/24", "gw": "10.0.0.254", "ip6": "fd00::1/64", "gw6": "fd00::fe",
                           "firewall": true, "mtu": 1500, "rate": 12.5, "link_down": false}],
             "mounts": [{"path": "/srv", "storage": "local-lvm", "size_gib": 1, "read_only": true, "backup": false},
                        {"path": "/host", "source": "/srv/host"}],
             "features": {"nesting": true, "keyctl": false, "fuse": false, "mknod": false, "mount": ["nfs"]},
             "startup": {"order": 1, "up": 2, "down": 3}, "protection": false, "nameserver": "10.0.0.1",
             "searchdomain": "lan", "tags": ["web"], "description": "a", "pool": "p", "node": "pve",
             "template": false},
            {"id": "102", "from": {"clone": "101", "full": true}}],
         "templates": [{"name": "a.tar.zst", "storage": "local", "url": "https://a/b", "checksum": ("sha256:".to_owned() + &"a".repeat(64))},
                       {"name": "b.tar.zst", "appliance": "c.tar.zst"}, {"name": "d.tar.zst", "file": "/d"}]},
        "packagekit": {"refresh": "12h", "allow_untrusted": false, "packages": {"nginx": {
            "ensure": "installed", "version": "1.*", "allow_downgrade": true, "allow_remove_others": false,
            "arch": "amd64", "after": [], "drift": "report"}}},
        "dbus": {"objects": {
            "a": {"bus": "system", "service": "a.b", "path": "$lookup:one", "interface": "a.b", "activate": true,
                  "lookups": {
                      "one": {"path": "/", "interface": "a.b", "property": "All",
                              "where": {"interface": "a.b", "property": "Id", "value": "x"}},
                      "two": {"path": "/", "interface": "a.b", "method": "GetOne", "args": [1]}},
                  "ensure": "present", "exists": {"method": "IsThere"},
                  "create": {"method": "Make", "path": "/a", "interface": "a.b", "args": ["x"], "wait_for": "job"},
                  "remove": {"method": "Remove"},
                  "properties": {"A": {"value": 1, "set": {"method": "SetA", "args": ["$value"]}, "passing": [0, "a"]}, "B": [0.5]},
                  "allow_protected": true, "after": [], "drift": "report"},
            "b": {"preset": "timezone", "with": {"timezone": "UTC", "ntp": true}, "bus": "system", "ensure": "present",
                  "activate": true, "allow_protected": true, "after": [], "drift": "report"},
            "c": {"preset": "hostname", "with": {"hostname": "h", "pretty": "p", "deployment": "d", "location": "l"}},
            "d": {"preset": "locale", "with": {"locale": ["LANG=C"]}},
            "e": {"preset": "keymap", "with": {"layout": "a", "model": "a", "variant": "a", "options": "a"}},
            "f": {"preset": "firewalld-service", "with": {"zone": "a", "service": "a"}},
            "g": {"preset": "firewalld-service-runtime", "with": {"zone": "a", "service": "a"}},
            "h": {"preset": "networkmanager-connection", "with": {"uuid": "a"}},
            "i": {"preset": "unit-property", "with": {"unit": "a.service", "property": "A", "value": 1,
                  "interface": "a.b", "runtime": true}}}},
    });
    assert!(EVALUATOR.accepts(&whole));
    parse(&whole.to_string()).unwrap();
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let values = [
        json!(null),
        json!(true),
        json!(1),
        json!(-1),
        json!(1.5),
        json!("a"),
        json!("nul\0"),
        json!([]),
        json!(["a"]),
        json!([""]),
        json!(["nul\0"]),
        json!(["a", "a"]),
        json!([1, 1]),
        json!([1, 1.0]),
        json!({"a": 1}),
        json!({"a": "nul\0"}),
        json!({"nul\0": "a"}),
    ];
    for place in &all {
        for value in &values {
            let mut changed = whole.clone();
            *changed.pointer_mut(place).unwrap() = value.clone();
            let text = changed.to_string();
            assert_eq!(EVALUATOR.accepts(&changed), structure_is_good(&text), "{place} = {value}: {:?}", parse(&text));
        }
        let (parent, key) = place.rsplit_once('/').unwrap_or_default();
        let mut changed = whole.clone();
        if let Some(fields) = changed.pointer_mut(parent).and_then(Value::as_object_mut) {
            fields.remove(key);
            let text = changed.to_string();
            assert_eq!(EVALUATOR.accepts(&changed), structure_is_good(&text), "without {place}: {:?}", parse(&text));
        }
    }
    // All fields that the schema has stand in the document above.
    let text = whole.to_string();
    let mut fields = BTreeSet::new();
    each_schema(&EVALUATOR.root, "", &mut |schema, _| {
        fields.extend(schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned());
    });
    assert!(fields.len() > 35, "{fields:?}");
    for field in fields {
        assert!(text.contains(&format!("\"{field}\":")), "{field}");
    }
}

#[test]
fn every_object_is_closed_and_every_field_described() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    each_schema(&schema, "", &mut |schema, at| {
        let Some(Value::Object(fields)) = schema.get("properties") else { return };
        assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)), "{at}");
        for (name, field) in fields {
            assert!(field.get("description").is_some_and(Value::is_string), "{at}/{name}: {field}");
        }
    });
}
