//! What Proxmox VE takes of names and numbers, where that is less than others take.

use crate::{
    desired::{
        decode::{Decoded, VLAN},
        document::{Ensure, Want},
        fault::code,
        place::{Faults, quoted},
    },
    model::{Kind, host_side_of},
};

use super::at_entry;

/// Numbers that Proxmox VE gives its guests (`pve-vmid`).
const VMIDS: std::ops::RangeInclusive<u32> = 100..=999_999_999;

/// Whether that is a number of one of Proxmox VE's guests.
fn is_vmid(id: &str) -> bool {
    !id.starts_with(['0', '+']) && id.parse().is_ok_and(|id: u32| VMIDS.contains(&id))
}

/// Whether Proxmox VE takes that as a bridge's name in a container's network.
fn is_bridge(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Checks what Proxmox VE will be told.
pub(super) fn document(decoded: &Decoded, faults: &mut Faults) {
    let document = &decoded.document;
    let no_number = |id: &str| {
        format!("{} is no number of Proxmox VE's: those are from {} to {}", quoted(id), VMIDS.start(), VMIDS.end())
    };
    let mut by_index: Vec<_> = decoded.container_index.iter().collect();
    by_index.sort_by_key(|(_, index)| **index);
    for (id, _) in by_index {
        let Some(spec) = document.containers.get(id).filter(|spec| spec.is_configured() || is_vmid(id)) else {
            continue;
        };
        at_entry(decoded, Kind::Container, id, |at| {
            if !is_vmid(id) {
                faults.add(&at.key("id"), code::OUT_OF_RANGE, || no_number(id));
            }
            let origin = spec.from.as_ref().and_then(|from| from.clone.as_ref());
            if let Some(origin) = origin.filter(|origin| !is_vmid(origin)) {
                let from = at.key("from");
                faults.add(&from.key("clone"), code::OUT_OF_RANGE, || no_number(origin));
            }
            let networks = spec.networks.iter().flatten().filter_map(|(_, network)| network.bridge.as_ref());
            for (field, bridge) in
                spec.bridge.iter().map(|bridge| ("bridge", bridge)).chain(networks.map(|bridge| ("networks", bridge)))
            {
                if !is_bridge(bridge) {
                    faults.add(&at.key(field), code::BAD_NAME, || {
                        format!("{} is no bridge's name to Proxmox VE: letters, digits and - _ . alone", quoted(bridge))
                    });
                }
            }
        });
    }
    // The ports of its containers are written through it.
    for (name, spec) in &document.ports {
        let plugged = spec.ensure == Ensure::Present && host_side_of(name).is_some_and(|(id, _)| is_vmid(&id));
        if !plugged {
            continue;
        }
        at_entry(decoded, Kind::Port, name, |at| {
            if let Want::Is(tag) = spec.tag
                && !(VLAN.0..=VLAN.1).contains(&tag.into())
            {
                faults.add(&at.key("tag"), code::OUT_OF_RANGE, || {
                    format!("{name} is a container's of Proxmox VE, whose VLANs are from {} to {}", VLAN.0, VLAN.1)
                });
            }
            if !is_bridge(&spec.bridge) {
                faults.add(at, code::BAD_NAME, || {
                    let bridge = quoted(&spec.bridge);
                    format!("{bridge} is no bridge's name to Proxmox VE: letters, digits and - _ . alone")
                });
            }
        });
    }
}
