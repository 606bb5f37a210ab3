//! Containers of Proxmox VE that are moved, to other nodes and into other pools: when, with what, and what becomes of those
//! that do not arrive.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use op_dbus_testkit::{
    Fault, Lab, NODE, Proof, Pve, STATE, TEMPLATE, TOKEN_ID, path,
    proxmox::{self, CONTAINER, FACE, JOB, RESOURCE, container, document, send, set, until_in_sync},
};
use serde_json::{Value, json};

const FAR: &str = "far";

/// A cluster of two nodes.
fn enter() -> Option<(Lab, Pve)> {
    let times = [("hold_down_ms", "200"), ("poll_ms", "500"), ("sweep_ms", "1000")];
    let (lab, pve) = proxmox::enter(env!("CARGO_BIN_EXE_op-dbus"), Proof::Authority, &times)?;
    pve.tell("add_node", json!({ "name": FAR, "bridges": ["ovsbr0"] }));
    Some((lab, pve))
}

/// A container of this node, which runs or does not.
fn entry(id: u32, running: bool) -> Value {
    json!({
        "id": id.to_string(), "hostname": format!("ct{id}"), "memory_mib": 512, "running": running, "node": NODE,
        "from": { "template": TEMPLATE, "storage": "local-lvm", "size_gib": 1, "unprivileged": true },
        "networks": [{ "name": "eth0", "bridge": "ovsbr0", "ip": format!("10.0.0.{}/24", id % 250) }]
    })
}

