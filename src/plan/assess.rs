//! One resource: how it differs from the document, whether that can be mended, and whether it works.

pub(super) mod machined;

use std::sync::Arc;

use super::{
    Desired, Inventory,
    compare::{
        bridge_differences, device_difference, plugged_differences, port_differences, port_health, unit_differences,
    },
    guest::{assess_guest, block_away},
    is_protected,
    object::assess_object,
    packages::{assess_package, bringers_of_unit},
};
use crate::{
    desired::{ActiveState, BridgeSpec, ContainerSpec, Ensure, PortSpec, UnitSpec},
    model::{Difference, Kind, Name, Observed, PortFacts, Reason, ResourceId, UnitFacts, Value},
};

/// The text of [`Reason::SwitchNotAnswering`].
pub const SWITCH_HANGS: &str = "committed, but ovs-vswitchd is not answering";

/// A reason with its text for people.
pub(super) type Why = (Reason, String);

/// How one declared resource stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assessment {
    /// It exists.
    pub present: bool,
    /// What is not as the document says.
    pub differences: Vec<Difference>,
    /// Why the differences cannot be mended now.
    pub blocked: Option<Why>,
    /// Why it does not work although it is as the document says.
    pub health: Option<Why>,
    /// It is on its way to somewhere (a systemd job, an automatic restart): its differences are not drift yet.
    pub settling: bool,
    /// Its backend has been told and works on it: it does not hold yet. What held before is not judged by this: it is some
    /// other change of it that is on its way.
    pub applying: bool,
    /// What people should know before they agree to mend it.
    pub warnings: Vec<String>,
}

impl Assessment {
    /// As the document says, and working.
    #[must_use]
    pub const fn in_sync(&self) -> bool {
        self.differences.is_empty() && self.health.is_none()
    }

    /// Not as the document says, by somebody's good right: a condition of the unit is not met, the container that brings
    /// the port does not run. No failure and no drift; it is taken up once that changes.
    #[must_use]
    pub fn is_by_rights(&self) -> bool {
        self.blocked.as_ref().is_some_and(|(reason, _)| {
            matches!(reason, Reason::ConditionUnmet | Reason::ContainerStopped | Reason::RestartNeeded)
        })
    }

    /// Takes into account whether Open vSwitch works by what the rows of a bridge or port say.
    fn note_switch(&mut self, id: &ResourceId, observed: &Observed) {
        if !observed.switch.unapplied.contains(id) {
            return;
        }
        if observed.switch.hangs {
            // What its columns say of the port is of old.
            self.health = Some((Reason::SwitchNotAnswering, SWITCH_HANGS.to_owned()));
        } else {
            self.applying = true;
        }
    }

    pub(super) fn block(&mut self, reason: Reason, message: impl Into<String>) {
        self.blocked.get_or_insert_with(|| (reason, message.into()));
    }

    fn absent(&mut self) {
        self.differences.push(Difference::new("ensure", "present", "absent"));
    }
}

/// Holds one declared resource against what is observed. A resource that the document does not name is in sync.
#[must_use]
pub fn assess(doc: &Desired, id: &ResourceId, observed: &Observed, inventory: &Inventory) -> Assessment {
    match id.kind {
        Kind::Package => doc.packages.get(&id.name).map(|spec| assess_package(doc, &id.name, spec, observed)),
        Kind::Unit => doc.units.get(&id.name).map(|spec| match inventory.proxmox_unit(&id.name) {
            Some(container) => assess_guest_unit(doc, &id.name, spec, &container, observed),
            None => assess_unit(doc, &id.name, spec, observed, inventory),
        }),
        Kind::Bridge => doc.bridges.contains_key(&id.name).then(|| assess_bridge(doc, &id.name, observed)),
        Kind::Port => doc.ports.get(&id.name).map(|spec| match inventory.proxmox_port(&id.name) {
            Some((container, index)) => assess_plugged(doc, spec, &container, index, observed),
            None => assess_port(doc, &id.name, spec, observed),
        }),
        Kind::Container => doc.containers.get(&id.name).map(|spec| {
            if inventory.is_proxmox(&id.name) {
                assess_guest(doc, &id.name, spec, observed, inventory)
            } else {
                assess_container(doc, &id.name, spec, observed, inventory)
            }
        }),
        Kind::Object => doc.objects.get(&id.name).map(|spec| assess_object(&id.name, spec, observed, inventory)),
    }
    .unwrap_or_default()
}

