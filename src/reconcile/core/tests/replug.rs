//! What somebody's start of a container undoes of its port.

use super::*;

/// A container that runs, on its bridge, and its port declared or not.
fn wired(declared: bool, drift: Option<DriftPolicy>) -> (Sim, Document) {
    let mut doc = guide();
    doc.containers.get_mut("100").unwrap().common.drift = drift;
    if declared {
        doc.bridges.insert("ovsbr0".into(), BridgeSpec::default());
        doc.ports.insert("veth100".into(), PortSpec { bridge: "ovsbr0".into(), ..PortSpec::default() });
    }
    let mut sim = Sim::new(world_with_container(false));
    assert_eq!(sim.converge(&doc), JobResult::Done);
    (sim, doc)
}

/// The container is restarted: its device is another by now, and the datapath stays with the one that is gone.
fn replace_device(sim: &mut Sim) {
    sim.world.ports.get_mut("veth100").unwrap().interfaces[0].replaced = true;
    sim.follow();
}

#[test]
fn a_port_whose_device_was_made_anew_is_plugged_anew_although_drift_is_only_reported() {
    for declared in [false, true] {
        let (mut sim, _) = wired(declared, None);
        let row = sim.world.ports["veth100"].uuid.clone();
        let jobs = sim.view.state.jobs_total;
        replace_device(&mut sim);
        assert_eq!(sim.resource(&ResourceId::container("100")).status, Status::Drifted);
        sim.pass(SECOND);
        assert_eq!(sim.world.ports["veth100"].uuid, row, "whoever started it may be about to plug it");
        sim.pass(2 * SECOND);
        assert_ne!(sim.world.ports["veth100"].uuid, row);
        let container = sim.resource(&ResourceId::container("100"));
        assert_eq!((container.status, sim.view.state.jobs_total), (Status::InSync, jobs + 1), "declared: {declared}");
        sim.check();
    }
}

#[test]
fn a_hook_that_plugs_the_new_device_is_waited_for() {
    let (mut sim, _) = wired(false, None);
    let jobs = sim.view.state.jobs_total;
    replace_device(&mut sim);
    sim.world.remove_port("veth100");
    sim.world.add_port("ovsbr0", "veth100", "");
    sim.follow();
    sim.pass(60 * SECOND);
    assert_eq!((sim.view.state.jobs_total, sim.view.state.in_sync), (jobs, true));
}

#[test]
fn a_container_whose_drift_is_to_be_reported_is_left_alone() {
    let (mut sim, _) = wired(false, Some(DriftPolicy::Report));
    let row = sim.world.ports["veth100"].uuid.clone();
    replace_device(&mut sim);
    sim.pass(60 * SECOND);
    assert_eq!(sim.world.ports["veth100"].uuid, row);
    let container = sim.resource(&ResourceId::container("100"));
    let shown = container.differences.iter().map(|difference| difference.field.as_str()).collect::<Vec<_>>();
    assert_eq!((container.status, shown), (Status::Drifted, vec!["device"]));
    sim.core.reconcile(None, Caller::default(), sim.now).unwrap();
    sim.pump();
    assert!(sim.view.state.in_sync);
}

#[test]
fn a_declared_port_of_no_container_drifts() {
    let mut doc = Document::default();
    doc.bridges.insert("br0".into(), BridgeSpec::default());
    doc.ports.insert("eno1".into(), PortSpec { bridge: "br0".into(), ..PortSpec::default() });
    let mut sim = Sim::new(World::new(MACHINE));
    assert_eq!(sim.converge(&doc), JobResult::Done);
    sim.world.ports.get_mut("eno1").unwrap().interfaces[0].replaced = true;
    sim.follow();
    sim.pass(60 * SECOND);
    assert_eq!(sim.resource(&ResourceId::port("eno1")).status, Status::Drifted, "reported");
    doc.drift = DriftPolicy::Enforce;
    sim.converge(&doc);
    assert!(sim.view.state.in_sync && !sim.world.ports["eno1"].device_replaced());
}
