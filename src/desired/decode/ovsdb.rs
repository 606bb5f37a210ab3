//! The section `ovsdb`.

use std::collections::BTreeSet;

use crate::{
    desired::{
        check,
        document::{BondMode, BridgeSpec, Ensure, FailMode, Lacp, PortSpec, VlanMode},
        fault::code,
        names,
        node::Node,
        place::{At, Faults, quoted},
    },
    model::{Name, ResourceId},
};

use super::{
    Decoded, common,
    fields::{Fields, entries},
    value::{Wanted, Word, boolean, good_name, integer, name, set, string_map, text, wrong_type},
};

/// Highest value of `tag` and `trunks` (vswitch.ovsschema).
pub(in crate::desired) const MAX_VLAN: u64 = 4095;

/// Lowest and highest `mtu_request` (ovs-vswitchd.conf.db(5)).
pub(in crate::desired) const MTU: (u64, u64) = (68, 65535);

/// Interfaces a bond has at least.
pub(in crate::desired) const MIN_BOND: usize = 2;

/// Types of datapath (ovs-vswitchd.conf.db(5)).
pub(in crate::desired) const DATAPATH_TYPES: [&str; 2] = ["system", "netdev"];

/// Characters a type of interface may have: no type is nearly as long.
pub(in crate::desired) const MAX_TYPE: usize = 63;

/// Reads the section.
pub(super) fn section(node: &Node<'_>, at: &At<'_>, faults: &mut Faults, decoded: &mut Decoded) -> Option<()> {
    decoded.names_lost |= !matches!(node, Node::Object(_));
    let mut fields = Fields::open(node, at, faults)?;
    fields.read("bridges", |node, at, faults| {
        let bridges = entries(node, at, faults);
        decoded.names_lost |= bridges.is_none();
        for (name, node) in bridges? {
            let at = at.key(name);
            let good = good_name(name, names::device, &at, faults);
            let who = ResourceId::bridge(name);
            let spec = bridge(good.then_some(&who), node, &at, faults, decoded).unwrap_or_default();
            if good {
                decoded.document.bridges.insert(who.name, spec);
            } else {
                decoded.refused.insert(who);
            }
        }
        Some(())
    });
    fields.close();
    Some(())
}

/// Reads a bridge's entry, and its ports' into the document.
fn bridge(
    who: Option<&ResourceId>,
    node: &Node<'_>,
    at: &At<'_>,
    faults: &mut Faults,
    decoded: &mut Decoded,
) -> Option<BridgeSpec> {
    decoded.names_lost |= !matches!(node, Node::Object(_));
    let mut fields = Fields::open(node, at, faults)?;
    let spec = BridgeSpec {
        ensure: fields.read("ensure", Ensure::read).unwrap_or_default(),
        exclusive: fields.read("exclusive", boolean).unwrap_or_default(),
        datapath_type: fields.read("datapath_type", datapath_type),
        fail_mode: fields.want("fail_mode", FailMode::read),
        stp_enable: fields.read("stp_enable", boolean),
        rstp_enable: fields.read("rstp_enable", boolean),
        mcast_snooping_enable: fields.read("mcast_snooping_enable", boolean),
        controllers: fields
            .read("controllers", |node, at, faults| set(node, at, faults, controller))
            .map(|targets| targets.into_iter().map(str::to_owned).collect()),
        external_ids: fields.read("external_ids", string_map).unwrap_or_default(),
        other_config: fields.read("other_config", string_map).unwrap_or_default(),
        common: common(&mut fields, who, decoded),
    };
    fields.read("ports", |node, at, faults| ports(who.map(|who| &who.name), node, at, faults, decoded));
    fields.close();
    Some(spec)
}

/// Reads `datapath_type`.
fn datapath_type(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<String> {
    let given = text(node, at, faults)?;
    if DATAPATH_TYPES.contains(&given) {
        return Some(given.to_owned());
    }
    faults.add(at, code::OUT_OF_RANGE, || {
        format!("{} is no type of datapath: write \"system\" (the kernel's) or \"netdev\"", quoted(given))
    });
    None
}

/// Reads the target of a controller.
fn controller<'n>(node: &'n Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<&'n str> {
    let target = text(node, at, faults)?;
    if target.is_empty() {
        faults.add(at, code::OUT_OF_RANGE, || "is empty: write a target as in \"tcp:192.0.2.1:6653\"".to_owned());
        return None;
    }
    Some(target)
}

