//! What is planned for one document in one world.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{MACHINE, carry_out, inventory, observe, plan_for};
use crate::{
    desired::{ActiveState, BridgeSpec, Common, ContainerSpec, Document, Ensure, PortSpec, UnitSpec, parse, spell},
    model::{BridgeFacts, ContainerFacts, InterfaceFacts, Observed, PortFacts, Reason, ResourceId},
    plan::*,
    plugins::simulated::World,
};

fn unit_doc(name: &str, spec: UnitSpec) -> Document {
    Document { units: [(name.into(), spec)].into(), ..Document::default() }
}

fn active() -> UnitSpec {
    UnitSpec { active_state: Some(ActiveState::Active), ..UnitSpec::default() }
}

fn only_reason(plan: &Plan) -> Reason {
    assert_eq!(plan.steps.len(), 1, "{plan:#?}");
    plan.steps[0].blocked.as_ref().expect("blocked").0
}

#[test]
fn tells_why_a_unit_cannot_be() {
    let mut world = World::new(MACHINE);
    world.add_unit("masked.service", "masked", "inactive");
    world.add_unit("generated.service", "generated", "inactive");
    world.add_unit("dbus.service", "static", "inactive");
    world.add_unit("own.service", "enabled", "inactive");
    world.add_unit("local.service", "disabled", "inactive");
    world.units.get_mut("local.service").unwrap().fragment_path = "/etc/systemd/system/local.service".to_owned();
    let enabled = UnitSpec { enabled: Some(true), ..UnitSpec::default() };
    let masked = UnitSpec { masked: Some(true), ..UnitSpec::default() };
    for (name, spec, reason) in [
        ("none.service", active(), Reason::UnitNotFound),
        ("masked.service", active(), Reason::UnitMasked),
        ("generated.service", enabled, Reason::NotEnableable),
        ("dbus.service", active(), Reason::Protected),
        ("own.service", active(), Reason::Protected),
        ("local.service", masked, Reason::CannotMask),
    ] {
        assert_eq!(only_reason(&plan_for(&unit_doc(name, spec), &world)), reason, "{name}");
    }
}

#[test]
fn unmasks_reloads_then_starts() {
    let mut world = World::new(MACHINE);
    world.add_unit("m.service", "masked", "inactive");
    let spec = UnitSpec { masked: Some(false), enabled: Some(true), ..active() };
    let plan = plan_for(&unit_doc("m.service", spec), &world);
    let words: Vec<_> = plan.steps.iter().map(|step| step.action.as_str()).collect();
    assert_eq!(words, ["set-unit-file", "daemon-reload", "start"]);
    assert_eq!(plan.steps[2].after, [1, 2]);
}

#[test]
fn the_guides_document_plans_starts_and_a_plug() {
    let mut world = World::new(MACHINE);
    world.add_bridge("ovsbr0");
    for id in ["100", "101"] {
        world.add_unit(&format!("pve-container@{id}.service"), "static", "inactive");
    }
    let spec = UnitSpec { enabled: Some(true), ..active() };
    let mut doc = unit_doc("pve-container@100.service", spec.clone());
    doc.units.insert("pve-container@101.service".into(), spec);
    let container = ContainerSpec {
        veth: Some("veth100".into()),
        bridge: Some("ovsbr0".into()),
        running: Some(true),
        ..ContainerSpec::default()
    };
    doc.containers.insert("100".into(), container);
    let plan = plan_for(&doc, &world);
    let said: Vec<_> = plan.steps.iter().map(|step| format!("{} {}", step.action.as_str(), step.subject)).collect();
    assert_eq!(
        said,
        [
            "set-unit-file unit:pve-container@100.service",
            "set-unit-file unit:pve-container@101.service",
            "daemon-reload plugin:systemd",
            "start unit:pve-container@100.service",
            "plug-port container:100",
            "start unit:pve-container@101.service",
        ]
    );
    // Asked for the container alone, its unit is started as well, for they are one resource; the others are left alone.
    let scope = BTreeSet::from([ResourceId::container("100")]);
    let alone = crate::plan::plan(&Desired::new(Arc::new(doc.clone())), &observe(&world), &inventory(), Some(&scope));
    let said: Vec<_> = alone.steps.iter().map(|step| format!("{} {}", step.action.as_str(), step.subject)).collect();
    assert_eq!(
        said,
        [
            "set-unit-file unit:pve-container@100.service",
            "daemon-reload plugin:systemd",
            "start unit:pve-container@100.service",
            "plug-port container:100",
        ]
    );
    carry_out(&plan, &mut world);
    assert_eq!(plan_for(&doc, &world), Plan::default());
}

