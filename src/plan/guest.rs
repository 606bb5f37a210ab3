//! A container that a runtime with an API has in hand: how it stands, whether it can be mended, and the steps there.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Action, ContainerOp, Desired, Hand, Inventory,
    assess::{Assessment, block_without_bridge},
    compare::guest_differences,
    moving,
};
use crate::{
    desired::{ContainerSource, ContainerSpec, Ensure, MountSpec},
    model::{
        ClusterFacts, Difference, GuestFacts, GuestSettings, Name, Observed, Reason, ResourceId, Value, host_side_of,
    },
};

/// Bytes of a GiB.
pub(super) const GIB: u64 = 1 << 30;

/// Fields that a running container takes only at its next start.
const COLD: [&str; 5] = ["features.", "nameserver", "searchdomain", "mounts.", "startup."];

/// A declared container, and what it is held against.
#[derive(Clone, Copy)]
pub(super) struct Declared<'a> {
    pub(super) doc: &'a Desired,
    pub(super) id: &'a Name,
    pub(super) spec: &'a ContainerSpec,
    pub(super) observed: &'a Observed,
    pub(super) inventory: &'a Inventory,
}

/// Holds a declared container of Proxmox VE's against what that says.
pub(super) fn assess_guest(
    doc: &Desired,
    id: &Name,
    spec: &ContainerSpec,
    observed: &Observed,
    inventory: &Inventory,
) -> Assessment {
    let declared = Declared { doc, id, spec, observed, inventory };
    let mut out = Assessment::default();
    let facts = observed.guests.get(id);
    out.present = facts.is_some_and(|facts| !facts.is_machine);
    match (spec.ensure, facts) {
        (Ensure::Absent, None) => {}
        (Ensure::Absent, Some(facts)) if facts.is_machine => {}
        (Ensure::Absent, Some(facts)) => {
            out.differences.push(Difference::new("ensure", "absent", "present"));
            out.warnings.push("destroys it with its volumes: that cannot be undone".to_owned());
            block_removal(&mut out, id, facts);
        }
        (Ensure::Present, None) => assess_missing(&mut out, declared),
        (Ensure::Present, Some(facts)) if facts.is_machine => {
            out.differences.push(Difference::new("ensure", "present", "absent"));
            out.block(Reason::IdTaken, format!("{id} is the number of a virtual machine: give the container another"));
        }
        (Ensure::Present, Some(facts)) if is_half_made(spec, facts) => {
            assess_missing(&mut out, declared);
        }
        (Ensure::Present, Some(facts)) => assess_present(&mut out, declared, facts),
    }
    if let Some(facts) = facts.filter(|facts| !facts.is_machine) {
        block_away(&mut out, facts);
    }
    out
}

/// Whether it is being made, by an op-dbus that has ended since as like as not: making it takes that up where it is.
fn is_half_made(spec: &ContainerSpec, facts: &GuestFacts) -> bool {
    spec.from.is_some() && facts.lock == "create"
}

/// Why nothing can be said, or done, of a guest whose node is away; it blocks whatever differs.
pub(super) fn block_away(out: &mut Assessment, facts: &GuestFacts) {
    if !facts.away.is_empty() {
        out.blocked = Some((Reason::NodeAway, format!("its node does not answer: {}", facts.away)));
    }
}

fn block_removal(out: &mut Assessment, id: &Name, facts: &GuestFacts) {
    if facts.settings.as_ref().is_some_and(|settings| settings.protection) {
        out.block(
            Reason::Protected,
            format!(
                "container {id} is protected from removal: say \"protection\": false first, in a document of its own"
            ),
        );
    }
    block_locked(out, id, facts);
}

fn block_locked(out: &mut Assessment, id: &Name, facts: &GuestFacts) {
    if !facts.lock.is_empty() {
        out.block(
            Reason::Locked,
            format!("container {id} is locked ({}): taken up again once that is over", facts.lock),
        );
    }
}

