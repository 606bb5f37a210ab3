//! Calls to systemd-machined, systemd-importd and the bus, and why they fail.

use std::time::Duration;

use zbus::{Connection, DBusError as _, DynamicType, Message};

/// systemd-machined: images and the machines that run.
pub(super) const MACHINED: &str = "org.freedesktop.machine1";
/// Its object.
pub(super) const MACHINED_PATH: &str = "/org/freedesktop/machine1";
/// Its interface.
pub(super) const MACHINED_MANAGER: &str = "org.freedesktop.machine1.Manager";
/// A machine's interface.
pub(super) const MACHINE: &str = "org.freedesktop.machine1.Machine";

/// systemd-importd: images that come from elsewhere.
pub(super) const IMPORTD: &str = "org.freedesktop.import1";
/// Its object.
pub(super) const IMPORTD_PATH: &str = "/org/freedesktop/import1";
/// Its interface.
pub(super) const IMPORTD_MANAGER: &str = "org.freedesktop.import1.Manager";
/// A transfer's interface.
pub(super) const TRANSFER: &str = "org.freedesktop.import1.Transfer";

/// systemd, of which it is asked that it forgets the settings of a unit whose container is no more.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";

/// The bus itself.
pub(super) const DBUS: &str = "org.freedesktop.DBus";
/// Its object.
pub(super) const DBUS_PATH: &str = "/org/freedesktop/DBus";
/// The standard interface of properties.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How long a call may take that reads, or only begins something: what D-Bus libraries wait by default. A service that
/// is not running is started by the first call.
pub(super) const SHORT: Duration = Duration::from_secs(25);

/// How long a call may take that copies or removes an image, which systemd-machined answers when it is done: a copy of
/// some tens of GiB where the file system cannot share.
pub(super) const LONG: Duration = Duration::from_secs(60 * 60);

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The bus is not there, or the service left it before it answered.
    #[error("{0}")]
    Away(String),
    /// There is no such service on this machine.
    #[error("{0} is not installed (the package systemd-container brings it)")]
    NotInstalled(&'static str),
    /// No answer came in time.
    #[error("no answer to {member} within {limit:?}")]
    TimedOut {
        /// The method.
        member: String,
        /// The bound.
        limit: Duration,
    },
    /// It answered with an error.
    #[error("{message}")]
    Refused {
        /// The error's name.
        name: String,
        /// The error's text.
        message: String,
    },
    /// What was sent or came back is not what the method says.
    #[error("D-Bus: {0}")]
    Malformed(String),
}

impl CallError {
    /// Whether trying again may help, without anybody's doing.
    pub(super) fn may_retry(&self) -> bool {
        match self {
            Self::Away(_) | Self::TimedOut { .. } => true,
            // Another does something with the same image.
            Self::Refused { .. } => self.is_busy(),
            Self::NotInstalled(_) | Self::Malformed(_) => false,
        }
    }

    /// Whether the image is in use: by a machine that runs, or by a copy under way.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { name, .. } if name == "System.Error.EBUSY")
    }

    /// Whether an image of that name is there already.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Refused { name, .. } if matches!(name.as_str(),
            "System.Error.EEXIST" | "org.freedesktop.DBus.Error.FileExists"))
    }

    /// Whether there is no such image.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused { name, .. } if name == "org.freedesktop.machine1.NoSuchImage")
    }

    /// Of a call of that service.
    fn of(error: &zbus::Error, service: &'static str) -> Self {
        let (name, text) = match error {
            zbus::Error::MethodError(name, text, _) => (name.to_string(), text.clone().unwrap_or_default()),
            // So zbus has those of D-Bus itself.
            zbus::Error::FDO(error) => (error.name().to_string(), error.description().unwrap_or_default().to_owned()),
            zbus::Error::InputOutput(_) | zbus::Error::Handshake(_) => {
                return Self::Away(format!("the bus is out of reach: {error}"));
            }
            other => return Self::Malformed(other.to_string()),
        };
        Self::refused(&name, &text, service)
    }

    /// Of an error with that name and text, in answer to a call of that service.
    fn refused(name: &str, text: &str, service: &'static str) -> Self {
        let message = if text.is_empty() { name.to_owned() } else { text.to_owned() };
        match name {
            "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.systemd1.NoSuchUnit"
            | "org.freedesktop.DBus.Error.Spawn.ServiceNotFound" => Self::NotInstalled(service),
            "org.freedesktop.DBus.Error.NoReply"
            | "org.freedesktop.DBus.Error.Timeout"
            | "org.freedesktop.DBus.Error.TimedOut"
            | "org.freedesktop.DBus.Error.NameHasNoOwner"
            | "org.freedesktop.DBus.Error.Disconnected"
            | "org.freedesktop.DBus.Error.LimitsExceeded" => Self::Away(message),
            name => Self::Refused { name: name.to_owned(), message },
        }
    }
}

impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> Self {
        Self::of(&error, "the service")
    }
}

/// Calls a method of a service's, and waits that long at most. The service is started if it is not running: these two
/// end when nobody has needed them for a while.
pub(super) async fn call<B: serde::Serialize + DynamicType + Sync>(
    connection: &Connection,
    (service, path, interface): (&'static str, &str, &str),
    member: &str,
    body: &B,
    limit: Duration,
) -> Result<Message, CallError> {
    let called = connection.call_method(Some(service), path, Some(interface), member, body);
    match tokio::time::timeout(limit, called).await {
        Ok(result) => result.map_err(|error| CallError::of(&error, service)),
        Err(_) => Err(CallError::TimedOut { member: member.to_owned(), limit }),
    }
}

/// Calls a method of systemd-machined's.
pub(super) async fn machined<B: serde::Serialize + DynamicType + Sync>(
    connection: &Connection,
    member: &str,
    body: &B,
    limit: Duration,
) -> Result<Message, CallError> {
    call(connection, (MACHINED, MACHINED_PATH, MACHINED_MANAGER), member, body, limit).await
}

/// Calls a method of systemd-importd's.
pub(super) async fn importd<B: serde::Serialize + DynamicType + Sync>(
    connection: &Connection,
    member: &str,
    body: &B,
) -> Result<Message, CallError> {
    call(connection, (IMPORTD, IMPORTD_PATH, IMPORTD_MANAGER), member, body, SHORT).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors as systemd 252 and the buses give them.
    #[test]
    fn errors_are_told_apart() {
        let of = |name: &str, text: &str| CallError::refused(name, text, MACHINED);
        assert!(of("org.freedesktop.DBus.Error.FileExists", "File exists").is_taken());
        assert!(of("org.freedesktop.machine1.NoSuchImage", "No image 'x' known").is_unknown());
        let busy = of("System.Error.EBUSY", "Device or resource busy");
        assert!(busy.is_busy() && busy.may_retry());
        let missing = of("org.freedesktop.DBus.Error.ServiceUnknown", "The name is not activatable");
        assert_eq!(missing, CallError::NotInstalled(MACHINED));
        assert!(!missing.may_retry() && of("org.freedesktop.DBus.Error.NoReply", "").may_retry());
        assert!(!of("org.freedesktop.DBus.Error.NotSupported", "Operation not supported").may_retry());
    }

    #[test]
    fn an_error_of_dbus_itself_has_its_name() {
        let error = zbus::Error::FDO(Box::new(zbus::fdo::Error::FileExists("File exists".to_owned())));
        assert!(CallError::of(&error, MACHINED).is_taken());
    }
}