/// A unit that is a container of Proxmox VE's: `enabled` is its onboot, `active_state` that it runs, and both are read
/// and written through Proxmox VE alone.
fn assess_guest_unit(doc: &Desired, name: &Name, spec: &UnitSpec, container: &Name, observed: &Observed) -> Assessment {
    let mut out = Assessment::default();
    let facts = observed.guests.get(container).filter(|facts| !facts.is_machine);
    out.present = facts.is_some();
    let settings = facts.and_then(|facts| facts.settings.as_ref());
    let (onboot, running) =
        (settings.is_some_and(|settings| settings.onboot), facts.is_some_and(|facts| facts.running));
    if let Some(enabled) = spec.enabled.filter(|enabled| *enabled != onboot) {
        out.differences.push(Difference::new("enabled", enabled, onboot));
    }
    let state = |running: bool| if running { "active" } else { "inactive" };
    if let Some(wanted) =
        spec.active_state.map(|wanted| wanted == ActiveState::Active).filter(|wanted| *wanted != running)
    {
        out.differences.push(Difference::new("active_state", state(wanted), state(running)));
    }
    for (field, said) in [("masked", spec.masked == Some(true)), ("properties", !spec.properties.is_empty())] {
        if said {
            out.differences.push(Difference::new(field, "as declared", Value::Absent));
            out.block(
                Reason::NotSupported,
                format!("{name} is container {container} of Proxmox VE's, which has no {field}: take that away"),
            );
        }
    }
    let made = doc.containers.get(container).is_some_and(|spec| spec.from.is_some());
    match facts {
        None if !out.differences.is_empty() && !made => out.block(
            Reason::ContainerNotFound,
            format!("Proxmox VE has no container {container}: declare it under lxc.containers with \"from\""),
        ),
        Some(facts) => block_away(&mut out, facts),
        None => {}
    }
    out
}

/// A port that Proxmox VE plugs for a container of its own: written through that container's network, never in OVSDB.
fn assess_plugged(doc: &Desired, spec: &PortSpec, container: &Name, index: u8, observed: &Observed) -> Assessment {
    let mut out = Assessment::default();
    let names = [format!("veth{container}i{index}"), format!("fwln{container}o{index}"), format!("veth{container}")];
    out.present = names.iter().any(|name| observed.ports.contains_key(name.as_str()));
    let guest = observed.guests.get(container).filter(|facts| !facts.is_machine);
    let network = guest.and_then(|facts| facts.settings.as_ref()?.networks.get(&index));
    if spec.ensure == Ensure::Absent {
        if network.is_some() {
            out.differences.push(Difference::new("ensure", "absent", "present"));
            out.block(
                Reason::NotSupported,
                format!("it is network {index} of container {container} of Proxmox VE's: take it out of that entry's networks"),
            );
        }
        return out;
    }
    let Some(network) = network else {
        let made = doc.containers.get(container).is_some_and(|spec| spec.from.is_some());
        out.differences.push(Difference::new("ensure", "present", "absent"));
        if !made {
            out.block(
                Reason::ContainerNotFound,
                format!("Proxmox VE has no container {container} with a network {index} to bring this port"),
            );
        }
        return out;
    };
    out.differences = plugged_differences(spec, network);
    let others = !spec.external_ids.is_empty()
        || !spec.other_config.is_empty()
        || !spec.options.is_empty()
        || spec.interfaces.is_some()
        || !matches!(spec.vlan_mode, crate::desired::Want::Unmanaged);
    if others {
        out.differences.push(Difference::new("external_ids", "as declared", Value::Absent));
        out.block(
            Reason::NotSupported,
            "Proxmox VE plugs this port, and keeps of it bridge, tag, trunks and mtu_request alone: take the rest away",
        );
    }
    if let Some(facts) = guest {
        block_away(&mut out, facts);
    }
    out
}

