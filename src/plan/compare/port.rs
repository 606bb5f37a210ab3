//! A port against its row and its interfaces.

use std::collections::BTreeSet;

use super::{Differences, optional_text, shown_type, stored_type, want};
use crate::{
    desired::PortSpec,
    model::{Difference, InterfaceFacts, PortFacts, Reason, StringMap, Value},
};

/// The fields of a port that is there and shall be.
pub(in crate::plan) fn port_differences(name: &str, spec: &PortSpec, facts: &PortFacts) -> Vec<Difference> {
    let mut out = Differences::default();
    let own = facts.interfaces.iter().find(|interface| interface.name == name).or(facts.interfaces.first());
    out.must_be("bridge", (&*spec.bridge).into(), (&*facts.bridge).into());
    if spec.interfaces.is_some() || spec.kind.is_some() || facts.interfaces.len() > 1 {
        let desired = spec.interfaces.clone().unwrap_or_else(|| BTreeSet::from([name.to_owned()]));
        let observed: BTreeSet<&str> = facts.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        // A port that says nothing of interfaces is a port on one device, and leaves a bond that others made alone.
        if spec.interfaces.is_some() || spec.kind.is_some() {
            out.must_be(
                "interfaces",
                Value::Strs(desired.into_iter().collect()),
                Value::Strs(observed.into_iter().map(str::to_owned).collect()),
            );
        }
    }
    let kind = own.map_or("", |interface| interface.kind.as_str());
    out.wanted("type", spec.kind.as_deref().map(stored_type).map(shown_type), shown_type(stored_type(kind)));
    out.wanted("tag", want(&spec.tag, |tag| Value::UInt((*tag).into())), number(facts.tag));
    let trunks = |trunks: &BTreeSet<u16>| Value::Ints(trunks.iter().map(|&vlan| vlan.into()).collect());
    out.wanted("trunks", spec.trunks.as_ref().map(trunks), trunks(&facts.trunks));
    out.wanted("vlan_mode", want(&spec.vlan_mode, |mode| mode.as_str().into()), optional_text(&facts.vlan_mode));
    out.wanted("bond_mode", want(&spec.bond_mode, |mode| mode.as_str().into()), optional_text(&facts.bond_mode));
    out.wanted("lacp", want(&spec.lacp, |lacp| lacp.as_str().into()), optional_text(&facts.lacp));
    let mtu = own.and_then(|interface| interface.mtu_request);
    out.wanted("mtu_request", want(&spec.mtu_request, |mtu| Value::UInt((*mtu).into())), number(mtu));
    let none = StringMap::new();
    out.map("options", &spec.options, own.map_or(&none, |interface| &interface.options));
    out.map("external_ids", &spec.external_ids, &facts.external_ids);
    out.map("other_config", &spec.other_config, &facts.other_config);
    out.0
}

/// That a port stays with a device that is gone, while another bears its name: no column can be written to mend that.
pub(in crate::plan) fn device_difference(field: String, facts: &PortFacts) -> Option<Difference> {
    facts.device_replaced().then(|| Difference::new(field, "plugged", "replaced"))
}

fn number(value: Option<impl Into<u64>>) -> Value {
    value.map_or(Value::Absent, |value| Value::UInt(value.into()))
}

/// Why a port that is written as wanted does not work; `None` where it does.
///
/// The userspace datapath keeps `ofport` when a device vanishes; only `ifindex` 0 tells.
pub(in crate::plan) fn port_health(facts: &PortFacts) -> Option<(Reason, String)> {
    facts.interfaces.iter().find_map(interface_health)
}

fn interface_health(interface: &InterfaceFacts) -> Option<(Reason, String)> {
    let name = &interface.name;
    if !interface.error.is_empty() {
        let missing = interface.error.contains("No such device");
        let reason = if missing { Reason::DeviceMissing } else { Reason::PortError };
        return Some((reason, format!("interface {name}: {}", interface.error)));
    }
    match interface.ofport {
        Some(1..) => {}
        // It has not looked yet, or never will: for a datapath that is not to be had it says nothing at all.
        None => return Some((Reason::PortError, format!("interface {name}: ovs-vswitchd gave it no OpenFlow port"))),
        Some(number) => {
            let text = format!("interface {name}: Open vSwitch could not open it (ofport {number})");
            return Some((Reason::PortError, text));
        }
    }
    if interface.kind.is_empty() && interface.ifindex == Some(0) {
        return Some((Reason::DeviceMissing, format!("interface {name}: its device has vanished (ifindex 0)")));
    }
    None
}
