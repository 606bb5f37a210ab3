//! Random documents that are valid, for property tests here and in the planner.
//!
//! Names come from small pools, so that entries meet: ports on bridges, containers with their units and ports, `after`
//! among all of them. What contradicts is then taken away, rather than thrown away with the whole document.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
    sample::{Index, select},
};
use serde_json::Value;

use crate::model::{DriftPolicy, Kind, Name, ResourceId};

use super::document::{
    ActiveState, BondMode, BridgeSpec, Common, ContainerSpec, Document, Ensure, FailMode, Lacp, OptionalMap, PortSpec,
    UnitSpec, VlanMode, Want,
};
use super::packages::{PackageEnsure, PackageSettings, PackageSpec, Refresh};

const BRIDGES: [&str; 4] = ["ovsbr0", "ovsbr1", "br-int", "brücke"];
const PORTS: [&str; 8] = ["veth100", "veth101", "uplink0", "bond0", "vlan10", "patch-int", "tap.1", "ovsbr0"];
const DEVICES: [&str; 6] = ["eno1", "eno2", "eno3", "eno4", "enp1s0f0", "uplink0"];
const CONTAINERS: [&str; 4] = ["100", "101", "102", "web-1.example"];
const PACKAGES: [&str; 5] = ["nginx", "telnet", "libc6", "libc6:i386", "libstdc++6"];
const UNITS: [&str; 8] = [
    "nginx.service",
    "pve-container@100.service",
    "pve-container@101.service",
    "lxc@102.service",
    "dev-disk-by\\x2dlabel-a.device",
    "backup.timer",
    "multi-user.target",
    "-.mount",
];

/// Any valid document.
pub(crate) fn document() -> impl Strategy<Value = Document> {
    let parts = (
        (drift(), any::<bool>(), any::<bool>()),
        btree_map(names(&UNITS), unit(), 0..6),
        btree_map(names(&BRIDGES), bridge(), 0..4),
        btree_map(names(&PORTS), (any::<Index>(), port()), 0..7),
        btree_map(names(&CONTAINERS), (any::<Index>(), container()), 0..5),
        (btree_map(names(&PACKAGES), package(), 0..4), package_settings()),
        vec((any::<Index>(), any::<Index>()), 0..8),
    );
    parts.prop_map(|((drift, prune, allow_empty), units, bridges, ports, containers, packages, waits)| {
        let (packages, package_settings) = packages;
        let mut document =
            Document { drift, prune, allow_empty, units, bridges, packages, package_settings, ..Document::default() };
        let bridges: Vec<Name> = document.bridges.keys().cloned().collect();
        if !bridges.is_empty() {
            for (name, (place, spec)) in ports {
                let spec = PortSpec { bridge: place.get(&bridges).clone(), ..spec };
                document.ports.insert(name, spec);
            }
        }
        for (id, (place, mut spec)) in containers {
            spec.bridge =
                spec.bridge.map(|bridge| if bridges.is_empty() { bridge } else { place.get(&bridges).clone() });
            document.containers.insert(id, spec);
        }
        reconcile_entries(&mut document);
        add_waits(&mut document, &waits);
        document
    })
}

fn names(pool: &'static [&'static str]) -> impl Strategy<Value = Name> {
    select(pool).prop_map(Name::from)
}

/// Any text that a value may be.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,6}", "[^\0]{0,6}"]
}

fn string_map() -> impl Strategy<Value = OptionalMap> {
    btree_map(text(), option::of(text()), 0..3)
}

fn want<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Want<T>> {
    prop_oneof![2 => Just(Want::Unmanaged), 1 => Just(Want::Unset), 2 => value.prop_map(Want::Is)]
}

fn drift() -> impl Strategy<Value = DriftPolicy> {
    select(&[DriftPolicy::Report, DriftPolicy::Enforce][..])
}

fn common() -> impl Strategy<Value = Common> {
    option::of(drift()).prop_map(|drift| Common { after: BTreeSet::new(), drift })
}

fn ensure() -> impl Strategy<Value = Ensure> {
    prop_oneof![4 => Just(Ensure::Present), 1 => Just(Ensure::Absent)]
}

