//! Objects of other services: services come and go, and what is not told is read when somebody reconciles.

use serde_json::json;

use super::*;
use crate::{
    desired::parse,
    model::{ObjectFacts, PropertyType, TypedValue},
};

fn document() -> Document {
    let entry = json!({"service": "org.example.Thing", "path": "/thing", "interface": "org.example.Thing",
                       "properties": {"Level": 7}});
    parse(&json!({"drift": "enforce", "dbus": {"objects": {"x": entry}}}).to_string()).unwrap()
}

fn level(value: u32) -> TypedValue {
    TypedValue { signature: "u".to_owned(), value: value.into() }
}

fn world(value: u32) -> World {
    let mut world = World::new(MACHINE);
    let facts = ObjectFacts {
        service: "org.example.Thing".to_owned(),
        path: "/thing".to_owned(),
        interface: "org.example.Thing".to_owned(),
        exists: true,
        properties: [("Level".to_owned(), level(value))].into(),
        property_types: [("Level".to_owned(), PropertyType { signature: "u".to_owned(), writable: true })].into(),
        ..ObjectFacts::default()
    };
    world.objects.insert("x".into(), facts);
    world
}

fn id() -> ResourceId {
    ResourceId::object("x")
}

fn away(sim: &mut Sim, away: bool) {
    let facts = sim.world.objects.get_mut("x").unwrap();
    facts.away = away.then(|| (Reason::ServiceAway, "nobody answers".to_owned()));
    sim.follow();
}

#[test]
fn a_property_is_set_and_kept() {
    let mut sim = Sim::new(world(1));
    assert_eq!(sim.converge(&document()), JobResult::Done);
    assert_eq!(sim.world.objects["x"].properties["Level"], level(7));
    assert_eq!(sim.converge(&document()), JobResult::Unchanged);
    sim.world.objects.get_mut("x").unwrap().properties.insert("Level".to_owned(), level(3));
    sim.follow();
    assert_eq!((sim.drifts(), sim.world.objects["x"].properties["Level"].clone()), (1, level(7)));
    assert_eq!(sim.resource(&id()).status, Status::InSync);
    sim.check();
}

#[test]
fn a_service_that_is_gone_is_unknown_and_taken_up_when_it_is_back() {
    let mut sim = Sim::new(world(1));
    sim.world.objects.get_mut("x").unwrap().away = Some((Reason::ServiceAway, "nobody answers".to_owned()));
    assert_eq!(sim.converge(&document()), JobResult::Failed);
    let facts = sim.resource(&id()).clone();
    assert_eq!((facts.status, facts.reason, facts.in_sync), (Status::Unknown, Reason::ServiceAway, false));
    assert!(!sim.finished.last().unwrap().2, "something is still owed");
    away(&mut sim, false);
    assert_eq!(sim.world.objects["x"].properties["Level"], level(7));
    assert_eq!(sim.resource(&id()).status, Status::InSync);
    // Gone again, and back as it was: nothing is written.
    away(&mut sim, true);
    assert_eq!(sim.resource(&id()).status, Status::Unknown);
    assert!(!sim.view.state.in_sync);
    let jobs = sim.view.state.jobs_total;
    away(&mut sim, false);
    assert_eq!((sim.resource(&id()).status, sim.view.state.jobs_total), (Status::InSync, jobs));
    sim.check();
}

#[test]
fn what_nobody_tells_is_read_when_somebody_reconciles() {
    let mut sim = Sim::new(world(7));
    assert_eq!(sim.converge(&document()), JobResult::Unchanged);
    sim.world.objects.get_mut("x").unwrap().properties.insert("Level".to_owned(), level(1));
    // No signal came; the reading for the job shows it.
    let job = sim.core.reconcile(None, Caller::default(), sim.now).unwrap();
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Done);
    assert_eq!(sim.world.objects["x"].properties["Level"], level(7));
}

#[test]
fn an_object_that_is_declared_no_more_is_on_the_tree_no_more() {
    let mut sim = Sim::new(world(7));
    sim.converge(&document());
    sim.converge(&Document { allow_empty: true, ..Document::default() });
    assert!(!sim.view.resources.contains_key(&id()));
}