/// With more said, or something else.
fn with(entry: &Value, more: &Value) -> Value {
    let mut entry = entry.clone();
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

fn far(entry: &Value) -> Value {
    with(entry, &json!({ "node": FAR }))
}

/// Makes one, and goes on once it is in sync.
fn made(lab: &Lab, running: bool) -> Value {
    let entry = entry(101, running);
    set(lab, &document(std::slice::from_ref(&entry)), "done");
    entry
}

#[track_caller]
fn stands(lab: &Lab, id: u32, status: &str, reason: &str, message: &str) {
    let get = |property| lab.get(&container(id), RESOURCE, property).as_str().unwrap().to_owned();
    let text = get("Message");
    assert_eq!((get("Status").as_str(), get("Reason").as_str()), (status, reason), "{text}");
    assert!(text.contains(message), "{text}");
}

fn plan(lab: &Lab, entry: &Value) -> String {
    lab.call(STATE, FACE, "Plan", &["sa{sv}", &document(std::slice::from_ref(entry)).to_string(), "0"]).to_string()
}

fn reconcile(lab: &Lab, id: u32) -> String {
    let reply = lab.call(&container(id), RESOURCE, "Reconcile", &["a{sv}", "0"]);
    lab.wait(reply[0].as_str().unwrap())
}

/// The calls that changed something, from that number on.
fn writes(pve: &Pve, since: usize) -> Vec<String> {
    let shown = |call: &Value| format!("{} {}", call["method"].as_str().unwrap(), call["path"].as_str().unwrap());
    pve.writes(since).iter().map(|call| shown(call).replace("/api2/json", "")).collect()
}

/// What moves were asked for.
fn moves(pve: &Pve) -> Vec<Value> {
    let is = |call: &&Value| call["path"].as_str().unwrap().ends_with("/migrate");
    pve.writes(0).iter().filter(is).map(|call| call["body"].clone()).collect()
}

#[track_caller]
fn is_at(lab: &Lab, pve: &Pve, node: &str, running: bool) {
    let ct = pve.ct(101).unwrap();
    let state = if running { "running" } else { "stopped" };
    assert_eq!((&ct["node"], &ct["status"]), (&json!(node), &json!(state)));
    assert_eq!(ct["config"]["lock"], Value::Null);
    lab.until(&container(101), CONTAINER, "Node", |shown| shown == node);
    lab.until(&container(101), CONTAINER, "Running", |shown| *shown == running);
}

#[test]
fn a_stopped_one_is_moved_at_once_and_changed_where_it_is_then() {
    let Some((lab, pve)) = enter() else { return };
    let there = with(&far(&made(&lab, false)), &json!({ "memory_mib": 600 }));
    let shown = plan(&lab, &there);
    for part in ["move-container", "move container 101", "\"node\"", "\"far\"", "\"lab\""] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let since = pve.requests().len();
    set(&lab, &document(std::slice::from_ref(&there)), "done");
    let expected = [format!("POST /nodes/{NODE}/lxc/101/migrate"), format!("PUT /nodes/{FAR}/lxc/101/config")];
    assert_eq!(writes(&pve, since), expected);
    assert_eq!(moves(&pve), [json!({ "target": FAR })]);
    is_at(&lab, &pve, FAR, false);
    assert_eq!(pve.ct(101).unwrap()["config"]["memory"], 600);
    stands(&lab, 101, "in-sync", "", "");
    let since = pve.requests().len();
    set(&lab, &document(&[there]), "unchanged");
    assert_eq!(writes(&pve, since), [""; 0]);
    pve.requests_fit();
}

#[test]
fn one_that_runs_waits_until_it_may_be_restarted() {
    let Some((lab, pve)) = enter() else { return };
    let there = far(&made(&lab, true));
    // Not allowed: pending, and what else there is to do is done where it is.
    set(&lab, &document(&[with(&there, &json!({ "memory_mib": 600 }))]), "done");
    stands(&lab, 101, "pending", "RestartNeeded", "\"restart\": true");
    let differences = lab.get(&container(101), RESOURCE, "Differences").to_string();
    assert!(differences.contains("node") && differences.contains(FAR), "{differences}");
    is_at(&lab, &pve, NODE, true);
    assert_eq!((moves(&pve).len(), &pve.ct(101).unwrap()["config"]["memory"]), (0, &json!(600)));

    // Allowed: stopped here, started there.
    let allowed = json!({ "memory_mib": 600, "restart": true });
    let shown = plan(&lab, &with(&there, &allowed));
    assert!(shown.contains("restarts the container"), "{shown}");
    set(&lab, &document(&[with(&there, &allowed)]), "done");
    assert_eq!(moves(&pve), [json!({ "target": FAR, "restart": "1", "timeout": "60" })]);
    is_at(&lab, &pve, FAR, true);
    stands(&lab, 101, "in-sync", "", "");
    lab.until_shown("pve-container@101.service", "ActiveState", |state| state == "inactive");
    lab.until(&container(101), CONTAINER, "Ports", |ports| *ports == json!([]));

    // And back, where LXC and Open vSwitch have it again: as soon as somebody stops it.
    set(&lab, &document(&[with(&there, &json!({ "node": NODE }))]), "done");
    stands(&lab, 101, "pending", "RestartNeeded", "is moved only by a restart");
    pve.order(101, "stop");
    until_in_sync(&lab, 101);
    is_at(&lab, &pve, NODE, true);
    assert_eq!(moves(&pve)[1..], [json!({ "target": NODE })]);
    lab.until_shown("pve-container@101.service", "ActiveState", |state| state == "active");
    lab.until(&container(101), CONTAINER, "Ports", |ports| *ports == json!([path("port", "veth101i0")]));
    pve.requests_fit();
}

#[test]
fn what_stands_in_its_way_is_said_when_planning() {
    let Some((lab, pve)) = enter() else { return };
    let here = made(&lab, false);
    let there = far(&here);
    let blocked = |there: &Value, reason: &str, message: &str| {
        let shown = plan(&lab, there);
        assert!(shown.contains(reason) && shown.contains(message), "{reason}: {shown}");
        set(&lab, &document(std::slice::from_ref(there)), "failed");
        stands(&lab, 101, "blocked", reason, message);
        set(&lab, &document(std::slice::from_ref(&here)), "unchanged");
    };
    let since = pve.requests().len();
    pve.tell("add_node", json!({ "name": "bare" }));
    blocked(&with(&there, &json!({ "node": "bare" })), "BridgeMissing", "node bare has no bridge ovsbr0");
    blocked(&with(&there, &json!({ "node": "none" })), "NodeAway", "there is no node none");
    pve.tell("refuse_move", json!({ "vmid": 101, "node": FAR, "because": ["ct:100"] }));
    blocked(&there, "Refused", "because of ct:100 (resource-affinity)");
    pve.tell("refuse_move", json!({ "vmid": 101, "node": FAR, "because": [] }));
    pve.fault(&Fault::Locked(101, "backup"));
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "backup");
    blocked(&there, "Locked", "backup");
    pve.tell("lock", json!({ "vmid": 101, "lock": null }));
    let here_only = json!({ "type": "lvmthin", "content": "images,rootdir", "nodes": NODE });
    pve.tell("add_storage", json!({ "name": "local-lvm", "options": here_only }));
    blocked(&there, "StorageMissing", "node far has no storage local-lvm");
    assert_eq!(writes(&pve, since), [""; 0]);
    let rights = ["VM.Audit", "VM.Allocate", "VM.Config.Options", "VM.PowerMgmt", "Datastore.Audit", "Sys.Audit"];
    pve.tell("rights", json!({ "id": TOKEN_ID, "rights": rights }));
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
    lab.until(&container(101), RESOURCE, "Status", |status| status == "in-sync");
    blocked(&there, "NotPermitted", "VM.Migrate on /vms/101: grant");
}

