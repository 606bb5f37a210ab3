//! What the service manager is told (sd_notify(3)), and the watchdog.
//!
//! Where nobody wants to be told (no NOTIFY_SOCKET in the environment), all of it does nothing.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    future::Future,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use sd_notify::NotifyState;

/// Where the service manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// The service manager, as far as it wants to be told.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    /// Where it listens; `None` = it does not.
    socket: Option<SocketAddr>,
    /// How often it wants a sign of life; `None` = it does not.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that started this process.
    #[must_use]
    pub fn of_environment() -> Self {
        let socket = env::var_os(SOCKET).and_then(|socket| match address(&socket) {
            Ok(address) => Some(address),
            Err(error) => {
                tracing::warn!("the service manager cannot be told: {SOCKET} is {}: {error}", socket.display());
                None
            }
        });
        Self::new(socket, sd_notify::watchdog_enabled())
    }

    /// One that listens there, and wants a sign of life that often.
    #[must_use]
    pub fn new(socket: Option<SocketAddr>, watchdog: Option<Duration>) -> Self {
        // Zero stands for none (sd_watchdog_enabled(3)).
        Self { socket, watchdog: watchdog.filter(|interval| !interval.is_zero()) }
    }

    /// A message that cannot be sent is not worth more than a line: the manager then acts on its own time-outs.
    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let message = states.iter().fold(String::new(), |mut message, state| {
            // Text takes whatever is written.
            let _ = writeln!(message, "{state}");
            message
        });
        let sent = UnixDatagram::unbound().and_then(|own| own.send_to_addr(message.as_bytes(), socket));
        if let Err(error) = sent {
            tracing::warn!("the service manager was not told: {error}");
        }
    }

    /// The name is owned and calls are answered; also the end of [`Self::reloading`].
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// What op-dbus is at, for people.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// Configuration and state file are read again; [`Self::ready`] must follow.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            // Without the time the manager would take the reload for failed and end op-dbus (systemd 253).
            Err(error) => tracing::warn!("the service manager is not told of the reload: {error}"),
        }
    }

    /// No new jobs; what runs is finished.
    pub fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// Gives the sign of life twice in each interval, as long as `is_alive` says so: it should ask the core for an
    /// answer. While that does not come, or is false, nothing is sent, and the manager restarts op-dbus in the end.
    ///
    /// To be spawned; never ends by itself, but where no sign of life is wanted at once.
    pub async fn watchdog<F: Future<Output = bool>>(self, mut is_alive: impl FnMut() -> F) {
        let Some(interval) = self.watchdog else { return };
        let mut ticks = tokio::time::interval(interval / 2);
        // After a long answer there is nothing to catch up with.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if is_alive().await {
                self.send(&[NotifyState::Watchdog]);
            }
        }
    }
}

/// The address that the variable names: a path, or with an `@` before it an abstract name.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

/// A status for `systemctl status`, in one line: a line break would begin another message.
fn one_line(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use tempfile::TempDir;

    use super::*;

    /// The manager's end.
    struct Manager {
        folder: TempDir,
        socket: UnixDatagram,
    }

    impl Manager {
        fn listen() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self { folder, socket }
        }

        fn told_by(&self, watchdog: Option<Duration>) -> ServiceManager {
            ServiceManager::new(Some(address(self.folder.path().join("notify").as_os_str()).unwrap()), watchdog)
        }

        /// All messages so far.
        fn messages(&self) -> Vec<String> {
            let mut buffer = [0; 4096];
            std::iter::from_fn(|| {
                self.socket.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into())
            })
            .collect()
        }
    }

    #[test]
    fn tells_states_in_whole_lines() {
        let manager = Manager::listen();
        let told = manager.told_by(None);
        told.ready("300 units");
        told.status("one\nREADY=0 \n\n two");
        told.reloading();
        told.stopping("bye");
        let messages = manager.messages();
        assert_eq!(messages[0], "READY=1\nSTATUS=300 units\n");
        assert_eq!(messages[1], "STATUS=one READY=0 two\n");
        let usec = messages[2].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(usec.parse::<u64>().unwrap() > 0);
        assert_eq!(messages[3], "STOPPING=1\nSTATUS=bye\n");
        assert_eq!(messages.len(), 4);
    }

    #[test]
    fn finds_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        // Unique among those who run these tests.
        let name = folder.path().as_os_str().as_bytes();
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        let variable = [b"@", name].concat();
        ServiceManager::new(Some(address(OsStr::from_bytes(&variable)).unwrap()), None).status("here");
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=here\n");
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_only_while_the_core_answers() {
        let manager = Manager::listen();
        let mut answers = 0;
        let (hangs, mut told) = tokio::sync::mpsc::unbounded_channel();
        let task = manager.told_by(Some(Duration::from_millis(2))).watchdog(|| {
            answers += 1;
            let (answer, hangs) = (answers, hangs.clone());
            async move {
                match answer {
                    1 | 3 => true,
                    2 => false,
                    _ => {
                        hangs.send(()).unwrap();
                        std::future::pending().await
                    }
                }
            }
        });
        tokio::select! {
            () = task => {}
            _ = told.recv() => {}
        }
        assert_eq!(manager.messages(), ["WATCHDOG=1\n"; 2]);
    }

    #[tokio::test]
    async fn no_watchdog_where_none_is_wanted() {
        let manager = Manager::listen();
        for none in [None, Some(Duration::ZERO)] {
            manager.told_by(none).watchdog(|| async { true }).await;
        }
        ServiceManager::new(None, Some(Duration::from_secs(1))).status("nobody listens");
        assert_eq!(manager.messages(), [""; 0]);
    }
}
