//! Drift: told, left alone, put back, given up on.

use super::*;

#[test]
fn the_same_document_again_changes_nothing() {
    let mut sim = Sim::new(world_of_one_unit());
    assert_eq!(sim.converge(&one_unit(DriftPolicy::Report)), JobResult::Done);
    let before = (sim.world.clone(), sim.view.resources.clone());
    assert_eq!(sim.converge(&one_unit(DriftPolicy::Report)), JobResult::Unchanged);
    assert_eq!(sim.world, before.0);
    assert!(sim.view.resources.ptr_eq(&before.1), "a resource changed although nothing was to be done");
    sim.check();
}

#[test]
fn drift_is_told_and_left_alone_under_report() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Report));
    sim.world.units.get_mut("a.service").unwrap().active_state = "inactive".to_owned();
    sim.follow();
    sim.pass(60 * SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::Drifted);
    assert_eq!(sim.resource(&unit_a()).differences[0].field, "active_state");
    assert_eq!(sim.drifts(), 1);
    assert_eq!(sim.world.units["a.service"].active_state, "inactive");
    assert_eq!(sim.view.state.drifts_total, 1);
    sim.check();
}

#[test]
fn drift_is_put_back_under_enforce_once_it_has_settled() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Enforce));
    sim.world.units.get_mut("a.service").unwrap().active_state = "inactive".to_owned();
    sim.follow();
    sim.pass(4 * SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::Drifted, "a stop is let settle");
    sim.pass(2 * SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    // What died by itself is put back at once.
    sim.world.units.get_mut("a.service").unwrap().active_state = "failed".to_owned();
    sim.follow();
    sim.pass(1);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
}

#[test]
fn enforcing_gives_up_after_five_corrections_until_it_is_told_to() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Enforce));
    for _ in 0..5 {
        sim.world.units.get_mut("a.service").unwrap().active_state = "failed".to_owned();
        sim.follow();
        sim.pass(SECOND);
        assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    }
    sim.world.units.get_mut("a.service").unwrap().active_state = "failed".to_owned();
    sim.follow();
    sim.pass(3600 * SECOND);
    assert_eq!(sim.resource(&unit_a()).reason, Reason::TooManyCorrections);
    assert_eq!(sim.world.units["a.service"].active_state, "failed");
    let job = sim.core.reconcile(None, Caller::default(), sim.now).unwrap();
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Done);
}

#[test]
fn a_unit_on_its_way_is_not_drift() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Enforce));
    let unit = sim.world.units.get_mut("a.service").unwrap();
    unit.active_state = "activating".to_owned();
    unit.sub_state = "auto-restart".to_owned();
    sim.follow();
    sim.pass(60 * SECOND);
    assert_eq!((sim.drifts(), sim.resource(&unit_a()).status), (0, Status::Pending));
    assert_eq!(sim.world.units["a.service"].sub_state, "auto-restart", "systemd is let do its work");
}

#[test]
fn what_a_replug_wipes_is_put_right_although_drift_is_only_reported() {
    let mut doc = guide();
    let tagged = PortSpec { bridge: "ovsbr0".into(), tag: Want::Is(10), ..PortSpec::default() };
    doc.bridges.insert("ovsbr0".into(), BridgeSpec::default());
    doc.ports.insert("veth100".into(), tagged);
    let mut sim = Sim::new(world_with_container(true));
    assert_eq!(sim.converge(&doc), JobResult::Done);
    assert_eq!(sim.world.ports["veth100"].tag, Some(10));
    // The hook plugs it anew, as at every start of the container.
    sim.world.remove_port("veth100");
    sim.world.add_port("ovsbr0", "veth100", "");
    sim.follow();
    sim.pass(SECOND);
    assert_eq!(sim.world.ports["veth100"].tag, Some(10));
    // Somebody's hand is another thing: it is told, and left alone.
    sim.world.ports.get_mut("veth100").unwrap().tag = Some(11);
    sim.follow();
    sim.pass(60 * SECOND);
    assert_eq!(sim.world.ports["veth100"].tag, Some(11));
    assert_eq!(sim.resource(&ResourceId::port("veth100")).status, Status::Drifted);
}
