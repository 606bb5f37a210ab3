//! From a document and what is observed to steps.

mod machined;
mod ovsdb;
mod proxmox;
mod prune;
mod replug;
mod unit;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use prune::ports_against_prune;

use super::{
    Action, Desired, Hand, Inventory, Plan, PortOp, Step, StepId, UnitOp,
    assess::{Assessment, Why, assess, container_unit, machined::is_machined},
    build::replug::is_plugged_by_nobody,
    graph::{Dependencies, dependencies, order},
    object::{object_away, parts},
    packages::{before_reload, package_action},
};
use crate::{
    desired::ContainerSpec,
    model::{BackendStatus, Difference, Kind, Name, Observed, Reason, ResourceId, Subject},
};

/// The plugins that must be connected for a resource to be read and written.
#[must_use]
pub fn backends(doc: &Desired, id: &ResourceId, inventory: &Inventory) -> &'static [&'static str] {
    let proxmox = match id.kind {
        Kind::Unit => inventory.proxmox_unit(&id.name).is_some(),
        Kind::Port => doc.ports.contains_key(&id.name) && inventory.proxmox_port(&id.name).is_some(),
        Kind::Container => inventory.is_proxmox(&id.name),
        Kind::Package | Kind::Bridge | Kind::Object => false,
    };
    if proxmox {
        return &["lxc"];
    }
    match id.kind {
        Kind::Package => &["packagekit"],
        Kind::Unit => &["systemd"],
        Kind::Bridge | Kind::Port => &["ovsdb"],
        Kind::Container if doc.containers.get(&id.name).is_some_and(ContainerSpec::is_on_bridge) => {
            &["lxc", "systemd", "ovsdb"]
        }
        Kind::Container => &["lxc", "systemd"],
        Kind::Object => &["dbus"],
    }
}

/// Plans the way from what is observed to the document, for the resources in `scope` (`None` = all).
///
/// A satisfied document plans to nothing. What cannot be done is listed, with `blocked`.
#[must_use]
pub fn plan(doc: &Desired, observed: &Observed, inventory: &Inventory, scope: Option<&BTreeSet<ResourceId>>) -> Plan {
    let mut dependencies = dependencies(doc, observed, inventory);
    if let Some(scope) = scope {
        // A container and its declared unit are one resource: what starts the one starts the other.
        let containers = scope.iter().filter(|id| id.kind == Kind::Container);
        let units: BTreeSet<_> =
            containers.map(|id| ResourceId::unit(container_unit(doc, &id.name, observed, inventory))).collect();
        dependencies.retain(|id, _| scope.contains(id) || units.contains(id));
    }
    let (ordered, cyclic) = order(&dependencies);
    let mut builder = Builder {
        doc,
        observed,
        inventory,
        steps: Vec::new(),
        reload: None,
        file_steps: BTreeMap::new(),
        needs_reload: BTreeSet::new(),
        packages: BTreeSet::new(),
        early: true,
        ends: BTreeMap::new(),
        late_files: BTreeSet::new(),
    };
    // Packages come first, with what they wait for; then the unit files, which they may bring; then the one reload.
    let (early, late): (Vec<_>, Vec<_>) = {
        let first = before_reload(&dependencies);
        ordered.iter().partition(|id| first.contains(*id))
    };
    for id in early {
        let assessment = builder.assess(id);
        builder.resource(id, assessment, &dependencies);
    }
    builder.early = false;
    let mut assessed = Vec::with_capacity(late.len());
    for id in late {
        let assessment = builder.assess(id);
        builder.unit_files(id, &assessment, &dependencies);
        assessed.push((id, assessment));
    }
    builder.add_reload();
    if scope.is_none() {
        builder.templates();
    }
    for (id, assessment) in assessed {
        builder.resource(id, assessment, &dependencies);
    }
    for id in &cyclic {
        let why = (Reason::DependencyFailed, format!("{id} waits for itself by way of what it comes after"));
        builder.push(id.clone(), Action::Nothing, Vec::new(), BTreeSet::new(), Some(why), Vec::new());
    }
    if scope.is_none() && inventory.hand == Hand::Systemd {
        builder.machine_templates();
    }
    builder.reload_late();
    if doc.prune && scope.is_none() {
        builder.prune();
    }
    Plan { steps: builder.steps.into_iter().map(Arc::new).collect() }
}

/// What those who come after a resource wait for.
#[derive(Debug, Clone, Default)]
struct Ends {
    steps: BTreeSet<StepId>,
    /// It cannot come to hold: neither can they.
    failed: Option<ResourceId>,
}

