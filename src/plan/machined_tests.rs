//! Containers of systemd-machined's: what is compared, why something cannot be done, and the steps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{
    Assessment, Desired, OWNER_KEY, Plan, PortOp, UnitOp, assess, machine_properties, machine_refusals, plan,
    template_refusal,
    tests::{MACHINE, inventory},
};
use crate::{
    desired::{ContainerSpec, Want, parse},
    model::{
        Backend, BackendStatus, BridgeFacts, ClusterFacts, ContainerFacts, GuestFacts, GuestMount, GuestNetwork,
        GuestSettings, HOST_SIDE, InterfaceFacts, Name, NodeFacts, Observed, PortFacts, Reason, ResourceId, Runtime,
        StorageFacts, UNFINISHED, UnitFacts, UnitJob,
    },
    plan::Action,
};

mod steps;

const UNIT: &str = "systemd-nspawn@web.service";

fn id() -> Name {
    "web".into()
}

/// A machine with container `web`, which runs as [`web`] says, and the image that it was made from.
fn host() -> Observed {
    let mut observed = Observed::default();
    for plugin in ["systemd", "ovsdb", "lxc"] {
        let status = BackendStatus::Connected;
        let backend = Backend { status, message: String::new(), version: String::new(), reconnects: 0 };
        observed.backends.insert(plugin, backend);
    }
    images(&mut observed, &["box", "web"]);
    let network = GuestNetwork {
        name: "eth0".to_owned(),
        rest: [(HOST_SIDE.to_owned(), "ve-web".to_owned())].into(),
        ..GuestNetwork::default()
    };
    let settings = GuestSettings {
        hostname: "www".to_owned(),
        unprivileged: true,
        networks: [(0, network)].into(),
        ..GuestSettings::default()
    };
    let guest = GuestFacts {
        runtime: Runtime::Machined,
        name: "web".to_owned(),
        running: true,
        settings: Some(Arc::new(settings)),
        ..GuestFacts::default()
    };
    observed.guests.insert(id(), Arc::new(guest));
    let unit = UnitFacts {
        id: UNIT.to_owned(),
        load_state: "loaded".to_owned(),
        active_state: "active".to_owned(),
        sub_state: "running".to_owned(),
        unit_file_state: "disabled".to_owned(),
        properties: [
            ("CPUQuotaPerSecUSec".to_owned(), json!(1_000_000)),
            ("MemoryMax".to_owned(), json!(64 << 20)),
            ("MemorySwapMax".to_owned(), json!(u64::MAX)),
        ]
        .into(),
        ..UnitFacts::default()
    };
    observed.units.insert(UNIT.into(), Arc::new(unit));
    let container = ContainerFacts {
        runtime: Runtime::Machined,
        unit: UNIT.to_owned(),
        active_state: "active".to_owned(),
        running: true,
        ports: ["ve-web".into()].into(),
        ..ContainerFacts::default()
    };
    observed.containers.insert(id(), Arc::new(container));
    let interface =
        InterfaceFacts { name: "ve-web".to_owned(), ofport: Some(1), ifindex: Some(6), ..InterfaceFacts::default() };
    let port = PortFacts {
        bridge: "br0".into(),
        external_ids: [(OWNER_KEY.to_owned(), MACHINE.to_owned())].into(),
        interfaces: vec![interface],
        ..PortFacts::default()
    };
    observed.ports.insert("ve-web".into(), Arc::new(port));
    let ports: Vec<Name> = vec!["br0".into(), "ve-web".into()];
    let bridge = BridgeFacts { ports: ports.into_iter().collect(), ..BridgeFacts::default() };
    observed.bridges.insert("br0".into(), Arc::new(bridge));
    observed
}

fn images(observed: &mut Observed, names: &[&str]) {
    let templates = names.iter().map(|name| Name::from(*name)).collect();
    let storage = StorageFacts { templates, ..StorageFacts::default() };
    let node = NodeFacts { online: true, bridges: None, storages: [(String::new(), Some(storage))].into() };
    observed.cluster = Arc::new(ClusterFacts { nodes: [(String::new(), node)].into(), ..ClusterFacts::default() });
}

fn guest(observed: &mut Observed, change: impl Fn(&mut GuestFacts, &mut GuestSettings)) {
    let mut facts = (*observed.guests[&id()]).clone();
    let mut settings = (**facts.settings.as_ref().unwrap()).clone();
    change(&mut facts, &mut settings);
    facts.settings = Some(Arc::new(settings));
    observed.guests.insert(id(), Arc::new(facts));
}

