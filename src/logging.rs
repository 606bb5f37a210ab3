//! Where logs go: to the journal with fields when systemd connected us to it, else to stderr.
//!
//! In the journal each field of an event is a field of the entry, in capitals (`generation` is GENERATION, `message_id`
//! is MESSAGE_ID and leads to the catalog). Other libraries' news are logged from warnings on.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal as _},
};

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::config::Level;

/// The environment variable that goes before the configuration; it takes tracing's directives too
/// (`warn,op_dbus::plugins=trace,zbus=debug`).
pub const VARIABLE: &str = "OPDBUS_LOG";

/// Set by systemd: device and inode of the stream to the journal (systemd.exec(5)).
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// What the journal calls us, whatever the binary is called.
const IDENTIFIER: &str = "op-dbus";

/// Logging has been set up in this process already.
#[derive(Debug, thiserror::Error)]
#[error("logging cannot be set up: {0}")]
pub struct LoggingError(String);

/// The handle by which the level can be changed later.
#[derive(Debug, Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logging {
    /// Logs with another level from now on, unless [`VARIABLE`] says which.
    pub fn set_level(&self, level: Level) {
        let (filter, complaint) = filter(level);
        if let Err(error) = self.filter.reload(filter) {
            tracing::warn!("the log level stays as it was: {error}");
        }
        complain(complaint);
    }
}

/// Sets logging up for the whole process.
///
/// # Errors
///
/// [`LoggingError`]: it was set up before.
pub fn init(level: Level) -> Result<Logging, LoggingError> {
    let (filter, complaint) = filter(level);
    let (filter, handle) = reload::Layer::new(filter);
    let (journal, failure) = match leads_to_journal().then(journal) {
        Some(Ok(layer)) => (Some(layer), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let stderr = journal
        .is_none()
        .then(|| tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()));
    Registry::default()
        .with(filter)
        .with(journal)
        .with(stderr)
        .try_init()
        .map_err(|error| LoggingError(error.to_string()))?;
    complain(complaint);
    if let Some(error) = failure {
        tracing::warn!("the journal cannot be reached directly: fields are lost: {error}");
    }
    Ok(Logging { filter: handle })
}

/// The journal's layer. An info is informational there, not a notice.
fn journal() -> io::Result<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
        ..PriorityMappings::new()
    };
    let layer = tracing_journald::layer()?;
    Ok(layer.with_syslog_identifier(IDENTIFIER.to_owned()).with_field_prefix(None).with_priority_mappings(priorities))
}

/// What is logged, and what is wrong with [`VARIABLE`], if it is.
fn filter(level: Level) -> (EnvFilter, Option<String>) {
    let ours = match level {
        Level::Error | Level::Warn => level.as_str().to_owned(),
        Level::Info | Level::Debug | Level::Trace => format!("warn,op_dbus={}", level.as_str()),
    };
    let configured = || EnvFilter::new(ours);
    match std::env::var(VARIABLE) {
        Ok(directives) => match EnvFilter::try_new(&directives) {
            Ok(filter) => (filter, None),
            Err(error) => (configured(), Some(format!("{directives:?}: {error}"))),
        },
        Err(_) => (configured(), None),
    }
}

fn complain(complaint: Option<String>) {
    if let Some(why) = complaint {
        tracing::warn!("{VARIABLE} is not understood: {why}");
    }
}

/// Whether stderr is the stream to the journal that systemd opened: the variable alone is inherited by whoever is
/// started with its stderr elsewhere.
fn leads_to_journal() -> bool {
    let Some(stream) = std::env::var_os(JOURNAL_STREAM) else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stderr| is_stream(&stream, stderr.st_dev, stderr.st_ino))
}

fn is_stream(stream: &OsStr, device: u64, inode: u64) -> bool {
    stream.to_str().is_some_and(|stream| stream == format!("{device}:{inode}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::{Command, Stdio};

    use super::*;

    /// Logging is set up once in a process: each set-up is a child's, which prints to its stderr.
    fn logged(level: &str, environment: &[(&str, &str)]) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logging::tests::logs", "--ignored", "--nocapture"])
            .env_remove(VARIABLE)
            .env_remove(JOURNAL_STREAM)
            .env("OPDBUS_TEST_LEVEL", level)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    #[test]
    #[ignore = "run by the others, as a child"]
    fn logs() {
        let level = match std::env::var("OPDBUS_TEST_LEVEL").unwrap().as_str() {
            "error" => Level::Error,
            "debug" => Level::Debug,
            _ => Level::Info,
        };
        let logging = init(level).unwrap();
        assert!(init(level).is_err(), "once is enough");
        tracing::error!("an error");
        tracing::info!(generation = 7, "an info");
        tracing::debug!("a debug");
        tracing::info!(target: "zbus", "another's info");
        logging.set_level(Level::Trace);
        tracing::trace!("a trace");
    }

    #[track_caller]
    fn holds(text: &str, there: &[&str], not_there: &[&str]) {
        for part in there {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        for part in not_there {
            assert!(!text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn the_level_is_the_configured_one_and_can_be_changed() {
        holds(
            &logged("info", &[]),
            &["an error", "an info", "generation=7", "a trace"],
            &["a debug", "another's", "\x1b"],
        );
        holds(&logged("error", &[]), &["an error", "a trace"], &["an info"]);
        holds(&logged("debug", &[]), &["an info", "a debug"], &["another's"]);
    }

    #[test]
    fn the_environment_goes_first() {
        let text = logged("info", &[(VARIABLE, "zbus=info,op_dbus=debug")]);
        holds(&text, &["a debug", "another's info"], &["a trace"]);
        let text = logged("info", &[(VARIABLE, "op_dbus=loudly")]);
        holds(&text, &["an info", "OPDBUS_LOG is not understood", "loudly"], &["a debug"]);
    }

    #[test]
    fn only_the_stream_that_systemd_opened_is_the_journal() {
        assert!(is_stream(OsStr::new("8:42"), 8, 42));
        for other in ["8:43", "9:42", "8:", "", "8:42:1"] {
            assert!(!is_stream(OsStr::new(other), 8, 42), "{other:?}");
        }
        // Inherited from somebody whose stderr it is: ours leads elsewhere.
        holds(&logged("info", &[(JOURNAL_STREAM, "8:42")]), &["an info"], &[]);
    }
}
