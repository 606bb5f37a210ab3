//! The command line, and what its flags, the environment and the configuration file come to.
//!
//! `op-dbus` alone is the daemon. `check` and `schema` are the only other verbs: everything else is D-Bus.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{Config, ConfigError},
    desired::{self, Document, DocumentError},
    plugins::ovsdb::Remote,
    state_file::MAX_BYTES,
};

/// The folder of everything of ours, under each of the roots.
const FOLDER: &str = "op-dbus";
/// Root of configuration and state file on a system.
const ETC: &str = "/etc";
/// Root of the state where systemd gives no STATE_DIRECTORY.
const VAR_LIB: &str = "/var/lib";
const CONFIG_FILE: &str = "op-dbus.toml";
const STATE_FILE: &str = "state.json";
/// What a configuration's name ends in; everything else that is checked is a document.
const CONFIG_EXTENSION: &str = "toml";
/// What stands for standard input.
const STDIN: &str = "-";

/// A host's declared state as a live, typed D-Bus object tree.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "op-dbus", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of running the daemon.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Flags of the daemon.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// What can be done besides running the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Verb {
    /// Check a desired-state document, or a configuration, offline: every fault with its place, exit code 1 if there
    /// is one
    Check {
        /// The document; - is standard input. A file whose name ends in .toml is a configuration
        file: PathBuf,
    },
    /// Print the JSON Schema of the desired-state document
    Schema,
}

/// Flags of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Daemon {
    /// Serve the session bus, for one's own systemd units; with the XDG folders, and without Open vSwitch and
    /// containers unless the configuration or a flag says so
    #[arg(long)]
    pub session: bool,
    /// The configuration [default: /etc/op-dbus/op-dbus.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The desired state [default: /etc/op-dbus/state.json]
    #[arg(long, value_name = "FILE")]
    pub state_file: Option<PathBuf>,
    /// Where generations are kept [default: $STATE_DIRECTORY, else /var/lib/op-dbus]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Open vSwitch's database, unix:PATH or tcp:HOST:PORT [default: unix:/run/openvswitch/db.sock]
    #[arg(long, value_name = "REMOTE")]
    pub ovsdb: Option<Remote>,
}

/// All that the daemon is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// On the session bus.
    pub session: bool,
    /// The state file.
    pub state_file: PathBuf,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The systemd plugin is on.
    pub systemd: bool,
    /// The database of the ovsdb plugin; `None` = the plugin is off.
    pub ovsdb: Option<Remote>,
    /// The lxc plugin is on.
    pub lxc: bool,
    /// The packagekit plugin is on.
    pub packagekit: bool,
    /// The dbus plugin is on.
    pub dbus: bool,
    /// Everything else.
    pub config: Config,
}

/// Why the daemon cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// In a session, one's folders are not known.
    #[error("{0} is not set to an absolute path, nor is HOME: there is no place for {1}")]
    NoHome(&'static str, &'static str),
}

impl Daemon {
    /// Reads the configuration and settles what counts; also on SIGHUP.
    ///
    /// # Errors
    ///
    /// [`SettingsError`]; trying again does not help before somebody changes something.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        self.settings_in(|name| env::var_os(name))
    }

    /// [`Daemon::settings`] in any environment.
    fn settings_in(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Settings, SettingsError> {
        let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // As the XDG Base Directory Specification says, relative paths count as none.
        let xdg = |name, below_home, what| {
            let root = absolute(name).or_else(|| absolute("HOME").map(|home| home.join(below_home)));
            root.map(|root| root.join(FOLDER)).ok_or(SettingsError::NoHome(name, what))
        };
        let config_folder = |what| {
            if self.session { xdg("XDG_CONFIG_HOME", ".config", what) } else { Ok(Path::new(ETC).join(FOLDER)) }
        };
        let config = match &self.config {
            Some(path) => Config::load(path, true)?,
            None => Config::load(&config_folder("the configuration")?.join(CONFIG_FILE), false)?,
        };
        let state_file = match &self.state_file {
            Some(path) => path.clone(),
            None => config_folder("the state file")?.join(STATE_FILE),
        };
        let state_dir = match &self.state_dir {
            Some(path) => path.clone(),
            None if self.session => xdg("XDG_STATE_HOME", ".local/state", "the state directory")?,
            None => state_directory(variable("STATE_DIRECTORY")),
        };
        let by_default = !self.session;
        let ovsdb = self.ovsdb.clone().or_else(|| {
            let enabled = config.ovsdb.enabled.unwrap_or(by_default);
            enabled.then(|| config.ovsdb.remote.clone())
        });
        Ok(Settings {
            session: self.session,
            state_file,
            state_dir,
            systemd: config.systemd.enabled.unwrap_or(true),
            ovsdb,
            lxc: config.lxc.enabled.unwrap_or(by_default),
            packagekit: config.packagekit.enabled.unwrap_or(by_default),
            dbus: config.dbus.enabled.unwrap_or(true),
            config,
        })
    }
}

