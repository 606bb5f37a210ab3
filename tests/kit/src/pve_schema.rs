//! The schema of Proxmox VE's API, as the lab's fake carries it, and whether a request is one that it takes.
//!
//! Stricter than Proxmox VE in one thing: a format or a type that this file does not know is a fault, so that nothing
//! passes unchecked.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, Once},
};

use regex::Regex;
use serde_json::{Map, Value};

use crate::pve_formats;

/// Numbered parameters, and how many of each there can be.
const NUMBERED: [(&str, u32); 4] = [("net", 32), ("mp", 256), ("unused", 256), ("dev", 256)];

/// The schema.
#[derive(Debug)]
pub struct PveSchema {
    paths: Map<String, Value>,
}

impl PveSchema {
    /// The schema of the fake that is installed for the lab, or `None` where none is: then the binary has said, once,
    /// that its tests were left out. With `OPDBUS_FAKEPVE`, which `tests/run` sets, it must be there.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    #[must_use]
    pub fn load() -> Option<Self> {
        static TOLD: Once = Once::new();
        let Some(folder) = folder() else {
            TOLD.call_once(|| {
                // Not eprintln!, which the test harness keeps to itself while tests pass.
                let _ =
                    writeln!(std::io::stderr(), "left out: Proxmox VE's schema is not installed (sudo tests/run does)");
            });
            return None;
        };
        let file = folder.join("fakepve/data/pve-api.json.gz");
        let unpacked = Command::new("gzip").arg("-dc").arg(&file).output().expect("gzip");
        assert!(unpacked.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&unpacked.stderr));
        Some(Self::parse(&unpacked.stdout))
    }

    /// The schema in that JSON: an object with `paths`, of which each has methods.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[must_use]
    pub fn parse(json: &[u8]) -> Self {
        let mut whole: Value = serde_json::from_slice(json).expect("JSON");
        let Value::Object(paths) = whole["paths"].take() else { panic!("a schema has paths") };
        Self { paths }
    }

    /// Whether the API takes a request: its path under `/api2/json`, percent-encoded, with or without a query, and its
    /// parameters.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, a line for each, beginning with the parameter's name.
    pub fn check(&self, method: &str, path: &str, parameters: &[(String, String)]) -> Result<(), Vec<String>> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut given: Vec<(String, String)> = parameters.to_vec();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            given.push((decoded(name), decoded(value)));
        }
        let Some((template, methods)) = self.paths.iter().find(|(template, _)| matches(template, path)) else {
            return Err(vec![format!("there is no path {path}")]);
        };
        let Some(known) = methods.get(method) else { return Err(vec![format!("{template} has no {method}")]) };
        for (name, value) in template.split('/').zip(path.split('/')) {
            if let Some(name) = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                given.push((name.to_owned(), decoded(value)));
            }
        }
        let faults = parameters_faults(&known["parameters"], &given);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Where the fake is installed, if it is.
fn folder() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("OPDBUS_FAKEPVE") {
        return Some(folder.into());
    }
    let inside = Path::new("/usr/local/lib/fakepve"); // in the lab
    if inside.is_dir() {
        return Some(inside.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/pve/install");
    let printed = Command::new(script).arg("--if-there").output().ok()?.stdout;
    let folder = String::from_utf8(printed).ok()?.trim().to_owned();
    (!folder.is_empty()).then(|| folder.into())
}

/// A part of a path or a query, as it was before it was percent-encoded.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            rest = &after[2..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    String::from_utf8(out).expect("parameters are UTF-8")
}

/// `/nodes/{node}/lxc` is meant by `/nodes/lab/lxc`, and not by one with an empty part.
fn matches(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == given || wanted.starts_with('{') && !given.is_empty() => {}
            _ => return false,
        }
    }
}

fn is_on(schema: &Value, key: &str) -> bool {
    matches!(&schema[key], Value::Number(number) if number.as_i64() == Some(1))
        || schema[key] == true
        || schema[key] == "1"
}

