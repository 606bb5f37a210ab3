//! The calls that bring a container about, from what the document says. Pure: each is held to the API's schema by tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    client::{Call, Verb, encoded},
    props::{Props, print, print_mount, switch},
    token::Secret,
};
use crate::{
    desired::{ContainerSpec, Decimal, Features, MountSpec, NetworkSpec, PortSpec, Startup, Want},
    model::{GuestMount, GuestNetwork, GuestSettings, Name},
    plan::Relocation,
};

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;

/// The storage that templates are fetched to where the document does not say.
pub(super) const TEMPLATE_STORAGE: &str = "local";

/// Networks and mounts that a container can have (`net0`..`net31`, `mp0`..`mp255`).
const NETWORKS: std::ops::Range<u8> = 0..32;
const MOUNTS: std::ops::Range<u16> = 0..256;

/// Path of a container's calls.
#[must_use]
pub(super) fn container_path(node: &str, id: &str) -> String {
    format!("/nodes/{}/lxc/{}", encoded(node), encoded(id))
}

/// Makes a container from a template, stopped.
#[must_use]
pub fn create(node: &str, id: &str, spec: &ContainerSpec, password: Option<&Secret>) -> Call {
    let mut call = Call::new(Verb::Post, format!("/nodes/{}/lxc", encoded(node))).with("vmid", id);
    let from = spec.from.clone().unwrap_or_default();
    call = call.with("ostemplate", from.template.unwrap_or_default());
    if let Some(storage) = &from.storage {
        call = call.with("storage", storage);
        if let Some(size) = from.size_gib {
            call = call.with("rootfs", format!("{storage}:{size}"));
        }
    } else if let Some(size) = from.size_gib {
        // A bare size is put on the storage of the call, whose default is Proxmox VE's own.
        call = call.with("rootfs", format!("{TEMPLATE_STORAGE}:{size}"));
    }
    // Its documented default is 0, and that of its code 1.
    call = call.with("unprivileged", switch(from.unprivileged.unwrap_or(true)));
    if !from.ssh_public_keys.is_empty() {
        let keys: Vec<&str> = from.ssh_public_keys.iter().map(String::as_str).collect();
        call = call.with("ssh-public-keys", keys.join("\n"));
    }
    if let Some(password) = password {
        call = call.with("password", password.reveal());
    }
    if let Some(pool) = &spec.pool {
        call = call.with("pool", pool);
    }
    let nothing = GuestSettings { memory_mib: 512, swap_mib: 512, ..GuestSettings::default() };
    for (key, value) in changes(id, spec, &nothing, None).set {
        call = call.with(key, value);
    }
    call
}

/// Makes a container as the copy of another.
#[must_use]
pub fn clone(node: &str, id: &str, origin: &str, spec: &ContainerSpec) -> Call {
    let from = spec.from.clone().unwrap_or_default();
    let mut call = Call::new(Verb::Post, format!("{}/clone", container_path(node, origin))).with("newid", id);
    if let Some(full) = from.full {
        call = call.with("full", switch(full));
    }
    let fields = [
        ("storage", from.storage.as_ref()),
        ("hostname", spec.hostname.as_ref()),
        ("pool", spec.pool.as_ref()),
        ("target", spec.node.as_ref().filter(|target| *target != node)),
    ];
    for (key, value) in fields {
        if let Some(value) = value {
            call = call.with(key, value);
        }
    }
    call
}

/// What to write into a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys to set.
    pub set: BTreeMap<String, String>,
    /// Keys to delete.
    pub delete: BTreeSet<String>,
}

impl Changes {
    /// Nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.delete.is_empty()
    }

    /// The call that writes them, guarded by the digest of the configuration they were made from.
    #[must_use]
    pub fn call(&self, node: &str, id: &str, digest: Option<&str>) -> Call {
        let mut call = Call::new(Verb::Put, format!("{}/config", container_path(node, id)));
        for (key, value) in &self.set {
            call = call.with(key, value);
        }
        if !self.delete.is_empty() {
            call = call.with("delete", self.delete.iter().cloned().collect::<Vec<_>>().join(","));
        }
        if let Some(digest) = digest {
            call = call.with("digest", digest);
        }
        call
    }

    fn want(&mut self, key: &str, want: &Want<String>, now: Option<&str>) {
        match want {
            Want::Is(value) if now != Some(value) => drop(self.set.insert(key.to_owned(), value.clone())),
            Want::Unset if now.is_some() => drop(self.delete.insert(key.to_owned())),
            _ => {}
        }
    }

    fn switch(&mut self, key: &str, wanted: Option<bool>, now: bool) {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != now) {
            self.set.insert(key.to_owned(), switch(wanted).to_owned());
        }
    }
}