fn unit(observed: &mut Observed, change: impl Fn(&mut UnitFacts)) {
    let mut facts = (*observed.units[UNIT]).clone();
    change(&mut facts);
    observed.units.insert(UNIT.into(), Arc::new(facts));
}

fn port(observed: &mut Observed, change: impl Fn(&mut PortFacts)) {
    let mut facts = (*observed.ports["ve-web"]).clone();
    change(&mut facts);
    observed.ports.insert("ve-web".into(), Arc::new(facts));
}

/// It does not run.
fn stopped(observed: &mut Observed) {
    guest(observed, |facts, _| facts.running = false);
    unit(observed, |facts| facts.active_state = "inactive".to_owned());
    let facts =
        ContainerFacts { running: false, active_state: "inactive".to_owned(), ..(*observed.containers[&id()]).clone() };
    observed.containers.insert(id(), Arc::new(facts));
}

/// There is none.
fn gone(observed: &mut Observed) {
    stopped(observed);
    unit(observed, |facts| facts.properties.clear());
    images(observed, &["box"]);
    observed.guests.remove(&id());
    observed.containers.remove(&id());
    observed.ports.remove("ve-web");
}

/// The entry that [`host`] holds, with these fields instead; `null` takes one away.
fn web(fields: &Json) -> Json {
    let mut entry = json!({
        "id": "web", "from": {"template": "box"}, "hostname": "www", "memory_mib": 64, "cores": 1,
        "networks": [{"name": "eth0", "bridge": "br0"}], "running": true
    });
    for (field, value) in fields.as_object().unwrap() {
        entry[field] = value.clone();
    }
    entry.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    entry
}

fn document(fields: &Json) -> Json {
    json!({"lxc": {"containers": [web(fields)]}})
}

fn desired(document: &Json) -> Desired {
    Desired::new(Arc::new(parse(&document.to_string()).unwrap()))
}

fn assessed(document: &Json, observed: &Observed) -> Assessment {
    assess(&desired(document), &ResourceId::container(id()), observed, &inventory())
}

fn planned(document: &Json, observed: &Observed) -> Plan {
    plan(&desired(document), observed, &inventory(), None)
}

fn words(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.action.as_str()).collect()
}

fn spec(fields: &Json) -> ContainerSpec {
    desired(&document(fields)).containers[&id()].clone()
}

#[test]
fn what_is_as_the_document_says_plans_to_nothing() {
    let assessment = assessed(&document(&json!({})), &host());
    assert!(assessment.present && assessment.in_sync() && !assessment.settling, "{assessment:?}");
    assert_eq!(words(&planned(&document(&json!({})), &host())), [""; 0]);
    let mut observed = host();
    unit(&mut observed, |facts| facts.job = Some(UnitJob { id: 1, kind: "restart".to_owned() }));
    assert!(assessed(&document(&json!({})), &observed).settling);
}

