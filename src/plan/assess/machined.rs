//! A container that systemd-machined makes and systemd runs, against its image, its settings and its unit.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Assessment, block_container_unit, block_without_bridge, is_settling};
use crate::{
    desired::{
        ContainerSource, ContainerSpec, Ensure, Features, ImageKind, NetworkSpec, PortSpec, TemplateSource,
        TemplateSpec, Want,
    },
    model::{
        Difference, GuestFacts, GuestSettings, HOST_SIDE, Name, Observed, Reason, ResourceId, Runtime, UNFINISHED,
        UnitFacts, Value,
    },
    plan::{
        Desired, Hand, Inventory,
        compare::{device_difference, is_enabled, port_differences, port_health},
    },
};

/// Microseconds of a second: what systemd counts processor time in.
const USEC: u64 = 1_000_000;

/// Whether systemd-machined has a container in hand: what its entry says takes more than a unit that runs it.
pub(in crate::plan) fn is_machined(spec: &ContainerSpec, inventory: &Inventory) -> bool {
    inventory.hand == Hand::Systemd && spec.is_configured()
}

/// The unit that runs a container of systemd-machined's.
pub(in crate::plan) fn machine_unit(id: &str) -> Name {
    format!("systemd-nspawn@{id}.service").into()
}

/// The properties of a container's unit that its entry asks for.
#[must_use]
pub fn machine_properties(spec: &ContainerSpec) -> BTreeMap<String, Json> {
    let bytes = |mib: u64| mib.saturating_mul(1 << 20);
    let mut out = BTreeMap::new();
    let cores = wanted(&spec.cores).map(|cores| cores.map(|cores| u64::from(cores).saturating_mul(USEC)));
    let limit = wanted(&spec.cpulimit)
        .map(|limit| limit.map(|limit| u64::from(limit.thousandths) * (USEC / 1000)).filter(|&usec| usec > 0));
    if cores.is_some() || limit.is_some() {
        let usec = [cores.flatten(), limit.flatten()].into_iter().flatten().min();
        out.insert("CPUQuotaPerSecUSec".to_owned(), usec.map_or_else(|| "infinity".into(), Json::from));
    }
    if let Some(mib) = spec.memory_mib {
        out.insert("MemoryMax".to_owned(), bytes(mib).into());
    }
    if let Some(mib) = spec.swap_mib {
        out.insert("MemorySwapMax".to_owned(), bytes(mib).into());
    }
    out
}

/// What a field says; the outer `None` = it is left alone.
#[allow(clippy::option_option)] // Left alone, unset, and a value are three answers.
fn wanted<T: Copy>(want: &Want<T>) -> Option<Option<T>> {
    match want {
        Want::Unmanaged => None,
        Want::Unset => Some(None),
        Want::Is(value) => Some(Some(*value)),
    }
}

/// The ports that a container's networks shall be, by the name of their host side.
pub(in crate::plan) fn machine_ports(id: &str, spec: &ContainerSpec, doc: &Desired) -> BTreeMap<Name, PortSpec> {
    let links = spec.machine_links(id).unwrap_or_default();
    let networks = spec.networks.iter().flatten();
    let mut out = BTreeMap::new();
    let mut say = |port: &Name, bridge: &Name, network: &NetworkSpec| {
        let declared = doc.ports.get(port).filter(|port| port.ensure == Ensure::Present).cloned().unwrap_or_default();
        let tag = if network.tag == Want::Unmanaged { declared.tag } else { network.tag.clone() };
        let trunks = network.trunks.clone().or(declared.trunks);
        out.insert(port.clone(), PortSpec { bridge: bridge.clone(), tag, trunks, ..declared });
    };
    for (inside, network) in networks {
        if let Some((bridge, port)) = network.bridge.as_ref().zip(links.get(inside)) {
            say(port, bridge, network);
        }
    }
    if let Some((bridge, port)) = spec.bridge.as_ref().zip(spec.veth.as_ref()) {
        say(port, bridge, &NetworkSpec::default());
    }
    out
}