/// What of a container's configuration is not as its entry says; sizes aside, which are grown and not set. `tags` are
/// those it has.
#[must_use]
pub fn changes(id: &str, spec: &ContainerSpec, now: &GuestSettings, tags: Option<&BTreeSet<String>>) -> Changes {
    let mut out = Changes::default();
    let mut number = |key: &str, wanted: Option<u64>, now: u64| {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != now) {
            out.set.insert(key.to_owned(), wanted.to_string());
        }
    };
    number("memory", spec.memory_mib, now.memory_mib);
    number("swap", spec.swap_mib, now.swap_mib);
    if let Some(hostname) = spec.hostname.as_ref().filter(|hostname| **hostname != now.hostname) {
        out.set.insert("hostname".to_owned(), hostname.clone());
    }
    out.want("cores", &map(&spec.cores, ToString::to_string), now.cores.map(|cores| cores.to_string()).as_deref());
    let limit = (now.cpulimit_thousandths > 0).then(|| Decimal { thousandths: now.cpulimit_thousandths }.to_string());
    out.want("cpulimit", &map(&spec.cpulimit, ToString::to_string), limit.as_deref());
    out.switch("onboot", spec.onboot, now.onboot);
    out.switch("protection", spec.protection, now.protection);
    out.want("nameserver", &spec.nameserver, now.nameserver.as_deref());
    out.want("searchdomain", &spec.searchdomain, now.searchdomain.as_deref());
    match &spec.description {
        // An empty text is none.
        Want::Is(text) if text.is_empty() => out.want("description", &Want::Unset, now.description.as_deref()),
        want => out.want("description", want, now.description.as_deref()),
    }
    startup(&mut out, &spec.startup, &now.startup);
    features(&mut out, &spec.features, &now.features);
    if let Some(wanted) =
        spec.tags.as_ref().filter(|wanted| Some(*wanted) != tags && !(tags.is_none() && wanted.is_empty()))
    {
        if wanted.is_empty() {
            out.delete.insert("tags".to_owned());
        } else {
            out.set.insert("tags".to_owned(), wanted.iter().cloned().collect::<Vec<_>>().join(";"));
        }
    }
    networks(&mut out, id, spec, now);
    mounts(&mut out, &spec.mounts, now);
    out
}

fn map<T>(want: &Want<T>, call: impl FnOnce(&T) -> String) -> Want<String> {
    match want {
        Want::Unmanaged => Want::Unmanaged,
        Want::Unset => Want::Unset,
        Want::Is(value) => Want::Is(call(value)),
    }
}

fn startup(out: &mut Changes, want: &Want<Startup>, now: &BTreeMap<String, u32>) {
    match want {
        Want::Is(startup) => {
            let fields = [("order", startup.order), ("up", startup.up), ("down", startup.down)];
            let wanted: BTreeMap<String, u32> =
                fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
            if wanted != *now {
                let props: Props = wanted.into_iter().map(|(key, value)| (key, value.to_string())).collect();
                out.set.insert("startup".to_owned(), print(&props, "order"));
            }
        }
        Want::Unset if !now.is_empty() => drop(out.delete.insert("startup".to_owned())),
        _ => {}
    }
}

