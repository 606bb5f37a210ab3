//! Where logs go: to the journal with fields when systemd connected us to it, else to stderr.
//!
//! In the journal each field of an event is a field of the entry, in capitals (`generation` is GENERATION, `message_id`
//! is MESSAGE_ID and leads to the catalog). Other libraries' news are logged from warnings on.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal as _},
    os::fd::AsFd,
};

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    EnvFilter, Registry,
    layer::{Layered, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use crate::config::Level;

/// The environment variable that goes before the configuration; it takes tracing's directives too
/// (`warn,op_dbus::plugins=trace,zbus=debug`).
pub const VARIABLE: &str = "OPDBUS_LOG";

/// Set by systemd: device and inode of the stream to the journal (systemd.exec(5)).
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// What the journal calls us, whatever the binary is called.
const IDENTIFIER: &str = "op-dbus";

/// What passes on what is to be logged.
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// Logging has been set up in this process already.
#[derive(Debug, thiserror::Error)]
#[error("logging cannot be set up: {0}")]
pub struct LoggingError(String);

/// The handle by which the level can be changed later.
#[derive(Debug, Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    /// What [`VARIABLE`] says.
    directives: Option<String>,
}

impl Logging {
    /// Logs with another level from now on, unless [`VARIABLE`] says which.
    pub fn set_level(&self, level: Level) {
        let (filter, complaint) = filter(level, self.directives.as_deref());
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
    let (journal, failure) = match leads_to_journal().then(journal) {
        Some(Ok(layer)) => (Some(layer), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let stderr = journal
        .is_none()
        .then(|| tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()));
    let (filtered, logging, complaint) = filtered(level, std::env::var(VARIABLE).ok());
    filtered.with(journal).with(stderr).try_init().map_err(|error| LoggingError(error.to_string()))?;
    complain(complaint);
    if let Some(error) = failure {
        tracing::warn!("the journal cannot be reached directly: fields are lost: {error}");
    }
    Ok(logging)
}

/// What passes on what is to be logged, the handle to it, and what is wrong with [`VARIABLE`], if it is.
fn filtered(level: Level, directives: Option<String>) -> (Filtered, Logging, Option<String>) {
    let (filter, complaint) = filter(level, directives.as_deref());
    let (filter, handle) = reload::Layer::new(filter);
    (Registry::default().with(filter), Logging { filter: handle, directives }, complaint)
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

/// What is logged, and what is wrong with [`VARIABLE`]'s directives, if they are.
fn filter(level: Level, directives: Option<&str>) -> (EnvFilter, Option<String>) {
    let ours = match level {
        Level::Error | Level::Warn => level.as_str().to_owned(),
        Level::Info | Level::Debug | Level::Trace => format!("warn,op_dbus={}", level.as_str()),
    };
    match directives.map(|directives| (directives, EnvFilter::try_new(directives))) {
        Some((_, Ok(filter))) => (filter, None),
        Some((directives, Err(error))) => (EnvFilter::new(ours), Some(format!("{directives:?}: {error}"))),
        None => (EnvFilter::new(ours), None),
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
    std::env::var_os(JOURNAL_STREAM).is_some_and(|stream| is_stream(&stream, io::stderr()))
}

fn is_stream(stream: &OsStr, file: impl AsFd) -> bool {
    let is_it = |file: rustix::fs::Stat| {
        stream.to_str().is_some_and(|stream| stream == format!("{}:{}", file.st_dev, file.st_ino))
    };
    rustix::fs::fstat(file).is_ok_and(is_it)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        fs::File,
        io::Write,
        os::unix::fs::MetadataExt as _,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// Takes stderr's place.
    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// What is written of a few events, the last of them after the level was set to trace.
    fn logged(level: Level, directives: Option<&str>) -> String {
        let written = Written::default();
        let (filtered, logging, complaint) = filtered(level, directives.map(str::to_owned));
        let writes = tracing_subscriber::fmt::layer().with_writer(written.clone()).with_ansi(false);
        tracing::subscriber::with_default(filtered.with(writes), || {
            complain(complaint);
            tracing::error!("an error");
            tracing::info!(generation = 7, "an info");
            tracing::debug!("a debug");
            tracing::info!(target: "zbus", "another's info");
            logging.set_level(Level::Trace);
            tracing::trace!("a trace");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
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
            &logged(Level::Info, None),
            &["an error", "an info", "generation=7", "a trace"],
            &["a debug", "another's", "\x1b"],
        );
        holds(&logged(Level::Error, None), &["an error", "a trace"], &["an info"]);
        holds(&logged(Level::Debug, None), &["an info", "a debug"], &["another's"]);
    }

    #[test]
    fn the_environment_goes_first() {
        let text = logged(Level::Info, Some("zbus=info,op_dbus=debug"));
        holds(&text, &["a debug", "another's info"], &["a trace"]);
        let text = logged(Level::Info, Some("op_dbus=loudly"));
        holds(&text, &["an info", "OPDBUS_LOG is not understood", "loudly"], &["a debug"]);
    }

    #[test]
    fn only_the_stream_that_systemd_opened_is_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let own = File::create(folder.path().join("own")).unwrap();
        let other = File::create(folder.path().join("other")).unwrap();
        let stream = |file: &File| file.metadata().map(|file| format!("{}:{}", file.dev(), file.ino())).unwrap();
        assert!(is_stream(OsStr::new(&stream(&own)), &own));
        // Inherited from somebody whose stderr it is: ours leads elsewhere.
        assert!(!is_stream(OsStr::new(&stream(&other)), &own));
        let (device, more) = (own.metadata().unwrap().dev(), format!("{}:1", stream(&own)));
        for none in [format!("{device}:"), String::new(), more] {
            assert!(!is_stream(OsStr::new(&none), &own), "{none:?}");
        }
    }
}