fn assess_unit(doc: &Desired, name: &Name, spec: &UnitSpec, observed: &Observed, inventory: &Inventory) -> Assessment {
    let missing = Arc::new(UnitFacts { load_state: "not-found".to_owned(), ..UnitFacts::default() });
    let facts = observed.units.get(name).unwrap_or(&missing);
    let mut out = Assessment {
        present: !matches!(facts.load_state.as_str(), "not-found" | ""),
        differences: unit_differences(spec, facts),
        settling: is_settling(facts),
        ..Assessment::default()
    };
    if out.differences.is_empty() {
        return out;
    }
    let differs = |field: &str| out.differences.iter().any(|difference| difference.field == field);
    let starts = differs("active_state") && spec.active_state == Some(ActiveState::Active);
    let enables = differs("enabled") && spec.enabled == Some(true);
    let masks = differs("masked") && spec.masked == Some(true);
    let stops = differs("active_state") && !starts;
    let sets = out.differences.iter().any(|difference| difference.field.starts_with("properties."));
    let unmasks = spec.masked == Some(false);
    let masked = facts.unit_file_state.starts_with("masked") || facts.load_state == "masked";
    let unsettable =
        spec.properties.keys().find(|name| differs(&format!("properties.{name}")) && !is_settable(facts, name));

    if !spec.allow_protected {
        block_protected(&mut out, name, facts, inventory);
    }
    if !out.present && (starts || enables || sets) {
        let bringers = bringers_of_unit(doc, spec, observed);
        if bringers.is_empty() {
            out.block(Reason::UnitNotFound, format!("systemd knows no unit {name}: install what brings it"));
        } else {
            let bringers: Vec<&str> = bringers.iter().map(|package| &**package).collect();
            out.warnings.push(format!("{name} is not there yet: it is to come with {}", bringers.join(" or ")));
        }
    }
    if masked && !unmasks && (starts || enables) {
        out.block(Reason::UnitMasked, format!("{name} is masked: say \"masked\": false to have it unmasked"));
    }
    if starts && matches!(facts.load_state.as_str(), "error" | "bad-setting") {
        out.block(Reason::UnitBroken, format!("systemd cannot load {name}: see systemctl status {name}"));
    }
    if masks && facts.fragment_path.starts_with("/etc/") && !masked {
        out.block(
            Reason::CannotMask,
            format!(
                "the file of {name} lies in /etc ({}), where the mask would be: move it to /usr/lib",
                facts.fragment_path
            ),
        );
    }
    if enables && matches!(facts.unit_file_state.as_str(), "indirect" | "generated" | "transient" | "bad") {
        out.block(
            Reason::NotEnableable,
            format!("{name} is {}: systemd cannot enable it by itself", facts.unit_file_state),
        );
    }
    if let Some(property) = unsettable {
        out.block(
            Reason::PropertyNotSettable,
            format!("systemd cannot set {property} of {name} live: put it into a drop-in of the unit"),
        );
    }
    if starts
        && !inventory.retry_unmet
        && facts.condition_unmet
        && facts.active_state == "inactive"
        && facts.job.is_none()
    {
        out.block(Reason::ConditionUnmet, format!("a condition of {name} is not met: systemd skips its start"));
    }
    if stops && !facts.active_triggers.is_empty() {
        out.warnings.push(format!("WillBeReactivated: {} would start it again", facts.active_triggers.join(", ")));
    }
    if enables && out.present && !facts.has_install {
        out.warnings.push(format!("{name} has no [Install]: it is linked to multi-user.target instead"));
    }
    out
}

