//! `org.opdbus.Container`: a container, declared or found.

use std::{collections::BTreeSet, sync::LazyLock};

use super::interface;
use crate::{
    bus::value::{Names, Path, Paths, Prop, Texts},
    model::{ContainerFacts, GuestFacts, Kind},
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
    /// Who runs it; nobody is known to where the join found ports and neither unit nor guest, or nothing at all.
    fn runtime(self) -> &'static str {
        let known = !self.facts.unit.is_empty() || self.facts.guest.is_some();
        if known { self.facts.runtime.as_str() } else { "" }
    }
}

/// What a container without a runtime of its own shows.
static NO_GUEST: LazyLock<GuestFacts> = LazyLock::new(GuestFacts::default);

impl<'a> ContainerView<'a> {
    fn guest(self) -> &'a GuestFacts {
        self.facts.guest.as_deref().unwrap_or(&NO_GUEST)
    }

    fn addresses(self) -> &'a BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        self.guest().settings.as_ref().map_or(&NONE, |settings| &settings.addresses)
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
        "Node" True => Prop::Text(&container.guest().node),
        "Cores" True => Prop::U32(container.guest().cores),
        "Memory" True => Prop::U64(container.guest().memory_bytes),
        "Swap" True => Prop::U64(container.guest().swap_bytes),
        "Unprivileged" True => Prop::Bool(container.guest().settings.as_ref().is_some_and(|held| held.unprivileged)),
        "Tags" True => Prop::Texts(Texts(&container.guest().tags)),
        "Lock" True => Prop::Text(&container.guest().lock),
        "Addresses" True => Prop::Texts(Texts(container.addresses())),
    }
}
