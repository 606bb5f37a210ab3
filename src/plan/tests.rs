//! The planner against the simulated twin: what holds for every document and every world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::*;
use crate::{
    desired::{
        ActiveState, BridgeSpec, Common, ContainerSpec, Document, Ensure, FailMode, PackageEnsure, PackageSpec,
        PortSpec, UnitSpec, Want, parse, spell,
    },
    model::{
        Backend, BackendStatus, BridgeFacts, Change, ContainerFacts, InterfaceFacts, Kind, Name, Observed, PortFacts,
        Reason, ResourceId, StepState, StringMap, Subject,
    },
    plugins::simulated::World,
};

pub(super) const MACHINE: &str = "0123456789abcdef0123456789abcdef";

pub(super) fn inventory() -> Inventory {
    Inventory {
        machine_id: MACHINE.to_owned(),
        protected_units: vec!["own.service".to_owned()],
        protected_calls: Vec::new(),
        container_unit: "pve-container@%.service".to_owned(),
        retry_unmet: false,
        reload_owed: false,
        hand: crate::plan::Hand::default(),
    }
}

/// The world as the core would show it, containers joined the plain way.
pub(crate) fn observe(world: &World) -> Observed {
    let mut observed = Observed::default();
    for plugin in ["systemd", "ovsdb", "lxc", "packagekit"] {
        let connected =
            Backend { status: BackendStatus::Connected, message: String::new(), version: String::new(), reconnects: 0 };
        observed.backends.insert(plugin, connected);
    }
    for change in world.systemd([]).into_iter().chain(world.ovsdb()).chain(world.packagekit()) {
        match change {
            Change::Unit(name, facts) => drop(observed.units.insert(name, Arc::new(facts))),
            Change::Bridge(name, facts) => drop(observed.bridges.insert(name, Arc::new(facts))),
            Change::Package(name, facts) => drop(observed.packages.insert(name, Arc::new(facts))),
            Change::Port(name, facts) => drop(observed.ports.insert(name, Arc::new(facts))),
            _ => {}
        }
    }
    for (unit, facts) in &world.units {
        let Some(id) = unit.strip_prefix("pve-container@").and_then(|rest| rest.strip_suffix(".service")) else {
            continue;
        };
        let port: Name = format!("veth{id}").into();
        let on = observed.ports.get(&port).map(|port| port.bridge.clone());
        if on.is_some() {
            observed.links.port_container.insert(port.clone(), id.into());
        }
        let facts = ContainerFacts {
            unit: unit.to_string(),
            running: facts.active_state == "active",
            active_state: facts.active_state.clone(),
            ports: on.iter().map(|_| port.clone()).collect(),
            bridges: on.into_iter().collect(),
            ..ContainerFacts::default()
        };
        observed.containers.insert(id.into(), Arc::new(facts));
    }
    observed
}

fn plan_for(doc: &Document, world: &World) -> Plan {
    plan(&Desired::new(Arc::new(doc.clone())), &observe(world), &inventory(), None)
}

/// Carries a plan out step by step, as a job would: what waits for a failed step is not begun.
fn carry_out(plan: &Plan, world: &mut World) -> BTreeMap<StepId, StepState> {
    let mut states: BTreeMap<StepId, StepState> = BTreeMap::new();
    for step in &plan.steps {
        assert!(step.after.iter().all(|earlier| *earlier < step.id), "{step:?} waits for a later step");
        let ready = step.after.iter().all(|earlier| states[earlier] == StepState::Done);
        let state = if step.blocked.is_some() || !ready { StepState::Blocked } else { world.apply(step).state };
        states.insert(step.id, state);
    }
    states
}

const UNITS: [&str; 5] =
    ["a.service", "b.service", "pve-container@100.service", "pve-container@101.service", "dbus.service"];
const BRIDGES: [&str; 3] = ["br0", "br1", "br2"];
const PORTS: [&str; 5] = ["p0", "p1", "p2", "veth100", "veth101"];
const CONTAINERS: [&str; 2] = ["100", "101"];
const PACKAGES: [&str; 3] = ["pk0", "pk1", "pk2"];

fn resource() -> impl Strategy<Value = ResourceId> {
    prop_oneof![
        proptest::sample::select(&UNITS[..]).prop_map(ResourceId::unit),
        proptest::sample::select(&BRIDGES[..]).prop_map(ResourceId::bridge),
        proptest::sample::select(&PORTS[..]).prop_map(ResourceId::port),
        proptest::sample::select(&CONTAINERS[..]).prop_map(ResourceId::container),
        proptest::sample::select(&PACKAGES[..]).prop_map(ResourceId::package),
    ]
}

fn common() -> impl Strategy<Value = Common> {
    proptest::collection::btree_set(resource(), 0..2).prop_map(|after| Common { after, drift: None })
}

