//! A container that shall be on another node: when it is moved, and what stands in the way.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    Action, ContainerOp, Desired, Plan, Relocation,
    guest_tests::{entry, guest, inventory, planned, reason, words, world},
    plan,
};
use crate::{
    desired::{ContainerSpec, Document, arbitrary},
    model::{
        ClusterFacts, GuestFacts, GuestMount, GuestSettings, Name, NodeFacts, Observed, Reason, StorageFacts, Value,
    },
};

const GIB: u64 = 1 << 30;

/// Container 100 on node pve1, with 8 GiB on local-lvm, which pve2 has as well.
fn here(change: impl FnOnce(&mut GuestFacts, &mut GuestSettings)) -> GuestFacts {
    let mut facts = guest();
    let mut settings = (**facts.settings.as_ref().unwrap()).clone();
    settings.storages = [("local-lvm".to_owned(), 8 * GIB)].into();
    change(&mut facts, &mut settings);
    facts.settings = Some(Arc::new(settings));
    facts
}

fn running() -> GuestFacts {
    here(|facts, _| facts.running = true)
}

fn cluster() -> ClusterFacts {
    let storage = || {
        let content = ["rootdir".to_owned()].into();
        Some(StorageFacts { available_bytes: 100 * GIB, content, ..StorageFacts::default() })
    };
    let node = |storages: &[&str]| NodeFacts {
        online: true,
        bridges: Some(["br0".to_owned()].into()),
        storages: storages.iter().map(|name| ((*name).to_owned(), storage())).collect(),
    };
    let nodes = [("pve1", node(&["local-lvm", "local-zfs"])), ("pve2", node(&["local-lvm", "fast"]))];
    let nodes = nodes.into_iter().map(|(name, node)| (name.to_owned(), node)).collect();
    ClusterFacts { nodes, ..ClusterFacts::default() }
}

fn world_of(facts: GuestFacts, change: impl FnOnce(&mut ClusterFacts)) -> Observed {
    let mut observed = world(facts);
    let mut cluster = cluster();
    change(&mut cluster);
    observed.cluster = Arc::new(cluster);
    observed
}

fn far(more: &Json) -> Json {
    let mut document = entry(more);
    document["lxc"]["containers"][0]["node"] = json!("pve2");
    document
}

fn plan_of(more: &Json, facts: GuestFacts) -> Plan {
    planned(&far(more), &world_of(facts, |_| {}))
}

fn relocation(plan: &Plan) -> Option<&Relocation> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::Container(_, ContainerOp::Move(to)) => Some(&**to),
        _ => None,
    })
}

fn warnings(plan: &Plan) -> String {
    plan.steps.iter().flat_map(|step| step.warnings.clone()).collect::<Vec<_>>().join("\n")
}

#[test]
fn one_that_is_stopped_is_moved_at_once_and_changed_there() {
    let plan = plan_of(&json!({"memory_mib": 600, "running": true}), here(|_, _| {}));
    assert_eq!(words(&plan), ["move-container", "set-container", "start"]);
    let change = &plan.steps[0].changes[0];
    assert_eq!(
        (change.field.as_str(), &change.desired, &change.observed),
        ("node", &Value::from("pve2"), &Value::from("pve1"))
    );
    let to = Relocation { node: "pve2".to_owned(), ..Relocation::default() };
    assert_eq!(relocation(&plan), Some(&to));
    assert!(plan.steps[0].is_reversible() && warnings(&plan).is_empty(), "{plan:?}");
    // There already.
    assert_eq!(words(&plan_of(&json!({}), here(|facts, _| facts.node = "pve2".to_owned()))), [""; 0]);
}