/// What of an entry neither systemd-machined nor systemd can bring about: the field, and what to do instead.
#[must_use]
pub fn machine_refusals(spec: &ContainerSpec) -> Vec<(String, &'static str)> {
    const INSIDE: &str = "set it inside the container";
    const PROXMOX: &str = "is Proxmox VE's";
    let mut out = Vec::new();
    let mut refuse = |is_said: bool, field: String, instead: &'static str| {
        if is_said {
            out.push((field, instead));
        }
    };
    let source = ContainerSource::default();
    let from = spec.from.as_ref().unwrap_or(&source);
    refuse(from.storage.is_some(), "from.storage".to_owned(), "images lie in /var/lib/machines");
    refuse(from.size_gib.is_some(), "from.size_gib".to_owned(), "images share the file system of /var/lib/machines");
    refuse(from.full == Some(false), "from.full".to_owned(), "clones are whole, or share blocks by themselves");
    refuse(!from.ssh_public_keys.is_empty(), "from.ssh_public_keys".to_owned(), "put them into the image");
    refuse(from.password_credential.is_some(), "from.password_credential".to_owned(), "put it into the image");
    for (name, network) in spec.networks.iter().flatten() {
        let field = |field: &str| format!("networks.{name}.{field}");
        let addresses = [("ip", &network.ip), ("gw", &network.gw), ("ip6", &network.ip6), ("gw6", &network.gw6)];
        for (word, want) in addresses {
            // That is how it is: nobody but the container's own system configures its devices.
            let is_manual = matches!(want, Want::Is(text) if text == "manual");
            refuse(*want != Want::Unmanaged && !is_manual, field(word), INSIDE);
        }
        refuse(network.hwaddr.is_some(), field("hwaddr"), "systemd-nspawn makes a lasting one of the container's name");
        refuse(network.firewall == Some(true), field("firewall"), PROXMOX);
        refuse(network.mtu != Want::Unmanaged, field("mtu"), INSIDE);
        refuse(network.rate != Want::Unmanaged, field("rate"), "say it as other_config of the port's or its QoS");
        refuse(network.link_down == Some(true), field("link_down"), "leave its bridge out");
    }
    for (path, mount) in &spec.mounts {
        let field = |field: &str| format!("mounts.{path}.{field}");
        refuse(mount.storage.is_some(), field("storage"), "say the folder of the host as its source");
        refuse(mount.backup.is_some(), field("backup"), PROXMOX);
    }
    refuse(spec.features != Features::default(), "features".to_owned(), "put them into a drop-in of the unit");
    refuse(spec.startup != Want::Unmanaged, "startup".to_owned(), "order the units, by a drop-in");
    refuse(spec.protection == Some(true), "protection".to_owned(), PROXMOX);
    refuse(spec.nameserver != Want::Unmanaged, "nameserver".to_owned(), INSIDE);
    refuse(spec.searchdomain != Want::Unmanaged, "searchdomain".to_owned(), INSIDE);
    refuse(spec.tags.is_some(), "tags".to_owned(), PROXMOX);
    refuse(spec.description != Want::Unmanaged, "description".to_owned(), PROXMOX);
    refuse(spec.pool.is_some(), "pool".to_owned(), PROXMOX);
    refuse(spec.node.is_some(), "node".to_owned(), PROXMOX);
    refuse(spec.purge, "purge".to_owned(), PROXMOX);
    out
}

/// What of a template's entry systemd-importd cannot bring about.
#[must_use]
pub fn template_refusal(spec: &TemplateSpec) -> Option<(&'static str, &'static str)> {
    if spec.storage.is_some() {
        return Some(("storage", "images lie in /var/lib/machines"));
    }
    match &spec.source {
        TemplateSource::Appliance(_) => Some(("appliance", "only Proxmox VE has an index: say url or file")),
        TemplateSource::Url(_) if spec.checksum.is_some() => Some((
            "checksum",
            "it holds a download against SHA256SUMS beside it, and cannot be told another: leave the checksum out, or \
                 download the image yourself and say it as file",
        )),
        TemplateSource::Url(source) | TemplateSource::File(source) if ImageKind::of(source).is_none() => Some((
            "url or file",
            "its name must end as a tar archive's or a disk image's (.tar, .tar.gz, .tar.xz, .raw)",
        )),
        TemplateSource::Url(_) | TemplateSource::File(_) => None,
    }
}

/// Whether there is an image of that name.
pub(in crate::plan) fn has_image(observed: &Observed, name: &str) -> bool {
    let images = observed.cluster.nodes.get("").and_then(|node| node.storages.get("")).and_then(Option::as_ref);
    images.is_some_and(|images| images.templates.contains(name))
}

