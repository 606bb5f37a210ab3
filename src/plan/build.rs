//! From a document and what is observed to steps.

mod machined;
mod prune;
mod replug;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use prune::ports_against_prune;

use super::{
    Action, BridgeOp, ContainerOp, Desired, Hand, Inventory, Plan, PortOp, Step, StepId, TemplateOp, UnitOp,
    assess::{Assessment, Why, assess, container_port, container_unit, foreign_ports, machined::is_machined},
    build::replug::{as_it_was, is_plugged_by_nobody},
    graph::{Dependencies, dependencies, order},
    guest::guest_actions,
    moving,
    object::{object_away, parts},
    packages::{before_reload, bringers_of_unit, package_action},
};
use crate::{
    desired::{ActiveState, ContainerSpec, Ensure, PortSpec, UnitSpec},
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

    /// A package for want of which a unit cannot come: it is not there, and all that may bring it are held up themselves.
    fn held_bringer(&self, id: &ResourceId, assessment: &Assessment) -> Option<ResourceId> {
        let missing = id.kind == Kind::Unit && !assessment.present && assessment.blocked.is_none();
        let spec = self.doc.units.get(&id.name).filter(|_| missing)?;
        let bringers = bringers_of_unit(self.doc, spec, self.observed).into_iter().map(ResourceId::package);
        let held = |package: &ResourceId| self.ends.get(package).is_some_and(|ends| ends.failed.is_some());
        let (held, free): (Vec<_>, Vec<_>) = bringers.partition(held);
        held.into_iter().next().filter(|_| free.is_empty())
    }

    /// The steps on unit files, and the stops that must precede a mask. They come first and wait for nothing but the
    /// packages that bring the unit: the one reload of the plan waits for them, and starts that have dependencies of
    /// their own wait for the reload.
    fn unit_files(&mut self, id: &ResourceId, assessment: &Assessment, dependencies: &Dependencies) {
        let Some(spec) = self.doc.units.get(&id.name).filter(|_| id.kind == Kind::Unit) else { return };
        if self.inventory.proxmox_unit(&id.name).is_some() {
            return;
        }
        if assessment.blocked.is_some() || self.held_bringer(id, assessment).is_some() {
            return;
        }
        let unit = self.acting_name(&id.name);
        let part = UnitPart::of(spec, assessment);
        let mut after = BTreeSet::new();
        let packages = |id: &&ResourceId| id.kind == Kind::Package;
        for package in dependencies.get(id).into_iter().flatten().filter(packages) {
            // A package that comes after the reload takes this with it; one that cannot come at all leaves it undone.
            let Some(ends) = self.ends.get(package).filter(|ends| ends.failed.is_none()) else { return };
            after.extend(&ends.steps);
        }
        if !assessment.present {
            let bringers = bringers_of_unit(self.doc, spec, self.observed).into_iter().map(ResourceId::package);
            for ends in bringers.filter_map(|package| self.ends.get(&package)) {
                after.extend(&ends.steps);
            }
        }
        if part.files.is_none() {
            let owed = self.inventory.reload_owed && (spec.enabled.is_some() || spec.masked.is_some());
            let stale = owed || self.observed.units.get(&id.name).is_some_and(|facts| facts.need_daemon_reload);
            if stale && (part.starts || !part.properties.is_empty()) {
                self.needs_reload.insert(id.name.clone());
            }
            return;
        }
        if part.stops && spec.masked == Some(true) {
            let changes = assessment.changes(&["active_state"]);
            after.insert(self.push(
                id.clone(),
                Action::Unit(unit.clone(), UnitOp::Stop),
                changes,
                after.clone(),
                None,
                assessment.warnings.clone(),
            ));
        }
        if let Some(files) = part.files {
            let changes = assessment.changes(&["masked", "enabled"]);
            let action = Action::Unit(unit, files);
            let step = self.push(id.clone(), action, changes, after.clone(), None, assessment.warnings.clone());
            after.insert(step);
            self.file_steps.insert(id.clone(), after);
            self.needs_reload.insert(id.name.clone());
        }
    }

    fn add_reload(&mut self) {
        let connected = self.observed.is_connected("systemd");
        let owed = self.inventory.reload_owed && connected;
        let packages = connected && !self.packages.is_empty();
        if self.needs_reload.is_empty() && !owed && !packages {
            return;
        }
        let is_files = |step: &&Step| matches!(step.action, Action::Unit(_, UnitOp::Files { .. }));
        let files = self.steps.iter().filter(is_files).map(|step| step.id);
        let after = files.chain(self.packages.iter().copied()).collect();
        let reload = self.push_reload(after);
        self.reload = Some(reload);
        for (_, ends) in self.ends.iter_mut().filter(|(id, _)| id.kind == Kind::Package) {
            // What comes after a package may need what it brought.
            if !ends.steps.is_disjoint(&self.packages) {
                ends.steps.insert(reload);
            }
        }
    }

    fn push_reload(&mut self, after: BTreeSet<StepId>) -> StepId {
        self.push(Subject::Plugin("systemd"), Action::ReloadSystemd, Vec::new(), after, None, Vec::new())
    }

    /// The unit's Id where the document names an alias.
    fn acting_name(&self, name: &Name) -> Name {
        let id = self.observed.units.get(name).map(|facts| facts.id.as_str()).filter(|id| !id.is_empty());
        id.map_or_else(|| name.clone(), Name::from)
    }

    fn resource(&mut self, id: &ResourceId, assessment: Assessment, dependencies: &Dependencies) {
        let mut before = self.before(id, dependencies);
        before.failed = before.failed.or_else(|| self.held_bringer(id, &assessment));
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
            assessment.blocked = before
                .failed
                .as_ref()
                .map(|on| (Reason::DependencyFailed, format!("waits for {on}, which cannot come to hold")));
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

    /// Packages, and what others changed in unit files, before units.
    fn waits_for_reload(&self, unit: &Name) -> bool {
        self.needs_reload.contains(unit) || !self.packages.is_empty()
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

    fn unit(
        &mut self,
        id: &ResourceId,
        assessment: &Assessment,
        own: &BTreeSet<StepId>,
        mut after: BTreeSet<StepId>,
    ) -> BTreeSet<StepId> {
        let Some(spec) = self.doc.units.get(&id.name) else { return BTreeSet::new() };
        let unit = self.acting_name(&id.name);
        let part = UnitPart::of(spec, assessment);
        if self.waits_for_reload(&id.name) {
            after.extend(self.reload);
        }
        let mut steps = BTreeSet::new();
        if own.is_empty()
            && let Some(files) = &part.files
        {
            // It comes after a package that comes after the reload.
            let action = Action::Unit(unit.clone(), files.clone());
            let changes = assessment.changes(&["masked", "enabled"]);
            let step = self.push(id.clone(), action, changes, after.clone(), None, assessment.warnings.clone());
            let reload = self.push_reload(BTreeSet::from([step]));
            steps.extend([step, reload]);
            after.extend([step, reload]);
        }
        let mut add = |builder: &mut Self, op: UnitOp, fields: &[&str], after: &BTreeSet<StepId>| {
            let changes = assessment.changes(fields);
            let action = Action::Unit(unit.clone(), op);
            // What there is to say of its unit file stands with that step.
            let warnings = if own.is_empty() { assessment.warnings.clone() } else { Vec::new() };
            let step = builder.push(id.clone(), action, changes, after.clone(), None, warnings);
            steps.insert(step);
            step
        };
        let deferred = own.is_empty() && part.files.is_some();
        if part.stops && (deferred || !(part.files.is_some() && spec.masked == Some(true))) {
            add(self, UnitOp::Stop, &["active_state"], &after);
        }
        // Properties need a loaded unit: one that is not gets them right after its start.
        let loaded = self.observed.units.get(&id.name).is_some_and(|facts| !facts.property_signatures.is_empty());
        let sets = !part.properties.is_empty();
        let set_first = sets && (loaded || !part.starts);
        let set = UnitOp::SetProperties(part.properties);
        if set_first {
            after.insert(add(self, set.clone(), &["properties."], &after));
        }
        if part.starts {
            let step = add(self, UnitOp::Start, &["active_state"], &after);
            if sets && !set_first {
                add(self, set, &["properties."], &BTreeSet::from([step]));
            }
        }
        steps
    }

    fn bridge(&mut self, id: &ResourceId, assessment: &Assessment, after: &BTreeSet<StepId>) -> BTreeSet<StepId> {
        let name = &id.name;
        let Some(spec) = self.doc.bridges.get(name) else { return BTreeSet::new() };
        let foreign = foreign_ports(self.doc, name, self.observed);
        let op = match (spec.ensure, assessment.present) {
            (Ensure::Absent, _) => Some(BridgeOp::Delete),
            (Ensure::Present, false) => Some(BridgeOp::Add(Arc::new(spec.clone()))),
            (Ensure::Present, true) => assessment
                .differences
                .iter()
                .any(|difference| difference.field != "exclusive")
                .then(|| BridgeOp::Set(Arc::new(spec.clone()))),
        };
        let mut steps = BTreeSet::new();
        if let Some(op) = op {
            let mut changes = assessment.differences.clone();
            changes.retain(|difference| difference.field != "exclusive");
            let action = Action::Bridge(name.clone(), op);
            steps.insert(self.push(id.clone(), action, changes, after.clone(), None, assessment.warnings.clone()));
        }
        for port in foreign {
            let changes = vec![Difference::new("ensure", "absent", "present")];
            let action = Action::Port(port.clone(), PortOp::Delete);
            steps.insert(self.push(ResourceId::port(port), action, changes, after.clone(), None, Vec::new()));
        }
        steps
    }

    fn port(&mut self, id: &ResourceId, assessment: &Assessment, after: BTreeSet<StepId>) -> BTreeSet<StepId> {
        let name = &id.name;
        let Some(spec) = self.doc.ports.get(name) else { return BTreeSet::new() };
        let facts = self.observed.ports.get(name);
        let replaced = !assessment.changes(&["device"]).is_empty();
        let op = match (spec.ensure, facts) {
            (Ensure::Absent, _) => PortOp::Delete,
            (Ensure::Present, Some(facts)) if replaced => PortOp::Replug(Arc::new(as_it_was(name, spec, facts))),
            (Ensure::Present, None) if self.doc.bringer(name).is_some() => PortOp::Plug(Arc::new(spec.clone())),
            // The local port comes with its bridge: only what else the entry says is left to write.
            (Ensure::Present, None) if *name == spec.bridge => PortOp::Set(Arc::new(spec.clone())),
            (Ensure::Present, None) => PortOp::Add(Arc::new(spec.clone())),
            (Ensure::Present, Some(facts)) if facts.bridge != spec.bridge => PortOp::Move(Arc::new(spec.clone())),
            (Ensure::Present, Some(_)) if changes_kind(assessment) => PortOp::Recreate(Arc::new(spec.clone())),
            (Ensure::Present, Some(_)) => PortOp::Set(Arc::new(spec.clone())),
        };
        let action = Action::Port(name.clone(), op);
        let changes = assessment.differences.clone();
        BTreeSet::from([self.push(id.clone(), action, changes, after, None, assessment.warnings.clone())])
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

    /// A container that a runtime with an API has in hand.
    fn guest(&mut self, id: &ResourceId, assessment: &Assessment, mut after: BTreeSet<StepId>) -> BTreeSet<StepId> {
        let Some(spec) = self.doc.containers.get(&id.name) else { return BTreeSet::new() };
        let mut steps = BTreeSet::new();
        if let Some(template) = self.template_of(spec) {
            after.insert(template);
        }
        for (index, (action, changes)) in
            guest_actions(&id.name, spec, assessment, self.observed).into_iter().enumerate()
        {
            let warnings = if index == 0 { assessment.warnings.clone() } else { Vec::new() };
            let step = self.push(id.clone(), action, changes, after.clone(), None, warnings);
            // One hand, one thing at a time.
            after = BTreeSet::from([step]);
            steps.insert(step);
        }
        // What is left of it then stands in nobody's way.
        if self.observed.guests.get(&id.name).is_some_and(|facts| moving::waits(spec, facts)) {
            let why = (Reason::RestartNeeded, moving::WAITS.to_owned());
            self.push(id.clone(), Action::Nothing, assessment.changes(&["node"]), after, Some(why), Vec::new());
        }
        steps
    }

    /// The step that fetches what a container is made from.
    fn template_of(&self, spec: &ContainerSpec) -> Option<StepId> {
        let volume = spec.from.as_ref()?.template.as_ref()?;
        let name = volume.rsplit_once('/').map_or(volume.as_str(), |(_, name)| name);
        let fetches = |step: &&Step| matches!(&step.action, Action::Template(fetched, _) if **fetched == *name);
        self.steps.iter().find(fetches).map(|step| step.id)
    }

    /// Declared templates that their storage does not have.
    fn templates(&mut self) {
        let Hand::Proxmox { node } = &self.inventory.hand else { return };
        if !self.observed.is_connected("lxc") {
            return;
        }
        let storages = self.observed.cluster.nodes.get(node).map(|node| &node.storages);
        for (name, spec) in &self.doc.templates {
            let storage = spec.storage.as_deref().unwrap_or("local");
            let volume = format!("{storage}:vztmpl/{name}");
            let known = storages.and_then(|storages| storages.get(storage)?.as_ref());
            if known.is_some_and(|facts| facts.templates.contains(volume.as_str())) {
                continue;
            }
            let action = Action::Template(name.clone(), TemplateOp::Fetch(Arc::new(spec.clone())));
            let changes = vec![Difference::new(format!("templates.{name}"), "present", "absent")];
            self.push(Subject::Plugin("lxc"), action, changes, BTreeSet::new(), None, Vec::new());
        }
    }

    /// A unit that is a container of Proxmox VE's.
    fn guest_unit(&mut self, id: &ResourceId, assessment: &Assessment, after: BTreeSet<StepId>) -> BTreeSet<StepId> {
        let (Some(container), Some(spec)) = (self.inventory.proxmox_unit(&id.name), self.doc.units.get(&id.name))
        else {
            return BTreeSet::new();
        };
        let mut steps = BTreeSet::new();
        let mut after = after;
        let enabled = assessment.changes(&["enabled"]);
        if let Some(on) = spec.enabled.filter(|_| !enabled.is_empty()) {
            let action = Action::Container(container.clone(), ContainerOp::SetOnBoot(on));
            let step = self.push(id.clone(), action, enabled, after.clone(), None, assessment.warnings.clone());
            after = BTreeSet::from([step]);
            steps.insert(step);
        }
        let active = assessment.changes(&["active_state"]);
        if !active.is_empty() {
            let starts = spec.active_state == Some(ActiveState::Active);
            let op = if starts { ContainerOp::Start } else { ContainerOp::Stop };
            let action = Action::Container(container, op);
            steps.insert(self.push(id.clone(), action, active, after, None, Vec::new()));
        }
        steps
    }

    /// A port that Proxmox VE plugs for one of its containers.
    fn plugged_port(&mut self, id: &ResourceId, assessment: &Assessment, after: BTreeSet<StepId>) -> BTreeSet<StepId> {
        let (Some((container, index)), Some(spec)) =
            (self.inventory.proxmox_port(&id.name), self.doc.ports.get(&id.name))
        else {
            return BTreeSet::new();
        };
        let action = Action::Container(container, ContainerOp::SetPort(index, Arc::new(spec.clone())));
        let changes = assessment.differences.clone();
        BTreeSet::from([self.push(id.clone(), action, changes, after, None, assessment.warnings.clone())])
    }

    /// The step that brings a running container's port to its bridge; a declared port of that name adds its fields.
    fn container_plug(&self, id: &Name, spec: &ContainerSpec, assessment: &Assessment) -> Option<(Name, PortOp)> {
        if !assessment.changes(&["device"]).is_empty() {
            return self.container_port(id, spec).map(|(name, spec)| (name, PortOp::Replug(Arc::new(spec))));
        }
        let bridge = spec.bridge.clone()?;
        let veth = spec.veth.clone()?;
        if !assessment.differences.iter().any(|difference| difference.field == "bridge") {
            return None;
        }
        let found = container_port(id, spec, self.observed);
        let name = found.as_ref().map_or(veth, |(name, _)| name.clone());
        let declared = self.doc.ports.get(&name).filter(|port| port.ensure == Ensure::Present).cloned();
        let spec = Arc::new(PortSpec { bridge, ..declared.unwrap_or_default() });
        Some((name, if found.is_some() { PortOp::Move(spec) } else { PortOp::Plug(spec) }))
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

/// Whether a port must be made anew: its type changes, or it turns from bond to single or back.
fn changes_kind(assessment: &Assessment) -> bool {
    assessment.differences.iter().any(|difference| difference.field == "type")
}

/// What a unit's differences ask for.
struct UnitPart {
    stops: bool,
    starts: bool,
    files: Option<UnitOp>,
    properties: BTreeMap<String, serde_json::Value>,
}

impl UnitPart {
    fn of(spec: &UnitSpec, assessment: &Assessment) -> Self {
        let differs = |field: &str| assessment.differences.iter().any(|difference| difference.field == field);
        let starts = differs("active_state") && spec.active_state == Some(ActiveState::Active);
        let unmask = differs("masked") && spec.masked == Some(false);
        let mask = differs("masked") && spec.masked == Some(true);
        let enable = spec.enabled.filter(|_| differs("enabled"));
        let files = (unmask || mask || enable.is_some()).then_some(UnitOp::Files { unmask, enable, mask });
        let properties = spec
            .properties
            .iter()
            .filter(|(name, _)| differs(&format!("properties.{name}")))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Self { stops: differs("active_state") && !starts, starts, files, properties }
    }
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
