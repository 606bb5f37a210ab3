//! Time, and which boot and which machine this is.
//!
//! Times that are shown are CLOCK_REALTIME microseconds. Deadlines run on the boot clock, which neither jumps when the
//! time is set nor stands still while the machine sleeps.

use std::{fs, io, path::Path, time::Duration};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// The kernel's name for this boot, random at each (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// This machine's id (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// Digits of a machine id (machine-id(5)).
const MACHINE_ID_DIGITS: usize = 32;

/// Now, in CLOCK_REALTIME microseconds; before 1970 it is 0.
#[must_use]
pub fn realtime_usec() -> u64 {
    u64::try_from(duration(clock_gettime(ClockId::Realtime)).as_micros()).unwrap_or(u64::MAX)
}

/// Time since the boot, with the time that the machine slept (CLOCK_BOOTTIME).
#[must_use]
pub fn boottime() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

/// [`boottime`] in microseconds.
#[must_use]
pub fn boottime_usec() -> u64 {
    u64::try_from(boottime().as_micros()).unwrap_or(u64::MAX)
}

fn duration(time: Timespec) -> Duration {
    match (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) {
        (Ok(seconds), Ok(nanos)) => Duration::new(seconds, nanos),
        _ => Duration::ZERO,
    }
}

/// A point of the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// That long from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(boottime().saturating_add(time))
    }

    /// That point, in microseconds since the boot.
    #[must_use]
    pub const fn at_usec(usec: u64) -> Self {
        Self(Duration::from_micros(usec))
    }

    /// The time left; zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_sub(boottime())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// Waits until it has passed, also through a suspend (tokio's own timers stand still during one).
    ///
    /// # Errors
    ///
    /// The kernel gives no timer: out of descriptors or memory.
    pub async fn passed(self) -> io::Result<()> {
        if self.has_passed() {
            return Ok(());
        }
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let at = Timespec {
            // Beyond i64 seconds is beyond every boot.
            tv_sec: i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: self.0.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &once)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; OwnedFd's does not"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        // Readable = expired. It is left unread: the timer is used once.
        timer.readable().await.map(drop)
    }
}

/// The id of this boot.
///
/// # Errors
///
/// /proc is not there.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string(BOOT_ID).map(|text| text.trim().to_owned())
}

/// The id of this machine: the value of the mark `opdbus-owner`.
///
/// # Errors
///
/// The file is not there, or holds no id (`uninitialized`, or empty, early at a first boot).
pub fn machine_id() -> io::Result<String> {
    read_machine_id(Path::new(MACHINE_ID))
}

fn read_machine_id(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let id = text.trim();
    if id.len() == MACHINE_ID_DIGITS && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(id.to_owned());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no machine id", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tells_the_time() {
        let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(u128::from(realtime_usec()) >= system.as_micros());
        let first = boottime();
        assert!(boottime() >= first && !first.is_zero());
    }

    #[tokio::test]
    async fn a_deadline_passes_when_its_time_has_come() {
        let deadline = Deadline::after(Duration::from_millis(20));
        assert!(!deadline.has_passed());
        deadline.passed().await.unwrap();
        assert!(deadline.has_passed());
        deadline.passed().await.unwrap();
        assert_eq!(deadline.remaining(), Duration::ZERO);
        assert!(Deadline::after(Duration::MAX).remaining() > Duration::from_hours(24));
    }

    #[test]
    fn reads_the_boot() {
        let id = boot_id().unwrap();
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(boot_id().unwrap(), id);
    }

    #[test]
    fn takes_a_machine_id_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine-id");
        assert_eq!(read_machine_id(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        for bad in ["", "uninitialized\n", "0123456789abcdef0123456789ABCDEF\n", "0123456789abcdef\n"] {
            fs::write(&path, bad).unwrap();
            assert_eq!(read_machine_id(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad:?}");
        }
        fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(read_machine_id(&path).unwrap(), "0123456789abcdef0123456789abcdef");
    }
}