/// Whether the unit has that property and systemd can set it live. Of a unit that is not loaded nothing is known: it is
/// asked once the unit is.
fn is_settable(facts: &UnitFacts, property: &str) -> bool {
    let unknown = facts.unit_path.is_empty() && facts.property_signatures.is_empty();
    unknown || facts.property_signatures.contains_key(property)
}

fn block_protected(out: &mut Assessment, name: &str, facts: &UnitFacts, inventory: &Inventory) {
    let names = [name, facts.id.as_str()];
    if names.iter().any(|unit| is_protected(unit)) {
        out.block(
            Reason::Protected,
            format!(
                "{name} is never touched (the machine stands on it) unless its entry says \"allow_protected\": true"
            ),
        );
    }
    if inventory.protected_units.iter().any(|unit| names.contains(&unit.as_str())) {
        out.block(
            Reason::Protected,
            format!("{name} runs op-dbus or the caller itself; say \"allow_protected\": true to touch it all the same"),
        );
    }
}

fn is_settling(facts: &UnitFacts) -> bool {
    facts.job.is_some()
        || facts.sub_state == "auto-restart"
        || matches!(facts.active_state.as_str(), "activating" | "deactivating")
}

fn assess_bridge(doc: &Desired, name: &Name, observed: &Observed) -> Assessment {
    let Some(spec) = doc.bridges.get(name) else { return Assessment::default() };
    let mut out = assess_bridge_rows(doc, name, spec, observed);
    out.note_switch(&ResourceId::bridge(name.clone()), observed);
    out
}

fn assess_bridge_rows(doc: &Desired, name: &Name, spec: &BridgeSpec, observed: &Observed) -> Assessment {
    let mut out = Assessment::default();
    let Some(facts) = observed.bridges.get(name) else {
        if spec.ensure == Ensure::Present {
            out.absent();
            match observed.ports.get(name) {
                Some(port) if port.fake_bridge => {
                    out.block(
                        Reason::FakeBridge,
                        format!("{name} is a fake bridge on {}: remove it first", port.bridge),
                    );
                }
                Some(port) => {
                    out.block(Reason::NameTaken, format!("{name} is a port on {}: remove it first", port.bridge));
                }
                None => {}
            }
        }
        return out;
    };
    out.present = true;
    if spec.ensure == Ensure::Absent {
        out.differences.push(Difference::new("ensure", "absent", "present"));
        let others: Vec<&str> = facts.ports.iter().map(|port| &**port).filter(|&port| port != &**name).collect();
        if !others.is_empty() {
            out.warnings.push(format!("removes its ports too: {}", others.join(", ")));
        }
        return out;
    }
    out.differences = bridge_differences(spec, facts);
    // Its local port is what shows whether there is a bridge at all.
    out.health = observed.ports.get(name).and_then(|local| port_health(local));
    let foreign = foreign_ports(doc, name, observed);
    if !foreign.is_empty() {
        let foreign = foreign.into_iter().map(|port| port.to_string()).collect();
        out.differences.push(Difference::new("exclusive", true, Value::Strs(foreign)));
    }
    out
}

/// Ports that an `exclusive` bridge holds and the document does not name, but for its local port and containers'.
pub(super) fn foreign_ports(doc: &Desired, bridge: &Name, observed: &Observed) -> Vec<Name> {
    let Some(facts) = observed.bridges.get(bridge) else { return Vec::new() };
    if !doc.bridges.get(bridge).is_some_and(|spec| spec.exclusive && spec.ensure == Ensure::Present) {
        return Vec::new();
    }
    let is_foreign = |port: &&Name| {
        *port != bridge
            && !doc.ports.contains_key(*port)
            && !observed.links.port_container.contains_key(*port)
            && doc.bringer(port).is_none()
    };
    facts.ports.iter().filter(is_foreign).cloned().collect()
}