/// Why systemd-machined cannot be asked.
pub(in crate::plan) fn away_why(observed: &Observed) -> (Reason, String) {
    let said = observed.backends.get("lxc").map(|backend| backend.message.as_str()).filter(|said| !said.is_empty());
    match said {
        Some(said) if !said.ends_with("not installed") => (Reason::BackendAway, said.to_owned()),
        _ => {
            let text = "systemd-machined, which makes containers here, is not installed: install systemd-container";
            (Reason::NotSupported, text.to_owned())
        }
    }
}

/// Whether systemd-machined is there to be asked.
pub(in crate::plan) fn is_installed(observed: &Observed) -> bool {
    observed.cluster.nodes.get("").is_some_and(|node| node.online)
}

/// Holds a container against its image, its settings, its unit and its ports.
pub(super) fn assess(
    doc: &Desired,
    id: &Name,
    spec: &ContainerSpec,
    observed: &Observed,
    inventory: &Inventory,
) -> Assessment {
    let guest = observed.guests.get(id).filter(|guest| guest.runtime == Runtime::Machined);
    let unit = machine_unit(id);
    let unit_facts = observed.units.get(&unit).map(std::convert::AsRef::as_ref);
    let running = observed.containers.get(id).is_some_and(|facts| facts.running);
    let mut out = Assessment {
        // What a try did not come to the end of making is not there.
        present: guest.is_some_and(|guest| guest.lock != UNFINISHED),
        settling: unit_facts.is_some_and(is_settling),
        ..Assessment::default()
    };
    if !is_installed(observed) {
        out.absent_or_not(spec);
        let (reason, text) = away_why(observed);
        out.block(reason, text);
        return out;
    }
    if spec.ensure == Ensure::Absent {
        absent(&mut out, id, guest.map(std::convert::AsRef::as_ref), spec, &unit, unit_facts, inventory, observed);
        return out;
    }
    let refusals = machine_refusals(spec);
    if !refusals.is_empty() {
        let texts: Vec<String> = refusals.iter().map(|(field, instead)| format!("{field} ({instead})")).collect();
        out.block(Reason::NotSupported, format!("systemd-machined has no {}", texts.join(", ")));
    }
    let settings = guest.filter(|_| out.present).and_then(|guest| guest.settings.as_deref());
    if out.present {
        block_present(&mut out, id, spec, guest.map(std::convert::AsRef::as_ref), settings);
    } else {
        out.absent();
        block_missing(&mut out, doc, id, spec, observed);
    }
    settings_differences(&mut out, id, spec, settings);
    unit_differences(&mut out, spec, unit_facts);
    if let Some(wanted) = spec.running.filter(|&wanted| wanted != running) {
        out.differences.push(Difference::new("running", wanted, running));
        block_container_unit(&mut out, doc, id, spec, &unit, unit_facts, inventory);
    }
    if spec.running.unwrap_or(running) {
        network_differences(&mut out, doc, id, spec, observed, running);
    }
    let found = observed.containers.get(id).filter(|facts| facts.running && facts.unit != *unit);
    if let Some(other) = found.filter(|_| !out.differences.is_empty()) {
        out.block(
            Reason::AmbiguousContainer,
            format!("{} runs a container {id} already: give this one another id", other.unit),
        );
    }
    pending(&mut out, id, spec, settings.filter(|_| running));
    out
}

impl Assessment {
    fn absent_or_not(&mut self, spec: &ContainerSpec) {
        if spec.ensure == Ensure::Present {
            self.absent();
        }
    }
}

/// A container that shall not be there.
#[allow(clippy::too_many_arguments)] // Each is a fact of its own; the caller has them all at hand.
fn absent(
    out: &mut Assessment,
    id: &Name,
    guest: Option<&GuestFacts>,
    spec: &ContainerSpec,
    unit: &Name,
    unit_facts: Option<&UnitFacts>,
    inventory: &Inventory,
    observed: &Observed,
) {
    out.present = guest.is_some();
    let Some(guest) = guest else {
        // A unit that merely could run it is nothing that is there.
        let other = observed.containers.get(id).filter(|facts| facts.running || facts.on_boot);
        if let Some(other) = other {
            out.present = true;
            out.differences.push(Difference::new("ensure", "absent", "present"));
            out.block(
                Reason::NotSupported,
                format!(
                    "container {id} is not systemd-machined's ({} runs it): remove it with its own tools",
                    other.unit
                ),
            );
        }
        return;
    };
    out.differences.push(Difference::new("ensure", "absent", "present"));
    if !has_image(observed, id) {
        out.block(Reason::NotSupported, format!("container {id} is made from no image of systemd-machined's: stop it"));
    }
    if let Some(facts) = unit_facts.filter(|_| !spec.allow_protected) {
        super::block_protected(out, unit, facts, inventory);
    }
    out.warnings.push(format!("the image {id} and all that is in it will be gone"));
    if guest.has_foreign_settings {
        out.warnings
            .push(format!("systemd-machined removes its settings file {id}.nspawn, too, which op-dbus did not write"));
    }
}

