//! The machine: op-dbus on it as on the first day, units of a test's own, and what the backends themselves say.

use std::{fs, path::Path};

use futures::StreamExt as _;
use serde_json::Value;
use zbus::{Connection, MatchRule, MessageStream, message};

use crate::{Lab, Outcome, PATIENCE};

/// What holds op-dbus's generations, where the shipped unit has systemd make it.
pub const STATE_DIR: &str = "/var/lib/op-dbus";
/// Where the state file is looked for.
pub const STATE_FILE: &str = "/etc/op-dbus/state.json";
/// Folder of an administrator's additions to op-dbus's unit.
pub const DROP_INS: &str = "/etc/systemd/system/op-dbus.service.d";
/// The configuration that packages install.
pub(crate) const CONFIG: &str = "/etc/op-dbus/op-dbus.toml";

impl Lab {
    /// Installs and starts op-dbus as [`Lab::install`], on a machine where it never ran: no generation, no additions to
    /// its unit, no bridge but ovsbr0 and no port on that, no container running or enabled.
    pub fn install_afresh(&self, binary: &str, state: Option<&str>) {
        let _ = self.outcome(&["systemctl", "stop", "op-dbus.service"]);
        let _ = self.outcome(&["systemctl", "reset-failed", "op-dbus.service"]);
        let _ = fs::remove_dir_all(STATE_DIR);
        let _ = fs::remove_dir_all(DROP_INS);
        let _ = fs::remove_dir_all("/etc/op-dbus");
        let containers = ["100", "101", "102"].map(|id| format!("pve-container@{id}.service"));
        let containers = containers.each_ref().map(String::as_str);
        self.run(&[&["systemctl", "stop"][..], &containers].concat());
        // Of a unit without [Install] systemctl takes the link away, and complains.
        let _ = self.outcome(&[&["systemctl", "--quiet", "disable"][..], &containers].concat());
        for bridge in self.run(&["ovs-vsctl", "list-br"]).lines().filter(|bridge| *bridge != "ovsbr0") {
            // A fake bridge may have gone with the one it was on.
            self.run(&["ovs-vsctl", "--if-exists", "del-br", bridge]);
        }
        for port in self.run(&["ovs-vsctl", "list-ports", "ovsbr0"]).lines() {
            self.run(&["ovs-vsctl", "del-port", port]);
        }
        for map in ["external_ids", "other_config"] {
            self.run(&["ovs-vsctl", "clear", "bridge", "ovsbr0", map]);
        }
        self.install(binary, state);
    }

    /// Adds to op-dbus's unit, as an administrator does. Counts from its next start on.
    pub fn add_to_service(&self, name: &str, text: &str) {
        fs::create_dir_all(DROP_INS).expect("a folder");
        fs::write(Path::new(DROP_INS).join(name).with_extension("conf"), text).expect("a file");
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// Sets keys of the installed configuration, which shows each with its default or has it set, and starts op-dbus anew.
    ///
    /// # Panics
    ///
    /// If the configuration does not show such a key.
    pub fn configure(&self, keys: &[(&str, &str)]) {
        let mut config = fs::read_to_string(CONFIG).expect("the configuration is installed");
        for (key, value) in keys {
            let (set, shown) = (format!("{key} = "), format!("#{key} = "));
            let is_it = |line: &&str| line.starts_with(&set) || line.starts_with(&shown);
            let line = config.lines().find(is_it).expect("a key with its default").to_owned();
            config = config.replace(&line, &format!("{key} = {value}"));
        }
        fs::write(CONFIG, config).expect("a file");
        self.run(&["systemctl", "restart", "op-dbus.service"]);
    }

    /// Installs units as a package does, and has systemd read them.
    pub fn units(&self, units: &[(&str, &str)]) {
        for (name, text) in units {
            fs::write(Path::new("/usr/lib/systemd/system").join(name), text).expect("a file");
        }
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// Takes units away again, whatever state they are in.
    pub fn remove_units(&self, units: &[&str]) {
        for verb in [&["unmask"][..], &["disable", "--now"], &["reset-failed"], &["revert"]] {
            // Some of it is always so already, which systemctl complains of.
            let _ = self.outcome(&[&["systemctl", "--quiet"][..], verb, units].concat());
        }
        for name in units {
            let _ = fs::remove_file(Path::new("/usr/lib/systemd/system").join(name));
        }
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// A property of a unit as systemctl shows it.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// Waits until a property of a unit holds, woken by systemd's own signals, and returns it.
    ///
    /// # Panics
    ///
    /// If it does not come true.
    pub fn until_shown(&self, unit: &str, property: &str, holds: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let held = self.runtime.block_on(async {
            let connection = Connection::system().await.expect("the system bus");
            let rule = MatchRule::builder().msg_type(message::Type::Signal);
            let rule = rule.path_namespace("/org/freedesktop/systemd1/unit").build().expect("a rule");
            let mut signals = MessageStream::for_match_rule(rule, &connection, None).await.expect("a match");
            let systemd = "org.freedesktop.systemd1";
            let manager = Some("org.freedesktop.systemd1.Manager");
            let subscribed =
                connection.call_method(Some(systemd), "/org/freedesktop/systemd1", manager, "Subscribe", &()).await;
            subscribed.expect("systemd takes subscribers");
            let waiting = async {
                loop {
                    last = self.show(unit, property);
                    if holds(&last) {
                        return;
                    }
                    signals.next().await.expect("the bus stays").expect("a whole message");
                }
            };
            tokio::time::timeout(PATIENCE, waiting).await.is_ok()
        });
        assert!(held, "{property} of {unit} stayed {last:?}");
        last
    }

    /// A property of systemd's manager.
    pub fn manager(&self, property: &str) -> String {
        self.run(&[
            "busctl",
            "get-property",
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            property,
        ])
    }

    /// Runs ovs-vsctl, which waits for ovs-vswitchd to have applied what it wrote, and returns what it printed.
    pub fn ovs(&self, arguments: &[&str]) -> String {
        self.run(&[&["ovs-vsctl"][..], arguments].concat())
    }

    /// Calls a method that is to be refused, its arguments in GVariant's text form; returns the error's name and its
    /// message.
    ///
    /// # Panics
    ///
    /// If it is not refused.
    pub fn refused(&self, path: &str, method: &str, arguments: &[&str]) -> (String, String) {
        let Outcome { success, stdout, stderr } = self.call_as("root", path, method, arguments);
        assert!(!success, "{method} {arguments:?} is taken: {stdout}");
        let (_, named) = stderr.split_once("GDBus.Error:").unwrap_or_else(|| panic!("no error's name in {stderr}"));
        let (name, message) = named.split_once(": ").unwrap_or((named, ""));
        (name.to_owned(), message.to_owned())
    }

    /// All properties of an interface of op-dbus's.
    pub fn properties(&self, path: &str, interface: &str) -> serde_json::Map<String, Value> {
        let reply = self.call(path, "org.freedesktop.DBus.Properties", "GetAll", &["s", interface]);
        let properties = reply[0].as_object().expect("properties").clone();
        properties.into_iter().map(|(name, mut value)| (name, value["data"].take())).collect()
    }

    /// What op-dbus told the journal, a message a line.
    pub fn journal(&self) -> String {
        self.run(&["journalctl", "--sync"]);
        self.run(&["journalctl", "--unit=op-dbus.service", "--output=cat", "--no-pager"])
    }
}

/// Text as GVariant writes it, for the arguments of [`Lab::refused`].
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
