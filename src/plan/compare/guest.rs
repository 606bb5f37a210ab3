//! A container against the configuration that its runtime holds.

use std::collections::{BTreeMap, BTreeSet};

use super::{Differences, want};
use crate::{
    desired::{ContainerSpec, Decimal, Features, MountSpec, NetworkSpec, PortSpec, Startup, Want},
    model::{Difference, GuestFacts, GuestNetwork, GuestSettings, Value, host_side_of},
};

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;

/// The settings of a container that is there and shall be: all fields but `ensure`, `running`, `node` and `template`.
pub(in crate::plan) fn guest_differences(
    id: &str,
    spec: &ContainerSpec,
    facts: &GuestFacts,
    now: &GuestSettings,
) -> Vec<Difference> {
    let mut out = Differences::default();
    let number = |value: Option<u64>| value.map(Value::UInt);
    out.wanted("hostname", spec.hostname.as_deref().map(Value::from), now.hostname.as_str().into());
    out.wanted("cores", want(&spec.cores, |cores| Value::UInt((*cores).into())), optional(now.cores));
    let limit = (now.cpulimit_thousandths > 0).then_some(now.cpulimit_thousandths);
    out.wanted(
        "cpulimit",
        want(&spec.cpulimit, |limit| shown_decimal(*limit)),
        limit.map_or(Value::Absent, shown_thousandths),
    );
    out.wanted("memory_mib", number(spec.memory_mib), Value::UInt(now.memory_mib));
    out.wanted("swap_mib", number(spec.swap_mib), Value::UInt(now.swap_mib));
    out.wanted("onboot", spec.onboot.map(Value::Bool), now.onboot.into());
    out.wanted("protection", spec.protection.map(Value::Bool), now.protection.into());
    out.wanted(
        "startup",
        want(&spec.startup, |startup| shown_startup(&startup_map(startup))),
        shown_startup(&now.startup),
    );
    out.wanted(
        "nameserver",
        want(&spec.nameserver, |text| text.as_str().into()),
        Value::text(now.nameserver.as_deref()),
    );
    let domain = Value::text(now.searchdomain.as_deref());
    out.wanted("searchdomain", want(&spec.searchdomain, |text| text.as_str().into()), domain);
    // An empty text is none.
    let description = now.description.as_deref().filter(|text| !text.is_empty());
    let wanted = want(&spec.description, |text| Value::text(Some(text.as_str()).filter(|text| !text.is_empty())));
    out.wanted("description", wanted, Value::text(description));
    out.wanted("tags", spec.tags.as_ref().map(words), words(&facts.tags));
    let pool = Some(facts.pool.as_str()).filter(|pool| !pool.is_empty());
    out.wanted("pool", spec.pool.as_deref().map(Value::from), Value::text(pool));
    features(&mut out, &spec.features, &now.features);
    networks(&mut out, id, spec, now);
    mounts(&mut out, &spec.mounts, now);
    if let Some(from) = &spec.from {
        out.wanted("from.unprivileged", from.unprivileged.map(Value::Bool), now.unprivileged.into());
        size(&mut out, "from.size_gib", from.size_gib, now.root_bytes);
    }
    out.0
}

/// The fields of a declared port that its container's runtime plugs.
pub(in crate::plan) fn plugged_differences(spec: &PortSpec, there: &GuestNetwork) -> Vec<Difference> {
    let mut out = Differences::default();
    out.must_be("bridge", (&*spec.bridge).into(), there.bridge.as_str().into());
    out.wanted("tag", want(&spec.tag, |tag| Value::UInt((*tag).into())), optional(there.tag));
    out.wanted("trunks", spec.trunks.as_ref().map(vlans), vlans(&there.trunks));
    out.wanted("mtu_request", want(&spec.mtu_request, |mtu| Value::UInt((*mtu).into())), optional(there.mtu));
    out.0
}

fn optional(value: Option<impl Into<u64>>) -> Value {
    value.map_or(Value::Absent, |value| Value::UInt(value.into()))
}

fn shown_decimal(value: Decimal) -> Value {
    Value::Str(value.to_string())
}

fn shown_thousandths(thousandths: u32) -> Value {
    shown_decimal(Decimal { thousandths })
}

fn words(words: &BTreeSet<String>) -> Value {
    Value::Strs(words.iter().cloned().collect())
}

fn vlans(vlans: &BTreeSet<u16>) -> Value {
    Value::Ints(vlans.iter().map(|&vlan| vlan.into()).collect())
}

