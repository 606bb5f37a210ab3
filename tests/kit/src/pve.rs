//! The lab's Proxmox VE (`tests/lab/pve`): an API with real containers and ports behind it, and what can go wrong.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use serde_json::{Value, json};

use crate::{Lab, PATIENCE, PveSchema, machine::CONFIG};

/// The unit it runs as.
const SERVICE: &str = "lab-pve.service";
/// Where it keeps its certificates and listens to tests.
const FOLDER: &str = "/run/lab-pve";
/// The node that is this machine.
pub const NODE: &str = "lab";
/// The address of the API, on the loopback device.
const ADDRESS: &str = "127.0.0.2";
/// The file that op-dbus reads its token from.
pub const TOKEN_FILE: &str = "/etc/op-dbus/proxmox.token";
/// Proxmox VE's own port.
const PORT: u16 = 8006;
/// The token that op-dbus is given.
pub const TOKEN_ID: &str = "opdbus@pve!lab";
/// Its secret.
pub const TOKEN_SECRET: &str = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0";
/// A template that is there from the beginning.
pub const TEMPLATE: &str = "local:vztmpl/debian-12.tar.zst";

/// A Proxmox VE node, alone in its cluster until told otherwise. It has the storages `local` (templates) and
/// `local-lvm` (100 GiB), [`TEMPLATE`], Open vSwitch's bridges, and no guests. Containers of this node really run.
#[derive(Debug)]
pub struct Pve {
    control: Mutex<BufReader<UnixStream>>,
}

