//! What is observed, as a document that plans to nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::{is_enabled, port_health};
use crate::{
    desired::{
        ActiveState, BondMode, BridgeSpec, ContainerSpec, Document, Ensure, FailMode, Lacp, ObjectSpec, OptionalMap,
        PackageEnsure, PackageSpec, PortSpec, PropertySpec, UnitSpec, VlanMode, Want, can_say,
    },
    model::{
        BridgeFacts, ContainerFacts, GuestFacts, ObjectFacts, Observed, PortFacts, ResourceId, Runtime, StringMap,
        UnitFacts, holds_secret, is_secret_key,
    },
};

/// The document that says what is there: the units in `units`, all bridges, ports and containers, and the declared
/// `objects` of other services, as far as `plugins` are named (empty = all).
///
/// What a document cannot say, or must not (secrets, what is on its way from one state to another, ports that do not
/// work, fake bridges), is left out: it stays unmanaged.
#[must_use]
pub fn export(
    observed: &Observed,
    units: &BTreeSet<crate::model::Name>,
    objects: &BTreeMap<crate::model::Name, ObjectSpec>,
    plugins: &[String],
) -> Document {
    let wanted = |plugin: &str| plugins.is_empty() || plugins.iter().any(|name| name == plugin);
    let mut out = Document::default();
    if wanted("systemd") {
        for name in units {
            if let Some(spec) = observed.units.get(name).and_then(|facts| unit(facts)) {
                out.units.insert(name.clone(), spec);
            }
        }
    }
    if wanted("ovsdb") {
        let named = observed.bridges.iter().filter(|(name, _)| can_say(&ResourceId::bridge((*name).clone())));
        out.bridges = named.map(|(name, facts)| (name.clone(), bridge(facts))).collect();
        let shown = observed.ports.iter().filter(|(_, facts)| !facts.fake_bridge && port_health(facts).is_none());
        out.ports = shown
            .filter(|(name, facts)| is_shown_port(observed, name, facts))
            .filter(|(name, facts)| {
                out.bridges.contains_key(&facts.bridge) && can_say(&ResourceId::port((*name).clone()))
            })
            .map(|(name, facts)| (name.clone(), port(name, facts)))
            .collect();
    }
    if wanted("packagekit") {
        // What the mirror knows are the packages that the current document names.
        let steady = observed.packages.iter().filter(|(_, facts)| facts.halfway.is_empty());
        out.packages = steady
            .map(|(name, facts)| {
                let ensure = if facts.is_installed() { PackageEnsure::Installed } else { PackageEnsure::Removed };
                (name.clone(), PackageSpec { ensure: Some(ensure), ..PackageSpec::default() })
            })
            .collect();
    }
    if wanted("lxc") {
        let known = observed.containers.iter().filter(|(_, facts)| {
            let of_proxmox = facts.runtime == Runtime::Proxmox;
            of_proxmox || (!facts.unit.is_empty() && facts.rival_units.is_empty())
        });
        out.containers = known
            .filter(|(id, facts)| is_steady(&facts.active_state) && can_say(&ResourceId::container((*id).clone())))
            .map(|(id, facts)| (id.clone(), container(facts)))
            .collect();
    }
    if wanted("dbus") {
        let known = objects.iter().filter_map(|(name, spec)| Some((name, spec, observed.objects.get(name)?)));
        out.objects = known.filter_map(|(name, spec, facts)| Some((name.clone(), object(spec, facts)?))).collect();
    }
    out
}

/// A container's port is its container's to bring; the local port comes with its bridge and says nothing of its own.
fn is_shown_port(observed: &Observed, name: &crate::model::Name, facts: &PortFacts) -> bool {
    *name != facts.bridge && !observed.links.port_container.contains_key(name)
}

fn is_steady(active_state: &str) -> bool {
    matches!(active_state, "active" | "inactive" | "failed" | "")
}

fn unit(facts: &UnitFacts) -> Option<UnitSpec> {
    if matches!(facts.load_state.as_str(), "not-found" | "") {
        return None;
    }
    let masked = facts.unit_file_state == "masked";
    let enableable = matches!(facts.unit_file_state.as_str(), "enabled" | "disabled" | "static" | "linked");
    let active_state = match facts.active_state.as_str() {
        "active" => Some(ActiveState::Active),
        "inactive" | "failed" if !facts.oneshot_succeeded => Some(ActiveState::Inactive),
        _ => None,
    };
    Some(UnitSpec {
        enabled: enableable.then(|| is_enabled(facts)),
        masked: masked.then_some(true),
        active_state: active_state.filter(|state| !(masked && *state == ActiveState::Active)),
        ..UnitSpec::default()
    })
}

fn bridge(facts: &BridgeFacts) -> BridgeSpec {
    let fail_mode = match facts.fail_mode.as_str() {
        "standalone" => Want::Is(FailMode::Standalone),
        "secure" => Want::Is(FailMode::Secure),
        _ => Want::Unmanaged,
    };
    BridgeSpec {
        ensure: Ensure::Present,
        datapath_type: Some(named_type(&facts.datapath_type))
            .filter(|kind| matches!(kind.as_str(), "system" | "netdev")),
        fail_mode,
        stp_enable: Some(facts.stp_enable),
        rstp_enable: Some(facts.rstp_enable),
        mcast_snooping_enable: Some(facts.mcast_snooping_enable),
        controllers: (!facts.controllers.is_empty()).then(|| facts.controllers.clone()),
        external_ids: map(&facts.external_ids),
        other_config: map(&facts.other_config),
        ..BridgeSpec::default()
    }
}