#[test]
fn a_backend_that_is_away_blocks_its_own_and_what_waits_for_it() {
    let mut world = World::new(MACHINE);
    world.add_unit("a.service", "enabled", "inactive");
    let mut observed = observe(&world);
    observed.backends.remove("ovsdb");
    let mut doc = unit_doc(
        "a.service",
        UnitSpec { common: Common { after: [ResourceId::bridge("br0")].into(), drift: None }, ..active() },
    );
    doc.bridges.insert("br0".into(), BridgeSpec::default());
    let plan = plan(&Desired::new(Arc::new(doc)), &observed, &inventory(), None);
    let reasons: Vec<_> = plan.steps.iter().map(|step| step.blocked.as_ref().unwrap().0).collect();
    assert_eq!(reasons, [Reason::BackendAway, Reason::DependencyFailed]);
}

#[test]
fn secrets_are_compared_and_not_shown() {
    let mut world = World::new(MACHINE);
    world.add_bridge("br0");
    world.add_port("br0", "tun0", "gre");
    world.ports.get_mut("tun0").unwrap().interfaces[0].options.insert("psk".to_owned(), "old-secret".to_owned());
    let options = [("psk".to_owned(), Some("new-secret".to_owned()))].into();
    let port = PortSpec { bridge: "br0".into(), options, ..PortSpec::default() };
    let doc = Document { ports: [("tun0".into(), port)].into(), ..Document::default() };
    let step = plan_for(&doc, &world).steps[0].clone();
    let shown = format!("{:?} {}", step.changes, step.summary());
    assert!(shown.contains("options.psk") && !shown.contains("secret\""), "{shown}");
    let exported = format!("{:?}", export(&observe(&world), &BTreeSet::new(), &BTreeMap::new(), &[]));
    assert!(!exported.contains("old-secret"), "{exported}");
}

/// What other programs named in ways that no document can is left out, with what stands on it.
#[test]
fn an_export_can_be_read_whatever_is_there() {
    let mut observed = Observed::default();
    for (bridge, datapath_type) in [("br0", "dummy"), ("a bridge", ""), ("br1", "")] {
        let facts = BridgeFacts { datapath_type: datapath_type.to_owned(), ..BridgeFacts::default() };
        observed.bridges.insert(bridge.into(), Arc::new(facts));
    }
    for (port, bridge) in [("p0", "br1"), ("p1", "a bridge"), ("p 2", "br1"), ("p3", "br9")] {
        let interface =
            InterfaceFacts { name: port.to_owned(), ofport: Some(1), ifindex: Some(1), ..InterfaceFacts::default() };
        let facts = PortFacts { bridge: bridge.into(), interfaces: vec![interface], ..PortFacts::default() };
        observed.ports.insert(port.into(), Arc::new(facts));
    }
    for id in ["web-1", "a\\x2db"] {
        let facts = ContainerFacts { unit: format!("lxc@{id}.service"), ..ContainerFacts::default() };
        observed.containers.insert(id.into(), Arc::new(facts));
    }
    let doc = export(&observed, &BTreeSet::new(), &BTreeMap::new(), &[]);
    assert_eq!(
        doc.resources().map(|id| id.to_string()).collect::<Vec<_>>(),
        ["bridge:br0", "bridge:br1", "port:p0", "container:web-1"]
    );
    assert_eq!(parse(&spell(&doc)), Ok(doc));
}

