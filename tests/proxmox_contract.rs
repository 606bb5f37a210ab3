//! Every request that op-dbus can build for Proxmox VE, held against that API's own schema: over documents as people may
//! write them, with values just inside and just outside of what is taken, and over what may already be there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;

use op_dbus::{
    desired::{ContainerSpec, Document, NetworkSpec, Rules, TemplateSource, Want, parse_with},
    model::{GuestMount, GuestNetwork, GuestSettings},
    plugins::proxmox::{Call, Secret, params},
};
use op_dbus_testkit::PveSchema;
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    strategy::{Union, ValueTree as _},
    test_runner::{Config, TestRunner},
};
use serde_json::{Map, Value, json};

/// Documents tried: most that are refused cost nothing.
const DOCUMENTS: u32 = 1500;

/// Of them, at least so many must be taken, or the test tests little.
const TAKEN: usize = 300;

/// A field's values: mostly `good`, which is to be taken, now and then `near`, which may be or not.
fn field(
    good: impl Strategy<Value = Value> + 'static,
    near: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<Value> {
    Union::new_weighted(vec![(12, good.boxed()), (1, near.boxed())]).boxed()
}

fn text(good: &'static str, near: &'static str) -> BoxedStrategy<Value> {
    let of = |pattern: &'static str| proptest::string::string_regex(pattern).unwrap().prop_map(Value::from);
    field(of(good), of(near))
}

fn number(good: std::ops::RangeInclusive<i64>, near: Vec<Value>) -> BoxedStrategy<Value> {
    let edges = vec![(*good.start()).into(), (*good.end()).into()];
    let good = Union::new(vec![good.prop_map(Value::from).boxed(), select(edges).boxed()]);
    field(good, select(near))
}

fn switch() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

/// An object of some of these fields.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            option::weighted(0.4, value).prop_map(move |value| value.map(|value| (name.to_owned(), value)))
        })
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect())).boxed()
}

fn with(object: BoxedStrategy<Value>, name: &'static str, value: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    (object, value)
        .prop_map(move |(mut object, value)| {
            object[name] = value;
            object
        })
        .boxed()
}

fn list(element: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    vec(element, 0..=most).prop_map(Value::from).boxed()
}

fn or_null(value: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    Union::new_weighted(vec![(5, value), (1, Just(Value::Null).boxed())]).boxed()
}

fn decimal() -> BoxedStrategy<Value> {
    let near = select(vec![json!(0), json!(0.0004), json!(8192), json!(8192.001), json!(-1), json!(1e300)]);
    field((1..8_192_000_u32).prop_map(|thousandths| json!(f64::from(thousandths) / 1000.0)), near)
}

const BRIDGE: (&str, &str) = ("[a-z]{2,6}[0-9]{1,3}", "[-a-zA-Z0-9_.@+:ä]{1,16}");

fn network() -> BoxedStrategy<Value> {
    let address = "(dhcp|manual|10\\.[0-9]\\.[0-9]\\.[1-9]/(8|24|32))";
    let vlan = || number(1..=4094, vec![json!(0), json!(4095), json!(-1), json!(1.5)]);
    let fields = object(vec![
        ("bridge", text(BRIDGE.0, BRIDGE.1)),
        ("tag", or_null(vlan())),
        ("trunks", or_null(list(vlan(), 4))),
        ("hwaddr", text("[0-9A-F][02468ACE](:[0-9a-fA-F]{2}){5}", "[0-9a-f]{2}(:[0-9a-f]{2}){4,6}")),
        ("ip", or_null(text(address, "(auto|[0-9.]{5,16}/[0-9]{1,3}|10\\.0\\.0\\.1/[0-9]|10\\.0\\.0\\.1)"))),
        ("gw", or_null(text("10\\.[0-9]\\.0\\.1", "[0-9.]{5,16}"))),
        ("ip6", or_null(text("(auto|dhcp|manual|fd00::[1-9]/64)", "(::1|[0-9a-f:.]{2,20}/[0-9]{1,3}|fd00::1/[0-9])"))),
        ("gw6", or_null(text("fd00::[1-9a-f]{1,4}", "[0-9a-f:.%]{2,20}"))),
        ("firewall", switch()),
        ("mtu", or_null(number(64..=65535, vec![json!(0), json!(63), json!(65536)]))),
        ("rate", or_null(decimal())),
        ("link_down", switch()),
    ]);
    with(fields, "name", text("eth[0-9]{1,2}", "[-a-zA-Z0-9_.ä ]{1,17}"))
}

