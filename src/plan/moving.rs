//! A container that shall be on another node than it is on.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Hand, Relocation,
    assess::{Assessment, Why, block_without_bridge},
    guest::{Declared, GIB, block_offline, bridges, need},
};
use crate::{
    desired::ContainerSpec,
    model::{ClusterFacts, Difference, GuestFacts, MOVING, Name, NodeFacts, Reason, ResourceId, StorageFacts},
};

/// Why a move waits, for people.
pub(super) const WAITS: &str =
    "it runs, and is moved only by a restart: stop it, or say \"restart\": true to have op-dbus restart it there";

/// The node that the document names, where the container is on another.
fn target<'a>(spec: &'a ContainerSpec, facts: &GuestFacts) -> Option<&'a str> {
    spec.node.as_deref().filter(|node| *node != facts.node)
}

/// Whether it runs and is to go on running: such a one is moved only by a restart.
fn runs_on(spec: &ContainerSpec, facts: &GuestFacts) -> bool {
    facts.running && spec.running != Some(false)
}

/// Whether it is being moved, by an op-dbus that has ended since as like as not: moving it takes that up where it is.
pub(super) fn is_under_way(spec: &ContainerSpec, facts: &GuestFacts) -> bool {
    target(spec, facts).is_some() && facts.lock == MOVING
}

/// Whether its move waits for a restart that its entry does not allow.
pub(super) fn waits(spec: &ContainerSpec, facts: &GuestFacts) -> bool {
    target(spec, facts).is_some() && runs_on(spec, facts) && !spec.restart && !is_under_way(spec, facts)
}

/// How it comes to the node that its entry names; `None` where it is there, or has to wait.
pub(super) fn relocation(spec: &ContainerSpec, facts: &GuestFacts, cluster: &ClusterFacts) -> Option<Relocation> {
    let node = target(spec, facts)?;
    if waits(spec, facts) {
        return None;
    }
    let storages = cluster.nodes.get(node).and_then(|there| placed(spec, facts, cluster, node, there).ok());
    let restart = spec.restart && runs_on(spec, facts);
    Some(Relocation { node: node.to_owned(), restart, storages: storages.unwrap_or_default() })
}

/// Holds the node it is on against the one that its entry names, and says what stands in the way.
pub(super) fn assess_node(out: &mut Assessment, declared: Declared<'_>, facts: &GuestFacts) {
    let Declared { id, spec, observed, .. } = declared;
    let Some(node) = target(spec, facts) else { return };
    let cluster = &observed.cluster;
    out.differences.push(Difference::new("node", node, facts.node.as_str()));
    block_offline(out, cluster, node);
    need(out, cluster, &format!("/vms/{id}"), "VM.Migrate");
    if let Some(why) = cluster.refused_moves.get(id).and_then(|nodes| nodes.get(node)) {
        out.block(Reason::Refused, format!("Proxmox VE does not let container {id} go to node {node}: {why}"));
    }
    block_folders(out, facts);
    if let Some(there) = cluster.nodes.get(node) {
        match placed(spec, facts, cluster, node, there) {
            Ok(elsewhere) => {
                for storage in elsewhere.values() {
                    need(out, cluster, &format!("/storage/{storage}"), "Datastore.AllocateSpace");
                }
                warn_of_room(out, facts, node, there, &elsewhere);
            }
            Err((reason, text)) => out.block(reason, text),
        }
        block_bridges(out, declared, needed_bridges(id, spec, facts), node, there);
    }
    if runs_on(spec, facts) && !waits(spec, facts) {
        out.warnings
            .push(format!("restarts the container: it is stopped on node {}, and started on {node}", facts.node));
    }
}

/// Folders of a node stay where they are.
fn block_folders(out: &mut Assessment, facts: &GuestFacts) {
    let mounts = facts.settings.iter().flat_map(|settings| settings.mounts.values());
    // What is said to be the same on each node is taken for that.
    let stays = |mount: &&crate::model::GuestMount| {
        mount.volume.starts_with('/') && mount.rest.get("shared").is_none_or(|shared| shared == "0")
    };
    if let Some(mount) = mounts.into_iter().find(stays) {
        let text = format!(
            "{} is {} of node {}, which does not move with the container: take the mount away, or mark it shared as root@pam",
            mount.path, mount.volume, facts.node
        );
        out.block(Reason::NotSupported, text);
    }
}

