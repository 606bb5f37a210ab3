//! A private dbus-daemon with the system bus's default limits, gone when dropped.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use zbus::{Connection, connection::Builder};

/// A policy that lets everybody do everything: the limits, left out, are dbus-daemon's own, the system bus's.
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=@SOCKET@</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

/// A dbus-daemon of a test's own.
#[derive(Debug)]
pub struct PrivateBus {
    daemon: Child,
    /// Where it listens, as D-Bus spells addresses.
    pub address: String,
    _folder: TempDir,
}

impl PrivateBus {
    /// Starts it; it listens by then.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("op-dbus-test-").tempdir().expect("a folder");
        // Other users connect too.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let config = folder.path().join("bus.conf");
        let socket = folder.path().join("bus");
        std::fs::write(&config, CONFIG.replace("@SOCKET@", socket.to_str().unwrap())).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--print-address=1", "--config-file"])
            .arg(&config)
            .stdout(Stdio::piped())
            // It complains where it may not raise its own limit of open files.
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { daemon, address: address.trim().to_owned(), _folder: folder }
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Connection {
        Builder::address(self.address.as_str()).build().await.expect("the private bus answers")
    }

    /// Ends the bus, as a crash would.
    pub fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
