//! Figures of the ovsdb plugin beside the floor: a bare socket that reads the same bytes and understands nothing.
//!
//! `cargo bench --bench ovsdb`. It needs Open vSwitch's ovsdb-server, which it starts in a folder of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    unreachable_pub,
    missing_docs
)]

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use op_dbus_testkit::ovsdb::{PrivateSwitch, Watched, timing};
use serde_json::{Value, json};

const SIZES: [usize; 2] = [1_000, 10_000];
/// Ports inserted by one transaction while the database is filled.
const FILL: usize = 1_000;
/// Changes measured; the median is told.
const CHANGES: usize = 200;

/// A connection that knows only where a message ends.
struct Bare(UnixStream);

impl Bare {
    fn connect(socket: &Path) -> Self {
        Self(UnixStream::connect(socket).unwrap())
    }

    fn send(&mut self, method: &str, params: &Value) {
        self.0.write_all(json!({"method": method, "params": params, "id": 1}).to_string().as_bytes()).unwrap();
    }

    /// One message. (No string in these databases holds a brace.)
    fn receive(&mut self) -> Vec<u8> {
        let (mut message, mut depth, mut looked) = (Vec::new(), 0_i64, 0);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = self.0.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "the server is gone");
            message.extend_from_slice(&buffer[..read]);
            for byte in &message[looked..] {
                depth += i64::from(*byte == b'{') - i64::from(*byte == b'}');
            }
            looked = message.len();
            if depth == 0 {
                return message;
            }
        }
    }

    fn transact(&mut self, operations: Vec<Value>) {
        let params: Vec<Value> = std::iter::once(json!("Open_vSwitch")).chain(operations).collect();
        self.send("transact", &params.into());
    }

    fn monitor(&mut self) -> usize {
        let columns = json!([{"columns": ["name", "tag", "interfaces"]}]);
        let interfaces = json!([{"columns": ["name", "type", "ofport", "link_state", "options", "error"]}]);
        let tables = json!({"Port": columns, "Interface": interfaces, "Bridge": [{"columns": ["name", "ports"]}]});
        let none = "00000000-0000-0000-0000-000000000000";
        self.send("monitor_cond_since", &json!(["Open_vSwitch", "bare", tables, none]));
        self.receive().len()
    }
}

fn fill(bare: &mut Bare, from: usize, to: usize) {
    let mut operations = Vec::new();
    let mut names = Vec::new();
    for number in from..to {
        let (port, interface) = (format!("p{number}"), format!("i{number}"));
        operations.push(json!({"op": "insert", "table": "Interface", "uuid-name": interface,
            "row": {"name": port, "type": "internal", "ofport": 5, "link_state": "up"}}));
        operations.push(json!({"op": "insert", "table": "Port", "uuid-name": port,
            "row": {"name": port, "tag": number % 4000, "interfaces": ["named-uuid", interface]}}));
        names.push(json!(["named-uuid", port]));
    }
    operations.push(json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", "br0"]],
        "mutations": [["ports", "insert", ["set", names]]]}));
    bare.transact(operations);
    let reply = bare.receive();
    assert!(!String::from_utf8_lossy(&reply).contains("\"details\""), "{}", String::from_utf8_lossy(&reply));
}

/// Resident memory of this process, in bytes.
fn resident() -> f64 {
    const PAGE_BYTES: f64 = 4096.0;
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * PAGE_BYTES
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn row(what: &str, ours: Duration, floor: Duration) {
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    println!(
        "  {what:<42} {:>9.2} ms   floor {:>9.2} ms   x{ratio:.1}",
        ours.as_secs_f64() * 1e3,
        floor.as_secs_f64() * 1e3
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let switch = PrivateSwitch::database_only();
    switch.vsctl(&["--no-wait", "add-br", "br0"]);
    let mut writer = Bare::connect(&switch.socket());
    let mut filled = 0;
    for size in SIZES {
        for from in (filled..size).step_by(FILL) {
            fill(&mut writer, from, from + FILL);
        }
        filled = size;
        println!("{size} ports");
        let start = Instant::now();
        let mut bare = Bare::connect(&switch.socket());
        let bytes = bare.monitor();
        let floor = start.elapsed();

        let before = resident();
        let start = Instant::now();
        let mut watched = Watched::connected(&switch, timing()).await;
        row(&format!("loaded ({:.1} MB)", bytes as f64 / 1e6), start.elapsed(), floor);
        assert_eq!(watched.ports.len(), size + 1);
        println!("  {:<42} {:>9.1} MB", "memory taken, with the test's own copy", (resident() - before) / 1e6);

        let (mut ours, mut floors) = (Vec::new(), Vec::new());
        for change in 0..CHANGES {
            // Another one than in the round before: what does not change is not told.
            let tag = 4000 + (change + size / 1_000) % 90;
            let name = format!("p{}", change % size);
            let start = Instant::now();
            writer.transact(vec![json!({"op": "update", "table": "Port", "where": [["name", "==", name]],
                "row": {"tag": tag, "external_ids": ["map", [["n", change.to_string()]]]}})]);
            bare.receive();
            floors.push(start.elapsed());
            watched.until("the change", |now| now.ports[&*name].external_ids.contains_key("n")).await;
            ours.push(start.elapsed());
            writer.receive();
            writer.transact(vec![json!({"op": "mutate", "table": "Port", "where": [["name", "==", name]],
                "mutations": [["external_ids", "delete", ["set", ["n"]]]]})]);
            writer.receive();
            watched.until("the change back", |now| !now.ports[&*name].external_ids.contains_key("n")).await;
        }
        row("change of a port to its event, median", median(ours), median(floors));
    }
}
