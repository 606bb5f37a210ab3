//! Containers through Proxmox VE's API, beside a real Open vSwitch and real LXC: made from nothing, configured, started,
//! changed, removed; and each fault that the API can answer with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{fs, os::unix::fs::PermissionsExt as _};

use op_dbus_testkit::{
    Fault, Lab, NODE, Proof, Pve, STATE, TEMPLATE, TOKEN_FILE, TOKEN_ID, TOKEN_SECRET, path,
    proxmox::{
        self, CONTAINER, FACE, JOB, LXC, PLUGIN, RESOURCE, container, document, look_seldom, send, set, until_in_sync,
    },
};
use serde_json::{Value, json};

fn enter() -> Option<(Lab, Pve)> {
    proxmox::enter(
        env!("CARGO_BIN_EXE_op-dbus"),
        Proof::Fingerprint,
        &[("hold_down_ms", "500"), ("poll_ms", "500"), ("sweep_ms", "1000")],
    )
}

/// An entry that makes a container from the template that is there.
fn made(id: u32, hostname: &str) -> Value {
    json!({
        "id": id.to_string(), "hostname": hostname,
        "from": { "template": TEMPLATE, "storage": "local-lvm", "size_gib": 8, "unprivileged": true },
        "memory_mib": 512, "onboot": true, "running": true,
        "networks": [{ "name": "eth0", "bridge": "ovsbr0", "ip": format!("10.0.0.{}/24", id % 250), "gw": "10.0.0.1" }]
    })
}

fn message(lab: &Lab, job: &str) -> String {
    format!("{} {}", lab.get(job, JOB, "Message"), lab.get(job, JOB, "Steps"))
}

/// How a container stands: status, reason and message.
fn stands(lab: &Lab, id: u32) -> (String, String, String) {
    let get = |property| lab.get(&container(id), RESOURCE, property).as_str().unwrap().to_owned();
    (get("Status"), get("Reason"), get("Message"))
}

/// A container's configuration as Proxmox VE has it, with its `status` and what is `pending`; null where there is none.
fn held(pve: &Pve, id: u32) -> Value {
    let Some(mut ct) = pve.ct(id) else { return Value::Null };
    let mut config = ct["config"].take();
    for key in ["status", "pending"] {
        config[key] = ct[key].take();
    }
    config
}

/// The calls that changed something, from that number on.
fn writes(pve: &Pve, since: usize) -> Vec<String> {
    let shown = |call: &Value| format!("{} {}", call["method"].as_str().unwrap(), call["path"].as_str().unwrap());
    pve.writes(since).iter().map(|call| shown(call).replace("/api2/json", "")).collect()
}

fn creates(pve: &Pve) -> usize {
    writes(pve, 0).iter().filter(|call| **call == format!("POST /nodes/{NODE}/lxc")).count()
}

/// Somebody stops it, and op-dbus has seen that.
fn stopped(lab: &Lab, pve: &Pve, id: u32) {
    pve.order(id, "stop");
    lab.until(&container(id), CONTAINER, "Running", |running| *running == false);
}

