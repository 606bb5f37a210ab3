//! What units and ports tell of containers of Proxmox VE's, which tells nobody by itself.

use super::*;
use crate::{
    model::{Change, GuestFacts, PortFacts, Runtime, UnitFacts},
    plan::Hand,
};

fn told(sim: &mut Sim, plugin: &'static str, change: Change) -> Vec<Name> {
    sim.hints.clear();
    sim.core.plugin_event(plugin, PluginEvent::Changes(vec![change]), sim.now);
    sim.pump();
    sim.hints.clone()
}

fn unit(state: &str, sub_state: &str) -> Change {
    let facts = UnitFacts { active_state: state.to_owned(), sub_state: sub_state.to_owned(), ..UnitFacts::default() };
    Change::Unit("pve-container@101.service".into(), facts)
}

fn guest(running: bool) -> Change {
    let facts = GuestFacts { runtime: Runtime::Proxmox, node: "near".to_owned(), running, ..GuestFacts::default() };
    Change::Guest("101".into(), facts)
}

#[test]
fn only_what_is_not_as_known_is_a_hint() {
    let mut sim = Sim::new(World::new(MACHINE));
    sim.core.inventory.hand = Hand::Proxmox { node: "near".to_owned() };
    sim.backend("lxc", BackendStatus::Connected);
    let hinted = [Name::from("101")];
    assert_eq!(told(&mut sim, "systemd", unit("active", "running")), hinted, "nothing is known of it");
    assert_eq!(told(&mut sim, "lxc", guest(true)), []);
    assert_eq!(told(&mut sim, "systemd", unit("active", "exited")), [], "it runs, as is known");
    assert_eq!(told(&mut sim, "systemd", unit("deactivating", "stop")), hinted);
    assert_eq!(told(&mut sim, "systemd", unit("inactive", "dead")), hinted, "it is still known to run");
    assert_eq!(told(&mut sim, "lxc", guest(false)), []);
    assert_eq!(told(&mut sim, "systemd", unit("activating", "start")), []);
    assert_eq!(told(&mut sim, "systemd", unit("active", "running")), hinted);
    // Of a port nothing is known from elsewhere.
    let port = Change::Port("veth101i0".into(), PortFacts { bridge: "br0".into(), ..PortFacts::default() });
    assert_eq!(told(&mut sim, "ovsdb", port), hinted);
}
