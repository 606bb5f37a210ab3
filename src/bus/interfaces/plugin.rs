//! `org.opdbus.Plugin`: a backend, connected or why not.

use super::interface;
use crate::{bus::value::Prop, model::PluginFacts};

/// What a plugin's object shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PluginView<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// What it says.
    pub(super) facts: &'a PluginFacts,
}

interface! {
    "org.opdbus.Plugin";
    methods {}
    properties<'a>(plugin: PluginView<'a>) {
        "Name" Const => Prop::Text(plugin.name),
        "Status" True => Prop::Text(plugin.facts.backend.status.as_str()),
        "Message" True => Prop::Text(&plugin.facts.backend.message),
        "BackendVersion" True => Prop::Text(&plugin.facts.backend.version),
        "Resources" True => Prop::U32(plugin.facts.resources),
        "Reconnects" True => Prop::U32(plugin.facts.backend.reconnects),
        "UpdatesAvailable" True => Prop::U32(plugin.facts.updates_available),
        "LastEventUSec" False => Prop::U64(plugin.facts.last_event_usec),
    }
}