#[test]
fn volumes_of_a_storage_that_the_node_lacks_go_to_the_one_that_is_named() {
    let Some((lab, pve)) = enter() else { return };
    let here = made(&lab, false);
    let only = |node: &str| json!({ "type": "lvmthin", "content": "images,rootdir", "nodes": node });
    pve.tell("add_storage", json!({ "name": "local-lvm", "options": only(NODE) }));
    pve.tell("add_storage", json!({ "name": "fast", "options": only(FAR) }));
    let mut there = far(&here);
    there["from"]["storage"] = json!("fast");
    set(&lab, &document(&[there]), "done");
    assert_eq!(moves(&pve), [json!({ "target": FAR, "target-storage": "local-lvm:fast" })]);
    is_at(&lab, &pve, FAR, false);
    let root = pve.ct(101).unwrap()["config"]["rootfs"].clone();
    assert!(root.as_str().unwrap().starts_with("fast:"), "{root}");
    pve.requests_fit();
}

#[test]
fn a_node_that_is_away_is_waited_for() {
    let Some((lab, pve)) = enter() else { return };
    let there = far(&made(&lab, false));
    pve.fault(&Fault::NodeOffline(FAR));
    set(&lab, &document(&[there]), "failed");
    stands(&lab, 101, "blocked", "NodeAway", "node far is offline");
    assert_eq!(moves(&pve).len(), 0);
    pve.heal();
    until_in_sync(&lab, 101);
    is_at(&lab, &pve, FAR, false);

    // It goes between the plan and the move.
    let back = entry(101, false);
    pve.fault(&Fault::TaskFails("vzmigrate", 101, "Can't connect to destination address using public key"));
    set(&lab, &document(&[back]), "failed");
    stands(&lab, 101, "failed", "JobFailed", "Can't connect to destination address");
    is_at(&lab, &pve, FAR, false);
    assert_eq!((reconcile(&lab, 101).as_str(), moves(&pve).len()), ("done", 3));
    is_at(&lab, &pve, NODE, false);
}

#[test]
fn one_that_fails_half_way_is_where_it_was_and_is_not_tried_again_by_itself() {
    let Some((lab, pve)) = enter() else { return };
    let there = with(&far(&made(&lab, true)), &json!({ "restart": true }));
    pve.fault(&Fault::TaskFails("vzmigrate", 101, "no space left on device"));
    let job = set(&lab, &document(&[there]), "failed");
    stands(&lab, 101, "failed", "JobFailed", "migration aborted");
    stands(&lab, 101, "failed", "JobFailed", "no space left on device");
    assert!(lab.get(&job, JOB, "Steps").to_string().contains("no space left on device"));
    is_at(&lab, &pve, NODE, true);
    assert_eq!(moves(&pve).len(), 1, "each try is a restart");

    // One that dies leaves it stopped and locked: said, and not touched.
    pve.fault(&Fault::TaskDies("vzmigrate", 101));
    assert_eq!(reconcile(&lab, 101), "failed");
    stands(&lab, 101, "failed", "JobFailed", "interrupted by signal");
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "migrate");
    assert_eq!(reconcile(&lab, 101), "failed");
    stands(&lab, 101, "failed", "Locked", "pct unlock 101");
    assert_eq!(moves(&pve).len(), 2);
    pve.tell("lock", json!({ "vmid": 101, "lock": null }));
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "");
    assert_eq!(reconcile(&lab, 101), "done");
    is_at(&lab, &pve, FAR, true);
    stands(&lab, 101, "in-sync", "", "");
}

