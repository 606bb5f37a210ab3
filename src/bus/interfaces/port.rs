//! `org.opdbus.Port`: an Open vSwitch port.

use std::sync::LazyLock;

use super::interface;
use crate::{
    bus::value::{Interfaces, Map, Path, Prop, Vlans, of_port},
    model::{InterfaceFacts, Kind, NO_TAG, Name, PortFacts},
};

/// What a port's object shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PortView<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its row.
    pub(super) facts: &'a PortFacts,
    /// The container it serves.
    pub(super) container: Option<&'a Name>,
    /// That container says the port outlived it.
    pub(super) outlived: bool,
}

impl<'a> PortView<'a> {
    /// The interface that stands for the port: the one that bears its name, or the first.
    fn interface(self) -> &'a InterfaceFacts {
        static NONE: LazyLock<InterfaceFacts> = LazyLock::new(InterfaceFacts::default);
        let rows = &self.facts.interfaces;
        rows.iter().find(|row| row.name == self.name).or_else(|| rows.first()).unwrap_or(&NONE)
    }

    /// It is in the database and carries nothing: its container is gone, or the devices of all its interfaces are.
    fn stale(self) -> bool {
        self.outlived || self.facts.device_gone()
    }
}

interface! {
    "org.opdbus.Port";
    methods {}
    properties<'a>(port: PortView<'a>) {
        "Name" Const => Prop::Text(port.name),
        "Bridge" True => Prop::Path(resource_or_none(Kind::Bridge, Some(&port.facts.bridge))),
        "Container" True => Prop::Path(resource_or_none(Kind::Container, port.container)),
        "Type" True => Prop::Text(&port.interface().kind),
        "Tag" True => Prop::I32(port.facts.tag.map_or(NO_TAG, i32::from)),
        "Trunks" True => Prop::Vlans(Vlans(&port.facts.trunks)),
        "VlanMode" True => Prop::Text(&port.facts.vlan_mode),
        "OfPort" True => Prop::I32(of_port(port.interface())),
        "LinkState" True => Prop::Text(&port.interface().link_state),
        "AdminState" True => Prop::Text(&port.interface().admin_state),
        "MacInUse" True => Prop::Text(&port.interface().mac_in_use),
        "Mtu" True => Prop::I32(port.interface().mtu.unwrap_or(0)),
        "Error" True => Prop::Text(&port.interface().error),
        "Stale" True => Prop::Bool(port.stale()),
        "Options" True => Prop::Map(Map(&port.interface().options)),
        "ExternalIds" True => Prop::Map(Map(&port.facts.external_ids)),
        "BondMode" True => Prop::Text(&port.facts.bond_mode),
        "Lacp" True => Prop::Text(&port.facts.lacp),
        "Interfaces" True => Prop::Interfaces(Interfaces(&port.facts.interfaces)),
    }
}

/// Path of a resource that may not be there.
fn resource_or_none(kind: Kind, name: Option<&Name>) -> Path<'_> {
    name.filter(|name| !name.is_empty()).map_or(Path::None, |name| Path::Resource(kind, name))
}
