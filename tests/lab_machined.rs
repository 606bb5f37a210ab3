//! Containers without Proxmox VE, by the real systemd-machined, systemd-importd and systemd-nspawn: made from nothing,
//! plugged, reached from a neighbour, changed, put back, removed; and what becomes of them when somebody dies half-way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{fs, path::Path};

use op_dbus_testkit::{Lab, Outcome, STATE, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";
const JOB: &str = "org.opdbus.Job";
const RESOURCE: &str = "org.opdbus.Resource";
const CONTAINER: &str = "org.opdbus.Container";

/// Where the archives are, and the server's root.
const SHELF: &str = "/srv/machined";

/// The ids that these tests use.
const IDS: [&str; 4] = ["web", "peer", "copy", "a-rather-long-name"];

/// A root file system of busybox: its init sets each of its devices up with an address of the file /etc/address, and ends
/// at systemd-nspawn's signal to power off (SIGRTMIN+3, 37), or to reboot (SIGINT, 2).
const MAKE_BOX: &str = r"
set -e
rm -rf /srv/machined && mkdir -p /srv/machined/root && cd /srv/machined/root
mkdir -p bin sbin etc proc sys dev run tmp usr root var
cp /bin/busybox bin/
for name in sh ip ping sleep cat hostname reboot; do ln -s busybox bin/$name; done
printf 'ID=busybox\nNAME=BusyBox\nVERSION_ID=1\n' >etc/os-release
echo 'root:x:0:0::/root:/bin/sh' >etc/passwd
cat >sbin/init <<'END'
#!/bin/sh
ip link set lo up
for device in host0 eth0 eth1; do
    [ -e /sys/class/net/$device ] && ip link set $device up && ip address add $(cat /etc/address)/24 dev $device
done
trap 'exit 0' 37
trap 'reboot -f' 2
while :; do sleep 1000 & wait $!; done
END
chmod +x sbin/init
echo 192.0.2.101 >etc/address
tar -cf ../box.tar .
cd .. && rm -rf root && sha256sum box.tar >SHA256SUMS
head -c 300000 /dev/urandom >noise.tar
";

/// Serves the shelf, and hands `slow/NAME` out in twenty parts, of which each waits for a byte in the pipe `pace`: so a
/// test, and not the clock, decides how far a download is.
const SERVER: &str = r"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = '/srv/machined/' + os.path.basename(self.path)
        if not os.path.exists(path):
            return self.send_error(404)
        body = open(path, 'rb').read()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if not self.path.startswith('/slow/') or not path.endswith('.tar'):
            return self.wfile.write(body)
        pace = os.open('/srv/machined/pace', os.O_RDWR)
        size = len(body) // 20 + 1
        for at in range(0, len(body), size):
            os.read(pace, 1)
            self.wfile.write(body[at:at + size])
            self.wfile.flush()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 8080), Handler)
server.serve_forever()
";

fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    // The one of the test before would put back what is taken away here.
    let _ = lab.outcome(&["systemctl", "stop", "op-dbus.service"]);
    for id in IDS {
        let _ = lab.outcome(&["systemctl", "kill", "--signal=KILL", &unit(id)]);
        let _ = lab.outcome(&["systemctl", "stop", &unit(id)]);
        let _ = lab.outcome(&["systemctl", "--quiet", "disable", &unit(id)]);
        let _ = lab.outcome(&["systemctl", "revert", &unit(id)]);
        let _ = fs::remove_file(settings(id));
    }
    for image in IDS.iter().chain(&["box", "noise"]) {
        let _ = lab.outcome(&["machinectl", "remove", image]);
    }
    // What systemd-importd keeps of downloads.
    lab.run(&["machinectl", "clean"]);
    lab.run(&["bash", "-c", MAKE_BOX]);
    lab.install_afresh(BINARY, None);
    lab.configure(&[("hold_down_ms", "500"), ("settle_ms", "2000")]);
    Some(lab)
}

