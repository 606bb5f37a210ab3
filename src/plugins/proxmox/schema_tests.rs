//! Every call that can be built, held to the API's own schema, and planner and calls to the same meaning.
//!
//! The schema is another project's, and there once `tests/run` has installed it; without it, only that is said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use op_dbus_testkit::PveSchema;
use proptest::prelude::*;

use super::{
    client::Call,
    config::{Raw, settings},
    params,
    props::{list, parse},
    token::Secret,
};
use crate::{
    desired::{ContainerSpec, Document, MountSpec, PortSpec, Want, arbitrary},
    model::{Backend, BackendStatus, ClusterFacts, GuestFacts, Name, NodeFacts, Observed, ResourceId, Runtime},
    plan::{Desired, Hand, Inventory, Relocation, assess},
};

static SCHEMA: LazyLock<Option<PveSchema>> = LazyLock::new(PveSchema::load);

fn check_call(call: &Call) {
    let Some(schema) = SCHEMA.as_ref() else { return };
    if let Err(faults) = schema.check(call.verb.as_str(), &call.path, &call.parameters) {
        panic!("{call:?}: {faults:#?}");
    }
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
    observed.cluster = Arc::new(ClusterFacts { nodes, ..ClusterFacts::default() });
    let document = Document { containers: [(id.clone(), spec.clone())].into(), ..Document::default() };
    let inventory = Inventory {
        machine_id: String::new(),
        protected_units: Vec::new(),
        protected_calls: Vec::new(),
        container_unit: "pve-container@%.service".to_owned(),
        retry_unmet: false,
        reload_owed: false,
        hand: Hand::Proxmox { node: "pve1".to_owned() },
    };
    let assessment = assess(&Desired::new(Arc::new(document)), &ResourceId::container(id), &observed, &inventory);
    assessment.differences.into_iter().map(|difference| difference.field).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(op_dbus_testkit::cases(256)))]

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
            .filter(|field| !field.ends_with("size_gib") && field != "from.unprivileged")
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
fn another_source_of_a_mount_is_written_once() {
    let raw = Raw::from([("mp0".to_owned(), "local-lvm:vm-101-disk-1,mp=/srv,size=4G,ro=1".to_owned())]);
    let mount = MountSpec { source: Some("local-lvm:vm-101-disk-2".to_owned()), ..MountSpec::default() };
    let spec = ContainerSpec { mounts: [("/srv".to_owned(), mount)].into(), ..ContainerSpec::default() };
    assert_eq!(differing(&spec, &raw), ["mounts./srv.source"]);
    let changes = params::changes("101", &spec, &settings(&raw), None);
    let wanted = BTreeMap::from([("mp0".to_owned(), "local-lvm:vm-101-disk-2,mp=/srv,ro=1".to_owned())]);
    assert_eq!((&changes.set, changes.delete.len()), (&wanted, 0));
    let call = changes.call("pve1", "101", None);
    check_call(&call);
    let raw = written(raw, &call);
    assert_eq!(differing(&spec, &raw), Vec::<String>::new());
    assert!(params::changes("101", &spec, &settings(&raw), None).is_empty(), "it is written once");
}

#[test]
fn the_other_calls_are_the_apis_too() {
    let checksum = format!("sha256:{}", "a".repeat(64));
    let id = Name::from("101");
    let storages = [("local-lvm", "fast"), ("local-zfs", "fast")];
    let storages = storages.into_iter().map(|(from, to)| (from.to_owned(), to.to_owned())).collect();
    let with_storages = Relocation { node: "pve2".to_owned(), restart: true, storages };
    for call in [
        params::status("pve1", "101", "start"),
        params::shutdown("pve1", "101", 60),
        params::reboot("pve1", "101", 60),
        params::destroy("pve1", "101", true),
        params::destroy("pve1", "101", false),
        params::make_template("pve1", "101"),
        params::migrate("pve1", "101", &Relocation { node: "pve2".to_owned(), ..Relocation::default() }, None),
        params::migrate("pve1", "101", &with_storages, Some(Duration::from_secs(60))),
        params::download("pve1", "local", "a.tar.zst", "https://example.org/a", Some(&checksum)),
        params::download("pve1", "local", "a.tar.zst", "https://example.org/a", None),
        params::upload("pve1", "local", "a.tar.zst", Some(&checksum)),
        params::upload("pve1", "local", "a.tar.zst", None),
        params::appliance("pve1", "local", "debian-12-standard_12.7-1_amd64.tar.zst"),
        params::join_pool("p", &id),
    ] {
        check_call(&call);
    }
}