#[test]
fn the_guides_three_containers_from_nothing() {
    let Some((lab, pve)) = enter() else { return };
    let mut guide = [made(100, "gateway"), made(101, "warp"), made(102, "xray")];
    guide[1]["after"] = json!(["container:100"]);
    guide[2]["after"] = json!(["container:101"]);
    guide[1]["networks"][0]["tag"] = json!(20);
    guide[1]["tags"] = json!(["vpn", "edge"]);
    set(&lab, &document(&guide), "done");
    let posts = writes(&pve, 0);
    assert_eq!(
        posts,
        [100, 101, 102]
            .map(|id| [format!("POST /nodes/{NODE}/lxc"), format!("POST /nodes/{NODE}/lxc/{id}/status/start")])
            .concat(),
        "made, then started once, in their order"
    );
    for (id, hostname) in [(100, "gateway"), (101, "warp"), (102, "xray")] {
        assert_eq!(held(&pve, id)["hostname"], hostname);
        assert_eq!(held(&pve, id)["unprivileged"], 1);
        assert_eq!(lab.get(&container(id), CONTAINER, "Runtime"), "proxmox");
        assert_eq!(lab.get(&container(id), CONTAINER, "Name"), hostname);
        assert_eq!(lab.get(&container(id), CONTAINER, "Running"), true);
        assert_eq!(lab.get(&container(id), CONTAINER, "Node"), NODE);
        assert_eq!(lab.get(&container(id), CONTAINER, "Memory"), 512_u64 << 20);
        assert_eq!(lab.get(&container(id), CONTAINER, "OnBoot"), true);
        assert_eq!(stands(&lab, id).0, "in-sync");
        // The join is real: a port of Open vSwitch, and LXC under the unit.
        let port = path("port", &format!("veth{id}i0"));
        lab.until(&container(id), CONTAINER, "Ports", |ports| *ports == json!([port]));
        lab.until(&container(id), CONTAINER, "ActiveState", |state| state == "active");
    }
    lab.until(&path("port", "veth101i0"), "org.opdbus.Port", "Tag", |tag| *tag == 20);
    assert_eq!(lab.get(&container(101), CONTAINER, "Tags"), json!(["edge", "vpn"]));
    assert_eq!(lab.get(&container(101), CONTAINER, "Addresses"), json!(["10.0.0.101/24"]));

    // The same again is no write; another document that means no change to any of them is one list call.
    look_seldom(&lab, 101);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    let since = pve.requests().len();
    set(&lab, &document(&guide), "unchanged");
    assert_eq!(pve.requests().len(), since, "the same generation: its mirror is up to date");
    let mut other = document(&guide);
    other["drift"] = json!("enforce");
    set(&lab, &other, "unchanged");
    let calls = pve.requests().split_off(since);
    let calls: Vec<_> = calls.iter().map(|call| (&call["method"], &call["path"])).collect();
    assert_eq!(calls, [(&json!("GET"), &json!("/api2/json/cluster/resources"))]);

    // And away again: only what is said to be.
    let gone = json!({ "id": "102", "ensure": "absent", "purge": true });
    set(&lab, &document(&[guide[0].clone(), gone]), "done");
    assert_eq!(held(&pve, 102), Value::Null);
    assert_ne!(held(&pve, 101), Value::Null, "not named, and left alone");
    lab.until_shown("pve-container@102.service", "ActiveState", |state| state == "inactive");
}

#[test]
fn the_guides_own_document_converges() {
    let Some((lab, pve)) = enter() else { return };
    let net0 = "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,type=veth";
    pve.add_ct(100, false, &json!({ "hostname": "gateway", "net0": net0 }));
    let guide = json!({
        "systemd": { "units": { "pve-container@100.service": { "enabled": true, "active_state": "active" } } },
        "lxc": { "containers": [{ "id": "100", "veth": "veth100", "bridge": "ovsbr0", "running": true }] }
    });
    set(&lab, &guide, "done");
    let config = held(&pve, 100);
    assert_eq!((&config["onboot"], &config["status"]), (&json!(1), &json!("running")));
    let net = config["net0"].as_str().unwrap();
    assert!(net.contains("bridge=ovsbr0") && net.contains("hwaddr=BC:24:11:00:00:01"), "{net}");
    for call in writes(&pve, 0) {
        assert!(
            call.starts_with(&format!("PUT /nodes/{NODE}/lxc/100/config")) || call.ends_with("/status/start"),
            "{call}"
        );
    }
    lab.until(&container(100), CONTAINER, "Ports", |ports| *ports == json!([path("port", "veth100i0")]));
    assert_eq!(lab.get(&path("unit", "pve-container@100.service"), RESOURCE, "Status"), "in-sync");
    // No link of systemd's own: one hand.
    assert_eq!(lab.show("pve-container@100.service", "UnitFileState"), "static");

    // A VLAN of its port is changed through Proxmox VE as well.
    let mut tagged = guide.clone();
    tagged["ovsdb"] = json!({ "bridges": { "ovsbr0": { "ports": { "veth100i0": { "tag": 30 } } } } });
    set(&lab, &tagged, "done");
    assert!(held(&pve, 100)["net0"].as_str().unwrap().contains("tag=30"));
    lab.until(&path("port", "veth100i0"), "org.opdbus.Port", "Tag", |tag| *tag == 30);

    // Start, Stop and Restart go the same way.
    let since = pve.requests().len();
    let reply = lab.call(&container(100), CONTAINER, "Restart", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "done");
    assert_eq!(writes(&pve, since), [format!("POST /nodes/{NODE}/lxc/100/status/reboot")]);
}