const FOLDER: (&str, &str) =
    ("(/[a-z0-9._]{1,8}x){1,3}", "(/[-a-zA-Z0-9_./ ,=ä\\n]{1,12}|/a/\\.\\.?(/b)?|(/\\.\\.?){1,2}|/\\.\\./a)");
const STORAGE: (&str, &str) = ("[a-z]{2,5}-lvm", "[-a-zA-Z0-9_.:,]{1,10}");

fn mount() -> BoxedStrategy<Value> {
    let size = || number(1..=4096, vec![json!(0), json!(-1), json!(0.5), json!(1_u64 << 31)]);
    let fields = object(vec![("read_only", switch()), ("backup", switch())]);
    let volume = with(with(fields.clone(), "storage", text(STORAGE.0, STORAGE.1)), "size_gib", size());
    let folder = with(fields, "source", text(FOLDER.0, FOLDER.1));
    with(Union::new(vec![volume, folder]).boxed(), "path", text(FOLDER.0, FOLDER.1))
}

fn source() -> BoxedStrategy<Value> {
    let storage = ("storage", text(STORAGE.0, STORAGE.1));
    let size = ("size_gib", number(1..=4096, vec![json!(0), json!(0.5), json!(1_u64 << 40)]));
    let template = object(vec![
        storage.clone(),
        size.clone(),
        ("unprivileged", switch()),
        ("ssh_public_keys", list(text("ssh-ed25519 [A-Za-z0-9+/]{68} [a-z@.]{1,8}", "[ -~ä]{0,20}"), 3)),
        ("password_credential", text("[a-z.]{1,10}x", "[-a-z./]{1,8}")),
    ]);
    let volume = text("local:vztmpl/[a-z0-9_.-]{1,20}\\.tar\\.zst", "[ -~ä]{0,12}");
    let clone = object(vec![storage, size, ("full", switch())]);
    Union::new_weighted(vec![
        (3, with(template, "template", volume)),
        (1, with(clone, "clone", text("[1-9][0-9]{2,4}", "[0-9a-z]{1,11}"))),
    ])
    .boxed()
}

fn startup() -> BoxedStrategy<Value> {
    let seconds = || number(0..=86_400, vec![json!(-1), json!(i32::MAX), json!(1_u64 << 40)]);
    object(vec![("order", seconds()), ("up", seconds()), ("down", seconds())])
}

fn features() -> BoxedStrategy<Value> {
    object(vec![
        ("nesting", switch()),
        ("keyctl", switch()),
        ("fuse", switch()),
        ("mknod", switch()),
        ("mount", or_null(list(text("(nfs|cifs|ext4)", "[-a-zA-Z0-9_;, ]{0,8}"), 3))),
    ])
}

fn container() -> BoxedStrategy<Value> {
    let settings = vec![
        ("from", source()),
        ("hostname", text("[a-z][a-z0-9]{0,10}(\\.[a-z]{1,5})?", "[-A-Za-z0-9._ä]{0,20}")),
        ("cores", or_null(number(1..=8192, vec![json!(0), json!(8193), json!(1.5)]))),
        ("cpulimit", or_null(decimal())),
        ("memory_mib", number(16..=1_048_576, vec![json!(0), json!(15), json!(1_u64 << 50)])),
        ("swap_mib", number(0..=65_536, vec![json!(-1), json!(0.5), json!(1_u64 << 50)])),
        ("networks", list(network(), 4)),
        ("mounts", list(mount(), 3)),
        ("features", features()),
        ("onboot", switch()),
        ("startup", or_null(startup())),
        ("protection", switch()),
        (
            "nameserver",
            or_null(text(
                "10\\.0\\.0\\.[1-9]( fd00::1)?",
                "([0-9a-f.: ,%]{0,20}|10\\.0\\.1|10\\.0\\.0\\.1  10\\.0\\.0\\.2)",
            )),
        ),
        ("searchdomain", or_null(text("[a-z]{1,8}\\.(org|test)( [a-z]{1,8})?", "[-a-z0-9._ ]{0,16}"))),
        ("tags", or_null(list(text("[a-z0-9_][a-z0-9_+.-]{0,8}", "[-a-zA-Z0-9_+.;, ]{0,8}"), 4))),
        ("description", or_null(text("[ -~\\nä]{0,40}", "(.{0,20}|x{8192}|ä{8192})"))),
        ("pool", text("[a-z]{1,8}(/[a-z]{1,8})?", "[-a-z0-9._/ ]{1,12}")),
        ("node", text("(lab|far)", "[-A-Za-z0-9_.]{1,12}")),
        ("running", switch()),
        ("restart", switch()),
    ];
    Union::new_weighted(vec![
        (9, object(settings)),
        (1, Just(json!({ "veth": "veth100", "bridge": "ovsbr0", "running": true })).boxed()),
    ])
    .boxed()
}

