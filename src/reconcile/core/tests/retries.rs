//! What could not be done, and when it is taken up.

use super::*;

#[test]
fn a_short_absence_changes_nothing_and_a_long_one_is_unknown() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Report));
    let before = sim.view.resources.clone();
    sim.backend("systemd", BackendStatus::Connecting);
    sim.pass(SECOND);
    sim.connect("systemd");
    sim.pass(SECOND * 10);
    assert!(sim.view.resources.ptr_eq(&before));
    sim.backend("systemd", BackendStatus::Unavailable);
    sim.pass(3 * SECOND);
    let facts = sim.resource(&unit_a());
    assert_eq!((facts.status, facts.reason, facts.in_sync), (Status::Unknown, Reason::BackendAway, false));
    assert_eq!(sim.view.state.unknown, 1);
    sim.connect("systemd");
    sim.pump();
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    assert_eq!(sim.drifts(), 0);
    sim.check();
}

#[test]
fn work_that_met_an_absent_backend_is_taken_up_when_it_is_back() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.backend("systemd", BackendStatus::Unavailable);
    sim.pass(3 * SECOND);
    assert_eq!(sim.converge(&one_unit(DriftPolicy::Report)), JobResult::Failed);
    assert_eq!(sim.resource(&unit_a()).status, Status::Unknown);
    sim.connect("systemd");
    sim.pump();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    assert_eq!(sim.world.units["a.service"].active_state, "active");
}

#[test]
fn a_passing_fault_is_tried_again_until_it_has_passed() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.world.away = true;
    assert_eq!(sim.converge(&one_unit(DriftPolicy::Report)), JobResult::Failed);
    assert_eq!(sim.resource(&unit_a()).status, Status::Failed);
    sim.pass(300 * SECOND);
    let tries = sim.view.state.jobs_total;
    assert!((8..=20).contains(&tries), "{tries} tries in five minutes: not at all, or without backing off");
    sim.world.away = false;
    sim.pass(61 * SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
}

#[test]
fn a_standing_fault_waits_for_a_new_generation() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.world.broken_units.insert("a.service".into());
    assert_eq!(sim.converge(&one_unit(DriftPolicy::Enforce)), JobResult::Failed);
    sim.pass(3600 * SECOND);
    assert_eq!(sim.view.state.jobs_total, 1);
    assert_eq!(sim.resource(&unit_a()).reason, Reason::JobFailed);
    sim.world.broken_units.clear();
    assert_eq!(sim.converge(&one_unit(DriftPolicy::Enforce)), JobResult::Done);
    sim.check();
}

#[test]
fn what_was_blocked_is_taken_up_once_nothing_blocks_it() {
    let mut sim = Sim::new(World::new(MACHINE));
    assert_eq!(sim.converge(&one_unit(DriftPolicy::Report)), JobResult::Failed);
    assert_eq!(sim.resource(&unit_a()).reason, Reason::UnitNotFound);
    // A package brings the unit.
    sim.world.add_unit("a.service", "disabled", "inactive");
    sim.follow();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
}

#[test]
fn a_failure_blocks_only_what_waits_for_it_and_frees_it_when_it_is_mended() {
    let mut world = world_of_one_unit();
    world.add_unit("b.service", "enabled", "inactive");
    world.add_unit("c.service", "enabled", "inactive");
    world.broken_units.insert("a.service".into());
    let mut doc = one_unit(DriftPolicy::Report);
    let mut after = active();
    after.common.after.insert(unit_a());
    doc.units.insert("b.service".into(), after);
    doc.units.insert("c.service".into(), active());
    let mut sim = Sim::new(world);
    assert_eq!(sim.converge(&doc), JobResult::Partial);
    let b = ResourceId::unit("b.service");
    assert_eq!(sim.resource(&b).reason, Reason::DependencyFailed);
    assert_eq!(sim.resource(&ResourceId::unit("c.service")).status, Status::InSync);
    // Somebody mends a by hand.
    sim.world.units.get_mut("a.service").unwrap().active_state = "active".to_owned();
    sim.follow();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&b).status, Status::InSync);
    sim.check();
}