/// The state directory that systemd made, of several the first (systemd.exec(5)), or the usual one.
fn state_directory(variable: Option<OsString>) -> PathBuf {
    let first = variable.and_then(|list| env::split_paths(&list).find(|path| path.is_absolute()));
    first.unwrap_or_else(|| Path::new(VAR_LIB).join(FOLDER))
}

impl Verb {
    /// Does it, with this process's standard streams.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
        let done = match self {
            Self::Check { file } if file.as_os_str() == STDIN => check(file, io::stdin().lock(), &mut out, &mut err),
            Self::Check { file } if file.extension().is_some_and(|extension| extension == CONFIG_EXTENSION) => {
                check_config(file, &mut out, &mut err)
            }
            Self::Check { file } => match File::open(file) {
                Ok(opened) => check(file, opened, &mut out, &mut err),
                Err(error) => writeln!(err, "{}: {error}", file.display()).map(|()| false),
            },
            Self::Schema => writeln!(out, "{:#}", desired::schema()).map(|()| true),
        };
        // What cannot be written, for whoever reads has gone, cannot be told either.
        if done.and_then(|good| out.flush().map(|()| good)).unwrap_or(false) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Checks a document: a line for it, or one for each fault; whether there was none.
fn check(file: &Path, document: impl Read, out: &mut impl Write, err: &mut impl Write) -> io::Result<bool> {
    let file = file.display();
    let mut bytes = Vec::new();
    // One more than may be: enough to be told that it is too large.
    if let Err(error) = document.take(MAX_BYTES + 1).read_to_end(&mut bytes) {
        return writeln!(err, "{file}: {error}").map(|()| false);
    }
    match desired::parse_bytes(&bytes) {
        Ok(document) => writeln!(out, "{file}: {}", summary(&document)).map(|()| true),
        Err(DocumentError::TooLarge(message)) => writeln!(err, "{file}: {message} [TooLarge]").map(|()| false),
        Err(DocumentError::Invalid(faults)) => {
            for fault in faults {
                // The whole document has the empty pointer.
                let place = if fault.pointer.is_empty() { String::new() } else { format!("{}: ", fault.pointer) };
                writeln!(err, "{file}: {}{} [{}]", printable(&place), printable(&fault.message), fault.code)?;
            }
            Ok(false)
        }
    }
}

/// Checks a configuration: a line for it, or for what is wrong with it; whether nothing was.
fn check_config(file: &Path, out: &mut impl Write, err: &mut impl Write) -> io::Result<bool> {
    match Config::load(file, true) {
        Ok(_) => writeln!(out, "{}: valid", file.display()).map(|()| true),
        Err(error) => writeln!(err, "{}", printable(&error.to_string())).map(|()| false),
    }
}

/// What a good document holds.
fn summary(document: &Document) -> String {
    let counts = [
        (document.packages.len(), "package"),
        (document.units.len(), "unit"),
        (document.bridges.len(), "bridge"),
        (document.ports.len(), "port"),
        (document.containers.len(), "container"),
        (document.objects.len(), "object"),
    ];
    let mut text = String::new();
    for (count, kind) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let (comma, plural) = (if text.is_empty() { "" } else { ", " }, if count == 1 { "" } else { "s" });
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{count} {kind}{plural}");
    }
    match (text.is_empty(), document.allow_empty) {
        (false, _) => format!("valid: {text}"),
        (true, true) => "valid: it names no resource, and says that this is meant so".to_owned(),
        (true, false) => {
            "valid, but it names no resource: where others were named before, op-dbus refuses it unless it \
                          says \"allow_empty\": true"
                .to_owned()
        }
    }
}

