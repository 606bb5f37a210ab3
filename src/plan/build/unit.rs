//! Steps of units: on their files, with the one reload of the plan, and on what runs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assessment, Builder, Dependencies, Subject};
use crate::{
    desired::{ActiveState, UnitSpec},
    model::{Kind, Name, ResourceId},
    plan::{Action, Step, StepId, UnitOp, awaited_packages},
};

impl Builder<'_> {
    /// What must bring a unit that is not there.
    pub(super) fn bringers(&self, id: &ResourceId, assessment: &Assessment) -> BTreeSet<ResourceId> {
        awaited_packages(self.doc, id, assessment, self.observed, self.inventory)
    }

    /// A package for want of which a unit cannot come: all that may bring it are held up themselves, or are not part of
    /// this job.
    pub(super) fn held_bringer(
        &self,
        bringers: &BTreeSet<ResourceId>,
        dependencies: &Dependencies,
    ) -> Option<ResourceId> {
        let held = |package: &ResourceId| {
            let failed = self.ends.get(package).is_some_and(|ends| ends.failed.is_some());
            failed || !dependencies.contains_key(package)
        };
        bringers.first().filter(|_| bringers.iter().all(held)).cloned()
    }

    /// The steps on unit files, and the stops that must precede a mask. They come first and wait for nothing but the
    /// packages that bring the unit: the one reload of the plan waits for them, and starts that have dependencies of
    /// their own wait for the reload.
    pub(super) fn unit_files(&mut self, id: &ResourceId, assessment: &Assessment, dependencies: &Dependencies) {
        let Some(spec) = self.doc.units.get(&id.name).filter(|_| id.kind == Kind::Unit) else { return };
        if self.inventory.proxmox_unit(&id.name).is_some() {
            return;
        }
        let bringers = self.bringers(id, assessment);
        if assessment.blocked.is_some() || self.held_bringer(&bringers, dependencies).is_some() {
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
        for ends in bringers.iter().filter_map(|package| self.ends.get(package)) {
            after.extend(&ends.steps);
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

    pub(super) fn add_reload(&mut self) {
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

    pub(super) fn push_reload(&mut self, after: BTreeSet<StepId>) -> StepId {
        self.push(Subject::Plugin("systemd"), Action::ReloadSystemd, Vec::new(), after, None, Vec::new())
    }

    /// The unit's Id where the document names an alias.
    pub(super) fn acting_name(&self, name: &Name) -> Name {
        let id = self.observed.units.get(name).map(|facts| facts.id.as_str()).filter(|id| !id.is_empty());
        id.map_or_else(|| name.clone(), Name::from)
    }

    /// Packages, and what others changed in unit files, before units.
    pub(super) fn waits_for_reload(&self, unit: &Name) -> bool {
        self.needs_reload.contains(unit) || !self.packages.is_empty()
    }

    pub(super) fn unit(
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
