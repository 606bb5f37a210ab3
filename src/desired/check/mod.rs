//! What a document must not say although each of its words is right: statements that cannot hold together.

mod container;
mod object;
mod order;
mod proxmox;

use std::collections::BTreeMap;

use crate::model::{Kind, Name, ResourceId};

use super::{
    container::ContainerSpec,
    decode::Decoded,
    document::{ActiveState, Document, Ensure, PortSpec, UnitSpec, Want},
    fault::code,
    names,
    place::{At, Faults, named, quoted},
};

pub(super) use container::{container, template};

/// What the configuration says that documents are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Patterns of the units that run containers; `*` stands for the container's id.
    pub container_units: Vec<String>,
    /// Containers are Proxmox VE's: their ids are its numbers.
    pub proxmox: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let patterns = ["pve-container@*.service", "lxc@*.service", "systemd-nspawn@*.service"];
        Self { container_units: patterns.map(str::to_owned).to_vec(), proxmox: false }
    }
}

impl Rules {
    /// The units that may run that container.
    fn units_of<'r>(&'r self, container: &'r str) -> impl Iterator<Item = Name> + 'r {
        self.container_units.iter().map(move |pattern| pattern.replacen('*', container, 1).into())
    }
}

/// Checks a unit's entry by itself.
pub(super) fn unit(spec: &UnitSpec, at: &At<'_>, faults: &mut Faults) {
    if spec.masked != Some(true) {
        return;
    }
    if spec.enabled == Some(true) {
        faults.add(&at.key("enabled"), code::CONTRADICTION, || {
            "a masked unit cannot be enabled: take masked or enabled away".to_owned()
        });
    }
    if spec.active_state == Some(ActiveState::Active) {
        faults.add(&at.key("active_state"), code::CONTRADICTION, || {
            "a masked unit cannot be active: take masked or active_state away".to_owned()
        });
    }
}

/// Checks a port's entry by itself.
pub(super) fn port(name: &Name, spec: &PortSpec, at: &At<'_>, faults: &mut Faults) {
    if spec.interfaces.is_none() {
        if let Want::Is(_) = spec.bond_mode {
            faults.add(&at.key("bond_mode"), code::CONTRADICTION, || {
                "only a bond has a bond_mode: name its interfaces, or take bond_mode away".to_owned()
            });
        }
        // Interfaces of these types are devices of Linux; others (patch, vxlan, ...) are known to Open vSwitch alone.
        let device = matches!(spec.kind.as_deref(), None | Some("system" | "internal" | "tap"));
        if device && spec.ensure == Ensure::Present && name.len() > names::MAX_DEVICE {
            faults.add(at, code::BAD_NAME, || {
                let name = quoted(name);
                format!("the name {name} is longer than the 15 bytes that Linux allows for a network device")
            });
        }
        return;
    }
    for (field, given) in [("type", spec.kind.is_some()), ("options", !spec.options.is_empty())] {
        if given {
            faults.add(&at.key(field), code::CONTRADICTION, || {
                format!("a bond's interfaces are devices of the system: take {field} or interfaces away")
            });
        }
    }
}

pub(super) use object::object;

/// Checks what entries say about one another.
pub(super) fn document(decoded: &Decoded, rules: &Rules, faults: &mut Faults) {
    ports(decoded, faults);
    interfaces(decoded, faults);
    containers(decoded, rules, faults);
    packages(decoded, faults);
    container::together(decoded, faults);
    if rules.proxmox {
        proxmox::document(decoded, faults);
    }
    object::twins(&decoded.document, faults);
    order::check(decoded, rules, faults);
}

