//! `org.opdbus.Container`: a container, declared or found.

use super::interface;
use crate::{
    bus::value::{Names, Path, Paths, Prop},
    model::{ContainerFacts, Kind},
};

/// What a container's object shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContainerView<'a> {
    /// Its id.
    pub(super) id: &'a str,
    /// What the join found.
    pub(super) facts: &'a ContainerFacts,
}

impl ContainerView<'_> {
    /// Who runs it; nobody is known to where the join found ports and no unit, or nothing at all.
    fn runtime(self) -> &'static str {
        if self.facts.unit.is_empty() { "" } else { self.facts.runtime.as_str() }
    }
}

interface! {
    "org.opdbus.Container";
    methods { "Start"("a{sv}"), "Stop"("a{sv}"), "Restart"("a{sv}") }
    properties<'a>(container: ContainerView<'a>) {
        "Id" Const => Prop::Text(container.id),
        "Name" True => Prop::Text(if container.facts.name.is_empty() { container.id } else { &container.facts.name }),
        "Runtime" True => Prop::Text(container.runtime()),
        "Unit" True => Prop::Text(&container.facts.unit),
        "UnitPath" True => Prop::Path(Path::foreign(&container.facts.unit_path)),
        "ActiveState" True => Prop::Text(&container.facts.active_state),
        "SubState" True => Prop::Text(&container.facts.sub_state),
        "Running" True => Prop::Bool(container.facts.running),
        "Ports" Invalidates => Prop::Paths(Paths(Kind::Port, Names::Plain(&container.facts.ports))),
        "Bridges" Invalidates => Prop::Paths(Paths(Kind::Bridge, Names::Plain(&container.facts.bridges))),
        "OnBoot" True => Prop::Bool(container.facts.on_boot),
    }
}
