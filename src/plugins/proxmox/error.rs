//! Why a call of Proxmox VE's API failed, told apart by what helps.

use crate::model::Reason;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Nobody answered: the connection, TLS, or the time. `sent` = the request may have been carried out all the same.
    #[error("{why}")]
    Unreachable {
        /// Why.
        why: String,
        /// The request may have arrived.
        sent: bool,
    },
    /// The token is not taken (401).
    #[error("Proxmox VE does not take the token: it is wrong, expired or removed")]
    Unauthorized,
    /// The token may not do this (403).
    #[error("op-dbus's token may not do this: {0}")]
    Forbidden(String),
    /// The node that must do it does not answer (595, 596, 599).
    #[error("the node does not answer: {0}")]
    NodeAway(String),
    /// There is no such thing: the API has no 404.
    #[error("{0}")]
    Missing(String),
    /// A parameter is wrong (400), field by field.
    #[error("{0}")]
    Parameters(String),
    /// Somebody changed the configuration since it was read.
    #[error("the configuration was changed by somebody else meanwhile")]
    Digest,
    /// A lock is held, or the cluster has no quorum.
    #[error("{0}")]
    Busy(String),
    /// It refused for another reason.
    #[error("{0}")]
    Refused(String),
    /// A task ended badly.
    #[error("{0}")]
    Task(String),
    /// The answer is none that this API gives.
    #[error("the answer is none of Proxmox VE's: {0}")]
    Nonsense(String),
}

/// Texts of passing trouble: a lock, a time-out of the cluster's file system, no quorum.
const BUSY: [&str; 6] =
    ["got timeout", "is locked", "no quorum", "cluster not ready", "got lock request timeout", "Connection timed out"];

impl ApiError {
    /// What an answer that is no success means.
    pub(super) fn of_status(status: u16, text: &str) -> Self {
        let said = || if text.is_empty() { format!("HTTP status {status}") } else { text.to_owned() };
        match status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden(said()),
            400 => Self::Parameters(said()),
            595 | 596 | 599 => Self::NodeAway(said()),
            502..=504 => Self::Busy(said()),
            _ if text.contains("detected modified configuration") => Self::Digest,
            _ if BUSY.iter().any(|word| text.contains(word)) => Self::Busy(said()),
            _ if text.contains("does not exist") => Self::Missing(said()),
            _ => Self::Refused(said()),
        }
    }

    /// What a task's exit status means.
    pub(super) fn of_task(exit: &str) -> Self {
        if BUSY.iter().any(|word| exit.contains(word)) {
            return Self::Busy(exit.to_owned());
        }
        Self::Task(exit.to_owned())
    }

    /// Whether trying again may help, without anybody's doing.
    #[must_use]
    pub const fn may_retry(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NodeAway(_) | Self::Busy(_) | Self::Digest)
    }

    /// Whether it may have been carried out all the same.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Unreachable { sent: true, .. })
    }

    /// Whether the whole of it is away, not one node or one thing.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unauthorized)
    }

    /// The word for machines.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } | Self::Unauthorized => Reason::BackendAway,
            Self::Forbidden(_) => Reason::NotPermitted,
            Self::NodeAway(_) => Reason::NodeAway,
            Self::Missing(_) => Reason::Missing,
            Self::Digest => Reason::Contended,
            Self::Busy(text) if text.contains("locked") || text.contains("lock file") => Reason::Locked,
            Self::Task(text) if text.contains("locked") => Reason::Locked,
            Self::Task(_) => Reason::JobFailed,
            Self::Parameters(_) | Self::Busy(_) | Self::Refused(_) | Self::Nonsense(_) => Reason::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        for (status, text, error, retry) in [
            (401, "", ApiError::Unauthorized, false),
            (
                403,
                "Permission check failed (/vms/101, VM.Allocate)",
                ApiError::Forbidden("Permission check failed (/vms/101, VM.Allocate)".into()),
                false,
            ),
            (595, "No route to host", ApiError::NodeAway("No route to host".into()), true),
            (596, "", ApiError::NodeAway("HTTP status 596".into()), true),
            (500, "CT is locked (backup)", ApiError::Busy("CT is locked (backup)".into()), true),
            (
                500,
                "can't lock file '/run/lock/lxc/pve-config-101.lock' - got timeout",
                ApiError::Busy("can't lock file '/run/lock/lxc/pve-config-101.lock' - got timeout".into()),
                true,
            ),
            (500, "cluster not ready - no quorum?", ApiError::Busy("cluster not ready - no quorum?".into()), true),
            (500, "detected modified configuration - file changed by other user? Try again.", ApiError::Digest, true),
            (
                500,
                "Configuration file 'nodes/pve/lxc/101.conf' does not exist",
                ApiError::Missing("Configuration file 'nodes/pve/lxc/101.conf' does not exist".into()),
                false,
            ),
            (500, "CT 101 already running", ApiError::Refused("CT 101 already running".into()), false),
            (501, "", ApiError::Refused("HTTP status 501".into()), false),
        ] {
            let got = ApiError::of_status(status, text);
            assert_eq!(got, error);
            assert_eq!(got.may_retry(), retry, "{got}");
        }
        assert_eq!(ApiError::of_status(500, "CT is locked (backup)").reason(), Reason::Locked);
        assert_eq!(ApiError::of_task("CT is locked (snapshot)").reason(), Reason::Locked);
        assert_eq!(ApiError::of_task("startup for container '101' failed").reason(), Reason::JobFailed);
    }
}
