//! The configuration file (TOML): how to reach the backends, patterns, bounds. Never desired state.
//!
//! Each value has a default; an unknown key or a value out of its range is refused with its key, since a misspelt bound
//! that is silently ignored is found out too late. The defaults are those of `dist/op-dbus.toml`, which documents each.

use std::{
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    config_proxmox::Proxmox,
    plan::PROTECTED_CALLS,
    plugins::{
        lxc::{BadPattern, PORT_PATTERNS, Patterns},
        ovsdb::Remote,
    },
};

/// Units that run containers, the likeliest first: Proxmox VE's, LXC's own, systemd-nspawn's.
const CONTAINER_PATTERNS: [&str; 3] = ["pve-container@*.service", "lxc@*.service", "systemd-nspawn@*.service"];

/// Where Open vSwitch's packages put the database's socket.
const OVSDB_REMOTE: &str = "unix:/run/openvswitch/db.sock";

/// The longest time that can be set: longer than that, a job that waits looks like one that hangs.
pub(crate) const LONGEST_MS: u64 = 10 * 60 * 1000;

/// A number of the configuration, between two bounds (both included).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number, as milliseconds.
    #[must_use]
    pub const fn millis(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// The number, as a count of things in memory.
    #[must_use]
    pub fn count(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // TOML's numbers are signed.
        let number = i64::deserialize(deserializer)?;
        match u64::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(D::Error::custom(format_args!("{number} is not between {MIN} and {MAX}"))),
        }
    }
}

/// A pattern of units that run containers: one `*`, in the place of the container's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPattern(String);

impl UnitPattern {
    /// As configured, with `*`: what systemd's `ListUnitsByPatterns` takes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a template, with `%` for `*`: what [`Patterns`] and [`crate::plan::Inventory`] take.
    #[must_use]
    pub fn template(&self) -> String {
        self.0.replace('*', "%")
    }
}

impl FromStr for UnitPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |part: &str| {
            !part.is_empty() && part.chars().all(|char| char.is_ascii_alphanumeric() || "@.-_:\\".contains(char))
        };
        match text.split_once('*') {
            Some((before, after)) if is_plain(before) && is_plain(after) && after.ends_with(".service") => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(format!("{text:?} must be the name of a service with one *, for the container's id")),
        }
    }
}

impl<'de> Deserialize<'de> for UnitPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// Reads whatever is made from a text.
fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Reads port patterns, each checked.
fn port_patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let patterns = Vec::<String>::deserialize(deserializer)?;
    Patterns::new(&patterns, [""; 0]).map_err(D::Error::custom)?;
    Ok(patterns)
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[systemd]`.
    pub systemd: Systemd,
    /// `[ovsdb]`.
    pub ovsdb: Ovsdb,
    /// `[lxc]`.
    pub lxc: Lxc,
    /// `[packagekit]`.
    pub packagekit: Packagekit,
    /// `[dbus]`.
    pub dbus: Dbus,
    /// `[proxmox]`.
    pub proxmox: Proxmox,
    /// `[limits]`.
    pub limits: Limits,
    /// `[log]`.
    pub log: Log,
}

/// `[systemd]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Systemd {
    /// The plugin is on. `None` = it is.
    pub enabled: Option<bool>,
    /// Units that run containers, the likeliest first.
    pub container_patterns: Vec<UnitPattern>,
    /// How long a unit must stay active after its start before the start counts, in milliseconds.
    pub hold_down_ms: Bounded<0, LONGEST_MS>,
}

impl Default for Systemd {
    fn default() -> Self {
        let container_patterns = CONTAINER_PATTERNS.map(|pattern| UnitPattern(pattern.to_owned())).to_vec();
        Self { enabled: None, container_patterns, hold_down_ms: Bounded(2000) }
    }
}

/// `[ovsdb]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ovsdb {
    /// The plugin is on. `None` = it is, but for a session's op-dbus.
    pub enabled: Option<bool>,
    /// Where the database is.
    #[serde(deserialize_with = "from_text")]
    pub remote: Remote,
    /// How long ovs-vswitchd may take to apply what was committed, in milliseconds.
    pub apply_timeout_ms: Bounded<100, LONGEST_MS>,
}

impl Default for Ovsdb {
    fn default() -> Self {
        let remote = OVSDB_REMOTE.parse().unwrap_or_else(|_| Remote::Unix(PathBuf::new()));
        Self { enabled: None, remote, apply_timeout_ms: Bounded(10_000) }
    }
}

/// `[lxc]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lxc {
    /// The plugin is on. `None` = it is, but for a session's op-dbus.
    pub enabled: Option<bool>,
    /// Regular expressions for whole names of ports; the first group is the container's id.
    #[serde(deserialize_with = "port_patterns")]
    pub port_patterns: Vec<String>,
    /// The unit of a container that no unit was found for. `None` = the first of `systemd.container_patterns`.
    pub unit_template: Option<UnitPattern>,
    /// How long whoever starts a container may take to plug its port, in milliseconds.
    pub settle_ms: Bounded<0, LONGEST_MS>,
}

