//! What goes wrong between op-dbus and Proxmox VE, each by itself, and what it leads to: nothing twice, nothing half made,
//! said where one looks for it, and taken up again where that can help.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use op_dbus_testkit::{
    Fault, Lab, NODE, Proof, Pve, STATE, TEMPLATE, TOKEN_ID, TOKEN_SECRET,
    proxmox::{
        self, CONTAINER, FACE, JOB, LXC, PLUGIN, RESOURCE, container, document, look_seldom, send, set, until_in_sync,
    },
};
use serde_json::{Value, json};

fn enter() -> Option<(Lab, Pve)> {
    let times = [("hold_down_ms", "200"), ("poll_ms", "500"), ("sweep_ms", "1000"), ("read_timeout_ms", "2000")];
    proxmox::enter(env!("CARGO_BIN_EXE_op-dbus"), Proof::Authority, &times)
}

fn entry(id: u32) -> Value {
    json!({
        "id": id.to_string(), "hostname": format!("ct{id}"), "memory_mib": 512, "running": true,
        "from": { "template": TEMPLATE, "storage": "local-lvm", "size_gib": 1, "unprivileged": true },
        "networks": [{ "name": "eth0", "bridge": "ovsbr0", "ip": format!("10.0.0.{}/24", id % 250) }]
    })
}

fn get(lab: &Lab, id: u32, property: &str) -> String {
    lab.get(&container(id), RESOURCE, property).as_str().unwrap().to_owned()
}

#[track_caller]
fn stands(lab: &Lab, id: u32, status: &str, reason: &str, message: &str) {
    let (is, why, text) = (get(lab, id, "Status"), get(lab, id, "Reason"), get(lab, id, "Message"));
    assert_eq!((is.as_str(), why.as_str()), (status, reason), "{text}");
    assert!(text.contains(message), "{text}");
}

/// How often such a request was made, from that number on.
fn count(pve: &Pve, since: usize, method: &str, end: &str) -> usize {
    let is = |request: &&Value| request["method"] == method && request["path"].as_str().unwrap().ends_with(end);
    pve.requests()[since..].iter().filter(is).count()
}

/// A container that op-dbus made and that runs.
fn running(lab: &Lab, id: u32) {
    set(lab, &document(&[entry(id)]), "done");
    stands(lab, id, "in-sync", "", "");
}

/// The next wish for it.
fn with_memory(id: u32, mib: u32) -> Value {
    let mut entry = entry(id);
    entry["memory_mib"] = mib.into();
    document(&[entry])
}

fn memory(pve: &Pve, id: u32) -> Value {
    pve.ct(id).unwrap()["config"]["memory"].clone()
}

#[test]
fn a_create_whose_answer_is_lost_is_looked_up_and_not_repeated() {
    let Some((lab, pve)) = enter() else { return };
    // The answer is lost while its task still runs.
    pve.fault(&Fault::TaskHeld("vzcreate", 101, "extracting archive"));
    pve.fault(&Fault::DropAfter("POST", "/lxc"));
    let job = send(&lab, &document(&[entry(101)]));
    pve.wait_task("vzcreate", 101);
    lab.until(&job, JOB, "Steps", |steps| steps.to_string().contains("extracting archive"));
    pve.let_go();
    lab.wait(&job);
    until_in_sync(&lab, 101);
    assert_eq!(count(&pve, 0, "POST", "/lxc"), 1);
    assert_eq!(lab.show("pve-container@101.service", "ActiveState"), "active");

    // It never arrived: then, and only then, it is made again.
    pve.fault(&Fault::DropBefore("POST", "/lxc"));
    lab.set_desired_state(&document(&[entry(101), entry(102)]));
    until_in_sync(&lab, 102);
    assert_eq!(count(&pve, 0, "POST", "/lxc"), 3);
    pve.requests_fit();
}

