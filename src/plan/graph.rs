//! What must come before what: `after`, and what follows from the document.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{Desired, Inventory, assess::container_unit};
use crate::{
    desired::Ensure,
    model::{Kind, Name, Observed, ResourceId, host_side_names},
};

/// Resource to the declared resources that must hold before it.
pub type Dependencies = BTreeMap<ResourceId, BTreeSet<ResourceId>>;

/// All dependencies between declared resources: a bridge before its ports, a bridge before the containers on it and
/// their units, a container's unit before the container, a port that a container brings after that container.
#[must_use]
pub fn dependencies(doc: &Desired, observed: &Observed, inventory: &Inventory) -> Dependencies {
    let mut out: Dependencies = doc
        .resources()
        .map(|id| {
            let after = doc.common(&id).map(|common| &common.after);
            let named = after.into_iter().flatten().filter(|before| doc.common(before).is_some()).cloned().collect();
            (id, named)
        })
        .collect();
    let mut add = |later: ResourceId, earlier: ResourceId| {
        if later != earlier {
            out.entry(later).or_default().insert(earlier);
        }
    };
    let is_made = |bridge: &Name| doc.bridges.get(bridge).is_some_and(|spec| spec.ensure == Ensure::Present);
    for (name, spec) in &doc.ports {
        if spec.ensure == Ensure::Absent {
            continue;
        }
        let port = ResourceId::port(name.clone());
        if is_made(&spec.bridge) {
            add(port.clone(), ResourceId::bridge(spec.bridge.clone()));
        }
        if let Some(container) = doc.bringer(name) {
            add(port, ResourceId::container(container.clone()));
        }
    }
    for (id, spec) in &doc.containers {
        let container = ResourceId::container(id.clone());
        if inventory.is_proxmox(id) {
            guest(&mut add, doc, id, inventory, &is_made);
            continue;
        }
        let unit = container_unit(doc, id, observed, inventory);
        let unit = doc.units.contains_key(&unit).then(|| ResourceId::unit(unit));
        if let Some(origin) = spec.from.as_ref().and_then(|from| from.clone.as_ref()) {
            let origin_id = ResourceId::container(origin.clone());
            if doc.containers.get(origin).is_some_and(|origin| origin.ensure == Ensure::Present) {
                add(container.clone(), origin_id);
            }
        }
        let networks = spec.networks.iter().flatten().filter_map(|(_, network)| network.bridge.as_ref());
        for bridge in spec.bridge.iter().chain(networks).filter(|bridge| is_made(bridge)) {
            let bridge = ResourceId::bridge(bridge.clone());
            add(container.clone(), bridge.clone());
            if let Some(unit) = &unit {
                add(unit.clone(), bridge);
            }
        }
        if let Some(unit) = unit {
            add(container, unit);
        }
    }
    for (name, _) in doc.bridges.iter().filter(|(_, spec)| spec.ensure == Ensure::Absent) {
        let bridge = ResourceId::bridge(name.clone());
        let ports = observed.bridges.get(name).map(|facts| facts.ports.clone()).unwrap_or_default();
        for leaves in ports.iter().filter_map(|port| leaves(doc, port, name)) {
            // Where the document itself says that the bridge goes first, it does.
            if !waits_for(&out, &leaves, &bridge) {
                out.entry(bridge.clone()).or_default().insert(leaves);
            }
        }
    }
    out
}

/// What a container of Proxmox VE's waits for, and what waits for it: it must be made before its unit's entry counts.
fn guest(
    add: &mut impl FnMut(ResourceId, ResourceId),
    doc: &Desired,
    id: &Name,
    inventory: &Inventory,
    is_made: &impl Fn(&Name) -> bool,
) {
    let Some(spec) = doc.containers.get(id) else { return };
    let container = ResourceId::container(id.clone());
    let networks = spec.networks.iter().flatten().filter_map(|(_, network)| network.bridge.as_ref());
    for bridge in networks.chain(&spec.bridge).filter(|bridge| is_made(bridge)) {
        add(container.clone(), ResourceId::bridge(bridge.clone()));
    }
    if let Some(origin) = spec.from.as_ref().and_then(|from| from.clone.as_ref())
        && doc.containers.contains_key(origin)
    {
        add(container.clone(), ResourceId::container(origin.clone()));
    }
    for unit in doc.units.keys().filter(|unit| inventory.proxmox_unit(unit).as_ref() == Some(id)) {
        add(ResourceId::unit(unit.clone()), container.clone());
    }
    let ports = doc.ports.iter().filter(|(_, port)| port.ensure == Ensure::Present);
    for (port, _) in ports.filter(|(port, _)| inventory.proxmox_port(port).is_some_and(|(of, _)| of == *id)) {
        add(ResourceId::port(port.clone()), container.clone());
    }
}