fn map() -> impl Strategy<Value = BTreeMap<String, Option<String>>> {
    proptest::collection::btree_map("[a-c]", proptest::option::of("[xy]"), 0..3)
}

fn want<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Want<T>> {
    prop_oneof![Just(Want::Unmanaged), Just(Want::Unset), proptest::sample::select(values).prop_map(Want::Is)]
}

fn ensure() -> impl Strategy<Value = Ensure> {
    prop_oneof![4 => Just(Ensure::Present), 1 => Just(Ensure::Absent)]
}

prop_compose! {
    fn unit()(
        enabled in proptest::option::of(any::<bool>()),
        masked in proptest::option::of(any::<bool>()),
        active in proptest::option::of(any::<bool>()),
        common in common(),
    ) -> UnitSpec {
        let masked_on = masked == Some(true);
        UnitSpec {
            enabled: enabled.filter(|enabled| !(masked_on && *enabled)),
            masked,
            active_state: active
                .filter(|active| !(masked_on && *active))
                .map(|active| if active { ActiveState::Active } else { ActiveState::Inactive }),
            common,
            ..UnitSpec::default()
        }
    }
}

prop_compose! {
    fn package()(
        ensure in proptest::option::of(proptest::sample::select(vec![
            PackageEnsure::Installed, PackageEnsure::Removed, PackageEnsure::Latest,
        ])),
        common in common(),
    ) -> PackageSpec {
        PackageSpec { ensure, common, ..PackageSpec::default() }
    }
}

prop_compose! {
    fn bridge()(
        ensure in ensure(),
        exclusive in any::<bool>(),
        fail_mode in want(vec![FailMode::Secure, FailMode::Standalone]),
        stp_enable in proptest::option::of(any::<bool>()),
        external_ids in map(),
        common in common(),
    ) -> BridgeSpec {
        BridgeSpec { ensure, exclusive, fail_mode, stp_enable, external_ids, common, ..BridgeSpec::default() }
    }
}

prop_compose! {
    fn port()(
        bridge in proptest::sample::select(&BRIDGES[..]),
        ensure in ensure(),
        kind in proptest::option::of(proptest::sample::select(vec!["internal".to_owned(), "system".to_owned()])),
        tag in want(vec![1, 20]),
        trunks in proptest::option::of(proptest::collection::btree_set(0..4u16, 0..3)),
        external_ids in map(),
        common in common(),
    ) -> PortSpec {
        PortSpec { bridge: bridge.into(), ensure, kind, tag, trunks, external_ids, common, ..PortSpec::default() }
    }
}

prop_compose! {
    fn container()(
        id in proptest::sample::select(&CONTAINERS[..]),
        veth in any::<bool>(),
        bridge in proptest::option::of(proptest::sample::select(&BRIDGES[..])),
        running in proptest::option::of(any::<bool>()),
        common in common(),
    ) -> (Name, ContainerSpec) {
        let spec = ContainerSpec {
            veth: veth.then(|| format!("veth{id}").into()),
            bridge: bridge.filter(|_| veth).map(Name::from),
            running,
            common,
            ..ContainerSpec::default()
        };
        (id.into(), spec)
    }
}

fn some<T: std::fmt::Debug>(
    names: &'static [&'static str],
    spec: impl Strategy<Value = T>,
) -> impl Strategy<Value = BTreeMap<Name, T>> {
    proptest::collection::btree_map(proptest::sample::select(names).prop_map(Name::from), spec, 0..=names.len())
}

prop_compose! {
    /// Documents that the checks of `desired/` would accept, as far as planning can tell.
    pub(crate) fn document()(
        prune in any::<bool>(),
        units in some(&UNITS, unit()),
        bridges in some(&BRIDGES, bridge()),
        ports in some(&PORTS, port()),
        containers in proptest::collection::vec(container(), 0..3),
        packages in some(&PACKAGES, package()),
    ) -> Document {
        let containers = containers.into_iter().collect();
        let mut doc = Document { prune, units, bridges, ports, containers, packages, ..Document::default() };
        make_consistent(&mut doc);
        doc
    }
}