fn features(out: &mut Changes, wanted: &Features, now: &BTreeMap<String, String>) {
    let mut props = now.clone();
    let words =
        [("nesting", wanted.nesting), ("keyctl", wanted.keyctl), ("fuse", wanted.fuse), ("mknod", wanted.mknod)];
    for (word, on) in words {
        match on {
            Some(true) => drop(props.insert(word.to_owned(), "1".to_owned())),
            Some(false) => drop(props.remove(word)),
            None => {}
        }
    }
    if let Some(kinds) = &wanted.mount {
        if kinds.is_empty() {
            props.remove("mount");
        } else {
            props.insert("mount".to_owned(), kinds.iter().cloned().collect::<Vec<_>>().join(";"));
        }
    }
    // What is off may stand there as 0, and is the same.
    let lit = |props: &Props| -> Props {
        props.iter().filter(|(_, value)| *value != "0").map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    if lit(&props) == lit(now) {
        return;
    }
    if props.is_empty() {
        out.delete.insert("features".to_owned());
    } else {
        out.set.insert("features".to_owned(), print(&props, ""));
    }
}

fn networks(out: &mut Changes, id: &str, spec: &ContainerSpec, now: &GuestSettings) {
    let Some(wanted) = &spec.networks else {
        // The short form: the first network, on that bridge.
        let index = spec.veth.as_deref().and_then(crate::model::host_side_of).filter(|(of, _)| **of == *id);
        if let (Some((_, index)), Some(bridge)) = (index, &spec.bridge) {
            let wanted = NetworkSpec { bridge: Some(bridge.clone()), ..NetworkSpec::default() };
            let there = now.networks.get(&index);
            let name = there.map_or_else(|| format!("eth{index}"), |there| there.name.clone());
            if there.is_none_or(|there| there.bridge != **bridge) {
                out.set.insert(format!("net{index}"), network(&name, &wanted, there));
            }
        }
        return;
    };
    let index_of = |name: &str| now.networks.iter().find(|(_, there)| there.name == name).map(|(index, _)| *index);
    let mut free = NETWORKS.filter(|index| !now.networks.contains_key(index));
    for (name, wanted) in wanted {
        let at = index_of(name);
        let there = at.and_then(|at| now.networks.get(&at));
        let Some(index) = at.or_else(|| free.next()) else { continue };
        let text = network(name, wanted, there);
        if there.is_none_or(|there| text != network(name, &NetworkSpec::default(), Some(there))) {
            out.set.insert(format!("net{index}"), text);
        }
    }
    for (index, there) in &now.networks {
        if !wanted.contains_key(&there.name) {
            out.delete.insert(format!("net{index}"));
        }
    }
}

/// A network's property string: what is there, with what is wanted laid over.
fn network(name: &str, wanted: &NetworkSpec, there: Option<&GuestNetwork>) -> String {
    let mut props = there.map(held).unwrap_or_default();
    let mut put = |key: &str, value: Want<String>| match value {
        Want::Unmanaged => {}
        Want::Unset => drop(props.remove(key)),
        Want::Is(value) => drop(props.insert(key.to_owned(), value)),
    };
    let given = |value: Option<String>| value.map_or(Want::Unmanaged, Want::Is);
    let flag = |value: Option<bool>| match value {
        None => Want::Unmanaged,
        Some(true) => Want::Is("1".to_owned()),
        Some(false) => Want::Unset,
    };
    put("name", Want::Is(name.to_owned()));
    put("bridge", given(wanted.bridge.as_ref().map(ToString::to_string)));
    put("tag", map(&wanted.tag, ToString::to_string));
    put(
        "trunks",
        match &wanted.trunks {
            None => Want::Unmanaged,
            Some(vlans) if vlans.is_empty() => Want::Unset,
            Some(vlans) => Want::Is(vlans.iter().map(ToString::to_string).collect::<Vec<_>>().join(";")),
        },
    );
    put("hwaddr", given(wanted.hwaddr.clone()));
    put("ip", wanted.ip.clone());
    put("gw", wanted.gw.clone());
    put("ip6", wanted.ip6.clone());
    put("gw6", wanted.gw6.clone());
    put("firewall", flag(wanted.firewall));
    put("mtu", map(&wanted.mtu, ToString::to_string));
    put("rate", map(&wanted.rate, ToString::to_string));
    put("link_down", flag(wanted.link_down));
    print(&props, "name")
}

/// The sub-keys of a network as it is.
fn held(there: &GuestNetwork) -> Props {
    let mut props = there.rest.clone();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            props.insert(key.to_owned(), value);
        }
    };
    let flag = |on: bool| on.then(|| "1".to_owned());
    put("name", Some(there.name.clone()));
    put("bridge", Some(there.bridge.clone()));
    put("tag", there.tag.map(|tag| tag.to_string()));
    put("trunks", Some(there.trunks.iter().map(ToString::to_string).collect::<Vec<_>>().join(";")));
    put("hwaddr", Some(there.hwaddr.clone()));
    put("ip", there.ip.clone());
    put("gw", there.gw.clone());
    put("ip6", there.ip6.clone());
    put("gw6", there.gw6.clone());
    put("firewall", flag(there.firewall));
    put("mtu", there.mtu.map(|mtu| mtu.to_string()));
    put("rate", there.rate_thousandths.map(|thousandths| Decimal { thousandths }.to_string()));
    put("link_down", flag(there.link_down));
    props
}

