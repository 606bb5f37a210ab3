//! What is written as wanted and does not work is not in sync.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use super::{
    Desired, assess,
    tests::{MACHINE, inventory, observe},
};
use crate::{
    desired::{BridgeSpec, Document, PortSpec},
    model::{Reason, ResourceId},
    plugins::simulated::World,
};

fn doc() -> Arc<Document> {
    let mut doc = Document::default();
    doc.bridges.insert("br0".into(), BridgeSpec::default());
    doc.ports.insert("p0".into(), PortSpec { bridge: "br0".into(), ..PortSpec::default() });
    Arc::new(doc)
}

fn reason(world: &World, id: &ResourceId) -> Option<Reason> {
    let assessment = assess(&Desired::new(doc()), id, &observe(world), &inventory());
    assert!(assessment.differences.is_empty(), "{assessment:?}");
    assert_eq!(assessment.in_sync(), assessment.health.is_none());
    assessment.health.map(|(reason, _)| reason)
}

#[test]
fn a_port_that_open_vswitch_gave_no_number_does_not_work() {
    let mut world = World::new(MACHINE);
    world.add_bridge("br0");
    world.add_port("br0", "p0", "internal");
    let port = ResourceId::port("p0");
    assert_eq!(reason(&world, &port), None);
    for ofport in [None, Some(-1), Some(0)] {
        world.ports.get_mut("p0").unwrap().interfaces[0].ofport = ofport;
        assert_eq!(reason(&world, &port), Some(Reason::PortError), "{ofport:?}");
    }
    assert_eq!(reason(&world, &ResourceId::bridge("br0")), None);
}

/// As where the datapath type that it asks for is not to be had: ovs-vswitchd makes none of it, and says nothing.
#[test]
fn a_bridge_whose_local_port_does_not_work_does_not_work() {
    let mut world = World::new(MACHINE);
    world.add_bridge("br0");
    world.add_port("br0", "p0", "internal");
    world.ports.get_mut("br0").unwrap().interfaces[0].ofport = None;
    assert_eq!(reason(&world, &ResourceId::bridge("br0")), Some(Reason::PortError));
}
