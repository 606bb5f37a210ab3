//! Figures of the whole daemon beside the floors under them, in one run: `cargo bench --bench figures`.
//!
//! A private dbus-daemon, a private ovsdb-server and a private ovs-vswitchd on dummy devices; the daemon in
//! `--session` mode with `--ovsdb`. Nothing here is a test: it prints, and fails only where something does not work.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    num::NonZero,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use op_dbus_testkit::PrivateBus;
use serde_json::{Value, json};
use zbus::{Connection, MatchRule, MessageStream, OwnedVariant, fdo};

const NAME: &str = "org.opdbus";
const STATE: &str = "/org/opdbus/state";

/// Ports of the large switch.
const MANY: usize = 10_000;
/// Ports of the document that is set again and again.
const DECLARED: usize = 1_000;
/// Rounds of what is measured by its median.
const ROUNDS: usize = 200;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// ovsdb-server and ovs-vswitchd of our own.
struct Switch {
    socket: PathBuf,
    _server: Process,
    _vswitchd: Option<Process>,
    _folder: tempfile::TempDir,
}

impl Switch {
    fn start(with_vswitchd: bool) -> Self {
        // A socket's path is short: not the default folder, wherever that is.
        let folder = tempfile::Builder::new().prefix("ovs").tempdir_in("/tmp").unwrap();
        let at = |name: &str| folder.path().join(name);
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
                command.env(variable, folder.path());
            }
            command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let socket = at("db.sock");
        let remote = format!("unix:{}", socket.display());
        let database = at("conf.db");
        assert!(
            run("ovsdb-tool", &["create", database.to_str().unwrap(), "/usr/share/openvswitch/vswitch.ovsschema"])
                .wait()
                .unwrap()
                .success()
        );
        let ctl = format!("--unixctl={}", at("s.ctl").display());
        let server =
            run("ovsdb-server", &[database.to_str().unwrap(), &format!("--remote=p{remote}"), &ctl, "--no-chdir"]);
        let server = Process(server);
        while UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
        assert!(run("ovs-vsctl", &[&format!("--db={remote}"), "--no-wait", "init"]).wait().unwrap().success());
        let vswitchd = with_vswitchd.then(|| {
            let ctl = format!("--unixctl={}", at("v.ctl").display());
            Process(run("ovs-vswitchd", &[&remote, "--enable-dummy=override", "--disable-system", &ctl, "--no-chdir"]))
        });
        Self { socket, _server: server, _vswitchd: vswitchd, _folder: folder }
    }
}

/// A plain JSON-RPC client: the floor under ours.
struct Rpc(UnixStream, Vec<u8>);

impl Rpc {
    fn connect(socket: &Path) -> Self {
        Self(UnixStream::connect(socket).unwrap(), Vec::new())
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.0.write_all(json!({ "method": method, "params": params, "id": 1 }).to_string().as_bytes()).unwrap();
        self.next()
    }

    /// The next message, a reply or an update.
    fn next(&mut self) -> Value {
        let mut chunk = vec![0; 1 << 20];
        loop {
            let mut stream = serde_json::Deserializer::from_slice(&self.1).into_iter::<Value>();
            if let Some(Ok(value)) = stream.next() {
                let used = stream.byte_offset();
                self.1.drain(..used);
                return value;
            }
            let read = self.0.read(&mut chunk).unwrap();
            assert!(read > 0, "the server went away");
            self.1.extend_from_slice(&chunk[..read]);
        }
    }

    fn transact(&mut self, operations: Vec<Value>) {
        let mut params = vec![json!("Open_vSwitch")];
        params.extend(operations);
        let reply = self.call("transact", &Value::Array(params));
        let failed = reply["result"].as_array().unwrap().iter().any(|row| row.get("error").is_some());
        assert!(!failed, "{reply}");
    }

