//! One hand: what is Proxmox VE's is planned for Proxmox VE alone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{Action, Desired, Hand, Inventory, Plan, assess, plan};
use crate::{
    desired::{Rules, parse_with},
    model::{
        Backend, BackendStatus, BridgeFacts, ClusterFacts, GuestFacts, GuestNetwork, GuestSettings, NodeFacts,
        Observed, PortFacts, Reason, ResourceId, Runtime, StorageFacts,
    },
};

pub(super) fn inventory() -> Inventory {
    Inventory {
        machine_id: "m".to_owned(),
        protected_units: Vec::new(),
        protected_calls: Vec::new(),
        container_unit: "pve-container@%.service".to_owned(),
        retry_unmet: false,
        reload_owed: false,
        hand: Hand::Proxmox { node: "pve1".to_owned() },
    }
}

pub(super) fn guest() -> GuestFacts {
    let network = GuestNetwork { name: "eth0".to_owned(), bridge: "br0".to_owned(), ..GuestNetwork::default() };
    let settings = GuestSettings {
        memory_mib: 512,
        swap_mib: 512,
        unprivileged: true,
        root_bytes: 8 << 30,
        networks: [(0, network)].into(),
        ..GuestSettings::default()
    };
    GuestFacts {
        runtime: Runtime::Proxmox,
        node: "pve1".to_owned(),
        settings: Some(Arc::new(settings)),
        ..GuestFacts::default()
    }
}

/// A world with container 100 of Proxmox VE's, and its port on a bridge of Open vSwitch.
pub(super) fn world(guest: GuestFacts) -> Observed {
    let mut observed = Observed::default();
    for plugin in ["systemd", "ovsdb", "lxc"] {
        let status = BackendStatus::Connected;
        let backend = Backend { status, message: String::new(), version: String::new(), reconnects: 0 };
        observed.backends.insert(plugin, backend);
    }
    observed.guests.insert("100".into(), Arc::new(guest));
    let bridge = BridgeFacts {
        ports: ["br0", "veth100i0"].into_iter().map(crate::model::Name::from).collect(),
        ..BridgeFacts::default()
    };
    observed.bridges.insert("br0".into(), Arc::new(bridge));
    let port = PortFacts { bridge: "br0".into(), tag: Some(7), ..PortFacts::default() };
    observed.ports.insert("veth100i0".into(), Arc::new(port));
    let nodes = [("pve1".to_owned(), NodeFacts { online: true, ..NodeFacts::default() })].into();
    observed.cluster = Arc::new(ClusterFacts { nodes, ..ClusterFacts::default() });
    observed
}

pub(super) fn desired(document: &Json) -> Desired {
    let rules = Rules { proxmox: true, ..Rules::default() };
    Desired::new(Arc::new(parse_with(&document.to_string(), &rules).unwrap()))
}

pub(super) fn planned(document: &Json, observed: &Observed) -> Plan {
    plan(&desired(document), observed, &inventory(), None)
}

pub(super) fn words(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.action.as_str()).collect()
}

pub(super) fn reason(plan: &Plan) -> Option<Reason> {
    plan.steps.iter().find_map(|step| step.blocked.as_ref().map(|(reason, _)| *reason))
}

pub(super) fn entry(settings: &Json) -> Json {
    let mut entry = json!({"id": "100"});
    entry.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    json!({"lxc": {"containers": [entry]}})
}

#[test]
fn a_containers_unit_goes_through_its_api() {
    let document =
        json!({"systemd": {"units": {"pve-container@100.service": {"enabled": true, "active_state": "active"}}}});
    let plan = planned(&document, &world(guest()));
    assert_eq!(words(&plan), ["set-on-boot", "start"]);
    assert!(plan.steps.iter().all(|step| step.action.plugin() == Some("lxc")));
    let mut masked = document.clone();
    masked["systemd"]["units"]["pve-container@100.service"] = json!({"masked": true});
    assert_eq!(reason(&planned(&masked, &world(guest()))), Some(Reason::NotSupported));
    // A unit of any other kind is systemd's.
    let other = json!({"systemd": {"units": {"lxc@100.service": {"active_state": "active"}}}});
    assert_eq!(reason(&planned(&other, &world(guest()))), Some(Reason::UnitNotFound));
}

#[test]
fn its_ports_are_never_written_in_open_vswitch() {
    let ports = |port: Json| json!({"ovsdb": {"bridges": {"br0": {"exclusive": true, "ports": {"veth100i0": port}}}}});
    let plan = planned(&ports(json!({"tag": 30})), &world(guest()));
    assert_eq!(words(&plan), ["set-port"]);
    assert!(matches!(plan.steps[0].action, Action::Container(..)), "{plan:?}");
    let plan = planned(&ports(json!({"external_ids": {"a": "b"}})), &world(guest()));
    assert_eq!(reason(&plan), Some(Reason::NotSupported));
    // The short form, on another bridge.
    let plan = planned(&entry(&json!({"veth": "veth100", "bridge": "br1"})), &world(guest()));
    assert_eq!(reason(&plan), Some(Reason::BridgeMissing));
    let mut observed = world(guest());
    observed.bridges.insert("br1".into(), Arc::default());
    let plan = planned(&entry(&json!({"veth": "veth100", "bridge": "br1"})), &observed);
    assert_eq!(words(&plan), ["set-container"]);
}