/// What op-dbus knows the API by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The authority that signed its certificate.
    Authority,
    /// The certificate itself.
    Fingerprint,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault<'a> {
    /// Requests of that method whose path ends so are refused.
    Refuse {
        /// `GET`, `POST`, ...
        method: &'a str,
        /// End of the path, such as `/lxc/100/config`.
        path: &'a str,
        /// HTTP status.
        status: u16,
        /// Proxmox VE's text.
        message: &'a str,
        /// This often; `None` = from now on.
        times: Option<u32>,
    },
    /// The connection breaks before such a request is taken, once.
    DropBefore(&'a str, &'a str),
    /// The connection breaks after such a request was taken, and before it is answered, once.
    DropAfter(&'a str, &'a str),
    /// Somebody else changes that container's configuration as soon as such a request is answered, once.
    Meddle(&'a str, &'a str, u32, Value),
    /// The next task of that type (`vzcreate`, `vzstart`, ...) of that container (0 = any) ends with that error.
    TaskFails(&'a str, u32, &'a str),
    /// As [`Fault::TaskFails`], and what the task had begun stays, locked, as where a node lost power.
    TaskDies(&'a str, u32),
    /// The next such task ends with warnings, one of them this.
    TaskWarns(&'a str, u32, &'a str),
    /// The next such task is held, and has this as the last line of its log, until [`Pve::let_go`].
    TaskHeld(&'a str, u32, &'a str),
    /// The next such task takes that many seconds more.
    TaskSlow(&'a str, u32, f64),
    /// A node cannot be reached.
    NodeOffline(&'a str),
    /// The cluster has no quorum: nothing can be changed.
    NoQuorum,
    /// That share of requests, 0 to 1, is dropped.
    Flaky(f64),
    /// Each answer takes that many seconds more.
    Slow(f64),
    /// Requests are taken and never answered.
    Hanging,
    /// Another task holds the lock of the container's configuration, until [`Pve::release_config`].
    ConfigHeld(u32),
    /// The container is locked for that: `backup`, `migrate`, `snapshot`, ...
    Locked(u32, &'a str),
    /// The container cannot be started: its task ends with that error.
    NoStart(u32, &'a str),
    /// op-dbus's token is good no more.
    Expired,
    /// Errors tell what is wrong in the reason phrase alone.
    BareErrors,
    /// Two tasks that allocate on one storage at once fail.
    StrictStorage,
    /// Nothing listens.
    Away,
}

impl Pve {
    /// Starts it afresh: what an earlier one had, its containers as well, is gone.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let _ = lab.outcome(&["systemctl", "--quiet", "stop", SERVICE]);
        let _ = lab.outcome(&["systemctl", "--quiet", "reset-failed", SERVICE]);
        let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/pve/server");
        lab.run(&[
            "systemd-run",
            "--quiet",
            "--collect",
            &format!("--unit={SERVICE}"),
            "--service-type=notify",
            "--property=TimeoutStopSec=60s",
            &server.to_string_lossy(),
            FOLDER,
            NODE,
            ADDRESS,
            &PORT.to_string(),
        ]);
        let control = UnixStream::connect(Path::new(FOLDER).join("control")).expect("its control socket");
        control.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let pve = Self { control: Mutex::new(BufReader::new(control)) };
        pve.tell("token", json!({ "id": TOKEN_ID, "secret": TOKEN_SECRET }));
        pve
    }

    /// The base of the API's addresses.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{ADDRESS}:{PORT}")
    }

    /// The certificate of the authority that signed the API's.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        Path::new(FOLDER).join("pve-ca.pem")
    }

    /// SHA-256 of the API's certificate, in hexadecimal bytes separated by colons.
    ///
    /// # Panics
    ///
    /// If it has none.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fs::read_to_string(Path::new(FOLDER).join("fingerprint")).expect("a fingerprint")
    }

    /// The token as its file holds it: `USER@REALM!ID=SECRET`.
    #[must_use]
    pub fn token(&self) -> String {
        format!("{TOKEN_ID}={TOKEN_SECRET}")
    }

    /// Has an installed op-dbus find it, and know it by that proof: writes the token's file, sets the configuration's keys,
    /// those given as well, and starts op-dbus anew.
    ///
    /// # Panics
    ///
    /// If the configuration has no such keys.
    pub fn configure(&self, lab: &Lab, proof: Proof, keys: &[(&str, &str)]) {
        fs::write(TOKEN_FILE, format!("{}\n", self.token())).expect("a file");
        fs::set_permissions(TOKEN_FILE, fs::Permissions::from_mode(0o600)).expect("a mode");
        let quoted = |text: &str| format!("\"{text}\"");
        let (url, node, token) = (quoted(&self.url()), quoted(NODE), quoted(TOKEN_FILE));
        let proof = match proof {
            Proof::Authority => format!("ca_file = {}", quoted(&self.ca_file().to_string_lossy())),
            Proof::Fingerprint => format!("fingerprint = {}", quoted(&self.fingerprint())),
        };
        // Examples have no default, and are not shown as one.
        let config = fs::read_to_string(CONFIG).expect("the configuration is installed");
        assert!(config.contains("\n[proxmox]\n"), "the configuration has a section for Proxmox VE");
        let own = format!("\n[proxmox]\nurl = {url}\nnode = {node}\ntoken_file = {token}\n{proof}\n");
        fs::write(CONFIG, config.replacen("\n[proxmox]\n", &own, 1)).expect("a file");
        lab.configure(keys);
    }

    /// Holds every request so far against the API's schema.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn requests_fit(&self) {
        let schema = PveSchema::load().expect("the lab has the schema");
        for request in self.requests() {
            let pairs = [&request["query"], &request["body"]].into_iter().filter_map(Value::as_object).flatten();
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let parameters: Vec<_> = pairs.map(|(name, value)| (name.clone(), text(value))).collect();
            let path = request["path"].as_str().and_then(|path| path.strip_prefix("/api2/json")).expect("a path");
            if let Err(faults) = schema.check(request["method"].as_str().expect("a method"), path, &parameters) {
                panic!("{request}: {faults:#?}");
            }
        }
    }

    /// Calls the API as root's token would, past op-dbus: the value under `data`.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn get(&self, lab: &Lab, path: &str) -> Value {
        let header = format!("Authorization: PVEAPIToken={}", self.token());
        let script = "import json, ssl, sys, urllib.request as r; \
            q = r.Request(sys.argv[1], headers=dict([sys.argv[2].split(': ', 1)])); \
            print(json.dumps(json.load(r.urlopen(q, context=ssl.create_default_context(cafile=sys.argv[3])))['data']))";
        let url = format!("{}/api2/json{path}", self.url());
        let printed = lab.run(&["python3", "-c", script, &url, &header, &self.ca_file().to_string_lossy()]);
        serde_json::from_str(&printed).expect("JSON")
    }

    /// Tells it something, or asks for it: a `do_NAME` of `tests/lab/pve/lab_pve/control.py`.
    ///
    /// # Panics
    ///
    /// If it refuses.
    pub fn tell(&self, what: &str, mut more: Value) -> Value {
        more["do"] = what.into();
        let mut control = self.control.lock().expect("no other call failed");
        writeln!(control.get_mut(), "{more}").expect("it listens");
        let mut line = String::new();
        control.read_line(&mut line).unwrap_or_else(|error| panic!("{more} is not answered: {error}"));
        let mut answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert!(answer["error"].is_null(), "{more}: {}", answer["error"]);
        answer["ok"].take()
    }

    /// Has something go wrong.
    pub fn fault(&self, fault: &Fault<'_>) {
        let request = |what: &str, method: &str, path: &str, more: Value| {
            let mut told = json!({ "what": what, "method": method, "path": path });
            if let Value::Object(more) = more {
                told.as_object_mut().expect("an object").extend(more);
            }
            ("request", told)
        };
        let task = |what: &str, kind: &str, vmid: u32, message: &str| {
            ("task", json!({ "what": what, "type": kind, "vmid": vmid, "message": message }))
        };
        let (what, more) = match *fault {
            Fault::Refuse { method, path, status, message, times } => (
                "fail",
                json!({ "method": method, "path": path, "status": status, "message": message, "times": times }),
            ),
            Fault::DropBefore(method, path) => request("drop-before", method, path, Value::Null),
            Fault::DropAfter(method, path) => request("drop-after", method, path, Value::Null),
            Fault::Meddle(method, path, vmid, ref config) => {
                request("meddle", method, path, json!({ "vmid": vmid, "config": config }))
            }
            Fault::TaskFails(kind, vmid, message) => task("fail", kind, vmid, message),
            Fault::TaskDies(kind, vmid) => {
                let mut told = task("fail", kind, vmid, "interrupted by signal");
                told.1["leave"] = true.into();
                told
            }
            Fault::TaskWarns(kind, vmid, message) => task("warn", kind, vmid, message),
            Fault::TaskHeld(kind, vmid, line) => task("hold", kind, vmid, line),
            Fault::TaskSlow(kind, vmid, seconds) => {
                ("task", json!({ "what": "delay", "type": kind, "vmid": vmid, "secs": seconds }))
            }
            Fault::NodeOffline(name) => ("node", json!({ "name": name, "online": false })),
            Fault::NoQuorum => ("quorum", json!({ "held": false })),
            Fault::Flaky(share) => ("network", json!({ "drop_rate": share })),
            Fault::Slow(seconds) => ("network", json!({ "latency_s": seconds })),
            Fault::Hanging => ("network", json!({ "hang_rate": 1, "hang_s": 600 })),
            Fault::ConfigHeld(vmid) => ("hold_config", json!({ "vmid": vmid })),
            Fault::Locked(vmid, lock) => ("lock", json!({ "vmid": vmid, "lock": lock })),
            Fault::NoStart(vmid, message) => ("start_error", json!({ "vmid": vmid, "message": message })),
            Fault::Expired => ("expire", json!({ "id": TOKEN_ID })),
            Fault::BareErrors => ("bare_errors", json!({ "on": true })),
            Fault::StrictStorage => ("strict_storage", json!({ "on": true })),
            Fault::Away => ("away", json!({})),
        };
        self.tell(what, more);
    }

    /// Ends what is still wrong with requests, tasks, the network, nodes and the quorum; tasks that are held go on.
    pub fn heal(&self) {
        self.tell("heal", json!({}));
    }

    /// It listens again after [`Fault::Away`].
    pub fn back(&self) {
        self.tell("back", json!({}));
    }

    /// Tasks that are held go on.
    pub fn let_go(&self) {
        self.tell("let_go", json!({}));
    }

    /// The lock of the container's configuration is let go.
    pub fn release_config(&self, vmid: u32) {
        self.tell("release_config", json!({ "vmid": vmid }));
    }

    /// A container made by somebody else: configuration as Proxmox VE holds it, in strings. One that runs is really
    /// started, if it is on this node.
    pub fn add_ct(&self, vmid: u32, running: bool, config: &Value) {
        let status = if running { "running" } else { "stopped" };
        self.tell("add_ct", json!({ "vmid": vmid, "status": status, "config": config }));
    }

    /// Every container: vmid, node, status, config, pending.
    pub fn cts(&self) -> Vec<Value> {
        self.tell("cts", json!({})).as_array().expect("a list").clone()
    }

    /// A container of [`Pve::cts`].
    pub fn ct(&self, vmid: u32) -> Option<Value> {
        self.cts().into_iter().find(|ct| ct["vmid"] == vmid)
    }

    /// Somebody else changes a configuration; null takes a key away.
    pub fn change(&self, vmid: u32, config: &Value) {
        self.tell("change", json!({ "vmid": vmid, "config": config }));
    }

    /// Somebody else has a container started, stopped or destroyed, to the end.
    pub fn order(&self, vmid: u32, verb: &str) {
        self.tell("order", json!({ "vmid": vmid, "what": verb }));
    }

    /// Every request so far: method, path, query, body, status (null while it is not answered), token.
    pub fn requests(&self) -> Vec<Value> {
        self.tell("requests", json!({})).as_array().expect("a list").clone()
    }

    /// Those of [`Pve::requests`] from that number on that change something.
    pub fn writes(&self, since: usize) -> Vec<Value> {
        self.requests().into_iter().skip(since).filter(|request| request["method"] != "GET").collect()
    }

    /// Every task, oldest first: upid, type, id, user, status, exitstatus, log.
    pub fn tasks(&self) -> Vec<Value> {
        self.tell("tasks", json!({})).as_array().expect("a list").clone()
    }

    /// Waits until such a request, from that number on, was answered.
    pub fn wait_request(&self, method: &str, path: &str, since: usize) -> Value {
        self.tell("wait_request", json!({ "method": method, "path": path, "since": since }))
    }

    /// Waits until a task of that type of that container is running.
    pub fn wait_task(&self, kind: &str, vmid: u32) -> Value {
        self.tell("wait_task", json!({ "type": kind, "vmid": vmid }))
    }
}

impl Drop for Pve {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["--quiet", "stop", SERVICE]).status();
    }
}