#[test]
fn one_that_runs_is_moved_only_where_its_entry_allows_a_restart() {
    let plan = plan_of(&json!({"running": true}), running());
    assert_eq!((words(&plan), reason(&plan)), (vec!["none"], Some(Reason::RestartNeeded)));
    assert_eq!(plan.steps[0].changes[0].field, "node");
    // What else there is to do is done where it is.
    let plan = plan_of(&json!({"memory_mib": 600}), running());
    assert_eq!((words(&plan), reason(&plan)), (vec!["set-container", "none"], Some(Reason::RestartNeeded)));
    assert_eq!(
        (plan.steps[0].changes[0].field.as_str(), plan.steps[1].changes[0].field.as_str()),
        ("memory_mib", "node")
    );
    // Who comes after it does not wait for that.
    let mut document = far(&json!({}));
    let after = json!({"id": "200", "from": {"clone": "100"}, "after": ["container:100"]});
    document["lxc"]["containers"].as_array_mut().unwrap().push(after);
    let plan = planned(&document, &world_of(running(), |_| {}));
    assert_eq!(words(&plan), ["none", "create-container", "set-container"]);
    assert!(plan.steps[1].blocked.is_none() && plan.steps[1].after.is_empty(), "{plan:?}");
    // What is written and waits as well is said together with it.
    let pending = here(|facts, settings| {
        facts.running = true;
        settings.pending = ["nameserver".to_owned()].into();
    });
    let plan = plan_of(&json!({}), pending);
    let fields: Vec<&str> = plan.steps[0].changes.iter().map(|change| change.field.as_str()).collect();
    assert_eq!((fields, reason(&plan)), (vec!["node", "nameserver"], Some(Reason::RestartNeeded)));

    let plan = plan_of(&json!({"restart": true, "running": true}), running());
    assert_eq!(words(&plan), ["move-container"]);
    assert!(relocation(&plan).unwrap().restart && !plan.steps[0].is_reversible());
    assert!(warnings(&plan).contains("stopped on node pve1, and started on pve2"), "{plan:?}");
    // One that is to stop is no restart.
    let plan = plan_of(&json!({"running": false}), running());
    assert_eq!(words(&plan), ["stop", "move-container"]);
    assert!(!relocation(&plan).unwrap().restart);
}

/// What is other about a cluster.
type Change = fn(&mut ClusterFacts);

#[test]
fn what_stands_in_the_way_is_said_beforehand() {
    let folder = |rest: &[(&str, &str)]| {
        let rest = rest.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mount =
            GuestMount { path: "/srv".to_owned(), volume: "/mnt/data".to_owned(), rest, ..GuestMount::default() };
        here(|_, settings| drop(settings.mounts.insert(0, mount)))
    };
    let zfs = || here(|_, settings| settings.storages = [("local-zfs".to_owned(), GIB)].into());
    let stopped = || here(|_, _| {});
    let none: Change = |_| {};
    let cases: [(GuestFacts, Change, Json, Reason, &str); 12] = [
        (stopped(), none, json!({"node": "pve9"}), Reason::NodeAway, "there is no node pve9"),
        (
            stopped(),
            |cluster| cluster.nodes.get_mut("pve2").unwrap().online = false,
            json!({}),
            Reason::NodeAway,
            "offline",
        ),
        (
            stopped(),
            |cluster| cluster.rights = Some([("/".to_owned(), [("VM.Audit".to_owned(), true)].into())].into()),
            json!({}),
            Reason::NotPermitted,
            "lacks VM.Migrate on /vms/100: grant",
        ),
        (
            stopped(),
            |cluster| {
                let why = [("pve2".to_owned(), "ct:101 is there".to_owned())].into();
                cluster.refused_moves.insert("100".into(), why);
            },
            json!({}),
            Reason::Refused,
            "ct:101 is there",
        ),
        (zfs(), none, json!({}), Reason::StorageMissing, "no storage local-zfs"),
        (zfs(), none, json!({"from": {"template": "a:b", "storage": "none"}}), Reason::StorageMissing, "from.storage"),
        (
            zfs(),
            |cluster| {
                let storages = &mut cluster.nodes.get_mut("pve1").unwrap().storages;
                storages.get_mut("local-zfs").unwrap().as_mut().unwrap().is_shared = true;
            },
            json!({"from": {"template": "a:b", "storage": "fast"}}),
            Reason::StorageMissing,
            "make it available there",
        ),
        (
            zfs(),
            |cluster| {
                let held = [("VM.Migrate".to_owned(), true)].into();
                cluster.rights = Some([("/vms".to_owned(), held)].into());
            },
            json!({"from": {"template": "a:b", "storage": "fast"}}),
            Reason::NotPermitted,
            "Datastore.AllocateSpace on /storage/fast",
        ),
        (folder(&[]), none, json!({}), Reason::NotSupported, "/mnt/data of node pve1"),
        (
            stopped(),
            |cluster| cluster.nodes.get_mut("pve2").unwrap().bridges = Some([].into()),
            json!({}),
            Reason::BridgeMissing,
            "node pve2 has no bridge br0",
        ),
        (here(|facts, _| facts.lock = "backup".to_owned()), none, json!({}), Reason::Locked, "backup"),
        (here(|facts, _| facts.away = "no route".to_owned()), none, json!({}), Reason::NodeAway, "no route"),
    ];
    for (facts, change, more, expected, words) in cases {
        let mut document = far(&more);
        if let Some(node) = more.get("node") {
            document["lxc"]["containers"][0]["node"] = node.clone();
        }
        let plan = planned(&document, &world_of(facts, change));
        let (got, text) = plan.steps[0].blocked.clone().unwrap_or_else(|| panic!("{document}: {plan:?}"));
        assert_eq!(got, expected, "{document}: {text}");
        assert!(text.contains(words), "{text}");
        assert_eq!(relocation(&plan), None);
    }
    // Marked as the same on each node, a folder is none of a node's own.
    assert_eq!(reason(&plan_of(&json!({}), folder(&[("shared", "1")]))), None);
}