fn unit(id: &str) -> String {
    format!("systemd-nspawn@{id}.service")
}

fn settings(id: &str) -> String {
    format!("/etc/systemd/nspawn/{id}.nspawn")
}

fn container(id: &str) -> String {
    path("container", id)
}

fn has_image(lab: &Lab, name: &str) -> bool {
    lab.outcome(&["machinectl", "show-image", name]).success
}

/// The template of all of them, from the file.
fn templates() -> Value {
    json!([{ "name": "box", "file": format!("{SHELF}/box.tar") }])
}

/// A container from that template on ovsbr0.
fn web() -> Value {
    json!({ "id": "web", "hostname": "www", "from": { "template": "box" }, "memory_mib": 64, "cores": 1,
            "networks": [{ "name": "eth0", "bridge": "ovsbr0" }], "running": true })
}

fn document(containers: &[Value]) -> Value {
    json!({ "lxc": { "templates": templates(), "containers": containers } })
}

/// Runs a command within a container.
fn within(lab: &Lab, id: &str, command: &[&str]) -> Outcome {
    let leader = lab.run(&["machinectl", "show", "--value", "--property=Leader", id]);
    lab.outcome(&[&["nsenter", "--target", &leader, "--all"][..], command].concat())
}

/// The journal of the job, for the message of a failed test.
fn told(lab: &Lab, job: &str) -> String {
    lab.get(job, JOB, "Steps").to_string()
}

#[track_caller]
fn apply(lab: &Lab, document: &Value, result: &str) -> String {
    let (job, found) = lab.set_desired_state(document);
    assert_eq!(found, result, "{}\n{}", told(lab, &job), lab.journal());
    job
}

#[track_caller]
fn settled(lab: &Lab) {
    let (job, result) = lab.set_desired_state(&serde_json::from_str(&current(lab)).unwrap());
    assert_eq!(result, "unchanged", "{}", told(lab, &job));
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
}

fn current(lab: &Lab) -> String {
    lab.call(STATE, FACE, "GetDesiredState", &["ta{sv}", "0", "0"])[0].as_str().unwrap().to_owned()
}

fn property(lab: &Lab, id: &str, name: &str) -> Value {
    lab.get(&container(id), CONTAINER, name)
}

fn stands(lab: &Lab, id: &str) -> (String, String, String) {
    let word = |name| lab.get(&container(id), RESOURCE, name).as_str().unwrap().to_owned();
    (word("Status"), word("Reason"), word("Message"))
}

