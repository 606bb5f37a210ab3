//! What happens while something else is under way, and what is left of it afterwards.

use super::*;

fn unit(name: &str) -> ResourceId {
    ResourceId::unit(name)
}

/// Two units; `b` is there from the start.
fn two_units(drift: DriftPolicy) -> Document {
    let mut doc = one_unit(drift);
    doc.units.insert("b.service".into(), active());
    doc
}

fn set_active(sim: &mut Sim, name: &str, active: &str) {
    sim.world.units.get_mut(name).unwrap().active_state = active.to_owned();
}

#[test]
fn what_comes_free_while_a_job_runs_is_taken_up_after_it() {
    let mut world = World::new(MACHINE);
    world.add_unit("b.service", "enabled", "inactive");
    let mut sim = Sim::new(world);
    sim.hold = true;
    sim.set(&two_units(DriftPolicy::Report));
    sim.pump();
    assert_eq!(sim.resource(&unit_a()).reason, Reason::UnitNotFound);
    sim.world.add_unit("a.service", "enabled", "inactive");
    sim.follow();
    sim.release();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    assert_eq!(sim.world.units["a.service"].active_state, "active");
}

#[test]
fn work_that_met_a_short_absence_is_taken_up() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.backend("systemd", BackendStatus::Connecting);
    assert_eq!(sim.converge(&one_unit(DriftPolicy::Report)), JobResult::Failed);
    sim.pass(SECOND);
    sim.connect("systemd");
    sim.pump();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    assert_eq!(sim.world.units["a.service"].active_state, "active");
}

#[test]
fn what_a_call_could_not_do_for_want_of_its_backend_is_done_when_it_is_back() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Report));
    sim.backend("systemd", BackendStatus::Unavailable);
    sim.pass(3 * SECOND);
    sim.core.reconcile(Some(unit_a()), Caller::default(), sim.now).unwrap();
    sim.pump();
    set_active(&mut sim, "a.service", "inactive");
    sim.connect("systemd");
    sim.pump();
    sim.pass(SECOND);
    assert_eq!(sim.world.units["a.service"].active_state, "active");
}

#[test]
fn an_overridden_resource_is_left_alone_by_every_job() {
    let mut sim = Sim::new(world_with_container(true));
    sim.converge(&guide());
    let id = ResourceId::container("100");
    sim.core.lifecycle(&id, LifecycleVerb::Stop, true, Caller::default(), sim.now).unwrap();
    sim.pump();
    sim.core.reconcile(None, Caller::default(), sim.now).unwrap();
    sim.pump();
    sim.converge(&guide());
    assert_eq!(sim.world.units["pve-container@100.service"].active_state, "inactive");
    assert_eq!(sim.resource(&id).status, Status::Paused);
    // ... until the next generation.
    let mut doc = guide();
    doc.bridges.insert("ovsbr0".into(), BridgeSpec::default());
    assert_eq!(sim.converge(&doc), JobResult::Done);
    assert_eq!(sim.world.units["pve-container@100.service"].active_state, "active");
}

#[test]
fn a_unit_that_sets_out_while_its_stop_settles_is_let_be() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Enforce));
    set_active(&mut sim, "a.service", "inactive");
    sim.follow();
    sim.pass(4 * SECOND);
    set_active(&mut sim, "a.service", "activating");
    sim.follow();
    sim.pass(60 * SECOND);
    assert_eq!(sim.view.state.jobs_total, 1);
    assert_eq!(sim.world.units["a.service"].active_state, "activating");
    // It did not get there: now it is drift.
    set_active(&mut sim, "a.service", "failed");
    sim.follow();
    sim.pass(SECOND);
    assert_eq!(sim.world.units["a.service"].active_state, "active");
}

#[test]
fn a_unit_on_its_way_does_not_show_as_in_sync() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Report));
    set_active(&mut sim, "a.service", "deactivating");
    sim.follow();
    let facts = sim.resource(&unit_a());
    assert_eq!((facts.status, facts.in_sync), (Status::Pending, false));
    assert_eq!(sim.drifts(), 0);
}