/// What a declared port of a container changes of its network of that number.
#[must_use]
pub fn port_changes(index: u8, spec: &PortSpec, now: &GuestSettings) -> Changes {
    let mut out = Changes::default();
    let Some(there) = now.networks.get(&index) else { return out };
    let wanted = NetworkSpec {
        bridge: Some(spec.bridge.clone()),
        tag: spec.tag.clone(),
        trunks: spec.trunks.clone(),
        mtu: spec.mtu_request.clone(),
        ..NetworkSpec::default()
    };
    let text = network(&there.name, &wanted, Some(there));
    if text != network(&there.name, &NetworkSpec::default(), Some(there)) {
        out.set.insert(format!("net{index}"), text);
    }
    out
}

fn mounts(out: &mut Changes, wanted: &BTreeMap<String, MountSpec>, now: &GuestSettings) {
    let mut free = MOUNTS.filter(|index| !now.mounts.contains_key(index));
    for (path, wanted) in wanted {
        let there = now.mounts.iter().find(|(_, there)| there.path == *path);
        if let Some((index, there)) = there {
            let text = mount(path, wanted, Some(there));
            if text != mount(path, &MountSpec::default(), Some(there)) {
                out.set.insert(format!("mp{index}"), text);
            }
        } else if let (Some(index), true) = (free.next(), wanted.storage.is_some() || wanted.source.is_some()) {
            out.set.insert(format!("mp{index}"), mount(path, wanted, None));
        }
    }
}

fn mount(path: &str, wanted: &MountSpec, there: Option<&GuestMount>) -> String {
    let mut props = there.map(|there| there.rest.clone()).unwrap_or_default();
    let read_only = wanted.read_only.unwrap_or_else(|| there.is_some_and(|there| there.read_only));
    let backup = wanted.backup.unwrap_or_else(|| there.is_some_and(|there| there.backup));
    for (key, on) in [("ro", read_only), ("backup", backup)] {
        if on {
            props.insert(key.to_owned(), "1".to_owned());
        }
    }
    props.insert("mp".to_owned(), path.to_owned());
    // Another source takes the place of what is mounted, whose size is none of its.
    let there = there.filter(|there| wanted.source.as_ref().is_none_or(|source| *source == there.volume));
    let volume = there.map(|there| there.volume.clone());
    let volume = volume
        .or_else(|| wanted.source.clone())
        .or_else(|| wanted.storage.as_ref().map(|storage| format!("{storage}:{}", wanted.size_gib.unwrap_or(1))));
    if let Some(bytes) = there.map(|there| there.bytes).filter(|bytes| *bytes > 0) {
        let unit = [("T", 40), ("G", 30), ("M", 20), ("K", 10)].into_iter().find(|(_, bits)| bytes % (1 << bits) == 0);
        let size = unit.map_or_else(|| bytes.to_string(), |(unit, bits)| format!("{}{unit}", bytes >> bits));
        props.insert("size".to_owned(), size);
    }
    print_mount(&volume.unwrap_or_default(), &props)
}

