//! A bus of one's own with something on it that says it is systemd, for what the real one will not do on demand.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use op_dbus::{
    model::escape_path_element,
    plugins::systemd::{BusChoice, SystemdConfig, UnitFolders},
};
use zbus::{Connection, Message, MessageStream, ObjectPath, Variant, connection::Builder, message::Type};

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PATH: &str = "/org/freedesktop/systemd1";

/// Name of the daemon's configuration.
const CONFIG: &str = "bus.conf";

/// A dbus-daemon that ends with this.
pub(crate) struct Bus {
    daemon: Child,
    folder: tempfile::TempDir,
    pub(crate) address: String,
}

impl Bus {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}", folder.path().join("bus").display());
        // Not dbus-daemon's own configuration, which is not everywhere in one place.
        let config = format!(
            "<busconfig><type>session</type><listen>{address}</listen><policy context=\"default\"><allow own=\"*\"/>\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>"
        );
        std::fs::write(folder.path().join(CONFIG), config).unwrap();
        let daemon = daemon(folder.path());
        Self { daemon, folder, address }
    }

    /// Ends the daemon, and all connections with it.
    pub(crate) fn stop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        let _ = std::fs::remove_file(self.folder.path().join("bus"));
    }

    /// Another daemon at the same address.
    pub(crate) fn restart(&mut self) {
        self.daemon = daemon(self.folder.path());
    }

    pub(crate) fn config(&self) -> SystemdConfig {
        SystemdConfig {
            bus: BusChoice::Address(self.address.clone()),
            unit_folders: UnitFolders { lasting: Vec::new(), passing: Vec::new() },
            ..SystemdConfig::system()
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn daemon(folder: &Path) -> Child {
    let mut daemon = Command::new("dbus-daemon")
        .arg("--config-file")
        .arg(folder.join(CONFIG))
        .args(["--nofork", "--nopidfile", "--print-address"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("dbus-daemon is not installed");
    // It says its address once it listens.
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    daemon
}

/// What it does with `StartUnit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starts {
    /// Sends the end of the job before the reply that names it.
    EndFirst,
    /// Goes away without a reply.
    Vanish,
    /// Never answers.
    Never,
}

#[derive(Debug)]
struct State {
    /// Unit to its ActiveState.
    units: BTreeMap<String, String>,
    starts: Starts,
    mute: bool,
    garbled: bool,
    calls: Vec<String>,
}

/// The fake.
#[derive(Debug)]
pub(crate) struct Fake {
    connection: Connection,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(bus: &Bus, units: &[(&str, &str)], starts: Starts) -> Self {
        let connection = Builder::address(bus.address.as_str()).build().await.unwrap();
        let units = units.iter().map(|(unit, state)| ((*unit).to_owned(), (*state).to_owned())).collect();
        let state = State { units, starts, mute: false, garbled: false, calls: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let task = tokio::spawn(serve(connection.clone(), state.clone()));
        connection.request_name("org.freedesktop.systemd1").await.unwrap();
        Self { connection, state, task }
    }

    pub(crate) fn mute(&self, mute: bool) {
        self.state.lock().unwrap().mute = mute;
    }

    pub(crate) fn garble(&self) {
        self.state.lock().unwrap().garbled = true;
    }

    pub(crate) fn calls(&self, member: &str) -> usize {
        self.state.lock().unwrap().calls.iter().filter(|call| *call == member).count()
    }

    /// Leaves the bus.
    pub(crate) async fn vanish(self) {
        self.task.abort();
        self.connection.close().await.unwrap();
    }

    pub(crate) async fn signal<B: serde::Serialize + zbus::DynamicType>(&self, member: &str, body: &B) {
        self.connection.send(&Message::signal(PATH, MANAGER, member).build(body).unwrap()).await.unwrap();
    }

    /// The unit is so now, and that is told.
    pub(crate) async fn set(&self, unit: &str, active: &str) {
        self.state.lock().unwrap().units.insert(unit.to_owned(), active.to_owned());
        self.connection.send(&changed(unit, active)).await.unwrap();
    }
}

pub(crate) fn unit_path(unit: &str) -> String {
    format!("{PATH}/unit/{}", escape_path_element(unit))
}

/// The signal that a unit is so now.
pub(crate) fn changed(unit: &str, active: &str) -> Message {
    let values = BTreeMap::from([("ActiveState", Variant::from(active))]);
    Message::signal(unit_path(unit), "org.freedesktop.DBus.Properties", "PropertiesChanged")
        .build(&("org.freedesktop.systemd1.Unit", values, Vec::<&str>::new()))
        .unwrap()
}

async fn serve(connection: Connection, state: Arc<Mutex<State>>) {
    let mut stream = MessageStream::from(&connection);
    while let Some(Ok(message)) = stream.next().await {
        if message.message_type() == Type::MethodCall {
            let Some(answers) = answer(&message, &mut state.lock().unwrap()) else { return };
            connection.send_all(&answers).await.unwrap();
        }
    }
}

/// What is sent for a call; `None` = the fake ends.
fn answer(call: &Message, state: &mut State) -> Option<Vec<Message>> {
    let header = call.header();
    let member = header.member().unwrap().to_string();
    state.calls.push(member.clone());
    if state.mute {
        return Some(Vec::new());
    }
    let path = header.path().unwrap().to_string();
    let body = call.body();
    let error = |name: &str| Message::error(&header, name).build(&"no").unwrap();
    let reply = Message::method_return(&header);
    let answer = match member.as_str() {
        "Subscribe" => reply.build(&()),
        "ListUnits" => {
            let none = ObjectPath::from_static_str("/").unwrap();
            let listed: Vec<_> = state
                .units
                .iter()
                .map(|(unit, active)| {
                    (
                        unit,
                        "",
                        "loaded",
                        active,
                        "",
                        "",
                        ObjectPath::try_from(unit_path(unit)).unwrap(),
                        0_u32,
                        "",
                        &none,
                    )
                })
                .collect();
            reply.build(&listed)
        }
        "GetUnit" => {
            let unit: String = body.deserialize().unwrap();
            if state.units.contains_key(&unit) {
                reply.build(&ObjectPath::try_from(unit_path(&unit)).unwrap())
            } else {
                Ok(error("org.freedesktop.systemd1.NoSuchUnit"))
            }
        }
        "GetAll" if state.garbled => reply.build(&(1_u32, "not what it says")),
        "GetAll" => reply.build(&properties(&path, body.deserialize().unwrap(), state)),
        "Get" => reply.build(&Variant::from("252.fake")),
        "GetUnitFileState" => reply.build(&"static"),
        "StartUnit" => {
            let (unit, _): (String, String) = body.deserialize().unwrap();
            let job = ObjectPath::from_static_str("/org/freedesktop/systemd1/job/1").unwrap();
            match state.starts {
                Starts::Vanish => return None,
                Starts::Never => return Some(Vec::new()),
                Starts::EndFirst => {
                    state.units.insert(unit.clone(), "active".to_owned());
                    let end = Message::signal(PATH, MANAGER, "JobRemoved").build(&(1_u32, &job, &unit, "done"));
                    return Some(vec![changed(&unit, "active"), end.unwrap(), reply.build(&job).unwrap()]);
                }
            }
        }
        _ => Ok(error("org.freedesktop.DBus.Error.UnknownMethod")),
    };
    Some(vec![answer.unwrap()])
}

fn properties(path: &str, interface: &str, state: &State) -> BTreeMap<&'static str, Variant<'static>> {
    if interface != "org.freedesktop.systemd1.Unit" {
        return BTreeMap::from([("Type", "simple".into()), ("Result", "success".into())]);
    }
    let found = state.units.iter().find(|(unit, _)| unit_path(unit) == path);
    let mut values = BTreeMap::from([("LoadState", Variant::from("not-found")), ("ActiveState", "inactive".into())]);
    if let Some((unit, active)) = found {
        values.insert("Id", unit.clone().into());
        values.insert("LoadState", "loaded".into());
        values.insert("ActiveState", active.clone().into());
    }
    values
}
