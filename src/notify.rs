//! What the service manager is told (sd_notify(3)), and the watchdog.
//!
//! Without NOTIFY_SOCKET in the environment, all of it does nothing.

use std::{future::Future, time::Duration};

use sd_notify::NotifyState;

/// A message that cannot be sent is not worth more than a line: the manager then acts on its own time-outs.
fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager was not told: {error}");
    }
}

/// A status for `systemctl status`, in one line: a line break would begin another message.
fn one_line(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name is owned and calls are answered; also the end of [`reloading`].
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// What op-dbus is at, for people.
pub fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

/// Configuration and state file are read again; [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        // Without the time the manager would take the reload for failed and end op-dbus (systemd 253).
        Err(error) => tracing::warn!("the service manager is not told of the reload: {error}"),
    }
}

/// No new jobs; what runs is finished.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
}

/// How often the service manager wants a sign of life; `None` = it does not.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    // Zero stands for none (sd_watchdog_enabled(3)).
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// Gives the sign of life twice in each interval, as long as `is_alive` says so: it should ask the core for an answer.
/// While that does not come, or is false, nothing is sent, and the manager restarts op-dbus in the end.
///
/// To be spawned; never ends by itself.
pub async fn watchdog<F: Future<Output = bool>>(interval: Duration, mut is_alive: impl FnMut() -> F) {
    let mut ticks = tokio::time::interval(interval / 2);
    // After a long answer there is nothing to catch up with.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if is_alive().await {
            send(&[NotifyState::Watchdog]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use std::{
        os::unix::net::UnixDatagram,
        process::{Command, Stdio},
    };

    use super::*;

    /// The environment is the process's, and must not change under other tests' feet: the part is played by a child.
    const PART: &str = "OPDBUS_TEST_NOTIFY_PART";

    /// All messages that a child sends which plays that part.
    fn messages(part: &str, environment: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "notify::tests::plays_a_part", "--ignored"])
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .env("NOTIFY_SOCKET", &path)
            .env(PART, part)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{part}");
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| {
            socket.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into())
        })
        .collect()
    }

    #[test]
    #[ignore = "run by the others, as a child with a socket"]
    fn plays_a_part() {
        match std::env::var(PART).unwrap().as_str() {
            "states" => {
                ready("300 units");
                status("one\nREADY=0 \n\n two");
                reloading();
                stopping("bye");
            }
            "watchdog" => {
                tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
                    let interval = watchdog_interval().unwrap();
                    assert_eq!(interval, Duration::from_millis(2));
                    let mut answers = 0;
                    let (hangs, mut told) = tokio::sync::mpsc::unbounded_channel();
                    let task = watchdog(interval, || {
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
                });
            }
            "none" => assert_eq!(watchdog_interval(), None),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn tells_states_in_whole_lines() {
        let messages = messages("states", &[]);
        assert_eq!(messages[0], "READY=1\nSTATUS=300 units\n");
        assert_eq!(messages[1], "STATUS=one READY=0 two\n");
        let usec = messages[2].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(usec.parse::<u64>().unwrap() > 0);
        assert_eq!(messages[3], "STOPPING=1\nSTATUS=bye\n");
        assert_eq!(messages.len(), 4);
    }

    #[test]
    fn the_watchdog_is_fed_only_while_the_core_answers() {
        assert_eq!(messages("watchdog", &[("WATCHDOG_USEC", "2000")]), ["WATCHDOG=1\n"; 2]);
    }

    #[test]
    fn no_watchdog_where_none_is_wanted() {
        for environment in [&[][..], &[("WATCHDOG_USEC", "0")], &[("WATCHDOG_USEC", "2000"), ("WATCHDOG_PID", "1")]] {
            assert_eq!(messages("none", environment), [""; 0]);
        }
    }
}