/// One line for a terminal: names in a document may hold anything.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn daemon(arguments: &[&str]) -> Daemon {
        let cli = Cli::try_parse_from([&["op-dbus"], arguments].concat()).unwrap();
        assert_eq!(cli.verb, None);
        cli.daemon
    }

    fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        daemon(arguments).settings_in(|name| {
            environment.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_flags_are_sound() {
        Cli::command().debug_assert();
        for (wrong, kind) in [
            (&["--ovsdb", "db.sock"][..], ErrorKind::ValueValidation),
            (&["reconcile"], ErrorKind::InvalidSubcommand),
            (&["check"], ErrorKind::MissingRequiredArgument),
            (&["--session", "schema"], ErrorKind::ArgumentConflict),
            (&["--verbose"], ErrorKind::UnknownArgument),
            (&["--version"], ErrorKind::DisplayVersion),
        ] {
            let error = Cli::try_parse_from([&["op-dbus"], wrong].concat()).unwrap_err();
            assert_eq!(error.kind(), kind, "{wrong:?}");
        }
        let cli = Cli::try_parse_from(["op-dbus", "check", "-"]).unwrap();
        assert_eq!(cli.verb, Some(Verb::Check { file: "-".into() }));
    }

    #[test]
    fn on_a_system() {
        let config = tempfile::NamedTempFile::new().unwrap();
        let named = config.path().to_str().unwrap();
        let plain = settings(&["--config", named], &[("HOME", "/root"), ("XDG_STATE_HOME", "/x")]).unwrap();
        assert_eq!(plain.state_file, Path::new("/etc/op-dbus/state.json"));
        assert_eq!(plain.state_dir, Path::new("/var/lib/op-dbus"));
        assert!(!plain.session && plain.systemd && plain.lxc);
        assert_eq!(plain.ovsdb.unwrap().to_string(), "unix:/run/openvswitch/db.sock");

        let environment = [("STATE_DIRECTORY", "/var/lib/private/op-dbus:/var/lib/other")];
        assert_eq!(
            settings(&["--config", named], &environment).unwrap().state_dir,
            Path::new("/var/lib/private/op-dbus")
        );
        let flags =
            ["--config", named, "--state-file", "/s.json", "--state-dir", "/d", "--ovsdb", "tcp:192.0.2.1:6640"];
        let flagged = settings(&flags, &environment).unwrap();
        assert_eq!((flagged.state_file, flagged.state_dir), ("/s.json".into(), "/d".into()));
        assert_eq!(flagged.ovsdb.unwrap().to_string(), "tcp:192.0.2.1:6640");
    }

    #[test]
    fn in_a_session() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        let plain = settings(&["--session"], &[("HOME", path), ("XDG_STATE_HOME", "relative")]).unwrap();
        assert_eq!(plain.state_file, home.path().join(".config/op-dbus/state.json"));
        assert_eq!(plain.state_dir, home.path().join(".local/state/op-dbus"));
        assert!(plain.session && plain.systemd && !plain.lxc);
        assert_eq!(plain.ovsdb, None);

        let environment = [("XDG_CONFIG_HOME", path), ("XDG_STATE_HOME", "/x")];
        std::fs::create_dir(home.path().join("op-dbus")).unwrap();
        std::fs::write(home.path().join("op-dbus/op-dbus.toml"), "[lxc]\nenabled = true\n[ovsdb]\nenabled = true")
            .unwrap();
        let configured = settings(&["--session"], &environment).unwrap();
        assert_eq!(configured.state_file, home.path().join("op-dbus/state.json"));
        assert_eq!(configured.state_dir, Path::new("/x/op-dbus"));
        assert!(configured.lxc && configured.ovsdb.is_some());

        let flagged = settings(&["--session", "--ovsdb", "unix:/o"], &[("HOME", path)]).unwrap();
        assert_eq!(flagged.ovsdb.unwrap().to_string(), "unix:/o");

        let error = settings(&["--session"], &[]).unwrap_err();
        assert!(error.to_string().contains("XDG_CONFIG_HOME"), "{error}");
    }

    #[test]
    fn a_named_configuration_must_be_there_and_right() {
        let missing = settings(&["--config", "/nowhere/op-dbus.toml"], &[]).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/op-dbus.toml"), "{missing}");
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), "[ovsdb]\nremote = 'x'").unwrap();
        let wrong = settings(&["--config", config.path().to_str().unwrap()], &[]).unwrap_err();
        assert!(wrong.to_string().contains(":2: ovsdb.remote: "), "{wrong}");
    }

    /// Standard output, standard error, and whether it was good.
    fn checked(document: impl AsRef<[u8]>) -> (String, String, bool) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let good = check(Path::new("f.json"), document.as_ref(), &mut out, &mut err).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), good)
    }

    #[test]
    fn a_good_document_is_one_line() {
        let document = r#"{ "systemd": { "units": { "a.service": { "active_state": "active" } } },
            "ovsdb": { "bridges": { "br0": { "ports": { "p0": { "type": "internal" }, "p1": { "type": "internal" } } } } } }"#;
        let line = "f.json: valid: 1 unit, 1 bridge, 2 ports\n";
        assert_eq!(checked(document), (line.to_owned(), String::new(), true));
        for (empty, says) in [("{}", "allow_empty"), (r#"{"allow_empty": true}"#, "meant so")] {
            let (out, err, good) = checked(empty);
            assert!(good && err.is_empty() && out.contains(says), "{out}{err}");
        }
    }

    #[test]
    fn each_fault_is_a_line_with_its_place_and_code() {
        let (out, err, good) = checked(
            "{ \"drift\": \"maybe\", \"systemd\": { \"units\": { \"a\\n\\u001b.service\": {} } }, \"sytemd\": 1 }",
        );
        assert!(!good && out.is_empty());
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), 3, "{err}");
        assert!(lines.iter().any(|line| line.starts_with("f.json: /drift: ") && line.ends_with(']')), "{err}");
        assert!(
            lines.iter().any(|line| line.starts_with("f.json: /sytemd: ") && line.ends_with(" [UnknownField]")),
            "{err}"
        );
        assert!(lines.iter().any(|line| line.ends_with(" [BadName]")), "{err}");
        assert!(!err.contains('\u{1b}'), "{err:?}");
    }

    #[test]
    fn a_configuration_is_checked_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("op-dbus.toml");
        let checked = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let good = check_config(&file, &mut out, &mut err).unwrap();
            (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), good)
        };
        let name = file.display();
        assert_eq!(checked("[log]\nlevel = 'warn'"), (format!("{name}: valid\n"), String::new(), true));
        let (out, err, good) = checked("[log]\nlevel = 'loud'");
        assert!(!good && out.is_empty() && err.starts_with(&format!("{name}:2: log.level: ")), "{err}");
    }

    #[test]
    fn what_is_no_document_is_said_to_be_none() {
        let (_, err, good) = checked("{");
        assert!(!good && err.starts_with("f.json: ") && err.ends_with(" [Syntax]\n"), "{err}");
        let (_, err, good) = checked([0xff]);
        assert!(!good && err.ends_with(" [Syntax]\n"), "{err}");
        // One limit for files and documents.
        let limit = usize::try_from(MAX_BYTES).unwrap();
        for (size, code) in [(limit, " [Syntax]\n"), (limit + 1, " [TooLarge]\n"), (limit * 2, " [TooLarge]\n")] {
            let (_, err, good) = checked(" ".repeat(size));
            assert!(!good && err.ends_with(code), "{size}: {err}");
        }
    }
}
