//! The core against the simulated twin, with time in hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    desired::{ActiveState, BridgeSpec, ContainerSpec, Ensure, PortSpec, UnitSpec, Want},
    model::{
        Backend, BackendStatus, DriftPolicy, JobFacts, JobResult, JobState, Name, OP_DBUS_UID, Reason, ResourceFacts,
        StepState,
    },
    plan::{OWNER_KEY, plan, tests as plans},
    plugins::{PluginEvent, lxc::Patterns, simulated::World},
    reconcile::{CoreError, LifecycleVerb},
};

mod hints;
mod nodes;
mod objects;
mod races;

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// A core with a world under it.
struct Sim {
    core: Core,
    world: World,
    now: Now,
    view: Snapshot,
    notices: Vec<Notice>,
    finished: Vec<(u64, &'static str, bool)>,
    asked: Vec<Name>,
    /// Containers that the plugin was hinted at, in order.
    hints: Vec<Name>,
    /// Applies are kept back until [`Sim::release`].
    hold: bool,
    held: Vec<Effect>,
    generation: u64,
    document: Arc<Document>,
}

impl Sim {
    fn new(world: World) -> Self {
        let inventory = Inventory {
            machine_id: MACHINE.to_owned(),
            protected_units: vec![],
            protected_calls: Vec::new(),
            container_unit: "pve-container@%.service".to_owned(),
            retry_unmet: false,
            reload_owed: false,
            hand: crate::plan::Hand::default(),
        };
        let core = Core::new(
            Settings::default(),
            inventory,
            Join::new(Patterns::default()),
            &["systemd", "ovsdb", "lxc", "packagekit", "dbus"],
        );
        let mut sim = Self {
            core,
            world,
            now: Now { boot_usec: SECOND, real_usec: 1_000_000 * SECOND },
            view: Snapshot::default(),
            notices: Vec::new(),
            finished: Vec::new(),
            asked: Vec::new(),
            hints: Vec::new(),
            hold: false,
            held: Vec::new(),
            generation: 0,
            document: Arc::default(),
        };
        for plugin in ["systemd", "ovsdb", "packagekit", "dbus"] {
            sim.connect(plugin);
        }
        sim.pump();
        sim
    }

    fn backend(&mut self, plugin: &'static str, status: BackendStatus) {
        let backend = Backend { status, message: String::new(), version: "1".to_owned(), reconnects: 0 };
        self.core.plugin_event(plugin, PluginEvent::Backend(backend), self.now);
    }

    fn connect(&mut self, plugin: &'static str) {
        let facts = match plugin {
            "systemd" => self.world.systemd(self.asked.clone()),
            "packagekit" => self.world.packagekit(),
            "ovsdb" => self.world.ovsdb(),
            _ => self.world.dbus(),
        };
        self.core.plugin_event(plugin, PluginEvent::Reset(facts), self.now);
        self.backend(plugin, BackendStatus::Connected);
    }

    /// The world changed behind op-dbus's back: both mirrors follow.
    fn follow(&mut self) {
        self.tell();
        self.pump();
    }

    fn tell(&mut self) {
        let facts = self.world.systemd(self.asked.clone());
        self.core.plugin_event("systemd", PluginEvent::Reset(facts), self.now);
        let facts = self.world.ovsdb();
        self.core.plugin_event("ovsdb", PluginEvent::Reset(facts), self.now);
        let facts = self.world.packagekit();
        self.core.plugin_event("packagekit", PluginEvent::Reset(facts), self.now);
        let facts = self.world.dbus();
        self.core.plugin_event("dbus", PluginEvent::Changes(facts), self.now);
    }