#[test]
fn a_container_is_made_plugged_reached_changed_and_removed() {
    let Some(lab) = enter() else { return };
    // The neighbour is one of systemd-nspawn's own making, plugged by the short form.
    lab.run(&["machinectl", "import-tar", &format!("{SHELF}/box.tar"), "peer"]);
    fs::write("/var/lib/machines/peer/etc/address", "192.0.2.102\n").unwrap();
    let peer = json!({ "id": "peer", "veth": "ve-peer", "bridge": "ovsbr0", "running": true, "onboot": true });
    let all = document(&[web(), peer.clone()]);

    let plan = lab.call(STATE, FACE, "Plan", &["sa{sv}", &all.to_string(), "0"]);
    let steps = plan[0].as_array().unwrap();
    let actions: Vec<&str> = steps.iter().map(|step| step[2].as_str().unwrap()).collect();
    for action in ["fetch-template", "create-container", "set-properties", "set-unit-file", "start", "plug-port"] {
        assert!(actions.contains(&action), "{actions:?} without {action}");
    }
    assert!(!has_image(&lab, "box"), "a plan writes nothing");

    apply(&lab, &all, "done");
    settled(&lab);
    for id in ["web", "peer"] {
        assert_eq!(property(&lab, id, "Runtime"), "machined");
        assert_eq!(property(&lab, id, "Running"), true);
        assert_eq!(property(&lab, id, "Unit"), *unit(id));
        assert_eq!(property(&lab, id, "Ports"), json!([path("port", &format!("ve-{id}"))]));
    }
    assert!(property(&lab, "peer", "OnBoot").as_bool().unwrap());
    assert_eq!(lab.show(&unit("web"), "MemoryMax"), (64_u64 << 20).to_string());
    assert_eq!(lab.show(&unit("web"), "CPUQuotaPerSecUSec"), "1s");
    assert_eq!(within(&lab, "web", &["hostname"]).stdout, "www");
    assert_eq!(lab.ovs(&["get", "port", "ve-web", "external_ids:opdbus-owner"]).trim_matches('"').len(), 32);
    let ping = within(&lab, "web", &["ping", "-c", "1", "-w", "20", "192.0.2.102"]);
    assert!(ping.success, "{}{}\n{}", ping.stdout, ping.stderr, lab.run(&["ip", "-br", "link"]));

    // Hot where it can be; what cannot be waits for the restart, and says so.
    let mut changed = web();
    changed["memory_mib"] = json!(96);
    changed["hostname"] = json!("other");
    let since = lab.show(&unit("web"), "ActiveEnterTimestampMonotonic");
    apply(&lab, &document(&[changed.clone(), peer.clone()]), "done");
    assert_eq!(lab.show(&unit("web"), "MemoryMax"), (96_u64 << 20).to_string());
    let (_, reason, message) = stands(&lab, "web");
    assert_eq!(reason, "RestartNeeded", "{message}");
    assert_eq!(lab.show(&unit("web"), "ActiveEnterTimestampMonotonic"), since, "nobody said restart");
    changed["restart"] = json!(true);
    apply(&lab, &document(&[changed.clone(), peer.clone()]), "done");
    assert_eq!(within(&lab, "web", &["hostname"]).stdout, "other");
    // The first packets may come before Open vSwitch has the new device: one answer is enough.
    assert!(within(&lab, "web", &["ping", "-c", "30", "-w", "60", "192.0.2.102"]).success, "plugged anew");
    settled(&lab);

    let gone = json!({ "id": "web", "ensure": "absent" });
    apply(&lab, &document(&[gone, peer]), "done");
    settled(&lab);
    assert!(!has_image(&lab, "web") && !Path::new(&settings("web")).exists());
    assert_eq!(lab.ovs(&["list-ports", "ovsbr0"]), "ve-peer");
    assert_eq!(lab.show(&unit("web"), "DropInPaths"), "", "the next of that name starts from nothing");
    assert!(has_image(&lab, "peer") && has_image(&lab, "box"), "what nobody declared absent stays");
}

#[test]
fn drift_is_told_and_put_back() {
    let Some(lab) = enter() else { return };
    let mut all = document(&[web()]);
    all["drift"] = json!("enforce");
    apply(&lab, &all, "done");
    let synced = |lab: &Lab| {
        lab.until(&container("web"), RESOURCE, "InSync", |in_sync| *in_sync == true);
    };
    let drifts = lab.get(STATE, FACE, "DriftsTotal").as_u64().unwrap();
    let drifted = |lab: &Lab, more: u64| {
        lab.until(STATE, FACE, "DriftsTotal", |total| total.as_u64().unwrap() >= drifts + more);
    };
    // Its limit.
    lab.run(&["systemctl", "set-property", &unit("web"), "MemoryMax=200M"]);
    drifted(&lab, 1);
    synced(&lab);
    assert_eq!(lab.show(&unit("web"), "MemoryMax"), (64_u64 << 20).to_string());
    // Its settings file.
    let text = fs::read_to_string(settings("web")).unwrap();
    fs::write(settings("web"), text.replace("Hostname=www", "Hostname=evil")).unwrap();
    drifted(&lab, 2);
    lab.until(&container("web"), RESOURCE, "Reason", |reason| *reason == "RestartNeeded");
    assert_eq!(fs::read_to_string(settings("web")).unwrap(), text);
    lab.run(&["systemctl", "restart", &unit("web")]);
    synced(&lab);
    // Its port, and the container itself.
    lab.ovs(&["del-port", "ve-web"]);
    drifted(&lab, 3);
    lab.until(&path("port", "ve-web"), "org.opdbus.Port", "OfPort", |number| number.as_i64().is_some_and(|n| n > 0));
    lab.run(&["machinectl", "terminate", "web"]);
    drifted(&lab, 4);
    synced(&lab);
    assert_eq!(property(&lab, "web", "Running"), true);
    // The whole image.
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    lab.run(&["systemctl", "stop", &unit("web")]);
    lab.run(&["machinectl", "remove", "web"]);
    lab.run(&["systemctl", "start", "op-dbus.service"]);
    synced(&lab);
    assert!(has_image(&lab, "web"));
}