/// A container that is not there: all that it shall be, and what stands in the way of making it.
fn assess_missing(out: &mut Assessment, declared: Declared<'_>) {
    let Declared { doc, id, spec, observed, inventory } = declared;
    out.differences.push(Difference::new("ensure", "present", "absent"));
    let nothing = GuestFacts::default();
    // Against nothing at all, each field that is said differs; what happens to be as a default is said, too.
    let mut fields = guest_differences(id, spec, &nothing, &GuestSettings::default());
    for field in &mut fields {
        field.observed = Value::Absent;
    }
    out.differences.extend(fields);
    let Some(from) = &spec.from else {
        out.block(
            Reason::ContainerNotFound,
            format!("Proxmox VE has no container {id}: say with \"from\" what it is made from"),
        );
        return;
    };
    for (field, value) in [("from.template", from.template.as_deref()), ("from.clone", from.clone.as_deref())] {
        if let Some(value) = value {
            out.differences.push(Difference::new(field, value, Value::Absent));
        }
    }
    if let Some(storage) = &from.storage {
        out.differences.push(Difference::new("from.storage", storage.as_str(), Value::Absent));
    }
    if let Some(size) = from.size_gib {
        out.differences.push(Difference::new("from.size_gib", Value::UInt(size), Value::Absent));
    }
    if spec.running == Some(true) {
        out.differences.push(Difference::new("running", true, false));
    }
    let Hand::Proxmox { node } = &inventory.hand else { return };
    let node = spec.node.as_ref().unwrap_or(node);
    let cluster = &observed.cluster;
    block_offline(out, cluster, node);
    let Some(facts) = cluster.nodes.get(node) else { return };
    block_source(out, doc, from, node, observed);
    let root = from.storage.iter().map(|storage| (storage, from.size_gib.unwrap_or(0)));
    let mounts = spec.mounts.values().filter_map(|mount: &MountSpec| Some((mount.storage.as_ref()?, mount.size_gib?)));
    for (storage, size) in root.chain(mounts) {
        block_storage(out, cluster, node, storage, size);
        let path = format!("/storage/{storage}");
        need(out, cluster, &path, "Datastore.AllocateSpace");
    }
    block_rights(out, cluster, id, spec);
    for bridge in bridges(id, spec) {
        if facts.bridges.as_ref().is_none_or(|bridges| !bridges.contains(&*bridge)) {
            block_without_bridge(out, doc, &ResourceId::bridge(bridge), observed);
        }
    }
}

/// A node that does not answer, or that there is not.
pub(super) fn block_offline(out: &mut Assessment, cluster: &ClusterFacts, node: &str) {
    match cluster.nodes.get(node) {
        Some(facts) if !facts.online => out.block(Reason::NodeAway, format!("node {node} is offline")),
        None if !cluster.nodes.is_empty() => {
            let known: Vec<&str> = cluster.nodes.keys().map(String::as_str).collect();
            out.block(Reason::NodeAway, format!("there is no node {node}: there are {}", known.join(", ")));
        }
        _ => {}
    }
}

/// The bridges that a container's networks are on.
pub(super) fn bridges(id: &str, spec: &ContainerSpec) -> BTreeSet<Name> {
    let networks = spec.networks.iter().flatten().filter_map(|(_, network)| network.bridge.clone());
    let short = spec.veth.as_deref().and_then(host_side_of).filter(|(of, _)| **of == *id);
    networks.chain(spec.bridge.clone().filter(|_| short.is_some())).collect()
}

