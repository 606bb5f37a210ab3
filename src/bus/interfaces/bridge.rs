//! `org.opdbus.Bridge`: an Open vSwitch bridge.

use std::collections::BTreeSet;

use super::interface;
use crate::{
    bus::value::{Map, Names, Paths, Prop, Texts},
    model::{BridgeFacts, Kind, Name},
};

/// What a bridge's object shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BridgeView<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its row.
    pub(super) facts: &'a BridgeFacts,
    /// Containers with a port on it.
    pub(super) containers: &'a BTreeSet<Name>,
}

interface! {
    "org.opdbus.Bridge";
    methods {}
    properties<'a>(bridge: BridgeView<'a>) {
        "Name" Const => Prop::Text(bridge.name),
        "Uuid" True => Prop::Text(&bridge.facts.uuid),
        "DatapathType" True => Prop::Text(&bridge.facts.datapath_type),
        "DatapathId" True => Prop::Text(&bridge.facts.datapath_id),
        "FailMode" True => Prop::Text(&bridge.facts.fail_mode),
        "StpEnable" True => Prop::Bool(bridge.facts.stp_enable),
        "RstpEnable" True => Prop::Bool(bridge.facts.rstp_enable),
        "McastSnoopingEnable" True => Prop::Bool(bridge.facts.mcast_snooping_enable),
        "Ports" Invalidates => Prop::Paths(Paths(Kind::Port, Names::Shared(&bridge.facts.ports))),
        "Containers" Invalidates => Prop::Paths(Paths(Kind::Container, Names::Plain(bridge.containers))),
        "Controllers" True => Prop::Texts(Texts(&bridge.facts.controllers)),
        "ExternalIds" True => Prop::Map(Map(&bridge.facts.external_ids)),
        "OtherConfig" True => Prop::Map(Map(&bridge.facts.other_config)),
    }
}