#[test]
fn what_is_hot_is_applied_and_what_is_not_waits() {
    let Some((lab, pve)) = enter() else { return };
    let mut entry = made(101, "warp");
    set(&lab, &document(&[entry.clone()]), "done");
    let hwaddr = held(&pve, 101)["net0"].as_str().unwrap().to_owned();
    let since = pve.requests().len();
    // Hot: memory, cores, a tag on the network; what is not managed stays.
    entry["memory_mib"] = json!(1024);
    entry["cores"] = json!(2);
    entry["networks"][0]["tag"] = json!(42);
    set(&lab, &document(&[entry.clone()]), "done");
    assert_eq!(writes(&pve, since), [format!("PUT /nodes/{NODE}/lxc/101/config")]);
    let config = held(&pve, 101);
    assert_eq!((&config["memory"], &config["cores"], &config["pending"]), (&json!(1024), &json!(2), &json!({})));
    let mac = hwaddr.split("hwaddr=").nth(1).unwrap().split(',').next().unwrap();
    assert!(config["net0"].as_str().unwrap().contains(mac), "the address of the card is kept");
    // Cold: shown as pending, and no restart.
    entry["nameserver"] = json!("10.0.0.53");
    set(&lab, &document(&[entry.clone()]), "done");
    let (status, reason, message) = stands(&lab, 101);
    assert_eq!((status.as_str(), reason.as_str()), ("pending", "RestartNeeded"), "{message}");
    assert!(message.contains("nameserver") && held(&pve, 101)["pending"]["nameserver"] == "10.0.0.53");
    // Only where the document says so.
    entry["restart"] = json!(true);
    let since = pve.requests().len();
    set(&lab, &document(&[entry.clone()]), "done");
    assert_eq!(writes(&pve, since), [format!("POST /nodes/{NODE}/lxc/101/status/reboot")]);
    assert_eq!(held(&pve, 101)["nameserver"], "10.0.0.53");
    assert_eq!(stands(&lab, 101).0, "in-sync");
    // Grown, and never shrunk.
    entry["from"]["size_gib"] = json!(10);
    set(&lab, &document(&[entry.clone()]), "done");
    assert!(held(&pve, 101)["rootfs"].as_str().unwrap().contains("size=10G"));
    entry["from"]["size_gib"] = json!(4);
    set(&lab, &document(&[entry.clone()]), "failed");
    assert_eq!(stands(&lab, 101).1, "CannotShrink");
    entry["from"]["size_gib"] = json!(10);
    entry["from"]["unprivileged"] = json!(false);
    set(&lab, &document(&[entry.clone()]), "failed");
    assert_eq!(stands(&lab, 101).1, "Immutable");
    // Somebody changes it behind our back: drift, found by the slow look.
    entry["from"]["unprivileged"] = json!(true);
    set(&lab, &document(&[entry.clone()]), "unchanged");
    pve.change(101, &json!({ "memory": 256 }));
    lab.until(&container(101), RESOURCE, "Status", |status| status == "drifted");
    entry["drift"] = json!("enforce");
    set(&lab, &document(&[entry.clone()]), "done");
    let mut signals = lab.signals();
    pve.change(101, &json!({ "memory": 256 }));
    let finished = signals.until("JobFinished", |signal| signal.member == "JobFinished");
    assert_eq!(lab.get(finished.arguments[1].as_str().unwrap(), JOB, "Kind"), "drift");
    assert_eq!(held(&pve, 101)["memory"], 1024);
    // A protected one is not destroyed.
    pve.change(101, &json!({ "protection": 1 }));
    set(&lab, &document(&[json!({ "id": "101", "ensure": "absent" })]), "failed");
    assert_eq!(stands(&lab, 101).1, "Protected");
    assert_ne!(held(&pve, 101), Value::Null);
}