    /// A bridge with so many ports, in chunks.
    fn fill(&mut self, bridge: &str, ports: usize) {
        let insert = |name: &str| {
            [
                json!({"op": "insert", "table": "Interface", "row": {"name": name, "type": "internal"}, "uuid-name": format!("i_{name}")}),
                json!({"op": "insert", "table": "Port", "row": {"name": name, "interfaces": ["named-uuid", format!("i_{name}")]}, "uuid-name": format!("p_{name}")}),
            ]
        };
        let mut operations = insert(bridge).to_vec();
        operations.push(json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": bridge, "datapath_type": "netdev", "ports": ["named-uuid", format!("p_{bridge}")]}}));
        operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["bridges", "insert", ["set", [["named-uuid", "b"]]]]]}));
        self.transact(operations);
        for first in (0..ports).step_by(1000) {
            let names: Vec<String> = (first..ports.min(first + 1000)).map(|number| format!("q{number}")).collect();
            let mut operations: Vec<Value> = names.iter().flat_map(|name| insert(name)).collect();
            let refs: Vec<Value> = names.iter().map(|name| json!(["named-uuid", format!("p_{name}")])).collect();
            operations.push(json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", bridge]], "mutations": [["ports", "insert", ["set", refs]]]}));
            self.transact(operations);
        }
    }
}

/// The daemon under measurement.
struct Daemon {
    process: Process,
    client: Connection,
    started: Duration,
    _state: tempfile::TempDir,
}

impl Daemon {
    async fn start(bus: &PrivateBus, switch: &Switch) -> Self {
        let state = tempfile::tempdir().unwrap();
        let client = bus.connect().await;
        let dbus = fdo::DBusProxy::new(&client).await.unwrap();
        let mut owned = dbus.receive_name_owner_changed_with_args(&[(0, NAME)]).await.unwrap();
        let begin = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_op-dbus"))
            .arg("--session")
            .args(["--ovsdb", &format!("unix:{}", switch.socket.display())])
            .arg("--state-dir")
            .arg(state.path())
            .arg("--state-file")
            .arg(state.path().join("none.json"))
            .env("DBUS_SESSION_BUS_ADDRESS", &bus.address)
            .env("XDG_RUNTIME_DIR", state.path())
            .env("HOME", state.path())
            .env("OPDBUS_LOG", "error")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process(child);
        owned.next().await.unwrap();
        Self { process, client, started: begin.elapsed(), _state: state }
    }

    async fn call<B: serde::Serialize + zbus::DynamicType>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> zbus::Message {
        self.client.call_method(Some(NAME), path, Some(interface), member, body).await.unwrap()
    }

    fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    async fn set(&self, document: &str) -> String {
        let reply = self.call(STATE, "org.opdbus.State", "SetDesiredState", &document).await;
        let (_, job): (u64, zbus::OwnedObjectPath) = reply.body().deserialize().unwrap();
        let reply = self.call(job.as_str(), "org.opdbus.Job", "Wait", &()).await;
        reply.body().deserialize().unwrap()
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn show(what: &str, ours: Duration, floor: Option<(&str, Duration)>) {
    match floor {
        Some((name, floor)) => println!(
            "{what:<58} {:>9.3} ms   {name}: {:>9.3} ms   ratio {:.2}",
            ours.as_secs_f64() * 1e3,
            floor.as_secs_f64() * 1e3,
            ours.as_secs_f64() / floor.as_secs_f64()
        ),
        None => println!("{what:<58} {:>9.3} ms", ours.as_secs_f64() * 1e3),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    large_switch().await;
    no_op().await;
}

async fn large_switch() {
    let bus = PrivateBus::start();
    let small = Switch::start(false);
    let empty = Daemon::start(&bus, &small).await;
    println!("resident, nothing to mirror: {:.1} MB", empty.resident_mb());
    let base = empty.started;
    drop(empty);

    let switch = Switch::start(false);
    let mut rpc = Rpc::connect(&switch.socket);
    rpc.fill("br0", MANY);
    let mut other = Rpc::connect(&switch.socket);
    let columns = json!({"Bridge": [{"columns": ["name", "ports"]}], "Port": [{"columns": ["name", "tag", "interfaces"]}], "Interface": [{"columns": ["name", "type", "ofport", "error"]}]});
    let begin = Instant::now();
    other.call("monitor_cond_since", &json!(["Open_vSwitch", "m", columns, "00000000-0000-0000-0000-000000000000"]));
    let floor = begin.elapsed();
    let daemon = Daemon::start(&bus, &switch).await;
    show("start to name owned, nothing to mirror", base, None);
    show(
        "start to name owned, 10,000 ports on the tree",
        daemon.started,
        Some(("the bare monitor's reply, parsed", floor)),
    );
    println!("resident with 10,000 ports: {:.1} MB", daemon.resident_mb());

    let begin = Instant::now();
    let reply = daemon.call("/org/opdbus", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &()).await;
    show("GetManagedObjects, 10,000 ports", begin.elapsed(), None);
    println!("  its size: {} KiB", reply.data().len() / 1024);

    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .interface("org.freedesktop.DBus.Properties")
        .build()
        .unwrap();
    let mut signals = MessageStream::for_match_rule(rule, &daemon.client, NonZero::new(1024)).await.unwrap();
    let mut ours = Vec::new();
    let mut floors = Vec::new();
    for round in 0..ROUNDS {
        let set = json!({"op": "update", "table": "Port", "where": [["name", "==", "q77"]], "row": {"tag": round % 4000 + 1}});
        let begin = Instant::now();
        rpc.transact(vec![set]);
        loop {
            let message = signals.next().await.unwrap().unwrap();
            if message.header().path().is_some_and(|path| path == "/org/opdbus/port/q77") {
                break;
            }
        }
        ours.push(begin.elapsed());
        let set = json!({"op": "update", "table": "Port", "where": [["name", "==", "q78"]], "row": {"tag": round % 4000 + 1}});
        let begin = Instant::now();
        rpc.transact(vec![set]);
        while !other.next().to_string().contains("\"modify\"") {}
        floors.push(begin.elapsed());
        other.1.clear();
    }
    show("a port's change to PropertiesChanged at a client", median(ours), Some(("to a bare monitor", median(floors))));

    let mut ours = Vec::new();
    let mut floors = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let _: OwnedVariant = daemon
            .call("/org/opdbus/port/q77", "org.freedesktop.DBus.Properties", "Get", &("org.opdbus.Port", "Tag"))
            .await
            .body()
            .deserialize()
            .unwrap();
        ours.push(begin.elapsed());
        let begin = Instant::now();
        daemon
            .client
            .call_method(Some("org.freedesktop.DBus"), "/", Some("org.freedesktop.DBus.Peer"), "Ping", &())
            .await
            .unwrap();
        floors.push(begin.elapsed());
    }
    show("Properties.Get", median(ours), Some(("a ping of the bus driver", median(floors))));
}

async fn no_op() {
    let bus = PrivateBus::start();
    let switch = Switch::start(true);
    let daemon = Daemon::start(&bus, &switch).await;
    let ports: HashMap<String, Value> = (0..DECLARED)
        .map(|number| (format!("q{number}"), json!({ "type": "internal", "tag": number % 4000 + 1 })))
        .collect();
    let document = json!({"ovsdb": {"bridges": {"br0": {"ports": ports}}}}).to_string();
    let begin = Instant::now();
    let result = daemon.set(&document).await;
    show("SetDesiredState that makes 1,000 ports, to the job's end", begin.elapsed(), None);
    assert!(result == "done", "{result}");
    let mut times = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        assert_eq!(daemon.set(&document).await, "unchanged");
        times.push(begin.elapsed());
    }
    let mut floors = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        std::hint::black_box(serde_json::from_str::<Value>(&document).unwrap());
        floors.push(begin.elapsed());
    }
    show(
        "the same document again, 1,000 ports, to the job's end",
        median(times),
        Some(("parsing its JSON", median(floors))),
    );
}