#[test]
fn a_condition_that_was_not_met_is_looked_at_anew_when_somebody_asks() {
    let mut world = world_of_one_unit();
    world.units.get_mut("a.service").unwrap().condition_unmet = true;
    let mut sim = Sim::new(world);
    // The first try of a generation: systemd alone knows whether the condition is met by now.
    sim.hold = true;
    let job = sim.set(&one_unit(DriftPolicy::Report));
    sim.pump();
    assert_eq!(sim.job(job).steps.len(), 1);
    sim.held.clear();
    let event = PluginEvent::Step {
        job,
        step: 1,
        state: StepState::Blocked,
        reason: Reason::ConditionUnmet,
        message: String::new(),
        retry: false,
        wrote: false,
    };
    sim.core.plugin_event("systemd", event, sim.now);
    sim.core.applied(job, sim.now);
    sim.hold = false;
    sim.pump();
    let facts = sim.resource(&unit_a());
    assert_eq!((facts.status, facts.reason), (Status::Blocked, Reason::ConditionUnmet));
    assert_eq!(sim.result(job), JobResult::Unchanged, "that is no failure");
    // The same again writes nothing; to ask for it is another thing.
    assert_eq!(sim.converge(&one_unit(DriftPolicy::Report)), JobResult::Unchanged);
    assert_eq!(sim.world.units["a.service"].active_state, "inactive");
    let job = sim.core.reconcile(None, Caller::default(), sim.now).unwrap();
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Done);
}

#[test]
fn after_a_restart_the_generation_is_taken_up_or_left_to_the_drift_policy() {
    for (left, reconcile) in [(Left::Unfinished, true), (Left::FinishedInEarlierBoot, true), (Left::Finished, false)] {
        let mut sim = Sim::new(world_of_one_unit());
        sim.generation = 7;
        sim.document = Arc::new(one_unit(DriftPolicy::Report));
        let new = sim.new_desired();
        sim.core.restore(new, left, sim.now);
        sim.pump();
        sim.pass(60 * SECOND);
        let active = sim.world.units["a.service"].active_state == "active";
        assert_eq!(active, reconcile);
        assert_eq!(sim.drifts(), usize::from(!reconcile));
    }
}

#[test]
fn a_restart_that_finds_no_backend_waits_for_it() {
    let world = world_of_one_unit();
    let mut sim = Sim::new(world);
    sim.core = Core::new(
        Settings::default(),
        sim.core.inventory.clone(),
        Join::new(Patterns::default()),
        &["systemd", "ovsdb", "packagekit"],
    );
    sim.generation = 7;
    sim.document = Arc::new(one_unit(DriftPolicy::Report));
    let new = sim.new_desired();
    sim.core.restore(new, Left::Unfinished, sim.now);
    sim.pump();
    assert_eq!(sim.resource(&unit_a()).status, Status::Unknown);
    for plugin in ["systemd", "ovsdb", "packagekit"] {
        sim.connect(plugin);
    }
    sim.pump();
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    assert_eq!(sim.view.state.jobs_total, 1);
    assert_eq!(sim.job(1).caller_uid, OP_DBUS_UID);
}

/// The state file may be read before the backends have answered.
#[test]
fn a_document_that_is_set_at_the_start_waits_for_the_backends() {
    let plugins = ["systemd", "ovsdb", "packagekit"];
    for (answer, took) in [(true, JobResult::Done), (false, JobResult::Failed)] {
        let mut sim = Sim::new(world_of_one_unit());
        let inventory = sim.core.inventory.clone();
        sim.core = Core::new(Settings::default(), inventory, Join::new(Patterns::default()), &plugins);
        let job = sim.set(&one_unit(DriftPolicy::Report));
        sim.pump();
        assert_eq!(sim.job(job).state, JobState::Queued);
        sim.connect("ovsdb");
        sim.pass(4 * SECOND);
        assert_eq!(sim.job(job).state, JobState::Queued);
        if answer {
            sim.connect("systemd");
            sim.connect("packagekit");
        }
        sim.pass(2 * SECOND);
        assert_eq!(sim.result(job), took, "they are not waited for for ever");
        assert_eq!(sim.view.state.jobs_total, 1);
    }
}

/// What something waits for may come to hold while the job runs that could not do both: nothing tells of it later.
#[test]
fn what_failed_for_want_of_what_holds_by_the_end_of_the_job_is_taken_up() {
    let mut world = world_of_one_unit();
    world.add_bridge("br0");
    let mut sim = Sim::new(world);
    sim.backend("ovsdb", BackendStatus::Unavailable);
    sim.pass(3 * SECOND);
    let port = PortSpec { bridge: "br0".into(), kind: Some("internal".to_owned()), ..PortSpec::default() };
    let mut doc = one_unit(DriftPolicy::Report);
    doc.bridges.insert("br0".into(), BridgeSpec::default());
    doc.ports.insert("p0".into(), port);
    sim.hold = true;
    let job = sim.set(&doc);
    sim.pump();
    assert_eq!(sim.job(job).steps.len(), 3);
    sim.connect("ovsdb");
    sim.pump();
    assert_eq!(sim.resource(&ResourceId::bridge("br0")).status, Status::InSync);
    sim.release();
    assert_eq!(sim.result(job), JobResult::Partial);
    sim.pass(SECOND);
    assert_eq!(sim.resource(&ResourceId::port("p0")).status, Status::InSync);
    assert_eq!(sim.view.state.jobs_total, 2);
    assert!(sim.finished.last().is_some_and(|(.., complete)| *complete));
    sim.check();
}

