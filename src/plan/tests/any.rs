//! Any documents and any worlds, over the same few names.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::MACHINE;
use crate::{
    desired::{
        ActiveState, BridgeSpec, Common, ContainerSpec, Document, Ensure, FailMode, PackageEnsure, PackageSpec,
        PortSpec, UnitSpec, Want,
    },
    model::{Kind, Name, ResourceId},
    plan::OWNER_KEY,
    plugins::simulated::World,
};

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