impl Default for Lxc {
    fn default() -> Self {
        Self {
            enabled: None,
            port_patterns: PORT_PATTERNS.map(str::to_owned).to_vec(),
            unit_template: None,
            settle_ms: Bounded(2000),
        }
    }
}

/// `[packagekit]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Packagekit {
    /// The plugin is on. `None` = it is, but for a session's op-dbus.
    pub enabled: Option<bool>,
    /// How long somebody else may hold the package database before a step gives up for now, in seconds.
    pub lock_timeout_s: Bounded<1, 86_400>,
}

impl Default for Packagekit {
    fn default() -> Self {
        Self { enabled: None, lock_timeout_s: Bounded(600) }
    }
}

/// `[dbus]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dbus {
    /// The plugin is on. `None` = it is.
    pub enabled: Option<bool>,
    /// Methods that are never called, `SERVICE INTERFACE.METHOD`; a `*` at the end stands for any rest. Replaces the list
    /// that is built in.
    #[serde(deserialize_with = "call_patterns")]
    pub never_call: Vec<String>,
    /// How long a service may take to answer a call, in milliseconds.
    pub call_timeout_ms: Bounded<100, LONGEST_MS>,
}

impl Default for Dbus {
    fn default() -> Self {
        Self {
            enabled: None,
            never_call: PROTECTED_CALLS.map(str::to_owned).to_vec(),
            call_timeout_ms: Bounded(10_000),
        }
    }
}

/// Reads patterns of calls, each checked.
fn call_patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let patterns = Vec::<String>::deserialize(deserializer)?;
    let plain = |part: &str| part.chars().all(|char| char.is_ascii_alphanumeric() || "._-".contains(char));
    let is_one = |pattern: &str| {
        pattern.split_once(' ').is_some_and(|(service, member)| {
            let member = member.strip_suffix('*').unwrap_or(member);
            !service.is_empty() && plain(service) && plain(member) && !pattern.ends_with(' ')
        })
    };
    if let Some(bad) = patterns.iter().find(|pattern| !is_one(pattern)) {
        return Err(D::Error::custom(format_args!(
            "{bad:?} must be a service, a space, and an interface with a method; a * may stand at its end"
        )));
    }
    Ok(patterns)
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Finished jobs that stay on the bus.
    pub jobs: Bounded<1, 65_536>,
    /// How long a finished job stays on the bus at least, in minutes.
    pub job_minutes: Bounded<0, 10_080>,
    /// Generations that are kept.
    pub generations: Bounded<1, 10_000>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { jobs: Bounded(256), job_minutes: Bounded(10), generations: Bounded(100) }
    }
}

impl Limits {
    /// [`Limits::job_minutes`].
    #[must_use]
    pub const fn job_time(&self) -> Duration {
        Duration::from_secs(self.job_minutes.get() * 60)
    }
}

/// `[log]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged of op-dbus's own.
    pub level: Level,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What failed.
    Error,
    /// ... and what may need somebody's hand.
    Warn,
    /// ... and each change that is made.
    #[default]
    Info,
    /// ... and what was decided, and why.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Why there is no configuration. Trying again does not help before somebody changes the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, or says what it cannot mean.
    #[error("{path}:{line}: {why}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key, where it is one key's fault, and what is wrong.
        why: String,
    },
}

