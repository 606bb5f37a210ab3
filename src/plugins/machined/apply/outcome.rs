//! What a step came to.

use crate::{
    model::{Reason, StepState},
    plugins::machined::{call::CallError, settings::store::StoreError},
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
    /// It holds.
    pub(super) const fn done(wrote: bool) -> Self {
        Self { state: StepState::Done, reason: Reason::None, message: String::new(), retry: false, wrote }
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
            CallError::NotInstalled(_) => Self::blocked(Reason::NotSupported, message),
            CallError::Malformed(_) => Self::failed(Reason::Internal, message),
            error if error.is_busy() => {
                Self::failed(Reason::Locked, format!("the image is in use by another: {message}"))
            }
            error if error.is_unknown() => Self::blocked(Reason::SourceMissing, message),
            CallError::Refused { .. } => Self::failed(Reason::Refused, message),
        };
        Self { retry, ..outcome }
    }
}

impl From<StoreError> for Outcome {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Foreign(_) => Self::blocked(Reason::NameTaken, error.to_string()),
            StoreError::Disk { .. } => Self::failed(Reason::Refused, error.to_string()),
        }
    }
}