#[test]
fn nothing_is_awaited_that_cannot_be_taken_up() {
    let mut sim = Sim::new(world_with_container(true));
    sim.core = Core::new(
        Settings::default(),
        sim.core.inventory.clone(),
        Join::new(Patterns::default()),
        &["systemd", "ovsdb", "lxc", "packagekit"],
    );
    for plugin in ["systemd", "ovsdb", "packagekit"] {
        sim.connect(plugin);
    }
    sim.converge(&one_unit(DriftPolicy::Enforce));
    sim.world.add_unit("a.service", "enabled", "inactive");
    sim.converge(&one_unit(DriftPolicy::Enforce));
    // A start runs beside, and holds up the end.
    sim.hold = true;
    let id = ResourceId::container("100");
    sim.core.lifecycle(&id, LifecycleVerb::Start, false, Caller::default(), sim.now).unwrap();
    sim.pump();
    sim.core.shut_down(sim.now);
    set_active(&mut sim, "a.service", "failed");
    sim.follow();
    let now = sim.now.boot_usec;
    assert!(!sim.core.is_idle());
    assert!(sim.core.next_deadline().is_none_or(|at| at > now), "the driver would spin");
}

#[test]
fn no_start_begins_once_op_dbus_ends() {
    let mut sim = Sim::new(world_with_container(true));
    sim.core.shut_down(sim.now);
    let id = ResourceId::container("100");
    let job = sim.core.lifecycle(&id, LifecycleVerb::Start, false, Caller::default(), sim.now).unwrap();
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Cancelled);
    assert_eq!(sim.world.units["pve-container@100.service"].active_state, "inactive");
    assert!(sim.core.is_idle());
}

#[test]
fn an_end_does_not_wait_for_ever_for_a_step_that_has_begun() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.hold = true;
    let job = sim.set(&one_unit(DriftPolicy::Report));
    sim.pump();
    sim.core.shut_down(sim.now);
    sim.pump();
    sim.pass(Settings::default().end_grace - 1);
    assert!(!sim.core.is_idle());
    sim.pass(1);
    assert!(sim.core.is_idle());
    assert_eq!(sim.result(job), JobResult::Cancelled);
    assert_eq!(sim.job(job).steps[&1].state, StepState::Skipped);
    // It is taken up at the next start.
    assert_eq!(sim.finished.last(), Some(&(1, "cancelled", false)));
}

#[test]
fn a_plugin_that_never_says_a_word_fails_its_steps() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.hold = true;
    let job = sim.set(&one_unit(DriftPolicy::Report));
    sim.pump();
    sim.held.clear();
    sim.core.applied(job, sim.now);
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Failed);
    assert_eq!(sim.resource(&unit_a()).reason, Reason::Internal);
}

#[test]
fn a_unit_file_that_cannot_be_changed_holds_up_no_other_unit() {
    let mut world = world_of_one_unit();
    world.units.get_mut("a.service").unwrap().unit_file_state = "disabled".to_owned();
    world.add_unit("b.service", "disabled", "inactive");
    let mut doc = two_units(DriftPolicy::Report);
    for spec in doc.units.values_mut() {
        spec.enabled = Some(true);
    }
    let mut sim = Sim::new(world);
    sim.hold = true;
    let job = sim.set(&doc);
    sim.pump();
    // systemd refuses the one; the other goes its way.
    sim.core.plugin_event(
        "systemd",
        PluginEvent::Step {
            job,
            step: 1,
            state: StepState::Failed,
            reason: Reason::Refused,
            message: String::new(),
            retry: false,
            wrote: false,
        },
        sim.now,
    );
    sim.release();
    assert_eq!(sim.resource(&unit("b.service")).status, Status::InSync);
    assert_eq!(sim.resource(&unit_a()).reason, Reason::Refused);
    assert_eq!(sim.result(job), JobResult::Partial);
}

#[test]
fn a_bridge_whose_name_comes_free_is_made() {
    let mut world = World::new(MACHINE);
    world.add_bridge("br0");
    world.add_port("br0", "br1", "internal");
    let doc = Document { bridges: [("br1".into(), BridgeSpec::default())].into(), ..Document::default() };
    let mut sim = Sim::new(world);
    assert_eq!(sim.converge(&doc), JobResult::Failed);
    let id = ResourceId::bridge("br1");
    assert_eq!(sim.resource(&id).reason, Reason::NameTaken);
    sim.world.remove_port("br1");
    sim.follow();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&id).status, Status::InSync);
}