fn parameters_faults(known: &Value, given: &[(String, String)]) -> Vec<String> {
    let nothing = Map::new();
    let properties = known["properties"].as_object().unwrap_or(&nothing);
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, value) in given {
        if !seen.insert(name.as_str()) {
            faults.push(format!("{name}: given twice"));
        }
        match property(properties, name) {
            None => faults.push(format!("{name}: there is no such parameter")),
            Some(schema) => {
                value_faults(&mut faults, name, schema, value);
                if let Some(other) =
                    schema["requires"].as_str().filter(|other| !given.iter().any(|(name, _)| name == other))
                {
                    faults.push(format!("{name}: needs {other} as well"));
                }
            }
        }
    }
    for (name, schema) in properties {
        if !is_on(schema, "optional") && !name.ends_with("[n]") && !seen.contains(name.as_str()) {
            faults.push(format!("{name}: is missing"));
        }
    }
    faults
}

/// The schema of a parameter; `net0` is one of `net[n]`.
fn property<'a>(properties: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    properties.get(name).or_else(|| {
        let stem = name.trim_end_matches(|char: char| char.is_ascii_digit());
        let number = name.strip_prefix(stem)?;
        let (_, count) = NUMBERED.iter().find(|(known, _)| *known == stem)?;
        let at: u32 = number.parse().ok().filter(|at: &u32| at.to_string() == number && at < count)?;
        let _ = at;
        properties.get(&format!("{stem}[n]"))
    })
}