#[test]
fn it_is_followed_through_a_lost_answer_and_op_dbuss_own_restart() {
    let Some((lab, pve)) = enter() else { return };
    let there = with(&far(&made(&lab, true)), &json!({ "restart": true }));
    pve.fault(&Fault::TaskHeld("vzmigrate", 101, "copying 1 GiB"));
    pve.fault(&Fault::DropAfter("POST", "/migrate"));
    let job = send(&lab, &document(std::slice::from_ref(&there)));
    // Its log shows on the job, and its lock on the container.
    lab.until(&job, JOB, "Steps", |steps| steps.to_string().contains("copying 1 GiB"));
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "migrate");
    pve.let_go();
    assert_eq!(lab.wait(&job), "done");
    is_at(&lab, &pve, FAR, true);

    pve.fault(&Fault::TaskHeld("vzmigrate", 101, "copying 1 GiB back"));
    send(&lab, &document(&[with(&there, &json!({ "node": NODE }))]));
    pve.wait_task("vzmigrate", 101);
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "migrate");
    lab.run(&["systemctl", "kill", "--signal=KILL", "op-dbus.service"]);
    let since = pve.requests().len();
    pve.wait_request("GET", "/log", since);
    pve.let_go();
    until_in_sync(&lab, 101);
    is_at(&lab, &pve, NODE, true);
    assert_eq!(moves(&pve).len(), 2, "one each way");
    let tasks = pve.tasks();
    let ended: Vec<&Value> =
        tasks.iter().filter(|task| task["type"] == "vzmigrate").map(|task| &task["exitstatus"]).collect();
    assert_eq!(ended, ["OK", "OK"]);
}

#[test]
fn what_high_availability_does_in_its_own_time_is_waited_for() {
    let Some((lab, pve)) = enter() else { return };
    let there = with(&far(&made(&lab, true)), &json!({ "restart": true }));
    pve.tell("managed", json!({ "vmid": 101 }));
    set(&lab, &document(&[there]), "done");
    is_at(&lab, &pve, FAR, true);
    stands(&lab, 101, "in-sync", "", "");
    assert_eq!(moves(&pve).len(), 1);
}

#[test]
fn a_pool_is_joined_and_left_for_another_once() {
    let Some((lab, pve)) = enter() else { return };
    for pool in ["web", "edge"] {
        pve.tell("add_pool", json!({ "name": pool }));
    }
    let pooled = |pool: &str| with(&entry(101, true), &json!({ "pool": pool }));
    let pool_of = || pve.get(&lab, "/cluster/resources?type=vm")[0]["pool"].clone();
    set(&lab, &document(&[pooled("web")]), "done");
    assert_eq!(pool_of(), "web", "it is made in it");
    // Changed: out of the one, into the other, while it runs.
    let since = pve.requests().len();
    set(&lab, &document(&[pooled("edge")]), "done");
    assert_eq!(writes(&pve, since), ["PUT /pools"]);
    let body = pve.writes(since)[0]["body"].clone();
    assert_eq!(body, json!({ "poolid": "edge", "vms": "101", "allow-move": "1" }));
    assert_eq!(pool_of(), "edge");
    stands(&lab, 101, "in-sync", "", "");
    let since = pve.requests().len();
    set(&lab, &document(&[pooled("edge")]), "unchanged");
    assert_eq!(writes(&pve, since), [""; 0]);
    // Moved by somebody else: drift, and put back when asked to.
    pve.tell("join_pool", json!({ "vmid": 101, "pool": "web" }));
    lab.until(&container(101), RESOURCE, "Status", |status| status == "drifted");
    assert_eq!(reconcile(&lab, 101), "done");
    assert_eq!(pool_of(), "edge");
    // One that is not there, and one that the token may not fill.
    set(&lab, &document(&[pooled("none")]), "failed");
    stands(&lab, 101, "failed", "Missing", "pool 'none' does not exist");
    assert_eq!(pool_of(), "edge");
    let rights = ["VM.Audit", "VM.Allocate", "VM.Config.Options", "VM.PowerMgmt", "Pool.Audit", "Sys.Audit"];
    pve.tell("rights", json!({ "id": TOKEN_ID, "rights": rights }));
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
    lab.until(&container(101), CONTAINER, "Name", |name| name == "ct101");
    let shown = plan(&lab, &pooled("web"));
    assert!(shown.contains("NotPermitted") && shown.contains("Pool.Allocate on /pool/web"), "{shown}");
    pve.requests_fit();
}
