//! `org.opdbus.Resource`: what a monitor watches, the same on all.

use super::interface;
use crate::{
    bus::value::{Differences, Prop},
    model::{ResourceFacts, ResourceId},
};

/// What every resource shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResourceView<'a> {
    /// Which.
    pub(super) id: &'a ResourceId,
    /// Where it stands.
    pub(super) facts: &'a ResourceFacts,
}

interface! {
    "org.opdbus.Resource";
    methods { "Reconcile"("a{sv}") }
    properties<'a>(resource: ResourceView<'a>) {
        "Kind" Const => Prop::Text(resource.id.kind.as_str()),
        "Name" Const => Prop::Text(&resource.id.name),
        "Managed" True => Prop::Bool(resource.facts.managed),
        "Present" True => Prop::Bool(resource.facts.present),
        "InSync" True => Prop::Bool(resource.facts.in_sync),
        "Owned" True => Prop::Bool(resource.facts.owned),
        "Status" True => Prop::Text(resource.facts.status.as_str()),
        "Reason" True => Prop::Text(resource.facts.reason.as_str()),
        "Message" True => Prop::Text(&resource.facts.message),
        "Differences" True => Prop::Differences(Differences(&resource.facts.differences)),
        "DriftPolicy" True => Prop::Text(resource.facts.drift_policy.as_str()),
        "ObservedGeneration" True => Prop::U64(resource.facts.observed_generation),
        "LastTransitionUSec" True => Prop::U64(resource.facts.last_transition_usec),
    }
}