/// What is held up by what is held up: the one between needs no work of its own, whose end would tell.
#[test]
fn what_waits_for_what_waited_is_taken_up_with_it() {
    let mut world = world_of_one_unit();
    world.add_unit("b.service", "enabled", "active");
    world.add_bridge("br0");
    let mut sim = Sim::new(world);
    let after = |id: &ResourceId| Common { after: [id.clone()].into(), ..Common::default() };
    let mut doc = Document { units: [("a.service".into(), UnitSpec::default())].into(), ..Document::default() };
    doc.units.insert("b.service".into(), UnitSpec { common: after(&unit_a()), ..active() });
    doc.bridges.insert("br0".into(), BridgeSpec::default());
    let common = after(&ResourceId::unit("b.service"));
    let port = PortSpec { bridge: "br0".into(), kind: Some("internal".to_owned()), common, ..PortSpec::default() };
    doc.ports.insert("p0".into(), port);
    assert_eq!(sim.converge(&Document { ports: BTreeMap::new(), ..doc.clone() }), JobResult::Unchanged);
    sim.backend("systemd", BackendStatus::Unavailable);
    sim.pass(3 * SECOND);
    assert_eq!(sim.converge(&doc), JobResult::Partial);
    assert_eq!(sim.resource(&ResourceId::port("p0")).reason, Reason::DependencyFailed);
    sim.connect("systemd");
    sim.pump();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&ResourceId::port("p0")).status, Status::InSync);
    assert!(sim.finished.last().is_some_and(|(.., complete)| *complete));
    sim.check();
}

/// A unit that names no package comes with any of them; here with `pk0`.
fn unit_of_a_package() -> (Sim, Document) {
    let mut world = World::new(MACHINE);
    world.add_package("pk0", "");
    world.brings.insert("pk0".into(), "a.service".into());
    let spec = PackageSpec { ensure: Some(PackageEnsure::Installed), ..PackageSpec::default() };
    let doc = Document { packages: [("pk0".into(), spec)].into(), ..one_unit(DriftPolicy::Report) };
    (Sim::new(world), doc)
}

#[test]
fn a_unit_whose_package_could_not_be_had_is_taken_up_when_it_is() {
    let (mut sim, doc) = unit_of_a_package();
    sim.world.offline = true;
    assert_eq!(sim.converge(&doc), JobResult::Failed);
    let facts = sim.resource(&unit_a());
    assert_eq!((facts.status, facts.reason), (Status::Blocked, Reason::DependencyFailed));
    assert!(facts.message.contains("package:pk0"), "{}", facts.message);
    sim.world.offline = false;
    sim.pass(61 * SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    assert_eq!(sim.world.units["a.service"].active_state, "active");
    assert!(sim.finished.last().is_some_and(|(.., complete)| *complete));
    sim.check();
}

#[test]
fn a_unit_whose_package_somebody_else_installs_is_taken_up() {
    for reads_first in [true, false] {
        let (mut sim, doc) = unit_of_a_package();
        let package = sim.world.packages.remove("pk0").unwrap();
        // PackageKit has not said what it offers: there is nothing to be tried.
        sim.world.packages.insert("pk0".into(), PackageFacts::default());
        sim.follow();
        assert_eq!(sim.converge(&doc), JobResult::Failed);
        sim.pass(3600 * SECOND);
        assert_eq!(sim.view.state.jobs_total, 1, "nothing is tried");
        let install = |sim: &mut Sim| {
            sim.world.packages.insert("pk0".into(), PackageFacts { installed: "2".to_owned(), ..package.clone() });
        };
        let reload = |sim: &mut Sim| sim.world.add_unit("a.service", "disabled", "inactive");
        if reads_first {
            reload(&mut sim);
            sim.follow();
            install(&mut sim);
        } else {
            install(&mut sim);
            sim.follow();
            reload(&mut sim);
        }
        sim.follow();
        sim.pass(SECOND);
        assert_eq!(sim.resource(&unit_a()).status, Status::InSync, "systemd read it first: {reads_first}");
        sim.check();
    }
}

/// A unit that no package of the document brought after all is taken up once it is there, as one that none was to bring.
#[test]
fn a_unit_that_its_package_did_not_bring_is_taken_up_when_it_comes() {
    let (mut sim, doc) = unit_of_a_package();
    sim.world.brings.clear();
    assert_eq!(sim.converge(&doc), JobResult::Partial);
    let facts = sim.resource(&unit_a());
    assert_eq!((facts.status, facts.reason), (Status::Blocked, Reason::UnitNotFound));
    sim.pass(3600 * SECOND);
    assert_eq!(sim.view.state.jobs_total, 1, "nothing is tried");
    sim.world.add_unit("a.service", "disabled", "inactive");
    sim.follow();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    sim.check();
}

/// One package waits for another that cannot be had, and a unit for any of the two.
#[test]
fn a_unit_is_not_tried_while_its_package_is_held_up() {
    let (mut sim, mut doc) = unit_of_a_package();
    let first = doc.packages["pk0"].clone();
    let common = Common { after: [ResourceId::package("pk1")].into(), ..Common::default() };
    doc.packages.insert("pk0".into(), PackageSpec { common, ..first.clone() });
    doc.packages.insert("pk1".into(), first);
    assert_eq!(sim.converge(&doc), JobResult::Failed);
    sim.pass(3600 * SECOND);
    assert_eq!(sim.view.state.jobs_total, 1, "nothing is tried");
    assert_eq!(sim.resource(&unit_a()).reason, Reason::DependencyFailed);
    // Nor where a call asks for the unit alone.
    let job = sim.core.reconcile(Some(unit_a()), Caller::default(), sim.now).unwrap();
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Failed);
    let facts = sim.resource(&unit_a());
    assert_eq!((facts.status, facts.reason), (Status::Blocked, Reason::DependencyFailed));
    assert!(facts.message.contains("package:pk0, which does not hold yet"), "{}", facts.message);
    sim.world.add_package("pk1", "");
    sim.follow();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync, "{:?}", sim.resource(&unit_a()));
    sim.check();
}