fn block_source(out: &mut Assessment, doc: &Desired, from: &ContainerSource, node: &str, observed: &Observed) {
    if let Some(origin) = &from.clone {
        let there = observed.guests.get(origin).is_some_and(|facts| !facts.is_machine);
        let made = doc.containers.get(origin).is_some_and(|spec| spec.ensure == Ensure::Present && spec.from.is_some());
        if !there && !made {
            out.block(Reason::SourceMissing, format!("there is no container {origin} to clone"));
        }
        return;
    }
    let Some(volume) = &from.template else { return };
    let Some((storage, file)) = volume.split_once(':') else {
        out.block(Reason::SourceMissing, format!("{volume} is no volume: write STORAGE:vztmpl/FILE"));
        return;
    };
    let fetched = doc.templates.iter().any(|(name, spec)| {
        file.strip_prefix("vztmpl/") == Some(name) && spec.storage.as_deref().unwrap_or("local") == storage
    });
    let known = observed.cluster.nodes.get(node).and_then(|node| node.storages.get(storage));
    match known {
        Some(Some(facts)) if !facts.templates.contains(volume.as_str()) && !fetched => {
            let others: Vec<&str> = facts.templates.iter().map(|volume| &**volume).take(5).collect();
            let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
            out.block(
                Reason::SourceMissing,
                format!("there is no template {volume} on node {node} (there: {others}): fetch it with lxc.templates"),
            );
        }
        None => out.block(Reason::StorageMissing, format!("node {node} has no storage {storage}")),
        _ => {}
    }
}

fn block_storage(out: &mut Assessment, cluster: &ClusterFacts, node: &str, storage: &str, size_gib: u64) {
    let Some(node_facts) = cluster.nodes.get(node) else { return };
    match node_facts.storages.get(storage) {
        Some(Some(facts)) if !facts.content.is_empty() && !facts.content.contains("rootdir") => {
            out.block(Reason::StorageMissing, format!("storage {storage} takes no containers (content rootdir)"));
        }
        Some(Some(facts)) if facts.available_bytes < size_gib.saturating_mul(GIB) => {
            let free = facts.available_bytes / GIB;
            out.block(Reason::NoSpace, format!("storage {storage} has {free} GiB free, and {size_gib} GiB are wanted"));
        }
        Some(_) => {}
        None => out.block(Reason::StorageMissing, format!("node {node} has no storage {storage}")),
    }
}

/// What only the token's rights can tell.
fn block_rights(out: &mut Assessment, cluster: &ClusterFacts, id: &Name, spec: &ContainerSpec) {
    let path = format!("/vms/{id}");
    let of_pool =
        |privilege: &str| spec.pool.as_ref().is_some_and(|pool| cluster.may(&format!("/pool/{pool}"), privilege));
    let mut wanted = vec!["VM.Allocate", "VM.Config.Options", "VM.Config.Network"];
    if spec.running == Some(true) {
        wanted.push("VM.PowerMgmt");
    }
    for privilege in wanted {
        if !of_pool(privilege) {
            need(out, cluster, &path, privilege);
        }
    }
    block_token(out, spec);
}

pub(super) fn need(out: &mut Assessment, cluster: &ClusterFacts, path: &str, privilege: &str) {
    if !cluster.may(path, privilege) {
        out.block(
            Reason::NotPermitted,
            format!("op-dbus's token lacks {privilege} on {path}: grant it a role that has it"),
        );
    }
}

/// What no API token can do, whatever its rights.
fn block_token(out: &mut Assessment, spec: &ContainerSpec) {
    let features = &spec.features;
    let rest = [features.keyctl, features.fuse, features.mknod].contains(&Some(true));
    if rest || features.mount.as_ref().is_some_and(|kinds| !kinds.is_empty()) {
        out.block(
            Reason::NotPermitted,
            "Proxmox VE lets no API token set features other than nesting: set them as root@pam, and leave them out here",
        );
    }
    let privileged = spec.from.as_ref().is_some_and(|from| from.unprivileged == Some(false));
    if privileged && features.nesting == Some(true) {
        out.block(
            Reason::NotPermitted,
            "Proxmox VE lets no API token set features of a privileged container: make it unprivileged",
        );
    }
    if spec.mounts.values().any(|mount| mount.source.is_some()) {
        out.block(
            Reason::NotPermitted,
            "Proxmox VE lets no API token mount folders of the host: use a volume, or mount it as root@pam",
        );
    }
}