struct Builder<'a> {
    doc: &'a Desired,
    observed: &'a Observed,
    inventory: &'a Inventory,
    steps: Vec<Step>,
    reload: Option<StepId>,
    /// The steps of [`Builder::unit_files`], by unit.
    file_steps: BTreeMap<ResourceId, BTreeSet<StepId>>,
    /// Units that the reload is for.
    needs_reload: BTreeSet<Name>,
    /// Steps on packages before the reload: they may bring unit files, or take them away.
    packages: BTreeSet<StepId>,
    /// The reload is still to come.
    early: bool,
    /// What those who come after a resource wait for, of each that was dealt with.
    ends: BTreeMap<ResourceId, Ends>,
    /// Steps on unit files that no other waits for, and the reload does not come before.
    late_files: BTreeSet<StepId>,
}

impl Builder<'_> {
    fn assess(&self, id: &ResourceId) -> Assessment {
        if let Some(away) =
            backends(self.doc, id, self.inventory).iter().find(|plugin| !self.observed.is_connected(plugin))
        {
            let why = away_why(self.observed, away);
            return Assessment { blocked: Some(why), ..Assessment::default() };
        }
        if let Some(why) = object_away(self.observed, id) {
            return Assessment { blocked: Some(why), ..Assessment::default() };
        }
        assess(self.doc, id, self.observed, self.inventory)
    }

    fn push(
        &mut self,
        subject: impl Into<Subject>,
        action: Action,
        changes: Vec<Difference>,
        after: BTreeSet<StepId>,
        blocked: Option<Why>,
        warnings: Vec<String>,
    ) -> StepId {
        let id = StepId::try_from(self.steps.len() + 1).unwrap_or(StepId::MAX);
        let after = after.into_iter().collect();
        self.steps.push(Step { id, subject: subject.into(), action, changes, after, blocked, warnings });
        id
    }

    /// What a resource waits for, as far as that was dealt with.
    fn before(&self, id: &ResourceId, dependencies: &Dependencies) -> Ends {
        let mut before = Ends::default();
        for end in dependencies.get(id).into_iter().flatten().filter_map(|earlier| self.ends.get(earlier)) {
            before.steps.extend(&end.steps);
            before.failed = before.failed.or_else(|| end.failed.clone());
        }
        before
    }

    fn resource(&mut self, id: &ResourceId, assessment: Assessment, dependencies: &Dependencies) {
        let mut before = self.before(id, dependencies);
        before.failed = before.failed.or_else(|| self.held_bringer(&self.bringers(id, &assessment), dependencies));
        let ends = self.steps_of(id, assessment, &before);
        self.ends.insert(id.clone(), ends);
    }

    fn steps_of(&mut self, id: &ResourceId, mut assessment: Assessment, before: &Ends) -> Ends {
        let own = self.file_steps.remove(id).unwrap_or_default();
        let needs_work = !assessment.differences.is_empty() || assessment.blocked.is_some();
        if !needs_work {
            return before.clone();
        }
        if assessment.blocked.is_none() {
            assessment.blocked = before.failed.as_ref().map(|on| {
                // What is part of this job was dealt with before.
                let why = if self.ends.contains_key(on) { "cannot come to hold" } else { "does not hold yet" };
                (Reason::DependencyFailed, format!("waits for {on}, which {why}"))
            });
        }
        if let Some(why) = assessment.blocked {
            let step = self.push(
                id.clone(),
                Action::Nothing,
                assessment.differences,
                before.steps.clone(),
                Some(why),
                assessment.warnings,
            );
            // It is there, and as it is until the restart it stands in nobody's way.
            if self.steps.last().is_some_and(waits_for_restart) {
                return before.clone();
            }
            return Ends { steps: BTreeSet::from([step]), failed: Some(id.clone()) };
        }
        let mut after = before.steps.clone();
        after.extend(&own);
        let mut steps = match id.kind {
            Kind::Package => self.package(id, &assessment, after),
            Kind::Unit if self.inventory.proxmox_unit(&id.name).is_some() => self.guest_unit(id, &assessment, after),
            Kind::Port if self.inventory.proxmox_port(&id.name).is_some() => self.plugged_port(id, &assessment, after),
            Kind::Container if self.inventory.is_proxmox(&id.name) => self.guest(id, &assessment, after),
            Kind::Unit => self.unit(id, &assessment, &own, after),
            Kind::Bridge => self.bridge(id, &assessment, &after),
            Kind::Port => self.port(id, &assessment, after),
            Kind::Container => self.container(id, &assessment, after),
            Kind::Object => self.object(id, after),
        };
        steps.extend(own);
        if id.kind == Kind::Unit && self.waits_for_reload(&id.name) {
            steps.extend(self.reload);
        }
        if steps.is_empty() {
            // What it needs is another resource's step: its unit's.
            steps.clone_from(&before.steps);
        }
        Ends { steps, failed: None }
    }

    fn package(&mut self, id: &ResourceId, assessment: &Assessment, after: BTreeSet<StepId>) -> BTreeSet<StepId> {
        let Some(spec) = self.doc.packages.get(&id.name) else { return BTreeSet::new() };
        let action = package_action(self.doc, &id.name, spec, self.observed);
        let (changes, warnings) = (assessment.differences.clone(), assessment.warnings.clone());
        let step = self.push(id.clone(), action, changes, after, None, warnings);
        let mut steps = BTreeSet::from([step]);
        if self.early {
            self.packages.insert(step);
        } else if self.observed.is_connected("systemd") {
            // It waited for a unit or a container, and so could not be before the one reload.
            steps.insert(self.push_reload(BTreeSet::from([step])));
        }
        steps
    }

    /// The calls of an object, one after the other: each may repeat what another has set.
    fn object(&mut self, id: &ResourceId, mut after: BTreeSet<StepId>) -> BTreeSet<StepId> {
        let (doc, observed) = (self.doc, self.observed);
        let known = doc.objects.get(&id.name).zip(observed.objects.get(&id.name));
        // That the calls can be made, the assessment has shown.
        let parts = known.and_then(|(spec, facts)| parts(&id.name, spec, facts).ok()).unwrap_or_default();
        let mut steps = BTreeSet::new();
        for (op, changes) in parts {
            let action = Action::Object(id.name.clone(), op);
            let step = self.push(id.clone(), action, changes, after.clone(), None, Vec::new());
            steps.insert(step);
            after.insert(step);
        }
        steps
    }

    fn container(&mut self, id: &ResourceId, assessment: &Assessment, mut after: BTreeSet<StepId>) -> BTreeSet<StepId> {
        let Some(spec) = self.doc.containers.get(&id.name) else { return BTreeSet::new() };
        if is_machined(spec, self.inventory) {
            return self.machined(id, spec, assessment, after);
        }
        let unit = container_unit(self.doc, &id.name, self.observed, self.inventory);
        let mut steps = BTreeSet::new();
        let running = assessment.differences.iter().any(|difference| difference.field == "running");
        let by_unit = self.doc.units.get(&unit).is_some_and(|spec| spec.active_state.is_some());
        let starts = running && !by_unit && spec.running == Some(true);
        let port = self.container_port(&id.name, spec);
        let replug = port.filter(|_| starts && is_plugged_by_nobody(&unit, &id.name));
        if let Some((port, _)) = &replug {
            let action = Action::Port(port.clone(), PortOp::Delete);
            let step = self.push(id.clone(), action, Vec::new(), after.clone(), None, Vec::new());
            steps.insert(step);
            after.insert(step);
        }
        if running && !by_unit {
            let op = if spec.running == Some(true) { UnitOp::Start } else { UnitOp::Stop };
            let changes = assessment.changes(&["running"]);
            let action = Action::Unit(unit, op);
            let step = self.push(id.clone(), action, changes, after.clone(), None, assessment.warnings.clone());
            steps.insert(step);
            after.insert(step);
        }
        let replug = replug.map(|(port, spec)| (port, PortOp::Plug(Arc::new(spec))));
        if let Some((port, plug)) = replug.or_else(|| self.container_plug(&id.name, spec, assessment)) {
            let changes = assessment.changes(&["bridge", "device"]);
            let action = Action::Port(port, plug);
            steps.insert(self.push(id.clone(), action, changes, after, None, assessment.warnings.clone()));
        }
        steps
    }
}

/// Whether all that a step is there for is to say that a restart is waited for.
fn waits_for_restart(step: &Step) -> bool {
    step.blocked.as_ref().is_some_and(|(reason, _)| *reason == Reason::RestartNeeded)
}

/// Why a backend that is not connected cannot be written.
fn away_why(observed: &Observed, plugin: &str) -> Why {
    let backend = observed.backends.get(plugin);
    if backend.is_some_and(|backend| backend.status == BackendStatus::Disabled) {
        return (Reason::Disabled, format!("{plugin} is switched off by the configuration"));
    }
    let message = backend.map_or("", |backend| &backend.message);
    (Reason::BackendAway, format!("{plugin} is away{}{message}", if message.is_empty() { "" } else { ": " }))
}

impl Assessment {
    /// The differences of those fields; a field that ends in a dot stands for all keys under it.
    fn changes(&self, fields: &[&str]) -> Vec<Difference> {
        let is_one = |difference: &&Difference| {
            fields.iter().any(|field| {
                difference.field == *field || (field.ends_with('.') && difference.field.starts_with(field))
            })
        };
        self.differences.iter().filter(is_one).cloned().collect()
    }
}