/// Takes out what `desired/` refuses: contradictions between sections.
fn make_consistent(doc: &mut Document) {
    let absent: BTreeSet<Name> =
        doc.bridges.iter().filter(|(_, spec)| spec.ensure == Ensure::Absent).map(|(name, _)| name.clone()).collect();
    doc.ports.retain(|_, spec| !absent.contains(&spec.bridge));
    // Neither what is not named nor a cycle: packages come first, then bridges, and among their like the earlier name.
    let named: BTreeSet<ResourceId> = doc.resources().collect();
    let keep = |id: ResourceId, common: &mut Common| {
        let rank = |kind: Kind| match kind {
            Kind::Package => 0,
            Kind::Bridge => 1,
            _ => 2,
        };
        let first = |before: &ResourceId| rank(before.kind) < rank(id.kind);
        let like = |before: &ResourceId| before.kind == id.kind && before.name < id.name;
        common.after.retain(|before| named.contains(before) && (first(before) || like(before)));
    };
    doc.units.iter_mut().for_each(|(name, spec)| keep(ResourceId::unit(name.clone()), &mut spec.common));
    doc.bridges.iter_mut().for_each(|(name, spec)| keep(ResourceId::bridge(name.clone()), &mut spec.common));
    doc.ports.iter_mut().for_each(|(name, spec)| keep(ResourceId::port(name.clone()), &mut spec.common));
    doc.packages.iter_mut().for_each(|(name, spec)| keep(ResourceId::package(name.clone()), &mut spec.common));
    doc.containers.iter_mut().for_each(|(name, spec)| keep(ResourceId::container(name.clone()), &mut spec.common));
    for (id, spec) in &mut doc.containers {
        if spec.bridge.as_ref().is_some_and(|bridge| absent.contains(bridge)) {
            spec.bridge = None;
        }
        if let Some(port) = doc.ports.get(&Name::from(format!("veth{id}")))
            && spec.bridge.is_some()
        {
            spec.bridge = (port.ensure == Ensure::Present).then(|| port.bridge.clone());
        }
        if let Some(unit) = doc.units.get_mut(&Name::from(format!("pve-container@{id}.service")))
            && spec.running.is_some()
            && (unit.active_state.is_some() || unit.masked == Some(true))
        {
            unit.masked = None;
            unit.active_state = spec.running.map(|on| if on { ActiveState::Active } else { ActiveState::Inactive });
        }
    }
}

prop_compose! {
    /// Worlds with some of the names that documents name, and some that none does.
    pub(crate) fn world()(
        units in proptest::collection::vec((proptest::sample::select(&UNITS[..]), 0..4usize, any::<bool>()), 0..8),
        bridges in proptest::collection::btree_set(proptest::sample::select(&BRIDGES[..]), 0..4),
        ports in proptest::collection::vec((proptest::sample::select(&PORTS[..]), proptest::sample::select(&BRIDGES[..]), any::<bool>(), any::<bool>()), 0..5),
        foreign in any::<bool>(),
        hook in any::<bool>(),
        packages in proptest::collection::vec((proptest::sample::select(&PACKAGES[..]), proptest::sample::select(vec!["", "1", "2"])), 0..4),
    ) -> World {
        let mut world = World::new(MACHINE);
        for (name, installed) in packages {
            world.add_package(name, installed);
        }
        world.brings.insert("pk1".into(), "b.service".into());
        for (name, state, active) in units {
            let state = ["enabled", "disabled", "static", "masked"][state];
            world.add_unit(name, state, if active && state != "masked" { "active" } else { "inactive" });
        }
        for bridge in &bridges {
            world.add_bridge(bridge);
        }
        for (port, bridge, internal, ours) in ports {
            if bridges.contains(bridge) && !world.ports.contains_key(port) {
                world.add_port(bridge, port, if internal { "internal" } else { "" });
                if ours {
                    world.ports.get_mut(port).unwrap().external_ids.insert(OWNER_KEY.to_owned(), MACHINE.to_owned());
                }
            }
        }
        if let Some(bridge) = bridges.first().filter(|_| foreign) {
            world.add_port(bridge, "other0", "internal");
        }
        if let Some(bridge) = bridges.first().filter(|_| hook) {
            world.hooks.insert("pve-container@100.service".into(), ("veth100".into(), (*bridge).into()));
        }
        world
    }
}