    fn pump(&mut self) {
        loop {
            let (view, effects) = self.core.settle();
            self.view = view;
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Watch { generation, interest } => {
                self.asked = interest.units.keys().cloned().collect();
                self.tell();
                self.core.watched(generation, self.now);
            }
            Effect::Prepare { job, .. } => self.core.prepared(job, self.now),
            Effect::Plan { job, desired, scope, fresh, .. } => {
                let inventory = Inventory { retry_unmet: fresh, ..self.core.inventory().clone() };
                let plan = plan(&desired, &self.view.observed, &inventory, scope.as_ref());
                self.core.planned(job, &Arc::new(plan), self.now);
            }
            effect @ Effect::Apply { .. } if self.hold => self.held.push(effect),
            Effect::Apply { plugin, work } => {
                for step in &work.steps {
                    let mut event = |state, reason, retry, wrote| {
                        let message = String::new();
                        let event =
                            PluginEvent::Step { job: work.job, step: step.id, state, reason, message, retry, wrote };
                        self.core.plugin_event(plugin, event, self.now);
                    };
                    event(StepState::Running, Reason::None, false, false);
                    let done = self.world.apply(step);
                    self.tell();
                    let event = PluginEvent::Step {
                        job: work.job,
                        step: step.id,
                        state: done.state,
                        reason: done.reason,
                        message: String::new(),
                        retry: done.retry,
                        wrote: done.wrote,
                    };
                    self.core.plugin_event(plugin, event, self.now);
                }
                self.core.applied(work.job, self.now);
            }
            Effect::Notice(notice) => self.notices.push(notice),
            Effect::Finished { generation, result, complete } => self.finished.push((generation, result, complete)),
            Effect::Hint { containers, .. } => self.hints.extend(containers),
            Effect::ReserveJobs => {}
        }
    }

    fn release(&mut self) {
        self.hold = false;
        for effect in std::mem::take(&mut self.held) {
            self.carry_out(effect);
        }
        self.pump();
    }

    /// Lets time pass, stopping at each deadline on the way.
    fn pass(&mut self, usec: u64) {
        let end = self.now.boot_usec + usec;
        // Bounded: a core that asked for the same instant for ever would hang the test.
        for _ in 0..10_000 {
            let Some(at) = self.core.next_deadline().filter(|at| *at <= end) else { break };
            let step = at.saturating_sub(self.now.boot_usec);
            self.now.boot_usec += step;
            self.now.real_usec += step;
            self.core.tick(self.now);
            self.pump();
        }
        let rest = end.saturating_sub(self.now.boot_usec);
        self.now.boot_usec += rest;
        self.now.real_usec += rest;
        self.core.tick(self.now);
        self.pump();
    }

    fn set(&mut self, doc: &Document) -> JobId {
        let doc = Arc::new(doc.clone());
        if doc != self.document || self.generation == 0 {
            self.generation += 1;
            self.document = doc;
        }
        let new = self.new_desired();
        self.core.set_desired(new, self.now)
    }

    fn new_desired(&self) -> NewDesired {
        NewDesired {
            generation: self.generation,
            document: self.document.clone(),
            source: StateSource::Bus,
            caller: Caller::default(),
        }
    }

    /// Sets a document and lets its job run.
    fn converge(&mut self, doc: &Document) -> JobResult {
        let job = self.set(doc);
        self.pump();
        self.result(job)
    }

    fn job(&self, job: JobId) -> &JobFacts {
        self.view.jobs.get(&job).expect("the job is on the tree")
    }

    fn result(&self, job: JobId) -> JobResult {
        self.job(job).result.expect("the job is over")
    }

    fn resource(&self, id: &ResourceId) -> &ResourceFacts {
        self.view.resources.get(id).unwrap_or_else(|| panic!("{id} is not on the tree"))
    }

    fn drifts(&self) -> usize {
        self.notices.iter().filter(|notice| matches!(notice, Notice::DriftDetected { .. })).count()
    }