#[test]
fn each_field_is_compared_with_what_holds_it() {
    type Change = fn(&mut Observed);
    /// Field, desired, observed.
    type Shown = (&'static str, &'static str, &'static str);
    let same: Change = |_| {};
    let table: [(Json, Change, &[Shown]); 15] = [
        (json!({"hostname": "blog"}), same, &[("hostname", "\"blog\"", "\"www\"")]),
        (
            json!({"networks": [{"name": "lan0", "bridge": "br0"}]}),
            same,
            &[("networks", "[\"lan0=ve-web\"]", "[\"eth0=ve-web\"]")],
        ),
        (
            json!({"mounts": [{"path": "/data", "source": "/srv/a", "read_only": true}]}),
            |observed| {
                guest(observed, |_, settings| {
                    let (path, volume) = ("/data".to_owned(), "/srv/b".to_owned());
                    settings.mounts = [(0, GuestMount { path, volume, ..GuestMount::default() })].into();
                });
            },
            &[("mounts./data.source", "\"/srv/a\"", "\"/srv/b\""), ("mounts./data.read_only", "true", "false")],
        ),
        (
            json!({"mounts": [{"path": "/data", "source": "/srv/a"}]}),
            same,
            &[("mounts./data.source", "\"/srv/a\"", "(none)")],
        ),
        (json!({"onboot": true}), same, &[("onboot", "true", "false")]),
        (json!({"memory_mib": 96}), same, &[("memory_mib", "96", "64")]),
        (json!({"swap_mib": 8}), same, &[("swap_mib", "8", "(none)")]),
        (json!({"cores": 2}), same, &[("cores", "2", "1")]),
        (json!({"cpulimit": 0.5}), same, &[("cpulimit", "\"0.500\"", "1")]),
        // The smaller of the two counts.
        (json!({"cores": 4, "cpulimit": 1}), same, &[]),
        (json!({"running": true}), stopped, &[("running", "true", "false")]),
        (json!({"running": false}), same, &[("running", "false", "true")]),
        (
            json!({}),
            |observed| port(observed, |facts| facts.bridge = "br1".into()),
            &[("networks.ve-web.bridge", "\"br0\"", "\"br1\"")],
        ),
        (
            json!({"networks": [{"name": "eth0", "bridge": "br0", "tag": 7}]}),
            same,
            &[("networks.ve-web.tag", "7", "(none)")],
        ),
        (
            json!({}),
            |observed| port(observed, |facts| facts.interfaces[0].replaced = true),
            &[("networks.ve-web.device", "\"plugged\"", "\"replaced\"")],
        ),
    ];
    for (fields, change, expected) in table {
        let mut observed = host();
        change(&mut observed);
        let assessment = assessed(&document(&fields), &observed);
        let shown: Vec<(String, String, String)> = assessment
            .differences
            .iter()
            .map(|found| (found.field.clone(), found.desired.to_string(), found.observed.to_string()))
            .collect();
        let expected: Vec<(String, String, String)> =
            expected.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
        assert_eq!(shown, expected, "{fields}");
        assert_eq!(assessment.blocked, None, "{fields}");
    }
}

/// Of a container that cannot be brought about: the document, what is different from [`host`], and what is said.
type Refused = (Json, fn(&mut Observed), Reason, &'static str);

#[test]
fn what_cannot_be_is_said_with_its_reason() {
    let same: fn(&mut Observed) = |_| {};
    let table: Vec<Refused> = vec![
        (
            document(&json!({})),
            |observed| observed.cluster = Arc::default(),
            Reason::NotSupported,
            "install systemd-container",
        ),
        (
            document(&json!({})),
            |observed| {
                observed.cluster = Arc::default();
                observed.backends.get_mut("lxc").unwrap().message = "systemd-machined is out of reach: no".to_owned();
            },
            Reason::BackendAway,
            "out of reach",
        ),
        (document(&json!({"pool": "p"})), same, Reason::NotSupported, "systemd-machined has no pool (is Proxmox VE's)"),
        (document(&json!({"from": null})), gone, Reason::ContainerNotFound, "say from what it shall be made"),
        (
            json!({"lxc": {"templates": [{"name": "web", "file": "/srv/web.tar"}], "containers": [web(&json!({}))]}}),
            gone,
            Reason::NameTaken,
            "web is a template's name",
        ),
        (
            json!({"lxc": {
                "templates": [{"name": "new", "url": "https://example.org/new.tar", "checksum": sha256()}],
                "containers": [web(&json!({"from": {"template": "new"}}))]
            }}),
            gone,
            Reason::NotSupported,
            "no checksum of template new (it holds a download against SHA256SUMS beside it",
        ),
        (
            document(&json!({"from": {"template": "new"}})),
            gone,
            Reason::SourceMissing,
            "there is no image new: say under lxc.templates where it comes from",
        ),
        (document(&json!({"from": {"clone": "db"}})), gone, Reason::SourceMissing, "there is no container db to clone"),
        (
            document(&json!({"from": {"template": "box", "unprivileged": false}})),
            same,
            Reason::Immutable,
            "is settled when it is made",
        ),
        (
            document(&json!({})),
            |observed| guest(observed, |facts, _| facts.has_foreign_settings = true),
            Reason::NameTaken,
            "/etc/systemd/nspawn/web.nspawn is not op-dbus's",
        ),
        (
            document(&json!({"networks": [{"name": "eth0", "bridge": "br9"}]})),
            same,
            Reason::BridgeMissing,
            "bridge br9 is neither there nor declared",
        ),
        (
            document(&json!({})),
            |observed| {
                stopped(observed);
                unit(observed, |facts| facts.unit_file_state = "masked".to_owned());
            },
            Reason::UnitMasked,
            "which runs container web, is masked",
        ),
        (
            document(&json!({})),
            |observed| {
                stopped(observed);
                observed.units.remove(UNIT);
            },
            Reason::ContainerNotFound,
            "no runtime on this machine has container web",
        ),
        (
            document(&json!({"memory_mib": 96})),
            |observed| {
                let facts =
                    ContainerFacts { unit: "lxc@web.service".to_owned(), ..(*observed.containers[&id()]).clone() };
                observed.containers.insert(id(), Arc::new(facts));
            },
            Reason::AmbiguousContainer,
            "lxc@web.service runs a container web already",
        ),
        (
            document(&json!({})),
            |observed| guest(observed, |_, settings| settings.pending = ["hostname".to_owned()].into()),
            Reason::RestartNeeded,
            "hostname of container web are written and wait for its restart",
        ),
        (
            json!({"lxc": {"containers": [{"id": "web", "ensure": "absent"}]}}),
            |observed| drop(observed.guests.remove(&id())),
            Reason::NotSupported,
            "is not systemd-machined's (systemd-nspawn@web.service runs it): remove it with its own tools",
        ),
        (
            json!({"lxc": {"containers": [{"id": "web", "ensure": "absent"}]}}),
            |observed| images(observed, &["box"]),
            Reason::NotSupported,
            "is made from no image of systemd-machined's: stop it",
        ),
    ];
    for (document, change, reason, says) in table {
        let mut observed = host();
        change(&mut observed);
        let assessment = assessed(&document, &observed);
        let (found, text) = assessment.blocked.clone().unwrap_or((Reason::None, String::new()));
        assert!(found == reason && text.contains(says), "{document}: {found}: {text}");
        assert!(!assessment.differences.is_empty() || reason == Reason::NotSupported, "{document}: {assessment:?}");
        // It is in the plan, and nothing is done.
        let plan = planned(&document, &observed);
        let of_container = |step: &&Arc<super::Step>| step.blocked.as_ref().is_some_and(|(found, _)| *found == reason);
        assert!(plan.steps.iter().any(|step| of_container(&step)), "{document}: {plan:?}");
        assert!(plan.steps.iter().all(|step| !matches!(step.action, Action::Container(..) | Action::Unit(..))));
    }
}

fn sha256() -> String {
    format!("sha256:{}", "0".repeat(64))
}

#[test]
fn a_protected_unit_is_neither_stopped_nor_removed_unless_the_entry_says_so() {
    let mut inventory = inventory();
    inventory.protected_units.push(UNIT.to_owned());
    for (fields, allowed) in [
        (json!({"running": false}), json!({"running": false, "allow_protected": true})),
        (json!({"ensure": "absent"}), json!({"ensure": "absent", "allow_protected": true})),
    ] {
        let reason = |fields: &Json| {
            let entry = if fields.get("ensure").is_some() {
                let mut entry = fields.clone();
                entry["id"] = json!("web");
                json!({"lxc": {"containers": [entry]}})
            } else {
                document(fields)
            };
            let container = ResourceId::container(id());
            assess(&desired(&entry), &container, &host(), &inventory).blocked.map(|(reason, _)| reason)
        };
        assert_eq!((reason(&fields), reason(&allowed)), (Some(Reason::Protected), None), "{fields}");
    }
}

#[test]
fn what_systemd_machined_has_no_counterpart_for_is_refused_by_its_field() {
    let network = |field: &str, value: Json| json!({"networks": [{"name": "eth0", "bridge": "br0", field: value}]});
    let from = |field: &str, value: Json| json!({"from": {"template": "box", field: value}});
    let mount = |field: &str, value: Json| json!({"mounts": [{"path": "/data", "size_gib": 1, field: value}]});
    for (fields, refused) in [
        (from("storage", json!("local")), "from.storage"),
        (from("size_gib", json!(8)), "from.size_gib"),
        (json!({"from": {"clone": "db", "full": false}}), "from.full"),
        (from("ssh_public_keys", json!(["ssh-ed25519 AAAA a"])), "from.ssh_public_keys"),
        (from("password_credential", json!("pw")), "from.password_credential"),
        (network("ip", json!("192.0.2.5/24")), "networks.eth0.ip"),
        (network("ip6", json!("2001:db8::5/64")), "networks.eth0.ip6"),
        (network("hwaddr", json!("02:00:00:00:00:01")), "networks.eth0.hwaddr"),
        (network("firewall", json!(true)), "networks.eth0.firewall"),
        (network("mtu", json!(1400)), "networks.eth0.mtu"),
        (network("rate", json!(10)), "networks.eth0.rate"),
        (network("link_down", json!(true)), "networks.eth0.link_down"),
        (mount("storage", json!("local")), "mounts./data.storage"),
        (json!({"features": {"nesting": true}}), "features"),
        (json!({"startup": {"order": 1}}), "startup"),
        (json!({"protection": true}), "protection"),
        (json!({"nameserver": "192.0.2.1"}), "nameserver"),
        (json!({"searchdomain": "example.org"}), "searchdomain"),
        (json!({"tags": ["a"]}), "tags"),
        (json!({"description": "a"}), "description"),
        (json!({"pool": "p"}), "pool"),
        (json!({"node": "pve1"}), "node"),
    ] {
        let found: Vec<String> = machine_refusals(&spec(&fields)).into_iter().map(|(field, _)| field).collect();
        assert!(found.contains(&refused.to_owned()), "{refused}: {found:?}");
    }
    // What asks for what is the case anyway asks for nothing.
    for fields in [
        network("ip", json!("manual")),
        network("firewall", json!(false)),
        network("link_down", json!(false)),
        json!({"protection": false}),
        json!({"from": {"clone": "db", "full": true}}),
    ] {
        assert_eq!(machine_refusals(&spec(&fields)), [], "{fields}");
    }
}

#[test]
fn templates_are_what_systemd_importd_can_fetch() {
    for (entry, refused) in [
        (json!({"url": "https://example.org/a.tar.xz"}), None),
        (json!({"file": "/srv/a.raw", "checksum": sha256()}), None),
        (json!({"url": "https://example.org/a.tar", "checksum": sha256()}), Some("checksum")),
        (json!({"url": "https://example.org/a.zip"}), Some("url or file")),
        (json!({"file": "/srv/a.txt"}), Some("url or file")),
        (json!({"appliance": "debian-12"}), Some("appliance")),
        (json!({"file": "/srv/a.tar", "storage": "local"}), Some("storage")),
    ] {
        let mut named = entry.clone();
        named["name"] = json!("new");
        let document = json!({"lxc": {"templates": [named]}});
        let template = desired(&document).templates["new"].clone();
        assert_eq!(template_refusal(&template).map(|(field, _)| field), refused, "{entry}");
        // That no container is made from it makes no difference.
        let plan = planned(&document, &host());
        let blocked = plan.steps[0].blocked.as_ref();
        assert_eq!(words(&plan), [if refused.is_some() { "none" } else { "fetch-template" }], "{entry}");
        assert_eq!(blocked.map(|(reason, _)| *reason), refused.map(|_| Reason::NotSupported), "{entry}");
        assert!(blocked.is_none_or(|(_, text)| text.contains("of template new (")), "{blocked:?}");
    }
    let there = json!({"lxc": {"templates": [{"name": "box", "url": "https://example.org/a.zip"}]}});
    assert_eq!(words(&planned(&there, &host())), [""; 0], "an image of that name is never fetched again");
    let new = json!({"lxc": {"templates": [{"name": "new", "file": "/srv/a.tar"}]}});
    for (change, expected) in [
        ((|observed| observed.cluster = Arc::default()) as fn(&mut Observed), Reason::NotSupported),
        (|observed| observed.backends.get_mut("lxc").unwrap().status = BackendStatus::Unavailable, Reason::BackendAway),
    ] {
        let mut observed = host();
        change(&mut observed);
        let plan = planned(&new, &observed);
        assert_eq!(plan.steps[0].blocked.as_ref().map(|(reason, _)| *reason), Some(expected));
    }
}

#[test]
fn limits_are_properties_of_the_unit() {
    for (fields, expected) in [
        (json!({"cores": null, "memory_mib": null}), json!({})),
        (json!({"cores": 2, "memory_mib": null}), json!({"CPUQuotaPerSecUSec": 2_000_000})),
        (json!({"cores": 2, "cpulimit": 0.5, "memory_mib": null}), json!({"CPUQuotaPerSecUSec": 500_000})),
        (json!({"cores": 1, "cpulimit": 2, "memory_mib": null}), json!({"CPUQuotaPerSecUSec": 1_000_000})),
        (json!({"cores": null, "memory_mib": 64, "swap_mib": 0}), json!({"MemoryMax": 64 << 20, "MemorySwapMax": 0})),
    ] {
        assert_eq!(json!(machine_properties(&spec(&fields))), expected, "{fields}");
    }
    let unset = ContainerSpec { cores: Want::Unset, ..ContainerSpec::default() };
    assert_eq!(json!(machine_properties(&unset)), json!({"CPUQuotaPerSecUSec": "infinity"}));
}
