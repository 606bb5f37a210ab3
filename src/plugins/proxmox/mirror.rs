//! What Proxmox VE says, read: its list in one call, and each container's configuration where that may have changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt as _, stream};
use serde_json::Value;

use super::{
    Settings,
    client::{Call, Client, Verb, encoded},
    config,
    error::ApiError,
    params::{TEMPLATE_STORAGE, container_path},
    props::list,
};
use crate::{
    desired::{ContainerSpec, Ensure},
    model::{ClusterFacts, GuestFacts, Name, NodeFacts, Runtime, StorageFacts},
    plugins::Interest,
};

/// Configurations read at once.
const CONFIGS_AT_ONCE: usize = 8;

/// All guests, by id.
pub(super) type Guests = BTreeMap<Name, GuestFacts>;

/// An answer of `/cluster/resources`.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// The guests, without their settings.
    pub(super) guests: Guests,
    /// Nodes, with the storages that each has.
    pub(super) nodes: BTreeMap<String, NodeFacts>,
}

/// Reads the list: the one call that tells of all guests, nodes and storages.
pub(super) async fn list_all(client: &Client, settings: &Settings) -> Result<Listed, ApiError> {
    let answer = client.get("/cluster/resources").await?;
    let Some(items) = answer.as_array() else { return Err(ApiError::Nonsense("no list".to_owned())) };
    let mut out = Listed::default();
    for item in items {
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("type") {
            "node" => out.nodes.entry(text("node").to_owned()).or_default().online = text("status") == "online",
            "storage" => {
                let node = out.nodes.entry(text("node").to_owned()).or_default();
                node.storages.insert(text("storage").to_owned(), Some(storage(item)));
            }
            "lxc" | "qemu" => {
                if let Some(id) = item.get("vmid").and_then(config::text) {
                    out.guests.insert(id.into(), guest(item, settings));
                }
            }
            _ => {}
        }
    }
    for guest in out.guests.values_mut() {
        if out.nodes.get(&guest.node).is_some_and(|node| !node.online) {
            guest.away = format!("node {} is offline", guest.node);
        }
    }
    Ok(out)
}

fn storage(item: &Value) -> StorageFacts {
    let number = |key: &str| item.get(key).and_then(config::text).and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let content = item.get("content").and_then(Value::as_str).unwrap_or_default();
    StorageFacts {
        available_bytes: number("maxdisk").saturating_sub(number("disk")),
        content: list(content).map(str::to_owned).collect(),
        is_shared: item.get("shared").and_then(config::text).is_some_and(|text| text == "1"),
        templates: BTreeSet::new(),
    }
}

