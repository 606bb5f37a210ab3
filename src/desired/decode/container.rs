//! A container's entry, and a template's.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    desired::{
        check,
        container::{
            ContainerSource, ContainerSpec, Decimal, Features, MountSpec, NetworkSpec, Startup, TemplateSource,
            TemplateSpec,
        },
        document::Ensure,
        fault::code,
        names,
        node::Node,
        place::{At, Faults, quoted},
        spelling::{self, Spelling},
    },
    model::{Name, ResourceId},
};

use super::{
    Decoded, common,
    fields::Fields,
    value::{Wanted, Word, boolean, integer, name, set, text, wrong_type},
};

/// Processors: Proxmox VE's own bound.
pub(in crate::desired) const CORES: (u64, u64) = (1, 8192);

/// Memory, MiB: what Proxmox VE gives at least, and more than any machine has (1 EiB).
pub(in crate::desired) const MEMORY_MIB: (u64, u64) = (16, 1 << 40);

/// Size of a volume, GiB: up to 1 EiB.
pub(in crate::desired) const SIZE_GIB: (u64, u64) = (1, 1 << 30);

/// VLANs that a container's network can be in (IEEE 802.1Q).
pub(in crate::desired) const VLAN: (u64, u64) = (1, 4094);

/// MTU of a container's network (Proxmox VE's `netN`).
pub(in crate::desired) const MTU: (u64, u64) = (64, 65535);

/// Order and seconds of `startup`.
pub(in crate::desired) const STARTUP: (u64, u64) = (0, i32::MAX as u64);

/// Networks, and mounts, that a container can have: Proxmox VE's `net31`, `mp255`.
pub(in crate::desired) const MAX_NETWORKS: usize = 32;

/// Largest number with a fraction: `cpulimit` of all processors.
pub(in crate::desired) const MAX_DECIMAL: u32 = 8192;

/// Reads an entry, its id aside.
pub(super) fn container(
    fields: &mut Fields<'_, '_, '_>,
    who: Option<&ResourceId>,
    decoded: &mut Decoded,
) -> ContainerSpec {
    let device = |node, at: &At<'_>, faults: &mut Faults| name(node, names::device, at, faults).map(Name::from);
    let number = |range: (u64, u64)| {
        move |node: &Node<'_>, at: &At<'_>, faults: &mut Faults| integer(node, range.0..=range.1, at, faults)
    };
    ContainerSpec {
        ensure: fields.read("ensure", Ensure::read).unwrap_or_default(),
        purge: fields.read("purge", boolean).unwrap_or_default(),
        from: fields.read("from", source),
        veth: fields.read("veth", device),
        bridge: fields.read("bridge", device),
        running: fields.read("running", boolean),
        restart: fields.read("restart", boolean).unwrap_or_default(),
        onboot: fields.read("onboot", boolean),
        hostname: fields.read("hostname", |node, at, faults| spelt(node, &spelling::HOSTNAME, at, faults)),
        cores: fields.want("cores", |node, at, faults| integer(node, CORES.0..=CORES.1, at, faults)),
        cpulimit: fields.want("cpulimit", decimal),
        memory_mib: fields.read("memory_mib", number(MEMORY_MIB)),
        swap_mib: fields.read("swap_mib", number((0, MEMORY_MIB.1))),
        networks: fields
            .read("networks", |node, at, faults| keyed(node, at, faults, "name", &spelling::DEVICE_INSIDE, network)),
        mounts: fields
            .read("mounts", |node, at, faults| keyed(node, at, faults, "path", &spelling::FOLDER, mount))
            .unwrap_or_default(),
        features: fields.read("features", features).unwrap_or_default(),
        startup: fields.want("startup", startup),
        protection: fields.read("protection", boolean),
        nameserver: fields.want("nameserver", servers),
        searchdomain: fields.want("searchdomain", |node, at, faults| spelt(node, &spelling::DOMAINS, at, faults)),
        tags: fields.read("tags", |node, at, faults| {
            set(node, at, faults, |node, at, faults| spelt(node, &spelling::TAG, at, faults))
        }),
        description: fields.want("description", |node, at, faults| {
            // Runtimes keep lines, and know of no line break after the last.
            spelt(node, &spelling::TEXT, at, faults).map(|text| text.trim_end_matches('\n').to_owned())
        }),
        pool: fields.read("pool", |node, at, faults| spelt(node, &spelling::POOL, at, faults)),
        node: fields.read("node", |node, at, faults| spelt(node, &spelling::NODE, at, faults)),
        template: fields.read("template", boolean).unwrap_or_default(),
        allow_protected: fields.read("allow_protected", boolean).unwrap_or_default(),
        common: common(fields, who, decoded),
    }
}

/// Reads a text of that spelling.
fn spelt(node: &Node<'_>, spelling: &Spelling, at: &At<'_>, faults: &mut Faults) -> Option<String> {
    let given = text(node, at, faults)?;
    if spelling.takes(given) {
        return Some(given.to_owned());
    }
    faults.add(at, code::OUT_OF_RANGE, || format!("{} is not {}", quoted(given), spelling.is));
    None
}