/// Why a container that is there cannot be brought to what its entry says.
fn block_present(
    out: &mut Assessment,
    id: &Name,
    spec: &ContainerSpec,
    guest: Option<&GuestFacts>,
    settings: Option<&GuestSettings>,
) {
    let unprivileged = spec.from.as_ref().and_then(|from| from.unprivileged);
    if let Some((wanted, found)) = unprivileged.zip(settings.map(|settings| settings.unprivileged))
        && wanted != found
        && guest.is_some_and(|guest| !guest.has_foreign_settings)
    {
        out.differences.push(Difference::new("from.unprivileged", wanted, found));
        out.block(
            Reason::Immutable,
            format!("whose users {id}'s are is settled when it is made: its files are theirs"),
        );
    }
    let is_template = guest.is_some_and(|guest| guest.is_template);
    if spec.template && !is_template {
        out.differences.push(Difference::new("template", true, false));
    }
    let says_settings = spec.hostname.is_some() || spec.machine_links(id).is_some() || !spec.mounts.is_empty();
    if says_settings && guest.is_some_and(|guest| guest.has_foreign_settings) {
        out.differences.push(Difference::new("settings", "op-dbus's", "another's"));
        let file = format!("/etc/systemd/nspawn/{id}.nspawn");
        out.block(
            Reason::NameTaken,
            format!("{file} is not op-dbus's: say its settings in the entry and move it away, or take hostname, networks and mounts from the entry"),
        );
    }
}

/// Why a container that is not there cannot be made.
fn block_missing(out: &mut Assessment, doc: &Desired, id: &Name, spec: &ContainerSpec, observed: &Observed) {
    let Some(from) = &spec.from else {
        out.block(Reason::ContainerNotFound, format!("there is no image {id}: say from what it shall be made (from)"));
        return;
    };
    if spec.template {
        out.differences.push(Difference::new("template", true, false));
    }
    if doc.templates.contains_key(id) {
        out.block(Reason::NameTaken, format!("{id} is a template's name: images have one name each"));
    }
    if let Some(template) = &from.template {
        out.differences.push(Difference::new("from.template", template.as_str(), Value::Absent));
        match doc.templates.get(template.as_str()) {
            Some(spec) if !has_image(observed, template) => {
                if let Some((field, instead)) = template_refusal(spec) {
                    out.block(
                        Reason::NotSupported,
                        format!("systemd-importd has no {field} of template {template} ({instead})"),
                    );
                }
            }
            None if !has_image(observed, template) => out.block(
                Reason::SourceMissing,
                format!("there is no image {template}: say under lxc.templates where it comes from"),
            ),
            Some(_) | None => {}
        }
    }
    if let Some(origin) = &from.clone {
        out.differences.push(Difference::new("from.clone", &**origin, Value::Absent));
        let declared = doc.containers.get(origin).is_some_and(|spec| spec.ensure == Ensure::Present);
        if !declared && !has_image(observed, origin) {
            out.block(Reason::SourceMissing, format!("there is no container {origin} to clone"));
        }
    }
}

/// What its settings file says, against the entry.
fn settings_differences(out: &mut Assessment, id: &str, spec: &ContainerSpec, settings: Option<&GuestSettings>) {
    let mut differ = |field: String, desired: Value, observed: Value| {
        if desired != observed {
            out.differences.push(Difference { field, desired, observed });
        }
    };
    if let Some(hostname) = &spec.hostname {
        let found = settings.map(|settings| settings.hostname.as_str()).filter(|found| !found.is_empty());
        differ("hostname".to_owned(), hostname.as_str().into(), Value::text(found));
    }
    if let Some(links) = spec.machine_links(id) {
        let shown = |inside: &str, outside: &str| format!("{inside}={outside}");
        let desired = links.iter().map(|(inside, outside)| shown(inside, outside)).collect();
        let found = settings.into_iter().flat_map(|settings| settings.networks.values());
        let found = found.map(|network| shown(&network.name, network.rest.get(HOST_SIDE).map_or("", String::as_str)));
        let observed: Vec<String> = found.collect();
        let observed = if observed.is_empty() && !links.is_empty() { Value::Absent } else { Value::Strs(observed) };
        differ("networks".to_owned(), Value::Strs(desired), observed);
    }
    for (path, mount) in &spec.mounts {
        let Some(source) = &mount.source else { continue };
        let found = settings.and_then(|settings| settings.mounts.values().find(|found| found.path == *path));
        differ(
            format!("mounts.{path}.source"),
            source.as_str().into(),
            Value::text(found.map(|found| found.volume.as_str())),
        );
        if let Some(read_only) = mount.read_only {
            let observed = found.map_or(Value::Absent, |found| found.read_only.into());
            differ(format!("mounts.{path}.read_only"), read_only.into(), observed);
        }
    }
}

