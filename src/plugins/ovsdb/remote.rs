//! Where the database is, how it is reached, and how one learns that it has come.

use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use futures::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// Port of OVSDB over TCP (RFC 7047, section 4).
const OVSDB_TCP_PORT: u16 = 6640;

/// The first pause before another attempt.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// The longest pause before another attempt.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The address of an OVSDB server, in the notation of Open vSwitch (ovsdb(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `tcp:HOST:PORT`; an IPv6 address in brackets.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

/// The text is no address of an OVSDB server. A retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of an OVSDB server: unix:PATH or tcp:HOST[:PORT] is")]
pub struct BadRemote(String);

impl FromStr for Remote {
    type Err = BadRemote;

    fn from_str(text: &str) -> Result<Self, BadRemote> {
        let bad = || BadRemote(text.to_owned());
        match text.split_once(':').ok_or_else(bad)? {
            ("unix", path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            ("tcp", rest) => {
                let (host, port) = match rest.strip_prefix('[') {
                    Some(rest) => rest.split_once(']').ok_or_else(bad)?,
                    None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
                };
                let port = match port.strip_prefix(':') {
                    Some(port) => port.parse().map_err(|_| bad())?,
                    None if port.is_empty() => OVSDB_TCP_PORT,
                    None => return Err(bad()),
                };
                if host.is_empty() {
                    return Err(bad());
                }
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Remote {
    /// Connects.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

/// Waits for a socket to come. To be made before the attempt to connect, so that nothing is missed in between.
pub(super) struct Appearance {
    events: Option<EventStream<[u8; 1024]>>,
    awaited: OsString,
}

impl Appearance {
    /// Of that server's socket, or of the first folder on the way to it that is not there yet. (Of a TCP port nothing
    /// is told.)
    pub(super) fn of(remote: &Remote) -> Self {
        let Remote::Unix(path) = remote else { return Self { events: None, awaited: OsString::new() } };
        let mut awaited = path.as_path();
        while let (Some(folder), Some(name)) = (awaited.parent(), awaited.file_name()) {
            match watch(folder) {
                Ok(events) => return Self { events: Some(events), awaited: name.to_owned() },
                Err(error) if error.kind() == io::ErrorKind::NotFound => awaited = folder,
                Err(error) => {
                    tracing::debug!(folder = %folder.display(), %error, "the folder of the socket cannot be watched");
                    break;
                }
            }
        }
        Self { events: None, awaited: OsString::new() }
    }

    /// Answers when it came, or when the watched folder went; never, where nothing can be watched.
    pub(super) async fn wait(&mut self) {
        if let Some(events) = &mut self.events {
            while let Some(Ok(event)) = events.next().await {
                let ours = event.name.as_ref().is_some_and(|name| *name == self.awaited);
                if ours || event.mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::Q_OVERFLOW)
                {
                    return;
                }
            }
        }
        std::future::pending::<()>().await;
    }
}

fn watch(folder: &Path) -> io::Result<EventStream<[u8; 1024]>> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
    inotify.watches().add(folder, mask | WatchMask::ONLYDIR)?;
    inotify.into_event_stream([0; 1024])
}

/// Pauses between attempts: 0.25 s, doubling to 60 s.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) const fn new() -> Self {
        Self(FIRST_DELAY)
    }

    /// Begins anew.
    pub(super) const fn reset(&mut self) {
        self.0 = FIRST_DELAY;
    }

    /// The next pause, up to a quarter longer or shorter, so that not everybody comes back at the same instant.
    pub(super) fn next(&mut self) -> Duration {
        use std::hash::{BuildHasher as _, RandomState};
        let delay = self.0;
        self.0 = (delay * 2).min(LONGEST_DELAY);
        // The standard library's hasher is seeded at random: good enough for a spread.
        let percent = u32::try_from(RandomState::new().hash_one(()) % 51).unwrap_or(0) + 75;
        delay * percent / 100
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_addresses_and_shows_them_as_they_were() {
        for text in ["unix:/run/openvswitch/db.sock", "tcp:192.0.2.1:6640", "tcp:[2001:db8::1]:77", "tcp:host:1"] {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:host".parse(), Ok(Remote::Tcp { host: "host".into(), port: 6640 }));
        for bad in ["", "unix:", "unix:db.sock", "ssl:host:1", "tcp:", "tcp:host:x", "tcp:[::1", "tcp:[::1]x", "/run/x"]
        {
            assert!(bad.parse::<Remote>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
        let mut expected = FIRST_DELAY;
        for pause in pauses {
            assert!(pause >= expected * 3 / 4 && pause <= expected * 5 / 4, "{pause:?} instead of {expected:?}");
            expected = (expected * 2).min(LONGEST_DELAY);
        }
        backoff.reset();
        assert!(backoff.next() < FIRST_DELAY * 2);
    }

    #[tokio::test]
    async fn a_socket_is_noticed_also_when_its_folder_was_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/openvswitch/db.sock");
        let remote = Remote::Unix(socket.clone());
        let mut first = Appearance::of(&remote);
        std::fs::create_dir(folder.path().join("run")).unwrap();
        first.wait().await;
        std::fs::create_dir(folder.path().join("run/openvswitch")).unwrap();
        let mut last = Appearance::of(&remote);
        std::fs::write(folder.path().join("run/openvswitch/other"), "").unwrap();
        std::fs::write(&socket, "").unwrap();
        last.wait().await;
    }
}
