//! A container's configuration, from Proxmox VE's terms to the document's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::props::{Props, bytes, is_on, list, parse, thousandths};
use crate::model::{GuestMount, GuestNetwork, GuestSettings};

/// Memory and swap of a configuration that does not say, MiB.
const DEFAULT_MIB: u64 = 512;

/// A configuration as it is answered: each value as text, whichever JSON type it came in.
pub(super) type Raw = BTreeMap<String, String>;

/// Takes an answer of `/config`.
pub(super) fn raw(answer: &Value) -> Raw {
    let fields = answer.as_object().into_iter().flatten();
    fields.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

/// A value as text: numbers may come as strings, and switches as either.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(u8::from(*on).to_string()),
        _ => None,
    }
}

/// The settings that a configuration holds.
pub(super) fn settings(raw: &Raw) -> GuestSettings {
    let get = |key: &str| raw.get(key).map(String::as_str);
    let number = |key: &str| get(key).and_then(|text| text.parse().ok());
    let flag = |key: &str| get(key).is_some_and(is_on);
    let mut out = GuestSettings {
        hostname: get("hostname").unwrap_or_default().to_owned(),
        cores: number("cores").and_then(|cores: u64| u32::try_from(cores).ok()),
        cpulimit_thousandths: get("cpulimit").and_then(thousandths).unwrap_or(0),
        memory_mib: number("memory").unwrap_or(DEFAULT_MIB),
        swap_mib: number("swap").unwrap_or(DEFAULT_MIB),
        unprivileged: flag("unprivileged"),
        root_bytes: get("rootfs").and_then(|text| bytes(parse(text, "volume").get("size")?)).unwrap_or(0),
        features: get("features").map(|text| parse(text, "")).unwrap_or_default(),
        onboot: flag("onboot"),
        startup: get("startup").map(startup).unwrap_or_default(),
        protection: flag("protection"),
        nameserver: get("nameserver").map(words),
        searchdomain: get("searchdomain").map(words),
        description: get("description").map(|text| text.strip_suffix('\n').unwrap_or(text).to_owned()),
        ..GuestSettings::default()
    };
    for (key, value) in raw {
        if let Some(index) = key.strip_prefix("net").and_then(|index| index.parse().ok()) {
            out.networks.insert(index, network(value));
        } else if let Some(index) = key.strip_prefix("mp").and_then(|index| index.parse().ok()) {
            out.mounts.insert(index, mount(value));
        }
        if key == "rootfs" || ["mp", "unused"].iter().any(|kind| numbered(key, kind)) {
            let volume = mount(value);
            if let Some((storage, _)) = volume.volume.split_once(':').filter(|(storage, _)| !storage.contains('/')) {
                let bytes = out.storages.entry(storage.to_owned()).or_default();
                *bytes = bytes.saturating_add(volume.bytes);
            }
        }
    }
    out
}

/// Whether a key is of those that a number follows.
fn numbered(key: &str, kind: &str) -> bool {
    key.strip_prefix(kind).is_some_and(|number| number.parse::<u16>().is_ok())
}

/// Words separated by one space, however they were separated.
fn words(text: &str) -> String {
    list(text).collect::<Vec<_>>().join(" ")
}

fn startup(text: &str) -> BTreeMap<String, u32> {
    parse(text, "order").into_iter().filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect()
}

/// A network of that property string.
fn network(text: &str) -> GuestNetwork {
    let mut props = parse(text, "name");
    let mut take = |key: &str| props.remove(key);
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    GuestNetwork {
        name: take("name").unwrap_or_default(),
        bridge: take("bridge").unwrap_or_default(),
        tag: number(take("tag")),
        trunks: take("trunks").map(|text| vlans(&text)).unwrap_or_default(),
        hwaddr: take("hwaddr").unwrap_or_default().to_ascii_uppercase(),
        ip: take("ip"),
        gw: take("gw"),
        ip6: take("ip6"),
        gw6: take("gw6"),
        firewall: take("firewall").is_some_and(|text| is_on(&text)),
        mtu: take("mtu").and_then(|text| text.parse().ok()),
        rate_thousandths: take("rate").and_then(|text| thousandths(&text)),
        link_down: take("link_down").is_some_and(|text| is_on(&text)),
        rest: props,
    }
}

fn vlans(text: &str) -> BTreeSet<u16> {
    list(text).filter_map(|vlan| vlan.parse().ok()).collect()
}

fn mount(text: &str) -> GuestMount {
    let mut props: Props = parse(text, "volume");
    let mut take = |key: &str| props.remove(key);
    GuestMount {
        path: take("mp").unwrap_or_default(),
        volume: take("volume").unwrap_or_default(),
        bytes: take("size").and_then(|size| bytes(&size)).unwrap_or(0),
        read_only: take("ro").is_some_and(|text| is_on(&text)),
        backup: take("backup").is_some_and(|text| is_on(&text)),
        rest: props,
    }
}