fn value_faults(faults: &mut Vec<String>, name: &str, schema: &Value, value: &str) {
    let mut wrong = |why: String| faults.push(format!("{name}: {why}: {value:?}"));
    match schema["type"].as_str().unwrap_or("string") {
        "string" => {}
        "boolean" if ["0", "1"].contains(&value) => {}
        "boolean" => wrong("is neither 0 nor 1".to_owned()),
        kind @ ("integer" | "number") => {
            let is_whole = value.parse::<i64>().is_ok();
            match value.parse::<f64>().ok().filter(|number| number.is_finite() && (kind == "number" || is_whole)) {
                None => wrong(format!("is no {kind}")),
                Some(number) => {
                    if bound(schema, "minimum").is_some_and(|least| number < least) {
                        wrong(format!("is less than {}", schema["minimum"]));
                    }
                    if bound(schema, "maximum").is_some_and(|most| number > most) {
                        wrong(format!("is more than {}", schema["maximum"]));
                    }
                }
            }
        }
        other => wrong(format!("is of a type that is not checked ({other})")),
    }
    let length = value.chars().count() as f64;
    if bound(schema, "minLength").is_some_and(|least| length < least) {
        wrong(format!("is shorter than {}", schema["minLength"]));
    }
    if bound(schema, "maxLength").is_some_and(|most| length > most) {
        wrong(format!("is longer than {}", schema["maxLength"]));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.iter().any(|word| word.as_str().map_or_else(|| word.to_string() == value, |word| word == value))
    {
        wrong(format!("is none of {}", schema["enum"]));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && !regex(pattern).is_match(value)
    {
        wrong(format!("does not match {pattern}"));
    }
    match &schema["format"] {
        Value::Null => {}
        Value::String(format) => {
            if let Some(why) = pve_formats::fault(format, value) {
                wrong(format!("{why} ({format})"));
            }
        }
        Value::Object(keys) => property_string_faults(faults, name, keys, value),
        other => wrong(format!("has a format that is not checked ({other})")),
    }
}

/// Bounds stand there as numbers and as text.
fn bound(schema: &Value, key: &str) -> Option<f64> {
    schema[key].as_f64().or_else(|| schema[key].as_str()?.parse().ok())
}

/// A pattern of the schema, which is Perl's, for the whole of a value.
fn regex(pattern: &str) -> Regex {
    // Made once each: that takes longer than a match by far.
    static MADE: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().expect("no pattern is wrong");
    made.entry(pattern.to_owned()).or_insert_with(|| whole(pattern)).clone()
}

fn whole(pattern: &str) -> Regex {
    // How Perl shows a compiled pattern without flags.
    let pattern = pattern.replace("(?^:", "(?:").replace(r"\w\d", "A-Za-z0-9_");
    Regex::new(&format!("^(?:{pattern})$")).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

/// `name=eth0,bridge=vmbr0`; one part may be a value without its key.
fn property_string_faults(faults: &mut Vec<String>, name: &str, keys: &Map<String, Value>, text: &str) {
    let mut seen = BTreeSet::new();
    if text.contains('\n') {
        faults.push(format!("{name}: has more than one line: {text:?}"));
    }
    for part in text.split(',') {
        let default = keys.iter().find(|(_, schema)| is_on(schema, "default_key")).map(|(key, _)| key.as_str());
        let (key, value) = match (part.split_once('='), default) {
            (Some((key, value)), _) if !key.is_empty() && !value.is_empty() => (key, value),
            (None, Some(key)) if !part.is_empty() => (key, part),
            _ => {
                faults.push(format!("{name}: {part:?} is no key with a value, in {text:?}"));
                continue;
            }
        };
        if !seen.insert(key) {
            faults.push(format!("{name}.{key}: given twice, in {text:?}"));
        }
        match keys.get(key) {
            None => faults.push(format!("{name}.{key}: there is no such key, in {text:?}")),
            Some(schema) => value_faults(faults, &format!("{name}.{key}"), schema, value),
        }
    }
    for (key, schema) in keys {
        if !is_on(schema, "optional") && !seen.contains(key.as_str()) {
            faults.push(format!("{name}.{key}: is missing, in {text:?}"));
        }
        if let Some(other) = schema["requires"].as_str()
            && seen.contains(key.as_str())
            && !seen.contains(other)
        {
            faults.push(format!("{name}.{key}: needs {other} as well, in {text:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// In the form of Proxmox VE's, small.
    fn schema() -> PveSchema {
        PveSchema::parse(
            json!({ "paths": { "/nodes/{node}/lxc": { "POST": { "parameters": { "additionalProperties": 0, "properties": {
                "node": { "type": "string", "format": "pve-node" },
                "vmid": { "type": "integer", "format": "pve-vmid", "minimum": 100, "maximum": 999_999_999 },
                "cores": { "type": "integer", "minimum": 1, "maximum": "8192", "optional": 1 },
                "cpulimit": { "type": "number", "minimum": 0, "optional": 1 },
                "onboot": { "type": "boolean", "optional": 1 },
                "lock": { "type": "string", "enum": ["backup"], "optional": 1 },
                "description": { "type": "string", "maxLength": 4, "optional": 1 },
                "password": { "type": "string", "minLength": 5, "optional": 1 },
                "unique": { "type": "boolean", "optional": 1, "requires": "lock" },
                "odd": { "type": "string", "format": "nobody-knows", "optional": 1 },
                "net[n]": { "type": "string", "optional": 1, "format": {
                    "name": { "type": "string", "pattern": "(?^:[-_.\\w\\d]+)" },
                    "gw": { "type": "string", "format": "ipv4", "optional": 1, "requires": "ip" },
                    "ip": { "type": "string", "format": "pve-ipv4-config", "optional": 1 },
                    "tag": { "type": "integer", "minimum": 1, "maximum": 4094, "optional": 1 }
                } },
                "rootfs": { "type": "string", "optional": 1, "format": {
                    "volume": { "type": "string", "format": "pve-lxc-mp-string", "default_key": 1 },
                    "size": { "type": "string", "format": "disk-size", "optional": 1 }
                } }
            } } } } } })
            .to_string()
            .as_bytes(),
        )
    }

    fn faults(parameters: &[(&str, &str)]) -> Vec<String> {
        let mut given = vec![("vmid".to_owned(), "100".to_owned())];
        given.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        schema().check("POST", "/nodes/lab/lxc", &given).err().unwrap_or_default()
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(
            faults(&[
                ("cores", "8192"),
                ("cpulimit", "1.5"),
                ("onboot", "1"),
                ("lock", "backup"),
                ("unique", "0"),
                ("description", "ääää"),
                ("net31", "name=eth0,ip=10.0.0.1/24,gw=10.0.0.254,tag=4094"),
                ("rootfs", "local-lvm:8,size=8G"),
            ]),
            [""; 0]
        );
    }

    #[test]
    fn each_fault_is_found() {
        for (name, value, found) in [
            ("cores", "0", "is less than 1"),
            ("cores", "8193", "is more than"),
            ("cores", "1.5", "is no integer"),
            ("cores", "", "is no integer"),
            ("cpulimit", "much", "is no number"),
            ("cpulimit", "inf", "is no number"),
            ("onboot", "yes", "is neither 0 nor 1"),
            ("lock", "migrate", "is none of"),
            ("description", "12345", "is longer than 4"),
            ("password", "1234", "is shorter than 5"),
            ("unique", "1", "needs lock"),
            ("odd", "x", "not checked"),
            ("vmid", "100", "given twice"),
            ("memory", "512", "no such parameter"),
            ("net32", "name=eth0", "no such parameter"),
            ("net01", "name=eth0", "no such parameter"),
            ("net0", "tag=5", "net0.name: is missing"),
            ("net0", "name=eth0,tag=4095", "net0.tag: is more than"),
            ("net0", "name=eth0,mtu=9", "net0.mtu: there is no such key"),
            ("net0", "name=eth0,name=eth1", "net0.name: given twice"),
            ("net0", "name=eth 0", "does not match"),
            ("net0", "name=eth0,", "is no key with a value"),
            ("net0", "eth0", "is no key with a value"),
            ("net0", "name=eth0,tag=", "is no key with a value"),
            ("net0", "name=eth0,gw=10.0.0.1", "net0.gw: needs ip"),
            ("net0", "name=eth0,ip=10.0.0.1", "pve-ipv4-config"),
            ("rootfs", "size=8G", "rootfs.volume: is missing"),
            ("rootfs", "local:8,size=many", "disk-size"),
            ("rootfs", "local:8,volume=local:9", "rootfs.volume: given twice"),
        ] {
            let faults = faults(&[(name, value)]);
            assert!(faults.iter().any(|fault| fault.contains(found)), "{name}={value}: {faults:?}");
        }
    }

    #[test]
    fn paths_and_methods_are_told_apart() {
        let vmid = [("vmid".to_owned(), "100".to_owned())];
        let schema = schema();
        schema.check("POST", "/nodes/lab/lxc?cores=2", &vmid).unwrap();
        assert_eq!(schema.check("POST", "/nodes/lab/lxc", &[]).unwrap_err(), ["vmid: is missing"]);
        assert_eq!(schema.check("PUT", "/nodes/lab/lxc", &vmid).unwrap_err(), ["/nodes/{node}/lxc has no PUT"]);
        assert_eq!(schema.check("POST", "/nodes//lxc", &vmid).unwrap_err(), ["there is no path /nodes//lxc"]);
        assert_eq!(schema.check("POST", "/nodes/lab/lxc/", &vmid).unwrap_err(), ["there is no path /nodes/lab/lxc/"]);
        let wrong = schema.check("POST", "/nodes/l%20b/lxc?cores=%30", &vmid).unwrap_err();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn proxmox_ve_takes_what_it_documents() {
        let Some(schema) = PveSchema::load() else { return };
        let given = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let create = given(&[
            ("vmid", "100"),
            ("ostemplate", "local:vztmpl/debian-12.tar.zst"),
            ("rootfs", "local-lvm:8"),
            ("mp0", "local-lvm:4,mp=/srv/data,backup=1"),
            ("net0", "name=eth0,bridge=ovsbr0,trunks=10;20,ip=dhcp,ip6=auto,firewall=1,rate=1.5,mtu=1500"),
            ("features", "nesting=1,mount=nfs;cifs"),
            ("startup", "order=1,up=30,down=60"),
            ("tags", "a;b.c"),
            ("nameserver", "10.0.0.1 fe80::1%eth0"),
            ("searchdomain", "example.org"),
            ("unprivileged", "1"),
        ]);
        schema.check("POST", "/nodes/lab/lxc", &create).unwrap();
        let wrong =
            given(&[("vmid", "100"), ("ostemplate", "x"), ("hostname", "a_b"), ("memory", "15"), ("net0", "bridge=a")]);
        let faults = schema.check("POST", "/nodes/lab/lxc", &wrong).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        schema.check("DELETE", "/nodes/lab/lxc/100?force=1&purge=1", &[]).unwrap();
        let upid = "UPID%3Alab%3A000003E9%3A00001B5F%3A6B038737%3Avzstart%3A100%3Aopdbus%40pve%21lab%3A";
        schema.check("GET", &format!("/nodes/lab/tasks/{upid}/log?start=0&limit=500"), &[]).unwrap();
    }
}
