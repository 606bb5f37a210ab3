//! Jobs beside and after one another.

use super::*;

#[test]
fn a_new_document_supersedes_what_has_not_begun() {
    let mut world = world_of_one_unit();
    world.add_unit("b.service", "enabled", "inactive");
    let mut doc = one_unit(DriftPolicy::Report);
    let mut after = active();
    after.common.after.insert(unit_a());
    doc.units.insert("b.service".into(), after);
    let mut sim = Sim::new(world);
    sim.hold = true;
    let first = sim.set(&doc);
    sim.pump();
    let second = sim.set(&one_unit(DriftPolicy::Report));
    sim.pump();
    assert_eq!(sim.job(first).state, JobState::Running, "what has begun finishes");
    sim.release();
    assert_eq!(sim.result(first), JobResult::Superseded);
    assert_eq!(sim.job(first).steps.get(&2).unwrap().state, StepState::Skipped);
    assert_eq!(sim.result(second), JobResult::Unchanged);
    assert_eq!(sim.world.units["b.service"].active_state, "inactive");
    assert_eq!(sim.finished, [(1, "superseded", false), (2, "unchanged", true)]);
}

#[test]
fn cancelling_skips_what_has_not_begun() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.hold = true;
    let first = sim.set(&one_unit(DriftPolicy::Report));
    sim.pump();
    sim.core.cancel(first, sim.now).unwrap();
    sim.pump();
    assert_eq!(sim.job(first).result, None);
    sim.release();
    assert_eq!(sim.result(first), JobResult::Cancelled);
    assert!(matches!(sim.core.cancel(first, sim.now), Err(CoreError::Conflict(_))));
    assert!(matches!(sim.core.cancel(first + 1000, sim.now), Err(CoreError::NotFound(_))));
}

#[test]
fn how_far_a_step_has_come_shows_on_its_job() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.hold = true;
    let job = sim.set(&one_unit(DriftPolicy::Report));
    sim.pump();
    let mut told = |share: f64, message: &str| {
        let event = PluginEvent::Progress { job, step: 1, share, message: message.to_owned() };
        sim.core.plugin_event("systemd", event, sim.now);
        sim.notices.clear();
        sim.pump();
        let facts = sim.job(job);
        let signals = sim.notices.iter().filter(|notice| matches!(notice, Notice::StepChanged { .. })).count();
        (facts.progress, facts.steps[&1].message.clone(), signals)
    };
    assert_eq!(told(0.25, "unpacking"), (0.25, "unpacking".to_owned(), 1));
    assert_eq!(told(0.5, "unpacking"), (0.5, "unpacking".to_owned(), 0), "no news for people");
    // A backend may say anything.
    assert_eq!(told(f64::NAN, "unpacking"), (0.5, "unpacking".to_owned(), 0));
    assert_eq!(told(7.0, "unpacking"), (1.0, "unpacking".to_owned(), 0));
    sim.release();
    let facts = sim.job(job);
    assert_eq!((facts.progress, facts.result), (1.0, Some(JobResult::Done)));
    let late = PluginEvent::Progress { job, step: 1, share: 0.1, message: "late".to_owned() };
    sim.core.plugin_event("systemd", late, sim.now);
    sim.pump();
    let facts = sim.job(job);
    assert_eq!((facts.progress, facts.steps[&1].message.as_str()), (1.0, ""));
}

#[test]
fn a_containers_port_is_wired_after_its_start() {
    for hook in [true, false] {
        let mut sim = Sim::new(world_with_container(hook));
        assert_eq!(sim.converge(&guide()), JobResult::Done, "hook: {hook}");
        assert_eq!(&*sim.world.ports["veth100"].bridge, "ovsbr0");
        assert_eq!(sim.resource(&ResourceId::container("100")).status, Status::InSync);
        assert_eq!(sim.view.observed.links.port_container.get("veth100").map(|id| &**id), Some("100"));
        sim.check();
    }
}

#[test]
fn start_and_stop_are_jobs_that_respect_the_document() {
    let mut sim = Sim::new(world_with_container(true));
    sim.converge(&guide());
    let id = ResourceId::container("100");
    let caller = Caller::default;
    let refused = sim.core.lifecycle(&id, LifecycleVerb::Stop, false, caller(), sim.now);
    assert!(matches!(refused, Err(CoreError::Conflict(_))), "{refused:?}");
    let job = sim.core.lifecycle(&id, LifecycleVerb::Stop, true, caller(), sim.now).unwrap();
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Done);
    sim.pass(60 * SECOND);
    assert_eq!(sim.resource(&id).status, Status::Paused);
    assert_eq!(sim.world.units["pve-container@100.service"].active_state, "inactive");
    let job = sim.core.lifecycle(&id, LifecycleVerb::Restart, false, caller(), sim.now).unwrap();
    sim.pump();
    assert_eq!((sim.result(job), sim.job(job).kind), (JobResult::Done, JobKind::Restart));
    let missing = sim.core.lifecycle(&ResourceId::container("999"), LifecycleVerb::Start, false, caller(), sim.now);
    assert!(matches!(missing, Err(CoreError::NotFound(_))));
    sim.backend("systemd", BackendStatus::Unavailable);
    let away = sim.core.lifecycle(&id, LifecycleVerb::Start, false, caller(), sim.now);
    assert!(matches!(away, Err(CoreError::Unavailable(_))));
}

#[test]
fn a_start_does_not_wait_for_a_job_that_has_nothing_to_do_with_it() {
    let mut world = world_with_container(true);
    world.add_unit("a.service", "enabled", "inactive");
    let mut sim = Sim::new(world);
    sim.hold = true;
    sim.set(&one_unit(DriftPolicy::Report));
    sim.pump();
    let id = ResourceId::container("100");
    let job = sim.core.lifecycle(&id, LifecycleVerb::Start, false, Caller::default(), sim.now).unwrap();
    sim.pump();
    let jobs: BTreeSet<JobId> = sim
        .held
        .iter()
        .map(|effect| match effect {
            Effect::Apply { work, .. } => work.job,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(jobs.contains(&job) && jobs.len() == 2);
    sim.release();
    assert_eq!(sim.result(job), JobResult::Done);
}

#[test]
fn old_jobs_go_and_their_numbers_with_them() {
    let mut sim = Sim::new(world_of_one_unit());
    for _ in 0..300 {
        sim.converge(&one_unit(DriftPolicy::Report));
    }
    assert_eq!(sim.view.jobs.len(), 256);
    sim.pass(601 * SECOND);
    assert!(sim.view.jobs.is_empty());
    let job = sim.set(&one_unit(DriftPolicy::Report));
    assert_eq!(job, 301);
}
