//! Steps of what Proxmox VE has in hand: its containers, their units and ports, and their templates.

use std::{collections::BTreeSet, sync::Arc};

use super::{Assessment, Builder, Subject};
use crate::{
    desired::{ActiveState, ContainerSpec},
    model::{Difference, Reason, ResourceId},
    plan::{Action, ContainerOp, Hand, Step, StepId, TemplateOp, guest::guest_actions, moving},
};

impl Builder<'_> {
    /// A container that a runtime with an API has in hand.
    pub(super) fn guest(
        &mut self,
        id: &ResourceId,
        assessment: &Assessment,
        mut after: BTreeSet<StepId>,
    ) -> BTreeSet<StepId> {
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
    pub(super) fn template_of(&self, spec: &ContainerSpec) -> Option<StepId> {
        let volume = spec.from.as_ref()?.template.as_ref()?;
        let name = volume.rsplit_once('/').map_or(volume.as_str(), |(_, name)| name);
        let fetches = |step: &&Step| matches!(&step.action, Action::Template(fetched, _) if **fetched == *name);
        self.steps.iter().find(fetches).map(|step| step.id)
    }

    /// Declared templates that their storage does not have.
    pub(super) fn templates(&mut self) {
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
    pub(super) fn guest_unit(
        &mut self,
        id: &ResourceId,
        assessment: &Assessment,
        after: BTreeSet<StepId>,
    ) -> BTreeSet<StepId> {
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
    pub(super) fn plugged_port(
        &mut self,
        id: &ResourceId,
        assessment: &Assessment,
        after: BTreeSet<StepId>,
    ) -> BTreeSet<StepId> {
        let (Some((container, index)), Some(spec)) =
            (self.inventory.proxmox_port(&id.name), self.doc.ports.get(&id.name))
        else {
            return BTreeSet::new();
        };
        let action = Action::Container(container, ContainerOp::SetPort(index, Arc::new(spec.clone())));
        let changes = assessment.differences.clone();
        BTreeSet::from([self.push(id.clone(), action, changes, after, None, assessment.warnings.clone())])
    }
}