#[test]
fn a_clone_whose_answer_is_lost_is_waited_for() {
    let Some((lab, pve)) = enter() else { return };
    pve.add_ct(900, false, &json!({ "hostname": "origin", "rootfs": "local-lvm:vm-900-disk-0,size=1G" }));
    lab.until(&container(900), CONTAINER, "Name", |name| name == "origin");
    let mut clone = entry(101);
    clone["from"] = json!({ "clone": "900", "full": true, "storage": "local-lvm" });
    pve.fault(&Fault::TaskHeld("vzclone", 0, "create full clone"));
    pve.fault(&Fault::DropAfter("POST", "/clone"));
    let job = send(&lab, &document(&[clone]));
    pve.wait_request("POST", "/clone", 0);
    lab.until(&job, JOB, "Steps", |steps| steps.to_string().contains("create full clone"));
    pve.let_go();
    lab.wait(&job);
    until_in_sync(&lab, 101);
    assert_eq!(count(&pve, 0, "POST", "/clone"), 1);
    assert_eq!(pve.ct(101).unwrap()["config"]["hostname"], "ct101", "the entry is laid over the copy");
    pve.requests_fit();
}

#[test]
fn a_task_is_found_again_after_op_dbuss_own_restart() {
    let Some((lab, pve)) = enter() else { return };
    pve.fault(&Fault::TaskHeld("vzcreate", 101, "extracting archive"));
    send(&lab, &document(&[entry(101)]));
    pve.wait_task("vzcreate", 101);
    lab.run(&["systemctl", "kill", "--signal=KILL", "op-dbus.service"]);
    let since = pve.requests().len();
    // It asks for the tasks that run, and follows the one it had begun.
    pve.wait_request("GET", "/log", since);
    pve.let_go();
    until_in_sync(&lab, 101);
    assert_eq!(count(&pve, 0, "POST", "/lxc"), 1);

    // The same of a start.
    pve.order(101, "stop");
    pve.fault(&Fault::TaskHeld("vzstart", 101, "starting"));
    lab.until(&container(101), CONTAINER, "Running", |running| *running == false);
    let before = count(&pve, 0, "POST", "/status/start");
    lab.call(&container(101), RESOURCE, "Reconcile", &["a{sv}", "0"]);
    pve.wait_task("vzstart", 101);
    lab.run(&["systemctl", "kill", "--signal=KILL", "op-dbus.service"]);
    pve.let_go();
    until_in_sync(&lab, 101);
    assert_eq!(count(&pve, 0, "POST", "/status/start"), before + 1);
}

#[test]
fn a_task_that_fails_leaves_nothing_and_one_that_warns_is_done() {
    let Some((lab, pve)) = enter() else { return };
    pve.fault(&Fault::TaskFails("vzcreate", 101, "unable to create CT 101 - the archive is broken"));
    set(&lab, &document(&[entry(101)]), "failed");
    stands(&lab, 101, "failed", "JobFailed", "the archive is broken");
    assert!(pve.ct(101).is_none());
    assert_eq!(lab.get(&container(101), RESOURCE, "Present"), false);

    pve.fault(&Fault::TaskWarns("vzcreate", 101, "the archive has no /etc/hostname"));
    let job = set(&lab, &document(&[entry(101)]), "done");
    let steps = lab.get(&job, JOB, "Steps").to_string();
    assert!(steps.contains("WARNINGS: 1"), "{steps}");

    // A create that died and left its lock: said, and not touched.
    pve.fault(&Fault::TaskDies("vzcreate", 102));
    lab.set_desired_state(&document(&[entry(101), entry(102)]));
    stands(&lab, 102, "failed", "JobFailed", "interrupted by signal");
    let reply = lab.call(&container(102), RESOURCE, "Reconcile", &["a{sv}", "0"]);
    lab.wait(reply[0].as_str().unwrap());
    stands(&lab, 102, "failed", "Locked", "a create that does not run any more");
    stands(&lab, 101, "in-sync", "", "");
    assert_eq!(pve.ct(102).unwrap()["config"]["lock"], "create");
    assert_eq!(count(&pve, 0, "DELETE", "/lxc/102"), 0);

    // No room: found when planning, or, where it has just been taken, by the task. Nothing is half made.
    pve.tell("room", json!({ "storage": "local-lvm", "gib": 0.5 }));
    lab.set_desired_state(&document(&[entry(101), entry(103)]));
    assert!(["NoSpace", "JobFailed"].contains(&get(&lab, 103, "Reason").as_str()));
    assert!(get(&lab, 103, "Message").contains("local-lvm"), "{}", get(&lab, 103, "Message"));
    assert!(pve.ct(103).is_none());
}

