//! What an error of systemd's makes of a step.

use crate::{
    model::Reason,
    plugins::{steps::Outcome, systemd::call::CallError},
};

impl From<CallError> for Outcome {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        let retry = error.may_retry();
        let outcome = match &error {
            CallError::Away(_) => Self::failed(Reason::BackendAway, message),
            CallError::TimedOut { .. } => Self::failed(Reason::TimedOut, message),
            CallError::Malformed(_) => Self::failed(Reason::Internal, message),
            CallError::Refused { name, .. } => match name.strip_prefix("org.freedesktop.systemd1.") {
                Some("NoSuchUnit") => Self::blocked(Reason::UnitNotFound, message),
                Some("UnitMasked") => Self::blocked(Reason::UnitMasked, message),
                Some("LoadFailed" | "BadUnitSetting") => Self::blocked(Reason::UnitBroken, message),
                _ if retry => Self::failed(Reason::BackendAway, message),
                _ => Self::failed(Reason::Refused, message),
            },
        };
        Self { retry, ..outcome }
    }
}