/// Reads the ports of a bridge, which has a name unless it is refused.
fn ports(
    bridge: Option<&Name>,
    node: &Node<'_>,
    at: &At<'_>,
    faults: &mut Faults,
    decoded: &mut Decoded,
) -> Option<()> {
    let ports = entries(node, at, faults);
    decoded.names_lost |= ports.is_none();
    for (name, node) in ports? {
        let at = at.key(name);
        let good = good_name(name, names::port, &at, faults);
        let who = ResourceId::port(name);
        let spec = port(good.then_some(&who), node, &at, faults, decoded).unwrap_or_default();
        let Some(bridge) = bridge.filter(|_| good) else {
            decoded.refused.insert(who);
            continue;
        };
        if let Some(other) = decoded.document.ports.get(&who.name) {
            let (name, other) = (&who.name, &other.bridge);
            faults.add(&at, code::CONTRADICTION, || {
                format!(
                    "port {} stands under bridge {} too, and is one port on the whole switch: keep one entry \
                     (naming it under another bridge moves it)",
                    quoted(name),
                    quoted(other),
                )
            });
        } else {
            decoded.document.ports.insert(who.name, PortSpec { bridge: bridge.clone(), ..spec });
        }
    }
    Some(())
}

/// Reads a port's entry, its bridge aside.
fn port(
    who: Option<&ResourceId>,
    node: &Node<'_>,
    at: &At<'_>,
    faults: &mut Faults,
    decoded: &mut Decoded,
) -> Option<PortSpec> {
    let before = faults.count();
    let mut fields = Fields::open(node, at, faults)?;
    let spec = PortSpec {
        bridge: Name::default(),
        ensure: fields.read("ensure", Ensure::read).unwrap_or_default(),
        kind: fields.read("type", interface_type),
        tag: fields.want("tag", vlan),
        trunks: fields.read("trunks", |node, at, faults| set(node, at, faults, vlan)),
        vlan_mode: fields.want("vlan_mode", VlanMode::read),
        options: fields.read("options", string_map).unwrap_or_default(),
        mtu_request: fields.want("mtu_request", |node, at, faults| integer(node, MTU.0..=MTU.1, at, faults)),
        external_ids: fields.read("external_ids", string_map).unwrap_or_default(),
        other_config: fields.read("other_config", string_map).unwrap_or_default(),
        interfaces: fields.read("interfaces", interfaces),
        bond_mode: fields.want("bond_mode", BondMode::read),
        lacp: fields.want("lacp", Lacp::read),
        common: common(&mut fields, who, decoded),
    };
    fields.close();
    if let Some(who) = who
        && faults.count() == before
    {
        check::port(&who.name, &spec, at, faults);
    }
    Some(spec)
}

/// Reads the number of a VLAN.
fn vlan(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<u16> {
    integer(node, 0..=MAX_VLAN, at, faults)
}

/// Reads an interface's type. Open vSwitch tells by itself which of them it has.
fn interface_type(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<String> {
    let given = text(node, at, faults)?;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if !given.is_empty() && given.len() <= MAX_TYPE && given.bytes().all(allowed) {
        return Some(given.to_owned());
    }
    faults.add(at, code::OUT_OF_RANGE, || {
        format!(
            "{} is no type of interface: write \"system\" (a device of the system), \"internal\", \"patch\", ...",
            quoted(given)
        )
    });
    None
}

/// Reads a bond's interfaces.
fn interfaces(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<BTreeSet<String>> {
    if matches!(node, Node::Null) {
        wrong_type(node, Wanted::List, at, faults);
        return None;
    }
    let device = |node, at: &At<'_>, faults: &mut Faults| name(node, names::device, at, faults);
    let names = set(node, at, faults, device)?;
    if names.len() < MIN_BOND {
        faults.add(at, code::OUT_OF_RANGE, || {
            format!("a bond has at least {MIN_BOND} interfaces: for a single one declare the port by its own name")
        });
        return None;
    }
    Some(names.into_iter().map(str::to_owned).collect())
}
