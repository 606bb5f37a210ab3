//! What a step came to.

use crate::{
    model::{Reason, StepState},
    plugins::systemd::call::CallError,
};

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) state: StepState,
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) retry: bool,
    pub(super) wrote: bool,
}

impl Outcome {
    /// It held already.
    pub(super) const fn held() -> Self {
        Self { state: StepState::Done, reason: Reason::None, message: String::new(), retry: false, wrote: false }
    }

    /// It was written and holds.
    pub(super) const fn done() -> Self {
        Self { state: StepState::Done, reason: Reason::None, message: String::new(), retry: false, wrote: true }
    }

    /// It cannot be attempted.
    pub(super) const fn blocked(reason: Reason, message: String) -> Self {
        Self { state: StepState::Blocked, reason, message, retry: false, wrote: false }
    }

    /// It did not come to hold.
    pub(super) const fn failed(reason: Reason, message: String) -> Self {
        Self { state: StepState::Failed, reason, message, retry: false, wrote: false }
    }

    /// Something was written on the way.
    pub(super) const fn after_writing(mut self) -> Self {
        self.wrote = true;
        self
    }

    /// Trying again may help.
    pub(super) const fn worth_a_retry(mut self) -> Self {
        self.retry = true;
        self
    }
}

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
