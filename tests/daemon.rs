//! The binary as a service manager has it: what it is told, what is logged, from start to orderly end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};

use op_dbus::{config::Level, logging};
use op_dbus_testkit::PrivateBus;
use tempfile::TempDir;

/// A test that waits for longer hangs.
const HANG: Duration = Duration::from_secs(60);

/// op-dbus on a bus where nobody else is, and the manager that started it.
struct Started {
    child: Child,
    socket: UnixDatagram,
    folder: TempDir,
    _bus: PrivateBus,
}

impl Started {
    fn start(environment: &[(&str, &str)]) -> Self {
        let bus = PrivateBus::start();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let socket = UnixDatagram::bind(at("notify")).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        fs::write(at("op-dbus.toml"), "[log]\nlevel = \"info\"\n").unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_op-dbus"))
            .arg("--session")
            .args([format!("--config={}", at("op-dbus.toml").display())])
            .args([format!("--state-file={}", at("state.json").display())])
            .args([format!("--state-dir={}", at("state").display())])
            .env_clear()
            .env("HOME", folder.path())
            .env("DBUS_SESSION_BUS_ADDRESS", &bus.address)
            .env("NOTIFY_SOCKET", at("notify"))
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, socket, folder, _bus: bus }
    }

    /// The next message that says so; answers with those on the way and with it.
    fn until(&self, word: &str) -> Vec<String> {
        let mut messages = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|_| panic!("no {word} in {messages:?}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let is_it = message.lines().any(|line| line == word);
            messages.push(message);
            if is_it {
                return messages;
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Ends it; answers with what it logged.
    fn end(mut self) -> String {
        self.signal("TERM");
        self.until("STOPPING=1");
        let output = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {output}");
        output
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_manager_is_told_of_start_reload_and_end() {
    // The stream of somebody else: stderr is not the journal.
    let started = Started::start(&[("JOURNAL_STREAM", "8:42")]);
    let start = started.until("READY=1");
    assert!(start[0].starts_with("STATUS="), "{start:?}");
    assert!(start.iter().all(|message| !message.contains("WATCHDOG")), "{start:?}");
    fs::write(started.folder.path().join("op-dbus.toml"), "[log]\nlevel = \"error\"\n").unwrap();
    started.signal("HUP");
    let reload = started.until("RELOADING=1").pop().unwrap();
    assert!(reload.contains("\nMONOTONIC_USEC="), "{reload}");
    started.until("READY=1");
    let log = started.end();
    assert!(log.contains(" INFO ") && log.contains("op_dbus"), "{log}");
    assert!(!log.contains("ending: no new jobs"), "logged after the level was error:\n{log}");
}

#[test]
fn the_manager_is_given_signs_of_life_where_it_wants_them() {
    let started = Started::start(&[("WATCHDOG_USEC", "20000"), ("OPDBUS_LOG", "op_dbus=loudly")]);
    started.until("READY=1");
    started.until("WATCHDOG=1");
    started.until("WATCHDOG=1");
    let log = started.end();
    assert!(log.contains("OPDBUS_LOG is not understood") && log.contains("ending: no new jobs"), "{log}");
}

#[test]
fn another_process_s_watchdog_is_not_fed() {
    let started = Started::start(&[("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")]);
    let told = started.until("READY=1");
    started.signal("TERM");
    let rest = started.until("STOPPING=1");
    assert!(told.iter().chain(&rest).all(|message| !message.contains("WATCHDOG=1")), "{told:?} {rest:?}");
}

#[test]
fn logging_is_set_up_once() {
    logging::init(Level::Error).unwrap();
    assert!(logging::init(Level::Error).is_err());
}