#[test]
fn a_containers_unit_of_another_template_is_followed() {
    let mut world = World::new(MACHINE);
    world.add_unit("lxc@100.service", "static", "active");
    let running = ContainerSpec { running: Some(true), ..ContainerSpec::default() };
    let doc =
        Document { drift: DriftPolicy::Enforce, containers: [("100".into(), running)].into(), ..Document::default() };
    let mut sim = Sim::new(world);
    assert_eq!(sim.converge(&doc), JobResult::Unchanged);
    let facts = sim.world.units.get_mut("lxc@100.service").unwrap();
    facts.active_state = "failed".to_owned();
    facts.job = Some(crate::model::UnitJob { id: 7, kind: "stop".to_owned() });
    sim.follow();
    sim.pass(60 * SECOND);
    assert_eq!(sim.world.units["lxc@100.service"].active_state, "failed", "it has a job");
    sim.world.units.get_mut("lxc@100.service").unwrap().job = None;
    sim.follow();
    sim.pass(SECOND);
    assert_eq!(sim.world.units["lxc@100.service"].active_state, "active");
}

/// The guide's container with a tag declared for its port.
fn tagged() -> Document {
    let mut doc = guide();
    doc.ports.insert("veth100".into(), PortSpec { bridge: "ovsbr0".into(), tag: Want::Is(10), ..PortSpec::default() });
    doc
}

#[test]
fn what_is_seen_for_the_first_time_was_not_plugged_anew() {
    let mut sim = Sim::new(world_with_container(true));
    sim.converge(&tagged());
    sim.world.ports.get_mut("veth100").unwrap().tag = Some(11);
    // op-dbus starts again in the same boot: the drift policy decides.
    sim.core = Core::new(
        Settings::default(),
        sim.core.inventory.clone(),
        Join::new(Patterns::default()),
        &["systemd", "ovsdb", "lxc"],
    );
    sim.notices.clear();
    let new = sim.new_desired();
    sim.core.restore(new, Left::Finished, sim.now);
    sim.pump();
    sim.connect("systemd");
    sim.connect("ovsdb");
    sim.pump();
    sim.pass(60 * SECOND);
    assert_eq!(sim.world.ports["veth100"].tag, Some(11));
    assert_eq!(sim.drifts(), 1);
}

#[test]
fn what_is_plugged_anew_while_a_job_runs_is_put_right_after_it() {
    let mut world = world_with_container(true);
    world.add_unit("a.service", "enabled", "inactive");
    let mut sim = Sim::new(world);
    sim.converge(&tagged());
    let mut doc = tagged();
    doc.units.insert("a.service".into(), active());
    sim.hold = true;
    sim.set(&doc);
    sim.pump();
    sim.world.remove_port("veth100");
    sim.world.add_port("ovsbr0", "veth100", "");
    sim.follow();
    sim.release();
    sim.pass(SECOND);
    assert_eq!(sim.world.ports["veth100"].tag, Some(10));
}

#[test]
fn a_generation_that_was_worked_through_before_a_restart_still_is() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Report));
    sim.core = Core::new(
        Settings::default(),
        sim.core.inventory.clone(),
        Join::new(Patterns::default()),
        &["systemd", "ovsdb", "lxc"],
    );
    sim.generation = 7;
    let new = sim.new_desired();
    sim.core.restore(new, Left::Finished, sim.now);
    sim.connect("systemd");
    sim.connect("ovsdb");
    sim.pump();
    assert_eq!(sim.view.state.observed_generation, 7);
    assert_eq!(sim.resource(&unit_a()).observed_generation, 7);
}

#[test]
fn job_numbers_are_asked_for_until_they_come() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.core.job_numbers(1, 100);
    let asked = |sim: &mut Sim| {
        sim.core.reconcile(None, Caller::default(), sim.now).unwrap();
        let (_, effects) = sim.core.settle();
        let asked = effects.iter().filter(|effect| matches!(effect, Effect::ReserveJobs)).count();
        for effect in effects {
            sim.carry_out(effect);
        }
        sim.pump();
        asked
    };
    sim.converge(&one_unit(DriftPolicy::Report));
    let mut times = 0;
    while times == 0 {
        times = asked(&mut sim);
    }
    assert_eq!(asked(&mut sim), 0, "one question at a time");
    // The disk is full: none come.
    sim.core.job_numbers(100, 100);
    assert_eq!(asked(&mut sim), 1);
    sim.core.job_numbers(100, 100);
    assert_eq!(asked(&mut sim), 1);
    sim.core.job_numbers(100, 400);
    assert_eq!(asked(&mut sim), 0);
}