#[test]
fn prune_removes_what_bears_the_mark_and_is_not_named_any_more() {
    let mut world = World::new(MACHINE);
    world.add_bridge("other0");
    let mut sim = Sim::new(world);
    let port = PortSpec { bridge: "br0".into(), kind: Some("internal".to_owned()), ..PortSpec::default() };
    let mut doc =
        Document { bridges: [("br0".into(), BridgeSpec::default())].into(), prune: true, ..Document::default() };
    doc.ports.insert("p0".into(), port);
    assert_eq!(sim.converge(&doc), JobResult::Done);
    assert!(sim.resource(&ResourceId::port("p0")).owned);
    doc.ports.clear();
    assert_eq!(sim.converge(&doc), JobResult::Done);
    assert!(!sim.world.ports.contains_key("p0"));
    doc.bridges.clear();
    doc.bridges.insert("other0".into(), BridgeSpec { ensure: Ensure::Present, ..BridgeSpec::default() });
    assert_eq!(sim.converge(&doc), JobResult::Done);
    assert_eq!(sim.world.bridges.keys().map(|name| &**name).collect::<Vec<_>>(), ["other0"]);
    assert!(!sim.world.bridges["other0"].external_ids.contains_key(OWNER_KEY));
}

/// A bridge that is named no more is kept for what others plugged into it, and goes once they have unplugged it.
#[test]
fn a_prune_that_foreign_ports_held_up_is_taken_up_when_they_are_gone() {
    let mut sim = Sim::new(World::new(MACHINE));
    let mut doc =
        Document { bridges: [("br0".into(), BridgeSpec::default())].into(), prune: true, ..Document::default() };
    assert_eq!(sim.converge(&doc), JobResult::Done);
    sim.world.add_port("br0", "theirs", "internal");
    sim.world.add_port("br0", "theirs-too", "internal");
    sim.follow();
    doc.bridges.clear();
    let job = sim.set(&doc);
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Partial);
    assert!(sim.job(job).message.contains("ForeignPorts"), "{}", sim.job(job).message);
    assert!(sim.finished.last().is_some_and(|(.., complete)| !complete), "after a restart it is still to be done");
    let jobs = sim.view.jobs.len();
    sim.world.remove_port("theirs");
    sim.follow();
    sim.pass(60 * SECOND);
    assert_eq!(sim.view.jobs.len(), jobs, "nothing is tried while one is left");
    sim.world.remove_port("theirs-too");
    sim.follow();
    assert!(sim.world.bridges.is_empty(), "{:?}", sim.world.bridges.keys());
    assert_eq!(sim.view.jobs.len(), jobs + 1);
    assert!(sim.finished.last().is_some_and(|(.., complete)| *complete));
    // One that others have removed themselves is owed no more.
    doc.bridges.insert("br1".into(), BridgeSpec::default());
    assert_eq!(sim.converge(&doc), JobResult::Done);
    sim.world.add_port("br1", "theirs", "internal");
    sim.follow();
    doc.bridges.clear();
    assert_eq!(sim.converge(&doc), JobResult::Partial);
    sim.world.remove_port("theirs");
    sim.world.remove_port("br1");
    sim.world.bridges.clear();
    sim.follow();
    let last = sim.view.jobs.keys().next_back().copied().unwrap();
    assert_eq!(sim.result(last), JobResult::Unchanged);
}