#[test]
fn a_start_that_fails_is_said_with_the_tasks_words() {
    let Some((lab, pve)) = enter() else { return };
    running(&lab, 101);
    pve.order(101, "stop");
    lab.until(&container(101), CONTAINER, "Running", |running| *running == false);
    pve.fault(&Fault::NoStart(101, "startup for container '101' failed"));
    set(&lab, &document(&[entry(101)]), "failed");
    stands(&lab, 101, "failed", "JobFailed", "startup for container '101' failed");
    pve.tell("start_error", json!({ "vmid": 101, "message": null }));
    // Its answer is lost: it was started all the same, and once.
    let since = pve.requests().len();
    pve.fault(&Fault::DropAfter("POST", "/status/start"));
    lab.set_desired_state(&document(&[entry(101)]));
    until_in_sync(&lab, 101);
    assert_eq!(count(&pve, since, "POST", "/status/start"), 1);
    assert_eq!(lab.show("pve-container@101.service", "ActiveState"), "active");
}

#[test]
fn locks_are_waited_for_and_somebody_elses_change_is_kept() {
    let Some((lab, pve)) = enter() else { return };
    running(&lab, 101);
    // The lock of the configuration's file.
    pve.fault(&Fault::ConfigHeld(101));
    let (_, result) = lab.set_desired_state(&with_memory(101, 600));
    assert_eq!(result, "failed");
    stands(&lab, 101, "failed", "Locked", "got timeout");
    pve.release_config(101);
    until_in_sync(&lab, 101);
    assert_eq!(memory(&pve, 101), 600);

    // Of a backup.
    pve.fault(&Fault::Locked(101, "backup"));
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "backup");
    let since = pve.requests().len();
    lab.set_desired_state(&with_memory(101, 700));
    stands(&lab, 101, "blocked", "Locked", "backup");
    assert_eq!(pve.writes(since), [json!(null); 0], "nobody tries against a lock that is seen");
    pve.tell("lock", json!({ "vmid": 101, "lock": null }));
    until_in_sync(&lab, 101);
    assert_eq!(memory(&pve, 101), 700);

    // Somebody else is quicker between the reading and the writing.
    let description = json!({ "description": "theirs", "net0": "name=eth0,bridge=ovsbr0,ip=10.0.0.101/24,rate=5" });
    pve.fault(&Fault::Meddle("GET", "/lxc/101/config", 101, description));
    let since = pve.requests().len();
    set(&lab, &with_memory(101, 800), "done");
    let config = pve.ct(101).unwrap()["config"].clone();
    assert_eq!((&config["memory"], &config["description"]), (&json!(800), &json!("theirs")));
    assert!(config["net0"].as_str().unwrap().contains("rate=5"), "{config}");
    assert!(count(&pve, since, "PUT", "/config") >= 1);
    for put in pve.writes(0).iter().filter(|request| request["method"] == "PUT") {
        assert!(put["body"]["digest"].is_string(), "{put}");
    }
}

#[test]
fn refusals_are_said_with_proxmox_ves_words_wherever_it_puts_them() {
    let Some((lab, pve)) = enter() else { return };
    running(&lab, 101);
    let refuse = |status: u16, message: &'static str| {
        pve.fault(&Fault::Refuse { method: "PUT", path: "/lxc/101/config", status, message, times: None });
    };
    let text = "Permission check failed (/vms/101, VM.Config.Memory)";
    refuse(403, text);
    set(&lab, &with_memory(101, 600), "failed");
    stands(&lab, 101, "failed", "NotPermitted", text);
    pve.fault(&Fault::BareErrors);
    refuse(500, "unable to write the moon");
    set(&lab, &with_memory(101, 601), "failed");
    stands(&lab, 101, "failed", "Refused", "unable to write the moon");
    refuse(400, "Parameter verification failed.");
    set(&lab, &with_memory(101, 602), "failed");
    stands(&lab, 101, "failed", "Refused", "Parameter verification failed");
    pve.heal();
    pve.fault(&Fault::NoQuorum);
    let (_, result) = lab.set_desired_state(&with_memory(101, 603));
    assert_eq!(result, "failed");
    stands(&lab, 101, "failed", "Refused", "no quorum");
    pve.heal();
    until_in_sync(&lab, 101);
    assert_eq!(memory(&pve, 101), 603);
    // The node that has it is out of reach for one call.
    pve.fault(&Fault::Refuse {
        method: "PUT",
        path: "/lxc/101/config",
        status: 595,
        message: "No route to host",
        times: Some(1),
    });
    lab.set_desired_state(&with_memory(101, 604));
    until_in_sync(&lab, 101);
    assert_eq!(memory(&pve, 101), 604);
}