fn unit() -> impl Strategy<Value = UnitSpec> {
    let property = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
        vec(text(), 0..3).prop_map(Value::from),
    ];
    let fields = (
        option::of(any::<bool>()),
        option::weighted(0.3, any::<bool>()),
        option::of(select(&[ActiveState::Active, ActiveState::Inactive][..])),
        btree_map("[A-Z][A-Za-z0-9]{0,9}", property, 0..3),
        any::<bool>(),
        common(),
    );
    fields.prop_map(|(enabled, masked, active_state, properties, allow_protected, common)| {
        let masked =
            masked.filter(|masked| !(*masked && (enabled == Some(true) || active_state == Some(ActiveState::Active))));
        UnitSpec { enabled, masked, active_state, properties, allow_protected, common }
    })
}

fn bridge() -> impl Strategy<Value = BridgeSpec> {
    let words = (
        ensure(),
        option::of(select(&["system", "netdev"][..])),
        want(select(&[FailMode::Standalone, FailMode::Secure][..])),
    );
    let switches = (any::<bool>(), option::of(any::<bool>()), option::of(any::<bool>()), option::of(any::<bool>()));
    let sets = (option::of(btree_set("tcp:192\\.0\\.2\\.[1-9]:6653", 0..3)), string_map(), string_map());
    (words, switches, sets, common()).prop_map(|(words, switches, sets, common)| BridgeSpec {
        ensure: words.0,
        exclusive: switches.0,
        datapath_type: words.1.map(str::to_owned),
        fail_mode: words.2,
        stp_enable: switches.1,
        rstp_enable: switches.2,
        mcast_snooping_enable: switches.3,
        controllers: sets.0,
        external_ids: sets.1,
        other_config: sets.2,
        common,
    })
}

/// A port, plain or a bond, whose bridge is still to be chosen.
fn port() -> impl Strategy<Value = PortSpec> {
    let modes =
        [VlanMode::Access, VlanMode::Dot1qTunnel, VlanMode::NativeTagged, VlanMode::NativeUntagged, VlanMode::Trunk];
    let vlans = (want(0..=4095_u16), option::of(btree_set(0..=4095_u16, 0..4)), want(select(modes.to_vec())));
    let lacps = [Lacp::Active, Lacp::Passive, Lacp::Off];
    let rows = (want(68..=65535_u32), string_map(), string_map(), want(select(lacps.to_vec())));
    let plain = (option::of(select(&["system", "internal", "patch", "vxlan"][..])), string_map())
        .prop_map(|(kind, options)| PortSpec { kind: kind.map(str::to_owned), options, ..PortSpec::default() });
    let modes = [BondMode::ActiveBackup, BondMode::BalanceSlb, BondMode::BalanceTcp];
    let bond = (btree_set(select(&DEVICES[..]).prop_map(str::to_owned), 2..4), want(select(modes.to_vec()))).prop_map(
        |(interfaces, bond_mode)| PortSpec { interfaces: Some(interfaces), bond_mode, ..PortSpec::default() },
    );
    (ensure(), prop_oneof![2 => plain, 1 => bond], vlans, rows, common()).prop_map(
        |(ensure, spec, vlans, rows, common)| PortSpec {
            ensure,
            tag: vlans.0,
            trunks: vlans.1,
            vlan_mode: vlans.2,
            mtu_request: rows.0,
            external_ids: rows.1,
            other_config: rows.2,
            lacp: rows.3,
            common,
            ..spec
        },
    )
}

/// A container, whose bridge is still to be chosen among those of the document.
fn container() -> impl Strategy<Value = ContainerSpec> {
    let veth = option::of(names(&["veth100", "veth101", "vethweb"]));
    (veth, option::of(names(&BRIDGES)), option::of(any::<bool>()), any::<bool>(), common()).prop_map(
        |(veth, bridge, running, allow_protected, common)| {
            let bridge = bridge.filter(|_| veth.is_some());
            ContainerSpec { veth, bridge, running, allow_protected, common }
        },
    )
}

fn package_settings() -> impl Strategy<Value = PackageSettings> {
    let refresh =
        prop_oneof![Just(Refresh::Never), Just(Refresh::BeforeApply), (1..9999_u32).prop_map(Refresh::OlderThan)];
    (refresh, any::<bool>()).prop_map(|(refresh, allow_untrusted)| PackageSettings { refresh, allow_untrusted })
}

fn package() -> impl Strategy<Value = PackageSpec> {
    let ensures = [PackageEnsure::Installed, PackageEnsure::Removed, PackageEnsure::Latest];
    let version = option::of(select(&["1.0", "2.*", "1:0.9~rc1-1"][..]));
    let fields = (option::of(select(ensures.to_vec())), version, any::<bool>(), any::<bool>(), common());
    fields.prop_map(|(ensure, version, downgrade, others, common)| {
        let version = version.filter(|_| ensure == Some(PackageEnsure::Installed)).map(str::to_owned);
        let allow_downgrade = downgrade && version.is_some();
        let allow_remove_others = others && ensure.is_some();
        PackageSpec { ensure, version, allow_downgrade, allow_remove_others, arch: None, common }
    })
}