/// Reads a list whose elements are told apart by one of their fields.
fn keyed<T: Default>(
    node: &Node<'_>,
    at: &At<'_>,
    faults: &mut Faults,
    key: &'static str,
    spelling: &Spelling,
    read: impl Fn(&mut Fields<'_, '_, '_>) -> T,
) -> Option<BTreeMap<String, T>> {
    let Node::List(items) = node else {
        wrong_type(node, Wanted::List, at, faults);
        return None;
    };
    if items.len() > MAX_NETWORKS {
        faults.add(at, code::OUT_OF_RANGE, || format!("has more than {MAX_NETWORKS} elements"));
    }
    let mut all = BTreeMap::new();
    for (index, node) in items.iter().enumerate() {
        let at = at.index(index);
        let Some(mut fields) = Fields::open(node, &at, faults) else { continue };
        let id = fields.must(key, |node, at, faults| spelt(node, spelling, at, faults));
        let value = read(&mut fields);
        fields.close();
        if let Some(id) = id
            && all.insert(id, value).is_some()
        {
            faults.add(&at.key(key), code::CONTRADICTION, || "stands twice in this list: keep one".to_owned());
        }
    }
    Some(all)
}

/// Reads `from`.
fn source(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<ContainerSource> {
    let mut fields = Fields::open(node, at, faults)?;
    let line = |node: &Node<'_>, at: &At<'_>, faults: &mut Faults| spelt(node, &spelling::LINE, at, faults);
    let from = ContainerSource {
        template: fields.read("template", |node, at, faults| spelt(node, &spelling::VOLUME, at, faults)),
        clone: fields.read("clone", |node, at, faults| name(node, names::container, at, faults)).map(Name::from),
        full: fields.read("full", boolean),
        storage: fields.read("storage", |node, at, faults| spelt(node, &spelling::STORAGE, at, faults)),
        size_gib: fields.read("size_gib", |node, at, faults| integer(node, SIZE_GIB.0..=SIZE_GIB.1, at, faults)),
        unprivileged: fields.read("unprivileged", boolean),
        ssh_public_keys: fields
            .read("ssh_public_keys", |node, at, faults| set(node, at, faults, line))
            .unwrap_or_default(),
        password_credential: fields
            .read("password_credential", |node, at, faults| spelt(node, &spelling::CREDENTIAL, at, faults)),
    };
    let both = fields.has("template") && fields.has("clone");
    let neither = !fields.has("template") && !fields.has("clone");
    fields.close();
    if both {
        faults.add(at, code::OUT_OF_RANGE, || {
            "a container is made from a template, or is the clone of another: take template or clone away".to_owned()
        });
    } else if neither {
        faults.add(at, code::MISSING_FIELD, || {
            "says neither template nor clone: name what the container is made from".to_owned()
        });
    }
    Some(from)
}

/// Reads an element of `networks`, its name aside.
fn network(fields: &mut Fields<'_, '_, '_>) -> NetworkSpec {
    let vlan = |node: &Node<'_>, at: &At<'_>, faults: &mut Faults| integer(node, VLAN.0..=VLAN.1, at, faults);
    NetworkSpec {
        bridge: fields.read("bridge", |node, at, faults| name(node, names::device, at, faults)).map(Name::from),
        tag: fields.want("tag", vlan),
        trunks: fields.read("trunks", |node, at, faults| set(node, at, faults, vlan)),
        hwaddr: fields
            .read("hwaddr", |node, at, faults| spelt(node, &spelling::MAC, at, faults))
            .map(|mac| mac.to_ascii_uppercase()),
        ip: fields.want("ip", |node, at, faults| spelt(node, &spelling::IPV4, at, faults)),
        gw: fields.want("gw", |node, at, faults| spelt(node, &spelling::IPV4_GATEWAY, at, faults)),
        ip6: fields.want("ip6", |node, at, faults| ipv6(node, &spelling::IPV6, at, faults)),
        gw6: fields.want("gw6", |node, at, faults| ipv6(node, &spelling::IPV6_GATEWAY, at, faults)),
        firewall: fields.read("firewall", boolean),
        mtu: fields.want("mtu", |node, at, faults| integer(node, MTU.0..=MTU.1, at, faults)),
        rate: fields.want("rate", decimal),
        link_down: fields.read("link_down", boolean),
    }
}

/// Reads an IPv6 address, with its prefix where the spelling has one. The pattern takes more than there are.
fn ipv6(node: &Node<'_>, spelling: &Spelling, at: &At<'_>, faults: &mut Faults) -> Option<String> {
    let given = spelt(node, spelling, at, faults)?;
    let good = match given.split_once('/') {
        Some((address, _)) => address.parse::<Ipv6Addr>().is_ok(),
        None => given.parse::<Ipv6Addr>().is_ok() || matches!(given.as_str(), "auto" | "dhcp" | "manual"),
    };
    if good {
        return Some(given);
    }
    faults.add(at, code::OUT_OF_RANGE, || format!("{} is not {}", quoted(&given), spelling.is));
    None
}

/// Reads the addresses of servers. The pattern takes more than there are.
fn servers(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<String> {
    let given = spelt(node, &spelling::SERVERS, at, faults)?;
    if let Some(wrong) = given.split(' ').find(|address| address.parse::<IpAddr>().is_err()) {
        faults.add(at, code::OUT_OF_RANGE, || format!("{} is no IP address", quoted(wrong)));
        return None;
    }
    Some(given)
}

/// Reads an element of `mounts`, its path aside.
fn mount(fields: &mut Fields<'_, '_, '_>) -> MountSpec {
    MountSpec {
        storage: fields.read("storage", |node, at, faults| spelt(node, &spelling::STORAGE, at, faults)),
        size_gib: fields.read("size_gib", |node, at, faults| integer(node, SIZE_GIB.0..=SIZE_GIB.1, at, faults)),
        source: fields.read("source", |node, at, faults| spelt(node, &spelling::FOLDER, at, faults)),
        read_only: fields.read("read_only", boolean),
        backup: fields.read("backup", boolean),
    }
}

/// Reads `features`.
fn features(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Features> {
    let mut fields = Fields::open(node, at, faults)?;
    let kind = |node: &Node<'_>, at: &At<'_>, faults: &mut Faults| spelt(node, &spelling::FILE_SYSTEM, at, faults);
    let features = Features {
        nesting: fields.read("nesting", boolean),
        keyctl: fields.read("keyctl", boolean),
        fuse: fields.read("fuse", boolean),
        mknod: fields.read("mknod", boolean),
        mount: fields.read("mount", |node, at, faults| set(node, at, faults, kind)),
    };
    fields.close();
    Some(features)
}

/// Reads `startup`.
fn startup(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Startup> {
    let mut fields = Fields::open(node, at, faults)?;
    let number = |node: &Node<'_>, at: &At<'_>, faults: &mut Faults| integer(node, STARTUP.0..=STARTUP.1, at, faults);
    let startup = Startup {
        order: fields.read("order", number),
        up: fields.read("up", number),
        down: fields.read("down", number),
    };
    let empty = !["order", "up", "down"].iter().any(|field| fields.has(field));
    fields.close();
    if empty {
        faults.add(at, code::MISSING_FIELD, || "says none of order, up and down; null = none of them".to_owned());
    }
    Some(startup)
}

/// Reads a number with a fraction, above 0.
fn decimal(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Decimal> {
    let value = match node {
        Node::Unsigned(value) => u32::try_from(*value).ok().map(f64::from),
        Node::Fraction(value) => Some(*value),
        Node::Negative(_) => None,
        _ => {
            wrong_type(node, Wanted::Number, at, faults);
            return None;
        }
    };
    let good = value.filter(|value| (0.001..=f64::from(MAX_DECIMAL)).contains(value));
    if good.is_none() {
        faults.add(at, code::OUT_OF_RANGE, || format!("must be a number from 0.001 to {MAX_DECIMAL}"));
    }
    // In range: what is cut off is the fraction.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    good.map(|value| Decimal { thousandths: (value * 1000.0).round() as u32 })
}

/// Reads an element of `templates` into the document.
pub(super) fn template(node: &Node<'_>, at: &At<'_>, faults: &mut Faults, decoded: &mut Decoded) {
    let before = faults.count();
    let Some(mut fields) = Fields::open(node, at, faults) else { return };
    let id = fields.must("name", |node, at, faults| spelt(node, &spelling::TEMPLATE, at, faults));
    let storage = fields.read("storage", |node, at, faults| spelt(node, &spelling::STORAGE, at, faults));
    let url = fields.read("url", |node, at, faults| spelt(node, &spelling::URL, at, faults));
    let appliance = fields.read("appliance", |node, at, faults| spelt(node, &spelling::TEMPLATE, at, faults));
    let file = fields.read("file", |node, at, faults| spelt(node, &spelling::FOLDER, at, faults));
    let checksum = fields.read("checksum", |node, at, faults| spelt(node, &spelling::CHECKSUM, at, faults));
    let given = ["url", "appliance", "file"].iter().filter(|field| fields.has(field)).count();
    fields.close();
    if given != 1 {
        faults.add(at, code::MISSING_FIELD, || "must say one of url, appliance and file".to_owned());
    }
    let source = url
        .map(TemplateSource::Url)
        .or(appliance.map(TemplateSource::Appliance))
        .or(file.map(TemplateSource::File))
        .unwrap_or_default();
    let (Some(id), true) = (id, faults.count() == before) else { return };
    let spec = TemplateSpec { storage, source, checksum };
    check::template(&spec, at, faults);
    if decoded.document.templates.insert(Name::from(id), spec).is_some() {
        faults.add(&at.key("name"), code::CONTRADICTION, || "stands twice in this list: keep one".to_owned());
    }
}