#[test]
fn rights_that_are_missing_are_said_when_planning() {
    let Some((lab, pve)) = enter() else { return };
    let rights = ["VM.Audit", "Datastore.Audit", "Sys.Audit", "VM.PowerMgmt"];
    pve.tell("rights", json!({ "id": TOKEN_ID, "rights": rights }));
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    let message = lab.get(LXC, PLUGIN, "Message");
    assert!(message.as_str().unwrap().contains("VM.Allocate"), "{message}");
    let plan = lab.call(STATE, FACE, "Plan", &["sa{sv}", &document(&[entry(101)]).to_string(), "0"]);
    assert!(plan.to_string().contains("NotPermitted"), "{plan}");
    let since = pve.requests().len();
    set(&lab, &document(&[entry(101)]), "failed");
    let text = get(&lab, 101, "Message");
    stands(&lab, 101, "blocked", "NotPermitted", "grant");
    assert!(text.contains("on /"), "{text}");
    assert_eq!(pve.writes(since), [json!(null); 0]);
}

#[test]
fn a_token_that_expires_takes_the_backend_away_until_there_is_a_good_one() {
    let Some((lab, pve)) = enter() else { return };
    running(&lab, 101);
    pve.fault(&Fault::Expired);
    let text = lab.until(LXC, PLUGIN, "Message", |message| message.as_str().unwrap().contains("token"));
    assert!(text.as_str().unwrap().contains("expired"), "{text}");
    lab.until(&container(101), RESOURCE, "Status", |status| status == "unknown");
    stands(&lab, 101, "unknown", "BackendAway", "");
    let (name, _) = lab.refused(&container(101), "org.opdbus.Container.Restart", &["{}"]);
    assert_eq!(name, "org.opdbus.Error.Unavailable");
    assert_eq!(lab.show("pve-container@101.service", "ActiveState"), "active", "there is no second hand");
    // The administrator's doing.
    pve.tell("token", json!({ "id": TOKEN_ID, "secret": TOKEN_SECRET }));
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    until_in_sync(&lab, 101);

    // A server that shows another certificate is not told the token.
    let since = pve.requests().len();
    pve.tell("certificate", json!({ "name": "other" }));
    lab.until(LXC, PLUGIN, "Status", |status| status == "unavailable");
    lab.until(LXC, PLUGIN, "Message", |message| message.as_str().unwrap().contains("certificate"));
    assert_eq!(pve.requests().len(), since, "nothing was asked of it");
    assert!(!lab.journal().contains(TOKEN_SECRET));
}

#[test]
fn a_list_that_is_refused_is_no_connection() {
    let Some((lab, pve)) = enter() else { return };
    let before = lab.get(LXC, PLUGIN, "Reconnects").as_u64().unwrap();
    pve.fault(&Fault::Refuse {
        method: "GET",
        path: "/cluster/resources",
        status: 500,
        message: "unable to list the moon",
        times: Some(4),
    });
    lab.until(LXC, PLUGIN, "Message", |message| message.as_str().unwrap().contains("unable to list the moon"));
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    // One connection was lost; the tries in between were none, and had their waits.
    assert_eq!(lab.get(LXC, PLUGIN, "Reconnects"), before + 1);
}