fn guest(item: &Value, settings: &Settings) -> GuestFacts {
    let text = |key: &str| item.get(key).and_then(config::text).unwrap_or_default();
    let node = text("node");
    GuestFacts {
        has_foreign_settings: false,
        runtime: Runtime::Proxmox,
        is_machine: text("type") == "qemu",
        is_remote: node != settings.node,
        node,
        name: text("name"),
        running: text("status") == "running",
        is_template: text("template") == "1",
        lock: text("lock"),
        tags: list(&text("tags")).map(str::to_owned).collect(),
        pool: text("pool"),
        cores: text("maxcpu").parse::<f64>().ok().filter(|cores| cores.fract() == 0.0).map_or(0, whole),
        memory_bytes: text("maxmem").parse().unwrap_or(0),
        swap_bytes: 0,
        away: String::new(),
        settings: None,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
// A conversion that saturates: no machine has so many.
const fn whole(number: f64) -> u32 {
    number as u32
}

/// Reads the configurations of those guests, and lays them over what the list says. One whose node is away keeps what
/// was last known, and says why.
///
/// # Errors
/// Only where the whole of Proxmox VE is away.
pub(super) async fn read_settings(
    client: &Client,
    guests: &mut Guests,
    ids: impl IntoIterator<Item = Name>,
    closely: bool,
) -> Result<(), ApiError> {
    let wanted: Vec<(Name, GuestFacts)> = ids
        .into_iter()
        .filter_map(|id| {
            let guest = guests.get(&id).filter(|guest| !guest.is_machine && guest.away.is_empty())?.clone();
            Some((id, guest))
        })
        .collect();
    let reads = wanted.into_iter().map(|(id, guest)| async move {
        let read = read_one(client, &id, &guest, closely).await;
        (id, read)
    });
    let mut reads = stream::iter(reads).buffer_unordered(CONFIGS_AT_ONCE);
    while let Some((id, read)) = reads.next().await {
        let Some(facts) = guests.get_mut(&id) else { continue };
        match read {
            Ok(read) => *facts = read,
            Err(error) if error.is_away() => return Err(error),
            // It went between the list and now.
            Err(ApiError::Missing(_)) => drop(guests.remove(&id)),
            Err(error) => facts.away = error.to_string(),
        }
    }
    Ok(())
}

/// Reads one container: its configuration, what of that waits, and looked at `closely` whether it runs and its
/// addresses. (The list is made every 10 s on each node, and so tells late whether a container runs; where nothing hints
/// at a change, as at op-dbus's own start, that is soon enough.)
async fn read_one(client: &Client, id: &Name, guest: &GuestFacts, closely: bool) -> Result<GuestFacts, ApiError> {
    let path = container_path(&guest.node, id);
    let mut running = guest.running;
    if closely {
        let status = client.get(format!("{path}/status/current")).await?;
        running = status.get("status").and_then(Value::as_str) == Some("running");
    }
    let answer = client.get(format!("{path}/pending")).await?;
    let raw = config::raw_of_pending(&answer);
    let mut settings = config::settings(&raw);
    if running {
        // Only what runs can wait for a restart, or have addresses.
        settings.pending = config::pending(&answer);
    }
    if running && closely {
        // Old versions have no such call, and a container that just stops answers with an error.
        let interfaces = client.call(&Call::new(Verb::Get, format!("{path}/interfaces"))).await;
        settings.addresses = interfaces.as_ref().map(config::addresses).unwrap_or_default();
    }
    Ok(GuestFacts { running, ..with_settings(guest, &raw, settings) })
}

/// What a configuration says goes before the list, which is some seconds old.
fn with_settings(guest: &GuestFacts, raw: &config::Raw, settings: crate::model::GuestSettings) -> GuestFacts {
    const MIB: u64 = 1 << 20;
    GuestFacts {
        has_foreign_settings: false,
        name: if settings.hostname.is_empty() { guest.name.clone() } else { settings.hostname.clone() },
        tags: raw.get("tags").map(|tags| list(tags).map(str::to_owned).collect()).unwrap_or_default(),
        lock: raw.get("lock").cloned().unwrap_or_default(),
        is_template: raw.get("template").is_some_and(|text| super::props::is_on(text)),
        cores: settings.cores.unwrap_or(0),
        memory_bytes: settings.memory_mib.saturating_mul(MIB),
        swap_bytes: settings.swap_mib.saturating_mul(MIB),
        settings: Some(Arc::new(settings)),
        ..guest.clone()
    }
}

/// What op-dbus's token may do.
pub(super) async fn rights(client: &Client) -> Result<Option<BTreeMap<String, BTreeMap<String, bool>>>, ApiError> {
    let answer = match client.get("/access/permissions").await {
        Ok(answer) => answer,
        Err(error) if error.is_away() => return Err(error),
        // Then each call says by itself what may not be.
        Err(_) => return Ok(None),
    };
    let propagates = |value: &Value| config::text(value).is_some_and(|text| text == "1");
    let paths = answer.as_object().into_iter().flatten().map(|(path, held)| {
        let held = held.as_object().into_iter().flatten();
        (path.clone(), held.map(|(name, value)| (name.clone(), propagates(value))).collect())
    });
    Ok(Some(paths.collect()))
}

/// The node that a container of the document is on, or shall be made on.
pub(super) fn node_of(spec: &ContainerSpec, settings: &Settings) -> String {
    spec.node.clone().unwrap_or_else(|| settings.node.clone())
}

/// Looks up what planning must know besides the guests: templates, where one is to be used or fetched, bridges of the
/// nodes where a container is to be made or moved to, and what speaks against a move.
pub(super) async fn cluster(
    client: &Client,
    settings: &Settings,
    interest: &Interest,
    listed: &Listed,
    rights: Option<BTreeMap<String, BTreeMap<String, bool>>>,
) -> ClusterFacts {
    let mut facts = ClusterFacts { nodes: listed.nodes.clone(), rights, refused_moves: BTreeMap::new() };
    // One that is half made may have to be made on.
    let is_there = |id: &Name| listed.guests.get(id).is_some_and(|facts| facts.lock != "create");
    let makes = |(id, spec): (&Name, &std::sync::Arc<ContainerSpec>)| spec.ensure == Ensure::Present && !is_there(id);
    let moves: Vec<Move> = interest.containers.iter().filter_map(|(id, spec)| Move::of(id, spec, listed)).collect();
    if moves.is_empty() && !interest.containers.iter().any(makes) {
        // How much is free, which changes all the time, is of no interest.
        facts.nodes.values_mut().for_each(|node| node.storages.clear());
    }
    let mut templates: BTreeSet<(String, String)> = BTreeSet::new();
    let mut bridges: BTreeSet<String> = moves.iter().map(|to| to.node.clone()).collect();
    for (id, spec) in &interest.containers {
        if spec.ensure == Ensure::Absent || is_there(id) {
            continue;
        }
        let node = node_of(spec, settings);
        let template = spec.from.as_ref().and_then(|from| from.template.as_deref());
        if let Some((storage, _)) = template.and_then(|template| template.split_once(':')) {
            templates.insert((node.clone(), storage.to_owned()));
        }
        bridges.insert(node);
    }
    for spec in interest.templates.values() {
        let storage = spec.storage.clone().unwrap_or_else(|| TEMPLATE_STORAGE.to_owned());
        templates.insert((settings.node.clone(), storage));
    }
    for (node, storage) in templates {
        let path = format!("/nodes/{}/storage/{}/content?content=vztmpl", encoded(&node), encoded(&storage));
        let Ok(answer) = client.get(path).await else { continue };
        let volumes = answer.as_array().into_iter().flatten().filter_map(|item| item.get("volid")?.as_str());
        let entry = facts.nodes.entry(node).or_default().storages.entry(storage).or_default();
        entry.get_or_insert_default().templates = volumes.map(Name::from).collect();
    }
    for node in bridges {
        let Ok(answer) = client.get(format!("/nodes/{}/network", encoded(&node))).await else { continue };
        let names = answer.as_array().into_iter().flatten().filter_map(|item| {
            let kind = item.get("type")?.as_str()?;
            kind.to_ascii_lowercase().contains("bridge").then(|| item.get("iface")?.as_str().map(str::to_owned))?
        });
        facts.nodes.entry(node).or_default().bridges = Some(names.collect());
    }
    for to in moves {
        let path = format!("{}/migrate?target={}", container_path(&to.from, &to.id), encoded(&to.node));
        // Versions before 9 have no such call. What it does not tell, the move itself does.
        let Ok(answer) = client.get(path).await else { continue };
        facts.refused_moves.insert(to.id, refused_nodes(&answer));
    }
    facts
}

/// A container that the document has on another node than it is on.
struct Move {
    id: Name,
    from: String,
    node: String,
}

impl Move {
    /// Of a container, if both nodes answer and it is not on its way.
    fn of(id: &Name, spec: &ContainerSpec, listed: &Listed) -> Option<Self> {
        let guest = listed.guests.get(id).filter(|guest| guest.away.is_empty() && !guest.is_machine)?;
        let node = spec.node.clone().filter(|node| *node != guest.node && spec.ensure == Ensure::Present)?;
        listed.nodes.get(&node).filter(|node| node.online)?;
        Some(Self { id: id.clone(), from: guest.node.clone(), node })
    }
}

/// The nodes that a guest may not go to, and why, for people.
fn refused_nodes(answer: &Value) -> BTreeMap<String, String> {
    let nodes = answer.get("not-allowed-nodes").and_then(Value::as_object).into_iter().flatten();
    let why = |refused: &Value| {
        let blocking = refused.get("blocking-ha-resources").and_then(Value::as_array).into_iter().flatten();
        let named = blocking.filter_map(|item| {
            let text = |key: &str| item.get(key).and_then(Value::as_str);
            Some(format!("{} ({})", text("sid")?, text("cause").unwrap_or("no cause is given")))
        });
        let named: Vec<String> = named.collect();
        if named.is_empty() {
            return "it is none of the nodes that are allowed".to_owned();
        }
        format!("high availability keeps it from there because of {}", named.join(", "))
    };
    nodes.map(|(node, refused)| (node.clone(), why(refused))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_guest_of_the_list() {
        let settings = Settings::for_tests("https://127.0.0.1:1");
        let item = json!({"type": "lxc", "vmid": 101, "node": "pve1", "name": "warp", "status": "running", "template": 0,
                          "tags": "web;dmz", "lock": "backup", "maxcpu": 2, "maxmem": 1_073_741_824, "pool": "p"});
        let facts = guest(&item, &settings);
        assert!(facts.running && !facts.is_machine && !facts.is_remote && !facts.is_template);
        assert_eq!(
            (facts.name.as_str(), facts.lock.as_str(), facts.cores, facts.memory_bytes),
            ("warp", "backup", 2, 1 << 30)
        );
        assert_eq!(facts.tags, ["dmz".to_owned(), "web".to_owned()].into());
        let elsewhere = guest(&json!({"type": "qemu", "vmid": "100", "node": "pve2"}), &settings);
        assert!(elsewhere.is_machine && elsewhere.is_remote);
        let local = storage(&json!({"maxdisk": 10, "disk": 3, "content": "rootdir,images", "shared": 0}));
        assert_eq!((local.available_bytes, local.content.contains("rootdir"), local.is_shared), (7, true, false));
        assert!(storage(&json!({"shared": 1})).is_shared && storage(&json!({"shared": "1"})).is_shared);
    }

    #[test]
    fn nodes_that_a_guest_may_not_go_to() {
        let blocking =
            json!({"blocking-ha-resources": [{"sid": "ct:102", "cause": "resource-affinity"}, {"sid": "vm:7"}]});
        let answer =
            json!({"running": 1, "allowed-nodes": ["pve2"], "not-allowed-nodes": {"pve3": blocking, "pve4": {}}});
        let refused = refused_nodes(&answer);
        assert_eq!(refused.keys().collect::<Vec<_>>(), ["pve3", "pve4"]);
        assert!(
            refused["pve3"].ends_with("because of ct:102 (resource-affinity), vm:7 (no cause is given)"),
            "{refused:?}"
        );
        for empty in [json!({"running": 0}), json!({"not-allowed-nodes": []}), json!(null)] {
            assert_eq!(refused_nodes(&empty).len(), 0, "{empty}");
        }
    }

    #[test]
    fn a_move_is_asked_about_only_between_nodes_that_answer() {
        let mut listed = Listed::default();
        for (name, online) in [("pve1", true), ("pve2", true), ("pve3", false)] {
            listed.nodes.insert(name.to_owned(), NodeFacts { online, ..NodeFacts::default() });
        }
        let id = Name::from("101");
        listed.guests.insert(id.clone(), GuestFacts { node: "pve1".to_owned(), ..GuestFacts::default() });
        let to = |node: &str| ContainerSpec { node: Some(node.to_owned()), ..ContainerSpec::default() };
        let asked = |spec: &ContainerSpec, listed: &Listed| Move::of(&id, spec, listed).map(|to| to.node);
        assert_eq!(asked(&to("pve2"), &listed), Some("pve2".to_owned()));
        for spec in [to("pve1"), to("pve3"), to("pve9"), ContainerSpec::default()] {
            assert_eq!(asked(&spec, &listed), None, "{spec:?}");
        }
        assert_eq!(asked(&ContainerSpec { ensure: Ensure::Absent, ..to("pve2") }, &listed), None);
        if let Some(guest) = listed.guests.get_mut(&id) {
            guest.away = "no route".to_owned();
        }
        assert_eq!(asked(&to("pve2"), &listed), None);
    }
}
