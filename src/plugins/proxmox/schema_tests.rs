//! Every call that can be built, held to the API's own schema, and planner and calls to the same meaning.
//!
//! The schema is another project's and fetched when the tests are run by `tests/run` (`tests/lab/fakepve`); without it,
//! only that is said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, LazyLock},
};

use proptest::prelude::*;
use regex::Regex;
use serde_json::Value;

use super::{
    client::Call,
    config::{Raw, settings},
    params,
    props::{list, parse},
    token::Secret,
};
use crate::{
    desired::{ContainerSpec, Document, PortSpec, Want, arbitrary},
    model::{Backend, BackendStatus, GuestFacts, Name, NodeFacts, Observed, ResourceId, Runtime},
    plan::{Desired, Hand, Inventory, assess},
};

static SCHEMA: LazyLock<Option<Value>> = LazyLock::new(|| {
    let folder = std::env::var("OPDBUS_FAKEPVE").ok().filter(|folder| !folder.is_empty());
    let Some(folder) = folder else {
        println!("without OPDBUS_FAKEPVE there is no schema to hold calls to: see tests/lab/fakepve");
        return None;
    };
    let text = std::fs::read_to_string(format!("{folder}/fakepve/data/pve-api.json")).expect("the schema");
    Some(serde_json::from_str(&text).expect("JSON"))
});

/// What the schema says of a call: the parameters of its path, and the rules for all.
fn method(schema: &Value, call: &Call) -> (Vec<(String, String)>, Value) {
    let parts: Vec<&str> = call.path.split('/').collect();
    let paths = schema["paths"].as_object().unwrap();
    for (template, methods) in paths {
        let names: Vec<&str> = template.split('/').collect();
        let fits = names.len() == parts.len()
            && names.iter().zip(&parts).all(|(name, part)| name.starts_with('{') || name == part);
        if fits && let Some(info) = methods.get(call.verb.as_str()) {
            let of_path = names.iter().zip(&parts).filter(|(name, _)| name.starts_with('{'));
            let of_path = of_path.map(|(name, part)| (name.trim_matches(['{', '}']).to_owned(), decoded(part)));
            return (of_path.collect(), info["parameters"]["properties"].clone());
        }
    }
    panic!("the API has no {}", call.shown());
}

fn decoded(part: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What the schema says of that parameter: `net0` is one of `net[n]`.
fn rule<'s>(rules: &'s Value, name: &str) -> Option<&'s Value> {
    let stem = name.trim_end_matches(|char: char| char.is_ascii_digit());
    rules.get(name).or_else(|| rules.get(format!("{stem}[n]")))
}

fn check_call(call: &Call) {
    let Some(schema) = SCHEMA.as_ref() else { return };
    let (of_path, rules) = method(schema, call);
    let given: Vec<(String, String)> = of_path.into_iter().chain(call.parameters.iter().cloned()).collect();
    let mut names = BTreeSet::new();
    for (name, value) in &given {
        assert!(names.insert(name.clone()), "{name} twice in {call:?}");
        let rule = rule(&rules, name).unwrap_or_else(|| panic!("no parameter {name} in {}", call.shown()));
        if let Err(why) = check(rule, value) {
            panic!("{name}={value:?} of {}: {why}", call.shown());
        }
    }
    for (name, rule) in rules.as_object().unwrap() {
        let optional = rule.get("optional").is_some_and(|optional| *optional == 1);
        assert!(optional || names.contains(name), "{name} is missing in {call:?}");
    }
}

fn check(rule: &Value, value: &str) -> Result<(), String> {
    let number = |key: &str| rule.get(key).and_then(|bound| bound.as_f64().or_else(|| bound.as_str()?.parse().ok()));
    match rule["type"].as_str().unwrap_or("string") {
        "integer" => drop(value.parse::<i64>().map_err(|error| error.to_string())?),
        "number" => drop(value.parse::<f64>().map_err(|error| error.to_string())?),
        "boolean" if !["0", "1"].contains(&value) => return Err("no boolean".to_owned()),
        _ => {}
    }
    if let Ok(got) = value.parse::<f64>()
        && (number("minimum").is_some_and(|least| got < least) || number("maximum").is_some_and(|most| got > most))
    {
        return Err("out of range".to_owned());
    }
    let length = u32::try_from(value.chars().count()).unwrap();
    if number("maxLength").is_some_and(|most| f64::from(length) > most) {
        return Err("too long".to_owned());
    }
    if let Some(words) = rule.get("enum").and_then(Value::as_array)
        && !words.iter().any(|word| word == value)
    {
        return Err("none of the words".to_owned());
    }
    if let Some(pattern) = rule.get("pattern").and_then(Value::as_str) {
        // Perl writes its flags otherwise.
        let pattern = format!("^(?:{})$", pattern.replace("(?^:", "(?:"));
        if !Regex::new(&pattern).unwrap().is_match(value) {
            return Err(format!("does not match {pattern}"));
        }
    }
    match rule.get("format") {
        Some(Value::String(format)) => check_format(format, value),
        Some(Value::Object(keys)) => check_props(keys, value),
        _ => Ok(()),
    }
}