/// What a document says of a port that is as this one.
pub(super) fn port(name: &str, facts: &PortFacts) -> PortSpec {
    let bond = facts.interfaces.len() > 1;
    let own = facts.interfaces.iter().find(|interface| interface.name == name).or(facts.interfaces.first());
    let known = |value: &str, all: &[&'static str]| all.iter().position(|word| *word == value);
    let vlan_modes =
        [VlanMode::Access, VlanMode::Dot1qTunnel, VlanMode::NativeTagged, VlanMode::NativeUntagged, VlanMode::Trunk];
    let bond_modes = [BondMode::ActiveBackup, BondMode::BalanceSlb, BondMode::BalanceTcp];
    let lacps = [Lacp::Active, Lacp::Passive, Lacp::Off];
    let vlan_mode = known(&facts.vlan_mode, &vlan_modes.map(VlanMode::as_str)).and_then(|at| vlan_modes.get(at));
    let bond_mode = known(&facts.bond_mode, &bond_modes.map(BondMode::as_str)).and_then(|at| bond_modes.get(at));
    let lacp = known(&facts.lacp, &lacps.map(Lacp::as_str)).and_then(|at| lacps.get(at));
    PortSpec {
        bridge: facts.bridge.clone(),
        kind: own.filter(|_| !bond).map(|interface| named_type(&interface.kind)),
        tag: facts.tag.map_or(Want::Unmanaged, Want::Is),
        trunks: (!facts.trunks.is_empty()).then(|| facts.trunks.clone()),
        vlan_mode: vlan_mode.copied().map_or(Want::Unmanaged, Want::Is),
        options: own.filter(|_| !bond).map(|interface| map(&interface.options)).unwrap_or_default(),
        mtu_request: own
            .filter(|_| !bond)
            .and_then(|interface| interface.mtu_request)
            .map_or(Want::Unmanaged, Want::Is),
        external_ids: map(&facts.external_ids),
        other_config: map(&facts.other_config),
        interfaces: bond.then(|| facts.interfaces.iter().map(|interface| interface.name.clone()).collect()),
        bond_mode: bond_mode.filter(|_| bond).copied().map_or(Want::Unmanaged, Want::Is),
        lacp: lacp.filter(|_| bond).copied().map_or(Want::Unmanaged, Want::Is),
        ..PortSpec::default()
    }
}

/// What Proxmox VE holds of a container, as far as a document can say it.
fn guest(facts: &GuestFacts) -> ContainerSpec {
    let plain = ContainerSpec {
        running: (!facts.is_template).then_some(facts.running),
        node: facts.is_remote.then(|| facts.node.clone()),
        template: facts.is_template,
        ..ContainerSpec::default()
    };
    let Some(settings) = facts.settings.as_ref().filter(|_| facts.away.is_empty()) else { return plain };
    ContainerSpec {
        onboot: Some(settings.onboot),
        hostname: (!settings.hostname.is_empty()).then(|| settings.hostname.clone()),
        cores: settings.cores.map_or(Want::Unmanaged, Want::Is),
        memory_mib: Some(settings.memory_mib),
        swap_mib: Some(settings.swap_mib),
        protection: settings.protection.then_some(true),
        tags: (!facts.tags.is_empty()).then(|| facts.tags.clone()),
        ..plain
    }
}

fn container(facts: &ContainerFacts) -> ContainerSpec {
    if let Some(facts) = facts.guest.as_ref().filter(|guest| guest.runtime == Runtime::Proxmox) {
        return guest(facts);
    }
    // A container on one bridge by one port can say so in the document's words; others say only whether they run.
    let one = |names: &BTreeSet<crate::model::Name>| names.iter().next().filter(|_| names.len() == 1).cloned();
    let place = one(&facts.ports).zip(one(&facts.bridges)).filter(|_| facts.running && facts.stale_ports.is_empty());
    ContainerSpec {
        veth: place.as_ref().map(|(veth, _)| veth.clone()),
        bridge: place.map(|(_, bridge)| bridge),
        running: Some(facts.running),
        ..ContainerSpec::default()
    }
}

/// A declared object as it is; without what cannot be read, and without secrets.
fn object(spec: &ObjectSpec, facts: &ObjectFacts) -> Option<ObjectSpec> {
    if facts.away.is_some() || !(facts.exists || spec.remove.is_some()) {
        return None;
    }
    let shown = |(name, property): (&String, &PropertySpec)| {
        let is = facts.properties.get(name).filter(|is| facts.exists && !holds_secret(name, &is.value))?;
        Some((name.clone(), PropertySpec { value: is.value.clone(), ..property.clone() }))
    };
    let ensure = if facts.exists { Ensure::Present } else { Ensure::Absent };
    Some(ObjectSpec {
        ensure: spec.ensure.map(|_| ensure),
        properties: spec.properties.iter().filter_map(shown).collect(),
        ..spec.clone()
    })
}

fn named_type(stored: &str) -> String {
    if stored.is_empty() { "system".to_owned() } else { stored.to_owned() }
}

/// Without secrets, and without the keys that are op-dbus's own.
fn map(observed: &StringMap) -> OptionalMap {
    let said = observed.iter().filter(|(key, _)| !is_secret_key(key) && !key.starts_with("opdbus-"));
    said.map(|(key, value)| (key.clone(), Some(value.clone()))).collect()
}