fn takes_containers(storage: &StorageFacts) -> bool {
    storage.content.is_empty() || storage.content.contains("rootdir")
}

/// The storages of its volumes that the other node does not have, with the one of that node that takes them instead:
/// that of `from.storage`. Or why there is none.
fn placed(
    spec: &ContainerSpec,
    facts: &GuestFacts,
    cluster: &ClusterFacts,
    node: &str,
    there: &NodeFacts,
) -> Result<BTreeMap<String, String>, Why> {
    let mut out = BTreeMap::new();
    // A node whose storages are not known is left to say so itself.
    if there.storages.is_empty() {
        return Ok(out);
    }
    let takes = |storage: &str| there.storages.get(storage).and_then(Option::as_ref).is_some_and(takes_containers);
    let shared = |storage: &str| {
        let seen = cluster.nodes.values().filter_map(|node| node.storages.get(storage)?.as_ref());
        seen.into_iter().any(|storage| storage.is_shared)
    };
    let instead = spec.from.as_ref().and_then(|from| from.storage.as_deref()).filter(|storage| takes(storage));
    for storage in facts.settings.iter().flat_map(|settings| settings.storages.keys()) {
        match instead {
            _ if takes(storage) => {}
            _ if shared(storage) => {
                let text = format!(
                    "node {node} does not have storage {storage}, which its volumes are on: make it available there"
                );
                return Err((Reason::StorageMissing, text));
            }
            Some(instead) => drop(out.insert(storage.clone(), instead.to_owned())),
            None => {
                let text = format!(
                    "node {node} has no storage {storage} for containers, which its volumes are on: name one that it has as from.storage"
                );
                return Err((Reason::StorageMissing, text));
            }
        }
    }
    Ok(out)
}

/// A volume may take less than its size, so this stands in nobody's way.
fn warn_of_room(
    out: &mut Assessment,
    facts: &GuestFacts,
    node: &str,
    there: &NodeFacts,
    elsewhere: &BTreeMap<String, String>,
) {
    let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
    for (storage, bytes) in facts.settings.iter().flat_map(|settings| &settings.storages) {
        let sum = wanted.entry(elsewhere.get(storage).unwrap_or(storage)).or_default();
        *sum = sum.saturating_add(*bytes);
    }
    for (storage, bytes) in wanted {
        let Some(Some(known)) = there.storages.get(storage) else { continue };
        if !known.is_shared && known.available_bytes < bytes {
            out.warnings.push(format!(
                "storage {storage} of node {node} has {} GiB free, and its volumes are up to {} GiB",
                known.available_bytes / GIB,
                bytes.div_ceil(GIB)
            ));
        }
    }
}

/// The bridges that it must find there. One that goes on running is started there as it is, before anything of it is
/// changed; and of one whose entry names none, they stay what they are.
fn needed_bridges(id: &Name, spec: &ContainerSpec, facts: &GuestFacts) -> BTreeSet<Name> {
    let mut needed = bridges(id, spec);
    if runs_on(spec, facts) || needed.is_empty() {
        let networks = facts.settings.iter().flat_map(|settings| settings.networks.values());
        needed.extend(networks.map(|network| Name::from(network.bridge.as_str())).filter(|bridge| !bridge.is_empty()));
    }
    needed
}

fn block_bridges(out: &mut Assessment, declared: Declared<'_>, needed: BTreeSet<Name>, node: &str, there: &NodeFacts) {
    let Declared { doc, observed, inventory, .. } = declared;
    let is_local = matches!(&inventory.hand, Hand::Proxmox { node: local } if local == node);
    for bridge in needed {
        match &there.bridges {
            Some(bridges) if bridges.contains(&*bridge) => {}
            // It may be the document's own.
            _ if is_local => block_without_bridge(out, doc, &ResourceId::bridge(bridge), observed),
            Some(_) => out.block(Reason::BridgeMissing, format!("node {node} has no bridge {bridge}")),
            None => {}
        }
    }
}