/// The userspace datapath stays with the device that went with the container, and says nothing of it.
#[test]
fn a_container_that_others_restart_is_plugged_anew() {
    let Some(lab) = enter() else { return };
    lab.run(&["machinectl", "import-tar", &format!("{SHELF}/box.tar"), "peer"]);
    fs::write("/var/lib/machines/peer/etc/address", "192.0.2.102\n").unwrap();
    let peer = json!({ "id": "peer", "veth": "ve-peer", "bridge": "ovsbr0", "running": true, "onboot": true });
    apply(&lab, &document(&[web(), peer]), "done");
    // What the document does not name is kept.
    lab.ovs(&["set", "port", "ve-web", "external_ids:site=north"]);
    let reached = || within(&lab, "web", &["ping", "-c", "3", "-w", "20", "192.0.2.102"]).success;
    assert!(reached());
    let row = || lab.ovs(&["get", "port", "ve-web", "_uuid"]);
    for restart in [&["systemctl", "restart", &unit("web")][..], &["machinectl", "reboot", "web"]] {
        let (old, jobs) = (row(), lab.get(STATE, FACE, "JobsTotal").as_u64().unwrap());
        lab.run(restart);
        lab.until(STATE, FACE, "JobsTotal", |total| total.as_u64().unwrap() > jobs);
        lab.until(&container("web"), RESOURCE, "InSync", |in_sync| *in_sync == true);
        assert_ne!(row(), old, "{restart:?}");
        assert_eq!(lab.ovs(&["get", "port", "ve-web", "external_ids:site"]), "north");
        assert_eq!(lab.get(&path("port", "ve-web"), "org.opdbus.Port", "Stale"), false);
        assert!(reached(), "{restart:?}: {}", lab.journal());
        settled(&lab);
    }
}

