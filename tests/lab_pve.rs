//! The lab's Proxmox VE itself: that what the other suites stand on holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use op_dbus_testkit::{Fault, Lab, NODE, Pve, TEMPLATE, TOKEN_ID};
use serde_json::{Value, json};

/// A client of the test's own, which is not op-dbus: method, path, parameters; prints the status and the body.
const CLIENT: &str = r#"
import http.client, json, ssl, sys, urllib.parse
token, method, path, parameters = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
trust = ssl.create_default_context(cafile="/run/lab-pve/pve-ca.pem")
connection = http.client.HTTPSConnection("127.0.0.2", 8006, context=trust, timeout=60)
body = urllib.parse.urlencode(parameters) if method in ("POST", "PUT") else None
headers = {"Authorization": "PVEAPIToken=" + token}
if body is not None:
    headers["Content-Type"] = "application/x-www-form-urlencoded"
try:
    connection.request(method, "/api2/json" + path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
except (ConnectionError, http.client.HTTPException) as error:
    print(json.dumps({"broken": type(error).__name__}))
    sys.exit()
print(json.dumps({"status": answer.status, "reason": answer.reason, "body": text}))
"#;

fn call(lab: &Lab, pve: &Pve, method: &str, path: &str, parameters: &Value) -> Value {
    let printed = lab.run(&["python3", "-c", CLIENT, &pve.token(), method, path, &parameters.to_string()]);
    serde_json::from_str(&printed).unwrap()
}

/// Calls, waits for the task, and returns it.
fn order(lab: &Lab, pve: &Pve, method: &str, path: &str, parameters: &Value) -> Value {
    let answer = call(lab, pve, method, path, parameters);
    assert_eq!(answer["status"], 200, "{answer}");
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    pve.tell("wait_task", json!({ "upid": body["data"], "status": "stopped" }))
}

fn gateway() -> Value {
    json!({
        "vmid": 100, "ostemplate": TEMPLATE, "rootfs": "local-lvm:1", "unprivileged": 1, "hostname": "gateway",
        "net0": "name=eth0,bridge=ovsbr0,tag=20,ip=10.0.0.100/24"
    })
}

fn nodes() -> String {
    format!("/nodes/{NODE}/lxc")
}

#[test]
fn a_container_that_is_started_really_runs_and_is_plugged() {
    let Some(lab) = Lab::enter() else { return };
    let pve = Pve::start(&lab);
    assert_eq!(pve.get(&lab, "/version")["release"], "9.0");
    assert_eq!(order(&lab, &pve, "POST", &nodes(), &gateway())["exitstatus"], "OK");
    assert!(!lab.ovs(&["list-ports", "ovsbr0"]).contains("veth100"), "it does not run yet");

    let at = format!("{}/100", nodes());
    let started = order(&lab, &pve, "POST", &format!("{at}/status/start"), &json!({}));
    assert_eq!(started["exitstatus"], "OK", "{started}");
    assert_eq!(started["user"], TOKEN_ID);
    assert_eq!(lab.show("pve-container@100.service", "ActiveState"), "active");
    assert_eq!(lab.ovs(&["port-to-br", "veth100i0"]), "ovsbr0");
    assert_eq!(lab.ovs(&["get", "port", "veth100i0", "tag"]), "20");
    assert_eq!(pve.get(&lab, &format!("{at}/status/current"))["status"], "running");

    // Changed as it runs: plugged anew.
    let net0 = "name=eth0,bridge=ovsbr0,tag=30,ip=10.0.0.100/24";
    let changed = call(&lab, &pve, "PUT", &format!("{at}/config"), &json!({ "net0": net0 }));
    assert_eq!(changed["status"], 200, "{changed}");
    assert_eq!(lab.ovs(&["get", "port", "veth100i0", "tag"]), "30");
    let two = json!({ "net1": "name=eth1,bridge=ovsbr0,trunks=10;20" });
    assert_eq!(call(&lab, &pve, "PUT", &format!("{at}/config"), &two)["status"], 200);
    assert_eq!(lab.ovs(&["get", "port", "veth100i1", "trunks"]), "[10, 20]");

    // A neighbour answers it.
    pve.add_ct(101, true, &json!({ "hostname": "warp", "net0": "name=eth0,bridge=ovsbr0,tag=30,ip=10.0.0.101/24" }));
    lab.run(&["lxc-attach", "-n", "100", "--", "ping", "-c", "1", "-w", "20", "10.0.0.101"]);

    // Stopped behind Proxmox VE's back: it knows.
    lab.run(&["systemctl", "stop", "pve-container@100.service"]);
    assert_eq!(pve.get(&lab, &format!("{at}/status/current"))["status"], "stopped");
    assert!(!lab.ovs(&["list-ports", "ovsbr0"]).contains("veth100"));
    assert_eq!(order(&lab, &pve, "DELETE", &at, &json!({}))["exitstatus"], "OK");
    assert!(!std::path::Path::new("/var/lib/lxc/100").exists());
    pve.requests_fit();
}

#[test]
fn what_is_to_go_wrong_does() {
    let Some(lab) = Lab::enter() else { return };
    let pve = Pve::start(&lab);
    // Taken, and not answered.
    pve.fault(&Fault::DropAfter("POST", "/lxc"));
    let answer = call(&lab, &pve, "POST", &nodes(), &gateway());
    assert!(answer["broken"].is_string(), "{answer}");
    assert!(pve.ct(100).is_some());
    assert_eq!(pve.requests().last().unwrap()["body"]["hostname"], "gateway");
    pve.fault(&Fault::DropBefore("GET", "/version"));
    assert!(call(&lab, &pve, "GET", "/version", &json!({}))["broken"].is_string());
    assert_eq!(call(&lab, &pve, "GET", "/version", &json!({}))["status"], 200);

    let at = format!("{}/100", nodes());
    let start = format!("{at}/status/start");
    pve.tell("wait_task", json!({ "type": "vzcreate", "status": "stopped" }));
    pve.fault(&Fault::TaskFails("vzstart", 100, "no luck"));
    assert_eq!(order(&lab, &pve, "POST", &start, &json!({}))["exitstatus"], "no luck");
    pve.fault(&Fault::TaskWarns("vzstart", 100, "somewhat"));
    let warned = order(&lab, &pve, "POST", &start, &json!({}));
    assert_eq!(warned["exitstatus"], "WARNINGS: 1");
    assert_eq!(*warned["log"].as_array().unwrap().last().unwrap(), "TASK WARNINGS: 1");
    assert_eq!(lab.show("pve-container@100.service", "ActiveState"), "active");

    // Held until let go.
    pve.fault(&Fault::TaskHeld("vzstop", 100, "stopping"));
    assert_eq!(call(&lab, &pve, "POST", &format!("{at}/status/stop"), &json!({}))["status"], 200);
    assert_eq!(pve.wait_task("vzstop", 100)["log"], json!(["stopping"]));
    pve.let_go();
    pve.tell("wait_task", json!({ "type": "vzstop", "status": "stopped" }));
    assert_eq!(lab.show("pve-container@100.service", "ActiveState"), "inactive");

    // Somebody else is quicker.
    pve.fault(&Fault::Meddle("GET", "/config", 100, json!({ "description": "theirs" })));
    let digest = pve.get(&lab, &format!("{at}/config"))["digest"].clone();
    let put = call(&lab, &pve, "PUT", &format!("{at}/config"), &json!({ "cores": 2, "digest": digest }));
    assert_eq!(put["status"], 500);
    assert!(put["reason"].as_str().unwrap().contains("detected modified configuration"), "{put}");

    let refused = |fault: Fault<'_>, status: u16, text: &str| {
        pve.fault(&fault);
        let answer = call(&lab, &pve, "PUT", &format!("{at}/config"), &json!({ "cores": 3 }));
        assert_eq!(answer["status"], status, "{fault:?}: {answer}");
        assert!(answer["reason"].as_str().unwrap().contains(text), "{fault:?}: {answer}");
        pve.heal();
        answer
    };
    refused(Fault::NoQuorum, 500, "no quorum");
    refused(Fault::NodeOffline(NODE), 595, "No route to host");
    refused(Fault::ConfigHeld(100), 500, "got timeout");
    pve.release_config(100);
    refused(Fault::Locked(100, "backup"), 500, "CT is locked (backup)");
    pve.tell("lock", json!({ "vmid": 100, "lock": null }));
    let refusal =
        Fault::Refuse { method: "PUT", path: "/config", status: 403, message: "Permission check failed", times: None };
    refused(refusal, 403, "Permission check failed");
    pve.fault(&Fault::BareErrors);
    let bare = refused(Fault::NoQuorum, 500, "no quorum");
    assert_eq!(bare["body"], r#"{"data": null}"#);
    let nothing = refused(Fault::Expired, 401, "");
    assert_eq!(nothing["body"], "");

    // A machine of which a bridge is missing.
    pve.add_ct(102, false, &json!({ "net0": "name=eth0,bridge=vmbr9" }));
    pve.tell("order", json!({ "vmid": 102, "what": "start" }));
    assert_eq!(pve.tasks().last().unwrap()["exitstatus"], "bridge 'vmbr9' does not exist");

    // Nothing listens, then it does again, and knows what it knew.
    pve.fault(&Fault::Away);
    assert!(call(&lab, &pve, "GET", "/version", &json!({}))["broken"].is_string());
    pve.back();
    assert_eq!(call(&lab, &pve, "GET", "/version", &json!({}))["status"], 401);
    assert!(pve.ct(102).is_some());
}

#[test]
fn a_cluster_has_other_nodes_and_storages_with_an_end() {
    let Some(lab) = Lab::enter() else { return };
    let pve = Pve::start(&lab);
    pve.tell("add_node", json!({ "name": "far" }));
    pve.tell("add_ct", json!({ "vmid": 200, "node": "far", "status": "running" }));
    pve.tell("add_vm", json!({ "vmid": 300, "name": "machine" }));
    let rows = pve.get(&lab, "/cluster/resources?type=vm");
    let rows: Vec<_> = rows.as_array().unwrap().iter().map(|row| (&row["id"], &row["node"], &row["status"])).collect();
    assert_eq!(
        rows,
        [(&json!("qemu/300"), &json!(NODE), &json!("stopped")), (&json!("lxc/200"), &json!("far"), &json!("running"))]
    );
    let bridges = pve.get(&lab, &format!("/nodes/{NODE}/network?type=any_bridge"));
    assert_eq!(bridges[0]["iface"], "ovsbr0");

    pve.tell("room", json!({ "storage": "local-lvm", "gib": 0.5 }));
    let full = order(&lab, &pve, "POST", &nodes(), &gateway());
    assert!(full["exitstatus"].as_str().unwrap().contains("out of space"), "{full}");
    assert!(pve.ct(100).is_none(), "nothing half made");
    pve.tell("rights", json!({ "id": TOKEN_ID, "rights": ["VM.Audit"] }));
    let answer = call(&lab, &pve, "POST", &nodes(), &gateway());
    assert_eq!(answer["status"], 403, "{answer}");
}