/// The keys of a map that no entry names.
fn unnamed(ids: &StringMap, named: &BTreeMap<String, Option<String>>) -> StringMap {
    ids.iter()
        .filter(|(key, _)| !named.contains_key(*key) && *key != OWNER_KEY)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Applying the plan reaches a fixpoint: soon a plan lists only what is blocked.
    #[test]
    fn applying_the_plan_reaches_a_fixpoint(doc in document(), world in world()) {
        let mut world = world;
        // A hook may re-plug a port while its container starts, so a second round may find more to do; a third not.
        for _ in 0..2 {
            let plan = plan_for(&doc, &world);
            carry_out(&plan, &mut world);
        }
        let left = plan_for(&doc, &world);
        let open: Vec<_> = left.steps.iter().filter(|step| step.blocked.is_none()).collect();
        prop_assert!(open.is_empty(), "left to do: {open:#?}");
        let before = world.clone();
        carry_out(&left, &mut world);
        prop_assert_eq!(before, world);
    }

    /// The same inputs give the same plan; each step waits only for earlier ones, and all that must come before does.
    #[test]
    fn order_respects_what_comes_after(doc in document(), world in world()) {
        let plan = plan_for(&doc, &world);
        prop_assert_eq!(&plan, &plan_for(&doc, &world));
        for (at, step) in plan.steps.iter().enumerate() {
            prop_assert_eq!(usize::try_from(step.id).unwrap(), at + 1);
            prop_assert!(step.after.iter().all(|earlier| *earlier < step.id));
        }
        let cyclic = |step: &Step| step.blocked.as_ref().is_some_and(|(_, text)| text.contains("waits for itself"));
        let acts = |step: &&Arc<Step>| !matches!(step.action, Action::Unit(_, UnitOp::Files { .. } | UnitOp::Stop) | Action::ReloadSystemd) && !cyclic(step);
        for step in plan.steps.iter().filter(acts) {
            let Subject::Resource(id) = &step.subject else { continue };
            for before in doc.common(id).into_iter().flat_map(|common| &common.after) {
                for earlier in plan.steps.iter().filter(acts).filter(|other| other.subject == Subject::Resource(before.clone())) {
                    prop_assert!(earlier.id < step.id, "{} runs before {}", step.subject, earlier.subject);
                }
            }
        }
    }

    /// Nothing that the document does not name is touched.
    #[test]
    fn nothing_else_is_touched(doc in document(), world in world()) {
        let mut after = world.clone();
        let plan = plan_for(&doc, &world);
        carry_out(&plan, &mut after);
        let container_unit = |name: &Name| doc.containers.iter().any(|(id, spec)| spec.running.is_some() && format!("pve-container@{id}.service") == **name);
        for (name, unit) in &world.units {
            let Some(spec) = doc.units.get(name) else {
                if !container_unit(name) {
                    prop_assert_eq!(unit, &after.units[name], "unit {}", name);
                }
                continue;
            };
            if name.starts_with("dbus") {
                prop_assert_eq!(unit, &after.units[name], "the never-touch list");
            }
            if spec.active_state.is_none() && spec.masked != Some(true) && !container_unit(name) {
                prop_assert_eq!(&unit.active_state, &after.units[name].active_state, "activity of {}", name);
            }
            if spec.enabled.is_none() && spec.masked.is_none() {
                prop_assert_eq!(&unit.unit_file_state, &after.units[name].unit_file_state, "unit file of {}", name);
            }
        }
        let hooked: BTreeSet<&Name> = world.hooks.values().map(|(port, _)| port).collect();
        for (name, bridge) in &world.bridges {
            match doc.bridges.get(name) {
                None => {
                    let ours = bridge.external_ids.get(OWNER_KEY).is_some_and(|owner| owner == MACHINE);
                    prop_assert!(after.bridges.contains_key(name) || (doc.prune && ours), "bridge {} is gone", name);
                }
                Some(spec) if spec.ensure == Ensure::Present => {
                    let now = &after.bridges[name];
                    prop_assert_eq!(unnamed(&bridge.external_ids, &spec.external_ids), unnamed(&now.external_ids, &spec.external_ids));
                    if spec.fail_mode == Want::Unmanaged {
                        prop_assert_eq!(&bridge.fail_mode, &now.fail_mode);
                    }
                }
                Some(_) => {}
            }
        }
        for (name, port) in world.ports.iter().filter(|(name, _)| !hooked.contains(name)) {
            let declared = doc.ports.contains_key(name) || doc.containers.values().any(|spec| spec.veth.as_ref() == Some(name));
            let bridge_gone = !after.bridges.contains_key(&port.bridge);
            let exclusive = doc.bridges.get(&port.bridge).is_some_and(|spec| spec.exclusive);
            let pruned = doc.prune && port.external_ids.get(OWNER_KEY).is_some_and(|owner| owner == MACHINE);
            if !declared && !bridge_gone && !exclusive && !pruned {
                prop_assert_eq!(Some(port), after.ports.get(name), "port {}", name);
            }
        }
        if world.ports.contains_key("other0") && !doc.bridges.contains_key("br0") && !doc.bridges.contains_key("br1") && !doc.bridges.contains_key("br2") {
            prop_assert!(after.ports.contains_key("other0"), "a port of somebody else's was removed");
        }
    }

    /// What is exported plans to nothing.
    #[test]
    fn an_export_plans_to_nothing(world in world()) {
        let observed = observe(&world);
        let units = world.units.keys().cloned().collect();
        let doc = export(&observed, &units, &BTreeMap::new(), &[]);
        prop_assert_eq!(parse(&spell(&doc)), Ok(doc.clone()));
        let plan = plan(&Desired::new(Arc::new(doc)), &observed, &inventory(), None);
        prop_assert!(plan.steps.is_empty(), "{:#?}", plan.steps);
    }
}

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
    let alone = super::plan(&Desired::new(Arc::new(doc.clone())), &observe(&world), &inventory(), Some(&scope));
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