#[test]
fn a_plan_reads_the_list_once() {
    let Some((lab, pve)) = enter() else { return };
    running(&lab, 101);
    look_seldom(&lab, 101);
    let since = pve.requests().len();
    lab.call(STATE, FACE, "Plan", &["sa{sv}", &document(&[entry(101), entry(102)]).to_string(), "0"]);
    let ends =
        ["/cluster/resources", &format!("/nodes/{NODE}/network"), &format!("/nodes/{NODE}/storage/local/content")];
    assert_eq!(ends.map(|end| count(&pve, since, "GET", end)), [1, 1, 1]);
    assert_eq!(pve.requests().len(), since + ends.len());
}

#[test]
fn one_node_offline_degrades_that_node_alone() {
    let Some((lab, pve)) = enter() else { return };
    pve.tell("add_node", json!({ "name": "far" }));
    pve.tell("add_ct", json!({ "vmid": 201, "node": "far", "status": "running", "config": { "memory": 512 } }));
    let far = json!({ "id": "201", "node": "far", "running": true, "memory_mib": 512 });
    set(&lab, &document(&[entry(101), far.clone()]), "done");
    pve.fault(&Fault::NodeOffline("far"));
    lab.until(&container(201), RESOURCE, "Status", |status| status == "unknown");
    stands(&lab, 201, "unknown", "NodeAway", "the last known");
    assert_eq!(lab.get(&container(201), CONTAINER, "Memory"), 512_u64 << 20, "the last that is known");
    stands(&lab, 101, "in-sync", "", "");
    assert_eq!(lab.get(LXC, PLUGIN, "Status"), "connected");
    // What can be done is done.
    let mut near = entry(101);
    near["memory_mib"] = json!(640);
    set(&lab, &document(&[near, far]), "partial");
    assert_eq!(memory(&pve, 101), 640);
    stands(&lab, 201, "unknown", "NodeAway", "the last known");
    pve.heal();
    until_in_sync(&lab, 201);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
}

#[test]
fn a_flaky_and_slow_network_delays_and_repeats_nothing() {
    let Some((lab, pve)) = enter() else { return };
    pve.tell("network", json!({ "drop_rate": 0.15, "latency_s": 0.02 }));
    lab.set_desired_state(&document(&[entry(101), entry(102), entry(103)]));
    for id in [101, 102, 103] {
        until_in_sync(&lab, id);
        assert_eq!(lab.show(&format!("pve-container@{id}.service"), "ActiveState"), "active");
    }
    pve.heal();
    let tasks = pve.tasks();
    for kind in ["vzcreate", "vzstart"] {
        let done = tasks.iter().filter(|task| task["type"] == kind && task["exitstatus"] == "OK").count();
        assert_eq!(done, 3, "{kind}: {tasks:#?}");
    }
    assert!(tasks.iter().all(|task| task["exitstatus"] == "OK"), "none is tried a second time: {tasks:#?}");
}

#[test]
fn nobody_listening_and_nobody_answering_are_both_away() {
    let Some((lab, pve)) = enter() else { return };
    running(&lab, 101);
    for fault in [Fault::Away, Fault::Hanging] {
        pve.fault(&fault);
        lab.until(LXC, PLUGIN, "Status", |status| status == "unavailable");
        lab.until(&container(101), RESOURCE, "Status", |status| status == "unknown");
        stands(&lab, 101, "unknown", "BackendAway", "");
        let (_, result) = lab.set_desired_state(&with_memory(101, if fault == Fault::Away { 600 } else { 700 }));
        assert!(["partial", "failed"].contains(&result.as_str()), "{result}");
        match fault {
            Fault::Away => pve.back(),
            _ => pve.heal(),
        }
        // Pending work is taken up.
        until_in_sync(&lab, 101);
    }
    assert_eq!(memory(&pve, 101), 700);

    // Away in the middle of a task: it goes on there, and is followed once that is back.
    pve.fault(&Fault::TaskHeld("vzcreate", 102, "extracting archive"));
    let job = send(&lab, &document(&[entry(101), entry(102)]));
    lab.until(&job, JOB, "Steps", |steps| steps.to_string().contains("extracting archive"));
    pve.fault(&Fault::Away);
    lab.until(LXC, PLUGIN, "Status", |status| status == "unavailable");
    pve.let_go();
    pve.tell("wait_task", json!({ "type": "vzcreate", "vmid": 102, "status": "stopped" }));
    pve.back();
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    until_in_sync(&lab, 102);
    assert_eq!(count(&pve, 0, "POST", "/lxc"), 2);
}