fn startup_map(startup: &Startup) -> BTreeMap<String, u32> {
    let fields = [("order", startup.order), ("up", startup.up), ("down", startup.down)];
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn shown_startup(startup: &BTreeMap<String, u32>) -> Value {
    if startup.is_empty() {
        return Value::Absent;
    }
    Value::Strs(startup.iter().map(|(key, value)| format!("{key}={value}")).collect())
}

/// What is larger than wanted differs, and is never made smaller; of what is not known nothing is said.
fn size(out: &mut Differences, field: &str, wanted: Option<u64>, bytes: u64) {
    if let Some(wanted) = wanted.filter(|wanted| bytes > 0 && wanted.saturating_mul(GIB) != bytes) {
        out.0.push(Difference { field: field.to_owned(), desired: Value::UInt(wanted), observed: gib(bytes) });
    }
}

/// A size in GiB where it is a whole number of them.
fn gib(bytes: u64) -> Value {
    if bytes.is_multiple_of(GIB) { Value::UInt(bytes / GIB) } else { Value::Str(format!("{bytes} bytes")) }
}

fn features(out: &mut Differences, wanted: &Features, now: &BTreeMap<String, String>) {
    let is_on = |word: &str| now.get(word).is_some_and(|value| value != "0");
    let flags =
        [("nesting", wanted.nesting), ("keyctl", wanted.keyctl), ("fuse", wanted.fuse), ("mknod", wanted.mknod)];
    for (word, wanted) in flags {
        out.wanted(&format!("features.{word}"), wanted.map(Value::Bool), is_on(word).into());
    }
    let now = now.get("mount").map(|kinds| kinds.split([';', ' ']).map(str::to_owned).collect::<BTreeSet<_>>());
    out.wanted("features.mount", wanted.mount.as_ref().map(words), words(&now.unwrap_or_default()));
}

fn networks(out: &mut Differences, id: &str, spec: &ContainerSpec, now: &GuestSettings) {
    let Some(wanted) = &spec.networks else {
        let index = spec.veth.as_deref().and_then(host_side_of).filter(|(of, _)| **of == *id);
        if let (Some((_, index)), Some(bridge)) = (index, &spec.bridge) {
            let there = now.networks.get(&index).map(|there| there.bridge.as_str());
            out.must_be("bridge", (&**bridge).into(), Value::text(there.filter(|bridge| !bridge.is_empty())));
        }
        return;
    };
    for (name, wanted) in wanted {
        let at = format!("networks.{name}");
        if let Some(there) = now.networks.values().find(|there| there.name == *name) {
            network(out, &at, wanted, there);
        } else {
            out.must_be(&at, "present".into(), Value::Absent);
            network(out, &at, wanted, &GuestNetwork::default());
        }
    }
    for there in now.networks.values().filter(|there| !wanted.contains_key(&there.name)) {
        out.must_be(&format!("networks.{}", there.name), Value::Absent, "present".into());
    }
}

fn network(out: &mut Differences, at: &str, wanted: &NetworkSpec, there: &GuestNetwork) {
    let mut field =
        |name: &str, desired: Option<Value>, observed: Value| out.wanted(&format!("{at}.{name}"), desired, observed);
    let text = |text: &str| Value::text(Some(text).filter(|text| !text.is_empty()));
    let words = |wanted: &Want<String>| want(wanted, |text| text.as_str().into());
    field("bridge", wanted.bridge.as_deref().map(Value::from), text(&there.bridge));
    field("tag", want(&wanted.tag, |tag| Value::UInt((*tag).into())), optional(there.tag));
    field("trunks", wanted.trunks.as_ref().map(vlans), vlans(&there.trunks));
    field("hwaddr", wanted.hwaddr.as_deref().map(Value::from), text(&there.hwaddr));
    field("ip", words(&wanted.ip), Value::text(there.ip.as_deref()));
    field("gw", words(&wanted.gw), Value::text(there.gw.as_deref()));
    field("ip6", words(&wanted.ip6), Value::text(there.ip6.as_deref()));
    field("gw6", words(&wanted.gw6), Value::text(there.gw6.as_deref()));
    field("firewall", wanted.firewall.map(Value::Bool), there.firewall.into());
    field("mtu", want(&wanted.mtu, |mtu| Value::UInt((*mtu).into())), optional(there.mtu));
    let rate = there.rate_thousandths.map_or(Value::Absent, shown_thousandths);
    field("rate", want(&wanted.rate, |rate| shown_decimal(*rate)), rate);
    field("link_down", wanted.link_down.map(Value::Bool), there.link_down.into());
}

fn mounts(out: &mut Differences, wanted: &BTreeMap<String, MountSpec>, now: &GuestSettings) {
    for (path, wanted) in wanted {
        let at = format!("mounts.{path}");
        let Some(there) = now.mounts.values().find(|there| there.path == *path) else {
            out.must_be(&at, "present".into(), Value::Absent);
            continue;
        };
        out.wanted(&format!("{at}.read_only"), wanted.read_only.map(Value::Bool), there.read_only.into());
        out.wanted(&format!("{at}.backup"), wanted.backup.map(Value::Bool), there.backup.into());
        if let Some(source) = &wanted.source {
            out.must_be(&format!("{at}.source"), source.as_str().into(), there.volume.as_str().into());
        }
        size(out, &format!("{at}.size_gib"), wanted.size_gib, there.bytes);
    }
}