fn template() -> BoxedStrategy<Value> {
    let name = || text("[a-z0-9_.-]{1,20}x\\.tar\\.zst", "[-a-zA-Z0-9_.+/ ä]{1,20}");
    let address = text("https://[a-z.]{1,9}x/[a-z0-9/._-]{0,20}", "(ftp|http|https)://[ -~ä]{0,20}");
    let checksum = text("(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})", "(md5|sha256):[0-9a-fA-F]{32,64}");
    let storage = ("storage", text(STORAGE.0, STORAGE.1));
    let fetched = with(object(vec![storage.clone(), ("checksum", checksum)]), "url", address);
    let listed = with(object(vec![storage]), "appliance", name());
    with(Union::new(vec![fetched, listed]).boxed(), "name", name())
}

fn document() -> impl Strategy<Value = Value> {
    let id = || text("[1-9][0-9]{2,5}", "[0-9a-z]{1,11}");
    let containers = vec((id(), container()), 1..=2);
    let port = object(vec![
        ("tag", or_null(number(0..=4095, vec![json!(4096)]))),
        ("trunks", or_null(list(number(0..=4095, vec![json!(4096)]), 3))),
        ("mtu_request", or_null(number(68..=65535, vec![json!(0), json!(70_000)]))),
    ]);
    (containers, option::weighted(0.2, port), option::weighted(0.2, template())).prop_map(
        |(containers, port, template)| {
            let mut lxc = Map::new();
            let named = containers.into_iter().map(|(id, mut container)| {
                container["id"] = id;
                container
            });
            lxc.insert("containers".to_owned(), named.collect());
            lxc.extend(template.map(|template| ("templates".to_owned(), json!([template]))));
            let mut document = json!({ "lxc": lxc });
            if let Some(port) = port {
                document["ovsdb"] = json!({ "bridges": { "ovsbr0": { "ports": { "veth100i0": port } } } });
            }
            document
        },
    )
}

/// The configuration of a container that is as the entry says, with what Proxmox VE adds by itself.
fn settled(spec: &ContainerSpec) -> GuestSettings {
    let word = |want: &Want<String>| if let Want::Is(word) = want { Some(word.clone()) } else { None };
    let networks =
        spec.networks.iter().flatten().zip(0..).map(|((name, network), index)| (index, plugged(name, network)));
    let mounts = spec.mounts.iter().zip(0..).map(|((path, mount), index)| {
        let volume = mount.source.clone().unwrap_or_else(|| format!("local-lvm:vm-100-disk-{index}"));
        let bytes = mount.size_gib.unwrap_or(0) << 30;
        let rest = BTreeMap::from([("replicate".to_owned(), "0".to_owned())]);
        let read_only = mount.read_only.unwrap_or_default();
        (index, GuestMount { path: path.clone(), volume, bytes, read_only, rest, ..GuestMount::default() })
    });
    let startup = if let Want::Is(startup) = &spec.startup {
        let fields = [("order", startup.order), ("up", startup.up), ("down", startup.down)];
        fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    } else {
        BTreeMap::new()
    };
    let features = [("nesting", spec.features.nesting), ("keyctl", spec.features.keyctl), ("fuse", spec.features.fuse)];
    let features = features.into_iter().filter(|(_, on)| *on == Some(true));
    let mut features: BTreeMap<String, String> = features.map(|(word, _)| (word.to_owned(), "1".to_owned())).collect();
    features.insert("force_rw_sys".to_owned(), "1".to_owned());
    GuestSettings {
        hostname: spec.hostname.clone().unwrap_or_default(),
        cores: if let Want::Is(cores) = spec.cores { Some(cores) } else { None },
        cpulimit_thousandths: if let Want::Is(limit) = &spec.cpulimit { limit.thousandths } else { 0 },
        memory_mib: spec.memory_mib.unwrap_or(512),
        swap_mib: spec.swap_mib.unwrap_or(512),
        root_bytes: 4 << 30,
        networks: networks.collect(),
        mounts: mounts.collect(),
        features,
        onboot: spec.onboot.unwrap_or_default(),
        startup,
        protection: spec.protection.unwrap_or_default(),
        nameserver: word(&spec.nameserver),
        searchdomain: word(&spec.searchdomain),
        description: word(&spec.description),
        ..GuestSettings::default()
    }
}

