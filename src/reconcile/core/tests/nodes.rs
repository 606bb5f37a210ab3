//! Nodes of a cluster: what is on one that is offline is as unknown as what a backend that is away tells of.

use super::*;
use crate::{
    model::{Change, GuestFacts, GuestSettings, Runtime},
    plan::Hand,
};

fn tell(sim: &mut Sim, id: &str, away: &str) {
    let facts = GuestFacts {
        runtime: Runtime::Proxmox,
        node: "far".to_owned(),
        is_remote: true,
        running: true,
        away: away.to_owned(),
        settings: Some(Arc::new(GuestSettings::default())),
        ..GuestFacts::default()
    };
    sim.core.plugin_event("lxc", PluginEvent::Changes(vec![Change::Guest(id.into(), facts)]), sim.now);
    sim.pump();
}

#[test]
fn a_job_over_a_node_that_is_offline_is_partial_and_says_why() {
    let mut sim = Sim::new(World::new(MACHINE));
    sim.core.inventory.hand = Hand::Proxmox { node: "near".to_owned() };
    sim.backend("lxc", BackendStatus::Connected);
    tell(&mut sim, "101", "");
    tell(&mut sim, "102", "");
    let entry =
        |node: &str| ContainerSpec { running: Some(true), node: Some(node.to_owned()), ..ContainerSpec::default() };
    let mut wanted = Document {
        containers: [("101".into(), entry("far")), ("102".into(), entry("far"))].into(),
        ..Document::default()
    };
    assert_eq!(sim.converge(&wanted), JobResult::Unchanged);
    // What is wanted of it is what it was when it was last seen, and may not be so now.
    tell(&mut sim, "102", "no route to host");
    wanted.drift = DriftPolicy::Enforce;
    let job = sim.set(&wanted);
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Partial);
    assert!(sim.job(job).message.contains("no route to host"), "{}", sim.job(job).message);
    let facts = sim.resource(&ResourceId::container("102"));
    assert_eq!((facts.status, facts.reason), (Status::Unknown, Reason::NodeAway));
    assert_eq!(sim.resource(&ResourceId::container("101")).status, Status::InSync);
    sim.check();
}
