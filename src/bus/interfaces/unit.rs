//! `org.opdbus.Unit`: a declared systemd unit.

use super::interface;
use crate::{
    bus::value::{Path, Prop},
    model::UnitFacts,
};

/// What a unit's object shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitView<'a> {
    /// The name that was asked for.
    pub(super) name: &'a str,
    /// What systemd says.
    pub(super) facts: &'a UnitFacts,
}

interface! {
    "org.opdbus.Unit";
    methods {}
    properties<'a>(unit: UnitView<'a>) {
        "Id" True => Prop::Text(if unit.facts.id.is_empty() { unit.name } else { &unit.facts.id }),
        "Description" True => Prop::Text(&unit.facts.description),
        "LoadState" True => Prop::Text(&unit.facts.load_state),
        "ActiveState" True => Prop::Text(&unit.facts.active_state),
        "SubState" True => Prop::Text(&unit.facts.sub_state),
        "UnitFileState" True => Prop::Text(&unit.facts.unit_file_state),
        "Result" True => Prop::Text(&unit.facts.result),
        "UnitPath" True => Prop::Path(Path::foreign(&unit.facts.unit_path)),
        "ActiveEnterUSec" True => Prop::U64(unit.facts.active_enter_usec),
        "Restarts" True => Prop::U32(unit.facts.restarts),
        "NeedDaemonReload" True => Prop::Bool(unit.facts.need_daemon_reload),
    }
}