fn plugged(name: &str, spec: &NetworkSpec) -> GuestNetwork {
    let word = |want: &Want<String>| if let Want::Is(word) = want { Some(word.clone()) } else { None };
    GuestNetwork {
        name: name.to_owned(),
        bridge: spec.bridge.as_deref().unwrap_or("vmbr0").to_owned(),
        tag: if let Want::Is(tag) = spec.tag { Some(tag) } else { None },
        trunks: spec.trunks.clone().unwrap_or_default(),
        hwaddr: spec.hwaddr.clone().unwrap_or_else(|| "BC:24:11:00:00:01".to_owned()),
        ip: word(&spec.ip),
        gw: word(&spec.gw),
        firewall: spec.firewall.unwrap_or_default(),
        rate_thousandths: if let Want::Is(rate) = &spec.rate { Some(rate.thousandths) } else { None },
        rest: BTreeMap::from([("type".to_owned(), "veth".to_owned()), ("host-managed".to_owned(), "1".to_owned())]),
        ..GuestNetwork::default()
    }
}

fn is_vmid(id: &str) -> bool {
    !id.starts_with('0') && id.parse().is_ok_and(|id: u32| (100..=999_999_999).contains(&id))
}

/// Every call that op-dbus may make to bring a document about, whatever of it is there already.
fn calls(document: &Document) -> Vec<Call> {
    let node = "lab";
    let password = Secret::new("a secret".to_owned());
    let digest = "0".repeat(40);
    let mut out = Vec::new();
    let there: Vec<GuestSettings> = document
        .containers
        .values()
        .map(settled)
        .chain([GuestSettings { memory_mib: 512, ..GuestSettings::default() }])
        .collect();
    for (id, spec) in &document.containers {
        if !spec.is_configured() && !is_vmid(id) {
            // Some other runtime's: Proxmox VE has none of that number, and is asked nothing of it.
            continue;
        }
        let on = spec.node.as_deref().unwrap_or(node);
        if let Some(from) = &spec.from {
            out.push(match &from.clone {
                Some(origin) => params::clone(node, id, origin, spec),
                None => params::create(on, id, spec, from.password_credential.as_ref().map(|_| &password)),
            });
        }
        for now in &there {
            for tags in [None, Some(&["a".to_owned()].into())] {
                let changes = params::changes(id, spec, now, tags);
                if !changes.is_empty() {
                    out.push(changes.call(on, id, Some(&digest)));
                }
            }
            out.extend(params::grow(on, id, spec, now));
            for port in document.ports.values() {
                let changes = params::port_changes(0, port, now);
                if !changes.is_empty() {
                    out.push(changes.call(on, id, Some(&digest)));
                }
            }
        }
        out.extend(spec.pool.iter().map(|pool| params::join_pool(pool, id)));
        out.extend([
            params::status(on, id, "start"),
            params::shutdown(on, id, 60),
            params::reboot(on, id, 60),
            params::destroy(on, id, false),
            params::destroy(on, id, true),
            params::make_template(on, id),
        ]);
    }
    for (name, spec) in &document.templates {
        let storage = spec.storage.as_deref().unwrap_or("local");
        match &spec.source {
            TemplateSource::Url(url) => out.push(params::download(node, storage, name, url, spec.checksum.as_deref())),
            TemplateSource::Appliance(appliance) => out.push(params::appliance(node, storage, appliance)),
            TemplateSource::File(_) => out.push(params::upload(node, storage, name, spec.checksum.as_deref())),
        }
    }
    out
}

#[test]
fn every_request_of_a_taken_document_is_one_that_proxmox_ve_takes() {
    let Some(schema) = PveSchema::load() else { return };
    let rules = Rules { proxmox: true, ..Rules::default() };
    let mut runner = TestRunner::new(Config { cases: DOCUMENTS, failure_persistence: None, ..Config::default() });
    let (mut taken, mut made) = (0, 0);
    // Not the first fault alone, shrunk, but each kind of fault once, with the call that has it.
    let mut faults: BTreeMap<String, String> = BTreeMap::new();
    let documents = document();
    for _ in 0..DOCUMENTS {
        let written = documents.new_tree(&mut runner).unwrap().current();
        let Ok(document) = parse_with(&written.to_string(), &rules) else { continue };
        taken += 1;
        for call in calls(&document) {
            made += 1;
            let Err(found) = schema.check(call.verb.as_str(), &call.path, &call.parameters) else { continue };
            for fault in found {
                let kind =
                    format!("{} {}", call.verb.as_str(), fault.rsplit_once(": \"").map_or(&*fault, |(kind, _)| kind));
                faults.entry(kind).or_insert_with(|| format!("{fault}\n    {} {:?}", call.shown(), call.parameters));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.into_values().collect::<Vec<_>>().join("\n"));
    assert!(taken >= TAKEN, "only {taken} of {DOCUMENTS} documents were taken");
    assert!(made > taken, "{made} calls");
}
