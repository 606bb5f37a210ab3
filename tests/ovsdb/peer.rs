//! A server that does as it is told, word by word.

use op_dbus::plugins::ovsdb::Remote;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use op_dbus_testkit::ovsdb::HANG;

/// The rows that each fake database begins with.
pub const ROOT: &str = "00000000-0000-4000-8000-000000000001";
pub const BRIDGE: &str = "00000000-0000-4000-8000-000000000002";
pub const LOCAL_PORT: &str = "00000000-0000-4000-8000-000000000003";
pub const LOCAL_INTERFACE: &str = "00000000-0000-4000-8000-000000000004";
pub const PORT: &str = "00000000-0000-4000-8000-000000000005";
pub const INTERFACE: &str = "00000000-0000-4000-8000-000000000006";

#[derive(Debug)]
pub struct FakeServer {
    folder: TempDir,
    listener: UnixListener,
}

/// One connection of the plugin's.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl FakeServer {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ovs-").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("db.sock")).unwrap();
        Self { folder, listener }
    }

    pub fn remote(&self) -> Remote {
        Remote::Unix(self.folder.path().join("db.sock"))
    }

    pub async fn accept(&self) -> Peer {
        let (stream, _) = tokio::time::timeout(HANG, self.listener.accept()).await.expect("a connection").unwrap();
        Peer { stream, buffer: Vec::new() }
    }

    /// A connection that has all rows of [`rows`].
    pub async fn loaded(&self, ports: &[Value]) -> Peer {
        let mut peer = self.accept().await;
        let request = peer.request("monitor_cond_since").await;
        peer.reply(&request, json!([false, "0", initial(ports)])).await;
        peer
    }
}

impl Peer {
    /// The next message; `None` when the plugin has closed the connection.
    pub async fn receive(&mut self) -> Option<Value> {
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
            if let Some(Ok(message)) = messages.next() {
                self.buffer.drain(..messages.byte_offset());
                return Some(message);
            }
            let read = tokio::time::timeout(HANG, self.stream.read_buf(&mut self.buffer)).await;
            // A reset is an end as well.
            if read.expect("a message").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next request, which is that one. Echoes on the way are answered.
    pub async fn request(&mut self, method: &str) -> Value {
        loop {
            let message = self.receive().await.expect("a request");
            if message["method"] == "echo" && method != "echo" {
                self.reply(&message, message["params"].clone()).await;
            } else {
                assert_eq!(message["method"], method, "{message}");
                return message;
            }
        }
    }

    pub async fn send_bytes(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece) {
            self.stream.write_all(piece).await.unwrap();
            // Let the plugin read this piece before the next.
            tokio::task::yield_now().await;
        }
    }

    pub async fn send(&mut self, message: &Value) {
        self.send_bytes(message.to_string().as_bytes(), usize::MAX).await;
    }

    pub async fn reply(&mut self, request: &Value, result: Value) {
        self.send(&json!({"id": request["id"], "result": result, "error": null})).await;
    }

    pub async fn update(&mut self, rows: Value) {
        self.send(&update(&rows)).await;
    }
}

pub fn update(rows: &Value) -> Value {
    json!({"id": null, "method": "update3", "params": ["op-dbus", "0", rows]})
}

/// What a bridge br0 with its local port and with port p0, if `ports` has its columns, looks like.
pub fn rows(ports: &[Value]) -> Value {
    let own = std::iter::once(LOCAL_PORT).chain(ports.iter().map(|_| PORT)).map(|uuid| json!(["uuid", uuid]));
    let mut rows = json!({
        "Open_vSwitch": {ROOT: {"next_cfg": 1, "cur_cfg": 1}},
        "Bridge": {BRIDGE: {"name": "br0", "ports": ["set", own.collect::<Vec<_>>()]}},
        "Port": {LOCAL_PORT: {"name": "br0", "interfaces": ["uuid", LOCAL_INTERFACE]}},
        "Interface": {LOCAL_INTERFACE: {"name": "br0", "type": "internal", "ofport": 65534}},
    });
    for port in ports {
        let mut port = port.clone();
        port["name"] = json!("p0");
        port["interfaces"] = json!(["uuid", INTERFACE]);
        rows["Port"][PORT] = port;
        rows["Interface"][INTERFACE] = json!({"name": "p0", "type": "internal", "ofport": 1});
    }
    rows
}

/// The same, as a monitor's reply has it.
pub fn initial(ports: &[Value]) -> Value {
    wrapped(rows(ports), "initial")
}

pub fn wrapped(mut tables: Value, word: &str) -> Value {
    for rows in tables.as_object_mut().unwrap().values_mut() {
        for row in rows.as_object_mut().unwrap().values_mut() {
            *row = Value::Object(Map::from_iter([(word.to_owned(), row.take())]));
        }
    }
    tables
}

/// The operations of a transaction.
pub fn operations(request: &Value) -> &[Value] {
    &request["params"].as_array().unwrap()[1..]
}

/// The answer to a transaction that went well.
pub fn committed(request: &Value, next_cfg: i64) -> Value {
    let element = |operation: &Value| match operation["op"].as_str().unwrap() {
        "select" => json!({"rows": [{"next_cfg": next_cfg}]}),
        "insert" => json!({"uuid": ["uuid", PORT]}),
        "mutate" | "update" => json!({"count": 1}),
        _ => json!({}),
    };
    operations(request).iter().map(element).collect()
}

/// The answer to a transaction of which that operation failed.
pub fn failed(request: &Value, at: usize, error: &Value) -> Value {
    let mut elements = vec![json!({}); at];
    elements.push(error.clone());
    elements.resize(operations(request).len(), Value::Null);
    elements.into()
}

/// A port's change of that column, applied by the switch.
pub fn applied(columns: &Value, number: i64) -> Value {
    json!({
        "Port": {PORT: {"modify": columns}},
        "Open_vSwitch": {ROOT: {"modify": {"next_cfg": number, "cur_cfg": number}}},
    })
}
