//! What an error of systemd-machined's, or of the disk, makes of a step.

use crate::{
    model::Reason,
    plugins::{
        machined::{call::CallError, settings::store::StoreError},
        steps::Outcome,
    },
};

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