#[test]
fn bad_input_is_found_before_anything_is_made() {
    let Some((lab, pve)) = enter() else { return };
    pve.tell("add_vm", json!({ "vmid": 105, "name": "a-vm" }));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut entry = made(105, "warp");
        entry["id"] = json!("101");
        change(&mut entry);
        entry
    };
    for (entry, reason) in [
        (made(105, "warp"), "IdTaken"),
        (with(&|entry| entry["networks"][0]["bridge"] = json!("nobridge")), "BridgeMissing"),
        (with(&|entry| entry["from"]["template"] = json!("local:vztmpl/none.tar.zst")), "SourceMissing"),
        (with(&|entry| entry["from"]["storage"] = json!("nowhere")), "StorageMissing"),
        (with(&|entry| entry["from"]["size_gib"] = json!(1_000_000)), "NoSpace"),
        (with(&|entry| entry["node"] = json!("pve9")), "NodeAway"),
        (with(&|entry| entry["features"] = json!({ "keyctl": true })), "NotPermitted"),
        (with(&|entry| entry["from"] = json!({ "clone": "999" })), "SourceMissing"),
        (with(&|entry| drop(entry.as_object_mut().unwrap().remove("from"))), "ContainerNotFound"),
    ] {
        let id = entry["id"].as_str().unwrap().parse().unwrap();
        let (job, result) = lab.set_desired_state(&document(std::slice::from_ref(&entry)));
        assert_eq!(result, "failed", "{entry}: {}", message(&lab, &job));
        assert_eq!(stands(&lab, id).1, reason, "{}", stands(&lab, id).2);
        // Plan says it beforehand, field by field.
        let plan = lab.call(STATE, FACE, "Plan", &["sa{sv}", &document(&[entry]).to_string(), "0"]);
        assert!(plan.to_string().contains(reason), "{plan}");
    }
    assert_eq!(writes(&pve, 0), [""; 0], "nothing was half made");
    let text = document(&[with(&|entry| entry["id"] = json!("99"))]).to_string();
    let faults = lab.call(STATE, FACE, "Validate", &["sa{sv}", &text, "0"]);
    assert!(faults.to_string().contains("/lxc/containers/0/id"), "{faults}");
}

#[test]
fn each_fault_leads_where_it_should() {
    let Some((lab, pve)) = enter() else { return };
    let reconciled = |id: u32| {
        until_in_sync(&lab, id);
        assert_eq!(held(&pve, id)["status"], "running");
    };
    // A create that is carried out and whose answer is lost: looked up, not repeated.
    pve.fault(&Fault::DropAfter("POST", "/lxc"));
    let (job, _) = lab.set_desired_state(&document(&[made(101, "warp")]));
    reconciled(101);
    assert_eq!(creates(&pve), 1, "{}", message(&lab, &job));

    // TASK ERROR on start, with the task's own words.
    pve.fault(&Fault::NoStart(101, "startup for container '101' failed"));
    stopped(&lab, &pve, 101);
    let (job, result) = lab.set_desired_state(&document(&[made(101, "warp")]));
    assert_eq!(result, "failed");
    assert_eq!(stands(&lab, 101).1, "JobFailed", "{}", message(&lab, &job));
    assert!(stands(&lab, 101).2.contains("startup for container '101' failed"), "{:?}", stands(&lab, 101));
    pve.tell("start_error", json!({ "vmid": 101, "message": null }));
    set(&lab, &document(&[made(101, "warp")]), "done");

    // Somebody's lock: waited for.
    pve.fault(&Fault::Locked(101, "backup"));
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "backup");
    let mut more = made(101, "warp");
    more["memory_mib"] = json!(768);
    let (_, result) = lab.set_desired_state(&document(&[more.clone()]));
    assert_eq!((result.as_str(), stands(&lab, 101).1.as_str()), ("failed", "Locked"));
    pve.tell("lock", json!({ "vmid": 101, "lock": null }));
    reconciled(101);
    assert_eq!(held(&pve, 101)["memory"], 768, "taken up by itself once the lock is gone");

    // No quorum, 403 and 500 with the text, a digest that does not fit, 595 of a node that was there.
    pve.fault(&Fault::NoQuorum);
    more["memory_mib"] = json!(800);
    let (_, result) = lab.set_desired_state(&document(&[more.clone()]));
    assert_eq!(result, "failed");
    assert!(stands(&lab, 101).2.contains("quorum"), "{:?}", stands(&lab, 101));
    pve.heal();
    reconciled(101);
    assert_eq!(held(&pve, 101)["memory"], 800);
    let refuse = |status: u16, message: &str| {
        pve.fault(&Fault::Refuse { method: "PUT", path: "/lxc/101/config", status, message, times: Some(1) });
    };
    for (status, text, reason) in [
        (403, "Permission check failed (/vms/101, VM.Config.Memory)", "NotPermitted"),
        (500, "unable to write the moon", "Refused"),
    ] {
        refuse(status, text);
        more["memory_mib"] = json!(1000 + status);
        let (_, result) = lab.set_desired_state(&document(&[more.clone()]));
        assert_eq!((result.as_str(), stands(&lab, 101).1.as_str()), ("failed", reason));
        assert!(stands(&lab, 101).2.contains(text), "{:?}", stands(&lab, 101));
    }
    let digest = "detected modified configuration - file changed by other user? Try again.";
    refuse(500, digest);
    more["memory_mib"] = json!(900);
    set(&lab, &document(&[more.clone()]), "done");
    refuse(595, "No route to host");
    more["memory_mib"] = json!(901);
    lab.set_desired_state(&document(&[more.clone()]));
    reconciled(101);
    assert_eq!(held(&pve, 101)["memory"], 901);
}