/// Takes away what contradicts another entry.
fn reconcile_entries(document: &mut Document) {
    let bridges = &document.bridges;
    let absent = |bridge: &Name| bridges.get(bridge).is_some_and(|spec| spec.ensure == Ensure::Absent);
    // Ports against bridges, and interfaces against one another.
    let mut interfaces: BTreeSet<String> = bridges.keys().map(ToString::to_string).collect();
    document.ports.retain(|name, spec| {
        let local = *name == spec.bridge;
        if local {
            spec.kind = None;
            spec.interfaces = None;
            spec.bond_mode = Want::Unmanaged;
            return spec.ensure == Ensure::Present && !absent(&spec.bridge);
        }
        if spec.ensure == Ensure::Absent {
            return !bridges.contains_key(name);
        }
        let mut mine = spec.interfaces.clone().unwrap_or_else(|| [name.to_string()].into());
        let free = mine.is_disjoint(&interfaces) && !bridges.contains_key(name) && !absent(&spec.bridge);
        if free {
            interfaces.append(&mut mine);
        }
        free
    });
    // Containers against ports, bridges, units and one another.
    let mut veths = BTreeSet::new();
    for (id, spec) in &mut document.containers {
        if spec.veth.as_ref().is_some_and(|veth| !veths.insert(veth.clone())) {
            spec.veth = None;
            spec.bridge = None;
        }
        let port = spec.veth.as_ref().and_then(|veth| document.ports.get(veth));
        let elsewhere =
            port.is_some_and(|port| Some(&port.bridge) != spec.bridge.as_ref() || port.ensure == Ensure::Absent);
        let bonded = spec.veth.as_ref().is_some_and(|veth| port.is_none() && interfaces.contains(veth.as_ref()));
        let bonded = bonded || port.is_some_and(|port| port.interfaces.is_some());
        if elsewhere || bonded || spec.bridge.as_ref().is_some_and(absent) {
            spec.bridge = None;
        }
        let unit = [format!("pve-container@{id}.service"), format!("lxc@{id}.service")];
        let unit = unit.iter().find_map(|name| document.units.get(name.as_str()));
        if let Some(unit) = unit {
            spec.running = match (unit.masked, unit.active_state) {
                (Some(true), _) | (_, Some(ActiveState::Inactive)) => Some(false),
                (_, Some(ActiveState::Active)) => Some(true),
                (_, None) => spec.running,
            };
        }
    }
}

/// Adds an `after` for each pair, from the later to the earlier in an order that holds for every document:
/// packages, plain units, bridges, containers, ports.
fn add_waits(document: &mut Document, pairs: &[(Index, Index)]) {
    let mut ids: Vec<ResourceId> =
        document.resources().filter(|id| id.kind != Kind::Unit || !id.name.contains('@')).collect();
    ids.sort_by_key(|id| match id.kind {
        Kind::Package => 0,
        Kind::Unit => 1,
        Kind::Bridge => 2,
        Kind::Container => 3,
        Kind::Port => 4,
    });
    if ids.is_empty() {
        return;
    }
    for (first, second) in pairs {
        let (first, second) = (first.index(ids.len()), second.index(ids.len()));
        let (what, who) = (&ids[first.min(second)], &ids[first.max(second)]);
        if what != who
            && let Some(common) = common_mut(document, who)
        {
            common.after.insert(what.clone());
        }
    }
}

fn common_mut<'d>(document: &'d mut Document, id: &ResourceId) -> Option<&'d mut Common> {
    fn of<'m, T>(map: &'m mut BTreeMap<Name, T>, id: &ResourceId) -> Option<&'m mut T> {
        map.get_mut(&id.name)
    }
    match id.kind {
        Kind::Package => of(&mut document.packages, id).map(|spec| &mut spec.common),
        Kind::Unit => of(&mut document.units, id).map(|spec| &mut spec.common),
        Kind::Bridge => of(&mut document.bridges, id).map(|spec| &mut spec.common),
        Kind::Port => of(&mut document.ports, id).map(|spec| &mut spec.common),
        Kind::Container => of(&mut document.containers, id).map(|spec| &mut spec.common),
    }
}