fn assess_port(doc: &Desired, name: &Name, spec: &PortSpec, observed: &Observed) -> Assessment {
    let mut out = assess_port_rows(doc, name, spec, observed);
    out.note_switch(&ResourceId::port(name.clone()), observed);
    out
}

fn assess_port_rows(doc: &Desired, name: &Name, spec: &PortSpec, observed: &Observed) -> Assessment {
    let mut out = Assessment::default();
    let is_local = *name == spec.bridge;
    let facts = observed.ports.get(name);
    out.present = facts.is_some();
    if spec.ensure == Ensure::Absent {
        if facts.is_some_and(|facts| facts.bridge == spec.bridge) {
            out.differences.push(Difference::new("ensure", "absent", "present"));
            if is_local {
                out.block(Reason::Refused, format!("{name} is the local port of its bridge and goes only with it"));
            }
        }
        return out;
    }
    let stopped = stopped_bringer(doc, name, observed);
    let Some(facts) = facts else {
        out.absent();
        if let Some(container) = stopped {
            out.block(
                Reason::ContainerStopped,
                format!("container {container} brings {name} and does not run: no port is made for it"),
            );
        }
        let bridge = ResourceId::bridge(spec.bridge.clone());
        block_without_bridge(&mut out, doc, &bridge, observed);
        if observed.bridges.contains_key(name) && !is_local {
            out.block(Reason::NameTaken, format!("{name} is the name of a bridge"));
        }
        return out;
    };
    out.differences = port_differences(name, spec, facts);
    if !is_wired(doc, name) {
        out.differences.extend(device_difference("device".to_owned(), facts));
    }
    // A stopped container's device is away by rights.
    out.health = port_health(facts).filter(|_| stopped.is_none());
    if !out.differences.is_empty() {
        if facts.fake_bridge {
            out.block(
                Reason::FakeBridge,
                format!("{name} is a fake bridge on {}: op-dbus does not write it", facts.bridge),
            );
        }
        if facts.bridge != spec.bridge && *name == facts.bridge {
            out.block(Reason::NameTaken, format!("{name} is the local port of the bridge {name}"));
        }
        if facts.bridge != spec.bridge {
            block_without_bridge(&mut out, doc, &ResourceId::bridge(spec.bridge.clone()), observed);
        }
    }
    out
}

/// Whether a declared container sees to it that the port is on its bridge.
fn is_wired(doc: &Desired, port: &Name) -> bool {
    doc.bringer(port).and_then(|id| doc.containers.get(id)).is_some_and(ContainerSpec::is_on_bridge)
}

pub(super) fn block_without_bridge(out: &mut Assessment, doc: &Desired, bridge: &ResourceId, observed: &Observed) {
    let declared = doc.bridges.get(&bridge.name);
    let wanted = declared.is_some_and(|spec| spec.ensure == Ensure::Present);
    let undeclared = declared.is_none() && observed.bridges.contains_key(&bridge.name);
    if !wanted && !undeclared {
        out.block(
            Reason::BridgeMissing,
            format!("bridge {} is neither there nor declared: declare it under ovsdb.bridges", bridge.name),
        );
    }
}

/// The container that brings that port and does not run, nor is to be started.
fn stopped_bringer(doc: &Desired, port: &Name, observed: &Observed) -> Option<Name> {
    let declared = doc.bringer(port);
    let id = declared.or_else(|| observed.links.port_container.get(port))?;
    let running = observed.containers.get(id).is_some_and(|facts| facts.running);
    let wanted = doc.containers.get(id).is_some_and(|spec| spec.running == Some(true));
    (!running && !wanted).then(|| id.clone())
}

