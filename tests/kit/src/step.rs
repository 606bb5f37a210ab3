//! What plugins tell of steps.

use op_dbus::model::{Reason, StepState};

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its final state.
    pub state: StepState,
    /// Why, for machines.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// Trying again may help.
    pub retry: bool,
    /// Something was written.
    pub wrote: bool,
}