/// The field of the document that a key of the configuration stands for; itself where there is none.
pub(super) fn field(key: &str) -> String {
    match key {
        "memory" => "memory_mib",
        "swap" => "swap_mib",
        "rootfs" => "from.size_gib",
        _ if key.starts_with("net") => "networks",
        _ if key.starts_with("mp") => "mounts",
        _ => key,
    }
    .to_owned()
}

/// Takes an answer of `/pending`: the configuration with what is to come laid over what is.
pub(super) fn raw_of_pending(answer: &Value) -> Raw {
    let items = answer.as_array().into_iter().flatten().filter(|item| item.get("delete").is_none());
    let value = |item: &Value| text(item.get("pending").or_else(|| item.get("value"))?);
    items.filter_map(|item| Some((item.get("key")?.as_str()?.to_owned(), value(item)?))).collect()
}

/// The fields of `/pending` whose change waits for a restart.
pub(super) fn pending(answer: &Value) -> BTreeSet<String> {
    let items = answer.as_array().into_iter().flatten();
    let waits = items.filter(|item| item.get("pending").is_some() || item.get("delete").is_some());
    waits.filter_map(|item| item.get("key")?.as_str()).map(field).collect()
}

/// The addresses of `/interfaces`; the loopback's aside.
pub(super) fn addresses(answer: &Value) -> BTreeSet<String> {
    let items = answer.as_array().into_iter().flatten();
    let items = items.filter(|item| item.get("name").and_then(Value::as_str) != Some("lo"));
    items
        .flat_map(|item| ["inet", "inet6"].map(|family| item.get(family)?.as_str().map(str::to_owned)))
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_is_read() {
        let answer = json!({
            "arch": "amd64", "cores": 2, "cpulimit": "1.5", "memory": "1024", "hostname": "warp", "unprivileged": 1,
            "rootfs": "local-lvm:vm-101-disk-0,size=8G", "onboot": 1, "startup": "order=1,up=30",
            "features": "keyctl=1,nesting=1", "description": "for people\n", "digest": "abc",
            "net0": "name=eth0,bridge=ovsbr0,hwaddr=bc:24:11:00:00:01,tag=20,trunks=10;30,type=veth,ip=10.0.0.1/24,rate=12.5",
            "mp0": "local-lvm:vm-101-disk-1,mp=/srv,size=4G,ro=1", "mp1": "/mnt/data,mp=/data",
            "unused0": "local-zfs:vm-101-disk-2", "nameserver": "10.0.0.1,10.0.0.2",
            "lxc": [["lxc.apparmor.profile", "unconfined"]],
        });
        let settings = settings(&raw(&answer));
        assert_eq!(
            (settings.cores, settings.cpulimit_thousandths, settings.memory_mib, settings.swap_mib),
            (Some(2), 1500, 1024, 512)
        );
        assert!(settings.unprivileged && settings.onboot && !settings.protection);
        assert_eq!(settings.root_bytes, 8 << 30);
        assert_eq!(settings.startup, [("order".to_owned(), 1), ("up".to_owned(), 30)].into());
        assert_eq!(settings.description.as_deref(), Some("for people"));
        assert_eq!(settings.nameserver.as_deref(), Some("10.0.0.1 10.0.0.2"));
        let network = &settings.networks[&0];
        assert_eq!(
            (network.tag, network.hwaddr.as_str(), network.rate_thousandths),
            (Some(20), "BC:24:11:00:00:01", Some(12_500))
        );
        assert_eq!(network.trunks, [10, 30].into());
        assert_eq!(network.rest, [("type".to_owned(), "veth".to_owned())].into());
        let mount = &settings.mounts[&0];
        assert_eq!((mount.path.as_str(), mount.bytes, mount.read_only, mount.backup), ("/srv", 4 << 30, true, false));
        // A folder is on none.
        assert_eq!(settings.storages, [("local-lvm".to_owned(), 12 << 30), ("local-zfs".to_owned(), 0)].into());
    }

    #[test]
    fn what_waits_and_what_is_reached() {
        let answer = json!([{"key": "memory", "value": 512, "pending": 1024}, {"key": "cores", "value": 2},
                            {"key": "net1", "value": "name=eth1", "delete": 1}]);
        let raw = raw_of_pending(&answer);
        assert_eq!((raw.get("memory").map(String::as_str), raw.contains_key("net1")), (Some("1024"), false));
        assert_eq!(pending(&answer), ["memory_mib".to_owned(), "networks".to_owned()].into());
        let answer = json!([{"name": "lo", "inet": "127.0.0.1/8"}, {"name": "eth0", "inet": "10.0.0.1/24", "inet6": "fe80::1/64"}]);
        assert_eq!(addresses(&answer), ["10.0.0.1/24".to_owned(), "fe80::1/64".to_owned()].into());
        assert_eq!(addresses(&Value::Null).len(), 0);
    }
}