/// A container that is there: what differs, and what of that cannot be brought about.
fn assess_present(out: &mut Assessment, declared: Declared<'_>, facts: &GuestFacts) {
    let Declared { doc, id, spec, observed, .. } = declared;
    if let Some(settings) = &facts.settings {
        out.differences = guest_differences(id, spec, facts, settings);
    }
    if let Some(wanted) = spec.running.filter(|&wanted| wanted != facts.running) {
        out.differences.push(Difference::new("running", wanted, facts.running));
    }
    if spec.template && !facts.is_template {
        out.differences.push(Difference::new("template", true, false));
        out.warnings.push("a template cannot be turned back into a container".to_owned());
    }
    moving::assess_node(out, declared, facts);
    if spec.node.is_none() && facts.is_remote && !out.differences.is_empty() {
        out.block(
            Reason::NotSupported,
            format!(
                "container {id} is on node {0}, not on this one: say \"node\": \"{0}\" to have it managed there",
                facts.node
            ),
        );
    }
    let differs = |field: &str| out.differences.iter().any(|difference| difference.field == field);
    if differs("from.unprivileged") {
        let text = format!(
            "container {id} was made the other way, and that cannot be changed: make it anew, or take this away"
        );
        out.block(Reason::Immutable, text);
    }
    let shrinks = out.differences.iter().find(|difference| {
        difference.field.ends_with("size_gib")
            && match (&difference.desired, &difference.observed) {
                (Value::UInt(wanted), Value::UInt(now)) => wanted < now,
                // Not a whole number of GiB.
                (Value::UInt(wanted), Value::Str(bytes)) => {
                    let now: u64 = bytes.split(' ').next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
                    wanted.saturating_mul(GIB) < now
                }
                _ => false,
            }
    });
    if let Some(field) = shrinks.map(|difference| difference.field.clone()) {
        out.block(Reason::CannotShrink, format!("{field}: volumes only grow; making one smaller would lose data"));
    }
    if facts.is_template && spec.running == Some(true) {
        out.block(Reason::Refused, format!("container {id} is a template, which cannot run: clone it"));
    }
    if out.differences.iter().all(|difference| difference.field == "node" && moving::waits(spec, facts)) {
        pending(out, spec, facts);
        return;
    }
    let changes_features = out
        .differences
        .iter()
        .any(|difference| difference.field.starts_with("features.") && difference.field != "features.nesting");
    if changes_features || out.differences.iter().any(|difference| difference.field.ends_with(".source")) {
        block_token(out, spec);
    }
    if out.differences.iter().any(|difference| difference.field == "pool") {
        for pool in [spec.pool.as_deref().unwrap_or_default(), &facts.pool].into_iter().filter(|pool| !pool.is_empty())
        {
            need(out, &observed.cluster, &format!("/pool/{pool}"), "Pool.Allocate");
        }
    }
    if !moving::is_under_way(spec, facts) {
        block_locked(out, id, facts);
    }
    let moves = out.differences.iter().any(|difference| difference.field == "node");
    if !moves && out.differences.iter().any(|difference| difference.field.ends_with("bridge")) {
        let nodes = &observed.cluster.nodes;
        for bridge in bridges(id, spec) {
            let known = nodes.get(&facts.node).and_then(|node| node.bridges.as_ref());
            if !facts.is_remote && known.is_none_or(|bridges| !bridges.contains(&*bridge)) {
                block_without_bridge(out, doc, &ResourceId::bridge(bridge), observed);
            }
        }
    }
    let stays = facts.running && spec.running != Some(false);
    let cold: Vec<&str> = out
        .differences
        .iter()
        .map(|difference| difference.field.as_str())
        .filter(|field| COLD.iter().any(|cold| field.starts_with(cold)))
        .collect();
    if stays && !cold.is_empty() {
        let what = cold.join(", ");
        out.warnings.push(if spec.restart {
            format!("restarts the container: {what} change only so")
        } else {
            format!("RestartNeeded: {what} change only at its next start")
        });
    }
}

