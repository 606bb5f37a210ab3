//! The core against the simulated twin, with time in hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::{
    desired::{
        ActiveState, BridgeSpec, Common, ContainerSpec, Ensure, PackageEnsure, PackageSpec, PortSpec, UnitSpec, Want,
    },
    model::{
        Backend, BackendStatus, Change, DriftPolicy, JobFacts, JobResult, JobState, Name, OP_DBUS_UID, PackageFacts,
        Reason, ResourceFacts, StepState, SwitchFacts,
    },
    plan::{OWNER_KEY, plan, tests as plans},
    plugins::{PluginEvent, lxc::Patterns, simulated::World},
    reconcile::{CoreError, LifecycleVerb},
};

mod drift;
mod hints;
mod jobs;
mod nodes;
mod objects;
mod races;
mod random;
mod replug;
mod retries;
mod switch;

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