#[test]
fn slow_and_warning_tasks_and_a_flaky_network_end_well() {
    let Some((lab, pve)) = enter() else { return };
    // A slow one, whose log shows on the job meanwhile.
    pve.fault(&Fault::TaskSlow("vzcreate", 101, 2.0));
    let job = send(&lab, &document(&[made(101, "warp")]));
    lab.until(&job, JOB, "Progress", |progress| progress.as_f64().unwrap() > 0.0);
    assert_eq!(lab.wait(&job), "done");
    // One that ends with warnings: done, and they are said.
    pve.fault(&Fault::TaskWarns("vzstart", 101, "its clock is not set"));
    stopped(&lab, &pve, 101);
    let job = set(&lab, &document(&[made(101, "warp")]), "done");
    assert!(lab.get(&job, JOB, "Steps").to_string().contains("WARNINGS: 1"), "{}", message(&lab, &job));
    // Connections that drop at random, and answers that come late.
    pve.tell("network", json!({ "drop_rate": 0.2, "latency_s": 0.02 }));
    let mut entry = made(102, "xray");
    entry["memory_mib"] = json!(640);
    lab.set_desired_state(&document(&[made(101, "warp"), entry]));
    until_in_sync(&lab, 102);
    lab.until(&container(102), CONTAINER, "Running", |running| *running == true);
    pve.heal();
    assert_eq!(held(&pve, 102)["memory"], 640);
    let creates = pve.tasks().iter().filter(|task| task["type"] == "vzcreate").count();
    assert_eq!(creates, 2, "each is made once");
}

#[test]
fn clones_and_templates_are_made_of_one_another() {
    let Some((lab, pve)) = enter() else { return };
    let mut base = made(900, "base");
    base.as_object_mut().unwrap().remove("running");
    base["template"] = json!(true);
    let clone = json!({
        "id": "101", "hostname": "warp", "from": { "clone": "900", "full": true, "size_gib": 10 }, "memory_mib": 768,
        "running": true
    });
    set(&lab, &document(&[base, clone]), "done");
    assert_eq!(held(&pve, 900)["template"], 1);
    let config = held(&pve, 101);
    assert_eq!(
        (&config["hostname"], &config["memory"], &config["status"]),
        (&json!("warp"), &json!(768), &json!("running"))
    );
    assert!(config["rootfs"].as_str().unwrap().contains("size=10G"), "{config}");
    // A template that is not there is fetched first.
    let mut entry = made(102, "xray");
    entry["from"]["template"] = json!("local:vztmpl/fetched.tar.zst");
    let mut wanted = document(&[entry]);
    wanted["lxc"]["templates"] = json!([{ "name": "fetched.tar.zst", "url": "https://example.org/fetched.tar.zst" }]);
    set(&lab, &wanted, "done");
    assert_eq!(held(&pve, 102)["status"], "running");
    assert!(writes(&pve, 0).contains(&format!("POST /nodes/{NODE}/storage/local/download-url")));
}