    /// What the counters say is what the tree says.
    fn check(&self) {
        let managed: Vec<_> = self.view.resources.iter().filter(|(_, facts)| facts.managed).collect();
        let count =
            |status: Status| u32::try_from(managed.iter().filter(|(_, facts)| facts.status == status).count()).unwrap();
        let state = &self.view.state;
        assert_eq!(state.managed, u32::try_from(managed.len()).unwrap());
        assert_eq!(state.drifted, count(Status::Drifted));
        assert_eq!(state.failed, count(Status::Failed));
        assert_eq!(state.blocked, count(Status::Blocked));
        assert_eq!(state.unknown, count(Status::Unknown));
        assert_eq!(state.in_sync, managed.iter().all(|(_, facts)| facts.in_sync));
        let declared: BTreeSet<_> = self.document.resources().collect();
        assert_eq!(declared, managed.into_iter().map(|(id, _)| id.clone()).collect());
    }
}

fn active() -> UnitSpec {
    UnitSpec { active_state: Some(ActiveState::Active), ..UnitSpec::default() }
}

fn one_unit(drift: DriftPolicy) -> Document {
    Document { drift, units: [("a.service".into(), active())].into(), ..Document::default() }
}

fn world_of_one_unit() -> World {
    let mut world = World::new(MACHINE);
    world.add_unit("a.service", "enabled", "inactive");
    world
}

fn unit_a() -> ResourceId {
    ResourceId::unit("a.service")
}

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

fn world_with_container(hook: bool) -> World {
    let mut world = World::new(MACHINE);
    world.add_bridge("ovsbr0");
    world.add_unit("pve-container@100.service", "static", "inactive");
    if hook {
        world.hooks.insert("pve-container@100.service".into(), ("veth100".into(), "ovsbr0".into()));
    }
    world
}

fn guide() -> Document {
    let container = ContainerSpec {
        veth: Some("veth100".into()),
        bridge: Some("ovsbr0".into()),
        running: Some(true),
        ..ContainerSpec::default()
    };
    Document { containers: [("100".into(), container)].into(), ..Document::default() }
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

#[derive(Debug, Clone)]
enum Event {
    Set(usize),
    Reconcile,
    Stop(usize),
    Unplug(usize),
    Away(bool),
    Back(bool),
    Faulty(bool),
    Pass(u64),
    Cancel,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..3usize).prop_map(Event::Set),
        1 => Just(Event::Reconcile),
        2 => (0..8usize).prop_map(Event::Stop),
        2 => (0..8usize).prop_map(Event::Unplug),
        1 => any::<bool>().prop_map(Event::Away),
        2 => any::<bool>().prop_map(Event::Back),
        1 => any::<bool>().prop_map(Event::Faulty),
        3 => (0..20 * SECOND).prop_map(Event::Pass),
        1 => Just(Event::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens on the way: once the backends are back and Reconcile was called, every job is over, the
    /// counters are right, and only what is blocked is out of sync.
    #[test]
    fn it_comes_right_in_the_end(
        docs in proptest::collection::vec(plans::document(), 3),
        world in plans::world(),
        events in proptest::collection::vec(event(), 0..25),
    ) {
        let mut sim = Sim::new(world);
        for event in events {
            match event {
                Event::Set(doc) => drop(sim.set(&docs[doc])),
                Event::Reconcile => drop(sim.core.reconcile(None, Caller::default(), sim.now)),
                Event::Stop(at) => {
                    let name = sim.world.units.keys().nth(at).cloned();
                    if let Some(unit) = name.and_then(|name| sim.world.units.get_mut(&name)) {
                        unit.active_state = "failed".to_owned();
                        sim.tell();
                    }
                }
                Event::Unplug(at) => {
                    let name = sim.world.ports.iter().filter(|(name, port)| **name != port.bridge).nth(at).map(|(name, _)| name.clone());
                    if let Some(name) = name {
                        sim.world.remove_port(&name);
                        sim.tell();
                    }
                }
                Event::Away(systemd) => sim.backend(if systemd { "systemd" } else { "ovsdb" }, BackendStatus::Connecting),
                Event::Back(systemd) => sim.connect(if systemd { "systemd" } else { "ovsdb" }),
                Event::Faulty(faulty) => sim.world.away = faulty,
                Event::Pass(usec) => sim.pass(usec),
                Event::Cancel => {
                    if let Some(job) = sim.core.writer {
                        sim.core.cancel(job, sim.now).unwrap();
                    }
                }
            }
            sim.pump();
            sim.check();
        }
        sim.world.away = false;
        sim.connect("systemd");
        sim.connect("ovsdb");
        sim.pump();
        if sim.generation == 0 {
            return Ok(());
        }
        // Twice: a hook may re-plug a port while its container starts.
        for _ in 0..2 {
            sim.core.reconcile(None, Caller::default(), sim.now).unwrap();
            sim.pump();
            sim.pass(60 * SECOND);
        }
        sim.check();
        prop_assert!(sim.core.is_idle());
        for (id, facts) in sim.view.resources.iter().filter(|(_, facts)| facts.managed) {
            prop_assert!(facts.in_sync || facts.status == Status::Blocked, "{} is {:?}", id, facts);
        }
        let ended: BTreeMap<JobId, usize> = sim.notices.iter().fold(BTreeMap::new(), |mut ended, notice| {
            if let Notice::JobFinished { job, .. } = notice {
                *ended.entry(*job).or_default() += 1;
            }
            ended
        });
        prop_assert!(ended.values().all(|times| *times == 1), "a job finished twice");
        prop_assert_eq!(u64::try_from(ended.len()).unwrap(), sim.view.state.jobs_total);
    }
}
