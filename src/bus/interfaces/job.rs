//! `org.opdbus.Job`: one job, running or recent.

use super::interface;
use crate::{
    bus::value::{Path, Prop, Steps},
    model::JobFacts,
};

interface! {
    "org.opdbus.Job";
    methods { "Wait"(""), "Cancel"("a{sv}") }
    properties<'a>(job: &'a JobFacts) {
        "Generation" True => Prop::U64(job.generation),
        "Kind" Const => Prop::Text(job.kind.as_str()),
        "Target" Const => Prop::Path(Path::Subject(&job.target)),
        "State" True => Prop::Text(job.state.as_str()),
        "Result" True => Prop::Text(job.result.map_or("", |result| result.as_str())),
        "Message" True => Prop::Text(&job.message),
        "Progress" True => Prop::F64(job.progress),
        "Steps" Invalidates => Prop::Steps(Steps(&job.steps)),
        "StartedUSec" True => Prop::U64(job.started_usec),
        "FinishedUSec" True => Prop::U64(job.finished_usec),
        "CallerUid" Const => Prop::U32(job.caller_uid),
    }
}
