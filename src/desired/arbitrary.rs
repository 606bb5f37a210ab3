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

use super::object::{Call, Lookup, Match, ObjectBus, ObjectPlace, ObjectSpec, Origins, PropertySpec, Source, WaitFor};

use super::container::{ContainerSource, ContainerSpec, Decimal, Features, MountSpec, NetworkSpec, Startup};
use super::document::{
    ActiveState, BondMode, BridgeSpec, Common, Document, Ensure, FailMode, Lacp, OptionalMap, PortSpec, UnitSpec,
    VlanMode, Want,
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

const OBJECTS: [&str; 3] = ["time-zone", "a.b:c@d", "x"];

/// Any valid document.
pub(crate) fn document() -> impl Strategy<Value = Document> {
    let parts = (
        (drift(), any::<bool>(), any::<bool>()),
        btree_map(names(&UNITS), unit(), 0..6),
        btree_map(names(&BRIDGES), bridge(), 0..4),
        btree_map(names(&PORTS), (any::<Index>(), port()), 0..7),
        btree_map(names(&CONTAINERS), (any::<Index>(), container()), 0..5),
        (btree_map(names(&PACKAGES), package(), 0..4), package_settings()),
        btree_map(names(&OBJECTS), object(), 0..4),
        vec((any::<Index>(), any::<Index>()), 0..8),
    );
    parts.prop_map(|((drift, prune, allow_empty), units, bridges, ports, containers, packages, objects, waits)| {
        let (packages, package_settings) = packages;
        let mut document = Document {
            drift,
            prune,
            allow_empty,
            units,
            bridges,
            packages,
            package_settings,
            objects,
            ..Document::default()
        };
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
        // Two names for one property would fight.
        let mut seen = BTreeSet::new();
        for spec in document.objects.values_mut().filter(|spec| matches!(spec.path, ObjectPlace::Path(_))) {
            let place = (spec.bus, spec.service.clone());
            spec.properties.retain(|name, _| seen.insert((place.clone(), name.clone())));
        }
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

fn unit() -> BoxedStrategy<UnitSpec> {
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
    fields
        .prop_map(|(enabled, masked, active_state, properties, allow_protected, common)| {
            let masked = masked
                .filter(|masked| !(*masked && (enabled == Some(true) || active_state == Some(ActiveState::Active))));
            UnitSpec { enabled, masked, active_state, properties, allow_protected, common }
        })
        .boxed()
}

fn bridge() -> BoxedStrategy<BridgeSpec> {
    let words = (
        ensure(),
        option::of(select(&["system", "netdev"][..])),
        want(select(&[FailMode::Standalone, FailMode::Secure][..])),
    );
    let switches = (any::<bool>(), option::of(any::<bool>()), option::of(any::<bool>()), option::of(any::<bool>()));
    let sets = (option::of(btree_set("tcp:192\\.0\\.2\\.[1-9]:6653", 0..3)), string_map(), string_map());
    (words, switches, sets, common())
        .prop_map(|(words, switches, sets, common)| BridgeSpec {
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
        .boxed()
}

/// A port, plain or a bond, whose bridge is still to be chosen.
fn port() -> BoxedStrategy<PortSpec> {
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
    (ensure(), prop_oneof![2 => plain, 1 => bond], vlans, rows, common())
        .prop_map(|(ensure, spec, vlans, rows, common)| PortSpec {
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
        })
        .boxed()
}

/// Any value of a property.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::from(0.5)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let keys = prop_oneof![Just("value".to_owned()), Just("type".to_owned()), text()];
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(keys, inner, 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn call(method: &'static [&'static str], args: &'static [&'static str]) -> impl Strategy<Value = Call> {
    let place = prop_oneof![
        Just(None),
        Just(Some(ObjectPlace::Path("/a/b".to_owned()))),
        Just(Some(ObjectPlace::Lookup("one".to_owned())))
    ];
    let arg = prop_oneof![select(args).prop_map(Value::from), any::<u64>().prop_map(Value::from)];
    let waits = select(&[WaitFor::Property, WaitFor::Signal, WaitFor::Job][..]);
    (place, option::of(Just("a.b.C".to_owned())), select(method), vec(arg, 0..3), waits).prop_map(
        |(path, interface, method, args, wait_for)| Call { path, interface, method: method.to_owned(), args, wait_for },
    )
}

fn lookup() -> impl Strategy<Value = Lookup> {
    let source = prop_oneof![
        Just(Source::Property("All".to_owned())),
        vec(value().prop_filter("refers to nothing", |value| !value.to_string().contains('$')), 0..2)
            .prop_map(|args| Source::Method { method: "GetOne".to_owned(), args }),
    ];
    let matching = option::of(value())
        .prop_map(|value| Some(Match { interface: "a.b".to_owned(), property: "Id".to_owned(), value: value? }));
    (source, matching).prop_map(|(source, matching)| Lookup {
        path: "/".to_owned(),
        interface: "a.b".to_owned(),
        source,
        matching,
    })
}

/// An object of another service, with a look-up `one` that its calls may name.
fn object() -> impl Strategy<Value = ObjectSpec> {
    let sets = call(&["Set", "SetIt"], &["$value", "$property:B", "$object", "$lookup:one", "$$x", "y"]);
    let property = (value(), option::of(sets), vec(value(), 0..3)).prop_map(|(value, set, passing)| PropertySpec {
        value,
        set,
        passing,
    });
    let properties = btree_map("[A-Z][a-z-]{0,3}", property, 0..3);
    let makes = || option::of(call(&["Make", "Remove"], &["$object", "$property:A", "x"]));
    let place = prop_oneof![Just(ObjectPlace::Path("/a".to_owned())), Just(ObjectPlace::Lookup("one".to_owned()))];
    let buses = option::of(select(&[ObjectBus::System, ObjectBus::Session][..]));
    let head = (buses, select(&["a.b", "org.example-x.y1"][..]), place, any::<bool>(), lookup(), any::<bool>());
    let calls = (option::of(call(&["queryIt", "IsThere"], &["$object", "x"])), makes(), makes(), option::of(ensure()));
    (head, calls, properties, common()).prop_map(|(head, (exists, create, remove, ensure), properties, common)| {
        let ensure = ensure.or(create.as_ref().map(|_| Ensure::Present));
        let ensure = ensure.filter(|ensure| *ensure == Ensure::Present || remove.is_some());
        let create = create.filter(|_| ensure.is_some());
        ObjectSpec {
            bus: head.0,
            service: head.1.to_owned(),
            path: head.2,
            interface: "a.b".to_owned(),
            activate: head.3,
            lookups: [("one".to_owned(), head.4)].into(),
            ensure,
            exists,
            create,
            remove,
            properties: if ensure == Some(Ensure::Absent) { BTreeMap::new() } else { properties },
            allow_protected: head.5,
            common,
            origins: Origins::default(),
        }
    })
}

/// A container, whose bridge is still to be chosen among those of the document.
fn container() -> BoxedStrategy<ContainerSpec> {
    let veth = option::of(names(&["veth100", "veth101", "vethweb"]));
    let plain = (veth, option::of(names(&BRIDGES)), option::of(any::<bool>()), any::<bool>(), common());
    (plain, option::of(settings()))
        .prop_map(|((veth, bridge, running, allow_protected, common), settings)| {
            let bridge = bridge.filter(|_| veth.is_some());
            let mut spec = ContainerSpec { running, allow_protected, common, ..settings.unwrap_or_default() };
            if spec.networks.is_none() {
                spec.veth = veth;
                spec.bridge = bridge;
            }
            spec
        })
        .boxed()
}

/// What a runtime with an API can be told of a container, whatever else its entry says.
pub(crate) fn settings() -> BoxedStrategy<ContainerSpec> {
    let decimal = || (1..=8_192_000_u32).prop_map(|thousandths| Decimal { thousandths });
    let numbers = (
        want(1..=8192_u32),
        want(decimal()),
        option::of(16..=1_000_000_u64),
        option::of(0..=1_000_000_u64),
        want((option::of(0..99_u32), option::of(0..99_u32), 0..99_u32).prop_map(|(order, up, down)| Startup {
            order,
            up,
            down: Some(down),
        })),
    );
    let words = (
        option::of("[a-z]([a-z0-9-]{0,5}[a-z0-9])?"),
        want("(10\\.0\\.0\\.[1-9]|2001:db8::[1-9])( 10\\.0\\.1\\.[1-9])?"),
        want("[a-z]{1,5}\\.lan"),
        want("([^\0]{0,9}[^\0\n])?"),
        option::of(btree_set("[a-z0-9_][a-z0-9_+.-]{0,4}", 0..3)),
        option::of("[a-z]{1,5}"),
    );
    let switches =
        (any::<bool>(), option::of(any::<bool>()), option::of(any::<bool>()), option::of("pve[12]"), features());
    let parts = (
        option::of(btree_map("eth[0-9]", network(), 0..3)),
        btree_map("/[a-z]{1,5}", mount(), 0..3),
        option::weighted(0.7, source()),
    );
    (numbers, words, switches, parts)
        .prop_map(|(numbers, words, switches, parts)| ContainerSpec {
            cores: numbers.0,
            cpulimit: numbers.1,
            memory_mib: numbers.2,
            swap_mib: numbers.3,
            startup: numbers.4,
            hostname: words.0,
            nameserver: words.1,
            searchdomain: words.2,
            description: words.3,
            tags: words.4,
            pool: words.5,
            restart: switches.0,
            onboot: switches.1,
            protection: switches.2,
            node: switches.3,
            features: switches.4,
            networks: parts.0,
            mounts: parts.1,
            from: parts.2,
            ..ContainerSpec::default()
        })
        .boxed()
}

fn features() -> BoxedStrategy<Features> {
    let flag = || option::weighted(0.3, any::<bool>());
    let mount = option::weighted(0.3, btree_set(select(&["nfs", "cifs"][..]).prop_map(str::to_owned), 0..3));
    (flag(), flag(), flag(), flag(), mount)
        .prop_map(|(nesting, keyctl, fuse, mknod, mount)| Features { nesting, keyctl, fuse, mknod, mount })
        .boxed()
}

fn network() -> BoxedStrategy<NetworkSpec> {
    let vlans = (want(1..=4094_u16), option::of(btree_set(1..=4094_u16, 0..4)), want(64..=65535_u32));
    // Addresses by chance of their own: no two networks of a document may have one.
    let address = || {
        (1..=u32::MAX >> 8).prop_map(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            format!("10.{a}.{b}.{c}/8")
        })
    };
    let address6 = any::<u64>()
        .prop_map(|number| format!("{}/64", std::net::Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(number))));
    let words = (
        want(prop_oneof![Just("dhcp".to_owned()), Just("manual".to_owned()), address()]),
        want("10\\.0\\.0\\.[1-9]"),
        want(prop_oneof![Just("auto".to_owned()), Just("dhcp".to_owned()), address6]),
        want("fd00::[1-9]"),
        option::of(any::<[u8; 4]>().prop_map(|[a, b, c, d]| format!("BC:24:{a:02X}:{b:02X}:{c:02X}:{d:02X}"))),
    );
    let flags = (
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        want((1..=10_000_u32).prop_map(|thousandths| Decimal { thousandths })),
    );
    (option::of(names(&["ovsbr0", "vmbr0"])), vlans, words, flags)
        .prop_map(|(bridge, vlans, words, flags)| NetworkSpec {
            bridge,
            tag: vlans.0,
            trunks: vlans.1,
            mtu: vlans.2,
            ip: words.0,
            gw: words.1,
            ip6: words.2,
            gw6: words.3,
            hwaddr: words.4,
            firewall: flags.0,
            link_down: flags.1,
            rate: flags.2,
        })
        .boxed()
}

fn mount() -> BoxedStrategy<MountSpec> {
    let volume = (1..=1000_u64).prop_map(|size| (Some("local-lvm".to_owned()), Some(size), None));
    let folder = "/srv/[a-z]{1,5}".prop_map(|source| (None, None, Some(source)));
    (prop_oneof![volume, folder], option::of(any::<bool>()), option::of(any::<bool>()))
        .prop_map(|((storage, size_gib, source), read_only, backup)| MountSpec {
            storage,
            size_gib,
            source,
            read_only,
            backup,
        })
        .boxed()
}

fn source() -> BoxedStrategy<ContainerSource> {
    let root = (option::of(Just("local-lvm".to_owned())), option::of(1..=1000_u64), option::of(any::<bool>()));
    let made = (btree_set("ssh-ed25519 [A-Za-z0-9+/]{8} [a-z]{1,5}", 0..3), option::of("[a-z.]{0,5}[a-z]"));
    let template =
        (root.clone(), made).prop_map(|((storage, size_gib, unprivileged), (keys, password))| ContainerSource {
            template: Some("local:vztmpl/debian-12.tar.zst".to_owned()),
            storage,
            size_gib,
            unprivileged,
            ssh_public_keys: keys,
            password_credential: password,
            ..ContainerSource::default()
        });
    let clone = root.prop_map(|(storage, size_gib, unprivileged)| ContainerSource {
        clone: Some("900".into()),
        full: Some(true),
        storage,
        size_gib,
        unprivileged,
        ..ContainerSource::default()
    });
    prop_oneof![3 => template, 1 => clone].boxed()
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
    let mut macs = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for (id, spec) in &mut document.containers {
        if spec.veth.as_ref().is_some_and(|veth| !veths.insert(veth.clone())) {
            spec.veth = None;
            spec.bridge = None;
        }
        for network in spec.networks.iter_mut().flat_map(BTreeMap::values_mut) {
            network.bridge = network.bridge.take().filter(|bridge| !absent(bridge));
            network.hwaddr = network.hwaddr.take().filter(|mac| macs.insert(mac.clone()));
            for address in [&mut network.ip, &mut network.ip6] {
                if let Want::Is(text) = address
                    && let Some((text, _)) = text.split_once('/')
                    && !addresses.insert(text.to_owned())
                {
                    *address = Want::Unmanaged;
                }
            }
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
        Kind::Object => 5,
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
        Kind::Object => of(&mut document.objects, id).map(|spec| &mut spec.common),
    }
}