#[test]
fn creates_on_one_storage_go_one_after_the_other() {
    let Some((lab, pve)) = enter() else { return };
    pve.fault(&Fault::StrictStorage);
    let entries: Vec<Value> = (101..=106).map(entry).collect();
    set(&lab, &document(&entries), "done");
    let tasks = pve.tasks();
    assert!(tasks.iter().all(|task| task["exitstatus"] == "OK"), "{tasks:#?}");
    assert_eq!(pve.tell("most_at_once", json!({}))["tasks"]["vzcreate"], 1);
    pve.requests_fit();
}

#[test]
fn what_somebody_else_does_is_seen_without_asking_for_it() {
    let Some((lab, pve)) = enter() else { return };
    running(&lab, 101);
    // Stopped by its unit, not through the API: a hint, and Proxmox VE knows.
    lab.run(&["systemctl", "stop", "pve-container@101.service"]);
    lab.until(&container(101), RESOURCE, "Status", |status| status == "drifted");
    assert_eq!(pve.get(&lab, &format!("/nodes/{NODE}/lxc/101/status/current"))["status"], "stopped");
    pve.order(101, "start");
    until_in_sync(&lab, 101);
    // Destroyed: what was declared is missing, and is not made anew under the policy "report".
    pve.order(101, "stop");
    pve.tell("order", json!({ "vmid": 101, "what": "destroy" }));
    lab.until(&container(101), RESOURCE, "Present", |present| *present == false);
    lab.until(&container(101), RESOURCE, "Status", |status| status == "drifted");
    assert!(pve.ct(101).is_none());
}

#[test]
fn an_archive_of_this_machine_is_uploaded_and_containers_are_made_from_it() {
    let Some((lab, pve)) = enter() else { return };
    let archive = "/srv/own.tar.zst";
    // More than a chunk, and no multiple of one.
    let bytes: Vec<u8> = (0..300_001_u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(archive, &bytes).unwrap();
    let template = |file: &str| json!({ "name": "own.tar.zst", "file": file, "checksum": sum(&lab, archive) });
    let wanted = |file: &str| {
        let mut entry = entry(101);
        entry["from"]["template"] = json!("local:vztmpl/own.tar.zst");
        json!({ "lxc": { "templates": [template(file)], "containers": [entry] } })
    };
    // An archive that is not there sends nothing, and makes nothing.
    let since = pve.requests().len();
    lab.set_desired_state(&wanted("/srv/none.tar.zst"));
    assert_eq!(pve.writes(since), Vec::<Value>::new());
    assert!(pve.ct(101).is_none());

    set(&lab, &wanted(archive), "done");
    assert_eq!(count(&pve, since, "POST", "/nodes/lab/storage/local/upload"), 1);
    let upload = pve.wait_request("POST", "/upload", since);
    assert_eq!(upload["status"], 200);
    let sent = pve.tell("uploaded", json!({}));
    assert_eq!(sent["content"], "vztmpl");
    assert_eq!(sent["filename"], "own.tar.zst");
    assert_eq!(sent["checksum-algorithm"], "sha256");
    let digest = sum(&lab, archive);
    assert_eq!(format!("sha256:{}", sent["checksum"].as_str().unwrap()), digest);
    assert_eq!(format!("sha256:{}", sent["sha256"].as_str().unwrap()), digest, "each byte of it arrived");
    assert!(pve.tasks().iter().any(|task| task["type"] == "imgcopy" && task["exitstatus"] == "OK"));
    stands(&lab, 101, "in-sync", "", "");
    // It is there now.
    let since = pve.requests().len();
    set(&lab, &wanted(archive), "unchanged");
    assert_eq!(pve.writes(since), Vec::<Value>::new());
    pve.requests_fit();
}

/// A file's digest, as a document has it.
fn sum(lab: &Lab, path: &str) -> String {
    format!("sha256:{}", lab.run(&["sha256sum", path]).split_whitespace().next().unwrap())
}
