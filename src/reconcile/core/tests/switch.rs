//! Open vSwitch: what its database says, and what ovs-vswitchd works by.

use super::*;

/// The rows are as wanted, which says nothing of whether the switch works by them.
#[test]
fn what_a_hung_switch_has_not_applied_is_not_said_to_hold() {
    let mut world = World::new(MACHINE);
    world.add_bridge("br0");
    world.add_port("br0", "p0", "internal");
    world.hung_switch = true;
    let mut sim = Sim::new(world);
    let mut doc = Document::default();
    let spec = PortSpec { bridge: "br0".into(), tag: Want::Is(7), ..PortSpec::default() };
    doc.ports.insert("p0".into(), spec);
    doc.bridges.insert("br0".into(), BridgeSpec::default());
    let job = sim.set(&doc);
    sim.pump();
    assert_eq!(sim.world.ports["p0"].tag, Some(7), "it was written");
    assert_eq!(sim.result(job), JobResult::Partial);
    assert!(sim.job(job).message.contains("port:p0: SwitchNotAnswering"), "{}", sim.job(job).message);
    let port = sim.resource(&ResourceId::port("p0"));
    assert_eq!((port.in_sync, port.status, port.reason), (false, Status::Failed, Reason::SwitchNotAnswering));
    assert!(!sim.view.state.in_sync);
    // ovs-vswitchd goes on, which shows in its database.
    sim.world.hung_switch = false;
    sim.follow();
    assert!(sim.resource(&ResourceId::port("p0")).in_sync && sim.view.state.in_sync);
    assert_eq!(sim.converge(&doc), JobResult::Unchanged);
}

/// A port of the document that holds, and how to have ovs-vswitchd lag behind.
fn port_in_sync() -> (Sim, ResourceId) {
    let mut world = World::new(MACHINE);
    world.add_bridge("br0");
    let mut sim = Sim::new(world);
    let mut doc = Document::default();
    let spec =
        PortSpec { bridge: "br0".into(), kind: Some("internal".to_owned()), tag: Want::Is(7), ..PortSpec::default() };
    doc.ports.insert("p0".into(), spec);
    assert_eq!(sim.converge(&doc), JobResult::Done);
    (sim, ResourceId::port("p0"))
}

fn lag(sim: &mut Sim, unapplied: &[&ResourceId], hangs: bool) {
    let unapplied = unapplied.iter().map(|id| (*id).clone()).collect();
    let changes = vec![Change::Switch(SwitchFacts { unapplied, hangs })];
    sim.core.plugin_event("ovsdb", PluginEvent::Changes(changes), sim.now);
    sim.pump();
}

/// Whatever other clients write is on its way to the switch for a moment: what holds goes on holding, and only a switch
/// that hangs is worth a word.
#[test]
fn what_holds_does_not_flicker_while_the_switch_takes_over_another_change() {
    let (mut sim, port) = port_in_sync();
    let before = sim.view.resources.clone();
    lag(&mut sim, &[&port], false);
    assert_eq!(sim.view.resources, before);
    sim.core.reconcile(None, Caller::default(), sim.now).unwrap();
    sim.pump();
    let last = *sim.view.jobs.keys().next_back().unwrap();
    assert_eq!(sim.result(last), JobResult::Unchanged);
    lag(&mut sim, &[&port], true);
    let hung = sim.resource(&port);
    assert_eq!((hung.in_sync, hung.status, hung.reason), (false, Status::Failed, Reason::SwitchNotAnswering));
    assert!(sim.resource(&port).differences.is_empty());
    lag(&mut sim, &[], false);
    assert!(sim.resource(&port).in_sync && sim.view.state.in_sync);
    // Nothing was tried, and nothing counts as drift.
    assert_eq!((sim.view.jobs.len(), sim.drifts()), (2, 0));
}

#[test]
fn what_did_not_hold_does_so_once_the_switch_works_by_it() {
    let (mut sim, port) = port_in_sync();
    let right = sim.world.ports["p0"].clone();
    sim.world.ports.get_mut("p0").unwrap().tag = Some(9);
    sim.follow();
    assert_eq!(sim.resource(&port).status, Status::Drifted);
    // Another client puts it right.
    let changes = vec![
        Change::Port("p0".into(), right.clone()),
        Change::Switch(SwitchFacts { unapplied: [port.clone()].into_iter().collect(), hangs: false }),
    ];
    sim.core.plugin_event("ovsdb", PluginEvent::Changes(changes), sim.now);
    sim.world.ports.insert("p0".into(), right);
    sim.pump();
    let on_its_way = sim.resource(&port);
    assert_eq!((on_its_way.in_sync, on_its_way.status), (false, Status::Pending));
    lag(&mut sim, &[], false);
    assert_eq!((sim.resource(&port).in_sync, sim.resource(&port).status), (true, Status::InSync));
}