/// Calls with the place of a resource's entry.
fn at_entry<R>(decoded: &Decoded, kind: Kind, name: &Name, call: impl FnOnce(&At<'_>) -> R) -> R {
    match kind {
        Kind::Package => call(&At::ROOT.key("packagekit").key("packages").key(name)),
        Kind::Unit => call(&At::ROOT.key("systemd").key("units").key(name)),
        Kind::Bridge => call(&At::ROOT.key("ovsdb").key("bridges").key(name)),
        Kind::Port => {
            let bridge = decoded.document.ports.get(name).map(|spec| spec.bridge.as_ref()).unwrap_or_default();
            call(&At::ROOT.key("ovsdb").key("bridges").key(bridge).key("ports").key(name))
        }
        Kind::Object => call(&At::ROOT.key("dbus").key("objects").key(name)),
        Kind::Container => {
            let index = decoded.container_index.get(name).copied().unwrap_or_default();
            call(&At::ROOT.key("lxc").key("containers").index(index))
        }
    }
}

/// Whether the document says that this bridge shall not exist.
fn is_absent(document: &Document, bridge: &Name) -> bool {
    document.bridges.get(bridge).is_some_and(|spec| spec.ensure == Ensure::Absent)
}

/// Ports against bridges.
fn ports(decoded: &Decoded, faults: &mut Faults) {
    let document = &decoded.document;
    for (name, spec) in &document.ports {
        let mut contradiction = |field: Option<&str>, message: &dyn Fn() -> String| {
            at_entry(decoded, Kind::Port, name, |at| match field {
                Some(field) => faults.add(&at.key(field), code::CONTRADICTION, message),
                None => faults.add(at, code::CONTRADICTION, message),
            });
        };
        let present = spec.ensure == Ensure::Present;
        let bridge_absent = is_absent(document, &spec.bridge);
        if present && bridge_absent {
            contradiction(None, &|| {
                "its bridge shall be absent: take the port away, or the bridge's ensure".to_owned()
            });
        }
        if *name == spec.bridge {
            if !present && !bridge_absent {
                contradiction(Some("ensure"), &|| {
                    "a bridge's local port is there as long as the bridge: take ensure away, or give it to the bridge"
                        .to_owned()
                });
            }
            if spec.kind.as_deref().is_some_and(|kind| kind != "internal") {
                contradiction(Some("type"), &|| "a bridge's local port is always of type internal".to_owned());
            }
            if spec.interfaces.is_some() {
                contradiction(Some("interfaces"), &|| "a bridge's local port is no bond".to_owned());
            }
        } else if document.bridges.contains_key(name) {
            contradiction(None, &|| {
                format!("{} is the name of a bridge, and of its local port: name this port otherwise", quoted(name))
            });
        }
    }
}

/// Each interface belongs to one port.
fn interfaces(decoded: &Decoded, faults: &mut Faults) {
    let document = &decoded.document;
    let mut owners: BTreeMap<&str, ResourceId> = BTreeMap::new();
    for (name, spec) in &document.bridges {
        if spec.ensure == Ensure::Present {
            // Its local port.
            owners.insert(name, ResourceId::port(name.clone()));
        }
    }
    let taken = |interface: &str, owner: &ResourceId| {
        let (interface, owner) = (quoted(interface), named(owner));
        format!("interface {interface} belongs to {owner} already, and can belong to one port only")
    };
    for (name, spec) in document.ports.iter().filter(|(_, spec)| spec.ensure == Ensure::Present) {
        let port = ResourceId::port(name.clone());
        let Some(members) = &spec.interfaces else {
            let owner = owners.entry(name).or_insert_with(|| port.clone());
            if *owner != port {
                at_entry(decoded, Kind::Port, name, |at| faults.add(at, code::CONTRADICTION, || taken(name, owner)));
            }
            continue;
        };
        for member in members {
            let owner = owners.entry(member).or_insert_with(|| port.clone());
            if *owner != port {
                at_entry(decoded, Kind::Port, name, |at| {
                    faults.add(&at.key("interfaces"), code::CONTRADICTION, || taken(member, owner));
                });
            }
        }
    }
    for (id, spec) in &document.containers {
        // Only what shall be plugged is an interface of the switch.
        let (Some(veth), Some(_)) = (&spec.veth, &spec.bridge) else { continue };
        let port = ResourceId::port(veth.clone());
        if let Some(owner) = owners.get(veth.as_ref()).filter(|owner| **owner != port || is_bridge(document, veth)) {
            at_entry(decoded, Kind::Container, id, |at| {
                faults.add(&at.key("veth"), code::CONTRADICTION, || taken(veth, owner));
            });
        }
    }
}

/// Whether a bridge, and so a local port, of that name shall exist.
fn is_bridge(document: &Document, name: &Name) -> bool {
    document.bridges.get(name).is_some_and(|spec| spec.ensure == Ensure::Present)
}

/// Containers against one another, bridges, ports and units.
fn containers(decoded: &Decoded, rules: &Rules, faults: &mut Faults) {
    let document = &decoded.document;
    let mut veths: BTreeMap<&Name, &Name> = BTreeMap::new();
    let mut by_index: Vec<_> = decoded.container_index.iter().collect();
    by_index.sort_by_key(|(_, index)| **index);
    for (id, &index) in by_index {
        let Some(spec) = document.containers.get(id) else { continue };
        let list = At::ROOT.key("lxc");
        let list = list.key("containers");
        let at = list.index(index);
        if let Some(veth) = &spec.veth
            && let Some(other) = veths.insert(veth, id)
        {
            faults.add(&at.key("veth"), code::CONTRADICTION, || {
                format!("{} is the veth of container {other} already: no two containers share one", quoted(veth))
            });
        }
        if let Some(bridge) = &spec.bridge {
            plugged(document, spec, bridge, &at.key("bridge"), faults);
        }
        if let Some(running) = spec.running {
            let units = rules.units_of(id).filter_map(|name| document.units.get_key_value(&name));
            for (name, unit) in units {
                let forbids = if running {
                    unit.masked == Some(true) || unit.active_state == Some(ActiveState::Inactive)
                } else {
                    unit.active_state == Some(ActiveState::Active)
                };
                if forbids {
                    faults.add(&at.key("running"), code::CONTRADICTION, || {
                        let shall = if running { "run" } else { "not run" };
                        format!(
                            "container {id} shall {shall}, but /systemd/units/{name} says the opposite, and the two \
                             are one: make them agree, or take one away"
                        )
                    });
                }
            }
        }
    }
}

/// No two entries are one package.
fn packages(decoded: &Decoded, faults: &mut Faults) {
    let document = &decoded.document;
    for (name, spec) in &document.packages {
        let Some(arch) = &spec.arch else { continue };
        let other = format!("{name}:{arch}");
        if document.packages.contains_key(other.as_str()) {
            at_entry(decoded, Kind::Package, name, |at| {
                faults.add(&at.key("arch"), code::CONTRADICTION, || {
                    format!("{} is declared already: keep one entry", quoted(&other))
                });
            });
        }
    }
}

/// A container's `bridge` against that bridge's entry and the entry of the port.
fn plugged(document: &Document, spec: &ContainerSpec, bridge: &Name, at: &At<'_>, faults: &mut Faults) {
    if is_absent(document, bridge) {
        faults.add(at, code::CONTRADICTION, || {
            format!("bridge {} shall be absent: take this away, or the bridge's ensure", quoted(bridge))
        });
    }
    let Some((veth, port)) = spec.veth.as_ref().and_then(|veth| document.ports.get_key_value(veth)) else { return };
    if port.bridge != *bridge {
        faults.add(at, code::CONTRADICTION, || {
            let (veth, other) = (quoted(veth), quoted(&port.bridge));
            format!("port {veth} is declared on bridge {other}: declare it on the same bridge, or take one away")
        });
    } else if port.ensure == Ensure::Absent {
        faults.add(at, code::CONTRADICTION, || {
            format!("port {} shall be absent from that bridge: take this away, or the port's ensure", quoted(veth))
        });
    }
}