#[test]
fn a_property_is_refused_only_where_it_must_be_written() {
    let mut world = World::new(MACHINE);
    world.add_unit("a.service", "enabled", "inactive");
    let facts = world.units.get_mut("a.service").unwrap();
    facts.properties.insert("Restart".to_owned(), "always".into());
    let spec = |value: &str| UnitSpec { properties: [("Restart".to_owned(), value.into())].into(), ..active() };
    let plan = plan_for(&unit_doc("a.service", spec("always")), &world);
    assert_eq!(plan.steps.iter().map(|step| step.action.as_str()).collect::<Vec<_>>(), ["start"]);
    assert_eq!(only_reason(&plan_for(&unit_doc("a.service", spec("no")), &world)), Reason::PropertyNotSettable);
    let missing = UnitSpec { active_state: None, ..spec("always") };
    assert_eq!(only_reason(&plan_for(&unit_doc("none.service", missing), &world)), Reason::UnitNotFound);
}

#[test]
fn a_container_that_two_units_claim_is_not_wired_either() {
    let mut world = World::new(MACHINE);
    world.add_bridge("br0");
    world.add_unit("pve-container@100.service", "static", "active");
    let mut observed = observe(&world);
    let mut facts = ContainerFacts::clone(&observed.containers["100"]);
    facts.rival_units.push("lxc@100.service".to_owned());
    observed.containers.insert("100".into(), Arc::new(facts));
    let wired = ContainerSpec { veth: Some("veth100".into()), bridge: Some("br0".into()), ..ContainerSpec::default() };
    let doc = Document { containers: [("100".into(), wired)].into(), ..Document::default() };
    let plan = plan(&Desired::new(Arc::new(doc)), &observed, &inventory(), None);
    assert_eq!(only_reason(&plan), Reason::AmbiguousContainer);
}

#[test]
fn a_bridge_that_holds_a_port_of_somebody_elses_is_not_pruned() {
    let mut world = World::new(MACHINE);
    world.add_bridge("br0");
    world.add_port("br0", "eth9", "");
    world.bridges.get_mut("br0").unwrap().external_ids.insert(OWNER_KEY.to_owned(), MACHINE.to_owned());
    let plan = plan_for(&Document { prune: true, ..Document::default() }, &world);
    assert_eq!(only_reason(&plan), Reason::ForeignPorts);
    assert!(plan.steps[0].blocked.as_ref().unwrap().1.ends_with(": eth9"));
}

#[test]
fn a_port_leaves_its_bridge_before_the_bridge_goes() {
    let mut world = World::new(MACHINE);
    world.add_bridge("br0");
    world.add_bridge("br1");
    world.add_port("br0", "p0", "internal");
    let mut doc = Document::default();
    doc.bridges.insert("br0".into(), BridgeSpec { ensure: Ensure::Absent, ..BridgeSpec::default() });
    doc.bridges.insert("br1".into(), BridgeSpec::default());
    doc.ports.insert("p0".into(), PortSpec { bridge: "br1".into(), ..PortSpec::default() });
    let said =
        |plan: &Plan| plan.steps.iter().map(|step| (step.action.as_str(), step.after.clone())).collect::<Vec<_>>();
    assert_eq!(said(&plan_for(&doc, &world)), [("move-port", vec![]), ("delete-bridge", vec![1])]);
    // Unless the document says otherwise.
    doc.ports.get_mut("p0").unwrap().common.after.insert(ResourceId::bridge("br0"));
    assert_eq!(said(&plan_for(&doc, &world)), [("delete-bridge", vec![]), ("move-port", vec![1])]);
}