#[test]
fn drift_that_cannot_be_mended_is_told_too() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Report));
    sim.world.units.remove("a.service");
    sim.follow();
    assert_eq!(sim.resource(&unit_a()).reason, Reason::UnitNotFound);
    sim.follow();
    assert_eq!(sim.drifts(), 1);
}

#[test]
fn two_hands_on_one_container_take_turns() {
    let mut world = world_with_container(true);
    world.add_unit("pve-container@101.service", "static", "inactive");
    let mut sim = Sim::new(world);
    let (one, other) = (ResourceId::container("100"), ResourceId::container("101"));
    sim.hold = true;
    let call = |sim: &mut Sim, id: &ResourceId, verb| {
        let job = sim.core.lifecycle(id, verb, false, Caller::default(), sim.now).unwrap();
        sim.pump();
        job
    };
    let start = call(&mut sim, &one, LifecycleVerb::Start);
    let stop = call(&mut sim, &one, LifecycleVerb::Stop);
    let beside = call(&mut sim, &other, LifecycleVerb::Start);
    let states = [start, stop, beside].map(|job| sim.job(job).state);
    assert_eq!(states, [JobState::Running, JobState::Queued, JobState::Running]);
    // A new document does not take over from them.
    sim.set(&one_unit(DriftPolicy::Report));
    sim.pump();
    sim.release();
    assert_eq!([start, stop, beside].map(|job| sim.result(job)), [JobResult::Done; 3]);
    assert_eq!(sim.world.units["pve-container@100.service"].active_state, "inactive");
}

#[test]
fn a_fight_over_a_unit_ends_also_where_each_try_fails() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.converge(&one_unit(DriftPolicy::Enforce));
    // Somebody stops it, and cancels each start.
    sim.world.away = true;
    set_active(&mut sim, "a.service", "failed");
    sim.follow();
    sim.pass(3600 * SECOND);
    assert_eq!(sim.view.state.jobs_total, 6);
    assert_eq!(sim.resource(&unit_a()).reason, Reason::TooManyCorrections);
}

#[test]
fn a_port_of_a_stopped_container_fails_no_job() {
    let mut doc = tagged();
    doc.containers.get_mut("100").unwrap().running = Some(false);
    let mut sim = Sim::new(world_with_container(true));
    assert_eq!(sim.converge(&doc), JobResult::Unchanged);
    let port = ResourceId::port("veth100");
    assert_eq!(sim.resource(&port).reason, Reason::ContainerStopped);
    let before = sim.view.resources.clone();
    assert_eq!(sim.converge(&doc), JobResult::Unchanged);
    assert!(sim.view.resources.ptr_eq(&before), "a resource changed although nothing was to be done");
    let job = sim
        .core
        .lifecycle(&ResourceId::container("100"), LifecycleVerb::Start, true, Caller::default(), sim.now)
        .unwrap();
    sim.pump();
    assert_eq!(sim.result(job), JobResult::Done);
    sim.pass(SECOND);
    assert_eq!(sim.world.ports["veth100"].tag, Some(10), "it is written once the container runs");
}

#[test]
fn ports_that_move_off_a_bridge_let_it_be_pruned() {
    let port =
        |bridge: &str| PortSpec { bridge: bridge.into(), kind: Some("internal".to_owned()), ..PortSpec::default() };
    let on = |bridge: &str| Document {
        prune: true,
        bridges: [(bridge.into(), BridgeSpec::default())].into(),
        ports: [("p0".into(), port(bridge))].into(),
        ..Document::default()
    };
    let mut sim = Sim::new(World::new(MACHINE));
    assert_eq!(sim.converge(&on("br0")), JobResult::Done);
    assert_eq!(sim.converge(&on("br1")), JobResult::Done);
    assert!(!sim.world.bridges.contains_key("br0"));
    assert_eq!(&*sim.world.ports["p0"].bridge, "br1");
}