/// What shall be on another bridge than this one, where a port of it stands now: it leaves before the bridge is removed.
fn leaves(doc: &Desired, port: &Name, bridge: &Name) -> Option<ResourceId> {
    let declared = doc.ports.get(port).filter(|spec| spec.ensure == Ensure::Present && spec.bridge != *bridge);
    let container = || {
        let id = doc.bringer(port)?;
        let on = doc.containers.get(id)?.bridge.as_ref()?;
        (on != bridge).then(|| ResourceId::container(id.clone()))
    };
    declared.map(|_| ResourceId::port(port.clone())).or_else(container)
}

/// Whether a resource waits for another, by however many others between them.
#[must_use]
pub fn waits_for(dependencies: &Dependencies, later: &ResourceId, earlier: &ResourceId) -> bool {
    let mut seen = BTreeSet::from([later]);
    let mut open = vec![later];
    while let Some(id) = open.pop() {
        for before in dependencies.get(id).into_iter().flatten() {
            if before == earlier {
                return true;
            }
            if seen.insert(before) {
                open.push(before);
            }
        }
    }
    false
}

/// Declared resources to look at again when the facts of the key change, besides the key itself.
#[must_use]
pub fn dependents(doc: &Desired) -> BTreeMap<ResourceId, Vec<ResourceId>> {
    let mut out: BTreeMap<ResourceId, Vec<ResourceId>> = BTreeMap::new();
    let mut add = |of: ResourceId, look_at: ResourceId| out.entry(of).or_default().push(look_at);
    for (id, spec) in &doc.containers {
        let container = ResourceId::container(id.clone());
        let networks = spec.networks.iter().flatten().filter_map(|(_, network)| network.bridge.as_ref());
        for bridge in spec.bridge.iter().chain(networks) {
            add(ResourceId::bridge(bridge.clone()), container.clone());
        }
        for port in spec.machine_links(id).into_iter().flat_map(BTreeMap::into_values) {
            add(ResourceId::port(port), container.clone());
        }
        if let Some(veth) = &spec.veth {
            for port in host_side_names(veth) {
                add(ResourceId::port(port.clone()), container.clone());
                if doc.ports.contains_key(&port) {
                    add(container.clone(), ResourceId::port(port));
                }
            }
        }
    }
    for (name, spec) in &doc.ports {
        add(ResourceId::bridge(spec.bridge.clone()), ResourceId::port(name.clone()));
        // A port and a bridge cannot bear one name, but for the local port.
        if *name != spec.bridge {
            add(ResourceId::bridge(name.clone()), ResourceId::port(name.clone()));
        }
    }
    for name in doc.bridges.keys() {
        add(ResourceId::port(name.clone()), ResourceId::bridge(name.clone()));
    }
    if !doc.packages.is_empty() {
        // Whether a package is there, or to come, decides how a unit stands that it brings.
        for (name, spec) in &doc.units {
            for package in spec.common.after.iter().filter(|id| id.kind == Kind::Package) {
                add(package.clone(), ResourceId::unit(name.clone()));
            }
        }
    }
    out
}

/// The resources in an order that respects the dependencies, kinds and names breaking ties; and those that are
/// caught in a cycle, which no order can serve.
pub(super) fn order(dependencies: &Dependencies) -> (Vec<ResourceId>, Vec<ResourceId>) {
    let mut waits: BTreeMap<&ResourceId, usize> = BTreeMap::new();
    let mut later: BTreeMap<&ResourceId, Vec<&ResourceId>> = BTreeMap::new();
    for (id, before) in dependencies {
        waits.insert(id, before.iter().filter(|id| dependencies.contains_key(*id)).count());
        for earlier in before {
            later.entry(earlier).or_default().push(id);
        }
    }
    let rank = |id: &ResourceId| (Kind::ALL.iter().position(|kind| *kind == id.kind), id.name.clone());
    let mut ready: BinaryHeap<_> =
        waits.iter().filter(|(_, n)| **n == 0).map(|(id, _)| Reverse((rank(id), *id))).collect();
    let mut ordered = Vec::with_capacity(dependencies.len());
    while let Some(Reverse((_, id))) = ready.pop() {
        ordered.push(id.clone());
        for next in later.get(id).into_iter().flatten() {
            if let Some(count) = waits.get_mut(next) {
                *count -= 1;
                if *count == 0 {
                    ready.push(Reverse((rank(next), next)));
                }
            }
        }
    }
    let cyclic = waits.into_iter().filter(|(_, n)| *n > 0).map(|(id, _)| id.clone()).collect();
    (ordered, cyclic)
}