#[test]
fn a_restart_in_the_middle_of_a_transfer_loses_nothing() {
    let Some(lab) = enter() else { return };
    lab.run(&["mkfifo", &format!("{SHELF}/pace")]);
    // Held open, so that what is written stays until it is read.
    let pace = fs::OpenOptions::new().read(true).write(true).open(format!("{SHELF}/pace")).unwrap();
    let go = |parts: usize| {
        use std::io::Write as _;
        (&pace).write_all(&vec![b'.'; parts]).unwrap();
    };
    fs::write(format!("{SHELF}/server.py"), SERVER).unwrap();
    let _ = lab.outcome(&["systemctl", "stop", "shelf.service"]);
    lab.run(&["systemd-run", "--collect", "--unit=shelf", "python3", &format!("{SHELF}/server.py")]);
    lab.run(&["bash", "-c", "until : </dev/tcp/127.0.0.1/8080; do sleep 0.1; done 2>/dev/null"]);

    let mut container_spec = web();
    container_spec["running"] = json!(false);
    let all = json!({ "lxc": { "templates": [{ "name": "box", "url": "http://127.0.0.1:8080/slow/box.tar" }],
                               "containers": [container_spec] } });
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &all.to_string()]);
    let job = reply[1].as_str().unwrap().to_owned();
    // systemd-pull of 252 sees one finished download at a time, and where the last two end at once it waits for ever: so
    // the files beside the archive are through before it is.
    let await_the_others = |transfers: usize| {
        let through = format!(
            "journalctl --sync; all=$(journalctl --unit=systemd-importd --output=cat)
             for line in 'SHA256SUMS complete' 'Settings file could not be retrieved'; do
                 [ $(grep --count \"$line\" <<<\"$all\") -ge {transfers} ] || exit 1
             done"
        );
        lab.run(&["timeout", "60", "bash", "-c", &format!("until ({through}); do sleep 0.2; done")]);
    };
    go(8);
    let progress = lab.until(&job, JOB, "Progress", |progress| progress.as_f64().unwrap() > 0.0);
    assert!(progress.as_f64().unwrap() < 1.0, "{progress}");
    let transfers = || {
        lab.run(&[
            "busctl",
            "call",
            "org.freedesktop.import1",
            "/org/freedesktop/import1",
            "org.freedesktop.import1.Manager",
            "ListTransfers",
        ])
    };
    let before = transfers();
    assert!(before.contains("\"box\""), "{before}");
    lab.run(&["systemctl", "restart", "op-dbus.service"]);
    // The same transfer is followed: one that is begun anew would be another.
    lab.until(STATE, FACE, "CurrentJob", |job| *job != "/");
    assert_eq!(transfers().split_whitespace().nth(2), before.split_whitespace().nth(2));
    await_the_others(1);
    go(12);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert!(has_image(&lab, "web") && lab.journal().contains("a transfer is under way, and followed"));

    // systemd-importd dies half-way, and takes the transfer along: it is begun again, by itself.
    lab.run(&["machinectl", "clean"]);
    lab.run(&["machinectl", "remove", "box"]);
    let mut second = all.clone();
    second["lxc"]["containers"][0]["id"] = json!("copy");
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &second.to_string()]);
    let job = reply[1].as_str().unwrap().to_owned();
    go(8);
    lab.until(&job, JOB, "Progress", |progress| progress.as_f64().unwrap() > 0.0);
    await_the_others(2);
    lab.run(&["systemctl", "kill", "--signal=KILL", "systemd-importd.service"]);
    // The server's end of the dead transfer takes a few of these.
    go(12);
    await_the_others(3);
    go(60);
    lab.until(&container("copy"), RESOURCE, "InSync", |in_sync| *in_sync == true);
    lab.run(&["systemctl", "stop", "shelf.service"]);
}

#[test]
fn machined_may_die_at_any_time() {
    let Some(lab) = enter() else { return };
    apply(&lab, &document(&[web()]), "done");
    let kill = || lab.run(&["systemctl", "kill", "--signal=KILL", "systemd-machined.service"]);
    kill();
    // It is started again by whoever asks for it, and knows what it knew.
    settled(&lab);
    let mut more = web();
    more["id"] = json!("copy");
    more["from"] = json!({ "clone": "web" });
    more["networks"][0]["tag"] = json!(7);
    kill();
    apply(&lab, &document(&[web(), more.clone()]), "done");
    assert_eq!(lab.ovs(&["get", "port", "ve-copy", "tag"]), "7");

    // Half a copy of a try that died: it bears the mark, and is made anew.
    apply(&lab, &document(&[web(), json!({ "id": "copy", "ensure": "absent" })]), "done");
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    let machine = fs::read_to_string("/etc/machine-id").unwrap();
    fs::write(settings("copy"), format!("# opdbus-owner={}\n# opdbus-unfinished\n", machine.trim())).unwrap();
    fs::create_dir_all("/var/lib/machines/copy/half").unwrap();
    lab.run(&["systemctl", "start", "op-dbus.service"]);
    apply(&lab, &document(&[web(), more]), "done");
    assert!(!Path::new("/var/lib/machines/copy/half").exists() && Path::new("/var/lib/machines/copy/etc").exists());
    assert!(!fs::read_to_string(settings("copy")).unwrap().contains("unfinished"));
    settled(&lab);
}