/// The port that satisfies a declared container's `veth`, if it is on any bridge.
#[must_use]
pub fn container_port<'a>(
    id: &Name,
    spec: &ContainerSpec,
    observed: &'a Observed,
) -> Option<(Name, &'a Arc<PortFacts>)> {
    spec.port_names(id).into_iter().find_map(|name| observed.ports.get(&name).map(|facts| (name, facts)))
}

/// The unit that runs a container: the one that was found, else what the configured template says.
#[must_use]
pub fn container_unit(doc: &Desired, id: &Name, observed: &Observed, inventory: &Inventory) -> Name {
    if doc.containers.get(id).is_some_and(|spec| machined::is_machined(spec, inventory)) {
        return machined::machine_unit(id);
    }
    let found = observed.containers.get(id).map(|facts| facts.unit.as_str()).filter(|unit| !unit.is_empty());
    found.map_or_else(|| inventory.container_unit.replace('%', id).into(), Name::from)
}

fn assess_container(
    doc: &Desired,
    id: &Name,
    spec: &ContainerSpec,
    observed: &Observed,
    inventory: &Inventory,
) -> Assessment {
    if machined::is_machined(spec, inventory) {
        return machined::assess(doc, id, spec, observed, inventory);
    }
    let mut out = Assessment::default();
    let facts = observed.containers.get(id);
    out.present = facts.is_some();
    let running = facts.is_some_and(|facts| facts.running);
    let unit = container_unit(doc, id, observed, inventory);
    let unit_facts = observed.units.get(&unit);
    out.settling = unit_facts.is_some_and(|facts| is_settling(facts));
    if let Some(wanted) = spec.running.filter(|&wanted| wanted != running) {
        out.differences.push(Difference::new("running", wanted, running));
        block_container_unit(&mut out, doc, id, spec, &unit, unit_facts.map(Arc::as_ref), inventory);
    }
    if spec.running.unwrap_or(running) {
        let port = container_port(id, spec, observed);
        if let Some(bridge) = &spec.bridge {
            let on = port.as_ref().map(|(_, facts)| facts.bridge.to_string());
            if on.as_deref() != Some(bridge) {
                out.differences.push(Difference::new("bridge", &**bridge, Value::text(on)));
                block_without_bridge(&mut out, doc, &ResourceId::bridge(bridge.clone()), observed);
            } else if let Some((_, facts)) = &port {
                out.differences.extend(device_difference("device".to_owned(), facts));
            }
        }
        if let Some((name, facts)) = port.filter(|_| running) {
            out.health = port_health(facts);
            if spec.bridge.is_some() {
                out.note_switch(&ResourceId::port(name), observed);
            }
        }
    }
    let rivals = facts.map(|facts| &facts.rival_units).filter(|rivals| !rivals.is_empty());
    if let Some(rivals) = rivals.filter(|_| !out.differences.is_empty()) {
        out.block(
            Reason::AmbiguousContainer,
            format!("{unit} and {} both claim container {id}: leave it to one", rivals.join(", ")),
        );
    }
    out
}

fn block_container_unit(
    out: &mut Assessment,
    doc: &Desired,
    id: &Name,
    spec: &ContainerSpec,
    unit: &Name,
    facts: Option<&UnitFacts>,
    inventory: &Inventory,
) {
    let Some(facts) = facts.filter(|facts| !matches!(facts.load_state.as_str(), "" | "not-found")) else {
        if spec.running == Some(true) {
            out.block(
                Reason::ContainerNotFound,
                format!("no runtime on this machine has container {id} (looked for {unit}): create it first"),
            );
        }
        return;
    };
    if !spec.allow_protected {
        block_protected(out, unit, facts, inventory);
    }
    let masked = facts.unit_file_state.starts_with("masked") || facts.load_state == "masked";
    let unmasks = doc.units.get(unit).is_some_and(|unit| unit.masked == Some(false));
    if masked && !unmasks && spec.running == Some(true) {
        out.block(Reason::UnitMasked, format!("{unit}, which runs container {id}, is masked: unmask it first"));
    }
}