/// What its unit says, against the entry.
fn unit_differences(out: &mut Assessment, spec: &ContainerSpec, facts: Option<&UnitFacts>) {
    if let Some(wanted) = spec.onboot {
        let found = facts.is_some_and(is_enabled);
        if wanted != found {
            out.differences.push(Difference::new("onboot", wanted, found));
        }
    }
    let observed = |property: &str| {
        let value = facts.and_then(|facts| facts.properties.get(property));
        // Infinity is the largest number there is.
        value.and_then(Json::as_u64).filter(|&number| number != u64::MAX)
    };
    for (property, value) in machine_properties(spec) {
        let (desired, observed) = (value.as_u64(), observed(&property));
        if desired == observed {
            continue;
        }
        // In the entry's own words and measure.
        let (field, divisor) = match property.as_str() {
            "MemoryMax" => ("memory_mib", 1 << 20),
            "MemorySwapMax" => ("swap_mib", 1 << 20),
            _ => (if spec.cpulimit == Want::Unmanaged { "cores" } else { "cpulimit" }, USEC),
        };
        let shown = |number: Option<u64>| match number {
            None => Value::Absent,
            Some(number) if number % divisor == 0 => Value::UInt(number / divisor),
            Some(number) => Value::Str(format!("{}.{:03}", number / divisor, number % divisor * 1000 / divisor)),
        };
        out.differences.push(Difference {
            field: field.to_owned(),
            desired: shown(desired),
            observed: shown(observed),
        });
    }
}

/// Its networks on their bridges.
fn network_differences(
    out: &mut Assessment,
    doc: &Desired,
    id: &Name,
    spec: &ContainerSpec,
    observed: &Observed,
    running: bool,
) {
    for (name, port) in machine_ports(id, spec, doc) {
        let facts = observed.ports.get(&name);
        let found = facts.filter(|facts| facts.bridge == port.bridge);
        if let Some(facts) = found {
            // What a declared port says is that port's own; the network's fields are the container's.
            let own = |difference: &Difference| matches!(difference.field.as_str(), "tag" | "trunks");
            let differences = port_differences(&name, &port, facts).into_iter().filter(own);
            out.differences.extend(
                differences.map(|difference| Difference {
                    field: format!("networks.{name}.{}", difference.field),
                    ..difference
                }),
            );
            out.differences.extend(device_difference(format!("networks.{name}.device"), facts));
        } else {
            let on = facts.map(|facts| facts.bridge.to_string());
            let field = format!("networks.{name}.bridge");
            out.differences.push(Difference { field, desired: (&*port.bridge).into(), observed: Value::text(on) });
            block_without_bridge(out, doc, &ResourceId::bridge(port.bridge.clone()), observed);
        }
        if running && out.health.is_none() {
            out.health = facts.and_then(|facts| port_health(facts));
        }
    }
}

/// What was written since it was started, and waits for a restart.
fn pending(out: &mut Assessment, id: &Name, spec: &ContainerSpec, settings: Option<&GuestSettings>) {
    let Some(settings) = settings.filter(|settings| !settings.pending.is_empty()) else { return };
    let fields: Vec<&str> = settings.pending.iter().map(String::as_str).collect();
    let stops = out.differences.iter().any(|difference| difference.field == "running");
    if stops || (!spec.restart && !out.differences.is_empty()) {
        return;
    }
    out.differences.push(Difference::new("restart", fields.join(", ").as_str(), "pending"));
    if !spec.restart {
        out.block(
            Reason::RestartNeeded,
            format!(
                "{} of container {id} are written and wait for its restart: restart it, or say \"restart\": true",
                fields.join(", ")
            ),
        );
    }
}