#[test]
fn a_generation_is_worked_through_once_nothing_is_owed_any_more() {
    let mut sim = Sim::new(world_of_one_unit());
    sim.backend("systemd", BackendStatus::Unavailable);
    sim.pass(3 * SECOND);
    sim.converge(&one_unit(DriftPolicy::Report));
    assert_eq!(sim.finished, [(1, "failed", false)], "a restart now must take it up");
    sim.connect("systemd");
    sim.pump();
    sim.pass(SECOND);
    assert_eq!(sim.resource(&unit_a()).status, Status::InSync);
    assert_eq!(sim.finished, [(1, "failed", false), (1, "done", true)]);
}

#[test]
fn what_is_to_be_pruned_is_pruned_when_its_backend_is_back() {
    let mut world = world_of_one_unit();
    world.add_bridge("br0");
    world.bridges.get_mut("br0").unwrap().external_ids.insert(OWNER_KEY.to_owned(), MACHINE.to_owned());
    let mut sim = Sim::new(world);
    sim.backend("ovsdb", BackendStatus::Unavailable);
    let doc = Document { prune: true, ..one_unit(DriftPolicy::Report) };
    assert_eq!(sim.converge(&doc), JobResult::Partial);
    sim.pass(3 * SECOND);
    sim.connect("ovsdb");
    sim.pump();
    assert!(!sim.world.bridges.contains_key("br0"));
    assert_eq!(sim.finished, [(1, "partial", false), (1, "done", true)]);
}

#[test]
fn what_could_not_be_pruned_for_a_passing_fault_is_pruned_later() {
    let mut world = world_of_one_unit();
    world.add_bridge("br0");
    world.bridges.get_mut("br0").unwrap().external_ids.insert(OWNER_KEY.to_owned(), MACHINE.to_owned());
    world.away = true;
    let mut sim = Sim::new(world);
    assert_eq!(sim.converge(&Document { prune: true, ..Document::default() }), JobResult::Partial);
    // The waits between the tries grow.
    sim.pass(10 * SECOND);
    let tried = sim.view.state.jobs_total;
    assert!((3..10).contains(&tried), "{tried} jobs");
    sim.world.away = false;
    sim.pass(60 * SECOND);
    assert!(!sim.world.bridges.contains_key("br0"));
    assert_eq!(sim.finished.last(), Some(&(1, "done", true)));
    let done = sim.view.state.jobs_total;
    sim.pass(600 * SECOND);
    assert_eq!(sim.view.state.jobs_total, done, "and that was all");
}

/// The actions of a job, one after the other.
fn actions(sim: &Sim, job: JobId) -> Vec<&'static str> {
    sim.job(job).steps.values().map(|step| step.action).collect()
}

fn enabled_unit() -> Document {
    let spec = UnitSpec { enabled: Some(true), ..UnitSpec::default() };
    Document { units: [("a.service".into(), spec)].into(), ..Document::default() }
}

#[test]
fn a_reload_that_a_cancelled_job_left_undone_is_the_next_jobs() {
    let mut world = World::new(MACHINE);
    world.add_unit("a.service", "disabled", "inactive");
    let mut sim = Sim::new(world);
    sim.hold = true;
    let first = sim.set(&enabled_unit());
    sim.pump();
    sim.core.cancel(first, sim.now).unwrap();
    sim.release();
    assert_eq!(sim.world.units["a.service"].unit_file_state, "enabled", "it had begun");
    let states: Vec<_> = sim.job(first).steps.values().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Done, StepState::Skipped]);
    let second = sim.set(&enabled_unit());
    sim.pump();
    assert_eq!(actions(&sim, second), ["daemon-reload"]);
    let third = sim.set(&enabled_unit());
    sim.pump();
    assert_eq!(actions(&sim, third), [""; 0]);
    assert_eq!(sim.result(third), JobResult::Unchanged);
}

#[test]
fn after_a_crash_systemd_is_had_to_read_its_files_and_on_a_new_boot_it_has() {
    for (left, reloads) in [(Left::Unfinished, true), (Left::FinishedInEarlierBoot, false), (Left::Finished, false)] {
        let mut world = World::new(MACHINE);
        world.add_unit("a.service", "enabled", "inactive");
        let mut sim = Sim::new(world);
        sim.generation = 7;
        sim.document = Arc::new(enabled_unit());
        let new = sim.new_desired();
        sim.core.restore(new, left, sim.now);
        sim.pump();
        sim.pass(60 * SECOND);
        let reloaded = sim.view.jobs.keys().any(|job| actions(&sim, *job) == ["daemon-reload"]);
        assert_eq!(reloaded, reloads, "{left:?}");
    }
}
