//! What a container's entry must not say, by itself and beside the others.

use std::collections::BTreeMap;

use crate::{
    desired::{
        container::{ContainerSpec, NetworkSpec, TemplateSource, TemplateSpec},
        decode::Decoded,
        document::{Ensure, Want},
        fault::code,
        place::{At, Faults, quoted},
    },
    model::{Kind, Name},
};

use super::{at_entry, is_absent};

/// Checks a container's entry by itself.
pub(in crate::desired) fn container(spec: &ContainerSpec, at: &At<'_>, faults: &mut Faults) {
    let mut against = |field: &str, text: &str| faults.add(&at.key(field), code::CONTRADICTION, || text.to_owned());
    if spec.ensure == Ensure::Absent {
        if spec.running == Some(true) {
            against("running", "what shall not exist cannot run: take running or ensure away");
        }
        if spec.template {
            against("template", "what shall not exist is no template: take template or ensure away");
        }
    } else if spec.purge {
        against("purge", "is a way of removing: it goes with \"ensure\": \"absent\"");
    }
    if spec.template && spec.running == Some(true) {
        against("running", "a template cannot run: take running or template away");
    }
    if spec.networks.is_some() && (spec.veth.is_some() || spec.bridge.is_some()) {
        against("veth", "veth and bridge are the short form of the first of networks: write one of the two");
    }
    if let Some(from) = &spec.from {
        let at = at.key("from");
        let mut against = |field: &str, text: &str| faults.add(&at.key(field), code::CONTRADICTION, || text.to_owned());
        if from.clone.is_some() {
            if !from.ssh_public_keys.is_empty() {
                against("ssh_public_keys", "a clone keeps those of what it is cloned from: take this away");
            }
            if from.password_credential.is_some() {
                against("password_credential", "a clone keeps that of what it is cloned from: take this away");
            }
            if from.full == Some(false) && from.storage.is_some() {
                against("storage", "a linked clone lies where what it is cloned from does: take storage or full away");
            }
        } else if from.full.is_some() {
            against("full", "only a clone is full or linked: take this away");
        }
    }
    for (index, (path, mount)) in spec.mounts.iter().enumerate() {
        let list = at.key("mounts");
        let at = list.index(index);
        let text = match (&mount.storage, &mount.source, mount.size_gib) {
            (Some(_), Some(_), _) => {
                "a mount is a volume of a storage or a folder of the host: take one of the two away"
            }
            (Some(_), None, None) => "a new volume needs its size: add size_gib",
            (None, Some(_), Some(_)) => "a folder of the host has no size of its own: take size_gib away",
            _ => continue,
        };
        faults.add(&at, code::CONTRADICTION, || format!("{} of {}", text, quoted(path)));
    }
}

/// Checks a template's entry by itself.
pub(in crate::desired) fn template(spec: &TemplateSpec, at: &At<'_>, faults: &mut Faults) {
    if spec.checksum.is_some() && matches!(spec.source, TemplateSource::Appliance(_)) {
        faults.add(&at.key("checksum"), code::CONTRADICTION, || {
            "the index of appliances holds the digests of its own: take this away".to_owned()
        });
    }
}

/// Checks containers against one another and against bridges.
pub(super) fn together(decoded: &Decoded, faults: &mut Faults) {
    let document = &decoded.document;
    let mut addresses: BTreeMap<&str, &Name> = BTreeMap::new();
    let mut macs: BTreeMap<&str, &Name> = BTreeMap::new();
    let mut by_index: Vec<_> = decoded.container_index.iter().collect();
    by_index.sort_by_key(|(_, index)| **index);
    for (id, _) in by_index {
        let Some(spec) = document.containers.get(id) else { continue };
        at_entry(decoded, Kind::Container, id, |at| {
            let networks = spec.networks.iter().flatten().filter(|_| spec.ensure == Ensure::Present);
            for (name, network) in networks {
                let at = at.key("networks");
                if let Some(bridge) = network.bridge.as_ref().filter(|bridge| is_absent(document, bridge)) {
                    faults.add(&at, code::CONTRADICTION, || {
                        format!("bridge {} of {name} shall be absent: take one of the two away", quoted(bridge))
                    });
                }
                unique(network, name, id, (&mut addresses, &mut macs), &at, faults);
            }
            if let Some(origin) = spec.from.as_ref().and_then(|from| from.clone.as_ref()) {
                let gone = document.containers.get(origin).is_some_and(|spec| spec.ensure == Ensure::Absent);
                if origin == id || gone {
                    let from = at.key("from");
                    faults.add(&from.key("clone"), code::CONTRADICTION, || {
                        format!("container {} is not there to be cloned", quoted(origin))
                    });
                }
            }
        });
    }
}

/// No two networks have one address, or one MAC.
fn unique<'d>(
    network: &'d NetworkSpec,
    name: &str,
    id: &'d Name,
    (addresses, macs): (&mut BTreeMap<&'d str, &'d Name>, &mut BTreeMap<&'d str, &'d Name>),
    at: &At<'_>,
    faults: &mut Faults,
) {
    let mut taken = |what: &str, value: &str, other: &Name| {
        faults.add(at, code::CONTRADICTION, || {
            format!("{what} {} of {name} is container {other}'s already: give each its own", quoted(value))
        });
    };
    for want in [&network.ip, &network.ip6] {
        if let Want::Is(address) = want
            && let Some((address, _)) = address.split_once('/')
            && let Some(other) = addresses.insert(address, id)
        {
            taken("address", address, other);
        }
    }
    if let Some(mac) = &network.hwaddr
        && let Some(other) = macs.insert(mac, id)
    {
        taken("MAC", mac, other);
    }
}
