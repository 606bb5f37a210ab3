//! Errors: why a call is refused, and why the bus could not be served.

use crate::reconcile::CoreError;

/// Why a call was refused. Each message stands alone: `busctl` prints the message and never the name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The core refused.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The caller may not.
    #[error("{0}")]
    NotAuthorized(String),
    /// Polkit wants to ask somebody, and the caller did not allow that.
    #[error("{0}")]
    InteractionRequired(String),
    /// There is no such object.
    #[error("there is no object {0} on org.opdbus")]
    UnknownObject(String),
    /// The object has no such interface.
    #[error("the object {path} has no interface {interface}")]
    UnknownInterface {
        /// The object.
        path: String,
        /// The interface.
        interface: String,
    },
    /// The interface has no such method.
    #[error("{what} has no method {method}")]
    UnknownMethod {
        /// The interface, or the object where the call names no interface.
        what: String,
        /// The method.
        method: String,
    },
    /// The interface has no such property.
    #[error("{what} has no property {property}")]
    UnknownProperty {
        /// The interface, or the object where the call names no interface.
        what: String,
        /// The property.
        property: String,
    },
    /// The property cannot be set.
    #[error("{0} is read-only: what the host shall be is said by SetDesiredState")]
    ReadOnly(String),
    /// The arguments are wrong.
    #[error("{0}")]
    InvalidArgs(String),
    /// The machine has no /etc/machine-id.
    #[error("this machine has no id: /etc/machine-id is missing or empty")]
    NoMachineId,
}

impl CallError {
    /// Its name on the bus.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Core(CoreError::InvalidDocument(_)) => "org.opdbus.Error.InvalidDocument",
            Self::Core(CoreError::Busy(_)) => "org.opdbus.Error.Busy",
            Self::Core(CoreError::NotFound(_)) => "org.opdbus.Error.NotFound",
            Self::Core(CoreError::Conflict(_)) => "org.opdbus.Error.Conflict",
            Self::Core(CoreError::Unavailable(_)) => "org.opdbus.Error.Unavailable",
            Self::Core(CoreError::Failed(_)) => "org.opdbus.Error.Failed",
            Self::Core(CoreError::TooLarge(_)) => "org.opdbus.Error.TooLarge",
            Self::NotAuthorized(_) => "org.opdbus.Error.NotAuthorized",
            Self::InteractionRequired(_) => "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
            Self::UnknownObject(_) => "org.freedesktop.DBus.Error.UnknownObject",
            Self::UnknownInterface { .. } => "org.freedesktop.DBus.Error.UnknownInterface",
            Self::UnknownMethod { .. } => "org.freedesktop.DBus.Error.UnknownMethod",
            Self::UnknownProperty { .. } => "org.freedesktop.DBus.Error.UnknownProperty",
            Self::ReadOnly(_) => "org.freedesktop.DBus.Error.PropertyReadOnly",
            Self::InvalidArgs(_) => "org.freedesktop.DBus.Error.InvalidArgs",
            Self::NoMachineId => "org.freedesktop.DBus.Error.FileNotFound",
        }
    }

    /// There is no such resource, generation or job.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::Core(CoreError::NotFound(what.into()))
    }

    /// The caller has too much under way.
    pub(crate) fn busy(what: impl Into<String>) -> Self {
        Self::Core(CoreError::Busy(what.into()))
    }

    /// Over a limit.
    pub(crate) fn too_large(what: impl Into<String>) -> Self {
        Self::Core(CoreError::TooLarge(what.into()))
    }

    /// op-dbus is about to end.
    pub(crate) fn ending() -> Self {
        Self::Core(CoreError::Unavailable("op-dbus is about to end; call again once it is back".to_owned()))
    }
}

/// Why the bus is not served (any more). The process ends: its supervisor starts it anew.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No connection to the bus could be made. Trying again may help once the bus runs.
    #[error("cannot connect to the bus: {0}")]
    Connect(#[source] zbus::Error),
    /// Another process owns the name. Trying again helps once that one has ended.
    #[error("another process owns the name {} on this bus", super::NAME)]
    NameTaken,
    /// The bus did not give the name: its policy forbids it to this user.
    #[error("the bus did not give the name {name}: {0}", name = super::NAME)]
    NameRefused(#[source] zbus::Error),
    /// Somebody took the name away.
    #[error("the name {} was lost", super::NAME)]
    NameLost,
    /// The connection broke: the bus ended, or threw this process off.
    #[error("the connection to the bus was lost: {0}")]
    Lost(String),
    /// The bus stopped taking messages: clients that do not read have used up what it holds for one sender. A new
    /// connection starts from nothing.
    #[error("the bus took no message for {0} seconds")]
    Stalled(u64),
}

impl BusError {
    /// Whether starting anew may help, without anybody's doing.
    #[must_use]
    pub const fn may_retry(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::NameLost | Self::Lost(_) | Self::Stalled(_))
    }
}
