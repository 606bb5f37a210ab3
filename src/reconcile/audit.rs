//! The audit trail: one journal entry for each change and each job, with fields (see dist/op-dbus.catalog).

use super::Caller;
use crate::{
    model::{JobId, JobKind, JobResult, Reason, StepState},
    plan::Step,
};

/// MESSAGE_ID of a step that came to its end.
pub(super) const STEP_MESSAGE_ID: &str = "3f1c0a3c5f4e4a6f8f2d7f5a2f6f9b01";

/// MESSAGE_ID of a job that finished.
pub(super) const JOB_MESSAGE_ID: &str = "9a4b6d6d2c7f4f0c9a3f0e7b8c5d1e02";

/// One step came to its end.
pub(super) fn step(
    generation: u64,
    job: JobId,
    caller: &Caller,
    step: &Step,
    state: StepState,
    reason: Reason,
    message: &str,
) {
    let from: Vec<String> = step.changes.iter().map(|change| format!("{}={}", change.field, change.observed)).collect();
    let to: Vec<String> = step.changes.iter().map(|change| format!("{}={}", change.field, change.desired)).collect();
    let level_is_warning = matches!(state, StepState::Failed | StepState::Blocked);
    let (from, to) = (from.join(", "), to.join(", "));
    let changes: Vec<String> = step.changes.iter().map(ToString::to_string).collect();
    let changes = if changes.is_empty() { String::new() } else { format!(" ({})", changes.join(", ")) };
    let summary = step.summary();
    let (uid, pid, unit) = (caller.uid, caller.pid.unwrap_or(0), caller.unit.as_deref().unwrap_or(""));
    if level_is_warning {
        tracing::warn!(message_id = STEP_MESSAGE_ID, uid, pid, unit, generation, job, resource = %step.subject,
            action = step.action.as_str(), from, to, result = state.as_str(), reason = reason.as_str(),
            "{summary}{changes}: {state}: {message}");
    } else {
        tracing::info!(message_id = STEP_MESSAGE_ID, uid, pid, unit, generation, job, resource = %step.subject,
            action = step.action.as_str(), from, to, result = state.as_str(), "{summary}{changes}: {state}");
    }
}

/// One job finished.
pub(super) fn job(generation: u64, job: JobId, kind: JobKind, caller: &Caller, result: JobResult, message: &str) {
    let (uid, pid, unit) = (caller.uid, caller.pid.unwrap_or(0), caller.unit.as_deref().unwrap_or(""));
    tracing::info!(
        message_id = JOB_MESSAGE_ID,
        uid,
        pid,
        unit,
        generation,
        job,
        kind = kind.as_str(),
        result = result.as_str(),
        "job {job} ({kind}) of generation {generation}: {result}: {message}"
    );
}
