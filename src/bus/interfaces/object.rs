//! `org.opdbus.Object`: a declared object of another D-Bus service.

use super::interface;
use crate::{
    bus::value::{Path, Prop, TypedMap},
    model::ObjectFacts,
};

/// What an object's object shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObjectView<'a> {
    /// What its service says.
    pub(super) facts: &'a ObjectFacts,
}

interface! {
    "org.opdbus.Object";
    methods {}
    properties<'a>(object: ObjectView<'a>) {
        "Service" True => Prop::Text(&object.facts.service),
        "ObjectPath" True => Prop::Path(Path::foreign(&object.facts.path)),
        "Interface" True => Prop::Text(&object.facts.interface),
        "Properties" True => Prop::Typed(TypedMap(&object.facts.properties)),
        "DriftVisible" True => Prop::Bool(object.facts.drift_visible),
    }
}
