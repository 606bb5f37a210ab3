//! What the tests share: a bus and an Open vSwitch of their own, plugins beside a model of what they tell, the documents'
//! fenced blocks; and of the lab's tests, being in the lab or leaving the test to it, an installed op-dbus, and plain
//! calls.
//!
//! The calls go through busctl, so each of them also proves that sd-bus reads op-dbus without a quirk. Everything here
//! panics where something fails, as tests do.

mod bus;
mod json;
mod machine;
pub mod markdown;
pub mod ovsdb;
pub mod proxmox;
mod pve;
mod pve_formats;
mod pve_schema;
mod signals;
mod soak;
mod step;
pub mod systemd;

pub use bus::PrivateBus;
pub use machine::{DROP_INS, STATE_DIR, STATE_FILE, quoted};
pub use pve::{Fault, NODE, Proof, Pve, TEMPLATE, TOKEN_FILE, TOKEN_ID, TOKEN_SECRET};
pub use pve_schema::PveSchema;
pub use signals::{Signal, Signals};
pub use soak::cases;
pub use step::Ended;

use std::{
    env,
    io::Write as _,
    path::Path,
    process::{Command, Output},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use serde_json::Value;
use zbus::{Connection, MessageStream};

/// The name on the bus.
pub const NAME: &str = "org.opdbus";
/// The object of `org.opdbus.State`.
pub const STATE: &str = "/org/opdbus/state";

/// After this long without the awaited change a test gives up: no test is a measurement, and the longest start limit
/// in the lab is 90 s.
const PATIENCE: Duration = Duration::from_secs(100);

/// One at a time: the tests of a binary share one machine.
static TURN: Mutex<()> = Mutex::new(());

/// The machine a test runs in. Made by [`Lab::enter`]; while it lives no other test of the binary runs.
#[derive(Debug)]
pub struct Lab {
    runtime: tokio::runtime::Runtime,
    _turn: MutexGuard<'static, ()>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// It ended with status 0.
    pub success: bool,
    /// What it printed, without white space at its ends.
    pub stdout: String,
    /// What it complained of, without white space at its ends.
    pub stderr: String,
}

impl Lab {
    /// The machine around this test, or `None` where there is none: then the binary has said, once, that its tests
    /// were left to the lab.
    #[must_use]
    pub fn enter() -> Option<Self> {
        static TOLD: Once = Once::new();
        if env::var_os("OPDBUS_LAB").is_none() {
            TOLD.call_once(|| {
                let suite = env::args().next().unwrap_or_default();
                let suite = Path::new(&suite).file_name().unwrap_or_default().to_string_lossy().into_owned();
                let suite = suite.rsplit_once('-').map_or(suite.as_str(), |(name, _)| name);
                // Not eprintln!, which the test harness keeps to itself while tests pass.
                let _ = writeln!(std::io::stderr(), "{suite}: left to the lab (sudo tests/run runs it there)");
            });
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // A worker beside the test, so that connections are read while the test does something else.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        Some(Self { runtime, _turn: turn })
    }

    /// Installs op-dbus as an administrator would, with that state file, and starts it. `binary` is
    /// `env!("CARGO_BIN_EXE_op-dbus")`.
    pub fn install(&self, binary: &str, state: Option<&str>) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/install");
        self.run(&[&script.to_string_lossy(), binary]);
        if let Some(state) = state {
            std::fs::write("/etc/op-dbus/state.json", state).expect("the state file is written");
        }
        self.run(&["systemctl", "enable", "--now", "op-dbus.service"]);
    }

    /// Runs a command and returns what it printed.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn run(&self, command: &[&str]) -> String {
        let outcome = self.outcome(command);
        assert!(outcome.success, "{command:?} failed: {}\n{}", outcome.stderr, outcome.stdout);
        outcome.stdout
    }

    /// Runs a command and returns how it ended.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn outcome(&self, command: &[&str]) -> Outcome {
        let (program, arguments) = command.split_first().expect("a command");
        let Output { status, stdout, stderr } = Command::new(program)
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        Outcome { success: status.success(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Calls a method of op-dbus as root: the signature and the arguments as busctl takes them. Returns the list of the
    /// reply's values.
    ///
    /// # Panics
    ///
    /// If the call is refused.
    pub fn call(&self, path: &str, interface: &str, member: &str, arguments: &[&str]) -> Value {
        let mut command = vec!["busctl", "--json=short", "--timeout=90", "call", NAME, path, interface, member];
        command.extend(arguments);
        data(&self.run(&command))
    }

    /// Calls a method as somebody, with an error's name first in what it complains of: gdbus prints both, busctl the
    /// message alone. The arguments are in GVariant's text form.
    pub fn call_as(&self, user: &str, path: &str, method: &str, arguments: &[&str]) -> Outcome {
        let mut command = vec![
            "runuser",
            "-u",
            user,
            "--",
            "gdbus",
            "call",
            "--system",
            "--timeout=90",
            "--dest",
            NAME,
            "--object-path",
            path,
            "--method",
            method,
        ];
        command.extend(arguments);
        self.outcome(&command)
    }

    /// Reads a property of op-dbus.
    pub fn get(&self, path: &str, interface: &str, property: &str) -> Value {
        data(&self.run(&["busctl", "--json=short", "get-property", NAME, path, interface, property]))
    }

    /// Sends a document and waits for the end of its job. Returns the job's path and its result.
    ///
    /// # Panics
    ///
    /// If the document is refused.
    pub fn set_desired_state(&self, document: &Value) -> (String, String) {
        let reply = self.call(STATE, "org.opdbus.State", "SetDesiredState", &["s", &document.to_string()]);
        let job = reply[1].as_str().expect("the path of a job").to_owned();
        let result = self.wait(&job);
        (job, result)
    }

    /// Waits for the end of a job, for as long as it takes. Returns its result.
    pub fn wait(&self, job: &str) -> String {
        self.call(job, "org.opdbus.Job", "Wait", &[])[0].as_str().expect("a result").to_owned()
    }

    /// Waits until a property holds, woken by op-dbus's own signals, and returns its value.
    ///
    /// # Panics
    ///
    /// If it does not come true.
    pub fn until(&self, path: &str, interface: &str, property: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waiting = async {
            // The matches first: a change between the look and the match would be missed. A start of op-dbus is no
            // signal of its own, so the owner of its name is followed as well.
            let connection = Connection::system().await.expect("the system bus");
            let own = format!("type='signal',sender='{NAME}'");
            let owner = format!("type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{NAME}'");
            let listen = async |rule: String| {
                MessageStream::for_match_rule(rule.as_str(), &connection, None).await.expect("a match for signals")
            };
            let mut signals = stream::select(listen(own).await, listen(owner).await);
            loop {
                let read = self.outcome(&["busctl", "--json=short", "get-property", NAME, path, interface, property]);
                // An object that is not there yet has no property: that is waited for as well.
                last = if read.success { data(&read.stdout) } else { Value::String(read.stderr) };
                if read.success && holds(&last) {
                    return true;
                }
                signals.next().await.expect("the bus stays").expect("a whole message");
            }
        };
        let held = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, waiting).await.unwrap_or(false) });
        assert!(held, "{path} {interface}.{property} stayed {last}");
        last
    }
}

/// The object path of a resource: its kind, and its name escaped as systemd does.
#[must_use]
pub fn path(kind: &str, name: &str) -> String {
    use std::fmt::Write as _;
    let mut path = format!("/org/opdbus/{kind}/");
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit() {
            path.push(char::from(byte));
        } else {
            write!(path, "_{byte:02x}").expect("text grows");
        }
    }
    path
}

/// The value in busctl's JSON.
fn data(json: &str) -> Value {
    if json.is_empty() {
        return Value::Null; // a reply without values
    }
    let mut reply: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"));
    reply["data"].take()
}