/// What waits for a restart, written already or a move: brought about where the entry allows that, and shown as pending
/// elsewhere.
fn pending(out: &mut Assessment, spec: &ContainerSpec, facts: &GuestFacts) {
    let moves = !out.differences.is_empty();
    let waits = facts.settings.iter().flat_map(|settings| &settings.pending);
    let fields: Vec<&str> = waits.map(String::as_str).collect();
    let written = fields.iter().map(|field| Difference::new(*field, "the new value", "the old one until a restart"));
    out.differences.extend(written);
    if spec.restart {
        return;
    }
    if moves {
        out.block(Reason::RestartNeeded, moving::WAITS);
    }
    if !fields.is_empty() {
        let text = format!(
            "written, and waits for a restart: {}; restart it, or say \"restart\": true to have op-dbus do so",
            fields.join(", ")
        );
        out.block(Reason::RestartNeeded, text);
    }
}

/// The actions that bring a declared container about, in their order, each with the fields it changes.
pub(super) fn guest_actions(
    id: &Name,
    spec: &ContainerSpec,
    assessment: &Assessment,
    observed: &Observed,
) -> Vec<(Action, Vec<Difference>)> {
    let action = |op: ContainerOp| Action::Container(id.clone(), op);
    let all = &assessment.differences;
    let of = |test: &dyn Fn(&str) -> bool| -> Vec<Difference> {
        all.iter().filter(|difference| test(&difference.field)).cloned().collect()
    };
    let shared = || Arc::new(spec.clone());
    let facts = observed.guests.get(id).filter(|facts| !facts.is_machine && !is_half_made(spec, facts));
    if spec.ensure == Ensure::Absent {
        return vec![(action(ContainerOp::Destroy { purge: spec.purge }), all.clone())];
    }
    let mut out = Vec::new();
    let is_size = |field: &str| field.ends_with("size_gib");
    let running = of(&|field| field == "running");
    let template = of(&|field| field == "template");
    let Some(facts) = facts else {
        out.push((action(ContainerOp::Create(shared())), of(&|field| field != "running" && field != "template")));
        if spec.from.as_ref().is_some_and(|from| from.clone.is_some()) {
            // The copy is as what it is a copy of: what the entry says is laid over it.
            out.push((action(ContainerOp::Set(shared())), Vec::new()));
            if spec.from.as_ref().is_some_and(|from| from.size_gib.is_some()) || !spec.mounts.is_empty() {
                out.push((action(ContainerOp::Grow(shared())), Vec::new()));
            }
        }
        if spec.template {
            out.push((action(ContainerOp::MakeTemplate), template));
        } else if spec.running == Some(true) {
            out.push((action(ContainerOp::Start), running));
        }
        return out;
    };
    let waits = facts.settings.as_ref().is_some_and(|settings| {
        !all.is_empty()
            && all.iter().all(|difference| {
                settings.pending.contains(&difference.field) && difference.desired == Value::from("the new value")
            })
    });
    if waits {
        return vec![(action(ContainerOp::Restart), all.clone())];
    }
    let sizes = of(&is_size);
    let settings =
        of(&|field| !is_size(field) && !["running", "template", "node", "from.unprivileged"].contains(&field));
    let stops = !running.is_empty() && spec.running == Some(false);
    if stops {
        out.push((action(ContainerOp::Stop), running.clone()));
    }
    if let Some(to) = moving::relocation(spec, facts, &observed.cluster) {
        out.push((action(ContainerOp::Move(Arc::new(to))), of(&|field| field == "node")));
    }
    if !settings.is_empty() {
        out.push((action(ContainerOp::Set(shared())), settings));
    }
    if !sizes.is_empty() {
        out.push((action(ContainerOp::Grow(shared())), sizes));
    }
    if !template.is_empty() {
        out.push((action(ContainerOp::MakeTemplate), template));
    }
    if !running.is_empty() && !stops {
        out.push((action(ContainerOp::Start), running));
    }
    out
}