/// A property string, key by key.
fn check_props(keys: &serde_json::Map<String, Value>, value: &str) -> Result<(), String> {
    let default = keys.iter().find(|(_, rule)| rule.get("default_key").is_some()).map_or("", |(key, _)| key.as_str());
    let props = parse(value, default);
    if props.len() != value.split(',').count() {
        return Err("a key twice, or nothing between two commas".to_owned());
    }
    for (key, value) in &props {
        let rule = keys.get(key).ok_or_else(|| format!("no key {key}"))?;
        check(rule, value).map_err(|why| format!("{key}: {why}"))?;
    }
    let missing = keys.iter().find(|(key, rule)| rule.get("optional").is_none() && !props.contains_key(*key));
    missing.map_or(Ok(()), |(key, _)| Err(format!("key {key} is missing")))
}

/// The formats that are named in the schema and defined in Proxmox VE's sources.
fn check_format(format: &str, value: &str) -> Result<(), String> {
    let matches = |pattern: &str| Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(value);
    let prefix = |most: u8| {
        value
            .split_once('/')
            .filter(|(_, prefix)| prefix.parse().is_ok_and(|bits: u8| bits <= most))
            .map(|(address, _)| address)
    };
    let good = match format {
        "pve-vmid" => value.parse().is_ok_and(|id: u32| (100..=999_999_999).contains(&id)),
        "pve-vmid-list" => list(value).all(|id| id.parse::<u32>().is_ok()),
        "pve-node" => matches(r"[a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?"),
        "pve-storage-id" => matches(r"(?i)[a-z][a-z0-9\-_.]*[a-z0-9]"),
        "pve-poolid" => matches(r"(?:[A-Za-z0-9._\-]+/){0,2}[A-Za-z0-9._\-]+"),
        "pve-configid" => matches(r"(?i)[a-z][a-z0-9_-]+"),
        "pve-configid-list" => list(value).all(|id| Regex::new("(?i)^[a-z][a-z0-9_-]+$").unwrap().is_match(id)),
        "pve-tag-list" => list(value).all(|tag| Regex::new(r"(?i)^[a-z0-9_][a-z0-9_\-+.]*$").unwrap().is_match(tag)),
        "dns-name" => matches(r"([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"),
        "dns-name-list" => !value.is_empty() && !value.contains('_'),
        "lxc-ip-with-ll-iface-list" => list(value).all(|address| address.parse::<std::net::IpAddr>().is_ok()),
        "mac-addr" => matches(r"(?i)[a-f0-9][02468ace](?::[a-f0-9]{2}){5}"),
        "ipv4" => value.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => value.parse::<Ipv6Addr>().is_ok(),
        "pve-ipv4-config" => {
            ["dhcp", "manual"].contains(&value) || prefix(32).is_some_and(|text| text.parse::<Ipv4Addr>().is_ok())
        }
        "pve-ipv6-config" => {
            ["auto", "dhcp", "manual"].contains(&value)
                || prefix(128).is_some_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        "pve-lxc-mp-string" => !value.is_empty() && !value.contains(',') && !value.contains("/../"),
        "disk-size" => matches(r"\d+(\.\d+)?[KMGT]?"),
        "pve-startup-order" => {
            let keys = ["order", "up", "down"];
            parse(value, "order")
                .iter()
                .all(|(key, number)| keys.contains(&key.as_str()) && number.parse::<u32>().is_ok())
        }
        "pve-volume-id" | "pve-storage-content" => !value.is_empty(),
        other => panic!("the test does not know the format {other}"),
    };
    if good { Ok(()) } else { Err(format!("no {format}")) }
}

/// The configuration that a call of create makes, or one of change leaves, as Proxmox VE writes it.
fn written(mut raw: Raw, call: &Call) -> Raw {
    let not_kept = ["vmid", "ostemplate", "storage", "password", "ssh-public-keys", "pool", "digest", "delete"];
    for (key, value) in &call.parameters {
        if key == "delete" {
            raw.retain(|held, _| !value.split(',').any(|gone| gone == held));
        }
        if not_kept.contains(&key.as_str()) {
            continue;
        }
        let mut value = value.clone();
        if key.starts_with("net") && !value.contains("hwaddr=") {
            value.push_str(",hwaddr=BC:24:11:00:00:01,type=veth");
        }
        let mut props = parse(&value, "volume");
        let made = props
            .get("volume")
            .and_then(|volume| volume.split_once(':'))
            .map(|(storage, size)| (storage.to_owned(), size.to_owned()));
        if let (true, Some((storage, size))) = (key == "rootfs" || key.starts_with("mp"), made)
            && size.parse::<u64>().is_ok()
        {
            props.remove("volume");
            props.insert("size".to_owned(), format!("{size}G"));
            value = super::props::print_mount(&format!("{storage}:vm-101-{key}"), &props);
        }
        raw.insert(key.clone(), value);
    }
    raw
}

/// Fields that the planner finds to differ from a configuration.
fn differing(spec: &ContainerSpec, raw: &Raw) -> Vec<String> {
    let tags = raw.get("tags").map(|tags| list(tags).map(str::to_owned).collect()).unwrap_or_default();
    let facts = GuestFacts {
        runtime: Runtime::Proxmox,
        node: spec.node.clone().unwrap_or_else(|| "pve1".to_owned()),
        pool: spec.pool.clone().unwrap_or_default(),
        running: spec.running.unwrap_or_default(),
        tags,
        settings: Some(Arc::new(settings(raw))),
        ..GuestFacts::default()
    };
    let id = Name::from("101");
    let mut observed = Observed::default();
    observed.guests.insert(id.clone(), Arc::new(facts));
    let connected =
        Backend { status: BackendStatus::Connected, message: String::new(), version: String::new(), reconnects: 0 };
    observed.backends.insert("lxc", connected);
    let nodes = BTreeMap::from([("pve1".to_owned(), NodeFacts { online: true, ..NodeFacts::default() })]);
    observed.cluster = Arc::new(crate::model::ClusterFacts { nodes, rights: None });
    let document = Document { containers: [(id.clone(), spec.clone())].into(), ..Document::default() };
    let inventory = Inventory {
        machine_id: String::new(),
        protected_units: Vec::new(),
        container_unit: "pve-container@%.service".to_owned(),
        retry_unmet: false,
        reload_owed: false,
        hand: Hand::Proxmox { node: "pve1".to_owned() },
    };
    let assessment = assess(&Desired::new(Arc::new(document)), &ResourceId::container(id), &observed, &inventory);
    assessment.differences.into_iter().map(|difference| difference.field).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_call_is_one_of_the_api_and_means_what_the_planner_means(
        first in arbitrary::settings(),
        then in arbitrary::settings(),
        password in proptest::option::of("[a-z]{8}"),
    ) {
        let password = password.map(Secret::new);
        let made = params::create("pve1", "101", &first, password.as_ref());
        let unpacked = first.from.as_ref().is_some_and(|from| from.template.is_some());
        if unpacked {
            check_call(&made);
        } else if first.from.is_some() {
            check_call(&params::clone("pve1", "101", "900", &first));
        }
        let raw = written(Raw::from([("hostname".to_owned(), "CT101".to_owned())]), &made);
        if unpacked {
            prop_assert_eq!(differing(&first, &raw), Vec::<String>::new(), "after {:?}", made);
        }
        // Another document for the same container.
        let tags = raw.get("tags").map(|tags| list(tags).map(str::to_owned).collect()).unwrap_or_default();
        let changes = params::changes("101", &then, &settings(&raw), Some(&tags));
        let raw = if changes.is_empty() {
            raw
        } else {
            let call = changes.call("pve1", "101", Some("0123456789abcdef0123456789abcdef01234567"));
            check_call(&call);
            written(raw, &call)
        };
        let tags = raw.get("tags").map(|tags| list(tags).map(str::to_owned).collect()).unwrap_or_default();
        prop_assert!(params::changes("101", &then, &settings(&raw), Some(&tags)).is_empty(), "it is written once");
        // What is left is no setting: sizes are grown, and some things cannot be changed.
        let left: Vec<String> = differing(&then, &raw).into_iter()
            .filter(|field| !field.ends_with("size_gib") && !field.ends_with(".source") && field != "from.unprivileged")
            .collect();
        prop_assert_eq!(left, Vec::<String>::new(), "after {:?}", changes);
        for call in params::grow("pve1", "101", &then, &settings(&raw)) {
            check_call(&call);
        }
        let port = PortSpec { bridge: "ovsbr0".into(), tag: Want::Is(30), trunks: Some([10, 20].into()), ..PortSpec::default() };
        let changes = params::port_changes(0, &port, &settings(&raw));
        if !changes.is_empty() {
            check_call(&changes.call("pve1", "101", None));
        }
    }
}

#[test]
fn the_other_calls_are_the_apis_too() {
    let checksum = format!("sha256:{}", "a".repeat(64));
    let id = Name::from("101");
    for call in [
        params::status("pve1", "101", "start"),
        params::shutdown("pve1", "101", 60),
        params::reboot("pve1", "101", 60),
        params::destroy("pve1", "101", true),
        params::destroy("pve1", "101", false),
        params::make_template("pve1", "101"),
        params::download("pve1", "local", "a.tar.zst", "https://example.org/a", Some(&checksum)),
        params::download("pve1", "local", "a.tar.zst", "https://example.org/a", None),
        params::appliance("pve1", "local", "debian-12-standard_12.7-1_amd64.tar.zst"),
        params::join_pool("p", &id),
    ] {
        check_call(&call);
    }
}