impl Config {
    /// Reads the file. A missing file is the defaults, unless it is `required`: somebody named it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn load(path: &Path, required: bool) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                Self::parse(&text).map_err(|(line, why)| ConfigError::Wrong { path: path.to_owned(), line, why })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads a text; the line and what is wrong with it.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let at = |error: &toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            before.matches('\n').count() + 1
        };
        let deserializer = toml::Deserializer::parse(text).map_err(|error| (at(&error), error.message().to_owned()))?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let (key, error) = (error.path().to_string(), error.into_inner());
            let why = if key == "." { error.message().to_owned() } else { format!("{key}: {}", error.message()) };
            (at(&error), why)
        })
    }

    /// How ports and units name their containers.
    ///
    /// # Errors
    ///
    /// None where the configuration was read from a file: its patterns are checked then.
    pub fn patterns(&self) -> Result<Patterns, BadPattern> {
        Patterns::new(&self.lxc.port_patterns, self.systemd.container_patterns.iter().map(UnitPattern::template))
    }

    /// Template of the unit of a container that no unit was found for, `%` standing for its id: for
    /// [`crate::plan::Inventory`]. `None` = no unit is known to run containers.
    #[must_use]
    pub fn container_unit(&self) -> Option<String> {
        self.lxc.unit_template.as_ref().or(self.systemd.container_patterns.first()).map(UnitPattern::template)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn wrong(text: &str) -> (usize, String) {
        Config::parse(text).unwrap_err()
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.ovsdb.remote.to_string(), OVSDB_REMOTE);
        assert_eq!(config.systemd.hold_down_ms.millis(), Duration::from_secs(2));
        assert_eq!(config.limits.job_time(), Duration::from_mins(10));
        assert_eq!((config.limits.jobs.count(), config.limits.generations.count()), (256, 100));
        assert_eq!(config.container_unit().unwrap(), "pve-container@%.service");
        for pattern in CONTAINER_PATTERNS {
            pattern.parse::<UnitPattern>().unwrap();
        }
        let patterns = config.patterns().unwrap();
        assert_eq!(patterns.container_of_port("veth100i0").as_deref(), Some("100"));
        assert_eq!(patterns.container_of_unit("lxc@web.service").as_deref(), Some("web"));
    }

    #[test]
    fn every_key_is_read() {
        let config = Config::parse(
            "[systemd]\nenabled = false\ncontainer_patterns = ['box@*.service']\nhold_down_ms = 0\n\
             [ovsdb]\nenabled = true\nremote = 'tcp:192.0.2.1:6640'\napply_timeout_ms = 600000\n\
             [lxc]\nenabled = true\nport_patterns = ['box-(.+)']\nunit_template = 'crate@*.service'\nsettle_ms = 1\n\
             [packagekit]\nenabled = true\nlock_timeout_s = 5\n\
             [dbus]\nenabled = false\nnever_call = ['a.b *', 'a.b a.b.C', 'a.b a.b.D*']\ncall_timeout_ms = 100\n\
             [limits]\njobs = 1\njob_minutes = 0\ngenerations = 10000\n\
             [log]\nlevel = 'debug'\n",
        )
        .unwrap();
        assert_eq!(
            (config.systemd.enabled, config.ovsdb.enabled, config.lxc.enabled),
            (Some(false), Some(true), Some(true))
        );
        assert_eq!(config.ovsdb.remote.to_string(), "tcp:192.0.2.1:6640");
        assert_eq!(config.ovsdb.apply_timeout_ms.get(), 600_000);
        assert_eq!((config.dbus.enabled, config.dbus.never_call.len()), (Some(false), 3));
        assert_eq!(config.dbus.call_timeout_ms.get(), 100);
        assert_eq!(config.container_unit().unwrap(), "crate@%.service");
        assert_eq!(config.patterns().unwrap().container_of_port("box-a").as_deref(), Some("a"));
        assert_eq!(config.patterns().unwrap().container_of_unit("box@b.service").as_deref(), Some("b"));
        assert_eq!((config.packagekit.enabled, config.packagekit.lock_timeout_s.get()), (Some(true), 5));
        assert_eq!((config.limits.jobs.get(), config.limits.job_time()), (1, Duration::ZERO));
        assert_eq!(config.log.level.as_str(), "debug");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key_and_line() {
        for (text, line, begins, contains) in [
            ("[systemd]\nhold_down = 3", 2, "systemd.hold_down", "hold_down_ms"),
            ("[sytemd]\n", 1, "sytemd", "systemd"),
            ("\n\n[systemd]\nhold_down_ms = 'x'", 4, "systemd.hold_down_ms: ", "invalid type"),
            ("[systemd]\nhold_down_ms = -1", 2, "systemd.hold_down_ms: ", "-1 is not between 0 and 600000"),
            ("[limits]\njobs = 0", 2, "limits.jobs: ", "0 is not between 1 and 65536"),
            ("[ovsdb]\nremote = 'db.sock'", 2, "ovsdb.remote: ", "unix:PATH"),
            ("[lxc]\nport_patterns = ['(']", 2, "lxc.port_patterns: ", "port pattern"),
            ("[lxc]\nport_patterns = ['veth']", 2, "lxc.port_patterns: ", "no group"),
            ("[systemd]\ncontainer_patterns = ['a@*.service', 'b']", 2, "systemd.container_patterns[1]: ", "one *"),
            ("[dbus]\nnever_call = ['a.b']", 2, "dbus.never_call: ", "a service, a space"),
            ("[log]\nlevel = 'loud'", 2, "log.level: ", "warn"),
            ("log = 3", 1, "log: ", "invalid type"),
            ("[log]\nlevel = 'info'\nlevel = 'warn'", 3, "", "duplicate key"),
            ("[log", 1, "", "unclosed table"),
            ("[log]\n[log]", 2, "", "duplicate key"),
        ] {
            let (at, why) = wrong(text);
            assert!(at == line && why.starts_with(begins) && why.contains(contains), "{text:?} gives {at}: {why}");
        }
    }

    #[test]
    fn a_container_pattern_has_one_star_within_a_service() {
        for bad in
            ["", "*", "a@.service", "*.service", "a@*", "a@*.slice", "a@*b*.service", "a?@*.service", "a/*.service"]
        {
            bad.parse::<UnitPattern>().unwrap_err();
        }
    }

    #[test]
    fn only_a_named_file_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("op-dbus.toml");
        assert_eq!(Config::load(&path, false).unwrap(), Config::default());
        let error = Config::load(&path, true).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot read {}: No such file", path.display())), "{error}");
        fs::write(&path, "[log]\nlevel = 'loud'\n").unwrap();
        let error = Config::load(&path, false).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}:2: log.level: ", path.display())), "{error}");
        // A folder is there, but no file.
        Config::load(folder.path(), false).unwrap_err();
    }
}