#[test]
fn bad_input_leaves_nothing_half_made() {
    let Some(lab) = enter() else { return };
    let images = || lab.run(&["machinectl", "--no-legend", "list-images"]);
    let files = || fs::read_dir("/etc/systemd/nspawn").unwrap().count();
    let (no_images, no_files) = (images(), files());
    // What is no archive, and what is not what its checksum says.
    let wrong = format!("sha256:{}", "0".repeat(64));
    for (template, says) in [
        (json!({ "name": "noise", "file": format!("{SHELF}/noise.tar") }), "does not look like a tar archive"),
        (json!({ "name": "noise", "file": format!("{SHELF}/box.tar"), "checksum": wrong }), "has the checksum sha256:"),
        (json!({ "name": "noise", "file": format!("{SHELF}/none.tar") }), "there is no file"),
    ] {
        let mut spec = web();
        spec["from"] = json!({ "template": "noise" });
        let all = json!({ "lxc": { "templates": [template], "containers": [spec] } });
        let (job, result) = lab.set_desired_state(&all);
        assert!(matches!(result.as_str(), "failed" | "partial"), "{result}: {}", told(&lab, &job));
        let (_, _, message) = stands(&lab, "web");
        assert!(message.contains(says) || told(&lab, &job).contains(says), "{message}: {}", told(&lab, &job));
        assert_eq!((images(), files()), (no_images.clone(), no_files));
    }
    // What cannot be said is refused when it is planned, by its field.
    let plan = |spec: &Value| {
        lab.call(STATE, FACE, "Plan", &["sa{sv}", &document(std::slice::from_ref(spec)).to_string(), "0"]).to_string()
    };
    for (field, value, says) in [
        ("nameserver", json!("192.0.2.1"), "nameserver"),
        ("pool", json!("p"), "pool"),
        ("networks", json!([{ "name": "eth0", "ip": "192.0.2.5/24" }]), "networks.eth0.ip"),
        ("networks", json!([{ "name": "eth0", "firewall": true }]), "networks.eth0.firewall"),
        ("from", json!({ "template": "box", "storage": "local" }), "from.storage"),
        ("from", json!({ "template": "nothing" }), "there is no image nothing"),
        ("from", json!({ "clone": "nobody" }), "there is no container nobody"),
        ("networks", json!([{ "name": "eth0", "bridge": "nowhere0" }]), "bridge nowhere0"),
    ] {
        let mut spec = web();
        spec[field] = value;
        let plan = plan(&spec);
        assert!(plan.contains(says) && !plan.contains("create-container"), "{field}: {plan}");
    }
    // A settings file of somebody else's, and an image of that name.
    fs::write(settings("web"), "[Exec]\nHostname=mine\n").unwrap();
    let (job, result) = lab.set_desired_state(&document(&[web()]));
    assert_ne!(result, "done", "{}", told(&lab, &job));
    assert_eq!(fs::read_to_string(settings("web")).unwrap(), "[Exec]\nHostname=mine\n");
    assert!(!has_image(&lab, "web"));
    fs::remove_file(settings("web")).unwrap();
    lab.run(&["machinectl", "import-tar", &format!("{SHELF}/box.tar"), "web"]);
    fs::write("/var/lib/machines/web/mine", "").unwrap();
    apply(&lab, &document(&[web()]), "done");
    assert!(Path::new("/var/lib/machines/web/mine").exists(), "what is there is taken, and not made anew");
    // Its users, which are its files', are settled.
    let mut spec = web();
    spec["from"]["unprivileged"] = json!(false);
    assert!(plan(&spec).contains("settled when it is made"));
}
