//! Calls to systemd, and why they fail.

use std::time::Duration;

use zbus::{
    DynamicType, Message,
    message::{Flags, Type},
};

use crate::plugins::PluginError;

/// systemd's name on the bus.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";

/// The Manager's path.
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

/// The Manager's interface.
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// The standard interface of properties.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// systemd, or the bus, is not there.
    #[error("systemd is away: {0}")]
    Away(String),
    /// No answer came in time.
    #[error("systemd did not answer {member} within {limit:?}")]
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
            Self::Refused { name, .. } => matches!(
                name.as_str(),
                "org.freedesktop.DBus.Error.NoReply"
                    | "org.freedesktop.DBus.Error.Timeout"
                    | "org.freedesktop.DBus.Error.ServiceUnknown"
                    | "org.freedesktop.DBus.Error.NameHasNoOwner"
                    | "org.freedesktop.DBus.Error.Disconnected"
                    | "org.freedesktop.DBus.Error.LimitsExceeded"
                    | "org.freedesktop.systemd1.ShuttingDown"
            ),
            Self::Malformed(_) => false,
        }
    }
}

impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<CallError> for PluginError {
    fn from(error: CallError) -> Self {
        let why = error.to_string();
        if error.may_retry() {
            Self::Away { plugin: super::NAME, why }
        } else {
            Self::Refused { plugin: super::NAME, why }
        }
    }
}

/// A call of a method of systemd's. It never starts systemd: where that is not running, nothing can be asked.
pub(super) fn method<B: serde::Serialize + DynamicType>(
    path: &str,
    interface: &str,
    member: &str,
    body: &B,
) -> Result<Message, CallError> {
    let message = Message::method_call(path, member).destination(SYSTEMD).interface(interface);
    Ok(message.with_flags(Flags::NO_AUTO_START).build(body)?)
}

/// A call of a method of the Manager's.
pub(super) fn manager<B: serde::Serialize + DynamicType>(member: &str, body: &B) -> Result<Message, CallError> {
    method(MANAGER_PATH, MANAGER, member, body)
}

/// What a reply brings: itself, or the error that it is.
pub(super) fn reply_of(message: Message) -> Result<Message, CallError> {
    if message.message_type() != Type::Error {
        return Ok(message);
    }
    let name = message.header().error_name().map(ToString::to_string).unwrap_or_default();
    let text: String = message.body().deserialize().unwrap_or_default();
    Err(CallError::Refused { message: if text.is_empty() { name.clone() } else { text }, name })
}
