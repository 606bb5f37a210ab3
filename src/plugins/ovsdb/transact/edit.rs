//! What a spec says, written into facts: only the fields that it names.

use std::collections::BTreeSet;

use crate::{
    desired::{BondMode, BridgeSpec, FailMode, Lacp, OptionalMap, PortSpec, VlanMode, Want},
    model::{BridgeFacts, InterfaceFacts, PortFacts, StringMap},
};

/// Types that Open vSwitch takes for the same are stored alike: `system` is the empty text.
fn stored_type(text: &str) -> &str {
    if text == "system" { "" } else { text }
}

fn set_type(field: &mut String, wanted: Option<&str>) {
    if let Some(wanted) = wanted
        && stored_type(field) != stored_type(wanted)
    {
        stored_type(wanted).clone_into(field);
    }
}

fn set<T: Clone>(field: &mut T, wanted: Option<&T>) {
    if let Some(wanted) = wanted {
        field.clone_from(wanted);
    }
}

fn set_text<T: Copy>(field: &mut String, wanted: &Want<T>, word: impl Fn(T) -> &'static str) {
    match wanted {
        Want::Unmanaged => {}
        Want::Unset => field.clear(),
        Want::Is(value) => word(*value).clone_into(field),
    }
}

fn set_optional<T: Copy>(field: &mut Option<T>, wanted: &Want<T>) {
    match wanted {
        Want::Unmanaged => {}
        Want::Unset => *field = None,
        Want::Is(value) => *field = Some(*value),
    }
}

fn set_map(field: &mut StringMap, wanted: &OptionalMap) {
    for (key, value) in wanted {
        match value {
            Some(value) => drop(field.insert(key.clone(), value.clone())),
            None => drop(field.remove(key)),
        }
    }
}

/// Writes a bridge's fields.
pub(super) fn write_bridge(spec: &BridgeSpec, facts: &mut BridgeFacts) {
    set_type(&mut facts.datapath_type, spec.datapath_type.as_deref());
    set_text(&mut facts.fail_mode, &spec.fail_mode, FailMode::as_str);
    set(&mut facts.stp_enable, spec.stp_enable.as_ref());
    set(&mut facts.rstp_enable, spec.rstp_enable.as_ref());
    set(&mut facts.mcast_snooping_enable, spec.mcast_snooping_enable.as_ref());
    set(&mut facts.controllers, spec.controllers.as_ref());
    set_map(&mut facts.external_ids, &spec.external_ids);
    set_map(&mut facts.other_config, &spec.other_config);
}

/// The interfaces that the port shall have; `None` where the spec does not say.
fn wanted_interfaces(name: &str, spec: &PortSpec) -> Option<BTreeSet<String>> {
    let single = spec.kind.is_some().then(|| BTreeSet::from([name.to_owned()]));
    spec.interfaces.clone().or(single)
}

/// Writes a port's fields, but for its bridge.
pub(super) fn write_port(name: &str, spec: &PortSpec, facts: &mut PortFacts) {
    if let Some(wanted) = wanted_interfaces(name, spec) {
        facts.interfaces.retain(|interface| wanted.contains(&interface.name));
        for name in wanted {
            if facts.interfaces.iter().all(|interface| interface.name != name) {
                facts.interfaces.push(InterfaceFacts { name, ..InterfaceFacts::default() });
            }
        }
        facts.interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    }
    // Type and options are those of the interface that stands for the port.
    let own = facts.interfaces.iter().position(|interface| interface.name == name).unwrap_or(0);
    if let Some(own) = facts.interfaces.get_mut(own) {
        set_type(&mut own.kind, spec.kind.as_deref());
        set_map(&mut own.options, &spec.options);
    }
    for interface in &mut facts.interfaces {
        set_optional(&mut interface.mtu_request, &spec.mtu_request);
    }
    set_optional(&mut facts.tag, &spec.tag);
    set(&mut facts.trunks, spec.trunks.as_ref());
    set_text(&mut facts.vlan_mode, &spec.vlan_mode, VlanMode::as_str);
    set_text(&mut facts.bond_mode, &spec.bond_mode, BondMode::as_str);
    set_text(&mut facts.lacp, &spec.lacp, Lacp::as_str);
    set_map(&mut facts.external_ids, &spec.external_ids);
    set_map(&mut facts.other_config, &spec.other_config);
}

/// A port that is not there yet, with the mark and with all that the spec says.
pub(super) fn new_port(name: &str, spec: &PortSpec, mark: StringMap) -> PortFacts {
    let interface = InterfaceFacts { name: name.to_owned(), ..InterfaceFacts::default() };
    let mut facts = PortFacts {
        bridge: spec.bridge.clone(),
        external_ids: mark,
        interfaces: vec![interface],
        ..PortFacts::default()
    };
    write_port(name, spec, &mut facts);
    facts
}

/// The port that each bridge has for the host itself.
pub(super) fn local_port(bridge: &str) -> PortFacts {
    let interface =
        InterfaceFacts { name: bridge.to_owned(), kind: "internal".to_owned(), ..InterfaceFacts::default() };
    PortFacts { bridge: bridge.into(), interfaces: vec![interface], ..PortFacts::default() }
}

/// Whether the two have the same interfaces, by name and type. Others cannot be turned into one another.
pub(super) fn same_interfaces(a: &PortFacts, b: &PortFacts) -> bool {
    a.interfaces.len() == b.interfaces.len()
        && a.interfaces
            .iter()
            .zip(&b.interfaces)
            .all(|(a, b)| a.name == b.name && stored_type(&a.kind) == stored_type(&b.kind))
}
