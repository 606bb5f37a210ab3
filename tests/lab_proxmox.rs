//! Containers through Proxmox VE's API, against a fake of it beside a real Open vSwitch and real LXC: made from nothing,
//! configured, started, changed, removed; and each fault that the API can answer with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    cell::RefCell,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use op_dbus_testkit::{Lab, STATE, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";
const JOB: &str = "org.opdbus.Job";
const RESOURCE: &str = "org.opdbus.Resource";
const CONTAINER: &str = "org.opdbus.Container";
const PLUGIN: &str = "org.opdbus.Plugin";
const LXC: &str = "/org/opdbus/plugin/lxc";
const TOKEN: &str = "op@pve!lab=01234567-89ab-cdef-0123-456789abcdef";
const SECRET: &str = "01234567-89ab-cdef-0123-456789abcdef";
const FOLDER: &str = "/run/lab-proxmox";
const HOST: &str = "127.0.0.2";
const PORT: &str = "18006";

/// The fake in a process of its own.
struct Fake {
    process: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Fake {
    fn start() -> Self {
        fs::create_dir_all(FOLDER).unwrap();
        let harness = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/proxmox");
        let mut process = Command::new("python3")
            .args([harness.to_str().unwrap(), FOLDER, HOST, PORT])
            .env("PYTHONPATH", "/usr/local/lib/fakepve")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pipes = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let fake = Self { process, pipes: RefCell::new(pipes) };
        assert_eq!(fake.read(), json!("ready"));
        fake
    }

    fn read(&self) -> Value {
        let mut line = String::new();
        self.pipes.borrow_mut().1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// Has the fake do something; returns what it answers.
    fn tell(&self, what: &Value) -> Value {
        writeln!(self.pipes.borrow_mut().0, "{what}").unwrap();
        let answer = self.read();
        assert!(answer.get("error").is_none(), "{what}: {answer}");
        answer["ok"].clone()
    }

    /// The configuration of a container, with its `status`; null where there is none.
    fn config(&self, id: u32) -> Value {
        self.tell(&json!(["config", id]))
    }

    /// Calls that were made since the last time, but for those that read.
    fn writes(&self) -> Vec<String> {
        let calls = self.tell(&json!(["calls"]));
        let shown = calls.as_array().unwrap().iter();
        let shown = shown.map(|call| format!("{} {}", call[0].as_str().unwrap(), call[1].as_str().unwrap()));
        shown.filter(|call| !call.starts_with("GET")).map(|call| call.replace("/api2/json", "")).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The certificate's fingerprint, as openssl would print it.
fn fingerprint() -> String {
    let pem = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let pem = pem.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("BEGIN CERTIFICATE")));
    let pem = pem.last().expect("the fake has a certificate");
    let script =
        "import ssl,hashlib,sys;print(hashlib.sha256(ssl.PEM_cert_to_DER_cert(open(sys.argv[1]).read())).hexdigest())";
    let output = Command::new("python3").args(["-c", script, pem.to_str().unwrap()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn enter() -> Option<(Lab, Fake)> {
    let lab = Lab::enter()?;
    let fake = Fake::start();
    lab.install_afresh(BINARY, None);
    fs::write("/etc/op-dbus/proxmox.token", format!("{TOKEN}\n")).unwrap();
    fs::set_permissions("/etc/op-dbus/proxmox.token", fs::Permissions::from_mode(0o600)).unwrap();
    let config = fs::read_to_string("/etc/op-dbus/op-dbus.toml").unwrap();
    let reached = format!(
        "[proxmox]\nurl = \"https://{HOST}:{PORT}\"\nnode = \"pve1\"\ntoken_file = \"/etc/op-dbus/proxmox.token\"\n\
         fingerprint = \"{}\"\n",
        fingerprint()
    );
    fs::write("/etc/op-dbus/op-dbus.toml", config.replace("[proxmox]\n", &reached)).unwrap();
    lab.configure(&[("hold_down_ms", "500"), ("poll_ms", "500"), ("sweep_ms", "1000")]);
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    fake.tell(&json!(["calls"]));
    Some((lab, fake))
}

/// Has op-dbus look at nothing by itself, and starts it anew.
fn look_seldom(lab: &Lab) {
    let config = fs::read_to_string("/etc/op-dbus/op-dbus.toml").unwrap();
    let slow =
        config.replace("\npoll_ms = 500", "\npoll_ms = 600000").replace("\nsweep_ms = 1000", "\nsweep_ms = 600000");
    fs::write("/etc/op-dbus/op-dbus.toml", slow).unwrap();
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
    // The first close look comes by itself, and is the last.
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    let close = |addresses: &Value| !addresses.as_array().unwrap().is_empty();
    lab.until(&container(101), CONTAINER, "Addresses", close);
}

fn container(id: u32) -> String {
    path("container", &id.to_string())
}

/// An entry that makes a container from the template that the fake's storage has.
fn made(id: u32, hostname: &str) -> Value {
    json!({
        "id": id.to_string(), "hostname": hostname,
        "from": { "template": "local:vztmpl/debian-12.tar.zst", "storage": "local-lvm", "size_gib": 8, "unprivileged": true },
        "memory_mib": 512, "onboot": true, "running": true,
        "networks": [{ "name": "eth0", "bridge": "ovsbr0", "ip": format!("10.0.0.{}/24", id % 250), "gw": "10.0.0.1" }]
    })
}

fn document(containers: &[Value]) -> Value {
    json!({ "lxc": { "containers": containers } })
}

fn message(lab: &Lab, job: &str) -> String {
    format!("{} {}", lab.get(job, JOB, "Message"), lab.get(job, JOB, "Steps"))
}

#[track_caller]
fn set(lab: &Lab, document: &Value, result: &str) -> String {
    let (job, got) = lab.set_desired_state(document);
    assert_eq!(got, result, "{}", message(lab, &job));
    job
}

/// How a container stands: status, reason and message.
fn stands(lab: &Lab, id: u32) -> (String, String, String) {
    let get = |property| lab.get(&container(id), RESOURCE, property).as_str().unwrap().to_owned();
    (get("Status"), get("Reason"), get("Message"))
}

#[test]
fn the_guides_three_containers_from_nothing() {
    let Some((lab, fake)) = enter() else { return };
    let mut guide = [made(100, "gateway"), made(101, "warp"), made(102, "xray")];
    guide[1]["after"] = json!(["container:100"]);
    guide[2]["after"] = json!(["container:101"]);
    guide[1]["networks"][0]["tag"] = json!(20);
    guide[1]["tags"] = json!(["vpn", "edge"]);
    set(&lab, &document(&guide), "done");
    let posts: Vec<String> = fake.writes();
    assert_eq!(
        posts,
        [
            "POST /nodes/pve1/lxc",
            "POST /nodes/pve1/lxc/100/status/start",
            "POST /nodes/pve1/lxc",
            "POST /nodes/pve1/lxc/101/status/start",
            "POST /nodes/pve1/lxc",
            "POST /nodes/pve1/lxc/102/status/start",
        ],
        "made, then started once, in their order"
    );
    for (id, hostname) in [(100, "gateway"), (101, "warp"), (102, "xray")] {
        assert_eq!(fake.config(id)["hostname"], hostname);
        assert_eq!(fake.config(id)["unprivileged"], 1);
        assert_eq!(lab.get(&container(id), CONTAINER, "Runtime"), "proxmox");
        assert_eq!(lab.get(&container(id), CONTAINER, "Name"), hostname);
        assert_eq!(lab.get(&container(id), CONTAINER, "Running"), true);
        assert_eq!(lab.get(&container(id), CONTAINER, "Node"), "pve1");
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
    look_seldom(&lab);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    fake.tell(&json!(["calls"]));
    set(&lab, &document(&guide), "unchanged");
    assert_eq!(fake.tell(&json!(["calls"])), json!([]), "the same generation: its mirror is up to date");
    let mut other = document(&guide);
    other["drift"] = json!("enforce");
    set(&lab, &other, "unchanged");
    assert_eq!(fake.tell(&json!(["calls"])), json!([["GET", "/api2/json/cluster/resources"]]));

    // And away again: only what is said to be.
    let gone = json!({ "id": "102", "ensure": "absent", "purge": true });
    set(&lab, &document(&[guide[0].clone(), gone]), "done");
    assert_eq!(fake.config(102), Value::Null);
    assert_ne!(fake.config(101), Value::Null, "not named, and left alone");
    lab.until_shown("pve-container@102.service", "ActiveState", |state| state == "inactive");
}

#[test]
fn the_guides_own_document_converges() {
    let Some((lab, fake)) = enter() else { return };
    fake.tell(&json!(["add_ct", 100, "gateway", { "node": "pve1", "config": { "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,type=veth" } }]));
    let guide = json!({
        "systemd": { "units": { "pve-container@100.service": { "enabled": true, "active_state": "active" } } },
        "lxc": { "containers": [{ "id": "100", "veth": "veth100", "bridge": "ovsbr0", "running": true }] }
    });
    set(&lab, &guide, "done");
    let config = fake.config(100);
    assert_eq!((&config["onboot"], &config["status"]), (&json!(1), &json!("running")));
    let net = config["net0"].as_str().unwrap();
    assert!(net.contains("bridge=ovsbr0") && net.contains("hwaddr=BC:24:11:00:00:01"), "{net}");
    for call in fake.writes() {
        assert!(call.starts_with("PUT /nodes/pve1/lxc/100/config") || call.ends_with("/status/start"), "{call}");
    }
    lab.until(&container(100), CONTAINER, "Ports", |ports| *ports == json!([path("port", "veth100i0")]));
    assert_eq!(lab.get(&path("unit", "pve-container@100.service"), RESOURCE, "Status"), "in-sync");
    // No link of systemd's own: one hand.
    assert_eq!(lab.show("pve-container@100.service", "UnitFileState"), "static");

    // A VLAN of its port is changed through Proxmox VE as well.
    let mut tagged = guide.clone();
    tagged["ovsdb"] = json!({ "bridges": { "ovsbr0": { "ports": { "veth100i0": { "tag": 30 } } } } });
    set(&lab, &tagged, "done");
    assert!(fake.config(100)["net0"].as_str().unwrap().contains("tag=30"));
    lab.until(&path("port", "veth100i0"), "org.opdbus.Port", "Tag", |tag| *tag == 30);

    // Start, Stop and Restart go the same way.
    fake.writes();
    let reply = lab.call(&container(100), CONTAINER, "Restart", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "done");
    assert_eq!(fake.writes(), ["POST /nodes/pve1/lxc/100/status/reboot"]);
}

#[test]
fn what_is_hot_is_applied_and_what_is_not_waits() {
    let Some((lab, fake)) = enter() else { return };
    let mut entry = made(101, "warp");
    set(&lab, &document(&[entry.clone()]), "done");
    let hwaddr = fake.config(101)["net0"].as_str().unwrap().to_owned();
    fake.writes();
    // Hot: memory, cores, a tag on the network; what is not managed stays.
    entry["memory_mib"] = json!(1024);
    entry["cores"] = json!(2);
    entry["networks"][0]["tag"] = json!(42);
    set(&lab, &document(&[entry.clone()]), "done");
    assert_eq!(fake.writes(), ["PUT /nodes/pve1/lxc/101/config"]);
    let config = fake.config(101);
    assert_eq!((&config["memory"], &config["cores"], &config["pending"]), (&json!(1024), &json!(2), &json!({})));
    let mac = hwaddr.split("hwaddr=").nth(1).unwrap().split(',').next().unwrap();
    assert!(config["net0"].as_str().unwrap().contains(mac), "the address of the card is kept");
    // Cold: shown as pending, and no restart.
    entry["nameserver"] = json!("10.0.0.53");
    set(&lab, &document(&[entry.clone()]), "done");
    let (status, reason, message) = stands(&lab, 101);
    assert_eq!((status.as_str(), reason.as_str()), ("pending", "RestartNeeded"), "{message}");
    assert!(message.contains("nameserver") && fake.config(101)["pending"]["nameserver"] == "10.0.0.53");
    // Only where the document says so.
    entry["restart"] = json!(true);
    fake.writes();
    set(&lab, &document(&[entry.clone()]), "done");
    assert_eq!(fake.writes(), ["POST /nodes/pve1/lxc/101/status/reboot"]);
    assert_eq!(fake.config(101)["nameserver"], "10.0.0.53");
    assert_eq!(stands(&lab, 101).0, "in-sync");
    // Grown, and never shrunk.
    entry["from"]["size_gib"] = json!(10);
    set(&lab, &document(&[entry.clone()]), "done");
    assert!(fake.config(101)["rootfs"].as_str().unwrap().contains("size=10G"));
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
    fake.tell(&json!(["set", 101, { "memory": 256 }]));
    lab.until(&container(101), RESOURCE, "Status", |status| status == "drifted");
    entry["drift"] = json!("enforce");
    set(&lab, &document(&[entry.clone()]), "done");
    let mut signals = lab.signals();
    fake.tell(&json!(["set", 101, { "memory": 256 }]));
    let finished = signals.until("JobFinished", |signal| signal.member == "JobFinished");
    assert_eq!(lab.get(finished.arguments[1].as_str().unwrap(), JOB, "Kind"), "drift");
    assert_eq!(fake.config(101)["memory"], 1024);
    // A protected one is not destroyed.
    fake.tell(&json!(["set", 101, { "protection": 1 }]));
    set(&lab, &document(&[json!({ "id": "101", "ensure": "absent" })]), "failed");
    assert_eq!(stands(&lab, 101).1, "Protected");
    assert_ne!(fake.config(101), Value::Null);
}

#[test]
fn bad_input_is_found_before_anything_is_made() {
    let Some((lab, fake)) = enter() else { return };
    fake.tell(&json!(["add_vm", 105, "a-vm", { "node": "pve1" }]));
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
    assert_eq!(fake.writes(), [""; 0], "nothing was half made");
    let text = document(&[with(&|entry| entry["id"] = json!("99"))]).to_string();
    let faults = lab.call(STATE, FACE, "Validate", &["sa{sv}", &text, "0"]);
    assert!(faults.to_string().contains("/lxc/containers/0/id"), "{faults}");
}

#[test]
fn each_fault_leads_where_it_should() {
    let Some((lab, fake)) = enter() else { return };
    let reconciled = |id: u32| {
        lab.until(&container(id), RESOURCE, "Status", |status| status == "in-sync");
        assert_eq!(fake.config(id)["status"], "running");
    };
    // A create that is carried out and whose answer is lost: looked up, not repeated.
    fake.tell(&json!(["drop_create"]));
    let (job, _) = lab.set_desired_state(&document(&[made(101, "warp")]));
    reconciled(101);
    let creates = fake.writes().into_iter().filter(|call| call == "POST /nodes/pve1/lxc").count();
    assert_eq!(creates, 1, "{}", message(&lab, &job));

    // TASK ERROR on start, with the task's own words.
    fake.tell(&json!(["status", 101, "stopped"]));
    fake.tell(&json!(["attribute", 101, "start_error", "startup for container '101' failed"]));
    lab.until(&container(101), CONTAINER, "Running", |running| *running == false);
    let (job, result) = lab.set_desired_state(&document(&[made(101, "warp")]));
    assert_eq!(result, "failed");
    assert_eq!(stands(&lab, 101).1, "JobFailed", "{}", message(&lab, &job));
    assert!(stands(&lab, 101).2.contains("startup for container '101' failed"), "{:?}", stands(&lab, 101));
    fake.tell(&json!(["attribute", 101, "start_error", null]));
    set(&lab, &document(&[made(101, "warp")]), "done");

    // Somebody's lock: waited for.
    fake.tell(&json!(["attribute", 101, "lock", "backup"]));
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "backup");
    let mut more = made(101, "warp");
    more["memory_mib"] = json!(768);
    let (_, result) = lab.set_desired_state(&document(&[more.clone()]));
    assert_eq!((result.as_str(), stands(&lab, 101).1.as_str()), ("failed", "Locked"));
    fake.tell(&json!(["attribute", 101, "lock", null]));
    reconciled(101);
    assert_eq!(fake.config(101)["memory"], 768, "taken up by itself once the lock is gone");

    // No quorum, 403 and 500 with the text, a digest that does not fit, 595 of a node that was there.
    fake.tell(&json!(["lose_quorum"]));
    more["memory_mib"] = json!(800);
    let (_, result) = lab.set_desired_state(&document(&[more.clone()]));
    assert_eq!(result, "failed");
    assert!(stands(&lab, 101).2.contains("quorum"), "{:?}", stands(&lab, 101));
    fake.tell(&json!(["regain_quorum"]));
    reconciled(101);
    assert_eq!(fake.config(101)["memory"], 800);
    let put = "/nodes/pve1/lxc/101/config";
    for (status, text, reason) in [
        (403, "Permission check failed (/vms/101, VM.Config.Memory)", "NotPermitted"),
        (500, "unable to write the moon", "Refused"),
    ] {
        fake.tell(&json!(["fail", "PUT", put, status, text, { "times": 1 }]));
        more["memory_mib"] = json!(1000 + status);
        let (_, result) = lab.set_desired_state(&document(&[more.clone()]));
        assert_eq!((result.as_str(), stands(&lab, 101).1.as_str()), ("failed", reason));
        assert!(stands(&lab, 101).2.contains(text), "{:?}", stands(&lab, 101));
    }
    let digest = "detected modified configuration - file changed by other user? Try again.";
    fake.tell(&json!(["fail", "PUT", put, 500, digest, { "times": 1 }]));
    more["memory_mib"] = json!(900);
    set(&lab, &document(&[more.clone()]), "done");
    fake.tell(&json!(["fail", "PUT", put, 595, "No route to host", { "times": 1 }]));
    more["memory_mib"] = json!(901);
    lab.set_desired_state(&document(&[more.clone()]));
    reconciled(101);
    assert_eq!(fake.config(101)["memory"], 901);
}

#[test]
fn slow_and_warning_tasks_and_a_flaky_network_end_well() {
    let Some((lab, fake)) = enter() else { return };
    // A slow one, whose log shows on the job meanwhile.
    fake.tell(&json!(["secs", "create", 2]));
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &document(&[made(101, "warp")]).to_string()]);
    let job = reply[1].as_str().unwrap().to_owned();
    lab.until(&job, JOB, "Progress", |progress| progress.as_f64().unwrap() > 0.0);
    assert_eq!(lab.wait(&job), "done");
    // One that ends with warnings: done, and they are said.
    fake.tell(&json!(["warn_next", "vzstart"]));
    fake.tell(&json!(["status", 101, "stopped"]));
    lab.until(&container(101), CONTAINER, "Running", |running| *running == false);
    let job = set(&lab, &document(&[made(101, "warp")]), "done");
    assert!(lab.get(&job, JOB, "Steps").to_string().contains("WARNINGS: 1"), "{}", message(&lab, &job));
    // Connections that drop at random, and answers that come late.
    fake.tell(&json!(["flaky_network", { "drop_rate": 0.2, "seed": 7 }]));
    let mut entry = made(102, "xray");
    entry["memory_mib"] = json!(640);
    lab.set_desired_state(&document(&[made(101, "warp"), entry]));
    lab.until(&container(102), RESOURCE, "Status", |status| status == "in-sync");
    lab.until(&container(102), CONTAINER, "Running", |running| *running == true);
    fake.tell(&json!(["flaky_network", { "drop_rate": 0.0 }]));
    assert_eq!(fake.config(102)["memory"], 640);
    let creates = fake.writes().into_iter().filter(|call| call == "POST /nodes/pve1/lxc").count();
    assert_eq!(creates, 2, "each is made once");
}

#[test]
fn clones_and_templates_are_made_of_one_another() {
    let Some((lab, fake)) = enter() else { return };
    let mut base = made(900, "base");
    base.as_object_mut().unwrap().remove("running");
    base["template"] = json!(true);
    let clone = json!({
        "id": "101", "hostname": "warp", "from": { "clone": "900", "full": true, "size_gib": 10 }, "memory_mib": 768,
        "running": true
    });
    set(&lab, &document(&[base, clone]), "done");
    assert_eq!(fake.config(900)["template"], 1);
    let config = fake.config(101);
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
    assert_eq!(fake.config(102)["status"], "running");
    assert!(fake.writes().contains(&"POST /nodes/pve1/storage/local/download-url".to_owned()));
}

#[test]
fn one_node_away_degrades_that_node_alone_and_the_whole_is_unknown_while_away() {
    let Some((lab, fake)) = enter() else { return };
    fake.tell(&json!(["add_ct", 201, "afar", { "node": "pve2", "status": "running" }]));
    let afar = json!({ "id": "201", "node": "pve2", "running": true, "memory_mib": 512 });
    set(&lab, &document(&[made(101, "warp"), afar]), "done");
    assert_eq!(lab.get(&container(201), CONTAINER, "Node"), "pve2");
    fake.tell(&json!(["set_node_offline", "pve2"]));
    lab.until(&container(201), RESOURCE, "Status", |status| status == "unknown");
    assert_eq!(stands(&lab, 201).1, "NodeAway");
    assert_eq!(stands(&lab, 101).0, "in-sync");
    let (name, _) = lab.refused(&container(201), "org.opdbus.Container.Stop", &["{'override': <true>}"]);
    assert_eq!(name, "org.opdbus.Error.Unavailable");
    fake.tell(&json!(["set_node_offline", "pve2", false]));
    lab.until(&container(201), RESOURCE, "Status", |status| status == "in-sync");

    // The whole of it: last known values, and nothing goes by another way.
    fake.tell(&json!(["down"]));
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
    fake.tell(&json!(["up"]));
    lab.until(&container(102), RESOURCE, "Status", |status| status == "in-sync");
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
}

#[test]
fn a_token_that_is_refused_or_open_to_others_is_said_and_never_shown() {
    let Some((lab, fake)) = enter() else { return };
    set(&lab, &document(&[made(101, "warp")]), "done");
    fs::write("/etc/op-dbus/proxmox.token", "op@pve!lab=ffffffff-89ab-cdef-0123-456789abcdef\n").unwrap();
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
    let said = lab.until(LXC, PLUGIN, "Message", |message| message.as_str().unwrap().contains("token"));
    assert!(said.as_str().unwrap().contains("wrong, expired or removed"), "{said}");
    fs::set_permissions("/etc/op-dbus/proxmox.token", fs::Permissions::from_mode(0o644)).unwrap();
    lab.until(LXC, PLUGIN, "Message", |message| message.as_str().unwrap().contains("chmod 600"));
    fs::write("/etc/op-dbus/proxmox.token", TOKEN).unwrap();
    fs::set_permissions("/etc/op-dbus/proxmox.token", fs::Permissions::from_mode(0o600)).unwrap();
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    // Another certificate than the pinned one.
    lab.run(&["sed", "-i", "s/^fingerprint = .*/fingerprint = \"00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\"/", "/etc/op-dbus/op-dbus.toml"]);
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
    lab.until(LXC, PLUGIN, "Message", |message| message.as_str().unwrap().contains("fingerprint"));
    assert!(!lab.journal().contains(SECRET), "the token is in the journal");
    drop(fake);
}

#[test]
fn a_task_is_followed_through_op_dbuss_own_restart() {
    let Some((lab, fake)) = enter() else { return };
    fake.tell(&json!(["secs", "create", 4]));
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &document(&[made(101, "warp")]).to_string()]);
    let job = reply[1].as_str().unwrap().to_owned();
    lab.until(&job, JOB, "Steps", |steps| steps.to_string().contains("running"));
    lab.until(&container(101), CONTAINER, "Lock", |lock| lock == "create");
    lab.run(&["systemctl", "kill", "--signal=KILL", "op-dbus.service"]);
    lab.until(&container(101), RESOURCE, "Status", |status| status == "in-sync");
    let creates = fake.writes().into_iter().filter(|call| call == "POST /nodes/pve1/lxc").count();
    assert_eq!((creates, &fake.config(101)["status"]), (1, &json!("running")));
}

#[test]
fn three_hundred_are_seen_and_nothing_is_written() {
    let Some((lab, fake)) = enter() else { return };
    for latency in [0.0, 0.01] {
        fake.tell(&json!(["fresh", 300, latency]));
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
    assert_eq!(fake.writes(), [""; 0]);
}