#[test]
fn volumes_go_to_the_storage_that_the_document_names_where_the_node_lacks_theirs() {
    let zfs = here(|_, settings| settings.storages = [("local-zfs".to_owned(), 200 * GIB)].into());
    let plan = plan_of(&json!({"from": {"template": "a:b", "storage": "fast"}}), zfs);
    let storages = [("local-zfs".to_owned(), "fast".to_owned())].into();
    assert_eq!(relocation(&plan).unwrap().storages, storages);
    assert!(
        warnings(&plan).contains("fast of node pve2 has 100 GiB free, and its volumes are up to 200 GiB"),
        "{plan:?}"
    );
    // One that the node has stays what it is.
    let plan = plan_of(&json!({"from": {"template": "a:b", "storage": "fast"}}), here(|_, _| {}));
    assert!(relocation(&plan).unwrap().storages.is_empty());
}

#[test]
fn a_move_that_is_under_way_is_taken_up() {
    let plan = plan_of(&json!({"running": true}), here(|facts, _| facts.lock = "migrate".to_owned()));
    assert_eq!(words(&plan), ["move-container", "start"]);
    // To where it is already: somebody else's, or the end of op-dbus's own.
    let there = here(|facts, _| (facts.node, facts.lock) = ("pve2".to_owned(), "migrate".to_owned()));
    assert_eq!(reason(&plan_of(&json!({"running": true}), there)), Some(Reason::Locked));
}

proptest! {
    #[test]
    fn nothing_is_restarted_unasked_and_the_rest_comes_after(
        spec in arbitrary::settings(),
        runs in any::<bool>(),
        moving in any::<bool>(),
    ) {
        let spec = ContainerSpec { node: Some("pve2".to_owned()), ..spec };
        let document = Document { containers: [(Name::from("100"), spec.clone())].into(), ..Document::default() };
        let desired = Desired::new(Arc::new(document));
        let facts = here(|facts, _| {
            facts.running = runs;
            facts.lock = if moving { "migrate".to_owned() } else { String::new() };
        });
        let plan = plan(&desired, &world_of(facts.clone(), |_| {}), &inventory(), None);
        let at = |word: &str| words(&plan).iter().position(|action| *action == word);
        let blocked = reason(&plan).is_some();
        match relocation(&plan) {
            Some(to) => {
                prop_assert!(!runs || spec.restart || moving || spec.running == Some(false), "{:?}", plan);
                prop_assert_eq!(to.restart, runs && spec.restart && spec.running != Some(false));
                let first = at("move-container");
                prop_assert!(at("stop") < first, "{:?}", plan);
                for later in ["set-container", "grow-container", "make-template", "start"] {
                    prop_assert!(at(later).is_none_or(|at| Some(at) > first), "{:?}", plan);
                }
            }
            None => prop_assert!(blocked || (runs && !spec.restart && !moving), "{:?}", plan),
        }
        // Moved, nothing is left to move.
        let there = GuestFacts { node: "pve2".to_owned(), lock: String::new(), ..facts };
        let plan = super::plan(&desired, &world_of(there, |_| {}), &inventory(), None);
        prop_assert!(plan.steps.iter().all(|step| step.changes.iter().all(|change| change.field != "node")));
        prop_assert_eq!(relocation(&plan), None);
    }
}