#[test]
fn away_means_unknown_and_by_no_other_way() {
    let mut observed = world(guest());
    if let Some(backend) = observed.backends.get_mut("lxc") {
        backend.status = BackendStatus::Unavailable;
    }
    let document = json!({
        "systemd": {"units": {"pve-container@100.service": {"active_state": "active"}}},
        "ovsdb": {"bridges": {"br0": {"ports": {"veth100i0": {"tag": 30}}}}},
        "lxc": {"containers": [{"id": "100", "running": true}]}
    });
    let plan = planned(&document, &observed);
    assert_eq!(words(&plan), ["none"; 3]);
    assert!(
        plan.steps.iter().all(|step| step.blocked.as_ref().is_some_and(|(reason, _)| *reason == Reason::BackendAway))
    );
}

#[test]
fn what_cannot_be_is_said_with_its_reason() {
    let with = |change: &dyn Fn(&mut GuestFacts)| {
        let mut facts = guest();
        change(&mut facts);
        facts
    };
    let template = json!({"template": "local:vztmpl/a.tar.zst"});
    for (facts, document, expected) in [
        (with(&|facts| facts.is_remote = true), entry(&json!({"memory_mib": 600})), Reason::NotSupported),
        (with(&|facts| facts.is_machine = true), entry(&json!({"memory_mib": 600})), Reason::IdTaken),
        (with(&|facts| facts.lock = "backup".to_owned()), entry(&json!({"memory_mib": 600})), Reason::Locked),
        (
            with(&|facts| facts.away = "No route to host".to_owned()),
            entry(&json!({"memory_mib": 600})),
            Reason::NodeAway,
        ),
        (guest(), entry(&json!({"from": {"template": "a:b", "unprivileged": false}})), Reason::Immutable),
        (guest(), entry(&json!({"from": {"template": "a:b", "size_gib": 4}})), Reason::CannotShrink),
        (guest(), entry(&json!({"features": {"fuse": true}})), Reason::NotPermitted),
        (guest(), json!({"lxc": {"containers": [{"id": "101", "running": true}]}}), Reason::ContainerNotFound),
        (guest(), json!({"lxc": {"containers": [{"id": "101", "from": template, "node": "pve9"}]}}), Reason::NodeAway),
    ] {
        assert_eq!(reason(&planned(&document, &world(facts))), Some(expected), "{document}");
    }
    let protected = with(&|facts| {
        let settings = GuestSettings { protection: true, ..(**facts.settings.as_ref().unwrap()).clone() };
        facts.settings = Some(Arc::new(settings));
    });
    assert_eq!(reason(&planned(&entry(&json!({"ensure": "absent"})), &world(protected))), Some(Reason::Protected));
}

#[test]
fn a_change_that_waits_is_pending_unless_the_document_lets_it_restart() {
    let mut facts = GuestFacts { running: true, ..guest() };
    let settings =
        GuestSettings { pending: ["nameserver".to_owned()].into(), ..(**facts.settings.as_ref().unwrap()).clone() };
    facts.settings = Some(Arc::new(settings));
    let observed = world(facts);
    let document = desired(&entry(&json!({"memory_mib": 512})));
    let assessment = assess(&document, &ResourceId::container("100"), &observed, &inventory());
    assert_eq!(assessment.blocked.as_ref().map(|(reason, _)| *reason), Some(Reason::RestartNeeded));
    assert!(assessment.is_by_rights() && !assessment.in_sync());
    assert_eq!(words(&planned(&entry(&json!({"memory_mib": 512, "restart": true})), &observed)), ["restart"]);
}

#[test]
fn templates_then_containers_then_their_units() {
    let document = json!({
        "systemd": {"units": {"pve-container@101.service": {"enabled": true, "active_state": "active"}}},
        "lxc": {
            "templates": [{"name": "a.tar.zst", "url": "https://example.org/a.tar.zst"}],
            "containers": [{"id": "101", "from": {"template": "local:vztmpl/a.tar.zst"}, "running": true}]
        }
    });
    let mut observed = world(guest());
    let storages = [("local".to_owned(), Some(StorageFacts::default()))].into();
    let nodes = [("pve1".to_owned(), NodeFacts { online: true, bridges: None, storages })].into();
    observed.cluster = Arc::new(ClusterFacts { nodes, ..ClusterFacts::default() });
    let plan = planned(&document, &observed);
    assert_eq!(words(&plan), ["fetch-template", "create-container", "start", "set-on-boot", "start"]);
    assert!(plan.steps[1].after.contains(&1) && plan.steps[3].after.contains(&3), "{plan:?}");
}