/// The calls that grow what is smaller than the entry says.
#[must_use]
pub fn grow(node: &str, id: &str, spec: &ContainerSpec, now: &GuestSettings) -> Vec<Call> {
    let path = format!("{}/resize", container_path(node, id));
    let call =
        |disk: &str, size: u64| Call::new(Verb::Put, path.clone()).with("disk", disk).with("size", format!("{size}G"));
    let mut out = Vec::new();
    if let Some(size) = spec.from.as_ref().and_then(|from| from.size_gib)
        && now.root_bytes < size.saturating_mul(GIB)
    {
        out.push(call("rootfs", size));
    }
    for (path, wanted) in &spec.mounts {
        let there = now.mounts.iter().find(|(_, there)| there.path == *path);
        if let (Some((index, there)), Some(size)) = (there, wanted.size_gib)
            && there.bytes < size.saturating_mul(GIB)
        {
            out.push(call(&format!("mp{index}"), size));
        }
    }
    out
}

/// Starts, stops, shuts down or reboots.
#[must_use]
pub fn status(node: &str, id: &str, verb: &str) -> Call {
    Call::new(Verb::Post, format!("{}/status/{verb}", container_path(node, id)))
}

/// Asks it to shut down, and makes it after that time.
#[must_use]
pub fn shutdown(node: &str, id: &str, seconds: u64) -> Call {
    status(node, id, "shutdown").with("timeout", seconds.to_string()).with("forceStop", "1")
}

/// Restarts it, which brings about what waits for that.
#[must_use]
pub fn reboot(node: &str, id: &str, seconds: u64) -> Call {
    status(node, id, "reboot").with("timeout", seconds.to_string())
}

/// Removes it with its volumes.
#[must_use]
pub fn destroy(node: &str, id: &str, purge: bool) -> Call {
    let call = Call::new(Verb::Delete, container_path(node, id)).with("force", "1");
    if purge { call.with("purge", "1") } else { call }
}

/// Takes it to another node. One that runs is shut down for that, and made to after that `patience`, and started there.
#[must_use]
pub fn migrate(node: &str, id: &str, to: &Relocation, patience: Option<Duration>) -> Call {
    let mut call = Call::new(Verb::Post, format!("{}/migrate", container_path(node, id))).with("target", &to.node);
    if let Some(patience) = patience {
        call = call.with("restart", "1").with("timeout", patience.as_secs().to_string());
    }
    if !to.storages.is_empty() {
        let pairs: Vec<String> = to.storages.iter().map(|(from, to)| format!("{from}:{to}")).collect();
        call = call.with("target-storage", pairs.join(","));
    }
    call
}

/// Turns it into a template.
#[must_use]
pub fn make_template(node: &str, id: &str) -> Call {
    Call::new(Verb::Post, format!("{}/template", container_path(node, id)))
}

/// Downloads a template.
#[must_use]
pub fn download(node: &str, storage: &str, name: &str, url: &str, checksum: Option<&str>) -> Call {
    let path = format!("/nodes/{}/storage/{}/download-url", encoded(node), encoded(storage));
    let call = Call::new(Verb::Post, path).with("content", "vztmpl").with("filename", name).with("url", url);
    match checksum.and_then(|checksum| checksum.split_once(':')) {
        Some((algorithm, digest)) => call.with("checksum-algorithm", algorithm).with("checksum", digest),
        None => call,
    }
}

/// Uploads an archive of this machine as a template. The file itself follows as the last part, whose name is `filename`.
#[must_use]
pub fn upload(node: &str, storage: &str, name: &str, checksum: Option<&str>) -> Call {
    let path = format!("/nodes/{}/storage/{}/upload", encoded(node), encoded(storage));
    let call = Call::new(Verb::Post, path).with("content", "vztmpl");
    let call = match checksum.and_then(|checksum| checksum.split_once(':')) {
        Some((algorithm, digest)) => call.with("checksum-algorithm", algorithm).with("checksum", digest),
        None => call,
    };
    call.with("filename", name)
}

/// Fetches an appliance of the index.
#[must_use]
pub fn appliance(node: &str, storage: &str, name: &str) -> Call {
    Call::new(Verb::Post, format!("/nodes/{}/aplinfo", encoded(node))).with("storage", storage).with("template", name)
}

/// Takes a container into a pool, out of whichever it was in.
#[must_use]
pub fn join_pool(pool: &str, id: &Name) -> Call {
    Call::new(Verb::Put, "/pools").with("poolid", pool).with("vms", &**id).with("allow-move", "1")
}