#[test]
fn one_node_away_degrades_that_node_alone_and_the_whole_is_unknown_while_away() {
    let Some((lab, pve)) = enter() else { return };
    pve.tell("add_node", json!({ "name": "pve2" }));
    pve.tell("add_ct", json!({ "vmid": 201, "name": "afar", "node": "pve2", "status": "running" }));
    let afar = json!({ "id": "201", "node": "pve2", "running": true, "memory_mib": 512 });
    set(&lab, &document(&[made(101, "warp"), afar]), "done");
    assert_eq!(lab.get(&container(201), CONTAINER, "Node"), "pve2");
    pve.fault(&Fault::NodeOffline("pve2"));
    lab.until(&container(201), RESOURCE, "Status", |status| status == "unknown");
    assert_eq!(stands(&lab, 201).1, "NodeAway");
    assert_eq!(stands(&lab, 101).0, "in-sync");
    let (name, _) = lab.refused(&container(201), "org.opdbus.Container.Stop", &["{'override': <true>}"]);
    assert_eq!(name, "org.opdbus.Error.Unavailable");
    pve.heal();
    until_in_sync(&lab, 201);

    // The whole of it: last known values, and nothing goes by another way.
    pve.fault(&Fault::Away);
    lab.until(LXC, PLUGIN, "Status", |status| status == "unavailable");
    lab.until(&container(101), RESOURCE, "Status", |status| status == "unknown");
    assert_eq!(stands(&lab, 101).1, "BackendAway");
    assert_eq!(lab.get(&container(101), CONTAINER, "Name"), "warp");
    for verb in ["Start", "Restart"] {
        let (name, _) = lab.refused(&container(101), &format!("org.opdbus.Container.{verb}"), &["{}"]);
        assert_eq!(name, "org.opdbus.Error.Unavailable", "{verb}");
    }
    let (_, result) = lab.set_desired_state(&document(&[made(101, "warp"), made(102, "xray")]));
    assert!(["partial", "failed"].contains(&result.as_str()), "{result}");
    pve.back();
    until_in_sync(&lab, 102);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
}

#[test]
fn a_token_that_is_refused_or_open_to_others_is_said_and_never_shown() {
    let Some((lab, pve)) = enter() else { return };
    set(&lab, &document(&[made(101, "warp")]), "done");
    fs::write(TOKEN_FILE, format!("{TOKEN_ID}=ffffffff-89ab-cdef-0123-456789abcdef\n")).unwrap();
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
    let said = lab.until(LXC, PLUGIN, "Message", |message| message.as_str().unwrap().contains("token"));
    assert!(said.as_str().unwrap().contains("wrong, expired or removed"), "{said}");
    fs::set_permissions(TOKEN_FILE, fs::Permissions::from_mode(0o644)).unwrap();
    lab.until(LXC, PLUGIN, "Message", |message| message.as_str().unwrap().contains("chmod 600"));
    fs::write(TOKEN_FILE, pve.token()).unwrap();
    fs::set_permissions(TOKEN_FILE, fs::Permissions::from_mode(0o600)).unwrap();
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    // Another certificate than the pinned one.
    let other = format!("\"{}\"", ["00"; 32].join(":"));
    lab.configure(&[("fingerprint", &other)]);
    lab.until(LXC, PLUGIN, "Message", |message| message.as_str().unwrap().contains("fingerprint"));
    assert!(!lab.journal().contains(TOKEN_SECRET), "the token is in the journal");
}

#[test]
fn a_task_is_followed_through_op_dbuss_own_restart() {
    let Some((lab, pve)) = enter() else { return };
    pve.fault(&Fault::TaskHeld("vzcreate", 101, "extracting archive"));
    let job = send(&lab, &document(&[made(101, "warp")]));
    lab.until(&job, JOB, "Steps", |steps| steps.to_string().contains("running"));
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "create");
    lab.run(&["systemctl", "kill", "--signal=KILL", "op-dbus.service"]);
    // It follows the task that it had begun.
    let since = pve.requests().len();
    pve.wait_request("GET", "/log", since);
    pve.let_go();
    until_in_sync(&lab, 101);
    assert_eq!((creates(&pve), &held(&pve, 101)["status"]), (1, &json!("running")));
}

#[test]
fn three_hundred_are_seen_and_nothing_is_written() {
    let Some((lab, pve)) = enter() else { return };
    for vmid in 1000..1300 {
        // No machine of LXC's stands behind it: there are too many.
        pve.tell("add_ct", json!({ "vmid": vmid, "status": "running", "real": false }));
    }
    for latency in [0.0, 0.01] {
        pve.fault(&Fault::Slow(latency));
        let started = std::time::Instant::now();
        lab.run(&["systemctl", "restart", "op-dbus.service"]);
        let all = |count: &Value| count.as_u64().unwrap() >= 300;
        lab.until(LXC, PLUGIN, "Resources", all);
        println!("300 containers with {latency} s latency are seen {:?} after the restart began", started.elapsed());
        lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
        let entries: Vec<Value> = (0..300)
            .map(|number| json!({ "id": (1000 + number).to_string(), "running": true, "memory_mib": 512 }))
            .collect();
        set(&lab, &document(&entries), "unchanged");
        lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    }
    assert_eq!(writes(&pve, 0), [""; 0]);
}
