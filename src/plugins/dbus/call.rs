//! Calls to services, and why they fail.

use std::time::Duration;

use zbus::{
    DynamicType, Message,
    message::{Flags, Type},
};

use crate::{
    model::{Name, Reason},
    plugins::PluginError,
    typed::{Mismatch, body, sequence},
};

/// The bus itself.
pub(super) const DBUS: &str = "org.freedesktop.DBus";

/// The object of the bus itself.
pub(super) const DBUS_PATH: &str = "/org/freedesktop/DBus";

/// The standard interface of properties.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The bus is not there.
    #[error("the bus is away: {0}")]
    Away(String),
    /// The document in force declares the object otherwise than the one before, or not at all.
    #[error("a newer document declares {0} otherwise, or not at all")]
    Superseded(Name),
    /// No answer came in time.
    #[error("{service} did not answer {member} within {limit:?}")]
    TimedOut {
        /// Who was called.
        service: String,
        /// The method.
        member: String,
        /// The bound.
        limit: Duration,
    },
    /// It answered with an error.
    #[error("{message} ({name})")]
    Refused {
        /// The error's name.
        name: String,
        /// The error's text.
        message: String,
    },
    /// What was to be sent or came back is not what the method says.
    #[error("D-Bus: {0}")]
    Malformed(String),
}

impl CallError {
    /// Whether trying again may help, without anybody's doing.
    pub(super) fn may_retry(&self) -> bool {
        match self {
            Self::Away(_) | Self::Superseded(_) | Self::TimedOut { .. } => true,
            Self::Refused { .. } => self.is_absence(),
            Self::Malformed(_) => false,
        }
    }

    /// Nobody is there who could answer, or he went away over it.
    pub(super) fn is_absence(&self) -> bool {
        self.is_one_of(&[
            "NoReply",
            "Timeout",
            "TimedOut",
            "ServiceUnknown",
            "NameHasNoOwner",
            "Disconnected",
            "LimitsExceeded",
            "Spawn.ChildExited",
            "Spawn.ChildSignaled",
            "Spawn.ExecFailed",
            "Spawn.Failed",
            "Spawn.FailedToSetup",
            "Spawn.ServiceNotFound",
        ])
    }

    /// The service has no such object or interface.
    pub(super) fn is_nothing_there(&self) -> bool {
        self.is_one_of(&["UnknownObject", "UnknownMethod", "UnknownInterface"])
    }

    fn is_one_of(&self, errors: &[&str]) -> bool {
        let Self::Refused { name, .. } = self else { return false };
        let standard = name.strip_prefix("org.freedesktop.DBus.Error.");
        standard.is_some_and(|name| errors.contains(&name))
    }

    /// For machines.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Away(_) => Reason::BackendAway,
            Self::Superseded(_) => Reason::Differs,
            Self::TimedOut { .. } => Reason::TimedOut,
            Self::Refused { .. } if self.is_absence() => Reason::ServiceAway,
            Self::Refused { .. } => Reason::Refused,
            Self::Malformed(_) => Reason::Internal,
        }
    }
}

impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<Mismatch> for CallError {
    fn from(error: Mismatch) -> Self {
        Self::Malformed(format!("argument {}: {error}", error.pointer))
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

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) service: &'a str,
    pub(super) path: &'a str,
    /// The bus may start the service.
    pub(super) activate: bool,
}

/// A call of a method.
pub(super) fn method<B: serde::Serialize + DynamicType>(
    to: To<'_>,
    interface: &str,
    member: &str,
    body: &B,
) -> Result<Message, CallError> {
    let message = Message::method_call(to.path, member).destination(to.service).interface(interface);
    let message = if to.activate { message } else { message.with_flags(Flags::NO_AUTO_START) };
    Ok(message.build(body)?)
}

/// A call with arguments as a document has them, of these types.
pub(super) fn typed_method(
    to: To<'_>,
    interface: &str,
    member: &str,
    args: &[serde_json::Value],
    signature: &str,
) -> Result<Message, CallError> {
    let types = sequence(signature)
        .ok_or_else(|| CallError::Malformed(format!("{interface}.{member} has the signature {signature:?}")))?;
    if types.len() != args.len() {
        let (taken, given) = (types.len(), args.len());
        let why = format!("{interface}.{member} takes {taken} arguments ({signature:?}), and {given} are given");
        return Err(CallError::Malformed(why));
    }
    match body(args, &types)? {
        Some(body) => method(to, interface, member, &body),
        None => method(to, interface, member, &()),
    }
}

/// A call of the bus itself.
pub(super) fn driver(member: &str, argument: &str) -> Result<Message, CallError> {
    method(To { service: DBUS, path: DBUS_PATH, activate: true }, DBUS, member, &argument)
}

/// What a reply brings: itself, or the error that it is.
pub(super) fn reply_of(message: Message) -> Result<Message, CallError> {
    if message.message_type() != Type::Error {
        return Ok(message);
    }
    let name = message.header().error_name().map(ToString::to_string).unwrap_or_default();
    let text: String = message.body().deserialize().unwrap_or_default();
    Err(CallError::Refused { message: if text.is_empty() { "refused".to_owned() } else { text }, name })
}
