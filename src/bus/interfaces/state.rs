//! `org.opdbus.State`: the desired state as a whole.

use super::{interface, job_or_none};
use crate::{bus::value::Prop, desired::SCHEMA_VERSION, model::StateFacts};

interface! {
    "org.opdbus.State";
    methods {
        "SetDesiredState"("s"),
        "SetDesiredStateWithOptions"("sa{sv}"),
        "AdoptStateFile"("a{sv}"),
        "Validate"("sa{sv}"),
        "Plan"("sa{sv}"),
        "Reconcile"("a{sv}"),
        "ListGenerations"("a{sv}"),
        "GetDesiredState"("ta{sv}"),
        "ExportState"("asa{sv}"),
        "ListResources"("a{sv}sua{sv}"),
    }
    properties<'a>(state: &'a StateFacts) {
        "Version" Const => Prop::Text(env!("CARGO_PKG_VERSION")),
        "SchemaVersion" Const => Prop::U32(SCHEMA_VERSION),
        "Generation" True => Prop::U64(state.generation),
        "ObservedGeneration" True => Prop::U64(state.observed_generation),
        "InSync" True => Prop::Bool(state.in_sync),
        "Managed" True => Prop::U32(state.managed),
        "Drifted" True => Prop::U32(state.drifted),
        "Failed" True => Prop::U32(state.failed),
        "Blocked" True => Prop::U32(state.blocked),
        "Unknown" True => Prop::U32(state.unknown),
        "Pending" True => Prop::U32(state.pending),
        "DriftPolicy" True => Prop::Text(state.drift_policy.as_str()),
        "CurrentJob" True => job_or_none(state.current_job),
        "LastJob" True => job_or_none(state.last_job),
        "LastReconcileUSec" True => Prop::U64(state.last_reconcile_usec),
        "StateSource" True => Prop::Text(state.source.as_str()),
        "StateFileStatus" True => Prop::Text(state.file_status.as_str()),
        "StateFileMessage" True => Prop::Text(&state.file_message),
        "JobsTotal" True => Prop::U64(state.jobs_total),
        "JobsFailed" True => Prop::U64(state.jobs_failed),
        "DriftsTotal" True => Prop::U64(state.drifts_total),
    }
}
